"""Some lives of a writer over one ledger, each with file calls that fail, and what must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Entry, Journal
from tests.builders import artist, failed
from tests.fakes.faulty_files import KILLED
from tests.faults.books import (
    Books,
    assert_told_is_there,
    empty,
    ledger_files,
    paid_for,
    read_books,
)
from tests.writer import Writer, artists, bio_of, ended, forked, noted

LIVES = 7
ROWS_A_LIFE = 3


class Story:
    """Lives are numbered from 0; each has some artists more to do than the one before, one of
    which the model refuses, and finds what a crash may leave: a torn tail, and the journal of a
    dead run with a reply, a failure and a call that was in flight. `folder` is empty."""

    def __init__(
        self, folder: Path, url: str, stores: tuple[BioStore, BioStore], conn: psycopg.Connection
    ) -> None:
        self._conn = conn
        self._notes = folder / "notes"
        self.path = folder / "ledger" / "out.jsonl"
        for each in (self._notes, self.path.parent):
            each.mkdir()
        self._writer = Writer(
            path=self.path,
            database_url=url,
            notes=self._notes,
            workers=2,
            segment_bytes=500,
            refused=frozenset(f"a{life * ROWS_A_LIFE}" for life in range(LIVES)),
            stores=stores,
        )
        self._dead: set[str] = set()
        empty(conn)

    def life(self, number: int, files: FileCalls) -> bool:
        """False when it stopped loudly, before its work was done."""
        return self._watched(number, _lives, files)

    def life_to_be_killed(self, number: int, files: FileCalls) -> bool:
        """False when it was killed, by one of its calls."""

        def in_a_child(writer: Writer, rows: int) -> bool:
            alone = replace(writer, stores=None)
            status = ended(forked(lambda: alone.live(artists(0, rows))))
            assert status in (0, KILLED)
            return status == 0

        return self._watched(number, in_a_child, files)

    def end(self) -> Books:
        """A life without faults: everything is there, nothing was lost or bought again."""
        self._watched(LIVES - 1, lambda writer, rows: writer.live(artists(0, rows)) is None, REAL)
        assert not list(self.path.parent.glob("out.jsonl.journal.*"))
        books = read_books(self.path, self._conn)
        assert_told_is_there(self._notes, books)
        wanted = {each.id for each in artists(0, LIVES * ROWS_A_LIFE)} - self._writer.refused
        assert set(books.ids) == wanted | self._dead
        twice = Counter(noted(self._notes / "bill"))
        twice.subtract(set(twice))
        assert not twice - Counter(noted(self._notes / "reported")), "bought again, not reported"
        return books

    def _watched(self, number: int, life: Callable[[Writer, int], bool], files: FileCalls) -> bool:
        self._tear_the_tail()
        self._leave_a_journal()
        known = self._known()
        before = len(noted(self._notes / "bill"))
        done = life(replace(self._writer, files=files), (number + 1) * ROWS_A_LIFE)
        assert not known & set(noted(self._notes / "bill")[before:]), "bought again"
        assert known <= self._known(), "lost"
        return done

    def _tear_the_tail(self) -> None:
        files = ledger_files(self.path)
        if not files or self.path.with_name("out.jsonl.fsync-failed").exists():
            return
        lines = files[-1].read_bytes()
        # A file that is not the first one has a whole line from the moment it is there.
        if lines.count(b"\n") > (files[-1] != self.path):
            files[-1].write_bytes(lines[:-10])

    def _leave_a_journal(self) -> None:
        if not self.path.exists():
            return
        dead = f"d{uuid4().hex[:8]}"
        with Journal(self.path, str(uuid4())) as journal:
            replied = artist(1, id=dead, name=f"Artist {dead}")
            journal.write(Entry.intent(replied, 1, "r1"))
            journal.write(Entry.reply(replied, bio_of(replied)))
            journal.write(Entry.failure(replace(failed(2), artist=artist(2, id=f"{dead}-refused"))))
            journal.write(Entry.intent(artist(3, id=f"{dead}-asked"), 1, "r3"))
        self._dead.add(dead)

    def _known(self) -> set[str]:
        """Artists for whom something was paid that must not be lost."""
        rows = self._conn.execute(
            "select artist_id from artist_bio_gen.commits union"
            " select artist_id from artist_bio_gen.failures where not transient"
        ).fetchall()
        return paid_for(self.path) | {row[0] for row in rows}


def _lives(writer: Writer, rows: int) -> bool:
    try:
        writer.live(artists(0, rows))
    except LedgerFileError:
        return False
    return True
