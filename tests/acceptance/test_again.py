"""The real command with --again: whose bios are written anew, and how far a wave of it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    failures,
    journals,
    no_leftovers,
    query,
    read_books,
    size_of,
    write_rows,
)
from tests.fakes.api import FakeApi

STDIN = Path("-")


def a_job(
    folder: Path, database_url: str, api: FakeApi, name: str, rows: int, mark: str = ""
) -> Job:
    source = folder / f"{name}.csv"
    write_rows(source, [(f"{name}{number}", f"Artist {number}{mark}") for number in range(rows)])
    return Job(folder, database_url, api.base_url, source, options=("--workers", "4"))


def finish(job: Job, *options: str, code: int = 0) -> str:
    with no_leftovers(job):
        ended, said = job.finish(*options)
    assert ended == code, said
    return said


def through_stdin(job: Job, *options: str) -> str:
    piped = replace(job, input=STDIN)
    with job.input.open("rb") as stdin, Running(piped, *options, stdin=stdin) as run:
        assert run.ended() == 0, run.said
    return run.said


def lines_in(job: Job) -> int:
    return job.ledger.read_bytes().count(b"\n") if size_of(job.ledger) else 0


def generations(job: Job) -> dict[str, int]:
    """The number of each artist's last bio."""
    return {line["artist_id"]: line["generation"] for line in chain(job.ledger)}


def test_failures_of_artists_who_are_not_in_its_input_are_not_forgotten(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        refused = a_job(tmp_path, database_url, api, "r", 6, " [[fault:refuse]]")
        small = a_job(tmp_path, database_url, api, "s", 2)
        finish(refused, code=4)
        finish(small)
        assert api.counts().calls == 8
        # While the wave goes on, and when it is over.
        api.script(schedule="ok, hang*100")
        with Running(small, "--again") as wave:
            wave.wait_until(lambda: lines_in(small) == 3)
            assert "6 failed before" in refused.finish()[1]
            wave.kill()
        api.script(schedule="")
        finish(small, "--again")
        calls = api.counts().calls
        assert "6 failed before" in finish(refused, code=4)
        assert api.counts().calls == calls
        # Over the input in which they stand it asks for them anew, once.
        finish(refused, "--again", code=4)
        assert api.counts().calls == calls + 6
        assert "6 failed before" in finish(refused, code=4)
        assert api.counts().calls == calls + 6
    assert generations(small) == {"s0": 2, "s1": 2}
    assert len(failures(refused)) == 12


def test_an_unfinished_wave_over_the_standard_input_is_gone_on_with_only_when_asked_for(
    database_url: str, tmp_path: Path
) -> None:
    """What stands there next may be quite another input."""
    with FakeApi(keep=0) as api:
        one = a_job(tmp_path, database_url, api, "a", 12)
        two = a_job(tmp_path, database_url, api, "b", 5)
        finish(one)
        finish(two)
        api.script(schedule="ok*6, hang*100")
        piped = replace(one, input=STDIN)
        with one.input.open("rb") as stdin, Running(piped, "--again", stdin=stdin) as wave:
            wave.wait_until(lambda: lines_in(one) == 17 + 6)
            wave.kill()
        api.script(schedule="")
        begun = api.counts().calls
        for done in (two, one):
            said = through_stdin(done)
            assert "an unfinished --again over - is left as it is" in said
            assert f"{5 if done is two else 12} done before" in said
        assert api.counts().calls == begun
        said = through_stdin(one, "--again")
        assert "going on with an unfinished --again over -" in said
        assert "6 done, 0 failed, 0 rejected, 6 skipped" in said
        assert api.counts().calls == begun + 6
        assert "5 done before" in through_stdin(two)
        assert api.counts().calls == begun + 6
    assert set(generations(one).values()) == {1, 2}
    assert {id_ for id_, last in generations(one).items() if last == 2} == {
        f"a{number}" for number in range(12)
    }
    assert read_books(one, generations=True).agree
    assert journals(one) == []


def test_a_wave_is_not_over_when_a_resume_reads_just_some_of_its_rows(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "a", 8)
        finish(job)
        api.script(schedule="ok*2, hang*100")
        with Running(job, "--again", "--workers", "1") as wave:  # in the input's order
            wave.wait_until(lambda: lines_in(job) == 10)
            wave.kill()
        api.script(schedule="")
        assert "1 done, 0 failed" in finish(job, "--max-rows", "3")
        assert "5 done, 0 failed" in finish(job)
        assert generations(job) == {f"a{number}": 2 for number in range(8)}
        # One over just these rows is over with them.
        assert "3 done, 0 failed" in finish(job, "--again", "--max-rows", "3")
        assert "8 done before" in finish(job)
    assert read_books(job, generations=True).agree


def test_a_wave_is_not_over_before_its_transient_failures_were_taken_again(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "a", 5)
        finish(job)
        api.script(schedule="ok*2, rate_limit=60*3")
        finish(job, "--again", "--max-wait", "1s", code=4)
        assert {line["transient"] for line in failures(job)} == {True}
        said = finish(job)
        assert "going on with an unfinished --again" in said
        assert "3 done, 0 failed, 0 rejected, 2 skipped (2 done before)" in said
        calls = api.counts().calls
        assert "5 done before" in finish(job)
        assert api.counts().calls == calls
    assert generations(job) == {f"a{number}": 2 for number in range(5)}
    assert read_books(job, generations=True).agree


def test_failures_of_an_unfinished_wave_are_not_asked_for_again(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "a", 4)
        finish(job)
        api.script(schedule="refuse*2, hang*100")
        with Running(job, "--again") as wave:
            wave.wait_until(lambda: noted_failures(job) == 2)
            wave.kill()
        api.script(schedule="")
        calls = api.counts().calls
        said = finish(job, code=4)
        assert "2 done, 0 failed, 0 rejected, 2 skipped (2 failed before)" in said
        assert api.counts().calls == calls + 2


def noted_failures(job: Job) -> int:
    return int(query(job, "select count(*) from artist_bio_gen.failures")[0][0])
