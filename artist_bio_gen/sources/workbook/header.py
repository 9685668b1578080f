"""Where the table of a sheet begins, and what its columns are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.cells import json_cell

Numbered: TypeAlias = tuple[int, list[Any]]
"""A row of a sheet: its number, counted from 1, and its cells; "" where there is none."""

_FILLED = 0.6  # of the fullest row's cells


def find_header(rows: Sequence[Numbered], height: int) -> int:
    """Index of the row on which a header of `height` rows begins: the first one with mostly filled
    cells which are mostly text; else the first one that is mostly filled."""
    fullest = max((_filled(row) for _, row in rows), default=0)
    full = None
    for at, (number, row) in enumerate(rows):
        if not _filled(row):
            continue
        header = [cells for each, cells in rows[at : at + height] if each < number + height]
        top = [next(filter(_is_filled, column), "") for column in _columns(header)]
        texts = sum(isinstance(cell, str) and cell != "" for cell in top)
        if _filled(top) >= _FILLED * fullest:
            if texts > _filled(top) / 2:
                return at
            full = at if full is None else full
    return full or 0


def join_header(rows: Sequence[list[Any]], separator: str) -> list[str]:
    """The texts of several header rows, column by column. What stands in two rows on top of each
    other (a merged cell that was filled) is taken once."""
    names = []
    for column in _columns(rows):
        parts: list[str] = []
        for cell in column:
            text = header_text(cell)
            if text and parts[-1:] != [text]:
                parts.append(text)
        names.append(separator.join(parts))
    return names


def header_text(cell: Any) -> str:
    cell = int(cell) if isinstance(cell, float) and cell.is_integer() else json_cell(cell)
    return "" if cell is None else str(cell).strip()


def named(names: Sequence[str], where: str) -> tuple[str, ...]:
    """One without a name is called by its position. InputError when two have the same."""
    called = tuple(name or str(at) for at, name in enumerate(names, 1))
    twice = [name for name, times in Counter(called).items() if times > 1]
    if twice:
        raise InputError(
            f"{where}: more than one column is called {', '.join(map(repr, twice))}; rename them,"
            " or read it with --no-header"
        )
    return called


def is_blank(row: Sequence[Any]) -> bool:
    return not any(map(_is_filled, row))


def _is_filled(cell: Any) -> bool:
    return cell is not None and cell != ""


def _filled(row: Sequence[Any]) -> int:
    return sum(map(_is_filled, row))


def _columns(rows: Sequence[list[Any]]) -> list[list[Any]]:
    width = max(map(len, rows), default=0)
    return [[row[at] if at < len(row) else "" for row in rows] for at in range(width)]
