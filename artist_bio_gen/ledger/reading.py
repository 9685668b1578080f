"""A ledger read by whoever wants to look at it: from the first line on, by number, from the end.

All its segments are one ledger here. Nothing is written, no lock is taken, and a run may be at
work meanwhile. Each line is checked before it is given out; damage is a LedgerError that points
to `verify`, behind the lines before it. Flat memory, whatever the ledger's size.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from artist_bio_gen.errors import InputError, LedgerError, UsageError
from artist_bio_gen.ledger.belonging import require_files
from artist_bio_gen.ledger.line import fields, first_prev, follows, is_whole, seq_of
from artist_bio_gen.ledger.segments import LONGEST_LINE, Segment, find_id, real, segments

_BLOCK = 1024 * 1024


def open_ledger_lines(ledger: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Each line of the ledger as a mapping, in order, all segments in one. Lines are checked as
    they are read: LedgerError at the first one that is damaged or does not follow the one before.
    """
    return (fields(data) for data in lines(Path(ledger)))


def lines(ledger: Path) -> Iterator[bytes]:
    """The exact lines, without their line feeds."""
    ledger = _there(ledger)
    seq, prev = 0, first_prev(find_id(ledger) or "")
    for segment in segments(ledger):
        with _opened(segment.path) as file:
            while seq != segment.last and (data := file.readline(LONGEST_LINE)):
                digest = follows(data[:-1], prev) if data.endswith(b"\n") else None
                if digest is None or _seq(data) != seq + 1:
                    raise damage(ledger, segment.path, seq, data)
                seq, prev = seq + 1, digest
                yield data[:-1]
        if segment.last is not None and seq != segment.last:
            raise _missing(ledger, segment, seq)


def line(ledger: Path, seq: int) -> bytes:
    """Line `seq`, found without reading those before it. UsageError when the ledger does not go so
    far, LedgerError when it is not there all the same."""
    ledger = _there(ledger)
    segment = next(each for each in reversed(segments(ledger)) if each.first <= max(seq, 1))
    try:
        with _opened(segment.path) as file:
            place = _search(file, seq, os.fstat(file.fileno()).st_size)
            found = None if place is None else place[1]
    except ValueError:  # something in the file is no line: where, the way from the start tells
        found = next((data for data in lines(ledger) if seq_of(data) == seq), None)
    if found is None:
        if seq <= (last := last_seq(ledger)):
            raise _gap(ledger, segment.path, seq, seq)
        raise UsageError(f"{ledger}: has no line {seq}; its last is {last:,}")
    if not is_whole(found):
        raise damage(ledger, segment.path, seq - 1, found + b"\n")
    return found


def _search(file: BinaryIO, seq: int, end: int) -> tuple[int, bytes] | None:
    """Line `seq` and where it begins, by halving what stands before byte `end`. ValueError where
    something is found that is no line."""
    low, high = 0, end  # the line begins from low on, before high
    while high - low > _BLOCK:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline(LONGEST_LINE)
        begins = file.tell()
        if begins < high and seq_of(file.readline(LONGEST_LINE)) <= seq:
            low = begins
        else:
            high = middle + 1
    file.seek(low)
    while data := file.readline(LONGEST_LINE):
        if (number := seq_of(data)) >= seq:
            return (low, data.removesuffix(b"\n")) if number == seq else None
        low += len(data)
    return None


def last_seq(ledger: Path) -> int:
    """The number of the last line; 0 for a ledger without one. LedgerError at damage."""
    end = Tail(ledger, 1)
    if end.damage is not None:
        raise end.damage
    return end.seq


class Tail:
    """The end of a ledger: its last `lines`, and with `more` what comes after them. `torn`: behind
    them stands the beginning of a line, which a run may be writing just now, or a crash has left.

    Read from the end: what stands further up is not looked at. Where damage is met all the same,
    it is `damage`, and `lines` are the last ones before the first damage."""

    def __init__(self, ledger: Path, count: int) -> None:
        self.ledger = _there(ledger)
        self._at = _Place(self.ledger, 0, 0, first_prev(find_id(self.ledger) or ""))
        self.torn = False
        self.damage: LedgerError | None = None
        try:
            found = self._read_last(max(count, 1))
        except LedgerError as exc:
            self.damage = exc
            found = self._read_from_start(max(count, 1))
        self.lines = found[-count:] if count else []

    @property
    def path(self) -> Path:
        """The file in which the last line stands, whose number is `seq`."""
        return self._at.path

    @property
    def seq(self) -> int:
        return self._at.seq

    def more(self) -> Iterator[bytes]:
        """The lines that have come since, and no beginning of one."""
        if self.damage is not None:
            raise self.damage
        files = segments(self.ledger)
        paths = [segment.path for segment in files]
        if self._at.path not in paths:
            raise LedgerError(f"{self._at.path}: is gone; see {_verify(self.ledger)}")
        for segment in files[paths.index(self._at.path) :]:
            if segment.path != self._at.path:
                self._at = _Place(segment.path, 0, self._at.seq, self._at.hash)
            yield from self._go_on(segment)

    def _go_on(self, segment: Segment) -> Iterator[bytes]:
        with _opened(segment.path) as file:
            if os.fstat(file.fileno()).st_size < self._at.offset:
                raise LedgerError(f"{segment.path}: has become shorter; see {_verify(self.ledger)}")
            file.seek(self._at.offset)
            while (data := file.readline(LONGEST_LINE)).endswith(b"\n"):
                number = _seq(data)
                offset = self._at.offset + len(data)
                if segment.last is not None and number is not None and number > segment.last:
                    return  # it was given up after a failed fsync, and stands in the next file
                if number is not None and number <= self._at.seq and is_whole(data[:-1]):
                    self._at = _Place(segment.path, offset, self._at.seq, self._at.hash)
                    continue  # told already, when it stood in the file before
                digest = follows(data[:-1], self._at.hash)
                if digest is None or number != self._at.seq + 1:
                    raise damage(self.ledger, segment.path, self._at.seq, data)
                self._at = _Place(segment.path, offset, number, digest)
                yield data[:-1]

    def _read_last(self, count: int) -> list[bytes]:
        found: deque[bytes] = deque()
        for segment in reversed(segments(self.ledger)):
            with _opened(segment.path) as file:
                backwards = _backwards(self.ledger, segment.path, file)
                tail = next(backwards)
                at = end = file.seek(0, os.SEEK_END) - len(tail)
                if segment.last is None:
                    self.torn = bool(tail)
                reached = segment.last is None
                for data in backwards:
                    at -= len(data) + 1
                    reached = reached or (is_whole(data) and _seq(data) == segment.last)
                    if not reached:
                        continue  # given up after a failed fsync
                    if not is_whole(data):
                        raise damage(self.ledger, segment.path, (_seq(data) or 1) - 1, data + b"\n")
                    if not found:
                        behind = at + len(data) + 1
                        self._at = _Place(segment.path, behind, seq_of(data), _hash(data))
                    found.appendleft(data)
                    if len(found) == count:
                        break
                if segment.last is None and found:
                    self._require_place(file, found[0], at, end)
            if len(found) == count:
                break
        self._follow(found)
        return list(found)

    def _require_place(self, file: BinaryIO, data: bytes, at: int, end: int) -> None:
        """Lines that stand once more behind damage are whole and follow one another: whoever looks
        for the first of them finds it further up."""
        try:
            place = _search(file, seq_of(data), end)
        except ValueError:
            place = None
        if place is None or place[0] != at:
            raise damage(self.ledger, self._at.path, seq_of(data), data + b"\n")

    def _read_from_start(self, count: int) -> list[bytes]:
        found: deque[bytes] = deque(maxlen=count)
        try:
            found.extend(lines(self.ledger))
        except LedgerError as exc:
            self.damage = exc
        return list(found)

    def _follow(self, found: deque[bytes]) -> None:
        for before, after in pairwise(found):
            if follows(after, _hash(before)) is None or seq_of(after) != seq_of(before) + 1:
                raise damage(self.ledger, self._at.path, seq_of(before), after + b"\n")


@dataclass(frozen=True, slots=True)
class _Place:
    """Behind line `seq`, whose hash is `hash`, in a file of the ledger."""

    path: Path
    offset: int
    seq: int
    hash: str


def _backwards(ledger: Path, path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The lines from the end on, without line feeds; first what stands behind the last of these,
    which is nothing in a sound file."""
    at = file.seek(0, os.SEEK_END)
    parts: list[bytes] = []  # of the line whose beginning is not read yet, the last first
    size = 0
    while at > 0:
        length = min(_BLOCK, at)
        at -= length
        file.seek(at)
        first, *others = file.read(length).split(b"\n")
        for other in reversed(others):
            yield other + b"".join(reversed(parts))
            parts, size = [], 0
        parts.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            raise LedgerError(f"{path}: holds what is no line; see {_verify(ledger)}")
    yield b"".join(reversed(parts))


def damage(ledger: Path, path: Path, seq: int, data: bytes) -> LedgerError:
    """What is wrong with `data`, which stands behind line `seq`."""
    if not data.endswith(b"\n"):
        return torn(ledger, path, seq)
    if is_whole(data[:-1]):
        number = _seq(data)
        if number is not None and number > seq + 1:
            return _gap(ledger, path, seq + 1, number - 1)
        what = f"line {number} does not follow line {seq} (chain_break)"
    else:
        what = f"line {seq + 1} is damaged (damaged_line)"
    return LedgerError(f"{path}: {what}; nothing behind it is shown. See {_verify(ledger)}")


def _gap(ledger: Path, path: Path, first: int, last: int) -> LedgerError:
    which = f"line {first} is" if first == last else f"lines {first} to {last} are"
    return LedgerError(f"{path}: {which} not there (missing_line). See {_verify(ledger)}")


def torn(ledger: Path, path: Path, seq: int) -> LedgerError:
    return LedgerError(
        f"{path}: ends in a torn line behind line {seq} (torn_tail): a run is writing it just now,"
        f" or a crash has left it and the next start takes it away. See {_verify(ledger)}"
    )


def _missing(ledger: Path, segment: Segment, seq: int) -> LedgerError:
    return LedgerError(
        f"{segment.path}: ends with line {seq}, while the next file begins with line"
        f" {(segment.last or 0) + 1} (missing_line). See {_verify(ledger)}"
    )


def _verify(ledger: Path) -> str:
    return f"artist-bio-gen verify {ledger}"


def _there(ledger: Path) -> Path:
    ledger = real(ledger)
    require_files(ledger)
    if not ledger.is_file():
        raise UsageError(f"{ledger}: there is no ledger")
    try:
        known = find_id(ledger) is not None
    except OSError as exc:
        raise InputError(f"{ledger}: cannot be read: {exc.strerror}") from exc
    if not known and ledger.stat().st_size:
        raise LedgerError(
            f"{ledger}: its first line is damaged or is no ledger's line, and no head lies beside"
            f" it. A file of the earlier format is taken over by: artist-bio-gen adopt {ledger}"
        )
    return ledger


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb", buffering=_BLOCK) as file:
            yield file
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from exc


def _seq(data: bytes) -> int | None:
    try:
        return seq_of(data)
    except ValueError:
        return None


def _hash(data: bytes) -> str:
    return data[-66:-2].decode()
