"""The table of file calls, with calls that fail when they are told to."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from artist_bio_gen.ledger.files import REAL, FileCalls

NAMES = tuple(field.name for field in fields(FileCalls))


KILLED = 99
"""Exit status of a process that was to be killed at a call."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The `nth` (from 1) call of that name raises `error`, `forever` all after it too. `short`:
    a write writes so many bytes first, and succeeds with them if there is no error. `kill`: the
    process is gone instead, without a word. Only calls on files whose name matches `on` count."""

    call: str
    error: int | None = None
    nth: int = 1
    forever: bool = False
    short: int | None = None
    kill: bool = False
    on: str = "*"

    def strikes(self, number: int) -> bool:
        return number == self.nth or (self.forever and number > self.nth)


class FaultyFiles:
    """`calls` goes into what is tested; `made` lists the calls with their arguments, the failed
    ones included; `struck` counts those at which a fault struck. Faults may be added while it is
    in use, and count calls from then on. Safe for threads; children that are forked one after
    another go on counting where the one before was killed."""

    def __init__(self, *faults: Fault, real: FileCalls = REAL) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self.struck = 0
        self._real = real
        self._lock = threading.Lock()  # guards the counts
        self.add(*faults)
        self.calls = FileCalls(**{name: partial(self._call, name) for name in NAMES})

    def add(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._seen = memoryview(mmap.mmap(-1, 8 * max(1, len(faults)))).cast("q")

    def names(self) -> list[str]:
        return [name for name, _ in self.made]

    def _call(self, name: str, *arguments: Any) -> Any:
        real: Callable[..., Any] = getattr(self._real, name)
        with self._lock:
            self.made.append((name, arguments))
            fault = self._striking(name, arguments[0])
        if fault is not None:
            return _strike(fault, real, arguments)
        return real(*arguments)

    def _striking(self, name: str, target: int | str) -> Fault | None:
        striking = None
        for index, fault in enumerate(self._faults):
            if name != fault.call or (fault.on != "*" and not fnmatch(name_of(target), fault.on)):
                continue
            self._seen[index] += 1
            if striking is None and fault.strikes(self._seen[index]):
                striking = fault
        self.struck += striking is not None
        return striking


def name_of(target: int | str) -> str:
    """The name, without folders, of the file that a call is about, by descriptor or path."""
    path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
    return path.name


def _strike(fault: Fault, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    written = None
    if fault.short is not None:
        fd, data = arguments
        written = real(fd, data[: fault.short])
    if fault.kill:
        os._exit(KILLED)
    if fault.error is not None:
        raise OSError(fault.error, os.strerror(fault.error))
    return written
