"""The real command while it waits: for a row or a lock that somebody else holds, for its input.
It tells, it can be stopped, and it does not wait for ever."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    events,
    journals,
    no_leftovers,
    query,
    read_books,
    write_rows,
)
from tests.fakes.api import FakeApi

AT_ONCE_S = 10.0
"""Generous, for a machine that does other things; what is measured against it is for ever."""


def a_job(
    folder: Path, database_url: str, api: FakeApi, rows: int, *options: str, prefix: str = "a"
) -> Job:
    folder.mkdir(exist_ok=True)
    source = folder / "artists.csv"
    write_rows(source, [(f"{prefix}{number}", f"Artist {number}") for number in range(rows)])
    return Job(folder, database_url, api.base_url, source, options=("--workers", "4", *options))


def told(job: Job, name: str) -> int:
    return len(events(job.log, name)) if job.log.exists() else 0


def replies_in_journals(job: Job) -> int:
    return sum((job.folder / name).read_bytes().count(b'"is":"reply"') for name in journals(job))


# ---- for the database -------------------------------------------------------------------------


def test_an_open_transaction_of_somebody_elses_holds_no_run_for_ever(
    database_url: str, tmp_path: Path
) -> None:
    """One run is stopped while it waits, one gives up, one goes on when the row is free."""
    rows = 10
    with FakeApi(keep=0) as api:
        stopped = a_job(tmp_path / "a", database_url, api, rows, prefix="a")
        limited = a_job(tmp_path / "b", database_url, api, rows, "--max-wait", "1s", prefix="b")
        patient = a_job(tmp_path / "c", database_url, api, rows, prefix="c")
        jobs = (stopped, limited, patient)
        assert stopped.tell("migrate")[0] == 0
        query(
            stopped, "create table if not exists artists (id text primary key, name text, bio text)"
        )
        query(stopped, "insert into artists values ('a1', 'x'), ('b1', 'x'), ('c1', 'x')")
        with psycopg.connect(database_url) as editor:
            editor.execute("update artists set name = 'y'")
            with Running(stopped) as one, Running(limited) as two, Running(patient) as three:
                for run, job in zip((one, two, three), jobs, strict=True):
                    run.wait_until(lambda job=job: told(job, "paused") == 1)
                    assert told(job, "flowing") == 0
                one.signal(signal.SIGTERM)
                assert one.ended(AT_ONCE_S) == 130, one.said
                assert two.ended() == 6, two.said
                assert "away for more than 1 s" in two.said
                editor.commit()
                assert three.ended() == 0, three.said
        assert "paused: the database is away: canceling statement due to lock timeout" in three.said
        assert (told(patient, "paused"), told(patient, "flowing")) == (1, 1)
        assert "going on: " not in one.said + two.said
        for job in (stopped, limited):
            assert replies_in_journals(job) > 0
            with no_leftovers(job):
                code, said = job.finish()
            assert code == 0, said
            assert "replies committed that had been paid for" in said
        assert api.counts().answered_by_artist == {
            f"{prefix}{number}": 1 for prefix in "abc" for number in range(rows)
        }
    bios = {id_: bio for job in jobs for id_, bio in read_books(job).ledger.items()}
    assert bios == read_books(patient).database


# ---- for the ledger's lock --------------------------------------------------------------------


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As by another process that hangs."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["out.jsonl.lock", "out.jsonl"])
def test_a_stop_while_another_process_holds_the_ledger(
    name: str, database_url: str, tmp_path: Path
) -> None:
    """At the start, and with what is paid for and cannot be committed."""
    rows = 8
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, rows, "--grace", "0.2s")
        assert job.finish("--max-rows", "1")[0] == 0
        with held(tmp_path / name), Running(job) as run:
            run.wait_until(lambda: len(list(tmp_path.glob("out.jsonl.run.*"))) == 1)
            run.signal(signal.SIGTERM)
            assert run.ended(AT_ONCE_S) == 130, run.said
            assert "go on " in run.said
        assert api.counts().calls == 1
        api.script(latency="0.5")
        with Running(job) as run:
            run.wait_until(lambda: api.counts().in_flight == 4)
            with held(tmp_path / name):
                api.script(latency="0")
                run.wait_until(lambda: replies_in_journals(job) == rows - 1)
                run.signal(signal.SIGTERM)
                assert run.ended(AT_ONCE_S) == 130, run.said
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        assert f"{rows - 1} replies committed that had been paid for" in said
        assert api.counts().calls == rows
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == rows


# ---- for its input ----------------------------------------------------------------------------


@contextmanager
def idle(kind: str, path: Path, text: bytes) -> Iterator[tuple[Path, int]]:
    """The input's name and the standard input, on which nothing comes behind `text`; a named pipe
    that is `forsaken` has nobody who writes."""
    if kind == "stdin":
        reader, writer = os.pipe()
        name, ends = Path("-"), [reader, writer]
    else:
        os.mkfifo(path)
        reader, name = subprocess.DEVNULL, path
        writer = os.open(path, os.O_RDWR) if kind == "named" else -1
        ends = [writer] if kind == "named" else []
    if text:
        os.write(writer, text)
    try:
        yield name, reader
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("stdin", b""),
        ("stdin", b"id,name\na0,Nina Sim"),
        ("named", b"id,na"),
        ("named", b"id,name\na0,Nina Simone\n"),
        ("forsaken", b""),
    ],
)
def test_a_stop_while_the_input_is_idle(
    kind: str, text: bytes, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api, idle(kind, tmp_path / "a.csv", text) as (name, stdin):
        job = Job(tmp_path, database_url, api.base_url, name)
        with Running(job, stdin=stdin) as run:
            run.until_it_takes_signals()
            run.signal(signal.SIGTERM)
            assert run.ended(AT_ONCE_S) == 130, run.said
        assert "Traceback" not in run.said
        assert api.counts().calls == 0


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_stop_while_the_input_yields_no_row(
    dry_run: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api, an_endless_comment() as stdin:
        job = Job(tmp_path, database_url, api.base_url, Path("-"))
        with Running(job, *dry_run, stdin=stdin) as run:
            run.until_it_takes_signals()
            run.signal(signal.SIGTERM)
            assert run.ended(AT_ONCE_S) == 130, run.said
        assert "Traceback" not in run.said
        assert api.counts().calls == 0


@contextmanager
def an_endless_comment() -> Iterator[int]:
    with subprocess.Popen(["yes", "# x"], stdout=subprocess.PIPE) as talker:
        assert talker.stdout is not None
        try:
            yield talker.stdout.fileno()
        finally:
            talker.kill()


def test_a_device_that_never_ends_a_line_is_refused(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, Path("/dev/zero"))
        code, said = job.finish()
    assert code == 1, said
    assert "/dev/zero cannot be read on: more than" in said


def test_rows_of_a_named_pipe_are_waited_for(database_url: str, tmp_path: Path) -> None:
    source = tmp_path / "artists.csv"
    os.mkfifo(source)
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, source)
        with no_leftovers(job), Running(job) as run:
            with source.open("wb", buffering=0) as writer:  # opens when the reader does
                writer.write(b"id,name\na0,Ni")
                run.wait_until(lambda: told(job, "started") == 1)
                writer.write(b"na Simone\na1,Alice Coltrane\n")
            assert run.ended() == 0, run.said
        assert api.counts().seen_by_artist == {"a0": 1, "a1": 1}
    assert len(read_books(job).ledger) == 2
