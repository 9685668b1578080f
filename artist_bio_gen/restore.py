"""The database's rows from a ledger that verifies: commit rows, head, runs and bios, without a
call to the model. What stands in the database already and is right is left alone, so it may be
killed at any point, and the next restore goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from artist_bio_gen.database.mending import Bio, Commit, MendingStore, NoTables, RowState
from artist_bio_gen.database.store import CommitRow
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.differences import Difference, Found, Kind
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import fields, follows
from artist_bio_gen.resume import (
    commit_row,
    each_artist_once,
    in_chunks,
    put_back_lines,
    require_common_line,
)
from artist_bio_gen.values import Head, path_text

EXAMPLES = 5
"""Differences of each kind that are told one by one."""

_COMMIT_DETAILS: Mapping[Commit, tuple[Kind, str]] = {
    "missing": ("missing_row", "has no commit row"),
    "differs": ("text_differs", "is not what its commit row holds"),
}
_BIO_DETAILS: Mapping[Bio, tuple[Kind, str]] = {
    "no_row": ("missing_row", "the artist has no row in the table"),
    "empty": ("text_differs", "the artist's row holds no bio"),
    "older": ("text_differs", "the artist's row holds an older bio of this ledger"),
    "differs": ("text_differs", "the artist's row holds another text"),
}


@dataclass(frozen=True, slots=True)
class Restored:
    """What the database lacked of the ledger's `head.seq` lines. `commits` and `bios` count the
    lines by what the database had of them, `runs` those it did not know; `counts` and `examples`
    tell the same in the words of `verify`. Texts in the table that are others than the ledger's
    are `left`, or `replaced`. `applied`: it was done, and is not only what would be."""

    ledger: Path
    head: Head
    database_head: int | None
    commits: Mapping[Commit, int]
    bios: Mapping[Bio, int]
    runs: int
    left: int
    replaced: int
    counts: Mapping[Kind, int]
    examples: tuple[Difference, ...]
    applied: bool

    @property
    def differs(self) -> bool:
        """The database is not what the ledger says (before, if it was `applied`)."""
        return bool(self.counts) or self.database_head != self.head.seq

    @property
    def all_well(self) -> bool:
        """Nothing is left to be done."""
        return not self.left and (self.applied or not self.differs)


def restore(
    ledger: Ledger,
    store: MendingStore | NoTables,
    *,
    apply: bool,
    replace: bool = False,
) -> Restored:
    """Looks what the database lacks and, with `apply`, puts it there, under the ledger's lock.
    `replace`: texts in the table that are not the ledger's give way, and are kept. LedgerError
    when the ledger does not verify, or does not belong to this database: nothing is changed then.
    """
    with ledger.locked():
        head = _verified(ledger)
        there = store.head(ledger.id)
        astray = _rows_to_put_aside(ledger, store, head, there)
        look = _Look(ledger, store)
        look.tell_astray(astray, head)
        now = there or Head(ledger.id, 0, ledger.first_prev)
        writable = store if apply and isinstance(store, MendingStore) else None
        if writable is not None:
            if astray:
                writable.put_aside_beyond(ledger.id, head.seq)
            writable.create_head(now, path_text(ledger.path.resolve()))
        for states, rows in _with_states(ledger, store):
            unknown = look.tell(states, rows)
            if writable is not None:
                writable.make_known(ledger.id, unknown)
                now = _put(ledger, writable, states, rows, now)
        texts = look.bios["differs"]
        if writable is not None:
            texts = _settle_texts(ledger, writable, now, replace=replace)
            ledger.save_head()
        return Restored(
            ledger.path,
            head,
            None if there is None else there.seq,
            look.commits,
            look.bios,
            look.unknown_runs,
            texts if not replace else 0,
            texts if replace else 0,
            look.found.counts(),
            look.found.examples(),
            writable is not None,
        )


def _verified(ledger: Ledger) -> Head:
    scan = ledger.scan()
    if scan.damage is not None:
        raise LedgerError(
            f"{scan.file}: does not verify behind line {scan.head.seq} (byte {scan.size}). Nothing"
            f" was changed; mend it first: artist-bio-gen repair {ledger.path}"
        )
    return scan.head


def _rows_to_put_aside(
    ledger: Ledger, store: MendingStore | NoTables, head: Head, there: Head | None
) -> int:
    """How many commit rows stand behind the ledger's end and belong to no line. LedgerError when
    ledger and database do not belong together, or the ledger is the one that lacks lines."""
    if isinstance(store, NoTables):
        return 0
    beyond = store.rows_beyond(ledger.id, head.seq)
    goes_on = beyond and any(
        number == head.seq + 1 and follows(data, head.hash) == digest
        for number, digest, data in store.lines_between(ledger.id, head.seq, head.seq + 1)
    )
    if goes_on or (there is not None and there.seq > head.seq):
        raise LedgerError(
            f"{ledger.path}: ends with line {head.seq}, and the database goes on behind it. Nothing"
            " was changed; bring the ledger up to it first: artist-bio-gen repair"
            f" {ledger.path}"
        )
    if there is not None:
        require_common_line(ledger, store, head, there)
    return beyond


_Chunk = tuple[list[RowState], list[CommitRow]]


def _with_states(ledger: Ledger, store: MendingStore | NoTables) -> Iterator[_Chunk]:
    for chunk in in_chunks(ledger.lines()):
        rows = [commit_row(data) for data in chunk]
        yield store.states(ledger.id, rows), rows


def _put(
    ledger: Ledger,
    store: MendingStore,
    states: Sequence[RowState],
    rows: Sequence[CommitRow],
    there: Head,
) -> Head:
    """Puts right what the database has up to its head, and commits what lies behind it; returns
    the new head."""
    wrong = [
        row
        for state, row in zip(states, rows, strict=True)
        if row.seq <= there.seq and _can_be_put_right(state)
    ]
    for group in each_artist_once(wrong):
        store.put_right(group, there)
    beyond = [row for row in rows if row.seq > there.seq]
    return put_back_lines(ledger, store, beyond, there) if beyond else there


def _can_be_put_right(state: RowState) -> bool:
    return state.commit != "same" or state.bio in ("no_row", "empty", "older")


def _settle_texts(ledger: Ledger, store: MendingStore, head: Head, *, replace: bool) -> int:
    """Now that each commit row is there, each artist's newest line is known: counts the texts that
    are not the ledger's, and replaces them. Proves on the way that the rest was done."""
    found = 0
    for states, rows in _with_states(ledger, store):
        others = []
        for state, row in zip(states, rows, strict=True):
            if _can_be_put_right(state):
                raise LedgerError(
                    f"{ledger.path}: line {row.seq} was put into the database and is not there as"
                    " it should be; does something else write to it, or a trigger?"
                )
            if state.bio == "differs":
                others.append(row)
        found += len(others)
        for group in each_artist_once(others) if replace else ():
            store.put_right(group, head, replace=True)
    return found


class _Look:
    """What the database had, counted."""

    def __init__(self, ledger: Ledger, store: MendingStore | NoTables) -> None:
        self.commits: Counter[Commit] = Counter()
        self.bios: Counter[Bio] = Counter()
        self.found = Found(EXAMPLES)
        self._ledger = ledger
        self._store = store
        self._runs: set[str] = set()  # those that were asked for

    @property
    def unknown_runs(self) -> int:
        return self.found.counts().get("unknown_run", 0)

    def tell(self, states: Sequence[RowState], rows: Sequence[CommitRow]) -> dict[str, str]:
        """Counts a chunk. Returns the runs that the database does not know, each with the moment
        of its first line."""
        for state, row in zip(states, rows, strict=True):
            # An artist's newer line may stand further on and not be in the database yet; each has
            # one first line, so that one stands for the missing row.
            bio: Bio = "newer" if state.bio == "no_row" and row.generation > 1 else state.bio
            self.commits[state.commit] += 1
            self.bios[bio] += 1
            self._difference(_COMMIT_DETAILS.get(state.commit), row)
            self._difference(_BIO_DETAILS.get(bio), row)
        return self._runs_of(rows)

    def tell_astray(self, rows: int, head: Head) -> None:
        """Commit rows behind the ledger's end."""
        if rows:
            detail = f"{rows:,} commit rows behind line {head.seq} follow no line of the ledger"
            self.found.add(Difference("text_differs", head.seq + 1, None, None, None, detail, rows))

    def _runs_of(self, rows: Sequence[CommitRow]) -> dict[str, str]:
        firsts: dict[str, CommitRow] = {}
        for row in rows:
            if row.run not in self._runs:
                self._runs.add(row.run)
                firsts[row.run] = row
        unknown = self._store.unknown_runs(list(firsts)) if firsts else []
        for run in unknown:
            self._difference(("unknown_run", f"its run {run} is not known"), firsts[run])
        return {run: str(fields(firsts[run].line.encode())["committed_at"]) for run in unknown}

    def _difference(self, what: tuple[Kind, str] | None, row: CommitRow) -> None:
        if what is None:
            return
        kind, detail = what
        told = f"line {row.seq}: {detail}"
        self.found.add(Difference(kind, row.seq, None, None, row.artist_id, told))
