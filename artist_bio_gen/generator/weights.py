"""A model's weights as one file: joined, checked, and given its name only when it is complete.

Beside FILE, in the same folder, lie:

FILE.checked.json  that it was checked: path, size, time and hash, so that no start hashes anew
FILE.lock          held by whoever joins or pulls
FILE.new           half-joined; the next one under the lock writes it over
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from artist_bio_gen.errors import ConfigError

Say: TypeAlias = Callable[[str], None]

_CHUNK = 4 << 20
_LINES = 4
"""Lines of progress while a file is joined."""
_SPARE = 64 << 20
"""Bytes that are left free on the disk for everybody else."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a model's file must be, and where it belongs; it need not exist. `name` is the
    model's, for messages."""

    name: str
    path: Path
    size: int
    sha256: str

    def exists(self, say: Say) -> bool:
        """Whether the file is there and right."""
        return self.path.is_file() and self.is_right(self.path, say)

    def is_right(self, path: Path, say: Say) -> bool:
        """Whether `path` has the right bytes, wherever it lies. Hashed only when it is not noted
        as checked; the note is kept where the folder can be written."""
        found = path.stat()
        if found.st_size != self.size:
            return False
        try:
            if json.loads(self._note.read_bytes()) == self._seen(path):
                return True
        except (OSError, ValueError):
            pass  # not noted, or torn by a crash
        say(f"checking {path.name} ({size_text(self.size)})")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                return False
        self._write_note(path)
        return True

    def join(self, parts: Sequence[Path], say: Say) -> bool:
        """Makes the file of its parts; False when they do not give the right bytes. Under the
        lock only. ConfigError when the folder has no room or cannot be written."""
        new = self._beside("new")
        new.unlink(missing_ok=True)
        self.require_space()
        say(f"joining {self.name} from {len(parts)} packages into {self.path.parent}")
        try:
            with new.open("wb") as file:
                digest = hashlib.sha256()
                for chunk in self._telling(_chunks(parts), say):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            right = digest.hexdigest() == self.sha256
            if right:
                self._name(new)
        except OSError as exc:
            raise ConfigError(f"joining {self.name} into {new} failed: {_why(exc)}") from exc
        finally:
            new.unlink(missing_ok=True)
        return right

    def adopt(self, path: Path) -> bool:
        """Moves a complete file of the same file system to its place; False, and the file stays
        where it is, when its bytes are not right. Under the lock only."""
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                return False
            os.fsync(file.fileno())
        self._name(path)
        return True

    def require_space(self) -> None:
        needed = self.size + _SPARE
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise ConfigError(
                f"{self.path.parent} has {size_text(free)} free, and {self.name} needs"
                f" {size_text(needed)}; make room, or choose another folder with --data-dir"
            )

    @contextmanager
    def alone(self, say: Say) -> Iterator[None]:
        """Holds FILE.lock, which guards FILE.new and the naming of FILE among all processes.
        Waits as long as another one joins or pulls."""
        import filelock

        lock = filelock.FileLock(self._beside("lock"), fallback_to_soft=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                say(f"another process gets {self.name} ready; waiting for it")
                lock.acquire()
        except OSError as exc:
            raise ConfigError(
                f"the models folder {self.path.parent} cannot be used: {_why(exc)};"
                " choose another with --data-dir"
            ) from exc
        try:
            yield
        finally:
            lock.release()

    @property
    def _note(self) -> Path:
        return self._beside("checked.json")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _seen(self, path: Path) -> dict[str, str | int]:
        found = path.stat()
        return {
            "path": str(path.absolute()),
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "sha256": self.sha256,
        }

    def _write_note(self, path: Path) -> None:
        new = self._beside(f"checked.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(self._seen(path)), encoding="utf-8")
            new.replace(self._note)
        except OSError:
            pass  # it only saves time: without it the next start hashes again

    def _name(self, new: Path) -> None:
        """Gives a synced file its name, for good."""
        new.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._write_note(self.path)

    def _telling(self, chunks: Iterable[bytes], say: Say) -> Iterator[bytes]:
        size, told = 0, 0
        for chunk in chunks:
            yield chunk
            size += len(chunk)
            if size * _LINES // self.size > told:
                told = size * _LINES // self.size
                say(f"joining {self.name}: {size_text(size)} of {size_text(self.size)}")


def size_text(size: int) -> str:
    """For a person: `1.1 GB`, `98 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _chunks(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _why(exc: OSError) -> str:
    return exc.strerror or str(exc)
