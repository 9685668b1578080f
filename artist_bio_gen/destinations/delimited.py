"""CSV and TSV as RFC 4180 has them, in UTF-8.

A missing cell and an empty text are the same there. Rows that begin with # or hold nothing are
quoted: to our own reader, and others, their lines would be comments, or none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

from artist_bio_gen.destinations.destination import Destination, Draft, text_of, unwritable
from artist_bio_gen.stream import Chunk, is_empty, names
from artist_bio_gen.values import Column, Json

_LINE_END = b"\r\n"
_FORMULA = frozenset("=+-@\t\r\n")
_AS_THEY_ARE = frozenset({str, int, type(None)})


class DelimitedDestination(Destination):
    """`safe_cells`: a text that a spreadsheet would take for a formula gets a quote before it."""

    def __init__(
        self, path: Path, columns: Sequence[Column], *, delimiter: str, safe_cells: bool
    ) -> None:
        self._columns = names(columns)
        self._delimiter = delimiter
        self._safe_cells = safe_cells
        self._guarded = 0
        self._parts: list[tuple[int, int]] = []
        """From which byte on rows have how many cells: more, when columns turn up late."""
        super().__init__(path)

    def notes(self) -> tuple[str, ...]:
        if not self._guarded:
            return ()
        told = f"{self._guarded:,} cells that begin like a formula were given a ' before them"
        return (f"{told}; --no-safe-cells writes them as they are",)

    def _begin(self) -> None:
        self._file = self._draft().file
        self._file.write(self._header())
        self._parts.append((self._file.tell(), len(self._columns)))

    def _add(self, chunk: Chunk) -> None:
        rows, guarded = self._safe(chunk.values())
        try:
            data = self._lines(rows)
        except UnicodeEncodeError as exc:
            raise unwritable(self.path, chunk, _encoded, exc) from exc
        if chunk.columns != self._columns:
            self._columns = chunk.columns
            self._parts.append((self._file.tell(), len(chunk.columns)))
        self._file.write(data)
        self._guarded += guarded

    def _finish(self) -> None:
        draft = self._drafts[0]
        if len(self._parts) > 1:
            self._file.flush()
            draft = self._widened(draft.path)
        draft.put_in_place()

    def _header(self) -> bytes:
        header, _ = self._safe([self._columns])
        return self._lines(header)

    def _safe(self, rows: Sequence[Sequence[Json]]) -> tuple[Sequence[Sequence[Json]], int]:
        """The rows with cells that the writer takes, and how many were given a quote."""
        if not set(map(type, chain.from_iterable(rows))) <= _AS_THEY_ARE:
            rows = [[*map(_text, row)] for row in rows]
        guarded = 0
        if self._safe_cells:
            guarded = sum(map(_is_formula, chain.from_iterable(rows)))
        if guarded:
            rows = [[f"'{cell}" if _is_formula(cell) else cell for cell in row] for row in rows]
        return rows, guarded

    def _lines(self, rows: Sequence[Sequence[Json]]) -> bytes:
        text = io.StringIO(newline="")
        end = _LINE_END.decode()
        plain = csv.writer(text, delimiter=self._delimiter, lineterminator=end)
        if any(map(_looks_odd, rows)):
            quoted = csv.writer(
                text, delimiter=self._delimiter, lineterminator=end, quoting=csv.QUOTE_ALL
            )
            for row in rows:
                (quoted if _looks_odd(row) else plain).writerow(row)
        else:
            plain.writerows(rows)
        return text.getvalue().encode()

    def _widened(self, old: Path) -> Draft:
        """The rows once more, under a header with all columns, and as wide as it is."""
        new = self._draft()
        new.file.write(self._header())
        with old.open("rb") as file:
            file.seek(self._parts[0][0])
            for (begin, width), (end, _) in pairwise([*self._parts, (old.stat().st_size, 0)]):
                cells = self._delimiter.encode() * (len(self._columns) - width)
                for row in _rows_of(file, end - begin):
                    new.file.write(row + cells + _LINE_END)
        return new


def _rows_of(file: io.BufferedReader, size: int) -> Iterator[bytes]:
    """The rows in so many bytes, without their ends. A line that ends within quotes, which are
    those with an odd number of them before it, is not the end of its row."""
    row: list[bytes] = []
    quotes = 0
    while size > 0:
        line = file.readline()
        size -= len(line)
        quotes += line.count(b'"')
        row.append(line)
        if quotes % 2 == 0:
            yield b"".join(row).removesuffix(_LINE_END)
            row.clear()


def _is_formula(cell: Json) -> bool:
    return type(cell) is str and cell[:1] in _FORMULA


def _looks_odd(row: Sequence[Json]) -> bool:
    """Whether readers might take its line for a comment or an empty one."""
    first = row[0] if row else None
    if first is None or first == "" or (type(first) is str and first.isspace()):
        return all(map(is_empty, row))
    return type(first) is str and first[0] == "#"


def _text(cell: Json) -> Json:
    return cell if cell is None or type(cell) in (str, int) else text_of(cell)


def _encoded(cell: Json) -> bytes:
    return str(_text(cell)).encode()
