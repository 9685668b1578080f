"""Postgres as a source: a real server, and connections that are really cut."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.sources.databases.postgres import open_query
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Column, Json
from tests.fakes.pg_proxy import PgProxy

NAME = "artist-bio-gen"


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def artists(database: psycopg.Connection) -> psycopg.Connection:
    """2,500 of them; the ids are not in the order of the table."""
    database.execute(
        "create table artists (id int8 primary key, name varchar(40) not null, note text)"
    )
    database.execute(
        "insert into artists select i * 7919 % 2503, 'Artist ' || i, case when i % 2 = 0 then"
        " repeat('x', i % 50) end from generate_series(1, 2500) i"
    )
    database.execute("analyze artists")
    return database


def opened(url: str, **options: object) -> RowStream:
    return open_query(url, SourceOptions(**options), pauses=(0, 0), sleep=lambda _: None)  # type: ignore[arg-type]


def rows(source: RowStream) -> list[dict[str, Json]]:
    with source:
        return [row for chunk in source.chunks() for row in chunk.dicts()]


def selected(database: psycopg.Connection) -> list[dict[str, Json]]:
    found = database.execute("select id, name, note from artists").fetchall()
    return [dict(zip(("id", "name", "note"), row, strict=True)) for row in found]


def cut(database: psycopg.Connection) -> int:
    """Ends the connections of the source; how many there were."""
    found = database.execute(
        "select count(*) filter (where pg_terminate_backend(pid, 10000)) from pg_stat_activity"
        " where application_name = %s",
        [NAME],
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_table_is_read_whole(artists: psycopg.Connection, database_url: str) -> None:
    with opened(database_url) as source:
        assert source.columns == (
            Column("id", "int8", False),
            Column("name", "varchar(40)", False),
            Column("note", "text", True),
        )
        assert source.estimated_row_count == 2500
        assert not source.can_wait
        assert str(source.facts()["server"]).startswith("PostgreSQL ")
        chunks = list(source.chunks(700))
    assert [row for chunk in chunks for row in chunk.dicts()] == selected(artists)
    numbers = list(itertools.chain.from_iterable(chunk.numbers for chunk in chunks))
    assert numbers == list(range(1, 2501))
    assert max(map(len, chunks)) <= 700


def test_rows_that_the_server_has_never_counted_are_not_estimated(
    artists: psycopg.Connection, database_url: str
) -> None:
    artists.execute('create schema "My own"')
    artists.execute('create table "My own".fresh (id int8)')
    artists.execute('insert into "My own".fresh select generate_series(1, 3)')
    both = 'select a.id from artists a join "My own".fresh f on f.id = a.id'
    for options in (
        {"source_table": '"My own".fresh'},
        {"source_table": '"My own".fresh', "page_key": "id"},
        {"query": both},
    ):
        with opened(database_url, **options) as source:
            assert source.estimated_row_count is None
    artists.execute('analyze "My own".fresh')
    with opened(database_url, source_table='"My own".fresh') as source:
        assert source.estimated_row_count == 3
    with opened(database_url, query=both) as source:
        assert source.estimated_row_count is not None
    with opened(database_url, query="select 1 as id") as source:
        assert source.estimated_row_count == 1


def test_of_a_parted_table_each_part_must_have_been_counted(
    database: psycopg.Connection, database_url: str
) -> None:
    database.execute("create table artists (id int8) partition by range (id)")
    database.execute("create table low partition of artists for values from (0) to (20)")
    database.execute("create table high partition of artists for values from (20) to (40)")
    database.execute("insert into artists select generate_series(0, 39)")
    database.execute("analyze low")
    with opened(database_url) as source:
        assert source.estimated_row_count is None
    database.execute("analyze high")
    with opened(database_url) as source:
        assert source.estimated_row_count == 40


def test_pages_are_in_the_order_of_their_key(
    artists: psycopg.Connection, database_url: str
) -> None:
    with opened(database_url, page_key="id") as source:
        assert source.can_wait
        found = [row for chunk in source.chunks(300) for row in chunk.dicts()]
        assert source.facts()["last_key"] == "2502"
    assert found == sorted(selected(artists), key=lambda row: row["id"])


def test_after_goes_on_behind_the_last_key_that_was_given(
    artists: psycopg.Connection, database_url: str
) -> None:
    first = opened(database_url, page_key="name")
    with first:
        chunk = first.read(40)
        assert chunk is not None
        last = first.facts()["last_key"]
    assert last == chunk.dicts()[-1]["name"]
    rest = rows(opened(database_url, page_key="name", after=last))
    assert len(rest) == 2460
    assert chunk.dicts() + rest == rows(opened(database_url, page_key="name"))


def test_every_type_comes_as_a_cell(database: psycopg.Connection, database_url: str) -> None:
    database.execute("create type mood as enum ('calm', 'wild')")
    database.execute("create domain short as varchar(5)")
    database.execute("create type pair as (a int, b text)")
    database.execute('create schema "My data"')
    database.execute(
        'create table "My data"."a.b" as select'
        " '0b37acc2-6a1b-4c5e-9f00-0b37acc26a1b'::uuid as a, 12345678901234567890.10::numeric as b,"
        " 'NaN'::numeric as c, '007'::text as d, 9223372036854775807::int8 as e, true as f,"
        " 1.5::float8 as g, 'infinity'::float4 as h, '{\"k\": [1, null, \"é\"]}'::jsonb as i,"
        " array[['a', null], ['b', '{']] as j, array[1.50, 2] as k, date '0201-02-03' as l,"
        " timestamp '2001-02-03 04:05:06.5' as m, timestamptz '2001-02-03 04:05:06+02' as n,"
        " time '04:05:06' as o, timetz '04:05:06.25+05:30' as p, '1 day 6 hours'::interval as q,"
        " '\\x00ff41'::bytea as r, 'wild'::mood as s, array['calm']::mood[] as t,"
        " int4range(1, 5) as u, inet '10.0.0.1' as v, row(1, 'x')::pair as w, 'abcde'::short as x,"
        " timestamp 'infinity' as y, timestamp '0044-03-15 12:00 BC' as z, null::uuid as zz"
    )
    with opened(database_url, source_table='"My data"."a.b"') as source:
        types = {column.name: column.type for column in source.columns}
        (row,) = (row for chunk in source.chunks() for row in chunk.dicts())
    assert row == {
        "a": "0b37acc2-6a1b-4c5e-9f00-0b37acc26a1b",
        "b": "12345678901234567890.10",
        "c": "NaN",
        "d": "007",
        "e": 9223372036854775807,
        "f": True,
        "g": 1.5,
        "h": "Infinity",
        "i": {"k": [1, None, "é"]},
        "j": [["a", None], ["b", "{"]],
        "k": ["1.50", "2"],
        "l": "0201-02-03",
        "m": "2001-02-03T04:05:06.500000",
        "n": "2001-02-03T02:05:06+00:00",
        "o": "04:05:06",
        "p": "04:05:06.250000+05:30",
        "q": "P1DT6H",
        "r": "AP9B",
        "s": "wild",
        "t": ["calm"],
        "u": "[1,5)",
        "v": "10.0.0.1",
        "w": "(1,x)",
        "x": "abcde",
        "y": "infinity",
        "z": "0044-03-15 12:00:00 BC",
        "zz": None,
    }
    assert (types["a"], types["t"], types["s"]) == ("uuid", "mood[]", "mood")


def test_parameters_are_put_where_they_are_meant(
    artists: psycopg.Connection, database_url: str
) -> None:
    query = """
        select id::text, ':low' as a, $q$:low$q$ as b, E'\\':low' as c, name as ":low"
        from artists -- :low
        /* :low /* :low */ :low */
        where id > :low and id = any(:these) and name like :like and (:like)::text is not null;
    """
    params = {"low": 3, "these": [1, 2, 4, 5], "like": "Artist %"}
    found = rows(opened(database_url, query=query, params=params))
    assert sorted(row["id"] for row in found) == ["4", "5"]
    assert {(row["a"], row["b"], row["c"]) for row in found} == {(":low", ":low", "':low")}
    paged = rows(opened(database_url, query=query, params=params, page_key="id"))
    assert [row["id"] for row in paged] == ["4", "5"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": "select :a::int", "params": {"b": 1}}, "the query has :a"),
        ({"query": "select 1", "params": {"b": 1}}, "the query has no :b"),
        ({"query": "selec 1"}, "syntax error"),
        ({"query": "select 1 as a, 2 as a"}, "more than one column is called 'a'"),
        ({"query": "set work_mem = 64"}, "it gives no rows"),
        ({"params": {"b": 1}}, "--params are those of a --query"),
        ({"after": "1"}, "--after is a value of --page-key"),
        ({"query": "select 1", "source_table": "x"}, "both given"),
        ({"page_key": "nothing"}, "there is no column 'nothing'"),
        ({"page_key": "note"}, "note is empty in some rows"),
        ({"page_key": "id", "after": "x"}, "invalid input syntax"),
        ({"source_table": "a.b.c"}, "or schema.table"),
    ],
)
def test_what_cannot_be_used_is_told(
    artists: psycopg.Connection, database_url: str, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        rows(opened(database_url, **options))


def test_a_missing_table_is_named(database_url: str) -> None:
    with pytest.raises(InputError, match=r'"missing" does not exist; name another'):
        opened(database_url, source_table="missing")


def test_a_page_key_that_repeats_is_refused(artists: psycopg.Connection, database_url: str) -> None:
    artists.execute("create table twice as select (i + 1) / 2 as id from generate_series(1, 300) i")
    artists.execute("alter table twice alter id set not null")
    with pytest.raises(UsageError, match="more than one row has id = '1'"):
        rows(opened(database_url, source_table="twice", page_key="id"))


def test_a_repeated_key_between_two_pages_is_seen(
    artists: psycopg.Connection, database_url: str
) -> None:
    """The first page has 100 rows; the 100th and the 101st have one key."""
    artists.execute(
        "create table border as select case when i > 100 then i - 1 else i end as id"
        " from generate_series(1, 150) i"
    )
    with pytest.raises(UsageError, match="more than one row has id = '100'"):
        rows(opened(database_url, source_table="border", page_key="id"))


def test_nothing_can_be_written(artists: psycopg.Connection, database_url: str) -> None:
    for page_key in (None, "id"):
        query = "with gone as (delete from artists returning id) select id from gone"
        with pytest.raises((InputError, UsageError)):
            rows(opened(database_url, query=query, page_key=page_key))
    assert len(selected(artists)) == 2500


def test_pages_leave_no_transaction_open(artists: psycopg.Connection, database_url: str) -> None:
    with opened(database_url, page_key="id") as source:
        source.read(10)
        states = artists.execute(
            "select state from pg_stat_activity where application_name = %s", [NAME]
        ).fetchall()
        assert states == [("idle",)]


def test_pages_outlive_their_connection(artists: psycopg.Connection, database_url: str) -> None:
    found = []
    cuts = 0
    with opened(database_url, page_key="id") as source:
        while (chunk := source.read(100)) is not None:
            found += chunk.dicts()
            cuts += cut(artists)
    assert cuts >= 2
    assert [row["id"] for row in found] == sorted(row["id"] for row in selected(artists))


def test_pages_end_when_the_server_stays_away(
    artists: psycopg.Connection, database_url: str
) -> None:
    waited: list[float] = []
    with PgProxy(database_url) as proxy:
        source = open_query(
            proxy.url, SourceOptions(page_key="id"), pauses=(0.1, 0.15), sleep=waited.append
        )
        with source:
            assert source.read(100) is not None
            proxy.go_away()
            with pytest.raises(
                InputError, match=r"100 rows and 3 attempts; .* --after 100 goes on"
            ):
                rows(source)
    assert waited == [0.1, 0.15]


def test_a_stream_that_is_cut_says_how_to_go_on(
    artists: psycopg.Connection, database_url: str
) -> None:
    """More than the sockets hold, so that the server is still sending."""
    query = "select i, repeat('x', 1000) as x from generate_series(1, 200000) i"
    with opened(database_url, query=query) as source:
        assert source.read(100) is not None
        assert cut(artists) == 1
        last = 100

        def to_the_end() -> None:
            nonlocal last
            for chunk in source.chunks():
                last = chunk.numbers[-1]

        with pytest.raises(InputError, match="--page-key") as told:
            to_the_end()
    assert f"behind row {last:,}" in str(told.value)


def test_a_statement_has_its_time(database_url: str) -> None:
    source = opened(database_url, query="select pg_sleep(60)::text as a", query_timeout=0.05)
    with source, pytest.raises(InputError, match=r"longer than 0.05 s; .*--query-timeout"):
        source.read(1)


@pytest.mark.parametrize("page_key", [None, "a"])
def test_a_wait_can_be_called_off(
    database: psycopg.Connection, database_url: str, page_key: str | None
) -> None:
    """Called off when the server is known to sleep; it stops sleeping then."""
    running = (
        "select count(*) from pg_stat_activity where application_name = %s and state = 'active'"
    )
    stop = threading.Event()

    def watch() -> None:
        while database.execute(running, [NAME]).fetchone() == (0,):
            pass
        stop.set()

    query = "select i as a, pg_sleep(3600)::text as b from generate_series(1, 3) i"
    with open_query(
        database_url, SourceOptions(query=query, page_key=page_key), stop.is_set
    ) as source:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with pytest.raises(StoppedError):
            source.read(1)
    watcher.join()
    deadline = time.monotonic() + 60  # of the hour that it would sleep if it were not told
    while database.execute(running, [NAME]).fetchone() != (0,):
        assert time.monotonic() < deadline, "the server was not told"


def test_a_row_that_is_no_utf8_is_bad_and_the_rest_goes_on(
    database_url: str, database: psycopg.Connection
) -> None:
    database.execute("create database ascii encoding sql_ascii template template0 locale 'C'")
    try:
        url = psycopg.conninfo.make_conninfo(database_url, dbname="ascii")
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("set client_encoding = sql_ascii")
            conn.execute("create table artists (id int primary key, name text)")
            conn.execute("insert into artists values (1, 'a'), (2, E'\\xff'), (3, 'c')")
        for page_key in (None, "id"):
            with opened(url, page_key=page_key) as source:
                (chunk,) = source.chunks()
            assert chunk.dicts() == [{"id": 1, "name": "a"}, {"id": 3, "name": "c"}]
            assert list(chunk.numbers) == [1, 3]
            (bad,) = chunk.bad
            assert isinstance(bad, BadRow)
            assert bad.number == 2
            assert "no UTF-8" in bad.reason
            assert bad.text == "2, \ufffd"
    finally:
        database.execute("drop database ascii with (force)")


def test_no_password_is_shown() -> None:
    for url in (
        "postgresql://me:s3cret-word@127.0.0.1:1/x",
        "postgresql://me:s3cret-word@127.0.0.1:port/x",
    ):
        with pytest.raises(ConfigError) as told:
            opened(url)
        assert "s3cret-word" not in str(told.value)


def test_a_sort_of_the_whole_table_for_each_page_is_told(
    database: psycopg.Connection, database_url: str
) -> None:
    database.execute("create table artists as select i as id from generate_series(1, 150000) i")
    database.execute("analyze artists")
    with opened(database_url, page_key="id") as source:
        assert "no index" in str(source.facts()["slow"])
    database.execute("alter table artists add primary key (id)")
    with opened(database_url, page_key="id") as source:
        assert "slow" not in source.facts()
