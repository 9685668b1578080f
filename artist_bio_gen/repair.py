"""A damaged ledger made whole: from its own lines where they verify, else from the commit rows.

Never in place: each damaged file is written anew beside the old one, which is kept as
`out.jsonl.quarantine.<time>.0`, and is then put in its stead by one rename. A kill at any point
leaves each file as it was or mended, and the next repair goes on from there.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import orjson

from artist_bio_gen.database.begun import known_of
from artist_bio_gen.database.mending import MendingStore
from artist_bio_gen.errors import LedgerError, LedgerFileError, UsageError
from artist_bio_gen.ledger.belonging import require_files
from artist_bio_gen.ledger.differences import Difference, Found, Kind
from artist_bio_gen.ledger.files import REAL, FileCalls, write_file
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import first_prev
from artist_bio_gen.ledger.mending import (
    Begin,
    Lost,
    Mending,
    Superseded,
    Taken,
    id_of_lines,
    layout,
)
from artist_bio_gen.ledger.rewriting import remove_leftovers, rewrite
from artist_bio_gen.ledger.segments import Segment, beside, find_id, noted_seq
from artist_bio_gen.ledger.sharing import Sidecar
from artist_bio_gen.values import Head, path_text

EXAMPLES = 5
"""Differences of each kind that are told one by one."""


@dataclass(frozen=True, slots=True)
class FileRepair:
    """What becomes of a file: `own` lines of it stay, `brought` come from the database. `kept` is
    the file's old content, None where the file was not there, or nothing was changed yet."""

    path: Path
    own: int
    brought: int
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What is wrong with a ledger's files, and what mends them. `head` is the ledger's last line
    as it will be; `files` are those that are written anew; `lost` the numbers that neither side
    has. `refused` tells why nothing may be changed; `database_differs`, that the database is not
    what the mended ledger says, on which `notes` say more. `applied`: it was done."""

    ledger: Path
    head: Head
    counts: Mapping[Kind, int]
    examples: tuple[Difference, ...]
    files: tuple[FileRepair, ...]
    lost: tuple[Lost, ...] = ()
    refused: str | None = None
    database_differs: bool = False
    notes: tuple[str, ...] = ()
    applied: bool = False

    @property
    def all_well(self) -> bool:
        """Nothing is left to be done, in the files or in the database."""
        files_are_whole = self.refused is None and (self.applied or not self.files)
        return files_are_whole and not self.database_differs


def repair(
    path: Path,
    store: MendingStore,
    *,
    ledger_id: str | None = None,
    apply: bool,
    files: FileCalls = REAL,
    clock: Callable[[], float] = time.time,
) -> Repair:
    """Looks what is wrong and, with `apply`, mends it, under the ledger's lock. `ledger_id` is
    needed only where neither a line nor the head tells it. What must not be changed is told by
    `Repair.refused`; LedgerError where it is not even known which ledger this is."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")
    require_files(path)
    with Sidecar(beside(path, "lock"), lambda: False).held():
        known = _known_id(path, ledger_id, store)
        segments = layout(path, known)
        with _held(segments, files):
            if apply:
                remove_leftovers(path, segments, files)
            found = _Look(path, known, segments, store).repair()
            if not apply or found.refused is not None:
                return found
            return _carry_out(found, segments, store, files, clock)


def _known_id(path: Path, given: str | None, store: MendingStore) -> str:
    given = None if given is None else _as_id(given)
    of_lines = id_of_lines(path)
    if of_lines is not None and given not in (None, of_lines):
        raise UsageError(
            f"{path}: holds lines of the ledger {of_lines}, not of {given}; leave --ledger-id out,"
            " or give the right file"
        )
    known = of_lines or given or find_id(path)
    if known is not None and (given is None or of_lines or store.head(known) is not None):
        return known
    begun = store.ledgers_at(path_text(path.resolve()))
    if known is not None:
        raise LedgerError(
            f"--ledger-id {known}: the database does not know a ledger of this id"
            + (f". {known_of(begun)}" if begun else "; is --database-url right?")
        )
    what = "is gone" if not path.exists() else "holds no whole line of a ledger"
    raise LedgerError(
        f"{path}: {what}, and {beside(path, 'head').name} does not tell the ledger's id; give it"
        " with --ledger-id" + (f". {known_of(begun)}" if begun else "; it stands in each line")
    )


def _as_id(given: str) -> str:
    try:
        return str(uuid.UUID(given.strip()))
    except ValueError as exc:
        raise UsageError(
            f"--ledger-id {given}: is no ledger's id, as 0b5e1c1e-0000-4000-8000-000000000000"
        ) from exc


@contextmanager
def _held(segments: list[Segment], files: FileCalls) -> Iterator[None]:
    """Also the lock of each file itself, for a writer whose sidecar was deleted."""
    with ExitStack() as stack:
        for segment in segments:
            try:
                fd = files.open(str(segment.path), os.O_RDONLY | os.O_CLOEXEC, 0)
                stack.callback(os.close, fd)
                files.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except BlockingIOError as exc:
                raise LedgerError(
                    f"{segment.path}: another process is writing to it; stop it first"
                ) from exc
            except OSError as exc:
                raise LedgerFileError(f"{segment.path}: cannot be opened: {exc.strerror}") from exc
        yield


# ---- what is wrong, and what would be done ---------------------------------------------------


@dataclass(slots=True)
class _Tally:
    segment: Segment
    own: int = 0
    brought: int = 0
    differences: int = 0

    @property
    def is_damaged(self) -> bool:
        return bool(self.brought or self.differences) or not self.segment.path.exists()


@dataclass(slots=True)
class _Look:
    """One way through files and commit rows."""

    path: Path
    ledger_id: str
    segments: list[Segment]
    store: MendingStore
    found: Found = field(default_factory=lambda: Found(EXAMPLES))
    tallies: list[_Tally] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hash_at_head: str | None = None
    """The hash of the line that is the database's head."""

    def repair(self) -> Repair:
        there = self.store.head(self.ledger_id)
        empty = Head(self.ledger_id, 0, first_prev(self.ledger_id))
        head, highest = self._go_through(there or empty)
        self._note_lost(head, there or empty, highest)
        refused = self._refusal(there)
        differs = refused is None and self._note_database(head, there, empty)
        damaged = [each for each in self.tallies if each.is_damaged]
        return Repair(
            self.path,
            head,
            self.found.counts(),
            self.found.examples(),
            tuple(FileRepair(each.segment.path, each.own, each.brought) for each in damaged),
            tuple(self.lost),
            refused,
            database_differs=differs,
            notes=tuple(self.notes),
        )

    def _go_through(self, there: Head) -> tuple[Head, int]:
        rows = partial(self.store.lines_between, self.ledger_id)
        way = Mending(self.segments, self.ledger_id, rows)
        for step in way.steps():
            match step:
                case Begin(segment):
                    self.tallies.append(_Tally(segment))
                case Taken(seq, digest, _, brought):
                    if brought:
                        self.tallies[-1].brought += 1
                    else:
                        self.tallies[-1].own += 1
                    if seq == there.seq:
                        self.hash_at_head = digest
                case Difference():
                    self.tallies[-1].differences += 1
                    self.found.add(step)
                case Lost():
                    self.lost.append(step)
                case Superseded():
                    pass
        return Head(self.ledger_id, way.seq, way.hash), way.highest

    def _note_lost(self, head: Head, there: Head, highest: int) -> None:
        """Each of these tells of lines beyond those that either side has."""
        noted = noted_seq(self.path) if _head_is_of(self.path, self.ledger_id) else 0
        for seq, what in (
            (there.seq, "the database's head"),
            (noted, f"{self.path.name}.head"),
            (highest, "a line in the file that follows none"),
        ):
            if seq > head.seq:
                self.lost.append(Lost(head.seq + 1, seq))
                detail = f"{what} tells of line {seq}, and the last one there is {head.seq}"
                self.found.add(Difference("head_ahead", seq, None, None, None, detail))

    def _refusal(self, there: Head | None) -> str | None:
        if self.lost:
            first, last = self.lost[0].first, max(each.last for each in self.lost)
            which = f"line {first}" if first == last else f"lines of {first} to {last}"
            return (
                f"{self.path}: neither the files nor the database have {which}, and a chain with a"
                " hole cannot be mended. Nothing was changed: put back a copy of the ledger or of"
                " the database that has them; or begin a new ledger with another --output (bios in"
                " the database are not bought again)"
            )
        if there is not None and there.seq and self.hash_at_head != there.hash:
            detail = f"line {there.seq} is not the one the database has"
            self.found.add(Difference("wrong_database", there.seq, None, None, None, detail))
            return (
                f"{self.path}: {detail}: ledger and database have parted (a copy of one of them was"
                " written to?). Nothing was changed: bring back the file or the database that"
                " belongs to the other"
            )
        return None

    def _note_database(self, head: Head, there: Head | None, empty: Head) -> bool:
        """Where the database is the side that lacks something; True if it does."""
        way_out = f"artist-bio-gen restore {self.path} puts them right"
        if "torn_tail" in self.found.counts() and not self.tallies[-1].brought:
            self.notes.append(
                f"the bytes behind line {head.seq:,} are no line, and the database has none that"
                " belongs there: if it is an older copy, bring back the newest one first"
            )
        if there is None:
            if not head.seq:
                return False
            detail = f"does not know this ledger ({self.ledger_id}); is --database-url right?"
            self.found.add(Difference("wrong_database", None, None, None, None, detail))
            self.notes.append(
                f"the database {detail} If it was made anew, artist-bio-gen restore {self.path}"
                " puts the ledger's bios into it"
            )
            return True
        faulty, first = self.store.faulty_rows(empty)
        if faulty:
            self.notes.append(
                f"the database is damaged: {faulty:,} of its commit rows are missing or do not"
                f" follow, the first is {first:,}; {way_out}"
            )
        if there.seq < head.seq:
            self.notes.append(
                f"the database goes no further than line {there.seq:,} of {head.seq:,}; {way_out}"
            )
        return bool(faulty) or there.seq < head.seq


def _head_is_of(path: Path, ledger_id: str) -> bool:
    try:
        return bool(orjson.loads(beside(path, "head").read_bytes())["ledger"] == ledger_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


# ---- doing it --------------------------------------------------------------------------------


def _carry_out(
    found: Repair,
    segments: list[Segment],
    store: MendingStore,
    files: FileCalls,
    clock: Callable[[], float],
) -> Repair:
    path, ledger_id = found.ledger, found.head.ledger
    if not _head_is_of(path, ledger_id):
        # Whoever finds the file finds its id as well, also while it has no line.
        content = {"ledger": ledger_id, "seq": 0, "hash": first_prev(ledger_id), "size": 0}
        write_file(files, beside(path, "head"), orjson.dumps(content) + b"\n")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
    changed = [each.path for each in found.files]
    way = Mending(segments, ledger_id, partial(store.lines_between, ledger_id))
    kept = rewrite(path, changed, way, found.head, stamp=stamp, files=files)
    with Ledger.open(path, files=files) as ledger:
        scan = ledger.scan()
        if scan.damage is not None or scan.head != found.head:
            raise LedgerError(
                f"{path}: still not whole behind line {scan.head.seq}; was it written to meanwhile?"
                " Repair it again"
            )
        ledger.save_head()
    return replace(
        found,
        files=tuple(replace(each, kept=kept[each.path]) for each in found.files),
        applied=True,
    )
