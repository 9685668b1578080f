"""The ledger alone brings the database back, byte for byte and without a call to the model."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.values import Artist
from tests.acceptance.harness import Job, no_leftovers, query, read_books, write_rows
from tests.fakes.api import FakeApi
from tests.faults.desk import a_start
from tests.faults.seed import chance

ROWS = 10_000
GROUP = 250
ANEW = 500
"""So many of them have their bio written a second time."""

ODD = (
    *("é", "e\u0301", "日本", "\U0001f3b7", "\u2028", "\u2029", "\x85", "\t", "\n", "\\", '"', "'"),
    *("\\u0000", "%s", "%", "{}", "$1", "--", ";", "\ufeff", "\u202e", "\U0010ffff", "x" * 300),
)
"""What an encoding, a quoting or a split of lines might not bring back."""


def a_text(draw: Any, about: str) -> str:
    return about + " ".join(draw.choices(ODD, k=draw.randrange(1, 12)))


def everything(job: Job) -> dict[str, list[Any]]:
    """What a restored database holds: all but the times, and what only it ever had."""
    columns = "ledger::text, seq, run::text, artist_id, generation, input_sha256, prompt_sha256"
    return {
        "artists": query(job, f"select id, name, bio from {job.table} order by id"),
        "commits": query(
            job, f"select {columns}, hash, line from artist_bio_gen.commits order by 2"
        ),
        "heads": query(job, "select ledger::text, seq, hash, table_name from artist_bio_gen.heads"),
    }


@pytest.mark.parametrize("how", ["restore", "resume"])
def test_ten_thousand_bios_come_back(how: str, database_url: str, tmp_path: Path) -> None:
    draw = chance("ten thousand bios")
    artists = [
        Artist(number, f"{number}/{draw.choice(ODD)}/", a_text(draw, f"Artist {number} "), {})
        for number in range(ROWS)
    ]
    again = [replace(each, generation=2) for each in draw.sample(artists, ANEW)]
    path = tmp_path / "out.jsonl"
    migrate(database_url, table="artists")
    with a_start(path, database_url, str(uuid.uuid4())) as desk:
        for wave in (artists, again):
            for at in range(0, len(wave), GROUP):
                desk.committer.commit(
                    [desk.draft(each, a_text(draw, "Born. ")) for each in wave[at : at + GROUP]]
                )
        with desk.ledger.locked():
            desk.ledger.save_head()
    write_rows(tmp_path / "artists.csv", [(each.id, each.name) for each in artists[:ANEW]])
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        before, ledger = everything(job), path.read_bytes()
        query(job, "drop schema artist_bio_gen cascade")
        query(job, "drop table artists")
        if how == "restore":
            code, said = job.tell("restore", str(job.ledger), "--yes")
            assert code == 0, said
        with no_leftovers(job):
            code, said = job.finish(*(("--restore",) if how == "resume" else ()))
        assert code == 0, said
        assert (f"{ROWS + ANEW:,} bios put back" in said) == (how == "resume")
        assert api.counts().calls == 0
    after = everything(job)
    assert path.read_bytes() == ledger
    assert len(after["artists"]) == ROWS
    assert len(after["commits"]) == ROWS + ANEW
    for table, rows in before.items():
        assert after[table] == rows, table
    assert read_books(job, generations=True).agree
    print(f"{ROWS} bios and {ROWS + ANEW} commit rows restored: 0 differ, 0 calls")
