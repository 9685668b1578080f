"""Several streams as one: order, numbers, columns, and what a damaged one costs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.many import Many, Part
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Row
from tests.row_streams import Listed, bad


def part(file: str, columns: Sequence[str], rows: Sequence[Any], **more: Any) -> Part:
    return Part(file, lambda: Listed(columns, rows, name=file, **more))


def failing(file: str, text: str = "gone") -> Part:
    def open_part() -> RowStream:
        raise InputError(f"{file} cannot be opened: {text}")

    return Part(file, open_part)


def many(*parts: Part, **more: Any) -> Many:
    return Many(parts, name="all", **more)


def told(stream: RowStream, size: int = 1000) -> list[tuple[Any, ...]]:
    return [
        (row.file, row.number, *(row.values if isinstance(row, Row) else (row.reason,)))
        for chunk in stream.chunks(size)
        for row in chunk.rows()
    ]


def test_rows_come_in_the_order_of_the_files_each_with_its_number_and_file() -> None:
    with many(
        part("a", ["id", "name"], [["1", "x"], bad(), ["2", "y"]]),
        part("empty", ["id", "name"], []),
        part("b", ["id", "name"], [["3", "z"]]),
    ) as stream:
        assert told(stream, 2) == [
            ("a", 2, "1", "x"),
            ("a", 3, "broken"),
            ("a", 4, "2", "y"),
            ("b", 2, "3", "z"),
        ]


def test_a_file_is_opened_when_the_one_before_it_is_done_and_closed_then() -> None:
    opened: list[str] = []
    closed: list[str] = []

    def at(file: str) -> Part:
        def open_part() -> RowStream:
            opened.append(file)
            return Listed(["id"], [[file]], name=file, on_close=lambda: closed.append(file))

        return Part(file, open_part)

    stream = many(at("a"), at("b"), at("c"))
    assert (opened, closed) == (["a"], [])
    assert stream.read(10) is not None
    assert (opened, closed) == (["a"], [])
    assert stream.read(10) is not None
    assert (opened, closed) == (["a", "b"], ["a"])
    stream.close()
    assert (opened, closed) == (["a", "b"], ["a", "b"])
    assert stream.read(10) is None


def test_columns_of_later_files_are_added_at_the_end_and_missing_cells_are_none() -> None:
    with many(
        part("a", ["id", "name"], [["1", "x"]]),
        part("b", ["born", "name", "id"], [["1933", "y", "2"]]),
        part("c", ["id", "place"], [["3", "Mali"]]),
    ) as stream:
        assert stream.grows
        assert told(stream) == [
            ("a", 2, "1", "x"),
            ("b", 2, "2", "y", "1933"),
            ("c", 2, "3", None, None, "Mali"),
        ]
        assert [column.name for column in stream.columns] == ["id", "name", "born", "place"]


def test_a_single_column_in_another_place() -> None:
    with many(part("a", ["id"], [["1"]]), part("b", ["id", "x"], [["2", "y"]])) as stream:
        assert told(stream) == [("a", 2, "1"), ("b", 2, "2", "y")]
    with many(part("a", ["x", "id"], [["y", "1"]]), part("b", ["id"], [["2"]])) as stream:
        assert told(stream) == [("a", 2, "y", "1"), ("b", 2, None, "2")]


@pytest.mark.parametrize("first_grows", [True, False])
def test_rows_that_bring_their_own_columns_keep_their_places(first_grows: bool) -> None:
    late = part("late", ["id"], [{"id": 1}, {"id": 2, "x": 3}])
    plain = part("plain", ["y", "id"], [["4", "5"]])
    parts = (late, plain) if first_grows else (plain, late)
    with many(*parts) as stream:
        found = told(stream, 1)
    if first_grows:
        assert found == [("late", 2, 1), ("late", 3, 2, 3), ("plain", 2, "5", None, "4")]
    else:
        assert found == [("plain", 2, "4", "5"), ("late", 2, None, 1), ("late", 3, None, 2, 3)]


class Grown(RowStream):
    """Its columns are further than its first rows, as those of a process that reads ahead are."""

    name = "grown"
    columns = (Column("id"),)

    def __init__(self) -> None:
        self._chunks = [Chunk(("id",), [2], [["1"]]), Chunk(("id", "x"), [3], [["2", "y"]])]

    def read(self, size: int) -> Chunk | None:
        self.columns = (Column("id"), Column("x"))
        return self._chunks.pop(0) if self._chunks else None

    def close(self) -> None:
        pass


def test_rows_from_before_a_column_turned_up_lack_it() -> None:
    with many(Part("a", Grown), part("b", ["x", "id"], [["z", "3"]])) as stream:
        assert told(stream) == [("a", 2, "1", None), ("a", 3, "2", "y"), ("b", 2, "3", "z")]
    with many(part("b", ["y", "x"], [["4", "z"]]), Part("a", Grown)) as stream:
        assert told(stream)[1:] == [("a", 2, None, None, "1"), ("a", 3, None, "y", "2")]


def test_mappings_stay_mappings_without_the_keys_that_they_did_not_have() -> None:
    with many(part("a", ["id"], [["1"]]), part("b", ["x"], [{"x": 1}])) as stream:
        chunks = list(stream.chunks())
    assert [chunk.dicts() for chunk in chunks] == [[{"id": "1"}], [{"x": 1}]]
    assert chunks[1].values() == [(None, 1)]


@pytest.mark.parametrize(
    ("columns", "told_of"),
    [
        (["id", "born"], r"b has 'born' and lacks 'name', other than .* --schema union"),
        (["id"], r"b lacks 'name',"),
        (["id", "name", "x", "y"], r"b has 'x', 'y',"),
    ],
)
def test_a_strict_schema_refuses_other_columns_before_their_rows(
    columns: list[str], told_of: str
) -> None:
    with many(
        part("a", ["id", "name"], [["1", "x"]]),
        part("b", columns, [["2"] * len(columns)]),
        schema="strict",
    ) as stream:
        assert not stream.grows
        assert stream.read(10) is not None
        with pytest.raises(InputError, match=told_of):
            stream.read(10)


def test_a_strict_schema_takes_columns_in_another_order() -> None:
    with many(
        part("a", ["id", "name"], [["1", "x"]]),
        part("b", ["name", "id"], [["y", "2"]]),
        schema="strict",
    ) as stream:
        assert told(stream) == [("a", 2, "1", "x"), ("b", 2, "2", "y")]


def test_a_later_file_that_cannot_be_read_costs_itself_alone() -> None:
    with many(
        part("a", ["id"], [["1"], ["2"], InputError("a: is damaged behind row 3")]),
        failing("b"),
        part("c", ["id"], [["3"]]),
    ) as stream:
        assert told(stream) == [
            ("a", 2, "1"),
            ("a", 3, "2"),
            ("a", 3, "the rest cannot be read: a: is damaged behind row 3"),
            ("b", 0, "the rest cannot be read: b cannot be opened: gone"),
            ("c", 2, "3"),
        ]


def test_a_file_that_cannot_be_read_stops_where_that_is_wanted() -> None:
    with many(part("a", ["id"], [["1"]]), failing("b"), on_error="stop") as stream:
        assert stream.read(10) is not None
        with pytest.raises(InputError, match="b cannot be opened"):
            stream.read(10)


def test_without_its_first_file_nothing_is_known_of_the_columns() -> None:
    with pytest.raises(InputError, match="a cannot be opened"):
        many(failing("a"), part("b", ["id"], [["1"]]))


def test_memory_that_runs_short_loses_no_row() -> None:
    with many(part("a", ["id"], [["1"], ["2"]]), part("b", ["id"], [["3"]], needs=1)) as stream:
        assert stream.read(5) is not None
        with pytest.raises(MemoryError):
            stream.read(5)
        assert told(stream, 1) == [("b", 2, "3")]


def test_the_estimate_goes_by_the_size_of_the_files() -> None:
    def sized(file: str, size: int | None, estimate: int | None = None) -> Part:
        return Part(file, lambda: Listed(["id"], [], estimate=estimate), size)

    assert many(sized("a", 100, 10), sized("b", 300)).estimated_row_count == 40
    assert many(sized("a", 100), sized("b", 300)).estimated_row_count is None
    assert many(sized("a", 100, 10), sized("b", None)).estimated_row_count is None
    assert many(sized("a", None, 10)).estimated_row_count == 10


class Opened:
    """Parts that tell when they are opened and closed."""

    def __init__(self, files: str) -> None:
        self.opened = {file: threading.Event() for file in files}
        self.closed = {file: threading.Event() for file in files}
        self.gate = threading.Event()

    def part(self, file: str) -> Part:
        def open_part() -> RowStream:
            self.opened[file].set()
            if file == "c":
                raise InputError("c cannot be opened")
            if file == "late":
                assert self.gate.wait(60)
            return Listed(["id"], [[file]], on_close=self.closed[file].set)

        return Part(file, open_part)


def test_so_many_are_opened_ahead() -> None:
    parts = Opened("abcde")
    with many(*map(parts.part, "abcde"), ahead=2) as stream:
        assert parts.opened["b"].wait(60)
        assert parts.opened["c"].wait(60)
        assert not parts.opened["d"].is_set()
        assert [row[1:] for row in told(stream)] == [
            (2, "a"),
            (2, "b"),
            (0, "the rest cannot be read: c cannot be opened"),
            (2, "d"),
            (2, "e"),
        ]


def test_all_that_were_opened_ahead_are_closed() -> None:
    parts = Opened("ab")
    with many(*map(parts.part, "ab"), ahead=1):
        assert parts.opened["b"].wait(60)
    for file in "ab":
        assert parts.closed[file].wait(60)


def test_one_that_is_still_being_opened_is_closed_as_soon_as_it_is() -> None:
    parts = Opened("a")
    parts.opened["late"] = threading.Event()
    parts.closed["late"] = threading.Event()
    with many(parts.part("a"), parts.part("late"), ahead=1):
        assert parts.opened["late"].wait(60)
    assert not parts.closed["late"].is_set()
    parts.gate.set()
    assert parts.closed["late"].wait(60)


def test_facts_name_the_files() -> None:
    class Telling(Listed):
        def facts(self) -> dict[str, Any]:
            return {"encoding": self.name}

    def at(file: str) -> Part:
        return Part(file, lambda: Telling(["id"], [["1"]], name=file))

    with many(at("a"), at("b"), at("c")) as stream:
        stream.read(1)
        assert stream.facts()["files"] == [{"file": "a", "encoding": "a"}]
        stream.read(1)
        stream.read(1)
        assert stream.read(1) is None
        assert stream.facts() == {
            "parts": 3,
            "files": [{"file": each, "encoding": each} for each in "abc"],
        }


def test_facts_of_so_many_files_are_kept() -> None:
    with many(*(part(str(at), ["id"], [["1"]]) for at in range(103))) as stream:
        assert len(list(stream)) == 103
        facts = stream.facts()
    assert facts["parts"] == 103
    assert [each["file"] for each in facts["files"]] == [str(at) for at in range(100)]


def test_a_bad_row_keeps_the_file_that_it_has_already() -> None:
    inner = Part("zip", lambda: many(part("zip/a", ["id"], [["1"], bad()])))
    with many(inner, part("b", ["id"], [bad()])) as stream:
        found = [row for chunk in stream.chunks() for row in chunk.rows()]
    assert [row.file for row in found] == ["zip/a", "zip/a", "b"]
    assert [isinstance(row, BadRow) for row in found] == [False, True, True]


def test_wrong_names_are_told_of_each_file() -> None:
    class Named(Listed):
        pass

    def named(file: str) -> Part:
        def open_part() -> RowStream:
            stream = Named(["id"], [["1"]], name=file)
            stream.opened_as = {"format": "csv", "named": f"{file} is named as Parquet and is CSV"}
            return stream

        return Part(file, open_part)

    with many(named("a"), part("b", ["id"], [["1"]]), named("c")) as stream:
        assert stream.facts()["named"] == "a is named as Parquet and is CSV"
        told(stream)
        assert stream.facts()["named"] == (
            "a is named as Parquet and is CSV; c is named as Parquet and is CSV"
        )
    with many(*(named(str(at)) for at in range(7))) as stream:
        told(stream)
        assert str(stream.facts()["named"]).endswith("4 is named as Parquet and is CSV; and 2 more")
