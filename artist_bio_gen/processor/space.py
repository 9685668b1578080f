"""Room on the disk, asked before money is spent: a reply that was paid for must find its place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from artist_bio_gen.errors import LimitError

LOOK_EVERY_S = 0.1

_MEGABYTE = 1_000_000


def free_bytes(folder: Path) -> int:
    """What this user may still write to the file system of `folder`. OSError."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


class Space:
    """The file system on which ledger and journal lie. Thread-safe: of several threads that come
    when it is time to look, more than one may do so, which does no harm."""

    def __init__(
        self,
        folder: Path,
        min_free_mb: int,
        *,
        free: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`min_free_mb` 0: it is not looked at."""
        self._folder = folder
        self._needed = min_free_mb * _MEGABYTE
        self._free = free
        self._clock = clock
        self._enough_until = float("-inf")

    def require(self) -> None:
        """Quick enough for each call: looks at the disk at most so often. LimitError when there
        is less room than has to be left."""
        if not self._needed or self._clock() < self._enough_until:
            return
        try:
            left = self._free(self._folder)
        except OSError as exc:
            raise LimitError(
                f"{self._folder}: how much room its file system has left cannot be told"
                f" ({exc.strerror}); no further call is made. Mend that, then --resume"
            ) from exc
        if left < self._needed:
            raise LimitError(
                f"{self._folder}: its file system has {left / _MEGABYTE:,.1f} MB left, and"
                f" {self._needed / _MEGABYTE:,.0f} MB are needed (--min-free-mb), so that what is"
                " paid for can be kept; no further call is made. Make room, then --resume"
            )
        self._enough_until = self._clock() + LOOK_EVERY_S
