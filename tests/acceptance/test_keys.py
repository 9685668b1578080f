"""The real command and a server that repeats the key it was given: nothing keeps it."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.harness import Job, failures, query, write_artists
from tests.fakes.api import FakeApi

KEY = "gsk_CANARY1234567890"
"""Of a provider whose keys do not look like OpenAI's."""

SAID = f"The key {KEY} is wrong."


def test_a_key_that_the_server_repeats_stands_nowhere(database_url: str, tmp_path: Path) -> None:
    write_artists(tmp_path / "artists.csv", 3)
    with FakeApi(text=f"{SAID} {SAID}", chances="incomplete@1.0", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.env = {"OPENAI_API_KEY": KEY}
        code, said = job.finish("--verbose")
    assert code == 4, said
    assert KEY not in said
    assert {line["text"] for line in failures(job)} == {"The key *** is wrong."}
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text(), path
    kept = query(
        job,
        "select to_jsonb(f)::text from artist_bio_gen.failures f"
        " union all select to_jsonb(r)::text from artist_bio_gen.runs r",
    )
    assert len(kept) == 4
    assert KEY not in str(kept)
