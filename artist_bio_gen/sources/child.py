"""A source read in a process of its own, with limits: what breaks there breaks nothing here.

The child is a plain interpreter, so whoever calls need not be one that can be imported again, and
its threads and connections are not copied. Rows come over a pipe as JSON, which cannot make this
process do anything, whatever became of the child; the pipe's size bounds how far it reads ahead.
The child ends with this process, also when that is killed: it notices that its standard input is
closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from artist_bio_gen import errors
from artist_bio_gen.errors import InputError, LimitError, StoppedError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.child_main import END, FAILED, HEAD, ROWS
from artist_bio_gen.stream import CHUNK, Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Json

_AHEAD = 1024 * 1024
_LOOK_MS = 200
_LAST_WORDS = 4_096
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from artist_bio_gen.sources.child_main import main; main()"
)
_ERRORS = {
    kind.__name__: kind for kind in (InputError, LimitError, errors.UsageError, errors.ConfigError)
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take: memory in MiB besides that of the interpreter, processor time in
    seconds for opening and for each chunk. None: as much as there is."""

    memory_mib: int | None = None
    cpu_s: int | None = None


NO_LIMITS = Limits()


def in_child(
    opener: str,
    arguments: Sequence[object],
    *,
    name: str,
    limits: Limits = NO_LIMITS,
    way_out: str = "save it as CSV and read that",
    chunk_size: int = CHUNK,
    holds: object = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RowStream:
    """The rows of the RowStream that `opener` ("module:function") gives when it is called with
    these arguments in the child. It begins to read at once, and goes on until some 1 MiB waits
    here.

    `name` and `way_out` are for messages; `holds` is kept as long as the stream (a file that goes
    with the value that stands for it). The errors of errors.py that an input may cause come
    out as they are; a crash is an InputError, a limit that was reached a LimitError. StoppedError
    when it is `cancelled` while waiting.
    """
    return _ChildStream(
        pickle.dumps((opener, tuple(arguments), limits.memory_mib, limits.cpu_s, chunk_size)),
        name=name,
        limits=limits,
        way_out=way_out,
        holds=holds,
        cancelled=cancelled,
    )


class _ChildStream(RowStream):
    def __init__(
        self,
        asked: bytes,
        *,
        name: str,
        limits: Limits,
        way_out: str,
        holds: object,
        cancelled: Callable[[], bool],
    ) -> None:
        self.name = name
        self._holds = holds
        self._limits = limits
        self._way_out = way_out
        self._cancelled = cancelled
        self._facts: dict[str, Json] = {}
        self._names: tuple[str, ...] = ()
        self._head: tuple[bytes, int] | None = None
        self._body: bytearray | None = None
        self._waiting: Chunk | None = None  # rows that were more than asked for
        self._ended = False
        self._words = os.memfd_create("last words")
        self._process = _start(self._words)
        with on_failure(self.close):
            assert self._process.stdout is not None
            self._pipe = self._process.stdout.fileno()
            with contextlib.suppress(OSError):  # a bound of the system's own
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _AHEAD)
            self._poll = select.poll()
            self._poll.register(self._pipe, select.POLLIN)
            self._ask(asked)
            self._take_message()

    def facts(self) -> dict[str, Json]:
        return self._facts

    def read(self, size: int) -> Chunk | None:
        while self._waiting is None:
            if self._ended:
                return None
            self._waiting = self._take_message()
        chunk, self._waiting = self._waiting, None
        if len(chunk) > size:
            chunk, self._waiting = chunk.parted(size)
        return chunk

    def close(self) -> None:
        self._ended = True
        self._waiting = self._body = self._holds = None
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it did not take is of no use now
                    pipe.close()
        self._process.wait()
        if self._words >= 0:
            os.close(self._words)
            self._words = -1

    # Messages

    def _ask(self, asked: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; the next message says of what
            self._process.stdin.write(asked)
            self._process.stdin.flush()

    def _take_message(self) -> Chunk | None:
        """Takes one message from the child; the chunk that it holds, if any. Each step can be
        repeated after a MemoryError."""
        if self._head is None:
            self._head = HEAD.unpack(self._filled(bytearray(HEAD.size)))
        kind, size = self._head
        if self._body is None:
            self._body = self._filled(bytearray(size))
        told = orjson.loads(self._body)
        if kind == ROWS:
            chunk = self._chunk(told)
        else:
            chunk = None
            self._take_news(kind, told)
        self._head = self._body = None
        return chunk

    def _take_news(self, kind: bytes, told: dict[str, Json]) -> None:
        if kind == FAILED:
            self._ended = True
            if told["kind"] == "MemoryError":
                raise self._out_of_memory()
            if told["kind"] in _ERRORS:
                raise _ERRORS[told["kind"]](told["message"])
            raise InputError(
                f"{self.name} cannot be read ({told['message']}); it may be damaged:"
                f" {self._way_out}"
            )
        if kind == END:
            self._ended = True
        self._facts = told["facts"]
        if told["opened_as"]:
            self.opened_as = told["opened_as"]
        self.columns = tuple(Column(*each) for each in told["columns"])
        self.estimated_row_count = told["estimated_row_count"]
        self.can_wait = told["can_wait"]
        self.grows = told["grows"]

    def _chunk(self, told: list[Json]) -> Chunk:
        columns, numbers, values, dicts, bad, file = told
        if columns is not None:
            self._names = tuple(columns)
        return Chunk(
            self._names,
            range(*numbers["range"]) if isinstance(numbers, dict) else numbers,
            values,
            dicts=dicts,
            bad=[BadRow(*each) for each in bad],
            file=file,
        )

    def _filled(self, buffer: bytearray) -> bytearray:
        view = memoryview(buffer)
        while view:
            if self._cancelled():
                raise StoppedError
            if not self._poll.poll(_LOOK_MS):
                continue
            got = os.readv(self._pipe, [view])
            if not got:
                self._ended = True
                raise self._died()
            view = view[got:]
        return buffer

    # Ends

    def _died(self) -> InputError | LimitError:
        code = self._process.wait()
        words = os.pread(self._words, _LAST_WORDS, 0).decode("utf-8", "replace").strip()
        if code == -signal.SIGXCPU:
            return LimitError(
                f"{self.name} took more than {self._limits.cpu_s} s of processor time without"
                f" giving a row; it may be damaged, or made to do that: {self._way_out}"
            )
        if "memory allocation of" in words or "MemoryError" in words:  # of Rust, of Python
            return self._out_of_memory()
        ended = f"was ended by {_signal(code)}" if code < 0 else f"ended with code {code}"
        last = f" ({words.splitlines()[-1][:200]})" if words else ""
        return InputError(
            f"{self.name} cannot be read: the process that reads it {ended}{last}; it may be"
            f" damaged: {self._way_out}"
        )

    def _out_of_memory(self) -> LimitError:
        most = self._limits.memory_mib
        more = "than there is" if most is None else f"than {most} MiB"
        return LimitError(
            f"{self.name} needs more memory {more} to be read; {self._way_out}, or give more with"
            " --memory-limit"
        )


def _start(words: int) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise errors.ConfigError(
            "a file of this kind is read by a Python of its own, and sys.executable does not say"
            " where that is; start Python by its path"
        )
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _MAIN, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        # Ctrl+C is for this process, which ends the child.
        process_group=0,
    )


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
