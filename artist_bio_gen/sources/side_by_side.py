"""A plug-in's function of chunks, called in several processes at once; the order stays.

The processes are plain interpreters of their own: whoever calls need not be a program that can be
imported again. Each has one chunk at a time, so that neither side waits for the other one to read.
"""

from __future__ import annotations

import json
import pickle
import select
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.formats import chunk_function
from artist_bio_gen.sources.shaping import columns_after
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Json

_LOOK_MS = 200
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from artist_bio_gen.sources.side_by_side import serve; serve(sys.argv[2])"
)
_SIZE = struct.Struct("<Q")


class SideBySide(RowStream):
    """The chunks of a stream after the plug-in `function` had them, in `workers` processes."""

    def __init__(
        self, stream: RowStream, function: str, workers: int, cancelled: Callable[[], bool]
    ) -> None:
        self.name = stream.name
        self.columns = stream.columns
        self.estimated_row_count = stream.estimated_row_count
        self.can_wait = stream.can_wait
        self.grows = True  # nobody knows what the function adds
        self._stream = stream
        self._function = function
        self._cancelled = cancelled
        self._idle: deque[_Worker] = deque()
        self._busy: deque[tuple[_Worker, Chunk]] = deque()
        self._again: deque[Chunk] = deque()  # to be given once more, before those under way
        self._behind: deque[Chunk] = deque()  # to be given after them
        self._most = sys.maxsize
        self._ended = False
        with on_failure(self.close):
            for _ in range(workers):
                self._idle.append(_Worker(function))

    def facts(self) -> dict[str, Json]:
        return self._stream.facts()

    def read(self, size: int) -> Chunk | None:
        while True:
            self._fill(size)
            if not self._busy:
                return None
            worker, given = self._busy[0]
            made = worker.receive(self._cancelled)  # when it raises, it is busy still
            self._idle.append(self._busy.popleft()[0])
            if isinstance(made, MemoryError):
                if len(given) <= 1:
                    self._again.appendleft(given)
                    raise made
                self._most = max(1, len(given) // 2)
                self._again.extendleft(reversed(given.halves()))
                continue
            if isinstance(made, str):
                raise InputError(
                    f"{self.name}: the plug-in {self._function} failed at rows"
                    f" {_shown(given)}: {made}; mend it, or read without --chunk-function"
                )
            self.columns = columns_after(made, self.columns)
            return made

    def close(self) -> None:
        for worker in (*self._idle, *(worker for worker, _ in self._busy)):
            worker.close()
        self._idle.clear()
        self._busy.clear()
        self._stream.close()

    def _fill(self, size: int) -> None:
        """Every worker gets a chunk, as long as there are any; first those that were too large."""
        if self._again:
            self._give(self._again, 0)
        while self._idle and not self._ended and not self._again:
            if not self._behind:
                chunk = self._stream.read(min(size, self._most))
                if chunk is None:
                    self._ended = True
                    return
                self._behind.append(chunk)
            self._give(self._behind, len(self._busy))

    def _give(self, chunks: deque[Chunk], at: int) -> None:
        """The first of these, which stays among them when there is no memory for it."""
        data = _packed(chunks[0])
        worker = self._idle.popleft()
        self._busy.insert(at, (worker, chunks.popleft()))
        worker.send(data)


def _shown(chunk: Chunk) -> str:
    numbers = [*chunk.numbers[:1], *chunk.numbers[-1:]]
    return " to ".join(f"{number:,}" for number in numbers) or "(none)"


class _Worker:
    def __init__(self, function: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, json.dumps(sys.path), function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # a Ctrl+C is for us; it ends when its input does
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)

    def send(self, data: bytes) -> None:
        with suppress(BrokenPipeError):  # `receive` tells
            self._in.write(data)
            self._in.flush()

    def receive(self, cancelled: Callable[[], bool]) -> Chunk | MemoryError | str:
        """What the function made, or why it made nothing."""
        while not self._poll.poll(_LOOK_MS):
            if cancelled():
                raise StoppedError
        made: Chunk | MemoryError | str | None = _receive(self._out)
        return f"its process ended with {self._process.wait()}" if made is None else made

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._in.close()
        self._out.close()


def serve(function: str) -> None:
    """In the other process: a chunk in, a chunk out, until there are no more."""
    call = chunk_function(function)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what the function prints is no chunk
    while (chunk := _receive(sys.stdin.buffer)) is not None:
        try:
            made: Chunk | MemoryError | str = call(chunk)
        except MemoryError:
            made = MemoryError()
        except Exception as exc:  # noqa: BLE001 - the edge of the process
            made = f"{type(exc).__name__}: {exc}"
        out.write(_packed(made))
        out.flush()


def _packed(what: Chunk | MemoryError | str) -> bytes:
    data = pickle.dumps(what, protocol=5)
    return _SIZE.pack(len(data)) + data


def _receive(file: IO[bytes]) -> Any:
    """What the other side has packed; None when it has ended."""
    head = file.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    data = file.read(size)
    return pickle.loads(data) if len(data) == size else None  # noqa: S301 - our own process's
