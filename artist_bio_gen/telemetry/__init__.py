"""What happened, told once, to whoever listens: an `Event` and its hooks.

Whoever does something calls `telemetry.emit("committed", run=..., ...)`; progress, counters
and the commit log are hooks, plain callables that take one frozen `Event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `time` is in Unix seconds; `fields` hold JSON values."""

    name: str
    time: float
    fields: Mapping[str, Any]


Hook: TypeAlias = Callable[[Event], None]


@runtime_checkable
class GroupHook(Protocol):
    """A hook for which many events at once are less work than one after another."""

    def __call__(self, event: Event) -> None: ...

    def take(self, events: Sequence[Event]) -> None: ...


class Telemetry:
    """Hands each event to each hook, in the thread in which it happened.

    Hooks must be thread-safe and quick. An error in a hook is an error of the run: a commit
    log that cannot be written must not pass silently.
    """

    def __init__(self, *hooks: Hook, clock: Callable[[], float] = time.time) -> None:
        self._hooks = hooks
        self._clock = clock
        self._takers = [
            hook.take if isinstance(hook, GroupHook) else _one_by_one(hook) for hook in hooks
        ]

    def emit(self, name: str, /, **fields: Any) -> None:
        event = Event(name, self._clock(), fields)
        for hook in self._hooks:
            hook(event)

    def emit_each(self, name: str, each: Iterable[Mapping[str, Any]]) -> None:
        """As `emit`, of many that happened at the same moment."""
        now = self._clock()
        events = [Event(name, now, fields) for fields in each]
        if events:
            for take in self._takers:
                take(events)


def _one_by_one(hook: Hook) -> Callable[[Sequence[Event]], None]:
    def take(events: Sequence[Event]) -> None:
        for event in events:
            hook(event)

    return take
