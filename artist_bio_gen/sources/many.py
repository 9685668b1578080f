"""Several streams as one: the files of a pattern, the members of an archive, the sheets of a
workbook. They are opened one after the other, and their rows come in that order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from artist_bio_gen.config.source import OnError, Schema
from artist_bio_gen.errors import InputError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Json

MOST_FACTS = 100
"""Files whose facts are kept."""

_TOLD = 5  # wrong names


@dataclass(frozen=True, slots=True)
class Part:
    """One of several streams. `file` names it in messages and in `Chunk.file`; `size` is in
    whatever unit all parts have in common (bytes), None where it is not known."""

    file: str
    open: Callable[[], RowStream]
    size: int | None = None


class Many(RowStream):
    """The rows of all parts, each numbered as in its own file.

    With the schema `union`, columns that only later parts have are added at the end; cells of
    columns that a part does not have are None. With `strict`, a part with other columns than the
    first one raises InputError before its rows are given.

    A later part that cannot be opened, or not be read to its end, comes as a `BadRow` that says
    so, and the next one is gone on with; with `on_error` "stop" it is an InputError.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        name: str,
        schema: Schema = "union",
        on_error: OnError = "skip",
        can_wait: bool = True,
        ahead: int = 0,
    ) -> None:
        """Opens the first part, and `ahead` more, which is of use where opening one begins to
        read it in a process of its own. `parts` has one at least."""
        self.name = name
        self.can_wait = can_wait
        self._parts = parts
        self._schema = schema
        self._stop = on_error == "stop"
        self._ahead = ahead
        self._opened: dict[int, RowStream | InputError] = {}
        self._opening: dict[int, Future[RowStream]] = {}
        self._openers = ThreadPoolExecutor(ahead, "open") if ahead else None
        self._at = 0
        self._row = 0  # number of the last row of the present part
        self._facts: list[dict[str, Json]] = []
        self._places: list[int | None] | None = None
        self._seen: tuple[Column, ...] = ()
        self.columns = ()
        with on_failure(self.close):
            first = self._open(0)
            if isinstance(first, InputError):
                raise first
            self.columns = first.columns
            self._take_columns(first)
            self.grows = schema == "union" or first.grows
            self.estimated_row_count = self._estimate(first)

    def facts(self) -> dict[str, Json]:
        facts = [*self._facts]
        present = self._opened.get(self._at)
        if isinstance(present, RowStream) and len(facts) < MOST_FACTS:
            facts.append(self._told(present))
        told: dict[str, Json] = {"parts": len(self._parts), "files": facts}
        wrong = [str(each["named"]) for each in facts if "named" in each]
        if wrong:
            more = f"; and {len(wrong) - _TOLD:,} more" if len(wrong) > _TOLD else ""
            told["named"] = "; ".join(wrong[:_TOLD]) + more
        return told

    def read(self, size: int) -> Chunk | None:
        while self._at < len(self._parts):
            part = self._parts[self._at]
            try:
                stream = self._open(self._at)
                if isinstance(stream, InputError):
                    raise stream
                if stream.columns is not self._seen:
                    self._take_columns(stream)
                chunk = stream.read(size)
                if chunk is not None and stream.columns is not self._seen:
                    self._take_columns(stream)
            except _OtherColumns as exc:
                raise InputError(str(exc)) from exc
            except InputError as exc:
                if self._stop:
                    raise
                bad = BadRow(self._row, f"the rest cannot be read: {exc}", file=part.file)
                self._next()
                return Chunk(names(self.columns), (), (), bad=(bad,), file=part.file)
            if chunk is None:
                self._next()
                continue
            return self._as_ours(chunk, part.file)
        return None

    def close(self) -> None:
        for stream in self._opened.values():
            if isinstance(stream, RowStream):
                stream.close()
        for opening in self._opening.values():
            if not opening.cancel():
                opening.add_done_callback(_close_again)
        self._opened.clear()
        self._opening.clear()
        self._at = len(self._parts)
        if self._openers is not None:
            self._openers.shutdown(wait=False)

    # Going from one to the next

    def _open(self, at: int) -> RowStream | InputError:
        """The part at this place, and those ahead of it in threads of their own."""
        if self._openers is not None:
            for each in range(at + 1, min(at + 1 + self._ahead, len(self._parts))):
                if each not in self._opening:
                    self._opening[each] = self._openers.submit(self._parts[each].open)
        if at not in self._opened:
            opening = self._opening.pop(at, None)
            try:
                self._opened[at] = self._parts[at].open() if opening is None else opening.result()
            except InputError as exc:
                self._opened[at] = exc
        return self._opened[at]

    def _next(self) -> None:
        stream = self._opened.pop(self._at, None)
        if isinstance(stream, RowStream):
            if len(self._facts) < MOST_FACTS:
                self._facts.append(self._told(stream))
            stream.close()
        self._at += 1
        self._row = 0
        self._seen = ()

    def _told(self, stream: RowStream) -> dict[str, Json]:
        return {"file": self._parts[self._at].file, **stream.opened_as, **stream.facts()}

    def _estimate(self, first: RowStream) -> int | None:
        """As if the others had as many rows for their size as the first one."""
        rows, size = first.estimated_row_count, self._parts[0].size
        if rows is None or len(self._parts) == 1:
            return rows
        sizes = [part.size for part in self._parts]
        if not size or None in sizes:
            return None
        return round(rows * sum(filter(None, sizes)) / size)

    # Columns

    def _take_columns(self, stream: RowStream) -> None:
        """Where in our rows the cells of this stream go."""
        self._seen = stream.columns
        there = {column.name: at for at, column in enumerate(stream.columns)}
        ours = {column.name for column in self.columns}
        new = tuple(column for column in stream.columns if column.name not in ours)
        missing = [column.name for column in self.columns if column.name not in there]
        if self._schema == "strict" and self._at and (new or missing):
            raise _OtherColumns(self._parts[self._at].file, [each.name for each in new], missing)
        self.columns += new
        places = [there.get(column.name) for column in self.columns]
        self._places = None if places == [*range(len(self._seen))] else places

    def _as_ours(self, chunk: Chunk, file: str) -> Chunk:
        if chunk.bad:
            self._row = max(self._row, chunk.bad[-1].number)
        if chunk.numbers:
            self._row = max(self._row, chunk.numbers[-1])
        if not chunk.file:
            chunk.file = file
            chunk.bad = [replace(bad, file=file) for bad in chunk.bad]
        columns = names(self.columns)
        if self._places is None and len(chunk.columns) == len(columns):
            return chunk
        if chunk.has_dicts:
            dicts = chunk.dicts()
            return Chunk(columns, chunk.numbers, dicts=dicts, bad=chunk.bad, file=chunk.file)
        if len(chunk.columns) < len(self._seen):  # as it was before the stream's columns grew
            width = len(chunk.columns)
            places = [
                None if at is None or at >= width else at
                for at in self._places or range(len(self._seen))
            ]
        else:
            places = self._places or [*range(len(columns))]
        values = _placed(chunk.values(), places)
        return Chunk(columns, chunk.numbers, values, bad=chunk.bad, file=chunk.file)


def _close_again(opening: Future[RowStream]) -> None:
    if opening.exception() is None:
        opening.result().close()


class _OtherColumns(Exception):
    def __init__(self, file: str, new: Sequence[str], missing: Sequence[str]) -> None:
        told = []
        if new:
            told.append(f"has {', '.join(map(repr, new))}")
        if missing:
            told.append(f"lacks {', '.join(map(repr, missing))}")
        super().__init__(
            f"{file} {' and '.join(told)}, other than the files before it; make them alike, or read"
            " all columns of all files with --schema union"
        )


def _placed(values: Sequence[Sequence[Json]], places: Sequence[int | None]) -> list[Any]:
    """Rows with their cells put in these places; None where there is none."""
    if None not in places and len(places) > 1:
        return [*map(itemgetter(*(place for place in places if place is not None)), values)]
    pick = [-1 if place is None else place for place in places]  # the last one is put there
    padded = ([*row, None] for row in values)
    return [[row[place] for place in pick] for row in padded]
