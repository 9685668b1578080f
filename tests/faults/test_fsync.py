"""An fsync that fails is final: nobody is told, nothing is tried again on that file, and the next
start goes on in a new one. Through the table of file calls, and on a real file system that fails.
"""

from __future__ import annotations

import errno
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import REAL, FileCalls
from tests.fakes.faulty_files import Fault, FaultyFiles, name_of
from tests.faults.books import (
    assert_told_is_there,
    empty,
    ledger_files,
    read_books,
    told_lines,
)
from tests.faults.seed import chance
from tests.writer import Writer, artists, noted

CYCLES = 100
ROWS = 8
PATIENCE = 20

LATER_FILES = "out.[0-9]*.jsonl"


class Watch:
    """The table of file calls: what was told when a sync failed, and what was done with that file
    afterwards."""

    def __init__(self, notes: Path) -> None:
        self.failed: list[str] = []
        self.told: dict[int, str] = {}
        self.after: list[tuple[str, str]] = []
        self._notes = notes

    def over(self, real: FileCalls) -> FileCalls:
        def write(fd: int, data: bytes) -> int:
            self._look("write", fd)
            return real.write(fd, data)

        def fsync(fd: int) -> None:
            self._look("fsync", fd)
            try:
                real.fsync(fd)
            except OSError:
                self.failed.append(name_of(fd))
                self.told = told_lines(self._notes)
                raise

        def ftruncate(fd: int, size: int) -> None:
            self._look("ftruncate", fd)
            real.ftruncate(fd, size)

        return replace(real, write=write, fsync=fsync, ftruncate=ftruncate)

    def _look(self, call: str, fd: int) -> None:
        if name_of(fd) in self.failed:
            self.after.append((call, name_of(fd)))


@pytest.mark.parametrize("on", ["out.jsonl", LATER_FILES, "out.jsonl.journal.*"])
def test_a_failed_sync_is_neither_told_nor_tried_again(
    on: str, url: str, admin: psycopg.Connection, quick_folder: Path
) -> None:
    moments = chance(f"failed sync {on}")
    of_the_ledger = on != "out.jsonl.journal.*"
    failed = 0
    with (
        BioStore(url, table="artists", sleep=_never) as store,
        BioStore(url, table="artists", sleep=_never) as lookups,
    ):
        for cycle in range(CYCLES):
            folder = quick_folder / str(cycle)
            folder.mkdir()
            empty(admin)
            path = folder / "out.jsonl"
            writer = Writer(
                path=path,
                database_url=url,
                notes=folder,
                workers=2,
                segment_bytes=999,
                stores=(store, lookups),
            )
            watch = Watch(folder)
            rows = 0
            # A later file is there only after a failed sync of the first one.
            for on_this in ("out.jsonl", on) if on == LATER_FILES else (on,):
                fault = Fault("fsync", errno.EIO, moments.randint(1, 4), on=on_this)
                files = watch.over(FaultyFiles(fault).calls)
                rows = until_it_fails(replace(writer, files=files), rows)
                if of_the_ledger:
                    assert told_lines(folder) == watch.told
            rows += ROWS
            replace(writer, files=watch.over(REAL)).live(artists(0, rows))
            # A worker may write into its journal just when the sync has failed; it is not synced.
            assert [call for call, _ in watch.after if of_the_ledger or call == "fsync"] == []
            assert len(ledger_files(path)) == 1 + of_the_ledger * len(watch.failed)
            books = read_books(path, admin)
            assert_told_is_there(folder, books)
            assert len(books.ids) == len(noted(folder / "bill")) == rows
            failed += len(watch.failed)
    print(f"{failed} failed syncs")


def test_a_failed_sync_of_a_cut_is_final_too(
    url: str, admin: psycopg.Connection, quick_folder: Path
) -> None:
    """What it was to put on disk were lines of a process that was killed before its own sync."""
    path = quick_folder / "out.jsonl"
    writer = Writer(path=path, database_url=url, notes=quick_folder, workers=2)
    writer.live(artists(0, ROWS))
    path.write_bytes(path.read_bytes()[:-10])
    watch = Watch(quick_folder)
    files = watch.over(FaultyFiles(Fault("fsync", errno.EIO, on="out.jsonl")).calls)
    with pytest.raises(LedgerFileError, match="Input/output error"):
        replace(writer, files=files).start()
    replace(writer, files=watch.over(REAL)).live(artists(0, 2 * ROWS))
    assert watch.failed == ["out.jsonl"]
    assert watch.after == []
    assert len(ledger_files(path)) == 2
    assert len(read_books(path, admin).lines) == 2 * ROWS


def until_it_fails(writer: Writer, rows: int) -> int:
    """Life after life, each with `ROWS` artists more; how many there are in the end."""
    for _ in range(PATIENCE):
        rows += ROWS
        with suppress(LedgerFileError):
            writer.live(artists(0, rows))
            continue
        return rows
    pytest.fail("no sync failed")


def _never(seconds: float) -> None:
    pytest.fail("the database is not away")


# ---- a file system that fails ----------------------------------------------------------------


class FailingFileSystem:
    """An ext4 file system in a file that lies in memory: when the memory is full, it cannot write
    to its disk, and an fsync says so. OSError where it cannot be mounted."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder / "above"
        self._below = folder / "below"
        self._image = self._below / "image"
        self._below.mkdir()
        command("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(self._below))
        stack.callback(command, "umount", str(self._below))
        with self._image.open("wb") as file:
            file.truncate(256 * 1024 * 1024)
        lazy = "lazy_itable_init=1,lazy_journal_init=1"
        command("mkfs.ext4", "-q", "-F", "-E", lazy, str(self._image))
        self.folder.mkdir()
        self._mount()
        stack.callback(command, "umount", str(self.folder))

    def fill(self) -> None:
        with (self._below / "fill").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        (self._below / "fill").unlink(missing_ok=True)

    def restart(self) -> None:
        """As of the machine: what is not on the disk is gone from memory as well."""
        self.make_room()
        command("umount", str(self.folder))
        checked = subprocess.run(
            ["fsck.ext4", "-fy", self._image], capture_output=True, check=False
        )
        assert checked.returncode in (0, 1), checked.stdout  # 1: errors were mended
        self._mount()

    def over(self, on: str) -> FileCalls:
        """File calls between whose writes and syncs of such files the memory is full."""

        def write(fd: int, data: bytes) -> int:
            if fnmatch(name_of(fd), on):
                self.fill()
            return REAL.write(fd, data)

        def fsync(fd: int) -> None:
            try:
                REAL.fsync(fd)
            finally:
                self.make_room()

        return replace(REAL, write=write, fsync=fsync)

    def takes_writes(self) -> bool:
        try:
            (self.folder / "probe").touch()
        except OSError:
            return False
        return True

    def _mount(self) -> None:
        command("mount", "-o", "loop", str(self._image), str(self.folder))


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("on", ["out.jsonl", "out.jsonl.journal.*", ".out.jsonl.head.*"])
def test_a_file_system_that_fails(
    on: str, restarted: bool, url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    """The page cache shows what is not on the disk, and further syncs of the same file succeed. So
    whatever went well after the failure is looked at once more as the disk has it."""
    rows = 100
    with ExitStack() as stack:
        try:
            disk = FailingFileSystem(tmp_path, stack)
        except OSError as exc:
            pytest.skip(f"needs root and loop mounts: {exc}")
        path = disk.folder / "out.jsonl"
        writer = Writer(path=path, database_url=url, notes=tmp_path, workers=2)
        writer.live(artists(0, ROWS))
        with pytest.raises(LedgerFileError, match=r"Input/output|No space|Read-only"):
            replace(writer, files=disk.over(on)).live(artists(0, rows))
        told = len(told_lines(tmp_path))
        alive = disk.takes_writes()
        if restarted or not alive:
            disk.restart()
        writer.live(artists(0, rows))
        disk.restart()
        books = read_books(path, admin)
        assert_told_is_there(tmp_path, books)
        assert len(books.ids) == rows
        files = len(ledger_files(path))
    state = "it took writes afterwards" if alive else "it took no writes any more"
    print(f"{state}; {told} lines told before, {rows} in the end, in {files} files")
