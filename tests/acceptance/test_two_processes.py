"""Two real commands at one ledger at the same time: one order, whatever becomes of either."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    named_in_flight,
    no_leftovers,
    query,
    read_books,
    size_of,
    write_rows,
)
from tests.fakes.api import FakeApi

ROWS = 250
WORKERS = 8
KILLS = 3


def an_input(path: Path, prefix: str, rows: int = ROWS) -> Path:
    write_rows(path, [(f"{prefix}{number}", f"Artist {number}") for number in range(rows)])
    return path


def test_two_inputs_go_into_one_ledger_though_one_process_is_killed_again_and_again(
    database_url: str, tmp_path: Path
) -> None:
    moments = random.Random(int(os.environ.get("TEST_SEED", "20261122")))
    with FakeApi(latency="uniform:0.02:0.06", keep=0) as api:
        one = Job(tmp_path, database_url, api.base_url, an_input(tmp_path / "one.csv", "a"))
        one.options = ("--workers", "2")  # slow enough to see all the others come and go
        two = replace(one, input=an_input(tmp_path / "two.csv", "b"))
        two.options = ("--workers", str(WORKERS))
        with Running(one) as steady:
            steady.wait_until(lambda: size_of(one.ledger) > 0)
            for _ in range(KILLS):
                lines = LinesOf(one, "b")
                with Running(two) as killed:
                    killed.wait_until(lines.have_come)
                    time.sleep(moments.uniform(0, 0.3))
                    killed.kill()
            assert steady.ended() == 0, steady.said
        with no_leftovers(two):
            code, said = two.finish()
        assert code == 0, said
        counts = api.counts()
        code, said = one.finish()
        assert code == 0, said
        assert f"{ROWS} done before" in said
        assert api.counts().calls == counts.calls
    books = read_books(one)
    assert books.agree
    assert len(books.ledger) == 2 * ROWS
    runs = {row[0] for row in query(one, "select run::text from artist_bio_gen.runs")}
    assert {line["run"] for line in chain(one.ledger)} <= runs
    turns = [line["artist_id"][0] for line in chain(one.ledger)]
    assert sum(a != b for a, b in itertools.pairwise(turns)) > 10, "they took no turns"
    assert counts.answered + counts.gone <= 2 * ROWS + KILLS * WORKERS
    twice = {artist: calls - 1 for artist, calls in counts.answered_by_artist.items() if calls > 1}
    assert not Counter(twice) - named_in_flight(one.log)


class LinesOf:
    """Of one of the inputs, seen from outside while the ledger grows."""

    def __init__(self, job: Job, prefix: str) -> None:
        self._job = job
        self._mark = f'"artist_id":"{prefix}'.encode()
        self._before = self._count()

    def have_come(self) -> bool:
        return self._count() > self._before

    def _count(self) -> int:
        return self._job.ledger.read_bytes().count(self._mark)


def test_a_second_run_over_the_same_input_is_sent_away_while_the_first_lives(
    database_url: str, tmp_path: Path
) -> None:
    rows = 30
    with FakeApi(schedule="ok*5, hang", keep=0) as api:
        one = Job(tmp_path, database_url, api.base_url, an_input(tmp_path / "one.csv", "a", rows))
        with Running(one) as first:
            first.wait_until(lambda: api.counts().answered == rows - 1)
            code, said = one.finish()
            assert code == 2, said
            assert "another run is at work on it with the same input" in said
            assert api.counts().calls == rows
            first.kill()
        with no_leftovers(one):
            code, said = one.finish()
        assert code == 0, said
        assert api.counts().calls == rows + 1
    assert read_books(one).agree
    assert len(read_books(one).ledger) == rows


def test_of_two_that_begin_a_ledger_at_once_one_does_and_the_other_is_told_to_resume(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        one = Job(tmp_path, database_url, api.base_url, an_input(tmp_path / "one.csv", "a", 20))
        two = replace(one, input=an_input(tmp_path / "two.csv", "b", 20))
        with Running(one) as first, Running(two) as second:
            codes = [first.ended(), second.ended()]
            said = [first.said, second.said]
        assert sorted(codes) == [0, 2], said
        told = said[codes.index(2)]
        assert "a ledger is there already and is never overwritten" in told
        for job in (one, two):
            with no_leftovers(job):
                code, last = job.finish()
            assert code == 0, last
        assert api.counts().calls == 40
    assert read_books(one).agree
