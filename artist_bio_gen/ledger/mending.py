"""What a damaged ledger should be: its own lines where they verify, and where they do not, lines
brought from elsewhere, each of which has to follow the one before.

Reads only. `Mending.steps` goes through the files once, in flat memory; who plans counts the
steps, who writes writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import orjson

from artist_bio_gen.errors import LedgerError, LedgerFileError
from artist_bio_gen.ledger.differences import Difference, Kind
from artist_bio_gen.ledger.line import first_prev, follows, is_whole, seq_of
from artist_bio_gen.ledger.segments import LONGEST_LINE, Segment, segment_path

_BLOCK = 1024 * 1024

Rows: TypeAlias = Callable[[int, int | None], Iterator[tuple[int, str, bytes]]]
"""(number, hash, exact line) of the lines that are kept elsewhere, above the first number and up
to the second (None: to the end), in order. They are believed only where they follow."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The steps that come now belong to this file."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Taken:
    """A line of the ledger as it should be, without line feed; `brought` from elsewhere."""

    seq: int
    hash: str
    data: bytes
    brought: bool


@dataclass(frozen=True, slots=True)
class Superseded:
    """From this byte on, the file holds what the next one has: no part of the ledger."""

    offset: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Lines that neither side has."""

    first: int
    last: int


Step: TypeAlias = Begin | Taken | Superseded | Lost | Difference


# ---- which files, and whose ------------------------------------------------------------------


def id_of_lines(path: Path) -> str | None:
    """The ledger's id from the first whole line of a file; None without one."""
    owners = (owner for _, data in _pieces(path) if (owner := _owner(data)) is not None)
    return next(owners, None)


def layout(ledger: Path, ledger_id: str) -> list[Segment]:
    """The files of the ledger and where each begins, also where first lines are damaged or files
    are gone. A file of such a name with no whole line of this ledger is none of its files."""
    begins: dict[int, int] = {}
    for number, path in _numbered(ledger).items():
        if (first := _begins(path, ledger_id)) is not None:
            begins[number] = first
    files = [segment_path(ledger, number) for number in range(max(begins, default=0) + 1)]
    firsts = [1] * len(files)
    # A file that is gone gets the one line before the next one's; those before it stand in the
    # file before it, or come there.
    for number in range(len(files) - 1, 0, -1):
        firsts[number] = begins[number] if number in begins else firsts[number + 1] - 1
    for number in range(1, len(files)):
        if firsts[number] < max(1, firsts[number - 1]):
            raise LedgerError(
                f"{files[number]}: begins with line {firsts[number]}, while the file before it"
                f" begins with line {firsts[number - 1]}; one of them belongs elsewhere. Move it"
                " away, or put back the files as they were"
            )
    lasts = [*(first - 1 for first in firsts[1:]), None]
    return [Segment(*each) for each in zip(files, firsts, lasts, strict=True)]


def _numbered(ledger: Path) -> dict[int, Path]:
    pattern = re.compile(
        rf"{re.escape(ledger.stem)}\.(\d{{4,}}){re.escape(ledger.suffix)}", re.ASCII
    )
    found = {
        int(match[1]): path
        for path in ledger.parent.iterdir()
        if (match := pattern.fullmatch(path.name)) and int(match[1]) > 0
    }
    return dict(sorted(found.items()))


def _begins(path: Path, ledger_id: str) -> int | None:
    """The number of the file's first line. Where that one is damaged, reckoned back from the
    first that is whole."""
    for before, (_, data) in enumerate(_pieces(path)):
        if _owner(data) == ledger_id:
            return max(1, seq_of(data) - before)
    return None


def _pieces(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes up to and with the line feed) of a file, which need not be there."""
    try:
        with path.open("rb", buffering=_BLOCK) as file:
            file.seek(offset)
            while data := file.readline(LONGEST_LINE):
                yield offset, data
                offset += len(data)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise LedgerFileError(f"{path}: cannot be read: {exc.strerror}") from exc


def _owner(data: bytes) -> str | None:
    """The id of the ledger whose line this is; None unless it is whole."""
    if not data.endswith(b"\n") or not is_whole(data[:-1]):
        return None
    try:
        return str(orjson.loads(data)["ledger"]) if _number(data) is not None else None
    except (ValueError, KeyError, TypeError):
        return None


def _number(data: bytes) -> int | None:
    """None for what has a right hash and is no line all the same: somebody made it."""
    try:
        return seq_of(data)
    except ValueError:
        return None


# ---- the way through -------------------------------------------------------------------------


class Mending:
    """One way through the files. `seq` and `hash` are the last line's so far; `highest` is the
    highest number that any whole line of the ledger bears."""

    def __init__(self, files: Sequence[Segment], ledger_id: str, rows: Rows) -> None:
        self.seq = 0
        self.hash = first_prev(ledger_id)
        self.highest = 0
        self._files = files
        self._id = ledger_id
        self._rows = rows
        self._broken = 0  # lines since the last one taken that do not follow
        self._found_at = (0, 0)  # file and byte behind the line that was last found ahead

    def steps(self) -> Iterator[Step]:
        for index, segment in enumerate(self._files):
            yield Begin(segment)
            yield from self._file(index, segment)

    def _file(self, index: int, segment: Segment) -> Iterator[Step]:
        path, last = segment.path, segment.last
        bad: list[int] = []  # offset, bytes and number of the pieces before that are no lines
        for offset, data in _pieces(path):
            if self.seq == last:
                yield Superseded(offset)
                return
            digest = follows(data[:-1], self.hash) if data.endswith(b"\n") else None
            if digest is not None and _number(data) == self.seq + 1:
                if bad:
                    yield self._damaged(path, bad)
                    bad = []
                yield self._take(data[:-1], digest)
                continue
            owner = _owner(data)
            if owner is None:
                bad = [bad[0], bad[1] + len(data), bad[2] + 1] if bad else [offset, len(data), 1]
                continue
            number = seq_of(data)
            if owner != self._id:
                what = f"is a line of another ledger, {owner}"
                yield _difference("chain_break", self.seq + 1, path, offset, what)
                continue
            if last is not None and number > last:
                yield from self._end(index, segment, bad)
                yield Superseded(offset)
                return
            self.highest = max(self.highest, number)
            if number <= self.seq:
                what = f"line {number} stands here once more"
                yield _difference("repeated_line", number, path, offset, what)
                continue
            if number > self.seq + 1:
                yield from self._gap(index, offset, path, bad, number - 1)
                bad = []
            elif bad:
                yield self._damaged(path, bad)
                bad = []
            if (digest := follows(data[:-1], self.hash)) is None:
                what = f"line {number} does not follow line {number - 1}"
                self._broken += 1
                yield _difference("chain_break", number, path, offset, what)
            else:
                yield self._take(data[:-1], digest)
        yield from self._end(index, segment, bad)

    def _end(self, index: int, segment: Segment, bad: list[int]) -> Iterator[Step]:
        path, last = segment.path, segment.last
        if last is not None:
            if self.seq < last:
                yield from self._gap(index, _size(path), path, bad, last)
            return
        if bad:
            what = f"{bad[1]:,} bytes that are no whole line stand at the end"
            yield Difference("torn_tail", self.seq + 1, path, bad[0], None, what)
        first = self.seq + 1
        yield from self._bring(None)
        if self.seq >= first:
            yield _missing(path, first, self.seq - first + 1)

    def _gap(
        self, index: int, offset: int, path: Path, bad: list[int], last: int
    ) -> Iterator[Step]:
        """From the line reached to line `last`, which the file lacks at this place."""
        first = self.seq + 1
        if bad:
            yield self._damaged(path, bad)
        # A line that is damaged or does not follow is told as such, and its number is not missing.
        if (missing := last - self.seq - (bad[2] if bad else 0) - self._broken) > 0:
            yield _missing(path, first, missing)
        while self.seq < last:
            yield from self._bring(last)
            if self.seq == last:
                break
            if (found := self._ahead(index, offset)) is None:
                yield Lost(self.seq + 1, last)
                self._leap(index, offset, last)
                break
            yield found

    def _leap(self, index: int, offset: int, last: int) -> None:
        """Goes on behind a hole, so that what else is wrong is told as well."""
        self.seq = last
        for number in range(index, len(self._files)):
            for _, data in _pieces(self._files[number].path, offset if number == index else 0):
                if _owner(data) == self._id and seq_of(data) == last + 1:
                    self.hash = str(orjson.loads(data)["prev"])
                    return

    def _bring(self, last: int | None) -> Iterator[Taken]:
        """Lines from elsewhere, as far as they follow."""
        for number, digest, data in self._rows(self.seq, last):
            if number != self.seq + 1 or follows(data, self.hash) != digest:
                return
            if _number(data) != number:
                return
            yield self._take(data, digest, brought=True)

    def _ahead(self, index: int, offset: int) -> Taken | None:
        """The next line, if it stands further on, out of its place. Looks on from the last one
        that was found so, since lines are moved in blocks; then from the place reached."""
        for start in dict.fromkeys((max(self._found_at, (index, offset)), (index, offset))):
            for number in range(start[0], len(self._files)):
                begin = start[1] if number == start[0] else 0
                for at, data in _pieces(self._files[number].path, begin):
                    if _names_before(data, self.hash) and _owner(data) == self._id:
                        digest = follows(data[:-1], self.hash)
                        if digest is not None and _number(data) == self.seq + 1:
                            self._found_at = (number, at + len(data))
                            return self._take(data[:-1], digest)
        return None

    def _take(self, data: bytes, digest: str, *, brought: bool = False) -> Taken:
        self.seq += 1
        self.hash = digest
        self._broken = 0
        self.highest = max(self.highest, self.seq)
        return Taken(self.seq, digest, data, brought)

    def _damaged(self, path: Path, bad: list[int]) -> Difference:
        offset, size, count = bad
        what = f"{size:,} bytes are damaged or no line"
        return Difference("damaged_line", self.seq + 1, path, offset, None, what, count)


def _difference(kind: Kind, seq: int, path: Path, offset: int, what: str) -> Difference:
    return Difference(kind, seq, path, offset, None, what)


def _missing(path: Path, first: int, count: int) -> Difference:
    last = first + count - 1
    what = f"line {first} is not there" if count == 1 else f"lines {first} to {last} are not there"
    return Difference("missing_line", first, path, None, None, what, count)


def _names_before(data: bytes, prev: str) -> bool:
    """Quicker than a hash: does it say that it stands behind `prev`?"""
    return prev.encode() in data[-200:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
