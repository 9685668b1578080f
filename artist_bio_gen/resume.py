"""What is done, and what was begun: ledger, journal and database brought to one state.

`reconcile` makes ledger and database equal, in both directions; `take_over` makes final what dead
runs had in their journals. All of it in flat memory, whatever the ledger's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from artist_bio_gen.database.begun import known_of, way_back
from artist_bio_gen.database.session import RowsRefusedError
from artist_bio_gen.database.store import BioStore, CommitRow, Known
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Intent, Orphan, Reply, orphans
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, Line, draft, fields, follows
from artist_bio_gen.ledger.segments import beside, find_id, noted_seq
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Done, Failed, Head, Rejected, path_text

CHUNK = 500
"""Lines and entries moved at a time."""

_T = TypeVar("_T")


# ---- ledger and database --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What `reconcile` found and did. `quarantine` is the file that holds a torn tail,
    `appended` the lines brought into the file, `put_back` those brought into the database;
    `begun` is the new file, after an fsync of the one before had failed. `noted`: the lines were
    not read again, as nobody had touched the files since they were checked."""

    lines: int
    quarantine: str | None = None
    appended: int = 0
    put_back: int = 0
    begun: str | None = None
    noted: bool = False

    def report(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        if self.lines and self.noted:
            yield (
                f"ledger: nothing was written to it since it was checked up to line {self.lines:,}"
                " (--check whole reads it again)"
            )
        elif self.lines:
            yield f"ledger: checked up to line {self.lines:,}, each follows the one before"
        if self.quarantine:
            yield f"ledger: its torn tail was put aside in {self.quarantine}"
        if self.begun:
            yield f"ledger: gone on with in {self.begun}, since an fsync of the file before failed"
        if self.appended:
            yield f"ledger: {self.appended:,} lines appended that only the database had"
        if self.put_back:
            yield f"database: {self.put_back:,} bios put back that only the ledger had"


def reconcile(
    ledger: Ledger, store: BioStore, *, put_back_all: bool = False, trust_note: bool = False
) -> Reconciled:
    """Checks every line (with `trust_note` unless these were checked before, and nobody has
    touched the files since) and makes file and database equal. Under the ledger's lock.

    The file is cut to its last line that verifies, and lines that only the database has are
    appended byte for byte; lines that only the file has (the database lost commits, or is an
    older copy) are put back into the database. `put_back_all` allows that for a database that
    does not know this ledger at all. A crash in the middle leaves a state from which the next
    call goes on. LedgerError when neither side follows from the other: nothing is changed then.
    """
    seen = ledger.head.seq  # of a process that is at work; 0 at a start
    scan = ledger.scan(trust_note=trust_note)
    path = ledger.path
    if scan.damage == "damaged":
        raise LedgerError(
            f"{scan.file}: damaged behind line {scan.head.seq} (byte {scan.size}), with whole lines"
            " after it; this is not what a crash leaves. Nothing was changed:"
            f" artist-bio-gen repair {path} rebuilds it from the database, or put back a copy of"
            " the file that verifies"
        )
    known = store.head(ledger.id)
    if known is None and scan.head.seq > 0 and not put_back_all:
        raise LedgerError(
            f"{path}: holds {scan.head.seq} lines, but the database does not know this ledger"
            f" ({ledger.id}); is --database-url right? If the database was made anew, --restore"
            " puts the ledger's bios back into it"
        )
    there = known or _empty_head(ledger)
    if there.seq <= scan.head.seq and scan.damage is not None:
        # Each line is in the database before a byte of it is in the file.
        raise LedgerError(
            f"{path}: ends in a torn line behind line {scan.head.seq}, and the database, at line"
            f" {there.seq}, cannot confirm that nothing is lost by cutting it; is it an older"
            f" copy? Bring back the newest database, or, if what stands behind byte {scan.size} is"
            " worth nothing, cut it off by hand; artist-bio-gen verify shows both sides"
        )
    # Before anything is changed, and before a wrong database is told of this ledger.
    reached = max(scan.head.seq, there.seq)
    if (noted := max(noted_seq(path), seen)) > reached:
        raise LedgerError(
            f"{path}: its head tells of {noted} lines, but file and database go no further than"
            f" line {reached}: both are older copies, or this is another database. Bring back the"
            f" newest of them; or, if these lines are to be given up, remove {path.name}.head"
        )
    require_common_line(ledger, store, scan.head, there)
    if known is None:
        store.create_head(there, path_text(path.resolve()))
    quarantine = None
    if scan.unsynced:
        ledger.renew()
    elif scan.size < scan.file_size:
        quarantine = str(ledger.cut())
    appended = _append_missing(ledger, store) if there.seq > scan.head.seq else 0
    put_back = _put_back(ledger, store, there) if there.seq < scan.head.seq else 0
    ledger.save_head()
    begun = str(ledger.file) if scan.unsynced and ledger.file != scan.file else None
    noted = scan.noted and not appended
    return Reconciled(ledger.head.seq, quarantine, appended, put_back, begun, noted)


def _empty_head(ledger: Ledger) -> Head:
    return Head(ledger.id, 0, ledger.first_prev)


def require_common_line(ledger: Ledger, store: BioStore, here: Head, there: Head) -> None:
    """The shorter side must end with a line that the longer one has at the same place, or it is a
    LedgerError. `here` is the file's head, `there` the database's."""
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


def require_id(path: Path, store: BioStore, *, way_out: str = "") -> None:
    """LedgerError when nothing in or beside the ledger's file tells which ledger it is, and the
    database knows of one with lines that was begun at this path."""
    if path.exists() and (not path.is_file() or path.stat().st_size):
        return  # opening it tells what is wrong
    if find_id(path) is not None or not (begun := store.ledgers_at(path_text(path.resolve()))):
        return
    what = "is empty" if path.exists() else "is gone"
    raise LedgerError(
        f"{path}: {what}, and {beside(path, 'head').name} does not tell which ledger it was."
        f" {known_of(begun)}; bring it back: {way_back(path, begun)}{way_out}"
    )


def require_commit_rows(ledger: Ledger, store: BioStore) -> None:
    """An artist whose commit row is gone would look as if nothing had been bought. LedgerError
    when there are fewer than lines. At a start, under the ledger's lock, after `reconcile`."""
    rows = store.count_lines(ledger.id, ledger.head.seq)
    if rows != ledger.head.seq:
        raise LedgerError(
            f"{ledger.path}: has {ledger.head.seq:,} lines, but the database {rows:,} commit rows"
            f" of them; rows were deleted. artist-bio-gen verify {ledger.path} names them,"
            " artist-bio-gen restore puts them back"
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
        store.make_known(ledger.id, _first_moments(chunk))
        there = put_back_lines(ledger, store, [commit_row(data) for data in chunk], there)
        put_back += len(chunk)
    return put_back


def _first_moments(lines: Iterable[bytes]) -> dict[str, str]:
    """Runs of these lines, each with the moment of its first one here."""
    moments: dict[str, str] = {}
    for data in lines:
        line = fields(data)
        moments.setdefault(line["run"], line["committed_at"])
    return moments


def put_back_lines(ledger: Ledger, store: BioStore, rows: Sequence[CommitRow], there: Head) -> Head:
    """Commits lines that stand in the file and not in the database, whose head is `there`, and
    returns its new head. Under the ledger's lock."""
    for group in each_artist_once(rows):
        try:
            store.commit(group, old=there)
        except RowsRefusedError as exc:
            raise LedgerError(
                f"{ledger.path}: lines {group[0].seq} to {group[-1].seq} cannot be put back"
                f" into the database: {exc}"
            ) from exc
        there = Head(ledger.id, group[-1].seq, group[-1].hash)
    return there


def commit_row(data: bytes) -> CommitRow:
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


def each_artist_once(rows: Sequence[CommitRow]) -> Iterator[list[CommitRow]]:
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
            elif isinstance(entry, Failed) and (there.generation or 0) >= entry.artist.generation:
                continue  # another run has written the bio since
            elif orphan.run not in (there.run, there.failed_run):
                yield entry


def _artist_id(entry: Reply | Failed | Intent) -> str:
    return entry.artist_id if isinstance(entry, Intent) else entry.artist.id


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What the journals of dead runs held: replies committed, failures noted, and calls that
    have no reply there, which may have been paid for and are made again. `damaged` entries could
    not be read; the files that hold them were put aside as `kept`."""

    committed: int = 0
    failed: int = 0
    in_flight: int = 0
    damaged: int = 0
    kept: tuple[str, ...] = ()

    def report(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        if self.committed:
            yield f"journal: {self.committed:,} replies committed that had been paid for"
        if self.failed:
            yield f"journal: {self.failed:,} failures noted that an earlier run had met"
        if self.in_flight:
            yield f"journal: {self.in_flight:,} calls of an earlier run are without a reply"
        if self.damaged:
            yield (
                f"journal: {self.damaged:,} entries were damaged, as no crash leaves them; replies"
                f" among them are bought again. What is left of them: {', '.join(self.kept)}"
            )


def take_over(
    ledger: Ledger,
    store: BioStore,
    commit: Callable[[Sequence[Draft | Failed], str], Sequence[Done | Failed | Rejected]],
    telemetry: Telemetry,
    *,
    files: FileCalls = REAL,
) -> TakenOver:
    """Makes final what dead runs had paid for, names the calls without a reply, and removes
    their journals; damaged ones are put aside. Under the ledger's lock, from reconciling on: of
    two processes that start after a crash, one must not buy what the other is just taking over.

    `commit` takes a group and the run to which it belongs: a failure of an earlier run must not
    look like one of this run, which may try again. A crash on the way leaves the journals; what
    was committed by then is found in the database."""
    outcomes: Counter[type] = Counter()
    damaged = 0
    kept: list[str] = []
    for orphan in orphans(ledger.path, files=files):
        for chunk in in_chunks(recovered(orphan, ledger.id, partial(store.known, ledger.id))):
            bought = [entry for entry in chunk if not isinstance(entry, Intent)]
            outcomes.update(map(type, commit(bought, orphan.run)))
            for intent in chunk:
                if isinstance(intent, Intent):
                    outcomes[Intent] += 1
                    telemetry.emit("in_flight", run=orphan.run, **asdict(intent))
        damaged += sum(orphan.damaged.values())
        kept += map(str, orphan.remove())
    return TakenOver(outcomes[Done], outcomes[Failed], outcomes[Intent], damaged, tuple(kept))


def in_chunks(items: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
