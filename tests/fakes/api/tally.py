"""What the server has seen and done: counts, the log and the last requests."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

Ending = Literal["answered", "error", "cut", "gone"]
"""answered: a complete reply with status 200 went out, so the call is billed; error: a complete
reply with another status, or nothing was done; cut: done and billed, its reply unreadable or
never sent; gone: the client left before its reply."""


@dataclass(slots=True)
class Call:
    """One POST from its arrival to its end."""

    client_request_id: str
    artist: str
    digest: str
    arrived: float
    fault: str = "ok"


class Tally:
    """`log` gets one JSON line a call as it ends, in one write, never buffered here."""

    def __init__(self, *, log: Path | None, keep: int, count_artists: bool) -> None:
        self.count_artists = count_artists
        self.requests: deque[tuple[str, str, bytes, bytes]] = deque(maxlen=keep)
        """The last requests: method, target, header lines, body."""
        self._log = None
        if log is not None:
            self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.clear()

    def clear(self) -> None:
        self.calls = 0
        self.in_flight = 0
        self.connections = 0
        self.open_connections = 0
        self._endings: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._answered_texts: Counter[str] = Counter()

    def begin(self, call: Call) -> None:
        self.calls += 1
        self.in_flight += 1
        if self.count_artists:
            self._seen[call.artist] += 1

    def end(self, call: Call, ending: Ending, status: int) -> None:
        """`status` is 0 where none was sent."""
        self.in_flight -= 1
        self._endings[ending] += 1
        self._statuses[status] += 1
        self._faults[call.fault] += 1
        if ending == "answered" and self.count_artists:
            self._answered[call.artist] += 1
            self._answered_texts[call.digest] += 1
        if self._log is not None:
            line = {
                "time": time.time(),
                "request_id": call.client_request_id,
                "artist": call.artist,
                "status": status,
                "ending": ending,
                "fault": call.fault,
                "seconds": round(time.monotonic() - call.arrived, 4),
            }
            os.write(self._log, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def counts(self) -> Mapping[str, Any]:
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "answered": self._endings["answered"],
            "error": self._endings["error"],
            "cut": self._endings["cut"],
            "gone": self._endings["gone"],
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "faults": self._faults,
            "connections": self.connections,
            "open_connections": self.open_connections,
            "seen_by_artist": self._seen,
            "answered_by_artist": self._answered,
            "answered_by_text": self._answered_texts,
        }

    def last_requests(self) -> list[dict[str, Any]]:
        return [
            {
                "method": method,
                "target": target,
                "headers": _headers(head),
                "body": body.decode("utf-8", "replace"),
            }
            for method, target, head, body in self.requests
        ]


def _headers(head: bytes) -> dict[str, str]:
    """Names in lower case; of a repeated header the last value."""
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    return {name.lower(): value.strip() for name, _, value in lines if name}
