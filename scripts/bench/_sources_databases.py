"""Postgres, MariaDB and SQLite: each with a server, or file, of its own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _sources import COLUMNS, ROOT, Case, in_file, row

sys.path.insert(0, str(ROOT))

BATCH = 1_000
PAGE = 10_000
GROUP = 50_000
MEMORY_MIB = 60


@contextmanager
def in_postgres(folder: Path, rows: int) -> Iterator[str]:
    """At TEST_DATABASE_URL, or a server of its own."""
    import psycopg

    from tests.postgres import server, short_folder

    with (
        short_folder() as short,
        server(short) as postgres,
        psycopg.connect(postgres.url, autocommit=True) as administration,
        postgres.empty_database(administration) as url,
    ):
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "create table artists (id uuid primary key, name text not null, born int4,"
                " country text, note text)"
            )
            with conn.cursor().copy("copy artists from stdin") as copy:
                for number in range(rows):
                    copy.write_row(row(number))
            conn.execute("vacuum analyze artists")
        yield url


def by_stream(url: str) -> Iterator[int]:
    """The quickest way that psycopg's own manual has; uuid as text, as ours."""
    import psycopg
    from psycopg.types.string import TextLoader

    with psycopg.connect(url) as conn:
        conn.adapters.register_loader("uuid", TextLoader)
        batch = []
        for each in conn.cursor().stream("select * from artists", size=BATCH):
            batch.append(dict(zip(COLUMNS, each, strict=False)))
            if len(batch) == BATCH:
                yield len(batch)
                batch.clear()
        yield len(batch)


def by_pages(url: str) -> Iterator[int]:
    import psycopg
    from psycopg.types.string import TextLoader

    with psycopg.connect(url, autocommit=True) as conn:
        conn.adapters.register_loader("uuid", TextLoader)
        last = "00000000-0000-0000-0000-000000000000"
        query = "select * from artists where id > %s order by id limit %s"
        while found := conn.execute(query, [last, PAGE]).fetchall():
            last = found[-1][0]
            yield len([dict(zip(COLUMNS, each, strict=False)) for each in found])


@contextmanager
def in_mariadb(folder: Path, rows: int) -> Iterator[str]:
    """Debian's server, which must be installed, or can be."""
    from tests.mariadb import mariadb
    from tests.postgres import short_folder

    with short_folder() as short, mariadb(short) as server:
        server.run(
            "create table music.artists (id char(36) primary key, name varchar(200) not null,"
            " born int, country varchar(100), note text) character set utf8mb4"
        )
        for start in range(0, rows, GROUP):
            values = ",".join(
                "('{}','{}',{},'{}','{}')".format(*row(number))
                for number in range(start, min(rows, start + GROUP))
            )
            server.run(f"insert into music.artists values {values}")
        server.run("analyze table music.artists")
        yield server.url


def by_pymysql(url: str) -> Iterator[int]:
    from urllib.parse import unquote, urlsplit

    import pymysql
    from pymysql.cursors import SSCursor

    parts = urlsplit(url)
    conn = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=parts.username,
        password=unquote(parts.password or ""),
        database=parts.path[1:],
    )
    with conn, conn.cursor(SSCursor) as cursor:
        cursor.execute("select * from artists")
        while found := cursor.fetchmany(BATCH):
            yield len([dict(zip(COLUMNS, each, strict=False)) for each in found])


def write_sqlite(path: Path, rows: int) -> None:
    conn = sqlite3.connect(path)
    conn.execute(
        "create table artists (id text primary key, name text, born integer, country text,"
        " note text)"
    )
    conn.executemany("insert into artists values (?, ?, ?, ?, ?)", map(row, range(rows)))
    conn.commit()
    conn.close()


def by_sqlite(source: str) -> Iterator[int]:
    cursor = sqlite3.connect(source).execute("select * from artists")
    while found := cursor.fetchmany(BATCH):
        yield len([dict(zip(COLUMNS, each, strict=False)) for each in found])


def cases() -> list[Case]:
    large = (10_000_000,)
    return [
        Case(
            "postgres", 1_000_000, in_postgres, by_stream, rate=800_000, mib=MEMORY_MIB, sizes=large
        ),
        Case(
            "postgres-pages",
            1_000_000,
            in_postgres,
            by_pages,
            options={"page_key": "id"},
            rate=150_000,
            mib=MEMORY_MIB,
            sizes=large,
        ),
        Case("mariadb", 1_000_000, in_mariadb, by_pymysql, rate=200_000, mib=MEMORY_MIB),
        Case("sqlite", 1_000_000, in_file("artists.db", write_sqlite), by_sqlite, mib=MEMORY_MIB),
    ]
