"""`artist-bio-gen db`: the embedded Postgres, by hand."""

from __future__ import annotations

import click

from artist_bio_gen.cli.options import settings, settings_options
from artist_bio_gen.errors import EXIT_CONFIG


def _progress(line: str) -> None:
    click.echo(line, err=True)


@click.group("db")
def db_group() -> None:
    """Start, stop and look into the embedded Postgres."""


@db_group.command()
@settings_options("data_dir")
@click.pass_context
def start(ctx: click.Context) -> None:
    """Start the server if it does not run, and print its address.

    It goes on running when this command ends, and after a crash of whatever used it.
    """
    from artist_bio_gen.database import embedded

    server = embedded.start(settings(ctx).data_dir, say=_progress)
    click.echo(server.url)


@db_group.command()
@settings_options("data_dir")
@click.pass_context
def stop(ctx: click.Context) -> None:
    """Stop the server, whoever is connected to it. What is committed stays."""
    from artist_bio_gen.database import embedded

    ended = embedded.stop(settings(ctx).data_dir, say=_progress)
    click.echo("stopped" if ended else "it was not running")


@db_group.command()
@settings_options("data_dir")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the server runs, where, and at which address.

    Exits with 0 when it runs, else with 3, as `pg_ctl status` does.
    """
    from artist_bio_gen.database import embedded

    found = embedded.status(settings(ctx).data_dir)
    click.echo(found.report())
    ctx.exit(0 if found.server else EXIT_CONFIG)


@db_group.command(context_settings={"ignore_unknown_options": True})
@settings_options("data_dir")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def psql(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Open psql on the server, which must run.

    ARGUMENTS are handed on to psql, such as: -c "select count(*) from artists".
    """
    from artist_bio_gen.database import embedded

    embedded.become_psql(embedded.attach(settings(ctx).data_dir), arguments)
