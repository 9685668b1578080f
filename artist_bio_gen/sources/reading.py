"""A source while it is read: what came of it so far, and when that is not worth going on with."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ArtistBioGenError, InputError, LimitError
from artist_bio_gen.sources.shaping import Shaped, part
from artist_bio_gen.sources.text.delimited import DelimitedStream, Place
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Json

ERRORS_KEPT = 1_000
"""Bad rows that are kept with the result; all are counted."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What came of reading a source, so far or in all. `rows_read` are the sound rows that were
    given, `errors` the first bad ones; `average_chunk_s` is the time for reading a chunk and for
    what was done with it; `peak_memory_mib` is this process's."""

    rows_read: int = 0
    chunks: int = 0
    errors: tuple[BadRow, ...] = ()
    error_count: int = 0
    chunks_with_errors: int = 0
    seconds: float = 0.0
    average_chunk_s: float | None = None
    peak_memory_mib: float | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading has come; None where that cannot be told."""

    rows: int
    expected: int | None
    seconds: float
    seconds_left: float | None


class Guard(Protocol):
    """What watches the memory."""

    def size(self, wanted: int) -> int:
        """How many rows the next chunk may have. LimitError when there is no room for any."""


class Reading(RowStream):
    """The rows of a source, with a tally (`result`). A row that cannot be read is never gone
    silently: it comes as a `BadRow` among the rows, in `Chunk.bad` of the chunks, and is counted.

    Raises InputError at the first one if the options say stop, and LimitError when their share
    reaches the threshold: each after the rows before it were given. A MemoryError makes the chunks
    smaller from there on.
    """

    def __init__(
        self,
        stream: RowStream,
        options: SourceOptions,
        *,
        facts: Mapping[str, Json] | None = None,
        guard: Guard | None = None,
        progress: Callable[[Progress], None] | None = None,
        plain: DelimitedStream | None = None,
        clock: Callable[[], float] = time.perf_counter,
        peak: Callable[[], float | None] | None = None,
    ) -> None:
        """`plain` is the file itself that the stream reads, where nothing but that is read: see
        `go_on_at`. `peak` tells this process's highest memory in MiB. The stream is closed with
        this."""
        self.name = stream.name
        self.columns = stream.columns
        self.estimated_row_count = stream.estimated_row_count
        self.can_wait = stream.can_wait
        self.grows = stream.grows
        self.plain = plain
        self._stream = stream
        # Also for whoever leaves a loop over the rows in the middle, and lets go of this.
        self._close = weakref.finalize(self, stream.close)
        self._facts = dict(facts or {})
        self._guard = guard
        self._progress = progress
        self._clock = clock
        self._peak = peak or _peak
        self._size = options.chunk_size
        self._most = sys.maxsize  # rows at a time, once memory ran short
        self._stop = options.on_error == "stop"
        self._threshold = options.error_threshold
        self._minimum = options.error_minimum
        self._every = options.progress_interval
        self._failure: ArtistBioGenError | None = None
        self._rows = self._chunks = self._bad = self._chunks_with_bad = self._passed_over = 0
        self._bad_before = 0  # of those passed over
        self._errors: list[BadRow] = []
        self._began: float | None = None
        self._now = self._told = 0.0

    @property
    def result(self) -> ReadResult:
        seconds = self._now - self._began if self._began is not None else 0.0
        return ReadResult(
            rows_read=self._rows,
            chunks=self._chunks,
            errors=tuple(self._errors),
            error_count=self._bad,
            chunks_with_errors=self._chunks_with_bad,
            seconds=seconds,
            average_chunk_s=seconds / self._chunks if self._chunks else None,
            peak_memory_mib=self._peak(),
            facts=self.facts(),
        )

    def facts(self) -> dict[str, Json]:
        return {**self._facts, **self._stream.facts()}

    def chunks(self, size: int | None = None) -> Iterator[Chunk]:
        """`size` None is the one that the options say."""
        return super().chunks(size or self._size)

    def each(self, function: Callable[[Chunk], object]) -> ReadResult:
        """Calls this for each chunk. After a MemoryError in it, the same rows are given once more
        in halves, so it must bear to see rows twice of which it had not done with the last."""
        for chunk in self.chunks():
            self._give(chunk, function)
        return self.result

    def read(self, size: int) -> Chunk | None:
        self._tick()
        if self._failure is not None:
            raise self._failure
        chunk = self._read(size)
        if self._stream.columns is not self.columns:
            self.columns = self._stream.columns
        if chunk is None:
            return None
        if chunk.bad and self._stop:
            chunk = self._up_to_first_bad(chunk)
        self._chunks += 1
        self._rows += len(chunk)
        if chunk.bad:
            self._count_bad(chunk)
        return chunk

    def close(self) -> None:
        self._close()

    def go_on_at(self, place: Place, rows: int, bad: int = 0) -> None:
        """Passes over the first rows, so many, of a source that is `plain`, before anything of it
        is read: the place is where the next one begins. `bad` of them could not be read, which
        counts for the threshold."""
        assert self.plain is not None
        self.plain.go_on_at(place)
        self._passed_over = rows
        self._bad_before = bad
        if isinstance(self._stream, Shaped):
            self._stream.passed_over(rows)

    # Reading

    def _read(self, size: int) -> Chunk | None:
        while True:
            wanted = min(size, self._most)
            if self._guard is not None:
                wanted = min(wanted, self._guard.size(wanted))
            try:
                return self._stream.read(wanted)
            except MemoryError:
                if wanted <= 1:
                    raise self._out_of_memory() from None
            self._most = wanted // 2

    def _give(self, chunk: Chunk, function: Callable[[Chunk], object]) -> None:
        try:
            function(chunk)
            return
        except MemoryError:
            if len(chunk) <= 1:
                raise self._out_of_memory() from None
        self._most = max(1, len(chunk) // 2)
        for half in chunk.halves():
            self._give(half, function)

    def _out_of_memory(self) -> LimitError:
        return LimitError(
            f"{self.name}: the system gives no memory for a single row more, after"
            f" {self._rows:,} rows; give more, or take fewer columns with --columns"
        )

    def _up_to_first_bad(self, chunk: Chunk) -> Chunk:
        first = chunk.bad[0]
        self._failure = InputError(
            f"{_where(first, chunk.file or self.name)} cannot be read: {first.reason}. Mend it, or"
            " leave such rows out with --on-error skip"
        )
        sound = sum(1 for number in chunk.numbers if number <= first.number)
        return part(chunk, sound, 1)

    def _count_bad(self, chunk: Chunk) -> None:
        self._bad += len(chunk.bad)
        self._chunks_with_bad += 1
        if len(self._errors) < ERRORS_KEPT:
            self._errors += chunk.bad[: ERRORS_KEPT - len(self._errors)]
        rows = self._passed_over + self._rows + self._bad
        bad = self._bad_before + self._bad
        if (
            self._failure is None
            and self._threshold < 1
            and rows >= self._minimum
            and bad >= self._threshold * rows
        ):
            last = chunk.bad[-1]
            self._failure = LimitError(
                f"{self.name}: {bad:,} of {rows:,} rows cannot be read, and at a share of"
                f" {self._threshold:.0%} reading stops; the last one:"
                f" {_where(last, chunk.file or self.name)}: {last.reason}. Look whether format,"
                " encoding and delimiter are right; --error-threshold sets another share, 1 reads"
                " on whatever comes"
            )

    def _tick(self) -> None:
        self._now = self._clock()
        if self._began is None:
            self._began = self._told = self._now
        elif self._progress is not None and self._now - self._told >= self._every:
            self._told = self._now
            self._progress(self.progress())

    def progress(self) -> Progress:
        rows = self._rows + self._bad
        expected = self.estimated_row_count
        seconds = self._now - self._began if self._began is not None else 0.0
        left = None
        if expected is not None and rows:
            left = max(0, expected - self._passed_over - rows) * seconds / rows
        return Progress(self._passed_over + rows, expected, seconds, left)


def _where(bad: BadRow, file: str) -> str:
    return f"{bad.file or file} row {bad.number:,}"


def _peak() -> float | None:
    """Of this process, in MiB (VmHWM of proc(5)). None where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - quicker, and no path
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
