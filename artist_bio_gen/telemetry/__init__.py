"""What happened, told once, to whoever listens: an `Event` and its hooks.

Whoever does something calls `telemetry.emit("committed", run=..., ...)`; progress, counters
and the commit log are hooks, plain callables that take one frozen `Event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `time` is in Unix seconds; `fields` hold JSON values."""

    name: str
    time: float
    fields: Mapping[str, Any]


Hook: TypeAlias = Callable[[Event], None]


class Telemetry:
    """Hands each event to each hook, in the thread in which it happened.

    Hooks must be thread-safe and quick. An error in a hook is an error of the run: a commit
    log that cannot be written must not pass silently.
    """

    def __init__(self, *hooks: Hook, clock: Callable[[], float] = time.time) -> None:
        self._hooks = hooks
        self._clock = clock

    def emit(self, name: str, /, **fields: Any) -> None:
        event = Event(name, self._clock(), fields)
        for hook in self._hooks:
            hook(event)
