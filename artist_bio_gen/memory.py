"""Memory that stays flat however many rows pass through, and a guard over what it takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artist_bio_gen.errors import LimitError

# glibc's mallopt(3): numbers of its parameters.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE = 128 * 1024

MB = 1_000_000

EASY = 0.7
"""Share of the limit below which nothing is held back."""

FULL = 0.95
"""Share of it at which work ends, before the system ends it."""

CHILDREN_EVERY = 0.2
"""Seconds between two looks at the child processes, which cost more than one at this process."""


def keep_flat() -> None:
    """Lets glibc give memory back. To be called before threads are started.

    By default it raises its thresholds as large buffers are freed (a group of rows on its way to
    the database is one), keeps what it has from then on, and has a heap for every few threads:
    over a million rows that is a quarter more. Elsewhere than on glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _LARGE)
    mallopt(_M_ARENA_MAX, 2)


def trim() -> None:
    """Gives back what is free already: cycles of objects, then the pages of the heap."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # elsewhere than on glibc
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of this process and of its children, in bytes."""

    process: int
    children: int = 0

    @property
    def total(self) -> int:
        return self.process + self.children


class ProcessMemory:
    """Looks at this process and, now and then, at its children and theirs."""

    def __init__(
        self, *, children: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._with_children = children
        self._clock = clock
        self._children = 0
        self._looked = -CHILDREN_EVERY

    def __call__(self) -> Memory:
        now = self._clock()
        if self._with_children and now - self._looked >= CHILDREN_EVERY:
            self._looked = now
            self._children = sum(map(_resident, _descendants(os.getpid())))
        return Memory(_resident(os.getpid()), self._children)


class MemoryGuard:
    """Says how many rows may be taken at a time, and ends the work before the system does.

    `limit` is in MB. Near it, chunks are halved step by step; `trim` is called once each time it
    comes near.
    """

    def __init__(
        self,
        limit: int,
        *,
        children: bool = True,
        read: Callable[[], Memory] | None = None,
        trim: Callable[[], None] = trim,
    ) -> None:
        self.limit = limit * MB
        self.peak = 0
        """The most that was seen, in bytes."""
        self.spilled = 0
        """Bytes on disk in place of memory, for the message: a folder may lie in memory too."""
        self._read = read or ProcessMemory(children=children)
        self._trim = trim
        self._trimmed = False
        self._halvings = 0

    def size(self, wanted: int) -> int:
        """How many rows to take next, at most `wanted`. LimitError when too little is left."""
        used = self._look()
        if used.total < EASY * self.limit:
            self._trimmed = False
            self._halvings = max(0, self._halvings - 1)
        else:
            if not self._trimmed:
                self._trimmed = True
                self._trim()
                used = self._look()
            if used.total >= FULL * self.limit:
                raise LimitError(self._account(used, max(1, wanted >> self._halvings)))
            if used.total >= EASY * self.limit and wanted >> self._halvings > 1:
                self._halvings += 1
        return max(1, wanted >> self._halvings)

    @property
    def pressed(self) -> bool:
        """Whether memory is so short that chunks are made smaller."""
        return self._look().total >= EASY * self.limit

    def _look(self) -> Memory:
        used = self._read()
        self.peak = max(self.peak, used.total)
        return used

    def _account(self, used: Memory, rows: int) -> str:
        children = f", its child processes {used.children // MB:,} MB" if used.children else ""
        spilled = f", {self.spilled // MB:,} MB spilled to disk" if self.spilled else ""
        smaller = f", a smaller --chunk-size than {rows:,}" if rows > 1 else ""
        return (
            f"memory is short: {used.total // MB:,} MB of the {self.limit // MB:,} MB that"
            f" --memory-limit allows are in use (this process {used.process // MB:,} MB{children};"
            f" {rows:,} row{'s' if rows > 1 else ''} at a time{spilled}). What was done stands;"
            f" go on with a higher --memory-limit{smaller}, or --parallel 1"
        )


def _resident(pid: int) -> int:
    """Resident bytes of a process; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 - each chunk
            return int(file.read(256).split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


_PAGE = os.sysconf("SC_PAGE_SIZE")


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)
