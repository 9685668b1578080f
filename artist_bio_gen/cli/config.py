"""`artist-bio-gen config`: each setting with its value and where that came from."""

from __future__ import annotations

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options


@click.command("config", cls=SettingsCommand)
@settings_options()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.pass_context
def config_command(ctx: click.Context, as_json: bool) -> None:
    """Show each setting with its value and where that came from; secrets masked."""
    told = settings(ctx)
    click.echo(as_object(told) if as_json else as_table(told))


def as_table(told: config.Settings) -> str:
    from artist_bio_gen.telemetry.progress import one_line

    masked = config.masked(told)
    rows = [("setting", "value", "from")]
    for name, option in config.OPTIONS.items():
        value = masked[name]
        text = option.written(tuple(value) if isinstance(value, list) else value)
        rows.append((name, one_line(text) or f"({option.otherwise})", told.origin(name)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


def as_object(told: config.Settings) -> str:
    import json

    masked = config.masked(told)
    each = {
        name: {
            "value": masked[name],
            "from": told.origin(name),
            "flag": option.flag,
            "env": option.env,
        }
        for name, option in config.OPTIONS.items()
    }
    return json.dumps(each, indent=2)  # ASCII: escapes what would steer a terminal
