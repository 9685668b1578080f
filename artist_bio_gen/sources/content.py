"""Where a file's bytes come from, whatever they hold: a disk, a pipe, an archive, an address."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artist_bio_gen.errors import InputError
from artist_bio_gen.failing import on_failure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_BLOCK = 256 * 1024
_ENOUGH = 10  # bytes, to tell what something is


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one file.

    `name` is for messages, without secrets; `file_name` is what its format is guessed by (that of
    `artists.csv.gz` is `artists.csv`). `open` gives a reader from the first byte on: as often as
    one likes if `again`, else once. `path` is the file itself where it lies on a disk and is read
    as it is; formats that are read from their end need that. `size` is the number of bytes that
    the reader gives (of a packed file, about), `packed_size` that of the bytes which are stored or
    sent for them; None where nobody knows. `can_wait`: see `RowStream`.
    """

    name: str
    file_name: str
    open: Callable[[], io.BufferedReader[Any]]
    again: bool = False
    path: Path | None = None
    size: int | None = None
    packed_size: int | None = None
    can_wait: bool = True

    def drop(self) -> None:
        """For one that nobody will open: what can be opened once is open already."""
        if not self.again:
            self.open().close()


@contextmanager
def reader_of(content: Content) -> Iterator[io.BufferedReader[Any]]:
    """A reader for whoever takes it over in this block; closed when the block fails. InputError
    when it cannot be read."""
    reader = content.open()
    try:
        with on_failure(reader.close):
            yield reader
    except OSError as exc:
        raise InputError(
            f"{content.name} cannot be read: {exc.strerror or exc}; try again, or give a copy of it"
        ) from exc


def peeked(
    content: Content, too_short: Callable[[bytes], bool] = lambda start: False
) -> tuple[bytes, Content]:
    """Its first bytes, and the content as it was before: one that can be opened once is open now,
    and to be closed by whoever does not open it. Where these are `too_short`, as of a pipe that
    has said too little, a few more are waited for. InputError when it cannot be read."""
    with reader_of(content) as reader:
        start = reader.peek()
        if too_short(start):
            start = reader.read(_ENOUGH)
            reader = io.BufferedReader(_Again(start, reader), _BLOCK)
    if content.again:
        reader.close()
        return start, content
    return start, replace(content, open=lambda: reader)


class _Again(io.RawIOBase):
    """A reader whose first bytes were taken, with these before it."""

    def __init__(self, start: bytes, rest: io.BufferedReader[Any]) -> None:
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._start[: len(view)] or self._rest.read1(len(view))
        self._start = self._start[len(data) :]
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._rest.close()
        super().close()
