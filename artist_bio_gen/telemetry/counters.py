"""How the run stands: a hook that counts, and the frozen `Snapshot` that it hands out.

Bounded whatever the run's length: counters, one number for each of the last seconds, and the
durations of the last calls.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from artist_bio_gen.telemetry import Event

WINDOW_S = 30
RECENT_CALLS = 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`written_rate` and `recent_rate` are bios and failures a second, since the first call and
    over the last `WINDOW_S` seconds. `p50_ms` and `p95_ms` are of the last `RECENT_CALLS`
    bios, None before the first. `total` is the source's estimate of its rows, `paused` the
    reason why nothing moves; both None when there is none. `seconds` since the start."""

    done: int
    failed: int
    rejected: int
    recovered: int
    skipped: Mapping[str, int]
    changed_input: int
    changed_prompt: int
    calls: int
    retries: int
    input_tokens: int
    output_tokens: int
    seconds: float
    overall_rate: float
    recent_rate: float
    p50_ms: float | None
    p95_ms: float | None
    total: int | None
    paused: str | None

    @property
    def seen(self) -> int:
        """Rows that have come to an end, whichever."""
        return self.done + self.failed + self.rejected + sum(self.skipped.values())

    @property
    def seconds_left(self) -> float | None:
        """At the recent rate; None while that or the total is unknown."""
        if self.total is None or not self.recent_rate:
            return None
        return max(self.total - self.seen, 0) / self.recent_rate


class Counters:
    """A hook. Counts `appended` as done: a bio counts when its line is on disk."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all that follows; held for a few additions
        self._began = clock()
        self._first_call: float | None = None
        self._done = self._failed = self._rejected = self._recovered = 0
        self._skipped: dict[str, int] = {}
        self._changed_input = self._changed_prompt = 0
        self._calls = self._retries = 0
        self._input_tokens = self._output_tokens = 0
        self._durations_ms: deque[float] = deque(maxlen=RECENT_CALLS)
        self._by_second: deque[list[int]] = deque(maxlen=WINDOW_S + 1)  # [second, rows]
        self._total: int | None = None
        self._pauses = 0  # those of the committer's database and of the look-ups are told apart
        self._paused: str | None = None
        self._count: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "started": self._on_started,
            "calling": self._on_calling,
            "retrying": self._on_retrying,
            "committed": self._on_committed,
            "appended": self._on_appended,
            "failed": self._on_failed,
            "rejected": self._on_rejected,
            "skipped": self._on_skipped,
            "paused": self._on_paused,
            "flowing": self._on_flowing,
        }

    def __call__(self, event: Event) -> None:
        self.take([event])

    def take(self, events: Sequence[Event]) -> None:
        """Counts a group of one kind."""
        count = self._count.get(events[0].name)
        if count is not None:
            with self._lock:
                for event in events:
                    count(event.fields)

    def snapshot(self, total: int | None = None) -> Snapshot:
        """`total` stands in as long as no source has told how many rows it may have."""
        with self._lock:
            now = self._clock()
            durations = sorted(self._durations_ms)
            ended = self._done + self._failed
            since_call = 0.0 if self._first_call is None else now - self._first_call
            recent = sum(rows for second, rows in self._by_second if second > now - WINDOW_S)
            return Snapshot(
                done=self._done,
                failed=self._failed,
                rejected=self._rejected,
                recovered=self._recovered,
                skipped=MappingProxyType(dict(self._skipped)),
                changed_input=self._changed_input,
                changed_prompt=self._changed_prompt,
                calls=self._calls,
                retries=self._retries,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                seconds=now - self._began,
                overall_rate=ended / since_call if since_call > 0 else 0.0,
                recent_rate=recent / min(max(since_call, 1.0), WINDOW_S),
                p50_ms=_quantile(durations, 0.50),
                p95_ms=_quantile(durations, 0.95),
                total=total if self._total is None else self._total,
                paused=self._paused,
            )

    def _on_started(self, fields: Mapping[str, Any]) -> None:
        self._total = fields.get("rows")

    def _on_calling(self, fields: Mapping[str, Any]) -> None:
        self._calls += 1
        if self._first_call is None:
            self._first_call = self._clock()

    def _on_retrying(self, fields: Mapping[str, Any]) -> None:
        self._retries += 1

    def _on_committed(self, fields: Mapping[str, Any]) -> None:
        if fields.get("worker") is None:
            return  # taken from a journal: an earlier run called and paid for it
        self._add_tokens(fields)
        self._durations_ms.append(fields["duration_ms"])

    def _on_appended(self, fields: Mapping[str, Any]) -> None:
        if fields.get("worker") is None:
            self._recovered += 1  # bought by an earlier run; this run will find it done
            return
        self._done += 1
        self._tick()

    def _on_failed(self, fields: Mapping[str, Any]) -> None:
        if fields.get("recovered"):
            return  # met by an earlier run, and now noted; this run may try again
        self._failed += 1
        self._add_tokens(fields)
        self._tick()

    def _on_rejected(self, fields: Mapping[str, Any]) -> None:
        self._rejected += 1

    def _on_skipped(self, fields: Mapping[str, Any]) -> None:
        reason = fields["reason"]
        self._skipped[reason] = self._skipped.get(reason, 0) + fields.get("count", 1)
        self._changed_input += fields.get("changed_input", 0)
        self._changed_prompt += fields.get("changed_prompt", 0)

    def _on_paused(self, fields: Mapping[str, Any]) -> None:
        self._pauses += 1
        self._paused = fields["reason"]

    def _on_flowing(self, fields: Mapping[str, Any]) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._paused = None

    def _add_tokens(self, fields: Mapping[str, Any]) -> None:
        usage = fields.get("usage") or {}
        self._input_tokens += usage.get("input_tokens") or 0
        self._output_tokens += usage.get("output_tokens") or 0

    def _tick(self) -> None:
        second = int(self._clock())
        if self._by_second and self._by_second[-1][0] == second:
            self._by_second[-1][1] += 1
        else:
            self._by_second.append([second, 1])


def _quantile(ordered: list[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least this share does not exceed."""
    if not ordered:
        return None
    return ordered[math.ceil(len(ordered) * share) - 1]
