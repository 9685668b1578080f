"""Who may use a ledger: on a local disk, one run over an input, one writer at a time."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from artist_bio_gen.errors import ConfigError, LedgerFileError, StoppedError, UsageError
from artist_bio_gen.ledger.files import (
    MOUNTS,
    NETWORK_FILE_SYSTEMS,
    PRIVATE,
    REAL,
    FileCalls,
    file_system_type,
    held,
    is_same_file,
)
from artist_bio_gen.ledger.segments import beside

_AGAIN_S = 0.002


def require_local(path: Path, mounts: Path = MOUNTS) -> None:
    """Raises ConfigError when `path` lies on a network file system, where neither locks nor
    fsync can be relied on."""
    kind = file_system_type(path.parent, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"{path}: lies on a network file system ({kind}), where locks and fsync cannot be"
            " relied on; put the ledger on a local disk, or take the risk with"
            " --allow-network-filesystem"
        )


@contextmanager
def only_run(path: Path, source: str, *, files: FileCalls = REAL) -> Iterator[None]:
    """Keeps a second run over the same input away from the ledger at `path`: both would buy the
    same bios. UsageError when there is one. Runs over other inputs may go on side by side."""
    name = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with held(files, beside(path, f"run.{name}")) as alone:
        if not alone:
            raise UsageError(
                f"{path}: another run is at work on it with the same input ({source}); wait for it"
                " to end, or stop it"
            )
        yield


class _Held(threading.local):
    """The lock files that a thread holds."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()


_HELD = _Held()


class Sidecar:
    """The lock file beside a ledger, for all processes and threads that write to it. `cancelled`
    ends a wait for it, with StoppedError.

    filelock's lock on a descriptor is what its FileLock takes, and the two keep each other out, but
    it never falls back to a file without flock; and for a row that is alone, whose data the caches
    have lost, it takes 0.07 ms instead of 0.4.
    """

    def __init__(self, path: Path, cancelled: Callable[[], bool]) -> None:
        self._path = path
        self._cancelled = cancelled

    @contextmanager
    def held(self) -> Iterator[None]:
        if self._path in _HELD.paths:  # it would wait for itself
            raise UsageError(
                f"{self._path}: this thread holds the ledger's lock already and cannot take it"
                " again; write to one ledger after the other"
            )
        try:
            while (fd := self._take()) is None:
                if self._cancelled():
                    raise StoppedError
                time.sleep(_AGAIN_S)
        except OSError as exc:
            raise LedgerFileError(f"{self._path}: cannot be locked: {exc.strerror}") from exc
        _HELD.paths.add(self._path)
        try:
            yield
        finally:
            _HELD.paths.discard(self._path)
            with suppress(OSError):
                unlock_descriptor(fd)  # closing alone would leave it to a copy that a fork made
            _close(fd)

    def _take(self) -> int | None:
        """A descriptor of its own for each hold, which keeps threads apart as well. None when
        somebody else has the lock, or has made or deleted the file meanwhile."""
        try:
            fd = self._open()
        except (BlockingIOError, FileExistsError):
            return None  # somebody who has a lease on it is asked to give it up, or was quicker
        taken = False
        try:
            taken = lock_descriptor(fd, blocking=False) and is_same_file(fd, self._path)
        finally:
            if not taken:
                _close(fd)
        return fd if taken else None

    def _open(self) -> int:
        # Neither through a link, nor waiting for whoever has a lease on it (fcntl(2)).
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self._path, flags)
        except FileNotFoundError:
            return os.open(self._path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)


def _close(fd: int) -> None:
    with suppress(OSError):  # it holds nothing that could be lost
        os.close(fd)
