"""Parquet and Arrow's own files, read batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.extras import require
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.arrow.batches import ArrowChunk, Batch, arrow, columns_of, damage
from artist_bio_gen.sources.arrow.messages import Watched
from artist_bio_gen.sources.arrow.room import Bounds, Room, Rooms
from artist_bio_gen.sources.content import Content
from artist_bio_gen.stream import CHUNK, Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Json

PARQUET_MARK = b"PAR1"
ARROW_FILE_MARK = b"ARROW1"
"""The first bytes of a file in Arrow's file format. A stream of it begins with four bytes FF."""

_FILE_HEAD = 8
"""Bytes before the stream that a file in Arrow's file format holds."""

_BUFFER = 64 * 1024
"""Bytes of a column that are read at a time. Without it a whole row group would be."""

NextBatch: TypeAlias = Callable[[], Batch | str | None]
"""The next batch, the reason why it cannot be read (those after it can), or None at the end."""


def open_parquet(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool]
) -> RowStream:
    """InputError when it is no sound Parquet file. What cannot be sought goes to a temporary
    file first, as the columns are told at the end."""
    pa = arrow("Parquet")
    pq = require("pyarrow.parquet", extra="arrow", what="Parquet")
    with ExitStack() as opened:
        file = opened.enter_context(_seekable(pa, content, options))
        try:
            parquet = pq.ParquetFile(
                file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            bounds = Bounds.within(options.memory_limit)
            rooms = Rooms(parquet, file, content.name, bounds)
            stream = ParquetStream(parquet, content.name, rooms, opened)
        except damage() as exc:
            raise _unreadable(content.name, "Parquet", exc) from exc
        opened.pop_all()
    return stream


def open_arrow(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool]
) -> RowStream:
    """Arrow's file format and its stream format, whatever the file is called. InputError when it
    is neither."""
    pa = arrow("Arrow")
    require("pyarrow.ipc", extra="arrow", what="Arrow")
    with ExitStack() as opened:
        most = Bounds.within(options.memory_limit).whole
        if content.path:
            stream = _open_path(pa, content, most, opened)
        else:
            stream = _open_reader(pa, content, most)
        opened.pop_all()
    return stream


class ParquetStream(RowStream):
    """Rows of a Parquet file. Rows of a row group that is damaged are bad ones, each by its
    number; the next group goes on."""

    def __init__(self, file: Any, name: str, rooms: Rooms, opened: ExitStack) -> None:
        """`file` is a pyarrow.parquet.ParquetFile; `opened` closes what it reads."""
        self.name = name
        self.columns = columns_of(file.schema_arrow, name)
        self.estimated_row_count = file.metadata.num_rows
        known = file.metadata
        self._facts: dict[str, Json] = {
            "row_groups": known.num_row_groups,
            "created_by": known.created_by,
            "rows": known.num_rows,
        }
        self._file = file
        self._rooms = rooms
        self._opened = opened.pop_all()
        self._names = names(self.columns)
        self._group = 0
        self._first = 1  # number of the first row of this group
        self._done = 0  # rows of it that were given
        self._rows = CHUNK  # of a batch
        self._batches: Any = None
        self._room: Room | None = None  # of this group
        self._passed = 0  # rows of this group that its batches have come to
        self._rest: Batch | None = None  # read and not given
        self._lost = 0  # rows of this group that are to be told as bad
        self._reason = ""

    def facts(self) -> dict[str, Json]:
        return dict(self._facts)

    def read(self, size: int) -> Chunk | None:
        while True:
            if self._lost:
                return self._tell_lost(size)
            if self._rest is not None:
                return self._give(self._rest, size)
            if self._group == self._file.metadata.num_row_groups:
                return None
            self._go_on(size)

    def close(self) -> None:
        self._batches = self._rest = self._room = None
        self._file.close(force=True)
        self._opened.close()

    def _go_on(self, size: int) -> None:
        """To the next batch of this group, or to the next group."""
        try:
            self._rest = self._next_batch()
        except MemoryError:
            self._batches = None  # it may be asked again: with a smaller size, from here on
            self._rows = max(1, min(self._rows, size) // 2)
            raise
        except damage() as exc:
            self._lose(str(exc))
            return
        if self._rest is None:
            if self._left():
                self._lose("it ends too early")
            else:
                self._next_group()

    def _next_batch(self) -> Batch | None:
        """Of this group, without the rows that were given before. LimitError where even one row
        is too large."""
        if self._room is None:
            self._room = self._rooms.of(self._group)
        if self._batches is None:
            self._passed = 0
            rows = self._room.rows(0, self._rows)  # it takes this when it begins
            self._batches = self._file.iter_batches(rows, [self._group], use_threads=False)
        while True:
            self._file.reader.set_batch_size(self._room.rows(self._passed, self._rows))
            batch = next(self._batches, None)
            if batch is None:
                return None
            self._room.took(len(batch), batch.nbytes)
            given = self._done - self._passed
            self._passed += len(batch)
            if given < len(batch):
                return batch.slice(given) if given else batch

    def _give(self, batch: Batch, size: int) -> Chunk:
        self._rest = batch.slice(size) if len(batch) > size else None
        first = self._first + self._done
        given = sound_rows(batch.slice(0, size), self._names, first)
        self._done += min(size, len(batch))
        return given

    def _left(self) -> int:
        rows: int = self._file.metadata.row_group(self._group).num_rows
        return rows - self._done

    def _lose(self, reason: str) -> None:
        self._rest = None
        self._reason = (
            f"row group {self._group + 1} of {self._file.metadata.num_row_groups} is damaged from"
            f" row {self._first + self._done:,} on ({_short(reason)}); restore the file, or write"
            " it anew from its source"
        )
        self._lost = self._left()
        if not self._lost:
            self._next_group()

    def _tell_lost(self, size: int) -> Chunk:
        first = self._first + self._done
        told = min(size, self._lost)
        self._lost -= told
        self._done += told
        if not self._lost:
            self._next_group()
        bad = [BadRow(number, self._reason) for number in range(first, first + told)]
        return Chunk(self._names, (), (), bad=bad)

    def _next_group(self) -> None:
        self._first += self._done
        self._done = 0
        self._group += 1
        self._batches = self._room = None


class BatchStream(RowStream):
    """Rows of Arrow batches, whoever makes them."""

    def __init__(
        self,
        name: str,
        schema: Any,
        next_batch: NextBatch,
        *,
        close: Callable[[], None] = lambda: None,
        rows: int | None = None,
        facts: dict[str, Json] | None = None,
    ) -> None:
        """`schema` is a pyarrow.Schema, `rows` about how many there are."""
        self.name = name
        self.columns = columns_of(schema, name)
        self.estimated_row_count = rows
        self._names = names(self.columns)
        self._next_batch = next_batch
        self._close = close
        self._facts = facts or {}
        self._number = 0  # of the last row that was given
        self._rest: Batch | None = None

    def facts(self) -> dict[str, Json]:
        return dict(self._facts)

    def read(self, size: int) -> Chunk | None:
        batch = self._rest if self._rest is not None else self._next()
        if batch is None:
            return None
        first = self._number + 1
        if isinstance(batch, str):
            self._number = first
            return Chunk(self._names, (), (), bad=[BadRow(first, batch)])
        taken = sound_rows(batch.slice(0, size), self._names, first)
        self._rest = batch.slice(size) if len(batch) > size else None
        self._number += min(size, len(batch))
        return taken

    def close(self) -> None:
        self._rest = None
        self._close()

    def _next(self) -> Batch | str | None:
        try:
            batch = self._next_batch()
            if batch is not None and not isinstance(batch, str):
                batch.validate()  # or offsets that point elsewhere would end the process
        except MemoryError:
            raise
        except damage() as exc:
            raise InputError(
                f"{self.name}: nothing after row {self._number:,} can be read; the rows up to it"
                f" stand ({_short(str(exc))}). Is it cut off or damaged? Restore it, or write it"
                " anew from its source"
            ) from exc
        return batch


def sound_rows(batch: Batch, columns: tuple[str, ...], first: int) -> ArrowChunk:
    """The rows of a batch, the first of which has this number; those that hold what cannot be
    read (text that is no UTF-8) are bad ones."""
    pa = arrow()
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return _without_bad(batch, columns, first)
    return ArrowChunk(columns, range(first, first + len(batch)), batch)


def _without_bad(batch: Batch, columns: tuple[str, ...], first: int) -> ArrowChunk:
    pa = arrow()
    bad = []
    for at in range(len(batch)):
        for name, column in zip(columns, batch.slice(at, 1).columns, strict=True):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid as exc:
                reason = f"column {name!r} cannot be read: {_short(str(exc))}"
                bad.append(BadRow(first + at, reason))
                break
    lost = {row.number for row in bad}
    numbers = [number for number in range(first, first + len(batch)) if number not in lost]
    kept = batch.take(pa.array([number - first for number in numbers], pa.int64()))
    return ArrowChunk(columns, numbers, kept, bad=bad)


# Opening


def _seekable(pa: Any, content: Content, options: SourceOptions) -> Any:
    """What pyarrow reads: the file itself, or a reader of it that can be sought."""
    if content.path is None and content.again and _is_whole(content):
        reader = content.open()
        if reader.seekable():
            return pa.PythonFile(reader, mode="r")
        reader.close()
    if content.path is None:
        from artist_bio_gen.sources.places.spool import spooled

        content = spooled(content, options)
        assert content.path is not None
    try:
        return pa.OSFile(os.fsencode(content.path), "rb")
    except OSError as exc:
        raise InputError(
            f"{content.name}: cannot be opened: {exc.strerror or exc}; check that you may read it"
        ) from exc


def _is_whole(content: Content) -> bool:
    """Whether bytes are stored as they are read: seeking in packed ones is reading them anew."""
    return content.size is not None and content.packed_size in (None, content.size)


def _open_path(pa: Any, content: Content, most: int, opened: ExitStack) -> RowStream:
    """`most`: see `Watched`."""
    try:
        file = opened.enter_context(pa.OSFile(os.fsencode(content.path or ""), "rb"))
        watched = pa.PythonFile(Watched(file, content.name, most), mode="r")
        if file.read(len(ARROW_FILE_MARK)) != ARROW_FILE_MARK:
            file.seek(0)
            return _stream(pa, content.name, watched, file)
        reader = pa.ipc.open_file(watched)
        batches = _FileBatches(reader)
        return BatchStream(
            content.name,
            reader.schema,
            batches,
            close=file.close,
            rows=batches.estimated_rows(),
            facts={"batches": reader.num_record_batches},
        )
    except damage() as exc:
        raise _unreadable(content.name, "Arrow", exc) from exc


def _open_reader(pa: Any, content: Content, most: int) -> RowStream:
    """From its first byte to its last: a file in the file format holds a stream as well."""
    raw = content.open()
    try:
        with on_failure(raw.close):
            if raw.peek(len(ARROW_FILE_MARK)).startswith(ARROW_FILE_MARK):
                raw.read(_FILE_HEAD)
            watched = pa.PythonFile(Watched(raw, content.name, most), mode="r")
        return _stream(pa, content.name, watched, raw)
    except damage() as exc:
        raise _unreadable(content.name, "Arrow", exc) from exc


def _stream(pa: Any, name: str, file: Any, raw: Any) -> RowStream:
    reader = pa.ipc.open_stream(file)

    def next_batch() -> Batch | None:
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None
        except MemoryError as exc:  # what was read of it is gone: no smaller size would help
            raise OSError(str(exc)) from exc

    return BatchStream(name, reader.schema, next_batch, close=raw.close)


class _FileBatches:
    """Batches of a file in Arrow's file format, one after the other."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._next = 0
        self._first: Batch | str | None = None

    def estimated_rows(self) -> int | None:
        """As if all were as long as the first one, which is kept until it is asked for."""
        self._first = self()
        if self._first is None:
            return 0
        if isinstance(self._first, str):
            return None
        batches: int = self._reader.num_record_batches
        return len(self._first) * batches

    def __call__(self) -> Batch | str | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._next == self._reader.num_record_batches:
            return None
        try:
            batch = self._reader.get_batch(self._next)
            batch.validate()
        except MemoryError:
            raise
        except damage() as exc:
            batch = (
                f"batch {self._next + 1} of {self._reader.num_record_batches} is damaged"
                f" ({_short(str(exc))}); row numbers after it count what could be read"
            )
        self._next += 1
        return batch


def _unreadable(name: str, what: str, exc: Exception) -> InputError:
    return InputError(
        f"{name} cannot be read as {what}: {_short(str(exc))}. Is it cut off, or of another format"
        " (--format)?"
    )


def _short(reason: str) -> str:
    """The first line of what Arrow says, without a full stop."""
    return reason.strip().partition("\n")[0][:200].rstrip(" .")
