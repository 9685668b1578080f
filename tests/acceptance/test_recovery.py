"""The real command, killed while it recovers from a kill: recovery survives its own failure."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psycopg

from tests.acceptance.harness import (
    Job,
    Running,
    journals,
    named_in_flight,
    no_leftovers,
    read_books,
    size_of,
    whole_lines,
    write_artists,
)
from tests.fakes.api import FakeApi

ROWS = 250
WORKERS = 4
CRASHES = 8


def test_crashes_in_a_row_while_recovering_lose_nothing_and_buy_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    """The first crash leaves a torn line, replies in the journal, and calls in flight."""
    moments = random.Random(int(os.environ.get("TEST_SEED", "20261122")))
    write_artists(tmp_path / "artists.csv", ROWS)
    with FakeApi(latency="0.01", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", str(WORKERS))
        with Running(job) as run, psycopg.connect(database_url) as holder:
            run.wait_until(lambda: len(whole_lines(job.ledger)) > 5)
            holder.execute("lock table artist_bio_gen.heads in exclusive mode")
            run.wait_until(lambda: api.counts().answered > ROWS // 2)
            run.kill()
        assert journals(job) != []
        paid = api.counts().answered_by_artist
        os.truncate(job.ledger, size_of(job.ledger) - 30)
        crashed = 0
        for _ in range(CRASHES):
            with Running(job) as run:
                run.until_it_takes_signals()
                time.sleep(moments.uniform(0, 0.3))
                run.signal(signal.SIGKILL)
                crashed += run.ended() == -signal.SIGKILL
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    assert counts.answered + counts.gone <= ROWS + WORKERS * (crashed + 1)
    named = named_in_flight(job.log)
    again = {artist: calls - 1 for artist, calls in counts.answered_by_artist.items() if calls > 1}
    assert all(named[artist] >= times for artist, times in again.items())
    assert sum(paid.values()) - len(paid.keys() & again.keys()) > ROWS // 2 - WORKERS
    print(f"{crashed} crashes while recovering: {sum(again.values())} calls were made again")
