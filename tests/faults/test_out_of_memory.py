"""The real command, which gets no more memory from some moment on: whatever it does then, no money
is spent that the next start does not know of, and with memory again the work is finished."""

from __future__ import annotations

import resource
import signal
from collections import Counter
from pathlib import Path

from tests.acceptance.harness import (
    Job,
    Running,
    named_in_flight,
    no_leftovers,
    read_books,
    size_of,
    write_rows,
)
from tests.fakes.api import FakeApi

ROWS = 60
WORKERS = 12
BULK = "a fact " * 20_000
"""Of each artist: a request, a reply or a group of them needs memory from the system."""

SLACKS = [mebibytes << 20 for mebibytes in (-32, -16, -8, -4, -2, -1, 0, 1)]
"""Bytes of address space beyond what the process has when the limit is set; below zero, so many of
those that it gives back are not to be had again."""


def test_no_money_is_spent_unknown_when_there_is_no_more_memory(
    database_url: str, tmp_path: Path
) -> None:
    ends: Counter[int] = Counter()
    with FakeApi(latency="uniform:0.005:0.02", words=500, keep=0) as api:
        for number, slack in enumerate(SLACKS):
            api.clear()
            folder = tmp_path / f"{number}"
            folder.mkdir()
            source = folder / "artists.csv"
            write_rows(
                source,
                [(f"a{n}", f"Artist {n}", BULK) for n in range(ROWS)],
                header="id,name,notes",
            )
            job = Job(folder, database_url, api.base_url, source)
            job.table = f"artists_{number}"
            job.options = ("--workers", str(WORKERS))
            with Running(job) as run:
                run.wait_until(lambda job=job: size_of(job.ledger) > 0)
                _limit(run.process.pid, slack)
                code = run.ended()
            ends[code] += 1
            # Libraries written in C may break down at that; for the ledger it is a kill.
            assert code in (0, 6, -signal.SIGSEGV, -signal.SIGABRT), run.said
            with no_leftovers(job):
                code, said = job.finish()
            assert code == 0, said
            books = read_books(job)
            assert books.agree
            assert len(books.ledger) == ROWS
            seen = api.counts().seen_by_artist
            twice = +Counter({artist: calls - 1 for artist, calls in seen.items()})
            assert not twice - named_in_flight(job.log)
            assert twice.total() <= WORKERS
    assert ends[6], "none of the limits was felt; give less"
    crashed = sum(count for code, count in ends.items() if code < 0)
    print(
        f"{len(SLACKS)} limits: {ends[6]} stopped, {crashed} broke down,"
        f" {ends[0]} had memory enough"
    )


def _limit(pid: int, slack: int) -> None:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + slack
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
