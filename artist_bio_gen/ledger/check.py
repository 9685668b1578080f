"""The check of a ledger's file, line by line, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.line import follows, is_whole, seq_of
from artist_bio_gen.ledger.segments import LONGEST_LINE
from artist_bio_gen.values import Head

_BLOCK = 1024 * 1024

Damage: TypeAlias = Literal["torn", "damaged"]
"""What stands behind the last line that verifies: a tail that a crash can leave ("torn"), or
something a crash cannot leave ("damaged"): whole lines after a bad one."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a check found. `head` and `size` (bytes of `file`) tell where the last line that
    verifies ends; behind it stands nothing (`damage` None) or what `damage` tells. Where an
    earlier file of the ledger is bad, `file` is that one. `unsynced`: an fsync of `file` had
    failed, so that a new segment has to be begun."""

    head: Head
    file: Path
    size: int
    file_size: int
    damage: Damage | None
    unsynced: bool = False


def scan_file(
    path: Path, head: Head, size: int, last: int | None = None
) -> tuple[Head, int, Damage | None]:
    """Checks `path` from byte `size` on, which stands behind the line that is `head`. With
    `last`, up to that line only; a file that ends before it is damaged. LedgerFileError when it
    cannot be read."""
    seq, prev = head.seq, head.hash
    damage: Damage | None = None
    with reading(path) as file:
        file.seek(size)
        while seq != last and (data := file.readline(LONGEST_LINE)):
            digest = follows(data[:-1], prev) if data.endswith(b"\n") else None
            if digest is None or seq_of(data) != seq + 1:
                damage = _kind_of_damage(data, file.readline)
                break
            seq, prev = seq + 1, digest
            size += len(data)
    if last is not None and seq != last:
        damage = "damaged"
    return Head(head.ledger, seq, prev), size, damage


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A file of the ledger, open to be read. LedgerFileError when the disk does not give it."""
    try:
        with path.open("rb", buffering=_BLOCK) as file:
            yield file
    except OSError as exc:
        raise LedgerFileError(
            f"{path}: cannot be read: {exc.strerror}; mend the disk, then --resume"
        ) from exc


def _kind_of_damage(first_bad: bytes, readline: Callable[[int], bytes]) -> Damage:
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
