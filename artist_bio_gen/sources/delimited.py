"""CSV and its kin as a lazy stream: bounded memory whatever the file holds, and damage costs
the row in which it stands.

How damage is contained:

- Bytes that are no text in the file's encoding, NUL, a wrong number of cells, a quote that
  is not doubled, a row beyond `MAX_ROW`: a `BadRow`, and the next row is read as if nothing
  had been.
- A quote that is opened and not closed would swallow the rows after it. When that shows (a
  quote in an impossible place, the end of the file, `MAX_ROW`, `MAX_ROW_LINES`), the row costs
  only its first line, and reading goes on with the second. The lines of a cell whose quoting
  is broken may so come out as rows of their own, most of them with a wrong number of cells.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources.lines import LINE_ENDS, Lines, shown, unsound
from artist_bio_gen.values import BadRow, Column, Row

MAX_ROW = 16 * 1024 * 1024
"""Characters of the longest row, and so of the longest cell."""

MAX_ROW_LINES = 1_000_000
"""Lines of the longest row: as a text of its own, each takes some 60 bytes besides its characters,
so that a quote that is never closed would cost hundreds of megabytes where lines are short."""

MAX_COLUMNS = 16_384
"""As in a spreadsheet; a wider file is taken for a damaged one."""

SAMPLE = 64 * 1024
"""Size in bytes of the buffer of a file: what the number of its rows is estimated from."""

# How far a row may look for the end of its quote is paid from a credit: `MAX_ROW` to begin
# with, less what was looked at in vain, plus this many characters for each line since. Without
# it a file made of unclosed quotes would be read once for each of its lines.
_CREDIT_PER_LINE = 256

_QUOTE = '"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row begins: at which byte, and on which line of the file."""

    offset: int
    line: int


END = Place(-1, 0)
"""Behind all rows of any file."""

Cells: TypeAlias = tuple[int, int | None, list[str] | BadRow]
"""A row as it is read: the line and the byte on which it begins (None where that cannot be told),
and its cells."""


class _Runaway(Exception):
    """The lines of the row in hand are longer than it may look ahead."""


class DelimitedStream:
    """Rows of a delimited text file (see `RowStream`); all values are text.

    `file` is closed with the stream, and by the caller when this raises. `size` is its length
    in bytes, None where that is not known. A row has exactly as many cells as the first one:
    missing cells at its end make it bad, too, since nobody can tell which ones are missing.
    `number` of a row is the line on which it begins.
    """

    def __init__(
        self,
        file: io.BufferedReader[Any],
        *,
        name: str,
        size: int | None = None,
        encoding: str | None = None,
        header: bool = True,
        comment: str = "#",
        delimiter: str = ",",
        max_row: int = MAX_ROW,
    ) -> None:
        if len(delimiter) != 1 or delimiter in _QUOTE + LINE_ENDS:
            raise UsageError(f"{delimiter!r} cannot separate cells; give one character, as ','")
        if comment and comment[0] in _QUOTE + LINE_ENDS + delimiter:
            raise UsageError(f"{comment!r} cannot begin a comment; give something like '#'")
        self.name = name
        self.columns: tuple[Column, ...] = ()
        self._file = file
        self._comment = comment
        self._delimiter = delimiter
        self._max_row = max_row
        sample = file.peek() if size else b""
        self._encoding = encoding
        self._lines = Lines(file, name=name, encoding=encoding, longest=max_row)
        self._line = iter(self._lines)

        self._first = ""  # first line of the quoted row in hand, until the csv reader takes it
        self._more: list[str] = []  # its other lines
        self._look_ahead = 0  # characters that these may have
        self._ended = False  # whether the file ended within it
        self._credit = max_row
        self._credit_line = 0
        # The csv module's limit is one for the whole process and small; ours is `max_row`.
        csv.field_size_limit(max(csv.field_size_limit(), max_row))
        self._reader = self._new_reader()

        self._cells: Iterator[Cells] = self._read_from(1, 0 if self._lines.countable else None)
        self._begin(header)
        self.estimated_row_count = self._estimate(sample, size, header)

    def __iter__(self) -> Iterator[Row | BadRow]:
        return map(_row, self._cells)

    def cells(self) -> Iterator[Cells]:
        """The rows as they are read, for whoever looks at millions."""
        return self._cells

    def go_on_at(self, place: Place) -> None:
        """Passes over all rows before the one at this place, which this stream's file had when it
        was read by another one with the same settings. Before anything is read of it."""
        if place == END:
            self._file.seek(0, io.SEEK_END)
        else:
            self._file.seek(place.offset)
        self._lines = Lines(
            self._file,
            name=self.name,
            encoding=self._encoding,
            longest=self._max_row,
            begun=place.offset != 0,
        )
        self._line = iter(self._lines)
        self._reader = self._new_reader()
        self._credit_line = place.line - 1
        self._cells = self._read_from(place.line, place.offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    # Opening

    def _begin(self, header: bool) -> None:
        """Set `columns` from the first row; the rows are what is left."""
        first = next(self._cells, None)
        if first is None:
            raise InputError(f"{self.name} is empty; it needs a row for each artist")
        number, _, cells = first
        if isinstance(cells, BadRow) and (header or not self.columns):
            what = "header" if header else "first row"
            raise InputError(
                f"{self.name} line {number}: the {what} cannot be read: {cells.reason}"
            )
        if header and not isinstance(cells, BadRow):
            self.columns = self._named(number, cells)
        else:
            self._cells = itertools.chain((first,), self._cells)

    def _named(self, number: int, header: list[str]) -> tuple[Column, ...]:
        """The columns of a header; one without a name is called by its position."""
        names = [name.strip() or str(at) for at, name in enumerate(header, 1)]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise InputError(
                f"{self.name} line {number}: more than one column is called"
                f" {', '.join(map(repr, twice))}; rename them, or read it with --no-header"
            )
        return tuple(map(Column, names))

    def _estimate(self, sample: bytes, size: int | None, header: bool) -> int | None:
        """Rows in all, if the rest of the file is like its beginning."""
        if size is None or not sample:
            return None
        text = io.StringIO(sample.decode(self._lines.encoding, "replace"), newline="")
        reader = csv.reader(
            (line for line in text if not self._comment or not line.startswith(self._comment)),
            delimiter=self._delimiter,
        )
        rows = sum(1 for values in reader if values)
        return max(0, round(size / len(sample) * rows) - header)

    # Reading

    def _read_from(self, number: int, offset: int | None) -> Iterator[Cells]:
        """All rows from this line and byte on, the header among them; the first one that parses
        sets `columns`."""
        lines, delimiter, comment = self._lines, self._delimiter, self._comment
        special = comment[:1] + LINE_ENDS
        width = len(self.columns)
        splits = width or MAX_COLUMNS
        number -= 1  # of the last line that was read
        for line in self._line:
            number += 1
            suspect = lines.suspect
            if suspect or not offset:
                # What was not decoded has no length that is known.
                offset = lines.mark if offset == 0 and not suspect else None
            begins, at = number, offset
            if offset is not None:
                offset += len(line) if line.isascii() else _bytes(line)
            if line[:1] in special:
                if not line:
                    return
                if line[0] in LINE_ENDS or line.startswith(comment):
                    continue
            quoted = _QUOTE in line
            if suspect and len(line) > self._max_row:
                yield begins, at, BadRow(begins, self._too_long(), shown(line))
                continue
            if quoted:
                parsed = self._parse_quoted(line, begins)
                if isinstance(parsed, str):
                    yield begins, at, BadRow(begins, parsed, shown(line))
                    continue
                values = parsed
                if self._more:
                    number += len(self._more)
                    if offset is not None and not lines.suspect:
                        offset += sum(map(_bytes, self._more))
            else:
                # What the csv module makes of a line without quotes, in a quarter of the time.
                values = line.rstrip(LINE_ENDS).split(delimiter, splits)
            if len(values) != width or lines.suspect:
                if not quoted and len(values) == 1 and line.isspace():
                    continue
                if not width:
                    width = splits = len(values)
                    self.columns = self._numbered(width)
                cells = len(values) if quoted else line.count(delimiter) + 1
                row = [line, *self._more] if quoted else [line]
                reason = self._flaw(values, cells, len(row))
                if reason:
                    yield begins, at, BadRow(begins, reason, shown("".join(row)))
                    continue
            yield begins, at, values

    def _numbered(self, width: int) -> tuple[Column, ...]:
        if width > MAX_COLUMNS:
            raise InputError(f"{self.name} has more than {MAX_COLUMNS:,} columns; is it damaged?")
        return tuple(Column(str(at)) for at in range(1, width + 1))

    def _flaw(self, values: list[str], cells: int, lines: int) -> str:
        """What makes this row a bad one; "" when it is sound."""
        if self._lines.suspect:
            for at, value in enumerate(values):
                found = unsound(value, self._lines.encoding)
                if found:
                    return (
                        f"{found} in {self._called(at)}; mend it, or give the file's encoding"
                        " with --encoding (windows-1252, utf-16, …)"
                    )
        width = len(self.columns)
        if cells == width:
            return ""
        reason = f"{_count(cells, 'cell')} for {_count(width, 'column')}"
        if lines > 1:
            reason += f" (on {lines:,} lines; is a quote opened and never closed?)"
        if cells < width:
            return f"{reason}; write missing cells as empty ones"
        return f"{reason}; put quotes around a cell that contains {self._delimiter!r}"

    def _called(self, at: int) -> str:
        """Name of the cell at this position, as it can be told while the row is read."""
        return f"column {self.columns[at].name!r}" if at < len(self.columns) else f"cell {at + 1}"

    def _too_long(self) -> str:
        return f"longer than {self._max_row:,} characters; shorten it"

    # Quoted rows

    def _parse_quoted(self, line: str, number: int) -> list[str] | str:
        """The cells of the row that begins with `line`, or the reason why it is a bad one."""
        self._first = line
        self._more.clear()
        earned = _CREDIT_PER_LINE * (number - self._credit_line)
        self._look_ahead = allowed = min(self._max_row - len(line), self._credit + earned)
        try:
            return next(self._reader)
        except csv.Error as exc:
            reason = (
                self._unclosed(line, "before the file ends")
                if self._ended
                else f"{exc}: a quote inside a quoted cell is written twice"
            )
        except _Runaway:
            far = allowed if self._look_ahead < 0 else MAX_ROW_LINES
            what = "characters" if self._look_ahead < 0 else "lines"
            reason = self._unclosed(line, f"in the next {far:,} {what}")
        self._credit = max(0, self._look_ahead)
        self._credit_line = number
        self._lines.again(self._more)
        self._more.clear()
        self._ended = False
        self._reader = self._new_reader()
        return reason

    def _new_reader(self) -> Iterator[list[str]]:
        # Strict, or `"Duke" Ellington` would be read as `Duke Ellington`, and the end of the
        # file as the end of an open quote.
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        """What the csv reader reads: the first line of the row in hand and, as long as a quote
        is open and the reader asks for more, the lines after it."""
        while True:
            if self._first:
                line, self._first = self._first, ""
            else:
                line = next(self._line)
                if not line:
                    self._ended = True
                    return
                self._more.append(line)
                self._look_ahead -= len(line)
                if self._look_ahead < 0 or len(self._more) > MAX_ROW_LINES:
                    raise _Runaway
            yield line

    def _unclosed(self, line: str, where: str) -> str:
        cells = next(csv.reader([line], delimiter=self._delimiter))
        cell = self._called(len(cells) - 1)
        return f"the quote that opens in {cell} is not closed {where}; close it or take it away"


def _row(read: Cells) -> Row | BadRow:
    number, _, cells = read
    return cells if isinstance(cells, BadRow) else Row(number, tuple(cells))


def _bytes(line: str) -> int:
    return len(line.encode())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
