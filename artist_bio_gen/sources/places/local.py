"""Files of this machine: one, all that match a pattern, the standard input, named pipes."""

from __future__ import annotations

import glob
import io
import os
import re
import select
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.sources.content import Content
from artist_bio_gen.values import path_text

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

STDIN = "-"

BUFFER = 64 * 1024

_LOOK_MS = 200
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


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


def is_address(source: str) -> bool:
    return bool(_SCHEME.match(source))


def files_of(source: str) -> tuple[str, ...] | None:
    """As `paths_of`; None for what is no file of this machine, or can be read only once."""
    return None if source == STDIN or is_address(source) else paths_of(source)


def paths_of(source: str) -> tuple[str, ...]:
    """The files that a path or a pattern names, in the order of their names. A file whose very
    name looks like a pattern is that file. InputError when nothing matches a pattern."""
    if not glob.has_magic(source) or os.path.lexists(source):
        return (source,)
    # Not those of Path: the pattern itself may be absolute, and hold "..".
    matching = glob.iglob(source, recursive=True)  # noqa: PTH207
    found = sorted(path for path in matching if not Path(path).is_dir())
    if not found:
        raise InputError(
            f"{path_text(source)}: no file matches this pattern; mend it, or name a file"
        )
    return tuple(found)


def local_content(path: str, cancelled: Callable[[], bool]) -> Content:
    """The bytes of this file, or of the standard input. InputError when it cannot be opened."""
    if path == STDIN:
        return _standard_input(cancelled)
    if not path:
        raise InputError(
            "'' cannot be opened: it is no name; name a file, or - for the standard input"
        )
    try:
        about = Path(path).stat()
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise _cannot_be_opened(path, exc) from exc
    if stat.S_ISDIR(about.st_mode):
        raise InputError(
            f"{path_text(path)} cannot be opened: Is a directory; name a file in it, or a pattern"
            f" such as {path_text(PurePath(path) / '*.csv')}"
        )
    regular = stat.S_ISREG(about.st_mode)
    return Content(
        name=path_text(path),
        file_name=PurePath(path).name,
        open=partial(_open, path, cancelled),
        again=regular,
        path=Path(path) if regular else None,
        size=about.st_size if regular else None,
        packed_size=about.st_size if regular else None,
    )


def _standard_input(cancelled: Callable[[], bool]) -> Content:
    try:
        about = os.fstat(0)
    except OSError as exc:
        raise _cannot_be_opened("standard input", exc) from exc
    size = about.st_size if stat.S_ISREG(about.st_mode) else None
    return Content(
        name="standard input",
        file_name="",
        open=partial(_open, STDIN, cancelled),
        size=size,
        packed_size=size,
    )


def _open(path: str, cancelled: Callable[[], bool]) -> io.BufferedReader[Any]:
    try:
        raw = _Patient(0, cancelled, closefd=False) if path == STDIN else _Patient(path, cancelled)
    except (OSError, ValueError) as exc:
        raise _cannot_be_opened("standard input" if path == STDIN else path, exc) from exc
    return io.BufferedReader(raw, BUFFER)


def _cannot_be_opened(name: str, exc: OSError | ValueError) -> InputError:
    reason = getattr(exc, "strerror", exc)
    return InputError(
        f"{path_text(name)} cannot be opened: {reason}; check its name, and that you may read it"
    )
