"""How far a piece of work has come, for work whose size is known: a bar, plain lines, or nothing.

Unlike the run's own progress it needs no thread: it is told where the work goes on, and looks at
the clock then.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from artist_bio_gen.telemetry.progress import BAR_EVERY_S, LINE_EVERY_S, duration

if TYPE_CHECKING:
    from rich.progress import Progress

Tell: TypeAlias = Callable[[int, int], None]
"""Told how much is done, and how much there is in all."""


@contextlib.contextmanager
def show_gauge(
    kind: Literal["auto", "rich", "plain", "none"],
    doing: str,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Tell]:
    """Shows how far the work has come while the block lasts. `auto` is a bar on a terminal that
    can move its cursor, else plain lines: the first when the work has lasted for a while."""
    stream = stream or sys.stderr
    if kind == "none":
        yield lambda done, total: None
        return
    bar = None if kind == "plain" else _bar(kind, doing, stream)
    show: Tell = _lines(doing, stream, clock) if bar is None else _shown_by(bar)
    every = LINE_EVERY_S if bar is None else BAR_EVERY_S
    shown_at = clock()

    def tell(done: int, total: int) -> None:
        nonlocal shown_at
        if clock() - shown_at >= every:
            shown_at = clock()
            with contextlib.suppress(OSError):  # nobody looks any more
                show(done, total)

    with contextlib.nullcontext() if bar is None else bar:
        yield tell


def _lines(doing: str, stream: TextIO, clock: Callable[[], float]) -> Tell:
    began = clock()

    def show(done: int, total: int) -> None:
        seconds = clock() - began
        left = f", {duration(seconds * (total - done) / done)} left" if done else ""
        share = done / total if total else 1.0
        print(f"[{duration(seconds)}] {doing}: {share:.0%}{left}", file=stream, flush=True)

    return show


def _shown_by(bar: Progress) -> Tell:
    (task,) = bar.task_ids

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.refresh()

    return show


def _bar(kind: Literal["auto", "rich"], doing: str, stream: TextIO) -> Progress | None:
    """None where there is no terminal, or one that cannot move its cursor."""
    if kind == "auto" and not stream.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=stream, force_terminal=True if kind == "rich" else None)
    if kind == "auto" and console.is_dumb_terminal:
        return None
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%", markup=False),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
    )
    bar.add_task(doing, total=None)
    return bar
