"""A ledger's files read in ranges of bytes, by this process or by several, in the files' order."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from artist_bio_gen.errors import LimitError
from artist_bio_gen.ledger.scan import Part, scan

RANGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """A file of the ledger, of which the first `size` bytes are read. Its lines are numbered up
    to `last`; None for the newest one."""

    path: Path
    last: int | None
    size: int


def read(
    files: Sequence[File],
    *,
    processes: int,
    wanted: Collection[str],
    with_batches: bool,
    range_bytes: int = RANGE_BYTES,
) -> Iterator[tuple[File, Part]]:
    """What `scan` finds in each range, in order. A file is read up to its last line."""
    read_range = partial(scan, wanted=wanted, with_batches=with_batches)
    if processes == 1:
        for file in files:
            for start in range(0, file.size, range_bytes):
                stop = min(start + range_bytes, file.size)
                part = read_range(file.path, start, stop, last=file.last)
                yield file, part
                if part.ended:
                    break
        return
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_leave_signals_to_parent
    ) as pool:
        try:
            yield from _read_ahead(pool, read_range, files, 2 * processes, range_bytes)
        except BrokenProcessPool as exc:
            raise LimitError(
                "a process that was reading the ledger ended early (out of memory?); check it with"
                " --processes 1"
            ) from exc
        finally:
            pool.shutdown(cancel_futures=True)


def _read_ahead(
    pool: Executor,
    read_range: partial[Part],
    files: Sequence[File],
    ahead: int,
    range_bytes: int,
) -> Iterator[tuple[File, Part]]:
    """Holds no more than `ahead` parts, however far the readers are."""
    ended: set[Path] = set()
    under_way: deque[tuple[File, Future[Part]]] = deque()
    ranges = ((file, start) for file in files for start in range(0, file.size, range_bytes))
    while True:
        while len(under_way) < ahead and (next_range := next(ranges, None)) is not None:
            file, start = next_range
            if file.path not in ended:
                stop = min(start + range_bytes, file.size)
                future = pool.submit(read_range, file.path, start, stop, last=file.last)
                under_way.append((file, future))
        if not under_way:
            return
        file, future = under_way.popleft()
        if file.path not in ended:
            part = future.result()
            yield file, part
            if part.ended:
                ended.add(file.path)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
