"""JSON Lines as a lazy stream: an object on each line, nested values kept; damage costs the line
in which it stands."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from artist_bio_gen.config.source import Schema, SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.content import Content, reader_of
from artist_bio_gen.sources.text.encodings import encoding_of, sample_of, shown, unsound
from artist_bio_gen.sources.text.json_array import JsonArrayStream, is_array
from artist_bio_gen.sources.text.json_rows import Keys, Object, objects, one_object
from artist_bio_gen.sources.text.lines import BLOCK, Lines, at_once, beginning
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Json

LONGEST = 16 * 1024 * 1024
"""Characters of the longest line."""

LOOKED_AT = 1_000
"""Lines at the beginning whose keys are the columns."""

_MOST_LOOKED_AT = 16 * 1024 * 1024  # characters

_Parsed: TypeAlias = tuple[int, Object | BadRow]


def open_jsonl(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool]
) -> JsonLinesStream | JsonArrayStream:
    """Rows of JSON Lines, or of a file that is one array of objects. Raises `InputError` when
    nothing can be read."""
    with reader_of(content) as file:
        stream = JsonArrayStream if is_array(file) else JsonLinesStream
        return stream(
            file,
            name=content.name,
            size=content.size,
            encoding=options.encoding,
            schema=options.schema,
            skip_rows=options.skip_rows,
            can_wait=content.can_wait,
            again=content.open if content.again else None,
            cancelled=cancelled,
        )


class JsonLinesStream(RowStream):
    """Rows of a file that holds an object on each line; each row has the keys of its object.

    The columns are the keys of the rows that arrive first, in the order in which they turn up.
    With the schema `union`, those that turn up later are added at the end. With `strict`, a row
    that brings one is a bad one, and the first `LOOKED_AT` lines are waited for.

    `file`, `size` and `again` are those of `DelimitedStream`; `skip_rows` lines at the beginning
    are passed over.
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
        self.name = name
        self.can_wait = can_wait
        self.grows = schema == "union"
        self._file = file
        self._longest = longest
        self._at_hand = again is not None
        start = beginning(file)
        self._encoding = encoding_of(
            start, encoding, name=name, sample=lambda: sample_of(again, start)
        )
        self._lines = Lines(
            file,
            self._encoding,
            name=name,
            longest=longest,
            start=start,
            ends="\n",
            kind="JSON Lines",
            cancelled=cancelled,
        )
        self._keys = Keys(schema)
        self._number = 0  # of the last line that was parsed or passed over
        # What was read and is not given yet.
        self._numbers: Sequence[int] = ()
        self._rows: list[Object] = []
        self._parsed: list[_Parsed] = []
        self._texts: deque[str] = deque()
        self._begin(skip_rows, LOOKED_AT if schema == "strict" else 1)
        lines = max(1, start.count(b"\n") + (not start.endswith(b"\n")))
        self._bytes_per_row = len(start) / lines
        if size:
            self.estimated_row_count = max(0, round(size / self._bytes_per_row) - skip_rows)

    def facts(self) -> dict[str, Json]:
        return self._encoding.facts()

    def read(self, size: int) -> Chunk | None:
        while not self._rows and not self._parsed:
            if not self._load(self._at_once(size)):
                return None
        if self._parsed:
            chunk = self._chunk(self._parsed[:size])
            del self._parsed[:size]
        elif len(self._rows) <= size:
            chunk = Chunk(self._keys.names, self._numbers, dicts=self._rows)
            self._rows = []
        else:
            chunk = Chunk(self._keys.names, self._numbers[:size], dicts=self._rows[:size])
            self._numbers, self._rows = self._numbers[size:], self._rows[size:]
        return chunk

    def _chunk(self, parsed: list[_Parsed]) -> Chunk:
        numbers: list[int] = []
        rows: list[Object] = []
        bad: list[BadRow] = []
        for number, row in parsed:
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                numbers.append(number)
                rows.append(row)
        return Chunk(self._keys.names, numbers, dicts=rows, bad=bad)

    def close(self) -> None:
        self._file.close()

    # Opening

    def _begin(self, skipped: int, lines: int) -> None:
        """Reads until there is a row, and at least so many lines; their keys are the columns."""
        text = self._behind(skipped)
        while text.count("\n") < lines and len(text) < _MOST_LOOKED_AT:
            more = self._lines.block()
            if not more:
                break
            text += more
        if lines > 1:
            first = "".join(f"{line}\n" for line in text.split("\n", lines)[:lines])[: len(text)]
            self._texts.extend(filter(None, (first, text[len(first) :])))
        elif text:
            self._texts.append(text)
        while not self._rows and all(isinstance(row, BadRow) for _, row in self._parsed):
            if len(self._parsed) >= LOOKED_AT or not self._load(BLOCK):
                raise self._nothing()
        self._keys.close()

    def _behind(self, skipped: int) -> str:
        text = ""
        while self._number < skipped:
            text = self._lines.block()
            if not text:
                raise InputError(
                    f"{self.name} has only {self._number:,} lines; give fewer as --skip-rows"
                )
            some = text.split("\n", skipped - self._number)
            text = some.pop()
            self._number += len(some)
        return text

    def _nothing(self) -> InputError:
        if not self._parsed:
            return InputError(f"{self.name} is empty; it needs a row for each artist")
        _, bad = self._parsed[0]
        assert isinstance(bad, BadRow)
        return InputError(
            f"{self.name} line {bad.number:,}: {bad.reason}; none of the"
            f" {len(self._parsed):,} lines at its beginning is a row. Is it JSON Lines?"
        )

    # Reading

    def _at_once(self, rows: int) -> int:
        return at_once(rows, self._bytes_per_row) if self._at_hand else BLOCK

    def _load(self, size: int) -> bool:
        """Parses the next lines; False at the end."""
        if not self._texts:
            text = self._lines.block(size)
            if not text:
                return False
            self._texts.append(text)
        # Undecodable bytes stand in it as what no JSON may hold.
        data = self._texts[0].encode("utf-8", "surrogatepass")
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        rows = objects(lines, data, self._keys) if len(data) <= self._longest else None
        first = self._number + 1
        if rows is not None:
            self._numbers, self._rows = range(first, first + len(lines)), rows
        else:
            self._parsed += [
                (number, row)
                for number, line in enumerate(lines, first)
                if (row := self._row(line, number)) is not None
            ]
        self._number += len(lines)
        self._texts.popleft()
        self.columns = self._keys.columns
        return True

    def _row(self, line: bytes, number: int) -> Object | BadRow | None:
        """None of a blank line."""
        if not line or line.isspace():
            return None
        found: Object | str
        text = ""
        if len(line) > self._longest:
            text = line.decode("utf-8", "surrogatepass")
        if len(text) > self._longest:
            found = f"longer than {self._longest:,} characters; shorten it"
        else:
            found = one_object(line)
        if isinstance(found, dict) and not self._keys.take([found]):
            found = self._keys.late_in(found)
        if isinstance(found, dict):
            return found
        text = text or line.decode("utf-8", "surrogatepass")
        if flaw := unsound(text, self._encoding.name):
            found = f"{flaw} stands in it; mend it, or give the file's encoding with --encoding"
        return BadRow(number, found, shown(text))
