"""One processor core for the threads of a run that keeps one busy.

The interpreter lets one thread run at a time. Spread over several cores, threads wake each other
across them at each hand-over, which costs more than the work between two of them: with 256 workers
that never wait for long, a row takes a quarter to a third less time on one core, and the others
are free for the rest of the machine. There, a thread that wakes up would push away the one that
runs, only to wait for the interpreter that this one holds: told not to (SCHED_BATCH, sched(7)),
they take about a seventh less again. Real API calls last so long that few runs come to that; and
where others want the core as well, a run that may go elsewhere is better off.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 10.0
"""After others have wanted the core."""

HUNGRY, SATED = 0.5, 0.25
"""Of one core's time: what the run takes before it is bound to one, and when it is let go."""

_ORDINARY = (os.SCHED_OTHER, os.SCHED_BATCH) if hasattr(os, "SCHED_BATCH") else ()
"""Who was started under another policy keeps it."""

_OTHERS_ON_IT = 0.25
_OTHERS_BESIDE = 0.9  # of the other cores' time: with more there is no room beside the run


def idle_seconds() -> Mapping[int, float]:
    """For how long each core has been idle (proc_stat(5)); empty where that cannot be learned."""
    with suppress(OSError, ValueError, IndexError):
        tick = os.sysconf("SC_CLK_TCK")
        rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        return {
            int(row[0][3:]): (int(row[4]) + int(row[5])) / tick
            for row in rows
            if row[0].startswith("cpu") and row[0] != "cpu"
        }
    return {}


def bind_all(cores: Collection[int]) -> None:
    """All threads of this process; those that they start follow them. On a single core they do not
    push each other away, on several they do again."""
    policy = os.SCHED_BATCH if len(cores) == 1 else os.SCHED_OTHER
    for thread in threading.enumerate():
        if thread.native_id is not None:
            with suppress(OSError):  # it has just ended; and this is for speed alone
                os.sched_setaffinity(thread.native_id, cores)
                if os.sched_getscheduler(thread.native_id) in _ORDINARY:
                    os.sched_setscheduler(thread.native_id, policy, os.sched_param(0))


class Core:
    """Looks now and then whether the run should be bound to one core, and does it. For one thread.
    Does nothing where the process may use one core only, or the system does not tell."""

    def __init__(
        self,
        *,
        idle: Callable[[], Mapping[int, float]] = idle_seconds,
        used: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        bind: Callable[[Collection[int]], None] = bind_all,
    ) -> None:
        self._idle, self._used, self._clock, self._bind = idle, used, clock, bind
        self._allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._bound: int | None = None
        self._not_before = 0.0
        self._last = (clock(), used(), idle())

    def look(self) -> None:
        """Quick enough for each group."""
        now = self._clock()
        before, used_before, idle_before = self._last
        took = now - before
        if took < LOOK_EVERY_S or len(self._allowed) < 2:
            return
        used, idle = self._used(), self._idle()
        self._last = (now, used, idle)
        if not self._allowed <= idle.keys() & idle_before.keys():
            return
        ours = (used - used_before) / took
        rest = {core: (idle[core] - idle_before[core]) / took for core in self._allowed}
        if self._bound is None:
            beside = len(rest) - sum(rest.values()) - ours
            room = beside <= _OTHERS_BESIDE * (len(rest) - 1)
            if ours >= HUNGRY and room and now >= self._not_before:
                self._bound = max(rest, key=lambda core: rest[core])
                self._bind({self._bound})
        elif 1 - rest[self._bound] - ours > _OTHERS_ON_IT:
            self._not_before = now + AGAIN_AFTER_S
            self.release()
        elif ours < SATED:
            self.release()

    def release(self) -> None:
        """Lets all threads go where they might before."""
        if self._bound is not None:
            self._bound = None
            self._bind(self._allowed)
