"""Files of a ledger written anew: beside the old ones, which stay under another name, and then put
in their stead by one rename each. A kill at any point leaves each file as it was or new.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import orjson

from artist_bio_gen.errors import LedgerError, LedgerFileError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.ledger.files import PRIVATE, FileCalls, sync_folder, write_all, write_file
from artist_bio_gen.ledger.mending import Begin, Mending, Superseded, Taken
from artist_bio_gen.ledger.segments import Segment, beside
from artist_bio_gen.values import Head

_BLOCK = 1024 * 1024


def rewrite(
    ledger: Path,
    changed: Sequence[Path],
    way: Mending,
    head: Head,
    *,
    stamp: str,
    files: FileCalls,
) -> dict[Path, Path | None]:
    """Makes the files `changed` of the ledger what `way` says, up to the line `head`. Under its
    lock. Returns where the old content of each is; None for one that was not there. `stamp` goes
    into its name. LedgerFileError when a file call fails: what was not replaced is as it was."""
    kept: dict[Path, Path | None] = {}
    try:
        with on_failure(partial(_remove_new, changed, files)):
            _write_anew(changed, way, files)
            if (way.seq, way.hash) != (head.seq, head.hash):
                raise LedgerError(
                    f"{ledger}: it or the database was changed during the repair; repair it again"
                )
            # The newest first: where a file begins is read from the file itself, and tells where
            # the one before it ends.
            for path in reversed(changed):
                kept[path] = _put_in_place(ledger, path, stamp, files)
    except OSError as exc:
        raise LedgerFileError(
            f"{ledger}: could not be mended ({exc.strerror}); nothing of it is lost. Mend the"
            " disk, then repair it again"
        ) from exc
    return kept


def _remove_new(changed: Sequence[Path], files: FileCalls) -> None:
    for path in changed:
        with suppress(OSError):
            files.unlink(str(_new(path)))


def _write_anew(changed: Sequence[Path], way: Mending, files: FileCalls) -> None:
    new: _NewFile | None = None
    try:
        for step in way.steps():
            match step:
                case Begin(segment):
                    if new is not None:
                        new.finish()
                    new = _NewFile(segment.path, files) if segment.path in changed else None
                case Taken(_, _, data, _) if new is not None:
                    new.write(data + b"\n")
                case Superseded(offset) if new is not None:
                    new.copy_from(offset)
        if new is not None:
            new.finish()
    finally:
        if new is not None:
            new.close()


class _NewFile:
    """A file of the ledger written anew, under another name."""

    def __init__(self, path: Path, files: FileCalls) -> None:
        self._path = path
        self._files = files
        self._waiting: list[bytes] = []
        self._size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = files.open(str(_new(path)), flags, PRIVATE)

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            self._hand_over()

    def copy_from(self, offset: int) -> None:
        with self._path.open("rb") as old:
            old.seek(offset)
            while block := old.read(_BLOCK):
                self.write(block)

    def finish(self) -> None:
        self._hand_over()
        self._files.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _hand_over(self) -> None:
        if self._waiting:
            write_all(self._files, self._fd, b"".join(self._waiting))
        self._waiting, self._size = [], 0


def _put_in_place(ledger: Path, path: Path, stamp: str, files: FileCalls) -> Path | None:
    """The new file instead of the old one, which stays under the name that is returned."""
    kept = _keep(path, stamp, files) if path.exists() else None
    marker = beside(ledger, "fsync-failed")
    marked = marker.exists() and _marks(marker, path)
    if marked:
        # It tells up to which byte the file is on disk, which is another one in the new file. A
        # start between this and the next steps goes on in a further file, with all of its lines.
        content = {"file": path.name, "seq": 0, "size": 0}
        write_file(files, marker, orjson.dumps(content) + b"\n")
    files.rename(str(_new(path)), str(path))
    sync_folder(files, path.parent)
    if marked:
        files.unlink(str(marker))
    return kept


def _keep(path: Path, stamp: str, files: FileCalls) -> Path:
    kept = beside(path, f"quarantine.{stamp}.0")
    further = 0
    while kept.exists():
        further += 1
        kept = beside(path, f"quarantine.{stamp}-{further}.0")
    try:
        files.link(str(path), str(kept))
    except OSError:  # no hard links on this file system
        copy = _NewFile(kept, files)
        try:
            with path.open("rb") as old:
                while block := old.read(_BLOCK):
                    copy.write(block)
            copy.finish()
        finally:
            copy.close()
        files.rename(str(_new(kept)), str(kept))
    sync_folder(files, path.parent)
    return kept


def _marks(marker: Path, path: Path) -> bool:
    try:
        return bool(orjson.loads(marker.read_bytes())["file"] == path.name)
    except (ValueError, KeyError, TypeError):
        return True  # it cannot be read, and may speak of any file


def _new(path: Path) -> Path:
    return beside(path, "mending")


def remove_leftovers(ledger: Path, segments: Sequence[Segment], files: FileCalls) -> None:
    """What a repair that was killed has left: files half written, and second names of files that
    were not replaced after all."""
    left: list[Path] = []
    for suffix in ("head", "fsync-failed"):
        left += ledger.parent.glob(f".{glob.escape(beside(ledger, suffix).name)}.*")
    for segment in segments:
        name = glob.escape(segment.path.name)
        left += ledger.parent.glob(f"{name}.mending")
        left += ledger.parent.glob(f"{name}.quarantine.*.mending")
        left += (
            each
            for each in ledger.parent.glob(f"{name}.quarantine.*")
            if segment.path.exists() and each.samefile(segment.path)
        )
    try:
        for each in left:
            files.unlink(str(each))
    except OSError as exc:
        raise LedgerFileError(f"{each}: cannot be removed: {exc.strerror}") from exc
