"""Parquet and Arrow files that unpack to far more than they are: read in small parts, or refused
before they are unpacked."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, LimitError
from artist_bio_gen.sources.arrow.files import open_arrow, open_parquet
from artist_bio_gen.sources.arrow.pages import SHORT, are_short, longest
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Row
from tests.test_columnar import ZSTD_MARK, file, never, numbered, pipe

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
    ("make", "more"),
    [
        (lambda: pa.array([LONG] * 400), {}),
        (lambda: pa.array([None] + [LONG] * 400), {}),
        (lambda: pa.array(["a"] * 3_000 + [LONG] * 400), {}),
        (
            lambda: pa.array([*map(str, range(3_000))] + [LONG] * 400),
            {"dictionary_pagesize_limit": 4_000_000},
        ),
        (lambda: pa.array([{"in": LONG}] * 400), {}),
        (lambda: pa.array([LONG.encode()] * 400, pa.binary(len(LONG))), {}),
        (lambda: pa.array([LONG] * 400), {"use_dictionary": False, "write_batch_size": 1}),
        (
            lambda: pa.array([LONG] * 200),
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        ),
        (lambda: pa.array([[LONG[:10_000]] * 40] * 1_000), {}),
    ],
    ids=["text", "null first", "short first", "many words", "struct", "fixed", "pages",
         "delta", "lists"],
)  # fmt: skip
def test_a_small_file_of_large_values_is_read_few_rows_at_a_time(
    tmp_path: Path, make: Callable[[], Any], more: dict[str, Any]
) -> None:
    column = make()  # only here: together they fill gigabytes
    stream = parquet(tmp_path / "a.parquet", pa.table({"x": column}), **more)
    assert (tmp_path / "a.parquet").stat().st_size < 200_000
    rows, largest = rows_and_largest(stream)
    assert rows == len(column)
    assert largest < 30_000_000  # of 200 MB and more


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        ([b"%d" % at for at in range(3_000)], True),
        ([b"", b"a\0", *(b"%d" % at for at in range(3_000))], True),
        ([b"x" * 500] * 100, True),
        ([b"x" * 5_000] * 100, False),
        ([b"a"] * 3_000 + [b"x" * 100_000], False),
        ([b"a"] * 3_000 + [b"\0" * 100_000], False),
        ([b"a"] * 3_000 + [b"\0" * 60_000], False),
        ([b"a"] * 3_000 + [(b"x" * 500 + b"\0\0") * 200], False),
        ([(b"x" * 500 + b"\0\0") * 200] * 30, False),
        ([(b"x" * 1_000 + b"\0\0") * 66] * 30, False),
        ([], True),
    ],
)
def test_texts_that_are_certainly_short(texts: list[bytes], short: bool) -> None:
    page = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    assert are_short(page, len(texts)) is short


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            lambda part, length: (part * length)[:length],
            st.binary(min_size=1, max_size=20)
            | st.sampled_from([b"\0", b"x", b"\0\0" + b"x" * 500, b"\0\0" + b"x" * 1_000]),
            st.integers(0, 3_000) | st.integers(0, 70_000),
        ),
        max_size=8,
    ),
    st.integers(0, 100),
)
def test_no_long_text_is_taken_for_a_short_one(texts: list[bytes], words: int) -> None:
    page = b"".join(len(text).to_bytes(4, "little") + text for text in [*texts, *[b"word"] * words])
    assert not are_short(page, len(texts) + words) or longest(page) <= SHORT


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


def test_a_wide_file_of_ordinary_pages_is_no_harm(tmp_path: Path) -> None:
    """Pages of a megabyte are what every writer makes; many columns have many of them."""
    column = pa.array(["x" * 1_000] * 1_000)
    table = pa.table({f"c{number}": column for number in range(80)})
    with parquet(tmp_path / "a.parquet", table, use_dictionary=False) as stream:
        assert stream.read(10)
    wide = pa.table({f"c{number}": column for number in range(120)})
    with (
        parquet(tmp_path / "b.parquet", wide, use_dictionary=False) as stream,
        pytest.raises(LimitError, match="only 100 MB may be held so, and 50 MB of a column"),
    ):
        stream.read(10)


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


@pytest.mark.parametrize("form", ["file", "stream"])
def test_a_size_that_cannot_be_is_damage_of_one_batch(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    table = pa.table({"n": [*range(3_000)]})
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with make(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1_000)
    data = bytearray(path.read_bytes())
    _, second, _ = (found.start() for found in re.finditer(ZSTD_MARK, data))
    data[second - 2] = 1  # of the eight bytes of the size: 281 TB
    path.write_bytes(data)
    rows: list[Any] = []
    with suppress(InputError), open_arrow(file(path), TIGHT, never) as stream:
        rows.extend(stream)
    numbers = [row.values[0] for row in rows if isinstance(row, Row)]
    assert numbers == [*range(1_000), *(range(2_000, 3_000) if form == "file" else ())]
    assert [row.number for row in rows if isinstance(row, BadRow)] == [1_001] * (form == "file")


READ_DAMAGED = """
import sys
from pathlib import Path
from artist_bio_gen import open_source
from artist_bio_gen.errors import InputError, LimitError
path = Path(sys.argv[1])
whole = path.read_bytes()
tells = int.from_bytes(whole[-8:-4], "little")
for at in range(len(whole) - 8 - tells, len(whole) - 8):
    for bits in (1, 2, 16):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        try:
            with open_source(path, max_rows=10) as rows:
                list(rows)
        except (InputError, LimitError):
            pass
print("alive")
"""


def test_whatever_is_damaged_in_what_a_file_tells_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": ["a", None]}), path, store_schema=False)
    read = subprocess.run(
        [sys.executable, "-c", READ_DAMAGED, path], capture_output=True, text=True, check=False
    )
    assert (read.stdout, read.stderr) == ("alive\n", "")
