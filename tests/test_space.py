"""Room on the disk is asked before money is spent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from artist_bio_gen.errors import LimitError
from artist_bio_gen.processor.space import LOOK_EVERY_S, Space, free_bytes

FOLDER = Path("/somewhere")
ENOUGH, TOO_LITTLE = 64_000_000, 63_999_999


class Disk:
    """So much room, and how often it was looked at."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0
        self.now = 100.0

    def look(self, folder: Path) -> int:
        assert folder == FOLDER
        self.looks += 1
        return self.free

    def space(self, min_free_mb: int = 64) -> Space:
        return Space(FOLDER, min_free_mb, free=self.look, clock=lambda: self.now)


def test_with_enough_room_calls_may_be_made() -> None:
    Disk(ENOUGH).space().require()


def test_with_too_little_it_is_told_where_how_much_and_what_to_do() -> None:
    with pytest.raises(LimitError) as caught:
        Disk(3_210_000).space().require()
    told = str(caught.value)
    assert caught.value.exit_code == 6
    for word in ("/somewhere", "3.2 MB left", "64 MB are needed", "--min-free-mb", "--resume"):
        assert word in told


def test_the_disk_is_looked_at_now_and_then_only() -> None:
    disk = Disk(ENOUGH)
    space = disk.space()
    for _ in range(1_000):
        space.require()
    assert disk.looks == 1
    disk.now += LOOK_EVERY_S
    space.require()
    space.require()
    assert disk.looks == 2


def test_a_disk_that_fills_up_is_found_at_the_next_look() -> None:
    disk = Disk(ENOUGH)
    space = disk.space()
    space.require()
    disk.free = TOO_LITTLE
    space.require()
    disk.now += LOOK_EVERY_S
    for _ in range(2):  # for whoever asks, and not only the first
        with pytest.raises(LimitError):
            space.require()
    disk.free = ENOUGH
    space.require()


def test_none_is_needed_on_demand() -> None:
    disk = Disk(0)
    disk.space(min_free_mb=0).require()
    assert disk.looks == 0


def test_a_disk_that_does_not_answer_counts_as_full() -> None:
    def look(folder: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(LimitError, match=r"/somewhere: .*cannot be told \(Input/output error\)"):
        Space(FOLDER, 64, free=look).require()


def test_what_is_free_is_what_this_user_may_use(tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    # The disk is in use by others meanwhile.
    assert free_bytes(tmp_path) == pytest.approx(there.f_bavail * there.f_frsize, rel=0.1)
