"""A long ledger's file checked by several processes at once, for as long as all is in order.

Whatever is not is left to the check that reads line by line: that one alone judges damage. The
processes are plain interpreters of their own, so whoever calls need not be one that can be
imported again, and its threads and connections are not copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from artist_bio_gen.errors import StoppedError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.ledger.line import HASH_TAIL, is_first_bio, seq_of
from artist_bio_gen.ledger.segments import LONGEST_LINE

FROM_BYTES = 64 * 1024 * 1024
"""A shorter rest is read sooner than processes are started."""

MOST_PROCESSES = 4

_RANGE_BYTES = 16 * 1024 * 1024
_MOST_RANGES = 1_000  # what is asked of the processes has to find room in a pipe
_ASKED = 40  # bytes of each question
_BLOCK = 256 * 1024
_PREV_AT = HASH_TAIL + 66  # from the end of a line with its line feed
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from artist_bio_gen.ledger.ahead import serve; serve(sys.argv[2])"
)


@dataclass(frozen=True, slots=True)
class Range:
    """Lines that follow each other, the first behind the line with the hash `prev`; `end` is the
    byte behind the last."""

    first: int
    prev: str
    last: int
    hash: str
    end: int
    first_bios: bool


NO_LINE = Range(0, "", 0, "", 0, True)
"""What stands in a range in which none begins."""


def in_ranges(
    path: Path,
    start: int,
    stop: int,
    prev: str,
    seq: int,
    last: int | None,
    cancelled: Callable[[], bool],
    *,
    processes: int | None = None,
    from_bytes: int = FROM_BYTES,
    range_bytes: int = _RANGE_BYTES,
) -> Range | None:
    """The lines from byte `start` on, which stands behind line `seq`, up to where something is
    not in order, and not behind line `last`. None when that is not found out this way.
    StoppedError when it is `cancelled`."""
    if stop - start < from_bytes or not sys.executable:
        return None
    processes = processes or min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    if processes < 2:
        return None
    size = max(range_bytes, (stop - start) // _MOST_RANGES + 1)
    starts = range(start, stop, size)
    found: dict[int, Range] = {}
    whole: Range | None = None
    asked = b"".join(b"%19d %19d\n" % (at, min(at + size, stop)) for at in starts)
    with suppress(OSError), _Readers(path, processes, asked) as readers:
        for line in readers.told:
            if cancelled():
                raise StoppedError
            at, *told = json.loads(line)
            found[at] = Range(*told)
    for at in starts:
        part = found.get(at)
        if part is None or (last is not None and part.last > last):
            break
        if part == NO_LINE:
            continue
        behind = Range(seq + 1, prev, seq, prev, start, True) if whole is None else whole
        if part.first != behind.last + 1 or part.prev != behind.hash:
            break
        whole = Range(
            seq + 1, prev, part.last, part.hash, part.end, behind.first_bios and part.first_bios
        )
    return whole


class _Readers:
    """Processes that take their questions from one pipe, each whole, and answer into another."""

    def __init__(self, path: Path, processes: int, asked: bytes) -> None:
        questions, put = os.pipe()
        answers, answer = os.pipe()
        self.told = os.fdopen(answers, "rb")
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            with on_failure(self.__exit__):
                os.write(put, asked)
                for _ in range(processes):
                    self._processes.append(_reader(path, questions, answer))
        finally:
            for each in (questions, put, answer):
                os.close(each)

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.told.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


def _reader(path: Path, questions: int, answer: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _MAIN, json.dumps(sys.path), os.fspath(path)],
        stdin=questions,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl+C is for the run, which ends them
    )


def serve(path: str) -> None:
    """What each process does: answers until nothing more is asked, or nobody listens."""
    with suppress(OSError):
        while asked := os.read(0, _ASKED):
            start, stop = map(int, asked.split())
            found = check_range(Path(path), start, stop)
            if found is None:
                continue
            os.write(1, json.dumps([start, *astuple(found)]).encode() + b"\n")


def check_range(path: Path, start: int, stop: int) -> Range | None:
    """The lines that begin in [start, stop), each of which follows the one before; None when one
    does not."""
    sha256 = hashlib.sha256
    with path.open("rb", buffering=_BLOCK) as file:
        offset = start
        if start > 0:
            file.seek(start - 1)
            offset += len(file.readline(LONGEST_LINE)) - 1
        if offset >= stop:
            return NO_LINE
        first_prev = ""
        first = seq = 0
        first_bios = True
        for data in iter(partial(file.readline, LONGEST_LINE), b""):
            digest = sha256(data[: -HASH_TAIL - 1]).hexdigest()
            if not first_prev:
                try:
                    first_prev = prev = data[-_PREV_AT : -_PREV_AT + 64].decode()
                    first = seq_of(data)
                except ValueError:
                    return None
                seq = first - 1
            seq += 1
            if not data.endswith(f',"prev":"{prev}","hash":"{digest}"}}\n'.encode()):
                return None
            if not is_first_bio(data, seq):
                try:
                    if seq_of(data) != seq:
                        return None
                except ValueError:
                    return None
                first_bios = False
            prev = digest
            offset += len(data)
            if offset >= stop:
                break
    return Range(first, first_prev, seq, prev, offset, first_bios) if first_prev else None
