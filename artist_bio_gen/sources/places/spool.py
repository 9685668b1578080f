"""A file that can only be read from its end, put on disk first where it comes in one pass."""

from __future__ import annotations

import errno
import io
import re
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, LimitError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.spill.scratch import Scratch

_BLOCK = 1024 * 1024
_MB = 1_000_000
_LEFT_FREE = 0.05


def spooled(content: Content, options: SourceOptions) -> Content:
    """The same content with a `path`, which is there for as long as the returned value is held
    (by its `open`, too). LimitError when it takes more than --spill-max or than there is room."""
    if content.path is not None:
        return content
    file = _Spool(content, options.spill_dir or Path(tempfile.gettempdir()), options.spill_max)
    return replace(
        content, open=file.open, again=True, path=file.path, size=file.size, can_wait=True
    )


class _Spool:
    """A file in a folder of its own, which is removed with this object, or when the process ends;
    what a killed one has left, by the next."""

    def __init__(self, content: Content, parent: Path, most_mb: int | None) -> None:
        try:
            scratch = Scratch(parent)
        except OSError as exc:
            raise InputError(
                f"{content.name} must be put on disk to be read, and {parent} cannot be used:"
                f" {exc.strerror}; give another folder with --spill-dir"
            ) from exc
        self.close = weakref.finalize(self, scratch.close)
        with on_failure(self.close):
            # With the file's own ending: some libraries go by it.
            ending = re.sub(r"[^A-Za-z0-9.]", "", Path(content.file_name).suffix)[:20]
            self.path = scratch.path / f"content{ending}"
            self.size = _copy(content, self.path, most_mb)

    def open(self) -> io.BufferedReader[Any]:
        return self.path.open("rb")


def _copy(content: Content, path: Path, most_mb: int | None) -> int:
    most = _room(content, path.parent) if most_mb is None else most_mb * _MB
    size = 0
    with content.open() as source, path.open("wb", buffering=0) as file:
        while data := source.read(_BLOCK):
            size += len(data)
            if size > most:
                raise LimitError(
                    f"{content.name} is read from its end, so it is put on disk first, and takes"
                    f" more than {most // _MB:,} MB there; give more with --spill-max, or another"
                    " folder with --spill-dir, or fetch it yourself and give the file"
                )
            try:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
            except OSError as exc:
                if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise InputError(
                        f"{path.parent} cannot be written: {exc.strerror}; give another folder"
                        " with --spill-dir"
                    ) from exc
                raise LimitError(
                    f"{path.parent} is full, and {content.name} must be put there to be read; give"
                    " another folder with --spill-dir"
                ) from exc
    return size


def _room(content: Content, folder: Path) -> int:
    space = shutil.disk_usage(folder)
    return max(0, space.free - int(space.total * _LEFT_FREE))
