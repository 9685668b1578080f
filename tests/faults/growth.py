"""What a ledger has grown to, as something to wait for."""

from __future__ import annotations

from collections.abc import Callable

from tests.acceptance.harness import Job, size_of, whole_lines


def more_lines(job: Job, count: int) -> Callable[[], bool]:
    """True once so many lines more than now are written."""
    goal = len(whole_lines(job.ledger)) + count
    return lambda: len(whole_lines(job.ledger)) >= goal


def more_bytes(job: Job, count: int) -> Callable[[], bool]:
    goal = size_of(job.ledger) + count
    return lambda: size_of(job.ledger) >= goal
