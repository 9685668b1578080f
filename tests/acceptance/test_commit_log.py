"""A crash of the real command, investigated from its commit log alone; what that tells is then
held against journals, ledger, database, and what the next start says."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.acceptance.harness import (
    Job,
    Running,
    events,
    failures,
    named_in_flight,
    no_leftovers,
    query,
    read_books,
    size_of,
    wait_for,
    whole_lines,
    write_artists,
    write_rows,
)
from tests.fakes.api import FakeApi

GUIDE = Path(__file__).parents[2] / "docs" / "commit-log.md"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the log alone tells of a crash."""

    runs: set[str]
    """Runs that have not ended by themselves."""
    open: set[str]
    """Artists whose last call has led to nothing, and whom no later start has named."""
    unwritten: set[str]
    """Hashes of lines that were committed and not seen to be appended."""
    appended: set[str]


def investigate(log: Path) -> Findings:
    runs: set[str] = set()
    begun: set[tuple[str, str]] = set()
    committed: set[str] = set()
    appended: set[str] = set()
    for event in events(log):
        match event["event"]:
            case "started":
                runs.add(event["run"])
            case "stopped":
                runs.discard(event["run"])
            case "calling":
                begun.add((event["run"], event["artist_id"]))
            case "committed" | "failed" | "in_flight":
                begun.discard((event["run"], event["artist_id"]))
        if event["event"] == "committed":
            committed.add(event["hash"])
        elif event["event"] == "appended":
            appended.add(event["hash"])
    still = {artist for run, artist in begun if run in runs}
    return Findings(runs, still, committed - appended, appended)


@dataclass(frozen=True, slots=True)
class Truth:
    """What stands in journals, ledger and database, read without the program."""

    replies: set[str]
    failures: set[str]
    in_flight: set[str]
    database: dict[str, str]
    """Hash and artist of each commit row."""
    ledger: set[str]


def look(job: Job) -> Truth:
    replies: set[str] = set()
    failed: set[str] = set()
    asked: set[str] = set()
    for entry in journal_entries(job):
        match entry["is"]:
            case "intent":
                asked.add(entry["artist_id"])
            case "answered":
                asked.discard(entry["artist_id"])
            case "reply":
                replies.add(entry["artist"]["id"])
            case "failure":
                failed.add(entry["failed"]["artist"]["id"])
    commits = query(job, "select hash, artist_id from artist_bio_gen.commits")
    database = dict(commits)
    known = set(database.values())
    known |= {row[0] for row in query(job, "select artist_id from artist_bio_gen.failures")}
    # A kill may tear the last line: a group of many is written page by page.
    ledger = {json.loads(line)["hash"] for line in whole_lines(job.ledger)}
    return Truth(
        replies - known, failed - known, asked - replies - failed - known, database, ledger
    )


def journal_entries(job: Job) -> Iterator[dict[str, Any]]:
    for path in sorted(job.folder.glob("out.jsonl.journal.*")):
        for data in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(data.partition(b" ")[2])


def test_after_a_kill_the_log_tells_what_was_under_way(database_url: str, tmp_path: Path) -> None:
    """The database is held fast meanwhile, so that replies and a failure wait in the journal."""
    rows = 60
    hung = {"a31", "a35", "a40"}
    notes = {**dict.fromkeys(hung, "[[fault:hang*1]]"), "a50": "[[fault:refuse]]"}
    artists = [(f"a{n}", f"Artist {n}", notes.get(f"a{n}", "")) for n in range(rows)]
    write_rows(tmp_path / "artists.csv", artists, header="id,name,note")
    with FakeApi(latency="0.03", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "4")
        with Running(job) as run, psycopg.connect(database_url) as holder:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            holder.execute("lock table artist_bio_gen.heads in exclusive mode")
            run.wait_until(lambda: api.counts().answered == rows - len(hung))
            run.wait_until(lambda: answered_in_journal(job) == rows - len(hung))
            run.kill()
        found, truth = investigate(job.log), look(job)
        assert len(found.runs) == 1
        assert truth.in_flight == hung
        assert truth.failures == {"a50"}
        assert len(truth.replies) > 20
        assert found.open == truth.in_flight | truth.replies | truth.failures
        assert found.unwritten == set()

        before = len(list(events(job.log)))
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 4, said
        report = events(job.log)[before:]
    (run_id,) = found.runs
    of_the_dead = [event for event in report if event["run"] == run_id]
    names = {
        name: {event["artist_id"] for event in of_the_dead if event["event"] == name}
        for name in ("in_flight", "committed", "appended", "failed")
    }
    assert names == {
        "in_flight": truth.in_flight,
        "committed": truth.replies,
        "appended": truth.replies,
        "failed": truth.failures,
    }
    assert {event["worker"] for event in of_the_dead if event["event"] == "committed"} == {None}
    (recovered,) = [event for event in report if event["event"] == "recovered"]
    counted = (recovered["committed"], recovered["failed"], recovered["in_flight"])
    assert counted == (len(truth.replies), 1, 3)
    assert investigate(job.log).open == set(), "the dead run's calls are accounted for"
    assert {line["run"] for line in failures(job)} == {run_id}
    assert read_books(job).agree


def answered_in_journal(job: Job) -> int:
    kinds = [entry["is"] for entry in journal_entries(job)]
    return kinds.count("reply") + kinds.count("failure")


def test_after_kills_at_any_moment_log_and_truth_agree(database_url: str, tmp_path: Path) -> None:
    moments = random.Random(int(os.environ.get("TEST_SEED", "20261122")))
    rows, kills = 3_000, 5
    write_artists(tmp_path / "artists.csv", rows)
    behind = 0
    with FakeApi(latency="uniform:0.005:0.02", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "16")
        for _ in range(kills):
            before = size_of(job.ledger)
            with Running(job) as run:
                wait_for(lambda before=before: size_of(job.ledger) > before)
                time.sleep(moments.uniform(0, 0.2))
                run.kill()
            wait_for(lambda: nobody_commits(job))
            found, truth = investigate(job.log), look(job)
            missing = truth.database.keys() - truth.ledger
            behind += len(missing)
            assert found.appended <= truth.ledger
            assert found.unwritten <= truth.database.keys()
            # What was committed in the last instant may not have been told any more.
            assert {truth.database[digest] for digest in missing - found.unwritten} <= found.open
            committed = set(truth.database.values())
            left = found.open - committed
            named = truth.in_flight | truth.replies | truth.failures
            assert left <= named
            assert not (named - left) & set(api.counts().seen_by_artist), "a call was not told"

            seen = len(events(job.log, "recovered"))
            with Running(job) as again:
                again.wait_until(lambda seen=seen: len(events(job.log, "recovered")) > seen)
                again.kill()
            (recovered,) = events(job.log, "recovered")[seen:]
            assert recovered["appended"] == len(missing)
            assert recovered["committed"] == len(truth.replies)
            assert recovered["in_flight"] == len(truth.in_flight)
        code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    assert read_books(job).agree
    twice = {artist: calls - 1 for artist, calls in counts.answered_by_artist.items() if calls > 1}
    assert all(named_in_flight(job.log)[artist] >= times for artist, times in twice.items())
    print(f"{kills} kills: {behind} lines were in the database and not in the ledger")


def nobody_commits(job: Job) -> bool:
    """The killed command's sessions at the server have ended, and what they did is visible."""
    others = query(
        job,
        "select count(*) from pg_stat_activity where application_name = 'artist-bio-gen'"
        " and datname = current_database()",
    )
    return bool(others[0][0] == 0)


def test_a_ledger_that_cannot_be_written_leaves_a_log_that_tells_which_lines_are_missing(
    database_url: str, tmp_path: Path
) -> None:
    """The disk is full for the ledger, so bios are committed and not appended."""
    with FakeApi(latency="0.02", keep=0) as api:
        write_artists(tmp_path / "artists.csv", 300)
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "8")
        assert job.finish("--max-rows", "150")[0] == 0
        with Running(job) as run:
            start = size_of(job.ledger)
            run.wait_until(lambda: size_of(job.ledger) > start)
            limit = size_of(job.ledger) + 5_000
            resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
            assert run.ended() == 6, run.said
        assert "could not be written (File too large)" in run.said
        assert "Traceback" not in run.said
        found, truth = investigate(job.log), look(job)
        missing = truth.database.keys() - truth.ledger
        assert missing
        assert found.unwritten & missing == missing
        assert found.runs == set()
        calls = api.counts().answered
        paid_for = len(truth.database) + len(truth.replies)
        assert calls == paid_for
        code, said = job.finish()
        assert code == 0, said
        assert f"{len(missing)} lines appended that only the database had" in said
        assert api.counts().answered == 300
        (stopped,) = [e for e in events(job.log, "stopped") if e["exit_code"] == 6]
        assert stopped["reason"] == "error"
    assert read_books(job).agree
    assert len(read_books(job).ledger) == 300


# ---- the guide ----------------------------------------------------------------------------------


def documented() -> dict[str, set[str]]:
    """The keys of each event as the guide's table gives them."""
    text = GUIDE.read_text()
    table = text[text.index("| event | when | keys |") : text.index("## The file")]
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE):
        found[row[0]] = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row[1])))
    return found


OF_ONE_ALONE = {"artist_id", "artist_name"}
OF_THOSE_COUNTED = {"changed_input", "changed_prompt"}


def test_every_event_has_the_keys_that_the_guide_gives(database_url: str, tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(f"a{n}", f"Artist {n}", "") for n in range(30)]
    rows[3] = ("", "No Id", "")
    rows[4] = ("a5", "Artist 5", "")
    rows[6] = ("a6", "Artist 6", "[[fault:refuse]]")
    rows[7] = ("a7", "Artist 7", "[[fault:server_error*1]]")
    rows[8] = ("a8", "Artist 8", "[[fault:hang*1]]")
    write_rows(tmp_path / "artists.csv", rows, header="id,name,note")
    with FakeApi(latency="0.05", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "2")
        with Running(job) as run:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            cut = "select pg_terminate_backend(pid) from pg_stat_activity where"
            query(
                job, f"{cut} application_name = 'artist-bio-gen' and datname = current_database()"
            )
            run.wait_until(lambda: len(events(job.log, "flowing")) > 0)
            run.wait_until(lambda: len(events(job.log, "failed")) > 0)
            run.wait_until(lambda: len(events(job.log, "appended")) > 5)
            run.kill()
        assert job.finish()[0] == 4
    told = events(job.log)
    guide = documented()
    always = {"time", "event", "run"}
    for event in told:
        keys = event.keys() - always
        expected = guide[event["event"]]
        if event["event"] == "skipped":
            alone = event["reason"] not in ("done", "elsewhere", "has_bio", "left")
            expected = expected - (OF_THOSE_COUNTED if alone else OF_ONE_ALONE)
        assert keys == expected, event["event"]
        assert always <= event.keys()
    assert {event["event"] for event in told} == guide.keys()
