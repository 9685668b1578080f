"""How many rows of a Parquet file are read at a time, so that they stay within bounds: a file of
4 kB may hold one text of a megabyte for each of a million rows.

Of a column with one value a row, the pages' headers tell how much a row takes. What lists and the
like take is told by nothing but what came before, so there a few rows are read at first, and then
more of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

from artist_bio_gen.errors import LimitError
from artist_bio_gen.sources.arrow.batches import arrow, damage
from artist_bio_gen.sources.arrow.pages import (
    DELTA_STRINGS,
    DICTIONARY,
    SHORT,
    NoPageError,
    Page,
    are_short,
    longest,
    pages,
)
from artist_bio_gen.stream import CHUNK

UNLIMITED = 2_000_000_000
"""Bytes that are reckoned with where no limit is set."""

_MB = 1_000_000
_SHARES = 4  # of a limit; what cannot be parted may take one of them in a column
_TOGETHER = 2  # and so many in all columns
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12}
_WIDTH = 8
_AS_OBJECT = 32  # bytes of a value in a list of Python's, at least
_AS_OBJECTS = 4  # times the memory of a batch that its rows take
_FEW = 16  # rows at first, where nothing tells how large they are


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes that the rows of one read may take, and that what cannot be parted may take in one
    column: the pages that are unpacked at once, or a row."""

    rows: int
    whole: int

    @classmethod
    def within(cls, limit_mb: int | None) -> Bounds:
        """Of a limit for the whole process, in MB."""
        limit = UNLIMITED if limit_mb is None else limit_mb * _MB
        return cls(min(32 * _MB, limit // 16), limit // _SHARES)


class Rooms:
    """The room that there is for each row group."""

    def __init__(self, file: Any, source: Any, name: str, bounds: Bounds) -> None:
        """`file` is a pyarrow.parquet.ParquetFile, `source` the pyarrow.NativeFile that it reads,
        `name` the file's, for messages."""
        self._file = file
        self._source = source
        self._name = name
        self._bounds = bounds

    def of(self, group: int) -> Room:
        """LimitError when pages, or rows, are larger than can be held."""
        # Makes the columns' readers, and reads nothing. Where it is damaged what the file tells of
        # a column, that is an error here; asking for the `column` would end the process.
        next(self._file.reader.iter_batches(0, [group], use_threads=False), None)
        known = self._file.metadata.row_group(group)
        columns = [
            _column(self._source, known.column(at), self._file.schema.column(at))
            for at in range(known.num_columns)
        ]
        where = f"{self._name}: row group {group + 1}"
        self._require("unpacks to {} at once", where, [each.at_once for each in columns], columns)
        worded = [each for each in columns if each.is_text and each.dictionary]
        if CHUNK * sum(each.longest for each in worded) > self._bounds.rows:
            for each in worded:
                each.longest = self._longest(each)
        rows = max(1, known.num_rows)
        lists = [each.most / rows if each.repeated else 0 for each in columns]
        self._require("has rows of {} on average", where, lists, columns)
        return Room(columns, self._bounds.rows)

    def _require(
        self, what: str, where: str, sizes: Sequence[float], columns: Sequence[_Column]
    ) -> None:
        size, largest = sum(sizes), max(sizes, default=0)
        wanted = max(largest, size / _TOGETHER)
        if wanted > self._bounds.whole:
            column = columns[sizes.index(largest)].name
            raise LimitError(
                f"{where} {what.format(_mb(size))}, {_mb(largest)} of it in column {column!r}; only"
                f" {_mb(_TOGETHER * self._bounds.whole)} may be held so, and"
                f" {_mb(self._bounds.whole)} of a column. Give --memory-limit"
                f" {int(_SHARES * wanted / _MB) + 1} or more, or write the file anew with smaller"
                " pages, or without that column"
            )

    def _longest(self, column: _Column) -> int:
        """Bytes of the longest text in its dictionary, at most; all of them where that cannot be
        unpacked, which the reading itself will tell."""
        page = column.dictionary
        assert page is not None
        data = self._source.read_at(page.packed, page.at)
        if column.packing != "UNCOMPRESSED":
            faults: tuple[type[Exception], ...] = (*damage(), MemoryError, ValueError)
            try:
                codec = arrow().Codec(_CODECS.get(column.packing, column.packing.lower()))
                data = codec.decompress(data, page.size, asbytes=True)
            except faults:
                return page.size
        return SHORT if are_short(data, page.values) else longest(data)


class Room:
    """For rows of one row group."""

    def __init__(self, columns: Sequence[_Column], most: int) -> None:
        """`most` are bytes that the rows of one read may take."""
        self._most = most
        self._untold = sum(each.most for each in columns if not each.told) > most
        self._last = _FEW // 2
        changes = sorted(chain.from_iterable(each.changes() for each in columns))
        self._starts = [row for row, _ in changes]
        self._rates = [*accumulate(change for _, change in changes)]
        self._highest = max(self._rates, default=0.0)

    def rows(self, at: int, wanted: int) -> int:
        """How many to read from this row of the group on (0 is its first), at most `wanted`."""
        if self._untold:
            wanted = min(wanted, 2 * self._last)
        if self._highest * wanted <= self._most:
            return wanted
        left = float(self._most)
        rows = 0
        for each in range(bisect_right(self._starts, at) - 1, len(self._starts)):
            end = self._starts[each + 1] if each + 1 < len(self._starts) else at + wanted
            fit = int(left / max(self._rates[each], 0.001))
            here = min(end - at, wanted) - rows
            rows += min(fit, here)
            left -= here * self._rates[each]
            if fit < here or rows >= wanted:
                break
        return max(1, rows)

    def took(self, rows: int, size: int) -> None:
        """So many rows were read, and took this many bytes."""
        if self._untold:
            fit = int(self._most / _AS_OBJECTS / max(1, size) * rows)
            self._last = max(1, min(rows, fit // 2))


@dataclass(slots=True)
class _Column:
    """What one column of a row group takes. `repeated`: a row may have several values. `parts`
    are pages, each with the row that it begins at."""

    name: str
    repeated: bool
    is_text: bool
    width: int
    packing: str
    parts: list[tuple[int, Page]] = field(default_factory=list)
    dictionary: Page | None = None
    longest: int = 0
    """Bytes of the longest text in the dictionary, at most."""
    at_once: int = 0
    """Bytes that its largest pages unpack to."""

    @property
    def told(self) -> bool:
        """Whether the rates are all there is to know."""
        return not self.repeated and not (
            self.is_text and any(page.encoding == DELTA_STRINGS for _, page in self.parts)
        )

    @property
    def most(self) -> float:
        """Bytes that all of its values may take."""
        least = _AS_OBJECT if self.repeated else 0
        return sum(max(least, self._most_of(page)) * page.values for _, page in self.parts)

    def changes(self) -> Iterator[tuple[int, float]]:
        """From which row on a row takes so many bytes more, or less."""
        before = 0.0
        for row, page in () if self.repeated else self.parts:
            rate = self._rate(page)
            if rate != before:
                yield row, rate - before
            before = rate

    def _rate(self, page: Page) -> float:
        """Bytes of a value."""
        if not self.is_text:
            return self.width
        if page.encoding in DICTIONARY:
            return self.longest
        return page.size / max(1, page.values)

    def _most_of(self, page: Page) -> float:
        """Bytes of a value. In this encoding each may repeat all of the one before."""
        if self.is_text and page.encoding == DELTA_STRINGS:
            return page.size
        return self._rate(page)


def _column(source: Any, chunk: Any, kind: Any) -> _Column:
    width = _WIDTHS.get(chunk.physical_type, _WIDTH)
    if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY":
        width = kind.length
    column = _Column(
        chunk.path_in_schema,
        kind.max_repetition_level > 0,
        chunk.physical_type == "BYTE_ARRAY",
        width,
        chunk.compression,
    )
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    row = largest = 0
    with suppress(NoPageError):  # damaged, which the reading itself will tell
        for page in pages(source.read_at, at, chunk.total_compressed_size):
            if page.is_dictionary:
                column.dictionary = page
                column.longest = column.at_once = page.size
                continue
            largest = max(largest, page.size)
            column.parts.append((row, page))
            row += page.values
    column.at_once += largest
    return column


_CODECS = {"LZ4": "lz4_raw"}
"""What Arrow calls them, where it is not by their name."""


def _mb(size: float) -> str:
    return f"{size / _MB:,.0f} MB"
