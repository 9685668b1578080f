"""The real command's files are readable by their owner alone, and hold no secret: neither under
the loosest umask nor with a server that repeats all it was sent."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Drain,
    Job,
    Running,
    failures,
    journals,
    query,
    read_books,
    wait_for,
    whole_lines,
    write_artists,
)
from tests.fakes.api import FakeApi

KEY = "sk-canary-5up3r-s3cr3t-0123456789"


def a_job(folder: Path, database_url: str, api: FakeApi, rows: int) -> Job:
    write_artists(folder / "artists.csv", rows)
    return Job(
        folder,
        database_url,
        api.base_url,
        folder / "artists.csv",
        env={"OPENAI_API_KEY": KEY},
        options=("--workers", "2", "--verbose"),
    )


def modes(job: Job) -> dict[str, int]:
    """Of all files that the program has made."""
    there = {path.name: path for path in job.folder.iterdir() if path != job.input}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in there.items()}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_every_file_is_private_whatever_the_umask(
    database_url: str, tmp_path: Path, umask: int
) -> None:
    with FakeApi(schedule="refuse*3, ok*1200, hang*100", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 1_300)
        process = job.start("--log-max-mb", "1", umask=umask)
        with Drain(process):
            wait_for(lambda: len(whole_lines(job.ledger)) == 1_200 or process.poll() is not None)
            at_work = modes(job)
        job.ledger.write_bytes(job.ledger.read_bytes()[:-9])
        api.script(schedule="")
        process = job.start(umask=umask)
        with Drain(process) as again:
            assert process.wait() == 4, again.text
        afterwards = modes(job)
    for kind in ("lock", "head", "journal", "run", "failed.jsonl", "log.1"):
        assert any(name.startswith(f"out.jsonl.{kind}") for name in at_work), at_work
    assert any(name.startswith("out.jsonl.quarantine.") for name in afterwards)
    assert set(at_work.values()) | set(afterwards.values()) == {0o600}


def everywhere(job: Job, said: str) -> str:
    """All that the program has written, said and stored."""
    tables = ("commits", "failures", "heads", "replaced_bios", "runs")
    stored = [query(job, f"select t::text from artist_bio_gen.{table} t") for table in tables]
    stored.append(query(job, "select t::text from artists t"))
    files = [
        path.read_bytes().decode("utf-8", "replace")
        for path in job.folder.iterdir()
        if path.is_file()
    ]
    return "\n".join([said, *files, *(str(rows) for rows in stored)])


def test_a_server_that_repeats_the_key_does_not_bring_it_into_the_books(
    database_url: str, tmp_path: Path
) -> None:
    """A text with the key in it is no bio; what stands beside the text is kept without it."""
    with FakeApi(text=f"You sent me {KEY} just now, and here is your bio.", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 3)
        code, said = job.finish()
        assert code == 4, said
        assert {(line["kind"], line["transient"]) for line in failures(job)} == {("secret", False)}
        assert all("You sent me *** just now" in line["text"] for line in failures(job))
        api.script(text="A bio.", headers=json.dumps({"x-request-id": f"req-{KEY}"}))
        code, more = job.finish("--retry-failed")
        assert code == 0, more
        assert set(read_books(job).ledger.values()) == {"A bio."}
        assert KEY not in everywhere(job, said + more)


def test_a_killed_run_leaves_no_key_in_its_journal(database_url: str, tmp_path: Path) -> None:
    with FakeApi(text=f"{KEY}", keep=0) as api:
        job = a_job(tmp_path, database_url, api, 40)
        with Running(job, stdin=subprocess.DEVNULL) as run:
            run.wait_until(lambda: len(failures(job)) > 0)
            run.kill()
        assert KEY not in everywhere(job, run.said)
        assert job.finish("--max-consecutive-failures", "0")[0] == 4
        assert journals(job) == []
        assert KEY not in everywhere(job, "")
