"""Two thousand lives of a writer that is killed at a random moment of its work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from artist_bio_gen.database.migrate import migrate
from tests.acceptance.forked_writer import WORKERS
from tests.acceptance.harness import Job, chain, read_books

LEDGERS = 10
KILLS = 200
ROWS = 5_000


def lines(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.parametrize("number", range(LEDGERS))
def test_a_writer_killed_two_hundred_times(number: int, database_url: str, tmp_path: Path) -> None:
    migrate(database_url, table="artists")
    seed = int(os.environ.get("TEST_SEED", "20261122")) + number
    arguments = [str(tmp_path), database_url, str(KILLS), str(ROWS), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.forked_writer", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["last"] == 0, done.stderr
    # A life ends by the kill, or before it because all was done; never by an error of its own.
    assert set(said["exits"]) <= {str(-signal.SIGKILL), "0"}, done.stderr

    job = Job(tmp_path, database_url, "", tmp_path)
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    bill = lines(tmp_path / "bill")
    reported = lines(tmp_path / "reported")
    twice = Counter({artist: count - 1 for artist, count in bill.items() if count > 1})
    killed = said["exits"].get(str(-signal.SIGKILL), 0)
    assert bill.total() <= ROWS + WORKERS * killed
    assert not twice - reported
    lives_that_wrote = len({line["run"] for line in chain(job.ledger)})
    assert lives_that_wrote > KILLS // 2, "too few kills hit a writer at its work"
    print(
        f"{killed} kills, {lives_that_wrote} lives wrote, {ROWS} rows:"
        f" {twice.total()} calls made again, all reported"
    )
