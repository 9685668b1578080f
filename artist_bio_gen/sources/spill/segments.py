"""Rows on disk, in the order in which they came: written at one end, read and removed at the
other.

A segment is a file of Arrow batches, one for each chunk, and beside it a file of notes, a line
for each chunk, with what no batch holds: row numbers, bad rows, the name of the file. A chunk is
there when its note is.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import Any

import orjson

from artist_bio_gen.sources.arrow.batches import ArrowChunk, Batch, arrow
from artist_bio_gen.sources.spill.forms import Form, Writer
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import BadRow, Json

# What the columns of a segment hold where the chunks are no Arrow batches.
_TEXT, _WHOLE, _FLOAT, _TRUTH, _JSON = "tifbj"
_CODE = {str: _TEXT, int: _WHOLE, float: _FLOAT, bool: _TRUTH}


# Chunks as batches


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk as a batch (None where it has no cells) and a note, a mapping for JSON."""

    batch: Batch | None
    note: dict[str, Json]


def packed(chunk: Chunk, before: str, form: Form) -> Packed:
    """`before` are the codes of the columns of the chunk before it, which are kept to where that
    can be: a new one means a new segment."""
    first, last = (chunk.numbers[0], chunk.numbers[-1]) if len(chunk) else (0, -1)
    note: dict[str, Json] = {
        "columns": chunk.columns,
        "rows": len(chunk),
        "numbers": [first] if last - first + 1 == len(chunk) else list(chunk.numbers),
    }
    if chunk.file:
        note["file"] = chunk.file
    if chunk.bad:
        note["bad"] = [[each.number, each.reason, each.text, each.file] for each in chunk.bad]
    if not len(chunk):
        return Packed(None, note)
    if isinstance(chunk, ArrowChunk) and chunk.columns and form.takes(chunk.batch.schema):
        note["kind"] = "arrow"
        return Packed(_renamed(chunk.batch), note)
    if chunk.has_dicts:
        note["kind"] = "rows"
        array, note["odd"] = _json(chunk.dicts())
        return Packed(_batch([array]), note)
    note["kind"] = "cells"
    columns = list(zip(*chunk.values(), strict=True))
    known = before if len(before) == len(columns) else "-" * len(columns)
    made = [_column(cells, code) for cells, code in zip(columns, known, strict=True)]
    note["codes"] = "".join(code for _, code, _ in made)
    note["odd"] = [odd for _, _, odd in made]
    return Packed(_batch([array for array, _, _ in made]) if made else None, note)


def _batch(arrays: Sequence[Any]) -> Batch:
    return arrow().RecordBatch.from_arrays(arrays, [f"c{at}" for at in range(len(arrays))])


def _renamed(batch: Batch) -> Batch:
    """Names that differ in nothing but case are one to DuckDB."""
    pa = arrow()
    fields = [field.with_name(f"c{at}") for at, field in enumerate(batch.schema)]
    return pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields))


def _column(cells: Sequence[Json], before: str) -> tuple[Any, str, bool]:
    """The cells of a column, its code, and whether they are such as orjson does not take."""
    pa = arrow()
    kinds = set(map(type, cells)) - {type(None)}
    code = _CODE.get(next(iter(kinds)), _JSON) if len(kinds) == 1 else _JSON
    if not kinds:
        code = _TEXT if before == "-" else before
    elif before not in (code, "-"):
        code = _JSON
    if code != _JSON:
        kind = {_TEXT: pa.string(), _WHOLE: pa.int64(), _FLOAT: pa.float64(), _TRUTH: pa.bool_()}
        with contextlib.suppress(OverflowError, UnicodeEncodeError):
            return pa.array(cells, kind[code]), code, False
    array, odd = _json(cells)
    return array, _JSON, odd


def _json(cells: Sequence[Json]) -> tuple[Any, bool]:
    """As JSON; odd, where that takes what only Python's own library writes and reads again
    (lone surrogates, integers beyond 64 bits)."""
    pa = arrow()
    try:
        return pa.array(map(orjson.dumps, cells), pa.binary(), size=len(cells)), False
    except (TypeError, ValueError):  # orjson's own error is of these
        return pa.array([json.dumps(cell).encode() for cell in cells], pa.binary()), True


def unpacked(note: dict[str, Json], batch: Batch | None) -> Chunk:
    """The chunk as it was."""
    columns, rows = tuple(note["columns"]), note["rows"]
    told = note["numbers"]
    numbers = range(told[0], told[0] + rows) if len(told) == 1 else told
    bad = [BadRow(*each) for each in note.get("bad", ())]
    file = note.get("file", "")
    if not rows:
        return Chunk(columns, (), (), bad=bad, file=file)
    if note["kind"] == "arrow":
        assert batch is not None
        return ArrowChunk(columns, numbers, batch.rename_columns(columns), bad=bad, file=file)
    if note["kind"] == "rows":
        assert batch is not None
        dicts = _loaded(batch.column(0), note["odd"])
        return Chunk(columns, numbers, dicts=dicts, bad=bad, file=file)
    values: Sequence[Sequence[Json]] = [()] * rows
    if batch is not None:
        lists = [
            _loaded(array, odd) if code == _JSON else array.to_pylist()
            for array, code, odd in zip(batch.columns, note["codes"], note["odd"], strict=True)
        ]
        values = list(zip(*lists, strict=True))
    return Chunk(columns, numbers, values, bad=bad, file=file)


def _loaded(array: Any, odd: bool) -> list[Any]:
    return list(map(json.loads if odd else orjson.loads, array.to_pylist()))


# Segments


@dataclass(slots=True)
class Segment:
    """`schema` is that of its batches as they were; None where it has none."""

    number: int
    path: Path
    schema: Any = None
    codes: str = ""
    chunks: int = 0
    size: int = 0
    """Bytes in memory of what it holds; on disk, once it is whole."""
    writer: Writer | None = None
    notes: Any = None

    @property
    def notes_path(self) -> Path:
        return self.path.with_suffix(".notes")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)


@dataclass(slots=True)
class Segments:
    """One thread puts chunks in, one takes them out. `changed` is notified when a segment is
    whole, is removed, or nothing more will come; its lock guards all of this object."""

    folder: Path
    form: Form
    segment_bytes: int
    changed: Condition = field(default_factory=Condition)
    bytes: int = 0
    """On disk and not yet taken, about."""
    peak: int = 0
    rows: int = 0
    """Put in so far."""
    lost: bool = False
    """The end of a segment could not be written, and it cannot be read without one. Nothing may
    be put in after it."""
    _made: int = 0
    _writing: Segment | None = None
    _whole: deque[Segment] = field(default_factory=deque)
    _reading: Segment | None = None
    _taken: int = 0
    _coming: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    _finished: bool = False

    def put(self, chunk: Chunk) -> int:
        """How many bytes it takes in memory, as a batch. OSError when it could not be written:
        then it is as if it had not been put in, and `cut` must come before the next one."""
        with self.changed:
            segment = self._writing
            form = packed(chunk, segment.codes if segment else "", self.form)
            schema = None if form.batch is None else form.batch.schema
            if segment is None or (
                None not in (schema, segment.schema) and not segment.schema.equals(schema)
            ):
                self.cut()
                segment = self._writing = self._begin()
            if form.batch is not None:
                if segment.writer is None:
                    segment.schema = schema
                    segment.writer = self.form.writer(segment.path, schema)
                segment.codes = form.note.get("codes", "")
                segment.writer.write(form.batch)
            note = json.dumps(form.note).encode() + b"\n"
            if segment.notes.write(note) < len(note):
                raise OSError(errno.ENOSPC, "No space left on device")
            segment.chunks += 1
            self.rows += len(chunk)
            taken: int = len(note) + (0 if form.batch is None else form.batch.nbytes)
            self._grow(segment, taken)
            if segment.size >= self.segment_bytes:
                self.cut()
            return taken

    def take(self) -> Chunk | None:
        """The next chunk, waited for; None when all were taken and nothing more will come."""
        while True:
            try:
                chunk = next(self._coming, None)
            except MemoryError:  # it may be asked again
                assert self._reading is not None
                self._coming = self._chunks_of(self._reading, self._taken)
                raise
            if chunk is not None:
                self._taken += 1
                return chunk
            segment = self._next_segment()
            if segment is None:
                return None
            self._taken = 0
            self._coming = self._chunks_of(segment, 0)

    def finish(self) -> None:
        """Nothing more will be put in."""
        with self.changed:
            self.cut()
            self._finished = True
            self.changed.notify_all()

    def cut(self) -> None:
        """Makes what was put in so far a whole segment, or sees that it is lost."""
        with self.changed:
            segment, self._writing = self._writing, None
            if segment is None:
                return
            segment.notes.close()
            if segment.writer is not None:
                try:
                    segment.writer.close()
                except OSError:
                    if self.form.has_end:
                        self.lost = True
                        return
            on_disk = segment.notes_path.stat().st_size
            if segment.path.exists():
                on_disk += segment.path.stat().st_size
            self._grow(segment, on_disk - segment.size)
            self._whole.append(segment)
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self._coming = iter(())
            self._finished = True
            segment, self._writing = self._writing, None
            if segment is not None:
                segment.notes.close()
                if segment.writer is not None:
                    with contextlib.suppress(OSError):
                        segment.writer.close()
            self._whole.clear()
            self.changed.notify_all()

    def _begin(self) -> Segment:
        self._made += 1
        path = self.folder / f"{self._made:08}.rows"
        segment = Segment(self._made, path)
        segment.notes = segment.notes_path.open("wb", buffering=0)
        return segment

    def _grow(self, segment: Segment, by: int) -> None:
        segment.size += by
        self.bytes += by
        self.peak = max(self.peak, self.bytes)

    def _next_segment(self) -> Segment | None:
        with self.changed:
            if self._reading is not None:
                self._reading.remove()
                self.bytes -= self._reading.size
                self._reading = None
                self.changed.notify_all()
            while not self._whole and not self._finished:
                if not self.changed.wait(self.form.linger) and self._writing is not None:
                    self.cut()
            self._reading = self._whole.popleft() if self._whole else None
            return self._reading

    def _chunks_of(self, segment: Segment, passed_over: int) -> Iterator[Chunk]:
        batches = iter(()) if segment.writer is None else self.form.batches(segment.path)
        pieces = _Pieces(batches, segment.schema)
        with segment.notes_path.open("rb") as notes:
            for at in range(segment.chunks):
                note = json.loads(notes.readline())
                bare = not note["rows"] or not note["columns"]
                batch = None if bare else pieces.take(note["rows"])
                if at >= passed_over:
                    yield unpacked(note, batch)


class _Pieces:
    """Batches cut anew: not every form keeps where one ended."""

    def __init__(self, batches: Iterator[Batch], schema: Any) -> None:
        self._batches = batches
        self._schema = schema
        self._rest: Batch | None = None

    def take(self, rows: int) -> Batch:
        pa = arrow()
        parts = []
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches)
            part = batch.slice(0, rows)
            self._rest = batch.slice(rows) if len(batch) > rows else None
            rows -= len(part)
            parts.append(part)
        whole = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        return whole if whole.schema.equals(self._schema) else whole.cast(self._schema)
