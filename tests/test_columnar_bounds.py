"""Parquet and Arrow files that unpack to far more than they are: read in small parts, or refused
before they are unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import LimitError
from artist_bio_gen.sources.arrow.files import open_arrow, open_parquet
from artist_bio_gen.stream import RowStream
from tests.test_columnar import file, never, numbered, pipe

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LONG = "x" * 1_000_000
TIGHT = SourceOptions(memory_limit=200)


def parquet(path: Path, table: Any, **more: Any) -> RowStream:
    pq.write_table(table, path, compression="zstd", **more)
    return open_parquet(file(path), TIGHT, never)


def rows_and_largest(stream: RowStream) -> tuple[int, int]:
    """All rows, and the bytes of the largest chunk as Arrow has it."""
    rows = largest = 0
    with stream:
        for chunk in stream.chunks():
            rows += len(chunk)
            largest = max(largest, chunk.batch.nbytes)  # type: ignore[attr-defined]
    return rows, largest


@pytest.mark.parametrize(
    ("column", "more"),
    [
        (pa.array([LONG] * 400), {}),
        (pa.array([None] + [LONG] * 400), {}),
        (pa.array(["a"] * 3_000 + [LONG] * 400), {}),
        (pa.array([{"in": LONG}] * 400), {}),
        (pa.array([LONG.encode()] * 400, pa.binary(len(LONG))), {}),
        (pa.array([LONG] * 400), {"use_dictionary": False, "write_batch_size": 1}),
        (
            pa.array([LONG] * 200),
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        ),
        (pa.array([[LONG[:10_000]] * 40] * 1_000), {}),
    ],
    ids=["text", "null first", "short first", "struct", "fixed", "pages", "delta", "lists"],
)  # fmt: skip
def test_a_small_file_of_large_values_is_read_few_rows_at_a_time(
    tmp_path: Path, column: Any, more: dict[str, Any]
) -> None:
    stream = parquet(tmp_path / "a.parquet", pa.table({"x": column}), **more)
    assert (tmp_path / "a.parquet").stat().st_size < 200_000
    rows, largest = rows_and_largest(stream)
    assert rows == len(column)
    assert largest < 30_000_000  # of 200 MB and more


def test_rows_of_usual_size_are_read_as_many_as_ever(tmp_path: Path) -> None:
    with parquet(tmp_path / "a.parquet", numbered(5_000)) as stream:
        assert [len(chunk) for chunk in stream.chunks()] == [1_000] * 5


def test_small_lists_come_to_as_many_rows_at_a_time(tmp_path: Path) -> None:
    lists = pa.table({"n": [[1, 2, 3]] * 500_000})
    with parquet(tmp_path / "a.parquet", lists) as stream:
        lengths = [len(chunk) for chunk in stream.chunks()]
    assert lengths[0] < 100
    assert lengths[20] == 1_000
    assert sum(lengths) == 500_000


def test_a_page_that_is_too_large_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    table = pa.table({"n": [*range(100)], "bio": [LONG] * 100})
    stream = parquet(tmp_path / "a.parquet", table, use_dictionary=False)
    before = pa.total_allocated_bytes()
    with stream, pytest.raises(LimitError) as caught:
        stream.read(10)
    assert pa.total_allocated_bytes() - before < 5_000_000
    told = str(caught.value)
    assert "a.parquet: row group 1 unpacks to 10" in told
    assert "column 'bio'" in told
    assert "--memory-limit 4" in told


def test_a_row_that_is_too_large_is_refused(tmp_path: Path) -> None:
    table = pa.table({"l": pa.array([[0] * 3_000_000])})
    with (
        parquet(tmp_path / "a.parquet", table) as stream,
        pytest.raises(LimitError, match=r"has rows of .* MB on average, .* column 'l\.list"),
    ):
        stream.read(10)


def test_what_is_refused_is_read_with_a_higher_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, pa.table({"x": [LONG] * 60}), use_dictionary=False).close()
    with open_parquet(file(path), TIGHT, never) as stream, pytest.raises(LimitError) as caught:
        stream.read(10)
    wanted = int(str(caught.value).partition("--memory-limit ")[2].partition(" ")[0])
    assert wanted > 200
    with open_parquet(file(path), SourceOptions(memory_limit=wanted), never) as stream:
        assert rows_and_largest(stream)[0] == 60


@pytest.mark.parametrize("packing", ["zstd", "lz4"])
@pytest.mark.parametrize("form", ["file", "stream", "piped"])
def test_a_batch_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, form: str, packing: str
) -> None:
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression=packing)
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    table = pa.table({"n": ["1", "2"]})
    with make(path, table.schema, options=options) as writer:
        writer.write_table(table)
        writer.write_table(pa.table({"n": [LONG] * 60}))
    rows: list[Any] = []
    with (
        pytest.raises(LimitError, match=r"bytes unpacks to 60 MB; only 50 MB .*limit 241 or more"),
        open_arrow(pipe(path) if form == "piped" else file(path), TIGHT, never) as stream,
    ):
        rows.extend(stream)
    assert [row.values for row in rows] == [("1",), ("2",)]


@pytest.mark.parametrize("stream", [False, True])
def test_words_that_unpack_to_too_much_are_refused(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    words = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array([LONG * 60]))
    table = pa.table({"n": words})
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(
        path, table.schema, options=options
    ) as writer:
        writer.write_table(table)
    with (
        pytest.raises(LimitError, match="unpacks to 60 MB"),
        open_arrow(file(path), TIGHT, never) as rows,
    ):
        rows.read(10)
