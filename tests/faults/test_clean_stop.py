"""The real command, asked to stop by SIGTERM or SIGINT at random moments: it ends in bounded time,
nothing that is in flight is lost, and what was answered is never bought again."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    events,
    journals,
    named_in_flight,
    no_leftovers,
    read_books,
    wait_for,
    write_artists,
)
from tests.acceptance.test_stop import printed_command
from tests.fakes.api import FakeApi
from tests.faults.growth import more_bytes
from tests.faults.seed import chance

STOPS = 40
TWICE = 15
WORKERS = 8
ROWS = 4_000
BOUND_S = 10.0
"""For what takes parts of a second: generous, as the machine may do other things."""


def test_forty_stops_at_random_moments(database_url: str, tmp_path: Path) -> None:
    """Counted from the first call, by the API's count or by the ledger's growth; some fall into
    the start, while nothing is called yet."""
    moments = chance("stops")
    signals = [signal.SIGTERM, signal.SIGINT] * (STOPS // 2)
    write_artists(tmp_path / "artists.csv", ROWS)
    with FakeApi(latency="uniform:0.01:0.1", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", str(WORKERS))
        words: list[str] | None = None
        longest = 0.0
        for number in signals:
            with Running(job, words=words) as run:
                run.until_it_takes_signals()
                run.wait_until(a_moment(job, api, moments.randrange(3), moments.randrange(1, 100)))
                time.sleep(moments.uniform(0, 0.05))  # not always right after an answer
                asked = time.monotonic()
                run.signal(number)
                assert run.ended(BOUND_S) == 130, run.said
                longest = max(longest, time.monotonic() - asked)
                words = printed_command(run.said)
            assert "--resume" in words
            assert journals(job) == []
            books = read_books(job)
            assert books.agree
            counts = api.counts()
            assert (counts.in_flight, counts.gone, counts.cut) == (0, 0, 0)
            assert counts.answered == len(books.ledger)
        assert 0 < len(books.ledger) < ROWS, "the stops came too late to tell; give it more rows"
        assert words is not None
        with no_leftovers(job):
            code, said = job.tell(*words)
        assert code == 0, said
        assert set(api.counts().answered_by_artist.values()) == {1}
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    assert events(job.log, "in_flight") == []
    reasons = [event["reason"] for event in events(job.log, "stopped")]
    assert reasons == [*(f"interrupted by {number.name}" for number in signals), "finished"]
    print(
        f"{STOPS} stops, {ROWS} rows: 0 lost, 0 twice, 0 calls made again; the longest took"
        f" {longest:.2f} s"
    )


def a_moment(job: Job, api: FakeApi, kind: int, number: int) -> Callable[[], bool]:
    """At once, after so many more calls, or after so many more lines have been written."""
    calls = api.counts().calls
    if kind == 0:
        return lambda: True
    if kind == 1:
        return lambda: api.counts().calls >= calls + number
    return more_bytes(job, 1000 * number)


def one_more_hangs(api: FakeApi) -> Callable[[], bool]:
    cut = api.counts().cut
    return lambda: api.counts().cut > cut


def is_told(run: Running) -> bool:
    return "once more to leave at once" in run.said


def test_second_signals_leave_at_once_and_lose_nothing(database_url: str, tmp_path: Path) -> None:
    """A call that hangs keeps each run from ending by the first signal. What is in flight then may
    have been paid for: it is named at the next start, and nothing else is bought again."""
    moments = chance("second signals")
    write_artists(tmp_path / "artists.csv", ROWS)
    with FakeApi(latency="uniform:0.01:0.1", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", str(WORKERS), "--grace", "600")
        longest = 0.0
        for _ in range(TWICE):
            hung = one_more_hangs(api)
            grown = more_bytes(job, 1000 * moments.randrange(20))
            api.script(schedule=f"ok*{moments.randrange(1, 60)}, hang")
            with Running(job) as run:
                run.wait_until(hung)
                run.wait_until(grown)
                run.signal(moments.choice([signal.SIGTERM, signal.SIGINT]))
                run.wait_until(partial(is_told, run))
                asked = time.monotonic()
                run.signal(moments.choice([signal.SIGTERM, signal.SIGINT]))
                assert run.ended(BOUND_S) == 130, run.said
                longest = max(longest, time.monotonic() - asked)
            assert journals(job) != []
        wait_for(lambda: api.counts().in_flight == 0)
        assert len(list(chain(job.ledger))) < ROWS, "give it more rows"
        api.script(schedule="")
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    again = Counter({artist: calls - 1 for artist, calls in counts.seen_by_artist.items()})
    assert not again - named_in_flight(job.log), "called again and not named in a report"
    assert TWICE <= sum(again.values()) <= TWICE * WORKERS
    print(
        f"{TWICE} second signals, {ROWS} rows: 0 lost, 0 twice in the ledger;"
        f" {sum(again.values())} calls in flight were made again, all named; the longest took"
        f" {longest:.2f} s"
    )
