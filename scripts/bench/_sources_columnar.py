"""Parquet, Arrow, and rows by way of the disk, as scripts/bench/sources.py measures them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from _sources import COLUMNS, Case, in_file, row

from artist_bio_gen.sources.arrow.frames import from_arrow
from artist_bio_gen.sources.spill.spilled import How, Spilled
from artist_bio_gen.stream import Chunk

BATCH = 8_000


def cases() -> list[Case]:
    more = (10_000_000,)
    return [
        Case("parquet", 1_000_000, in_file("rows.parquet", write_parquet), plain_parquet),
        Case("arrow", 1_000_000, in_file("rows.arrow", write_arrow), plain_arrow),
        Case(
            *("spill", 1_000_000, only_rows, plain_spill),
            ours=spill_batches,
            rate=1_000_000,
            mib=250,
            sizes=more,
        ),
        Case("spill, dicts", 1_000_000, only_rows, plain_spill_dicts, ours=spill_dicts, sizes=more),
        Case("spill parquet", 1_000_000, only_rows, None, ours=spill_parquet, mib=250, sizes=more),
        Case("spill duckdb", 1_000_000, only_rows, None, ours=spill_duckdb, sizes=more),
    ]


def batch(first: int, rows: int) -> Any:
    import pyarrow as pa

    columns = zip(*map(row, range(first, first + rows)), strict=True)
    return pa.record_batch(dict(zip(COLUMNS, map(pa.array, columns), strict=True)))


def batches(rows: int) -> Iterator[Any]:
    for first in range(0, rows, BATCH):
        yield batch(first, min(BATCH, rows - first))


def write_parquet(path: Path, rows: int) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, batch(0, 1).schema) as writer:
        for each in batches(rows):
            writer.write_batch(each)


def write_arrow(path: Path, rows: int) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(path, batch(0, 1).schema) as writer:
        for each in batches(rows):
            writer.write_batch(each)


def plain_parquet(source: str) -> Iterator[int]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        for each in file.iter_batches(batch_size=1_000, use_threads=False):
            yield len(each.to_pylist())


def plain_arrow(source: str) -> Iterator[int]:
    import pyarrow as pa

    with pa.ipc.open_file(source) as file:
        for at in range(file.num_record_batches):
            for part in _thousands(file.get_batch(at)):
                yield len(part.to_pylist())


def _thousands(whole: Any) -> Iterator[Any]:
    for at in range(0, len(whole), 1_000):
        yield whole.slice(at, 1_000)


# By way of the disk: the rows are made once, so that only the way itself is measured.


def only_rows(folder: Path, rows: int) -> AbstractContextManager[str]:
    return nullcontext(str(rows))


def repeated(rows: int) -> Iterator[Any]:
    some = [batch(at * BATCH, BATCH) for at in range(2)]
    for at in range(rows // BATCH):
        yield some[at % len(some)]


def plain_spill(source: str) -> Iterator[int]:
    yield from _plain_spill(source, len)


def plain_spill_dicts(source: str) -> Iterator[int]:
    yield from _plain_spill(source, lambda part: len(part.to_pylist()))


def _plain_spill(source: str, count: Callable[[Any], int]) -> Iterator[int]:
    """All out, then all back, in the same form."""
    import pyarrow as pa

    packing = pa.Codec("zstd", compression_level=1)
    options = pa.ipc.IpcWriteOptions(compression=packing, use_threads=False)
    with tempfile.NamedTemporaryFile() as file:
        with pa.ipc.new_stream(file.name, batch(0, 1).schema, options=options) as writer:
            for each in repeated(int(source)):
                writer.write_batch(each)
        back = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(file.name, options=back) as reader:
            for each in reader:
                for part in _thousands(each):
                    yield count(part)


def spill_batches(source: str) -> Iterator[int]:
    yield from _spill(source, "adaptive", lambda chunk: len(chunk.batch))  # type: ignore[attr-defined]


def spill_dicts(source: str) -> Iterator[int]:
    yield from _spill(source, "adaptive", lambda chunk: len(chunk.dicts()))


def spill_parquet(source: str) -> Iterator[int]:
    yield from _spill(source, "parquet", lambda chunk: len(chunk.batch))  # type: ignore[attr-defined]


def spill_duckdb(source: str) -> Iterator[int]:
    yield from _spill(source, "duckdb", lambda chunk: len(chunk.batch))  # type: ignore[attr-defined]


def _spill(source: str, how: How, count: Callable[[Chunk], int]) -> Iterator[int]:
    rows = from_arrow(repeated(int(source)))
    with (
        tempfile.TemporaryDirectory() as folder,
        Spilled(rows, how, Path(folder), patience=0) as stream,
    ):
        stream.spilling.wait()
        for chunk in stream.chunks():
            yield count(chunk)
