"""Rows as they are wanted: some of their columns, white space off, empty ones left out, an id of
several parts as several rows. Each step is a function of a chunk, there only when it is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import compress
from operator import itemgetter
from typing import Any, TypeAlias

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.key_columns import find_id, find_name, listed
from artist_bio_gen.stream import Chunk, RowStream, is_empty, names
from artist_bio_gen.values import Column, Json

Step: TypeAlias = Callable[[Chunk], Chunk]


def shaped(stream: RowStream, options: SourceOptions, last: Step | None = None) -> RowStream:
    """The stream as these options want it; the very same one where they want nothing. `last` is a
    plug-in's step. Raises UsageError for columns that are not there."""
    steps: list[Step] = []
    named: dict[str, Sequence[str]] = {}
    if options.strip:
        steps.append(stripped)
    if options.skip_empty:
        steps.append(WithoutEmpty(_keys(stream, options)))
        named["--key-columns"] = options.key_columns or ()
    if options.split_id is not None:
        steps.append(SplitIds(find_id(names(stream.columns), options.id_column), options.split_id))
    if options.columns is not None:
        _require(stream, options.columns, "--columns")
        steps.append(Columns(options.columns))
        named["--columns"] = options.columns
    if last is not None:
        steps.append(last)
    if not steps and options.max_rows is None:
        return stream
    return Shaped(
        stream,
        steps,
        most=options.max_rows,
        columns=options.columns,
        named=named,
        plugged_in=last is not None,
    )


class Shaped(RowStream):
    """A stream whose chunks go through these steps, after its first `most` rows are taken.

    InputError at its end, after the last row, when a column that is named was in none of them."""

    def __init__(
        self,
        stream: RowStream,
        steps: Sequence[Step],
        *,
        most: int | None = None,
        columns: Sequence[str] | None = None,
        named: Mapping[str, Sequence[str]] | None = None,
        plugged_in: bool = False,
    ) -> None:
        """`columns` are those that the steps leave, None for all; one that is `plugged_in` may
        change them, which shows with the first chunk. `named` are columns of the stream, by the
        option that names them."""
        self.name = stream.name
        self.can_wait = stream.can_wait
        self.grows = (stream.grows and columns is None) or plugged_in
        self._stream = stream
        self._steps = steps
        self._left = most
        self._kept = columns
        self._named = named or {}
        self._plugged_in = plugged_in
        self._raw: deque[Chunk] = deque()  # read, and not yet shaped
        self._seen: tuple[Column, ...] = ()
        self._take_columns()
        counts = (stream.estimated_row_count, most)
        self.estimated_row_count = min((each for each in counts if each is not None), default=None)

    def facts(self) -> dict[str, Json]:
        facts = self._stream.facts()
        there = names(self._stream.columns)
        missing = [
            f"{flag} {', '.join(lacking)}: no such column has turned up yet"
            f"{_nearest(lacking, there)}"
            for flag, lacking in self._missing()
        ]
        return {**facts, "columns_missing": "; ".join(missing)} if missing else facts

    def passed_over(self, rows: int) -> None:
        """So many rows of the stream were taken by somebody else."""
        if self._left is not None:
            self._left = max(0, self._left - rows)

    def read(self, size: int) -> Chunk | None:
        if not self._raw:
            chunk = self._next(size)
            if chunk is None:
                return None
            self._raw.append(chunk)
        while len(self._raw[0]) > max(size, 1):  # after a MemoryError
            self._raw.extendleft(reversed(self._raw.popleft().halves()))
        chunk = self._raw[0]
        for step in self._steps:
            chunk = step(chunk)
        self._raw.popleft()
        if self._stream.columns is not self._seen:
            self._take_columns()
        if self._plugged_in:
            self.columns = columns_after(chunk, self.columns)
        return chunk

    def close(self) -> None:
        self._raw.clear()
        self._stream.close()

    def _next(self, size: int) -> Chunk | None:
        if self._left == 0:  # what stands behind may have more columns
            return None
        chunk = self._stream.read(size if self._left is None else min(size, self._left))
        if chunk is None:
            for flag, missing in self._missing():
                raise InputError(f"{self.name}: {_no_such(missing, self._stream, flag)}")
            return None
        if self._left is None:
            return chunk
        chunk = beginning(chunk, self._left)
        self._left -= len(chunk) + len(chunk.bad)
        return chunk

    def _missing(self) -> Iterator[tuple[str, list[str]]]:
        """Options with the columns of theirs that no row has had so far. None is missing where
        nothing is known of any column, as in a file without a row."""
        there = names(self._stream.columns)
        for flag, wanted in self._named.items():
            missing = [name for name in wanted if name not in there]
            if missing and there:
                yield flag, missing

    def _take_columns(self) -> None:
        self._seen = self._stream.columns
        if self._kept is None:
            self.columns = self._seen
        else:
            by_name = {column.name: column for column in self._seen}
            self.columns = tuple(by_name.get(name, Column(name)) for name in self._kept)


def beginning(chunk: Chunk, rows: int) -> Chunk:
    """The first rows of a chunk, sound and bad ones counted."""
    if len(chunk) + len(chunk.bad) <= rows:
        return chunk
    order = sorted(
        [*((number, 0) for number in chunk.numbers), *((bad.number, 1) for bad in chunk.bad)],
        key=itemgetter(0),
    )
    bad = sum(kind for _, kind in order[:rows])
    return part(chunk, rows - bad, bad)


def part(chunk: Chunk, sound: int, bad: int) -> Chunk:
    """The first sound rows and the first bad ones."""
    kept = slice(sound)
    return _with_rows(chunk, chunk.numbers[kept], kept, bad=chunk.bad[:bad])


def _with_rows(chunk: Chunk, numbers: Sequence[int], kept: slice, *, bad: Any) -> Chunk:
    if chunk.has_dicts:
        dicts = chunk.dicts()[kept]
        return Chunk(chunk.columns, numbers, dicts=dicts, bad=bad, file=chunk.file)
    return Chunk(chunk.columns, numbers, chunk.values()[kept], bad=bad, file=chunk.file)


# ---- the steps ---------------------------------------------------------------------------------


def stripped(chunk: Chunk) -> Chunk:
    if chunk.has_dicts:
        dicts = [
            {name: cell.strip() if type(cell) is str else cell for name, cell in row.items()}
            for row in chunk.dicts()
        ]
        return Chunk(chunk.columns, chunk.numbers, dicts=dicts, bad=chunk.bad, file=chunk.file)
    values = chunk.values()
    try:
        found: list[Sequence[Json]] = [[*map(str.strip, row)] for row in values]
    except TypeError:  # not all of them are text
        found = [[cell.strip() if type(cell) is str else cell for cell in row] for row in values]
    return Chunk(chunk.columns, chunk.numbers, found, bad=chunk.bad, file=chunk.file)


class WithoutEmpty:
    """Leaves out rows of which all these columns are empty; () are all columns there are."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def __call__(self, chunk: Chunk) -> Chunk:
        wanted = self._columns or chunk.columns
        if chunk.has_dicts:
            kept = [not all(is_empty(row.get(name)) for name in wanted) for row in chunk.dicts()]
        else:
            places = [chunk.columns.index(name) for name in wanted if name in chunk.columns]
            kept = [not all(is_empty(row[at]) for at in places) for row in chunk.values()]
        if all(kept):
            return chunk
        numbers = [*compress(chunk.numbers, kept)]
        if chunk.has_dicts:
            dicts = [*compress(chunk.dicts(), kept)]
            return Chunk(chunk.columns, numbers, dicts=dicts, bad=chunk.bad, file=chunk.file)
        values = [*compress(chunk.values(), kept)]
        return Chunk(chunk.columns, numbers, values, bad=chunk.bad, file=chunk.file)


class SplitIds:
    """A row whose id has several parts becomes one row for each, all with its number; a part that
    stands in it twice counts once. Ids that are no text are whole."""

    def __init__(self, column: str, separator: str) -> None:
        self._column = column
        self._separator = separator

    def __call__(self, chunk: Chunk) -> Chunk:
        numbers: list[int] = []
        if chunk.has_dicts:
            dicts: list[dict[str, Json]] = []
            for number, row in zip(chunk.numbers, chunk.dicts(), strict=True):
                for artist_id in self._parts(row.get(self._column)):
                    numbers.append(number)
                    dicts.append({**row, self._column: artist_id})
            return Chunk(chunk.columns, numbers, dicts=dicts, bad=chunk.bad, file=chunk.file)
        at = chunk.columns.index(self._column)
        values: list[Sequence[Json]] = []
        for number, cells in zip(chunk.numbers, chunk.values(), strict=True):
            for artist_id in self._parts(cells[at]):
                numbers.append(number)
                values.append([*cells[:at], artist_id, *cells[at + 1 :]])
        return Chunk(chunk.columns, numbers, values, bad=chunk.bad, file=chunk.file)

    def _parts(self, cell: Json) -> Sequence[Json]:
        if not isinstance(cell, str) or self._separator not in cell:
            return (cell,)
        parts = dict.fromkeys(part.strip() for part in cell.split(self._separator))
        return [part for part in parts if part] or (cell,)


class Columns:
    """These columns alone, in this order."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._of: tuple[str, ...] = ()
        self._pick: Callable[[Sequence[Json]], Sequence[Json]] = tuple

    def __call__(self, chunk: Chunk) -> Chunk:
        columns = self._columns
        if chunk.has_dicts:
            dicts = [{name: row[name] for name in columns if name in row} for row in chunk.dicts()]
            return Chunk(columns, chunk.numbers, dicts=dicts, bad=chunk.bad, file=chunk.file)
        if chunk.columns != self._of:
            self._of = chunk.columns
            self._pick = _picked([*map(self._position, columns)])
        values = [*map(self._pick, chunk.values())]
        return Chunk(columns, chunk.numbers, values, bad=chunk.bad, file=chunk.file)

    def _position(self, name: str) -> int | None:
        return self._of.index(name) if name in self._of else None


def _picked(places: Sequence[int | None]) -> Callable[[Sequence[Json]], Sequence[Json]]:
    known = [place for place in places if place is not None]
    if len(known) == len(places) > 1:
        return itemgetter(*known)
    return lambda row: [None if place is None else row[place] for place in places]


def columns_after(chunk: Chunk, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a stream whose chunks a plug-in has had, which may add and take away some."""
    if chunk.columns == names(columns):
        return columns
    known = {column.name: column for column in columns}
    return tuple(known.get(name) or Column(name) for name in chunk.columns)


# ---- which columns -----------------------------------------------------------------------------


def _keys(stream: RowStream, options: SourceOptions) -> tuple[str, ...]:
    """The columns that tell whether a row is empty; () for all."""
    if options.key_columns is not None:
        _require(stream, options.key_columns, "--key-columns")
        return options.key_columns
    there = names(stream.columns)
    try:
        return find_id(there, options.id_column), find_name(there, options.name_column)
    except UsageError:
        if options.id_column is not None or options.name_column is not None:
            raise
        return ()


def _require(stream: RowStream, wanted: Sequence[str], flag: str) -> None:
    """Columns that are not there may still turn up, where rows bring their own."""
    there = names(stream.columns)
    missing = [name for name in wanted if name not in there]
    if missing and not stream.grows:
        raise UsageError(_no_such(missing, stream, flag))


def _no_such(missing: Sequence[str], stream: RowStream, flag: str) -> str:
    there = names(stream.columns)
    return (
        f"{flag} {', '.join(missing)}: there is no such column{_nearest(missing, there)}; there are"
        f" {listed(there)}"
    )


def _nearest(missing: Sequence[str], there: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in there}
    near = [get_close_matches(name.casefold(), folded, n=1) for name in missing]
    meant = dict.fromkeys(folded[match] for matches in near for match in matches)
    return f" (did you mean {' and '.join(map(repr, meant))}?)" if meant else ""
