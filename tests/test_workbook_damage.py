"""What a library raises over a workbook, and what a person reads of it."""

from __future__ import annotations

import pytest

from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.workbook.damage import damage_told


class Panic(BaseException):
    """As pyo3 raises it: no Exception."""


@pytest.mark.parametrize("raised", [ValueError, OSError, StopIteration, Panic])
def test_whatever_a_library_raises_is_told_as_damage(raised: type[BaseException]) -> None:
    told = r"^a\.xlsx cannot be read \(two lines\); it is damaged"
    with pytest.raises(InputError, match=told), damage_told("a.xlsx"):
        raise raised("two\n lines")


def test_the_row_is_the_last_one_at_the_time_of_the_error() -> None:
    rows: list[int] = []

    def fail_behind_some() -> None:
        with damage_told("a.xlsx", lambda: 1_000 + len(rows)):
            rows.extend(range(200))
            raise Panic

    with pytest.raises(InputError, match=r"behind row 1,200 \(Panic\)") as caught:
        fail_behind_some()
    assert isinstance(caught.value.__cause__, Panic)


@pytest.mark.parametrize("raised", [MemoryError, KeyboardInterrupt, SystemExit, InputError])
def test_what_is_none_of_the_files_goes_on_as_it_is(raised: type[BaseException]) -> None:
    error = raised("as it was")
    with pytest.raises(raised) as caught, damage_told("a.xlsx"):
        raise error
    assert caught.value is error
