"""How far a piece of work has come: lines, a bar, or nothing."""

from __future__ import annotations

import io
from typing import Literal

import pytest

from artist_bio_gen.telemetry.gauge import show_gauge


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(kind: Literal["auto", "rich", "plain", "none"], stream: io.StringIO) -> str:
    """What a piece of work of three minutes shows that tells once a minute."""
    now = [0.0]
    with show_gauge(kind, "verifying", stream=stream, clock=lambda: now[0]) as tell:
        for done in (250, 500, 1000):
            now[0] += 60
            tell(done, 1000)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["plain", "auto"])
def test_lines_where_there_is_no_terminal(kind: Literal["plain", "auto"]) -> None:
    assert shown(kind, io.StringIO()).splitlines() == [
        "[1 min 00 s] verifying: 25%, 3 min 00 s left",
        "[2 min 00 s] verifying: 50%, 2 min 00 s left",
        "[3 min 00 s] verifying: 100%, 0.0 s left",
    ]


def test_short_work_shows_nothing() -> None:
    stream = io.StringIO()
    with show_gauge("plain", "verifying", stream=stream, clock=lambda: 7.0) as tell:
        tell(1, 2)
    assert stream.getvalue() == ""


def test_work_on_nothing_is_done() -> None:
    now, stream = [0.0], io.StringIO()
    with show_gauge("plain", "verifying", stream=stream, clock=lambda: now[0]) as tell:
        now[0] = 60
        tell(0, 0)
    assert stream.getvalue() == "[1 min 00 s] verifying: 100%\n"


def test_a_bar_where_it_is_asked_for() -> None:
    text = shown("rich", Terminal())
    assert "verifying" in text
    assert "25%" in text


def test_nothing_where_nothing_is_asked_for() -> None:
    assert shown("none", Terminal()) == ""


def test_a_screen_that_is_gone_does_not_end_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert shown("plain", Gone()) == ""
