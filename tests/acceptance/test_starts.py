"""The real command at its start: what it makes of a dead run's journal while others start too, of
a run that is at work already, of another database or table, and of odd names."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

import artist_bio_gen
from artist_bio_gen.ledger.journal import Entry, Journal
from artist_bio_gen.values import Artist
from tests.acceptance.harness import (
    Job,
    Running,
    failures,
    journals,
    named_in_flight,
    no_leftovers,
    query,
    read_books,
    write_artists,
    write_rows,
)
from tests.builders import bio
from tests.fakes.api import FakeApi
from tests.postgres import Postgres

NOTHING_COMES_S = 1.0
"""In so long, a start that did not wait would have made its calls."""


ROOM = 2_000_000_000
"""Bytes of addresses: enough for the program, and for the stacks of some hundred threads."""


def an_input(path: Path, prefix: str, rows: int) -> Path:
    write_rows(path, [(f"{prefix}{number}", f"Artist {number}") for number in range(rows)])
    return path


def a_job(tmp_path: Path, database_url: str, api: FakeApi, rows: int = 1) -> Job:
    """With a ledger that has so many lines."""
    job = Job(tmp_path, database_url, api.base_url, an_input(tmp_path / "first.csv", "f", rows))
    code, said = job.finish()
    assert code == 0, said
    return job


# ---- too little of something ------------------------------------------------------------------


def test_more_workers_than_the_system_gives_threads_for(database_url: str, tmp_path: Path) -> None:
    """What is called when a run is stopped wants threads too, and gets none either."""
    source = an_input(tmp_path / "artists.csv", "a", 20)
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, source)
        process = job.start(
            *("--workers", "2000"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM)),
        )
        out, err = process.communicate()
        assert process.returncode == 6, err
        assert "no threads for 2000 workers" in err
        assert "--resume" in out
        assert api.counts().calls == 0
        code, said = job.finish()
        assert code == 0, said
    assert len(read_books(job).ledger) == 20


# ---- after a run that died --------------------------------------------------------------------


def leave_replies(job: Job, prefix: str, count: int) -> None:
    """As a run that died after these were paid for and before they were committed."""
    with Journal(job.ledger, str(uuid.uuid4())) as journal:
        for number in range(count):
            artist = Artist(number, f"{prefix}{number}", f"Artist {number}")
            journal.write(Entry.intent(artist, 1, f"dead-{number}-1"))
            journal.write(Entry.reply(artist, bio(f"Paid for, {number}.")))


@contextmanager
def stopped_while_it_takes_over(job: Job) -> Iterator[Running]:
    """A start that is in the middle of a dead run's journal, and is given no time to go on while
    the block lasts."""
    with (
        psycopg.connect(job.database_url) as gate,
        psycopg.connect(job.database_url) as holder,
        Running(job) as run,
    ):
        # It begins the run when all tables were rehearsed, and then asks what is known of an
        # artist before anything of a journal is committed.
        gate.execute("lock table artist_bio_gen.runs in access exclusive mode")
        run.wait_until(lambda: waits_for(job, "runs"))
        holder.execute("lock table artist_bio_gen.failures in access exclusive mode")
        gate.rollback()
        run.wait_until(lambda: waits_for(job, "failures"))
        run.signal(signal.SIGSTOP)
        holder.rollback()
        try:
            yield run
        finally:
            run.signal(signal.SIGCONT)
        assert run.ended() == 0, run.said


def waits_for(job: Job, table: str) -> bool:
    (found,) = query(
        job,
        "select count(*) from pg_locks where not granted"
        " and relation = ('artist_bio_gen.' || %s)::regclass"
        " and database = (select oid from pg_database where datname = current_database())",
        table,
    )
    return bool(found[0])


def at_work(job: Job) -> int:
    """How many runs have taken their places at the ledger."""
    return len(list(job.folder.glob("out.jsonl.run.*")))


def comes(calls: int, api: FakeApi) -> bool:
    """Are so many calls made within a time in which they would have been?"""
    end = time.monotonic() + NOTHING_COMES_S
    while api.counts().calls < calls:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_what_one_start_takes_over_from_a_dead_run_no_other_start_buys(
    database_url: str, tmp_path: Path
) -> None:
    rows = 30
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        leave_replies(job, "a", rows)
        one = replace(job, input=an_input(tmp_path / "one.csv", "a", rows))
        two = replace(job, input=an_input(tmp_path / "two.csv", "a", rows))
        with no_leftovers(job):
            with stopped_while_it_takes_over(one) as first, Running(two) as second:
                second.wait_until(lambda: at_work(job) == 2)
                assert not comes(2, api)
                first.signal(signal.SIGCONT)
                assert second.ended() == 0, second.said
            assert f"journal: {rows} replies committed that had been paid for" in first.said
            assert f"{rows} done before" in second.said
        assert api.counts().calls == 1
    books = read_books(job)
    assert books.agree
    assert [books.ledger[f"a{n}"] for n in range(rows)] == [f"Paid for, {n}." for n in range(rows)]


# ---- beside a run that is at work -------------------------------------------------------------


def test_a_second_start_over_the_same_input_buys_nothing_whatever_it_calls_it(
    database_url: str, tmp_path: Path
) -> None:
    """Others work side by side, and one that was killed keeps nobody away."""
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        job.options = ("--workers", "4")
        one = replace(job, input=an_input(tmp_path / "one.csv", "a", 4))
        linked = replace(job, input=tmp_path / "link.csv")
        linked.input.symlink_to("one.csv")
        nearby = replace(job, input=Path("one.csv"))
        other = replace(job, input=an_input(tmp_path / "other.csv", "b", 4))
        api.script(schedule="hang", repeat=True)
        with Running(one) as first:
            first.wait_until(lambda: api.counts().calls == 1 + 4)
            for same in (one, linked, nearby):
                with Running(same) as second:
                    assert second.ended() == 2, second.said
                assert "another run is at work on it with the same input" in second.said
                assert str(one.input) in second.said
            with Running(other) as beside:
                beside.wait_until(lambda: api.counts().calls == 1 + 4 + 4)
                assert first.process.poll() is None
                beside.kill()
            first.kill()
        assert at_work(job) == 2
        api.script(schedule="", repeat=False)
        with no_leftovers(job):
            for left in (linked, other):
                code, said = left.finish()
                assert code == 0, said
        calls = api.counts().seen_by_artist
    assert calls == {"f0": 1, **{f"{prefix}{n}": 2 for prefix in "ab" for n in range(4)}}
    assert set(named_in_flight(job.log).values()) == {1}
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == 9


# ---- another database, another table ----------------------------------------------------------


def test_a_ledger_is_put_back_into_a_new_database_when_that_is_asked_for(
    database_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    rows = 20
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, rows)
        written = job.ledger.read_bytes()
        name = f"new_{uuid.uuid4().hex}"
        query(job, f"create database {name} template template0 encoding 'UTF8'")
        new = replace(job, database_url=postgres.database(name))
        try:
            code, said = new.finish()
            assert code == 5, said
            assert "does not know this ledger" in said
            assert "--restore" in said
            assert query(new, "select * from artists") == []
            with no_leftovers(new):
                code, said = new.finish("--restore")
            assert code == 0, said
            assert f"{rows} bios put back that only the ledger had" in said
            assert f"{rows} done before" in said
            assert new.ledger.read_bytes() == written
            assert read_books(new).agree
        finally:
            query(job, f"drop database {name} with (force)")
        assert api.counts().calls == rows


def test_a_ledger_stays_with_its_table_and_another_table_has_its_own_bios(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, 5)
        other = replace(job, table="other_artists")
        code, said = other.finish()
        assert code == 3, said
        assert "belongs to the table public.artists, not to public.other_artists" in said
        assert api.counts().calls == 5
        other.folder = tmp_path / "other"
        other.folder.mkdir()
        with no_leftovers(other):
            code, said = other.finish()
        assert code == 0, said
        assert "5 done, 0 failed, 0 rejected, 0 skipped" in said
        assert api.counts().calls == 10
        # The same table by its whole name, with a third ledger: they are done there.
        third = replace(job, table="public.artists", folder=tmp_path / "third")
        third.folder.mkdir()
        code, said = third.finish()
        assert code == 0, said
        assert "5 in another ledger" in said
        assert api.counts().calls == 10
    assert read_books(other).agree


# ---- names ------------------------------------------------------------------------------------


def test_files_whose_names_are_no_utf8(database_url: str, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xe9"))
    odd.mkdir()
    prompt = odd / os.fsdecode(b"pr\xe9.j2")
    shutil.copy(Path(artist_bio_gen.__file__).with_name("default_prompt.j2"), prompt)
    with FakeApi(keep=0) as api:
        source = an_input(odd / os.fsdecode(b"in\xe9.csv"), "a", 5)
        job = Job(odd, database_url, api.base_url, source, options=("--prompt", str(prompt)))
        with no_leftovers(job):
            code, said = job.finish()
            assert code == 0, said
            assert "5 done" in said
            code, said = job.finish("--again")
            assert code == 0, said
            code, said = job.finish("--input", os.fsdecode(b"nowhere\xe9.csv"))
            assert code == 1, said
            assert "nowhere" in said
        assert api.counts().calls == 10
    assert failures(job) == []
    assert journals(job) == []
    assert read_books(job, generations=True).agree
    (path,) = query(job, "select path from artist_bio_gen.heads")
    assert path[0].endswith("/f\\xe9/out.jsonl")


@pytest.mark.parametrize("emptied", [True, False])
def test_a_ledger_that_lost_all_that_tells_its_id_is_not_begun_anew_in_silence(
    database_url: str, tmp_path: Path, emptied: bool
) -> None:
    with FakeApi(keep=0) as api:
        write_artists(tmp_path / "artists.csv", 5)
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        own_id = json.loads(whole.splitlines()[0])["ledger"]
        job.ledger.unlink()
        if emptied:
            job.ledger.touch()
        head = job.ledger.with_name(f"{job.ledger.name}.head")
        head.unlink()
        code, said = job.tell(*job.words("--resume"))
        assert code == 5, said
        assert f"repair {job.ledger} --ledger-id {own_id}" in said
        assert job.ledger.exists() == emptied
        assert not head.exists()
        assert query(job, "select count(*) from artist_bio_gen.heads") == [(1,)]
        # The way out that it names.
        assert "without --resume" in said
        job.ledger.unlink(missing_ok=True)
        code, said = job.finish()
        assert (code, api.counts().calls) == (0, 5), said
        assert job.finish("--resume")[0] == 0
