"""`artist-bio-gen migrate`: the program's tables, created or brought up to date."""

from __future__ import annotations

import click

from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import ConfigError


@click.command("migrate", cls=SettingsCommand)
@settings_options("database_url", "table", "embedded", "yes", "data_dir")
@click.pass_context
def migrate_command(ctx: click.Context) -> None:
    """Create the program's own tables, or bring them up to date; and the artists table where
    it is missing. Without a database address, those of the embedded Postgres."""
    from artist_bio_gen.database.migrate import migrate

    told = settings(ctx)
    done = migrate(told.database_url or _embedded_url(told), table=told.table)
    click.echo("\n".join(done) or "up to date")


def _embedded_url(told: Settings) -> str:
    if not (told.embedded or told.yes):
        raise ConfigError(
            "no DATABASE_URL; give --database-url, or --embedded for the embedded Postgres"
        )
    from artist_bio_gen.database import embedded

    return embedded.start(told.data_dir, say=lambda text: click.echo(text, err=True)).url
