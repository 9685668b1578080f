"""`artist-bio-gen migrate`: the program's tables, created or brought up to date."""

from __future__ import annotations

import sys

import click

from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options


@click.command("migrate", cls=SettingsCommand)
@settings_options("database_url", "table", "allow_fsync_off", "embedded", "yes", "data_dir")
@click.pass_context
def migrate_command(ctx: click.Context) -> None:
    """Create the program's own tables, or bring them up to date; and the artists table where
    it is missing. Without a database address, those of the embedded Postgres."""
    from artist_bio_gen.database.connect import describe
    from artist_bio_gen.database.opening import open_database

    told = settings(ctx)
    address = open_database(
        told.database_url,
        table=told.table,
        allow_fsync_off=told.allow_fsync_off,
        may_embed=told.embedded or told.yes or sys.stderr.isatty(),
        may_migrate=True,
        may_create_table=True,
        data_dir=told.data_dir,
        say=click.echo,
    )
    click.echo(f"{describe(address)} has all tables")
