"""Objects of JSON as rows: which keys are columns, and which objects are no rows."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import orjson

from artist_bio_gen.config.source import Schema
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.values import Column, Json

DEPTH = 100
"""Of lists and objects in a cell: what everybody can write again."""

Object: TypeAlias = dict[str, Json]

# Numbers of so many digits may be beyond 64 bits, and orjson makes floats of these.
_MANY = b"0" * 19
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONGEST_NUMBER = 20  # characters of what may be within 64 bits


class Keys:
    """The keys that rows may have: all of the first rows, and by the schema `union` those that turn
    up later, too."""

    def __init__(self, schema: Schema) -> None:
        self.columns: tuple[Column, ...] = ()
        self.names: tuple[str, ...] = ()
        self.grows = schema == "union"
        self._known: set[str] = set()
        self._open = True
        self._cells: Callable[[Object], tuple[Json, ...]] | None = None

    def close(self) -> None:
        """The first rows are read."""
        self._open = False

    def take(self, rows: Sequence[Object]) -> bool:
        """Whether all of these rows may have the keys that they have."""
        if self._known.issuperset(chain.from_iterable(rows)):
            return True
        if not self._open and not self.grows:
            return False
        late = [key for key in dict.fromkeys(chain.from_iterable(rows)) if key not in self._known]
        self._known.update(late)
        self.names += tuple(late)
        self.columns += tuple(Column(key, "json") for key in late)
        if len(self.names) > 1:
            self._cells = itemgetter(*self.names)
        return True

    def kinds(self, rows: Sequence[Any]) -> set[type] | None:
        """The types of the cells, when all rows have just the keys that are known; None where that
        is not so. Done for each row that is read, so in steps that the interpreter has no part in.
        """
        cells = self._cells
        if cells is None or {*map(len, rows)} != {len(self.names)}:
            return None
        try:
            # Where all cells are text, joining them tells it in half the time.
            deque(map("".join, map(cells, rows)), maxlen=0)
            return {str}
        except (KeyError, TypeError):
            pass
        try:
            return {*map(type, chain.from_iterable(map(cells, rows)))}
        except (KeyError, TypeError):  # another key; no object
            return None

    def late_in(self, row: Object) -> str:
        key = next(key for key in row if key not in self._known)
        return (
            f"has the key {key!r}, which the first rows do not have; take it out, or take all keys"
            " with --schema union"
        )


def objects(lines: Sequence[bytes], text: bytes, keys: Keys) -> list[Object] | None:
    """The objects on these lines, which make up `text`; None where one needs more care than that,
    or is none."""
    try:
        rows = [*map(orjson.loads, lines)]
        kinds = keys.kinds(rows)
    except (orjson.JSONDecodeError, TypeError):  # a number has no length
        return None
    if kinds is None:
        if {*map(type, rows)} != {dict} or not keys.take(rows):
            return None
        kinds = {*map(type, chain.from_iterable(map(dict.values, rows)))}
    if list in kinds or dict in kinds:
        # Each line opens one bracket. If all others stand on one line, how deep can it be?
        opened = _opened(text) - len(lines)
        if (opened > DEPTH and max(map(_opened, lines)) > DEPTH) or _may_be_long(text):
            return None
    return None if float in kinds and _may_be_long(text) else rows


def _may_be_long(text: bytes) -> bool:
    """Whether a number in it may be beyond 64 bits."""
    return _MANY in text.translate(_DIGITS)


def _opened(line: bytes) -> int:
    return line.count(b"{") + line.count(b"[")


def one_object(text: bytes) -> Object | str:
    """The object in this text, or why it holds none."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return f"is no JSON: {exc.msg} at character {exc.colno:,}; mend it"
    if not isinstance(found, dict):
        return f'holds {_kind_of(found)} where an object is wanted; write {{"column": value, …}}'
    if _opened(text) > DEPTH and depth_of(found) > DEPTH:
        return f"has lists or objects more than {DEPTH} deep; make it flatter"
    if _may_be_long(text):
        exact: Object = json.loads(text, parse_int=integer)
        return exact
    return found


def integer(digits: str) -> Json:
    """Beyond 64 bits, the text of its digits."""
    return digits if len(digits) > _LONGEST_NUMBER else json_cell(int(digits))


def depth_of(row: Object) -> int:
    """How deep the lists and objects in its cells are."""
    depth = 0
    level: list[Any] = [*row.values()]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [*chain.from_iterable(map(_inner, level))]
    return depth


def _inner(value: Any) -> Iterator[Any]:
    return iter(value.values()) if isinstance(value, dict) else iter(value)


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return "a number"
        case str():
            return "a text"
    return "a list"
