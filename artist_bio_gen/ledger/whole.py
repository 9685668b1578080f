"""A file written piece by piece and put in place whole: the old one or the new one is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from artist_bio_gen.errors import LedgerFileError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.ledger.files import FileCalls, sync_folder, write_all

_BLOCK = 256 * 1024


@contextmanager
def whole_file(files: FileCalls, path: Path) -> Iterator[Callable[[bytes], None]]:
    """Gives what takes the pieces. At the end of the block they are on disk at `path`, with mode
    0600; an error in the block leaves what stood there. LedgerFileError when a file call fails,
    UsageError when there is no such folder."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise _cannot(path, exc) from exc
    waiting: list[bytes] = []
    size = 0

    def write(data: bytes) -> None:
        nonlocal size
        waiting.append(data)
        size += len(data)
        if size >= _BLOCK:
            hand_over()

    def hand_over() -> None:
        nonlocal size
        try:
            write_all(files, fd, b"".join(waiting))
        except OSError as exc:
            raise _cannot(path, exc) from exc
        waiting.clear()
        size = 0

    try:
        with on_failure(partial(Path(temporary).unlink, missing_ok=True)):
            try:
                yield write
                if waiting:
                    hand_over()
                files.fsync(fd)
            finally:
                os.close(fd)
            files.rename(temporary, str(path))
    except OSError as exc:
        raise _cannot(path, exc) from exc
    sync_folder(files, path.parent)


def _cannot(path: Path, exc: OSError) -> LedgerFileError:
    return LedgerFileError(f"{path}: cannot be written: {exc.strerror}")
