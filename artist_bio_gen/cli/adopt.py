"""`artist-bio-gen adopt`: a file of the earlier format becomes a ledger."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options

if TYPE_CHECKING:
    from artist_bio_gen.adoption import Adoption
    from artist_bio_gen.telemetry import Hook

_LEFT = {
    "rejected": "no line of the format",
    "differs": "another text is there",
    "elsewhere": "in another ledger of this database",
    "no_row": "not in the table",
    "refused": "refused by the database",
}


@click.command("adopt", cls=SettingsCommand)
@click.argument("old", type=click.Path(path_type=Path, dir_okay=False))
@settings_options(
    "output",
    "database_url",
    "table",
    "on_missing",
    "migrate",
    "allow_fsync_off",
    "allow_network_filesystem",
    "embedded",
    "yes",
    "data_dir",
    "log",
    "log_file",
)
@click.option(
    "--replace",
    "replace_others",
    is_flag=True,
    help="A text takes the place of another one, which is kept in replaced_bios.",
)
@click.option(
    "--list",
    "list_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to list what is left, also without --yes; with it, else, beside the ledger. Only an"
    " earlier list is overwritten.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
@click.pass_context
def adopt_command(
    ctx: click.Context, old: Path, replace_others: bool, list_path: Path | None, as_json: bool
) -> None:
    """Take over OLD, a JSONL file of the earlier format, into the ledger --output: its bios are
    not bought again. Shows what that comes to; with --yes it is done.

    What has no bio there, or one that did not reach the database, is left for a run with
    --resume; a bio of which the table has another text is left as it is, unless --replace is
    given. May be stopped and given again at any time.
    """
    from artist_bio_gen.adopt import adopt, usual_list
    from artist_bio_gen.cli.signals import on_signals
    from artist_bio_gen.ledger.segments import real
    from artist_bio_gen.masking import redact
    from artist_bio_gen.processor.control import Control
    from artist_bio_gen.telemetry import Telemetry
    from artist_bio_gen.telemetry.progress import notices, printable

    told = settings(ctx)
    secrets = config.secrets(told)
    control = Control()

    def say(text: str) -> None:
        click.echo(printable(redact(text, secrets)), err=True)

    def stop(name: str) -> None:
        control.stop(f"interrupted by {name}")
        say("stopping; give the same command again to go on")

    others = {"the file to be taken over": old}
    if told.yes or list_path is not None:
        others["the list of what is left"] = list_path or usual_list(real(told.output))
    with _log(told, others) as hooks, on_signals(stop):
        found = adopt(
            told,
            old,
            replace_others=replace_others,
            list_path=list_path,
            telemetry=Telemetry(*hooks, notices(say, verbose=told.verbose)),
            say=say,
            control=control,
            attended=sys.stderr.isatty(),
        )
    if as_json:
        import orjson

        click.echo(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(printable(redact("\n".join(report(found)), secrets)))
    ctx.exit(found.exit_code)


@contextlib.contextmanager
def _log(told: config.Settings, others: Mapping[str, Path]) -> Iterator[list[Hook]]:
    """The commit log, as of a run; only where something is done."""
    from artist_bio_gen.cli.paths import log_file, require_own_paths
    from artist_bio_gen.telemetry.commit_log import CommitLog

    require_own_paths(told, others=others)
    path = log_file(told)
    if not (told.log and told.yes and path.parent.is_dir()):
        yield []
        return
    with CommitLog(
        path,
        flush=told.log_flush,
        max_mb=told.log_max_mb,
        keep=told.log_keep,
        secrets=config.secrets(told),
    ) as log:
        yield [log]


def report(found: Adoption) -> Iterator[str]:
    """For a person, a line for each thing."""
    would = "" if found.done else "would be "
    yield f"lines    {found.lines:,} read, {found.good:,} with a bio that reached the database"
    if found.repeated:
        yield f"repeated {found.repeated:,} of these are of artists of whom a newer one counts"
    yield (
        f"taken    {found.taken:,} {would}taken over: {found.same:,} the table has,"
        f" {found.put:,} {would}put into it, {found.replaced:,} in place of others"
    )
    yield f"there    {found.in_ledger:,} in the ledger already"
    why = ", ".join(f"{count:,} {reason}" for reason, count in found.again.most_common())
    yield f"again    {found.again.total():,} artists have no bio{f' ({why})' if why else ''}"
    left = {kind: count for kind, count in found.left.items() if kind != "again"}
    why = ", ".join(f"{count:,} {_LEFT[kind]}" for kind, count in left.items())
    yield f"left     {sum(left.values()):,}{f' ({why})' if why else ''}"
    for kind in left:
        for each in found.examples[kind]:
            whose = f", artist {each.artist_id} ({each.artist_name})" if each.artist_id else ""
            yield f"         line {each.line}{whose}: {each.reason}"
    if found.further:
        names = ", ".join(repr(name) for name, _ in found.further.most_common(5))
        yield f"not kept keys that the format has not: {names}"
    if found.list_path is not None:
        yield f"list     {found.list_path}"
    if found.interrupted:
        yield "stopped  give the same command again to go on"
    elif not found.done:
        yield "nothing was changed; to take it over: the same command with --yes"
    elif found.hash is not None:
        yield f"run      {found.run}"
        yield f"ledger   {found.ledger}"
        yield f"head     line {found.seq:,}, {found.hash}"
