"""How the ledger's files looked when they had been checked, so that the next start need not read
them again.

A file is told by inode, size and the moments of its last change. The kernel sets the moment of a
status change (ctime) itself, so what was written to a file shows, whatever was done to hide it,
as long as the clock was not set back. What changes bytes below the file system does not show.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from artist_bio_gen.ledger.line import is_whole, seq_of
from artist_bio_gen.ledger.segments import beside

Look: TypeAlias = list[int]
"""Of a file: inode, size, mtime and ctime in ns."""

_TAIL = 1024 * 1024


class Watch:
    """How each file of a ledger looked when this process last read it whole or wrote to it, and
    whether it ever looked otherwise when it was written to again."""

    def __init__(self) -> None:
        self._looks: dict[str, Look] = {}
        self._sure = True

    def note(self, path: Path, fd: int | None = None) -> None:
        """It looks so now. `fd` is the file, if it is open."""
        try:
            self._looks[path.name] = _look(path if fd is None else fd)
        except OSError:
            self._sure = False  # whoever reads it tells

    def require(self, path: Path, fd: int) -> None:
        """It should look as it did: else somebody else has written to it."""
        self._sure = self._sure and self._looks.get(path.name) == _look(fd)

    def saw(self, looks: object) -> bool:
        """Are these all the files, and do they look as they did then?"""
        return self._sure and bool(self._looks) and self._looks == looks

    def untouched(self, newest: Path, fd: int, size: int) -> Mapping[str, Look] | None:
        """How the files look, if all that stands in them was seen or written by this process."""
        try:
            now = {
                name: _look(fd if name == newest.name else newest.with_name(name))
                for name in self._looks
            }
        except OSError:
            return None
        same = self.saw(now) and now[newest.name][1] == size if newest.name in now else False
        return now if same else None


@dataclass(frozen=True, slots=True)
class Note:
    """What the head beside a ledger tells of its last line, and of the files up to it; and what it
    was given of an input."""

    ledger: str
    seq: int
    hash: str
    one_bio_each: bool
    files: Mapping[str, Look]
    done: object = None


def read_note(ledger: Path) -> Note | None:
    """None when there is none, or it cannot be read."""
    try:
        head: Any = orjson.loads(beside(ledger, "head").read_bytes())
        checked = head["checked"]
        note = Note(
            str(head["ledger"]),
            head["seq"],
            str(head["hash"]),
            checked["one_bio_each"] is True,
            checked["files"],
            checked.get("done"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return note if type(note.seq) is int and note.seq > 0 else None


def ends_with(fd: int, size: int, seq: int, digest: str) -> bool:
    """Is the file's last line, whole, the one with this number and hash? False also for one that
    is longer than is worth reading for it."""
    start = max(0, size - _TAIL)
    try:
        data = os.pread(fd, size - start, start)
    except OSError:
        return False
    if not data.endswith(b"\n"):
        return False
    begin = data.rfind(b"\n", 0, -1) + 1
    if begin == 0 and start > 0:
        return False
    line = data[begin:-1]
    try:
        return (
            is_whole(line)
            and seq_of(line) == seq
            and line.endswith(b',"hash":"%b"}' % digest.encode())
        )
    except ValueError:
        return False


def look_of(file: Path) -> Look | None:
    """How it looks; None when it is not there."""
    try:
        return _look(file)
    except (OSError, ValueError):
        return None


def _look(file: Path | int) -> Look:
    about = os.fstat(file) if isinstance(file, int) else file.stat()
    return [about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
