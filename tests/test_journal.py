"""What was asked and has arrived survives the process that asked."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, open_locked
from artist_bio_gen.ledger.journal import Entry, Intent, Journal, Reply, orphans
from artist_bio_gen.values import Failed, Rejected, Usage
from tests.builders import RUN, artist, bio, failed, lines_of
from tests.fakes.faulty_files import Fault, FaultyFiles

DISK_ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def files_of(ledger: Path) -> list[str]:
    return sorted(path.name for path in ledger.parent.glob("out.jsonl.journal.*"))


def entries_of(ledger: Path) -> list[Intent | Reply | Failed]:
    return [entry for orphan in orphans(ledger) for entry in orphan.entries()]


def buy(journal: Journal, number: int, text: str = "A bio.") -> None:
    journal.write(Entry.intent(artist(number), 1, f"call-{number}"))
    journal.write(Entry.reply(artist(number), bio(text)))


def buy_and_sync(journal: Journal, number: int) -> None:
    buy(journal, number)
    journal.sync()


def intent(number: int, attempt: int = 1, request_id: str | None = None) -> Intent:
    return Intent(str(number), f"Artist {number}", attempt, request_id or f"call-{number}")


# ---- what is written comes back ---------------------------------------------------------------

WRITER = """
import os, signal, sys
from pathlib import Path
from artist_bio_gen.ledger.journal import Entry, Journal
from artist_bio_gen.values import Bio, Failed
from tests.builders import RUN, artist, bio, failed

steps = [
    lambda journal: journal.write(Entry.intent(artist(1), 1, "call-1")),
    lambda journal: journal.write(Entry.reply(artist(1), bio("one"))),
    lambda journal: journal.write(Entry.intent(artist(2), 1, "call-2")),
    lambda journal: journal.write(Entry.answered(artist(2), 1)),
    lambda journal: journal.write(Entry.intent(artist(2), 2, "call-2b")),
    lambda journal: journal.write(Entry.failure(failed(3))),
    lambda journal: journal.sync(),
    lambda journal: journal.write(Entry.reply(artist(2), bio("two", usage=None))),
    lambda journal: journal.settle(["1"]),
]
with Journal(Path(sys.argv[1]), RUN) as journal:
    for step in steps[: int(sys.argv[2])]:
        step(journal)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        (0, []),
        (1, [intent(1)]),
        (2, [Reply(RUN, artist(1), bio("one"))]),
        (3, [Reply(RUN, artist(1), bio("one")), intent(2)]),
        (4, [Reply(RUN, artist(1), bio("one"))]),
        (6, [Reply(RUN, artist(1), bio("one")), failed(3), intent(2, 2, "call-2b")]),
        (
            9,
            [
                Reply(RUN, artist(1), bio("one")),
                failed(3),
                Reply(RUN, artist(2), bio("two", usage=None)),
            ],
        ),
    ],
)
def test_a_killed_process_leaves_what_it_wrote(
    ledger: Path, steps: int, left: list[Intent | Reply | Failed]
) -> None:
    done = subprocess.run([sys.executable, "-c", WRITER, ledger, str(steps)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert files_of(ledger) == [f"out.jsonl.journal.{RUN}.000001"]
    assert entries_of(ledger) == left


def test_any_text_comes_back(ledger: Path) -> None:
    odd = artist(7, id="ü\u2028", name='"\\', data={"seq": [1, None, {"a": 2.5}]}, generation=3)
    text = "one\ntwo\r\n\u2028\u2029\x85 🎷"
    written = bio(text, usage=Usage(1, None, 3, None, 4), attempts=4, cleaned=True)
    with Journal(ledger, RUN) as journal:
        journal.write(Entry.intent(odd, 4, "call"))
        journal.write(Entry.reply(odd, written))
    assert entries_of(ledger) == [Reply(RUN, odd, written)]


def test_a_failure_comes_back_with_what_was_paid_for(ledger: Path) -> None:
    paid = Failed(artist(1), "refused", "no", 2, False, "text", "resp_1", Usage(1, 0, 2, 0, 3))
    with Journal(ledger, RUN) as journal:
        journal.write(Entry.failure(paid))
        journal.write(Entry.failure(failed(2, transient=True)))
    assert entries_of(ledger) == [paid, failed(2, transient=True)]


def test_each_run_comes_back_by_itself(ledger: Path) -> None:
    runs = [str(uuid.uuid4()) for _ in range(3)]
    for number, run in enumerate(runs):
        with Journal(ledger, run) as journal:
            buy(journal, number)
    found = {orphan.run: list(orphan.entries()) for orphan in orphans(ledger)}
    assert found == {run: [Reply(run, artist(n), bio("A bio."))] for n, run in enumerate(runs)}


def test_an_orphan_is_there_until_it_is_removed(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        buy(journal, 1)
    assert entries_of(ledger) == entries_of(ledger) != []
    for orphan in orphans(ledger):
        orphan.remove()
    assert files_of(ledger) == []
    assert list(orphans(ledger)) == []


@pytest.mark.parametrize("error", DISK_ERRORS)
def test_an_orphan_that_cannot_be_removed_is_told_and_stays(ledger: Path, error: int) -> None:
    with Journal(ledger, RUN) as journal:
        buy(journal, 1)
    files = FaultyFiles(Fault("unlink", error))
    (orphan,) = orphans(ledger, files=files.calls)
    with pytest.raises(LedgerFileError, match=f"cannot be removed .{os.strerror(error)}"):
        orphan.remove()
    assert files_of(ledger) == [f"out.jsonl.journal.{RUN}.000001"]


def test_files_of_others_are_left_alone(ledger: Path) -> None:
    for name in (
        f"out.jsonl.journal.{RUN}",
        f"out.jsonl.journal.{RUN}.000001.bak",
        f"other.jsonl.journal.{RUN}.000001",
        f"outXjsonl.journal.{RUN}.000001",
        "out.jsonl.journal.mine.1",
    ):
        ledger.with_name(name).write_bytes(b"x")
    assert list(orphans(ledger)) == []


# ---- settled, and bounded ---------------------------------------------------------------------


def test_a_run_that_settled_everything_leaves_no_file(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        for number in range(5):
            buy(journal, number)
        journal.sync()
        journal.settle([str(number) for number in range(5)])
    assert files_of(ledger) == []


def test_an_artist_left_without_a_call_is_settled_too(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        journal.settle(["never heard of"])
    assert files_of(ledger) == []


def test_settled_files_go_while_the_run_goes_on(ledger: Path) -> None:
    most = 0
    with Journal(ledger, RUN, segment_bytes=2_000) as journal:
        for number in range(300):
            buy(journal, number)
            journal.sync()
            journal.settle([str(number - 3)])  # a few are always under way
            most = max(most, len(files_of(ledger)))
        kept = sum((ledger.parent / name).stat().st_size for name in files_of(ledger))
    assert most <= 4
    assert kept < 10_000
    assert [entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)][-3:] == [
        "297",
        "298",
        "299",
    ]


def test_one_slow_artist_keeps_its_own_files_only(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1_000) as journal:
        journal.write(Entry.intent(artist(0), 1, "call-0"))
        for number in range(1, 100):
            buy(journal, number)
            journal.sync()
            journal.settle([str(number)])
        journal.write(Entry.reply(artist(0), bio("slow")))
        assert len(files_of(ledger)) <= 3
        journal.sync()
    assert "0" in [entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)]


def test_what_is_not_settled_stays_while_the_run_goes_on(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1_000) as journal:
        buy(journal, 0)
        for number in range(1, 20):
            buy(journal, number)
            journal.sync()
            journal.settle([str(number)])
    assert "0" in [entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)]


def test_nothing_goes_before_it_was_synced(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        for number in range(3):
            buy(journal, number)
        journal.settle(["0", "1"])
        assert len(files_of(ledger)) == 6
        journal.sync()
        assert len(files_of(ledger)) == 2


def test_what_comes_and_is_settled_during_a_sync_is_synced_by_the_next(ledger: Path) -> None:
    synced: list[int] = []

    def while_syncing(fd: int) -> None:
        synced.append(fd)
        if bought and len(synced) == 1:
            buy(journal, 2)
            buy(journal, 3)
            journal.settle(["1", "2"])
        os.fsync(fd)

    bought = False
    journal = Journal(ledger, RUN, files=replace(REAL, fsync=while_syncing), segment_bytes=1)
    with journal:
        buy(journal, 1)
        bought = True
        synced.clear()  # those of the folder
        journal.sync()
        journal.sync()
    assert [entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)] == ["3"]


def test_a_sync_covers_all_files_that_were_written_since_the_last(ledger: Path) -> None:
    files = FaultyFiles()
    with Journal(ledger, RUN, files=files.calls, segment_bytes=1) as journal:
        for number in range(3):
            buy(journal, number)
        opened = [args for name, args in files.made if name == "open"]
        before = files.names().count("fsync")
        journal.sync()
        assert files.names().count("fsync") - before == 6
        journal.sync()
        assert files.names().count("fsync") - before == 6
        journal.write(Entry.intent(artist(9), 1, "call"))
        journal.sync()
        assert files.names().count("fsync") - before == 8  # the file and its folder
    assert all(mode == 0o600 for path, _, mode in opened if "journal" in path)


def test_many_threads_write_whole_entries(ledger: Path) -> None:
    starting = threading.Barrier(9)
    with Journal(ledger, RUN, segment_bytes=20_000) as journal:
        stop = threading.Event()

        def write(first: int) -> None:
            starting.wait()
            for number in range(first, first + 50):
                buy(journal, number, "x" * 300)

        def sync() -> None:
            starting.wait()
            while not stop.is_set():
                journal.sync()

        writers = [threading.Thread(target=write, args=(n * 50,)) for n in range(8)]
        syncer = threading.Thread(target=sync)
        for thread in (*writers, syncer):
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        syncer.join()
    found = [int(entry.artist.id) for entry in entries_of(ledger) if isinstance(entry, Reply)]
    assert sorted(found) == list(range(400))


# ---- living owners, damaged files -------------------------------------------------------------


def test_the_journal_of_a_living_process_is_passed_over(ledger: Path) -> None:
    other = str(uuid.uuid4())
    with Journal(ledger, other) as journal:
        buy(journal, 2)
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        buy(journal, 1)
        assert [orphan.run for orphan in orphans(ledger)] == [other]
    assert sorted(orphan.run for orphan in orphans(ledger)) == sorted([RUN, other])


def test_an_orphan_is_held_by_one_process_at_a_time(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        buy(journal, 1)
    first = orphans(ledger)
    assert next(first).run == RUN
    assert list(orphans(ledger)) == []
    first.close()
    assert [orphan.run for orphan in orphans(ledger)] == [RUN]


def test_an_owner_that_ends_while_its_journal_is_looked_at(ledger: Path) -> None:
    """It removes its file after we have opened and before we have locked it."""
    journal = Journal(ledger, RUN)
    files = FaultyFiles()

    def end_first(fd: int, operation: int) -> None:
        journal.close()
        files.calls.flock(fd, operation)

    assert list(orphans(ledger, files=replace(files.calls, flock=end_first))) == []


def test_an_owner_that_is_giving_up_its_files_one_by_one_still_lives(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        buy(journal, 1)
    first, second = (ledger.parent / name for name in files_of(ledger))
    held = open_locked(REAL, second, os.O_RDWR)
    assert held is not None
    assert list(orphans(ledger)) == []
    os.close(held)
    assert [orphan.paths for orphan in orphans(ledger)] == [[first, second]]


def test_a_file_that_goes_while_the_folder_is_read(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        buy(journal, 1)
    files = FaultyFiles(Fault("open", errno.ENOENT))
    (orphan,) = orphans(ledger, files=files.calls)
    assert len(orphan.paths) == 1
    files = FaultyFiles(Fault("open", errno.ENOENT, forever=True))
    assert list(orphans(ledger, files=files.calls)) == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("call", ["open", "flock"])
def test_a_journal_that_cannot_be_looked_at_is_told(ledger: Path, call: str, error: int) -> None:
    with Journal(ledger, RUN) as journal:
        buy(journal, 1)
    with pytest.raises(LedgerFileError, match=f"{RUN}.000001: .*{os.strerror(error)}"):
        list(orphans(ledger, files=FaultyFiles(Fault(call, error)).calls))


def flip(data: bytes) -> bytes:
    return data[:30] + bytes([data[30] ^ 1]) + data[31:]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda data: b"\0" * len(data),
        lambda data: b"",
        lambda data: b"\n",
        lambda data: b"00000000 \n",
        lambda data: b"00000000\n",
        lambda data: b"not a line of a journal\n",
        lambda data: data[9:],
        lambda data: b"x" * 100_000 + b"\n",
    ],
)
def test_damaged_entries_are_passed_over(ledger: Path, damage: Callable[[bytes], bytes]) -> None:
    with Journal(ledger, RUN) as journal:
        for number in range(3):
            journal.write(Entry.reply(artist(number), bio()))
    (path,) = (ledger.parent / name for name in files_of(ledger))
    first, second, third = (line + b"\n" for line in lines_of(path))
    path.write_bytes(first + damage(second) + third)
    found = [entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)]
    assert found in (["0", "2"], ["0"])
    assert found == ["0", "2"] or b"\n" not in damage(second)


def test_an_entry_torn_at_any_byte_is_passed_over(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        journal.write(Entry.reply(artist(1), bio("whole")))
        journal.write(Entry.reply(artist(2), bio("torn")))
    (path,) = (ledger.parent / name for name in files_of(ledger))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert entries_of(ledger) == [Reply(RUN, artist(1), bio("whole"))], end


def three_replies(ledger: Path) -> tuple[Path, list[bytes]]:
    """A dead run's journal of three replies, each behind its intent, and its lines."""
    with Journal(ledger, RUN) as journal:
        for number in range(3):
            buy(journal, number)
    (path,) = (ledger.parent / name for name in files_of(ledger))
    return path, [line + b"\n" for line in lines_of(path)]


def damage_told(ledger: Path) -> list[int]:
    (orphan,) = orphans(ledger)
    list(orphan.entries())
    return list(orphan.damaged.values())


@pytest.mark.parametrize(
    "damage", [flip, lambda data: b"\0" * (len(data) - 1) + b"\n", lambda data: data[9:]]
)
def test_a_damaged_journal_is_told_and_kept(ledger: Path, damage: Callable[[bytes], bytes]) -> None:
    path, lines = three_replies(ledger)
    lines[1], lines[5] = damage(lines[1]), damage(lines[5])
    path.write_bytes(b"".join(lines))
    (orphan,) = orphans(ledger)
    found = list(orphan.entries())
    assert [each.artist.id for each in found if isinstance(each, Reply)] == ["1"]
    assert [each for each in found if isinstance(each, Intent)] == [intent(0), intent(2)]
    assert orphan.damaged == {path: 2}
    kept = orphan.remove(clock=lambda: 0)
    name = f"out.jsonl.quarantine.19700101T000000Z.journal.{RUN}.000001"
    assert kept == [ledger.with_name(name)]
    assert kept[0].read_bytes() == b"".join(lines)
    assert not path.exists()
    orphan.close()
    assert list(orphans(ledger)) == []


def test_of_several_files_the_damaged_one_alone_is_kept(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        buy(journal, 1)
    first, second = (ledger.parent / name for name in files_of(ledger))
    first.write_bytes(flip(first.read_bytes()))
    (orphan,) = orphans(ledger)
    list(orphan.entries())
    assert len(orphan.remove()) == 1
    assert not first.exists()
    assert not second.exists()


def test_a_file_that_is_not_the_last_one_cannot_be_empty(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        buy(journal, 1)
    first, second = (ledger.parent / name for name in files_of(ledger))
    second.write_bytes(b"")  # as one is for a moment after it was begun
    assert damage_told(ledger) == []
    first.write_bytes(b"")
    assert damage_told(ledger) == [1]


def test_random_bytes_are_told(ledger: Path) -> None:
    path, _ = three_replies(ledger)
    for data in (random.Random(7).randbytes(2_000), b"\xff" * 100, b"no entry at all"):
        path.write_bytes(data)
        assert entries_of(ledger) == []
        assert sum(damage_told(ledger)) >= 1, data


def test_other_line_ends_do_no_harm(ledger: Path) -> None:
    path, lines = three_replies(ledger)
    whole = entries_of(ledger)
    path.write_bytes(b"".join(lines).replace(b"\n", b"\r\n"))
    assert entries_of(ledger) == whole
    assert damage_told(ledger) == []


def test_what_a_crash_leaves_is_no_damage(ledger: Path) -> None:
    path, lines = three_replies(ledger)
    whole = b"".join(lines)
    for end in range(len(whole) - len(lines[-1]), len(whole)):
        for tail in (b"", b"\0" * 50):
            path.write_bytes(whole[:end] + tail)
            assert damage_told(ledger) == [], end


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_damaged_journal_that_cannot_be_put_aside_is_told(ledger: Path, call: str) -> None:
    path, lines = three_replies(ledger)
    path.write_bytes(flip(b"".join(lines)))
    files = FaultyFiles()
    (orphan,) = orphans(ledger, files=files.calls)
    list(orphan.entries())
    files.add(Fault(call, errno.EROFS))
    with pytest.raises(LedgerFileError, match="Read-only"):
        orphan.remove()
    assert len(list(ledger.parent.glob("*.journal.*"))) == 1


def test_a_journal_that_cannot_be_read_is_told(ledger: Path) -> None:
    path, _ = three_replies(ledger)
    (orphan,) = orphans(ledger)
    path.unlink()
    path.mkdir()
    with pytest.raises(LedgerFileError, match=f"{RUN}.000001: cannot be read"):
        list(orphan.entries())


def test_a_journal_that_somebody_has_removed_is_missed_by_nobody(ledger: Path) -> None:
    with Journal(ledger, RUN, segment_bytes=1) as journal:
        for number in (1, 2):
            buy(journal, number)
        for name in files_of(ledger):
            (ledger.parent / name).unlink()
        journal.settle(["1"])
        journal.sync()
        journal.settle(["2"])
    assert files_of(ledger) == []


# ---- failing file calls -----------------------------------------------------------------------


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("fault", [Fault("write"), Fault("write", short=10), Fault("fsync")])
def test_an_error_breaks_the_journal_for_good(ledger: Path, fault: Fault, error: int) -> None:
    files = FaultyFiles()
    with Journal(ledger, RUN, files=files.calls) as journal:
        buy(journal, 1)
        journal.sync()
        files.add(Fault(fault.call, error, short=fault.short))
        with pytest.raises(LedgerFileError, match=os.strerror(error)):
            buy_and_sync(journal, 2)
        syncs = files.names().count("fsync")
        for attempt in (
            lambda: journal.write(Entry.intent(artist(3), 1, "call")),
            lambda: journal.write(Entry.reply(artist(3), bio())),
            lambda: journal.write(Entry.failure(failed(3))),
            lambda: journal.write(Entry.answered(artist(3), 1)),
            journal.sync,
        ):
            with pytest.raises(LedgerFileError, match=os.strerror(error)):
                attempt()
        assert files.names().count("fsync") == syncs
    assert {entry.artist.id for entry in entries_of(ledger) if isinstance(entry, Reply)} >= {"1"}


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    "fault", [Fault("open"), Fault("flock"), Fault("open", nth=2), Fault("fsync")]
)
def test_a_journal_that_cannot_be_begun_is_told(ledger: Path, fault: Fault, error: int) -> None:
    files = FaultyFiles(Fault(fault.call, error, fault.nth))
    with pytest.raises(LedgerFileError, match=os.strerror(error)):
        Journal(ledger, RUN, files=files.calls)


@pytest.mark.parametrize(
    "fault", [Fault("open"), Fault("flock"), Fault("open", nth=2), Fault("fsync")]
)
def test_a_next_file_that_cannot_be_begun_breaks_the_journal(ledger: Path, fault: Fault) -> None:
    files = FaultyFiles()
    with Journal(ledger, RUN, files=files.calls, segment_bytes=1) as journal:
        journal.write(Entry.intent(artist(1), 1, "call-1"))
        files.add(Fault(fault.call, errno.ENOSPC, fault.nth))
        for _ in range(2):
            with pytest.raises(LedgerFileError, match="No space left"):
                journal.write(Entry.reply(artist(1), bio()))
    assert entries_of(ledger) == [intent(1)]


def test_a_settled_file_that_cannot_be_removed_is_told(ledger: Path) -> None:
    files = FaultyFiles(Fault("unlink", errno.EROFS, forever=True))
    with Journal(ledger, RUN, files=files.calls, segment_bytes=1) as journal:
        buy(journal, 1)
        journal.settle(["1"])
        with pytest.raises(LedgerFileError, match=r"000001: .* removed \(Read-only"):
            journal.sync()
        journal.settle([])
        files.add()


def test_a_reply_that_comes_after_the_end_finds_the_journal_closed(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        journal.write(Entry.intent(artist(1), 1, "call-1"))
    for attempt in (
        lambda: journal.write(Entry.reply(artist(1), bio())),
        lambda: journal.write(Entry.intent(artist(2), 1, "call")),
        journal.sync,
    ):
        with pytest.raises(LedgerFileError, match="is closed"):
            attempt()
    journal.settle(["1"])
    journal.close()
    assert entries_of(ledger) == [intent(1)]


class HeldUp:
    """The first write waits for `go_on`; the others do not."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.calls = replace(REAL, write=self._write)

    def _write(self, fd: int, data: bytes) -> int:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(60)
        return os.write(fd, data)


def test_a_write_that_is_held_up_holds_up_neither_sync_nor_what_is_settled(ledger: Path) -> None:
    files = HeldUp()
    with Journal(ledger, RUN, files=files.calls) as journal:
        first = threading.Thread(target=buy, args=(journal, 1))
        first.start()
        assert files.begun.wait(60)
        journal.sync()
        journal.settle(["2"])
        files.go_on.set()
        first.join()
    assert entries_of(ledger) == [Reply(RUN, artist(1), bio("A bio."))]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), MemoryError(), None])
def test_nothing_comes_behind_a_write_that_ended_half_way(
    ledger: Path, error: Exception | None
) -> None:
    """It would stand on the torn entry's line, and be lost with it though it was acknowledged."""
    kept: list[str] = []

    def hurry() -> None:
        with suppress(LedgerFileError):
            journal.write(Entry.intent(artist(2), 1, "call-2"))
            kept.append("2")

    hurrying = threading.Thread(target=hurry)

    def write(fd: int, data: bytes) -> int:
        if hurrying.ident is not None:
            return os.write(fd, data)
        written = os.write(fd, data[:40])
        hurrying.start()
        hurrying.join(0.5)  # who does not wait has written by then; who waits is not waited for
        if error is not None:
            raise error
        return written

    with Journal(ledger, RUN, files=replace(REAL, write=write)) as journal:
        with suppress(LedgerFileError, MemoryError):
            journal.write(Entry.intent(artist(1), 1, "call-1"))
            kept.append("1")
        hurrying.join()
    assert sorted(kept) == ([] if error is not None else ["1", "2"])
    found = [entry.artist_id for entry in entries_of(ledger) if isinstance(entry, Intent)]
    assert found == sorted(kept)


def test_a_write_that_outlasts_the_journal_goes_into_no_other_file(ledger: Path) -> None:
    files = HeldUp()
    journal = Journal(ledger, RUN, files=files.calls)
    last = threading.Thread(target=journal.write, args=(Entry.intent(artist(1), 1, "call-1"),))
    last.start()
    assert files.begun.wait(60)
    journal.close()
    other = ledger.with_name("other")
    with other.open("wb") as next_one:  # takes the first descriptor that is free
        files.go_on.set()
        last.join()
        assert os.fstat(next_one.fileno()).st_size == 0
    assert entries_of(ledger) == [intent(1)]
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if ".journal." in target_of(fd)]


def target_of(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except FileNotFoundError:  # that of the listing itself
        return ""


def test_a_journal_is_never_written_over_another(ledger: Path) -> None:
    with Journal(ledger, RUN) as journal:
        buy(journal, 1)
    with pytest.raises(LedgerFileError, match="File exists"):
        Journal(ledger, RUN)
    assert entries_of(ledger) == [Reply(RUN, artist(1), bio("A bio."))]


# ---- failures beside the ledger ---------------------------------------------------------------


def test_no_failure_no_file(ledger: Path) -> None:
    FailedFile(ledger, RUN).append([])
    assert list(ledger.parent.iterdir()) == []


def test_failures_and_rejected_rows_are_kept_with_their_reasons(ledger: Path) -> None:
    file = FailedFile(ledger, RUN)
    paid = Failed(artist(2), "refused", "no", 2, False, "text", "resp_1", Usage(1, 0, 2, 0, 3))
    file.append([Rejected(5, "no id", ",x\u2028"), failed(1, transient=True)])
    file.append([paid])
    assert file.path.name == "out.jsonl.failed.jsonl"
    assert file.path.stat().st_mode & 0o777 == 0o600
    first, second, third = (json.loads(line) for line in lines_of(file.path))
    assert (first["row"], first["kind"], first["reason"]) == (5, "rejected", "no id")
    assert (first["artist_id"], first["text"], first["run"]) == (None, ",x\u2028", RUN)
    assert (second["artist_id"], second["transient"], second["attempts"]) == ("1", True, 1)
    assert (third["text"], third["response_id"]) == ("text", "resp_1")
    assert third["usage"]["output_tokens"] == 2
    assert first["time"] == second["time"] <= third["time"]


def test_failures_are_synced_and_a_new_file_with_its_folder(ledger: Path) -> None:
    files = FaultyFiles()
    file = FailedFile(ledger, RUN, files=files.calls)
    file.append([failed(1)])
    assert files.names() == ["open", "write", "fsync", "open", "fsync"]
    file.append([failed(2)])
    assert files.names()[5:] == ["open", "write", "fsync"]


def test_a_line_torn_by_a_crash_does_not_take_the_next_one_with_it(ledger: Path) -> None:
    file = FailedFile(ledger, RUN)
    file.append([failed(1)])
    file.path.write_bytes(file.path.read_bytes()[:-20])
    file.append([failed(2)])
    torn, whole = lines_of(file.path)
    assert json.loads(whole)["artist_id"] == "2"
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_failures_that_cannot_be_kept_are_told(ledger: Path, call: str, error: int) -> None:
    file = FailedFile(ledger, RUN, files=FaultyFiles(Fault(call, error)).calls)
    with pytest.raises(LedgerFileError, match=rf"failed\.jsonl: .*{os.strerror(error)}"):
        file.append([failed(1)])
