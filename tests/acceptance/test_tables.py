"""The real command and a table that was there before it: whose rows it writes, whose it leaves,
and what it keeps of what stood there."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    events,
    failures,
    no_leftovers,
    query,
    read_books,
    size_of,
    whole_lines,
    write_artists,
)
from tests.fakes.api import FakeApi

THERE = """
    create table test_artists (
        id text not null, name text not null, bio text, country text default 'Nowhere',
        tags text[] not null default '{}', key integer generated always as identity,
        touched timestamptz not null default '2000-01-01'
    );
    create index by_country on test_artists (country);
    insert into test_artists (id, name, bio, country) values
        ('a0', 'As it stands', null, 'Iceland'), ('a1', 'One', '', 'Mali'),
        ('a2', 'Two', 'An old bio.', 'Chile'), ('a3', 'Three', 'Another old bio.', 'Peru'),
        ('z', 'Not in the input', 'Left alone.', 'Oman')
"""


def a_job(tmp_path: Path, database_url: str, api: FakeApi, rows: int = 6) -> Job:
    write_artists(tmp_path / "artists.csv", rows)
    return Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")


def with_table(job: Job) -> Job:
    with psycopg.connect(job.database_url) as connection:
        connection.execute(THERE)
    return replace(job, table="test_artists")


def shape(job: Job) -> list[object]:
    """Columns, indexes and constraints of the user's table."""
    return [
        query(
            job,
            "select column_name, data_type, column_default, is_nullable"
            " from information_schema.columns where table_name = 'test_artists' order by 1",
        ),
        query(job, "select indexdef from pg_indexes where tablename = 'test_artists' order by 1"),
        query(
            job,
            "select conname from pg_constraint where conrelid = 'test_artists'::regclass"
            " order by 1",
        ),
    ]


def test_a_table_of_the_users_own_keeps_its_shape_its_columns_and_its_old_bios(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api))
        before = shape(job)
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
    assert shape(job) == before
    bios = read_books(job)
    assert set(bios.ledger) == {f"a{number}" for number in range(6)}
    assert {**bios.ledger, "z": "Left alone."} == bios.database
    rows = query(job, "select id, name, country, tags, touched::date::text from test_artists")
    assert sorted(rows) == [
        ("a0", "As it stands", "Iceland", [], "2000-01-01"),
        ("a1", "One", "Mali", [], "2000-01-01"),
        ("a2", "Two", "Chile", [], "2000-01-01"),
        ("a3", "Three", "Peru", [], "2000-01-01"),
        ("a4", "Artist 4", "Nowhere", [], "2000-01-01"),
        ("a5", "Artist 5", "Nowhere", [], "2000-01-01"),
        ("z", "Not in the input", "Oman", [], "2000-01-01"),
    ]
    replaced = query(job, "select artist_id, bio from artist_bio_gen.replaced_bios order by 1")
    assert replaced == [("a2", "An old bio."), ("a3", "Another old bio.")]


def test_bios_that_are_there_may_count_as_done(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api))
        code, said = job.finish("--keep-existing")
        assert code == 0, said
        assert "2 have a bio" in said
        assert set(api.counts().seen_by_artist) == {"a0", "a1", "a4", "a5"}
    kept = query(job, "select id, bio from test_artists where bio like '%%old bio.' order by id")
    assert kept == [("a2", "An old bio."), ("a3", "Another old bio.")]
    assert query(job, "select * from artist_bio_gen.replaced_bios") == []


def test_artists_who_are_not_in_the_table_may_be_skipped(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api))
        code, said = job.finish("--on-missing", "skip")
        assert code == 0, said
        assert "4 done" in said
        assert "2 not in the table" in said
        assert set(api.counts().seen_by_artist) == {"a0", "a1", "a2", "a3"}
        skipped = {event["artist_id"]: event["reason"] for event in events(job.log, "skipped")}
        assert skipped == {"a4": "no_row", "a5": "no_row"}
        code, said = job.finish()
        assert code == 0, said
        assert "2 done" in said
    assert len(read_books(job).ledger) == 6


def test_artists_who_are_not_in_the_table_may_be_failures_until_they_are_there(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api))
        code, said = job.finish("--on-missing", "fail")
        assert code == 4, said
        assert api.counts().calls == 4
        told = {line["artist_id"]: (line["kind"], line["attempts"]) for line in failures(job)}
        assert told == {"a4": ("no_row", 0), "a5": ("no_row", 0)}
        query(job, "insert into test_artists (id, name) values ('a4', 'Four'), ('a5', 'Five')")
        code, said = job.finish("--on-missing", "fail")
        assert code == 0, said
    assert len(read_books(job).ledger) == 6


def test_so_many_artists_who_are_not_in_the_table_are_no_sign_of_a_dead_server(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api, rows=120))
        code, said = job.finish("--on-missing", "fail", "--max-consecutive-failures", "10")
        assert code == 4, said
        assert "4 done, 116 failed" in said


def test_a_row_that_the_table_refuses_is_a_failure_and_the_others_go_through(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = with_table(a_job(tmp_path, database_url, api, rows=100))
        query(
            job,
            "alter table test_artists add check (id <> 'a57'),"
            " add check (bio is null or id <> 'a2' or bio like '%%old%%')",
        )
        job.options = ("--workers", "64")
        code, said = job.finish()
        assert code == 4, said
        failed = {line["artist_id"]: line for line in failures(job)}
        assert set(failed) == {"a2", "a57"}
        assert {line["kind"] for line in failed.values()} == {"database"}
        assert failed["a57"]["text"].startswith("Artist 57 "), "a text that was paid for is kept"
        assert len(list(chain(job.ledger))) == 98
        calls = api.counts().calls
        assert job.finish()[0] == 4
        assert api.counts().calls == calls


def test_a_user_without_rights_is_told_whose_turn_it_is(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.tell("migrate")[0] == 0
        name = f"somebody_{tmp_path.name[-8:]}".lower()
        query(job, f'create role "{name}" login')
        try:
            url = database_url.replace("//postgres@", f"//{name}@")
            if url == database_url:
                pytest.skip("the server of TEST_DATABASE_URL knows another user")
            code, said = replace(job, database_url=url).finish()
            assert code == 3, said
            assert "permission denied for schema artist_bio_gen; let the owner" in said
            assert api.counts().calls == 0
        finally:
            query(job, f'drop role "{name}"')


# ---- other ledgers, and bios written anew -------------------------------------------------------


def test_a_second_ledger_counts_the_bios_of_the_first_as_done_and_says_so(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        first = a_job(tmp_path, database_url, api)
        assert first.finish()[0] == 0
        (tmp_path / "second").mkdir()
        second = replace(first, folder=tmp_path / "second")
        write_artists(first.input, 8)
        code, said = second.finish()
        assert code == 0, said
        assert "6 in another ledger" in said
        assert api.counts().calls == 8
        assert {line["artist_id"] for line in chain(second.ledger)} == {"a6", "a7"}
        code, said = second.finish("--again")
        assert code == 0, said
        assert api.counts().calls == 16
    generations = sorted((line["artist_id"], line["generation"]) for line in chain(second.ledger))
    once = [(f"a{number}", 1) for number in range(6)]
    assert generations == [*once, ("a6", 1), ("a6", 2), ("a7", 1), ("a7", 2)]


def test_bios_written_anew_are_the_next_generation_and_the_old_ones_are_kept(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        old = read_books(job).ledger
        api.script(words=90)
        code, said = job.finish("--again")
        assert code == 0, said
        assert "6 done" in said
        books = read_books(job, generations=True)
        assert books.agree
        assert not set(books.ledger.values()) & set(old.values())
        replaced = query(job, "select artist_id, bio from artist_bio_gen.replaced_bios")
        assert dict(replaced) == old
        code, said = job.finish()
        assert code == 0, said
        assert "6 done before" in said
        assert api.counts().calls == 12


ROWS = 200
WORKERS = 8


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGTERM, ()), (signal.SIGKILL, ()), (signal.SIGKILL, ("--again",))],
)
def test_writing_anew_that_was_cut_off_goes_on_without_a_third_generation(
    number: signal.Signals, flags: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0, latency="0.01") as api:
        job = a_job(tmp_path, database_url, api, rows=ROWS)
        job.options = ("--workers", str(WORKERS))
        assert job.finish()[0] == 0
        before = size_of(job.ledger)
        with Running(job, "--again") as run:
            run.wait_until(lambda: size_of(job.ledger) > before + before // 4)
            run.signal(number)
            run.ended()
        anew = len(whole_lines(job.ledger)) - ROWS
        assert 0 < anew < ROWS
        with no_leftovers(job):
            code, said = job.finish(*flags)
        assert code == 0, said
        assert "going on with an unfinished --again" in said
        counts = api.counts()
        assert counts.answered + counts.gone <= 2 * ROWS + WORKERS
        code, said = job.finish()
        assert f"{ROWS} done before" in said
        assert api.counts().calls == counts.calls
    assert read_books(job, generations=True).agree
    generations = sorted((line["artist_id"], line["generation"]) for line in chain(job.ledger))
    assert generations == sorted((f"a{n}", g) for n in range(ROWS) for g in (1, 2))


def test_an_unfinished_writing_anew_of_one_input_leaves_another_input_alone(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0, schedule="ok*6, insufficient_quota*100") as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 0
        assert job.finish("--again")[0] == 6
        api.script(schedule="")
        other = replace(job, input=tmp_path / "others.csv")
        other.input.write_text("id,name\na0,Artist 0\nb0,Another\n")
        code, said = other.finish()
        assert code == 0, said
        assert f"an unfinished --again over {job.input} is left as it is" in said
        assert "1 done before" in said
        code, said = job.finish()
        assert code == 0, said
        assert "6 done" in said
    assert read_books(job, generations=True).agree
