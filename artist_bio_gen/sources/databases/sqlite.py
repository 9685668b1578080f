"""Rows of an SQLite file: a table, a view or a query, as a stream or in pages by a key."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from sys import getsizeof
from typing import Any, TypeAlias
from urllib.parse import quote

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.cells import json_cells
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.databases.queries import (
    TABLE,
    Batch,
    Flaw,
    Pager,
    Pages,
    Wanted,
    chunk_of,
    distinct,
    empty_key,
    position,
)
from artist_bio_gen.sources.places.spool import spooled
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import Column, Json

_Row: TypeAlias = tuple[Any, ...]

_LOOK_STEPS = 50_000
"""Of SQLite's machine, after which it looks whether it has been called off: some milliseconds."""

_MOST_BYTES = 16 << 20
"""Of one cell or row: a file of a few bytes can ask for a gigabyte (zeroblob)."""

_STEP = 8
_STEPS_BYTES = 16 << 20
_LARGE = 64 << 10  # bytes of a row
"""Rows are taken so many at a time, until they hold so much: those of a small file can hold more
than any memory (a view of zeroblobs). Measuring them costs a third of the speed, so it is done only
once the process has grown by as much."""

_MOST_ROWS = 10_000  # of a page
_HEADER = 100  # bytes
_KEY = "artist_bio_gen_key"
_ANY = "any"


def open_sqlite(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool] = lambda: False
) -> RowStream:
    """A table or query of the file. It is opened to be read only; other programs may write."""
    wanted = Wanted.of(options)
    file = _File(spooled(content, options), options.query_timeout, cancelled)
    with on_failure(file.close):
        asked = file.ask(wanted, chosen=options.source_table is not None)
        cursor = file.execute(asked)
        columns = distinct(asked.name, file.columns(asked, cursor))
        if wanted.key is None:
            return _Stream(file, asked, columns, cursor)
        cursor.close()
        pager = _Pager(file, asked, columns, wanted.key)
        return Pages(
            pager,
            name=asked.name,
            columns=columns,
            key=wanted.key,
            after=pager.as_key(wanted.after),
            estimated_row_count=file.count(asked),
            facts=file.facts(asked),
            cancelled=cancelled,
        )


class _Asked:
    """A statement, and what stands for its rows behind `from`. `table` is None for a query."""

    def __init__(
        self, name: str, statement: str, table: str | None, params: Mapping[str, object]
    ) -> None:
        self.name = name
        self.statement = statement if table is None else _select(identifier(table))
        self.inner = f"({statement}\n)" if table is None else identifier(table)
        self.table = table
        self.params = {
            key: json.dumps(value) if isinstance(value, list | dict) else value
            for key, value in params.items()
        }


class _File:
    """The open file. Its calls raise the errors of this program."""

    def __init__(
        self, content: Content, timeout: float | None, cancelled: Callable[[], bool]
    ) -> None:
        self.name = content.name
        self._content: Content | None = content  # which keeps a file that was put on disk for this
        self._timeout = timeout
        self._cancelled = cancelled
        self._began = time.monotonic()
        assert content.path is not None
        with self.told(self.name):
            path = quote(os.fsencode(content.path.absolute()))
            self._conn = sqlite3.connect(
                f"file://{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        with on_failure(self._conn.close):
            self._conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
            self._conn.set_progress_handler(self._is_enough, _LOOK_STEPS)
            with self.told(self.name):
                self._conn.execute("pragma query_only = on")
                self._conn.execute("pragma trusted_schema = off")
                self._conn.execute("pragma cell_size_check = on")
                self._stored = self._read_tables()
            self._tables = tuple(self._stored)
            self._require_whole(content.path)

    def close(self) -> None:
        self._conn.close()
        self._content = None

    def facts(self, asked: _Asked) -> dict[str, Json]:
        about: dict[str, Json] = {"sqlite": sqlite3.sqlite_version, "tables": [*self._tables]}
        return about if asked.table is None else {**about, "table": asked.table}

    def _is_enough(self) -> bool:
        return self._cancelled() or self._is_late()

    def _is_late(self) -> bool:
        return self._timeout is not None and time.monotonic() - self._began > self._timeout

    def _read_tables(self) -> dict[str, bool]:
        """Tables and views by name, and whether their rows are stored in the file as such."""
        found = self._conn.execute(
            "select name, rootpage > 0 from sqlite_master where type in ('table', 'view')"
            r" and name not like 'sqlite\_%' escape '\' order by name"
        )
        return {name: bool(stored) for name, stored in found}

    def _require_whole(self, path: Path) -> None:
        """What is missing at the end would be read as zeros, and rows there as empty ones. The
        header tells how many pages there are (1.3.8 of SQLite's file format), where what wrote it
        last knows of that. With a journal beside it, the file itself is not all."""
        sidecars = (Path(f"{path}{each}") for each in ("-wal", "-journal"))
        with path.open("rb") as file:
            header = file.read(_HEADER)
            there = file.seek(0, os.SEEK_END)
        page = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        needed = (65_536 if page == 1 else page) * pages
        if (
            there < needed
            and header[24:28] == header[92:96]
            and not any(each.exists() and each.stat().st_size for each in sidecars)
        ):
            raise InputError(
                f"{self.name} is cut off: it has {there:,} bytes of {needed:,}; take a whole copy,"
                " or mend it with sqlite3's .recover"
            )

    # What is asked

    def ask(self, wanted: Wanted, *, chosen: bool) -> _Asked:
        """`chosen`: the table was named, and is not the usual one."""
        if wanted.query is not None:
            return _Asked(f"{self.name} query", wanted.query, None, wanted.params)
        table = self._table(wanted.table, chosen=chosen)
        return _Asked(f"{self.name} table {table}", "", table, {})

    def _table(self, name: str, *, chosen: bool) -> str:
        for table in self._tables:
            if table.lower() == name.lower():
                return table
        if not chosen and len(self._tables) == 1:
            return self._tables[0]
        there = f"it has {', '.join(self._tables)}" if self._tables else "it has no table"
        if chosen:
            raise InputError(f"{self.name}: there is no table {name}; {there}")
        raise InputError(
            f"{self.name}: there is no table {TABLE}; name one: --source-table; {there}"
        )

    def columns(self, asked: _Asked, cursor: sqlite3.Cursor) -> Sequence[Column]:
        if asked.table is None:
            if not cursor.description:
                raise UsageError(f"{asked.name}: it gives no rows; write a select")
            return [Column(str(each[0]), _ANY) for each in cursor.description]
        with self.told(asked.name):
            about = self._conn.execute(
                'select name, type, "notnull", pk from pragma_table_info(?)', [asked.table]
            ).fetchall()
        return [
            Column(name, kind.lower() or _ANY, not (filled or (key and kind.lower() == "integer")))
            for name, kind, filled, key in about
        ]

    def count(self, asked: _Asked) -> int | None:
        """By the numbers of the first and last row, which costs nothing: too many where rows have
        been deleted in between."""
        if (
            asked.table is None or not self._stored[asked.table]
        ):  # of a view, all rows would be made
            return None
        table = asked.inner
        with contextlib.suppress(sqlite3.Error):  # a table without numbers
            ((count,),) = self._conn.execute(
                f"select (select max(rowid) from {table}) - (select min(rowid) from {table}) + 1"  # noqa: S608 - quoted by `identifier`
            )
            return count if isinstance(count, int) and count >= 0 else None
        return None

    def execute(self, asked: _Asked, condition: str = "", **params: object) -> sqlite3.Cursor:
        """The statement, or one over its rows."""
        self._began = time.monotonic()
        statement = _select(f"{asked.inner} {condition}") if condition else asked.statement
        with self.told(asked.name, is_query=asked.table is None):
            return self._conn.execute(statement, {**asked.params, **params})

    def as_bytes(self, cursor: sqlite3.Cursor) -> _Row:
        """The row which has just failed to be decoded: SQLite stands on it still."""
        self._conn.text_factory = bytes
        try:
            row: _Row = next(cursor)
            return row
        finally:
            self._conn.text_factory = str

    @contextmanager
    def told(self, what: str, *, is_query: bool = False) -> Iterator[None]:
        """Errors of SQLite as those of this program. `is_query`: what is wrong may be the query."""
        try:
            yield
        except UnicodeDecodeError as exc:  # of SQLite's own words, which name what is damaged
            raise InputError(f"{what}: its schema is damaged; take a sound copy") from exc
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", None)
            primary = None if code is None else code & 0xFF
            if primary == sqlite3.SQLITE_INTERRUPT and self._cancelled():
                raise StoppedError from exc
            if primary == sqlite3.SQLITE_INTERRUPT:
                raise InputError(
                    f"{what}: took longer than {self._timeout:g} s; give it more with"
                    " --query-timeout, or read in pages with --page-key"
                ) from exc
            if primary == sqlite3.SQLITE_TOOBIG:
                raise InputError(
                    f"{what}: a cell or row is longer than {_MOST_BYTES >> 20} MiB; leave it out,"
                    " or take a part of it (substr), in --query"
                ) from exc
            if is_query and code == sqlite3.SQLITE_READONLY:  # without a further code: not the file
                raise UsageError(f"{what}: it is only read; write a select in --query") from exc
            if is_query and primary in (None, sqlite3.SQLITE_ERROR):
                raise UsageError(
                    f"{what}: {exc}; mend --query, --params, --page-key or --after"
                ) from exc
            if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InputError(
                    f"{what}: {exc} by another program; read again when that is done, or a copy"
                ) from exc
            raise InputError(
                f"{what}: {exc}; mend the file (sqlite3's .recover), or take a sound copy"
            ) from exc


class _Rows:
    """The rows of a statement. What cannot be decoded is a flaw in its place; when no more can be
    read, the rows before that are given first. After a MemoryError no row is lost."""

    def __init__(self, file: _File, name: str, cursor: sqlite3.Cursor) -> None:
        self._file = file
        self._name = name
        self._cursor = cursor
        self._columns = [str(each[0]) for each in cursor.description]
        self._step = _STEP
        self._unlooked_at = getrusage(RUSAGE_SELF).ru_maxrss + _STEPS_BYTES // 1024
        self._rows: list[_Row | Flaw] = []
        self._failure: Exception | None = None
        self.ended = False
        self.flawed = False

    def read(self, most: int) -> list[_Row | Flaw]:
        """At most so many, and fewer where they are large; none at the end."""
        rows = self._rows
        size = 0
        while len(rows) < most and size < _STEPS_BYTES and not self.ended and self._failure is None:
            had, step = len(rows), min(self._step, most - len(rows))
            try:
                # What has been taken before an error stays in the list.
                rows.extend(islice(self._cursor, step))
                self.ended = len(rows) - had < step
            except sqlite3.OperationalError as exc:
                if hasattr(exc, "sqlite_errorcode"):  # else it is Python's own: no UTF-8
                    self._failure = exc
                else:
                    rows.append(self._flaw())
            except (sqlite3.Error, UnicodeDecodeError) as exc:
                self._failure = exc
            # All rows of a step only where memory has grown, or its last one is large: that
            # the process had more before must not hide it.
            if (
                size
                or self._size(rows[-1:]) > _LARGE
                or getrusage(RUSAGE_SELF).ru_maxrss > self._unlooked_at
            ):
                size += self._size(rows[had:] if size else rows)
                self._step = 1 if size > _STEPS_BYTES else self._step
        if not rows and self._failure is not None:
            with self._file.told(self._name):
                raise self._failure
        self._rows = rows[most:]
        return rows[:most]

    def close(self) -> None:
        """Before the connection is closed: it would keep the file open until its last statement has
        gone."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed already
            self._cursor.close()

    def _size(self, rows: list[_Row | Flaw]) -> int:
        """In memory, in bytes."""
        cells = (
            [row.cells if isinstance(row, Flaw) else row for row in rows] if self.flawed else rows
        )
        return sum(map(getsizeof, chain.from_iterable(cells)))  # type: ignore[arg-type]

    def _flaw(self) -> Flaw:
        self.flawed = True
        cells = []
        reason = ""
        for column, cell in zip(self._columns, self._file.as_bytes(self._cursor), strict=True):
            if not isinstance(cell, bytes):
                cells.append(cell)
                continue
            try:
                cells.append(cell.decode())
            except UnicodeDecodeError as exc:
                reason = reason or f"column {column!r} is no UTF-8 ({exc.reason}); mend it there"
                cells.append(cell.decode("utf-8", "replace"))
        shown = ", ".join("" if cell is None else str(cell) for cell in cells)
        return Flaw(reason, shown, cells)


class _Stream(RowStream):
    """One statement from its first row to its last. While it lasts, another program may find that
    it cannot write (it can, to a database in WAL mode)."""

    def __init__(
        self, file: _File, asked: _Asked, columns: tuple[Column, ...], cursor: sqlite3.Cursor
    ) -> None:
        self.name = asked.name
        self.columns = columns
        self.estimated_row_count = file.count(asked)
        self._names = names(columns)
        self._file = file
        self._facts = file.facts(asked)
        self._source = _Rows(file, asked.name, cursor)
        self._held: list[_Row | Flaw] = []  # read, and not yet given
        self._rows = 0
        self._ended = False

    def facts(self) -> dict[str, Json]:
        return dict(self._facts)

    def close(self) -> None:
        self._ended = True
        self._held = []
        self._source.close()
        self._file.close()

    def read(self, size: int) -> Chunk | None:
        if not self._held and not self._ended:
            self._held = self._source.read(size)
        if not self._held:
            self.close()
            return None
        values = self._held[:size]
        cells = _as_cells(values, flawed=self._source.flawed)
        chunk = chunk_of(self._names, self._rows + 1, cells, flawed=self._source.flawed)
        self._rows += len(values)
        self._held = self._held[size:]
        return chunk


class _Pager(Pager):
    """Each page is a statement of its own: between two of them, others may write."""

    cuts = True

    def __init__(self, file: _File, asked: _Asked, columns: tuple[Column, ...], key: str) -> None:
        self._file = file
        self._asked = asked
        self._column = key
        self._at = position(asked.name, columns, key)
        self._key = identifier(key)
        if self._read(f"where {self._key} is null limit 1"):
            raise empty_key(asked.name, key)

    def as_key(self, after: str | None) -> Json:
        """What --after says, as a number where the keys are numbers."""
        if after is None:
            return None
        first = self._read(f"order by {self._key} limit 1")
        kind = type(self._key_of(first[0])) if first else str
        try:
            return kind(after) if kind in (int, float) else after
        except ValueError as exc:
            raise UsageError(
                f"--after {after}: {self._column} of {self._asked.name} is a number; give one"
            ) from exc

    def close(self) -> None:
        self._file.close()

    def page(self, after: Json, limit: int) -> Batch:
        behind = "" if after is None else f"where {self._key} > :{_KEY} "
        rows = self._read(f"{behind}order by {self._key} limit {limit}", after)
        keys = [self._key_of(row) for row in rows]
        if bytes in map(type, keys):
            raise UsageError(
                f"{self._asked.name}: {self._column} is binary in some rows; give another"
                " --page-key"
            )
        flawed = any(isinstance(row, Flaw) for row in rows)
        return Batch(_as_cells(rows, flawed=flawed), keys, flawed)

    def repeated(self, key: Json) -> bool:
        return len(self._read(f"where {self._key} = :{_KEY} limit 2", key)) > 1

    def _key_of(self, row: _Row | Flaw) -> Json:
        return row.cells[self._at] if isinstance(row, Flaw) else row[self._at]

    def _read(self, condition: str, key: Json = None) -> list[_Row | Flaw]:
        more = {} if key is None else {_KEY: key}
        cursor = self._file.execute(self._asked, condition, **more)
        rows = _Rows(self._file, self._asked.name, cursor)
        return rows.read(_MOST_ROWS)


def _select(rest: str) -> str:
    return f"select * from {rest}"  # noqa: S608 - names in it are quoted by `identifier`


def identifier(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _as_cells(rows: Sequence[_Row | Flaw], *, flawed: bool) -> Sequence[Sequence[Json] | Flaw]:
    """The rows, whose values are cells already unless there is something binary or endless."""
    sound = [row for row in rows if not isinstance(row, Flaw)] if flawed else rows
    kinds = set(map(type, chain.from_iterable(sound)))  # type: ignore[arg-type]
    if bytes in kinds or (float in kinds and any(math.inf in r or -math.inf in r for r in sound)):  # type: ignore[operator]
        return [row if isinstance(row, Flaw) else json_cells(row) for row in rows]
    return rows
