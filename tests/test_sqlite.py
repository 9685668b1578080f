"""SQLite files as a source: made by the library itself, damaged by hand."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.databases.sqlite import open_sqlite
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Column, Json


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a ?#%20é.db"


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("pragma synchronous = off")
    conn.execute("pragma journal_mode = memory")
    yield conn
    conn.close()


@pytest.fixture
def artists(database: sqlite3.Connection) -> sqlite3.Connection:
    """2,500 of them; the ids are not in the order of the table."""
    database.execute(
        "create table artists"
        " (id text not null primary key, name varchar(9) not null, born integer)"
    )
    database.execute("begin")
    database.executemany(
        "insert into artists values (?, ?, ?)",
        ((f"{i * 7919 % 2503:05}", f"Artist {i} é", None if i % 2 else i) for i in range(2500)),
    )
    database.execute("commit")
    return database


def opened(path: Path, **options: object) -> RowStream:
    content = Content(path.name, path.name, lambda: path.open("rb"), path=path, again=True)
    return open_sqlite(content, SourceOptions(**options))  # type: ignore[arg-type]


def rows(source: RowStream) -> list[dict[str, Json]]:
    with source:
        return [row for chunk in source.chunks() for row in chunk.dicts()]


def selected(database: sqlite3.Connection) -> list[dict[str, Json]]:
    found = database.execute("select id, name, born from artists").fetchall()
    return [dict(zip(("id", "name", "born"), row, strict=True)) for row in found]


def test_a_table_is_read_whole(artists: sqlite3.Connection, path: Path) -> None:
    with opened(path) as source:
        assert source.columns == (
            Column("id", "text", False),
            Column("name", "varchar(9)", False),
            Column("born", "integer", True),
        )
        assert source.estimated_row_count == 2500
        assert source.can_wait
        assert source.facts()["table"] == "artists"
        chunks = list(source.chunks(700))
    assert [row for chunk in chunks for row in chunk.dicts()] == selected(artists)
    numbers = list(itertools.chain.from_iterable(chunk.numbers for chunk in chunks))
    assert numbers == list(range(1, 2501))
    assert [len(chunk) for chunk in chunks] == [700, 700, 700, 400]


def test_pages_are_in_the_order_of_their_key_and_go_on_behind_it(
    artists: sqlite3.Connection, path: Path
) -> None:
    expected = sorted(selected(artists), key=lambda row: row["id"])
    with opened(path, page_key="id") as source:
        chunk = source.read(40)
        assert chunk is not None
        artists.execute("insert into artists values ('zzz', 'written meanwhile', 1)")
        last = source.facts()["last_key"]
        found = chunk.dicts() + [row for part in source.chunks(300) for row in part.dicts()]
    assert last == expected[39]["id"]
    assert found[:-1] == expected
    assert found[-1]["id"] == "zzz"
    assert rows(opened(path, page_key="id", after=last)) == found[40:]


def test_after_is_a_number_where_the_keys_are(database: sqlite3.Connection, path: Path) -> None:
    database.execute("create table artists as select 1 as id union select 9 union select 10")
    query = "select id + 0 as id from artists"
    assert rows(opened(path, query=query, page_key="id", after="9")) == [{"id": 10}]
    with pytest.raises(UsageError, match=r"--after x: id of .* is a number"):
        opened(path, query=query, page_key="id", after="x")


def test_cells_are_what_json_can_hold(database: sqlite3.Connection, path: Path) -> None:
    database.execute("create table artists (a, b, c, d, e, f text, g integer)")
    database.execute(
        "insert into artists values (9223372036854775807, 1.5, 9e999, x'00ff41', null, '007', 'é')"
    )
    (row,) = rows(opened(path))
    assert row == {
        "a": 9223372036854775807,
        "b": 1.5,
        "c": "Infinity",
        "d": "AP9B",
        "e": None,
        "f": "007",
        "g": "é",
    }


@pytest.mark.parametrize("page_key", [None, "id"])
def test_a_row_that_is_no_utf8_is_bad_in_its_place(
    artists: sqlite3.Connection, path: Path, page_key: str | None
) -> None:
    artists.execute(
        "update artists set name = cast(x'ff41' as text) where id in ('00007', '00300')"
    )
    with opened(path, page_key=page_key) as source:
        found = [row for chunk in source.chunks(90) for row in chunk.rows()]
    assert len(found) == 2500
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [row.number for row in found] == list(range(1, 2501))
    assert {row.text.partition(",")[0] for row in bad} == {"00007", "00300"}
    assert all("column 'name' is no UTF-8" in row.reason for row in bad)


def test_parameters(artists: sqlite3.Connection, path: Path) -> None:
    query = """
        select id, ':low' as low from artists -- :low
        where born > :low and born in (select value from json_each(:these));
    """
    params = {"low": 4, "these": [2, 4, 6, 8]}
    for page_key in (None, "id"):
        found = rows(opened(path, query=query, params=params, page_key=page_key))
        assert {row["id"] for row in found} == {f"{i * 7919 % 2503:05}" for i in (6, 8)}
        assert found[0]["low"] == ":low"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": "select :a", "params": {"b": 1}}, ":a"),
        ({"query": "selec 1"}, "syntax error"),
        ({"query": "select absent from artists"}, "no such column"),
        ({"query": "select 1; select 2"}, "syntax error|one statement"),
        ({"query": "select 1 as a, 2 as a"}, "more than one column is called 'a'"),
        ({"page_key": "nothing"}, "there is no column 'nothing'"),
        ({"page_key": "born"}, "born is empty in some rows"),
    ],
)
def test_what_cannot_be_used_is_told(
    artists: sqlite3.Connection, path: Path, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        rows(opened(path, **options))


@pytest.mark.parametrize("keys", [["b"] * 2, ["b", "B"]])
def test_a_page_key_that_repeats_is_refused(
    database: sqlite3.Connection, path: Path, keys: list[str]
) -> None:
    """Also where only SQLite takes the two for equal, and a page ends between them."""
    database.execute("create table artists (id text not null collate nocase)")
    ids = [*(f"a{number:02}" for number in range(99)), *keys, "c"]
    database.executemany("insert into artists values (?)", ((each,) for each in ids))
    with pytest.raises(UsageError, match="more than one row has id ="):
        rows(opened(path, page_key="id"))


def test_the_only_table_is_taken_and_others_are_named(
    database: sqlite3.Connection, path: Path
) -> None:
    with pytest.raises(InputError, match="it has no table"):
        opened(path)
    database.execute('create table "my ""table" as select 1 as a')
    assert rows(opened(path)) == [{"a": 1}]
    with pytest.raises(InputError, match='no table artists; it has my "table'):
        opened(path, source_table="artists")
    database.execute("create view v as select 2 as b")
    with pytest.raises(InputError, match='--source-table; it has my "table, v'):
        opened(path)
    assert rows(opened(path, source_table="V")) == [{"b": 2}]


def test_nothing_is_written(artists: sqlite3.Connection, path: Path) -> None:
    before = path.read_bytes()
    for query in ("delete from artists returning id", "pragma user_version = 7"):
        with pytest.raises(UsageError, match=r"is only read; .*--query"):
            rows(opened(path, query=query))
    assert path.read_bytes() == before


def test_a_path_may_begin_with_two_slashes(artists: sqlite3.Connection, path: Path) -> None:
    assert rows(opened(Path(f"/{path}"), max_rows=1)) == rows(opened(path, max_rows=1))


def test_rows_before_a_damage_are_given(artists: sqlite3.Connection, path: Path) -> None:
    artists.close()
    data = bytearray(path.read_bytes())
    for page in range(12, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = os.urandom(1) * 200
    path.write_bytes(data)
    found = 0
    with opened(path) as source:

        def to_the_end() -> None:
            nonlocal found
            for chunk in source.chunks(50):
                found += len(chunk)

        with pytest.raises(InputError, match="malformed; mend the file"):
            to_the_end()
    plain = 0
    with closing(sqlite3.connect(path)) as conn, suppress(sqlite3.DatabaseError):
        conn.execute("pragma cell_size_check = on")
        for _ in conn.execute("select * from artists"):
            plain += 1
    assert 0 < found == plain < 2500


@pytest.mark.parametrize("data", [b"id,name\n1,x\n" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_a_file_that_is_none(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a \?#%20é.db: "):
        opened(path)


def test_every_cut_and_flip_of_a_file_ends_in_rows_or_an_error(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute("create table artists (id text primary key, name text)")
        conn.executemany(
            "insert into artists values (?, ?)", ((f"{i}", "é" * i) for i in range(60))
        )
    conn.close()
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(0, len(whole), 199)]
    for at in range(0, len(whole), 97):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    read = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            with opened(path) as source:
                read += sum(1 for _ in source)
        except InputError:
            continue
    assert len(damaged) > 200
    assert read > 0


def test_a_cell_of_a_gigabyte_costs_an_error(path: Path, database: sqlite3.Connection) -> None:
    database.execute("create view artists as select 1 as id, zeroblob(900000000) as name")
    with pytest.raises(InputError, match=r"longer than 16 MiB; .*--query"):
        rows(opened(path))


def test_a_statement_has_its_time_and_can_be_called_off(
    path: Path, database: sqlite3.Connection
) -> None:
    database.execute(
        "create view artists as with recursive n(i) as (select 1 union all select i + 1 from n)"
        " select max(i) as id from n"
    )
    with pytest.raises(InputError, match=r"longer than 0.05 s; .*--query-timeout"):
        rows(opened(path, query_timeout=0.05))
    content = Content(path.name, path.name, lambda: path.open("rb"), path=path)
    looks = iter([False] * 20)  # while SQLite counts on
    with pytest.raises(StoppedError):
        rows(open_sqlite(content, SourceOptions(), lambda: next(looks, True)))


def test_a_file_that_comes_in_one_pass_is_put_on_disk_first(
    artists: sqlite3.Connection, path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "spill"
    folder.mkdir()
    content = Content("pipe", "x.db", lambda: path.open("rb"))
    with open_sqlite(content, SourceOptions(spill_dir=folder)) as source:
        assert list(folder.iterdir())
        assert sum(len(chunk) for chunk in source.chunks()) == 2500
    assert not list(folder.iterdir())


def test_closing_lets_go_of_the_file(artists: sqlite3.Connection, path: Path) -> None:
    artists.close()
    stream = opened(path)
    assert stream.read(1) is not None
    assert times_open(path) == 1
    stream.close()
    assert times_open(path) == 0


def times_open(path: Path) -> int:
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that by which this is listed
            found += each.readlink() == path
    return found


def test_another_thread_may_read_and_close(artists: sqlite3.Connection, path: Path) -> None:
    import asyncio

    async def count() -> int:
        with opened(path) as source:
            return len([row async for row in source])

    assert asyncio.run(count()) == 2500


def test_a_file_that_is_cut_off_is_refused(artists: sqlite3.Connection, path: Path) -> None:
    artists.close()
    os.truncate(path, path.stat().st_size - 1_000)  # within its last page: SQLite reads zeros
    with pytest.raises(InputError, match=r"is cut off: it has [\d,]+ bytes of [\d,]+; "):
        opened(path)


def test_a_checkpoint_that_was_broken_off_leaves_no_file_that_is_cut_off(
    path: Path, tmp_path: Path
) -> None:
    """The first page, put in the file already, tells of pages that stand in the log still."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("pragma journal_mode = wal")
    conn.execute("pragma wal_autocheckpoint = 0")
    conn.execute("create table artists (id integer)")
    conn.execute("begin")
    conn.executemany("insert into artists values (?)", ((each,) for each in range(2000)))
    conn.execute("commit")
    broken_off = tmp_path / "broken off.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{broken_off}{suffix}")
    conn.close()  # with the whole of its checkpoint
    with broken_off.open("r+b") as file:
        file.write(path.read_bytes()[:4096])
    assert broken_off.stat().st_size < path.stat().st_size
    assert len(rows(opened(broken_off))) == 2000


def test_a_view_that_never_ends_gives_its_first_rows(
    database: sqlite3.Connection, path: Path
) -> None:
    database.execute(
        "create view artists as with recursive n(id) as (select 1 union all select id + 1 from n)"
        " select id from n"
    )
    with opened(path, query_timeout=20.0) as source:
        chunk = source.read(3)
    assert chunk is not None
    assert list(chunk.dicts()) == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert source.estimated_row_count is None


@pytest.mark.parametrize("key", [None, "id"])
def test_rows_that_are_made_up_large_come_a_few_at_a_time(
    database: sqlite3.Connection, path: Path, key: str | None
) -> None:
    database.execute(
        "create view artists as with recursive"
        " n(id) as (select 1 union all select id + 1 from n limit 15)"
        " select id, zeroblob(8000000) as b from n"
    )
    sizes = []
    with opened(path, page_key=key) as source:
        while (chunk := source.read(1_000)) is not None:
            sizes.append(len(chunk))
            del chunk
    assert sum(sizes) == 15
    assert max(sizes[1:]) <= 3
