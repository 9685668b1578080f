"""Rows from anywhere, counted, shown or put elsewhere, without a model. Read it as the story of
`artist-bio-gen rows`.

A source is read to its end, chunk by chunk, and each chunk is given to whoever takes it: a file in
another format, the screen, or nobody. What came of it is a value, also when it did not come to the
end: what had been read by then, and why it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artist_bio_gen.destinations import Destination
from artist_bio_gen.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    ArtistBioGenError,
    StoppedError,
)
from artist_bio_gen.sources import Reading, ReadResult
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import path_text


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsResult:
    """What became of the rows of a source.

    `rows_written` stand in the file `destination`, which is None where there is none: none was
    asked for, or it was not finished. `error` says what ended the work before the source did.
    `notes` are sentences on how the rows were written.
    """

    exit_code: int
    source: str
    read: ReadResult
    rows_written: int = 0
    destination: Path | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None


def copy(
    source: Reading,
    destination: Destination,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> RowsResult:
    """Writes the sound rows of the source. At the end the file is there as a whole or, where the
    work ended early, not at all."""
    try:
        with destination:
            _read(source, destination.write, cancelled)
    except (ArtistBioGenError, StoppedError) as exc:
        return _ended(source, exc, f"; {path_text(destination.path)} was not made")
    return RowsResult(
        exit_code=_exit_code(source),
        source=source.name,
        read=source.result,
        rows_written=destination.rows_written,
        destination=destination.path,
        notes=destination.notes(),
    )


def give(
    source: Reading,
    take: Callable[[Chunk], object],
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> RowsResult:
    """Gives each chunk to `take`, which may get the same rows again in smaller chunks when it
    raises MemoryError."""
    try:
        _read(source, take, cancelled)
    except (ArtistBioGenError, StoppedError) as exc:
        return _ended(source, exc)
    return RowsResult(exit_code=_exit_code(source), source=source.name, read=source.result)


def _read(source: Reading, take: Callable[[Chunk], object], cancelled: Callable[[], bool]) -> None:
    def take_or_stop(chunk: Chunk) -> None:
        if cancelled():
            raise StoppedError
        take(chunk)

    source.each(take_or_stop)


def _exit_code(source: Reading) -> int:
    return EXIT_SOME_FAILED if source.result.error_count else EXIT_DONE


def _ended(
    source: Reading, exc: ArtistBioGenError | StoppedError, what_is_left: str = ""
) -> RowsResult:
    read = source.result
    if isinstance(exc, ArtistBioGenError):
        code, why = exc.exit_code, str(exc)
    else:
        code, why = EXIT_INTERRUPTED, f"interrupted after {read.rows_read:,} rows"
    return RowsResult(exit_code=code, source=source.name, read=read, error=why + what_is_left)
