"""Folders for what lies on disk only while a process runs: rows, and files read from their end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from functools import partial
from pathlib import Path

from artist_bio_gen.failing import on_failure

PREFIX = "artist-bio-gen-spill-"

_LOCK = "lock"
_UNFINISHED = 3600
"""Seconds after which a folder without a lock is one whose maker died while making it."""


class Scratch:
    """A folder of this process alone, locked for as long as the process lives.

    `parent` is made if it is missing. What dead processes have left there is removed first.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(parent)
        # Others see its name only once the lock is held.
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{os.getpid()}-", dir=parent))
        with on_failure(partial(shutil.rmtree, made, ignore_errors=True)):
            self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with on_failure(partial(os.close, self._lock)):
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                self.path = made.rename(made.with_name(made.name[1:]))

    def close(self) -> None:
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def remove_left_over(parent: Path) -> list[Path]:
    """Removes the folders of processes that live no more, and tells which."""
    removed = []
    for folder in parent.glob(f"{PREFIX}*"):
        if _is_ours(folder) and _take(folder / _LOCK, folder):
            removed.append(folder)
    for folder in parent.glob(f".{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_ours(folder) and time.time() - folder.stat().st_mtime > _UNFINISHED:
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_ours(folder: Path) -> bool:
    """In a folder that others write to as well, a name says nothing."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _take(lock: Path, folder: Path) -> bool:
    try:
        held = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its owner lives
        return False
    finally:
        os.close(held)
    return True
