"""Rows of Postgres: a stream in one statement, or pages by a key."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.databases.postgres_cells import cells
from artist_bio_gen.sources.databases.postgres_server import Asked, Server, Shape
from artist_bio_gen.sources.databases.queries import (
    PAUSES_S,
    Batch,
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
from artist_bio_gen.stream import CHUNK, Chunk, RowStream, names
from artist_bio_gen.values import Json

if TYPE_CHECKING:
    from psycopg import pq
    from psycopg.abc import Transformer

_PART_BYTES = 4 << 20
"""Of what libpq puts together before it hands rows over."""

_LARGE = 100_000
"""Rows above which a page must not sort them all."""


def open_query(
    address: str,
    options: SourceOptions,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    pauses: Sequence[float] = PAUSES_S,
    sleep: Callable[[float], None] = time.sleep,
) -> RowStream:
    """A table or query at `address`, which may be any that libpq takes. In pages, `pauses` are
    the waits before a lost connection is made anew."""
    wanted = Wanted.of(options)
    server = Server(address, options.query_timeout, cancelled)
    with connecting(server):
        server.connect()
        asked = server.ask(wanted)
        shape = server.look(asked)
        if wanted.key is None:
            return _Stream(server, asked, shape)
        pager = _Pager(server, asked, shape, wanted.key)
        return Pages(
            pager,
            name=asked.name,
            columns=shape.columns,
            key=wanted.key,
            after=wanted.after,
            estimated_row_count=shape.rows,
            facts={**server.facts(), **pager.facts(shape)},
            cancelled=cancelled,
            pauses=pauses,
            sleep=sleep,
        )


class _Stream(RowStream):
    """One statement from its first row to its last. It takes the connection all the time, and the
    server keeps a snapshot for it."""

    can_wait = False

    def __init__(self, server: Server, asked: Asked, shape: Shape) -> None:
        self.name = asked.name
        self.columns = shape.columns
        self.estimated_row_count = shape.rows
        self._names = names(shape.columns)
        self._server = server
        self._asked = asked
        self._size = max(1, min(CHUNK, _PART_BYTES // shape.width))
        self._loader: Transformer | None = None
        self._part: pq.abc.PGresult | None = None
        self._at = 0
        self._count = 0
        self._rows = 0
        self._ended = False

    def facts(self) -> dict[str, Json]:
        return self._server.facts()

    def close(self) -> None:
        self._ended = True
        self._part, self._at, self._count = None, 0, 0
        self._server.close()

    def read(self, size: int) -> Chunk | None:
        while self._at == self._count:
            if self._ended:
                return None
            self._next_part()
        assert self._part is not None
        assert self._loader is not None
        end = min(self._count, self._at + size)
        values, flawed = cells(self._loader, self._part, self._at, end)
        chunk = chunk_of(self._names, self._rows + 1, values, flawed=flawed)
        self._rows += end - self._at
        self._at = end
        return chunk

    def _next_part(self) -> None:
        self._part, self._at, self._count = None, 0, 0
        try:
            with on_failure(self.close), self._server.told(self.name):
                if self._loader is None:
                    self._server.send(self._asked, part=self._size)
                    self._loader = self._server.loader()
                self._part = self._server.answer()
        except LostError as exc:
            raise cut_off(self.name, self._rows, exc) from exc
        if self._part is None:
            self.close()
            return
        self._count = self._part.ntuples
        self._loader.set_pgresult(self._part)


class _Pager(Pager):
    """Each page is a statement of its own, outside of any transaction."""

    def __init__(self, server: Server, asked: Asked, shape: Shape, key: str) -> None:
        self._server = server
        self._asked = asked
        self._at = position(asked.name, shape.columns, key)
        self._key = server.identifier(key)
        self._param = b"$%d" % (len(asked.params) + 1)
        if shape.columns[self._at].nullable and self._fetch(b"%b is null limit 1").ntuples:
            raise empty_key(asked.name, key)

    def facts(self, shape: Shape) -> dict[str, Json]:
        """Whether each page has to sort all rows, for want of an index."""
        order = b"order by %b limit %d" % (self._key, CHUNK)
        plan = self._server.plan(self._asked.ordered(order))
        if shape.planned <= _LARGE or plan is None or not _sorts(plan):
            return {}
        return {"slow": "no index on the page key: each page sorts all rows"}

    def close(self) -> None:
        self._server.close()

    def page(self, after: Json, limit: int) -> Batch:
        behind = b"" if after is None else b"where %b > %b " % (self._key, self._param)
        order = b"%border by %b limit %d" % (behind, self._key, limit)
        more = [] if after is None else [str(after)]
        with self._server.told(self._asked.name):
            self._server.connect()
            found = self._server.fetch(self._asked.ordered(order, *more))
            loader = self._server.loader()
        loader.set_pgresult(found)
        values, flawed = cells(loader, found, 0, found.ntuples)
        keys = [found.get_value(row, self._at) for row in range(found.ntuples)]
        return Batch(values, [str(key, "utf-8") for key in keys if key is not None], flawed)

    def repeated(self, key: Json) -> bool:
        return self._fetch(b"%b = " + self._param + b" limit 2", str(key)).ntuples > 1

    def _fetch(self, condition: bytes, *more: str) -> pq.abc.PGresult:
        with self._server.told(self._asked.name):
            self._server.connect()
            asked = self._asked.ordered(b"where " + condition % self._key, *more)
            return self._server.fetch(asked)


def _sorts(plan: object) -> bool:
    """Whether a step of this plan, as EXPLAIN has it in JSON, sorts from the ground up."""
    if isinstance(plan, list):
        return any(map(_sorts, plan))
    if not isinstance(plan, dict):
        return False
    return plan.get("Node Type") == "Sort" or _sorts(plan.get("Plans"))
