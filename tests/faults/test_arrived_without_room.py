"""A disk that is full for ever while calls are in flight: replies that arrive then stand in memory
alone, and are committed to the database; the next start buys none of them again."""

from __future__ import annotations

import errno
import json
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerFileError, Unusable
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.pool import Processor
from artist_bio_gen.resume import reconcile
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Bio
from tests.builders import Heard, Simple, artist, bio, lines_of_ledger
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.faults.desk import a_start, no_sleep

WORKERS = 12
REFUSED = 5
IN_TIME = 30.0


class OneByOne:
    """A model whose calls are all begun before the first one is answered, on a disk that is full
    from then on."""

    def __init__(self, files: FaultyFiles, faults: Sequence[Fault]) -> None:
        self._all_begun = threading.Barrier(WORKERS, lambda: files.add(*faults))

    def __call__(self, artist: Artist, request_id: str) -> Bio:
        self._all_begun.wait(IN_TIME)
        if artist.row == REFUSED:
            raise Unusable("I cannot", kind="refused", text="I cannot.")
        return bio(f"Bio of artist {artist.id}.")


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("write", errno.ENOSPC, forever=True)],
        [Fault("write", errno.ENOSPC, forever=True, short=300)],
        [Fault("fsync", errno.EIO, forever=True)],
        [Fault("write", errno.ENOSPC, nth=2, forever=True)],
        [Fault("write", errno.ENOSPC, forever=True, on="out.jsonl")],
        [Fault("write", errno.ENOSPC, forever=True, on="*.journal.*")],
    ],
    ids=["no room", "a little room", "no fsync", "later", "ledger alone", "journal alone"],
)
def test_what_arrives_on_a_full_disk_is_in_the_database(
    url: str, tmp_path: Path, admin: psycopg.Connection, faults: Sequence[Fault]
) -> None:
    path, run = tmp_path / "out.jsonl", str(uuid.uuid4())
    files, heard, control = FaultyFiles(), Heard(), Control()
    telemetry = Telemetry(heard)
    store = BioStore(url, table="artists", max_wait=20.0, sleep=no_sleep)
    with Ledger.create(path, files=files.calls) as ledger:
        with ledger.locked():
            reconcile(ledger, store)
        with Journal(path, run, files=files.calls) as journal:
            processor = Processor(
                Caller(
                    Simple(OneByOne(files, faults)),
                    journal,
                    run=run,
                    policy=RetryPolicy(max_attempts=1),
                    control=control,
                    telemetry=telemetry,
                ),
                journal,
                Committer(
                    ledger,
                    store,
                    FailedFile(path, run, files=files.calls),
                    run=run,
                    reconcile=partial(reconcile, ledger, store),
                    telemetry=telemetry,
                ),
                ledger_id=ledger.id,
                run=run,
                workers=WORKERS,
                under_way=set(),
                control=control,
                telemetry=telemetry,
            )
            assert processor.run(map(artist, range(1, WORKERS + 1)), grace=IN_TIME)
    store.close()
    assert files.struck
    assert isinstance(control.error, LedgerFileError)
    bought = {str(number) for number in range(1, WORKERS + 1)} - {str(REFUSED)}
    there = admin.execute("select id from artists where bio <> ''").fetchall()
    assert {row[0] for row in there} == bought
    assert {each["artist_id"] for each in heard.fields("calling")} == bought | {str(REFUSED)}
    with a_start(path, url, str(uuid.uuid4())) as desk:
        assert (desk.taken.committed, desk.taken.in_flight, desk.taken.damaged) == (0, 0, 0)
        known = desk.store.known(desk.ledger.id, [str(n) for n in range(1, WORKERS + 1)])
        assert known[str(REFUSED)].failed_run == run
        assert {each for each, what in known.items() if what.generation == 1} == bought
    assert {json.loads(line)["artist_id"] for line in lines_of_ledger(path)} == bought
