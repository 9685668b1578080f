"""The real command tells what it is going to do before it does it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.acceptance.harness import (
    Job,
    Running,
    events,
    journals,
    no_leftovers,
    query,
    read_books,
    whole_lines,
    write_rows,
)
from tests.fakes.api import FakeApi

Row = tuple[str, str, str]
"""Id, name, and a fault that the API is to show when it is asked for this artist."""


def write(path: Path, *rows: Row) -> None:
    write_rows(path, rows, header="id,name,note")


def a_job(folder: Path, database_url: str, api: FakeApi, *rows: Row) -> Job:
    write(folder / "a.csv", *rows)
    return Job(folder, database_url, api.base_url, folder / "a.csv", options=("--workers", "4"))


def artists(count: int, first: int = 0) -> list[Row]:
    return [(f"a{number}", f"Artist {number}", "") for number in range(first, first + count)]


def planned(job: Job) -> dict[str, Any]:
    """What the newest plan told, without time and names."""
    told = events(job.log, "planned")[-1]
    return {key: value for key, value in told.items() if key not in ("time", "event", "run")}


def test_a_resume_tells_what_was_checked_taken_over_and_is_left_before_its_first_call(
    database_url: str, tmp_path: Path
) -> None:
    mixed = [
        *artists(6),
        ("r", "R", "[[fault:refuse]]"),
        ("", "Nobody", ""),
        ("b", "B", "[[fault:rate_limit=60]]"),
        ("h1", "H1", "[[fault:hang*1]]"),
        ("h2", "H2", "[[fault:hang*1]]"),
    ]
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *mixed)
        with Running(job, "--max-wait", "1s") as run:
            run.wait_until(lambda: len(whole_lines(job.ledger)) == 6)
            run.wait_until(lambda: noted(job) == 2)
            run.kill()
        assert journals(job) != []
        # One finished artist has changed, the rows that are new stand between the others.
        write(job.input, ("a0", "Another", ""), *artists(2, first=100), *mixed[1:])
        with no_leftovers(job):
            code, said = job.finish("--max-wait", "1s")
        assert code == 4, said
    assert "ledger: checked up to line 6" in said
    assert "journal: 2 calls of an earlier run are without a reply" in said
    assert (
        "input: 13 rows looked up: 6 finished, 5 left to do (4 new, 1 that failed in a way that"
        " may pass), 1 failed for good (--retry-failed takes them), 1 rejected"
    ) in said
    assert "input: 1 finished artists have changed since (1 by their input, 0 by prompt" in said
    assert planned(job) == {
        "rows": 13,
        "finished": 6,
        "left": {"new": 4, "transient": 1},
        "changed": 1,
        "changed_input": 1,
        "changed_prompt": 0,
        "failed": 1,
        "no_row": 0,
        "repeated": 0,
        "rejected": 1,
        "set_aside": 0,
    }
    told = [event["event"] for event in events(job.log)]
    second = told[told.index("started", 1) :]
    order = [second.index(name) for name in ("in_flight", "recovered", "planned", "calling")]
    assert order == sorted(order)
    in_flight = {event["artist_id"] for event in events(job.log, "in_flight")}
    assert in_flight == {"h1", "h2"}


def noted(job: Job) -> int:
    return int(query(job, "select count(*) from artist_bio_gen.failures")[0][0])


def test_each_row_is_counted_once_wherever_the_work_begins(
    database_url: str, tmp_path: Path
) -> None:
    """Those that are finished with in front of the first that is left, and those behind it."""
    with FakeApi(keep=0) as api:
        front = [*artists(700), ("", "Nobody", ""), ("r", "R", "[[fault:refuse]]"), *artists(1)]
        behind = [*artists(700, first=1_000), ("", "No one", "")]
        job = a_job(tmp_path, database_url, api, *front, *behind)
        assert job.finish()[0] == 4
        calls = api.counts().calls
        write(job.input, *front, ("new", "New", ""), *behind)
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 4, said
        assert (
            "rows     1 done, 0 failed, 2 rejected, 1,402 skipped (1 failed before, 1 repeated,"
            " 1,400 done before)"
        ) in said
        assert "1,400 finished, 1 left to do (1 new)" in said
        assert api.counts().calls == calls + 1
    assert read_books(job).agree


def test_a_new_ledger_needs_no_plan(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(3))
        assert job.tell(*job.words("--resume"))[0] == 0
        assert events(job.log, "planned") == []


def test_of_an_input_that_can_be_read_only_once_it_is_said_so(
    database_url: str, tmp_path: Path
) -> None:
    said_so = "it can be read only once, so what remains cannot be told beforehand"
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(3))
        assert job.finish("--max-rows", "2")[0] == 0
        pipe = tmp_path / "pipe.csv"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(job.input.read_bytes(),))
        writer.start()
        job.input = pipe
        with Running(job) as run:
            assert run.ended() == 0, run.said
        writer.join()
        assert said_so in run.said
        assert "1 done, 0 failed, 0 rejected, 2 skipped (2 done before)" in run.said
        job.input = Path("-")
        with (tmp_path / "a.csv").open("rb") as stdin, Running(job, stdin=stdin) as run:
            assert run.ended() == 0, run.said
        assert said_so in run.said
        assert api.counts().calls == 3
    assert events(job.log, "planned") == []


def test_the_first_signal_ends_the_look_and_no_call_is_made(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(3))
        assert job.finish()[0] == 0
        with job.input.open("a") as file:  # far more than can be looked up before the signal
            file.writelines(f"b{number},B {number},\n" for number in range(2_000_000))
        with Running(job) as run:
            run.wait_until(lambda: len(events(job.log, "recovered")) == 2)
            run.signal(signal.SIGTERM)
            assert run.ended(10.0) == 130, run.said
        assert "go on" in run.said
        assert api.counts().calls == 3
    assert events(job.log, "planned") == []
    assert events(job.log, "stopped")[-1]["exit_code"] == 130


def test_too_little_room_on_the_disk_stops_before_a_call(database_url: str, tmp_path: Path) -> None:
    everything = str(10**9)
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(3))
        code, said = job.finish("--min-free-mb", everything)
        assert code == 6, said
        assert f"error: {tmp_path}: its file system has " in said
        assert "--min-free-mb" in said
        assert not job.ledger.exists()
        assert api.counts().calls == 0
        assert job.finish()[0] == 0


def test_after_a_clean_stop_the_ledger_is_read_again_only_if_somebody_touched_it(
    database_url: str, tmp_path: Path
) -> None:
    unread = "ledger: nothing was written to it since it was checked up to line 2"
    read = "ledger: checked up to line 2, each follows the one before"
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(2))
        assert job.finish()[0] == 0
        assert unread in job.finish()[1]
        assert read in job.finish("--check", "whole")[1]
        assert unread in job.finish()[1]
        job.ledger.touch()
        assert read in job.finish()[1]
        assert [event["noted"] for event in events(job.log, "recovered")] == [
            *(False, True, False, True, False),
        ]
        assert api.counts().calls == 2
