"""The real command on a disk that fills up: once it is full no call is made beyond those in flight,
and with more room it ends as if there always had been. Needs root, for a file system of its own."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Job,
    named_in_flight,
    no_leftovers,
    query,
    read_books,
    write_artists,
)
from tests.fakes.api import FakeApi
from tests.faults.books import paid_for

PAGES = range(1, 51)
"""Sizes of the disk, in pages: from too small for anything to enough."""

PAGE_KB = 4
ROWS = 45
WORKERS = 4


@contextmanager
def small_disk(point: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """A file system in memory; what is given takes another size for it. Skips where it cannot be
    mounted."""
    point.mkdir()
    done = mount(point, f"size={kilobytes}k")
    if done.returncode != 0:
        pytest.skip(f"needs root, to mount a tmpfs: {done.stderr.strip()}")
    try:
        yield lambda size: mount(point, f"remount,size={size}").check_returncode()
    finally:
        subprocess.run(["umount", point], check=True)


def mount(point: Path, options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_bought_once_the_disk_is_full(database_url: str, tmp_path: Path) -> None:
    source = tmp_path / "artists.csv"
    write_artists(source, ROWS)
    ends: Counter[int] = Counter()
    with FakeApi(latency="uniform:0.005:0.02", keep=0) as api:
        for pages in PAGES:
            api.clear()
            with small_disk(tmp_path / f"{pages}", pages * PAGE_KB) as resize:
                job = Job(tmp_path / f"{pages}", database_url, api.base_url, source)
                job.table = f"artists_{pages}"
                job.options = ("--workers", str(WORKERS), "--min-free-mb", "0")
                code, said = job.finish()
                assert code in (0, 6), said
                assert "Traceback" not in said
                ends[code] += 1
                bought = api.counts()
                kept = bios(job) | paid_for(job.ledger)
                assert bought.calls <= len(kept) + WORKERS, said
                resize("16m")
                with no_leftovers(job):
                    code, said = job.finish("--resume")
                assert code == 0, said
                books = read_books(job)
                assert books.agree
                assert len(books.ledger) == ROWS
                seen = api.counts().seen_by_artist
                twice = Counter({artist: calls - 1 for artist, calls in seen.items()})
                assert not kept & set(+twice)
                assert not +twice - named_in_flight(job.log)
                assert twice.total() <= WORKERS
    assert ends[6] > len(PAGES) // 2
    print(f"{len(PAGES)} sizes: {ends[6]} stopped on the full disk, {ends[0]} had room enough")


def bios(job: Job) -> set[str]:
    there = query(job, "select to_regclass(%s)", job.table)[0][0]
    return {row[0] for row in query(job, f"select id from {job.table}")} if there else set()


def test_it_stops_before_the_disk_is_full(database_url: str, tmp_path: Path) -> None:
    """While there is room for what is paid for: so it is unless it is told otherwise."""
    source = tmp_path / "artists.csv"
    write_artists(source, ROWS)
    with (
        FakeApi(keep=0) as api,
        small_disk(tmp_path / "disk", 32 * 1024) as resize,
    ):
        job = Job(tmp_path / "disk", database_url, api.base_url, source)
        code, said = job.finish()
        assert code == 6, said
        assert "--min-free-mb" in said
        assert api.counts().calls == 0
        resize("256m")
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        assert api.counts().calls == ROWS
        books = read_books(job)
        assert books.agree
        assert len(books.ledger) == ROWS
