"""The check of a ledger's file, line by line, in flat memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.ahead import in_ranges
from artist_bio_gen.ledger.line import HASH_TAIL, is_first_bio, is_whole, seq_of
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
    failed, so that a new segment has to be begun. `noted`: all of it was checked up to the last
    stop, and nothing was written since, so it was not read again."""

    head: Head
    file: Path
    size: int
    file_size: int
    damage: Damage | None
    unsynced: bool = False
    noted: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a file verifies: its last line, the byte behind it, what stands there, and whether
    each line is the first bio of its artist."""

    head: Head
    size: int
    damage: Damage | None
    first_bios: bool


def scan_file(
    path: Path,
    head: Head,
    size: int,
    last: int | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Checked:
    """Checks `path` from byte `size` on, which stands behind the line that is `head`. With
    `last`, up to that line only; a file that ends before it is damaged. LedgerFileError when it
    cannot be read; StoppedError when a long one is `cancelled`."""
    seq, prev, first_bios = head.seq, head.hash, True
    damage: Damage | None = None
    with reading(path) as file:
        stop = os.fstat(file.fileno()).st_size
        if found := in_ranges(path, size, stop, prev, seq, last, cancelled):
            seq, prev, size, first_bios = found.last, found.hash, found.end, found.first_bios
        file.seek(size)
        sha256 = hashlib.sha256
        while seq != last and (data := file.readline(LONGEST_LINE)):
            digest = sha256(data[: -HASH_TAIL - 1]).hexdigest()
            if not data.endswith(f',"prev":"{prev}","hash":"{digest}"}}\n'.encode()) or (
                not is_first_bio(data, seq + 1) and seq_of(data) != seq + 1
            ):
                damage = _kind_of_damage(data, file.readline)
                break
            seq, prev = seq + 1, digest
            first_bios = first_bios and is_first_bio(data, seq)
            size += len(data)
    if last is not None and seq != last:
        damage = "damaged"
    return Checked(Head(head.ledger, seq, prev), size, damage, first_bios)


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
