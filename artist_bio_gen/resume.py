"""What is done, and what was begun: ledger, journal and database brought to one state.

`reconcile` makes ledger and database equal, in both directions; `recovered` gives back what dead
runs had in their journals; `pending` drops the artists for whom nothing is left to do. All of it
in flat memory, whatever the ledger's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal, TypeVar

from artist_bio_gen.database.store import BioStore, CommitRow, Known, RowsRefusedError
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Intent, Orphan, Reply, orphans
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, Line, draft, fields, follows
from artist_bio_gen.ledger.segments import noted_seq
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import NO_ROW, Artist, Done, Failed, Head, Rejected, Skipped, path_text

STDIN = "-"
"""The input that need not be the same a second time."""

CHUNK = 500
"""Artists looked up, and lines moved, at a time."""

_T = TypeVar("_T")


# ---- ledger and database --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What `reconcile` found and did. `quarantine` is the file that holds a torn tail,
    `appended` the lines brought into the file, `put_back` those brought into the database;
    `begun` is the new file, after an fsync of the one before had failed."""

    lines: int
    quarantine: str | None = None
    appended: int = 0
    put_back: int = 0
    begun: str | None = None

    def report(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        if self.lines:
            yield f"ledger: checked up to line {self.lines:,}, each follows the one before"
        if self.quarantine:
            yield f"ledger: its torn tail was put aside in {self.quarantine}"
        if self.begun:
            yield f"ledger: gone on with in {self.begun}, since an fsync of the file before failed"
        if self.appended:
            yield f"ledger: {self.appended:,} lines appended that only the database had"
        if self.put_back:
            yield f"database: {self.put_back:,} bios put back that only the ledger had"


def reconcile(ledger: Ledger, store: BioStore, *, put_back_all: bool = False) -> Reconciled:
    """Checks every line and makes file and database equal. Under the ledger's lock.

    The file is cut to its last line that verifies, and lines that only the database has are
    appended byte for byte; lines that only the file has (the database lost commits, or is an
    older copy) are put back into the database. `put_back_all` allows that for a database that
    does not know this ledger at all. A crash in the middle leaves a state from which the next
    call goes on. LedgerError when neither side follows from the other: nothing is changed then.
    """
    scan = ledger.scan()
    path = ledger.path
    if scan.damage == "damaged":
        raise LedgerError(
            f"{scan.file}: damaged behind line {scan.head.seq} (byte {scan.size}), with whole lines"
            " after it; this is not what a crash leaves. Nothing was changed:"
            f" artist-bio-gen repair {path} rebuilds it from the database, or put back a copy of"
            " the file that verifies"
        )
    there = store.head(ledger.id)
    if there is None:
        if scan.head.seq > 0 and not put_back_all:
            raise LedgerError(
                f"{path}: holds {scan.head.seq} lines, but the database does not know this ledger"
                f" ({ledger.id}); is --database-url right? If the database was made anew, --restore"
                " puts the ledger's bios back into it"
            )
        there = _empty_head(ledger)
        store.create_head(there, path_text(path.resolve()))
    if there.seq <= scan.head.seq and scan.damage is not None:
        # Each line is in the database before a byte of it is in the file.
        raise LedgerError(
            f"{path}: ends in a torn line behind line {scan.head.seq}, and the database, at line"
            f" {there.seq}, cannot confirm that nothing is lost by cutting it; is it an older"
            f" copy? Bring back the newest database, or, if what stands behind byte {scan.size} is"
            " worth nothing, cut it off by hand"
        )
    _require_common_line(ledger, store, scan.head, there)
    quarantine = None
    if scan.unsynced:
        ledger.renew()
    elif scan.size < scan.file_size:
        quarantine = str(ledger.cut())
    appended = _append_missing(ledger, store) if there.seq > scan.head.seq else 0
    put_back = _put_back(ledger, store, there) if there.seq < scan.head.seq else 0
    if (noted := noted_seq(path)) > ledger.head.seq:
        raise LedgerError(
            f"{path}: its head tells of {noted} lines, but file and database go no further than"
            f" line {ledger.head.seq}: both are older copies, or this is another database. Bring"
            f" back the newest of them; or, if these lines are to be given up, remove"
            f" {path.name}.head"
        )
    ledger.save_head()
    begun = str(ledger.file) if scan.unsynced and ledger.file != scan.file else None
    return Reconciled(ledger.head.seq, quarantine, appended, put_back, begun)


def _empty_head(ledger: Ledger) -> Head:
    return Head(ledger.id, 0, ledger.first_prev)


def _require_common_line(ledger: Ledger, store: BioStore, here: Head, there: Head) -> None:
    """The shorter side must end with a line that the longer one has at the same place."""
    if here.seq <= there.seq:
        known = there.hash if here.seq == there.seq else store.line_hash(ledger.id, here.seq)
        same = here.seq == 0 or known == here.hash
    else:
        same = there.seq == 0 or ledger.line_hash(there.seq) == there.hash
    if not same:
        raise LedgerError(
            f"{ledger.path}: line {min(here.seq, there.seq)} is not the one the database has:"
            " ledger and database have parted (a copy of one of them was written to?). Nothing"
            " was changed; bring back the file or the database that belongs to the other"
        )
    if here.seq < there.seq and store.line_hash(ledger.id, there.seq) != there.hash:
        raise LedgerError(
            f"{ledger.path}: the database's head is line {there.seq}, but its commit rows do not"
            " go up to it; rows are missing or were changed. Nothing was changed here; bring back"
            " a whole copy of the database"
        )


def _append_missing(ledger: Ledger, store: BioStore) -> int:
    appended = 0
    prev = ledger.head.hash
    for chunk in in_chunks(store.lines_after(ledger.id, ledger.head.seq)):
        lines = []
        for seq, digest, data in chunk:
            if follows(data, prev) != digest:
                raise LedgerError(
                    f"{ledger.path}: the database's commit row {seq} does not follow line"
                    f" {seq - 1}; it was changed or one is missing. Nothing more was appended"
                )
            lines.append(Line(seq, digest, data))
            prev = digest
        ledger.append(lines)
        appended += len(lines)
    return appended


def _put_back(ledger: Ledger, store: BioStore, there: Head) -> int:
    put_back = 0
    for chunk in in_chunks(ledger.lines(after=there.seq)):
        rows = [_commit_row(data) for data in chunk]
        for group in _without_repeats(rows):
            try:
                store.commit(group, old=there)
            except RowsRefusedError as exc:
                raise LedgerError(
                    f"{ledger.path}: lines {group[0].seq} to {group[-1].seq} cannot be put back"
                    f" into the database: {exc}"
                ) from exc
            there = Head(ledger.id, group[-1].seq, group[-1].hash)
        put_back += len(rows)
    return put_back


def _commit_row(data: bytes) -> CommitRow:
    line = fields(data)
    return CommitRow(
        seq=line["seq"],
        hash=line["hash"],
        line=data.decode(),
        run=line["run"],
        artist_id=line["artist_id"],
        artist_name=line["artist_name"],
        bio=line["response_text"],
        generation=line["generation"],
        input_sha256=line["input_sha256"],
        prompt_sha256=line["prompt_sha256"],
    )


def _without_repeats(rows: Sequence[CommitRow]) -> Iterator[list[CommitRow]]:
    """Groups in which each artist stands once: an artist's later bio must come later."""
    group: list[CommitRow] = []
    seen: set[str] = set()
    for row in rows:
        if row.artist_id in seen:
            yield group
            group, seen = [], set()
        group.append(row)
        seen.add(row.artist_id)
    if group:
        yield group


# ---- journals of dead runs -------------------------------------------------------------------


def recovered(
    orphan: Orphan, ledger_id: str, known: Callable[[Sequence[str]], Mapping[str, Known]]
) -> Iterator[Draft | Failed | Intent]:
    """What a dead run had paid for and not made final, then the calls that were in flight when it
    died. `known` asks the database what it knows of artists."""
    for chunk in in_chunks(orphan.entries()):
        now = known([_artist_id(entry) for entry in chunk])
        for entry in chunk:
            there = now[_artist_id(entry)]
            if isinstance(entry, Reply):
                if (there.generation or 0) < entry.artist.generation:
                    yield draft(entry.artist, entry.bio, ledger=ledger_id, run=entry.run)
            elif orphan.run not in (there.run, there.failed_run):
                yield entry


def _artist_id(entry: Reply | Failed | Intent) -> str:
    return entry.artist_id if isinstance(entry, Intent) else entry.artist.id


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What the journals of dead runs held: replies committed, failures noted, and calls that
    were in flight, which may have been paid for and are made again."""

    committed: int = 0
    failed: int = 0
    in_flight: int = 0

    def report(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        if self.committed:
            yield f"journal: {self.committed:,} replies committed that had been paid for"
        if self.failed:
            yield f"journal: {self.failed:,} failures noted that an earlier run had met"
        if self.in_flight:
            yield f"journal: {self.in_flight:,} calls were in flight when an earlier run died"


def take_over(
    ledger: Ledger,
    store: BioStore,
    commit: Callable[[Sequence[Draft | Failed], str], Sequence[Done | Failed | Rejected]],
    telemetry: Telemetry,
    *,
    files: FileCalls = REAL,
) -> TakenOver:
    """Makes final what dead runs had paid for, names the calls that were in flight, and removes
    their journals. Under the ledger's lock, from reconciling on: of two processes that start after
    a crash, one must not buy what the other is just taking over.

    `commit` takes a group and the run to which it belongs: a failure of an earlier run must not
    look like one of this run, which may try again. A crash on the way leaves the journals; what
    was committed by then is found in the database."""
    outcomes: Counter[type] = Counter()
    for orphan in orphans(ledger.path, files=files):
        for chunk in in_chunks(recovered(orphan, ledger.id, partial(store.known, ledger.id))):
            bought = [entry for entry in chunk if not isinstance(entry, Intent)]
            outcomes.update(map(type, commit(bought, orphan.run)))
            for intent in chunk:
                if isinstance(intent, Intent):
                    outcomes[Intent] += 1
                    telemetry.emit("in_flight", run=orphan.run, **asdict(intent))
        orphan.remove()
    return TakenOver(outcomes[Done], outcomes[Failed], outcomes[Intent])


# ---- what is left to do ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """When an artist counts as done. `anew_after`: bios of this ledger up to this number, and
    all of other ledgers, are to be written anew; None outside of a run with --again."""

    run: str
    prompt_sha256: str
    on_missing: Literal["insert", "skip", "fail"] = "insert"
    keep_existing: bool = False
    retry_failed: bool = False
    anew_after: int | None = None


def writing_anew(
    store: BioStore, ledger: Ledger, source: str, *, again: bool, say: Callable[[str], None]
) -> int | None:
    """Up to which line bios are to be written anew; None when none are. An interrupted --again
    is gone on with, by whoever resumes with the same input, so that nobody is written anew
    twice."""
    begun = store.writing_anew(ledger.id)
    if begun is not None and begun[1] == source and (again or source != STDIN):
        say(f"going on with an unfinished --again over {source}")
        return begun[0]
    if again:
        if begun is not None:
            say(f"an unfinished --again over {begun[1]} is given up for this one")
        store.set_writing_anew(ledger.id, ledger.head.seq, source)
        return ledger.head.seq
    if begun is not None:
        say(f"an unfinished --again over {begun[1]} is left as it is; resume it with that input")
    return None


def pending(
    rows: Iterable[Artist | Rejected],
    known: Callable[[Sequence[str]], Mapping[str, Known]],
    rules: Rules,
    *,
    table: str,
    under_way: set[str],
) -> Iterator[Artist | Failed | Rejected | Skipped]:
    """The artists that are left to do, with the number of the bio to be written; the others as
    what became of them. Looks up a chunk at a time.

    An id is in `under_way` from here until it is settled, and settled means that the database
    knows it: so a repeated id is found either there or by the look-up, which is made after.
    """
    for chunk in in_chunks(rows):
        repeated = set()
        for row in chunk:
            if isinstance(row, Artist):
                if row.id in under_way:
                    repeated.add(id(row))
                else:
                    under_way.add(row.id)
        now = known([row.id for row in chunk if isinstance(row, Artist)])
        for row in chunk:
            if not isinstance(row, Artist):
                yield row
            elif id(row) in repeated:
                yield Skipped(row, "repeated")
            else:
                outcome = _decide(row, now[row.id], rules, table)
                if isinstance(outcome, Skipped):
                    under_way.discard(row.id)
                yield outcome


def _decide(artist: Artist, there: Known, rules: Rules, table: str) -> Artist | Failed | Skipped:
    if rules.run in (there.run, there.failed_run):
        return Skipped(artist, "repeated")
    anew = rules.anew_after is not None
    if there.generation is not None and not (anew and _at_most(there.seq, rules.anew_after)):
        return Skipped(
            artist,
            "done",
            changed_input=there.input_sha256 != artist.input_sha256,
            changed_prompt=there.prompt_sha256 != rules.prompt_sha256,
        )
    if there.elsewhere and not anew:
        return Skipped(artist, "elsewhere")
    if there.has_bio and rules.keep_existing:
        return Skipped(artist, "has_bio")
    counts = there.failed_run is not None and not (anew and there.failed_before_again)
    if counts and not there.failed_transient and not rules.retry_failed:
        return Skipped(artist, "failed")
    if not there.has_row and rules.on_missing == "skip":
        return Skipped(artist, "no_row")
    if not there.has_row and rules.on_missing == "fail":
        reason = f"table {table} has no row with this id; --on-missing insert makes one"
        return Failed(artist, NO_ROW, reason, attempts=0, transient=True)
    if there.generation is None:
        return artist
    return replace(artist, generation=there.generation + 1)


def _at_most(seq: int | None, limit: int | None) -> bool:
    return seq is not None and limit is not None and seq <= limit


def in_chunks(items: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
