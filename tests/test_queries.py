"""What the databases share, without a server: parameters, names, pages."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources.databases.queries import (
    MYSQL_SYNTAX,
    POSTGRES_SYNTAX,
    Batch,
    Flaw,
    LostError,
    Pager,
    Pages,
    table_parts,
    wait,
    with_params,
)
from artist_bio_gen.values import Column, Json


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("a = :x", "a = <x>"),
        ("a=:x::int", "a=<x>::int"),
        ("a::x = :x", "a::x = <x>"),
        ("arr[1:x] = :x", "arr[1:x] = <x>"),
        ("'it''s :x' || :x", "'it''s :x' || <x>"),
        (r"'\' || :x || '\'", r"'\' || <x> || '\'"),
        (r"e'\':x' || :x", r"e'\':x' || <x>"),
        ('":x" = :x', '":x" = <x>'),
        ("$a$ :x $b$ :x $a$ || :x", "$a$ :x $b$ :x $a$ || <x>"),
        ("$$:x$$ || :x", "$$:x$$ || <x>"),
        ("/* :x /* :x */ :x */ :x", "/* :x /* :x */ :x */ <x>"),
        ("-- :x\n:x", "-- :x\n<x>"),
        ("-- it's\n:x", "-- it's\n<x>"),
        ("f(:x,:x)", "f(<x>,<x>)"),
        ("a := :x", "a := <x>"),
    ],
)
def test_parameters_of_postgres(query: str, meant: str) -> None:
    assert with_params(query, POSTGRES_SYNTAX, {"x": 1}, "<{}>".format) == meant


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        (r"'\':x' = :x", r"'\':x' = <x>"),
        (r'"\":x""" = :x', r'"\":x""" = <x>'),
        ("`:x` = :x", "`:x` = <x>"),
        ("# :x\n:x", "# :x\n<x>"),
        ("--:x", "--<x>"),
        ("-- :x\n/* :x */:x", "-- :x\n/* :x */<x>"),
    ],
)
def test_parameters_of_mysql(query: str, meant: str) -> None:
    assert with_params(query, MYSQL_SYNTAX, {"x": 1}, "<{}>".format) == meant


@pytest.mark.parametrize("syntax", [POSTGRES_SYNTAX, MYSQL_SYNTAX])
def test_a_query_with_a_parameter_that_is_not_given_says_how_to_give_it(
    syntax: re.Pattern[str],
) -> None:
    with pytest.raises(UsageError, match=r"""has :born; give it with --params '{"born": …}'"""):
        with_params("select * from artists where born > :born", syntax, {}, str)
    assert with_params("select ':born'", syntax, {}, str) == "select ':born'"


def test_a_query_without_parameters_stays_as_it_is() -> None:
    assert with_params("select a[1 :n]", POSTGRES_SYNTAX, {}, str) == "select a[1 :n]"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("artists", ("artists",)),
        ("My Schema.Artists", ("My Schema", "Artists")),
        ('"a.b"."c""d"', ("a.b", 'c"d')),
        ("`a.b`", ("a.b",)),
    ],
)
def test_names_of_tables(name: str, parts: tuple[str, ...]) -> None:
    assert table_parts(name) == parts


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a.b.c", 'a"b', '"a"b'])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="give a table's name"):
        table_parts(name)


class Numbers(Pager):
    """The numbers from 1 on. `errors` are raised first, one for each page that is asked."""

    def __init__(self, count: int, errors: Sequence[BaseException] = (), width: int = 1) -> None:
        self.count = count
        self.errors = [*errors]
        self.width = width
        self.limits: list[int] = []
        self.closed = 0

    def page(self, after: Json, limit: int) -> Batch:
        self.limits.append(limit)
        if self.errors:
            raise self.errors.pop(0)
        numbers = range((after or 0) + 1, min(self.count, (after or 0) + limit) + 1)
        rows: list[Sequence[Json] | Flaw] = [
            Flaw("odd", cells=(n,)) if n == 13 else (n, "x" * self.width) for n in numbers
        ]
        return Batch(rows, [*numbers], flawed=13 in numbers)

    def repeated(self, key: Json) -> bool:
        return False

    def close(self) -> None:
        self.closed += 1


def pages(pager: Pager, **options: object) -> Pages:
    columns = (Column("n"), Column("x"))
    return Pages(pager, name="numbers", columns=columns, key="n", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 5000])
def test_pages_give_each_row_once(count: int) -> None:
    with pages(Numbers(count)) as source:
        found = [row.number for row in source]
        assert source.facts()["last_key"] == (count or None)
    assert found == list(range(1, count + 1))


def test_pages_grow_as_far_as_their_rows_are_short() -> None:
    short, long = Numbers(50_000), Numbers(50, width=1 << 20)
    with pages(short) as source:
        assert sum(len(chunk) for chunk in source.chunks()) == 49_999
    assert short.limits[:4] == [100, 1000, 10_000, 10_000]
    with pages(long) as source:
        assert sum(len(chunk) for chunk in source.chunks()) == 49
    assert long.limits == [100]


def test_pages_shrink_as_far_as_their_rows_are_long() -> None:
    long = Numbers(300, width=1 << 20)
    with pages(long) as source:
        assert sum(len(chunk) + len(chunk.bad) for chunk in source.chunks()) == 300
    assert long.limits[:3] == [100, 1, 1]


def test_after_a_memory_error_the_same_rows_are_asked_in_a_smaller_page() -> None:
    pager = Numbers(120, [MemoryError()])
    with pages(pager) as source:
        with pytest.raises(MemoryError):
            source.read(1000)
        assert [row.number for row in source] == list(range(1, 121))
    assert pager.limits[:2] == [100, 50]


def test_a_lost_connection_is_waited_for_as_long_as_there_are_pauses() -> None:
    waited: list[float] = []
    pager = Numbers(5, [LostError("gone"), LostError("gone", retry_after=0.18)])
    with pages(pager, pauses=(0.125, 0.125), sleep=waited.append) as source:
        assert len(list(source)) == 5
    assert waited == [0.125, 0.18]
    pager = Numbers(5, [LostError("gone")] * 3)
    with (
        pages(pager, pauses=(0.1, 0.1), sleep=waited.append, after="k") as source,
        pytest.raises(InputError, match=r"gone, after 0 rows and 3 attempts; .* --after k goes on"),
    ):
        source.read(1)


def test_a_wait_can_be_called_off() -> None:
    slept: list[float] = []
    with pytest.raises(StoppedError):
        wait(100, lambda: len(slept) == 3, slept.append)
    assert len(slept) == 3
