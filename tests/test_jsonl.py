"""JSON Lines as a stream, and files that are one array: what is read, and what is a bad row."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.text.json_array import JsonArrayStream
from artist_bio_gen.sources.text.jsonl import LOOKED_AT, JsonLinesStream
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow
from tests.test_delimited import Arriving, Pieces


def lines(data: str | bytes, *, read_at_once: int = 7, **options: Any) -> JsonLinesStream:
    raw = data if isinstance(data, bytes) else data.encode()
    file = io.BufferedReader(Pieces(raw, read_at_once))
    return JsonLinesStream(file, name="artists.jsonl", size=len(raw), **options)


def array(data: str | bytes, *, read_at_once: int = 7, **options: Any) -> JsonArrayStream:
    raw = data if isinstance(data, bytes) else data.encode()
    file = io.BufferedReader(Pieces(raw, read_at_once))
    return JsonArrayStream(file, name="artists.json", size=len(raw), **options)


def told(stream: RowStream, size: int = 1000) -> list[tuple[int, object]]:
    """Each row by its number, a bad one by its reason."""
    rows: list[tuple[int, object]] = []
    with stream:
        for chunk in stream.chunks(size):
            assert len(chunk) + len(chunk.bad) <= size
            some = [*zip(chunk.numbers, chunk.dicts(), strict=True)]
            rows += sorted([*some, *((bad.number, bad.reason) for bad in chunk.bad)], key=_number)
    return rows


def _number(row: tuple[int, object]) -> int:
    return row[0]


# Rows


def test_each_line_is_a_row_with_the_keys_of_its_object() -> None:
    data = '{"id":"007","name":"Nina"}\n{"id":8,"born":1933.5,"tags":["a",{"b":null}]}\n'
    with lines(data, read_at_once=1000) as stream:
        assert [column.name for column in stream.columns] == ["id", "name", "born", "tags"]
        chunk = stream.read(1000)
        assert chunk is not None
        assert chunk.dicts() == [
            {"id": "007", "name": "Nina"},
            {"id": 8, "born": 1933.5, "tags": ["a", {"b": None}]},
        ]
        assert list(chunk.values()[0]) == ["007", "Nina", None, None]
        assert list(chunk.numbers) == [1, 2]


def test_blank_lines_marks_and_line_ends_are_no_matter() -> None:
    data = b'\xef\xbb\xbf\n{"a":1}\r\n\r\n  \n{"a":"x\\ny\xe2\x80\xa8z"}'
    for at_once in (1, 7, 1000):
        assert told(lines(data, read_at_once=at_once)) == [
            (2, {"a": 1}),
            (5, {"a": "x\ny\u2028z"}),
        ]


def test_numbers_beyond_64_bits_are_the_text_of_their_digits() -> None:
    numbers = ["18446744073709551615", "-9223372036854775808", "18446744073709551616"]
    numbers += ["-9223372036854775809", "1" * 300, "1.5", "1234567890123456789012.5"]
    data = "".join(f'{{"a":{number},"b":["{number}",{number}]}}\n' for number in numbers)
    expected: list[object] = [2**64 - 1, -(2**63), *numbers[2:5], 1.5, 1234567890123456789012.5]
    for at_once in (7, 1 << 16):
        rows = told(lines(data, read_at_once=at_once))
        assert [row["a"] for _, row in rows] == expected  # type: ignore[index]
        assert [row["b"][1] for _, row in rows] == expected  # type: ignore[index]
    flat = "".join(f'{{"a":{number},"b":"x"}}\n' for number in numbers)
    for at_once in (7, 1 << 16):
        assert [row["a"] for _, row in told(lines(flat, read_at_once=at_once))] == expected  # type: ignore[index]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a":1', "is no JSON: unexpected end of data at character 7"),
        (b'{"a":NaN}', "is no JSON: unexpected character"),
        (b'{"a":1e400}', "is no JSON: number is infinity"),
        (b'{"a":1}{"a":2}', "unexpected content"),
        (b'{"a":"\\ud800"}', "is no JSON"),
        (b'{"a":"\x00"}', "NUL stands in it"),
        (b'{"a":"Bj\xf6rk"}', "byte 0xf6, which is no utf-8, stands in it"),
        (b"[1,2]", "holds a list where an object is wanted"),
        (b'"a"', "holds a text"),
        (b"7", "holds a number"),
        (b"null", "holds null"),
        (b"true", "holds true"),
        (b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", "more than 100 deep"),
        (b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}", "depth limit"),
        (b'{"a":"' + b"x" * 20_000 + b'"}', "longer than 10,000 characters"),
    ],
)
@pytest.mark.parametrize("at_once", [7, 1 << 16])
def test_damage_costs_its_line_and_is_named(line: bytes, reason: str, at_once: int) -> None:
    data = b'{"a":1}\n' + line + b'\n{"a":3}\n'
    rows = told(lines(data, read_at_once=at_once, longest=10_000))
    assert rows[0] == (1, {"a": 1})
    assert rows[2] == (3, {"a": 3})
    assert rows[1][0] == 2
    assert reason in str(rows[1][1])


def test_depth_that_everybody_can_write_again_is_read() -> None:
    deep = b'{"a":' + b"[" * 100 + b"]" * 100 + b"}"
    assert told(lines(deep)) == [(1, orjson.loads(deep))]
    wide = b'{"a":[' + b",".join([b"[]"] * 500) + b"]}"
    assert told(lines(wide)) == [(1, orjson.loads(wide))]


def test_the_text_of_a_bad_row_is_kept() -> None:
    with lines(b'{"a":1}\n{"a":"\xf6\n') as stream:
        bad = [row for row in stream if isinstance(row, BadRow)]
    assert [row.text for row in bad] == ['{"a":"\ufffd']


def test_other_encodings_are_read_when_given() -> None:
    data = '{"name":"坂本龍一"}\n{"name":"x"}\n'
    assert told(lines(data.encode("shift_jis"), encoding="shift_jis"))[0][1] == {"name": "坂本龍一"}


@given(
    rows=st.lists(
        st.dictionaries(
            st.text(max_size=3),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers(-(2**63), 2**64 - 1)
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=2), inner, max_size=3)
                ),
                max_leaves=5,
            ),
            max_size=4,
        ),
        min_size=1,
        max_size=12,
    ),
    at_once=st.sampled_from([1, 9, 4096]),
    indent=st.sampled_from([None, 1]),
)
def test_what_json_writes_is_read_back(
    rows: list[dict[str, Any]], at_once: int, indent: int | None
) -> None:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert [row for _, row in told(lines(data, read_at_once=at_once), 5)] == rows
    whole = json.dumps(rows, indent=indent)
    assert [row for _, row in told(array(whole, read_at_once=at_once), 5)] == rows


# Columns


def test_late_keys_are_added_at_the_end() -> None:
    data = '{"b":1,"a":2}\n' * 3 + '{"a":3,"c":4}\n{"d":5}\n'
    with lines(data) as stream:
        assert stream.grows
        assert [column.name for column in stream.columns] == ["b", "a"]
        chunks = [*stream.chunks()]
        assert [column.name for column in stream.columns] == ["b", "a", "c", "d"]
    assert chunks[-1].columns == ("b", "a", "c", "d")
    assert list(chunks[-1].values()[-1]) == [None, None, None, 5]


@pytest.mark.parametrize("at_once", [7, 100, 1 << 16])
def test_by_the_strict_schema_a_late_key_makes_a_bad_row(at_once: int) -> None:
    """However the lines arrive, the columns are those of the first ones."""
    first = '{"a":1}\n' * (LOOKED_AT - 1) + '{"b":2}\n'
    with lines(first + '{"c":3,"a":4}\n{"b":5}\n', schema="strict", read_at_once=at_once) as stream:
        assert [column.name for column in stream.columns] == ["a", "b"]
        assert not stream.grows
        rows = told(stream)
    assert len(rows) == LOOKED_AT + 2
    number, reason = rows[-2]
    assert number == LOOKED_AT + 1
    assert "has the key 'c', which the first rows do not have" in str(reason)
    assert rows[-1] == (LOOKED_AT + 2, {"b": 5})


def test_bad_lines_at_the_beginning_do_not_hide_the_columns() -> None:
    with lines("x\n\n{\n" * 100 + '{"a":1}\n') as stream:
        assert [column.name for column in stream.columns] == ["a"]
        rows = told(stream)
    assert len(rows) == 201
    assert rows[-1] == (301, {"a": 1})


# The whole


@pytest.mark.parametrize("data", ["", "\n \n", "\ufeff"])
def test_a_file_without_rows_is_an_error(data: str) -> None:
    with pytest.raises(InputError, match=r"artists\.jsonl is empty"):
        lines(data)


def test_what_holds_no_objects_is_an_error_that_shows_why() -> None:
    with pytest.raises(InputError, match=r"line 1: is no JSON: .* Is it JSON Lines\?"):
        lines("id,name\n1,Nina\n")
    with pytest.raises(InputError, match=r"none of the [\d,]+ lines at its beginning"):
        lines("id,name\n" * 100_000, read_at_once=4096)


def test_a_row_that_has_arrived_is_given_at_once() -> None:
    pipe = Arriving(b'{"a":1}\n{"a":2}\n{"a"', b":3}\n")
    with JsonLinesStream(io.BufferedReader(pipe), name="a pipe") as stream:
        chunks = [stream.read(1000), stream.read(1000)]
    assert [[*chunk.numbers] for chunk in chunks if chunk] == [[1, 2], [3]]


def test_lines_can_be_skipped() -> None:
    assert told(lines('made by hand\n\n{"a":1}\n', skip_rows=2)) == [(3, {"a": 1})]
    with pytest.raises(InputError, match="has only 1 lines; give fewer as --skip-rows"):
        lines('{"a":1}\n', skip_rows=2)


def test_the_number_of_rows_is_estimated(tmp_path: Path) -> None:
    path = tmp_path / "artists.jsonl"
    path.write_bytes(b"".join(b'{"id":"%06d"}\n' % number for number in range(20_000)))
    with open_source(str(path)) as rows:
        assert rows.estimated_row_count == pytest.approx(20_000, rel=0.01)
        assert sum(len(chunk) for chunk in rows.chunks()) == 20_000
    with open_source(str(path), skip_rows=5_000) as rows:
        assert rows.estimated_row_count == pytest.approx(15_000, rel=0.01)


def test_a_line_without_an_end_takes_bounded_memory() -> None:
    def peak(size: int) -> int:
        data = b'{"a":1}\n' + b"x" * size + b"\n"
        tracemalloc.start()
        try:
            rows = told(lines(data, longest=10_000, read_at_once=4096))
            assert [number for number, _ in rows] == [1, 2]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(400_000) < 1.2 * peak(40_000)


def test_reading_can_be_called_off() -> None:
    stop = False
    with lines('{"a":1}\n' * 100, cancelled=lambda: stop) as stream:
        assert stream.read(10) is not None
        stop = True
        with pytest.raises(StoppedError):
            [*stream.chunks()]


# Arrays


def test_an_array_of_objects_is_read_object_by_object(tmp_path: Path) -> None:
    path = tmp_path / "artists.json"
    path.write_text('[\n {"id": 1,\n  "name": "Nina"},\n {"id": 2}\n]\n')
    with open_source(str(path)) as rows:
        assert [column.name for column in rows.columns] == ["id", "name"]
        assert rows.facts()["array"] is True
        assert told(rows) == [(2, {"id": 1, "name": "Nina"}), (4, {"id": 2})]


@pytest.mark.parametrize("schema", ["union", "strict"])
def test_the_number_of_rows_of_an_array_is_estimated(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "artists.json"
    path.write_text(json.dumps([{"id": f"{number:06}", "x": "x" * 100} for number in range(5_000)]))
    with open_source(str(path), schema=schema) as rows:
        assert rows.estimated_row_count == pytest.approx(5_000, rel=0.01)


def test_bad_ones_in_an_array_cost_no_other() -> None:
    rows = told(
        array(b'\xef\xbb\xbf [{"a":1}, 7, [2],"x", {"a":NaN},{"a":"\xf6"}, 12.5 ,{"a":2},]')
    )
    assert [row for _, row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('[{"a":1},\n{"a":2}', "line 2: the array cannot be read on: a comma or ] is missing"),
        ('[{"a":1}\n{"a":2}]', "line 2: .* a comma or ] is missing"),
        ('[{"a":1},{"a":', "cannot be read on: Expecting value"),
        ('[{"a":1},{a:2}]', "cannot be read on: Expecting property name"),
        ('[{"a":1},{"a":"' + "x" * 30_000 + '"}]', "more than 10,000 characters hold no whole"),
        ('[{"a":1},' + "[" * 100_000, "cannot be read on"),
    ],
)
def test_an_array_that_is_no_json_ends_there_and_rows_before_it_stand(
    data: str, reason: str
) -> None:
    rows: list[object] = []
    with array(data, longest=10_000) as stream, pytest.raises(InputError, match=reason) as why:
        rows.extend(row for chunk in stream.chunks() for row in chunk.dicts())
    assert rows[0] == {"a": 1}
    assert "JSON Lines" in str(why.value)


def test_an_empty_array_is_an_error() -> None:
    with pytest.raises(InputError, match="is an empty array"):
        array("[ ]")


def test_an_array_has_no_lines_to_skip() -> None:
    with pytest.raises(UsageError, match=r"--skip-rows: artists\.json is one array"):
        array("[]", skip_rows=1)


def test_by_the_strict_schema_late_keys_of_an_array_are_bad() -> None:
    data = "[" + '{"a":1},' * LOOKED_AT + '{"b":2}]'
    rows = told(array(data, schema="strict"))
    assert "has the key 'b'" in str(rows[-1][1])
    assert told(array(data))[-1][1] == {"b": 2}
