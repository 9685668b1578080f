"""The pages of a Parquet column, by their headers alone: what they unpack to, before that is done.

A page header is a struct of Thrift's compact protocol (parquet.thrift: PageHeader); here it is a
mapping of field numbers, as nothing else of that language is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""So many bytes, from this place on; fewer at the end of the file."""

PLAIN, DELTA_STRINGS = 0, 7
DICTIONARY = (2, 8)
"""Numbers of encodings (parquet.thrift: Encoding)."""

_HEAD = 256  # bytes that mostly hold a header
_LONGEST_HEAD = 1024 * 1024
_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3

_LENGTH = Struct("<I")
_PAIR = b"\0\0"
_STEP = 1024  # bytes in which there is such a pair
_MORE = 2  # pairs than values: an empty text has two, and so may a text with a NUL beside it

SHORT = (_MORE + 3) * _STEP
"""Bytes of a text that `are_short` tells of, at most: a value has a pair of its own for each step
that lies within it, but for its ends and the page's."""


class NoPageError(Exception):
    """What stands there is no page header."""


@dataclass(frozen=True, slots=True)
class Page:
    """`values` counts missing ones too; in a column of lists and the like there may be several in a
    row. `size` is in bytes as it unpacks, `packed` as it lies at `at`."""

    is_dictionary: bool
    values: int
    encoding: int
    size: int
    at: int
    packed: int


def pages(read: ReadAt, at: int, size: int) -> Iterator[Page]:
    """Those of a column chunk that lies there. NoPageError where something else stands."""
    end = at + size
    while at < end:
        header, length = _header(read, at)
        kind, unpacked, packed = (header.get(field) for field in (1, 2, 3))
        if not (type(kind) is type(unpacked) is type(packed) is int) or packed < 0:
            raise NoPageError
        at += length
        told = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_2: 8}.get(kind, 0))
        if isinstance(told, dict):
            values, encoding = told.get(1, 0), told.get(4 if kind == _DATA_2 else 2, PLAIN)
            if not (type(values) is type(encoding) is int):
                raise NoPageError
            yield Page(kind == _DICTIONARY, values, encoding, unpacked, at, packed)
        at += packed


def are_short(texts: bytes, values: int) -> bool:
    """Whether none of so many values, in a page of plain byte arrays, is longer than `SHORT`. They
    may be short where it says no; `longest` is ten times slower.

    The length of any value below 64 kiB ends with two zero bytes. Where there are such pairs
    everywhere, and hardly more than there are values, no value has many of them within it."""
    return texts.count(_PAIR) <= values + _MORE and all(
        texts.find(_PAIR, at, at + _STEP) >= 0 for at in range(0, len(texts) - _STEP, _STEP)
    )


def longest(texts: bytes) -> int:
    """Bytes of the longest value in a page of plain byte arrays: each has its length before it."""
    at = most = 0
    end = len(texts) - _LENGTH.size
    length_at = _LENGTH.unpack_from
    while at <= end:
        (length,) = length_at(texts, at)
        if length > most:
            most = length
        at += 4 + length
    return most


# Thrift's compact protocol


def _header(read: ReadAt, at: int) -> tuple[dict[int, Any], int]:
    """The header and its length in bytes."""
    size = _HEAD
    while True:
        data = read(size, at)
        try:
            return _struct(data, 0)
        except IndexError:
            if len(data) < size or size >= _LONGEST_HEAD:
                raise NoPageError from None
        size *= 16


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Fields by their number, and where the next thing stands. IndexError where data ends."""
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _whole(data, at)
        fields[number], at = _value(data, at, head & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind == 12 and depth < 8:
        return _struct(data, at, depth + 1)
    raise NoPageError  # no header has lists or maps


def _whole(data: bytes, at: int) -> tuple[int, int]:
    """A signed number, in zigzag."""
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise NoPageError
