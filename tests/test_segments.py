"""A ledger of several files: what begins one, and how they are read as one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import orjson
import pytest

from artist_bio_gen.errors import LedgerError, LedgerFileError, UsageError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import (
    Segment,
    beside,
    find_id,
    noted_seq,
    real,
    segment_path,
    segments,
)
from tests.builders import ends_of_lines, lines_of, make_ledger, next_lines
from tests.fakes.faulty_files import Fault, FaultyFiles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def fail_to_sync(path: Path, lines: int, unsynced: int) -> bytes:
    """A ledger of so many lines, and behind them a group whose fsync fails; the file's bytes."""
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger, ledger.locked():
        if lines:
            ledger.append(next_lines(ledger, lines))
        files.add(Fault("fsync", errno.EIO))
        with pytest.raises(LedgerFileError, match=r"could not be synced .*goes on in a new file"):
            ledger.append(next_lines(ledger, unsynced))
    return path.read_bytes()


def renewed(path: Path) -> Ledger:
    """The ledger as the next start has it, open."""
    ledger = Ledger.open(path)
    with ledger.locked():
        assert ledger.scan().unsynced
        ledger.renew()
    return ledger


def append(ledger: Ledger, count: int) -> None:
    with ledger.locked():
        assert ledger.catch_up()
        ledger.append(next_lines(ledger, count))


def numbers(ledger: Ledger, after: int = 0) -> list[int]:
    return [orjson.loads(line)["seq"] for line in ledger.lines(after)]


def second(path: Path) -> Path:
    return segment_path(path, 1)


# ---- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("out.jsonl", 0, "out.jsonl"),
        ("out.jsonl", 1, "out.0001.jsonl"),
        ("out.jsonl", 12_345, "out.12345.jsonl"),
        ("my.catalogue.jsonl", 2, "my.catalogue.0002.jsonl"),
        ("ledger", 3, "ledger.0003"),
    ],
)
def test_the_names_of_the_files(name: str, number: int, expected: str) -> None:
    assert segment_path(Path("/d") / name, number) == Path("/d") / expected


def test_a_ledger_of_one_file(path: Path) -> None:
    make_ledger(path, 2).close()
    assert segments(path) == [Segment(path, 1, None)]


def test_files_of_other_ledgers_are_passed_over(path: Path) -> None:
    make_ledger(path, 2).close()
    make_ledger(second(path), 2).close()
    segment_path(path, 2).write_text("no ledger at all\n")
    path.with_name("out.1.jsonl").write_text("nor this\n")
    assert segments(path) == [Segment(path, 1, None)]


def test_a_link_to_itself_leads_to_no_ledger(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(UsageError, match=r"out\.jsonl: is a link to itself"):
        real(path)


def test_a_missing_file_is_named(path: Path) -> None:
    fail_to_sync(path, 2, 1)
    renewed(path).close()
    second(path).rename(segment_path(path, 2))
    with pytest.raises(LedgerError, match=r"out\.0001\.jsonl: this segment .* is missing"):
        segments(path)


@pytest.mark.parametrize("damage", [b"{", b"\0", b"no line of a ledger, though it stands there\n"])
def test_a_file_whose_first_line_is_damaged_is_no_stranger(path: Path, damage: bytes) -> None:
    """Passed over, the ledger would be gone on with in the file whose fsync had failed."""
    fail_to_sync(path, 2, 3)
    renewed(path).close()
    data = second(path).read_bytes()
    first = ends_of_lines(data)[1]
    rest = data[first:] if damage.endswith(b"\n") else data[len(damage) + 1 :]
    second(path).write_bytes(damage + rest)
    assert [each.path for each in segments(path)] == [path, second(path)]
    with Ledger.open(path) as ledger, ledger.locked():
        found = ledger.scan()
    assert (found.file, found.head.seq) == (second(path), 2)
    assert found.damage == ("torn" if damage == b"\0" else "damaged")


def test_a_file_that_cannot_be_read_is_told(path: Path) -> None:
    make_ledger(path, 1).close()
    second(path).mkdir()
    with pytest.raises(LedgerFileError, match=r"out\.0001\.jsonl: cannot be read"):
        segments(path)


def test_a_disk_that_does_not_give_the_lines_is_told(path: Path) -> None:
    with make_ledger(path, 2) as ledger:
        path.unlink()
        path.symlink_to("/proc/self/mem")  # by its looks a regular file; its first byte gives EIO
        told = rf"out\.jsonl: cannot be read: {os.strerror(errno.EIO)}; mend the disk"
        with pytest.raises(LedgerFileError, match=told):
            ledger.scan()
        with pytest.raises(LedgerFileError, match=told):
            list(ledger.lines())


# ---- after a failed fsync ---------------------------------------------------------------------


@pytest.mark.parametrize("lines", [0, 3])
@pytest.mark.parametrize("torn", [0, 1, 500])
def test_the_next_start_goes_on_in_a_new_file(path: Path, lines: int, torn: int) -> None:
    fail_to_sync(path, lines, 2)
    if torn:
        os.truncate(path, path.stat().st_size - torn)
    before = path.read_bytes()
    kept = 2 if not torn else 1
    with renewed(path) as ledger:
        assert ledger.head.seq == lines + kept
        append(ledger, 2)
        assert numbers(ledger) == list(range(1, lines + kept + 3))
        assert numbers(ledger, after=lines + 1) == list(range(lines + 2, lines + kept + 3))
        assert ledger.line_hash(lines + 1) == lines_of(second(path))[0][-66:-2].decode()
        assert ledger.line_hash(lines + kept + 3) is None
    assert path.read_bytes() == before
    assert not beside(path, "fsync-failed").exists()
    assert segments(path) == [
        Segment(path, 1, lines),
        Segment(second(path), lines + 1, None),
    ]
    with Ledger.open(path) as again:
        found = again.scan()
        assert (found.head, found.damage, found.unsynced) == (ledger.head, None, False)
        assert found.file == second(path)


def test_the_new_file_is_on_disk_before_it_has_its_name(path: Path) -> None:
    fail_to_sync(path, 1, 1)
    files = FaultyFiles()
    with Ledger.open(path, files=files.calls) as ledger, ledger.locked():
        ledger.scan()
        before = len(files.made)
        ledger.renew()
    names = files.names()[before:]
    assert names[: names.index("unlink")] == [
        *("open", "flock", "write", "fsync", "rename", "open", "fsync")
    ]
    assert second(path).stat().st_mode & 0o777 == 0o600


def test_with_nothing_behind_the_synced_line_the_next_append_begins_the_file(path: Path) -> None:
    whole = fail_to_sync(path, 2, 1)
    os.truncate(path, ends_of_lines(whole)[2])
    with renewed(path) as ledger:
        assert ledger.head.seq == 2
        assert not second(path).exists()
        with ledger.locked():
            ledger.append(next_lines(ledger, 2))
        assert numbers(ledger) == [1, 2, 3, 4]
    assert len(lines_of(second(path))) == 2
    assert not beside(path, "fsync-failed").exists()


def test_it_can_happen_to_the_new_file_as_well(path: Path) -> None:
    fail_to_sync(path, 2, 1)
    renewed(path).close()
    files = FaultyFiles()
    with Ledger.open(path, files=files.calls) as ledger, ledger.locked():
        ledger.scan()
        files.add(Fault("fsync", errno.EIO))
        with pytest.raises(LedgerFileError):
            ledger.append(next_lines(ledger, 2))
    with renewed(path) as ledger:
        append(ledger, 1)
        assert numbers(ledger) == [1, 2, 3, 4, 5, 6]
    assert [each.first for each in segments(path)] == [1, 3, 4]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("call", "nth"),
    [("open", 1), ("flock", 1), ("write", 1), ("fsync", 1), ("rename", 1), ("fsync", 2)],
)
def test_a_new_file_that_cannot_be_begun_is_begun_by_the_next_start(
    path: Path, call: str, nth: int, error: int
) -> None:
    before = fail_to_sync(path, 2, 2)
    files = FaultyFiles()
    with Ledger.open(path, files=files.calls) as ledger, ledger.locked():
        ledger.scan()
        files.add(Fault(call, error, nth))
        with pytest.raises(LedgerFileError, match=os.strerror(error)):
            ledger.renew()
        with pytest.raises(LedgerFileError, match=os.strerror(error)):
            ledger.append(next_lines(ledger, 1))
    with Ledger.open(path) as again, again.locked():
        if again.scan().unsynced:
            again.renew()
        assert numbers(again) == [1, 2, 3, 4]
    assert path.read_bytes() == before
    with Ledger.open(path) as third:
        assert third.scan().head == again.head


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_note_that_cannot_be_written_does_not_hide_the_failure(path: Path, error: int) -> None:
    files = FaultyFiles()
    with Ledger.create(path, files=files.calls) as ledger, ledger.locked():
        files.add(Fault("fsync", error, forever=True))
        with pytest.raises(LedgerFileError, match=f"could not be synced .{os.strerror(error)}"):
            ledger.append(next_lines(ledger, 2))
    assert not beside(path, "fsync-failed").exists()


def test_a_note_about_an_earlier_file_counts_no_more(path: Path) -> None:
    fail_to_sync(path, 2, 1)
    note = beside(path, "fsync-failed").read_bytes()
    renewed(path).close()
    beside(path, "fsync-failed").write_bytes(note)
    with Ledger.open(path) as ledger:
        assert not ledger.scan().unsynced
        append(ledger, 1)
    assert len(segments(path)) == 2


def test_a_note_that_cannot_be_read_trusts_nothing_of_the_newest_file(path: Path) -> None:
    fail_to_sync(path, 2, 1)
    beside(path, "fsync-failed").write_bytes(b"\0" * 20)
    with renewed(path) as ledger:
        assert numbers(ledger) == [1, 2, 3]
    assert segments(path) == [Segment(path, 1, 0), Segment(second(path), 1, None)]


def test_a_file_that_is_in_the_way_is_not_overwritten(path: Path) -> None:
    fail_to_sync(path, 2, 1)
    second(path).write_text("somebody's own\n")
    with pytest.raises(LedgerFileError, match=r"out\.0001\.jsonl: is in the way"):
        renewed(path)
    assert second(path).read_text() == "somebody's own\n"


def test_an_earlier_file_that_lost_a_line_is_damage(path: Path) -> None:
    whole = fail_to_sync(path, 3, 1)
    renewed(path).close()
    os.truncate(path, ends_of_lines(whole)[2])
    with Ledger.open(path) as ledger:
        found = ledger.scan()
    assert (found.damage, found.file, found.head.seq) == ("damaged", path, 2)


# ---- other processes --------------------------------------------------------------------------


def test_another_process_does_not_go_on_in_the_file(path: Path) -> None:
    make_ledger(path, 1).close()
    files = FaultyFiles()
    with (
        Ledger.open(path) as other,
        Ledger.open(path, files=files.calls) as failing,
    ):
        other.scan()
        failing.scan()
        files.add(Fault("fsync", errno.EIO))
        with pytest.raises(LedgerFileError), failing.locked():
            failing.append(next_lines(failing, 2))
        with other.locked():
            assert not other.catch_up()
            assert other.scan().unsynced
            other.renew()
            other.append(next_lines(other, 1))
        assert numbers(other) == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
def test_a_new_file_that_cannot_be_opened_is_told_and_gone_on_with_later(
    path: Path, error: int
) -> None:
    fail_to_sync(path, 1, 1)
    files = FaultyFiles()
    with Ledger.open(path, files=files.calls) as late:
        renewed(path).close()
        files.add(Fault("open", error))
        told = rf"out\.0001\.jsonl: cannot be opened: {os.strerror(error)}"
        with pytest.raises(LedgerFileError, match=told), late.locked():
            pytest.fail("nothing may be written")
        with late.locked():  # its committer may give it a further group
            assert not late.catch_up()
            assert (late.scan().head.seq, late.file) == (2, second(path))
    with Ledger.open(path) as again:
        assert (again.scan().head.seq, again.file) == (2, second(path))


def test_a_process_that_knew_the_file_before_goes_on_in_the_new_one(path: Path) -> None:
    fail_to_sync(path, 1, 1)
    with Ledger.open(path) as late:
        late.scan()
        renewed(path).close()
        with late.locked():
            assert not late.catch_up()
            assert not late.scan().unsynced
            late.append(next_lines(late, 1))
        assert late.file == second(path)
        assert numbers(late) == [1, 2, 3]
    with Ledger.open(path) as again:
        assert again.scan().head == late.head


# ---- what is noted beside it -------------------------------------------------------------------


@pytest.mark.parametrize(
    "noted", [b'{"ledger":"../x"}', b'{"ledger":5}', b"[]", b"\xff", b'{"ledger":"\\ud800"}', b""]
)
def test_a_head_without_an_id_tells_none(noted: bytes, path: Path) -> None:
    beside(path, "head").write_bytes(noted)
    assert find_id(path) is None


@pytest.mark.parametrize("seq", [b"-1", b"1e3", b'"7"', b"9223372036854775808", b"null", b"true"])
def test_a_head_without_a_number_tells_none(seq: bytes, path: Path) -> None:
    beside(path, "head").write_bytes(b'{"seq":%b}' % seq)
    assert noted_seq(path) == 0


def test_a_head_tells_id_and_number(path: Path) -> None:
    ledger_id = "0b5e1c1e-0000-4000-8000-000000000000"
    beside(path, "head").write_text(f'{{"ledger":"{ledger_id}","seq":7}}')
    assert (find_id(path), noted_seq(path)) == (ledger_id, 7)


def test_named_pipes_are_not_waited_for(path: Path) -> None:
    os.mkfifo(beside(path, "head"))
    assert (find_id(path), noted_seq(path)) == (None, 0)
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is no regular file"):
        find_id(path)
