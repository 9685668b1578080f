"""A start never takes a damaged ledger for a good one: it stops, or restores the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.files import FileCalls
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.resume import reconcile
from tests.builders import ends_of_lines
from tests.faults.books import keep, put_back, read_books
from tests.writer import Writer, artists

LINES = 5
CUT_EVERY = 8
UNSYNCED = FileCalls(fsync=lambda fd: None)
"""What is asked is what a start reads, not what it syncs."""


class Shelf:
    """A good ledger of 5 kB with its database, which a start must find again."""

    def __init__(self, folder: Path, url: str, store: BioStore) -> None:
        self.path = folder / "out.jsonl"
        self.head = folder / "out.jsonl.head"
        self._store = store
        self._writer = Writer(
            path=self.path, database_url=url, notes=folder, workers=1, stores=(store, store)
        )
        self._writer.live(artists(0, LINES))
        self.whole = self.path.read_bytes()
        assert 4_000 < len(self.whole) < 6_000

    def more(self, count: int) -> None:
        self._writer.live(artists(0, LINES + count))

    def start(self, damaged: bytes) -> bool:
        """False when it stopped and told; then it has left the ledger as it was. For tens of
        thousands of starts there is no other process, so none waits for the lock."""
        self.path.write_bytes(damaged)
        try:
            with Ledger.open(self.path, files=UNSYNCED) as ledger:
                reconcile(ledger, self._store)
        except LedgerError:
            assert self.path.read_bytes() == damaged
            return False
        finally:
            for each in self.path.parent.glob("out.jsonl.quarantine.*"):
                each.unlink()
        return True


@pytest.fixture
def shelf(quick_folder: Path, url: str) -> Iterator[Shelf]:
    with BioStore(url, table="artists", sleep=_never) as store:
        yield Shelf(quick_folder, url, store)


def _never(seconds: float) -> None:
    pytest.fail("the database is not away")


def test_no_flipped_bit_is_taken_for_good(shelf: Shelf, admin: psycopg.Connection) -> None:
    ends: Counter[bool] = Counter()
    for at in range(len(shelf.whole)):
        for bit in range(8):
            damaged = bytearray(shelf.whole)
            damaged[at] ^= 1 << bit
            restored = shelf.start(bytes(damaged))
            ends[restored] += 1
            if restored:
                assert shelf.path.read_bytes() == shelf.whole, (at, bit)
    shelf.path.write_bytes(shelf.whole)
    assert len(read_books(shelf.path, admin).lines) == LINES
    print(f"{ends.total()} flipped bits: {ends[False]} stops, {ends[True]} restored")


def test_a_cut_tail_is_found_by_the_head_that_is_kept_elsewhere(
    shelf: Shelf, admin: psycopg.Connection
) -> None:
    """In the database, whatever the head beside the ledger says; and beside the ledger, when the
    database is an older copy as well."""
    ends = ends_of_lines(shelf.whole)
    sizes = sorted({*range(0, len(shelf.whole), CUT_EVERY), *ends[:-1]})
    for size in sizes:
        assert shelf.start(shelf.whole[:size]), size
        assert shelf.path.read_bytes() == shelf.whole
    older = keep(admin)
    shelf.more(3)
    newer, newer_head = shelf.path.read_bytes(), shelf.head.read_bytes()
    put_back(admin, older)
    for size in ends:
        shelf.head.write_bytes(newer_head)
        assert not shelf.start(newer[:size]), size
    assert shelf.start(newer)
    assert read_books(shelf.path, admin).lines == newer.split(b"\n")[:-1]
    print(f"{len(sizes)} cuts restored, {len(ends)} of two older copies told")
