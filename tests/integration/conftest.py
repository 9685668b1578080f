"""A database with the program's tables and an empty `artists`, as each test finds it.

Making and dropping a database costs much more than emptying one: a module's tests share one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from artist_bio_gen.database.migrate import migrate
from tests.postgres import Postgres


@pytest.fixture(scope="module")
def _shared_database(postgres: Postgres) -> Iterator[str]:
    name = f"shared_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8'").format(
                sql.Identifier(name)
            )
        )
        try:
            yield postgres.database(name)
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def url(_shared_database: str) -> str:
    """The address. A test that changes the database as a whole takes `database_url`."""
    with psycopg.connect(_shared_database) as conn:
        # Whatever the test before has left open must not hold this one up.
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        conn.execute("drop schema if exists artist_bio_gen cascade")
        conn.execute("drop schema public cascade")
        conn.execute("create schema public; grant usage on schema public to public")
    migrate(_shared_database, table="artists")
    return _shared_database


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    """A connection of the test's own to that database, in autocommit mode."""
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn
