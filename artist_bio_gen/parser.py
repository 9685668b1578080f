"""Rows → artists: which columns hold what, and which rows are no artists.

Whatever passes can be written as JSON and stored in Postgres: a row with NUL, half a character
or a number that JSON does not have in one of its cells is rejected, not mended, since mending
an id or a name could make two artists one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256 as _sha256
from operator import itemgetter

import orjson

from artist_bio_gen.key_columns import find_id, find_name, require_column
from artist_bio_gen.stream import is_empty
from artist_bio_gen.values import Artist, BadRow, Column, Json, Rejected, Row, is_sound

MAX_ID_BYTES = 2_000
"""Longest id in UTF-8: an index of Postgres takes entries of up to 2,704 bytes."""

_JSON_INTEGERS = range(-(2**63), 2**64)  # as orjson writes them
_MAX_DEPTH = 100  # of lists and mappings in a cell
_SHOWN = 500  # characters of a rejected row that are kept
_MOST_PATTERNS = 1000  # ways in which a row's cells may be empty, for which a pattern is kept


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """Where in a row the artist stands: positions, counted from 0. `data` are the positions
    of the cells that become the artist's data; with `takes_all`, so do those of columns that turn
    up later."""

    columns: tuple[Column, ...]
    id: int
    name: int
    data: tuple[int, ...]
    takes_all: bool = False

    def called(self, at: int) -> str:
        return f"column {self.columns[at].name!r}"

    def grown(self, columns: Sequence[Column]) -> ColumnChoice:
        """The same choice among these, which are the columns and others behind them."""
        new = range(len(self.columns), len(columns)) if self.takes_all else ()
        return replace(self, columns=tuple(columns), data=(*self.data, *new))


def choose_columns(
    columns: Sequence[Column],
    id_column: str | None = None,
    name_column: str | None = None,
    data_columns: Sequence[str] | None = None,
    left_out: Sequence[str] = (),
) -> ColumnChoice:
    """Find the columns that are named, guess those that are not (None).

    A guess is made only where there is one candidate: of a file with `id` and `artist_id`
    either may be the artist's, and a wrong guess costs a bio for each row. Columns of a source
    without a header ("1", "2", …) are taken in their order. All columns that are neither id
    nor name become data, but for those `left_out`, unless `data_columns` says which. Raises
    `UsageError`.
    """
    names = [column.name for column in columns]
    id_at = names.index(find_id(names, id_column, but=name_column))
    name_at = names.index(find_name(names, name_column, but=id_column))
    if data_columns is None:
        data = [
            at
            for at, name in enumerate(names)
            if at not in (id_at, name_at) and name not in left_out
        ]
    else:
        data = [
            names.index(require_column(names, name, "--data-columns"))
            for name in dict.fromkeys(data_columns)
        ]
    return ColumnChoice(tuple(columns), id_at, name_at, tuple(data), data_columns is None)


def parse(
    rows: Iterable[Row | BadRow],
    choice: ColumnChoice,
    canonical_id: Callable[[str], str] = str,
    columns: Callable[[], Sequence[Column]] = tuple,
) -> Iterator[Artist | Rejected]:
    """One artist, or the reason why there is none, for each row, in their order. `columns` are
    asked for when a row has more cells than were chosen from.

    White space around id and name is taken off; other cells stay as they are, and empty ones
    are left out. `canonical_id` brings an id into the form of the table's id column and raises
    `ValueError(reason)` for one that does not fit.
    """
    id_at, name_at = choice.id, choice.name
    data_cells: list[tuple[int, str]] = []
    width = 0
    for row in rows:
        if isinstance(row, BadRow):
            yield Rejected(row.number, row.reason, row.text, row.file, unread=True)
            continue
        values = row.values
        if len(values) != width:
            width = len(values)
            if width > len(choice.columns) and len(now := columns()[:width]) > len(choice.columns):
                choice = choice.grown(now)
            data_cells = [(at, choice.columns[at].name) for at in choice.data if at < width]
        if not _all_sound_text(values):
            reason = _first_flaw(values, choice)
            if reason:
                yield Rejected(row.number, reason, _shown(values), row.file)
                continue
        artist_id = _text(values[id_at])
        name = _text(values[name_at])
        if not artist_id:
            reason = f"{choice.called(id_at)} is empty; give the artist an id"
        elif not name:
            reason = f"{choice.called(name_at)} is empty; give the artist a name"
        elif len(artist_id.encode()) > MAX_ID_BYTES:
            reason = f"{choice.called(id_at)} is longer than {MAX_ID_BYTES:,} bytes"
        else:
            try:
                artist_id = canonical_id(artist_id)
            except ValueError as exc:
                reason = f"{choice.called(id_at)}: {exc}"
            else:
                data = {key: cell for at, key in data_cells if not is_empty(cell := values[at])}
                yield Artist(row.number, artist_id, name, data)
                continue
        # What is wrong with one row is often wrong with the choice of the column.
        reason += "; if the column is the wrong one, choose with --id-column and --name-column"
        yield Rejected(row.number, reason, _shown(values), row.file)


class Fingerprints:
    """`Artist.input_sha256` of rows of text, without making an artist of each: for a look at
    millions of which nearly all are finished."""

    def __init__(self, choice: ColumnChoice) -> None:
        data = sorted((choice.columns[at].name, at) for at in choice.data)
        self._keys = [orjson.dumps(key).decode().replace("%", "%%") for key, _ in data]
        # Of one place, `itemgetter` gives no tuple.
        places = [choice.name, *(at for _, at in data)]
        self._known: Callable[[list[str]], tuple[str, ...]] = (
            itemgetter(*places) if data else lambda row: (row[choice.name],)
        )
        self._patterns: dict[tuple[bool, ...], str] = {}
        self._whole = self._pattern((True,) * len(places))

    def of(self, rows: Sequence[list[str]]) -> list[str | None]:
        """One for each row; None for a row that only `parse` can tell."""
        # One look at all cells is much quicker than one at each.
        if _are_plain("\n".join(map("\n".join, rows)), sum(map(len, rows))):
            return [*map(self._fingerprint, map(self._known, rows))]
        return [
            self._fingerprint(self._known(row)) if _are_plain("\n".join(row), len(row)) else None
            for row in rows
        ]

    def _fingerprint(self, values: tuple[str, ...]) -> str | None:
        if "" not in values:
            return _sha256((self._whole % values).encode()).hexdigest()
        if not values[0]:
            return None
        pattern = self._pattern(tuple(map(bool, values)))
        return _sha256((pattern % tuple(filter(None, values))).encode()).hexdigest()

    def _pattern(self, filled: tuple[bool, ...]) -> str:
        """The JSON of name and data, in which these cells are not empty."""
        if (pattern := self._patterns.get(filled)) is None:
            if len(self._patterns) >= _MOST_PATTERNS:
                self._patterns.clear()
            some = zip(self._keys, filled[1:], strict=True)
            data = ",".join(key + ':"%s"' for key, there in some if there)
            pattern = '["%s",{' + data + "}]"
            self._patterns[filled] = pattern
        return pattern


def _are_plain(lines: str, cells: int) -> bool:
    """Cells, each on a line: does JSON write all of them as they are, and does none begin or end
    with white space, or hold a line end?"""
    return (
        '"' not in lines
        and "\\" not in lines
        and "\n " not in lines
        and " \n" not in lines
        and lines[:1] != " "
        and lines[-1:] != " "
        and lines.count("\n") == cells - 1
        # Of white space only the blank passes; of unsound characters none.
        and lines.replace("\n", "").isprintable()
    )


def _text(cell: Json) -> str:
    """The id or name in a cell. A spreadsheet's 7.0 is the id 7."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _all_sound_text(cells: tuple[Json, ...]) -> bool:
    """Quick answer for nearly every row; False means that each cell must be looked at."""
    try:
        text = "".join(cells)
    except TypeError:
        return False
    return is_sound(text)


def _first_flaw(cells: tuple[Json, ...], choice: ColumnChoice) -> str:
    """Why this row cannot become an artist, whatever its id and name; "" if it can."""
    for at in (choice.id, choice.name):
        if isinstance(cells[at], bool | list | tuple | dict):
            kind = type(cells[at]).__name__
            return f"{choice.called(at)} holds a {kind}; ids and names are text or numbers"
    for at in (choice.id, choice.name, *choice.data):
        flaw = _flaw(cells[at]) if at < len(cells) else ""
        if flaw:
            return f"{choice.called(at)} holds {flaw}; take it out or write it anew"
    return ""


def _flaw(cell: Json, depth: int = 0) -> str:
    """What in this cell JSON or Postgres would refuse; "" if nothing."""
    if isinstance(cell, str):
        if is_sound(cell):
            return ""
        return "NUL" if "\x00" in cell else "half a character (a lone surrogate)"
    if cell is None or isinstance(cell, bool):
        return ""
    if isinstance(cell, int):
        return "" if cell in _JSON_INTEGERS else "a number beyond 64 bits"
    if isinstance(cell, float):
        return "" if math.isfinite(cell) else f"the number {cell}"
    if depth == _MAX_DEPTH:
        return f"lists in lists, more than {_MAX_DEPTH} deep"
    if isinstance(cell, dict):
        if not all(isinstance(key, str) for key in cell):
            return "a mapping whose keys are not all text"
        cell = [*cell, *cell.values()]
    if isinstance(cell, list | tuple):
        return next(filter(None, (_flaw(inner, depth + 1) for inner in cell)), "")
    return f"a {type(cell).__name__}, which JSON has not"


def _shown(cells: tuple[Json, ...]) -> str:
    """The row for a person to see; nothing in it is unsound."""
    text = ", ".join(map(_shown_cell, cells))[:_SHOWN]
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _shown_cell(cell: Json) -> str:
    if isinstance(cell, str):
        return cell[:_SHOWN]
    if cell is None:
        return ""
    if isinstance(cell, float) or (isinstance(cell, int) and cell in _JSON_INTEGERS):
        return str(cell)
    return f"({type(cell).__name__})"  # its text may be without end
