"""A file that is one array of objects: read object by object, in bounded memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from artist_bio_gen.config.source import Schema
from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources.text.encodings import encoding_of, sample_of, shown, unsound
from artist_bio_gen.sources.text.json_rows import Keys, Object, one_object
from artist_bio_gen.sources.text.lines import BLOCK, beginning
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Json

LONGEST = 16 * 1024 * 1024
"""Characters of the longest object."""

LOOKED_AT = 1_000
"""Rows at the beginning whose keys are the columns."""

_SPACE = re.compile(r"[ \t\r\n]*")


class _NotYet(Exception):
    """What comes next has perhaps not arrived, while there are rows to give."""


_Parsed: TypeAlias = tuple[int, Object | BadRow]


def is_array(file: io.BufferedReader[Any]) -> bool:
    """Whether a file, of which nothing is read yet, begins as an array of objects."""
    text = file.peek().removeprefix(b"\xef\xbb\xbf").lstrip()
    return text[:1] == b"[" and text[1:].lstrip()[:1] in (b"{", b"]", b"")


class JsonArrayStream(RowStream):
    """Rows of a file that holds one array of objects; see `JsonLinesStream`. `number` of a row is
    the line on which its object begins.

    What in the array is no object, or none that can be taken, is a `BadRow`. Where it is no JSON,
    nobody can tell where the next object begins: there, reading ends with an `InputError`.
    """

    def __init__(
        self,
        file: io.BufferedReader[Any],
        *,
        name: str,
        size: int | None = None,
        encoding: str | None = None,
        schema: Schema = "union",
        skip_rows: int = 0,
        longest: int = LONGEST,
        can_wait: bool = True,
        again: Callable[[], io.BufferedReader[Any]] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        if skip_rows:
            raise UsageError(f"--skip-rows: {name} is one array of JSON, which has no header")
        self.name = name
        self.can_wait = can_wait
        self.grows = schema == "union"
        self._file = file
        self._longest = longest
        self._cancelled = cancelled
        self._data = start = beginning(file)
        self._encoding = encoding_of(
            start, encoding, name=name, sample=lambda: sample_of(again, start)
        )
        self._decode = self._encoding.decoder()
        self._end_of = json.JSONDecoder(strict=False).raw_decode
        self._keys = Keys(schema)
        self._parsed: list[_Parsed] = []  # and not given yet
        self._text = ""  # what is read
        self._at = 0  # and where in it that begins which is not parsed
        self._done_with = 0  # characters before it
        self._number = 1  # line on which the next character stands
        self._ended = self._over = False  # the file; the array
        self._begun = False  # whether a value stands before this
        self._may_wait = True
        while "[" not in self._text:
            if not self._more():
                raise self._damaged(0, f"as {self._encoding.name} it is none")
        self._at = self._text.index("[") + 1
        self._begin(LOOKED_AT if schema == "strict" else 1)
        if size:
            per_row = (self._done_with + self._at) / len(self._parsed)
            self.estimated_row_count = max(len(self._parsed), round(size / per_row))

    def facts(self) -> dict[str, Json]:
        return {**self._encoding.facts(), "array": True}

    def read(self, size: int) -> Chunk | None:
        self._parse(size, least=1)
        if not self._parsed:
            return None
        chunk = self._chunk(self._parsed[:size])
        del self._parsed[:size]
        return chunk

    def close(self) -> None:
        self._file.close()

    def _chunk(self, parsed: list[_Parsed]) -> Chunk:
        sound = [(number, row) for number, row in parsed if not isinstance(row, BadRow)]
        return Chunk(
            self._keys.names,
            [number for number, _ in sound],
            dicts=[row for _, row in sound],
            bad=[row for _, row in parsed if isinstance(row, BadRow)],
        )

    def _begin(self, rows: int) -> None:
        self._parse(LOOKED_AT, least=rows)
        if not self._parsed:
            raise InputError(f"{self.name} is an empty array; it needs an object for each artist")
        self._keys.close()
        self.columns = self._keys.columns

    # Reading

    def _parse(self, most: int, *, least: int) -> None:
        """Has rows in hand, at most so many; waits only for the first ones."""
        while not self._over and len(self._parsed) < most:
            self._may_wait = len(self._parsed) < least
            try:
                parsed = self._next()
            except _NotYet:
                break
            except InputError:
                if self._may_wait:
                    raise
                break  # it is raised once more when the rows before it are given
            if parsed is None:
                self._over = True
            else:
                self._parsed.append(parsed)
        self.columns = self._keys.columns

    def _next(self) -> _Parsed | None:
        """The next object; None behind the last one. Nothing is done with before all is."""
        if self._at > BLOCK:
            self._text, self._done_with = self._text[self._at :], self._done_with + self._at
            self._at = 0
        begins = self._place_from(self._at)
        if self._begun and self._text[begins : begins + 1] == ",":
            begins = self._place_from(begins + 1)
        elif self._begun and self._text[begins : begins + 1] != "]":
            raise self._damaged(begins, "a comma or ] is missing")
        if self._text[begins : begins + 1] == "]":
            return None
        ends = self._end_from(begins)
        number = self._number + self._text.count("\n", self._at, begins)
        parsed = number, self._row(self._text[begins:ends], number)
        self._number += self._text.count("\n", self._at, ends)
        self._at = ends
        self._begun = True
        return parsed

    def _row(self, text: str, number: int) -> Object | BadRow:
        found = one_object(text.encode("utf-8", "surrogatepass"))
        if isinstance(found, dict) and not self._keys.take([found]):
            found = self._keys.late_in(found)
        if isinstance(found, dict):
            return found
        if flaw := unsound(text, self._encoding.name):
            found = f"{flaw} stands in it; mend it, or give the file's encoding with --encoding"
        return BadRow(number, found, shown(text))

    def _place_from(self, at: int) -> int:
        """Where the next character that is no white space stands; behind all at the end."""
        while True:
            found = _SPACE.match(self._text, at)
            assert found is not None
            at = found.end()
            if at < len(self._text) or not self._more():
                return at

    def _end_from(self, begins: int) -> int:
        """Behind the value that begins there."""
        while True:
            reason = "it ends within the array"
            try:
                _, ends = self._end_of(self._text, begins)
                # Numbers may go on; all else shows its end.
                if ends < len(self._text) or self._text[begins] in '{["':
                    return int(ends)
            except RecursionError:
                reason = "lists in lists without end"
            except json.JSONDecodeError as exc:
                reason = exc.msg
            if len(self._text) - begins > self._longest:
                reason = f"more than {self._longest:,} characters hold no whole object ({reason})"
                raise self._damaged(begins, reason)
            if not self._more():
                raise self._damaged(begins, reason)

    def _more(self) -> bool:
        """Reads on; False at the end. As much as there is, so that an object that is looked at anew
        with each piece costs no more than twice its length."""
        if self._ended:
            return False
        if not self._may_wait:
            raise _NotYet
        if self._cancelled():
            raise StoppedError
        with self._encoding.told(self.name):
            if not self._data:
                self._data = self._file.read1(max(BLOCK, len(self._text) - self._at))
            ended = not self._data
            self._text += self._decode(self._data, ended)
        self._data, self._ended = b"", ended
        return True

    def _damaged(self, at: int, reason: str) -> InputError:
        line = self._number + self._text.count("\n", self._at, at)
        return InputError(
            f"{self.name} line {line:,}: the array cannot be read on: {reason}; the rows before it"
            " stand. Mend it, or write an object on each line, without the array: JSON Lines"
        )
