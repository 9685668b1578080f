"""The real command and a ledger or a database that is not where it was left: torn, cut, older,
another one, replaced. What can be mended is mended byte for byte and costs no call; what cannot
be is left as it is, with exit code 5."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

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
    write_artists,
)
from tests.fakes.api import FakeApi
from tests.postgres import Postgres

ROWS = 40
TAIL = len(',"hash":""}\n') + 64


def a_job(tmp_path: Path, database_url: str, api: FakeApi, rows: int = ROWS) -> Job:
    write_artists(tmp_path / "artists.csv", rows)
    return Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")


def line_starts(data: bytes) -> list[int]:
    return [0, *(at + 1 for at, byte in enumerate(data[:-1]) if byte == ord("\n"))]


def check_mended(job: Job, api: FakeApi, whole: bytes, *words: str) -> str:
    """A resume brings everything back as it was, without a call."""
    calls = api.counts().calls
    with no_leftovers(job):
        code, said = job.finish()
    assert code == 0, said
    assert job.ledger.read_bytes() == whole
    assert read_books(job).agree
    assert api.counts().calls == calls
    for word in words:
        assert word in said
    return said


def check_refused(job: Job, api: FakeApi, *words: str) -> None:
    """A start ends with exit code 5, changes neither side, and makes no call."""
    calls, before = api.counts().calls, contents(job)
    code, said = job.finish()
    assert code == 5, said
    for word in words:
        assert word in said
    assert contents(job) == before
    assert api.counts().calls == calls


def contents(job: Job) -> tuple[object, ...]:
    commits = query(job, "select ledger::text, seq, hash, line from artist_bio_gen.commits")
    heads = query(job, "select ledger::text, seq, hash from artist_bio_gen.heads")
    bios = query(job, f"select id::text, bio from {job.table}")
    return job.ledger.read_bytes(), sorted(commits), sorted(heads), sorted(bios)


def test_a_torn_last_line_is_mended_wherever_it_was_cut(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        start = line_starts(whole)[-1]
        length = len(whole) - start
        cuts = [0, 1, length // 2, length - TAIL, length - TAIL + 9, length - 3, length - 1]
        for kept in cuts:
            job.ledger.write_bytes(whole[: start + kept])
            said = check_mended(job, api, whole, "1 lines appended that only the database had")
            assert ("torn tail was put aside" in said) == (kept > 0)
        aside = sorted(path.read_bytes() for path in tmp_path.glob("out.jsonl.quarantine.*"))
        last = whole[start:]
        assert last[: length - 1] in aside, "the last tail is not in quarantine"
        assert all(last.startswith(piece) for piece in aside)


@pytest.mark.parametrize("zeros", [30, 3_000])
@pytest.mark.parametrize("grown", [0, 5_000])
def test_a_tail_of_zeros_is_mended(
    zeros: int, grown: int, database_url: str, tmp_path: Path
) -> None:
    """What a loss of power leaves where a page of the last group did not reach the disk."""
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        job.ledger.write_bytes(whole[:-zeros] + bytes(zeros + grown))
        check_mended(job, api, whole, "torn tail was put aside")


@pytest.mark.parametrize("lines", [5, ROWS])
def test_an_older_ledger_is_brought_up_to_the_database(
    lines: int, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        job.ledger.write_bytes(whole[: line_starts(whole)[ROWS - lines]])
        for name in ("head", "lock"):
            if lines < ROWS:
                (tmp_path / f"out.jsonl.{name}").unlink()
        check_mended(job, api, whole, f"{lines} lines appended that only the database had")


@pytest.mark.parametrize("lines", [5, ROWS])
def test_an_older_database_is_brought_up_to_the_ledger(
    lines: int, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        make_database_older(job, lines)
        check_mended(job, api, whole, f"{lines} bios put back that only the ledger had")


def make_database_older(job: Job, lines: int) -> None:
    query(
        job,
        "with gone as (delete from artist_bio_gen.commits where seq > %s returning artist_id)"
        " update artists set bio = null from gone where id = artist_id",
        ROWS - lines,
    )
    first = next(chain(job.ledger))
    query(
        job,
        "update artist_bio_gen.heads h set seq = %s, hash = coalesce((select c.hash from"
        " artist_bio_gen.commits c where c.ledger = h.ledger and c.seq = %s), %s)",
        *(ROWS - lines, ROWS - lines, first["prev"]),
    )


def test_a_torn_ledger_with_an_older_database_is_left_alone(
    database_url: str, tmp_path: Path
) -> None:
    """Nobody can tell whether the torn line was ever acknowledged."""
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        make_database_older(job, 5)
        job.ledger.write_bytes(whole[:-20])
        check_refused(job, api, "ends in a torn line behind line 39", "an older copy?")


def test_damage_in_the_middle_is_left_alone(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        starts = line_starts(whole)
        flipped = bytearray(whole)
        flipped[starts[20] + 30] ^= 1
        removed = whole[: starts[20]] + whole[starts[21] :]
        swapped = (
            whole[: starts[20]]
            + whole[starts[21] : starts[22]]
            + whole[starts[20] : starts[21]]
            + whole[starts[22] :]
        )
        for damaged in (bytes(flipped), removed, swapped):
            job.ledger.write_bytes(damaged)
            check_refused(job, api, "damaged behind line 20")
        job.ledger.write_bytes(whole)
        check_mended(job, api, whole)


@pytest.fixture
def another_url(postgres: Postgres, database_url: str) -> Iterator[str]:
    """A copy of the test's database can be made at this address: it is still free."""
    name = f"test_{uuid.uuid4().hex}"
    try:
        yield postgres.database(name)
    finally:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')


def copy_database(postgres: Postgres, source: str, target: str) -> None:
    names = [urlsplit(url).path[1:] for url in (target, source)]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute('create database "{}" template "{}"'.format(*names))


def test_another_database_is_refused_and_a_new_one_is_filled_only_when_agreed(
    postgres: Postgres, database_url: str, another_url: str, tmp_path: Path
) -> None:
    copy_database(postgres, database_url, another_url)
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        wrong = replace(job, database_url=another_url)
        assert wrong.tell("migrate")[0] == 0
        check_refused(wrong, api, "the database does not know this ledger", "--restore")
        wrong.options = ("--restore",)
        check_mended(wrong, api, whole, f"{ROWS} bios put back that only the ledger had")


def test_a_ledger_and_a_database_that_have_parted_are_left_alone(
    postgres: Postgres, database_url: str, another_url: str, tmp_path: Path
) -> None:
    """A copy of both was worked on, and then the two were mixed up."""
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish("--max-rows", "30")[0] == 0
        copy = replace(job, database_url=another_url, folder=tmp_path / "copy")
        copy_database(postgres, database_url, another_url)
        copy.folder.mkdir()
        shutil.copy(job.ledger, copy.ledger)
        assert job.finish()[0] == 0
        assert copy.finish("--max-rows", "35")[0] == 0
        for mixed in (
            replace(job, database_url=another_url),
            replace(copy, database_url=database_url),
        ):
            check_refused(mixed, api, "ledger and database have parted")
    assert read_books(job).agree
    assert read_books(copy).agree


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_ledger_that_is_taken_away_while_running_ends_the_run(
    how: str, database_url: str, tmp_path: Path
) -> None:
    rows = 300
    with FakeApi(latency="0.03", keep=0) as api:
        job = a_job(tmp_path, database_url, api, rows)
        with Running(job, "--workers", "4") as run:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            os.link(job.ledger, tmp_path / "kept")
            if how == "replaced":
                shutil.copy(job.ledger, tmp_path / "copy")
                (tmp_path / "copy").replace(job.ledger)
                copied = job.ledger.read_bytes()
            else:
                job.ledger.unlink()
            assert run.ended() == 5, run.said
        assert "deleted or replaced by another file while it was in use" in run.said
        if how == "replaced":
            assert job.ledger.read_bytes() == copied
        else:
            assert not job.ledger.exists()
        (tmp_path / "kept").replace(job.ledger)
        paid = api.counts().answered
        assert 0 < paid < rows
        assert (paid > len(list(chain(job.ledger)))) == bool(journals(job))
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        assert api.counts().answered == rows
        assert events(job.log, "in_flight") == []
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == rows


def test_a_ledger_that_is_taken_away_while_nothing_is_written_is_told_as_well(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        waiting = replace(job, input=Path("-"))
        reader, writer = os.pipe()
        os.write(writer, job.input.read_bytes())
        with os.fdopen(reader, "rb") as stdin, Running(waiting, stdin=stdin) as run:
            run.wait_until(lambda: len(events(job.log, "recovered")) == 2)
            job.ledger.rename(tmp_path / "elsewhere")
            os.close(writer)
            assert run.ended() == 5, run.said
        assert "deleted or replaced by another file while it was in use" in run.said
        assert api.counts().calls == ROWS


def test_a_deleted_ledger_is_brought_back_from_the_database(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        job.ledger.unlink()
        code, said = job.finish()
        assert code == 2, said
        assert "out.jsonl.head is there: --resume" in said
        assert not job.ledger.exists()
        code, said = job.finish("--resume")
        assert code == 0, said
        assert "its head is there, and its lines are brought back" in said
        assert job.ledger.read_bytes() == whole
        assert api.counts().calls == ROWS


def test_a_ledger_deleted_before_its_first_run_has_ended_is_brought_back(
    database_url: str, tmp_path: Path
) -> None:
    """Until then the head beside it tells of no line."""
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, rows=2_000)
        assert job.kill_after(0.1)
        job.ledger.unlink()
        code, said = job.finish("--resume")
        assert code == 0, said
        books = read_books(job)
        assert books.agree
        assert len(books.ledger) == 2_000
        assert query(job, "select count(distinct ledger) from artist_bio_gen.commits") == [(1,)]


def test_commit_rows_that_were_deleted_are_missed(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        with psycopg.connect(database_url) as connection:
            connection.execute("delete from artist_bio_gen.commits where seq in (1, 7)")
        check_refused(job, api, f"has {ROWS} lines, but the database {ROWS - 2} commit rows")


def test_older_copies_of_both_are_found_by_the_head_beside_the_ledger(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        whole = job.ledger.read_bytes()
        last = line_starts(whole)[-1]
        job.ledger.write_bytes(whole[:last])
        with psycopg.connect(database_url) as connection:
            connection.execute("delete from artist_bio_gen.commits where seq = %s", [ROWS])
            connection.execute(
                "update artist_bio_gen.heads set seq = c.seq, hash = c.hash"
                " from artist_bio_gen.commits c where c.seq = %s",
                [ROWS - 1],
            )
        check_refused(job, api, f"its head tells of {ROWS} lines", "both are older copies")


def test_what_was_paid_for_is_found_by_whatever_name_the_ledger_is_called(
    database_url: str, tmp_path: Path
) -> None:
    """The database is held fast meanwhile, so that replies wait in the journal."""
    rows = 60
    with FakeApi(latency="0.02", keep=0) as api:
        job = a_job(tmp_path, database_url, api, rows)
        (tmp_path / "link").mkdir()
        link = replace(job, folder=tmp_path / "link", options=("--resume", "--workers", "4"))
        link.ledger.symlink_to(job.ledger)
        with Running(link, words=link.words()) as run, psycopg.connect(database_url) as holder:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            holder.execute("lock table artist_bio_gen.heads in exclusive mode")
            run.wait_until(lambda: api.counts().answered == rows)
            run.kill()
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    twice = sum(calls - 1 for calls in counts.answered_by_artist.values())
    assert twice == len(events(job.log, "in_flight")) <= 4
    assert read_books(job).agree
