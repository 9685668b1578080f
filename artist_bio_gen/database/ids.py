"""Ids in the type of a table's id column, so that `007` and `7` are one artist where the
database thinks so, and two where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from artist_bio_gen.errors import ConfigError

SUPPORTED = "smallint, integer, bigint, numeric without decimals, uuid, text, varchar and char"
"""Types of an id column, for messages."""

_INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_NUMERIC_DIGITS = 131_072  # before the decimal point, where the type says nothing
_NUMERIC = re.compile(r"numeric(?:\(([0-9]+),0\))?")
_TEXT = re.compile(r"text|bpchar|character(?: varying)?(?:\(([0-9]+)\))?")

_WHOLE_NUMBER = re.compile(r"([+-]?)([0-9]+)")
# Postgres takes a hyphen after any four digits, and braces.
_UUID = re.compile(r"(\{)?((?:[0-9a-f]{4}-?){7}[0-9a-f]{4})(?(1)\})", re.IGNORECASE)

_SHOWN = 60  # characters of a refused id that a message repeats


@dataclass(frozen=True, slots=True)
class IdKind:
    """The type of an id column. `sql_type` is safe to stand in SQL, as in a cast.

    `canonical` gives the text by which ids are compared: that of the value when Postgres casts
    it to text. Two ids are the same for the column (a text column's collation being a
    deterministic one) exactly when their canonical texts are the same. It raises `ValueError`
    with the reason for text that the column cannot hold.
    """

    sql_type: str
    canonical: Callable[[str], str]

    @classmethod
    def of(cls, sql_type: str, *, table: str, column: str) -> IdKind:
        """The kind for a type as Postgres spells it in `format_type(atttypid, atttypmod)`.

        `table` and `column` are for the message of the `ConfigError` that an unsupported type
        raises. A domain is told by the type on which it is based.
        """
        if sql_type in _INTEGER_BITS:
            return cls(sql_type, _integers(sql_type, _INTEGER_BITS[sql_type]))
        if found := _NUMERIC.fullmatch(sql_type):
            # One without a scale could hold 1.5 and 1.50, two spellings of one id; but whole
            # numbers too long for a bigint are what such columns are used for.
            return cls(sql_type, _numerics(sql_type, int(found[1] or _NUMERIC_DIGITS)))
        if sql_type == "uuid":
            return cls(sql_type, _uuid)
        if found := _TEXT.fullmatch(sql_type):
            padded = sql_type != "text" and "varying" not in sql_type
            length = int(found[1]) if found[1] else 1 if sql_type == "character" else None
            return cls(sql_type, _texts(sql_type, length, padded))
        raise ConfigError(
            f"{table}.{column} is of type {sql_type}, which is not supported for ids;"
            f" an id column may be {SUPPORTED}: give another table with --table"
        )


def _whole_number(text: str) -> str:
    found = _WHOLE_NUMBER.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{_shown(text)} is no whole number")
    digits = found[2].lstrip("0") or "0"
    return f"-{digits}" if found[1] == "-" and digits != "0" else digits


def _integers(sql_type: str, bits: int) -> Callable[[str], str]:
    bound = 2 ** (bits - 1)
    longest = len(str(-bound))

    def canonical(text: str) -> str:
        number = _whole_number(text)
        if len(number) > longest or not -bound <= int(number) < bound:
            raise ValueError(f"{_shown(text)} is out of the range of {sql_type}")
        return number

    return canonical


def _numerics(sql_type: str, digits: int) -> Callable[[str], str]:
    def canonical(text: str) -> str:
        number = _whole_number(text)
        if len(number.removeprefix("-")) > digits:
            raise ValueError(f"{_shown(text)} has more digits than {sql_type} takes")
        return number

    return canonical


def _uuid(text: str) -> str:
    found = _UUID.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{_shown(text)} is no UUID")
    digits = found[2].replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _texts(sql_type: str, length: int | None, padded: bool) -> Callable[[str], str]:
    def canonical(text: str) -> str:
        if "\x00" in text or not _is_utf8(text):
            raise ValueError(f"{_shown(text)} holds a character that Postgres cannot store")
        # A char(n) is padded with spaces, and loses them all when it is cast to text.
        value = text.rstrip(" ") if padded else text
        if not value:
            raise ValueError("it is empty")
        if length is not None and len(value) > length:
            raise ValueError(f"{_shown(text)} is longer than {sql_type} takes")
        return value

    return canonical


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
