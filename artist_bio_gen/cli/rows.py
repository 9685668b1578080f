"""`artist-bio-gen rows`: look at the rows of any source, or put them into another file. No model,
no ledger, no database of ours."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import (
    SettingsCommand,
    settings,
    settings_options,
    write_settings,
)
from artist_bio_gen.cli.signals import on_signals
from artist_bio_gen.cli.streams import quiet
from artist_bio_gen.config import Settings
from artist_bio_gen.config.options import options_of
from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import EXIT_INTERRUPTED, ArtistBioGenError, StoppedError
from artist_bio_gen.masking import redact

if TYPE_CHECKING:
    from artist_bio_gen.rows import RowsResult
    from artist_bio_gen.sources import Progress, Reading
    from artist_bio_gen.stream import Chunk

MEMORY_LIMIT = 500
"""MB, where none is given."""

_SHOWN_ROWS = 10
_SHOWN_BAD = 5
_LONGEST_FACT = 200


class RowsCommand(SettingsCommand):
    """`--schema` alone shows the columns; with a value it is the option of that name."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_settings(self, ctx, formatter, own_first=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*_schema_alone(args)])


def _schema_alone(args: Sequence[str]) -> Iterator[str]:
    kinds = config.OPTIONS["schema"].kind.choices
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        yield "--show-schema" if arg == "--schema" and following not in kinds else arg


@click.command("rows", cls=RowsCommand)
@click.argument("source")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the rows into a new file: .csv, .tsv, .jsonl, .parquet or .xlsx.",
)
@click.option("--head", type=click.IntRange(1), metavar="N", help="The first N rows alone.")
@click.option("--count", is_flag=True, help="Count the rows.")
@click.option(
    "--show-schema", is_flag=True, help="Show the columns; so does --schema without a value."
)
@click.option(
    "--safe-cells/--no-safe-cells",
    default=True,
    help="In CSV and TSV, put a ' before a text that a spreadsheet would take for a formula; "
    "--no-safe-cells makes an exact copy.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell what came of it as one JSON object.")
@settings_options(*(each.name for each in options_of(SourceOptions)), "progress")
@click.pass_context
def rows_command(
    ctx: click.Context,
    source: str,
    target: Path | None,
    head: int | None,
    count: bool,
    show_schema: bool,
    safe_cells: bool,
    as_json: bool,
) -> None:
    """Show the rows of SOURCE, or write them into another file, without a model.

    SOURCE is what --input takes: a file, a pattern, an address, a database, or - for the standard
    input. A terminal is shown the first 10 rows, a pipe gets all of them as JSON Lines. What came
    of it is told at the end: on the standard error, where the rows go to the standard output.
    Exits with 4 when rows could not be read.
    """
    _require_one(target, count, show_schema, head)
    to_stdout = target is None and not count
    in_table = to_stdout and sys.stdout.isatty()
    told = _told(settings(ctx), source, head or (_SHOWN_ROWS if in_table else None))
    secrets = config.secrets(told)
    with _opened(source, told, secrets) as (reading, cancelled):
        if show_schema:
            click.echo(_safe(_schema_json(reading) if as_json else _schema(reading), secrets))
            return
        if "columns_missing" in (facts := reading.facts()):  # before it is read to its end
            click.echo(_safe(f"source: {facts['columns_missing']}", secrets), err=True)
        if to_stdout:
            result = _shown(reading, cancelled, in_table=in_table)
        else:
            result = _taken(reading, cancelled, target, safe_cells=safe_cells)
    if result is None:  # nobody reads on, as with `| head`
        return
    click.echo(_safe(_as_json(result) if as_json else _summary(result), secrets), err=to_stdout)
    if result.error is not None:
        click.echo(f"error: {_safe(result.error, secrets)}", err=True)
    ctx.exit(result.exit_code)


def _require_one(target: Path | None, count: bool, schema: bool, head: int | None) -> None:
    if (target is not None or head is not None) + count + schema > 1:
        raise click.UsageError(
            "--to, --head, --count and --schema exclude each other, but for --to with --head"
        )


def _told(told: Settings, source: str, head: int | None) -> Settings:
    if head is not None:
        told = replace(told, max_rows=min(head, told.max_rows or head))
    return replace(told, input=source, memory_limit=told.memory_limit or MEMORY_LIMIT)


@contextlib.contextmanager
def _opened(
    source: str, told: Settings, secrets: Sequence[str]
) -> Iterator[tuple[Reading, Callable[[], bool]]]:
    """The source, and whether Ctrl+C was pressed. What goes wrong is told without secrets."""
    from artist_bio_gen.sources import open_source

    stopped = threading.Event()
    progress = None if told.progress == "none" else _tell_progress
    try:
        with (
            on_signals(lambda _: stopped.set()),
            open_source(source, told, cancelled=stopped.is_set, progress=progress) as reading,
        ):
            yield reading, stopped.is_set
    except ArtistBioGenError as exc:
        exc.args = (redact(str(exc), secrets),)
        raise
    except StoppedError:
        click.echo("error: interrupted before the first row", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


# ---- the rows ---------------------------------------------------------------------------------


def _taken(
    reading: Reading, cancelled: Callable[[], bool], target: Path | None, *, safe_cells: bool
) -> RowsResult:
    """Written into a file, or counted."""
    from artist_bio_gen.rows import copy, give

    if target is None:
        return give(reading, lambda chunk: None, cancelled=cancelled)
    from artist_bio_gen.destinations import open_destination

    destination = open_destination(target, reading.columns, safe_cells=safe_cells)
    return copy(reading, destination, cancelled=cancelled)


def _shown(reading: Reading, cancelled: Callable[[], bool], *, in_table: bool) -> RowsResult | None:
    """None where nobody reads on."""
    result = None
    with quiet():
        result = (_in_table if in_table else _as_json_lines)(reading, cancelled)
    return result  # noqa: RET504 - quiet() swallows what a closed pipe raises


def _as_json_lines(reading: Reading, cancelled: Callable[[], bool]) -> RowsResult:
    from artist_bio_gen.destinations.jsonl import json_lines
    from artist_bio_gen.rows import give

    name = Path("standard output")
    out = sys.stdout.buffer
    return give(reading, lambda chunk: out.write(json_lines(chunk, name)), cancelled=cancelled)


def _in_table(reading: Reading, cancelled: Callable[[], bool]) -> RowsResult:
    from artist_bio_gen.cli.table import table
    from artist_bio_gen.rows import give

    chunks: list[Chunk] = []
    result = give(reading, chunks.append, cancelled=cancelled)
    width = shutil.get_terminal_size().columns
    for line in table([column.name for column in reading.columns], chunks, width):
        click.echo(line)
    return result


# ---- what came of it --------------------------------------------------------------------------


def _safe(text: str, secrets: Sequence[str]) -> str:
    from artist_bio_gen.telemetry.progress import printable

    return printable(redact(text, secrets))


def _tell_progress(now: Progress) -> None:
    from artist_bio_gen.telemetry.progress import duration, rate

    rows = f"{now.rows:,} rows"
    if now.expected is not None:
        rows = f"{now.rows:,} of about {now.expected:,} rows"
    told = [rows]
    if now.seconds:
        told.append(rate(now.rows / now.seconds))
    if now.seconds_left is not None:
        told.append(f"{duration(now.seconds_left)} left")
    with contextlib.suppress(OSError):  # nobody looks any more
        click.echo(f"[{duration(now.seconds)}] {'; '.join(told)}", err=True)


def _summary(result: RowsResult) -> str:
    from artist_bio_gen.telemetry.progress import duration, latency, one_line, rate

    read = result.read
    rows = [f"{read.rows_read:,} read"]
    if result.destination is not None:
        rows.append(f"{result.rows_written:,} written")
    rows.append(f"{read.error_count:,} bad")
    pace = [duration(read.seconds)]
    if read.rows_read and read.seconds:
        pace.append(rate(read.rows_read / read.seconds))
    chunks = "1 chunk" if read.chunks == 1 else f"{read.chunks:,} chunks"
    if read.average_chunk_s is not None:
        chunks += f" of {latency(read.average_chunk_s * 1000)}"
    lines = [
        f"rows     {', '.join(rows)}",
        f"time     {', '.join(pace)}; {chunks}, {read.chunks_with_errors:,} with bad rows",
    ]
    if read.peak_memory_mib is not None:
        lines.append(f"memory   {read.peak_memory_mib:,.0f} MiB at most")
    lines.append(f"source   {one_line(result.source)}")
    lines += [f"         {fact}" for fact in _facts(read.facts)]
    if result.destination is not None:
        lines.append(f"written  {_path(result.destination)}")
    lines += [f"note     {note}" for note in result.notes]
    for bad in read.errors[:_SHOWN_BAD]:
        where = f"{one_line(bad.file)} row" if bad.file else "row"
        lines.append(f"bad      {where} {bad.number:,}: {one_line(bad.reason)}")
    if read.error_count > _SHOWN_BAD:
        lines.append(f"         and {read.error_count - _SHOWN_BAD:,} more; --json tells them")
    return "\n".join(lines)


def _facts(facts: Any) -> Iterator[str]:
    from artist_bio_gen.destinations.destination import json_text
    from artist_bio_gen.telemetry.progress import one_line

    for name, fact in facts.items():
        text = one_line(fact if isinstance(fact, str) else json_text(fact)).replace("\t", "\\t")
        yield f"{name}: {text[:_LONGEST_FACT]}{'…' if len(text) > _LONGEST_FACT else ''}"


def _as_json(result: RowsResult) -> str:
    from artist_bio_gen.destinations.destination import json_text

    read = result.read
    return json_text(
        {
            "v": 1,
            "exit_code": result.exit_code,
            "error": result.error,
            "source": result.source,
            "facts": dict(read.facts),
            "rows_read": read.rows_read,
            "rows_written": result.rows_written,
            "destination": None if result.destination is None else _path(result.destination),
            "notes": list(result.notes),
            "bad": read.error_count,
            "errors": [
                {"file": bad.file, "row": bad.number, "reason": bad.reason, "text": bad.text}
                for bad in read.errors
            ],
            "chunks": read.chunks,
            "chunks_with_errors": read.chunks_with_errors,
            "average_chunk_s": read.average_chunk_s,
            "seconds": read.seconds,
            "peak_memory_mib": read.peak_memory_mib,
        }
    )


def _schema(reading: Reading) -> str:
    from artist_bio_gen.telemetry.progress import one_line

    lines = [f"source   {one_line(reading.name)}"]
    lines += [f"         {fact}" for fact in _facts(reading.facts())]
    if reading.estimated_row_count is not None:
        lines.append(f"rows     about {reading.estimated_row_count:,}")
    columns = [(one_line(each.name), one_line(each.type), each) for each in reading.columns]
    width = max((len(name) for name, _, _ in columns), default=0)
    for name, kind, column in columns:
        lines.append(f"column   {name:<{width}}  {kind}{'' if column.nullable else ', not null'}")
    if reading.grows:
        lines.append("note     further columns may turn up in later rows")
    return "\n".join(lines)


def _schema_json(reading: Reading) -> str:
    from artist_bio_gen.destinations.destination import json_text

    columns = [
        {"name": column.name, "type": column.type, "nullable": column.nullable}
        for column in reading.columns
    ]
    return json_text(
        {
            "v": 1,
            "source": reading.name,
            "facts": reading.facts(),
            "columns": columns,
            "may_grow": reading.grows,
            "estimated_row_count": reading.estimated_row_count,
        }
    )


def _path(path: Path) -> str:
    from artist_bio_gen.values import path_text

    return path_text(path)
