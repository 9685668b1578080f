"""What Postgres sends, as cells. Most of it is text as it comes, which costs least."""

from __future__ import annotations

import base64
import re

import orjson
import psycopg
from psycopg import pq
from psycopg.abc import Buffer, Transformer
from psycopg.adapt import Loader
from psycopg.types.string import TextLoader

from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.sources.databases.queries import Flaw
from artist_bio_gen.values import Json

SETTINGS = (
    "set client_encoding = 'UTF8'; set datestyle = 'ISO'; set intervalstyle = 'iso_8601';"
    " set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = 'hex'"
)
"""What the loaders here rely on."""

# psycopg would make objects of these; their text is what a cell holds.
_AS_TEXT = (
    *("uuid", "numeric", "date", "interval", "inet", "cidr", "record", "hstore"),
    *("int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange"),
    *("datemultirange", "tsmultirange", "tstzmultirange"),
)
_CLOCK = re.compile(r"(?:([\d-]+) )?(\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([+-]\d\d)(:\d\d)?)?")


class _Clock(Loader):
    """Times and timestamps, as Python writes them too; `infinity` and years before Christ stay
    the text that they are."""

    def load(self, data: Buffer) -> str:
        text = str(data, "ascii")
        match = _CLOCK.fullmatch(text)
        if match is None:
            return text
        day, clock, fraction, hours, minutes = match.groups()
        told = f"{day}T{clock}" if day else clock
        if fraction:
            told += f".{fraction:0<6}"
        return f"{told}{hours}{minutes or ':00'}" if hours else told


class _Utf8(Loader):
    def load(self, data: Buffer) -> str:
        return str(data, "utf-8")


class _Float(Loader):
    def load(self, data: Buffer) -> Json:
        return json_cell(float(data))


class _Binary(Loader):
    def load(self, data: Buffer) -> str:
        return base64.b64encode(bytes.fromhex(str(data, "ascii")[2:])).decode("ascii")


class _Json(Loader):
    def load(self, data: Buffer) -> Json:
        return orjson.loads(bytes(data))


def load_as_cells(conn: psycopg.Connection) -> None:
    """From now on this connection's values are cells."""
    adapters = conn.adapters
    text: type[Loader] = TextLoader
    if conn.info.parameter_status("server_encoding") == "SQL_ASCII":
        # It holds any bytes, and would fail as a whole over one that is no UTF-8.
        conn.execute("set client_encoding = 'SQL_ASCII'")
        text = _Utf8
        for type_name in ("text", "varchar", "bpchar", "name"):
            adapters.register_loader(type_name, text)
        adapters.register_loader(0, text)  # of whatever else
    for name in _AS_TEXT:
        if adapters.types.get(name) is not None:
            adapters.register_loader(name, text)
    for name in ("time", "timetz", "timestamp", "timestamptz"):
        adapters.register_loader(name, _Clock)
    for name in ("float4", "float8"):
        adapters.register_loader(name, _Float)
    for name in ("json", "jsonb"):
        adapters.register_loader(name, _Json)
    adapters.register_loader("bytea", _Binary)


def cells(
    loader: Transformer, found: pq.abc.PGresult, start: int, end: int
) -> tuple[list[tuple[Json, ...] | Flaw], bool]:
    """Rows of a result, and whether there are any among them that cannot be read."""
    try:
        return loader.load_rows(start, end, tuple), False
    except (ValueError, psycopg.DataError):
        pass
    rows: list[tuple[Json, ...] | Flaw] = []
    for row in range(start, end):
        try:
            rows += loader.load_rows(row, row + 1, tuple)
        except (ValueError, psycopg.DataError) as exc:
            rows.append(_flaw(found, row, exc))
    return rows, True


def _flaw(found: pq.abc.PGresult, row: int, exc: Exception) -> Flaw:
    seen = [found.get_value(row, at) for at in range(found.nfields)]
    shown = ", ".join("" if cell is None else cell.decode("utf-8", "replace") for cell in seen)
    if isinstance(exc, UnicodeDecodeError):
        return Flaw(f"a text that is no UTF-8 ({exc.reason}); mend it in the database", shown)
    return Flaw(f"a cell cannot be read: {exc}; mend it, or read another form in --query", shown)
