"""Every call that ledger and journal make on a file goes through one small table, so that a
test can let each of them fail. "On disk" means fsync, for a new or renamed file its folder too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.failing import on_failure

PRIVATE = 0o600
"""Mode of every file the program makes: ledgers hold catalogue data and paid texts."""

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    )
)


MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class FileCalls:
    """The calls as `os` and `fcntl` have them."""

    open: Callable[[str, int, int], int] = os.open
    write: Callable[[int, bytes], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    ftruncate: Callable[[int, int], None] = os.ftruncate
    rename: Callable[[str, str], None] = os.replace
    unlink: Callable[[str], None] = os.unlink
    link: Callable[[str, str], None] = os.link
    flock: Callable[[int, int], None] = fcntl.flock


REAL = FileCalls()


def write_all(calls: FileCalls, fd: int, data: bytes) -> None:
    """Writes all of `data`; a short write (disk full, a limit) is continued until it raises."""
    written = calls.write(fd, data)
    while written < len(data):
        if written == 0:
            raise OSError(errno.EIO, "a write took no bytes")  # it would go on so for ever
        data = data[written:]
        written = calls.write(fd, data)


def sync_folder(calls: FileCalls, folder: Path) -> None:
    """Puts new and renamed entries of `folder` on disk."""
    try:
        fd = calls.open(str(folder), os.O_RDONLY | os.O_DIRECTORY, 0)
        try:
            calls.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise LedgerFileError(f"{folder}: the folder cannot be synced: {exc.strerror}") from exc


def write_file(calls: FileCalls, path: Path, data: bytes) -> None:
    """Puts a whole file in place: the old one or the new one is there, never a part."""
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            write_all(calls, fd, data)
            calls.fsync(fd)
        finally:
            os.close(fd)
        calls.rename(temporary, str(path))
    except OSError as exc:
        if temporary is not None:
            with suppress(OSError):  # the disk fails; what is told is why
                calls.unlink(temporary)
        raise LedgerFileError(f"{path}: cannot be written: {exc.strerror}") from exc
    sync_folder(calls, path.parent)


def open_locked(calls: FileCalls, path: Path, flags: int) -> int | None:
    """Opens `path` and locks it for as long as the descriptor is open; None when another
    process holds it."""
    fd = calls.open(str(path), flags | os.O_CLOEXEC, PRIVATE)
    try:
        with on_failure(partial(os.close, fd)):
            calls.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return fd


@contextmanager
def held(calls: FileCalls, path: Path) -> Iterator[bool]:
    """Holds the file at `path`, which is made for that and removed afterwards; gives False when
    another process holds it. LedgerFileError when it cannot be made."""
    while True:
        try:
            fd = open_locked(calls, path, os.O_RDWR | os.O_CREAT)
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be made: {exc.strerror}") from exc
        if fd is None or is_same_file(fd, path):
            break
        os.close(fd)  # removed by its holder between our opening and locking
    try:
        yield fd is not None
    finally:
        if fd is not None:
            with suppress(OSError):  # left over, it holds nobody up
                calls.unlink(str(path))
            os.close(fd)


def is_same_file(fd: int, path: Path) -> bool:
    """Does `path` still name the file behind `fd`? Writing and syncing a file that was deleted
    or replaced succeeds, so it has to be asked."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def file_system_type(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Type of the file system that `path` lies on, by the longest mount point above it;
    None where the kernel does not tell (proc_pid_mountinfo(5))."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return None
    real = path.resolve()
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(b" - ")
        point = Path(os.fsdecode(_OCTAL.sub(_byte, before.split(b" ")[4])))
        if (real == point or point in real.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(b" ")[0].decode()
    return kind


_OCTAL = re.compile(rb"\\([0-7]{3})")  # how the kernel writes blanks and backslashes


def _byte(octal: re.Match[bytes]) -> bytes:
    return bytes([int(octal[1], 8)])
