"""A source that cannot wait, read ahead to disk while its rows are taken as slowly as one likes."""

from __future__ import annotations

import errno
import importlib.util
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import LimitError, UsageError
from artist_bio_gen.memory import MemoryGuard
from artist_bio_gen.sources.arrow.batches import arrow
from artist_bio_gen.sources.spill.forms import FORMS, Layout
from artist_bio_gen.sources.spill.scratch import Scratch
from artist_bio_gen.sources.spill.segments import Segments
from artist_bio_gen.stream import CHUNK, Chunk, RowStream
from artist_bio_gen.values import Column, Json

How: TypeAlias = Literal["parquet", "duckdb", "adaptive"]

PATIENCE = 5.0
"""Seconds for which a source that cannot wait is kept waiting before it is read ahead."""

_MB = 1_000_000
_LEFT_FREE = 0.05
_SMALL = 500_000
_MOST_ROWS = 8 * CHUNK
"""Small rows are put on disk more of them at a time: a batch of 8,000 takes half the time."""

_LEAST_SEGMENTS = 8
"""Segments that the disk space allowed is enough for, so that what was read makes room early."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READING = 1.0  # seconds for the thread's read to come back
_CLOSING = 5.0  # and to come back with an error, once the stream is closed


def spilled(stream: RowStream, options: SourceOptions, guard: object = None) -> RowStream:
    """The same rows, put on disk as the options say. The stream is closed with it. Where pyarrow is
    missing and nobody asked for the disk, it is the stream itself; ConfigError where the options
    ask for a package that is missing."""
    if options.spill == "direct" or (
        options.spill == "adaptive" and importlib.util.find_spec("pyarrow") is None
    ):
        return stream
    if options.spill != "adaptive":
        # Rather than with the first row that goes to the disk; `adaptive`, for which there may be
        # none, does without the 60 MiB that the package takes.
        arrow(f"--spill {options.spill}")
    return Spilled(
        stream,
        options.spill,
        options.spill_dir or Path(tempfile.gettempdir()),
        None if options.spill_max is None else options.spill_max * _MB,
        guard if isinstance(guard, MemoryGuard) else None,
    )


class Spilled(RowStream):
    """The rows of a stream by way of the disk, in the same order, with the same types.

    `parquet`, `duckdb`: from the first row on, in files of that kind. `adaptive`: straight from
    the stream, until that would be kept waiting for `patience` seconds, or until memory is short;
    from there on a thread reads it at full speed to disk, in Arrow's stream format. That is the
    quickest of the three, and what was written can be read whatever becomes of the rest (Parquet
    and DuckDB have an end that must be written as well).

    When `most_bytes` are on disk (None: all but 5 % of it is full), a stream that can wait is
    kept waiting; one that cannot ends there, with a LimitError after the rows that came before.
    """

    def __init__(
        self,
        stream: RowStream,
        how: How,
        folder: Path,
        most_bytes: int | None = None,
        guard: MemoryGuard | None = None,
        *,
        patience: float = PATIENCE,
        segment_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = stream.name
        self.columns = stream.columns
        self.estimated_row_count = stream.estimated_row_count
        self.grows = stream.grows
        self._stream = stream
        self._most = most_bytes
        self._guard = guard
        self._patience = patience
        self._clock = clock
        layout: Layout = "arrow" if how == "adaptive" else how
        form = FORMS[layout]()
        try:
            self._scratch = Scratch(folder)
        except OSError as exc:
            raise UsageError(
                f"{folder}: rows cannot be put on disk here: {exc.strerror}; give another folder"
                " with --spill-dir, or --spill direct"
            ) from exc
        size: int = segment_bytes or form.segment_bytes
        if most_bytes is not None:
            size = min(size, max(1, most_bytes // _LEAST_SEGMENTS))
        self._segments = Segments(self._scratch.path, form, size)
        self.spilling = threading.Event()
        """Set once rows go by way of the disk."""
        self._turn = threading.Condition()  # guards the stream, and the four below, until then
        self._read_last = clock()
        self._ended = self._closed = False
        if how != "adaptive":
            self.spilling.set()
        self._failure: BaseException | None = None  # raised after the rows on disk
        self._held: Chunk | None = None  # read, and no room for it
        self._rest: Chunk | None = None  # taken from disk, and more than was asked for
        self._thread = threading.Thread(target=self._work, name="spill", daemon=True)
        self._thread.start()

    def facts(self) -> dict[str, Json]:
        known = self._stream.facts()
        if self._segments.rows:
            known["spilled_rows"] = self._segments.rows
            known["spilled_mb"] = round(self._segments.peak / _MB, 1)
        return known

    def read(self, size: int) -> Chunk | None:
        with self._turn:
            if not self.spilling.is_set():
                if not self._is_pressed():
                    return self._read_directly(size)
                self.spilling.set()
                self._turn.notify_all()
        return self._read_back(size)

    def close(self) -> None:
        self._closed = True
        with self._turn:
            self._turn.notify_all()
        self._segments.close()
        self._thread.join(_READING)  # rather than close the stream under its hands
        self._stream.close()
        self._thread.join(_CLOSING)
        self._rest = None
        self._scratch.close()

    # What the consumer's thread does

    def _read_directly(self, size: int) -> Chunk | None:
        chunk = self._stream.read(size)
        self._show(self._stream.columns)
        self._read_last = self._clock()
        if chunk is None:
            self._ended = True
            self._turn.notify_all()
        return chunk

    def _read_back(self, size: int) -> Chunk | None:
        chunk, self._rest = self._rest, None
        if chunk is None:
            chunk = self._segments.take()
            self._note()
        if chunk is None:
            chunk, self._held = self._held, None
        if chunk is None:
            if self._failure is not None:
                raise self._failure
            return None
        self._show(self._stream.columns[: len(chunk.columns)])
        if len(chunk) > size:
            chunk, self._rest = chunk.parted(size)
        return chunk

    def _show(self, columns: tuple[Column, ...]) -> None:
        if len(columns) > len(self.columns):
            self.columns = columns

    # What the thread does

    def _work(self) -> None:
        try:
            if self._wait_for_turn():
                self._read_ahead()
        except BaseException as exc:  # noqa: BLE001 - edge of the thread; the consumer raises it
            self._failure = exc
        finally:
            self._segments.finish()
            if self._segments.lost and self._failure is None:
                self._failure = self._no_room(None)

    def _wait_for_turn(self) -> bool:
        """Until rows are to go by way of the disk; False when they need not any more."""
        with self._turn:
            while not (self.spilling.is_set() or self._ended or self._closed):
                left = self._read_last + self._patience - self._clock()
                if left > 0:
                    self._turn.wait(left)
                else:
                    self.spilling.set()
            return self.spilling.is_set() and not self._closed

    def _read_ahead(self) -> None:
        size = CHUNK
        while not self._closed:
            self._wait_for_room()
            chunk = self._stream.read(size)
            if chunk is None:
                return
            taken = self._put(chunk)
            if taken < _SMALL and len(chunk) == size < _MOST_ROWS and not self._is_pressed():
                size *= 2
            elif taken > 4 * _SMALL and size > CHUNK:
                size //= 2

    def _put(self, chunk: Chunk) -> int:
        """How many bytes it takes in memory, as a batch."""
        while not self._closed:
            try:
                taken = self._segments.put(chunk)
                self._note()
                return taken
            except OSError as exc:
                self._segments.cut()
                if self._segments.lost:
                    raise self._no_room(exc) from exc
                if exc.errno not in _FULL or not self._can_wait_for_room():
                    self._held = chunk
                    raise self._no_room(exc) from exc
        return 0

    def _wait_for_room(self) -> None:
        while not self._closed and self._segments.bytes >= self._room():
            if self._segments.lost or not self._can_wait_for_room():
                raise self._no_room(None)

    def _can_wait_for_room(self) -> bool:
        """Waits until a part of what is on disk was taken, if the stream bears that."""
        segments = self._segments
        if not self._stream.can_wait:
            return False
        with segments.changed:
            before = segments.bytes
            segments.cut()
            if not before:
                return False  # the disk is full of other things
            while segments.bytes >= before and not self._closed:
                segments.changed.wait(1)
            return True

    def _room(self) -> int:
        """How many bytes may be on disk."""
        if self._most is not None:
            return self._most
        space = shutil.disk_usage(self._scratch.path)
        return max(0, self._segments.bytes + space.free - int(space.total * _LEFT_FREE))

    def _no_room(self, exc: OSError | None) -> LimitError:
        taken = f"{self._segments.bytes // _MB:,} MB"
        if exc is not None and exc.errno not in _FULL:
            what = f"cannot be written: {exc.strerror or exc}"
        elif self._most is not None and exc is None:
            what = f"holds the {self._most // _MB:,} MB that --spill-max allows"
        else:
            what = f"is full, with {taken} of these rows"
        return LimitError(
            f"{self.name}: its rows come faster than they are taken, and the folder for them,"
            f" {self._scratch.path.parent}, {what}. Rows up to here stand; give more with"
            " --spill-max, another folder with --spill-dir, or read a database with --page-key,"
            " which can wait"
        )

    def _is_pressed(self) -> bool:
        return self._guard is not None and self._guard.pressed

    def _note(self) -> None:
        if self._guard is not None:
            self._guard.spilled = self._segments.bytes
