"""The ledger's file: made, appended to, cut, damaged, and shared by processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import filelock
import orjson
import pytest

from artist_bio_gen.errors import LedgerError, LedgerFileError, StoppedError, UsageError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import first_prev
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.ledger.sharing import only_run
from artist_bio_gen.values import Head
from tests.builders import (
    a_draft,
    ends_of_lines,
    lines_of,
    lines_of_ledger,
    make_ledger,
    next_lines,
    sealed,
)
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.test_line import check

DISK_ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def check_chain(path: Path) -> list[dict[str, object]]:
    """All lines, checked from the format's description; they are numbered without a gap."""
    data = lines_of_ledger(path)
    if not data:
        return []
    prev = first_prev(str(orjson.loads(data[0])["ledger"]))
    checked = []
    for line in data:
        checked.append(check(line, prev))
        prev = checked[-1]["hash"]
    assert [line["seq"] for line in checked] == list(range(1, len(checked) + 1))
    return checked


def saved_head(path: Path) -> dict[str, object]:
    head: dict[str, object] = orjson.loads(beside(path, "head").read_bytes())
    return head


# ---- making and opening -----------------------------------------------------------------------


def test_a_new_ledger_is_empty_private_and_has_an_id(path: Path) -> None:
    with Ledger.create(path) as ledger:
        assert uuid.UUID(ledger.id)
        assert ledger.head == Head(ledger.id, 0, ledger.first_prev)
    assert path.read_bytes() == b""
    assert saved_head(path)["ledger"] == ledger.id
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file.name


def test_a_new_ledger_is_on_disk_with_its_head_and_their_folder(path: Path) -> None:
    files = FaultyFiles()
    Ledger.create(path, files=files.calls).close()
    made = [(name, args[0]) for name, args in files.made if name in ("open", "rename", "fsync")]
    names = [name for name, _ in made]
    assert names == ["fsync", "rename", "open", "fsync", "open", "open", "fsync"]
    assert made[4] == ("open", str(path))
    assert made[5] == ("open", str(path.parent))


@pytest.mark.parametrize("content", [b"", b"precious", b"{}\n"])
def test_create_never_overwrites(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is there already and is never overwritten.*--resume"):
        Ledger.create(path)
    assert path.read_bytes() == content
    assert not beside(path, "head").exists()


def test_create_does_not_follow_a_link_that_leads_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(UsageError, match="never overwritten"):
        Ledger.create(path)
    assert not path.exists()


def test_create_in_a_folder_that_is_missing(path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; make it first"):
        Ledger.create(path / "deeper" / "out.jsonl")


@pytest.mark.parametrize("noted", [True, False])
def test_a_deleted_ledger_is_not_begun_anew_beside_its_head(path: Path, noted: bool) -> None:
    """Nor where the head tells of no line yet, as it does until a first run ends."""
    with make_ledger(path, 1) as old:
        if noted:
            old.save_head()
    head = saved_head(path)
    path.unlink()
    with pytest.raises(UsageError, match=r"is gone, but out\.jsonl\.head is there: --resume"):
        Ledger.create(path)
    assert saved_head(path) == head
    assert not path.exists()
    with Ledger.reopen(path) as again:
        assert again.id == old.id
        assert again.scan().head.seq == 0


def test_who_gets_no_lock_to_make_a_ledger_leaves_the_head_that_is_there(path: Path) -> None:
    make_ledger(path, 1).close()
    path.unlink()
    head = saved_head(path)
    beside(path, "lock").unlink()
    beside(path, "lock").mkdir()
    with pytest.raises(LedgerFileError, match="cannot be locked"):
        Ledger.create(path)
    assert saved_head(path) == head


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.ENOSPC])
@pytest.mark.parametrize(
    ("call", "nth"),
    [("write", 1), ("rename", 1), *(("fsync", n) for n in (1, 2, 3))]
    + [("open", n) for n in (1, 2, 3)],
)
def test_a_failed_create_is_told_and_can_be_gone_on_from(
    path: Path, call: str, nth: int, error: int
) -> None:
    with pytest.raises(LedgerFileError, match=os.strerror(error)):
        Ledger.create(path, files=FaultyFiles(Fault(call, error, nth)).calls)
    with Ledger.open(path) if path.exists() else Ledger.create(path) as ledger:
        assert saved_head(path)["ledger"] == ledger.id


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_deleted_ledger_that_cannot_be_made_again_is_told(
    path: Path, call: str, error: int
) -> None:
    make_ledger(path, 1).close()
    path.unlink()
    files = FaultyFiles(Fault(call, error))
    with pytest.raises(LedgerFileError, match=os.strerror(error)):
        Ledger.reopen(path, files=files.calls)


@pytest.mark.parametrize("path", [".", "/"])
def test_a_path_without_a_name_is_no_ledger(path: str) -> None:
    with pytest.raises(UsageError, match="there is no ledger"):
        Ledger.open(Path(path))


def test_open_of_a_missing_ledger(path: Path) -> None:
    with pytest.raises(UsageError, match="there is no ledger"):
        Ledger.open(path)
    assert list(path.parent.iterdir()) == []


def test_open_of_a_ledger_that_cannot_be_opened(path: Path) -> None:
    make_ledger(path, 1).close()
    with pytest.raises(LedgerFileError, match="Permission denied"):
        Ledger.open(path, files=FaultyFiles(Fault("open", errno.EACCES)).calls)


@pytest.mark.parametrize(
    "content",
    [
        b'{"artist_id": "1", "response_text": "of the earlier format"}\n',
        b'{"ledger": "11111111-1111-4111-8111-111111111111"}\n',
        b"id,name\n1,Nina Simone\n",
        b"[1, 2]\n",
        b"\0" * 100,
        b"\xff\xfe\n",
        b"[" * 100_000,
        b"\n",
    ],
)
def test_open_of_a_foreign_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"out\.jsonl: its first line .* is this the right file"):
        Ledger.open(path)
    assert path.read_bytes() == content
    assert not beside(path, "head").exists()


@pytest.mark.parametrize("head", [b"", b"no json", b"[]", b'{"seq": 1}'])
def test_open_of_an_empty_file_with_a_bad_head(path: Path, head: bytes) -> None:
    path.touch()
    beside(path, "head").write_bytes(head)
    with pytest.raises(LedgerError, match="does not tell the ledger's id"):
        Ledger.open(path)


def test_an_empty_file_without_a_head_gets_an_id_that_stays(path: Path) -> None:
    path.touch()
    with Ledger.open(path) as first, Ledger.open(path) as second:
        assert uuid.UUID(first.id)
        assert second.id == first.id
        assert second.head == first.head == Head(first.id, 0, first_prev(first.id))


def test_the_id_is_found_without_the_head(path: Path) -> None:
    with make_ledger(path, 2) as ledger:
        pass
    beside(path, "head").unlink()
    with Ledger.open(path) as again:
        assert again.id == ledger.id
        assert again.scan().head == ledger.head


def test_the_id_is_found_when_the_first_line_is_torn(path: Path) -> None:
    with make_ledger(path, 1) as ledger:
        pass
    path.write_bytes(path.read_bytes()[:100])
    with Ledger.open(path) as again:
        assert again.id == ledger.id
        assert again.scan().damage == "torn"


def test_the_first_line_is_believed_before_a_head_of_another_ledger(path: Path) -> None:
    with make_ledger(path, 1) as ledger:
        pass
    with make_ledger(path.with_name("other.jsonl"), 1):
        pass
    beside(path.with_name("other.jsonl"), "head").rename(beside(path, "head"))
    with Ledger.open(path) as again:
        assert again.id == ledger.id


# ---- appending and reading --------------------------------------------------------------------


def test_what_is_appended_is_found_by_the_next_process(path: Path) -> None:
    with make_ledger(path, 3) as ledger:
        with ledger.locked():
            ledger.append(next_lines(ledger, 2))
        ledger.save_head()
    assert len(check_chain(path)) == 5
    with Ledger.open(path) as again:
        found = again.scan()
        assert (found.head, found.damage) == (ledger.head, None)
        assert (again.head, again.size) == (ledger.head, ledger.size)
        assert found.size == found.file_size == path.stat().st_size
    assert saved_head(path) == {
        "ledger": ledger.id,
        "seq": 5,
        "hash": ledger.head.hash,
        "file": path.name,
        "size": path.stat().st_size,
    }


def test_a_group_is_written_at_once_and_then_synced(path: Path) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger, ledger.locked():
        before = len(files.made)
        ledger.append(next_lines(ledger, 10))
        assert files.names()[before:] == ["write", "fsync"]


def test_lines_and_their_hashes_are_read_back(path: Path) -> None:
    with make_ledger(path, 5) as ledger:
        data = lines_of(path)
        assert list(ledger.lines()) == data
        assert list(ledger.lines(after=3)) == data[3:]
        assert list(ledger.lines(after=5)) == []
        assert ledger.line_hash(5) == ledger.head.hash
        assert ledger.line_hash(2) == orjson.loads(data[1])["hash"]
        assert ledger.line_hash(6) is None


def test_lines_are_read_no_further_than_what_verified(path: Path) -> None:
    with make_ledger(path, 2) as ledger:
        whole = lines_of(path)
        with path.open("ab") as file:
            file.write(b'{"artist_id": torn')
        ledger.scan()
        assert list(ledger.lines()) == whole


def test_a_killed_writer_leaves_the_lines_it_was_told_are_on_disk(path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from tests.builders import make_ledger; make_ledger(Path(sys.argv[1]), 20);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert done.returncode == -9
    assert len(check_chain(path)) == 20
    with Ledger.open(path) as ledger, ledger.locked():
        assert ledger.scan().head.seq == 20


# ---- torn and damaged -------------------------------------------------------------------------


def test_a_tail_cut_at_any_byte_is_found_and_put_aside(path: Path) -> None:
    with make_ledger(path, 3):
        pass
    whole = path.read_bytes()
    start = ends_of_lines(whole)[2]
    # Thousands of cuts: what is asked here is what stands in the files, not what is synced.
    with Ledger.open(path, files=FileCalls(fsync=lambda fd: None)) as ledger:
        for end in range(start + 1, len(whole)):
            path.write_bytes(whole[:end])
            found = ledger.scan()
            assert (found.damage, found.head.seq) == ("torn", 2), end
            assert (found.size, found.file_size) == (start, end)
            with ledger.locked():
                quarantine = ledger.cut(clock=lambda: 1_700_000_000.0)
            assert quarantine.read_bytes() == whole[start:end]
            assert path.read_bytes() == whole[:start]
            found = ledger.scan()
            assert (found.damage, found.head.seq) == (None, 2)
            quarantine.unlink()


def test_the_quarantine_is_private_beside_the_ledger_and_named_after_time_and_place(
    path: Path,
) -> None:
    with make_ledger(path, 1) as ledger:
        with path.open("ab") as file:
            file.write(b"torn")
        size = ledger.scan().size
        with ledger.locked():
            quarantine = ledger.cut(clock=lambda: 1_700_000_000.0)
    assert quarantine == path.with_name(f"out.jsonl.quarantine.20231114T221320Z.{size}")
    assert quarantine.stat().st_mode & 0o777 == 0o600


def test_appending_goes_on_after_a_cut(path: Path) -> None:
    with make_ledger(path, 2) as ledger:
        with path.open("ab") as file:
            file.write(b'{"artist_id": "torn')
        with ledger.locked():
            ledger.scan()
            ledger.cut()
            ledger.append(next_lines(ledger, 1))
    assert len(check_chain(path)) == 3


def nul_page_before_whole_lines(data: bytes) -> bytes:
    ends = ends_of_lines(data)
    return data[: ends[1]] + b"\0" * (ends[2] - ends[1]) + data[ends[2] :]


def nul_page_within_a_line(data: bytes) -> bytes:
    ends = ends_of_lines(data)
    return data[: ends[1] + 50] + b"\0" * 100 + data[ends[1] + 150 :]


def nul_page_over_a_line_feed(data: bytes) -> bytes:
    ends = ends_of_lines(data)
    return data[: ends[2] - 20] + b"\0" * 40 + data[ends[2] + 20 :]


def nul_tail(data: bytes) -> bytes:
    return data[: ends_of_lines(data)[1]] + b"\0" * 5000


def nul_page_behind_a_lost_beginning(data: bytes) -> bytes:
    """The first page of a group came back old, the second as NULs."""
    ends = ends_of_lines(data)
    return data[: ends[1]] + data[ends[1] + 30 : ends[2]] + b"\0" * 64 + data[ends[3] :]


@pytest.mark.parametrize(
    "lose",
    [
        nul_page_before_whole_lines,
        nul_page_within_a_line,
        nul_page_over_a_line_feed,
        nul_tail,
        nul_page_behind_a_lost_beginning,
    ],
)
def test_lost_pages_are_what_a_crash_leaves(path: Path, lose: Callable[[bytes], bytes]) -> None:
    with make_ledger(path, 5) as ledger:
        whole = path.read_bytes()
        path.write_bytes(lose(whole))
        found = ledger.scan()
        assert (found.damage, found.head.seq) == ("torn", 1)
        with ledger.locked():
            quarantine = ledger.cut()
        assert path.read_bytes() + quarantine.read_bytes() == lose(whole)
        assert ledger.scan().damage is None


def test_any_flipped_bit_is_found(path: Path) -> None:
    with make_ledger(path, 3) as ledger:
        whole = path.read_bytes()
        ends = ends_of_lines(whole)
        fd = os.open(path, os.O_WRONLY)
        for at in range(len(whole)):
            bad_line = next(number for number, end in enumerate(ends) if at < end)
            for bit in range(8):
                flipped = whole[at] ^ (1 << bit)
                os.pwrite(fd, bytes([flipped]), at)
                found = ledger.scan()
                assert found.head.seq == bad_line - 1, (at, bit)
                assert found.size == ends[bad_line - 1]
                if whole[at] == ord("\n"):
                    kind = "damaged" if bad_line < 2 else "torn"  # it joins two lines
                elif flipped == 0:
                    kind = "torn"  # a blank that became NUL looks like a lost page
                else:
                    kind = "damaged" if bad_line < 3 else "torn"
                assert found.damage == kind, (at, bit)
            os.pwrite(fd, whole[at : at + 1], at)
        os.close(fd)
        assert ledger.scan().damage is None


def test_any_truncation_is_found_or_leaves_a_shorter_ledger(path: Path) -> None:
    with make_ledger(path, 3) as ledger:
        whole = path.read_bytes()
        ends = ends_of_lines(whole)
        for size in range(len(whole) - 1, -1, -1):
            os.truncate(path, size)
            found = ledger.scan()
            assert found.damage == (None if size in ends else "torn"), size
            assert found.head.seq == sum(end <= size for end in ends) - 1


def without(data: list[bytes], number: int) -> list[bytes]:
    return data[: number - 1] + data[number:]


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        (lambda data: without(data, 2), 1),
        (lambda data: without(data, 1), 0),
        (lambda data: [data[0], data[2], data[1], data[3]], 1),
        (lambda data: [data[0], data[1], data[1], data[2], data[3]], 2),
        (lambda data: [data[0], b"", *data[1:]], 1),
        (lambda data: [data[0], data[1].replace(b"Bio of", b"Lie of"), *data[2:]], 1),
        (lambda data: [data[0], b"{}", *data[1:]], 1),
    ],
)
def test_removed_reordered_repeated_or_changed_lines_are_damage(
    path: Path, change: Callable[[list[bytes]], list[bytes]], sound: int
) -> None:
    with make_ledger(path, 4) as ledger:
        path.write_bytes(b"".join(line + b"\n" for line in change(lines_of(path))))
        found = ledger.scan()
    assert (found.damage, found.head.seq) == ("damaged", sound)


def test_a_line_of_another_ledger_is_damage(path: Path) -> None:
    with make_ledger(path, 2) as ledger, make_ledger(path.with_name("other.jsonl"), 3) as other:
        with path.open("ab") as file:
            file.write(lines_of(other.path)[2] + b"\n")
        assert ledger.scan().damage == "damaged"


def test_a_line_with_a_number_out_of_turn_is_damage(path: Path) -> None:
    with make_ledger(path, 1) as ledger, ledger.locked():
        late = Head(ledger.id, ledger.head.seq + 1, ledger.head.hash)
        ledger.append(sealed([a_draft(2, ledger=ledger.id)], late))
        assert ledger.scan().damage == "damaged"


# ---- under the lock ---------------------------------------------------------------------------


def test_another_process_lines_are_taken_in(path: Path) -> None:
    with make_ledger(path, 2) as ledger, Ledger.open(path) as other:
        with other.locked():
            assert other.catch_up()
            other.append(next_lines(other, 2))
        with ledger.locked():
            assert ledger.catch_up()
            assert ledger.head == other.head
            assert ledger.catch_up()
            ledger.append(next_lines(ledger, 1))
    assert len(check_chain(path)) == 5


@pytest.mark.parametrize(
    "left",
    [
        lambda whole: whole + b'{"artist_id": "torn',
        lambda whole: whole + b"\0" * 100,
        lambda whole: whole[: ends_of_lines(whole)[1]],
        lambda whole: whole[:-10],
        lambda whole: b"",
    ],
)
def test_a_file_that_does_not_go_on_where_it_was_left(
    path: Path, left: Callable[[bytes], bytes]
) -> None:
    with make_ledger(path, 2) as ledger:
        head = ledger.head
        path.write_bytes(left(path.read_bytes()))
        with ledger.locked():
            assert not ledger.catch_up()
        assert ledger.head == head


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize("change", [delete, replace_by_a_copy])
def test_a_file_deleted_or_replaced_under_us_is_noticed(
    path: Path, change: Callable[[Path], None]
) -> None:
    with make_ledger(path, 1) as ledger:
        with ledger.locked():
            pass
        change(path)
        with pytest.raises(LedgerError, match="deleted or replaced"), ledger.locked():
            pytest.fail("nothing may be written")
        # The lock is given up, so that a new start is not kept waiting.
        beside(path, "lock").unlink()


@pytest.mark.parametrize("lose_sidecar", [False, True])
def test_there_is_one_holder_even_if_the_sidecar_is_deleted(path: Path, lose_sidecar: bool) -> None:
    with make_ledger(path, 0) as ledger, Ledger.open(path) as other:
        waits, order = threading.Event(), []

        def take_turn() -> None:
            waits.set()
            with other.locked():
                order.append("second")

        thread = threading.Thread(target=take_turn)
        with ledger.locked():
            if lose_sidecar:
                beside(path, "lock").unlink()
            thread.start()
            waits.wait()
            # Whoever breaks in does so within this time; nobody who keeps out is waited for.
            thread.join(0.1)
            order.append("first")
        thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EIO, errno.EINTR, errno.EBADF])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_lock_that_fails_is_told_and_nothing_is_written(path: Path, nth: int, error: int) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger:
        files.add(Fault("flock", error, nth))
        told = f"cannot be locked: {os.strerror(error)}"
        with pytest.raises(LedgerFileError, match=told), ledger.locked():
            assert nth == 2  # only giving it up fails


def test_it_keeps_out_a_file_lock_of_another_program_and_is_kept_out_by_it(path: Path) -> None:
    theirs = filelock.FileLock(beside(path, "lock"), timeout=0)
    with make_ledger(path, 0), Ledger.open(path, cancelled=lambda: True) as ledger:
        with ledger.locked(), pytest.raises(filelock.Timeout), theirs:
            pytest.fail("both have it")
        with theirs, pytest.raises(StoppedError), ledger.locked():
            pytest.fail("both have it")
        with ledger.locked():
            assert beside(path, "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="a call of Linux alone")
def test_who_has_a_lease_on_the_lock_file_is_waited_for(path: Path) -> None:
    """As file servers take for their clients: to open the file asks for it back, by a signal."""
    asked = []
    with make_ledger(path, 0) as ledger:
        lease = os.open(beside(path, "lock"), os.O_RDONLY)

        def give_up(signum: int, frame: object) -> None:
            asked.append(signum)
            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)

        before = signal.signal(signal.SIGIO, give_up)
        try:
            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            with ledger.locked():
                assert asked == [signal.SIGIO]
        finally:
            signal.signal(signal.SIGIO, before)
            os.close(lease)


def test_who_holds_the_lock_and_asks_for_it_again_is_told_and_does_not_wait(path: Path) -> None:
    with make_ledger(path, 0) as ledger, Ledger.open(path) as again:
        told = "holds the ledger's lock already"
        with ledger.locked(), pytest.raises(UsageError, match=told), again.locked():
            pytest.fail("it is held twice")
        with again.locked():
            assert again.catch_up()


def test_a_sidecar_that_cannot_be_made_is_told(path: Path) -> None:
    with make_ledger(path, 0) as ledger:
        beside(path, "lock").unlink()
        beside(path, "lock").mkdir()
        told = r"out\.jsonl\.lock: cannot be locked"
        with pytest.raises(LedgerFileError, match=told), ledger.locked():
            pytest.fail("it is not locked")


@pytest.mark.parametrize("lose_sidecar", [False, True])
def test_a_wait_for_the_lock_can_be_given_up(path: Path, lose_sidecar: bool) -> None:
    given_up = threading.Event()
    holds, let_go = threading.Event(), threading.Event()
    with make_ledger(path, 0) as ledger, Ledger.open(path, cancelled=given_up.is_set) as other:

        def hold() -> None:
            with ledger.locked():
                holds.set()
                let_go.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        holds.wait()
        if lose_sidecar:
            beside(path, "lock").unlink()
        given_up.set()
        with pytest.raises(StoppedError), other.locked():
            pytest.fail("it is locked")
        let_go.set()
        holder.join()
        given_up.clear()
        with other.locked():
            assert other.catch_up()


def test_one_run_at_a_time_over_one_input(path: Path) -> None:
    with only_run(path, "/data/a.csv"):
        with (
            pytest.raises(UsageError, match=r"another run .* same input \(/data/a\.csv\)"),
            only_run(path, "/data/a.csv"),
        ):
            pytest.fail("there are two")
        with only_run(path, "/data/b.csv"), only_run(path.with_name("other"), "/data/a.csv"):
            pass
    with only_run(path, "/data/a.csv"):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_run_that_was_killed_keeps_nobody_away(path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from artist_bio_gen.ledger.sharing import only_run;"
        "run = only_run(Path(sys.argv[1]), 'a.csv'); run.__enter__();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert len(list(path.parent.iterdir())) == 1
    with only_run(path, "a.csv"):
        pass
    assert list(path.parent.iterdir()) == []


# ---- failing file calls -----------------------------------------------------------------------


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("write"),
        Fault("write", short=0),
        Fault("write", short=200),
        Fault("write", short=10_000_000),
        Fault("fsync"),
    ],
)
@pytest.mark.parametrize("nth", [1, 3])
def test_an_append_that_fails_is_final(
    path: Path, fault: Fault, nth: int, error: int, forever: bool
) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger:
        files.add(Fault(fault.call, error, nth, forever, fault.short))
        for _ in range(nth - 1):
            with ledger.locked():
                ledger.append(next_lines(ledger, 2))
        told, size = ledger.head, ledger.size
        with pytest.raises(LedgerFileError, match=os.strerror(error)), ledger.locked():
            ledger.append(next_lines(ledger, 2))
        assert (ledger.head, ledger.size) == (told, size)

        # Nothing is tried again on this file, though it would succeed now.
        calls = files.names().count("fsync"), files.names().count("ftruncate")
        with ledger.locked():
            for attempt in (
                lambda: ledger.append(next_lines(ledger, 1)),
                ledger.catch_up,
                ledger.cut,
            ):
                with pytest.raises(LedgerFileError, match=os.strerror(error)):
                    attempt()
        assert (files.names().count("fsync"), files.names().count("ftruncate")) == calls

    with Ledger.open(path) as again:
        found = again.scan()
        assert found.head.seq >= told.seq
        assert found.damage in (None, "torn")


def test_a_short_write_without_an_error_is_continued(path: Path) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger, ledger.locked():
        files.add(Fault("write", short=100), Fault("write", nth=2, short=1))
        ledger.append(next_lines(ledger, 3))
        assert (ledger.head.seq, ledger.size) == (3, path.stat().st_size)
    assert len(check_chain(path)) == 3


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize(
    ("fault", "is_cut"),
    [
        (Fault("open"), False),
        (Fault("write"), False),
        (Fault("write", short=3), False),
        (Fault("fsync"), False),
        (Fault("open", nth=2), False),
        (Fault("fsync", nth=2), False),
        (Fault("ftruncate"), False),
        (Fault("fsync", nth=3), True),
    ],
)
def test_a_cut_that_fails_loses_nothing(path: Path, fault: Fault, is_cut: bool, error: int) -> None:
    make_ledger(path, 2).close()
    whole = path.read_bytes()
    path.write_bytes(whole + b"torn tail")
    files = FaultyFiles()
    with Ledger.open(path, files=files.calls) as ledger, ledger.locked():
        ledger.scan()
        files.add(Fault(fault.call, error, fault.nth, short=fault.short))
        with pytest.raises(LedgerFileError, match=os.strerror(error)):
            ledger.cut()
    if is_cut:
        assert path.read_bytes() == whole
        (quarantine,) = path.parent.glob("*.quarantine.*")
        assert quarantine.read_bytes() == b"torn tail"
    else:
        assert path.read_bytes() == whole + b"torn tail"
    for each in path.parent.glob("*.quarantine.*"):
        assert each.read_bytes() == b"torn tail"  # one that was not written whole is not left


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_the_head_is_the_old_or_the_new_one(path: Path, call: str, error: int) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger, ledger.locked():
        old = beside(path, "head").read_bytes()
        ledger.append(next_lines(ledger, 1))
        files.add(Fault(call, error))
        with pytest.raises(LedgerFileError, match=os.strerror(error)):
            ledger.save_head()
    assert beside(path, "head").read_bytes() == old


# ---- many writers -----------------------------------------------------------------------------

WRITER = """
import sys, threading
from pathlib import Path
from artist_bio_gen.ledger.ledger import Ledger
from tests.builders import next_lines

path, turns = Path(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()

def write():
    with Ledger.open(path) as ledger:
        for turn in range(turns):
            with ledger.locked():
                assert ledger.catch_up()
                ledger.append(next_lines(ledger, 1 + turn % 3))

threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_many_processes_and_threads_write_one_chain(path: Path) -> None:
    processes, turns = 4, 21
    Ledger.create(path).close()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, str(turns)], stdin=subprocess.PIPE)
        for _ in range(processes)
    ]
    for writer in writers:
        writer.communicate(b"go\n")
    assert [writer.returncode for writer in writers] == [0] * processes
    lines = sum(1 + turn % 3 for turn in range(turns))
    assert len(check_chain(path)) == processes * 2 * lines


def test_two_that_make_one_ledger_agree_on_it(path: Path) -> None:
    """One makes it, the other finds it: never two ids."""
    found: list[str] = []
    starting = threading.Barrier(8)

    def begin() -> None:
        starting.wait()
        try:
            with Ledger.create(path) as ledger:
                found.append(ledger.id)
        except UsageError:
            with Ledger.open(path) as ledger:
                found.append(ledger.id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_nobody_makes_a_ledger_while_another_one_is_at_it(path: Path) -> None:
    """Else the file would be of the one, and the head beside it of the other."""
    made: list[str] = []

    def make(files: FileCalls) -> None:
        with suppress(UsageError), Ledger.create(path, files=files) as ledger:
            made.append(ledger.id)

    other = threading.Thread(target=make, args=(REAL,))

    def rename(source: str, target: str) -> None:
        if other.ident is None:
            other.start()
            other.join(0.5)  # who is not kept out is through by then; nobody else is waited for
        Path(source).replace(target)

    make(replace(REAL, rename=rename))
    other.join()
    with Ledger.open(path) as ledger:
        assert made == [ledger.id]
