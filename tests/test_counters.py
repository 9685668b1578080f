from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.counters import RECENT_CALLS, WINDOW_S, Counters

USAGE: Mapping[str, Any] = {"input_tokens": 100, "output_tokens": 20}


class Clock:
    """A clock that stands still until it is set forward."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Story:
    """Counters, and the events of a run to tell them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.counters = Counters(clock=self.clock)
        self.emit = Telemetry(self.counters).emit

    def write(self, bios: int = 1, *, ms: float = 800.0, worker: int | None = 1) -> None:
        for _ in range(bios):
            self.emit("calling", artist_id="1")
            self.emit("committed", worker=worker, duration_ms=ms, usage=USAGE)
            self.emit("appended", worker=worker)

    @property
    def now(self):  # type: ignore[no-untyped-def]
        return self.counters.snapshot()


@pytest.fixture
def story() -> Story:
    return Story()


def test_each_outcome_is_counted_once(story: Story) -> None:
    story.write(3)
    story.emit("failed", kind="refused")
    story.emit("rejected", row=4, reason="no id")
    for reason in ("done", "done", "repeated"):
        story.emit("skipped", reason=reason)
    now = story.now
    assert (now.done, now.failed, now.rejected) == (3, 1, 1)
    assert now.skipped == {"done": 2, "repeated": 1}
    assert now.seen == 8
    assert now.calls == 3


def test_a_bio_is_done_when_its_line_is_on_disk_and_not_before(story: Story) -> None:
    story.emit("committed", worker=1, duration_ms=1.0, usage=None)
    assert story.now.done == 0
    story.emit("appended", worker=1)
    assert story.now.done == 1


def test_tokens_are_summed_and_unknown_ones_are_left_out(story: Story) -> None:
    story.write(2)
    story.emit("committed", worker=1, duration_ms=1.0, usage=None)
    story.emit("committed", worker=1, duration_ms=1.0, usage={"input_tokens": None})
    story.emit("failed", kind="incomplete", usage=USAGE)
    assert (story.now.input_tokens, story.now.output_tokens) == (300, 60)


def test_a_reply_from_a_journal_was_paid_for_by_an_earlier_run(story: Story) -> None:
    """This run will meet its artist in the input, and find it done."""
    story.write(worker=None)
    now = story.now
    assert (now.recovered, now.done, now.input_tokens, now.p50_ms) == (1, 0, 0, None)


def test_the_recent_rate_forgets_and_the_overall_rate_does_not(story: Story) -> None:
    for _ in range(WINDOW_S):
        story.write(10)
        story.clock.now += 1
    assert story.now.recent_rate == pytest.approx(10, rel=0.05)
    story.clock.now += WINDOW_S
    assert story.now.recent_rate == 0
    assert story.now.overall_rate == pytest.approx(5)


def test_the_time_before_the_first_call_does_not_slow_the_rate(story: Story) -> None:
    story.clock.now += 3600
    story.write()
    story.clock.now += 1
    assert story.now.overall_rate == pytest.approx(1)
    assert story.now.seconds == 3601


def test_the_time_left_follows_the_recent_rate(story: Story) -> None:
    story.emit("started", run="r", rows=110)
    assert story.now.seconds_left is None
    for _ in range(10):
        story.write()
        story.clock.now += 1
    assert story.now.seconds_left == pytest.approx(100, rel=0.05)


def test_more_rows_than_were_expected_leave_no_time(story: Story) -> None:
    story.emit("started", run="r", rows=1)
    story.write(3)
    assert story.now.seconds_left == 0


def test_a_total_from_outside_holds_until_the_source_has_told_one(story: Story) -> None:
    assert story.counters.snapshot(10).total == 10
    story.emit("started", run="r", rows=20)
    assert story.counters.snapshot(10).total == 20


@pytest.mark.parametrize(
    ("calls", "p50", "p95"), [(1, 1, 1), (2, 1, 2), (20, 10, 19), (100, 50, 95)]
)
def test_quantiles_are_of_the_nearest_rank(calls: int, p50: float, p95: float) -> None:
    story = Story()
    for ms in range(1, calls + 1):
        story.write(ms=ms)
    assert (story.now.p50_ms, story.now.p95_ms) == (p50, p95)


def test_quantiles_are_of_recent_calls_only(story: Story) -> None:
    story.write(50, ms=10_000.0)
    story.write(RECENT_CALLS, ms=1.0)
    assert story.now.p95_ms == 1.0


def test_a_pause_has_its_reason_until_it_is_over(story: Story) -> None:
    story.emit("paused", reason="the database is away")
    assert story.now.paused == "the database is away"
    story.emit("flowing", reason="it is back")
    assert story.now.paused is None


def test_unknown_events_are_nothing_to_count(story: Story) -> None:
    before = story.now
    story.emit("something_new", whatever=1)
    assert story.now == before


def test_a_snapshot_is_frozen(story: Story) -> None:
    now = story.now
    story.write()
    story.emit("skipped", reason="done")
    assert (now.done, dict(now.skipped)) == (0, {})
    with pytest.raises(FrozenInstanceError):
        now.done = 5
    with pytest.raises(TypeError):
        now.skipped["done"] = 5


def test_no_event_is_lost_among_threads(story: Story) -> None:
    threads = [threading.Thread(target=story.write, args=(500,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (story.now.done, story.now.input_tokens) == (4000, 400_000)


def test_a_failure_from_a_journal_was_met_by_an_earlier_run(story: Story) -> None:
    story.emit("failed", kind="overloaded", usage=USAGE, recovered=True)
    assert (story.now.failed, story.now.seen, story.now.input_tokens) == (0, 0, 0)
    story.emit("failed", kind="overloaded", usage=USAGE, recovered=False)
    assert (story.now.failed, story.now.seen, story.now.input_tokens) == (1, 1, 100)


def test_two_pauses_are_over_when_both_are(story: Story) -> None:
    """The committer's database and that of the look-ups go away and come back by themselves."""
    story.emit("paused", reason="the committer's")
    story.emit("paused", reason="the look-ups'")
    story.emit("flowing", reason="it is back")
    assert story.now.paused is not None
    story.emit("flowing", reason="it is back")
    assert story.now.paused is None
