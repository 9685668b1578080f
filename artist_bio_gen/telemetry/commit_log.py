"""The commit log: one JSON object a line for each event, from which a run, and a crash, can be
investigated afterwards. docs/commit-log.md describes each event; `EVENTS` is its short form.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import orjson

from artist_bio_gen.errors import ConfigError, LimitError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.masking import MASK, SHORTEST
from artist_bio_gen.telemetry import Event

EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "started": (
        "ledger",
        "input",
        "rows",
        "workers",
        "model",
        "prompt_sha256",
        "database",
        "table",
        "settings",
    ),
    "recovered": (
        "lines",
        "appended",
        "put_back",
        "quarantine",
        "begun",
        "noted",
        "committed",
        "failed",
        "in_flight",
        "damaged",
        "kept",
    ),
    "planned": (
        "rows",
        "finished",
        "left",
        "changed",
        "changed_input",
        "changed_prompt",
        "failed",
        "no_row",
        "repeated",
        "rejected",
        "set_aside",
    ),
    "in_flight": ("artist_id", "artist_name", "attempt", "request_id"),
    "calling": ("artist_id", "attempt", "request_id", "worker"),
    "retrying": ("artist_id", "attempt", "kind", "wait_s", "reason"),
    "committed": (
        "artist_id",
        "artist_name",
        "worker",
        "duration_ms",
        "attempts",
        "db_status",
        "response_id",
        "transaction_id",
        "seq",
        "hash",
        "usage",
    ),
    "appended": ("artist_id", "artist_name", "worker", "seq", "hash"),
    "failed": (
        "artist_id",
        "artist_name",
        "kind",
        "reason",
        "attempts",
        "transient",
        "usage",
        "recovered",
    ),
    "rejected": ("row", "file", "reason"),
    "skipped": ("artist_id", "artist_name", "reason", "count", "changed_input", "changed_prompt"),
    "notice": ("text",),
    "paused": ("reason",),
    "flowing": ("reason",),
    "stopped": ("reason", "exit_code", "counts"),
}
"""Order of the keys in a line, after `time`, `event` and `run`. A key that an event does not
have is left out; one that is not listed comes last."""

_MEGABYTE = 1_000_000
_LOOK_AGAIN_S = 1.0


class CommitLog:
    """A hook that writes, thread-safe; several processes may write to one file.

    `flush`: "line" hands each line to the system (a killed process loses none), "sync" also
    has it on disk before going on, a number hands over so many lines at a time (a kill loses
    up to that many; `stopped` is always handed over). Past `max_mb` the file is renamed to
    `<path>.1`, and so on up to `keep`. Texts in `secrets` are masked wherever they turn up.
    `end_line` ends a line in an open file that was cut off; tests pass one of theirs.

    Raises ConfigError when the file cannot be opened, and LimitError when the disk is full, and
    at each event that could not be written: a log with holes must not pass silently.
    """

    def __init__(
        self,
        path: Path,
        *,
        flush: Literal["line", "sync"] | int = "line",
        max_mb: float = 100,
        keep: int = 5,
        secrets: Iterable[str] = (),
        end_line: Callable[[int], None] | None = None,
    ) -> None:
        self._path = path
        self._end_line = end_line or _end_line
        self._lines_at_once = flush if isinstance(flush, int) else 1
        self._sync = flush == "sync"
        self._max_bytes = int(max_mb * _MEGABYTE)
        self._keep = keep
        self._secrets = tuple(each for each in secrets if len(each) >= SHORTEST)
        self._escaped = tuple(orjson.dumps(_representable(each))[1:-1] for each in self._secrets)
        self._lock = threading.Lock()  # guards all that follows; writes are made outside
        self._waiting: list[bytes] = []
        self._run: str | None = None
        self._looked = 0.0
        self._size = 0
        self._torn = False
        self._writers = 0
        self._closed = False
        try:
            self._descriptor = self._open()
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LimitError(
                    f"{path}: no room for the commit log ({exc.strerror}); make room on the disk of"
                    f" {path.parent.absolute()}, or choose another --log-file"
                ) from exc
            raise ConfigError(
                f"{path}: cannot open the commit log ({exc.strerror}); choose another --log-file"
            ) from exc

    def __call__(self, event: Event) -> None:
        self.take([event])

    def take(self, events: Sequence[Event]) -> None:
        """Writes the lines of a group in one go."""
        last = events[-1]
        if last.name == "started":
            self._run = last.fields.get("run")
        lines = [self._line(event) for event in events]
        with self._lock:
            if self._closed:
                raise self._broken("it is closed")
            self._waiting += lines
            if len(self._waiting) < self._lines_at_once and last.name != "stopped":
                return
            block = self._take_waiting()
        self._hand_over(block, last.time)

    def close(self) -> None:
        """Hands over what waits, and closes. Closing twice does nothing more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            block = self._take_waiting()
        self._hand_over(block, self._looked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, event: Event) -> bytes:
        fields = event.fields
        told = {
            "time": rfc3339(event.time),
            "event": event.name,
            "run": fields.get("run", self._run),
        }
        for key in EVENTS.get(event.name, ()):
            if key in fields:
                told[key] = fields[key]
        if not fields.keys() <= told.keys():
            told |= {key: value for key, value in fields.items() if key not in told}
        try:
            line = orjson.dumps(told, default=str)
        except TypeError:  # lone surrogates, integers beyond 64 bits: rare, so mended only here
            line = orjson.dumps(_representable(told), default=str)
        for secret in self._escaped:
            if secret in line:
                line = orjson.dumps(self._without_secrets(_representable(told)), default=str)
                break
        return line + b"\n"

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {key: self._without_secrets(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._without_secrets(each) for each in value]
        return value

    def _take_waiting(self) -> bytes:
        """What waits; whoever takes it hands it over. Under the lock."""
        self._writers += 1
        block = b"".join(self._waiting)
        self._waiting.clear()
        return block

    def _hand_over(self, block: bytes, now: float) -> None:
        """Writes a block, which O_APPEND keeps in one piece among threads and processes."""
        try:
            if block:
                with self._lock:
                    self._make_ready(len(block), now)
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if block and self._sync:
                os.fsync(self._descriptor)
        except OSError as exc:
            self._torn = True
            raise self._broken(exc.strerror) from exc
        finally:
            with self._lock:
                self._writers -= 1
                if self._closed and not self._writers:  # a call may outlast the run
                    os.close(self._descriptor)

    def _make_ready(self, size: int, now: float) -> None:
        """The file, for a block of that size. Under the lock."""
        self._stay_with_path(now)
        if self._torn:
            self._end_line(self._descriptor)
            self._torn = False
        if self._size and self._size + size > self._max_bytes:
            self._rotate()
        self._size += size

    def _broken(self, why: str | None) -> LimitError:
        return LimitError(
            f"{self._path}: cannot write the commit log ({why}); make room or choose another"
            " --log-file, then --resume"
        )

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        with on_failure(functools.partial(os.close, descriptor)):
            self._end_line(descriptor)
            if self._sync:
                _sync_folder(self._path.parent)
        return descriptor

    def _reopen(self) -> None:
        # Under the same number, for threads that are about to write to it.
        fresh = self._open()
        try:
            os.dup2(fresh, self._descriptor, inheritable=False)
        finally:
            os.close(fresh)
        self._size = os.fstat(self._descriptor).st_size

    def _stay_with_path(self, now: float) -> None:
        """Another process may have rotated the file, or someone taken it away."""
        if abs(now - self._looked) >= _LOOK_AGAIN_S:
            self._looked = now
            if self._is_at_path():
                self._size = os.fstat(self._descriptor).st_size
            else:
                self._reopen()

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        # The lock is on the file itself: whoever gets it second finds it moved, and goes on
        # with the new one. The path is free for that only after the last renaming.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        if self._is_at_path():
            for number in range(self._keep - 1, 0, -1):
                older = self._old(number)
                if older.exists():
                    older.replace(self._old(number + 1))
            if self._keep:
                self._path.replace(self._old(1))
            else:
                self._path.unlink()
        self._reopen()

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


@functools.lru_cache(maxsize=8)  # the events of a group have the same time
def rfc3339(unix_seconds: float) -> str:
    """In UTC with microseconds: 2026-11-22T06:13:06.123456Z."""
    second, microsecond = divmod(round(unix_seconds * 1_000_000), 1_000_000)
    return f"{_whole_second(second)}.{microsecond:06}Z"


@functools.lru_cache(maxsize=8)
def _whole_second(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).replace(tzinfo=None).isoformat()


def _representable(value: Any) -> Any:
    """The value as JSON can hold it: surrogates escaped, large integers as text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_representable(str(key)): _representable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_representable(each) for each in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return _representable(str(value))


def _end_line(descriptor: int) -> None:
    """Ends a line that a full disk or a power loss has cut off, so that the next stays whole."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
