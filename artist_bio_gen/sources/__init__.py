"""Where artists come from: each source is a `RowStream`, opened with `open_source`."""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.sources.delimited import SAMPLE, DelimitedStream
from artist_bio_gen.values import BadRow, Column, Row

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

STDIN = "-"

_LOOK_MS = 200

READABLE = "CSV files, and CSV on the standard input as '-'"
"""What can be read, for messages."""

_OTHER_SUFFIXES = {
    *(".xlsx", ".xls", ".ods"),
    *(".json", ".jsonl", ".ndjson", ".xml", ".pdf"),
    *(".parquet", ".arrow", ".feather"),
    *(".db", ".sqlite", ".sqlite3", ".duckdb"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip"),
}

# First bytes of formats that are often named .csv by mistake.
_OTHER_BEGINNINGS = {
    b"PK\x03\x04": "a workbook or zip archive",
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls)",
    b"\x1f\x8b": "compressed (gzip)",
    b"\xfd7zXZ\x00": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstandard)",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3\x00": "an SQLite database",
    b"%PDF-": "a PDF document",
}


class RowStream(Protocol):
    """Rows, read lazily and once. Use it with `with`.

    Rows that cannot be read come as `BadRow` in their place; the rest goes on. Iterating
    raises `InputError` only when nothing after it could be read either.
    """

    @property
    def name(self) -> str:
        """What to call the source in messages."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Known as soon as the source is open; every `Row` has one value for each."""

    @property
    def estimated_row_count(self) -> int | None:
        """About how many rows there are in all; None where that cannot be told beforehand."""

    def __iter__(self) -> Iterator[Row | BadRow]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def close(self) -> None: ...


class _Patient(io.FileIO):
    """A file whose reader can be called off, while it waits for a pipe and between any two reads:
    what is read need not yield a row."""

    def __init__(
        self, file: str | int, cancelled: Callable[[], bool], *, closefd: bool = True
    ) -> None:
        super().__init__(file, closefd=closefd, opener=_open_at_once)
        self._cancelled = cancelled
        self._poll = None
        if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self._poll = select.poll()
            self._poll.register(self.fileno(), select.POLLIN)

    def readinto(self, buffer: Buffer, /) -> int | None:
        while True:
            if self._cancelled():
                raise StoppedError
            if self._poll is None or self._poll.poll(_LOOK_MS):
                return super().readinto(buffer)


def _open_at_once(path: str, flags: int) -> int:
    # A named pipe to which nobody writes yet would be waited for in here, beyond all calling off.
    fd = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    return fd


def open_source(
    path: str,
    *,
    encoding: str | None = None,
    header: bool = True,
    comment: str = "#",
    delimiter: str = ",",
    cancelled: Callable[[], bool] = lambda: False,
) -> RowStream:
    """Open the artists at `path`; '-' is the standard input.

    `encoding` None means UTF-8, with or without a byte order mark. Without `header` the
    columns are called "1", "2", …. Lines that begin with `comment` are passed over; "" means
    that there are none. Nothing is read, or waited for, once it is `cancelled`: then StoppedError
    is raised. Raises `InputError` when nothing can be read, `UsageError` when an
    argument cannot be used.
    """
    if "://" in path or PurePath(path).suffix.lower() in _OTHER_SUFFIXES:
        raise InputError(f"{path} cannot be read; what can be read: {READABLE}")
    name = "standard input" if path == STDIN else path
    try:
        raw = _Patient(0, cancelled, closefd=False) if path == STDIN else _Patient(path, cancelled)
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise InputError(f"{name} cannot be opened: {getattr(exc, 'strerror', exc)}") from exc
    file = io.BufferedReader(raw, SAMPLE)
    try:
        about = os.fstat(file.fileno())
        start = file.peek()
        for beginning, what in _OTHER_BEGINNINGS.items():
            if start.startswith(beginning):
                raise InputError(f"{name} is {what}; what can be read: {READABLE}")
        return DelimitedStream(
            file,
            name=name,
            size=about.st_size if stat.S_ISREG(about.st_mode) else None,
            encoding=encoding,
            header=header,
            comment=comment,
            delimiter=delimiter,
        )
    except OSError as exc:
        file.close()
        raise InputError(f"{name} cannot be read: {exc.strerror}") from exc
    except BaseException:
        file.close()
        raise
