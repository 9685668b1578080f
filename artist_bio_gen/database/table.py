"""The user's table of artists: what it must have."""

from __future__ import annotations

import psycopg

from artist_bio_gen.database.connect import table_identifier
from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.errors import ConfigError

_COLUMNS = ("id", "name", "bio")


def check_table(conn: psycopg.Connection, table: str) -> tuple[IdKind, str]:
    """The kind of its ids, and its whole name, by which a ledger knows it."""
    rows = conn.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod), c.collname"
        " from pg_attribute a left join pg_collation c"
        " on c.oid = a.attcollation and not c.collisdeterministic"
        " where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped",
        [table_identifier(table).as_string(conn)],
    ).fetchall()
    types: dict[str, str] = {name: sql_type for name, sql_type, _ in rows}
    loose: dict[str, str | None] = {name: collation for name, _, collation in rows}
    if not types and not _exists(conn, table):
        raise ConfigError(f"there is no table {table}; name another with --table")
    if lacking := [name for name in _COLUMNS if name not in types]:
        raise ConfigError(
            f"table {table} has no column {lacking[0]!r} (it has: {', '.join(types) or 'none'});"
            " it needs id, name and bio. Name another with --table"
        )
    if loose["id"] is not None:
        raise ConfigError(
            f"{table}.id has the collation {loose['id']}, for which differing texts can be equal;"
            f" ids must be told apart by each letter: make the column"
            f' {types["id"]} collate "C", or give another table with --table'
        )
    name = conn.execute(
        "select n.nspname || '.' || c.relname from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass(%s)",
        [table_identifier(table).as_string(conn)],
    ).fetchone()
    assert name is not None
    return IdKind.of(types["id"], table=table, column="id"), str(name[0])


def _exists(conn: psycopg.Connection, table: str) -> bool:
    named = table_identifier(table).as_string(conn)
    row = conn.execute("select to_regclass(%s) is not null", [named]).fetchone()
    return bool(row and row[0])
