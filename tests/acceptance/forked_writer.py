"""A writer that is forked and killed, thousands of times: the program's own parts around a model
that costs nothing and notes each call in a file, as an API would on its bill.

    python -m tests.acceptance.forked_writer FOLDER DATABASE_URL KILLS ROWS SEED

prints one JSON object with how the lives ended. Three kills of four are timed from the life's
first call, so that they hit the writing; the fourth from the fork, so that it hits the start and
the recovery from the kill before.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.pool import Processor
from artist_bio_gen.resume import Rules, pending, reconcile, take_over
from artist_bio_gen.telemetry import Event, Telemetry
from artist_bio_gen.values import Artist, Bio

WORKERS = 4
CALL_S = 0.002
LONGEST_START_S = 0.1
LONGEST_WORK_S = 0.03


def note(path: Path, word: str) -> None:
    """Appends a line in one write, which a kill cannot tear."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def write(folder: Path, database_url: str, rows: int, at_work: int) -> None:
    """One life of the writer: recovers, then works until it is done or killed. A byte in
    `at_work` tells that the first call is being made."""
    path = folder / "out.jsonl"
    run = str(uuid.uuid4())
    control = Control()

    def report(event: Event) -> None:
        if event.name == "in_flight":
            note(folder / "reported", event.fields["artist_id"])

    def generate(artist: Artist, request_id: str) -> Bio:
        note(folder / "bill", artist.id)
        os.write(at_work, b".")
        time.sleep(CALL_S)
        request = {"prompt": "test", "version": None, "variables": {}, "model": "m"}
        return Bio(f"The bio of {artist.name}.", request, prompt_sha256="0" * 64)

    telemetry = Telemetry(report)
    with (
        BioStore(database_url, table="artists", sleep=control.sleep) as store,
        BioStore(database_url, table="artists", sleep=control.sleep) as lookups,
        Ledger.open(path) if path.exists() else Ledger.create(path) as ledger,
    ):
        recover = partial(reconcile, ledger, store)
        committer = Committer(
            ledger,
            store,
            FailedFile(path, run),
            run=run,
            reconcile=recover,
            telemetry=telemetry,
        )
        with ledger.locked():
            recover()
            take_over(ledger, store, committer.commit_locked, telemetry)
        with Journal(path, run, segment_bytes=20_000) as journal:
            under_way: set[str] = set()
            processor = Processor(
                Caller(
                    generate,
                    journal,
                    run=run,
                    policy=RetryPolicy(),
                    control=control,
                    telemetry=telemetry,
                ),
                journal,
                committer,
                ledger_id=ledger.id,
                run=run,
                workers=WORKERS,
                under_way=under_way,
                control=control,
                telemetry=telemetry,
            )
            artists = (Artist(n, f"a{n}", f"Artist {n}", {"born": "1900"}) for n in range(rows))
            left = pending(
                artists,
                partial(lookups.known, ledger.id),
                Rules(run=run, prompt_sha256="0" * 64),
                table="artists",
                under_way=under_way,
            )
            processor.run(left, grace=1)
        if control.error is not None:
            raise control.error


@dataclass(frozen=True)
class Kill:
    while_writing: bool
    after_s: float


def live(folder: Path, database_url: str, rows: int, kill: Kill | None) -> int:
    """Forks a writer and kills it (None: lets it finish). Its exit status."""
    working, at_work = os.pipe()
    os.set_blocking(at_work, False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(working)
            write(folder, database_url, rows, at_work)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(at_work)
    if kill is not None:
        if kill.while_writing:
            select.select([working], [], [])  # its first call, or its end when nothing is left
        time.sleep(kill.after_s)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(working)
    return status


def kills_of(count: int, seed: int) -> Iterator[Kill]:
    moments = random.Random(seed)
    for number in range(count):
        while_writing = number % 4 != 3
        longest = LONGEST_WORK_S if while_writing else LONGEST_START_S
        yield Kill(while_writing, moments.uniform(0, longest))


def main() -> None:
    folder, database_url = Path(sys.argv[1]), sys.argv[2]
    kills, rows, seed = map(int, sys.argv[3:])
    exits = Counter(live(folder, database_url, rows, kill) for kill in kills_of(kills, seed))
    last = live(folder, database_url, rows, None)
    print(json.dumps({"exits": dict(exits), "last": last}))


if __name__ == "__main__":
    main()
