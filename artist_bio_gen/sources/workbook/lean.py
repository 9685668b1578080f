"""The rows of a sheet whose texts are shared ones, where these are many: read by us, for in
python-calamine-plus a million rows of different texts take 140 MiB."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from operator import lt
from typing import IO, Any, BinaryIO, cast

from artist_bio_gen.sources.workbook.check import column_letters, column_number
from artist_bio_gen.sources.workbook.elements import DAMAGE, Unusual, elements_of
from artist_bio_gen.sources.workbook.header import is_blank
from artist_bio_gen.sources.workbook.package import STYLES, TEXTS, Package
from artist_bio_gen.sources.workbook.rows import MOST_ROWS, Block, SheetRows
from artist_bio_gen.sources.workbook.styles import Styles
from artist_bio_gen.sources.workbook.texts import SharedTexts

_PEEK = 1_000  # rows at a time
_WIDEST = 256  # columns; a pattern for more takes long to make
_FORMULA = r"(?:<f[^<>]*+(?:(?<=/)>|>[^<]*+</f>))?+"
_CELL = re.compile(r'<c r="([A-Z]{1,3})')
_KIND = re.compile(r'(?: s="([0-9]{1,6})")?(?: t="([a-z]+)")?( ?/)?')
_BETWEEN = re.compile(r"(?:\s++|<row [^<>]*/>)*+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([Ee][-+]?[0-9]+)?")
_DIGITS = 18  # of what is an integer in any case
_ERRORS = frozenset(["#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"])


class LeanBook:
    """The sheets of a workbook with many shared strings."""

    def __init__(self, file: BinaryIO, package: Package) -> None:
        """Reads shared strings and styles; `file` stays open. Raises Unusual."""
        self._members = package.members()
        if len(self._members) < len(package.sheets):
            raise Unusual("it does not say of each sheet where that is")
        try:
            self._archive = zipfile.ZipFile(file)
            self._styles = Styles(self._archive.read(STYLES))
            with self._archive.open(TEXTS) as texts:
                self._texts = SharedTexts(texts)
        except (KeyError, *DAMAGE) as exc:
            raise Unusual(f"it lacks something, or is damaged ({exc})") from exc

    def rows(self, name: str, instead: Callable[[int, str], SheetRows]) -> LeanRows:
        """Those of the sheet of this name. Raises Unusual."""
        try:
            sheet = self._archive.open(self._members[name])
        except (KeyError, *DAMAGE) as exc:
            raise Unusual(f"it lacks something, or is damaged ({exc})") from exc
        return LeanRows(sheet, self._texts, self._styles, instead)

    def is_empty(self, name: str) -> bool:
        """Whether there is no value in the sheet of this name; no too if that is not certain."""
        try:
            rows = self.rows(name, _not_certain)
            while block := rows.take(_PEEK)[1]:
                if not all(map(is_blank, block)):
                    return False
        except Unusual:
            return False
        return True

    def close(self) -> None:
        """Lets go of the texts: no rows can be had any more."""
        self._texts.clear()
        self._archive.close()


def _not_certain(_: int, why: str) -> SheetRows:
    raise Unusual(why)


class LeanRows:
    """What this does not know (text in cells, dates, cells without a place, damage) is left to
    `instead` from its row on, which takes the number of the last row that was given, and why."""

    def __init__(
        self,
        sheet: IO[bytes],
        texts: SharedTexts,
        styles: Styles,
        instead: Callable[[int, str], SheetRows],
    ) -> None:
        self.reader = "artist-bio-gen, as the workbook has many texts"
        self._pieces = elements_of(sheet, "sheetData", "row", _BETWEEN)
        self._texts = texts
        self._styles = styles
        self._otherwise = instead
        self._why = ""
        self._instead: SheetRows | None = None
        self._columns = 0
        self._pattern = _pattern(0)
        self._kinds: dict[str, str] = {}
        self._last = 0
        self._numbers: list[int] = []
        self._rows: list[list[Any]] = []
        self._at = 0  # of the next row among these

    def take(self, size: int) -> Block:
        numbers: list[int] = []
        rows: list[list[Any]] = []
        while len(rows) < size and self._has_more():
            part = slice(self._at, self._at + size - len(rows))
            numbers += self._numbers[part]
            rows += self._rows[part]
            self._at = part.stop
        if rows or not self._why:
            return numbers, rows
        if self._instead is None:
            self._instead = self._otherwise(self._last, self._why)
        try:
            return self._instead.take(size)
        finally:
            self.reader = self._instead.reader

    def _has_more(self) -> bool:
        while self._at >= len(self._rows):
            if self._why:
                return False
            try:
                piece = next(self._pieces, None)
                if piece is None:
                    return False
                self._numbers, self._rows = self._read(piece)
            except Unusual as exc:
                self._why = str(exc)
                self._numbers, self._rows = [], []
            self._at = 0
        return True

    # One piece of XML

    def _read(self, piece: str) -> tuple[list[int], list[list[Any]]]:
        parts = self._split(piece)
        step = self._pattern.groups + 1
        numbers = [*map(int, parts[1::step])]
        if not numbers or not self._columns:
            return [], []
        if (
            numbers[0] <= self._last
            or numbers[-1] > MOST_ROWS
            or not all(map(lt, numbers, numbers[1:]))
        ):
            raise Unusual("its rows are out of order")
        columns = [self._cells(parts[at::step], parts[at + 1 :: step]) for at in range(2, step, 2)]
        self._last = numbers[-1]
        return numbers, [*map(list, zip(*columns, strict=True))]

    def _split(self, piece: str) -> list[Any]:
        """What stands between two rows, the number of a row, the attributes and the value of each
        of its cells, and so on. None where there is no cell, or no value."""
        for _ in range(2):
            parts = self._pattern.split(piece)
            between = {*parts[:: self._pattern.groups + 1]}
            if all(map(_BETWEEN.fullmatch, between)):
                return parts
            columns = max(map(column_number, _CELL.findall(piece)), default=0)
            if not self._columns < columns <= _WIDEST:
                break
            self._columns = columns
            self._pattern = _pattern(columns)
        raise Unusual("its rows are not written in the plainest way")

    def _cells(
        self, attributes: Sequence[str | None], values: Sequence[str | None]
    ) -> Sequence[Any]:
        """Those of one column; "" where there is none."""
        if len({*attributes}) == 1:
            return self._alike(attributes[0], values)
        places: dict[str | None, list[int]] = {}
        for at, each in enumerate(attributes):
            places.setdefault(each, []).append(at)
        cells: list[Any] = [""] * len(values)
        for kind, them in places.items():
            for at, cell in zip(them, self._alike(kind, [values[at] for at in them]), strict=True):
                cells[at] = cell
        return cells

    def _alike(self, attributes: str | None, values: Sequence[str | None]) -> Sequence[Any]:
        kind = "" if attributes is None else self._kinds.get(attributes) or self._kind(attributes)
        if not kind:
            if values.count(None) < len(values):
                raise Unusual("a cell has no end")
            return [""] * len(values)
        if not all(values):
            raise Unusual("a cell has no value")
        told = cast(list[str], values)
        if kind == "s":
            return self._texts.many(told)
        return _READ[kind](told)

    def _kind(self, attributes: str) -> str:
        """Of a cell with these: "s" (of a shared string), one of `_READ`, or "" if it is empty."""
        found = _KIND.fullmatch(attributes)
        if found is None:
            raise Unusual("a cell has unknown attributes")
        style, kind, closed = found.groups()
        if closed:
            return ""
        kind = kind or "n"
        if kind != "s" and kind not in _READ:
            raise Unusual("it has texts in its cells, or dates as such")
        if kind == "n" and not self._styles.is_number(int(style or 0)):
            raise Unusual("it has dates, times, or numbers in formats of their own")
        self._kinds[attributes] = kind
        return kind


def _pattern(columns: int) -> re.Pattern[str]:
    """A row with cells in some of the first columns, whose places tell the same row."""
    cells = (
        rf'(?:<c r="{column_letters(at)}\1"([^<>]*+)>(?:{_FORMULA}<v>([^<]*+)</v></c>)?+)?+'
        for at in range(1, columns + 1)
    )
    return re.compile(rf'<row r="([0-9]{{1,7}}+)"[^<>]*+>{"".join(cells)}</row>')


def _truths(values: Sequence[str]) -> list[bool]:
    if not {*values} <= {"0", "1"}:
        raise Unusual("a cell is neither true nor false")
    return [value == "1" for value in values]


def _numbers(values: Sequence[str]) -> list[int | float]:
    digits = "".join(values)
    if digits.isascii() and digits.isdecimal() and max(map(len, values)) <= _DIGITS:
        return [*map(int, values)]
    return [*map(_number, values)]


def _number(value: str) -> int | float:
    found = _NUMBER.fullmatch(value)
    if found is None:
        raise Unusual("a cell's number is none")
    if found.lastindex is not None:
        return float(value)
    if len(value) > _DIGITS:
        raise Unusual("a cell has a number of many digits")
    return int(value)


def _results(values: Sequence[str]) -> Sequence[str]:
    if any(each in value for value in values for each in "&\r"):
        raise Unusual("the value of a formula has entities")
    return values


def _errors(values: Sequence[str]) -> Sequence[str]:
    if not _ERRORS.issuperset(values):
        raise Unusual("a cell has an unknown error")
    return values


_READ: Mapping[str, Callable[[Sequence[str]], Sequence[Any]]] = {
    "n": _numbers,
    "b": _truths,
    "str": _results,
    "e": _errors,
}
"""Cells of one column, by the type that they say they have."""
