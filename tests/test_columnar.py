"""Parquet and Arrow files: values as cells, batches bounded, damage told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.arrow.batches import ArrowChunk
from artist_bio_gen.sources.arrow.files import ParquetStream, open_arrow, open_parquet
from artist_bio_gen.sources.content import Content
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Column

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


ZSTD_MARK = rb"\x28\xb5\x2f\xfd"


def never() -> bool:
    return False


def file(path: Path) -> Content:
    size = path.stat().st_size
    return Content(str(path), path.name, lambda: path.open("rb"), True, path, size, size)


def pipe(path: Path) -> Content:
    """The same bytes, which come once and cannot be sought."""
    return Content(path.name, path.name, lambda: io.BufferedReader(Pipe(path)))


class Pipe(io.RawIOBase):
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def parquet(path: Path, options: SourceOptions | None = None) -> RowStream:
    return open_parquet(file(path), options or SourceOptions(), never)


def arrow(path: Path) -> RowStream:
    return open_arrow(file(path), SourceOptions(), never)


def numbered(rows: int, first: int = 1) -> Any:
    return pa.table(
        {
            "n": list(range(first, first + rows)),
            "text": [f"row {n} é" for n in range(first, first + rows)],
        }
    )


def write_arrow(path: Path, table: Any, *, stream: bool = False, rows: int = 1_000) -> Path:
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def write_parquet(path: Path, table: Any, **more: Any) -> Path:
    pq.write_table(table, path, **more)
    return path


EVERYTHING = {
    "text": (pa.array(["007", "", None]), ["007", "", None]),
    "large": (pa.array(["a", None, "b"], pa.large_string()), ["a", None, "b"]),
    "whole": (pa.array([7, None, -(2**63)]), [7, None, -(2**63)]),
    "unsigned": (pa.array([2**64 - 1, None, 0], pa.uint64()), [2**64 - 1, None, 0]),
    "float": (pa.array([0.5, float("nan"), float("-inf")]), [0.5, "NaN", "-Infinity"]),
    "truth": (pa.array([True, False, None]), [True, False, None]),
    "date": (pa.array([date(2001, 2, 3), None, date(1, 1, 1)]), ["2001-02-03", None, "0001-01-01"]),
    "date64": (pa.array([date(2001, 2, 3), None, None], pa.date64()), ["2001-02-03", None, None]),
    "seconds": (pa.array([6, None, 0], pa.timestamp("s")), [
        "1970-01-01T00:00:06", None, "1970-01-01T00:00:00",
    ]),
    "millis": (pa.array([6, None, 6000], pa.timestamp("ms")), [
        "1970-01-01T00:00:00.006000", None, "1970-01-01T00:00:06",
    ]),
    "moment": (
        pa.array([datetime(2001, 2, 3, 4, 5, 6, 7, UTC), None, None], pa.timestamp("us", "UTC")),
        ["2001-02-03T04:05:06.000007+00:00", None, None],
    ),
    "elsewhere": (
        pa.array([datetime(2001, 2, 3, 4, tzinfo=UTC), None, None], pa.timestamp("us", "+05:00")),
        ["2001-02-03T04:00:00+00:00", None, None],
    ),
    "nanos": (pa.array([1, None, 1_000_000_000], pa.timestamp("ns")), [
        "1970-01-01T00:00:00.000000001", None, "1970-01-01T00:00:01",
    ]),
    "time": (
        pa.array([time(4, 5, 6), None, time(0, 0, 0, 7)]), ["04:05:06", None, "00:00:00.000007"],
    ),
    "time32": (pa.array([6, None, 0], pa.time32("s")), ["00:00:06", None, "00:00:00"]),
    "span": (pa.array([timedelta(1, 21600), None, timedelta(0)]), ["P1DT6H", None, "PT0S"]),
    "short span": (
        pa.array([1_500_000_000, None, 0], pa.duration("ns")), ["PT1.5S", None, "PT0S"],
    ),
    "decimal": (pa.array([Decimal("1.50"), None, Decimal("0.01")]), ["1.50", None, "0.01"]),
    "bytes": (pa.array([b"\x00\xff", None, b""]), ["AP8=", None, ""]),
    "fixed": (pa.array([b"ab", None, b"cd"], pa.binary(2)), ["YWI=", None, "Y2Q="]),
    "words": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "list": (
        pa.array([[1, None], None, []], pa.list_(pa.int8())), [[1, None], None, []],
    ),
    "days": (
        pa.array([[date(2001, 2, 3)], None, [None]]), [["2001-02-03"], None, [None]],
    ),
    "struct": (
        pa.array([{"a": 1, "b": [b"x"]}, None, {"a": None, "b": None}]),
        [{"a": 1, "b": ["eA=="]}, None, {"a": None, "b": None}],
    ),
    "map": (
        pa.array([[("k", date(2001, 2, 3))], None, []], pa.map_(pa.string(), pa.date32())),
        [{"k": "2001-02-03"}, None, {}],
    ),
    "nothing": (pa.nulls(3), [None, None, None]),
}  # fmt: skip


def test_columns_of_json_are_read_as_json(tmp_path: Path) -> None:
    texts = pa.array(['{"a": [1]}', '"007"', None, "7", "no json"])
    array = pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)
    cells = [{"a": [1]}, "007", None, 7, "no json"]
    table = pa.table({"x": array})
    for stream in (
        arrow(write_arrow(tmp_path / "a.arrow", table)),
        parquet(write_parquet(tmp_path / "a.parquet", table)),
    ):
        with stream:
            assert stream.columns == (Column("x", "json"),)
            assert [row["x"] for chunk in stream.chunks() for row in chunk.dicts()] == cells


@pytest.mark.parametrize("name", EVERYTHING)
def test_values_of_each_type_become_cells(tmp_path: Path, name: str) -> None:
    array, cells = EVERYTHING[name]
    path = write_arrow(tmp_path / "a.arrow", pa.table({name: array}))
    with arrow(path) as stream:
        assert stream.columns == (Column(name, str(array.type)),)
        (chunk,) = stream.chunks()
        assert repr(chunk.dicts()) == repr([{name: cell} for cell in cells])
        assert repr([*chunk.values()]) == repr([(cell,) for cell in cells])


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_same_in_parquet(tmp_path: Path, name: str) -> None:
    array, cells = EVERYTHING[name]
    path = write_parquet(tmp_path / "a.parquet", pa.table({name: array}))
    with parquet(path) as stream:
        assert [row for chunk in stream.chunks() for row in chunk.dicts()] == [
            {name: cell} for cell in cells
        ]


@pytest.mark.parametrize("form", ["parquet", "file", "stream", "piped parquet", "piped file"])
def test_rows_come_in_order_with_their_numbers(tmp_path: Path, form: str) -> None:
    table = numbered(5_000)
    path = tmp_path / "rows"
    if "parquet" in form:
        write_parquet(path, table, row_group_size=1_700)
    else:
        write_arrow(path, table, stream=form == "stream", rows=1_700)
    content = pipe(path) if "piped" in form else file(path)
    opened: Callable[..., RowStream] = open_parquet if "parquet" in form else open_arrow
    with opened(content, SourceOptions(spill_dir=tmp_path), never) as stream:
        rows = [(row.number, *row.values) for row in stream]  # type: ignore[union-attr]
    assert rows == [(n, n, f"row {n} é") for n in range(1, 5_001)]


def test_what_can_be_sought_is_read_where_it_is(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", numbered(3_000))
    size = path.stat().st_size
    content = Content("there", "a.parquet", lambda: path.open("rb"), again=True, size=size)
    nowhere = SourceOptions(spill_dir=tmp_path / "a.parquet")  # nothing can be put there
    with open_parquet(content, nowhere, never) as stream:
        assert sum(len(chunk) for chunk in stream.chunks()) == 3_000


def test_what_is_packed_is_put_on_disk_first(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", numbered(3_000))
    content = Content(
        *("packed", "a.parquet", lambda: path.open("rb")), again=True, size=9, packed_size=8
    )
    (tmp_path / "spill").mkdir()
    with open_parquet(content, SourceOptions(spill_dir=tmp_path / "spill"), never) as stream:
        assert sum(len(chunk) for chunk in stream.chunks()) == 3_000
    with pytest.raises(InputError, match="--spill-dir"):
        open_parquet(content, SourceOptions(spill_dir=path), never)


def test_what_is_known_of_a_file_is_told(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array([1, 2])}, schema=pa.schema([pa.field("n", pa.int64(), False)]))
    with parquet(write_parquet(tmp_path / "a.parquet", table)) as stream:
        assert stream.columns == (Column("n", "int64", nullable=False),)
        assert stream.estimated_row_count == 2
        assert stream.facts()["row_groups"] == 1
    with arrow(write_arrow(tmp_path / "a.arrow", numbered(4_000))) as stream:
        assert stream.estimated_row_count == 4_000
        assert stream.facts() == {"batches": 4}


@pytest.mark.parametrize("size", [1, 7, 1_000, 100_000])
def test_chunks_are_no_larger_than_asked_for(tmp_path: Path, size: int) -> None:
    path = write_parquet(tmp_path / "a.parquet", numbered(3_000), row_group_size=1_100)
    with parquet(path) as stream:
        lengths = [len(chunk) for chunk in stream.chunks(size)]
    assert sum(lengths) == 3_000
    assert max(lengths) <= size


def test_a_chunk_keeps_its_batch_and_is_cut_in_halves(tmp_path: Path) -> None:
    with parquet(write_parquet(tmp_path / "a.parquet", numbered(10))) as stream:
        chunk = stream.read(10)
    assert isinstance(chunk, ArrowChunk)
    assert chunk.batch.column("n").to_pylist() == [*range(1, 11)]
    first, second = chunk.halves()
    assert isinstance(second, ArrowChunk)
    assert [*second.numbers] == second.batch.column("n").to_pylist() == [6, 7, 8, 9, 10]
    assert len(first) == 5


def test_memory_is_that_of_a_batch_not_of_a_row_group(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    one = pa.table({"text": [f"{n} " + "x" * 1_000 for n in range(50_000)]})
    write_parquet(path, one, row_group_size=50_000, use_dictionary=False, compression="none")
    with parquet(path) as stream:
        before = pa.total_allocated_bytes()
        assert sum(len(chunk) for chunk in stream.chunks()) == 50_000
        most = max_memory(parquet(path))
    assert most - before < 8_000_000  # of 50 MB


def max_memory(stream: RowStream) -> int:
    with stream:
        return max(pa.total_allocated_bytes() for _ in stream.chunks())


def test_after_a_memory_error_no_row_is_lost(tmp_path: Path) -> None:
    """The error comes from a batch reader in place of the file's own; the rest is real."""
    path = write_parquet(tmp_path / "a.parquet", numbered(3_000), row_group_size=2_500)
    with parquet(path) as stream:
        assert isinstance(stream, ParquetStream)
        first = stream.read(500)
        assert first is not None
        seen = list(first.numbers)
        stream._rest = None  # what a failed read of the next batch leaves
        stream._batches = Failing()
        with pytest.raises(MemoryError):
            stream.read(700)
        for chunk in stream.chunks(350):  # of which the 500 are no multiple
            assert [*chunk.numbers] == [row["n"] for row in chunk.dicts()]
            seen += chunk.numbers
    assert seen == [*range(1, 3_001)]


class Failing:
    def __next__(self) -> Any:
        raise MemoryError


# Damage


def damaged(path: Path, at: int, length: int = 200) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(255 - byte for byte in data[at : at + length])
    path.write_bytes(data)
    return path


def test_rows_of_a_damaged_row_group_are_bad_ones_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = numbered(3_000)
    path = write_parquet(
        *(tmp_path / "a.parquet", table),
        row_group_size=1_000,
        use_dictionary=False,
        write_page_checksum=True,
    )
    middle = pq.ParquetFile(path).metadata.row_group(1).column(1)
    damaged(path, middle.data_page_offset + middle.total_compressed_size // 2)
    with parquet(path) as stream:
        rows = list(stream)
    assert [row.number for row in rows] == [*range(1, 3_001)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [bad[0].number, bad[-1].number, len(bad)] == [1_001, 2_000, 1_000]
    assert "row group 2 of 3 is damaged from row 1,001 on" in bad[0].reason


def test_a_page_that_is_not_what_its_checksum_says_is_damaged(tmp_path: Path) -> None:
    """One that can be read all the same: another text would stand there."""
    path = write_parquet(
        *(tmp_path / "a.parquet", numbered(3_000)),
        row_group_size=1_000,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
        write_statistics=False,
    )
    data = path.read_bytes()
    assert data.count(b"row 1500") == 1
    path.write_bytes(data.replace(b"row 1500", b"row 1501"))
    with parquet(path) as stream:
        rows = list(stream)
    assert [row.number for row in rows] == [*range(1, 3_001)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [bad[0].number, bad[-1].number] == [1_001, 2_000]


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_parquet(tmp_path / "a.parquet", numbered(3_000))
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet: .*cut off"):
        parquet(path)


def test_what_is_no_parquet_and_no_arrow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("id,name\n1,x\n" * 9)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        parquet(path)
    with pytest.raises(InputError, match="cannot be read as Arrow"):
        arrow(path)
    with pytest.raises(InputError, match="cannot be read as Arrow"):
        open_arrow(pipe(path), SourceOptions(), never)


@pytest.mark.parametrize("piped", [False, True])
def test_rows_before_the_cut_of_a_stream_stand(tmp_path: Path, piped: bool) -> None:
    path = write_arrow(tmp_path / "a.arrows", numbered(3_000), stream=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    numbers: list[int] = []
    stream = open_arrow(pipe(path) if piped else file(path), SourceOptions(), never)
    with stream, pytest.raises(InputError, match="nothing after row 1,000 can be read"):
        numbers.extend(row.number for row in stream)
    assert numbers == [*range(1, 1_001)]


def test_a_damaged_batch_of_a_file_is_a_bad_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    table = numbered(3_000)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1_000)
    frames = [found.start() for found in re.finditer(ZSTD_MARK, path.read_bytes())]
    damaged(path, frames[len(frames) // 2], 4)
    with arrow(path) as stream:
        rows = list(stream)
    (bad,) = (row for row in rows if isinstance(row, BadRow))
    assert bad.number == 1_001
    assert "batch 2 of 3 is damaged" in bad.reason
    assert len(rows) == 2_001


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_text_that_is_no_utf8_is_a_bad_row(tmp_path: Path, form: str) -> None:
    raw = pa.array([b"a", b"\xff\xfe", None, b"d"])
    table = pa.table({"n": [1, 2, 3, 4], "text": raw.view(pa.string())})
    path = tmp_path / "a"
    if form == "parquet":
        write_parquet(path, table)
    with parquet(path) if form == "parquet" else arrow(write_arrow(path, table)) as stream:
        rows = list(stream)
    assert [row.number for row in rows] == [1, 2, 3, 4]
    (bad,) = (row for row in rows if isinstance(row, BadRow))
    assert bad.number == 2
    assert "column 'text' cannot be read: " in bad.reason


def test_offsets_that_point_elsewhere_do_not_end_the_process(tmp_path: Path) -> None:
    wrong = b"\x00\x00\x00\x00\x32\x00\x00\x00\xff\xff\xff\x7f"
    path = tmp_path / "a.arrows"
    batch = pa.RecordBatch.from_arrays([pa.array(["x", "y"])], ["text"])
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)
    data = path.read_bytes()
    sound = pa.array(["x", "y"]).buffers()[1].to_pybytes()[:12]
    at = data.rindex(sound)
    path.write_bytes(data[:at] + wrong + data[at + len(wrong) :])
    with arrow(path) as stream:
        try:
            rows = list(stream)
        except InputError:
            return
    assert any(isinstance(row, BadRow) for row in rows)


@pytest.mark.parametrize("form", ["parquet", "arrow file", "arrow stream"])
def test_no_change_of_a_byte_ends_the_process(tmp_path: Path, form: str) -> None:
    """Any damage gives rows, bad rows or an InputError."""
    table = pa.table({"n": [1, 2, 3], "t": ["a", "é", None], "l": [[1], None, []]})
    path = tmp_path / "a"
    if form == "parquet":
        write_parquet(path, table)
    else:
        write_arrow(path, table, stream="stream" in form)
    sound = path.read_bytes()
    errors = 0
    for at in range(0, len(sound), 3):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
        try:
            with (parquet if form == "parquet" else arrow)(path) as stream:
                for chunk in stream.chunks():
                    chunk.dicts()
        except (InputError, MemoryError):  # also of a damaged length
            errors += 1
    assert errors > 20


def test_a_writer_whose_name_is_no_utf8_is_damage(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", numbered(3))
    data = path.read_bytes()
    assert data.count(b"parquet-cpp-arrow") == 1
    path.write_bytes(data.replace(b"parquet-cpp-arrow", b"parquet-cpp-arro\x8e"))
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet"):
        parquet(path)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "a", pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(InputError, match="more than one column is called 'a'; rename them"):
        arrow(path)


def test_a_file_without_rows_has_columns(tmp_path: Path) -> None:
    with parquet(write_parquet(tmp_path / "a.parquet", numbered(0))) as stream:
        assert [column.name for column in stream.columns] == ["n", "text"]
        assert stream.read(10) is None


def test_closing_lets_go_of_the_file(tmp_path: Path) -> None:
    import os

    path = write_parquet(tmp_path / "a.parquet", numbered(3_000))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    stream = parquet(path)
    stream.read(10)
    stream.close()
    stream.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
