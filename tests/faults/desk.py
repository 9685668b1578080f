"""One process's committer with what it stands on, and what must hold when it is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Entry, Journal
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.resume import TakenOver, reconcile, take_over
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist
from tests.builders import bio, lines_of
from tests.test_ledger import check_chain

Sleep = Callable[[float], None]


def no_sleep(seconds: float) -> None:
    """Waits for nothing: what is waited for comes by itself."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What has been opened and reconciled by one start; `taken` is what it took over."""

    ledger: Ledger
    store: BioStore
    committer: Committer
    run: str
    taken: TakenOver

    def draft(self, artist: Artist, text: str) -> Draft:
        return draft(artist, bio(text), ledger=self.ledger.id, run=self.run, worker=1)


@contextmanager
def a_start(
    path: Path, url: str, run: str, *, sleep: Sleep = no_sleep, files: FileCalls = REAL
) -> Iterator[Desk]:
    """As the program starts: ledger and database are brought to one state, and the journals of
    those that are gone are taken over. Afterwards all is let go, as by a process that dies."""
    store = BioStore(url, table="artists", max_wait=20.0, sleep=sleep)
    try:
        ledger = (
            Ledger.open(path, files=files) if path.exists() else Ledger.create(path, files=files)
        )
        with ledger:
            committer = Committer(
                ledger,
                store,
                FailedFile(path, run),
                run=run,
                reconcile=lambda: reconcile(ledger, store),
                telemetry=Telemetry(),
            )
            with ledger.locked():
                reconcile(ledger, store)
                taken = take_over(ledger, store, committer.commit_locked, Telemetry())
            yield Desk(ledger, store, committer, run, taken)
    finally:
        store.close()


def in_the_journal(journal: Journal, drafts: Sequence[Draft]) -> None:
    """What these drafts were made of, as the reply that has arrived and is on disk."""
    for each in drafts:
        journal.write(Entry.intent(each.artist, 1, f"request {each.artist.id}"))
        journal.write(Entry.reply(each.artist, each.bio))
    journal.sync()


def check_books(path: Path, admin: psycopg.Connection) -> dict[str, str]:
    """Ledger, commit rows, bios and head are equal, line by line. Each artist's last bio."""
    read = check_chain(path)
    rows = admin.execute(
        "select seq, line, hash from artist_bio_gen.commits order by seq"
    ).fetchall()
    assert [line for _, line, _ in rows] == [line.decode() for line in lines_of(path)]
    assert [(seq, digest) for seq, _, digest in rows] == [
        (each["seq"], each["hash"]) for each in read
    ]
    keys = [(each["artist_id"], each["generation"]) for each in read]
    assert len(set(keys)) == len(keys), "a bio stands in the ledger twice"
    last = {str(each["artist_id"]): str(each["response_text"]) for each in read}
    assert last == dict(admin.execute("select id, bio from artists where bio <> ''").fetchall())
    heads = admin.execute("select seq, hash from artist_bio_gen.heads").fetchall()
    if read:
        assert heads == [(read[-1]["seq"], read[-1]["hash"])]
    return last


def failures_of(path: Path) -> list[dict[str, object]]:
    """What stands in the file of failures beside the ledger."""
    file = path.with_name(f"{path.name}.failed.jsonl")
    return [json.loads(line) for line in lines_of(file)] if file.exists() else []
