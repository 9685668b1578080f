"""What is wrong with a ledger's files: every line, the chain over all segments, repeated keys,
and whether a head that is kept elsewhere is reached. Reads only, and changes nothing.

A run may be at work meanwhile: what it is just writing is looked at again once it is written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.ledger.belonging import require_files
from artist_bio_gen.ledger.chain import Chain
from artist_bio_gen.ledger.differences import KINDS, Difference, Found, Kind
from artist_bio_gen.ledger.layout import lay_out, noted_head
from artist_bio_gen.ledger.line import first_prev
from artist_bio_gen.ledger.quiet import quiet
from artist_bio_gen.ledger.ranges import RANGE_BYTES, File, read
from artist_bio_gen.ledger.repeats import Repeats
from artist_bio_gen.ledger.scan import Batch, Part, Stretch, occurrences, scan
from artist_bio_gen.ledger.segments import beside, real

__all__ = ["KINDS", "Check", "Difference", "Kind", "Lines", "Report", "RunSeen", "check"]

EXAMPLES = 10
_REPEATS_TOLD = 100_000  # keys; each is held in memory while its lines are looked for
_ANCHOR = re.compile(r"(?:([0-9]{1,18}):)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class RunSeen:
    """Where a run's first line stands, and how many it has."""

    seq: int
    file: Path
    offset: int
    lines: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `lines` are whole lines, `last_seq` and `last_hash` those of the
    highest of them (0, and None while nobody knows the ledger's id). `counts` are the lines
    concerned, by kind; `examples` the first differences of each kind. `notes` are sentences
    about what is no difference."""

    ledger: Path
    id: str | None
    files: tuple[Path, ...]
    lines: int
    bytes: int
    last_seq: int
    last_hash: str | None
    counts: Mapping[Kind, int]
    examples: tuple[Difference, ...]
    runs: Mapping[str, RunSeen] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.counts


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines for a comparison with the database, in the order of their numbers. `late` ones were
    added since the check began."""

    file: Path
    batches: list[Batch]
    late: bool


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A line that has to be there: the head as `what` tells of it. Without `seq` any line.
    `other` is the kind of difference when that line is another one."""

    what: str
    seq: int | None
    hash: str
    other: Kind = "chain_break"


def check(
    ledger: Path,
    *,
    processes: int = 1,
    expect: str | None = None,
    examples: int | None = EXAMPLES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Checks the files of the ledger whose first one is `ledger`. `expect` is a head that is kept
    elsewhere, `SEQ:HASH` or `HASH`: that line has to be there. At most `examples` differences of
    each kind are kept, None: all of them. `progress` is called with bytes done and bytes in all.

    UsageError when there is no ledger or `expect` is no head, InputError when it cannot be read.
    With several `processes`, the program that calls must be one that can be imported again.
    """
    with Check(
        ledger, processes=processes, expect=expect, examples=examples, progress=progress
    ) as checking:
        for _ in checking.lines():
            pass
        return checking.report()


class Check:
    """A check under way: `lines` (all the files as they are at the start), `read_on` (what was
    added since), `report`. Whoever compares with a database adds its own to `found` and `notes`.
    `judged` turns false when a run was at work and the end could not be looked at in peace."""

    def __init__(
        self,
        ledger: Path,
        *,
        processes: int = 1,
        expect: str | None = None,
        examples: int | None = EXAMPLES,
        with_batches: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
        range_bytes: int = RANGE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.ledger = real(ledger)
        self.found = Found(examples)
        self.runs: dict[str, RunSeen] = {}
        self.notes: list[str] = []
        self._processes = processes
        self._with_batches = with_batches
        self._progress = progress
        self._range_bytes = range_bytes
        self._clock = clock
        self._sleep = sleep
        if not self.ledger.parent.is_dir():
            raise UsageError(f"{ledger}: there is no ledger")
        require_files(self.ledger)
        # First the heads, then the files: these only grow.
        noted = [*_noted(self.ledger)]
        self._anchors = [*_expected(expect), *noted]
        self._met: set[tuple[str, int]] = set()
        with _readable(self.ledger):
            self.id, self._files = lay_out(self.ledger)
            if not (noted or len(self._files) > 1 or self.ledger.exists()):
                raise UsageError(f"{ledger}: there is no ledger")
            if not _tells_head(self.ledger):
                self.notes.append(
                    f"{self.ledger.name}.head cannot be read, and so tells of no line"
                )
        self._first_prev = None if self.id is None else first_prev(self.id)
        self._chain = Chain(self.id, self._first_prev, self.found)
        self._repeats = Repeats()
        self.judged = True
        self._lines = 0
        self._resume_at = 0  # behind the newest file's last whole line
        self._ends: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._repeats.close()

    @property
    def seq(self) -> int:
        """The highest line so far."""
        return self._chain.seq

    @property
    def end(self) -> tuple[Path, int]:
        """The newest file, and how far it was read."""
        newest = self._files[-1].path
        return newest, self._ends.get(newest, 0)

    @property
    def is_empty(self) -> bool:
        return all(file.size == 0 for file in self._files)

    def require(self, what: str, seq: int, digest: str) -> None:
        """The head that the database has, as of a moment after this check was made."""
        self._anchors.append(_Anchor(what, seq, digest, other="wrong_database"))

    def lines(self) -> Iterator[Lines]:
        """Reads the files. Gives the lines if these are to be compared."""
        total = sum(file.size for file in self._files)
        done = 0
        reading = self._files[0]
        with _readable(self.ledger):
            for file, part in read(
                self._files,
                processes=self._processes,
                wanted=self._wanted(),
                with_batches=self._with_batches,
                range_bytes=self._range_bytes,
            ):
                if file is not reading:
                    self._chain.end_file()
                    done += reading.size
                    reading = file
                yield from self._take(file, part)
                self._progress(done + part.end, total)
                if part.ended and part.end < file.size:
                    self.notes.append(
                        f"{file.path.name}: {file.size - part.end:,} bytes behind line {file.last}"
                        " are superseded by the next file, and no part of the ledger"
                    )
        newest = self._files[-1]
        if self._chain.rubble is not None and self._chain.rubble[0] == newest.path:
            yield from self.read_on()  # perhaps a run was just writing it
        else:
            self._chain.end_file()

    def read_on(self) -> Iterator[Lines]:
        """What was added to the newest file since it was read, from its last whole line on.

        A run holds the ledger from its commit to the end of its write: while nobody holds it, what
        stands at the end is what stays. First as much as there is without that."""
        with _readable(self.ledger):
            yield from self._grown()
            with quiet(
                self.ledger, self._files[-1].path, self._clock, self._sleep
            ) as nobody_writes:
                files = [file.path for file in lay_out(self.ledger)[1]]
                judged = nobody_writes and files == [file.path for file in self._files]
                grown = [*self._grown()] if judged else []
        yield from grown
        if not judged:
            self._chain.rubble = None
            self.judged = False
            self.notes.append(
                f"a run is at work on it; what stands behind line {self.seq:,} was not judged"
            )

    def report(self) -> Report:
        """What came of it. Nothing can be read after it."""
        self._chain.end_file()
        self._chain.close()
        for anchor in self._anchors:
            self._look_for(anchor)
        with _readable(self.ledger):
            self._tell_repeated_keys()
        return Report(
            self.ledger,
            self.id,
            tuple(file.path for file in self._files),
            self._lines,
            sum(self._ends.values()),
            self._chain.seq,
            self._chain.hash,
            self.found.counts(),
            self.found.examples(),
            self.runs,
            tuple(self.notes),
        )

    def _grown(self) -> Iterator[Lines]:
        file = self._files[-1]
        size = file.path.stat().st_size if file.path.exists() else 0
        self._chain.rubble = None
        part = scan(
            file.path,
            self._resume_at,
            size,
            last=None,
            wanted=self._wanted(),
            with_batches=self._with_batches,
        )
        yield from self._take(file, part, late=True)

    def _wanted(self) -> frozenset[str]:
        return frozenset(anchor.hash for anchor in self._anchors)

    def _take(self, file: File, part: Part, *, late: bool = False) -> Iterator[Lines]:
        self._lines += part.lines
        self._ends[file.path] = part.end
        self._repeats.add(part.keys)
        self._met.update(part.anchors)
        for run, (count, seq, offset) in part.runs.items():
            seen = self.runs.get(run) or RunSeen(seq, file.path, offset, 0)
            self.runs[run] = replace(seen, lines=seen.lines + count)
        for piece in part.pieces:
            if not isinstance(piece, Stretch):
                self._chain.add_rubble(file.path, piece)
                continue
            known = self._chain.add(file.path, piece)
            if file is self._files[-1]:
                self._resume_at = piece.end
            if self._with_batches and known is not None:
                first = piece.begins.seq + known
                batches = [
                    batch.between(first, batch.last)
                    for batch in piece.batches
                    if batch.last >= first
                ]
                yield Lines(file.path, batches, late)

    def _look_for(self, anchor: _Anchor) -> None:
        seqs = [seq for digest, seq in self._met if digest == anchor.hash]
        if anchor.hash == self._first_prev:
            seqs.append(0)  # the head of a ledger without a line
        if anchor.seq in seqs or (anchor.seq is None and seqs):
            return
        if anchor.seq is not None and anchor.seq <= self.seq:
            what = f"line {anchor.seq} is not the one that {anchor.what} tells of"
            self.found.add(Difference(anchor.other, anchor.seq, None, None, None, what))
            return
        if not self.judged and anchor.other == "wrong_database":
            return
        what = f"the ledger ends with line {self.seq}, {anchor.what} tells of " + (
            f"line {anchor.seq}" if anchor.seq else f"one with the hash {anchor.hash}"
        )
        self.found.add(Difference("head_ahead", anchor.seq, *self.end, None, what))

    def _tell_repeated_keys(self) -> None:
        candidates = self._repeats.candidates(_REPEATS_TOLD)
        if not candidates:
            return
        firsts: dict[tuple[str, int], int] = {}
        for file in self._files:
            end = self._ends.get(file.path, 0)
            for (artist, generation), seq, offset in occurrences(file.path, end, candidates):
                first = firsts.setdefault((artist, generation), seq)
                if first != seq:  # the same line once more is told by its number
                    what = f"bio {generation} of this artist stands in line {first} as well"
                    self.found.add(
                        Difference("repeated_line", seq, file.path, offset, artist, what)
                    )
        if len(candidates) == _REPEATS_TOLD:
            self.notes.append(
                f"more than {_REPEATS_TOLD:,} bios stand in it twice; only so many were told"
            )


def _expected(expect: str | None) -> Iterator[_Anchor]:
    if expect is None:
        return
    if (found := _ANCHOR.fullmatch(expect)) is None:
        raise UsageError(
            f"--expect-head {expect}: give the head as a run prints it at its end, NUMBER:HASH, or"
            " the hash alone (64 digits and letters a to f)"
        )
    yield _Anchor("the expected head", int(found[1]) if found[1] else None, found[2])


def _noted(ledger: Path) -> Iterator[_Anchor]:
    head = noted_head(ledger)
    seq, digest = head.get("seq"), head.get("hash")
    if isinstance(seq, int) and isinstance(digest, str) and seq > 0:
        yield _Anchor(beside(ledger, "head").name, seq, digest)


def _tells_head(ledger: Path) -> bool:
    """False when something stands in its place that does not tell a line's number."""
    return type(noted_head(ledger).get("seq")) is int or not beside(ledger, "head").exists()


@contextmanager
def _readable(ledger: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InputError(
            f"{exc.filename or ledger}: the ledger cannot be read: {exc.strerror}"
        ) from exc
