"""A connection to MySQL or MariaDB as a source: it reads only, and can be called off while it
waits."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.masking import mask_address, mask_passwords
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.sources.databases.mysql_wire import Convert, Rows, Wire
from artist_bio_gen.sources.databases.queries import (
    MYSQL_SYNTAX,
    LostError,
    Wanted,
    distinct,
    table_parts,
    with_params,
)
from artist_bio_gen.values import Column, Json

_CONNECT_S = 10
_KILL_S = 2
_SLOW_READER_S = 600  # that the server waits for someone who does not read

# Numbers of errors (MySQL's and MariaDB's manuals).
_LOST = {
    *(1040, 1042, 1043, 1053, 1080, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1205, 1213),
    *(1927, 2002, 2003, 2006, 2013, 2055, 3159, 4031),
}
_TIMED_OUT = {1969, 3024}
_NO_TABLE = {1109, 1146}
_NO_DATABASE = {1046, 1049}
_DENIED = {1044, 1045, 1142, 1143, 1227, 1698, 2054, 2059, 2061}
_USAGE = {1052, 1054, 1060, 1064, 1222, 1248, 1305, 1582}

_PREPARE, _CLOSE = 0x16, 0x19
_NOT_NULL = 1
_BINARY = 63  # the "character set" of what is none

# Types as the protocol numbers them, where a cell is not simply text.
_INTS = {1, 2, 3, 8, 9, 13}
_FLOATS = {4, 5}
_TIMESTAMP, _TIME, _DATETIME, _BIT, _JSON, _GEOMETRY = 7, 11, 12, 16, 245, 255
_TEXTS = {15, 247, 248, 249, 250, 251, 252, 253, 254}
_FIRST_NAMES = (
    "decimal tinyint smallint int float double null timestamp bigint mediumint date time datetime"
    " year date varchar bit"
)
_LAST_NAMES = "json decimal enum set tinytext mediumtext longtext text varchar char geometry"
_NAMES = {**dict(enumerate(_FIRST_NAMES.split())), **dict(enumerate(_LAST_NAMES.split(), _JSON))}

_EXAMPLE = "it looks like mysql://user:password@host:3306/database"
_TLS = ("disabled", "preferred", "required", "verify_ca", "verify_identity")


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement; `name` is what to call its rows in messages. `inner` is what stands for its
    rows behind `from`; `table` the parts of a table's name, where it is one."""

    name: str
    statement: str
    inner: str
    table: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a statement's rows before they are read. `vague` are the positions of
    columns whose cells cannot be given back to the server as they are."""

    columns: tuple[Column, ...]
    convert: tuple[Convert, ...]
    vague: frozenset[int]
    rows: int | None


class Server:
    """Its calls raise the errors of this program: LostError where another attempt may help."""

    def __init__(self, address: str, timeout: float | None, cancelled: Callable[[], bool]) -> None:
        self.name = mask_address(address)
        self._pymysql: ModuleType = require("pymysql", extra="mysql", what="MySQL or MariaDB")
        self._options = _connection(self.name, address)
        self._timeout = timeout
        self._cancelled = cancelled
        self._conn: Any = None
        self._wire: Wire | None = None
        self._answer: Rows | None = None
        self._is_busy = False  # with a statement of which not all rows have come
        self._version = ""
        self._maria = False

    def facts(self) -> dict[str, Json]:
        return {"server": self._version}

    def connect(self) -> None:
        """Nothing happens where there is a connection."""
        if self._conn is not None:
            return
        if self._cancelled():
            raise StoppedError
        try:
            conn = self._pymysql.connect(**self._options)
        except (self._pymysql.Error, OSError, ValueError) as exc:
            raise self._refused(exc) from None
        self._conn = conn
        _keep_alive(conn._sock)
        self._wire = conn._rfile = Wire(conn._sock, self._cancelled)
        version = conn.get_server_info().removeprefix("5.5.5-")  # so that old clients take it
        self._maria = maria = "MariaDB" in version
        self._version = f"{'MariaDB' if maria else 'MySQL'} {version.partition('-')[0]}"
        with self.told(self.name):
            self._query("set session transaction read only")
            self._query("set time_zone = '+00:00'")
            self._query(f"set session net_write_timeout = {_SLOW_READER_S}")
            if self._timeout is not None:
                limit = (
                    f"max_statement_time = {self._timeout:.3f}"
                    if maria
                    else f"max_execution_time = {max(1, round(self._timeout * 1000))}"
                )
                self._query(f"set session {limit}")

    def _refused(self, exc: Exception) -> Exception:
        told = _words(exc)
        if self._version and _number(exc) in _LOST:  # it was there before
            return LostError(told)
        return ConfigError(f"{self.name}: no connection: {told}; check address, user and password")

    def close(self) -> None:
        conn, answer = self._conn, self._answer
        is_busy = self._is_busy and (answer is None or not answer.ended)
        self._conn = self._wire = self._answer = None
        self._is_busy = False
        if conn is None:
            return
        # At once: a farewell would have to wait for the rows that are still to come.
        conn._force_close()
        if is_busy:
            # Else the server would go on until it finds nobody to send rows to.
            self._kill(conn.thread_id())

    def _kill(self, connection: int) -> None:
        options = {**self._options, "connect_timeout": _KILL_S, "read_timeout": _KILL_S}
        with contextlib.suppress(self._pymysql.Error, OSError):  # it is gone already, or all is
            other = self._pymysql.connect(**options)
            with other, other.cursor() as cursor:
                cursor.execute("kill %s", (connection,))

    # What is asked

    def ask(self, wanted: Wanted) -> Asked:
        name = f"{self.name} {wanted.what}"
        if wanted.query is None:
            parts = table_parts(wanted.table)
            table = ".".join(map(self.identifier, parts))
            return Asked(name, _select(table), table, parts)
        literals = {key: self._param(key, value) for key, value in wanted.params.items()}
        query = with_params(wanted.query, MYSQL_SYNTAX, wanted.params, literals.__getitem__)
        return Asked(name, query, f"({query}\n) as source")

    def ordered(self, asked: Asked, condition: str) -> str:
        return _select(f"{asked.inner} {condition}")

    def identifier(self, name: str) -> str:
        doubled = name.replace("`", "``")
        return f"`{doubled}`"

    def literal(self, value: Json) -> str:
        """For a statement; texts are escaped as this connection needs it."""
        with self._conn.cursor() as cursor:
            return str(cursor.mogrify("%s", (value,)))

    def _param(self, name: str, value: object) -> str:
        if isinstance(value, dict):
            value = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            if not value:
                raise UsageError(
                    f"--params: {name} is an empty list, which SQL does not know; give it a value"
                )
            if any(isinstance(each, list | dict) for each in value):
                raise UsageError(f"--params: {name} is a list of lists; give texts or numbers")
        return self.literal(value)

    def look(self, asked: Asked) -> Shape:
        """Columns, and how many rows the server thinks there are; nothing of them is read."""
        with self.told(asked.name):
            fields = self._fields(asked.statement)
            if not fields:
                raise UsageError(f"{asked.name}: it gives no rows; write a select")
            about = self._about(fields)
            rows = self._count(asked.table) if asked.table is not None else None
        columns = distinct(asked.name, [_column(each, about) for each in fields])
        kinds = [_converted(each, about) for each in fields]
        vague = [at for at, each in enumerate(fields) if _is_vague(each)]
        return Shape(columns, tuple(kinds), frozenset(vague), rows)

    def _fields(self, statement: str) -> Sequence[Any]:
        """Its columns: it is prepared, and not run (MySQL's internals manual: COM_STMT_PREPARE)."""
        packets = self._pymysql.protocol
        conn = self._conn
        conn._execute_command(_PREPARE, statement)
        prepared = conn._read_packet().get_all_data()
        columns, params = struct.unpack_from("<HH", prepared, 5)
        for _ in range(params + 1 if params else 0):  # and the mark behind them
            conn._read_packet()
        fields = [conn._read_packet(packets.FieldDescriptorPacket) for _ in range(columns)]
        if columns:
            conn._read_packet()
        conn._execute_command(_CLOSE, prepared[1:5])
        return fields

    def _about(self, fields: Sequence[Any]) -> Mapping[tuple[str, str, str], str]:
        """The whole type of each column that comes from a table: by database, table, column."""
        tables = {_origin(each)[:2] for each in fields if each.org_table}
        if not tables:
            return {}
        these = [*tables]
        found = self._query(
            "select table_schema, table_name, column_name, column_type"
            " from information_schema.columns where (table_schema, table_name) in %s",
            these,
        )
        about = {(db, table, column): kind for db, table, column, kind in found}
        if self._maria:  # where JSON is a text with a condition
            with contextlib.suppress(self._pymysql.Error):  # there is no such view before 10.5
                found = self._query(
                    "select constraint_schema, table_name, constraint_name"
                    " from information_schema.check_constraints where level = 'Column'"
                    " and check_clause = concat('json_valid(`', constraint_name, '`)')"
                    " and (constraint_schema, table_name) in %s",
                    these,
                )
                about.update(((db, table, column), "json") for db, table, column in found)
        return about

    def _count(self, table: tuple[str, ...]) -> int | None:
        found = self._query(
            "select table_rows from information_schema.tables"
            " where table_schema = coalesce(%s, database()) and table_name = %s",
            table[0] if len(table) > 1 else None,
            table[-1],
        )
        return int(found[0][0]) if found and found[0][0] is not None else None

    # Rows

    def _query(self, statement: str, *params: object) -> Sequence[Sequence[Any]]:
        with self._conn.cursor() as cursor:
            cursor.execute(statement, params)
            found: Sequence[Sequence[Any]] = cursor.fetchall()
            return found

    def send(self, statement: str, shape: Shape) -> Rows:
        """Sets a statement going."""
        self._answer, self._is_busy = None, True
        try:
            self._conn.query(statement, unbuffered=True)
        except self._pymysql.Error:
            self._is_busy = False
            raise
        self._take_over(self._conn._result)
        self._answer = Rows(self._connected, shape.convert, self._raise)
        return self._answer

    def _take_over(self, found: Any) -> None:
        """What follows the columns of an answer is read here."""
        found.unbuffered_active = False
        found.connection = None
        self._conn._result = None

    @property
    def _connected(self) -> Wire:
        assert self._wire is not None, "connect() comes first"
        return self._wire

    def _raise(self, packet: bytes) -> None:
        self._pymysql.err.raise_mysql_exception(packet)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Errors of the server as those of this program."""
        try:
            yield
        except OSError as exc:
            raise LostError(f"the connection was lost: {exc}") from exc
        except self._pymysql.Error as exc:
            words, number = _words(exc), _number(exc)
            if number in _LOST or isinstance(exc, self._pymysql.InterfaceError):
                raise LostError(words) from exc
            if number in _TIMED_OUT and self._timeout is not None:
                raise InputError(
                    f"{what}: took longer than {self._timeout:g} s; give it more with"
                    " --query-timeout, or read in pages with --page-key"
                ) from exc
            if number in _NO_TABLE:
                raise InputError(
                    f"{what}: {words}; name another with --source-table, or mend --query"
                ) from exc
            if number in _NO_DATABASE:
                raise ConfigError(f"{what}: {words}; {_EXAMPLE}") from exc
            if number in _DENIED:
                raise ConfigError(f"{what}: {words}; grant select, or give another user") from exc
            if number in _USAGE:
                raise UsageError(
                    f"{what}: {words}; mend --query, --params, --page-key or --after"
                ) from exc
            raise InputError(f"{what}: {words}; mend that, and read again") from exc


def _connection(name: str, address: str) -> dict[str, Any]:
    """What PyMySQL is to be given. ConfigError, without the password, for other addresses."""
    try:
        parts = urlsplit(address)
        port = parts.port or 0
        more = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError(f"{name}: the address cannot be read; {_EXAMPLE}") from None
    tls = more.pop("ssl-mode", "preferred").lower()
    ca = more.pop("ssl-ca", None)
    path = more.pop("unix_socket", None)
    if more or tls not in _TLS:
        strange = next(iter(more), f"ssl-mode={tls}")
        raise ConfigError(
            f"{name}: the address has {strange}; known are unix_socket, ssl-ca and ssl-mode"
            f" ({', '.join(_TLS)})"
        )
    options: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": port,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password or "").encode(),
        "database": unquote(parts.path.removeprefix("/")) or None,
        "unix_socket": path,
        "charset": "utf8mb4",
        "connect_timeout": _CONNECT_S,
        "program_name": "artist-bio-gen",
        "autocommit": True,
    }
    if tls == "disabled":
        options["ssl_disabled"] = True
    elif tls != "preferred" or ca:
        options["ssl_ca"] = ca
        options["ssl_verify_cert"] = tls in ("verify_ca", "verify_identity")
        options["ssl_verify_identity"] = tls == "verify_identity"
        options["ssl"] = None if ca or tls != "required" else {"verify_mode": False}
    return options


def _keep_alive(sock: socket.socket) -> None:
    """A peer that vanished must be noticed; in seconds."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _select(rest: str) -> str:
    return f"select * from {rest}"  # noqa: S608 - names in it are quoted by `identifier`


# Cells


def _origin(field: Any) -> tuple[str, str, str]:
    """Database, table and column from which it comes; empty where it is calculated."""
    return field.db.decode(), field.org_table, field.org_name


def _column(field: Any, about: Mapping[tuple[str, str, str], str]) -> Column:
    whole = about.get(_origin(field))
    name = _NAMES.get(field.type_code, "unknown")
    if whole is None and field.charsetnr == _BINARY and field.type_code in _TEXTS:
        name = {"varchar": "varbinary", "char": "binary"}.get(name, "blob")
    return Column(field.name, whole or name, not field.flags & _NOT_NULL)


def _converted(field: Any, about: Mapping[tuple[str, str, str], str]) -> Convert:
    kind = field.type_code
    if kind in _INTS:
        return int
    if kind in _FLOATS:
        return _float
    if kind == _TIMESTAMP:
        return _timestamp
    if kind in (_TIME, _DATETIME):
        return _moment
    if kind == _BIT:
        return _bits
    if kind == _JSON or about.get(_origin(field)) == "json":
        return orjson.loads
    if kind == _GEOMETRY or (kind in _TEXTS and field.charsetnr == _BINARY):
        return _binary
    return bytes.decode


def _is_vague(field: Any) -> bool:
    kind = field.type_code
    binary = kind in _TEXTS and field.charsetnr == _BINARY
    return binary or kind in _FLOATS or kind in (_TIMESTAMP, _GEOMETRY, _JSON)


def _float(data: bytes) -> Json:
    return json_cell(float(data))


def _bits(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _binary(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _moment(data: bytes) -> str:
    """A datetime or time as Python writes it too. What is no moment of a day (25:00:00, a month
    00) stays as it is but for its form."""
    whole, _, fraction = data.decode("ascii").replace(" ", "T").partition(".")
    return f"{whole}.{fraction:0<6}" if fraction.strip("0") else whole


def _timestamp(data: bytes) -> str:
    told = _moment(data)
    return told if told.startswith("0000-00-00") else f"{told}+00:00"


def _number(exc: Exception) -> int:
    return exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0


def _words(exc: Exception) -> str:
    told = exc.args[-1] if exc.args else exc
    return mask_passwords(str(told))
