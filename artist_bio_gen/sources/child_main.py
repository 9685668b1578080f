"""The other end of child.py: reads a source and hands its chunks over. Runs in the child alone."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import resource
import struct
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

from artist_bio_gen.errors import ArtistBioGenError
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Json

HEAD = struct.Struct("<cQ")
"""Before each message: its kind and its size in bytes."""

TOLD, ROWS, END, FAILED = b"t", b"r", b"e", b"f"
"""What there is to tell of the source (first of all, and when its columns have grown), a chunk,
the same as the first at its end, an error."""

_FIRST_ROWS = 100  # so that the first row is there soon
_COLLECTED_AFTER = 20_000  # objects; the rows of a few chunks, in which there are no rings to find
_LARGE = 4 * 1024 * 1024  # bytes of a chunk beyond which the next ones have fewer rows


def main() -> None:
    # What a library prints is no message.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    opener, arguments, memory_mib, cpu_s, size = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our parent
    gc.set_threshold(_COLLECTED_AFTER)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError):  # nobody wants the rest
        _serve(out, opener, arguments, _Limits(memory_mib, cpu_s), size)
    os._exit(0)  # there is nothing to tidy up, and large heaps take long


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _serve(
    out: IO[bytes], opener: str, arguments: Sequence[Any], limits: _Limits, size: int
) -> None:
    try:
        limits.begin()
        module, _, name = opener.partition(":")
        with getattr(importlib.import_module(module), name)(*arguments) as stream:
            _hand_over(stream, out, limits, size)
    except BrokenPipeError:
        raise
    except MemoryError:
        _send(out, FAILED, {"kind": "MemoryError", "message": ""})
    except ArtistBioGenError as exc:
        _send(out, FAILED, {"kind": type(exc).__name__, "message": str(exc)})
    except BaseException as exc:  # noqa: BLE001 - edge of the process; a panic of Rust is no Exception
        _send(out, FAILED, {"kind": "", "message": f"{type(exc).__name__}: {exc}"})


def _hand_over(stream: RowStream, out: IO[bytes], limits: _Limits, most: int) -> None:
    columns = stream.columns
    _send(out, TOLD, _told(stream))
    called: tuple[str, ...] | None = None
    size = min(_FIRST_ROWS, most)
    while (chunk := stream.read(size)) is not None:
        if stream.columns is not columns:
            columns = stream.columns
            _send(out, TOLD, _told(stream))
        sent = _send(out, ROWS, _rows(chunk, None if chunk.columns == called else chunk.columns))
        called = chunk.columns
        if sent > _LARGE:
            size = max(1, size // 2)
        elif sent < _LARGE // 4:
            size = min(most, 2 * size)
        limits.again()
    _send(out, END, _told(stream))


def _told(stream: RowStream) -> dict[str, Json]:
    return {
        "columns": [[each.name, each.type, each.nullable] for each in stream.columns],
        "estimated_row_count": stream.estimated_row_count,
        "can_wait": stream.can_wait,
        "grows": stream.grows,
        "facts": stream.facts(),
        "opened_as": dict(stream.opened_as),
    }


def _rows(chunk: Chunk, columns: Sequence[str] | None) -> list[Json]:
    numbers: Json = chunk.numbers
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
        numbers = {"range": [numbers[0], numbers[-1] + 1]}  # ascending, so none is missing
    with_keys = chunk.has_dicts
    return [
        columns,
        numbers,
        None if with_keys else chunk.values(),
        chunk.dicts() if with_keys else None,
        [[each.number, each.reason, each.text, each.file] for each in chunk.bad],
        chunk.file,
    ]


def _send(out: IO[bytes], kind: bytes, told: Json) -> int:
    message = orjson.dumps(told, default=json_cell)
    out.write(HEAD.pack(kind, len(message)))
    out.write(message)
    out.flush()
    return len(message)


class _Limits:
    """Limits that the system holds us to, wherever we are: an allocation beyond them fails, time
    beyond them ends the process."""

    def __init__(self, memory_mib: int | None, cpu_s: int | None) -> None:
        self._memory_mib = memory_mib
        self._cpu_s = cpu_s

    def begin(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self._memory_mib is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + self._memory_mib * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        self.again()

    def again(self) -> None:
        """The time for a chunk begins anew."""
        if self._cpu_s is not None:
            most = resource.getrlimit(resource.RLIMIT_CPU)[1]
            soon = int(time.process_time()) + 1 + self._cpu_s
            if most == resource.RLIM_INFINITY or soon < most:
                resource.setrlimit(resource.RLIMIT_CPU, (soon, most))
