"""`artist-bio-gen migrate`: the program's tables, created or brought up to date."""

from __future__ import annotations

import sys

import click

from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options
from artist_bio_gen.config import secrets
from artist_bio_gen.masking import redact


@click.command("migrate", cls=SettingsCommand)
@settings_options("database_url", "table", "allow_fsync_off", "embedded", "yes", "data_dir")
@click.pass_context
def migrate_command(ctx: click.Context) -> None:
    """Create the program's own tables, or bring them up to date; and the artists table where
    it is missing. Without a database address, those of the embedded Postgres."""
    from artist_bio_gen.database.connect import describe
    from artist_bio_gen.database.opening import open_database
    from artist_bio_gen.telemetry.progress import printable

    told = settings(ctx)
    hidden = secrets(told)

    def say(text: str) -> None:
        click.echo(printable(redact(text, hidden)))

    address = open_database(
        told.database_url,
        table=told.table,
        allow_fsync_off=told.allow_fsync_off,
        may_embed=told.embedded or told.yes or sys.stderr.isatty(),
        may_migrate=True,
        may_create_table=True,
        data_dir=told.data_dir,
        say=say,
    )
    say(f"{describe(address)} has all tables")
