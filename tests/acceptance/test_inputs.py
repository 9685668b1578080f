"""The real command over inputs that are not one CSV file: patterns, JSON Lines, packed files,
databases; and what a damaged input does to a run."""

from __future__ import annotations

import bz2
import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    Job,
    chain,
    events,
    failures,
    query,
    read_books,
    write_artists,
    write_rows,
)
from tests.fakes.api import FakeApi


def job_of(folder: Path, database_url: str, api: FakeApi, source: object, *options: str) -> Job:
    words = ("--input", str(source), "--workers", "4", *options)
    return Job(folder, database_url, api.base_url, folder / "none", options=words)


def lines(job: Job) -> dict[str, dict[str, Any]]:
    return {line["artist_id"]: line for line in chain(job.ledger)}


def test_the_files_of_a_pattern_are_one_input(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_rows(tmp_path / "in" / "a.csv", [("1", "Nina"), ("", "Nobody"), ("2", "Bill")])
    with gzip.open(tmp_path / "in" / "b.csv.gz", "wt") as packed:
        packed.write("name,id,born\nRay,3,1930\nNo Id,,1931\nragged\n")
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, tmp_path / "in" / "*")
        code, said = job.finish()
        assert code == 4, said
        assert "3 done" in said
        assert "3 rejected" in said
        books = read_books(job)
        assert books.agree
        assert set(books.ledger) == {"1", "2", "3"}
        assert lines(job)["3"]["artist_data"] == {"born": "1930"}
        where = [(Path(event["file"]).name, event["row"]) for event in events(job.log, "rejected")]
        assert sorted(where) == [("a.csv", 3), ("b.csv.gz", 3), ("b.csv.gz", 4)]
        assert [(Path(each["file"]).name, each["row"]) for each in failures(job)] == where
        assert "row 3 of " in said

        # A resume looks through all of them, and is told when one was changed.
        code, said = job.finish()
        assert code == 4, said
        assert "input: 6 rows looked up: 3 finished, 0 left to do, 3 rejected" in said
        write_rows(tmp_path / "in" / "c.csv", [("4", "Mary")])
        code, said = job.finish()
        assert "input: 7 rows looked up: 3 finished, 1 left to do (1 new), 3 rejected" in said
        assert api.counts().calls == 4


def test_a_dry_run_tells_the_file_of_a_row_that_would_be_rejected(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_rows(tmp_path / "in" / f"{name}.csv", [("1", "Nina"), ("", "Nobody")])
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, tmp_path / "in" / "*.csv", "--dry-run")
        code, said = job.finish()
    assert code == 0
    assert "/b.csv would be rejected: column 'id' is empty" in said
    assert "2 artists would be looked up, 2 rows rejected" in said


def test_what_turns_up_late_in_json_lines_is_told_to_the_model(
    database_url: str, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [{"id": at, "name": f"Artist {at}"} for at in range(3000)]
    rows[2990] |= {"genres": ["soul", "jazz"], "born": {"year": 1933}}
    rows[2995] |= {"born": {"year": 1940}}
    path = tmp_path / "artists.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path)
        code, said = job.finish()
        assert code == 0, said
        data = {artist_id: line["artist_data"] for artist_id, line in lines(job).items()}
        assert data["2990"] == {"genres": ["soul", "jazz"], "born": {"year": 1933}}
        assert data["2995"] == {"born": {"year": 1940}}
        assert data["2996"] == {}
        code, said = job.finish()
        assert "3,000 rows looked up: 3,000 finished, 0 left to do" in said
        assert "have changed" not in said, "the fingerprints are those of the first run"
        assert api.counts().calls == 3000


def sqlite_of(folder: Path) -> str:
    path = folder / "artists.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table artists (id integer, name text, born integer)")
        database.executemany(
            "insert into artists values (?, ?, ?)", [(1, "Nina", 1933), (2, "", 1)]
        )
        database.commit()
    return str(path)


def bz2_of(folder: Path) -> str:
    path = folder / "artists.txt.bz2"
    path.write_bytes(bz2.compress(b"id;name;born\n1;Nina;1933\n2;;1\n"))
    return str(path)


@pytest.mark.parametrize("made", [sqlite_of, bz2_of])
def test_other_kinds_of_files_are_inputs(
    made: Callable[[Path], str], database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, made(tmp_path))
        code, said = job.finish()
        assert code == 4, said
        assert set(read_books(job).ledger) == {"1"}
        assert lines(job)["1"]["artist_data"] in ({"born": 1933}, {"born": "1933"})
        assert job.finish()[0] == 4
        assert api.counts().calls == 1


def test_what_was_found_out_about_an_input_is_told(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("".join(f'{{"id": {at}, "name": "Zoë Björk"}}\n' for at in range(3)), "latin-1")
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path, "--format", "csv", "--dry-run")
        code, said = job.finish("--encoding", "auto")
        assert code == 2, said
        assert "artists.csv is read as " in said
        path.write_text(path.read_text("latin-1"), "utf-8")
        Path(sqlite_of(tmp_path)).rename(path)
        job = job_of(tmp_path, database_url, api, path, "--dry-run")
        code, said = job.finish()
        assert code == 0, said
        assert "artists.csv is named as CSV and is an SQLite database" in said


def test_a_column_that_no_row_has_is_told_at_once_and_is_an_error_at_the_end(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "artists.jsonl"
    path.write_text('{"id": 1, "name": "Nina", "born": 1933}\n')
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path, "--columns", "id,name,brn")
        code, said = job.finish("--dry-run")
        assert code == 1, said
        assert "input: " in said
        assert "--columns brn: no such column has turned up yet (did you mean 'born'?)" in said
        assert "brn: there is no such column (did you mean 'born'?); there are 'id', 'name'" in said
        code, said = job.finish()
        assert code == 1, said
        assert "--columns brn: there is no such column" in said
        job.options = (*job.options, "--columns", "id,name,born")
        code, said = job.finish()
        assert code == 0, said
        assert lines(job)["1"]["artist_data"] == {"born": 1933}


def test_a_database_is_an_input_that_is_read_once(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, database_url, "--source-table", "catalogue")
        query(job, "create table catalogue (id int, name text, born int)")
        rows = "select n, 'Artist ' || n, 1900 + n from generate_series(1, 50) n"
        query(job, f"insert into catalogue {rows}")
        code, said = job.finish()
        assert code == 0, said
        assert lines(job)["7"]["artist_data"] == {"born": 1907}
        code, said = job.finish()
        assert code == 0, said
        assert "it can be read only once" in said
        assert "50 skipped (50 done before)" in said
        assert api.counts().calls == 50


@pytest.mark.parametrize("named", ["museum", "public.museum"])
def test_bios_that_are_written_into_the_input_do_not_change_it(
    named: str, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, database_url, "--source-table", named)
        job.table = "museum"
        query(job, "create table museum (id int primary key, name text, bio text, born int)")
        query(
            job,
            "insert into museum select n, 'Artist ' || n, 'Old.', n from generate_series(1, 3) n",
        )
        code, said = job.finish()
        assert code == 0, said
        assert said.count("column 'bio' of table museum is") == 1
        assert lines(job)["2"]["artist_data"] == {"born": 2}
        code, said = job.finish()
        assert code == 0, said
        assert "another input" not in said
        code, said = job.finish("--refresh", "changed")
        assert code == 0, said
        assert api.counts().calls == 3
        code, said = job.finish("--again", "--data-columns", "bio")
        assert code == 0, said
        assert "column 'bio' of table" not in said
        newest = {line["artist_id"]: line for line in chain(job.ledger)}
        assert newest["2"]["artist_data"]["bio"].startswith("Artist 2 ")


def test_a_password_of_the_input_is_shown_nowhere(database_url: str, tmp_path: Path) -> None:
    secret = "canary-5d1e"
    with FakeApi(keep=0) as api:
        address = f"postgresql://someone:{secret}@127.0.0.1:9/x"
        job = job_of(tmp_path, database_url, api, address)
        code, said = job.finish()
    assert code != 0
    assert "127.0.0.1" in said
    assert secret not in said
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def broken(path: Path, sound: int, bad: int) -> None:
    write_artists(path, sound)
    with path.open("a") as file:
        file.write("ragged\n" * bad)


def test_too_many_rows_that_cannot_be_read_stop_a_run_which_can_be_resumed(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "artists.csv"
    broken(path, 500, 200)
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path, "--chunk-size", "50")
        code, said = job.finish()
        assert code == 6, said
        assert "rows cannot be read, and at a share of 10% reading stops" in said
        assert "go on    artist-bio-gen" in said
        assert read_books(job).agree
        code, said = job.finish("--error-threshold", "0.5")
        assert code == 4, said
        assert "200 rejected" in said
        assert len(read_books(job).ledger) == 500
        assert api.counts().calls == 500


def test_artists_that_are_none_do_not_count_as_rows_that_cannot_be_read(
    database_url: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "artists.csv", [("", "Nobody")] * 300 + [("1", "Nina")])
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, tmp_path / "artists.csv")
        code, said = job.finish()
    assert code == 4, said
    assert "300 rejected" in said
    assert "1 done" in said


def test_the_first_row_that_cannot_be_read_stops_a_run_if_that_is_wanted(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "artists.csv"
    broken(path, 5, 1)
    write_more = path.read_text() + "z,Last,1900,Nowhere\n"
    path.write_text(write_more)
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path, "--on-error", "stop")
        code, said = job.finish()
        assert code == 1, said
        assert "row 7 cannot be read: 1 cell for 4 columns" in said
        assert len(read_books(job).ledger) <= 5
        code, said = job.finish("--on-error", "skip")
        assert code == 4, said
        assert len(read_books(job).ledger) == 6


def test_a_resume_stops_at_that_row_as_well(database_url: str, tmp_path: Path) -> None:
    """It stands where the look through the input has found all rows done before it."""
    path = tmp_path / "artists.csv"
    broken(path, 5, 1)
    path.write_text(path.read_text() + "z,Last,1900,Nowhere\n")
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, path, "--on-error", "stop")
        code, said = job.finish("--max-rows", "5")
        assert code == 0, said
        for _ in range(2):
            code, said = job.finish()
            assert code == 1, said
            assert "row 7 cannot be read: 1 cell for 4 columns" in said
        assert len(read_books(job).ledger) == 5


def test_rows_are_shaped_before_they_are_artists(database_url: str, tmp_path: Path) -> None:
    header = "artist ids,name,born,note"
    rows = [("1;2", " Nina ", " 1933", "x"), ("", "", "", "y"), ("3", "Bill", "", "z")]
    write_rows(tmp_path / "artists.csv", rows, header=header)
    shaping = ("--strip", "--skip-empty", "--split-id", ";", "--id-column", "artist ids")
    columns = ("--columns", "name,artist ids,born", "--max-rows", "3")
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, tmp_path / "artists.csv", *shaping, *columns)
        code, said = job.finish()
        assert code == 0, said
        found = {
            key: (line["artist_name"], line["artist_data"]) for key, line in lines(job).items()
        }
        assert found == {
            "1": ("Nina", {"born": "1933"}),
            "2": ("Nina", {"born": "1933"}),
            "3": ("Bill", {}),
        }
        code, said = job.finish()
        assert "3 rows looked up: 3 finished" in said
        assert api.counts().calls == 3


def test_the_ledger_may_not_be_among_the_files_of_a_pattern(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "artists.jsonl").write_text('{"id": 1, "name": "Nina"}\n')
    with FakeApi(keep=0) as api:
        job = job_of(tmp_path, database_url, api, tmp_path / "*.jsonl")
        code, said = job.finish()
        assert code == 0, said
        code, said = job.finish()
        assert code == 2, said
        assert "out.jsonl belongs to the ledger" in said
