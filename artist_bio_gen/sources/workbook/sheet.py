"""The table of one sheet: its header, found or given, and the rows below it.

For use in the process that reads (child.py): dates and times among the cells become text when a
chunk is handed over.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, TypeAlias

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.sources.workbook.check import column_letters
from artist_bio_gen.sources.workbook.header import (
    Numbered,
    find_header,
    header_text,
    is_blank,
    join_header,
    named,
)
from artist_bio_gen.sources.workbook.rows import WIDEST, Block, SheetRows
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Json

Merges: TypeAlias = Sequence[tuple[tuple[int, int], tuple[int, int]]]
"""First and last cell of each merged range, as (row, column), counted from 0."""

_LOOK = 100  # rows with something in them, among which a header is looked for
_MOST_METADATA = 100
_SHOWN = 500
_EXACT = 2**53  # whole numbers up to this are exact


class SheetStream(RowStream):
    """Rows with a value for each named column, in the order of the sheet; empty ones are passed
    over. A row that has values beside the named columns is a bad one."""

    def __init__(
        self,
        rows: SheetRows,
        *,
        where: str,
        options: SourceOptions,
        rows_expected: int = 0,
        merges: Merges | None = None,
    ) -> None:
        """`merges` are those to be filled: in the header, and with `fill_merged` below it."""
        self.name = where
        self._rows = rows
        self._fill = options.fill_merged
        self._merged = _Merged(merges) if merges else None
        self._metadata: list[Json] | None = [] if options.metadata == "keep" else None
        self._header_row: int | None = None
        self._held: list[Numbered] = []
        self._places: list[int] | None = None  # of the named columns, where others lie between
        self._begin(options)
        if rows_expected:
            above = self._held[0][0] - 1 if self._held else rows_expected
            self.estimated_row_count = max(0, rows_expected - above)

    def facts(self) -> dict[str, Json]:
        facts: dict[str, Json] = {"reader": self._rows.reader}
        if self._header_row is not None:
            facts["header_row"] = self._header_row
        if self._metadata is not None:
            facts["metadata"] = self._metadata
        return facts

    def read(self, size: int) -> Chunk | None:
        while True:
            numbers, rows = self._take(size)
            if not rows:
                return None
            chunk = self._chunk(numbers, rows)
            if len(chunk) or chunk.bad:
                return chunk

    def close(self) -> None:
        self._held = []

    # Where the table begins

    def _begin(self, options: SourceOptions) -> None:
        self._look(options)
        start, height = 0, 0
        if options.header and self._held:
            if options.header_row is None:
                start = find_header(self._held, options.header_rows)
            height = options.header_rows
        elif not options.header:
            start = next((at for at, (_, row) in enumerate(self._held) if not is_blank(row)), 0)
        self._keep(self._held[:start])
        self._held = self._held[start:]
        if height:
            self._take_header(height, options.header_separator)
        else:
            self._number_columns()

    def _look(self, options: SourceOptions) -> None:
        """Holds the first rows, enough to see where the table begins."""
        first = options.header_row if options.header and options.header_row else 1
        filled = 0
        while filled < _LOOK:
            try:
                # No more than these: what is found must not depend on who reads.
                numbers, rows = self._rows.take(_LOOK - filled)
            except InputError:
                if not self._held:
                    raise
                break  # it is raised again behind the rows that are held
            if not rows:
                break
            for number, row in zip(numbers, rows, strict=True):
                if number <= options.skip_rows:
                    continue
                blank = is_blank(row)
                if number < first:
                    if not blank:
                        self._keep([(number, row)])
                elif not blank or self._merged is not None:
                    self._held.append((number, row))
                filled += not blank and number >= first
        if first > 1 and (not self._held or self._held[0][0] != first):
            raise InputError(
                f"{self.name} row {first} is empty; give the row of its header with --header-row"
            )

    def _keep(self, rows: list[Numbered]) -> None:
        """What stands above the table."""
        for number, row in rows:
            if self._metadata is None or len(self._metadata) >= _MOST_METADATA:
                return
            cells = [json_cell(cell) for cell in row[:WIDEST] if cell not in (None, "")]
            if cells:
                self._metadata.append({"row": number, "cells": cells})

    def _take_header(self, height: int, separator: str) -> None:
        self._header_row = number = self._held[0][0]
        rows = []
        while self._held and self._held[0][0] < number + height:
            at, row = self._held.pop(0)
            if self._merged is not None:
                self._merged.fill(at, row)
            rows.append(row)
        texts = join_header(rows, separator) if height > 1 else [*map(header_text, rows[0])]
        while texts and not texts[-1]:
            texts.pop()
        # A column without a name is one if there is something in it.
        places = [at for at, text in enumerate(texts) if text or self._is_used(at)]
        called = named([texts[at] or str(at + 1) for at in places], f"{self.name} row {number}")
        self.columns = tuple(Column(name, "cell") for name in called)
        self._width = len(texts)
        if len(places) < len(texts):
            self._places = places
        self._names = names(self.columns)

    def _number_columns(self) -> None:
        width = max((_used(row) for _, row in self._held), default=0)
        self.columns = tuple(Column(str(at), "cell") for at in range(1, width + 1))
        self._width = width
        self._names = names(self.columns)

    def _is_used(self, at: int) -> bool:
        return any(at < len(row) and row[at] not in (None, "") for _, row in self._held)

    # Rows

    def _take(self, size: int) -> Block:
        if self._held:
            held, self._held = self._held[:size], self._held[size:]
            numbers: Sequence[int] = [number for number, _ in held]
            rows = [row for _, row in held]
        else:
            numbers, rows = self._rows.take(size)
        if self._merged is not None and self._fill:
            for number, row in zip(numbers, rows, strict=True):
                self._merged.fill(number, row)
        return numbers, rows

    def _chunk(self, numbers: Sequence[int], rows: list[list[Any]]) -> Chunk:
        bad: list[BadRow] = []
        if self._places is not None or {*map(len, rows)} != {self._width}:
            numbers, rows = self._fitted(numbers, rows, bad)
        _mend_numbers(rows)
        values = [_without_blanks(row) if "" in row else row for row in rows]
        if [] in values:  # an empty row
            numbers = [number for number, row in zip(numbers, values, strict=True) if row]
            values = [*filter(None, values)]
        return Chunk(self._names, numbers, values, bad=bad)

    def _fitted(
        self, numbers: Sequence[int], rows: list[list[Any]], bad: list[BadRow]
    ) -> tuple[list[int], list[list[Any]]]:
        """The rows with a cell for each named column; the others are put to the bad ones."""
        width, places = self._width, self._places
        between = [] if places is None else sorted({*range(width)}.difference(places))
        kept: list[int] = []
        fitted = []
        for number, row in zip(numbers, rows, strict=True):
            beside = row[width:]
            if between:
                beside += [row[at] for at in between[: bisect_left(between, len(row))]]
            if beside.count("") != len(beside):
                bad.append(_beside(number, row, [*between, *range(width, len(row))]))
                continue
            kept.append(number)
            if places is not None:
                fitted.append([row[at] if at < len(row) else "" for at in places])
            elif len(row) != width:
                fitted.append(row[:width] + [""] * (width - len(row)))
            else:
                fitted.append(row)
        return kept, fitted


class _Merged:
    """Merged ranges that are filled from their first cell, row by row as they come."""

    def __init__(self, merges: Merges) -> None:
        self._coming = sorted(merges, reverse=True)
        self._open: list[tuple[int, int, int, Any]] = []  # last row, columns, value

    def fill(self, number: int, row: list[Any]) -> None:
        at = number - 1
        while self._coming and self._coming[-1][0][0] <= at:
            (first, left), (last, right) = self._coming.pop()
            if first == at and left < len(row) and row[left] != "":
                self._open.append((last, left, min(right, WIDEST), row[left]))
        if not self._open:
            return
        self._open = [each for each in self._open if each[0] >= at]
        for _, left, right, value in self._open:
            if len(row) <= right:
                row.extend([""] * (right + 1 - len(row)))
            for column in range(left, right + 1):
                if row[column] == "":
                    row[column] = value


def _mend_numbers(rows: list[list[Any]]) -> None:
    """Whole numbers as such: a sheet knows one kind of number, and some writers put 7 as 7.0."""
    for at, column in enumerate(zip(*rows, strict=True)):
        if float in {*map(type, column)}:
            for row in rows:
                cell = row[at]
                if type(cell) is float:
                    row[at] = _number(cell)


def _number(cell: float) -> Json:
    if -_EXACT <= cell <= _EXACT:
        return int(cell) if cell.is_integer() else cell
    return json_cell(cell)


def _without_blanks(row: list[Any]) -> list[Any]:
    """None where there is nothing; no cells at all when there is nothing in any of them."""
    cells = [None if cell == "" else cell for cell in row]
    return cells if cells.count(None) < len(cells) else []


def _used(row: list[Any]) -> int:
    return next((at + 1 for at in range(len(row) - 1, -1, -1) if row[at] not in (None, "")), 0)


def _beside(number: int, row: list[Any], places: Sequence[int]) -> BadRow:
    at = next(each for each in places if row[each : each + 1] not in ([], [""]))
    shown = "\t".join(str(json_cell(cell)) for cell in row[: at + 1])
    return BadRow(
        number,
        f"there is a value in column {column_letters(at + 1)}, which has no header; name the"
        " column, or take the value away",
        shown[:_SHOWN],
    )
