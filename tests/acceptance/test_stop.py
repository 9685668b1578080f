"""The real command, asked to stop by SIGTERM or SIGINT while it waits for something: it ends in
bounded time, loses nothing that is in flight, and prints the command that goes on. Stops at random
moments are in tests/faults/test_clean_stop.py."""

from __future__ import annotations

import fcntl
import re
import shlex
import signal
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    events,
    journals,
    no_leftovers,
    read_books,
    size_of,
    wait_for,
    whole_lines,
    write_artists,
)
from tests.fakes.api import FakeApi

AT_ONCE_S = 10.0
"""Generous, for a machine that does other things; what is measured against it is far longer."""


def a_job(tmp_path: Path, database_url: str, api: FakeApi, rows: int, *options: str) -> Job:
    write_artists(tmp_path / "artists.csv", rows)
    return Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv", options=options)


def printed_command(said: str) -> list[str]:
    """The words of the command that a stopped run says to go on with."""
    found = re.search(r"^go on +(artist-bio-gen .*)$", said, re.MULTILINE)
    assert found, said
    return shlex.split(found[1])[1:]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once_and_the_calls_are_named_at_the_next_start(
    second: signal.Signals, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(schedule="hang", repeat=True, keep=0) as api:
        job = a_job(tmp_path, database_url, api, 20, "--workers", "4", "--grace", "600")
        with Running(job) as run:
            run.wait_until(lambda: api.counts().cut == 4)
            run.signal(signal.SIGINT)
            run.wait_until(lambda: "once more to leave at once" in run.said)
            run.signal(second)
            assert run.ended(AT_ONCE_S) == 130, run.said
        asked = set(api.counts().seen_by_artist)
        assert len(asked) == 4
        api.script(schedule="")
        code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    assert {event["artist_id"] for event in events(job.log, "in_flight")} == asked
    for artist in asked:
        assert f"artist {artist} " in said
    assert counts.seen_by_artist == {f"a{n}": 2 if f"a{n}" in asked else 1 for n in range(20)}
    assert read_books(job).agree


@pytest.mark.parametrize("attempts", ["1", "5"])
def test_a_call_that_outlasts_the_grace_is_named_at_the_next_start(
    attempts: str, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(schedule="ok*5, hang", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 20, "--workers", "4", "--max-attempts", attempts)
        with Running(job, "--grace", "1") as run:
            run.wait_until(lambda: len(whole_lines(job.ledger)) == 19)
            run.signal(signal.SIGTERM)
            assert run.ended(1 + AT_ONCE_S) == 130
            assert "calls in flight were left after 1 s" in run.said
            assert "Traceback" not in run.said
            words = printed_command(run.said)
        done = set(read_books(job).ledger)
        (hung,) = {f"a{n}" for n in range(20)} - done
        assert journals(job) != []
        with no_leftovers(job):
            code, said = job.tell(*words)
        assert code == 0, said
        assert f"without a reply in an earlier run, may be paid for twice: artist {hung} " in said
        assert api.counts().seen_by_artist[hung] == 2
    assert [event["artist_id"] for event in events(job.log, "in_flight")] == [hung]
    assert len(read_books(job).ledger) == 20


def test_a_stop_while_another_process_holds_the_ledger_tells_what_was_done(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(schedule="ok*5, hang", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 20, "--workers", "4")
        with Running(job, "--grace", "1") as run:
            run.wait_until(lambda: len(whole_lines(job.ledger)) == 19)
            with Path(f"{job.ledger}.lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                run.signal(signal.SIGTERM)
                assert run.ended(1 + AT_ONCE_S) == 130
            assert "no call was made" not in run.said
            assert "19 done, 0 failed" in run.said
            words = printed_command(run.said)
        code, said = job.tell(*words)
        assert code == 0, said
    assert len(read_books(job).ledger) == 20


def test_a_stop_does_not_wait_as_long_as_a_busy_server_asks(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(schedule="ok*3, rate_limit=300*1000", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 20, "--workers", "4")
        with Running(job) as run:
            run.wait_until(lambda: api.counts().error >= 4)
            run.wait_until(lambda: len(events(job.log, "retrying")) >= 4)
            run.signal(signal.SIGTERM)
            assert run.ended(AT_ONCE_S) == 130, run.said
        assert journals(job) == []
        api.script(schedule="")
        code, said = job.finish()
        assert code == 0, said
    assert events(job.log, "in_flight") == []
    assert events(job.log, "failed") == []
    assert len(read_books(job).ledger) == 20


def test_a_stop_between_two_attempts_names_the_call_whose_reply_never_came(
    database_url: str, tmp_path: Path
) -> None:
    """It may have been billed, and the next run makes it again."""
    with FakeApi(schedule="reset*1000", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 1, "--max-attempts", "100")
        with Running(job) as run:
            run.wait_until(lambda: len(events(job.log, "retrying")) >= 4)
            run.signal(signal.SIGTERM)
            assert run.ended(AT_ONCE_S) == 130, run.said
        api.script(schedule="")
        code, said = job.finish()
        assert code == 0, said
    assert [event["artist_id"] for event in events(job.log, "in_flight")] == ["a0"]
    assert journals(job) == []


def test_a_hung_up_terminal_stops_as_a_signal_does(database_url: str, tmp_path: Path) -> None:
    with FakeApi(latency="0.05", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 200, "--workers", "2")
        with Running(job) as run:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            run.signal(signal.SIGHUP)
            assert run.ended() == 130, run.said
        wait_for(lambda: api.counts().in_flight == 0)
        assert api.counts().answered == len(read_books(job).ledger)
        assert journals(job) == []
