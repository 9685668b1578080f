"""The note of how a ledger's files looked when they had been checked: when it is trusted, and that
what was touched since is read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from artist_bio_gen.ledger.check import Scan
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import beside
from tests.builders import ends_of_lines, make_ledger, next_lines

LINES = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def noted(path: Path) -> Path:
    """A ledger as a run that was stopped leaves it."""
    make_ledger(path, LINES).close()
    with Ledger.open(path) as ledger, ledger.locked():
        ledger.scan()
        assert ledger.catch_up()
        ledger.append(next_lines(ledger, 2))
        ledger.save_head()
    return path


def started(path: Path, *, trust_note: bool = True) -> Scan:
    with Ledger.open(path) as ledger, ledger.locked():
        found = ledger.scan(trust_note=trust_note)
        assert (ledger.head, ledger.size) == (found.head, found.size)
    return found


def change(path: Path, at: int) -> None:
    """One bit of the file, and its moments of access and change put back as they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_what_nobody_has_touched_is_not_read_again(noted: Path) -> None:
    found, whole = started(noted), started(noted, trust_note=False)
    assert found.noted
    assert not whole.noted
    assert (found.head, found.size, found.damage) == (whole.head, whole.size, None)
    assert found.head.seq == LINES + 2


@pytest.mark.parametrize("line", range(LINES + 2))
def test_a_change_is_found_though_the_files_time_was_put_back(noted: Path, line: int) -> None:
    change(noted, ends_of_lines(noted.read_bytes())[line + 1] - 300)
    found = started(noted)
    assert not found.noted
    assert (found.damage is not None, found.head.seq) == (True, line)


def swap(path: Path) -> None:
    new = path.with_name("copy")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


def tell_another_line(path: Path) -> None:
    head = beside(path, "head")
    head.write_bytes(orjson.dumps({**orjson.loads(head.read_bytes()), "hash": "0" * 64}))


def tell_another_ledger(path: Path) -> None:
    head = beside(path, "head")
    told = {**orjson.loads(head.read_bytes()), "ledger": "11111111-1111-4111-8111-111111111112"}
    head.write_bytes(orjson.dumps(told))


def spoil_head(path: Path) -> None:
    beside(path, "head").write_bytes(b'{"checked": {"files": 1}}')


def remove_head(path: Path) -> None:
    beside(path, "head").unlink()


def mark_unsynced(path: Path) -> None:
    marker = {"file": path.name, "seq": 1, "size": path.stat().st_size}
    beside(path, "fsync-failed").write_bytes(orjson.dumps(marker))


@pytest.mark.parametrize(
    "done",
    [
        swap,
        lengthen,
        tell_another_line,
        tell_another_ledger,
        spoil_head,
        remove_head,
        mark_unsynced,
        lambda path: os.utime(path),
        lambda path: path.chmod(0o640),
    ],
)
def test_all_is_read_after_anything_else(noted: Path, done: Callable[[Path], object]) -> None:
    done(noted)
    found = started(noted)
    assert not found.noted
    assert found.head.seq == LINES + 2


def test_what_was_changed_under_a_run_is_not_noted_as_checked(path: Path) -> None:
    make_ledger(path, LINES).close()
    with Ledger.open(path) as ledger, ledger.locked():
        ledger.scan()
        change(path, 100)
        assert ledger.catch_up()
        ledger.append(next_lines(ledger, 1))
        ledger.append(next_lines(ledger, 1))
        ledger.save_head()
    found = started(path)
    assert not found.noted
    assert (found.damage, found.head.seq) == ("damaged", 0)


def test_lines_of_another_process_are_checked_at_the_next_start(path: Path) -> None:
    make_ledger(path, LINES).close()
    with Ledger.open(path) as ledger, Ledger.open(path) as other:
        with ledger.locked():
            ledger.scan()
        with other.locked():
            other.scan()
            other.append(next_lines(other, 1))
        with ledger.locked():
            assert ledger.catch_up()
            ledger.append(next_lines(ledger, 1))
            ledger.save_head()
    found = started(path)
    assert (found.noted, found.damage, found.head.seq) == (False, None, LINES + 2)


def test_a_new_segment_is_noted_with_those_before_it(noted: Path) -> None:
    mark_unsynced(noted)
    with Ledger.open(noted) as ledger, ledger.locked():
        assert ledger.scan(trust_note=True).unsynced
        ledger.renew()
        ledger.append(next_lines(ledger, 2))
        ledger.save_head()
    assert started(noted).noted
    change(noted, 100)
    found = started_damaged(noted)
    assert (found.noted, found.damage, found.file) == (False, "damaged", noted)


def started_damaged(path: Path) -> Scan:
    with Ledger.open(path) as ledger, ledger.locked():
        return ledger.scan(trust_note=True)


def test_a_second_bio_of_an_artist_is_known_from_the_note(path: Path) -> None:
    """As from the lines."""
    make_ledger(path, LINES).close()
    for _ in range(2):
        with Ledger.open(path) as ledger, ledger.locked():
            ledger.scan(trust_note=True)
            assert ledger.one_bio_each
            ledger.save_head()
    with Ledger.open(path) as ledger, ledger.locked():
        ledger.scan(trust_note=True)
        ledger.append(next_lines(ledger, 1, generation=2))
        assert not ledger.one_bio_each
        ledger.save_head()
    for trust_note in (True, False):
        with Ledger.open(path) as ledger, ledger.locked():
            assert ledger.scan(trust_note=trust_note).noted == trust_note
            assert not ledger.one_bio_each
