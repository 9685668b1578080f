"""A commit whose answer is lost is looked up, not guessed: whether the server has carried it out
or not, the bio stands in the database and in the ledger once, and is not bought again."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from artist_bio_gen.errors import StoppedError
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.values import Done
from tests.acceptance.harness import (
    Job,
    Running,
    events,
    no_leftovers,
    read_books,
    write_artists,
)
from tests.builders import artist
from tests.fakes.api import FakeApi
from tests.fakes.pg_proxy import Cut, PgProxy
from tests.faults.desk import a_start, check_books, failures_of, in_the_journal
from tests.faults.seed import chance

CUTS = 500
ROWS = 3_000
WORKERS = 2

DOUBTS = 80
KINDS: tuple[Cut, ...] = get_args(Cut)


def test_five_hundred_cuts_of_a_run_lose_nothing_and_buy_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    kinds = chance("cuts of a run")
    write_artists(tmp_path / "artists.csv", ROWS)
    with FakeApi(latency="0.01", keep=0) as api, PgProxy(database_url) as proxy:
        job = Job(tmp_path, proxy.url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", str(WORKERS), "--max-consecutive-failures", "1")

        def choose() -> Cut | None:
            return kinds.choice(KINDS) if sum(proxy.cuts.values()) < CUTS else None

        assert job.tell("migrate")[0] == 0
        proxy.choose_cut = choose
        with no_leftovers(job), Running(job) as run:
            assert run.ended(300) == 0, run.said
        counts = api.counts()
        cuts = Counter(proxy.cuts)
        books = read_books(job)
    assert sum(cuts.values()) == CUTS, "the run was over before all cuts; give it more rows"
    assert books.agree
    assert len(books.ledger) == ROWS
    assert set(counts.seen_by_artist.values()) == {1}
    assert len(events(job.log, "paused")) == len(events(job.log, "flowing")) > 0
    print(f"{CUTS} cuts around a COMMIT ({dict(cuts)}), {ROWS} rows: 0 wrong, 0 calls twice")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_in_doubt_leaves_it_to_the_next_start(
    kind: Cut, url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    """The answer is lost, and the process goes before it could ask: the next one finds out, and
    commits from the journal what had not gone through."""
    path = tmp_path / "out.jsonl"
    number = 0
    trials = DOUBTS // len(KINDS)
    with PgProxy(url) as proxy:

        def give_up(seconds: float) -> None:
            raise StoppedError

        for trial in range(trials):
            group = 1 + trial % 5
            run = str(uuid.uuid4())
            with a_start(path, proxy.url, run, sleep=give_up) as desk:
                drafts = [
                    desk.draft(artist(number + at), f"Bio {number + at}.") for at in range(group)
                ]
                journal = Journal(path, run)
                in_the_journal(journal, drafts)
                proxy.cut_next, proxy.away = kind, True
                with pytest.raises(StoppedError):
                    desk.committer.commit(drafts)
                journal.close()
            number += group
            proxy.away = False
            with a_start(path, proxy.url, str(uuid.uuid4())) as desk:
                assert desk.taken.in_flight == desk.taken.failed == 0
                extra = desk.draft(artist(number), f"Bio {number}.")
                (outcome,) = desk.committer.commit([extra])
                assert isinstance(outcome, Done)
                number += 1
    books = check_books(path, admin)
    assert books == {str(at): f"Bio {at}." for at in range(number)}
    assert failures_of(path) == []
    assert not list(tmp_path.glob("out.jsonl.journal.*"))
    print(f"{trials} runs ended in doubt ({kind}): 0 of {number} bios wrong")
