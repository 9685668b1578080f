"""After a loss of power at any moment, whatever the disk then holds of what was not synced: no
line of which somebody was told is lost, no reply whose journal was synced, and ledger and database
become equal at the next start."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.telemetry import Event
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.fakes.lossy_disk import Folder, Moment, Recording
from tests.fakes.memory_store import Kept, MemoryStore
from tests.faults.books import checked, empty, ledger_lines, read_books
from tests.faults.seed import chance
from tests.writer import Writer, artists

NUL_EVERY = 64
"""Bytes between the places where NUL bytes begin."""

ON_A_REAL_DATABASE = 300
"""States out of all that are also looked at with a real Postgres."""

UNSYNCED = FileCalls(fsync=lambda fd: None)
"""For the starts after the loss of power: what they read is asked here, not what they sync."""


@dataclass(frozen=True, slots=True)
class State:
    """What is found after a loss of power: the folder and the database. `told` are lines of which
    somebody was told that they are on disk, `paid` artists whose reply was synced."""

    folder: Folder
    kept: Kept
    told: dict[int, str]
    paid: frozenset[str]


class Paced:
    """A run that asks for the next bio when the one before is on disk, so that each line is a group
    of its own; or (`together`) has all of them arrive before the first is."""

    def __init__(self, folder: Path, lines: int, *, together: bool = False) -> None:
        self.recording = Recording()
        self._lines = lines
        self._together = together
        self._store = MemoryStore(on_change=self.recording.mark)
        self._settled = threading.Semaphore(1)
        notes = folder / "notes"
        notes.mkdir()
        self._writer = Writer(
            path=folder / "out.jsonl",
            database_url="",
            notes=notes,
            workers=1,
            segment_bytes=4_000,
            refused=frozenset(("a1",)),
            stores=(self._store, self._store),
            on_call=self._wait,
            on_event=self._hear,
        )

    def live(self, files: FileCalls = REAL) -> None:
        """Until there are so many lines, or a call fails."""
        self._settled = threading.Semaphore(1)
        files = self.recording.over(files)
        replace(self._writer, files=files).live(artists(0, self._lines + 1))
        assert len(self._store.kept.rows) == self._lines

    def _wait(self) -> None:
        if not self._together:
            assert self._settled.acquire(timeout=30)

    def _hear(self, event: Event) -> None:
        if event.name == "appended":
            self.recording.mark((event.fields["seq"], event.fields["hash"]))
        if event.name in ("appended", "failed"):
            self._settled.release()


def states(recording: Recording, cut_every: Callable[[str], int]) -> list[State]:
    """Every state once, with all that was ever told or paid for when it may be found."""
    seen: dict[object, State] = {}
    for moment in recording.moments():
        kept = next((mark for mark in reversed(moment.marks) if isinstance(mark, Kept)), Kept())
        told: dict[int, str] = dict(mark for mark in moment.marks if isinstance(mark, tuple))
        paid = frozenset(paid_in(moment))
        for folder in moment.crash_states(cut_every, NUL_EVERY):
            key = (frozenset(folder.items()), id(kept))
            before = seen.get(key)
            known = paid if before is None else paid | before.paid
            # Of the same disk more is told at a later moment, never less.
            seen[key] = State(folder, kept, told, known)
    return list(seen.values())


def each_byte_of_a_line(name: str) -> int:
    return 1 if name == "out.jsonl" else 16


def some_bytes(name: str) -> int:
    return 16


def paid_in(moment: Moment) -> Iterator[str]:
    """Artists whose reply is in a journal that was synced."""
    for name in moment.names():
        if name.startswith("out.jsonl.journal."):
            for data in moment.synced(name).split(b"\n")[:-1]:
                entry = orjson.loads(data.partition(b" ")[2])
                if entry["is"] == "reply":
                    yield entry["artist"]["id"]


def one_by_one(folder: Path) -> Recording:
    run = Paced(folder, 20)
    run.live()
    return run.recording


def in_one_group(folder: Path) -> Recording:
    run = Paced(folder, 6, together=True)
    run.live()
    return run.recording


def with_a_failed_sync(folder: Path) -> Recording:
    """Nothing of what it was to sync is ever on disk; the next start goes on in a new file."""
    run = Paced(folder, 6)
    fault = Fault("fsync", errno.EIO, 4, on="out.jsonl")
    with pytest.raises(LedgerFileError, match="could not be synced"):
        run.live(FaultyFiles(fault).calls)
    run.live()
    return run.recording


@pytest.mark.parametrize(
    ("run", "cut_every"),
    [
        (one_by_one, each_byte_of_a_line),
        (in_one_group, each_byte_of_a_line),
        (with_a_failed_sync, some_bytes),
    ],
)
def test_no_loss_of_power_loses_what_was_told_or_paid_for(
    run: Callable[[Path], Recording],
    cut_every: Callable[[str], int],
    quick_folder: Path,
    admin: psycopg.Connection,
    url: str,
) -> None:
    found = states(run(quick_folder), cut_every)
    folder = quick_folder / "after"
    for state in found:
        store = MemoryStore(state.kept)
        recover(folder, state, (store, store), UNSYNCED)
        lines = ledger_lines(folder / "out.jsonl")
        assert [row.line.encode() for row in store.kept.rows] == lines
        check(state, lines)
    sample = chance(f"power loss {run.__name__}").sample(found, ON_A_REAL_DATABASE)
    with BioStore(url, table="artists", sleep=_never) as real:
        for state in sample:
            fill(admin, state.kept)
            recover(folder, state, (real, real), REAL)
            check(state, read_books(folder / "out.jsonl", admin).lines)
    print(f"{len(found)} states, {len(sample)} of them with a real Postgres as well")


def recover(
    folder: Path, state: State, stores: tuple[BioStore, BioStore], files: FileCalls
) -> None:
    """The next start, in a folder that holds what the disk does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in state.folder.items():
        (folder / name).write_bytes(content)
    path = folder / "out.jsonl"
    Writer(path=path, database_url="", notes=folder, files=files, stores=stores).start()


def check(state: State, lines: list[bytes]) -> None:
    read = checked(lines)
    assert {seq: read[seq - 1]["hash"] for seq in state.told} == state.told
    assert state.paid <= {line["artist_id"] for line in read}


def fill(conn: psycopg.Connection, kept: Kept) -> None:
    """The database, with what the one in memory holds."""
    empty(conn)
    if kept.head is None:
        return
    ledger, seq, digest = kept.head.ledger, kept.head.seq, kept.head.hash
    with conn.transaction():
        conn.execute(
            "insert into artist_bio_gen.heads (ledger, seq, hash, path, host, table_name)"
            " values (%s, %s, %s, '', '', 'public.artists')",
            [ledger, seq, digest],
        )
        for row in kept.rows:
            conn.execute(
                "insert into artist_bio_gen.commits (ledger, seq, run, artist_id, generation,"
                " input_sha256, prompt_sha256, hash, line)"
                " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    *(ledger, row.seq, row.run, row.artist_id, row.generation),
                    *(row.input_sha256, row.prompt_sha256, row.hash, row.line),
                ],
            )
            conn.execute(
                "insert into artists values (%s, %s, %s)", [row.artist_id, row.artist_name, row.bio]
            )
        for run, failed in kept.failures.values():
            conn.execute(
                "insert into artist_bio_gen.failures (ledger, artist_id, artist_name, run, kind,"
                " reason, attempts, transient) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    *(ledger, failed.artist.id, failed.artist.name, run, failed.kind),
                    *(failed.reason, failed.attempts, failed.transient),
                ],
            )


def _never(seconds: float) -> None:
    pytest.fail("the database is not away")
