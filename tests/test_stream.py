"""Chunks: rows as cells and as mappings, in their order with the bad ones, in halves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.stream import Chunk, is_empty
from artist_bio_gen.values import BadRow, Row

BAD = BadRow(3, "broken")


@given(st.integers(0, 210), st.integers(0, 5))
def test_mappings_hold_each_cell_under_its_column(width: int, rows: int) -> None:
    columns = tuple(f"column {at}'\"\\" for at in range(width))
    values = [tuple(range(row, row + width)) for row in range(rows)]
    expected = [dict(zip(columns, row, strict=True)) for row in values]
    assert Chunk(columns, range(rows), values).dicts() == expected


@pytest.mark.parametrize("row", [("1",), ("1", "2", "3")])
def test_a_row_of_another_width_is_mapped_as_far_as_it_goes(row: tuple[str, ...]) -> None:
    found = Chunk(("id", "name"), (2, 3), [("0", "x"), row]).dicts()
    assert found == [{"id": "0", "name": "x"}, dict(zip(("id", "name"), row, strict=False))]


def test_rows_that_are_mappings_keep_their_keys_and_have_none_for_missing_cells() -> None:
    dicts: list[dict[str, Any]] = [{"id": 1}, {"name": "x", "id": 2}]
    chunk = Chunk(("id", "name"), (2, 4), dicts=dicts, bad=[BAD])
    assert chunk.has_dicts
    assert chunk.dicts() is dicts
    assert chunk.values() == [(1, None), (2, "x")]


def test_sound_and_bad_rows_come_in_their_order_with_their_file() -> None:
    chunk = Chunk(("id",), (2, 4), [["a"], ["b"]], bad=[BAD], file="a.csv")
    assert list(chunk.rows()) == [Row(2, ("a",), "a.csv"), BAD, Row(4, ("b",), "a.csv")]
    assert len(chunk) == 2


@pytest.mark.parametrize("kind", ["lists", "dicts"])
@pytest.mark.parametrize("bad_at", [1, 3, 5, 9])
def test_halves_hold_the_same_rows(kind: str, bad_at: int) -> None:
    values = [[at] for at in range(3)]
    bad = [BadRow(bad_at, "broken")]
    if kind == "lists":
        chunk = Chunk(("id",), (2, 4, 6), values, bad=bad)
    else:
        chunk = Chunk(("id",), (2, 4, 6), dicts=[{"id": at} for at in range(3)], bad=bad)
    first, second = chunk.halves()
    assert (len(first), len(second)) == (1, 2)
    assert [*first.rows(), *second.rows()] == [*chunk.rows()]
    assert first.has_dicts == second.has_dicts == chunk.has_dicts


def test_of_a_single_row_the_second_half_is_empty() -> None:
    first, second = Chunk(("id",), (2,), [["a"]], bad=[BAD]).halves()
    assert (len(first), len(first.bad), len(second), len(second.bad)) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("cell", "empty"), [(None, True), ("", True), (" \t", True), ("x", False), (0, False)]
)
def test_an_empty_cell_tells_nothing(cell: object, empty: bool) -> None:
    assert is_empty(cell) is empty
