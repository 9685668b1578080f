"""The program's own parts, put together as the runner does it, around a model that costs nothing:
for tests that fail their calls, fork them and kill them.

What came of a life is noted in files, a line at a time, in writes that a kill cannot tear: each
call on the `bill`, as an API would note it; each line of which somebody was told that it is on
disk in `told` (`<seq> <hash>`); each artist that a start names as in flight in `reported`.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import Unusable
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import find_id
from artist_bio_gen.ledger.sharing import only_run
from artist_bio_gen.pending import Rules, pending
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.pool import Processor
from artist_bio_gen.resume import Reconciled, TakenOver, reconcile, take_over
from artist_bio_gen.telemetry import Event, Telemetry
from artist_bio_gen.values import Artist, Bio, Json
from tests.builders import Simple

PROMPT_SHA256 = "0" * 64


def artists(first: int, last: int, prefix: str = "a") -> Iterator[Artist]:
    """Those from number `first` up to and without `last`."""
    for number in range(first, last):
        yield Artist(number, f"{prefix}{number}", f"Artist {number}", {"born": "1900"})


def bio_of(artist: Artist) -> Bio:
    request: dict[str, Json] = {"prompt": "test", "version": None, "variables": {}, "model": "m"}
    return Bio(f"The bio of {artist.name}.", request, prompt_sha256=PROMPT_SHA256)


def note(path: Path, word: str) -> None:
    """Appends a line in one write, which a kill cannot tear."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def noted(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@dataclass(frozen=True, kw_only=True)
class Writer:
    """One ledger with its database, for as many lives as one likes. `notes` is the folder of the
    notes. `refused` are artists whom the model refuses. Without `stores` (the committer's, the
    look-ups') each life opens its own."""

    path: Path
    database_url: str
    notes: Path
    workers: int = 4
    call_s: float = 0.0
    segment_bytes: int = 20_000
    source: str = "artists"
    refused: frozenset[str] = frozenset()
    files: FileCalls = REAL
    stores: tuple[BioStore, BioStore] | None = None
    clock: Callable[[], float] = time.time
    on_call: Callable[[], object] = lambda: None
    on_event: Callable[[Event], None] = lambda event: None

    def live(self, artists: Iterable[Artist]) -> None:
        """Recovers, then works until nothing is left to do. What ended the run is raised."""
        run = str(uuid.uuid4())
        control = Control()
        with self._books(run, control) as books, only_run(self.path, self.source, files=self.files):
            books.recover()
            with Journal(
                self.path, run, files=self.files, segment_bytes=self.segment_bytes
            ) as journal:
                under_way: set[str] = set()
                processor = Processor(
                    Caller(
                        Simple(self._generate),
                        journal,
                        run=run,
                        policy=RetryPolicy(),
                        control=control,
                        telemetry=books.telemetry,
                    ),
                    journal,
                    books.committer,
                    ledger_id=books.ledger.id,
                    run=run,
                    workers=self.workers,
                    under_way=under_way,
                    control=control,
                    telemetry=books.telemetry,
                )
                left = pending(
                    artists,
                    partial(books.lookups.known, books.ledger.id),
                    Rules(run=run, prompt_sha256=PROMPT_SHA256),
                    table="artists",
                    under_way=under_way,
                )
                processor.run(left, grace=1)
            if control.error is not None:
                raise control.error
            with books.ledger.locked():
                if books.ledger.catch_up():
                    books.ledger.save_head()

    def start(self) -> tuple[Reconciled, TakenOver]:
        """What every life begins with, and nothing more."""
        with self._books(str(uuid.uuid4()), Control()) as books:
            return books.recover()

    @contextmanager
    def _books(self, run: str, control: Control) -> Iterator[_Books]:
        with ExitStack() as stack:
            if self.stores is None:
                store, lookups = (stack.enter_context(self._store(control)) for _ in range(2))
            else:
                store, lookups = self.stores
            ledger = stack.enter_context(self._ledger())
            telemetry = Telemetry(self._hear, self.on_event)
            committer = Committer(
                ledger,
                store,
                FailedFile(self.path, run, files=self.files),
                run=run,
                reconcile=partial(reconcile, ledger, store),
                telemetry=telemetry,
                clock=self.clock,
            )
            yield _Books(ledger, store, lookups, committer, telemetry, self.files)

    def _store(self, control: Control) -> BioStore:
        return BioStore(self.database_url, table="artists", sleep=control.sleep)

    def _ledger(self) -> Ledger:
        if self.path.exists():
            return Ledger.open(self.path, files=self.files)
        if find_id(self.path) is not None:
            return Ledger.reopen(self.path, files=self.files)
        return Ledger.create(self.path, files=self.files)

    def _hear(self, event: Event) -> None:
        if event.name == "in_flight":
            note(self.notes / "reported", event.fields["artist_id"])
        elif event.name == "appended":
            note(self.notes / "told", f"{event.fields['seq']} {event.fields['hash']}")

    def _generate(self, artist: Artist, request_id: str) -> Bio:
        note(self.notes / "bill", artist.id)
        self.on_call()
        if self.call_s:
            time.sleep(self.call_s)
        if artist.id in self.refused:
            raise Unusable("the model refused", kind="refused", text="I cannot write that.")
        return bio_of(artist)


@dataclass(frozen=True)
class _Books:
    ledger: Ledger
    store: BioStore
    lookups: BioStore
    committer: Committer
    telemetry: Telemetry
    files: FileCalls

    def recover(self) -> tuple[Reconciled, TakenOver]:
        with self.ledger.locked():
            found = reconcile(self.ledger, self.store)
            taken = take_over(
                self.ledger,
                self.store,
                self.committer.commit_locked,
                self.telemetry,
                files=self.files,
            )
        return found, taken


# ---- in a process of its own -----------------------------------------------------------------


def forked(work: Callable[[], None]) -> int:
    """Does `work` in a child of its own; the child's number. It exits with 0, or with 1 after it
    has shown the error."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Waits for it. Its exit status, below zero for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
