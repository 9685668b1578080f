"""The journal: what was asked and what has arrived, until it stands in the ledger.

Before a call an *intent* is written, after it the *reply* (or the failure) before anything else
is done with it. Written survives a kill of the process; `sync` makes it survive a loss of power.
After a crash `orphans` gives back every reply that was paid for and every call that was in flight.
A file with damage that no crash leaves is put into quarantine instead of being removed.

Files are `out.jsonl.journal.<run>.<number>`, one entry a line: CRC-32 in hex, a blank, JSON.
A new file begins when one has reached its size; one is removed when nothing in it is needed
any more, so the journal stays small however long a run is. Each is locked while its owner lives.
"""

from __future__ import annotations

import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import (
    REAL,
    FileCalls,
    is_same_file,
    open_locked,
    sync_folder,
    write_all,
)
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.values import Artist, Bio, Failed, Usage

SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that was begun."""

    artist_id: str
    artist_name: str
    attempt: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A bio that arrived, with the run that bought it."""

    run: str
    artist: Artist
    bio: Bio


class Entry(NamedTuple):
    """What is written of an artist."""

    artist_id: str
    what: Mapping[str, Any]

    @classmethod
    def intent(cls, artist: Artist, attempt: int, request_id: str) -> Entry:
        """A call is about to be made."""
        what = {
            "is": "intent",
            "artist_id": artist.id,
            "artist_name": artist.name,
            "attempt": attempt,
            "request_id": request_id,
        }
        return cls(artist.id, what)

    @classmethod
    def answered(cls, artist: Artist, attempt: int) -> Entry:
        """A call ended with an error: it is not in flight any more."""
        return cls(artist.id, {"is": "answered", "artist_id": artist.id, "attempt": attempt})

    @classmethod
    def reply(cls, artist: Artist, bio: Bio) -> Entry:
        """A bio has arrived."""
        return cls(artist.id, {"is": "reply", "artist": artist, "bio": bio})

    @classmethod
    def failure(cls, failed: Failed) -> Entry:
        """There is no bio; a reply that is none was paid for as well."""
        return cls(failed.artist.id, {"is": "failure", "failed": failed})


@dataclass(slots=True)
class _Segment:
    path: Path
    fd: int
    size: int = 0
    needed_by: int = 0  # artists with an entry in this file that are not settled
    in_use: bool = False  # it is being written to just now
    given_up: bool = False  # closed by who writes to it


class Journal:
    """The journal of one process. All methods may be called from any thread.

    `_lock` guards the segments and the counts, and is not held while entries are written or synced.
    `_writing` lets one thread write at a time, so that nothing comes behind a write that failed
    half-way, or between its parts: it would stand on the torn entry's line, and be lost with it.
    """

    def __init__(
        self, ledger: Path, run: str, *, files: FileCalls = REAL, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._files = files
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._number = 0
        self._open_for: dict[str, list[_Segment]] = {}
        self._unsynced: set[int] = set()
        self._segments: list[_Segment] = []
        self._broken: str | None = None
        try:
            self._begin_segment()
        except LedgerFileError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sound(self) -> bool:
        """Whether all that was given to it is kept; False once it could not be written."""
        return self._broken is None

    def sync(self) -> None:
        """Puts everything that was written before the call on disk. One thread at a time."""
        with self._lock:
            self._check()
            fds, self._unsynced = self._unsynced, set()
        try:
            for fd in fds:
                self._files.fsync(fd)
        except OSError as exc:
            raise self._break(self._segments[-1].path, "synced", exc) from exc
        with self._lock:
            # Only here, so that no file is closed while it is being synced.
            self._drop_settled()

    def settle(self, artist_ids: list[str]) -> None:
        """The artists stand in the ledger or among the failures (or were left without a call):
        their entries are not needed any more."""
        with self._lock:
            for artist_id in artist_ids:
                for segment in self._open_for.pop(artist_id, ()):
                    segment.needed_by -= 1

    def close(self) -> None:
        """Gives up the files. Those in which nothing is needed are removed; the others stay for
        the next start to take up. A call that comes back later than this finds it closed."""
        with self._lock:
            self._broken = self._broken or f"{beside(self._ledger, 'journal')}: it is closed"
            segments, self._segments = self._segments, []
            with ExitStack() as stack:  # one that cannot be removed leaves no other one open
                for segment in segments:
                    if segment.in_use:
                        segment.given_up = True
                    elif segment.needed_by == 0:
                        stack.callback(self._remove, segment)
                    else:
                        os.close(segment.fd)

    def write(self, *entries: Entry) -> None:
        """Writes the entries in one go, in their order. On return they survive a kill."""
        bodies = [orjson.dumps(entry.what) for entry in entries]
        data = b"".join(b"%08x %b\n" % (zlib.crc32(body), body) for body in bodies)
        with self._writing:
            self._append(entries, data)

    def _append(self, entries: Sequence[Entry], data: bytes) -> None:
        firsts: list[list[_Segment]] = []
        with self._lock:
            self._check()
            if self._segments[-1].size >= self._segment_bytes:
                self._begin_segment()
            segment = self._segments[-1]
            segment.size += len(data)
            segment.in_use = True
            for entry in entries:
                held = self._open_for.setdefault(entry.artist_id, [])
                if segment not in held:
                    held.append(segment)
                    firsts.append(held)
            segment.needed_by += len(firsts)
        written = False
        try:
            write_all(self._files, segment.fd, data)
            written = True
        except OSError as exc:
            raise self._break(segment.path, "written", exc) from exc
        finally:
            with self._lock:
                if written:
                    self._unsynced.add(segment.fd)
                else:
                    # Whatever it was that ended it, nothing more may come behind a part.
                    self._broken = self._broken or (
                        f"{segment.path}: an entry may be torn; no further call is made. --resume"
                        " takes up what is whole"
                    )
                    for held in firsts:
                        held.remove(segment)
                    segment.needed_by -= len(firsts)
                segment.in_use = False
                if segment.given_up:
                    os.close(segment.fd)

    def _begin_segment(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        while True:
            self._number += 1
            path = beside(self._ledger, f"journal.{self._run}.{self._number:06d}")
            try:
                fd = open_locked(self._files, path, flags)
            except OSError as exc:
                raise self._break(path, "begun", exc) from exc
            if fd is not None and is_same_file(fd, path):
                break
            # Another process was quicker to lock it, and takes it for one that a dead run left.
            if fd is not None:
                os.close(fd)
        self._segments.append(_Segment(path, fd))
        try:
            sync_folder(self._files, path.parent)
        except LedgerFileError as exc:
            self._broken = str(exc)
            raise

    def _drop_settled(self) -> None:
        for segment in self._segments[:-1]:
            if segment.needed_by == 0 and segment.fd not in self._unsynced:
                self._segments.remove(segment)
                self._remove(segment)

    def _remove(self, segment: _Segment) -> None:
        try:
            with suppress(FileNotFoundError):  # somebody was quicker
                self._files.unlink(str(segment.path))
        except OSError as exc:
            raise self._break(segment.path, "removed", exc) from exc
        finally:
            os.close(segment.fd)

    def _check(self) -> None:
        if self._broken is not None:
            raise LedgerFileError(self._broken)

    def _break(self, path: Path, what: str, exc: OSError) -> LedgerFileError:
        self._broken = (
            f"{path}: the journal could not be {what} ({exc.strerror}); no further call is made."
            " Mend the disk, then --resume"
        )
        return LedgerFileError(self._broken)


@dataclass(slots=True)
class Orphan:
    """The journal of a run that has ended without settling it. Its files stay locked until it
    is closed; `remove` when everything in it is settled. `damaged` tells, once `entries` has come
    to its end, in which files so many entries were damaged in a way that no crash leaves."""

    run: str
    _files: FileCalls
    paths: list[Path] = field(default_factory=list)
    damaged: dict[Path, int] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)

    def entries(self) -> Iterator[Intent | Reply | Failed]:
        """Failures and replies in the order of arrival, then for each artist the last call that
        got no answer: it was in flight when the run died, or broke off before, or its reply is
        damaged. An entry that is torn was never acknowledged and is passed over. LedgerFileError
        when a file cannot be read."""
        self.damaged.clear()
        unanswered: dict[str, dict[int, Intent]] = {}  # by artist and attempt
        for path in self.paths:
            for entry in self._read(path):
                kind = entry["is"]
                if kind == "intent":
                    del entry["is"]
                    intent = Intent(**entry)
                    unanswered.setdefault(intent.artist_id, {})[intent.attempt] = intent
                elif kind == "answered":
                    calls = unanswered.get(entry["artist_id"], {})
                    calls.pop(entry["attempt"], None)
                    if not calls:
                        unanswered.pop(entry["artist_id"], None)
                elif kind == "reply":
                    artist = Artist(**entry["artist"])
                    unanswered.pop(artist.id, None)
                    yield Reply(self.run, artist, _bio(entry["bio"]))
                else:
                    failed = _failed(entry["failed"])
                    unanswered.pop(failed.artist.id, None)
                    yield failed
        for calls in unanswered.values():
            yield calls[max(calls)]

    def remove(self, clock: Callable[[], float] = time.time) -> list[Path]:
        """Removes its files, but puts those with damage into quarantine, and tells where."""
        kept = []
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
        for path in self.paths:
            try:
                if path not in self.damaged:
                    with suppress(FileNotFoundError):
                        self._files.unlink(str(path))
                    continue
                before, _, name = path.name.partition(f".journal.{self.run}")
                target = path.with_name(f"{before}.quarantine.{stamp}.journal.{self.run}{name}")
                self._files.rename(str(path), str(target))
                kept.append(target)
            except OSError as exc:
                raise LedgerFileError(
                    f"{path}: cannot be removed ({exc.strerror}), though everything in it is"
                    " settled; mend the disk, then --resume"
                ) from exc
        if kept:
            sync_folder(self._files, kept[0].parent)
        return kept

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        damaged = 0
        try:
            with path.open("rb") as file:
                for data in file:
                    entry = _entry(data)
                    if entry is not None:
                        yield entry
                    elif not _is_torn(data):
                        damaged += 1
                # The next file begins when one is full.
                damaged += file.tell() == 0 and path != self.paths[-1]
        except OSError as exc:
            raise LedgerFileError(
                f"{path}: cannot be read ({exc.strerror}); it holds what was paid for. Mend the"
                " disk, then --resume"
            ) from exc
        if damaged:
            self.damaged[path] = damaged

    def close(self) -> None:
        self._held.close()


def orphans(ledger: Path, *, files: FileCalls = REAL) -> Iterator[Orphan]:
    """The journals beside `ledger` whose owner is dead, oldest file first, each closed when the
    next is asked for. Those of living processes are passed over."""
    pattern = re.compile(re.escape(beside(ledger, "journal").name) + r"\.([0-9a-f-]{36})\.(\d+)")
    runs: dict[str, list[Path]] = {}
    for path in sorted(ledger.parent.iterdir()):
        if match := pattern.fullmatch(path.name):
            runs.setdefault(match[1], []).append(path)
    for run, paths in runs.items():
        orphan = Orphan(run, files)
        try:
            for path in paths:
                try:
                    fd = open_locked(files, path, os.O_RDWR)
                except FileNotFoundError:
                    continue  # its owner was alive and has just removed it
                except OSError as exc:
                    raise LedgerFileError(f"{path}: cannot be opened: {exc.strerror}") from exc
                if fd is None:
                    break  # its owner lives
                orphan._held.callback(os.close, fd)
                if is_same_file(fd, path):  # else removed between opening and locking
                    orphan.paths.append(path)
            else:
                if orphan.paths:
                    yield orphan
        finally:
            orphan.close()


def _entry(data: bytes) -> dict[str, Any] | None:
    """The entry of a line, None when it is not whole. Another line end does it no harm."""
    crc, _, body = data.rstrip(b"\r\n").partition(b" ")
    # The CRC of nothing is 0, which a damaged line may well show.
    if body and data.endswith(b"\n") and crc == b"%08x" % zlib.crc32(body):
        entry: dict[str, Any] = orjson.loads(body)
        return entry
    return None


_TORN = re.compile(rb"([0-9a-f]{0,8}|[0-9a-f]{8} .*)\0*", re.DOTALL)


def _is_torn(data: bytes) -> bool:
    """Is it what a crash leaves at the end of a file: the beginning of an entry, or nothing of it
    but NUL bytes?"""
    return not data.endswith(b"\n") and _TORN.fullmatch(data) is not None


def _bio(plain: dict[str, Any]) -> Bio:
    usage = plain.pop("usage")
    return Bio(usage=Usage(**usage) if usage else None, **plain)


def _failed(plain: dict[str, Any]) -> Failed:
    usage, artist = plain.pop("usage"), plain.pop("artist")
    return Failed(Artist(**artist), usage=Usage(**usage) if usage else None, **plain)
