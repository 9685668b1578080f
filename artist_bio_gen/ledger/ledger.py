"""The ledger: an append-only file of chained lines, its lock and its head.

Beside `out.jsonl` lie `out.jsonl.lock` (the sidecar lock) and `out.jsonl.head` (a copy of the
head, and the ledger's id while it has no line yet). A crash at any moment leaves a file of whole
lines with at most a torn tail, which `scan` finds and `cut` takes out into quarantine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import orjson
from filelock import FileLock, Timeout

from artist_bio_gen.errors import (
    ConfigError,
    LedgerError,
    LedgerFileError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.ledger.files import (
    MOUNTS,
    NETWORK_FILE_SYSTEMS,
    PRIVATE,
    REAL,
    FileCalls,
    file_system_type,
    held,
    is_same_file,
    sync_folder,
    write_all,
    write_file,
)
from artist_bio_gen.ledger.line import Line, first_prev, follows, is_whole, seq_of
from artist_bio_gen.ledger.segments import LONGEST_LINE, beside, find_id, noted_seq
from artist_bio_gen.values import Head

_COPY_BLOCK = 1024 * 1024
_FLOCK_AGAIN_S = 0.005


@dataclass(frozen=True, slots=True)
class Scan:
    """What a check of the file found. `head` and `size` (bytes) tell where the last line that
    verifies ends; behind it stands nothing (`damage` None), a tail that a crash can leave
    ("torn"), or something a crash cannot leave ("damaged"): whole lines after a bad one."""

    head: Head
    size: int
    file_size: int
    damage: Literal["torn", "damaged"] | None


def _empty(ledger_id: str) -> Head:
    return Head(ledger_id, 0, first_prev(ledger_id))


def require_local(path: Path, mounts: Path = MOUNTS) -> None:
    """Raises ConfigError when `path` lies on a network file system, where neither locks nor
    fsync can be relied on."""
    kind = file_system_type(path.parent, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"{path}: lies on a network file system ({kind}), where locks and fsync cannot be"
            " relied on; put the ledger on a local disk, or take the risk with"
            " --allow-network-filesystem"
        )


@contextmanager
def only_run(path: Path, source: str, *, files: FileCalls = REAL) -> Iterator[None]:
    """Keeps a second run over the same input away from the ledger at `path`: both would buy the
    same bios. UsageError when there is one. Runs over other inputs may go on side by side."""
    name = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with held(files, beside(path, f"run.{name}")) as alone:
        if not alone:
            raise UsageError(
                f"{path}: another run is at work on it with the same input ({source}); wait for it"
                " to end, or stop it"
            )
        yield


class Ledger:
    """An open ledger. `head` and `size` are what this process knows of the file; they are true
    while the lock is held and `catch_up` has been asked. `cancelled` ends a wait for the lock, with
    StoppedError. One instance serves one thread at a time: the committer's, and before and after
    it the runner's."""

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
        self._fd = fd
        self._files = files
        self._cancelled = cancelled
        self._broken: str | None = None
        self._sidecar_path = beside(path, "lock")
        self._sidecar_fd = -1
        # on_acquired hands out the descriptor and, by filelock's own rule, switches off the
        # silent fall-back to a lock file without flock; fallback_to_soft says it once more.
        self._sidecar = FileLock(
            self._sidecar_path,
            mode=PRIVATE,
            fallback_to_soft=False,
            poll_interval=0.002,
            on_acquired=self._note_sidecar,
        )

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
            with ledger._holding_sidecar():
                if os.path.lexists(path):
                    raise FileExistsError
                if lines := noted_seq(path):
                    raise UsageError(
                        f"{path} is gone, but {beside(path, 'head').name} tells of {lines} lines:"
                        " --resume brings them back from the database. To begin anew, remove that"
                        " file too, or name another with --output"
                    )
                # First the head: whoever finds the file finds its id as well.
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
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be created: {exc.strerror}") from exc
        except BaseException:
            ledger.close()
            raise
        return ledger

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
        try:
            fd = files.open(str(path), os.O_RDWR | os.O_APPEND, PRIVATE)
        except FileNotFoundError as exc:
            raise UsageError(f"{path}: there is no ledger") from exc
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be opened: {exc.strerror}") from exc
        try:
            ledger = cls(path, _find_id(path) or "", fd, files, cancelled)
            if not ledger.id:
                ledger._take_id()
            return ledger
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the ledger against every other process: the sidecar's lock, and the lock of the
        file itself, so that a deleted sidecar does not give two holders."""
        with self._holding_sidecar():
            self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                if not is_same_file(self._fd, self.path):
                    raise LedgerError(
                        f"{self.path}: deleted or replaced by another file while it was in use;"
                        " nothing more is written. Put the file back, then --resume"
                    )
                yield
            finally:
                self._flock(fcntl.LOCK_UN)

    @contextmanager
    def _holding_sidecar(self) -> Iterator[None]:
        while True:
            try:
                self._sidecar.acquire(cancel_check=self._cancelled)
            except Timeout as exc:
                raise StoppedError from exc
            except OSError as exc:
                raise LedgerFileError(
                    f"{self._sidecar_path}: cannot be locked: {exc.strerror}"
                ) from exc
            try:
                if is_same_file(self._sidecar_fd, self._sidecar_path):
                    yield
                    return
                # Deleted and made anew by another process while we waited.
            finally:
                self._sidecar.release()

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
        does not go on where this process left it: reconcile before anything is written."""
        self._require_sound()
        size = os.fstat(self._fd).st_size
        if size == self.size:
            return True
        if size < self.size:
            return False
        found = self._scan(self.head, self.size)
        if found.damage is not None:
            return False
        self.head, self.size = found.head, found.size
        return True

    def append(self, lines: Sequence[Line]) -> None:
        """Writes the lines (at least one) in one go and fsyncs. Under the lock, after `catch_up`.

        An error is final for this file: nothing is retried, since after a failed fsync the next
        one may report success for data that is gone. The lines stand in the database, and the
        next start brings the file up to it.
        """
        self._require_sound()
        data = b"".join(line.data + b"\n" for line in lines)
        try:
            write_all(self._files, self._fd, data)
            self._files.fsync(self._fd)
        except OSError as exc:
            raise self._break(
                f"could not be written and synced ({exc.strerror}); the run stops. What is missing"
                " stands in the database; mend the disk, then --resume"
            ) from exc
        self.head = Head(self.id, lines[-1].seq, lines[-1].hash)
        self.size += len(data)

    def scan(self) -> Scan:
        """Checks the whole file, line by line, in flat memory, and takes `head` and `size` from
        what verifies."""
        found = self._scan(_empty(self.id), 0)
        self.head, self.size = found.head, found.size
        return found

    def cut(self, clock: Callable[[], float] = time.time) -> Path:
        """Moves everything behind the last line that verifies into a file of its own beside the
        ledger, which it returns. Under the lock, after `scan`. The copy is on disk before the
        ledger is made shorter."""
        self._require_sound()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
        target = beside(self.path, f"quarantine.{stamp}.{self.size}")
        try:
            out = self._files.open(str(target), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
            try:
                offset = self.size
                while block := os.pread(self._fd, _COPY_BLOCK, offset):
                    write_all(self._files, out, block)
                    offset += len(block)
                self._files.fsync(out)
            finally:
                os.close(out)
            sync_folder(self._files, self.path.parent)
            self._files.ftruncate(self._fd, self.size)
            self._files.fsync(self._fd)
        except OSError as exc:
            raise self._break(
                f"its torn tail could not be put into quarantine ({exc.strerror}); mend the disk,"
                " then --resume"
            ) from exc
        return target

    def line_hash(self, seq: int) -> str | None:
        """Hash of line `seq`, read from the file; None when it is not there. Slow: for the rare
        case that the file goes further than the database."""
        for data in self.lines():
            if seq_of(data) == seq:
                return data[-66:-2].decode()
        return None

    def lines(self, after: int = 0) -> Iterator[bytes]:
        """The lines (without line feed) with a number above `after`, up to the known size."""
        left = self.size
        with self.path.open("rb") as file:
            while left > 0 and (data := file.readline(LONGEST_LINE)):
                left -= len(data)
                if after == 0 or seq_of(data) > after:
                    yield data[:-1]

    def save_head(self) -> None:
        """Writes the copy of the head beside the ledger."""
        content = {
            "ledger": self.id,
            "seq": self.head.seq,
            "hash": self.head.hash,
            "size": self.size,
        }
        write_file(self._files, beside(self.path, "head"), orjson.dumps(content) + b"\n")

    def _require_sound(self) -> None:
        if self._broken is not None:
            raise LedgerFileError(self._broken)

    def _break(self, what: str) -> LedgerFileError:
        self._broken = f"{self.path}: {what}"
        return LedgerFileError(self._broken)

    def _take_id(self) -> None:
        with self.locked():
            self.id = _find_id(self.path) or str(uuid.uuid4())
            self.head = _empty(self.id)
            self.save_head()

    def _note_sidecar(self, fd: int) -> None:
        self._sidecar_fd = fd

    def _scan(self, head: Head, size: int) -> Scan:
        seq, prev = head.seq, head.hash
        damage: Literal["torn", "damaged"] | None = None
        with self.path.open("rb", buffering=_COPY_BLOCK) as file:
            file.seek(size)
            while data := file.readline(LONGEST_LINE):
                digest = follows(data[:-1], prev) if data.endswith(b"\n") else None
                if digest is None or seq_of(data) != seq + 1:
                    damage = _kind_of_damage(data, file.readline)
                    break
                seq, prev = seq + 1, digest
                size += len(data)
        return Scan(Head(self.id, seq, prev), size, os.fstat(self._fd).st_size, damage)


def _kind_of_damage(
    first_bad: bytes, readline: Callable[[int], bytes]
) -> Literal["torn", "damaged"]:
    # A lost page reads as NUL bytes and may lie before lines of the same group that reached the
    # disk, so NULs before whole lines are still what a crash leaves.
    if b"\0" in first_bad:
        return "torn"
    data = first_bad
    while data:
        if data.endswith(b"\n") and is_whole(data[:-1]):
            return "damaged"
        data = readline(LONGEST_LINE)
        if b"\0" in data:
            return "torn"
    return "torn"


def _find_id(path: Path) -> str | None:
    """The ledger's id; None for an empty file that never had one (made by hand, or by a crash
    between the file and its head)."""
    if (ledger_id := find_id(path)) is not None:
        return ledger_id
    if path.stat().st_size == 0 and not beside(path, "head").exists():
        return None
    raise LedgerError(
        f"{path}: its first line is damaged or is no ledger line, and {beside(path, 'head').name}"
        " does not tell the ledger's id; is this the right file? A file of the earlier format"
        " cannot be resumed"
    )
