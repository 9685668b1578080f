from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from artist_bio_gen.telemetry import Event, Telemetry
from artist_bio_gen.telemetry.counters import Counters
from artist_bio_gen.telemetry.progress import (
    FAILURES_SHOWN,
    duration,
    latency,
    notices,
    printable,
    rate,
    short,
    show_progress,
)

NEVER = 3600.0


class Screen(io.StringIO):
    """A stream that tells when the run has been shown on it."""

    def __init__(self, *, terminal: bool = False, awaited: str = "rows") -> None:
        super().__init__()
        self.shown = threading.Event()
        self._terminal = terminal
        self._awaited = awaited

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._awaited in text:
            self.shown.set()
        return written


def some_work(counters: Counters) -> None:
    emit = Telemetry(counters).emit
    emit("started", run="r", rows=200)
    emit("calling")
    emit(
        "committed", worker=1, duration_ms=812.0, usage={"input_tokens": 1234, "output_tokens": 56}
    )
    emit("appended", worker=1)
    emit("failed", kind="refused")
    emit("skipped", reason="done")


def test_plain_lines_come_by_themselves_and_end_with_the_last_figures() -> None:
    counters, screen = Counters(), Screen()
    with show_progress("plain", counters, stream=screen, every=0.01):
        Telemetry(counters).emit("calling")
        assert screen.shown.wait(10)
        some_work(counters)
    last = screen.getvalue().splitlines()[-1]
    for figure in (
        "3 of 200 rows",
        "a second",
        "left",
        "done 1; failed 1; skipped 1",
        "tokens 1,234 in, 56 out",
        "p50 812 ms, p95 812 ms",
    ):
        assert figure in last


def test_nothing_new_is_not_said_again() -> None:
    counters, screen = Counters(clock=lambda: 0.0), Screen()
    some_work(counters)
    with show_progress("plain", counters, stream=screen, every=0.001):
        assert screen.shown.wait(10)
    assert len(screen.getvalue().splitlines()) == 1


def test_no_figures_are_shown_before_there_is_anything_to_count() -> None:
    screen = Screen()
    with show_progress("plain", Counters(), stream=screen, every=NEVER):
        pass
    assert screen.getvalue() == ""


def test_auto_is_plain_where_there_is_no_terminal() -> None:
    counters, screen = Counters(), Screen()
    with show_progress("auto", counters, stream=screen, every=NEVER):
        some_work(counters)
    assert "\x1b" not in screen.getvalue()
    assert "3 of 200 rows" in screen.getvalue()


@pytest.mark.parametrize("kind", ["rich", "auto"])
def test_a_bar_comes_by_itself_and_is_gone_at_the_end(kind: str) -> None:
    counters, screen = Counters(), Screen(terminal=True, awaited="3 of 200")
    with show_progress(kind, counters, stream=screen, every=0.01):  # type: ignore[arg-type]
        some_work(counters)
        assert screen.shown.wait(10)
    text = screen.getvalue()
    assert "done 1; failed 1; skipped 1" in text
    hidden, shown = text.rfind("\x1b[?25l"), text.rfind("\x1b[?25h")
    assert hidden < shown, "the cursor is back"
    assert text.endswith("\x1b[2K"), "its lines are wiped"


def test_a_notice_stands_above_the_bar_in_one_piece() -> None:
    screen = Screen(terminal=True)
    long = "a notice that is far longer than any terminal is wide " * 5
    with show_progress("rich", Counters(), stream=screen, every=0.01) as say:
        assert screen.shown.wait(10)
        say(long)
        say("[bold]no markup[/bold] :smile:")
    assert long in screen.getvalue()
    assert "[bold]no markup[/bold] :smile:" in screen.getvalue()


def test_none_shows_notices_only() -> None:
    counters, screen = Counters(), Screen()
    with show_progress("none", counters, stream=screen) as say:
        some_work(counters)
        say("a notice")
    assert screen.getvalue() == "a notice\n"


def test_the_timer_ends_with_the_block_also_after_an_error() -> None:
    with pytest.raises(RuntimeError), show_progress("plain", Counters(), stream=Screen()):
        raise RuntimeError
    assert "progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("kind", ["plain", "none", "rich"])
def test_a_screen_that_is_gone_does_not_end_the_run(kind: str) -> None:
    class Gone(Screen):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with show_progress(kind, Counters(), stream=Gone(), every=NEVER) as say:  # type: ignore[arg-type]
        say("nobody reads this")


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("Björk\x1b[2J \x9b1m\r\x07 林\n\t.") == "Björk\\x1b[2J \\x9b1m\\r\\x07 林\n\t."
    assert printable("a\u202eb\u2066c") == "a\\u202eb\\u2066c"
    for kind in ("plain", "rich"):
        screen = Screen()
        with show_progress(kind, Counters(), stream=screen, every=NEVER) as say:  # type: ignore[arg-type]
            say("\x1b]0;title\x07")
        assert "\x1b]0" not in screen.getvalue()


def told(event: str, *, verbose: bool = False, times: int = 1, **fields: object) -> list[str]:
    said: list[str] = []
    hook = notices(said.append, verbose=verbose)
    for _ in range(times):
        hook(Event(event, 0.0, fields))
    return said


ARTIST = {"artist_id": "7", "artist_name": "Nina Simone"}


def test_what_a_person_must_know_is_said() -> None:
    assert told("notice", text="look") == ["look"]
    assert told("paused", reason="the database is away") == ["paused: the database is away"]
    (line,) = told("in_flight", **ARTIST, attempt=2, request_id="abc")
    assert "7 (Nina Simone), attempt 2, request abc" in line
    assert told("committed", **ARTIST) == []


def test_only_the_first_failures_are_shown_unless_all_are_wanted() -> None:
    failure = {**ARTIST, "kind": "refused", "reason": "no"}
    said = told("failed", times=20, **failure)
    assert said[0] == "failed: artist 7 (Nina Simone): refused: no"
    assert len(said) == FAILURES_SHOWN + 1
    assert "--verbose" in said[-1]
    assert len(told("failed", times=20, verbose=True, **failure)) == 20
    assert told("rejected", row=41, reason="no id") == ["rejected: row 41: no id"]


def test_retries_are_said_on_demand_only() -> None:
    retry = {**ARTIST, "attempt": 1, "kind": "timeout", "wait_s": 1.25, "reason": "slow"}
    assert told("retrying", **retry) == []
    (line,) = told("retrying", verbose=True, **retry)
    assert "again in 1.2 s: slow" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (12.4, "12 s"),
        (185, "3 min 05 s"),
        (3599.9, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (8.2 * 86400, "8 days 4 h"),
    ],
)
def test_durations_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_figures_that_move_stay_short() -> None:
    assert [short(n) for n in (9_999, 12_345, 4_500_000)] == ["9,999", "12.3k", "4.5M"]
    assert [latency(ms) for ms in (812.4, 1234.0)] == ["812 ms", "1.2 s"]
    assert [rate(x) for x in (0.25, 1234.5)] == ["0.2 a second", "1,234 a second"]


FORGED = "Nina\nerror: all is lost"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("in_flight", {"artist_id": "1", "artist_name": FORGED, "attempt": 1, "request_id": "r"}),
        ("failed", {"artist_id": FORGED, "artist_name": "x", "kind": "refused", "reason": "y"}),
        ("failed", {"artist_id": "1", "artist_name": "x", "kind": "refused", "reason": FORGED}),
        ("rejected", {"row": 3, "reason": FORGED}),
        ("paused", {"reason": FORGED}),
        ("flowing", {"reason": FORGED}),
        (
            "retrying",
            {"artist_id": "1", "attempt": 1, "kind": "busy", "wait_s": 1.0, "reason": FORGED},
        ),
    ],
)
def test_neither_a_name_nor_a_reason_can_forge_a_line(name: str, fields: dict[str, Any]) -> None:
    said: list[str] = []
    Telemetry(notices(said.append, verbose=True)).emit(name, **fields)
    assert len(said) == 1
    assert r"Nina\nerror: all is lost" in said[0]
    assert "\n" not in said[0]
