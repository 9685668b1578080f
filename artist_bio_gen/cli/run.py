"""The main form: settings in, one call of the runner, the summary out."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import click

from artist_bio_gen import config
from artist_bio_gen.cli.paths import log_file, require_own_paths
from artist_bio_gen.cli.signals import on_signals
from artist_bio_gen.cli.streams import let_go
from artist_bio_gen.config import Settings
from artist_bio_gen.masking import redact
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Hook, Telemetry
from artist_bio_gen.telemetry.commit_log import CommitLog
from artist_bio_gen.telemetry.counters import Counters, Snapshot
from artist_bio_gen.telemetry.progress import (
    duration,
    latency,
    notices,
    printable,
    rate,
    show_progress,
)

if TYPE_CHECKING:
    from artist_bio_gen.result import RunResult

SKIPPED = {
    "done": "done before",
    "elsewhere": "in another ledger",
    "has_bio": "have a bio",
    "no_row": "not in the table",
    "failed": "failed before",
    "repeated": "repeated",
    "left": "left for a plain --resume",
}


class Run(Protocol):
    """What `runner.run` promises. `control.stop(reason)` is called at the first Ctrl+C or
    SIGTERM; `attended` tells that what is said is seen on a terminal."""

    def __call__(
        self,
        settings: Settings,
        *,
        counters: Counters,
        telemetry: Telemetry,
        say: Callable[[str], None],
        control: Control,
        attended: bool,
    ) -> RunResult: ...


def own_runner() -> Run:
    from artist_bio_gen.runner import run

    return run


def run_job(settings: Settings, *, run: Run) -> int:
    """Runs with bar, log and signals around it, prints what came of it, gives the exit code."""
    require_own_paths(settings)
    secrets = config.secrets(settings)
    counters = Counters()
    with contextlib.ExitStack() as around:
        hooks: list[Hook] = []
        # Where the ledger's folder is missing, the run says so, and not of the log.
        homeless = settings.log_file is None and not settings.output.parent.is_dir()
        if settings.log and not settings.dry_run and not homeless:
            log = CommitLog(
                log_file(settings),
                flush=settings.log_flush,
                max_mb=settings.log_max_mb,
                keep=settings.log_keep,
                secrets=secrets,
            )
            hooks.append(around.enter_context(log))
        show = around.enter_context(show_progress(settings.progress, counters))

        def say(text: str) -> None:
            show(redact(text, secrets))

        control = Control()

        def stop(name: str) -> None:
            control.stop(f"interrupted by {name}")
            say(
                f"stopping: what is under way is finished, for {duration(settings.grace)} at "
                "most; once more to leave at once"
            )

        around.enter_context(on_signals(stop))
        telemetry = Telemetry(*hooks, counters, notices(say, verbose=settings.verbose))
        result = run(
            settings,
            counters=counters,
            telemetry=telemetry,
            say=say,
            control=control,
            attended=sys.stderr.isatty(),
        )
    told = printable(redact(summary(result, counters.snapshot()), secrets))
    try:
        click.echo(told)
    except OSError as exc:
        let_go(sys.stdout)
        if exc.errno != errno.EPIPE:  # where nobody reads any more, nobody is told
            _tell(f"error: the standard output takes no more ({exc.strerror}):\n{told}")
    if result.error is not None:
        _tell(f"error: {printable(redact(result.error, secrets))}")
    return result.exit_code


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nor can this be told; the exit code is
        click.echo(text, err=True)


def summary(result: RunResult, now: Snapshot) -> str:
    """What a run came to, a line for each thing; the ledger's head is the proof to keep. A dry
    run has its messages only."""
    lines = [*result.messages]
    go_on = [] if result.resume_command is None else [f"go on    {result.resume_command}"]
    if result.ledger is None:
        return "\n".join([*lines, *go_on])
    counts = [f"{result.done:,} done", f"{result.failed:,} failed"]
    counts.append(f"{result.rejected:,} rejected")
    why = ", ".join(f"{count:,} {SKIPPED[reason]}" for reason, count in result.skipped.items())
    counts.append(f"{sum(result.skipped.values()):,} skipped{f' ({why})' if why else ''}")
    lines.append(f"rows     {', '.join(counts)}")
    lines.append(f"tokens   {result.input_tokens:,} in, {result.output_tokens:,} out")
    pace = [duration(result.seconds)]
    if now.overall_rate:
        pace.append(rate(now.overall_rate))
    if now.p50_ms is not None and now.p95_ms is not None:
        pace.append(f"p50 {latency(now.p50_ms)}, p95 {latency(now.p95_ms)}")
    lines.append(f"time     {', '.join(pace)}")
    lines.append(f"run      {result.run}")
    lines.append(f"ledger   {result.ledger}")
    lines.append(f"head     line {result.head_seq:,}, {result.head_hash}")
    if result.failures is not None:
        lines.append(f"failures {result.failures}")
    return "\n".join([*lines, *go_on])
