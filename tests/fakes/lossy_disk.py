"""What a disk may hold after a loss of power, for each moment of a run.

`Recording` notes the file calls of a run in one folder. `crash_states` then gives, for a moment
between two of them, the folders that may be found afterwards: what was synced is there; of what
was not, everything, nothing, or a part: cut somewhere, or with NUL bytes for pages that were never
written. New, renamed and removed names are on disk when the folder was synced, and before
that in the order in which they were made. After a failed fsync nothing of what it was to sync is
ever made durable by a later one.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from artist_bio_gen.ledger.files import FileCalls

PAGE = 4096

Folder: TypeAlias = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class _Change:
    """Of a file's bytes: `data` at `offset`, or (None) its end there."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    pending: list[_Change] = field(default_factory=list)
    given_up: list[_Change] = field(default_factory=list)  # an fsync of these had failed

    def now(self) -> bytes:
        return _changed(self.durable, [*self.given_up, *self.pending])

    def sync(self, *, ok: bool) -> None:
        if ok:
            self.durable = _changed(self.durable, self.pending)
        else:
            self.given_up += self.pending
        self.pending = []


@dataclass(frozen=True, slots=True)
class _Renaming:
    """A name that becomes that of another file; None: it goes."""

    name: str
    file: int | None


@dataclass(slots=True)
class _Disk:
    files: dict[int, _File] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    pending: list[_Renaming] = field(default_factory=list)

    def names_after(self, count: int) -> dict[str, int]:
        names = dict(self.names)
        for each in self.pending[:count]:
            if each.file is None:
                names.pop(each.name, None)
            else:
                names[each.name] = each.file
        return names


_Step: TypeAlias = Callable[[_Disk], None]


class Recording:
    """`over` gives the calls for what is recorded; all of it works in one folder. `mark` notes
    something else that happened. Threads may share it: their calls are made one after another."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # makes the order of the record that of the calls
        self._steps: list[tuple[_Step | None, Any]] = []
        self._ids: dict[int | None, int] = {}  # by inode, which a later file may have again
        self._files = itertools.count()

    def over(self, real: FileCalls) -> FileCalls:
        """The calls of `real`, recorded."""
        return FileCalls(
            open=partial(self._open, real),
            write=partial(self._write, real),
            fsync=partial(self._fsync, real),
            ftruncate=partial(self._ftruncate, real),
            rename=partial(self._rename, real),
            unlink=partial(self._unlink, real),
        )

    def mark(self, what: Any) -> None:
        with self._lock:
            self._steps.append((None, what))

    def moments(self) -> Iterator[Moment]:
        """Before the first call, and behind each call and mark."""
        disk = _Disk()
        marks: list[Any] = []
        yield Moment(disk, marks)
        for step, what in self._steps:
            if step is None:
                marks.append(what)
            else:
                step(disk)
            yield Moment(disk, marks)

    def _open(self, real: FileCalls, path: str, flags: int, mode: int) -> int:
        with self._lock:
            there = os.path.lexists(path)
            fd = real.open(path, flags, mode)
            if not there:
                self._note_new(fd, path)
            elif flags & os.O_TRUNC:
                self._change(fd, _Change(0, None))
            return fd

    def _write(self, real: FileCalls, fd: int, data: bytes) -> int:
        with self._lock:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
                offset = os.fstat(fd).st_size
            else:
                offset = os.lseek(fd, 0, os.SEEK_CUR)
            written = real.write(fd, data)
            self._change(fd, _Change(offset, data[:written]))
            return written

    def _fsync(self, real: FileCalls, fd: int) -> None:
        with self._lock:
            try:
                real.fsync(fd)
            except OSError:
                self._note_sync(fd, ok=False)
                raise
            self._note_sync(fd, ok=True)

    def _ftruncate(self, real: FileCalls, fd: int, size: int) -> None:
        with self._lock:
            real.ftruncate(fd, size)
            self._change(fd, _Change(size, None))

    def _rename(self, real: FileCalls, source: str, target: str) -> None:
        with self._lock:
            inode = Path(source).stat().st_ino
            replaced = Path(target).stat().st_ino if os.path.lexists(target) else None
            real.rename(source, target)
            self._ids.pop(replaced, None)
            self._rename_to(_Renaming(Path(source).name, None))
            self._rename_to(_Renaming(Path(target).name, self._ids[inode]))

    def _unlink(self, real: FileCalls, path: str) -> None:
        with self._lock:
            inode = Path(path).stat().st_ino
            real.unlink(path)
            self._ids.pop(inode, None)
            self._rename_to(_Renaming(Path(path).name, None))

    def _note_new(self, fd: int, path: str) -> None:
        number = next(self._files)
        self._ids[os.fstat(fd).st_ino] = number
        self._steps.append((lambda disk: disk.files.update({number: _File()}), None))
        self._rename_to(_Renaming(Path(path).name, number))

    def _rename_to(self, renaming: _Renaming) -> None:
        self._steps.append((lambda disk: disk.pending.append(renaming), None))

    def _change(self, fd: int, change: _Change) -> None:
        if os.fstat(fd).st_ino not in self._ids:  # made by another way than the table
            self._note_new(fd, str(Path(f"/proc/self/fd/{fd}").readlink()))
        number = self._ids[os.fstat(fd).st_ino]
        self._steps.append((lambda disk: disk.files[number].pending.append(change), None))

    def _note_sync(self, fd: int, *, ok: bool) -> None:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            number = self._ids[os.fstat(fd).st_ino]
            self._steps.append((lambda disk: disk.files[number].sync(ok=ok), None))
        elif ok:
            self._steps.append((_sync_folder, None))


@dataclass(frozen=True, slots=True)
class Moment:
    """`marks` are those until now. Both change with the next moment."""

    _disk: _Disk
    marks: list[Any]

    def synced(self, name: str) -> bytes:
        """What of the file that now has this name was synced; nothing without one."""
        disk = self._disk
        file = disk.names_after(len(disk.pending)).get(name)
        return b"" if file is None else disk.files[file].durable

    def names(self) -> list[str]:
        return list(self._disk.names_after(len(self._disk.pending)))

    def crash_states(self, cut_every: Callable[[str], int], nul_every: int) -> Iterator[Folder]:
        """A file is cut at every so many bytes, by its name (1: at each); NUL bytes begin at every
        `nul_every`-th one."""
        disk = self._disk
        everything = {number: file.now() for number, file in disk.files.items()}
        nothing = {number: file.durable for number, file in disk.files.items()}
        for count in range(len(disk.pending) + 1):
            for contents in (everything, nothing):
                yield _folder(disk.names_after(count), contents)
        names = disk.names_after(len(disk.pending))
        for name, number in names.items():
            end, now = len(nothing[number]), everything[number]
            for others in (everything, nothing):
                for content in _torn(end, now, cut_every(name), nul_every):
                    yield _folder(names, {**others, number: content})


def _torn(end: int, now: bytes, cut_every: int, nul_every: int) -> Iterator[bytes]:
    """What may be there of a file that is synced up to `end`."""
    yield from (now[:cut] for cut in range(end + 1, len(now), cut_every))
    for start in range(end, len(now), nul_every):
        yield now[:start] + bytes(len(now) - start)
    for page in range(end - end % PAGE, len(now), PAGE):
        lost = range(max(end, page), min(len(now), page + PAGE))
        yield now[: lost.start] + bytes(len(lost)) + now[lost.stop :]


def _folder(names: Mapping[str, int], contents: Mapping[int, bytes]) -> Folder:
    return {name: contents[number] for name, number in names.items()}


def _sync_folder(disk: _Disk) -> None:
    disk.names = disk.names_after(len(disk.pending))
    disk.pending.clear()


def _changed(content: bytes, changes: list[_Change]) -> bytes:
    if not changes:
        return content
    after = bytearray(content)
    for change in changes:
        if change.data is None:
            del after[change.offset :]
            continue
        after.extend(bytes(max(0, change.offset - len(after))))
        after[change.offset : change.offset + len(change.data)] = change.data
    return bytes(after)
