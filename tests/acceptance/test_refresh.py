"""The real command with --refresh changed and --retry-failed: just those are written, each once,
however often it is killed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

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
    write_rows,
)
from tests.fakes.api import FakeApi

SEED = 20261122


Row = tuple[str, str, str]
"""Id, name, and a fault that the API is to show when it is asked for this artist."""


def write(path: Path, *rows: Row) -> None:
    write_rows(path, rows, header="id,name,note")


def a_job(folder: Path, database_url: str, api: FakeApi, *rows: Row) -> Job:
    write(folder / "a.csv", *rows)
    return Job(folder, database_url, api.base_url, folder / "a.csv", options=("--workers", "4"))


def artists(count: int, note: str = "") -> list[Row]:
    return [(f"a{number}", f"Artist {number}", note) for number in range(count)]


def finish(job: Job, *options: str, code: int = 0) -> str:
    with no_leftovers(job):
        ended, said = job.finish(*options)
    assert ended == code, said
    return said


def generations(job: Job) -> dict[str, int]:
    """The number of each artist's last bio."""
    return {line["artist_id"]: line["generation"] for line in chain(job.ledger)}


def test_just_the_changed_are_written_anew_and_no_second_time(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(8))
        finish(job)
        write(job.input, *artists(3, "singer"), *artists(8)[3:], ("new", "New", ""))
        said = finish(job, "--refresh", "changed")
        assert (
            "input: 9 rows looked up: 5 finished, 3 left to do (3 finished from another input,"
            " prompt or model)"
        ) in said
        assert "3 done, 0 failed, 0 rejected, 6 skipped" in said
        assert "1 artists are left for a plain --resume" in said
        assert "5 done before, 1 left for a plain --resume" in said
        assert api.counts().calls == 8 + 3
        said = finish(job, "--refresh", "changed")
        assert "0 left to do" in said
        assert api.counts().calls == 8 + 3
        assert "1 done" in finish(job)
        assert api.counts().calls == 8 + 3 + 1
    assert read_books(job, generations=True).agree
    assert generations(job) == {f"a{n}": 2 if n < 3 else 1 for n in range(8)} | {"new": 1}


def test_another_prompt_changes_all_and_a_killed_refresh_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    """Killed at any moment, again and again, each with the same flags: of every artist there are
    two bios in the end, and no answer was paid for that is not in the ledger."""
    moments = random.Random(SEED)
    prompt = tmp_path / "other.j2"
    prompt.write_text("Write of {{ artist_name }}.")
    flags = ("--refresh", "changed", "--prompt", str(prompt))
    rows, workers = 300, 4
    with FakeApi(latency="uniform:0.005:0.03", keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(rows))
        finish(job)
        kills = 0
        for _ in range(6):
            kills += job.kill_after(moments.uniform(0, 0.3), *flags)
        assert kills >= 3
        finish(job, *flags)
        calls = api.counts().calls
        assert calls <= 2 * rows + kills * workers
        asked_again = {id_: n for id_, n in api.counts().seen_by_artist.items() if n > 2}
        finish(job, *flags)
        assert api.counts().calls == calls
    named = Counter(event["artist_id"] for event in events(job.log, "in_flight"))
    assert all(seen - 2 <= named[id_] for id_, seen in asked_again.items())
    assert read_books(job, generations=True).agree
    assert generations(job) == {f"a{number}": 2 for number in range(rows)}
    assert journals(job) == []


def test_of_rows_with_one_id_the_first_counts(database_url: str, tmp_path: Path) -> None:
    """Else they would each be a change of the other, bought anew for ever."""
    far = [("twin", "First", ""), *artists(1_200), ("twin", "Second", "")]
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *far)
        finish(job)
        calls = api.counts().calls
        assert "0 left to do" in finish(job, "--refresh", "changed")
        assert api.counts().calls == calls
        write(job.input, ("twin", "First and changed", ""), *far[1:])
        for _ in range(2):
            finish(job, "--refresh", "changed")
            assert api.counts().calls == calls + 1
    assert generations(job)["twin"] == 2


def test_what_could_not_be_written_anew_is_not_asked_for_again_without_demand(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(4))
        finish(job)
        write(job.input, *artists(4, "changed"))
        api.script(schedule="refuse*8")
        finish(job, "--refresh", "changed", code=4)
        assert api.counts().calls == 4 + 4
        assert "4 failed before" in finish(job, "--refresh", "changed", code=4)
        assert api.counts().calls == 4 + 4
        assert "4 done before" in finish(job)
        finish(job, "--retry-failed", code=4)
        assert api.counts().calls == 4 + 4 + 4
        finish(job, "--retry-failed")
        assert api.counts().calls == 4 + 4 + 4 + 4
    assert generations(job) == {f"a{number}": 2 for number in range(4)}
    assert query(job, "select count(*) from artist_bio_gen.failures")[0][0] == 0


def test_retrying_takes_just_what_had_failed(database_url: str, tmp_path: Path) -> None:
    marked = [(f"r{n}", f"R {n}", "[[fault:refuse*1]]") for n in range(3)]
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(3), *marked)
        finish(job, "--max-attempts", "1", code=4)
        write(job.input, *artists(3, "changed"), *marked, ("new", "New", ""))
        said = finish(job, "--retry-failed")
        assert "3 done, 0 failed, 0 rejected, 4 skipped" in said
        assert "1 artists are left for a plain --resume" in said
        assert api.counts().calls == 6 + 3
        assert "0 left to do" in finish(job, "--retry-failed")
        assert api.counts().calls == 6 + 3
    assert generations(job) == {f"{kind}{n}": 1 for kind in "ar" for n in range(3)}


def test_a_killed_retry_buys_nothing_twice(database_url: str, tmp_path: Path) -> None:
    marked = [(f"r{n}", f"R {n}", "[[fault:refuse*1]]") for n in range(40)]
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *marked)
        finish(job, "--max-consecutive-failures", "0", code=4)
        api.script(schedule="ok*10, hang*1000")
        with Running(job, "--retry-failed") as run:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            run.wait_until(lambda: len(list(chain(job.ledger))) == 10)
            run.kill()
        api.script(schedule="")
        said = finish(job, "--retry-failed")
        assert "30 done, 0 failed, 0 rejected, 10 skipped (10 done before)" in said
        counts = api.counts()
        assert max(counts.answered_by_artist.values()) == 2  # refused once, then written
    assert read_books(job).agree
    assert set(generations(job).values()) == {1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--again", "--refresh", "changed"), "give either"),
        (("--again", "--retry-failed"), "give either"),
        (("--keep-existing", "--refresh", "changed"), "give one of the two"),
        (("--refresh", "changed"), "no ledger is there"),
        (("--resume", "--retry-failed"), "no ledger is there"),
        (("--refresh", "all"), "none"),
    ],
)
def test_what_contradicts_itself_is_wrong_usage(
    database_url: str, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, *artists(1))
        code, said = job.tell(*job.words(*options))
        assert code == 2, said
        assert told in said
        assert api.counts().calls == 0
    assert not job.ledger.exists()
