"""Keys that stand twice among any number of them, found in flat memory.

The keys (eight bytes of a hash) go into partitions by their first byte, and from there into a
temporary file that is gone with the process. At the end one partition after the other is looked
through; what is found there twice is a candidate, since two keys may have the same hash.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import IO

from artist_bio_gen.errors import LimitError

_SPILL_AT = 8 * 1024


class Repeats:
    """Collects keys. `close` ends its temporary file."""

    def __init__(self, spill_at: int = _SPILL_AT) -> None:
        """`spill_at`: bytes of one partition that are held in memory."""
        self._spill_at = spill_at
        self._waiting: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._blocks: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._file: IO[bytes] | None = None
        self._size = 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, keys: Mapping[int, bytes | bytearray]) -> None:
        """Keys of eight bytes each, joined, by their first byte."""
        for number, some in keys.items():
            waiting = self._waiting[number]
            waiting += some
            if len(waiting) >= self._spill_at:
                self._spill(number)

    def candidates(self, most: int) -> set[bytes]:
        """Keys that stand twice, `most` of them at most."""
        found: set[bytes] = set()
        for number in self._waiting:
            keys = array("Q", b"".join([*self._spilled(number), self._waiting[number]]))
            if len(set(keys)) == len(keys):
                continue
            twice = array("Q", (key for key, times in Counter(keys).items() if times > 1))
            whole = twice.tobytes()
            found.update(whole[at : at + 8] for at in range(0, len(whole), 8))
            if len(found) >= most:
                break
        return set(sorted(found)[:most])

    def _spill(self, number: int) -> None:
        waiting = self._waiting[number]
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="artist-bio-gen-")  # noqa: SIM115 - see close
            self._file.seek(self._size)
            self._file.write(waiting)
        except OSError as exc:
            raise LimitError(
                f"{tempfile.gettempdir()}: no room for the keys of the lines ({exc.strerror});"
                " make room, eight bytes for each line, or name another folder with TMPDIR"
            ) from exc
        self._blocks[number].append((self._size, len(waiting)))
        self._size += len(waiting)
        waiting.clear()

    def _spilled(self, number: int) -> list[bytes]:
        blocks = []
        for offset, length in self._blocks[number]:
            assert self._file is not None
            self._file.seek(offset)
            blocks.append(self._file.read(length))
        return blocks
