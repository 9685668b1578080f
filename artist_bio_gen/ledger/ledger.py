"""The ledger: append-only files of chained lines, their lock and their head.

Beside `out.jsonl` lie `out.jsonl.lock` (the sidecar lock) and `out.jsonl.head` (a copy of the
head, and the ledger's id while it has no line yet). A crash at any moment leaves a file of whole
lines with at most a torn tail, which `scan` finds and `cut` takes out into quarantine. After a
failed fsync `out.jsonl.fsync-failed` tells which file must not be gone on with: `renew` begins
the next segment (see segments.py).
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import orjson

from artist_bio_gen.errors import (
    LedgerError,
    LedgerFileError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.failing import on_failure
from artist_bio_gen.ledger.check import Checked, Scan, reading, scan_file
from artist_bio_gen.ledger.files import (
    PRIVATE,
    REAL,
    FileCalls,
    is_same_file,
    sync_folder,
    write_all,
    write_file,
)
from artist_bio_gen.ledger.line import Line, first_prev, is_first_bio, seq_of
from artist_bio_gen.ledger.note import Watch, ends_with, read_note
from artist_bio_gen.ledger.segments import (
    LONGEST_LINE,
    beside,
    find_id,
    segment_path,
    segments,
)
from artist_bio_gen.ledger.sharing import Sidecar
from artist_bio_gen.values import Head

_COPY_BLOCK = 1024 * 1024
_FLOCK_AGAIN_S = 0.005
_TAIL = 64 * 1024 * 1024


def _empty(ledger_id: str) -> Head:
    return Head(ledger_id, 0, first_prev(ledger_id))


class Ledger:
    """An open ledger. `head` and `size` are what this process knows of the file; they are true
    while the lock is held and `catch_up` has been asked. `one_bio_each`: no artist has a second
    bio among the lines up to `head`. `cancelled` ends a wait for the lock, and the check of a
    long file, with StoppedError. One instance serves one thread at a time: the committer's, and
    before and after it the runner's."""

    def __init__(
        self,
        path: Path,
        ledger_id: str,
        fd: int,
        files: FileCalls,
        cancelled: Callable[[], bool],
    ) -> None:
        self.path = path
        self.id = ledger_id
        self.head = _empty(ledger_id)
        self.size = 0
        self._number = 0
        self.file = path  # the newest segment, which _fd and size are of
        self._fd = fd
        self._unsynced = False  # the next line begins a new segment
        self._files = files
        self._cancelled = cancelled
        self._broken: str | None = None
        self._sidecar = Sidecar(beside(path, "lock"), cancelled)
        self.one_bio_each = True
        self._watch = Watch()

    @property
    def first_prev(self) -> str:
        """`prev` of the first line, which is the head's hash while there is no line."""
        return first_prev(self.id)

    @classmethod
    def create(
        cls, path: Path, *, files: FileCalls = REAL, cancelled: Callable[[], bool] = lambda: False
    ) -> Ledger:
        """Makes a new, empty ledger. UsageError when something stands at `path` already."""
        if not path.parent.is_dir():
            raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
        ledger = cls(path, str(uuid.uuid4()), -1, files, cancelled)
        try:
            with ledger._sidecar.held():
                if os.path.lexists(path):
                    raise FileExistsError
                # The head is written at a run's start and end: 0 lines there may be many by now.
                if find_id(path) is not None:
                    raise UsageError(
                        f"{path} is gone, but {beside(path, 'head').name} is there: --resume brings"
                        " its lines back from the database. To begin anew, remove that file too, or"
                        " name another with --output"
                    )
                # First the head: whoever finds the file finds its id as well.
                with on_failure(ledger._remove_head_of_none):
                    ledger.save_head()
                    ledger._fd = files.open(
                        str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, PRIVATE
                    )
                    sync_folder(files, path.parent)
        except FileExistsError as exc:
            raise UsageError(
                f"{path}: a ledger is there already and is never overwritten; go on with it by"
                " --resume, or name another file with --output"
            ) from exc
        except (OSError, LedgerFileError) as exc:
            ledger.close()
            if isinstance(exc, LedgerFileError):
                raise
            raise LedgerFileError(f"{path}: cannot be created: {exc.strerror}") from exc
        return ledger

    def _remove_head_of_none(self) -> None:
        """The head of a ledger that could not be made would be in the next one's way."""
        if not os.path.lexists(self.path):
            with suppress(OSError):
                self._files.unlink(str(beside(self.path, "head")))

    @classmethod
    def reopen(
        cls, path: Path, *, files: FileCalls = REAL, cancelled: Callable[[], bool] = lambda: False
    ) -> Ledger:
        """A ledger whose file was deleted and whose head is there: an empty file with its id, to
        be filled from the database."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            os.close(files.open(str(path), flags, PRIVATE))
            sync_folder(files, path.parent)
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be created: {exc.strerror}") from exc
        return cls.open(path, files=files, cancelled=cancelled)

    @classmethod
    def open(
        cls, path: Path, *, files: FileCalls = REAL, cancelled: Callable[[], bool] = lambda: False
    ) -> Ledger:
        """Opens a ledger that exists; nothing is checked yet but its id (see `scan`)."""
        if not path.name:  # nothing can lie beside it
            raise UsageError(f"{path}: there is no ledger")
        ledger = cls(path, "", -1, files, cancelled)
        try:
            with on_failure(ledger.close):
                if not path.exists():
                    raise UsageError(f"{path}: there is no ledger")
                ledger._open_newest()
                ledger._take_id(_find_id(path))
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be opened: {exc.strerror}") from exc
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the ledger against every other process: the sidecar's lock, and the lock of the
        file itself, so that a deleted sidecar does not give two holders."""
        with self._sidecar.held():
            self._flock_newest()
            try:
                if not is_same_file(self._fd, self.file):
                    raise LedgerError(
                        f"{self.file}: deleted or replaced by another file while it was in use;"
                        " nothing more is written. Put the file back, then --resume"
                    )
                yield
            finally:
                self._flock(fcntl.LOCK_UN)

    def _flock_newest(self) -> None:
        self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        while self._next_file().exists() and segments(self.path)[-1].path != self.file:
            # Another process has begun it. What is known of the file before is of no use here:
            # size 0 where lines stand makes catch_up say so.
            before = self._fd
            try:
                self._open_newest()
            except OSError as exc:
                self._flock(fcntl.LOCK_UN)
                raise LedgerFileError(
                    f"{self._next_file()}: cannot be opened: {exc.strerror}"
                ) from exc
            os.close(before)
            self.head, self.size = _empty(self.id), 0
            self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _flock(self, operation: int) -> None:
        try:
            while True:
                try:
                    self._files.flock(self._fd, operation)
                    return
                except BlockingIOError:
                    # Only where the sidecar was deleted: somebody else still has the file.
                    if self._cancelled():
                        raise StoppedError from None
                    time.sleep(_FLOCK_AGAIN_S)
        except OSError as exc:
            raise LedgerFileError(f"{self.path}: cannot be locked: {exc.strerror}") from exc

    def catch_up(self) -> bool:
        """Reads what other processes have appended since. Under the lock. False when the file
        does not go on where this process left it, or must not be gone on with: reconcile before
        anything is written."""
        self._require_sound()
        if self._synced_size() is not None:
            return False
        size = os.fstat(self._fd).st_size
        if size == self.size:
            return True
        if size < self.size:
            return False
        found = scan_file(self.file, self.head, self.size, cancelled=self._cancelled)
        if found.damage is not None:
            return False
        self.head, self.size = found.head, found.size
        self.one_bio_each = self.one_bio_each and found.first_bios
        return True

    def append(self, lines: Sequence[Line]) -> None:
        """Writes the lines (at least one) in one go and fsyncs. Under the lock, after `catch_up`.

        An error is final for this file: nothing is retried, since after a failed fsync the next
        one may report success for data that is gone. The lines stand in the database, and the
        next start brings the file up to it.
        """
        self._require_sound()
        data = b"".join(line.data + b"\n" for line in lines)
        if self._unsynced:
            self._begin_segment([data])
        else:
            self._watch.require(self.file, self._fd)
            self._write(data)
            self._watch.note(self.file, self._fd)
            self._sync()
        self.one_bio_each = self.one_bio_each and all(
            is_first_bio(line.data, line.seq) for line in lines
        )
        self.head = Head(self.id, lines[-1].seq, lines[-1].hash)
        self.size += len(data)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._files, self._fd, data)
        except OSError as exc:
            raise self._break(
                f"could not be written ({exc.strerror}); the run stops. What is missing stands in"
                " the database; mend the disk, then --resume"
            ) from exc

    def _sync(self) -> None:
        try:
            self._files.fsync(self._fd)
        except OSError as exc:
            content = {"file": self.file.name, "seq": self.head.seq, "size": self.size}
            with suppress(LedgerFileError):  # the disk fails; the run ends either way
                write_file(self._files, self._marker, orjson.dumps(content) + b"\n")
            raise self._break(
                f"could not be synced ({exc.strerror}); the run stops. What is missing stands in"
                " the database; mend the disk, then --resume, which goes on in a new file"
            ) from exc

    def scan(self, *, trust_note: bool = False) -> Scan:
        """Checks all files, line by line, in flat memory, and takes `head` and `size` from what
        verifies. Under the lock. With `trust_note` they are not read again when the head beside
        the ledger notes that they were checked, and none of them was touched since."""
        file_size = os.fstat(self._fd).st_size
        files = segments(self.path)
        self._watch = Watch()
        for segment in files:
            self._watch.note(segment.path, self._fd if segment.path == self.file else None)
        unsynced = self._synced_size() is not None
        if trust_note and not unsynced and self._take_note():
            return Scan(self.head, self.file, self.size, file_size, None, noted=True)
        found = Checked(_empty(self.id), 0, None, True)
        one_bio_each = True
        # Pages that could not be written count as written and are read from memory as if they
        # were, until they are dropped: what is checked should be what the disk has.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, max(0, file_size - _TAIL), 0, os.POSIX_FADV_DONTNEED)
        for segment in files:
            found = scan_file(segment.path, found.head, 0, segment.last, cancelled=self._cancelled)
            one_bio_each = one_bio_each and found.first_bios
            if found.damage is not None and segment.last is not None:
                size = segment.path.stat().st_size
                return Scan(found.head, segment.path, found.size, size, found.damage)
        self.head, self.size, self.one_bio_each = found.head, found.size, one_bio_each
        return Scan(found.head, self.file, found.size, file_size, found.damage, unsynced)

    def _take_note(self) -> bool:
        """Takes head and size from the note beside the ledger, if it is of these very files and
        the last line is the one that it tells of."""
        noted = read_note(self.path)
        if noted is None or noted.ledger != self.id or not self._watch.saw(noted.files):
            return False
        size = os.fstat(self._fd).st_size
        if not ends_with(self._fd, size, noted.seq, noted.hash):
            return False
        self.head, self.size = Head(self.id, noted.seq, noted.hash), size
        self.one_bio_each = noted.one_bio_each
        return True

    def renew(self) -> None:
        """Begins a new segment with the lines that stand behind the last one synced, as far as
        they verify; where there are none, the next `append` begins it. Under the lock, after
        `scan`. The file before is never written to again."""
        synced = self._synced_size()
        assert synced is not None
        self._unsynced = True
        if synced < self.size:
            size, self.size = self.size, 0
            self._begin_segment(_blocks(self._fd, synced, size))
            self.size = size - synced

    def _begin_segment(self, data: Iterable[bytes]) -> None:
        """Makes the next file with `data` in it: it is there whole and on disk, or not at all."""
        path = self._next_file()
        if os.path.lexists(path):
            raise LedgerFileError(
                f"{path}: is in the way of the ledger's next file, and does not belong to it; move"
                " it away, then --resume"
            )
        new = beside(path, "new")
        fd = -1
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
            fd = self._files.open(str(new), flags, PRIVATE)
            self._files.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for block in data:
                write_all(self._files, fd, block)
            self._files.fsync(fd)
            self._files.rename(str(new), str(path))
            sync_folder(self._files, path.parent)
        except (OSError, LedgerFileError) as exc:
            if fd >= 0:
                os.close(fd)
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise self._break(
                f"its next file {path.name} could not be begun ({reason}); mend the disk, then"
                " --resume"
            ) from exc
        os.close(self._fd)
        self._fd, self.file, self.size, self._unsynced = fd, path, 0, False
        self._watch.note(path, fd)
        with suppress(OSError):  # it names the file before, and so says nothing any more
            self._files.unlink(str(self._marker))

    def _next_file(self) -> Path:
        return segment_path(self.path, self._number + 1)

    @property
    def _marker(self) -> Path:
        return beside(self.path, "fsync-failed")

    def _synced_size(self) -> int | None:
        """Up to which byte the newest file was synced, when a later fsync of it had failed."""
        try:
            content = orjson.loads(self._marker.read_bytes())
            return int(content["size"]) if content["file"] == self.file.name else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # it cannot be read: nothing is known to be on disk

    def cut(self, clock: Callable[[], float] = time.time) -> Path:
        """Moves everything behind the last line that verifies into a file of its own beside the
        ledger, which it returns. Under the lock, after `scan`. The copy is on disk before the
        ledger is made shorter."""
        self._require_sound()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
        target = beside(self.file, f"quarantine.{stamp}.{self.size}")
        try:
            out = self._files.open(str(target), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
            try:
                for block in _blocks(self._fd, self.size):
                    write_all(self._files, out, block)
                self._files.fsync(out)
            except OSError:
                with suppress(OSError):  # a part of it is of no use: the ledger has it all
                    self._files.unlink(str(target))
                raise
            finally:
                os.close(out)
            sync_folder(self._files, self.path.parent)
            self._files.ftruncate(self._fd, self.size)
        except OSError as exc:
            raise self._break(
                f"its torn tail could not be put into quarantine ({exc.strerror}); mend the disk,"
                " then --resume"
            ) from exc
        # The lines before may be those of a process that was killed before its own sync.
        self._sync()
        self._watch.note(self.file, self._fd)
        return target

    def line_hash(self, seq: int) -> str | None:
        """Hash of line `seq`, read from the file; None when it is not there. Slow: for the rare
        case that the file goes further than the database."""
        for data in self.lines(after=seq - 1):
            return data[-66:-2].decode() if seq_of(data) == seq else None
        return None

    def lines(self, after: int = 0) -> Iterator[bytes]:
        """The lines (without line feed) with a number above `after`, up to the head. Only after
        `scan` or `catch_up` has found them right."""
        for segment in segments(self.path):
            last = self.head.seq if segment.last is None else segment.last
            if last <= after:
                continue
            with reading(segment.path) as file:
                for _ in range(segment.first, last + 1):
                    data = file.readline(LONGEST_LINE)
                    if after < segment.first or seq_of(data) > after:
                        yield data[:-1]

    def save_head(self, *, done: Mapping[str, object] | None = None) -> None:
        """Writes the copy of the head beside the ledger; and, if all lines were checked or written
        by this process, and nobody else has touched a file meanwhile, how the files look now, and
        with them what is `done` of an input."""
        content: dict[str, object] = {
            "ledger": self.id,
            "seq": self.head.seq,
            "hash": self.head.hash,
            "file": self.file.name,
            "size": self.size,
        }
        if files := self._watch.untouched(self.file, self._fd, self.size):
            content["checked"] = {"files": files, "one_bio_each": self.one_bio_each, "done": done}
        write_file(self._files, beside(self.path, "head"), orjson.dumps(content) + b"\n")

    def _require_sound(self) -> None:
        if self._broken is not None:
            raise LedgerFileError(self._broken)

    def _break(self, what: str) -> LedgerFileError:
        self._broken = f"{self.path}: {what}"
        return LedgerFileError(self._broken)

    def _open_newest(self) -> None:
        files = segments(self.path)
        self._fd = self._files.open(str(files[-1].path), os.O_RDWR | os.O_APPEND, PRIVATE)
        self._number, self.file = len(files) - 1, files[-1].path

    def _take_id(self, ledger_id: str | None) -> None:
        if ledger_id is None:
            with self.locked():
                ledger_id = _find_id(self.path) or str(uuid.uuid4())
                self.id, self.head = ledger_id, _empty(ledger_id)
                self.save_head()
        self.id, self.head = ledger_id, _empty(ledger_id)


def _find_id(path: Path) -> str | None:
    """The ledger's id; None for an empty file that never had one (made by hand, or by a crash
    between the file and its head)."""
    if (ledger_id := find_id(path)) is not None:
        return ledger_id
    if path.stat().st_size == 0 and not beside(path, "head").exists():
        return None
    raise LedgerError(
        f"{path}: its first line is damaged or is no ledger line, and {beside(path, 'head').name}"
        " does not tell the ledger's id; is this the right file? One of the earlier format is taken"
        " over by: artist-bio-gen adopt"
    )


def _blocks(fd: int, start: int, end: int | None = None) -> Iterator[bytes]:
    """The file's bytes from `start` to `end` (None: to where it ends)."""
    while block := os.pread(
        fd, _COPY_BLOCK if end is None else min(_COPY_BLOCK, end - start), start
    ):
        yield block
        start += len(block)
