"""Who may use a ledger: on a local disk, one run over an input, one writer at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

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


class Sidecar:
    """The lock file beside a ledger, for all processes that write to it. `cancelled` ends a wait
    for it, with StoppedError."""

    def __init__(self, path: Path, cancelled: Callable[[], bool]) -> None:
        self._path = path
        self._cancelled = cancelled
        self._fd = -1
        # on_acquired hands out the descriptor and, by filelock's own rule, switches off the
        # silent fall-back to a lock file without flock; fallback_to_soft says it once more.
        self._lock = FileLock(
            path,
            mode=PRIVATE,
            fallback_to_soft=False,
            poll_interval=0.002,
            on_acquired=self._note,
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        while True:
            try:
                self._lock.acquire(cancel_check=self._cancelled)
            except Timeout as exc:
                raise StoppedError from exc
            except OSError as exc:
                raise LedgerFileError(f"{self._path}: cannot be locked: {exc.strerror}") from exc
            try:
                if is_same_file(self._fd, self._path):
                    yield
                    return
                # Deleted and made anew by another process while we waited.
            finally:
                self._lock.release()

    def _note(self, fd: int) -> None:
        self._fd = fd
