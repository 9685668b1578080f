"""`artist-bio-gen repair`: a damaged ledger made whole."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import EXIT_DISAGREE, EXIT_DONE
from artist_bio_gen.masking import redact

if TYPE_CHECKING:
    from artist_bio_gen.repair import Repair


@click.command("repair", cls=SettingsCommand)
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option("--ledger-id", metavar="ID", help="Its id, where neither a line nor its head tells.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options(
    *("database_url", "table", "allow_fsync_off", "allow_network_filesystem"),
    *("embedded", "yes", "data_dir"),
)
@click.pass_context
def repair_command(ctx: click.Context, ledger: Path, ledger_id: str | None, as_json: bool) -> None:
    """Make a damaged LEDGER whole: from its own lines where they verify, and where they do not,
    byte for byte from the database's commit rows.

    Shows what it would do; with --yes it is done. Damaged files are written anew and kept as they
    were in LEDGER.quarantine.… beside it. Exits with 0 when all is well, else with 5.
    """
    from artist_bio_gen.telemetry.progress import printable

    told = settings(ctx)
    done = _repair(told, ledger, ledger_id)
    secrets = config.secrets(told)
    if as_json:
        click.echo(redact(json.dumps(_as_json(done), ensure_ascii=False), secrets))
    else:
        click.echo(printable(redact("\n".join(_as_text(done)), secrets)))
    ctx.exit(EXIT_DONE if done.all_well else EXIT_DISAGREE)


def _repair(told: Settings, ledger: Path, ledger_id: str | None) -> Repair:
    from artist_bio_gen.database.mending import MendingStore
    from artist_bio_gen.database.opening import open_database
    from artist_bio_gen.ledger.belonging import require_files
    from artist_bio_gen.ledger.segments import real
    from artist_bio_gen.ledger.sharing import require_local
    from artist_bio_gen.repair import repair

    path = real(ledger)
    require_files(path)
    if not told.allow_network_filesystem:
        require_local(path)
    address = open_database(
        told.database_url,
        table=told.table,
        allow_fsync_off=told.allow_fsync_off,
        may_embed=told.embedded or told.yes or sys.stderr.isatty(),
        may_migrate=False,
        may_create_table=False,
        data_dir=told.data_dir,
        say=_say,
    )
    with MendingStore(address, table=told.table, on_trouble=_say, sleep=time.sleep) as store:
        return repair(path, store, ledger_id=ledger_id, apply=told.yes)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _as_text(done: Repair) -> Iterator[str]:
    from artist_bio_gen.cli.differences import as_text

    yield from as_text(done.counts, done.examples)
    for each in done.files if done.refused is None else ():
        lines = f"{each.own:,} lines are its own, {each.brought:,} from the database"
        if each.kept is not None:
            lines += f"; as it was: {each.kept.name}"
        yield f"{each.path.name}: {'written' if done.applied else 'would be written'} anew: {lines}"
    yield from done.notes
    if done.refused is not None:
        yield f"not mended: {done.refused}"
        return
    yield f"head     line {done.head.seq:,}, {done.head.hash}"
    if not done.files:
        yield f"{done.ledger}: each line follows the one before; nothing is to be mended"
    elif not done.applied:
        yield "nothing was changed; to mend it, give --yes"


def _as_json(done: Repair) -> dict[str, Any]:
    from artist_bio_gen.cli.differences import as_json
    from artist_bio_gen.values import path_text

    return {
        "ledger": path_text(done.ledger),
        "id": done.head.ledger,
        "head": {"seq": done.head.seq, "hash": done.head.hash},
        **as_json(done.counts, done.examples),
        "files": [
            {
                "file": path_text(each.path),
                "own": each.own,
                "brought": each.brought,
                "kept": None if each.kept is None else path_text(each.kept),
            }
            for each in done.files
        ],
        "lost": [[each.first, each.last] for each in done.lost],
        "refused": done.refused,
        "database_differs": done.database_differs,
        "notes": list(done.notes),
        "applied": done.applied,
    }
