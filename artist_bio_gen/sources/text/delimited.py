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

Three ways lead to the same rows. Texts of whole lines in which nothing needs care are split at
once (plain.py), if need be by the csv module; where something does, they go line by line, in here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Any

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources.content import Content, reader_of
from artist_bio_gen.sources.text.dialect import (
    COMMA,
    DELIMITERS,
    MOST_CHARACTERS,
    MOST_LINES,
    found_delimiter,
    told_delimiter,
    way_out,
)
from artist_bio_gen.sources.text.encodings import encoding_of, sample_of, shown, unsound
from artist_bio_gen.sources.text.lines import BLOCK, LINE_ENDS, Lines, at_once, beginning, split
from artist_bio_gen.sources.text.plain import (
    QUOTE,
    Cells,
    PlainRows,
    Split,
    Splitter,
    size_in_utf_8,
)
from artist_bio_gen.sources.text.quoted import QuotedRows
from artist_bio_gen.stream import CHUNK, Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Json, Row

MAX_ROW = 16 * 1024 * 1024
"""Characters of the longest row, and so of the longest cell."""

MAX_COLUMNS = 16_384
"""As in a spreadsheet; a wider file is taken for a damaged one."""

SAMPLE = BLOCK
"""Bytes at the beginning of a file from which the number of its rows is estimated."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row begins: at which byte, and on which line of the file."""

    offset: int
    line: int


END = Place(-1, 0)
"""Behind all rows of any file."""


class _NotYet(Exception):
    """The row in hand goes on in what has perhaps not arrived, while there are rows to give."""


def open_delimited(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool]
) -> DelimitedStream:
    """Rows of CSV and its kin. Raises `InputError` when nothing can be read, `UsageError` when an
    option cannot be used."""
    with reader_of(content) as file:
        return DelimitedStream(
            file,
            name=content.name,
            size=content.size,
            encoding=options.encoding,
            header=options.header,
            comment=options.comment,
            delimiter=options.delimiter or _delimiter_of(content, options),
            skip_rows=options.skip_rows,
            can_wait=content.can_wait,
            again=content.open if content.again else None,
            cancelled=cancelled,
        )


def _delimiter_of(content: Content, options: SourceOptions) -> str | None:
    suffix = PurePath(content.file_name).suffix.lower()
    by_tab = options.format == "tsv" or (options.format is None and suffix in (".tsv", ".tab"))
    return "\t" if by_tab else None


class DelimitedStream(RowStream):
    """Rows of a delimited text file; all values are text. An empty cell is "", quoted or not: the
    format knows no missing ones.

    `file` is closed with the stream, and by the caller when this raises. `size` is its length
    in bytes, None where that is not known. Without `delimiter` it is found by the first rows. A row
    has exactly as many cells as the first one: missing cells at its end make it bad, too, since
    nobody can tell which ones are missing. `number` of a row is the line on which it begins.

    `again` opens the file once more, where that can be done. Such a file need not be waited for:
    as much is read at once as the rows that are wanted take. Of others, what has arrived is given,
    and more is waited for only while there is nothing to give. `line_by_line` takes the slowest of
    the ways to the rows for all of them.
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
        delimiter: str | None = None,
        skip_rows: int = 0,
        max_row: int = MAX_ROW,
        can_wait: bool = True,
        again: Callable[[], io.BufferedReader[Any]] | None = None,
        line_by_line: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        _require_apart(delimiter, comment)
        self.name = name
        self.columns: tuple[Column, ...] = ()
        self.can_wait = can_wait
        self._file = file
        self._comment = comment
        self._max_row = max_row
        self._at_hand = again is not None
        self._line_by_line = line_by_line
        self._cancelled = cancelled
        start = beginning(file)
        self._encoding = encoding_of(
            start, encoding, name=name, sample=lambda: sample_of(again, start)
        )
        self._lines = self._new_lines(start)

        # What was read and is not given yet stands in these, in this order.
        self._handed: Iterator[Cells] = iter(())  # to `cells`
        self._plain: PlainRows | None = None
        self._parsed: list[Cells] = []
        self._queue: deque[str] = deque()  # lines to be parsed
        self._text = ""  # whole lines
        self._text_is_sound = False
        self._rest_is_old = True  # whether the queue holds lines from before the row in hand

        self._number = 0  # of the last line that was parsed or passed over
        self._offset = 0 if self._encoding.countable else None  # of the byte behind it

        # The csv module's limit is one for the whole process and small; ours is `max_row`.
        csv.field_size_limit(max(csv.field_size_limit(), max_row))

        self._skip(skip_rows)
        self._told = None if delimiter else self._told_delimiter()
        self._delimiter = delimiter or self._told or self._found_delimiter()
        _require_apart(self._told, comment)
        self._quoted = QuotedRows(self._delimiter, max_row, self._next_of_row, self._called)
        self._splitter: Splitter | None = None
        self._begin(header)
        rows = max(1, self._rows_in(start, skip_rows + (self._told is not None)))
        self._bytes_per_row = len(start) / rows
        if size:
            self.estimated_row_count = max(0, round(size / len(start) * rows) - header)

    def facts(self) -> dict[str, Json]:
        told = {} if self._told is None else {"delimiter_told": f"sep={self._told} on line 1"}
        return {**self._encoding.facts(), "delimiter": self._delimiter, **told}

    def read(self, size: int) -> Chunk | None:
        if handed := [*islice(self._handed, size)]:
            return self._chunk(handed)
        if not self._advance(size):
            return None
        if self._plain is not None:
            chunk = self._plain.take(self._names, size)
            if not self._plain:
                self._plain = None
            return chunk
        chunk = self._chunk(self._parsed[:size])
        del self._parsed[:size]
        return chunk

    def __iter__(self) -> Iterator[Row | BadRow]:
        return map(_as_row, self.cells())

    def cells(self) -> Iterator[Cells]:
        """The rows as they are read, for whoever looks at millions. Whoever stops in between, and
        asks again, gets those that are left."""
        while True:
            yield from self._handed
            if not self._advance(CHUNK):
                return
            if self._plain is not None:
                self._handed, self._plain = self._plain.cells(), None
            else:
                self._handed, self._parsed = iter(self._parsed), []

    def go_on_at(self, place: Place) -> None:
        """Passes over all rows before the one at this place, which this stream's file had when it
        was read by another one with the same settings. Before anything is read of it."""
        if place == END:
            self._file.seek(0, io.SEEK_END)
        else:
            self._file.seek(place.offset)
        self._lines = self._new_lines(begun=place.offset != 0)
        self._handed, self._plain, self._parsed = iter(()), None, []
        self._queue, self._text = deque(), ""
        self._number = place.line - 1
        self._quoted.go_on_behind(self._number)
        self._offset = place.offset

    def close(self) -> None:
        self._file.close()

    def _chunk(self, rows: list[Cells]) -> Chunk:
        numbers: list[int] = []
        values: list[tuple[str, ...]] = []
        bad: list[BadRow] = []
        for number, _, cells in rows:
            if isinstance(cells, BadRow):
                bad.append(cells)
            else:
                numbers.append(number)
                values.append(cells)
        return Chunk(self._names, numbers, values, bad=bad)

    # Opening

    def _new_lines(self, start: bytes = b"", *, begun: bool = False) -> Lines:
        return Lines(
            self._file,
            self._encoding,
            name=self.name,
            longest=self._max_row,
            start=start,
            begun=begun,
            cancelled=self._cancelled,
        )

    def _skip(self, lines: int) -> None:
        for at in range(lines):
            line = self._pull()
            if not line:
                raise InputError(
                    f"{self.name} has only {_count(at, 'line')}; give fewer as --skip-rows"
                )
            self._pass_over(line)

    def _pass_over(self, line: str) -> None:
        self._number += 1
        self._offset = self._mended(self._offset)
        if self._offset is not None:
            self._offset += size_in_utf_8(line)

    def _told_delimiter(self) -> str | None:
        line = self._pull() if self._number == 0 else ""
        told = told_delimiter(line)
        if told is not None:
            self._pass_over(line)
        elif line:
            self._queue.appendleft(line)
        return told

    def _found_delimiter(self) -> str:
        seen: list[str] = []
        found = found_delimiter(
            self._ahead(seen), "".join(each for each in DELIMITERS if each != self._comment[:1])
        )
        self._queue.extendleft(reversed(seen))
        return found

    def _ahead(self, seen: list[str]) -> Iterator[str]:
        """The next lines on which rows may stand; all that is read for them is put into `seen`."""
        left = MOST_CHARACTERS
        while left > 0 and len(seen) < MOST_LINES and (line := self._pull()):
            seen.append(line)
            left -= len(line)
            if not line.isspace() and not (self._comment and line.startswith(self._comment)):
                yield line[:MOST_CHARACTERS]

    def _pull(self) -> str:
        """The next line; "" at the end."""
        if not self._queue:
            self._queue = deque(split(self._lines.block()))
            self._rest_is_old = False
        return self._queue.popleft() if self._queue else ""

    def _next_of_row(self) -> str:
        """The next line of the row in hand, whose quote is open; "" at the end."""
        if not self._queue and self._parsed:
            raise _NotYet
        return self._pull()

    def _begin(self, header: bool) -> None:
        """Sets `columns` from the first row; the rows are what is left."""
        while not self._parsed:
            if not self._queue and not self._load(BLOCK):
                raise InputError(f"{self.name} is empty; it needs a row for each artist")
            self._parse(1)
        number, _, cells = self._parsed[0]
        if isinstance(cells, BadRow) and (header or not self.columns):
            what = "header" if header else "first row"
            raise InputError(
                f"{self.name} line {number}: the {what} cannot be read: {cells.reason}"
            )
        if header and not isinstance(cells, BadRow):
            self.columns = self._named(number, cells)
            self._parsed.clear()
        self._names = names(self.columns)
        self._splitter = Splitter(self._delimiter, self._comment, len(self._names))
        # Now that the width is known, what is left may be split at once.
        self._split_rest()

    def _split_rest(self) -> None:
        """The lines of the queue are tried in one piece."""
        if not self._queue:
            return
        self._text, self._text_is_sound = "".join(self._queue), not self._lines.suspect
        self._queue = deque()

    def _named(self, number: int, header: Sequence[str]) -> tuple[Column, ...]:
        """The columns of a header; one without a name is called by its position."""
        called = [name.strip() or str(at) for at, name in enumerate(header, 1)]
        twice = [name for name, times in Counter(called).items() if times > 1]
        if twice:
            raise InputError(
                f"{self.name} line {number}: more than one column is called"
                f" {', '.join(map(repr, twice))}; rename them, or read it with --no-header"
            )
        return tuple(map(Column, called))

    def _numbered(self, width: int) -> tuple[Column, ...]:
        if width > MAX_COLUMNS:
            raise InputError(f"{self.name} has more than {MAX_COLUMNS:,} columns; is it damaged?")
        return tuple(Column(str(at)) for at in range(1, width + 1))

    def _rows_in(self, sample: bytes, skipped: int) -> int:
        """Rows in the beginning of the file, the header among them."""
        text = split(sample.decode(self._encoding.name, "replace"))[skipped:]
        lines = (line for line in text if not self._comment or not line.startswith(self._comment))
        return sum(1 for values in csv.reader(lines, delimiter=self._delimiter) if values)

    # Reading

    def _advance(self, size: int) -> bool:
        """Has rows ready in `_plain` or `_parsed`; False at the end."""
        while self._plain is None and not self._parsed:
            if self._queue:
                self._parse(size)
            elif not self._load(self._at_once(size)):
                return False
        return True

    def _at_once(self, rows: int) -> int:
        return at_once(rows, self._bytes_per_row) if self._at_hand else BLOCK

    def _load(self, size: int) -> bool:
        """Splits the next lines, or puts them into the queue; False at the end."""
        if not self._text:
            self._text = self._lines.block(size)
            self._text_is_sound = self._lines.sound
            if not self._text:
                return False
        text, offset = self._text, self._mended(self._offset)
        found = self._split(text)
        if found is None:
            self._queue = deque(split(text))
        else:
            if found.values:
                self._plain = PlainRows(text, self._number + 1, offset, found.begins, found.values)
            self._queue = deque(found.rest)
            self._number += found.count
            if offset is not None:
                offset += size_in_utf_8(text) - sum(map(size_in_utf_8, found.rest))
            self._offset = offset
        self._text = ""
        return True

    def _split(self, text: str) -> Split | None:
        if self._splitter is None or self._line_by_line:
            return None
        if not self._text_is_sound or len(text) > self._max_row:
            return None
        may_look_ahead = len(text) <= self._quoted.credit(self._number)
        return self._splitter.rows(text, quoted_lines=may_look_ahead)

    def _mended(self, offset: int | None) -> int | None:
        """A byte order mark stands before the first line; what was not decoded has no length that
        is known."""
        if self._lines.suspect:
            return None
        return self._lines.mark if offset == 0 else offset

    def _parse(self, most: int) -> None:
        """Parses lines of the queue, until there are so many rows or no more lines."""
        more = self._quoted.more
        while self._queue and len(self._parsed) < most:
            number, offset = self._number + 1, self._mended(self._offset)
            more.clear()
            self._rest_is_old = True
            line = self._queue.popleft()
            try:
                cells = self._row(line, number)
                if cells is not None:
                    self._parsed.append((number, offset, cells))
            except BaseException as exc:  # whatever it is, no line is lost
                self._queue.extendleft(reversed([line, *self._quoted.take_back()]))
                if isinstance(exc, _NotYet):
                    return
                raise
            self._number = number + len(more)
            if offset is not None:
                offset += size_in_utf_8(line) + sum(map(size_in_utf_8, more))
            self._offset = offset
            if more and not self._rest_is_old:
                self._split_rest()

    def _row(self, line: str, number: int) -> tuple[str, ...] | BadRow | None:
        """The row that begins with this line; None where none does."""
        if line[0] in LINE_ENDS or (self._comment and line.startswith(self._comment)):
            return None
        if self._lines.suspect and len(line) > self._max_row:
            reason = f"longer than {self._max_row:,} characters; shorten it"
            return BadRow(number, reason, shown(line))
        quoted = QUOTE in line
        if quoted:
            parsed = self._quoted.row(line, number)
            if isinstance(parsed, str):
                self._queue.extendleft(reversed(self._quoted.take_back()))
                return BadRow(number, parsed, shown(line))
            values = parsed
        else:
            # What the csv module makes of a line without quotes, in a quarter of the time.
            values = line.rstrip(LINE_ENDS).split(self._delimiter, len(self.columns) or MAX_COLUMNS)
            if len(values) == 1 and line.isspace():
                return None
        if not self.columns:
            self.columns = self._numbered(len(values))
        if len(values) != len(self.columns) or self._lines.suspect:
            cells = len(values) if quoted else line.count(self._delimiter) + 1
            reason = self._flaw(values, cells, 1 + len(self._quoted.more))
            if reason:
                return BadRow(number, reason, shown("".join([line, *self._quoted.more])))
        return tuple(values)

    def _flaw(self, values: Sequence[str], cells: int, lines: int) -> str:
        """What makes this row a bad one; "" when it is sound."""
        if self._lines.suspect:
            for at, value in enumerate(values):
                found = unsound(value, self._encoding.name)
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
        return f"{reason}; {way_out(cells - width, values[-1], self._delimiter)}"

    def _called(self, at: int) -> str:
        """Name of the cell at this position, as it can be told while the row is read."""
        return f"column {self.columns[at].name!r}" if at < len(self.columns) else f"cell {at + 1}"


def _require_apart(delimiter: str | None, comment: str) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in QUOTE + LINE_ENDS):
        raise UsageError(f"{delimiter!r} cannot separate cells; give one character, as ','")
    if comment and comment[0] in QUOTE + LINE_ENDS + (delimiter or COMMA):
        raise UsageError(f"{comment!r} cannot begin a comment; give something like '#'")


def _as_row(read: Cells) -> Row | BadRow:
    number, _, cells = read
    return cells if isinstance(cells, BadRow) else Row(number, cells)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
