"""Many processes and threads at one ledger, killed and started again: one order, and no line that
is mixed of two, missing, or there twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from functools import partial
from itertools import groupby
from pathlib import Path

import psycopg

from tests.faults.books import assert_told_is_there, read_books
from tests.faults.seed import chance
from tests.writer import Writer, artists, ended, forked, note, noted

PROCESSES = 4
THREADS = 4
LINES = 1_000
"""Of each thread."""

KILLS = 15
"""Of each process."""

LONGEST_LIFE_S = 0.5
"""Counted from the fork."""


def test_four_processes_of_four_threads_each(
    url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    writers = [
        Writer(
            path=path,
            database_url=url,
            notes=tmp_path,
            workers=THREADS,
            call_s=0.001,
            segment_bytes=50_000,
            source=name,
        )
        for name in "abcd"
    ]
    writers[0].live(artists(0, 1, "first"))  # of four that begin a ledger at once one would
    rows = THREADS * LINES
    keepers = [forked(partial(kill_again_and_again, writer, rows)) for writer in writers]
    assert [ended(keeper) for keeper in keepers] == [0] * PROCESSES
    kills = len(noted(tmp_path / "kills"))
    books = read_books(path, admin)
    assert_told_is_there(tmp_path, books)
    assert Counter(id_[0] for id_ in books.ids) == {"f": 1, **dict.fromkeys("abcd", rows)}
    turns = sum(1 for _ in groupby(id_[0] for id_ in books.ids))
    assert turns > PROCESSES * KILLS, "they took no turns"
    bill = Counter(noted(tmp_path / "bill"))
    twice = bill - Counter(set(bill))
    assert not twice - Counter(noted(tmp_path / "reported"))
    assert kills > PROCESSES, "too few were killed"
    assert twice.total() <= THREADS * kills
    print(f"{len(books.ids)} lines, {kills} kills, {turns} turns, {twice.total()} calls twice")


def kill_again_and_again(writer: Writer, rows: int) -> None:
    """Until it gets everything done, or is left alone at last."""
    moments = chance(f"many writers {writer.source}")
    for _ in range(KILLS):
        child = forked(lambda: writer.live(artists(0, rows, writer.source)))
        time.sleep(moments.uniform(0, LONGEST_LIFE_S))
        os.kill(child, signal.SIGKILL)
        if (status := ended(child)) == 0:
            return
        assert status == -signal.SIGKILL
        note(writer.notes / "kills", writer.source)
    assert ended(forked(lambda: writer.live(artists(0, rows, writer.source)))) == 0
