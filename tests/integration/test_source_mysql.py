"""MariaDB as a source: Debian's server, and connections that are really cut."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.sources.databases.mysql import open_query
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import Column, Json
from tests.mariadb import MariaDb, mariadb

ARTISTS = """
use music;
create table artists (
    id int primary key, name varchar(40) not null, note text
) character set utf8mb4;
insert into artists select seq * 7919 % 2503, concat('Artist ', seq, if(seq % 3, '', ' 🎻é')),
    if(seq % 2 = 0, repeat('x', seq % 50 * 20), null) from seq_1_to_2500;
analyze table artists;
"""
CUT = "kill connection user reader; do sleep(0);"


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[MariaDb]:
    with mariadb(short_dir) as started:
        yield started


@pytest.fixture
def empty(server: MariaDb) -> MariaDb:
    server.run("drop database music; create database music character set utf8mb4")
    return server


@pytest.fixture
def artists(empty: MariaDb) -> MariaDb:
    empty.run(ARTISTS)
    return empty


def opened(server: MariaDb, **options: object) -> RowStream:
    return open_query(
        server.url,
        SourceOptions(**options),  # type: ignore[arg-type]
        pauses=(0, 0),
        sleep=lambda _: None,
    )


def rows(source: RowStream) -> list[dict[str, Json]]:
    with source:
        return [row for chunk in source.chunks() for row in chunk.dicts()]


def expected() -> dict[int, dict[str, Json]]:
    return {
        number * 7919 % 2503: {
            "id": number * 7919 % 2503,
            "name": f"Artist {number}" + ("" if number % 3 else " 🎻é"),
            "note": None if number % 2 else "x" * (number % 50 * 20),
        }
        for number in range(1, 2501)
    }


def test_a_table_is_read_whole(artists: MariaDb) -> None:
    with opened(artists) as source:
        assert source.columns == (
            Column("id", "int(11)", False),
            Column("name", "varchar(40)", False),
            Column("note", "text", True),
        )
        assert source.estimated_row_count == pytest.approx(2500, rel=0.2)
        assert not source.can_wait
        assert str(source.facts()["server"]).startswith("MariaDB 1")
        chunks = list(source.chunks(700))
    found = {row["id"]: row for chunk in chunks for row in chunk.dicts()}
    assert found == expected()
    numbers = list(itertools.chain.from_iterable(chunk.numbers for chunk in chunks))
    assert numbers == list(range(1, 2501))
    assert [len(chunk) for chunk in chunks] == [700, 700, 700, 400]


@pytest.mark.parametrize("key", ["id", "name"])
def test_pages_give_each_row_once(artists: MariaDb, key: str) -> None:
    with opened(artists, page_key=key) as source:
        assert source.can_wait
        chunk = source.read(40)
        assert chunk is not None
        last = source.facts()["last_key"]
    assert last == chunk.dicts()[-1][key]
    rest = rows(opened(artists, page_key=key, after=str(last)))
    found = chunk.dicts() + rest
    assert len(found) == 2500
    assert {row["id"]: row for row in found} == expected()
    if key == "id":
        assert [row["id"] for row in found] == sorted(expected())


def test_every_type_comes_as_a_cell(empty: MariaDb) -> None:
    empty.run(
        """
        use music; set sql_mode = '';
        create table `a.b` (
            a tinyint(1), b bigint unsigned, c decimal(30, 2), d varchar(9), e double, f json,
            g datetime(3), h timestamp null, i date, j time, k bit(9), l varbinary(9), m year,
            n enum('calm', 'wild'), o datetime, p date, q int(5) zerofill, r time(6), s longblob,
            t float
        );
        set time_zone = '+02:00';
        insert into `a.b` values (
            1, 18446744073709551615, 12345678901234567890.10, '007', 1.5, '{"k": [1, null, "é"]}',
            '2001-02-03 04:05:06.5', '2001-02-03 04:05:06', '2001-02-03', '-25:00:00', b'101',
            x'00ff41', 2001, 'wild', 0, '2001-00-00', 42, '04:05:06.25', null, 0.1
        );
        """
    )
    with opened(empty, source_table="`a.b`") as source:
        types = {column.name: column.type for column in source.columns}
        (row,) = (row for chunk in source.chunks() for row in chunk.dicts())
    assert row == {
        "a": 1,
        "b": 18446744073709551615,
        "c": "12345678901234567890.10",
        "d": "007",
        "e": 1.5,
        "f": {"k": [1, None, "é"]},
        "g": "2001-02-03T04:05:06.500000",
        "h": "2001-02-03T02:05:06+00:00",
        "i": "2001-02-03",
        "j": "-25:00:00",
        "k": 5,
        "l": "AP9B",
        "m": 2001,
        "n": "wild",
        "o": "0000-00-00T00:00:00",
        "p": "2001-00-00",
        "q": 42,
        "r": "04:05:06.250000",
        "s": None,
        "t": 0.1,
    }
    assert (types["b"], types["d"], types["f"]) == ("bigint(20) unsigned", "varchar(9)", "json")
    (again,) = rows(opened(empty, query="select * from `a.b`"))
    assert again == row


@pytest.mark.parametrize(
    "length", [0, 250, 251, 65_535, 65_536, 2**24 - 5, 2**24 - 1, 2**24, 2**25]
)
def test_a_cell_of_any_length_comes_whole(empty: MariaDb, length: int) -> None:
    """The protocol has a form for each size, and cuts what is longer than 16 MiB."""
    empty.run(
        "use music; create table artists (id int primary key, a longtext);"
        f"insert into artists values (1, repeat('x', {length})), (2, 'behind')"
    )
    for page_key in (None, "id"):
        first, second = rows(opened(empty, page_key=page_key))
        assert len(first["a"]) == length
        assert first["a"].strip("x") == ""
        assert second == {"id": 2, "a": "behind"}


def test_json_that_cannot_be_read_is_a_bad_row(empty: MariaDb) -> None:
    empty.run(
        "use music; create table artists (id int primary key, a json);"
        "insert into artists values (1, '{}'), (2, '1e400'), (3, '[1]')"
    )
    for page_key in (None, "id"):
        with opened(empty, page_key=page_key) as source:
            (chunk,) = source.chunks()
        assert chunk.dicts() == [{"id": 1, "a": {}}, {"id": 3, "a": [1]}]
        (bad,) = chunk.bad
        assert (bad.number, bad.text) == (2, "2, 1e400")


def test_parameters_are_put_where_they_are_meant(artists: MariaDb) -> None:
    query = """
        select id, ':low' as a, "it''s \\":low" as b, name as `:low` from artists -- :low
        /* :low */ # :low
        where id > :low and id in :these and name like :like and :quote = '\\'"%s';
    """
    params = {"low": 3, "these": [1, 2, 4, 5], "like": "Artist %", "quote": "'\"%s"}
    for page_key in (None, "id"):
        found = rows(opened(artists, query=query, params=params, page_key=page_key))
        assert sorted(row["id"] for row in found) == [4, 5]
        assert {row["a"] for row in found} == {":low"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": "select :a", "params": {"b": 1}}, "the query has :a"),
        ({"query": "select 1 as c", "params": {"b": 1}}, "the query has no :b"),
        ({"query": "selec 1"}, "SQL syntax"),
        ({"query": "select nothing from artists"}, "Unknown column"),
        ({"query": "select 1 as a, 2 as a"}, "more than one column is called 'a'"),
        ({"query": "select 1 in :a as b", "params": {"a": []}}, "a is an empty list"),
        ({"page_key": "nothing"}, "there is no column 'nothing'"),
        ({"page_key": "note"}, "note is empty in some rows"),
    ],
)
def test_what_cannot_be_used_is_told(
    artists: MariaDb, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        rows(opened(artists, **options))


def test_a_missing_table_is_named(empty: MariaDb) -> None:
    with pytest.raises(InputError, match=r"missing' doesn't exist; name another"):
        opened(empty, source_table="missing")


def test_a_page_key_that_repeats_for_the_server_is_refused(empty: MariaDb) -> None:
    """The server takes "É99" for "e99": of these two, which the end of the first page parts, the
    second one would not be read."""
    empty.run(
        "use music; create table artists (id varchar(9) not null);"
        "insert into artists select concat('a', lpad(seq, 3, '0')) from seq_1_to_99;"
        "insert into artists values ('e99'), ('É99'), ('f')"
    )
    with pytest.raises(UsageError, match="more than one row has id ="):
        rows(opened(empty, page_key="id"))


def test_nothing_can_be_written(artists: MariaDb) -> None:
    for page_key in (None, "id"):
        with pytest.raises((InputError, UsageError)):
            rows(opened(artists, query="delete from artists returning id", page_key=page_key))
    assert len(rows(opened(artists))) == 2500


def test_pages_outlive_their_connection(artists: MariaDb) -> None:
    found = []
    with opened(artists, page_key="id") as source:
        while (chunk := source.read(500)) is not None:
            found += chunk.dicts()
            artists.run(CUT)
    assert [row["id"] for row in found] == sorted(expected())


def test_a_stream_that_is_cut_gives_what_had_come_and_says_how_to_go_on(artists: MariaDb) -> None:
    query = "select seq, repeat('x', 1000) as x from seq_1_to_200000"
    last = 100
    with opened(artists, query=query) as source:
        assert source.read(100) is not None
        artists.run(CUT)

        def to_the_end() -> None:
            nonlocal last
            for chunk in source.chunks():
                assert [row["seq"] for row in chunk.dicts()] == list(chunk.numbers)
                last = chunk.numbers[-1]

        with pytest.raises(InputError, match="--page-key") as told:
            to_the_end()
    assert f"behind row {last:,};" in str(told.value)
    assert last > 100


def test_a_statement_has_its_time(empty: MariaDb) -> None:
    query = "select count(*) from seq_1_to_100000 a, seq_1_to_100000 b"
    source = opened(empty, query=query, query_timeout=0.1)
    with source, pytest.raises(InputError, match=r"longer than 0.1 s; .*--query-timeout"):
        source.read(1)


def test_a_wait_can_be_called_off(empty: MariaDb) -> None:
    """Called off when the server is known to count; it ends that then. (From a sleep it wakes by
    itself, some seconds after the connection is gone.)"""
    look = (
        "select count(*) as n from information_schema.processlist"
        " where info like '%1_to_1000000000%' and info not like '%processlist%'"
    )

    def is_counting() -> bool:
        return rows(opened(empty, query=look)) == [{"n": 1}]

    query = "select count(*) from seq_1_to_1000000000 a, seq_1_to_1000000000 b"
    with (
        open_query(empty.url, SourceOptions(query=query), is_counting) as source,
        pytest.raises(StoppedError),
    ):
        source.read(1)
    until = time.monotonic() + 60  # of the years that it would count if it were not told
    while is_counting():
        assert time.monotonic() < until, "the server was not told"


def test_no_password_is_shown(server: MariaDb) -> None:
    for url in (
        "mysql://me:s3cret-word@127.0.0.1:1/x",
        "mysql://me:s3cret-word@127.0.0.1:port/x",
        f"mysql://me:s3cret-word@127.0.0.1:{server.port}/x",
        "mysql://me:s3cret-word@127.0.0.1/x?charset=latin1",
    ):
        with pytest.raises(ConfigError) as told:
            open_query(url, SourceOptions())
        assert "s3cret-word" not in str(told.value)


def test_a_socket_will_do(artists: MariaDb) -> None:
    url = artists.url.replace(f"127.0.0.1:{artists.port}", "localhost")
    source = open_query(f"{url}?unix_socket={artists.socket}", SourceOptions())
    assert len(rows(source)) == 2500
