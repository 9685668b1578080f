"""What all destinations share: rows go into a draft beside the place, which is put there whole."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import orjson

from artist_bio_gen.errors import LimitError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import Json, path_text

_BUFFER = 256 * 1024
_DRAFT = ".draft"  # so that no file of somebody else, as `.out.csv.20260131`, is taken for one


class Draft:
    """A file that is written under another name, in the same folder as its place. It is locked
    while its owner lives: one that is not was left by a process that was killed."""

    def __init__(self, place: Path) -> None:
        fd, self.path = _locked_draft(place)
        self.file = os.fdopen(fd, "wb", _BUFFER)
        self._place = place

    def put_in_place(self) -> None:
        """On disk, under the name that it is meant to have."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.replace(self._place)
        self.file.close()
        folder = os.open(self._place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        with contextlib.suppress(OSError):  # what it still keeps need not be written
            self.file.close()
        self.path.unlink(missing_ok=True)


def _locked_draft(place: Path) -> tuple[int, Path]:
    while True:
        fd, name = tempfile.mkstemp(_DRAFT, f".{place.name}.", place.parent)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return fd, Path(name)
        os.close(fd)  # somebody took it for one that was left, before it was locked


def remove_left_over(place: Path) -> None:
    """Removes the drafts for this place whose owners live no more."""
    begin, end = re.escape(f".{place.name}."), re.escape(_DRAFT)
    ours = re.compile(f"{begin}[a-z0-9_]{{8}}{end}")  # as tempfile names them
    there: list[Path] = []
    with contextlib.suppress(OSError):  # one may write into a folder that one cannot list
        there += place.parent.iterdir()
    for found in filter(lambda path: ours.fullmatch(path.name), there):
        with contextlib.suppress(OSError):
            fd = os.open(found, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                known = os.fstat(fd)
                if stat.S_ISREG(known.st_mode) and known.st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found.unlink()
            finally:
                os.close(fd)


class Destination(ABC):
    """Takes chunks of rows. To be used with `with`: at the end of the block the file is in place,
    on disk; an error in it leaves none. LimitError when the disk takes no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows_written = 0
        self._drafts: list[Draft] = []
        with on_failure(self.abort), self._writing():
            remove_left_over(path)
            self._begin()

    def write(self, chunk: Chunk) -> None:
        """Takes the sound rows of the chunk: all of them or, when it raises, none, so that they can
        be given once more in smaller chunks. UsageError for a cell that the format cannot hold."""
        if len(chunk):
            with self._writing():
                self._add(chunk)
            self.rows_written += len(chunk)

    def close(self) -> None:
        with self._writing():
            self._finish()

    def abort(self) -> None:
        """Leaves nothing behind."""
        for draft in self._drafts:
            draft.remove()

    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the rows were written."""
        return ()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _add(self, chunk: Chunk) -> None: ...

    @abstractmethod
    def _finish(self) -> None:
        """Completes a draft and puts it in place."""

    def _draft(self) -> Draft:
        draft = Draft(self.path)
        self._drafts.append(draft)
        return draft

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise LimitError(
                f"{path_text(self.path)}: cannot be written: {exc.strerror or exc}; make room, or"
                " name another place with --to"
            ) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()


def json_text(cell: Json) -> str:
    return orjson.dumps(cell).decode()


def text_of(cell: Json) -> str:
    """A cell that is no text as one: JSON, but for numbers that JSON has not."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
    return str(cell) if type(cell) in (int, float) else json_text(cell)


def unwritable(
    path: Path, chunk: Chunk, encode: Callable[[Json], object], exc: Exception
) -> UsageError:
    """What to raise when a chunk could not be written: names the first cell that `encode` raises
    ValueError or TypeError for. `exc` is what the chunk as a whole had raised."""
    for number, row in zip(chunk.numbers, chunk.values(), strict=True):
        for column, cell in zip(chunk.columns, row, strict=False):
            try:
                encode(cell)
            except UnicodeEncodeError:
                reason = "half a character (a lone surrogate); take it out"
            except (ValueError, TypeError) as found:
                reason = f"{found}; leave it out, or write another format"
            else:
                continue
            where = f"row {number}, column {column!r}"
            return UsageError(f"{path_text(path)}: {where} cannot be written: {reason}")
    return UsageError(f"{path_text(path)}: a row cannot be written: {exc}; write another format")
