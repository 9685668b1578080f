"""The run on the screen: a bar, plain lines, or nothing, and notices that do not disturb it.

A thread of its own looks at the counters now and then; the run never waits for that, and a
screen that is gone (a closed pipe) does not end the run.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

from artist_bio_gen.telemetry import Event, Hook
from artist_bio_gen.telemetry.counters import Counters, Snapshot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

BAR_EVERY_S = 0.2
LINE_EVERY_S = 5.0
FAILURES_SHOWN = 5

Say: TypeAlias = Callable[[str], None]


@contextlib.contextmanager
def show_progress(
    kind: Literal["auto", "rich", "plain", "none"],
    counters: Counters,
    *,
    total: int | None = None,
    stream: TextIO | None = None,
    every: float | None = None,
) -> Iterator[Say]:
    """Shows the run while the block lasts; gives `say`, which any thread may call.

    `auto` is a bar on a terminal that can move its cursor, else plain lines. `total` holds
    until the counters know one, `every` is in seconds. A bar is taken away at the end; plain
    lines end with the last figures.
    """
    stream = stream or sys.stderr

    def look() -> Snapshot:
        return counters.snapshot(total)

    if kind == "none":
        yield _Lines(stream, look).say
        return
    console = _console(kind, stream)
    screen = _Lines(stream, look) if console is None else _Bar(console, look)
    pause = every or (LINE_EVERY_S if console is None else BAR_EVERY_S)
    ended = threading.Event()

    def keep_up() -> None:
        while not ended.wait(pause):
            screen.refresh()

    timer = threading.Thread(target=keep_up, name="progress", daemon=True)
    timer.start()
    try:
        yield screen.say
    finally:
        ended.set()
        timer.join()
        screen.close()


def notices(say: Say, *, verbose: bool = False) -> Hook:
    """A hook that says what a person must know: notices, waits for the database, calls that a
    crash cut off, and failures: the first few, or with `verbose` all, and each retry."""
    failures = 0
    counting = threading.Lock()  # guards `failures`

    def failure(text: str) -> None:
        nonlocal failures
        with counting:
            failures += 1
            number = failures
        if verbose or number <= FAILURES_SHOWN:
            say(text)
        elif number == FAILURES_SHOWN + 1:
            say("further failures are counted, not shown; --verbose shows each")

    def hook(event: Event) -> None:
        told = event.fields
        match event.name:
            case "notice":
                say(told["text"])
            case "paused":
                say(f"paused: {one_line(told['reason'])}")
            case "flowing":
                say(f"going on: {one_line(told['reason'])}")
            case "in_flight":
                say(
                    f"without a reply in an earlier run, may be paid for twice: artist "
                    f"{_artist(told)}, attempt {told['attempt']}, request {told['request_id']}"
                )
            case "failed":
                failure(f"failed: artist {_artist(told)}: {_why(told)}")
            case "rejected":
                file = f" of {one_line(told['file'])}" if told.get("file") else ""
                failure(f"rejected: row {told['row']}{file}: {one_line(told['reason'])}")
            case "retrying" if verbose:
                say(
                    f"artist {one_line(told['artist_id'])}, attempt {told['attempt']}: "
                    f"{told['kind']}, again in {told['wait_s']:.1f} s: {one_line(told['reason'])}"
                )

    return hook


def _artist(told: Mapping[str, Any]) -> str:
    return f"{one_line(told['artist_id'])} ({one_line(told['artist_name'])})"


def _why(told: Mapping[str, Any]) -> str:
    return f"{told['kind']}: {one_line(told['reason'])}"


def printable(text: str) -> str:
    """Control characters escaped: a name or a server's message must not steer the terminal."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def one_line(text: object) -> str:
    """As `printable`, and no line feed: a name or a reason must not look like lines of ours."""
    return printable(str(text)).replace("\n", "\\n")


# C0 and C1 but tab and line feed, and what turns the direction of the text that follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def figures(now: Snapshot) -> tuple[str, str]:
    """How the run stands, in two lines: how far, and what came of it."""
    rows = f"{now.seen:,} rows" if now.total is None else f"{now.seen:,} of {now.total:,} rows"
    far = [rows, rate(now.recent_rate)]
    if now.seconds_left is not None:
        far.append(f"{duration(now.seconds_left)} left")
    if now.paused is not None:
        far.append(f"paused: {now.paused}")
    came = [f"done {now.done:,}", f"failed {now.failed:,}"]
    if now.rejected:
        came.append(f"rejected {now.rejected:,}")
    came.append(f"skipped {sum(now.skipped.values()):,}")
    came.append(f"tokens {short(now.input_tokens)} in, {short(now.output_tokens)} out")
    if now.p50_ms is not None and now.p95_ms is not None:
        came.append(f"p50 {latency(now.p50_ms)}, p95 {latency(now.p95_ms)}")
    return "; ".join(far), "; ".join(came)


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 05 s, 27 h 07 min, 8 days 5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


def latency(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else duration(ms / 1000)


def rate(a_second: float) -> str:
    return f"{a_second:,.1f} a second" if a_second < 100 else f"{a_second:,.0f} a second"


def short(count: int) -> str:
    """9,999, 12.3k, 4.5M: for figures that move."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e3:.1f}k" if count < 1_000_000 else f"{count / 1e6:,.1f}M"


class _Lines:
    def __init__(self, stream: TextIO, look: Callable[[], Snapshot]) -> None:
        self._stream = stream
        self._look = look
        self._lock = threading.Lock()  # guards the stream and the last line
        self._last = ""

    def say(self, text: str) -> None:
        with self._lock:
            self._write(printable(text))

    def refresh(self) -> None:
        now = self._look()
        line = "; ".join(figures(now))
        with self._lock:
            if (now.calls or now.seen) and line != self._last:
                self._last = line
                self._write(f"[{duration(now.seconds)}] {line}")

    def close(self) -> None:
        self.refresh()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            print(text, file=self._stream, flush=True)


class _Bar:
    def __init__(self, console: Console, look: Callable[[], Snapshot]) -> None:
        from rich.live import Live

        self._console = console
        self._look = look
        self._live = Live(
            get_renderable=self._render,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(
                printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True
            )

    def refresh(self) -> None:
        with contextlib.suppress(OSError):
            self._live.refresh()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        now = self._look()
        far, came = (Text(line, no_wrap=True, overflow="ellipsis") for line in figures(now))
        if not now.total:
            return Group(far, came)
        share = min(now.seen / now.total, 1.0)
        first = Table.grid(
            Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True), padding=(0, 1)
        )
        first.add_row(far, ProgressBar(total=1.0, completed=share), f"{share:.0%}")
        return Group(first, came)


def _console(kind: Literal["auto", "rich", "plain"], stream: TextIO) -> Console | None:
    """None for plain lines. rich itself knows which terminals cannot move their cursor."""
    if kind == "plain" or (kind == "auto" and not stream.isatty()):
        return None
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True  # rich itself would end the process

    console = Screen(file=stream, force_terminal=True if kind == "rich" else None)
    return None if kind == "auto" and console.is_dumb_terminal else console
