"""What a cell may be: None, bool, int, float, str, and lists and mappings of these.

Text stays text. Anything else that a database, a workbook or a library gives becomes what JSON
can hold, without loss where that can be had.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from artist_bio_gen.values import Json

LEAST_INT = -(2**63)
MOST_INT = 2**64 - 1
"""What JSON's users (orjson, Postgres, Arrow) take as a number, signed or unsigned."""

_MOST_ZEROS = 200_000
"""More than Postgres' numeric can have; of 1E+999999999 the digits alone would be a gigabyte."""


def json_cell(value: Any) -> Json:
    """The value as a cell.

    Dates, times and spans of time become ISO 8601 text, decimals and integers beyond 64 bits the
    text of their digits, bytes base64, NaN and infinities their names; the missing values of
    pandas become None, numpy's scalars and arrays what they hold, anything else its text.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return value if LEAST_INT <= value <= MOST_INT else str(value)
    if kind is float:
        return value if math.isfinite(value) else _name_of(value)
    if kind is list or kind is tuple:
        return list(map(json_cell, value))
    if kind is dict:
        return {_key(name): json_cell(cell) for name, cell in value.items()}
    return _other(value)


def json_cells(values: Iterable[Any]) -> tuple[Json, ...]:
    """A row of values as cells."""
    return tuple(map(json_cell, values))


def span_text(microseconds: int) -> str:
    """A span of time as ISO 8601 has it, in days and smaller: P1DT6H. These do not depend on a
    calendar, as months and years would."""
    sign = "-" if microseconds < 0 else ""
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    parts = ((hours, "H"), (minutes, "M"))
    time = "".join(f"{number}{unit}" for number, unit in parts if number)
    if seconds or fraction:
        time += f"{seconds}{fraction}S"
    day = f"{days}D" if days else ""
    return f"{sign}P{day}T{time}" if time else f"{sign}P{day or 'T0S'}"


def decimal_text(value: Decimal) -> str:
    """The digits of a decimal, with as many of them behind the point as it has; never 1E+3."""
    if value.is_nan():
        return "NaN"
    if value.is_infinite():
        return _name_of(float(value))
    return format(value, "f") if abs(value.adjusted()) < _MOST_ZEROS else str(value)


def binary_text(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode("ascii")


def _other(value: Any) -> Json:
    """What is none of the usual types by its very type."""
    match value:
        case dt.datetime() | dt.date() | dt.time():
            # The missing date of pandas (NaT) is a datetime that does not equal itself.
            return value.isoformat() if value == value else None
        case dt.timedelta():
            return span_text(value // dt.timedelta(microseconds=1)) if value == value else None
        case Decimal():
            return decimal_text(value)
        case bytes() | bytearray() | memoryview():
            return binary_text(value)
        case bool():
            return bool(value)
        case str():
            return str.__str__(value)
        case int():
            return json_cell(int(value))
        case float():
            return json_cell(float(value))
        case Mapping():
            return {_key(name): json_cell(cell) for name, cell in value.items()}
        case Sequence() | set() | frozenset():
            return list(map(json_cell, value))
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # of numpy
        if value.dtype.kind in "Mm":  # finer than microseconds, it would give bare numbers
            value = value.astype(f"{value.dtype.kind}8[us]")
        held = value.tolist()
        return str(value) if type(held) is type(value) else json_cell(held)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return str(value)


def _key(name: Any) -> str:
    if type(name) is str:
        return name
    cell = json_cell(name)
    return cell if isinstance(cell, str) else str(cell)


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
