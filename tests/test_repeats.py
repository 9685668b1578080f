"""The first row of an artist counts, whatever the number of rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

from artist_bio_gen.repeats import without_repeats
from artist_bio_gen.values import Artist, Rejected, Skipped
from tests.builders import artist


def test_the_first_row_of_an_id_goes_through_and_others_are_repeated() -> None:
    rejected = Rejected(3, "no id")
    again = [replace(artist(1), row=row) for row in (4, 5)]
    rows = [artist(1), artist(2), rejected, *again, artist(3)]
    assert list(without_repeats(rows)) == [
        artist(1),
        artist(2),
        rejected,
        *(Skipped(row, "repeated") for row in again),
        artist(3),
    ]


def test_ids_are_compared_byte_for_byte() -> None:
    ids = ["a", "A", "a ", "á", "a\u0301", "1", "01", "坂本龍一"]
    rows = [artist(number, id=id_) for number, id_ in enumerate(ids)]
    assert list(without_repeats(rows)) == rows


def test_rows_are_taken_one_by_one() -> None:
    def rows() -> Iterator[Artist]:
        yield artist(1)
        raise AssertionError("the second row was not asked for")

    assert next(without_repeats(rows())) == artist(1)


def test_memory_stays_flat() -> None:
    def used(count: int) -> int:
        tracemalloc.start()
        try:
            rows = (artist(number) for number in range(count))
            assert all(isinstance(row, Artist) for row in without_repeats(rows))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    used(100)
    assert used(20_000) < 2 * used(2_000)
