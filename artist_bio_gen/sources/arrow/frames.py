"""Rows from and to what other libraries hold: Arrow, pandas, plain mappings.

Columns have the type that their source gives them, and are text where it gives none, or all of
them with `typed=False`; a cell of another kind is then the text of it, lists and mappings are JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import orjson

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.sources.arrow.batches import ArrowChunk, Batch, arrow
from artist_bio_gen.sources.arrow.files import BatchStream
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.stream import CHUNK, Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Json

Frame: TypeAlias = Any
"""pandas.DataFrame"""

_WHOLE = frozenset(
    {
        *("int", "integer", "int2", "int4", "int8", "smallint", "bigint", "mediumint", "tinyint"),
        *("int16", "int32", "int64", "serial", "bigserial"),
    }
)
_BROKEN = frozenset({"float", "float4", "float8", "real", "double", "double precision", "float64"})
_TRUTH = frozenset({"bool", "boolean"})


# Out


def to_batches(stream: RowStream, size: int = CHUNK, *, typed: bool = True) -> Iterator[Batch]:
    """Arrow batches (pyarrow.RecordBatch) of at most this many rows. Rows that could not be read
    are left out, as in `RowStream.chunks`. Where columns turn up late, the batches from there on
    have them at the end; `stream.columns` tells."""
    for chunk in stream.chunks(size):
        if len(chunk):
            yield batch_of(chunk, stream.columns, typed=typed)


def to_reader(stream: RowStream, size: int = CHUNK, *, typed: bool = True) -> Any:
    """A pyarrow.RecordBatchReader, which other libraries (DuckDB, Polars, pandas) read from. Its
    schema is what the first rows tell: InputError when a column turns up after them."""
    pa = arrow()
    batches = to_batches(stream, size, typed=typed)
    first = next(batches, None)
    if first is None:
        return pa.RecordBatchReader.from_batches(schema_of(stream.columns, typed=typed), [])
    return pa.RecordBatchReader.from_batches(first.schema, _alike(stream.name, first, batches))


def to_arrow(stream: RowStream, size: int = CHUNK, *, typed: bool = True) -> Any:
    """All rows as a pyarrow.Table, in memory. A column that turned up late is null before."""
    pa = arrow()
    tables = [pa.Table.from_batches([batch]) for batch in to_batches(stream, size, typed=typed)]
    if not tables:
        return schema_of(stream.columns, typed=typed).empty_table()
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def to_frames(stream: RowStream, size: int = CHUNK, *, typed: bool = True) -> Iterator[Frame]:
    """pandas frames of at most this many rows. A column has one type in all of them, and missing
    numbers do not make it another one."""
    pd = require("pandas", extra="pandas", what="A pandas frame")
    done = 0
    for batch in to_batches(stream, size, typed=typed):
        frame = batch.to_pandas(types_mapper=partial(_pandas_type, pd))
        frame.index = pd.RangeIndex(done, done + len(frame))
        done += len(frame)
        yield frame


def to_pandas(stream: RowStream, size: int = CHUNK, *, typed: bool = True) -> Frame:
    """All rows as a pandas frame, in memory."""
    pd = require("pandas", extra="pandas", what="A pandas frame")
    return to_arrow(stream, size, typed=typed).to_pandas(types_mapper=partial(_pandas_type, pd))


def batch_of(chunk: Chunk, columns: tuple[Column, ...], *, typed: bool = True) -> Batch:
    """The sound rows of a chunk as an Arrow batch, with the columns that it knows."""
    if isinstance(chunk, ArrowChunk):
        return chunk.batch
    pa = arrow()
    known = columns[: len(chunk.columns)]
    if names(known) != chunk.columns:
        by_name = {column.name: column for column in columns}
        known = tuple(by_name.get(name, Column(name)) for name in chunk.columns)
    schema = schema_of(known, typed=typed)
    cells = list(zip(*chunk.values(), strict=True)) or [()] * len(known)
    arrays = [_array(field, column, chunk) for field, column in zip(schema, cells, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def schema_of(columns: Sequence[Column], *, typed: bool = True) -> Any:
    """The pyarrow.Schema for columns of any source."""
    pa = arrow()
    kinds = [_arrow_type(pa, column.type) if typed else pa.string() for column in columns]
    return pa.schema([(column.name, kind) for column, kind in zip(columns, kinds, strict=True)])


def _arrow_type(pa: Any, told: str) -> Any:
    word = told.lower().partition("(")[0].strip()
    if word.removesuffix(" unsigned") in _WHOLE:
        return pa.uint64() if "unsigned" in told.lower() else pa.int64()
    if word in _BROKEN:
        return pa.float64()
    if word in _TRUTH:
        return pa.bool_()
    return pa.string()


def _array(field: Any, cells: tuple[Json, ...], chunk: Chunk) -> Any:
    pa = arrow()
    try:
        if pa.types.is_string(field.type):
            if not set(map(type, cells)) <= {str, type(None)}:
                cells = tuple(map(_as_text, cells))
        elif pa.types.is_floating(field.type):
            cells = tuple(float(cell) if isinstance(cell, str) else cell for cell in cells)
        return pa.array(cells, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
        where = f"{chunk.file} " if chunk.file else ""
        rows = f"rows {chunk.numbers[0]:,} to {chunk.numbers[-1]:,}"
        raise InputError(
            f"{where}{rows}: column {field.name!r} holds what does not fit {field.type} ({exc});"
            " take all columns as text, with typed=False"
        ) from exc


def _as_text(cell: Json) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return orjson.dumps(cell).decode()


def _alike(name: str, first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    for batch in rest:
        if batch.schema.names != first.schema.names:
            late = [column for column in batch.schema.names if column not in first.schema.names]
            raise InputError(
                f"{name}: the columns {', '.join(map(repr, late))} turn up after the first rows,"
                " when the schema was told already; take to_batches or to_arrow, or read it with"
                " schema='strict'"
            )
        yield batch


def _pandas_type(pd: Any, kind: Any) -> Any:
    """The pandas type in which missing values are just that; None: pandas' own choice."""
    types = arrow().types
    if types.is_integer(kind):
        sign = "UInt" if types.is_unsigned_integer(kind) else "Int"
        return getattr(pd, f"{sign}{kind.bit_width}Dtype")()
    if types.is_boolean(kind):
        return pd.BooleanDtype()
    if types.is_floating(kind):
        return pd.Float32Dtype() if kind.bit_width <= 32 else pd.Float64Dtype()
    return None


# In


def from_arrow(data: Any, *, name: str = "Arrow data") -> RowStream:
    """Rows of a pyarrow Table, RecordBatch or RecordBatchReader, of several batches in a list or
    generator, or of what any library gives by Arrow's C interface (DuckDB, Polars, ADBC)."""
    pa = arrow()
    if isinstance(data, pa.RecordBatch):
        data = [data]
    elif isinstance(data, pa.Table):
        batches = iter(data.to_batches())
        return BatchStream(name, data.schema, lambda: next(batches, None), rows=data.num_rows)
    elif not isinstance(data, pa.RecordBatchReader) and hasattr(data, "__arrow_c_stream__"):
        data = pa.RecordBatchReader.from_stream(data)
    if isinstance(data, pa.RecordBatchReader):
        reader = data
        return BatchStream(name, reader.schema, lambda: next(reader, None), close=reader.close)
    batches = iter(data)
    first = next(batches, None)
    if first is None:
        raise UsageError(f"{name}: there is no batch, so its columns are not known; give a Table")
    if not isinstance(first, pa.RecordBatch):
        raise UsageError(
            f"from_arrow takes Arrow's tables, readers and batches, not {type(first).__name__}"
        )
    waiting = [first]
    return BatchStream(
        name, first.schema, lambda: waiting.pop() if waiting else next(batches, None)
    )


def from_pandas(frame: Frame, *, name: str = "a pandas frame") -> RowStream:
    """Rows of a pandas frame. A named index is a column; missing values are None."""
    pa = arrow("A pandas frame")
    index = all(level is not None for level in frame.index.names)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique()
        raise InputError(
            f"{name}: more than one column is called {', '.join(map(repr, twice))}; rename them"
        )
    if index:
        frame = frame.reset_index()
    frame = frame.rename(columns=str)
    try:
        return from_arrow(pa.Table.from_pandas(frame, preserve_index=False), name=name)
    except (pa.ArrowException, OverflowError):  # a column of several types
        held = frame.astype(object).where(frame.notna(), None)
        cells = held.itertuples(index=False, name=None)
        rows = (dict(zip(frame.columns, row, strict=True)) for row in cells)
        return RowsStream(rows, name=name, count=len(frame))


class RowsStream(RowStream):
    """Rows of mappings that the program itself makes."""

    grows = True

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], *, name: str, count: int | None = None
    ) -> None:
        self.name = name
        self.columns = ()
        self.estimated_row_count = count
        self._rows: Iterator[object] = iter(rows)
        self._known: set[str] = set()
        self._number = 0
        self._end: Exception | None = None
        self._first = self.read(1)

    def read(self, size: int) -> Chunk | None:
        if self._number and self._first is not None:
            first, self._first = self._first, None
            return first
        numbers: list[int] = []
        rows: list[dict[str, Json]] = []
        bad: list[BadRow] = []
        while len(rows) + len(bad) < size and self._end is None:
            try:
                row = next(self._rows)
            except StopIteration as exc:
                self._end = exc
                break
            except Exception as exc:  # noqa: BLE001 - of whoever makes the rows: raised after them
                self._end = exc
                break
            self._number += 1
            if isinstance(row, Mapping):
                rows.append(self._cells(row))
                numbers.append(self._number)
            else:
                what = f"{type(row).__name__}, where a row is a mapping of columns to values"
                bad.append(BadRow(self._number, what, str(row)[:500]))
        if rows or bad:
            return Chunk(names(self.columns), numbers, dicts=rows, bad=bad)
        self._finish()
        return None

    def close(self) -> None:
        close = getattr(self._rows, "close", None)  # a generator lets go of what it holds
        if close is not None:
            close()

    def _finish(self) -> None:
        if self._end is not None and not isinstance(self._end, StopIteration):
            raise self._end

    def _cells(self, row: Mapping[str, Any]) -> dict[str, Json]:
        cells = {str(key): json_cell(value) for key, value in row.items()}
        if not cells.keys() <= self._known:
            late = [key for key in cells if key not in self._known]
            self._known.update(late)
            self.columns += tuple(Column(key, "json") for key in late)
        return cells


def from_rows(rows: Iterable[Mapping[str, Any]], *, name: str = "rows") -> RowStream:
    """Rows of mappings, each with keys of its own, taken as they are asked for (the first one
    now, for its columns). Values become cells; what is no mapping is a bad row."""
    return RowsStream(rows, name=name)
