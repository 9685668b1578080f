"""Rows as they are wanted: each option by itself, together, and on rows of both kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources.shaping import shaped
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Json, Row
from tests.row_streams import Listed, bad

COLUMNS = ("id", "name", "born")
LISTS: Sequence[Sequence[Json]] = ([" 1 ", "Nina", "1933"], ["2;3", " ", 1929], ["", None, ""])
KINDS = pytest.mark.parametrize("kind", ["lists", "dicts"])


def source(kind: str, rows: Sequence[Any] = LISTS, **more: Any) -> Listed:
    if kind == "lists":
        return Listed(COLUMNS, rows, **more)
    return Listed(
        COLUMNS,
        [
            dict(zip(COLUMNS, row, strict=True)) if isinstance(row, list | tuple) else row
            for row in rows
        ],
        **more,
    )


def read(stream: RowStream, size: int = 1000) -> list[tuple[Json, ...]]:
    return [
        row.values if isinstance(row, Row) else (row.reason,)
        for chunk in stream.chunks(size)
        for row in chunk.rows()
    ]


def rows(kind: str, given: Sequence[Any] = LISTS, **options: Any) -> list[tuple[Json, ...]]:
    return read(shaped(source(kind, given), SourceOptions(**options)))


def test_a_stream_of_which_nothing_is_wanted_is_left_as_it_is() -> None:
    stream = source("lists")
    assert shaped(stream, SourceOptions()) is stream


def test_what_is_known_of_a_stream_is_known_of_the_shaped_one() -> None:
    stream = source("lists", name="artists.csv")
    stream.can_wait = False
    made = shaped(stream, SourceOptions(strip=True))
    assert (made.name, made.can_wait, made.grows) == ("artists.csv", False, False)
    assert made.columns == stream.columns


@KINDS
def test_columns_are_taken_in_the_order_that_is_given(kind: str) -> None:
    stream = shaped(source(kind), SourceOptions(columns=("born", "id")))
    assert [column.name for column in stream.columns] == ["born", "id"]
    assert read(stream) == [("1933", " 1 "), (1929, "2;3"), ("", "")]


@KINDS
def test_a_single_column(kind: str) -> None:
    assert rows(kind, columns=("born",)) == [("1933",), (1929,), ("",)]


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"--columns x, y: .* there are 'id', 'name', 'born'"):
        shaped(source("lists"), SourceOptions(columns=("x", "id", "y")))
    with pytest.raises(UsageError, match="--key-columns x: "):
        shaped(source("lists"), SourceOptions(skip_empty=True, key_columns=("x",)))


def test_a_column_may_turn_up_later_where_rows_bring_their_own() -> None:
    listed = Listed(["id"], [{"id": 1}, {"id": 2, "late": "x"}])
    listed.grows = True
    stream = shaped(listed, SourceOptions(columns=("late", "id")))
    assert read(stream, 1) == [(None, 1), ("x", 2)]
    assert not stream.grows


def growing(*rows: Any, columns: Sequence[str] = ("id", "Name")) -> Listed:
    listed = Listed(columns, rows, name="k.jsonl")
    listed.grows = True
    return listed


def test_a_column_that_no_row_had_is_an_error_after_the_last_one() -> None:
    rows = [{"id": 1, "Name": "x"}, {"id": 2, "late": "y"}]
    stream = shaped(growing(*rows), SourceOptions(columns=("id", "Nmae", "late", "nothing")))
    assert stream.read(2) is not None
    for _ in range(2):
        with pytest.raises(
            InputError,
            match=r"k\.jsonl: --columns Nmae, nothing: .* \(did you mean 'Name'\?\); there are"
            r" 'id', 'Name', 'late'",
        ):
            stream.read(2)


def test_so_is_a_key_column_that_no_row_had() -> None:
    told = SourceOptions(skip_empty=True, key_columns=("id", "Nmae"))
    with pytest.raises(InputError, match="--key-columns Nmae: "):
        read(shaped(growing({"id": 1}), told))


def test_a_column_that_is_not_there_at_first_is_told_until_it_turns_up() -> None:
    stream = shaped(growing({"id": 1}, {"Nmae": 2}), SourceOptions(columns=("id", "Nmae")))
    (told,) = stream.facts().values()
    assert str(told).startswith("--columns Nmae: ")
    assert "did you mean 'Name'?" in str(told)
    assert read(stream, 1) == [(1, None), (None, 2)]
    assert stream.facts() == {}


def test_where_not_all_is_read_a_column_may_stand_behind() -> None:
    wanted = SourceOptions(columns=("id", "late"), max_rows=1)
    assert read(shaped(growing({"id": 1}, {"late": 2}), wanted)) == [(1, None)]


def test_of_a_source_without_a_row_or_a_header_no_column_is_missing() -> None:
    stream = shaped(growing(columns=()), SourceOptions(columns=("id", "name")))
    assert stream.facts() == {}
    assert read(stream) == []


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(UsageError, match=r"--columns NMAE, ID: .*did you mean 'name' and 'id'\?"):
        shaped(source("lists"), SourceOptions(columns=("born", "NMAE", "ID")))


def test_columns_that_turn_up_late_are_those_of_the_shaped_stream_too() -> None:
    listed = Listed(["id"], [{"id": " 1"}, {"id": "2", "late": " x"}])
    listed.grows = True
    stream = shaped(listed, SourceOptions(strip=True))
    assert stream.grows
    assert read(stream, 1) == [("1",), ("2", "x")]
    assert [column.name for column in stream.columns] == ["id", "late"]


@KINDS
def test_white_space_is_taken_off_text_alone(kind: str) -> None:
    assert rows(kind, strip=True) == [("1", "Nina", "1933"), ("2;3", "", 1929), ("", None, "")]
    assert rows(kind, [["\u2003a\t", " ", "b"]], strip=True) == [("a", "", "b")]


@KINDS
def test_rows_whose_id_and_name_are_empty_are_left_out(kind: str) -> None:
    given = [["", " ", "1900"], ["", "Nina", ""], [None, None, "x"], [0, "", ""], bad()]
    assert rows(kind, given, skip_empty=True) == [("", "Nina", ""), (0, "", ""), ("broken",)]


def test_key_columns_say_which_rows_are_empty() -> None:
    given = [["1", "Nina", " "], ["", "", "1933"]]
    assert rows("lists", given, skip_empty=True, key_columns=("born",)) == [("", "", "1933")]


def test_without_known_key_columns_all_must_be_empty() -> None:
    stream = Listed(["a", "b"], [["", " "], ["", "x"], [None, None]])
    assert read(shaped(stream, SourceOptions(skip_empty=True))) == [("", "x")]


def test_an_id_column_that_is_given_and_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="--id-column x"):
        shaped(source("lists"), SourceOptions(skip_empty=True, id_column="x"))


@KINDS
def test_an_id_of_several_parts_becomes_a_row_for_each(kind: str) -> None:
    given = [["1; 2 ;;1", "Nina", "x"], ["3", "Bill", ""], [";", "None", ""], [7, "Ray", ""]]
    stream = shaped(source(kind, given), SourceOptions(split_id=";"))
    found = list(stream)
    assert [row.values for row in found if isinstance(row, Row)] == [
        ("1", "Nina", "x"),
        ("2", "Nina", "x"),
        ("3", "Bill", ""),
        (";", "None", ""),
        (7, "Ray", ""),
    ]
    assert [row.number for row in found] == [2, 2, 3, 4, 5]


def test_the_column_of_composite_ids_can_be_given() -> None:
    stream = Listed(["id", "artist_id"], [["a", "1,2"]])
    options = SourceOptions(split_id=",", id_column="artist_id")
    assert read(shaped(stream, options)) == [("a", "1"), ("a", "2")]
    with pytest.raises(UsageError, match="may each hold the artist's id"):
        shaped(Listed(["id", "artist_id"], []), SourceOptions(split_id=","))


@KINDS
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_no_more_rows_are_read_than_wanted_bad_ones_counted(kind: str, size: int) -> None:
    given = [["1", "a", ""], bad(), bad(), ["2", "b", ""], ["3", "c", ""], bad()]
    for most in range(1, 8):
        stream = shaped(source(kind, given), SourceOptions(max_rows=most))
        found = [row for chunk in stream.chunks(size) for row in chunk.rows()]
        assert [row.number for row in found] == [*range(2, 2 + min(most, 6))]
        assert [isinstance(row, BadRow) for row in found] == [
            isinstance(row, BadRow) for row in given[:most]
        ]


def test_rows_that_are_wanted_are_counted_before_others_are_left_out() -> None:
    given = [["", "", ""], ["1;2;3", "a", ""], ["4", "b", ""]]
    assert rows("lists", given, max_rows=2, skip_empty=True, split_id=";") == [
        ("1", "a", ""),
        ("2", "a", ""),
        ("3", "a", ""),
    ]


def test_the_estimate_is_no_more_than_what_is_wanted() -> None:
    assert shaped(source("lists", estimate=100), SourceOptions(max_rows=7)).estimated_row_count == 7
    assert shaped(source("lists", estimate=3), SourceOptions(max_rows=7)).estimated_row_count == 3
    assert shaped(source("lists"), SourceOptions(max_rows=7)).estimated_row_count == 7


def test_the_steps_work_together_before_the_plug_in() -> None:
    seen: list[Chunk] = []

    def plug_in(chunk: Chunk) -> Chunk:
        seen.append(chunk)
        return chunk

    options = SourceOptions(
        strip=True, skip_empty=True, split_id=";", columns=("born", "id"), max_rows=3
    )
    stream = shaped(source("lists"), options, plug_in)
    assert read(stream) == [("1933", "1"), (1929, "2"), (1929, "3")]
    assert [chunk.columns for chunk in seen] == [("born", "id")]


def test_a_chunk_for_which_there_is_no_memory_is_shaped_again_in_halves() -> None:
    lengths: list[int] = []

    def greedy(chunk: Chunk) -> Chunk:
        lengths.append(len(chunk))
        if len(chunk) > 2:
            raise MemoryError
        return chunk

    given = [[str(at), "a", ""] for at in range(5)]
    stream = shaped(source("lists", given), SourceOptions(), greedy)
    size = 8
    found: list[str] = []
    while True:
        try:
            chunk = stream.read(size)
        except MemoryError:
            size //= 2
            continue
        if chunk is None:
            break
        found += [row[0] for row in chunk.values()]
    assert found == ["0", "1", "2", "3", "4"]
    assert max(lengths) == 5


def test_closing_closes_the_source() -> None:
    listed = source("lists")
    with shaped(listed, SourceOptions(strip=True)):
        pass
    assert listed.closed
