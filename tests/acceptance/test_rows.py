"""The real command and the rows of its input: those that are no artists, and those that come
more than once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.harness import (
    Job,
    chain,
    events,
    failures,
    no_leftovers,
    query,
    read_books,
    write_rows,
)
from tests.fakes.api import FakeApi

UUID = "6fb98731-0e93-4db2-9b3a-2e1f5c2b7a10"

BAD_ROWS = b"""\
id,name,born
1,Nina Simone,1933
# a comment, and a blank line

x7,No Number,1900
2,,1900
3,Ragged
4,Bad \xff Byte,1900
,No Id,1900
99999999999999999999,Too Large,1900
5,"Quoted, with
a line feed",1900
+06,Signed,1900
7,Too,Many,Cells
8,Odd " quote,1900
9,"Never closed,1900
10,Last,1950
"""
REASONS = {
    5: "'x7' is no whole number",
    6: "column 'name' is empty",
    7: "2 cells for 3 columns",
    8: "byte 0xff, which is no utf-8, in column 'name'",
    9: "column 'id' is empty",
    10: "out of the range of integer",
    14: "4 cells for 3 columns",
    16: "not closed before the file ends",
}


def a_table(job: Job, id_type: str, name: str = "artists") -> None:
    query(job, f"create table {name} (id {id_type} primary key, name text not null, bio text)")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_bad_rows_are_rejected_with_their_numbers_and_the_rest_is_done(
    line_end: bytes, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "artists.csv").write_bytes(BAD_ROWS.replace(b"\n", line_end))
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        a_table(job, "integer")
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 4, said
        assert f"{len(REASONS)} rejected" in said
        books = read_books(job)
        assert books.agree
        assert set(books.ledger) == {"1", "5", "6", "8", "10"}
        told = {event["row"]: event["reason"] for event in events(job.log, "rejected")}
        kept = {line["row"]: line["reason"] for line in failures(job)}
        assert told == kept
        assert told.keys() == REASONS.keys()
        for number, reason in REASONS.items():
            assert reason in told[number]
        assert {line["kind"] for line in failures(job)} == {"rejected"}
        code, said = job.finish()
        assert code == 4, said
        assert api.counts().calls == 5
    assert read_books(job).agree


def test_an_input_without_a_header_in_another_encoding(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_bytes("7,Björk,Reykjavík\n8,Édith,Paris\n".encode("cp1252"))
    options = ("--no-header", "--encoding", "windows-1252")
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv", options=options)
        code, said = job.finish()
        assert code == 0, said
    lines = {line["artist_id"]: line for line in chain(job.ledger)}
    assert (lines["7"]["artist_name"], lines["8"]["artist_name"]) == ("Björk", "Édith")
    assert lines["7"]["artist_data"] == {"3": "Reykjavík"}


def test_an_artist_who_comes_again_is_done_once_and_reported(
    database_url: str, tmp_path: Path
) -> None:
    rows = [(f"a{number}", f"Artist {number}") for number in range(1_300)]
    rows[3] = rows[0]
    rows.append(rows[0])
    rows.append(("a9 ", "Artist Nine"))
    write_rows(tmp_path / "artists.csv", rows)
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "32")
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        assert "3 repeated" in said
        assert set(api.counts().seen_by_artist.values()) == {1}
    assert read_books(job).agree
    assert len(read_books(job).ledger) == 1_299
    told = [(event["artist_id"], event["reason"]) for event in events(job.log, "skipped")]
    assert told == [("a0", "repeated"), ("a0", "repeated"), ("a9", "repeated")]


def test_an_artist_who_comes_again_is_not_bought_again_after_a_failure(
    database_url: str, tmp_path: Path
) -> None:
    """A second row of the same artist is no second attempt, however far away it stands."""
    rows = [(f"a{number}", f"Artist {number}", "") for number in range(1_300)]
    rows[5] = ("a5", "Artist 5", "[[fault:refuse*1]]")
    rows[8] = ("a5", "Artist 5", "")
    rows.append(("a5", "Artist 5", ""))
    write_rows(tmp_path / "artists.csv", rows, header="id,name,note")
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "32")
        code, said = job.finish()
        assert code == 4, said
        assert "1 failed" in said
        assert "2 repeated" in said
        assert api.counts().seen_by_artist["a5"] == 1
    assert len(read_books(job).ledger) == 1_298


@pytest.mark.parametrize(
    ("id_type", "ids", "canonical"),
    [
        ("integer", ["7", "007", "+7", "8"], ["7", "8"]),
        ("bigint", ["9007199254740993", "9007199254740992"], None),
        ("numeric(30)", ["123456789012345678901234567890"], None),
        ("uuid", [UUID, UUID.upper(), f"{{{UUID}}}", UUID.replace("-", "")], [UUID]),
        ("text", ["7", "007", "Ünïcode/%25 id", UUID.upper()], None),
        ("varchar(40)", ["7", "007", UUID.upper()], None),
    ],
)
def test_ids_are_compared_in_the_type_of_the_tables_column(
    id_type: str, ids: list[str], canonical: list[str] | None, database_url: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "artists.csv", [(artist, "A Name") for artist in ids])
    expected = ids if canonical is None else canonical
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        a_table(job, id_type)
        code, said = job.finish()
        assert code == 0, said
        assert api.counts().seen_by_artist == dict.fromkeys(expected, 1)
        books = read_books(job)
        assert books.agree
        assert set(books.ledger) == set(expected)
        code, said = job.finish()
        assert code == 0, said
        assert api.counts().calls == len(expected)


def test_an_id_column_of_another_type_is_refused_before_anything_is_bought(
    database_url: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "artists.csv", [("1.5", "A Name")])
    with FakeApi(keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        a_table(job, "double precision")
        code, said = job.finish()
        assert code == 3
        assert "artists.id is of type double precision, which is not supported for ids" in said
        assert api.counts().calls == 0
