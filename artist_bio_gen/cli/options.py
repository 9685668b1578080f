"""The table of options as click options: made from `config.OPTIONS`, shown under its headings.

A command takes those that it needs, `@settings_options("database_url", "table")`, and gets
its `Settings` from `settings(ctx)`. Flags that stand before a subcommand count for it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from artist_bio_gen import config
from artist_bio_gen.config.options import PREFIX, SWITCH, Option
from artist_bio_gen.masking import mask_address

_FLAGS = "artist_bio_gen.flags"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a command stands: its environment, and the folder whose env files are read; None is
    the process's own. Tests pass theirs as click's `obj`."""

    environ: Mapping[str, str] | None = None
    cwd: Path | None = None


def settings(ctx: click.Context) -> config.Settings:
    """The settings as this command was told them. Raises ConfigError."""
    around = ctx.find_object(Surroundings) or Surroundings()
    return config.load(ctx.meta.get(_FLAGS, {}), around.environ, around.cwd)


def settings_options(*names: str) -> Callable[[F], F]:
    """Gives a command these settings as flags; without a name, all that have one."""

    def decorate(function: F) -> F:
        for name in reversed(names or tuple(config.OPTIONS)):
            option = config.OPTIONS[name]
            if option.flag is not None:
                function = _flag(option)(function)
        return function

    return decorate


def _flag(option: Option) -> Callable[[F], F]:
    def keep(ctx: click.Context, _: click.Parameter, value: object) -> None:
        if value is not None:
            ctx.meta.setdefault(_FLAGS, {})[option.name] = value

    declared = option.flag or ""
    if option.kind is SWITCH:
        declared = f"{declared}/{_off(declared)}"
    return click.option(
        declared,
        option.name,
        cls=_SettingOption,
        type=click.BOOL if option.kind is SWITCH else _SettingType(option),
        default=None,
        callback=keep,
        expose_value=False,
        help=described(option),
    )


class _SettingOption(click.Option):
    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        option = config.OPTIONS[str(self.name)]
        return left(option), described(option)


class _SettingType(click.ParamType[object]):
    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = option.kind.metavar

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        try:
            return self.option.parse(str(value))
        except ValueError as exc:
            self.fail(f"{mask_address(str(value))!r}: {exc}", param, ctx)


class SettingsCommand(click.Command):
    """A command whose settings stand in the help under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_settings(self, ctx, formatter)


def write_settings(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    *,
    own_first: bool = False,
) -> None:
    """The options of a command: settings under their headings, and its own after or before them.
    A setting that has no flag stands beside the others of its group."""
    groups: dict[str, list[tuple[str, str]]] = {}
    own: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if isinstance(param, _SettingOption) and record:
            groups.setdefault(config.OPTIONS[str(param.name)].group, []).append(record)
        elif record and record[1]:  # arguments are told of in the text above
            own.append(record)
    for option in config.OPTIONS.values():
        if option.flag is None and option.group in groups:
            groups[option.group].append((left(option), described(option)))
    ordered = {"Options": own} | groups if own_first else groups | {"Other": own}
    for group, records in ordered.items():
        with formatter.section(group):
            formatter.write_dl(records, col_max=32)


def left(option: Option) -> str:
    """How an option is written; one without a flag by its variable."""
    if option.flag is None:
        return option.env
    if option.kind is SWITCH:
        return f"{option.flag}/{_off(option.flag)}" if option.default else option.flag
    return f"{option.flag} {option.kind.metavar}"


def described(option: Option) -> str:
    """What an option is for, its default, and its variable where that has a name of its own."""
    notes = [] if option.kind is SWITCH else [option.shown_default()]
    if option.flag is not None and not option.env.startswith(PREFIX):
        notes.append(option.env)
    return f"{option.help}  [{'; '.join(notes)}]" if notes else option.help


def _off(flag: str) -> str:
    return f"--no-{flag.removeprefix('--')}"
