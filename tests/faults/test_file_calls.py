"""Every file call of ledger, journal and what lies beside them fails, in every way: the right
result or a loud stop, and the next start puts everything right."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.faults.story import LIVES, Story

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.ENOLCK, errno.EMFILE)
OCCURRENCES = range(1, 6)

LEDGER = "out.jsonl"
LATER_FILES = "out.[0-9]*.jsonl"
FOLDER = "ledger"

SITES = (
    ("open", LEDGER),
    ("open", "out.jsonl.journal.*"),
    ("open", "out.jsonl.run.*"),
    ("open", "out.jsonl.failed.jsonl"),
    ("open", "out.jsonl.quarantine.*"),
    ("open", FOLDER),
    ("write", LEDGER),
    ("write", "out.jsonl.journal.*"),
    ("write", ".out.jsonl.head.*"),
    ("write", "out.jsonl.failed.jsonl"),
    ("write", "out.jsonl.quarantine.*"),
    ("fsync", LEDGER),
    ("fsync", "out.jsonl.journal.*"),
    ("fsync", ".out.jsonl.head.*"),
    ("fsync", "out.jsonl.failed.jsonl"),
    ("fsync", "out.jsonl.quarantine.*"),
    ("fsync", FOLDER),
    ("ftruncate", LEDGER),
    ("rename", ".out.jsonl.head.*"),
    ("unlink", "out.jsonl.journal.*"),
    ("unlink", "out.jsonl.run.*"),
    ("flock", LEDGER),
    ("flock", "out.jsonl.journal.*"),
    ("flock", "out.jsonl.run.*"),
)
"""Each call, and each kind of file for which it is made."""

SITES_AFTER_A_FAILED_SYNC = (
    ("open", "out.[0-9]*.jsonl.new"),
    ("open", LATER_FILES),
    ("write", "out.[0-9]*.jsonl.new"),
    ("fsync", "out.[0-9]*.jsonl.new"),
    ("flock", "out.[0-9]*.jsonl.new"),
    ("flock", LATER_FILES),
    ("rename", "out.[0-9]*.jsonl.new"),
    ("write", ".out.jsonl.fsync-failed.*"),
    ("fsync", ".out.jsonl.fsync-failed.*"),
    ("rename", ".out.jsonl.fsync-failed.*"),
    ("unlink", "out.jsonl.fsync-failed"),
)
"""What is done only where an fsync of the ledger has failed before."""


class Stage:
    """One database and one folder for story after story."""

    def __init__(self, folder: Path, url: str, conn: psycopg.Connection, stack: ExitStack) -> None:
        self._folder = folder
        self._url = url
        self._conn = conn
        self._stores = tuple(
            stack.enter_context(BioStore(url, table="artists", sleep=_never)) for _ in range(2)
        )

    def story(self) -> Story:
        folder = self._folder / "story"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        one, two = self._stores
        return Story(folder, self._url, (one, two), self._conn)


@pytest.fixture
def stage(url: str, admin: psycopg.Connection, quick_folder: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(quick_folder, url, admin, stack)


def _never(seconds: float) -> None:
    pytest.fail("the database is not away")


@pytest.mark.parametrize(("call", "on"), SITES)
def test_a_file_call_that_fails(stage: Stage, call: str, on: str) -> None:
    loud = 0
    cases = list(itertools.product(ERRORS, OCCURRENCES, (False, True)))
    for error, nth, forever in cases:
        story = stage.story()
        files = FaultyFiles(Fault(call, error, nth, forever=forever, on=on))
        loud += stopped(story, files)
        assert files.struck > 0
        story.end()
    print(f"{len(cases)} cases, {loud} stopped loudly")


def stopped(story: Story, files: FaultyFiles) -> bool:
    """Lives on until a life stops loudly, and then once more with the fault as it is."""
    for number in range(LIVES):
        if not story.life(number, files.calls):
            story.life(number, files.calls)
            return True
    return False


@pytest.mark.parametrize(("call", "on"), SITES_AFTER_A_FAILED_SYNC)
def test_a_file_call_that_fails_after_a_failed_sync_of_the_ledger(
    stage: Stage, call: str, on: str
) -> None:
    """Each life's first sync of the ledger fails, and so does one call of what follows from it."""
    cases = list(itertools.product(ERRORS, OCCURRENCES, (False, True)))
    for error, nth, forever in cases:
        story = stage.story()
        files = FaultyFiles(Fault(call, error, nth, forever=forever, on=on))
        after = 0
        for number in range(LIVES):
            if after == 2:  # it stopped at the fault, and once more with the fault as it is
                break
            unsynced = (Fault("fsync", errno.EIO, on=name) for name in (LEDGER, LATER_FILES))
            story.life(number, FaultyFiles(*unsynced, real=files.calls).calls)
            after += files.struck > 0
        assert files.struck > 0, (errno.errorcode[error], nth, forever)
        story.end()
    print(f"{len(cases)} cases")


@pytest.mark.parametrize("on", sorted({on for call, on in SITES if call == "write"}))
def test_a_write_that_is_cut_short(stage: Stage, on: str) -> None:
    """It goes on where it broke off, or the disk is full by then."""
    cases = list(itertools.product((None, *ERRORS), OCCURRENCES))
    for error, nth in cases:
        story = stage.story()
        faults = [Fault("write", nth=nth, short=7, on=on)]
        if error is not None:
            faults.append(Fault("write", error, nth + 1, on=on))
        files = FaultyFiles(*faults)
        assert stopped(story, files) == (error is not None)
        assert files.struck == len(faults)
        story.end()
    print(f"{len(cases)} cases")


@pytest.mark.parametrize(("call", "on"), SITES)
def test_killed_at_a_file_call(stage: Stage, call: str, on: str) -> None:
    """Before it, and for a write also in the middle of it."""
    cases = list(itertools.product(OCCURRENCES, (None, 7) if call == "write" else (None,)))
    for nth, short in cases:
        story = stage.story()
        files = FaultyFiles(Fault(call, nth=nth, kill=True, short=short, on=on))
        lives = (story.life_to_be_killed(number, files.calls) for number in range(LIVES))
        assert not all(lives), "nobody was killed"
        story.end()
    print(f"{len(cases)} kills")
