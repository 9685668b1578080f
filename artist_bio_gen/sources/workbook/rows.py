"""The rows of one sheet as they stand in the file: by a quick reader, by one that bears rows out of
order, and by one that holds a whole sheet."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias

from artist_bio_gen.errors import InputError
from artist_bio_gen.extras import require
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.sources.workbook.damage import damage_told, unreadable
from artist_bio_gen.sources.workbook.header import Numbered

WIDEST = 1_024
"""Columns up to which the quick reader is used: it fills every row up to the last column that any
row has, and one cell in the last column of all (XFD) makes each row 16,384 cells long."""

MOST_ROWS = 1_048_576  # of a sheet
_STRETCH = 200  # rows after which the width is looked at
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")  # 22.4.2.4 of ECMA-376, part 1

Block: TypeAlias = tuple[Sequence[int], list[list[Any]]]
"""Numbers of rows, ascending and counted from 1, and their cells: "" where there is none."""


class SheetRows(Protocol):
    """Rows in the order of the file; they need not be of one length."""

    reader: str
    """What reads them, and why that, for the facts of the source."""

    def take(self, size: int) -> Block:
        """The next rows, at most `size` and perhaps fewer; none at the end. InputError where the
        sheet is damaged, after all rows before that."""


class QuickRows:
    """By python-calamine-plus, as a stream. Rows that it refuses (out of order), or would make too
    wide, are left to `careful`, which takes the number of the last row that was given, and why."""

    def __init__(
        self,
        rows: Iterable[list[Any]],
        where: str,
        careful: Callable[[int, str], SheetRows],
        behind: int = 0,
    ) -> None:
        """`rows` are those behind the row with this number."""
        self.reader = "python-calamine-plus"
        self._rows = iter(rows)
        self._where = where
        self._careful = careful
        self._instead: SheetRows | None = None
        self._failure: InputError | None = None
        self._last = behind

    def take(self, size: int) -> Block:
        rows: list[list[Any]] = []
        while self._instead is None and self._failure is None and len(rows) < size:
            had = len(rows)
            refused = self._extend(rows, min(_STRETCH, size - had))
            if refused:
                self._go_on(self._last + len(rows), refused)
            if len(rows) == had:
                break
        first = self._last + 1
        self._last += len(rows)
        if rows:
            return range(first, first + len(rows)), rows
        if self._failure is not None:
            raise self._failure
        return ((), []) if self._instead is None else self._instead.take(size)

    def _extend(self, rows: list[list[Any]], more: int) -> str:
        """Adds rows; why the rest is to be read otherwise, "" where it is not."""
        try:
            with damage_told(self._where, lambda: self._last + len(rows)):
                rows.extend(islice(self._rows, more))  # those before one that fails are kept
        except InputError as exc:
            if "not stored in" in str(exc.__cause__):
                return "its rows are out of order"
            self._failure = exc
        if self._last + len(rows) > MOST_ROWS:
            # The next one that is filled may be billions away, and each up to there is given.
            beyond = ValueError(f"a row has a number beyond {MOST_ROWS:,}")
            self._failure = unreadable(beyond, self._where, MOST_ROWS)
            del rows[MOST_ROWS - self._last :]
        if rows and len(rows[-1]) > WIDEST:
            return f"it has more than {WIDEST:,} columns"
        return ""

    def _go_on(self, last: int, why: str) -> None:
        try:
            self._instead = self._careful(last, why)
        except InputError as exc:  # told behind the rows that there are
            self._failure = exc
        else:
            self.reader = self._instead.reader


class CarefulRows:
    """By the parser of openpyxl: a twelfth of the speed. Rows out of order are given in the order
    of the file. (openpyxl's own rows would leave them out, in silence.)"""

    def __init__(self, sheet: Any, where: str, behind: int, why: str) -> None:
        """`sheet` is a ReadOnlyWorksheet."""
        self.reader = f"openpyxl, as {why}"
        self._where = where
        self._last = behind
        self._held: Numbered | None = None
        self._failure: InputError | None = None
        self._rows = self._behind(sheet, behind)

    def take(self, size: int) -> Block:
        numbers: list[int] = []
        rows: list[list[Any]] = []
        try:
            with damage_told(self._where, lambda: self._last):
                while len(rows) < size and (row := self._next()) is not None:
                    if numbers and row[0] <= numbers[-1]:
                        self._held = row
                        break
                    numbers.append(row[0])
                    rows.append(row[1])
        except InputError as exc:
            self._failure = exc
        if not rows and self._failure is not None:
            raise self._failure
        return numbers, rows

    def _next(self) -> Numbered | None:
        row, self._held = self._held, None
        if row is None and self._failure is None:
            row = next(self._rows, None)
        if row is not None:
            self._last = row[0]
        return row

    def _behind(self, sheet: Any, behind: int) -> Iterator[Numbered]:
        reading = require("openpyxl.worksheet._reader", extra="excel", what=self._where)
        book = sheet.parent
        with sheet._get_source() as source:
            parser = reading.WorkSheetParser(
                source,
                sheet._shared_strings,
                data_only=True,
                epoch=book.epoch,
                date_formats=book._date_formats,
                timedelta_formats=book._timedelta_formats,
            )
            last, back = 0, False
            for number, cells in parser.parse():
                if not 0 < number <= MOST_ROWS:
                    raise ValueError(f"a row has the number {number}")
                back = back or number <= last
                last = number
                if number > behind or back:
                    yield number, _placed(cells)


class WholeRows:
    """By python-calamine-plus, which holds the whole sheet: .xls, .ods and .xlsb."""

    def __init__(self, sheet: Any, where: str) -> None:
        """`sheet` is a CalamineSheet."""
        self.reader = "python-calamine-plus, the whole sheet in memory"
        self._rows = sheet.iter_rows()
        self._left = [""] * (sheet.start or (0, 0))[1]  # its rows begin with its first column
        self._where = where
        self._last = 0

    def take(self, size: int) -> Block:
        with damage_told(self._where, lambda: self._last):
            rows = list(islice(self._rows, size))
        if self._left:
            rows = [self._left + row for row in rows]
        first = self._last + 1
        self._last += len(rows)
        return range(first, first + len(rows)), rows


def _placed(cells: list[dict[str, Any]]) -> list[Any]:
    row = [""] * max((cell["column"] for cell in cells), default=0)
    for cell in cells:
        value = cell["value"]
        if value is not None:
            row[cell["column"] - 1] = _as_quick(value)
    return row


def _as_quick(value: Any) -> Any:
    """As the quick reader has it: midnight as a date, escapes as what they stand for."""
    if isinstance(value, str):
        return _unescaped(value) if "_x" in value else value
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date()
    return json_cell(value) if isinstance(value, int) else value


def _unescaped(text: str) -> str:
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    # Two halves of a character, each escaped, become one; half a one becomes U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
