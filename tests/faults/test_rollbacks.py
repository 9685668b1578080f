"""An older copy of the ledger, of the database, of both, or another one: what follows from the
other side is brought back byte for byte; what does not is found and left as it is. Nothing is
silently skipped, and nothing that was paid for is forgotten."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg
import pytest

from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Line
from artist_bio_gen.values import Done, Head
from tests.acceptance.harness import (
    Job,
    Running,
    events,
    no_leftovers,
    read_books,
    whole_lines,
    write_artists,
)
from tests.builders import a_draft, artist, sealed
from tests.fakes.api import FakeApi
from tests.faults.desk import Desk, a_start, check_books
from tests.faults.growth import more_lines
from tests.faults.seed import chance

TRIALS = 300
UNDER_US = 60
LINES = 30
COMMON = 12
"""Lines that both histories begin with."""

ROLLBACKS = 6


@dataclass(frozen=True, slots=True)
class Copies:
    """What a trial begins with: how many lines of which history the file and the database hold
    (None: a database that does not know the ledger), what the head beside the file tells of, and
    how many bytes of a further line the file ends with."""

    file: str
    lines: int
    torn: int
    database: str
    rows: int | None
    noted: int

    @property
    def outcome(self) -> str:
        """Which history both sides must hold afterwards, and up to which line; "" when the copies
        must be refused."""
        if self.rows is None:
            return "" if self.lines or self.torn or self.noted else self.file + "0"
        if self.torn and self.rows <= self.lines:
            return ""
        if min(self.lines, self.rows) > COMMON and self.file != self.database:
            return ""
        if self.noted > max(self.lines, self.rows):
            return ""
        longer = self.file if self.lines >= self.rows else self.database
        return f"{longer}{max(self.lines, self.rows)}"


class Histories:
    """Two histories of one ledger, and both sides as they were at any line of them."""

    def __init__(self, path: Path, admin: psycopg.Connection, ledger_id: str) -> None:
        self._path = path
        self._admin = admin
        self._empty = Head(ledger_id, 0, Ledger.open(path).first_prev)
        drafts = [a_draft(number, ledger=ledger_id) for number in range(LINES)]
        others = [a_draft(number, ledger=ledger_id, text="Other.") for number in range(LINES)]
        self._drafts = {"a": drafts, "b": [*drafts[:COMMON], *others[COMMON:]]}
        self._lines = {name: sealed(each, self._empty) for name, each in self._drafts.items()}

    def lay_out(self, copies: Copies) -> None:
        lines = self._lines[copies.file]
        torn = lines[copies.lines].data[: copies.torn] if copies.torn else b""
        self._path.write_bytes(_bytes(lines[: copies.lines]) + torn)
        noted = {"ledger": self._empty.ledger, "seq": copies.noted}
        self._path.with_name(f"{self._path.name}.head").write_bytes(orjson.dumps(noted))
        self.fill_database(copies.database, copies.rows)

    def fill_database(self, name: str, rows: int | None) -> None:
        with self._admin.transaction(), self._admin.cursor() as cursor:
            cursor.execute("truncate artists")
            cursor.execute("delete from artist_bio_gen.commits")
            cursor.execute("delete from artist_bio_gen.heads")
            if rows is None:
                return
            lines, drafts = self._lines[name][:rows], self._drafts[name][:rows]
            head = Head(self._empty.ledger, rows, lines[-1].hash if rows else self._empty.hash)
            cursor.execute(
                "insert into artist_bio_gen.heads (ledger, seq, hash, path, host, table_name)"
                " values (%s, %s, %s, '', '', 'public.artists')",
                [head.ledger, head.seq, head.hash],
            )
            cursor.executemany(
                "insert into artist_bio_gen.commits (ledger, seq, run, artist_id, generation,"
                " input_sha256, prompt_sha256, hash, line)"
                " values (%s, %s, %s, %s, 1, %s, %s, %s, %s)",
                [
                    (
                        *(head.ledger, line.seq, each.run, each.artist.id, each.input_sha256),
                        *(each.bio.prompt_sha256, line.hash, line.data.decode()),
                    )
                    for line, each in zip(lines, drafts, strict=True)
                ],
            )
            cursor.executemany(
                "insert into artists (id, name, bio) values (%s, %s, %s)",
                [(each.artist.id, each.artist.name, each.bio.text) for each in drafts],
            )

    def bytes_of(self, outcome: str) -> bytes:
        return _bytes(self._lines[outcome[0]][: int(outcome[1:])])


def _bytes(lines: Sequence[Line]) -> bytes:
    return b"".join(line.data + b"\n" for line in lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def histories(path: Path, url: str, admin: psycopg.Connection) -> Histories:
    with a_start(path, url, str(uuid.uuid4())) as desk:
        return Histories(path, admin, desk.ledger.id)


def test_copies_of_any_age_are_mended_or_refused(
    histories: Histories, path: Path, url: str, admin: psycopg.Connection
) -> None:
    draw = chance("copies")
    seen: Counter[str] = Counter()
    for trial in range(TRIALS):
        lines = draw.randrange(LINES)
        copies = Copies(
            file=draw.choice("ab"),
            lines=lines,
            torn=draw.choice([0, 0, 0, 1, 200]),
            database=draw.choice("aab"),
            rows=draw.choice([lines, draw.randrange(LINES), draw.randrange(LINES), None]),
            noted=draw.choice([0, lines, draw.randrange(LINES)]),
        )
        histories.lay_out(copies)
        if copies.outcome:
            with a_start(path, url, str(uuid.uuid4())) as desk:
                assert path.read_bytes() == histories.bytes_of(copies.outcome), copies
                new = desk.draft(artist(1000 + trial), "A new bio.")
                (outcome,) = desk.committer.commit([new])
                assert isinstance(outcome, Done)
            assert len(check_books(path, admin)) == int(copies.outcome[1:]) + 1
        else:
            with pytest.raises(LedgerError), a_start(path, url, str(uuid.uuid4())):
                pytest.fail(f"taken for good: {copies}")
        seen["mended" if copies.outcome else "refused"] += 1
    assert min(seen.values()) > TRIALS / 10
    print(f"{TRIALS} pairs of copies: {dict(seen)}, 0 silently taken for the newest")


# ---- under a process that is at work ------------------------------------------------------------


@contextmanager
def at_work(histories: Histories, path: Path, url: str, lines: int) -> Iterator[Desk]:
    """A process that has written the last of so many lines itself."""
    histories.lay_out(Copies("a", lines - 1, 0, "a", lines - 1, 0))
    with a_start(path, url, str(uuid.uuid4())) as desk:
        (outcome,) = desk.committer.commit([desk.draft(artist(500), "Written before.")])
        assert isinstance(outcome, Done)
        yield desk


def put_in_its_place(path: Path, lines: int) -> None:
    """An older copy, moved to where the ledger was."""
    copy = path.with_name("copy")
    copy.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    copy.replace(path)


def test_a_ledger_taken_away_under_us_is_noticed_before_anything_is_committed(
    histories: Histories, path: Path, url: str, admin: psycopg.Connection
) -> None:
    draw = chance("taken away")
    for _ in range(UNDER_US):
        lines = draw.randrange(2, LINES)
        with at_work(histories, path, url, lines) as desk:
            os.link(path, path.with_name("kept"))
            if draw.randrange(2):
                put_in_its_place(path, draw.randrange(lines + 1))
            else:
                path.unlink()
            with pytest.raises(LedgerError, match="deleted or replaced by another file"):
                desk.committer.commit([desk.draft(artist(600), "Not to be committed.")])
            path.with_name("kept").replace(path)
        assert "600" not in check_books(path, admin)
    print(f"{UNDER_US} ledgers taken away under a process: {UNDER_US} noticed, 0 bios committed")


def test_a_ledger_replaced_between_commit_and_line_loses_nothing(
    histories: Histories, path: Path, url: str, admin: psycopg.Connection
) -> None:
    """Too late to be noticed by this commit, whose line goes into the file that was taken away; the
    next commit notices, and the next start has the line from the database."""
    with at_work(histories, path, url, 10) as desk:
        written = path.stat().st_size
        shutil.copy(path, path.with_name("copy"))
        (outcome,) = desk.committer.commit([desk.draft(artist(600), "Committed.")])
        path.with_name("copy").replace(path)  # as if right before the line was written
        assert isinstance(outcome, Done)
        assert path.stat().st_size == written
        with pytest.raises(LedgerError, match="deleted or replaced by another file"):
            desk.committer.commit([desk.draft(artist(601), "Not to be committed.")])
    with a_start(path, url, str(uuid.uuid4())):
        pass
    books = check_books(path, admin)
    assert books["600"] == "Committed."
    assert "601" not in books


def test_a_database_set_back_under_us_is_brought_up_again(
    histories: Histories, path: Path, url: str, admin: psycopg.Connection
) -> None:
    draw = chance("set back")
    for _ in range(UNDER_US):
        lines = draw.randrange(2, LINES)
        with at_work(histories, path, url, lines) as desk:
            histories.fill_database("a", draw.randrange(lines))
            (outcome,) = desk.committer.commit([desk.draft(artist(600), "A bio.")])
            assert isinstance(outcome, Done)
            assert outcome.seq == lines + 1
        assert len(check_books(path, admin)) == lines + 1
    print(f"{UNDER_US} databases set back under a process: all brought up again, 0 bios lost")


@pytest.mark.parametrize("rows", [None, "b"])
def test_another_database_under_us_gets_no_bio(
    rows: str | None, histories: Histories, path: Path, url: str, admin: psycopg.Connection
) -> None:
    with at_work(histories, path, url, LINES - 1) as desk:
        written = path.read_bytes()
        histories.fill_database("b", None if rows is None else LINES)
        with pytest.raises(LedgerError, match=r"does not know this ledger|have parted"):
            desk.committer.commit([desk.draft(artist(600), "Not to be committed.")])
        assert path.read_bytes() == written
    assert admin.execute("select * from artists where id = '600'").fetchall() == []


def test_both_sides_set_back_under_us_are_noticed(
    histories: Histories, path: Path, url: str
) -> None:
    """To a state that the head beside the ledger, which is that of the start, does not contradict:
    this process alone knows how far both had been."""
    with at_work(histories, path, url, 5) as desk:
        for number in range(10):
            desk.committer.commit([desk.draft(artist(510 + number), "Written as well.")])
        histories.fill_database("a", 4)
        os.truncate(path, len(histories.bytes_of("a4")))
        with pytest.raises(LedgerError):
            desk.committer.commit([desk.draft(artist(600), "Not to be committed.")])


def test_a_database_set_back_under_a_run_again_and_again(database_url: str, tmp_path: Path) -> None:
    draw = chance("set back under a run")
    rows = 1500
    write_artists(tmp_path / "artists.csv", rows)
    with FakeApi(latency="uniform:0.01:0.03", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "4")
        with no_leftovers(job), Running(job) as run:
            for _ in range(ROLLBACKS):
                run.wait_until(more_lines(job, draw.randrange(20, 120)))
                set_back(job, draw.randrange(1, len(whole_lines(job.ledger))))
            assert run.ended() == 0, run.said
        books = read_books(job)
        assert books.agree
        assert len(books.ledger) == rows
        assert api.counts().seen_by_artist == {f"a{number}": 1 for number in range(rows)}
    assert events(job.log, "failed") == []
    print(f"{ROLLBACKS} rollbacks of the database under a run of {rows} rows: 0 lost, 0 twice")


def set_back(job: Job, lines: int) -> None:
    """The database as it was when the ledger had so many lines."""
    with psycopg.connect(job.database_url) as connection:
        connection.execute("select from artist_bio_gen.heads for update")
        connection.execute(
            "delete from artists a using artist_bio_gen.commits c"
            " where c.artist_id = a.id and c.seq > %s",
            [lines],
        )
        connection.execute("delete from artist_bio_gen.commits where seq > %s", [lines])
        connection.execute(
            "update artist_bio_gen.heads set seq = c.seq, hash = c.hash"
            " from artist_bio_gen.commits c where c.seq = %s",
            [lines],
        )
