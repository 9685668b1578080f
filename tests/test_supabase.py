"""Supabase as a source, against a PostgREST of the tests' own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.sources.databases.supabase import open_query
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import Column, Json
from tests.fakes.postgrest import KEY, PostgRest


def artist(number: int) -> dict[str, Json]:
    return {"id": number, "name": f"Artist {number} é", "data": {"born": 1900 + number % 100}}


@pytest.fixture
def rest() -> Iterator[PostgRest]:
    with PostgRest([artist(number) for number in range(250, 0, -1)], max_rows=60) as started:
        yield started


def opened(address: str, waited: list[float] | None = None, **options: object) -> RowStream:
    given = SourceOptions(**{"source_key": KEY, **options})  # type: ignore[arg-type]
    pauses = (1, 2)
    return open_query(
        address, given, pauses=pauses, sleep=(waited if waited is not None else []).append
    )


def rows(source: RowStream) -> list[dict[str, Json]]:
    with source:
        return [row for chunk in source.chunks() for row in chunk.dicts()]


def test_pages_that_the_server_cuts_are_not_the_end(rest: PostgRest) -> None:
    with opened(rest.url) as source:
        assert source.columns == (
            Column("id", "json"),
            Column("name", "json"),
            Column("data", "json"),
        )
        assert source.estimated_row_count == 250
        assert source.can_wait
        found = [row for chunk in source.chunks(25) for row in chunk.dicts()]
        assert source.facts()["last_key"] == 250
    assert found == [artist(number) for number in range(1, 251)]
    assert len(rest.requests) == 2 + 5 + 1


def test_the_address_chooses_columns_and_rows(rest: PostgRest) -> None:
    found = rows(opened(f"{rest.url}?select=name,id&name=gt.Artist%208", after="85"))
    assert [*found[0]] == ["name", "id"]
    assert [row["id"] for row in found] == [86, 87, 88, 89, *range(90, 100)]


@pytest.mark.parametrize("page_key", ["id", "name"])
def test_after_goes_on_behind_the_last_key_that_was_given(rest: PostgRest, page_key: str) -> None:
    with opened(rest.url, page_key=page_key) as source:
        first = source.read(7)
        assert first is not None
        last = source.facts()["last_key"]
    rest_of_it = rows(opened(rest.url, page_key=page_key, after=str(last)))
    assert first.dicts() + rest_of_it == rows(opened(rest.url, page_key=page_key))
    assert len(rest_of_it) == 243


def test_a_table_without_rows(rest: PostgRest) -> None:
    rest.rows = []
    with opened(f"{rest.url}?select=id,name") as source:
        assert [column.name for column in source.columns] == ["id", "name"]
        assert source.estimated_row_count == 0
        assert source.read(10) is None


def test_a_busy_server_is_waited_for(rest: PostgRest) -> None:
    waited: list[float] = []
    source = opened(rest.url, waited)
    rest.failures = [(429, {"Retry-After": "5"}, {"message": "slowly"}), (503, {}, b"<html>")]
    assert len(rows(source)) == 250
    assert sum(waited) == pytest.approx(5 + 2)


def test_a_cut_connection_is_made_anew(rest: PostgRest) -> None:
    waited: list[float] = []
    with opened(rest.url, waited) as source:
        found = []
        while (chunk := source.read(30)) is not None:
            found += chunk.dicts()
            rest.failures = [(0, {}, None)]
            if len(found) > 200:
                rest.failures = []
    assert found == [artist(number) for number in range(1, 251)]
    assert waited == [], "a server may close what nobody used for a while"


def test_a_server_that_stays_away_ends_it_with_the_way_on(rest: PostgRest) -> None:
    waited: list[float] = []
    with opened(rest.url, waited) as source:
        assert source.read(30) is not None
        assert source.read(30) is not None
        rest.failures = [(500, {}, {"message": f"broken, says {KEY}"})] * 9
        with pytest.raises(InputError, match=r"500: broken, .* 3 attempts; .* --after 60") as told:
            rows(source)
    assert KEY not in str(told.value)
    assert sum(waited) == pytest.approx(1 + 2)


@pytest.mark.parametrize("twins", [(3, 4), (60, 61)])
def test_a_key_that_repeats_is_refused(rest: PostgRest, twins: tuple[int, int]) -> None:
    """Within a page, and where the server has cut one."""
    one, other = twins
    rest.rows = [{**artist(n), "id": one if n == other else n} for n in range(1, 200)]
    with pytest.raises(UsageError, match=f"more than one row has id = {one}"):
        rows(opened(rest.url))


def test_a_key_that_is_empty_somewhere_is_refused(rest: PostgRest) -> None:
    rest.rows.append({**artist(1), "id": None})
    with pytest.raises(UsageError, match="id is empty in some rows"):
        opened(rest.url)


@pytest.mark.parametrize(
    ("query", "options", "error", "told"),
    [
        ("?order=name", {}, UsageError, "order= cannot be used"),
        ("?limit=5", {}, UsageError, "--max-rows"),
        ("?nothing=eq.5", {}, UsageError, "400: column nothing does not exist"),
        ("?select=name", {}, UsageError, "there is no column 'id'"),
        ("s", {}, InputError, "404: no such table"),
        ("", {"source_key": None}, ConfigError, "SUPABASE_KEY"),
        ("", {"source_key": "another-key-that-is-long"}, ConfigError, "401: .*SUPABASE_KEY"),
        ("", {"query": "select 1"}, UsageError, "--query"),
    ],
)
def test_what_cannot_be_used_is_told(
    rest: PostgRest,
    query: str,
    options: dict[str, object],
    error: type[Exception],
    told: str,
) -> None:
    with pytest.raises(error, match=told) as found:
        opened(rest.url + query, **options)
    assert "another-key" not in str(found.value)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("supabase+http://example.com/rest/v1/artists", "unencrypted"),
        ("supabase+https://:key-of-mine@example.com/rest/v1/artists", "SUPABASE_KEY"),
        ("supabase+https://example.com:port/rest/v1/artists", "cannot be read"),
        ("supabase+https://example.com/", "cannot be read"),
    ],
)
def test_addresses_that_are_refused(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as found:
        opened(address)
    assert "key-of-mine" not in str(found.value)


def test_the_key_goes_to_nobody_else(rest: PostgRest) -> None:
    rest.failures = [(302, {"Location": "http://127.0.0.1:9/rest/v1/artists"}, b"")]
    with pytest.raises(ConfigError, match="the key is not given to others"):
        opened(rest.url)
    rest.failures = [(307, {"Location": "/rest/v1/artists?limit=1"}, b"")]
    assert len(rows(opened(rest.url))) == 250


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match=r"no reply: .*refused"):
        opened(f"supabase+http://127.0.0.1:{port}/rest/v1/artists")


def test_a_server_that_says_nothing_is_given_up_and_can_be_called_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"supabase+http://127.0.0.1:{server.getsockname()[1]}/rest/v1/artists"
        with pytest.raises(ConfigError, match=r"none within 0.01 s"):
            opened(url, query_timeout=0.01)
        looks = iter([False])
        with pytest.raises(StoppedError):
            open_query(url, SourceOptions(source_key=KEY), lambda: next(looks, True))
