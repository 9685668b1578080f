"""Rows with quotes, each of which may go on over many lines: read by the csv module."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator

MAX_ROW_LINES = 1_000_000
"""Lines of the longest row: as a text of its own, each takes some 60 bytes besides its characters,
so that a quote that is never closed would cost hundreds of megabytes where lines are short."""

# How far a row may look for the end of its quote is paid from a credit: the longest row to begin
# with, less what was looked at in vain, plus this many characters for each line since. Without
# it a file made of unclosed quotes would be read once for each of its lines.
_CREDIT_PER_LINE = 256


class _Runaway(Exception):
    """The lines of the row in hand are longer than it may look ahead."""


class QuotedRows:
    """`max_row` is in characters. `next_line` gives the line behind those read so far, "" at the
    end. `called` names the cell at a position.

    `more` are the lines of the row in hand behind its first one; it stays the same list.
    """

    def __init__(
        self,
        delimiter: str,
        max_row: int,
        next_line: Callable[[], str],
        called: Callable[[int], str],
    ) -> None:
        self.more: list[str] = []
        self._delimiter = delimiter
        self._max_row = max_row
        self._next_line = next_line
        self._called = called
        self._first = ""  # line of the row in hand, until the csv reader takes it
        self._look_ahead = 0  # characters that the other ones may have
        self._ended = False  # whether the file ended within it
        self._credit = max_row
        self._credit_line = 0
        self._reader = self._new_reader()

    def row(self, line: str, number: int) -> list[str] | str:
        """The cells of the row that begins with `line`, or the reason why it is a bad one: then the
        lines behind it are to be taken back. So they are when `next_line` raises."""
        self._first = line
        self._ended = False
        credit = self.credit(number)
        self._look_ahead = allowed = min(self._max_row - len(line), credit)
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
        return reason

    def take_back(self) -> list[str]:
        """The lines behind the first one, with which the row in hand has nothing to do any more."""
        lines = self.more.copy()
        self.more.clear()
        self._reader = self._new_reader()
        return lines

    def credit(self, number: int) -> int:
        """How many characters a row that begins on this line may look ahead."""
        return self._credit + _CREDIT_PER_LINE * (number - self._credit_line)

    def go_on_behind(self, number: int) -> None:
        """The next row begins behind this line; those before it were passed over."""
        self.take_back()
        self._credit_line = number

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
                line = self._next_line()
                if not line:
                    self._ended = True
                    return
                self.more.append(line)
                self._look_ahead -= len(line)
                if self._look_ahead < 0 or len(self.more) > MAX_ROW_LINES:
                    raise _Runaway
            yield line

    def _unclosed(self, line: str, where: str) -> str:
        cells = next(csv.reader([line], delimiter=self._delimiter))
        cell = self._called(len(cells) - 1)
        return f"the quote that opens in {cell} is not closed {where}; close it or take it away"
