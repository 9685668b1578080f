"""Arrow's batches as chunks of rows. pyarrow is imported when the first one is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Any, TypeAlias

import orjson

from artist_bio_gen.errors import InputError
from artist_bio_gen.extras import require
from artist_bio_gen.sources.cells import binary_text, json_cell, span_text
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import BadRow, Column, Json

Batch: TypeAlias = Any
"""pyarrow.RecordBatch"""


@cache
def arrow(what: str = "Arrow") -> ModuleType:
    """pyarrow with the system's allocator, which gives back what is freed."""
    pa = require("pyarrow", extra="arrow", what=what)
    require("pyarrow.compute", extra="arrow", what=what)
    pa.set_memory_pool(pa.system_memory_pool())
    return pa


def damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises where a file is damaged or cannot be read. Its MemoryError is of these,
    as a damaged length asks for too much."""
    return (arrow().ArrowException, OSError, UnicodeDecodeError)


class ArrowChunk(Chunk):
    """Rows of an Arrow batch, which is kept: whoever takes batches pays for no rows."""

    __slots__ = ("batch",)

    def __init__(
        self,
        columns: tuple[str, ...],
        numbers: Sequence[int],
        batch: Batch,
        *,
        bad: Sequence[BadRow] = (),
        file: str = "",
    ) -> None:
        super().__init__(columns, numbers, bad=bad, file=file)
        self.batch = batch

    def values(self) -> Sequence[Sequence[Json]]:
        if self._values is None:
            cells = map(cells_of, self.batch.columns)
            self._values = list(zip(*cells, strict=True)) if self.columns else [()] * len(self)
        return self._values

    def _part(self, start: int, stop: int, bad: Sequence[BadRow]) -> ArrowChunk:
        return ArrowChunk(
            self.columns,
            self.numbers[start:stop],
            self.batch.slice(start, stop - start),
            bad=bad,
            file=self.file,
        )


def columns_of(schema: Any, name: str) -> tuple[Column, ...]:
    """The columns of an Arrow schema; `name` is that of the source, for messages."""
    twice = [column for column, times in Counter(schema.names).items() if times > 1]
    if twice:
        raise InputError(
            f"{name}: more than one column is called {', '.join(map(repr, twice))}; rename them"
        )
    return tuple(Column(field.name, _told(field.type), field.nullable) for field in schema)


def _told(kind: Any) -> str:
    return "json" if _is_json(kind) else str(kind)


def _is_json(kind: Any) -> bool:
    """Arrow's extension type for JSON, which is also Parquet's."""
    return getattr(kind, "extension_name", "") == "arrow.json"


# Cells


def cells_of(array: Any) -> list[Json]:
    """The cells of one column (pyarrow.Array), text and numbers at the speed of C."""
    if _is_plain(array):
        return _plain(array)
    pa = arrow()
    types, kind = pa.types, array.type
    if _is_json(kind):
        return [text if text is None else _loaded(text) for text in array.storage.to_pylist()]
    if isinstance(kind, pa.BaseExtensionType):
        return list(map(json_cell, array.to_pylist()))
    if types.is_floating(kind):
        return list(map(json_cell, array.to_pylist()))
    if types.is_dictionary(kind):
        return _from_dictionary(array)
    if types.is_struct(kind):
        return _structs(array)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(pa, array)
    return _rarer(pa, array)


def _loaded(text: str) -> Json:
    """A cell of a column of JSON; one that is none stays text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _is_plain(array: Any) -> bool:
    """Whether what Arrow itself gives for each value is a cell as it stands."""
    pa = arrow()
    types, kind = pa.types, array.type
    if types.is_floating(kind):
        return pa.compute.all(pa.compute.is_finite(array)).as_py() is not False
    return bool(
        types.is_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
    )


def _plain(array: Any) -> list[Json]:
    cells: list[Json] = array.to_pylist()
    return cells


def _rarer(pa: ModuleType, array: Any) -> list[Json]:
    types, kind = pa.types, array.type
    if types.is_temporal(kind) and not types.is_interval(kind):
        if types.is_duration(kind):
            return _spans(pa, array)
        return _iso(pa, array)
    if _is_binary(types, kind):
        return [None if cell is None else binary_text(cell) for cell in array.to_pylist()]
    if types.is_map(kind):
        cells = array.to_pylist(maps_as_pydicts="lossy")
        return list(map(json_cell, cells))
    return list(map(json_cell, array.to_pylist()))


def _is_binary(types: Any, kind: Any) -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _from_dictionary(array: Any) -> list[Json]:
    """Each distinct cell is made once."""
    words = cells_of(array.dictionary)
    return [None if at is None else words[at] for at in array.indices.to_pylist()]


def _structs(array: Any) -> list[Json]:
    names = [field.name for field in array.type]
    parts = zip(*map(cells_of, array.flatten()), strict=True) if names else iter(())
    valid = array.is_valid().to_pylist()
    if not names:
        return [{} if each else None for each in valid]
    return [
        dict(zip(names, cells, strict=True)) if each else None
        for each, cells in zip(valid, parts, strict=True)
    ]


def _lists(pa: ModuleType, array: Any) -> list[Json]:
    lengths = pa.compute.list_value_length(array).to_pylist()
    flat = iter(cells_of(pa.compute.list_flatten(array)))  # without what nulls may cover
    valid = array.is_valid().to_pylist()
    return [
        list(islice(flat, length)) if each else None
        for each, length in zip(valid, lengths, strict=True)
    ]


def _spans(pa: ModuleType, array: Any) -> list[Json]:
    whole = {"s": 1_000_000, "ms": 1_000, "us": 1}
    unit = array.type.unit
    counts = array.cast(pa.int64()).to_pylist()
    if unit in whole:
        return [None if each is None else span_text(each * whole[unit]) for each in counts]
    return [None if each is None else span_text(each // 1_000) for each in counts]


def _iso(pa: ModuleType, array: Any) -> list[Json]:
    """Dates, times and instants as ISO 8601 text, instants in UTC. Fractions of a second have six
    digits, or nine where microseconds do not do."""
    pc, kind = pa.compute, array.type
    zone = ""
    if pa.types.is_timestamp(kind):
        zone = "+00:00" if kind.tz is not None else ""
        array = array.cast(pa.timestamp(kind.unit))
        if kind.unit != "us":
            array = _in_microseconds(pa, array, pa.timestamp("us"))
    elif pa.types.is_time(kind) and kind.unit != "us":
        array = _in_microseconds(pa, array, pa.time64("us"))
    elif pa.types.is_date64(kind):
        array = array.cast(pa.date32())
    text = array.cast(pa.string())
    text = pc.replace_substring(text, " ", "T", max_replacements=1)
    text = pc.replace_substring_regex(text, r"\.0+$", "")
    if zone:
        text = pc.binary_join_element_wise(text, zone, "")
    return _plain(text)


def _in_microseconds(pa: ModuleType, array: Any, kind: Any) -> Any:
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:  # finer, or too far from 1970
        return array
