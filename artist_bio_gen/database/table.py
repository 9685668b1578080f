"""The user's table of artists: what it must have."""

from __future__ import annotations

import psycopg

from artist_bio_gen.database.connect import table_identifier
from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.errors import ConfigError

_COLUMNS = ("id", "name", "bio")

# Of tables alone: what a view or a foreign table must not have empty, its own server knows. A
# domain need not say itself that it is not null, its base may; the base's default is its own. Of
# pg_trigger.tgtype 7 is BEFORE INSERT FOR EACH ROW.
_LEFT_EMPTY = """
    select a.attname from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    where c.oid = to_regclass(%s) and c.relkind in ('r', 'p') and a.attname <> all(%s)
      and (a.attnotnull or exists (
        with recursive kind as (
            select t.typnotnull, t.typbasetype
            union all
            select b.typnotnull, b.typbasetype from kind join pg_type b on b.oid = kind.typbasetype
        ) select from kind where typnotnull))
      and not a.atthasdef and a.attidentity = '' and t.typdefault is null
      and not exists (select from pg_trigger g where g.tgrelid = c.oid and g.tgtype & 7 = 7
        and g.tgenabled in ('O', 'A'))
      and not exists (select from pg_rewrite r where r.ev_class = c.oid and r.ev_type = '3')
    order by a.attnum
"""


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


def check_new_rows(conn: psycopg.Connection, table: str) -> None:
    """Raises ConfigError where a row of id, name and bio alone could not be made: another column
    must not be null, and nothing fills it. What a trigger or a rule does is not known beforehand;
    where there is one, it is let go."""
    named = table_identifier(table).as_string(conn)
    left = [row[0] for row in conn.execute(_LEFT_EMPTY, [named, list(_COLUMNS)])]
    if left:
        what, have = ("column", "has") if len(left) == 1 else ("columns", "have")
        raise ConfigError(
            f"table {table}: {what} {', '.join(left)} must not be null and {have} no default, so an"
            " artist who is not in the table could not be put into it; give a default, or leave"
            " such artists out with --on-missing skip"
        )


def _exists(conn: psycopg.Connection, table: str) -> bool:
    named = table_identifier(table).as_string(conn)
    row = conn.execute("select to_regclass(%s) is not null", [named]).fetchone()
    return bool(row and row[0])
