"""`artist-bio-gen db`: the embedded Postgres, by hand."""

from __future__ import annotations

from pathlib import Path

import click

from artist_bio_gen.cli.options import settings, settings_options
from artist_bio_gen.errors import EXIT_CONFIG


def _folder(ctx: click.Context) -> Path | None:
    """--data-dir holds the database and the models; None means the default place."""
    data_dir = settings(ctx).data_dir
    return None if data_dir is None else data_dir / "postgres"


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

    server = embedded.start(_folder(ctx), say=_progress)
    click.echo(server.url)


@db_group.command()
@settings_options("data_dir")
@click.pass_context
def stop(ctx: click.Context) -> None:
    """Stop the server, whoever is connected to it. What is committed stays."""
    from artist_bio_gen.database import embedded

    ended = embedded.stop(_folder(ctx), say=_progress)
    click.echo("stopped" if ended else "it was not running")


@db_group.command()
@settings_options("data_dir")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether the server runs, where, and at which address.

    Exits with 0 when it runs, else with 3, as `pg_ctl status` does.
    """
    from artist_bio_gen.database import embedded

    found = embedded.status(_folder(ctx))
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

    embedded.become_psql(embedded.attach(_folder(ctx)), arguments)
