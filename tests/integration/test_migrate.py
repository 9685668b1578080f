"""The program's tables, made once each, beside whatever else stands in the database."""

from __future__ import annotations

import threading

import psycopg
import pytest

from artist_bio_gen.database.migrate import migrate, migrations, pending, table_exists
from artist_bio_gen.errors import ConfigError


def tables(conn: psycopg.Connection) -> set[str]:
    found = conn.execute(
        "select schemaname || '.' || tablename from pg_tables"
        " where schemaname not in ('pg_catalog', 'information_schema')"
    )
    return {name for (name,) in found}


@pytest.fixture
def empty(url: str, admin: psycopg.Connection) -> str:
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    return url


def test_an_empty_database_gets_all_tables_once(empty: str, admin: psycopg.Connection) -> None:
    names = [f"{each.number:04d}_{each.name}" for each in migrations()]
    assert names
    assert [f"{each.number:04d}_{each.name}" for each in pending(admin)] == names
    assert migrate(empty, table="artists") == [
        *(f"applied {name}" for name in names),
        "made the table artists",
    ]
    assert tables(admin) >= {"public.artists", "artist_bio_gen.commits", "artist_bio_gen.heads"}
    assert pending(admin) == []
    assert migrate(empty, table="artists") == []


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    found = list(migrations())
    assert [each.number for each in found] == list(range(1, len(found) + 1))


def test_a_table_of_the_users_stays_as_it_is(empty: str, admin: psycopg.Connection) -> None:
    admin.execute("create table musicians (id int, name text, bio text, born int)")
    admin.execute("insert into musicians values (1, 'Nina', 'By hand.', 1933)")
    before = admin.execute(
        "select attname, atttypid, attnotnull from pg_attribute"
        " where attrelid = 'musicians'::regclass order by attnum"
    ).fetchall()
    assert "made the table musicians" not in migrate(empty, table="musicians")
    after = admin.execute(
        "select attname, atttypid, attnotnull from pg_attribute"
        " where attrelid = 'musicians'::regclass order by attnum"
    ).fetchall()
    assert after == before
    assert admin.execute("select * from musicians").fetchall() == [(1, "Nina", "By hand.", 1933)]
    assert not table_exists(admin, "artists")
    indexes = "select count(*) from pg_indexes where tablename = 'musicians'"
    assert admin.execute(indexes).fetchall() == [(0,)]


def test_many_that_migrate_at_once_do_it_once(empty: str, admin: psycopg.Connection) -> None:
    done: list[list[str]] = []
    starting = threading.Barrier(4)

    def run() -> None:
        starting.wait()
        done.append(migrate(empty, table="artists"))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert sum(1 for each in done if each) == 1


def test_a_database_of_a_newer_program_is_refused(url: str, admin: psycopg.Connection) -> None:
    admin.execute("insert into artist_bio_gen.migrations values (9999, 'later', 'x')")
    with pytest.raises(ConfigError, match=r"migration 9999.*update the program"):
        pending(admin)
    with pytest.raises(ConfigError, match="migration 9999"):
        migrate(url, table="artists")


def test_a_migration_applied_with_another_text_is_refused(
    url: str, admin: psycopg.Connection
) -> None:
    admin.execute("update artist_bio_gen.migrations set sha256 = 'x' where number = 1")
    with pytest.raises(ConfigError, match="migration 1 was applied with another text"):
        migrate(url, table="artists")


def test_what_fails_half_way_leaves_nothing(empty: str, admin: psycopg.Connection) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        migrate(empty, table="nowhere.artists")
    assert tables(admin) == set()


@pytest.mark.parametrize(
    "table",
    ["Artists", 'with "quotes"', "a; drop table kept", "100 %s", "new\n; drop table kept; --"],
)
def test_a_tables_name_is_only_ever_a_name(
    empty: str, admin: psycopg.Connection, table: str
) -> None:
    admin.execute("create table kept (n int)")
    migrate(empty, table=table)
    assert tables(admin) >= {f"public.{table}", "public.kept"}
