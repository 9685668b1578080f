"""Connections to Postgres, and what a server must be before anything is bought for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from artist_bio_gen.errors import ConfigError, LimitError
from artist_bio_gen.failing import on_failure

# A peer that vanished must be noticed, or the run hangs: libpq's parameters, in seconds and ms.
_ALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

_PASSING_CLASSES = ("08", "40", "53", "57P")  # connection, rollback, resources, operator
# Read-only after a failover, an idle transaction's end, locks, time.
_PASSING_CODES = ("25006", "25P03", "55P03", "55006", "57014")

_WEAK_COMMITS = ("off", "local", "remote_write")


def connect(conninfo: str) -> psycopg.Connection:
    """A connection in autocommit mode: transactions are opened where they are meant.

    Plans: the committer's statement joins a handful of rows with a table that may hold none
    today and ten million tomorrow; a plan made on the empty table would scan the full one.
    Raises `psycopg.Error`.
    """
    conn = psycopg.connect(conninfo, autocommit=True, application_name="artist-bio-gen", **_ALIVE)
    with on_failure(conn.close):
        conn.execute(
            "set jit = off; set enable_seqscan = off; set enable_hashjoin = off;"
            " set enable_mergejoin = off; set client_encoding = 'UTF8'"
        )
        if _show(conn, "synchronous_commit") in _WEAK_COMMITS:
            conn.execute("set synchronous_commit = on")
    return conn


def connect_first(conninfo: str) -> psycopg.Connection:
    """The first connection of a run. ConfigError with the way out when there is none; LimitError
    when the server was there, and what it refused may pass."""
    try:
        return connect(conninfo)
    except psycopg.Error as exc:
        where = describe(conninfo)
        if exc.sqlstate is not None and passes(exc):
            raise LimitError(f"{where}: {str(exc).strip()}; start again when that is over") from exc
        raise ConfigError(
            f"{where}: no connection: {str(exc).strip()}; check --database-url (DATABASE_URL)"
        ) from exc


def passes(exc: psycopg.Error) -> bool:
    """May it be gone at the next attempt? By SQLSTATE (PostgreSQL manual, appendix A); a lost
    connection has none."""
    state = exc.sqlstate
    if state is None:
        return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(_PASSING_CLASSES) or state in _PASSING_CODES


@contextmanager
def at_the_start(conninfo: str) -> Iterator[None]:
    """Before anything is bought there is no need to ride anything out: a server that goes away
    (LimitError), or refuses what nobody foresaw (ConfigError), is told, and the command can be
    given again."""
    try:
        yield
    except psycopg.Error as exc:
        state = f" (SQLSTATE {exc.sqlstate})" if exc.sqlstate else ""
        told = f"{describe(conninfo)}: {str(exc).strip()}{state}; nothing was bought: start again"
        if passes(exc):
            raise LimitError(f"{told} when that is over") from exc
        raise ConfigError(f"{told} when that is mended") from exc


def describe(conninfo: str) -> str:
    """The address without the password, for messages. ConfigError when it cannot be parsed."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.Error:
        # Without the error's own words and without the error: it quotes the password.
        raise ConfigError(
            "the database address cannot be read; it looks like"
            " postgresql://user:password@host:5432/dbname (--database-url, DATABASE_URL)"
        ) from None
    host = parts.get("host") or "localhost"
    port = f":{parts['port']}" if parts.get("port") else ""
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"postgresql://{user}{host}{port}/{parts.get('dbname') or ''}"


def check_server(conn: psycopg.Connection, *, allow_fsync_off: bool) -> None:
    """Raises ConfigError for a server that would lose or garble what is committed to it."""
    encoding = _show(conn, "server_encoding")
    if encoding != "UTF8":
        raise ConfigError(
            f"database {conn.info.dbname!r} has the encoding {encoding}, which cannot hold every"
            " bio; use a database made with `create database ... encoding 'UTF8'`"
        )
    if _show(conn, "transaction_read_only") == "on":
        raise ConfigError(
            f"database {conn.info.dbname!r} is read-only (a standby?); give the primary's address"
        )
    if not allow_fsync_off:
        for setting in ("fsync", "full_page_writes"):
            if _show(conn, setting) == "off":
                raise ConfigError(
                    f"the server runs with {setting}=off: a loss of power would lose bios that"
                    f" were paid for; set {setting}=on, or take the risk with --allow-fsync-off"
                )


def table_identifier(table: str) -> sql.Identifier:
    """`artists` or `schema.artists`; ConfigError for anything else."""
    parts = table.split(".")
    if len(parts) > 2 or not all(parts):
        raise ConfigError(f"--table {table}: give a table's name, or schema.table")
    return sql.Identifier(*parts)


def _show(conn: psycopg.Connection, setting: LiteralString) -> str:
    row = conn.execute("select current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])
