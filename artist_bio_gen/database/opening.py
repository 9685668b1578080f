"""A database that is fit for a run: the one whose address was given, or the embedded one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from artist_bio_gen.database.connect import at_the_start, check_server, connect_first, describe
from artist_bio_gen.database.migrate import migrate, pending, table_exists
from artist_bio_gen.errors import ConfigError


def open_database(
    address: str | None,
    *,
    table: str,
    allow_fsync_off: bool = False,
    may_embed: bool,
    may_migrate: bool,
    may_create_table: bool,
    data_dir: Path | None = None,
    say: Callable[[str], None],
) -> str:
    """The address of a database that has all tables. None as `address` means the embedded server,
    which is started, and on which all is allowed. ConfigError names what was not agreed to, and
    how to agree."""
    if address is None:
        address = _start_embedded(data_dir, may_embed, say)
        may_migrate = may_create_table = True
    with at_the_start(address), connect_first(address) as conn:
        check_server(conn, allow_fsync_off=allow_fsync_off)
        try:
            lacking = [f"{item.number:04d}_{item.name}" for item in pending(conn)]
            lacks_table = not table_exists(conn, table)
        except psycopg.errors.InsufficientPrivilege as exc:
            raise ConfigError(
                f"{describe(address)}: {exc.diag.message_primary}; let the owner of the tables"
                " grant the rights to use them"
            ) from exc
    if lacking and not may_migrate:
        raise ConfigError(
            f"{describe(address)} has not yet the program's own tables ({', '.join(lacking)});"
            " make them with: artist-bio-gen migrate, or here with --migrate"
        )
    if lacks_table and not may_create_table:
        raise ConfigError(
            f"{describe(address)} has no table {table!r}; name yours with --table, or agree with"
            " --yes to have it made (id, name, bio)"
        )
    if lacking or lacks_table:
        for done in migrate(address, table=table):
            say(f"database: {done}")
    return address


def _start_embedded(data_dir: Path | None, allowed: bool, say: Callable[[str], None]) -> str:
    from artist_bio_gen.database import embedded

    if not allowed:
        raise ConfigError(
            "no DATABASE_URL, and nobody at a terminal to see that an embedded Postgres would be"
            " used; give --database-url, or agree with --embedded"
        )
    server = embedded.start(None if data_dir is None else data_dir / "postgres", say=say)
    say(f"no DATABASE_URL: embedded Postgres in {server.data_dir}")
    return server.url
