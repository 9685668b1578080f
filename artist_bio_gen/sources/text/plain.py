"""Texts of whole lines in which nothing needs care: their rows, split at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, repeat
from typing import TypeAlias

from artist_bio_gen.sources.text.lines import LINE_ENDS, split
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import BadRow

QUOTE = '"'

Cells: TypeAlias = tuple[int, int | None, tuple[str, ...] | BadRow]
"""A row as it is read: the line and the byte on which it begins (None where that cannot be told),
and its cells."""


@dataclass(frozen=True, slots=True)
class Split:
    """The first `count` lines of a text: those on which rows begin, counted from 0, and the rows'
    cells. `rest` are the other lines, of which none is looked at."""

    count: int
    begins: Sequence[int]
    values: Sequence[tuple[str, ...]]
    rest: Sequence[str] = ()


@dataclass(slots=True)
class PlainRows:
    """Sound rows of a text that begins on line `line`, at byte `offset`; `taken` of them are given
    already."""

    text: str
    line: int
    offset: int | None
    lines: Sequence[int]
    values: Sequence[tuple[str, ...]]
    taken: int = 0

    def __len__(self) -> int:
        """Those that are left."""
        return len(self.values) - self.taken

    def take(self, columns: tuple[str, ...], size: int) -> Chunk:
        some = slice(self.taken, self.taken + size)
        lines, values = self.lines, self.values
        if self.taken or len(values) > size:
            lines, values = lines[some], values[some]
        chunk = Chunk(columns, self._numbers(lines), values)
        self.taken += len(values)
        return chunk

    def _numbers(self, lines: Sequence[int]) -> Sequence[int]:
        if isinstance(lines, range):
            return range(self.line + lines.start, self.line + lines.stop)
        return [self.line + line for line in lines]

    def cells(self) -> Iterator[Cells]:
        """Those that are left, one by one."""
        lines, values = self.lines[self.taken :], self.values[self.taken :]
        offsets: Iterator[int | None] = repeat(None)
        if self.offset is not None:
            size_of = len if self.text.isascii() else size_in_utf_8
            starts = [*accumulate(map(size_of, split(self.text)), initial=self.offset)]
            offsets = map(starts.__getitem__, lines)
        return zip(self._numbers(lines), offsets, values, strict=False)


def size_in_utf_8(text: str) -> int:
    return len(text.encode())


class Splitter:
    """Splits texts into rows of `width` cells, or finds that a text needs more care than that. It
    must be sound, and no longer than a row may be."""

    def __init__(self, delimiter: str, comment: str, width: int) -> None:
        self._delimiter = delimiter
        self._comment = comment
        self._width = width

    def rows(self, text: str, *, quoted_lines: bool = True) -> Split | None:
        """None where a row is bad or cannot be told from a comment and, without `quoted_lines`,
        where one has more than one line. Where the quotes of a row are wrong, or not closed within
        the text, it is the first of the `rest`."""
        commented = self._has_comments(text)
        if not commented and QUOTE not in text and (found := self._split(text)):
            return found
        return self._by_csv(split(text), commented, quoted_lines)

    def _has_comments(self, text: str) -> bool:
        comment = self._comment
        if not comment or comment not in text:
            return False
        return text.startswith(comment) or any(end + comment in text for end in LINE_ENDS)

    def _split(self, text: str) -> Split | None:
        end, width, delimiter = "\n", self._width, self._delimiter
        lines = text.count(end)
        if "\r" in text:
            end = LINE_ENDS
            if not text.count(end) == text.count("\r") == lines:
                return None
        if text[-1] != "\n":  # the last line of the file
            text += end
            lines += 1
        # Line ends become cells, of which none is missing and none stands elsewhere if all rows
        # have as many cells as they should.
        cells = text.replace(end, f"{delimiter}\n{delimiter}").split(delimiter)
        cells.pop()
        ends = cells[width :: width + 1]
        if not len(ends) == ends.count("\n") == lines or len(cells) != lines * (width + 1):
            return None
        if width == 1 and any(not cell or cell.isspace() for cell in cells[::2]):
            return None
        values = [*zip(*(cells[at :: width + 1] for at in range(width)), strict=True)]
        return Split(lines, range(lines), values)

    def _by_csv(self, lines: list[str], commented: bool, quoted_lines: bool) -> Split | None:
        begins: Sequence[int] = range(len(lines))
        count = len(lines)
        rows = lines
        if commented:
            kept = [not line.startswith(self._comment) for line in lines]
            begins, rows = [*compress(begins, kept)], [*compress(lines, kept)]
        if self._width == 1 and any(map(str.isspace, rows)):
            return None
        values, ends, whole = self._read(rows)
        if len(values) != len(rows):
            if commented or not quoted_lines:
                return None  # the comment may have been within a cell
            begins = [0, *ends]
            count = begins.pop()
        if not (whole or count):
            return None
        if () in values:  # blank lines
            kept = [*map(bool, values)]
            begins, values = [*compress(begins, kept)], [*compress(values, kept)]
        if {*map(len, values)} <= {self._width}:
            return Split(count, begins, values, lines[count:])
        return None

    def _read(self, lines: list[str]) -> tuple[list[tuple[str, ...]], list[int], bool]:
        """Rows, up to the first one that cannot be read; how many lines were read behind each; and
        whether all could be read."""
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        values: list[tuple[str, ...]] = []
        ends: list[int] = []
        try:
            for row in reader:
                values.append(tuple(row))
                ends.append(reader.line_num)
        except csv.Error:
            return values, ends, False
        return values, ends, True
