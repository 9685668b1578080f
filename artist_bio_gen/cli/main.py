"""The command `artist-bio-gen`: its main form, its subcommands, and the edge of the program.

Only what the help needs is imported here; a subcommand is imported when it is called.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import tempfile
import traceback
from typing import IO, TYPE_CHECKING, Any

import click

from artist_bio_gen import __version__, config
from artist_bio_gen.cli.options import Surroundings, settings, settings_options, write_settings
from artist_bio_gen.cli.signals import begin, leave_while_starting
from artist_bio_gen.cli.streams import in_printing, let_go, open_missing
from artist_bio_gen.config.options import PREFIX
from artist_bio_gen.errors import (
    EXIT_DEFECT,
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    EXIT_USAGE,
    ArtistBioGenError,
    out_of_memory,
)
from artist_bio_gen.masking import redact

if TYPE_CHECKING:
    from artist_bio_gen.cli.run import Run

SUBCOMMANDS = {
    "rows": ("artist_bio_gen.cli.rows:rows_command", "Show the rows of a source, or convert them."),
    "config": ("artist_bio_gen.cli.config:config_command", "Show each setting and its origin."),
    "verify": ("artist_bio_gen.cli.verify:verify_command", "Check a ledger, and the database."),
    "repair": ("artist_bio_gen.cli.repair:repair_command", "Mend a ledger from the database."),
    "restore": ("artist_bio_gen.cli.restore:restore_command", "Mend the database from a ledger."),
    "adopt": ("artist_bio_gen.cli.adopt:adopt_command", "Take over a file of the earlier format."),
    "ledger": ("artist_bio_gen.cli.ledger:ledger_group", "Look at a ledger, and export it."),
    "migrate": ("artist_bio_gen.cli.migrate:migrate_command", "Create or update the tables."),
    "db": ("artist_bio_gen.cli.db:db_group", "Start, stop and look at the embedded Postgres."),
    "model": ("artist_bio_gen.cli.model:model_group", "List and fetch local models."),
}


_NOT_GIVEN = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What is wrong with a path that was given, wherever it is met first."""


class Failure(click.ClickException):
    """An error as the user sees it, with the exit code that belongs to it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file or sys.stderr)


class Program(click.Group):
    """The command with its subcommands, imported when called, and the edge of the program."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        module, name = SUBCOMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in SUBCOMMANDS and ("." in word or os.path.exists(word)):  # noqa: PTH110
            ctx.fail(f"{word} is no command; to read it: {config.COMMAND} --input {word}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_settings(self, ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in SUBCOMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            begin()
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except ArtistBioGenError as exc:
            raise Failure(_told(str(exc), ctx), exc.exit_code) from exc
        except KeyboardInterrupt as exc:
            raise Failure("interrupted", EXIT_INTERRUPTED) from exc
        except MemoryError as exc:
            raise Failure(str(out_of_memory()), EXIT_LIMIT) from exc
        except Exception as exc:
            if isinstance(exc, OSError) and (exc.errno == errno.EPIPE or in_printing(exc)):
                raise  # the standard output takes no more: no defect of ours
            if isinstance(exc, OSError) and exc.filename and exc.errno in _NOT_GIVEN:
                told = f"{exc.filename}: {exc.strerror}; name another path, or mend its rights"
                raise Failure(_told(told, ctx), EXIT_USAGE) from exc
            # The edge of the program: whatever nobody knew ends here, with its traceback kept.
            raise Failure(_defect(exc, ctx), EXIT_DEFECT) from exc


def program(run: Run | None = None) -> click.Group:
    """The command. `run` does the job; None is the program's own runner."""

    @click.group(
        config.COMMAND,
        cls=Program,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog=f"A setting is taken from its flag, else the environment, else .env.local, else "
        f".env. --max-rows is {PREFIX}MAX_ROWS there, and so on, where no other name is "
        f"given. Each --switch has a --no-switch.\n\nExit codes: 0 done, 1 input cannot be read, "
        f"2 wrong usage, 3 configuration, 4 some rows failed or were rejected, 5 ledger and "
        f"database disagree, 6 stopped by a limit (can be resumed), 130 interrupted.",
    )
    @settings_options()
    @click.version_option(__version__, "--version", message="%(prog)s %(version)s")
    @click.pass_context
    def main_form(ctx: click.Context) -> None:
        """Have a short biography written for each artist of a catalogue, by a language model:
        committed to Postgres and entered in a ledger, bought once.

        Main form: artist-bio-gen --input artists.csv
        """
        if ctx.invoked_subcommand is not None:
            return
        told = settings(ctx)
        if told.input is None:
            ctx.fail(f"no --input; for example: {config.COMMAND} --input artists.csv")
        from artist_bio_gen.cli.run import own_runner, run_job

        ctx.exit(run_job(told, run=run or own_runner()))

    return main_form


def main() -> None:
    """Leaves with the exit code that docs/options.md tells."""
    leave_while_starting()
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _call()
    finally:
        leave_while_starting()
        for stream in (sys.stdout, sys.stderr):
            let_go(stream)
    sys.exit(code)


def _call() -> int:
    """What click does in its standalone mode, also where nothing can be written any more."""
    try:
        code = program().main(prog_name=config.COMMAND, obj=Surroundings(), standalone_mode=False)
    except click.ClickException as exc:
        with contextlib.suppress(OSError):
            exc.show()
        return exc.exit_code
    except click.Abort:
        with contextlib.suppress(OSError):
            click.echo("error: interrupted", err=True)
        return EXIT_INTERRUPTED
    except OSError as exc:
        with contextlib.suppress(OSError):
            click.echo(f"error: the standard output takes no more: {exc.strerror}", err=True)
        return EXIT_LIMIT
    return code if isinstance(code, int) else 0


def _settings(ctx: click.Context) -> config.Settings:
    """What is known of the settings in an error: the defaults, when they are what failed."""
    try:
        return settings(ctx)
    except Exception:  # noqa: BLE001 - the edge of the program: what failed is being told already
        return config.Settings()


def _told(text: str, ctx: click.Context) -> str:
    """The text as it may be shown: no secrets, nothing that steers the terminal."""
    from artist_bio_gen.telemetry.progress import printable

    return printable(redact(text, config.secrets(_settings(ctx))))


def _defect(exc: BaseException, ctx: click.Context) -> str:
    story = _told("".join(traceback.format_exception(exc)), ctx)
    what = f"unexpected {_told(traceback.format_exception_only(exc)[-1].strip(), ctx)}"
    if _settings(ctx).verbose:
        return f"{what}\n{story}"
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix=f"{config.COMMAND}-",
            suffix=".traceback.txt",
            delete=False,
            encoding="utf-8",
        ) as file:
            file.write(story)
    except OSError:
        return f"{what}\n{story}"
    return f"{what}; this is a defect of the program, its traceback is in {file.name}"
