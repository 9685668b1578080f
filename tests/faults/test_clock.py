"""A clock that jumps by hours, back and forth, while a run is at work changes nothing: order is the
order of numbers, and waits and limits go by a clock that does not jump."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    events,
    no_leftovers,
    read_books,
    whole_lines,
    write_artists,
)
from tests.fakes.api import FakeApi
from tests.faults.debian import install
from tests.faults.growth import more_lines
from tests.faults.seed import chance

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
JUMPS = 20
ROWS = 1_200
HOUR = 3600


class Clock:
    """The time of day as processes see it that are started with `env`."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # The clock by which waits and limits go does not jump on a real machine either.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, seconds: int) -> None:
        """So many seconds before (negative) or after the true time, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def libraries() -> list[Path]:
    return [path for pattern in LIBRARIES for path in Path("/").glob(pattern.removeprefix("/"))]


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not libraries():
        install("faketime")
    for library in libraries():
        return Clock(tmp_path, library)
    pytest.skip("needs libfaketime: apt-get install faketime")


def test_jumps_of_the_clock_under_a_run(clock: Clock, database_url: str, tmp_path: Path) -> None:
    """With calls that fail once and calls that are turned away: their waits neither end at once
    nor last for hours, and no call is taken for one that has timed out."""
    draw = chance("clock")
    jumps: list[int] = []
    write_artists(tmp_path / "artists.csv", ROWS)
    chances = "server_error@0.05, rate_limit=0.2@0.05"
    with FakeApi(latency="uniform:0.01:0.04", chances=chances, keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.env = clock.env
        job.options = ("--workers", "8", "--timeout", "30s", "--max-wait", "60s")
        with no_leftovers(job):
            for _ in range(2):
                began = time.monotonic()
                with Running(job, *(("--max-rows", str(ROWS // 2)) if not jumps else ())) as run:
                    for _ in range(JUMPS // 2):
                        run.wait_until(more_lines(job, draw.randrange(10, ROWS // JUMPS)))
                        jumps.append(draw.randrange(-48 * HOUR, 48 * HOUR))
                        clock.set(jumps[-1])
                    assert run.ended() == 0, run.said
                assert time.monotonic() - began < 60
        counts = api.counts()
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    assert set(counts.answered_by_artist.values()) == {1}
    # No storm of retries: as many calls as answers and refusals, each of which was waited for.
    retries = events(job.log, "retrying")
    assert counts.calls == ROWS + counts.error == ROWS + len(retries)
    assert all(event["kind"] in ("server_error", "rate_limit_exceeded") for event in retries)
    waits = [event["wait_s"] for event in retries if event["kind"] == "rate_limit_exceeded"]
    assert all(0.2 <= wait < 2 for wait in waits)
    times = [json.loads(line)["committed_at"] for line in whole_lines(job.ledger)]
    assert times != sorted(times), "the clock did not jump"
    print(f"{JUMPS} jumps of up to two days, {ROWS} rows: 0 lost, 0 twice, 0 early time-outs")


@pytest.mark.parametrize("seconds", [-10 * 365 * 24 * HOUR, 10 * 365 * 24 * HOUR])
def test_a_start_in_another_decade_goes_on(
    seconds: int, clock: Clock, database_url: str, tmp_path: Path
) -> None:
    rows = 40
    write_artists(tmp_path / "artists.csv", rows)
    with FakeApi(latency="0.02", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        assert job.finish("--max-rows", "20")[0] == 0
        job.env = clock.env
        clock.set(seconds)
        with Running(job) as run:
            run.wait_until(lambda: len(whole_lines(job.ledger)) > 22)
            run.kill()
        job.env = {}
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == rows
