"""A Postgres for tests and long runs: one that is made for them, or one that is given."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from artist_bio_gen.database import embedded


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server, with the names that pytest-postgresql looks for."""

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

    @contextmanager
    def empty_database(self, administration: psycopg.Connection) -> Iterator[str]:
        """The address of an empty database in UTF-8, which is dropped afterwards, whoever uses
        it."""
        name = f"test_{uuid.uuid4().hex}"
        identifier = sql.Identifier(name)
        administration.execute(
            sql.SQL("create database {} template template0 encoding 'UTF8'").format(identifier)
        )
        try:
            yield self.database(name)
        finally:
            administration.execute(sql.SQL("drop database {} with (force)").format(identifier))


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for data folders: unlike pytest's own, its path leaves room for a socket, and
    the account that Postgres runs as under root gets through."""
    folder = Path(tempfile.mkdtemp(prefix="abg-", dir="/tmp"))
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def server(folder: Path) -> Iterator[Postgres]:
    """The server that TEST_DATABASE_URL names, else one of its own in `folder`, stopped
    afterwards."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Postgres.at(given)
        return
    data_dir = folder / "postgres"
    try:
        yield Postgres.at(embedded.start(data_dir).url)
    finally:
        embedded.stop(data_dir)
