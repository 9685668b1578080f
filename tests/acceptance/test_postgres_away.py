"""The real command and a database that goes away: crashed, stopped, or cutting its connections."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from artist_bio_gen.database import embedded
from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    events,
    journals,
    no_leftovers,
    query,
    read_books,
    size_of,
    wait_for,
    write_artists,
)
from tests.fakes.api import Counts, FakeApi

ROWS = 800
WORKERS = 16
AT_ONCE_S = 10.0


class Server:
    """A Postgres of the test's own, which may crash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = embedded.start(folder).url

    def crash(self) -> None:
        """An immediate shutdown, as pg_ctl -m immediate asks for: nothing is written any more."""
        pid = embedded.status(self._folder).pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: embedded.status(self._folder).state == "stopped")

    def start(self) -> None:
        embedded.start(self._folder)

    def end(self) -> None:
        embedded.stop(self._folder)


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    one = Server(short_dir / "away")
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def away_url(server: Server, tmp_path: Path) -> str:
    """A database of this server. It goes with the server's folder."""
    name = f"away_{abs(hash(tmp_path)):x}"
    query(Job(tmp_path, server.url, "", tmp_path), f'create database "{name}"')
    return server.url.replace("/artists?", f"/{name}?")


def a_job(tmp_path: Path, url: str, api: FakeApi, rows: int, *options: str) -> Job:
    write_artists(tmp_path / "artists.csv", rows)
    options = ("--workers", str(WORKERS), *options)
    return Job(tmp_path, url, api.base_url, tmp_path / "artists.csv", options=options)


def check_done_once(job: Job, counts: Counts, rows: int) -> None:
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == rows
    assert counts.seen_by_artist == {f"a{number}": 1 for number in range(rows)}


class Grown:
    """True when the ledger has grown since this was made."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._before = size_of(job.ledger)

    def __call__(self) -> bool:
        return size_of(self._job.ledger) > self._before


def count_of(job: Job, name: str) -> int:
    return len(events(job.log, name)) if job.log.exists() else 0


@pytest.mark.embedded
def test_two_crashes_of_the_server_are_ridden_out(
    server: Server, away_url: str, tmp_path: Path
) -> None:
    with FakeApi(latency="uniform:0.05:0.1", keep=0) as api:
        job = a_job(tmp_path, away_url, api, ROWS)
        with no_leftovers(job), Running(job) as run:
            for crash in (1, 2):
                run.wait_until(Grown(job))
                server.crash()
                run.wait_until(lambda: is_paused(job))
                run.wait_until(lambda: api.counts().in_flight == 0)
                calls = api.counts().calls
                assert run.process.poll() is None, run.said
                server.start()
                run.wait_until(lambda crash=crash: count_of(job, "flowing") >= crash)
                assert calls < ROWS, "all was done before the crash; give it more rows"
            assert run.ended() == 0, run.said
        counts = api.counts()
    check_done_once(job, counts, ROWS)
    assert "paused: the database is away" in run.said
    assert "going on: the database is back" in run.said
    for calls in calls_while_paused(job):
        assert calls <= WORKERS
    assert count_of(job, "paused") == count_of(job, "flowing")


def is_paused(job: Job) -> bool:
    return count_of(job, "paused") > count_of(job, "flowing")


def calls_while_paused(job: Job) -> list[int]:
    """Calls that were begun in each time in which at least one of the connections was away."""
    found: list[int] = []
    away = 0
    for event in events(job.log, "paused", "flowing", "calling"):
        if event["event"] == "paused":
            away += 1
            if away == 1:
                found.append(0)
        elif event["event"] == "flowing":
            away -= 1
        elif away:
            found[-1] += 1
    return found


def cut(job: Job) -> int:
    """Ends the command's connections; how many."""
    return len(
        query(
            job,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'artist-bio-gen' and datname = current_database()",
        )
    )


def test_connections_that_are_cut_again_and_again_are_made_anew(
    database_url: str, tmp_path: Path
) -> None:
    cuts = 8
    with FakeApi(latency="uniform:0.05:0.1", keep=0) as api:
        job = a_job(tmp_path, database_url, api, ROWS)
        with no_leftovers(job), Running(job) as run:
            for _ in range(cuts):
                run.wait_until(Grown(job))
                noticed = count_of(job, "paused")
                run.wait_until(lambda: cut(job) > 0)
                # A line may still follow whose commit went before the cut: wait for its notice.
                run.wait_until(lambda noticed=noticed: count_of(job, "paused") > noticed)
            assert run.ended() == 0, run.said
        counts = api.counts()
    check_done_once(job, counts, ROWS)
    assert count_of(job, "paused") >= cuts


@pytest.mark.embedded
def test_a_stop_while_the_server_is_away_keeps_what_was_paid_for(
    server: Server, away_url: str, tmp_path: Path
) -> None:
    rows = 600
    with FakeApi(latency="0.05", keep=0) as api:
        job = a_job(tmp_path, away_url, api, rows)
        with Running(job) as run:
            run.wait_until(Grown(job))
            server.crash()
            try:
                run.wait_until(lambda: is_paused(job))
                run.signal(signal.SIGTERM)
                assert run.ended(AT_ONCE_S) == 130, run.said
            finally:
                server.start()
            assert "going on: " not in run.said
        counts = api.counts()
        assert counts.in_flight == 0
        paid = counts.answered - len(list(chain(job.ledger)))
        assert (paid > 0) == bool(journals(job))
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        assert not paid or "replies committed that had been paid for" in said
        counts = api.counts()
    check_done_once(job, counts, rows)
    assert events(job.log, "in_flight") == []


@pytest.mark.embedded
def test_a_server_that_stays_away_ends_the_run_which_can_be_resumed(
    server: Server, away_url: str, tmp_path: Path
) -> None:
    rows = 200
    with FakeApi(latency="0.05", keep=0) as api:
        job = a_job(tmp_path, away_url, api, rows, "--max-wait", "1")
        with Running(job) as run:
            run.wait_until(Grown(job))
            server.crash()
            try:
                assert run.ended() == 6, run.said
            finally:
                server.start()
            assert "away for more than 1 s" in run.said
            assert "going on: " not in run.said
            assert "go on " in run.said
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    check_done_once(job, counts, rows)
