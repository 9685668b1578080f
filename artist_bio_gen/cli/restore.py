"""`artist-bio-gen restore`: the database's rows from a ledger."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import EXIT_DISAGREE, EXIT_DONE, UsageError
from artist_bio_gen.masking import redact

if TYPE_CHECKING:
    from artist_bio_gen.database.mending import MendingStore
    from artist_bio_gen.restore import Restored


@click.command("restore", cls=SettingsCommand)
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option(
    "--replace",
    is_flag=True,
    help="Texts in the table that are not the ledger's give way; they are kept in "
    "artist_bio_gen.replaced_bios.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options(
    *("database_url", "table", "migrate", "allow_fsync_off", "allow_network_filesystem"),
    *("embedded", "yes", "data_dir"),
)
@click.pass_context
def restore_command(ctx: click.Context, ledger: Path, replace: bool, as_json: bool) -> None:
    """Put what a LEDGER holds into a database that lacks it: commit rows, head, runs, and the
    bios in the table, without a call to the model.

    Shows what it would do; with --yes it is done, tables included. Exits with 0 when all is
    well, else with 5.
    """
    from artist_bio_gen.telemetry.progress import printable

    told = settings(ctx)
    done = _restore(told, ledger, replace=replace)
    secrets = config.secrets(told)
    if as_json:
        click.echo(redact(json.dumps(_as_json(done), ensure_ascii=False), secrets))
    else:
        click.echo(printable(redact("\n".join(_as_text(done)), secrets)))
    ctx.exit(EXIT_DONE if done.all_well else EXIT_DISAGREE)


def _restore(told: Settings, path: Path, *, replace: bool) -> Restored:
    from artist_bio_gen.database.mending import NoTables, lacks_tables
    from artist_bio_gen.ledger.belonging import require_files
    from artist_bio_gen.ledger.ledger import Ledger
    from artist_bio_gen.ledger.segments import find_id, real
    from artist_bio_gen.ledger.sharing import require_local
    from artist_bio_gen.restore import restore

    path = real(path)
    require_files(path)
    if not told.allow_network_filesystem:
        require_local(path)
    if path.is_file() and not path.stat().st_size and find_id(path) is None:
        _refuse_empty(told, path)
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(path))
        may_make = told.yes or told.migrate
        if told.database_url is not None and not may_make and lacks_tables(told.database_url):
            return restore(ledger, NoTables(), apply=False)
        store = stack.enter_context(_store(told, may_make=may_make))
        return restore(ledger, store, apply=told.yes, replace=replace)


def _refuse_empty(told: Settings, path: Path) -> NoReturn:
    """For a file that does not tell which ledger it is, no id is made up: perhaps it had lines."""
    from artist_bio_gen.database.mending import lacks_tables
    from artist_bio_gen.resume import require_id

    if told.database_url is None or not lacks_tables(told.database_url):
        with _store(told, may_make=False) as store:
            require_id(path, store)
    raise UsageError(f"{path}: holds no line, so there is nothing to restore")


def _store(told: Settings, *, may_make: bool) -> MendingStore:
    from artist_bio_gen.database.mending import MendingStore
    from artist_bio_gen.database.opening import open_database

    address = open_database(
        told.database_url,
        table=told.table,
        allow_fsync_off=told.allow_fsync_off,
        may_embed=told.embedded or told.yes or sys.stderr.isatty(),
        may_migrate=may_make,
        may_create_table=may_make and told.yes,
        data_dir=told.data_dir,
        say=_say,
    )
    return MendingStore(address, table=told.table, on_trouble=_say, sleep=time.sleep)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _as_text(done: Restored) -> Iterator[str]:
    from artist_bio_gen.cli.differences import as_text

    yield from as_text(done.counts, done.examples)
    verb = "put right" if done.applied else "would be put right"
    commits = done.commits.get("missing", 0) + done.commits.get("differs", 0)
    bios = sum(done.bios.get(bio, 0) for bio in ("no_row", "empty", "older"))
    if done.differs:
        yield f"commit rows: {commits:,} {verb}; bios: {bios:,}; runs: {done.runs:,}"
    if done.replaced:
        verb = "replaced" if done.applied else "would be replaced"
        yield f"texts: {done.replaced:,} {verb}; they are kept in artist_bio_gen.replaced_bios"
    if done.left:
        yield (
            f"texts: {done.left:,} in the table are not the ledger's and stay; --replace puts the"
            " ledger's there"
        )
    yield f"head     line {done.head.seq:,}, {done.head.hash}"
    if done.all_well and not done.applied:
        yield "the database has all that the ledger holds"
    elif not done.applied:
        yield "nothing was changed; to put it right, give --yes"


def _as_json(done: Restored) -> dict[str, Any]:
    from artist_bio_gen.cli.differences import as_json
    from artist_bio_gen.values import path_text

    return {
        "ledger": path_text(done.ledger),
        "id": done.head.ledger,
        "head": {"seq": done.head.seq, "hash": done.head.hash},
        "database_head": done.database_head,
        **as_json(done.counts, done.examples),
        "commits": dict(done.commits),
        "bios": dict(done.bios),
        "runs": done.runs,
        "left": done.left,
        "replaced": done.replaced,
        "applied": done.applied,
    }
