"""Rows from and to Arrow, pandas and plain mappings."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources.arrow.frames import (
    from_arrow,
    from_pandas,
    from_rows,
    to_arrow,
    to_batches,
    to_frames,
    to_pandas,
    to_reader,
)
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Row

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")


class Given(RowStream):
    """A source of these chunks."""

    name = "given"

    def __init__(self, columns: tuple[Column, ...], *chunks: Chunk) -> None:
        self.columns = columns
        self._chunks = list(chunks)

    def read(self, size: int) -> Chunk | None:
        return self._chunks.pop(0) if self._chunks else None

    def close(self) -> None:
        self._chunks.clear()


def all_dicts(stream: RowStream, size: int = 2) -> list[dict[str, Any]]:
    return [row for chunk in stream.chunks(size) for row in chunk.dicts()]


# Rows


def test_mappings_become_rows_and_late_keys_columns() -> None:
    stream = from_rows([{"id": 1}, {"id": 2, "born": dt.date(2001, 2, 3)}])
    assert stream.columns == (Column("id", "json"),)
    assert all_dicts(stream) == [{"id": 1}, {"id": 2, "born": "2001-02-03"}]
    assert [column.name for column in stream.columns] == ["id", "born"]


def test_what_is_no_mapping_is_a_bad_row_in_its_place() -> None:
    rows: list[Any] = [{"id": 1}, 7, {"id": 2}]
    numbers = [(type(row), row.number) for row in from_rows(rows)]
    assert numbers == [(Row, 1), (BadRow, 2), (Row, 3)]


def test_no_row_is_taken_before_it_is_asked_for() -> None:
    taken = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(9):
            taken.append(number)
            yield {"n": number}

    stream = from_rows(rows())
    stream.read(5)
    assert taken == [0]
    stream.read(3)
    assert taken == [0, 1, 2, 3]


def test_rows_before_an_error_of_their_maker_are_given() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        yield {"n": 2}
        raise OSError("gone")

    stream = from_rows(rows())
    assert [len(stream.read(9) or ()), len(stream.read(9) or ())] == [1, 1]
    with pytest.raises(OSError, match="gone"):
        stream.read(9)


def test_no_rows_at_all() -> None:
    stream = from_rows([])
    assert (stream.columns, stream.read(9)) == ((), None)


# Arrow


def test_a_table_and_back() -> None:
    table = pa.table({"id": ["007", None], "n": [7, None], "x": [0.5, None], "b": [True, None]})
    stream = from_arrow(table)
    assert stream.columns == (
        Column("id", "string"),
        Column("n", "int64"),
        Column("x", "double"),
        Column("b", "bool"),
    )
    assert stream.estimated_row_count == 2
    assert to_arrow(stream) == table


@pytest.mark.parametrize("kind", ["batch", "batches", "reader", "generator", "capsule"])
def test_rows_of_whatever_arrow_has(kind: str) -> None:
    batch = pa.record_batch({"n": [1, 2, 3]})
    data: dict[str, Any] = {
        "batch": batch,
        "batches": [batch],
        "reader": pa.RecordBatchReader.from_batches(batch.schema, [batch]),
        "generator": (each for each in [batch]),
        "capsule": Capsule(batch),
    }
    assert all_dicts(from_arrow(data[kind])) == [{"n": 1}, {"n": 2}, {"n": 3}]


class Capsule:
    """What another library gives."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        return pa.table(self._batch).__arrow_c_stream__(schema)


def test_what_is_no_arrow_is_refused() -> None:
    with pytest.raises(UsageError, match="not int"):
        from_arrow([1])
    with pytest.raises(UsageError, match="there is no batch"):
        from_arrow([])


def test_batches_of_arrow_are_handed_on_as_they_are() -> None:
    table = pa.table({"n": list(range(10))})
    address = table.column("n").chunk(0).buffers()[1].address
    batches = list(to_batches(from_arrow(table), 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert batches[1].column("n").buffers()[1].address == address


def test_text_columns_take_what_is_no_text_as_its_text() -> None:
    columns = (Column("a"), Column("n", "int8"), Column("x", "float8"))
    values = [("007", 7, "NaN"), (7, None, 2), ({"k": [1]}, 2, None)]
    stream = Given(columns, Chunk(("a", "n", "x"), range(1, 4), values))
    (batch,) = to_batches(stream)
    assert batch.schema == pa.schema([("a", pa.string()), ("n", pa.int64()), ("x", pa.float64())])
    assert batch.column("a").to_pylist() == ["007", "7", '{"k":[1]}']
    assert str(batch.column("x").to_pylist()) == "[nan, 2.0, None]"


def test_a_cell_that_does_not_fit_its_column_is_told() -> None:
    chunk = Chunk(("n",), (41, 42), [(1,), ("x",)], file="b.csv")
    columns = (Column("n", "integer"),)
    with pytest.raises(InputError, match=r"b\.csv rows 41 to 42: column 'n' holds what does not"):
        list(to_batches(Given(columns, chunk)))
    (batch,) = to_batches(Given(columns, chunk), typed=False)
    assert batch.column("n").to_pylist() == ["1", "x"]


def test_unsigned_numbers_have_their_own_type() -> None:
    columns = (Column("n", "bigint(20) unsigned"), Column("m", "bigint unsigned"))
    chunk = Chunk(("n", "m"), (1,), [(2**64 - 1, 7)])
    (batch,) = to_batches(Given(columns, chunk))
    assert batch.schema.types == [pa.uint64(), pa.uint64()]


def test_late_columns_are_null_before_and_told_in_the_schema() -> None:
    rows = [{"a": "1"}, {"a": "2", "b": "x"}]
    batches = list(to_batches(from_rows(rows), 1))
    assert [batch.schema.names for batch in batches] == [["a"], ["a", "b"]]
    table = to_arrow(from_rows(rows), 1)
    assert table.to_pylist() == [{"a": "1", "b": None}, {"a": "2", "b": "x"}]


def test_a_reader_refuses_a_column_that_is_late() -> None:
    reader = to_reader(from_rows([{"a": "1"}, {"b": "x"}]), 1)
    assert reader.schema.names == ["a"]
    with pytest.raises(InputError, match="the columns 'b' turn up after the first rows"):
        reader.read_all()


def test_a_reader_of_no_rows_knows_its_columns() -> None:
    assert to_reader(from_arrow(pa.table({"n": pa.array([], pa.int64())}))).read_all().num_rows == 0


def test_duckdb_reads_rows_by_arrow() -> None:
    duckdb = pytest.importorskip("duckdb")
    reader = to_reader(from_rows({"n": str(n)} for n in range(2_500)))
    told = duckdb.from_arrow(reader).aggregate("count(*), max(n::int)")
    assert told.fetchall() == [(2500, 2499)]


# pandas


def test_missing_numbers_do_not_change_the_type_of_a_column() -> None:
    table = pa.table({"n": [1, 2, None], "b": [True, None, False], "t": ["007", None, ""]})
    frames = list(to_frames(from_arrow(table), 2))
    assert [list(frame.index) for frame in frames] == [[0, 1], [2]]
    assert frames[0].dtypes.to_dict() == frames[1].dtypes.to_dict()
    whole = to_pandas(from_arrow(table))
    assert whole["n"].tolist() == [1, 2, pd.NA]
    assert str(whole["n"].dtype) == "Int64"
    assert whole["t"].isna().tolist() == [False, True, False]


def test_a_frame_and_back() -> None:
    frame = pd.DataFrame(
        {
            "id": ["007", None],
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "born": pd.to_datetime(["2001-02-03 04:05:06", None]),
        }
    )
    assert all_dicts(from_pandas(frame)) == [
        {"id": "007", "n": 1, "x": 0.5, "born": "2001-02-03T04:05:06"},
        {"id": None, "n": 2, "x": None, "born": None},
    ]


def test_a_frame_with_columns_of_several_types() -> None:
    frame = pd.DataFrame({"a": [1, "x", None], "b": [{"k": 1}, [2], 3], 7: [1, 2, 3]})
    assert all_dicts(from_pandas(frame)) == [
        {"a": 1, "b": {"k": 1}, "7": 1},
        {"a": "x", "b": [2], "7": 2},
        {"a": None, "b": 3, "7": 3},
    ]


def test_a_named_index_is_a_column_and_a_bare_one_is_not() -> None:
    frame = pd.DataFrame({"n": [1]}, index=pd.Index(["x"], name="id"))
    assert all_dicts(from_pandas(frame)) == [{"id": "x", "n": 1}]
    assert all_dicts(from_pandas(frame.rename_axis(None))) == [{"n": 1}]


def test_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(InputError, match="more than one column is called 'a'"):
        from_pandas(frame)
    with pytest.raises(InputError, match="more than one column is called 'a'"):
        from_arrow(pa.table([[1], [2]], names=["a", "a"]))


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    import subprocess

    script = "import sys, artist_bio_gen.sources.arrow.frames; print('pyarrow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.strip() == "False", told.stderr
