"""`artist-bio-gen verify`: is a ledger whole, and does the database tell the same?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artist_bio_gen import config
from artist_bio_gen.cli.options import SettingsCommand, settings, settings_options
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import EXIT_DISAGREE, EXIT_DONE
from artist_bio_gen.masking import redact

if TYPE_CHECKING:
    from artist_bio_gen.ledger.verify import Difference, Report
    from artist_bio_gen.verify import Compared

_WORTH_A_PROCESS = 256 * 1024 * 1024
"""Bytes of a ledger; below that, starting further processes takes longer than they save."""

_MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class _Verified:
    """`database` is the address without its password, `alone` says why there was none."""

    report: Report
    compared: Compared | None
    database: str | None
    alone: str | None


@click.command("verify", cls=SettingsCommand)
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Leave the database out.")
@click.option(
    "--expect-head",
    metavar="NUMBER:HASH",
    help="A line that must be there: the head that a run printed, or its hash alone.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    metavar="N",
    show_default=False,
    help="Processes that read the files.  [one; for large ledgers the cores, up to 4]",
)
@click.option(
    "--examples",
    type=click.IntRange(0, 100_000),
    metavar="N",
    default=10,
    help="Differences of each kind that are shown.  [10]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options("database_url", "table", "data_dir", "progress")
@click.pass_context
def verify_command(
    ctx: click.Context,
    ledger: Path,
    offline: bool,
    expect_head: str | None,
    processes: int | None,
    examples: int,
    as_json: bool,
) -> None:
    """Check each line of LEDGER, the chain through all its files, and that no bio stands in it
    twice; with a database, that commit rows and bios are what the ledger says.

    Changes nothing. Exits with 0 when all is in order, else with 5.
    """
    from artist_bio_gen.telemetry.progress import printable

    told = settings(ctx)
    done = _verify(told, ledger, expect_head, processes, examples, offline=offline)
    secrets = config.secrets(told)
    if as_json:
        click.echo(redact(json.dumps(_as_json(done), ensure_ascii=False), secrets))
    else:
        click.echo(printable(redact("\n".join(_as_text(done)), secrets)))
    ctx.exit(EXIT_DONE if done.report.ok else EXIT_DISAGREE)


def _verify(
    told: Settings,
    ledger: Path,
    expect: str | None,
    processes: int | None,
    examples: int,
    *,
    offline: bool,
) -> _Verified:
    from artist_bio_gen.ledger.verify import check
    from artist_bio_gen.telemetry.gauge import show_gauge

    address, alone = (None, "--offline") if offline else _database(told)
    count = processes or _processes(ledger)
    with show_gauge(told.progress, f"verifying {ledger.name}") as progress:
        if address is None:
            report = check(
                ledger, processes=count, expect=expect, examples=examples, progress=progress
            )
            return _Verified(report, None, None, alone)
        from artist_bio_gen.database.connect import describe
        from artist_bio_gen.verify import verify

        report, compared = verify(
            ledger,
            address,
            table=told.table,
            processes=processes or 1,
            expect=expect,
            examples=examples,
            progress=progress,
        )
        return _Verified(report, compared, describe(address), None)


def _database(told: Settings) -> tuple[str | None, str | None]:
    """An address, or why there is none. Starts nothing."""
    if told.database_url is not None:
        return told.database_url, None
    from artist_bio_gen.database import embedded

    found = embedded.status(None if told.data_dir is None else told.data_dir / "postgres")
    if found.server is not None:
        return found.server.url, None
    return None, f"no DATABASE_URL, and the embedded Postgres is {found.state}"


def _processes(ledger: Path) -> int:
    if not ledger.is_file() or ledger.stat().st_size < _WORTH_A_PROCESS:
        return 1
    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def _as_text(done: _Verified) -> Iterator[str]:
    from artist_bio_gen.values import path_text

    report, compared = done.report, done.compared
    files = f" in {len(report.files)} files" if len(report.files) > 1 else ""
    yield (
        f"ledger   {path_text(report.ledger)}: {report.lines:,} lines{files},"
        f" {report.bytes:,} bytes"
    )
    yield f"head     line {report.last_seq:,}, {report.last_hash or 'unknown'}"
    if compared is None:
        yield f"database not looked at: {done.alone}"
    else:
        yield (
            f"database {done.database}, table {compared.table}: {compared.lines:,} lines compared"
        )
    for kind, count in report.counts.items():
        yield f"{kind:<14} {count:,}"
        for each in report.examples:
            if each.kind == kind:
                yield f"    {', '.join(_place(each))}: {each.detail}"
    yield from (f"note     {note}" for note in report.notes)
    yield "result   in order" if report.ok else "result   not in order"


def _place(difference: Difference) -> Iterator[str]:
    """Where it stands: line, file, byte, artist, as far as it has them."""
    last = (difference.seq or 0) + difference.count - 1
    if difference.seq is None:
        yield "the whole ledger"
    elif difference.count == 1:
        yield f"line {difference.seq}"
    else:
        yield f"lines {difference.seq} to {last}"
    if difference.file is not None:
        yield difference.file.name
    if difference.offset is not None:
        yield f"byte {difference.offset}"
    if difference.artist_id is not None:
        yield f"artist {difference.artist_id}"


def _as_json(done: _Verified) -> dict[str, Any]:
    from artist_bio_gen.cli.differences import as_json
    from artist_bio_gen.values import path_text

    report, compared = done.report, done.compared
    return {
        "v": 1,
        "ok": report.ok,
        "ledger": path_text(report.ledger),
        "id": report.id,
        "files": [path_text(path) for path in report.files],
        "lines": report.lines,
        "bytes": report.bytes,
        "head": {"seq": report.last_seq, "hash": report.last_hash},
        "database": None
        if compared is None
        else {
            "address": done.database,
            "table": compared.table,
            "head": None
            if compared.head is None
            else {"seq": compared.head.seq, "hash": compared.head.hash},
            "lines": compared.lines,
        },
        "not_compared": done.alone,
        **as_json(report.counts, report.examples),
        "notes": list(report.notes),
    }
