"""The files that batches of rows are put into, and how each kind is written and read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from artist_bio_gen.extras import require
from artist_bio_gen.sources.arrow.batches import Batch, arrow

Layout: TypeAlias = Literal["arrow", "parquet", "duckdb"]

_MB = 1_000_000


class Writer(Protocol):
    def write(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


class Form(Protocol):
    """How batches of one schema are a file."""

    segment_bytes: int
    """Bytes of batches, as they are in memory, after which a new file begins."""

    linger: float
    """Seconds for which a reader waits for a file to fill before it takes it as it is."""

    has_end: bool
    """Whether a file is worth nothing before its end is written."""

    def takes(self, schema: Any) -> bool:
        """Whether the file gives back just these types."""
        ...

    def writer(self, path: Path, schema: Any) -> Writer: ...

    def batches(self, path: Path) -> Iterator[Batch]: ...


class ArrowForm:
    """Arrow's stream format. Each batch can be read as soon as it is written, whatever becomes
    of the rest of the file."""

    segment_bytes = 64 * _MB
    linger = 0.05
    has_end = False

    def takes(self, schema: Any) -> bool:
        return True

    def writer(self, path: Path, schema: Any) -> Writer:
        pa = arrow()
        packing = pa.Codec("zstd", compression_level=1)
        options = pa.ipc.IpcWriteOptions(compression=packing, use_threads=False)
        file = pa.OSFile(os.fsencode(path), "wb")
        return _ArrowWriter(pa.ipc.new_stream(file, schema, options=options), file)

    def batches(self, path: Path) -> Iterator[Batch]:
        pa = arrow()
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with (
            pa.OSFile(os.fsencode(path), "rb") as file,
            pa.ipc.open_stream(file, options=options) as each,
        ):
            yield from each


@dataclass(frozen=True, slots=True)
class _ArrowWriter:
    _stream: Any
    _file: Any

    def write(self, batch: Batch) -> None:
        self._stream.write_batch(batch)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._file.close()


class ParquetForm:
    segment_bytes = 64 * _MB
    linger = 0.05
    has_end = True

    def takes(self, schema: Any) -> bool:
        return all(_is_common(kind) for kind in schema.types)

    def writer(self, path: Path, schema: Any) -> Writer:
        pq = require("pyarrow.parquet", extra="arrow", what="Parquet")
        file = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
        )
        return _ParquetWriter(file)

    def batches(self, path: Path) -> Iterator[Batch]:
        pq = require("pyarrow.parquet", extra="arrow", what="Parquet")
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, use_threads=False).to_batches()


@dataclass(frozen=True, slots=True)
class _ParquetWriter:
    _file: Any

    def write(self, batch: Batch) -> None:
        self._file.write_batch(batch, row_group_size=len(batch))

    def close(self) -> None:
        self._file.close()


class DuckForm:
    """A table in a database file of DuckDB, which keeps to a limit of its own."""

    segment_bytes = 256 * _MB
    linger = 1.0
    has_end = True

    def __init__(self, memory_mb: int = 128) -> None:
        self._duckdb = require("duckdb", extra="duckdb", what="--spill duckdb")
        self._config = {
            "memory_limit": f"{memory_mb}MB",
            "threads": 1,
            "autoinstall_known_extensions": False,
        }

    def takes(self, schema: Any) -> bool:
        return all(_is_common(kind) for kind in schema.types)

    def writer(self, path: Path, schema: Any) -> Writer:
        connection = self._duckdb.connect(str(path), config=self._config)
        connection.begin()  # one for all of it: each by itself would be written twice
        connection.from_arrow(schema.empty_table()).create("rows")
        return _DuckWriter(connection, self._duckdb.Error)

    def batches(self, path: Path) -> Iterator[Batch]:
        with self._duckdb.connect(str(path), config=self._config) as connection:
            # Without a result of its own, as execute() has, so that rows come as they are read.
            yield from connection.table("rows").to_arrow_reader(10_000)


@dataclass(frozen=True, slots=True)
class _DuckWriter:
    _connection: Any
    _error: type[Exception]

    def write(self, batch: Batch) -> None:
        table = arrow().Table.from_batches([batch])
        try:
            self._connection.from_arrow(table).insert_into("rows")
        except self._error as exc:
            raise OSError(errno.EIO, str(exc)) from exc

    def close(self) -> None:
        try:
            self._connection.commit()
            self._connection.close()
        except self._error as exc:
            raise OSError(errno.EIO, str(exc)) from exc


def _is_common(kind: Any) -> bool:
    """A type that Arrow, Parquet and DuckDB have alike."""
    types = arrow().types
    return bool(
        types.is_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_float32(kind)
        or types.is_float64(kind)
        or types.is_date32(kind)
        or types.is_binary(kind)
    )


FORMS: dict[Layout, Any] = {"arrow": ArrowForm, "parquet": ParquetForm, "duckdb": DuckForm}
