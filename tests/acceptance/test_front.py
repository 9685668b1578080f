"""What a stop notes of an input: the next start looks through no row again that is known to be
done, and through all of them once anything was touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.acceptance.harness import Job, events, query, read_books
from tests.acceptance.test_plan import a_job, artists
from tests.fakes.api import FakeApi

DONE = 40


def noted(job: Job) -> int:
    """Rows that the note beside the ledger tells done."""
    head = orjson.loads(job.ledger.with_name("out.jsonl.head").read_bytes())
    done = head.get("checked", {}).get("done")
    return 0 if done is None else int(done["rows"][0])


def planned(job: Job) -> dict[str, object]:
    return events(job.log, "planned")[-1]


@pytest.fixture
def job(database_url: str, tmp_path: Path) -> Callable[[FakeApi], Job]:
    """So many artists are done, and a stop has noted them."""

    def make(api: FakeApi) -> Job:
        job = a_job(tmp_path, database_url, api, *artists(DONE))
        assert job.finish()[0] == 0
        assert noted(job) == 0, "nothing was looked through"
        assert job.finish()[0] == 0
        assert noted(job) == DONE
        return job

    return make


def test_rows_that_are_noted_are_counted_and_not_looked_at(job: Callable[[FakeApi], Job]) -> None:
    with FakeApi(keep=0) as api:
        this = job(api)
        for _ in range(2):
            code, said = this.finish()
            assert code == 0
            assert f"input: {DONE} rows looked up: {DONE} finished, 0 left to do" in said
            assert f"{DONE} skipped ({DONE} done before)" in said
            assert noted(this) == DONE
        assert api.counts().calls == DONE


def test_what_was_left_in_a_stop_is_done_by_the_next_start(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        rows = artists(DONE)
        this = a_job(tmp_path, database_url, api, *rows, ("", "Nobody", ""), *artists(5, first=100))
        assert this.finish("--max-rows", str(DONE))[0] == 0
        for left in (5, 0):
            code, said = this.finish()
            assert (code, noted(this)) == (4, DONE)
            assert f"{left} left to do" in said
            code, said = this.finish()
            assert (code, noted(this)) == (4, DONE)
            assert f"input: {DONE + 6} rows looked up: {DONE + 5} finished, 0 left to do" in said
            assert "1 rejected" in said
        assert api.counts().calls == DONE + 5
        assert read_books(this).agree


def test_rows_behind_the_most_that_were_read_are_not_taken_for_done(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        this = a_job(tmp_path, database_url, api, *artists(DONE + 5))
        for _ in range(3):
            assert this.finish("--max-rows", str(DONE))[0] == 0
            assert noted(this) == 0
        code, said = this.finish()
        assert code == 0
        assert "5 left to do (5 new)" in said
        assert api.counts().calls == DONE + 5


def append_row(job: Job) -> None:
    with job.input.open("a", encoding="utf-8") as file:
        file.write("late,Late,\n")


def insert_row(job: Job) -> None:
    lines = job.input.read_text(encoding="utf-8").splitlines(keepends=True)
    job.input.write_text("".join([lines[0], "late,Late,\n", *lines[1:]]), encoding="utf-8")


def swap_in_place(job: Job) -> None:
    """Another artist, in as many bytes."""
    text = job.input.read_text(encoding="utf-8")
    assert text.count("a7,") == 1
    with job.input.open("r+", encoding="utf-8") as file:
        file.write(text.replace("a7,", "z7,"))


@pytest.mark.parametrize("change", [append_row, insert_row, swap_in_place])
def test_a_new_artist_is_found_wherever_the_input_was_changed(
    job: Callable[[FakeApi], Job], change: Callable[[Job], None]
) -> None:
    with FakeApi(keep=0) as api:
        this = job(api)
        change(this)
        code, said = this.finish()
        assert code == 0
        assert "1 left to do (1 new)" in said
        assert api.counts().calls == DONE + 1
        assert read_books(this).agree


def test_other_settings_look_through_it_again(job: Callable[[FakeApi], Job]) -> None:
    with FakeApi(keep=0) as api:
        this = job(api)
        assert this.finish("--data-columns", "name")[0] == 0
        assert planned(this)["changed_input"] == DONE
        assert this.finish("--temperature", "1.5")[0] == 0
        assert planned(this)["changed_prompt"] == DONE
        assert this.finish("--refresh", "changed", "--temperature", "1.5")[0] == 0
        assert api.counts().calls == 2 * DONE
        assert this.finish("--again")[0] == 0
        assert api.counts().calls == 3 * DONE
        assert this.finish()[0] == 0
        assert planned(this)["finished"] == DONE


@pytest.mark.parametrize("number", [-1, DONE + 100])
def test_a_commit_row_with_a_number_that_no_line_has_stands_for_none(
    job: Callable[[FakeApi], Job], number: int
) -> None:
    with FakeApi(keep=0) as api:
        this = job(api)
        query(this, "update artist_bio_gen.commits set seq = %s where seq = 7", number)
        code, said = this.finish()
        assert (code, api.counts().calls) == (5, DONE)
        assert f"has {DONE} lines, but the database {DONE - 1} commit rows of them" in said


def test_commit_rows_that_are_gone_are_told(job: Callable[[FakeApi], Job]) -> None:
    with FakeApi(keep=0) as api:
        this = job(api)
        query(this, "delete from artist_bio_gen.commits where seq = 7")
        assert this.finish()[0] == 5
        assert api.counts().calls == DONE
