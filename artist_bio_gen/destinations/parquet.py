"""Parquet: a column holds texts, truth values, whole or floating numbers where all of its cells
are of that kind, else JSON.

What kind that is may change, and columns may turn up, when rows have been written already. Then a
further part is begun in a file of its own; at the end the parts are made into one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artist_bio_gen.destinations.destination import Destination, Draft, json_text, unwritable
from artist_bio_gen.errors import ConfigError
from artist_bio_gen.stream import Chunk, names
from artist_bio_gen.values import Column, Json

GROUP_ROWS = 64 * 1024
GROUP_BYTES = 16 * 1024 * 1024
"""A group of rows is written, and let go of, when either is reached."""

_Kind: TypeAlias = Literal["none", "text", "bool", "int", "float", "json"]
"""Of a column's cells so far; `none`: all of them are missing."""

_KINDS: dict[type, _Kind] = {str: "text", bool: "bool", int: "int", float: "float"}
_INT64 = range(-(2**63), 2**63)


class ParquetDestination(Destination):
    def __init__(
        self, path: Path, columns: Sequence[Column], *, group_rows: int = GROUP_ROWS
    ) -> None:
        self._columns = names(columns)
        self._kinds = _unknown(len(self._columns))
        self._group_rows = group_rows
        super().__init__(path)

    def _begin(self) -> None:
        self._parts: list[_Part] = []
        self._parts.append(self._part())

    def abort(self) -> None:
        for part in self._parts:
            part.abandon()
        super().abort()

    def _add(self, chunk: Chunk) -> None:
        rows = chunk.values()
        cells = [*zip(*rows, strict=True)]
        before = self._kinds + _unknown(len(chunk.columns) - len(self._kinds))
        kinds = tuple(map(_wider, before, map(_kind, cells)))
        try:
            arrays = [*map(_array, cells, kinds)]
        except (ValueError, TypeError) as exc:
            raise unwritable(self.path, chunk, _tried, exc) from exc
        if (chunk.columns, kinds) != (self._columns, self._kinds):
            self._columns, self._kinds = chunk.columns, kinds
            self._next_part()
        self._parts[-1].add(arrays)

    def _finish(self) -> None:
        self._parts[-1].end()
        whole = self._parts[0] if len(self._parts) == 1 else self._joined()
        whole.draft.put_in_place()

    def _next_part(self) -> None:
        if self._parts[-1].rows:
            self._parts[-1].end()
        else:
            self._parts[-1].abandon()
            self._parts.pop().draft.remove()
        self._parts.append(self._part())

    def _part(self) -> _Part:
        return _Part(self._draft(), self._columns, self._kinds, self._group_rows)

    def _joined(self) -> _Part:
        """The rows of all parts, with all columns and of the kinds that these have come to."""
        whole = self._part()
        for part in self._parts:
            for batch in part.batches():
                have = dict(
                    zip(part.columns, zip(batch.columns, part.kinds, strict=True), strict=True)
                )
                whole.add(
                    [
                        _converted(*have[name], kind)
                        if name in have
                        else _missing(batch.num_rows, kind)
                        for name, kind in zip(self._columns, self._kinds, strict=True)
                    ]
                )
            part.draft.remove()
        whole.end()
        return whole


class _Part:
    """A file of rows of which each column is of one kind."""

    def __init__(
        self, draft: Draft, columns: tuple[str, ...], kinds: tuple[_Kind, ...], group_rows: int
    ) -> None:
        pa = _arrow()
        self.draft = draft
        self.columns = columns
        self.kinds = kinds
        self.rows = 0
        self._group_rows = group_rows
        fields = [(name, _type(kind)) for name, kind in zip(columns, kinds, strict=True)]
        self._schema = pa.schema(fields)
        self._writer = pa.parquet.ParquetWriter(draft.file, self._schema, compression="zstd")
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def add(self, arrays: Sequence[Any]) -> None:
        batch = _arrow().RecordBatch.from_arrays(list(arrays), schema=self._schema)
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= self._group_rows or self._waiting_bytes >= GROUP_BYTES:
            self._write()

    def end(self) -> None:
        if self._waiting:
            self._write()
        self._writer.close()

    def abandon(self) -> None:
        """Else it would write its end when it is collected."""
        self._writer.is_open = False

    def batches(self) -> Iterator[Any]:
        self.draft.file.flush()
        with _arrow().parquet.ParquetFile(self.draft.path) as file:
            yield from file.iter_batches()

    def _write(self) -> None:
        table = _arrow().Table.from_batches(self._waiting)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        self._writer.write_table(table, row_group_size=table.num_rows)


def _unknown(columns: int) -> tuple[_Kind, ...]:
    return tuple(repeat("none", columns))


def _kind(cells: Sequence[Json]) -> _Kind:
    types = set(map(type, cells)) - {type(None)}
    if not types:
        return "none"
    found = _KINDS.get(types.pop(), "json")
    if types:
        return "json"
    if found == "int" and not all(cell is None or cell in _INT64 for cell in cells):
        return "json"
    return found


def _wider(one: _Kind, other: _Kind) -> _Kind:
    """What holds the cells of both. Whole and floating numbers would be told apart no more."""
    if one == other or other == "none":
        return one
    return other if one == "none" else "json"


def _type(kind: _Kind) -> Any:
    pa = _arrow()
    match kind:
        case "bool":
            return pa.bool_()
        case "int":
            return pa.int64()
        case "float":
            return pa.float64()
        case "json":
            return pa.json_()
    return pa.string()


def _array(cells: Sequence[Json], kind: _Kind) -> Any:
    """ValueError or TypeError for a cell that cannot be written."""
    pa = _arrow()
    if kind != "json":
        return pa.array(cells, _type(kind))
    texts = [None if cell is None else json_text(cell) for cell in cells]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _tried(cell: Json) -> object:
    return _array([cell], _kind([cell]))


def _converted(array: Any, kind: _Kind, wanted: _Kind) -> Any:
    if kind == wanted:
        return array
    if kind == "none":
        return _missing(len(array), wanted)
    return _array(array.to_pylist(), wanted)


def _missing(rows: int, kind: _Kind) -> Any:
    return _array([None] * rows, kind)


@cache
def _arrow() -> Any:
    try:
        pa = import_module("pyarrow")
        import_module("pyarrow.parquet")
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "Parquet needs the package pyarrow, which is not installed; pip install"
            " 'artist-bio-gen[arrow]'"
        ) from exc
    pa.set_memory_pool(pa.system_memory_pool())  # it gives back what is freed
    return pa
