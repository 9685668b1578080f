"""The table of file calls, with calls that fail when they are told to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from artist_bio_gen.ledger.files import REAL, FileCalls

NAMES = tuple(field.name for field in fields(FileCalls))


@dataclass(frozen=True, slots=True)
class Fault:
    """The `nth` (from 1) call of that name raises `error`, `forever` all after it too. `short`:
    a write writes so many bytes first, and succeeds with them if there is no error."""

    call: str
    error: int | None = None
    nth: int = 1
    forever: bool = False
    short: int | None = None

    def strikes(self, name: str, number: int) -> bool:
        return name == self.call and (number == self.nth or (self.forever and number > self.nth))


class FaultyFiles:
    """`calls` goes into what is tested; `made` lists the calls with their arguments, the failed
    ones included. Faults may be added while it is in use, and count calls from then on."""

    def __init__(self, *faults: Fault) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self._numbers: Counter[str] = Counter()
        self._faults = list(faults)
        self.calls = FileCalls(**{name: partial(self._call, name) for name in NAMES})

    def add(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._numbers.clear()

    def names(self) -> list[str]:
        return [name for name, _ in self.made]

    def _call(self, name: str, *arguments: Any) -> Any:
        self._numbers[name] += 1
        self.made.append((name, arguments))
        real: Callable[..., Any] = getattr(REAL, name)
        for fault in self._faults:
            if fault.strikes(name, self._numbers[name]):
                return _strike(fault, real, arguments)
        return real(*arguments)


def _strike(fault: Fault, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    written = None
    if fault.short is not None:
        fd, data = arguments
        written = real(fd, data[: fault.short])
    if fault.error is not None:
        raise OSError(fault.error, os.strerror(fault.error))
    return written
