"""A start that is killed at any of its own steps, three in a row too: the next one comes to the
same end as if there had been one alone, and another one after it changes nothing."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Entry, Journal
from tests.builders import artist, failed
from tests.fakes.faulty_files import KILLED, NAMES, Fault, FaultyFiles
from tests.fakes.stepping_proxy import SteppingProxy
from tests.faults.books import (
    Books,
    assert_told_is_there,
    copy_folder,
    keep,
    paid_for,
    put_back,
    read_books,
)
from tests.faults.seed import chance
from tests.writer import Writer, artists, bio_of, ended, forked

ROWS = 6
IN_A_ROW = 3
TRIPLES = 40


class Countdown:
    """So many steps, then the process is gone."""

    def __init__(self, steps: int | None) -> None:
        self._left = itertools.count(0 if steps is None else steps, -1)
        self._for_ever = steps is None

    def step(self) -> None:
        if not self._for_ever and next(self._left) <= 1:
            os._exit(KILLED)

    def over(self, real: FileCalls) -> FileCalls:
        return FileCalls(**{name: partial(self._call, getattr(real, name)) for name in NAMES})

    def _call(self, real: Callable[..., Any], *arguments: Any) -> Any:
        self.step()
        return real(*arguments)


@dataclass(frozen=True, slots=True)
class Kill:
    """At which step: of the file calls, or of the talk with the database."""

    of_files: bool
    step: int


class Wreck:
    """What a crash has left, which can be had again and again."""

    def __init__(self, folder: Path, url: str, conn: psycopg.Connection) -> None:
        self._now = folder / "now"
        self._kept = folder / "kept"
        self.path = self._now / "ledger" / "out.jsonl"
        self.notes = self._now / "notes"
        self._url = url
        self.conn = conn
        self.writer = Writer(path=self.path, database_url=url, notes=self.notes, workers=2)
        for each in (self.notes, self.path.parent):
            each.mkdir(parents=True)

    def keep(self) -> None:
        copy_folder(self._now, self._kept)
        self._tables = keep(self.conn)
        self.paid = paid_for(self.path)

    def again(self) -> None:
        copy_folder(self._kept, self._now)
        put_back(self.conn, self._tables)

    def start(self, kill: Kill | None = None) -> bool:
        """In a process of its own; False when it was killed."""

        def work() -> None:
            files = Countdown(kill.step if kill and kill.of_files else None)
            talk = Countdown(kill.step if kill and not kill.of_files else None)
            url = SteppingProxy(self._url, talk.step).url
            replace(self.writer, files=files.over(REAL), database_url=url).start()

        status = ended(forked(work))
        assert status in (0, KILLED)
        return status == 0

    def end(self) -> Books:
        """Nothing is lost that was told or paid for, and a further start changes nothing."""
        self.writer.start()
        books = read_books(self.path, self.conn)
        assert_told_is_there(self.notes, books)
        failures = self.conn.execute("select artist_id from artist_bio_gen.failures").fetchall()
        assert self.paid <= set(books.ids) | {row[0] for row in failures}
        assert not list(self.path.parent.glob("out.jsonl.journal.*"))
        before = self._state()
        self.writer.start()
        assert self._state() == before
        return books

    def _state(self) -> object:
        # The head's copy is made anew by each start; a part of it may be there of a killed one.
        files = (each for each in self.path.parent.iterdir() if ".head" not in each.name)
        rows = [
            self.conn.execute(f"select * from {table} order by 1, 2").fetchall()
            for table in ("artists", "artist_bio_gen.commits", "artist_bio_gen.failures")
        ]
        return {each.name: each.read_bytes() for each in files}, rows


def leave_journals(path: Path) -> None:
    """Of two dead runs, each with a reply, a failure and a call that was in flight."""
    for number in (1, 2):
        with Journal(path, f"00000000-0000-4000-8000-00000000000{number}") as journal:
            replied = artist(number, id=f"dead{number}")
            journal.write(Entry.intent(replied, 1, "r"))
            journal.write(Entry.reply(replied, bio_of(replied)))
            journal.write(Entry.failure(replace(failed(), artist=artist(id=f"refused{number}"))))
            journal.write(Entry.intent(artist(id=f"asked{number}"), 1, "r"))


def database_ahead(wreck: Wreck) -> None:
    """Killed between the commit and the line, in the middle of the line: the file ends torn, three
    lines behind the database."""
    wreck.writer.live(artists(0, ROWS))
    lines = wreck.path.read_bytes().split(b"\n")
    wreck.path.write_bytes(b"\n".join(lines[: ROWS - 3]) + b"\n" + lines[ROWS - 3][:100])


def database_behind(wreck: Wreck) -> None:
    """The database is an older copy."""
    wreck.writer.live(artists(0, ROWS - 3))
    older = keep(wreck.conn)
    wreck.writer.live(artists(0, ROWS))
    put_back(wreck.conn, older)


def failed_sync(wreck: Wreck) -> None:
    """Of the ledger: it has to be gone on with in a new file."""
    wreck.writer.live(artists(0, ROWS - 3))
    files = FaultyFiles(Fault("fsync", errno.EIO, on="out.jsonl"))
    with pytest.raises(LedgerFileError, match="could not be synced"):
        replace(wreck.writer, files=files.calls).live(artists(0, ROWS))


@pytest.fixture(params=[database_ahead, database_behind, failed_sync])
def wreck(
    request: pytest.FixtureRequest, quick_folder: Path, url: str, admin: psycopg.Connection
) -> Wreck:
    made = Wreck(quick_folder, url, admin)
    request.param(made)
    leave_journals(made.path)
    made.keep()
    return made


def test_a_start_that_is_killed_at_any_step(wreck: Wreck) -> None:
    """Once, and three times in a row."""
    wreck.writer.start()
    whole = wreck.end()
    steps = {}
    for of_files in (True, False):
        for step in itertools.count(1):
            wreck.again()
            if wreck.start(Kill(of_files, step)):
                break
            assert contents(wreck.end()) == contents(whole)
        steps[of_files] = step - 1
    moments = chance("killed starts")
    for _ in range(TRIPLES):
        wreck.again()
        for _ in range(IN_A_ROW):
            of_files = moments.random() < 0.5
            wreck.start(Kill(of_files, moments.randint(1, steps[of_files])))
        assert contents(wreck.end()) == contents(whole)
    assert min(steps.values()) > 20, "the steps are not there"
    print(
        f"killed at each of {steps[True]} file calls and {steps[False]} steps of the talk with the"
        f" database, and {TRIPLES} times {IN_A_ROW} in a row"
    )


def contents(books: Books) -> list[tuple[str, str]]:
    """What the lines say; when they were committed is another matter."""
    return sorted((line["artist_id"], line["response_text"]) for line in books.read)
