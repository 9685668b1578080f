"""JSON Lines: a JSON object for each row, with just the keys that the row came with."""

from __future__ import annotations

from pathlib import Path

import orjson

from artist_bio_gen.destinations.destination import Destination, unwritable
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import Json


class JsonlDestination(Destination):
    def _begin(self) -> None:
        self._draft_file = self._draft()

    def _add(self, chunk: Chunk) -> None:
        self._draft_file.file.write(json_lines(chunk, self.path))

    def _finish(self) -> None:
        self._draft_file.put_in_place()


def json_lines(chunk: Chunk, path: Path) -> bytearray:
    """The sound rows, a line each. UsageError, in which `path` is named, for a cell that JSON
    cannot hold."""
    dump, option = orjson.dumps, orjson.OPT_APPEND_NEWLINE
    lines = bytearray()  # each line is let go of at once: a list of them costs twice the time
    try:
        for row in chunk.dicts():
            lines += dump(row, option=option)
    except TypeError as exc:
        raise unwritable(path, chunk, _encoded, exc) from exc
    return lines


def _encoded(cell: Json) -> bytes:
    if isinstance(cell, str):
        cell.encode()  # says what is wrong by the type of its error
    return orjson.dumps(cell)
