"""What separates the cells of a text file, found by its first rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import islice

COMMA = ","

DELIMITERS = ",;\t|"
"""What is looked for."""

ROWS = 20
"""Rows that are compared where the first one leaves a choice."""

MOST_LINES = 1_000
MOST_CHARACTERS = 64 * 1024
"""No more of a file is looked at."""

# Of two that fit equally well: tabs stand in no text, semicolons separate where commas are decimal.
_LIKELY = "\t;,|"

_TOLD = re.compile(r"""("?)sep=([^"\r\n])\1[\r\n]*""", re.IGNORECASE)


def told_delimiter(line: str) -> str | None:
    """The delimiter that this first line of a file tells, as Excel writes and reads it: `sep=;`."""
    match = _TOLD.fullmatch(line)
    return match[2] if match else None


def way_out(too_many: int, last: str, delimiter: str) -> str:
    """What to do about a row with so many cells too many (or too few), the last of which is
    `last`."""
    if too_many < 0:
        return "write missing cells as empty ones"
    if too_many == 1 and not last:
        return f"take the {delimiter!r} at its end away"
    return f"put quotes around a cell that contains {delimiter!r}"


def found_delimiter(lines: Iterable[str], delimiters: str = DELIMITERS) -> str:
    """The delimiter of the file that begins with these lines, comments and blank ones left out.

    The first row decides if just one of them stands in it (outside of quotes). If none does,
    the file has one column. If several do, it is the one by which the most of the first `ROWS` rows
    have as many cells as the first one, then the one that gives more cells. Only in that case are
    further lines taken from `lines`.
    """
    ahead = _Ahead(lines)
    widths = {each: len(next(ahead.rows(each), [])) for each in delimiters}
    found = [each for each, width in widths.items() if width > 1]
    if len(found) < 2:
        return found[0] if found else COMMA

    def fit(delimiter: str) -> tuple[float, int, int]:
        width = widths[delimiter]
        same = [len(row) == width for row in islice(ahead.rows(delimiter), ROWS)]
        return sum(same) / len(same), width, -_LIKELY.index(delimiter)

    return max(found, key=fit)


class _Ahead:
    """Lines that are read once and given as often as they are wanted."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._seen: list[str] = []

    def rows(self, delimiter: str) -> Iterator[list[str]]:
        return csv.reader(self._again(), delimiter=delimiter)

    def _again(self) -> Iterator[str]:
        at = 0
        while True:
            if at == len(self._seen):
                line = next(self._lines, "")
                if not line:
                    return
                self._seen.append(line)
            yield self._seen[at]
            at += 1
