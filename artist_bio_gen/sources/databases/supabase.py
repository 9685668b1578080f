"""Rows of Supabase, or of any PostgREST, in pages by a key over its REST interface."""

from __future__ import annotations

import http.client
import select
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

import orjson

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.masking import mask_address, redact
from artist_bio_gen.sources.databases.queries import (
    LOOK_S,
    PAUSES_S,
    Batch,
    LostError,
    Pager,
    Pages,
    distinct,
    empty_key,
    position,
)
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import Column, Json

_KEY = "id"
_TIMEOUT_S = 60.0
_MOST_BYTES = 256 << 20
_LONGEST_PAUSE_S = 600.0
_MOST_REDIRECTS = 5
_EXAMPLE = "supabase+https://PROJECT.supabase.co/rest/v1/TABLE?select=id,name"
_OURS = ("order", "limit", "offset")


def open_query(
    address: str,
    options: SourceOptions,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    pauses: Sequence[float] = PAUSES_S,
    sleep: Callable[[float], None] = time.sleep,
) -> RowStream:
    """The table at `address`, which may hold `select` and filters as PostgREST has them. `pauses`
    are the waits before an attempt is made once more."""
    if options.query is not None or options.source_table is not None:
        raise UsageError(
            f"--query and --source-table are for databases; here the address tells: {_EXAMPLE}"
        )
    key = options.page_key or _KEY
    table = _Table(address, options, key, cancelled)
    with on_failure(table.close):
        pages = Pages(
            table,
            name=table.name,
            columns=(),
            key=key,
            after=options.after,
            cancelled=cancelled,
            pauses=pauses,
            sleep=sleep,
        )
        pages.begin(table.look)
    return pages


class _Table(Pager):
    """A table behind its address. Pages begin with the last row of the one before: that it is
    there once tells that the key is unique, and an empty page that it was the last one."""

    cuts = True  # by the server's own limit (max-rows)

    def __init__(
        self, address: str, options: SourceOptions, key: str, cancelled: Callable[[], bool]
    ) -> None:
        self.name = mask_address(address)
        self._parts = _checked(self.name, address)
        if options.source_key is None:
            raise ConfigError(f"{self.name}: there is no key; set SUPABASE_KEY")
        self._secret = options.source_key
        self._key = key
        self._timeout = options.query_timeout or _TIMEOUT_S
        self._cancelled = cancelled
        self._columns: tuple[str, ...] = ()
        self._at = 0
        self._conn: http.client.HTTPConnection | None = None
        self._is_used = False
        self._was_there = False

    def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def look(self) -> tuple[tuple[Column, ...], int | None, dict[str, Json]]:
        """Columns, about how many rows, facts."""
        found, headers = self._get(("limit", "1"), prefer="count=estimated")
        columns = distinct(self.name, [Column(name, "json") for name in self._known(found)])
        if columns:
            self._at = position(self.name, columns, self._key)
            if self._get((self._key, "is.null"), ("limit", "1"))[0]:
                raise empty_key(self.name, self._key)
        self._columns = tuple(column.name for column in columns)
        total = (headers.get("Content-Range") or "").rpartition("/")[2]
        count = int(total) if total.isdecimal() else None
        return columns, count, {"server": headers.get("Server") or "PostgREST"}

    def _known(self, found: Sequence[Mapping[str, Json]]) -> Sequence[str]:
        """The names of columns; of a table without rows, those that the address gives."""
        if found:
            return [*found[0]]
        chosen = dict(parse_qsl(self._parts.query)).get("select", "")
        plain = chosen.replace("_", "a").replace(",", "a").isalnum()
        return chosen.split(",") if plain else ()

    def page(self, after: Json, limit: int) -> Batch:
        order = ("order", f"{self._key}.asc")
        if after is None:
            rows, _ = self._get(order, ("limit", str(limit)))
        else:
            behind = (self._key, f"gte.{_written(after)}")
            rows, _ = self._get(behind, order, ("limit", str(limit + 1)))
        values = [tuple(map(row.get, self._columns)) for row in rows]
        if after is not None:
            values = self._behind(after, values)
        return Batch(values, [row[self._at] for row in values])

    def _behind(self, after: Json, values: list[tuple[Json, ...]]) -> list[tuple[Json, ...]]:
        """Without the row at which the last page ended."""
        fresh = [row for row in values if str(row[self._at]) != str(after)]
        if len(values) - len(fresh) > 1:
            raise UsageError(
                f"{self.name}: more than one row has {self._key} = {after!r}; --page-key needs a"
                " column whose values are unique"
            )
        return fresh

    def repeated(self, key: Json) -> bool:
        return False  # the next page tells

    # HTTP

    def _get(
        self, *more: tuple[str, str], prefer: str = ""
    ) -> tuple[list[dict[str, Json]], Message]:
        query = "&".join(
            [
                *([self._parts.query] if self._parts.query else []),
                *(f"{quote(name)}={quote(value, safe='')}" for name, value in more),
            ]
        )
        target = f"{self._parts.path}?{query}"
        for _ in range(_MOST_REDIRECTS + 1):
            status, headers, body = self._exchange(target, prefer)
            if status not in (301, 302, 303, 307, 308):
                return self._rows(status, headers, body), headers
            target = self._redirected(target, headers)
        raise InputError(f"{self.name}: more than {_MOST_REDIRECTS} redirects; check the address")

    def _exchange(self, target: str, prefer: str) -> tuple[int, Message, bytes]:
        headers = {
            "apikey": self._secret,
            "Authorization": f"Bearer {self._secret}",
            "Accept": "application/json",
            "User-Agent": "artist-bio-gen",
        }
        if prefer:
            headers["Prefer"] = prefer
        try:
            with on_failure(self.close):
                reply, body = self._answered(target, headers)
        except (OSError, http.client.HTTPException) as exc:
            told = f"no reply: {str(exc) or type(exc).__name__}"
            if self._was_there:
                raise LostError(told) from exc
            raise ConfigError(f"{self.name}: {told}; check the address") from exc
        self._is_used = self._was_there = True
        if len(body) > _MOST_BYTES:
            self.close()
            raise InputError(
                f"{self.name}: a page is longer than {_MOST_BYTES >> 20} MiB; take fewer columns"
                " with select="
            )
        return reply.status, reply.headers, body

    def _answered(
        self, target: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            return self._asked(target, headers)
        except (ConnectionError, http.client.BadStatusLine):
            if self._conn is None or not self._is_used:
                raise
            self.close()  # the server had closed it while nobody asked: once more, anew
            return self._asked(target, headers)

    def _asked(
        self, target: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._conn is None:
            self._conn = self._connection()
            self._is_used = False
        self._conn.request("GET", target, headers=headers)
        self._await(self._conn)
        reply = self._conn.getresponse()
        return reply, reply.read(_MOST_BYTES + 1)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, self._parts.port, timeout=self._timeout)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            host, self._parts.port, timeout=self._timeout, context=context
        )

    def _await(self, conn: http.client.HTTPConnection) -> None:
        """Until there is something to be read, or the time is over: then reading it tells."""
        poll = select.poll()
        poll.register(conn.sock.fileno(), select.POLLIN)
        until = time.monotonic() + self._timeout
        while not poll.poll(LOOK_S * 1000):
            if self._cancelled():
                raise StoppedError
            if time.monotonic() > until:
                raise TimeoutError(f"none within {self._timeout:g} s")

    def _redirected(self, target: str, headers: Message) -> str:
        here = f"{self._parts.scheme}://{self._parts.netloc}"
        there = urlsplit(urljoin(here + target, headers.get("Location") or ""))
        if f"{there.scheme}://{there.netloc}" != here:
            raise ConfigError(
                f"{self.name}: it sends elsewhere, to {there.scheme}://{there.hostname}, and the"
                " key is not given to others; give that address if it is the right one"
            )
        return f"{there.path}?{there.query}" if there.query else there.path

    def _rows(self, status: int, headers: Message, body: bytes) -> list[dict[str, Json]]:
        if status in (200, 206):
            try:
                rows: Any = orjson.loads(body)
            except ValueError as exc:
                raise LostError(f"the reply is no JSON: {exc}") from exc
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise InputError(f"{self.name}: the reply is no list of rows; check the address")
            return rows
        told = f"{status}: {self._words(body)}"
        if status in (408, 425, 429) or status >= 500:
            raise LostError(told, retry_after=_seconds(headers.get("Retry-After")))
        if status in (401, 403):
            raise ConfigError(
                f"{self.name}: {told}; check SUPABASE_KEY and what it may read (row security)"
            )
        if status == 404:
            raise InputError(f"{self.name}: {told}; the address names the table: {_EXAMPLE}")
        raise UsageError(f"{self.name}: {told}; mend select and filters of the address")

    def _words(self, body: bytes) -> str:
        try:
            told = orjson.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            told = body[:200].decode("utf-8", "replace").strip() or "no words"
        return redact(str(told), [self._secret])


def _checked(name: str, address: str) -> SplitResult:
    """The address without our scheme. ConfigError, or UsageError, for one that cannot be used."""
    try:
        parts = urlsplit(address.removeprefix("supabase+"))
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{name}: the address cannot be read; it looks like {_EXAMPLE}") from None
    if not parts.hostname or not parts.path.strip("/") or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{name}: the address cannot be read; it looks like {_EXAMPLE}")
    if parts.username or parts.password:
        raise ConfigError(f"{name}: the key does not belong into the address; set SUPABASE_KEY")
    if parts.scheme == "http" and not _is_own(parts.hostname):
        raise ConfigError(f"{name}: the key would travel unencrypted; use supabase+https://")
    for word in _OURS:
        if word in dict(parse_qsl(parts.query, keep_blank_values=True)):
            raise UsageError(
                f"{name}: {word}= cannot be used, as pages are made by --page-key; there is"
                " --max-rows, and --after"
            )
    return parts


def _is_own(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _written(key: Json) -> str:
    return key if isinstance(key, str) else orjson.dumps(key).decode()


def _seconds(told: str | None) -> float:
    """Of a Retry-After; dates (RFC 9110, 10.2.3) are taken for none: the pauses hold anyway."""
    try:
        return min(_LONGEST_PAUSE_S, max(0.0, float(told or 0)))
    except ValueError:
        return 0.0
