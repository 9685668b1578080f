"""Rows of MySQL and MariaDB: a stream in one statement, or pages by a key."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import UsageError
from artist_bio_gen.sources.databases.mysql_server import Asked, Server, Shape
from artist_bio_gen.sources.databases.mysql_wire import Rows
from artist_bio_gen.sources.databases.queries import (
    PAUSES_S,
    Batch,
    Flaw,
    LostError,
    Pager,
    Pages,
    Wanted,
    chunk_of,
    connecting,
    cut_off,
    empty_key,
    position,
)
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import Json


def open_query(
    address: str,
    options: SourceOptions,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    pauses: Sequence[float] = PAUSES_S,
    sleep: Callable[[float], None] = time.sleep,
) -> RowStream:
    """A table or query at `address`: mysql://user:password@host:3306/database, with
    `?unix_socket=`, `?ssl-mode=` and `?ssl-ca=` where these are needed. In pages, `pauses` are the
    waits before a lost connection is made anew."""
    wanted = Wanted.of(options)
    server = Server(address, options.query_timeout, cancelled)
    with connecting(server):
        server.connect()
        asked = server.ask(wanted)
        shape = server.look(asked)
        if wanted.key is None:
            return _Stream(server, asked, shape)
        return Pages(
            _Pager(server, asked, shape, wanted.key),
            name=asked.name,
            columns=shape.columns,
            key=wanted.key,
            after=wanted.after,
            estimated_row_count=shape.rows,
            facts=server.facts(),
            cancelled=cancelled,
            pauses=pauses,
            sleep=sleep,
        )


class _Stream(RowStream):
    """One statement from its first row to its last. The server waits some minutes for someone who
    does not read, then it closes the connection (net_write_timeout)."""

    can_wait = False

    def __init__(self, server: Server, asked: Asked, shape: Shape) -> None:
        self.name = asked.name
        self.columns = shape.columns
        self.estimated_row_count = shape.rows
        self._names = names(shape.columns)
        self._server = server
        self._asked = asked
        self._shape = shape
        self._answer: Rows | None = None
        self._rows = 0
        self._ended = False

    def facts(self) -> dict[str, Json]:
        return self._server.facts()

    def close(self) -> None:
        self._ended = True
        self._answer = None
        self._server.close()

    def read(self, size: int) -> Chunk | None:
        if self._ended:
            return None
        try:
            with self._server.told(self.name):
                if self._answer is None:
                    self._answer = self._server.send(self._asked.statement, self._shape)
                values = self._answer.read(size)
        except LostError as exc:
            return self._lost(exc)
        except MemoryError:  # then it can be asked again
            raise
        except BaseException:  # whatever it is, it goes on
            self.close()
            raise
        answer = self._answer
        if answer.ended:
            self.close()
        return self._chunk(values, flawed=answer.flawed) if values else None

    def _chunk(self, values: Sequence[list[Json] | Flaw], *, flawed: bool) -> Chunk:
        chunk = chunk_of(self._names, self._rows + 1, values, flawed=flawed)
        self._rows += len(values)
        return chunk

    def _lost(self, exc: LostError) -> Chunk:
        """What had come before the connection was lost; InputError when that has been read."""
        rest = self._answer.rest() if self._answer is not None else []
        if rest:
            assert self._answer is not None
            return self._chunk(rest, flawed=self._answer.flawed)
        self.close()
        raise cut_off(self.name, self._rows, exc) from exc


class _Pager(Pager):
    """Each page is a statement of its own, outside of any transaction."""

    def __init__(self, server: Server, asked: Asked, shape: Shape, key: str) -> None:
        self._server = server
        self._asked = asked
        self._shape = shape
        self._at = position(asked.name, shape.columns, key)
        self._key = server.identifier(key)
        if self._at in shape.vague:
            raise UsageError(
                f"{asked.name}: {key} is of type {shape.columns[self._at].type}, whose values"
                " cannot be given back exactly; give another --page-key"
            )
        if shape.columns[self._at].nullable and self._fetch("limit 1", "is null"):
            raise empty_key(asked.name, key)

    def close(self) -> None:
        self._server.close()

    def page(self, after: Json, limit: int) -> Batch:
        order = f"order by {self._key} limit {limit}"
        rows = self._fetch(order) if after is None else self._fetch(order, ">", after)
        flawed = any(isinstance(row, Flaw) for row in rows)
        keys = [(row.cells if isinstance(row, Flaw) else row)[self._at] for row in rows]
        return Batch(rows, keys, flawed)

    def repeated(self, key: Json) -> bool:
        return len(self._fetch("limit 2", "=", key)) > 1

    def _fetch(self, rest: str, than: str = "", key: Json = None) -> list[list[Json] | Flaw]:
        """Rows whose key is greater `than`, equal to, … this one; without `key`: all."""
        with self._server.told(self._asked.name):
            self._server.connect()
            where = f"where {self._key} {than} "
            if key is not None:
                where += self._server.literal(key)
            answer = self._server.send(
                self._server.ordered(self._asked, f"{where if than else ''} {rest}"), self._shape
            )
            return answer.read(sys.maxsize)
