"""The real command, killed with SIGKILL at random moments and resumed: nothing lost, no line
twice, and no reply that was in the journal bought again."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Job,
    named_in_flight,
    no_leftovers,
    read_books,
    write_artists,
)
from tests.fakes.api import Counts, FakeApi

WORKERS = 16
KILLS = 60
ROWS = 50_000
CATALOGUE = "nga_constituents.csv"


def check_bills(counts: Counts, job: Job, *, rows: int, workers: int, kills: int) -> None:
    """No more was bought than what was in flight at a kill, and each such artist was named."""
    bought = counts.answered + counts.gone
    assert bought <= rows + workers * kills
    twice = Counter(
        {artist: calls - 1 for artist, calls in counts.answered_by_artist.items() if calls > 1}
    )
    unnamed = twice - named_in_flight(job.log)
    assert not unnamed, f"bought again and not named in a report: {list(unnamed)[:5]}"
    print(
        f"{kills} kills in {job.starts} starts, {rows} rows: 0 lost, 0 twice in the ledger;"
        f" {sum(twice.values())} calls in flight at a kill were made again, all named"
    )


def test_sixty_kills_lose_nothing_and_buy_nothing_twice(database_url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("TEST_SEED", "20261122"))
    moments = random.Random(seed)
    write_artists(tmp_path / "artists.csv", ROWS)
    with FakeApi(latency="uniform:0.002:0.02", keep=0) as api:
        job = Job(
            tmp_path,
            database_url,
            api.base_url,
            tmp_path / "artists.csv",
            options=("--workers", str(WORKERS), "--log-max-mb", "1000"),
        )
        kills = 0
        while kills < KILLS and job.kill_after(moments.uniform(0, 0.9)):
            kills += 1
        with no_leftovers(job):
            code, said = job.finish()
        counts = api.counts()
    assert code == 0, said
    assert kills == KILLS, f"the input was finished after {kills} kills; give it more rows"
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == ROWS
    check_bills(counts, job, rows=ROWS, workers=WORKERS, kills=kills)


def catalogue() -> Path:
    """Real input, which is not part of the repository."""
    folder = os.environ.get("TEST_DATA")
    path = (Path(folder) if folder else Path(__file__).parents[3] / "shared" / "data") / CATALOGUE
    if not path.exists():
        pytest.skip(f"{path} is not there; name its folder in TEST_DATA")
    return path


def test_a_museums_catalogue_with_three_kills_on_the_way(database_url: str, tmp_path: Path) -> None:
    rows = 27_438
    with FakeApi(latency="0.02", keep=0) as api:
        job = Job(
            tmp_path,
            database_url,
            api.base_url,
            catalogue(),
            options=(
                *("--id-column", "constituentid", "--name-column", "forwarddisplayname"),
                *("--workers", "64", "--log-max-mb", "1000"),
            ),
        )
        for _ in range(3):
            assert job.kill_after(3)
        with no_leftovers(job):
            code, said = job.finish()
        counts = api.counts()
        assert code == 0, said
        books = read_books(job)
        assert books.agree
        assert len(books.ledger) == rows
        check_bills(counts, job, rows=rows, workers=64, kills=3)
        assert job.finish()[0] == 0
        assert api.counts().calls == counts.calls, "a resume with nothing left made calls"
