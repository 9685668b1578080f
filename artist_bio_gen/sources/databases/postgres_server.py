"""A connection to Postgres as a source: it reads only, and can be called off while it waits."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg import abc, adapt, pq, sql
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb

from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.masking import mask_address, mask_passwords
from artist_bio_gen.sources.databases.postgres_cells import SETTINGS, load_as_cells
from artist_bio_gen.sources.databases.queries import (
    LOOK_S,
    POSTGRES_SYNTAX,
    LostError,
    Wanted,
    distinct,
    table_parts,
    with_params,
)
from artist_bio_gen.values import Column, Json

# A peer that vanished must be noticed: libpq's parameters, in seconds and ms.
_ALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# SQLSTATEs (PostgreSQL manual, appendix A).
_LOST_CLASSES = ("08", "40", "53", "57P")  # connection, rollback, resources, operator
_LOST_CODES = ("25P03", "25P04")
_TIMED_OUT = "57014"
_NO_TABLE = "42P01"
_USAGE_CLASSES = ("42", "22P02")

_CANCEL_S = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement with its parameters in the server's own form. `name` is what to call its rows
    in messages."""

    name: str
    statement: bytes
    params: Sequence[Buffer | None] = ()
    types: Sequence[int] = ()
    is_table: bool = False

    def ordered(self, order: bytes, *more: str) -> Asked:
        """Its rows in another order, or a part of them; `more` are further parameters, whose
        types the server knows."""
        return Asked(
            self.name,
            b"select * from (%b\n) as source %b" % (self.statement, order),
            [*self.params, *(each.encode() for each in more)],
            [*self.types, *(0 for _ in more)],
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a statement's rows before they are read: `planned` rows and `width` (bytes
    of a row) are what the planner guesses; 0 and 1 where it says nothing. `rows` is the same where
    it is more than a guess: None where it has never counted a table from which they come."""

    columns: tuple[Column, ...]
    rows: int | None
    width: int
    planned: int


class Server:
    """Its calls raise the errors of this program: LostError where another attempt may help."""

    def __init__(self, address: str, timeout: float | None, cancelled: Callable[[], bool]) -> None:
        self.name = mask_address(address)
        self._address = address
        self._timeout = timeout
        self._cancelled = cancelled
        self._conn: psycopg.Connection | None = None
        self._poll = select.poll()
        self._version = ""
        self._arrays: dict[int, TypeInfo] = {}

    def facts(self) -> dict[str, Json]:
        return {"server": self._version}

    def connect(self) -> None:
        """Nothing happens where there is a connection."""
        if self._conn is not None:
            return
        if self._cancelled():
            raise StoppedError
        try:
            conn = psycopg.connect(
                self._address, autocommit=True, application_name="artist-bio-gen", **_ALIVE
            )
        except psycopg.Error as exc:
            # Without the error itself: where the address cannot be read, it quotes the password.
            raise self._refused(exc) from None
        self._conn = conn
        with self.told(self.name):
            conn.execute("set default_transaction_read_only = on")
            conn.execute(SETTINGS)
            if self._timeout is not None:
                limit = str(max(1, round(self._timeout * 1000)))
                conn.execute("select set_config('statement_timeout', %s, false)", [limit])
            load_as_cells(conn)
        for info in self._arrays.values():
            info.register(conn)
        self._poll = select.poll()
        self._poll.register(conn.fileno(), select.POLLIN)
        number = conn.info.server_version
        self._version = f"PostgreSQL {number // 10_000}.{number % 10_000}"

    def _refused(self, exc: psycopg.Error) -> Exception:
        if isinstance(exc, psycopg.ProgrammingError):
            return ConfigError(
                f"{self.name}: the address cannot be read; it looks like"
                " postgresql://user:password@host:5432/dbname"
            )
        told = _words(exc)
        if self._version and _is_lost(exc):  # it was there before
            return LostError(told)
        return ConfigError(f"{self.name}: no connection: {told}; check address, user and password")

    def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is None:
            return
        if not conn.closed and conn.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            # Else the server would go on until it finds nobody to send rows to.
            with contextlib.suppress(psycopg.Error):
                conn.cancel_safe(timeout=_CANCEL_S)
        conn.close()

    @property
    def _connected(self) -> psycopg.Connection:
        assert self._conn is not None, "connect() comes first"
        return self._conn

    # What is asked

    def ask(self, wanted: Wanted) -> Asked:
        name = f"{self.name} {wanted.what}"
        if wanted.query is None:
            table = sql.Identifier(*table_parts(wanted.table)).as_bytes(self._connected)
            return Asked(name, b"select * from " + table, is_table=True)
        order: list[str] = []

        def put(name: str) -> str:
            if name not in order:
                order.append(name)
            return f"${order.index(name) + 1}"

        text = with_params(wanted.query, POSTGRES_SYNTAX, wanted.params, put)
        params, types = _dumped([wanted.params[each] for each in order])
        return Asked(name, text.encode(), params, types)

    def identifier(self, name: str) -> bytes:
        return sql.Identifier(name).as_bytes(self._connected)

    def look(self, asked: Asked) -> Shape:
        """Columns, and what the planner thinks of the rows; nothing of them is read."""
        with self.told(asked.name):
            pgconn = self._connected.pgconn
            pgconn.send_prepare(b"", asked.statement, asked.types)
            self._whole_answer()
            pgconn.send_describe_prepared(b"")
            found = self._whole_answer()
            if not found.nfields:
                raise UsageError(f"{asked.name}: it gives no rows; write a select")
            columns = distinct(asked.name, self._columns(found, is_table=asked.is_table))
        plan = self.plan(asked)
        if plan is None:
            return Shape(columns, None, 1, 0)
        planned = int(plan["Plan Rows"])
        with self.told(asked.name):
            rows = planned if self._are_counted(_tables(plan)) else None
        return Shape(columns, rows, max(1, int(plan["Plan Width"])), planned)

    def _are_counted(self, tables: Iterable[tuple[str, str]]) -> bool:
        """Whether ANALYZE, VACUUM or an index has counted each of these. Of others the planner
        makes up ten pages of rows, and more as the file grows (estimate_rel_size)."""
        wanted = [*tables]
        found = self._connected.execute(
            "select not exists (select"
            " from unnest(%s::text[], %s::text[]) as wanted (schema, called)"
            " join pg_namespace on nspname = schema"
            " join pg_class on relnamespace = pg_namespace.oid and relname = called"
            # Before Postgres 14, which has -1 for it, an empty table looks the same.
            " where reltuples < 0 or (reltuples = 0 and relpages = 0))",
            [[schema for schema, _ in wanted], [called for _, called in wanted]],
        ).fetchone()
        return found is not None and bool(found[0])

    def plan(self, asked: Asked) -> Mapping[str, Any] | None:
        """As EXPLAIN has it; None for what is no select (show, fetch)."""
        explained = Asked(
            *(asked.name, b"explain (verbose, format json) " + asked.statement),
            *(asked.params, asked.types),
        )
        with self.told(asked.name):
            try:
                told = self.fetch(explained)
            except psycopg.Error as exc:
                if _is_lost(exc):
                    raise
                return None
        plan: Mapping[str, Any] = orjson.loads(told.get_value(0, 0) or b"[{}]")[0]["Plan"]
        return plan

    def _columns(self, found: pq.abc.PGresult, *, is_table: bool) -> list[Column]:
        types = [found.ftype(at) for at in range(found.nfields)]
        self._know_arrays(types)
        filled = self._not_null(found.ftable(0)) if is_table else frozenset()
        return [
            Column(
                (found.fname(at) or b"").decode("utf-8", "replace"),
                self._type_name(oid, found.fmod(at)),
                found.ftablecol(at) not in filled,
            )
            for at, oid in enumerate(types)
        ]

    def _type_name(self, oid: int, modifier: int) -> str:
        """In the server's short form: int8, varchar(20), text[]."""
        info = self._connected.adapters.types.get(oid)
        if info is not None:
            return info.get_type_display(oid=oid, fmod=modifier)
        row = self._connected.execute("select format_type(%s, %s)", [oid, modifier]).fetchone()
        assert row is not None
        return str(row[0])

    def _not_null(self, table: int) -> frozenset[int]:
        rows = self._connected.execute(
            "select attnum from pg_attribute where attrelid = %s and attnotnull", [table]
        )
        return frozenset(int(number) for (number,) in rows)

    def _know_arrays(self, types: Sequence[int]) -> None:
        """Arrays of types that only this database has: enumerations and the like."""
        known = self._connected.adapters.types
        strange = [oid for oid in types if known.get(oid) is None]
        if not strange:
            return
        rows = self._connected.execute(
            "select typname, oid, typarray, typdelim from pg_type where typarray = any(%s)",
            [strange],
        ).fetchall()
        for name, oid, array, delimiter in rows:
            info = TypeInfo(str(name), int(oid), int(array), delimiter=str(delimiter))
            self._arrays[int(array)] = info
            info.register(self._connected)

    # Rows

    def send(self, asked: Asked, *, part: int | None = None) -> None:
        """Sets a statement going. Its rows come in parts of this size; None: all at once."""
        pgconn = self._connected.pgconn
        pgconn.send_query_params(asked.statement, asked.params, asked.types)
        if part is not None:
            pgconn.set_chunked_rows_mode(part)
        self._flush()

    def _flush(self) -> None:
        pgconn = self._connected.pgconn
        while pgconn.flush():
            self._await(select.POLLIN | select.POLLOUT)
            pgconn.consume_input()

    def answer(self) -> pq.abc.PGresult | None:
        """The next part of the answer; None behind the last one."""
        pgconn = self._connected.pgconn
        while pgconn.is_busy():
            self._await(select.POLLIN)
            pgconn.consume_input()
        found = pgconn.get_result()
        return None if found is None else _sound(found)

    def fetch(self, asked: Asked) -> pq.abc.PGresult:
        """All rows at once."""
        self.send(asked)
        return self._whole_answer()

    def _whole_answer(self) -> pq.abc.PGresult:
        """Not by calls of libpq that wait: they keep all other threads from running."""
        self._flush()
        found = self.answer()
        assert found is not None
        while self.answer() is not None:
            pass
        return found

    def loader(self) -> abc.Transformer:
        """What makes cells of answers of this connection."""
        return adapt.Transformer(self._connected)

    def _await(self, events: int) -> None:
        self._poll.modify(self._connected.fileno(), events)
        while not self._cancelled():
            if self._poll.poll(LOOK_S * 1000):
                return
        raise StoppedError

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Errors of the server as those of this program."""
        try:
            yield
        except psycopg.Error as exc:
            words, state = _words(exc), exc.sqlstate or ""
            if _is_lost(exc):
                raise LostError(words) from exc
            if state == _TIMED_OUT and self._timeout is not None:
                raise InputError(
                    f"{what}: took longer than {self._timeout:g} s; give it more with"
                    " --query-timeout, or read in pages with --page-key"
                ) from exc
            if state == _NO_TABLE:
                raise InputError(
                    f"{what}: {words}; name another with --source-table, or mend --query"
                ) from exc
            if state.startswith(_USAGE_CLASSES):
                raise UsageError(
                    f"{what}: {words}; mend --query, --params, --page-key or --after"
                ) from exc
            raise InputError(f"{what}: {words}; mend that, and read again") from exc


def _tables(plan: object) -> Iterator[tuple[str, str]]:
    """Schema and name of each table that a step of this plan reads."""
    if isinstance(plan, list):
        for step in plan:
            yield from _tables(step)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield str(plan["Schema"]), str(plan["Relation Name"])
        yield from _tables(plan.get("Plans"))


def _sound(found: pq.abc.PGresult) -> pq.abc.PGresult:
    if found.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(found, encoding="utf-8")
    return found


def _is_lost(exc: psycopg.Error) -> bool:
    state = exc.sqlstate
    if state is None:
        return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(_LOST_CLASSES) or state in _LOST_CODES


def _words(exc: psycopg.Error) -> str:
    return mask_passwords(exc.diag.message_primary or " ".join(str(exc).split()))


def _dumped(params: Sequence[object]) -> tuple[Sequence[Buffer | None], Sequence[int]]:
    """Parameters in the server's form, and their types; 0: as the statement has it."""
    ready = [Jsonb(each) if isinstance(each, dict) else each for each in params]
    transformer = adapt.Transformer()
    try:
        dumped = transformer.dump_sequence(ready, [PyFormat.TEXT] * len(ready))
    except (psycopg.Error, ValueError) as exc:
        raise UsageError(f"--params: {exc}; give texts, numbers, or lists of one kind") from exc
    return dumped, transformer.types or ()
