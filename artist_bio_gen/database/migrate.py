"""The program's own tables: numbered files of `sql/`, applied once each, in order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from artist_bio_gen.database.connect import at_the_start, connect_first, table_identifier
from artist_bio_gen.errors import ConfigError

_LOCK = 0x61727462696F  # any number of ours: one migration at a time in a database


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def sql_folder() -> Path:
    """In an installed package `sql/` lies inside it, in a checkout beside it."""
    inside = Path(__file__).parents[1] / "sql"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "sql"


def migrations() -> Iterator[Migration]:
    for path in sorted(sql_folder().glob("[0-9]*.sql")):
        match = re.fullmatch(r"(\d+)_(\w+)", path.stem)
        if match:
            yield Migration(int(match[1]), match[2], path.read_text(encoding="utf-8"))


def pending(conn: psycopg.Connection) -> list[Migration]:
    """The migrations this database lacks. ConfigError when one was applied with another text,
    or the database is ahead of this version of the program."""
    if not _exists(conn, "artist_bio_gen.migrations"):
        return list(migrations())
    rows = conn.execute("select number, sha256 from artist_bio_gen.migrations").fetchall()
    applied: dict[int, str] = dict(rows)
    known = {migration.number: migration for migration in migrations()}
    if ahead := sorted(set(applied) - set(known)):
        raise ConfigError(
            f"database {conn.info.dbname!r} has migration {ahead[0]}, which this version does not"
            " know: it was used by a newer artist-bio-gen; update the program"
        )
    for number, digest in applied.items():
        if known[number].sha256 != digest:
            raise ConfigError(
                f"database {conn.info.dbname!r}: migration {number} was applied with another text;"
                " use the version of artist-bio-gen that made the tables"
            )
    return [migration for number, migration in sorted(known.items()) if number not in applied]


def table_exists(conn: psycopg.Connection, table: str) -> bool:
    return _exists(conn, table_identifier(table).as_string(conn))


def has_commits(conn: psycopg.Connection) -> bool:
    return _exists(conn, "artist_bio_gen.commits")


def migrate(conninfo: str, *, table: str) -> list[str]:
    """Applies what is missing and makes `table` where there is none. Returns a line for each
    thing done. All in one transaction: a crash leaves the database as it was."""
    done = []
    with at_the_start(conninfo), connect_first(conninfo) as conn, conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        try:
            for migration in pending(conn):
                conn.execute(migration.text.encode())
                conn.execute(
                    "insert into artist_bio_gen.migrations (number, name, sha256)"
                    " values (%s, %s, %s)",
                    [migration.number, migration.name, migration.sha256],
                )
                done.append(f"applied {migration.number:04d}_{migration.name}")
            if not table_exists(conn, table):
                text = (sql_folder() / "artists.sql").read_text(encoding="utf-8")
                name = table_identifier(table).as_string(conn)
                conn.execute(text.replace("{table}", name).encode())
                done.append(f"made the table {table}")
        except psycopg.errors.InsufficientPrivilege as exc:
            raise ConfigError(
                f"database {conn.info.dbname!r}: user {conn.info.user!r} may not make tables"
                f" ({exc.diag.message_primary}); let its owner run: artist-bio-gen migrate"
            ) from exc
        except psycopg.errors.InvalidSchemaName as exc:
            raise ConfigError(
                f"--table {table}: {exc.diag.message_primary}; make that schema, or name another"
            ) from exc
    return done


def _exists(conn: psycopg.Connection, name: str) -> bool:
    row = conn.execute(sql.SQL("select to_regclass(%s) is not null"), [name]).fetchone()
    return bool(row and row[0])
