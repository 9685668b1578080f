"""What a run came to, in figures and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artist_bio_gen.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry.counters import Snapshot
from artist_bio_gen.values import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to. Counts are of this run alone; `recovered` are replies of earlier runs,
    taken from their journals; tokens are those of its calls, failed
    ones too where the API told. `head_seq` and `head_hash` are the ledger's last line (0 and
    the first `prev` for an empty ledger); `ledger` is None after a dry run.

    `error` says what ended the run before its input did; an error before the first row is
    raised instead. `resume_command` is None when nothing is left. `messages` are whole
    sentences for a person, one each.
    """

    exit_code: int
    run: str
    done: int = 0
    failed: int = 0
    rejected: int = 0
    recovered: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    ledger: Path | None = None
    head_seq: int = 0
    head_hash: str = ""
    failures: Path | None = None
    resume_command: str | None = None
    error: str | None = None
    messages: tuple[str, ...] = ()


def sum_up(
    run: str,
    now: Snapshot,
    control: Control,
    *,
    ledger: Path,
    head: Head,
    failures: Path,
    resume_command: str,
) -> RunResult:
    """`failures` is the file that holds them, if there are any; `resume_command` what goes on
    with a run that was stopped."""
    left_out = now.failed + now.rejected + now.skipped.get("failed", 0)
    if control.error is not None:
        exit_code = control.error.exit_code
    elif control.stopped:
        exit_code = EXIT_INTERRUPTED
    else:
        exit_code = EXIT_SOME_FAILED if left_out else EXIT_DONE
    return RunResult(
        exit_code=exit_code,
        run=run,
        done=now.done,
        failed=now.failed,
        rejected=now.rejected,
        recovered=now.recovered,
        skipped=dict(now.skipped),
        input_tokens=now.input_tokens,
        output_tokens=now.output_tokens,
        seconds=now.seconds,
        ledger=ledger,
        head_seq=head.seq,
        head_hash=head.hash,
        failures=failures if left_out and failures.exists() else None,
        resume_command=resume_command if control.stopped else None,
        error=None if control.error is None else str(control.error),
        messages=tuple(_sentences(now, ended=exit_code == EXIT_DONE)),
    )


def _sentences(now: Snapshot, *, ended: bool) -> Iterator[str]:
    if ended and not now.seen:
        yield "there were no artists: the input gave no rows"
    for count, what in ((now.changed_input, "input"), (now.changed_prompt, "prompt or model")):
        if count:
            yield (
                f"{count:,} finished artists have another {what} now; their bios were left as they"
                " are (--refresh changed writes just those anew)"
            )
    if aside := now.skipped.get("left"):
        yield f"{aside:,} artists are left for a plain --resume"
