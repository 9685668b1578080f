"""Workbooks (.xlsx): texts as texts, whatever they begin with, on as many sheets as the rows need.

Written by ourselves (ECMA-376, part 1, 18.3): the packages that write a sheet row by row want all
sheets before the first row, or take several times as long. Nothing has a format, and texts stand in
their cells, not in a table of shared ones, which would have to be kept in memory.
"""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from artist_bio_gen.destinations.destination import Destination, text_of, unwritable
from artist_bio_gen.errors import UsageError
from artist_bio_gen.stream import Chunk, names
from artist_bio_gen.values import Column, Json, path_text

MOST_ROWS = 1_048_576
"""Of a sheet, header included."""

MOST_COLUMNS = 16_384
LONGEST_TEXT = 32_767
"""Of a cell, in units of UTF-16."""

MOST_BYTES = 2**31 - 2**20
"""Of a sheet before it is packed: beyond it is an archive of a kind that Excel offers to repair."""

_EXACT = 2**53  # numbers of a workbook are floating ones: whole ones beyond this would lose digits
_LEVEL = 1  # of compression: 6 takes three times as long for a tenth less

# What XML takes for itself or cannot hold, and what would be taken for such an escape.
_UNSAFE = re.compile("[&<>\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


class XlsxDestination(Destination):
    """A further sheet is begun when one is full, and when columns turn up that its header has
    not."""

    def __init__(
        self, path: Path, columns: Sequence[Column], *, most_rows: int = MOST_ROWS
    ) -> None:
        self._columns = names(columns)
        self._most_rows = most_rows
        self._sheets = 0
        self._opened: list[IO[bytes] | zipfile.ZipFile] = []
        super().__init__(path)

    def abort(self) -> None:
        # Else they would try to write their ends when they are collected.
        for each in reversed(self._opened):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                each.close()
        super().abort()

    def notes(self) -> tuple[str, ...]:
        if self._sheets == 1:
            return ()
        return (f"the rows stand on {self._sheets:,} sheets",)

    def _begin(self) -> None:
        self._draft_file = self._draft()
        self._zip = zipfile.ZipFile(
            self._draft_file.file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL
        )
        self._opened = [self._zip]
        self._begin_sheet()

    def _add(self, chunk: Chunk) -> None:
        try:
            pieces = [*self._pieces(chunk.values(), chunk.columns != self._columns)]
        except (ValueError, TypeError) as exc:
            raise unwritable(self.path, chunk, _encoded, exc) from exc
        self._columns = chunk.columns
        for on_new_sheet, rows, data in pieces:
            if on_new_sheet:
                self._end_sheet()
                self._begin_sheet()
            self._put(data)
            self._rows += rows

    def _finish(self) -> None:
        self._end_sheet()
        for name, text in _parts(self._sheets):
            self._zip.writestr(name, _XML + text)
        self._zip.close()
        self._draft_file.put_in_place()

    def _pieces(
        self, rows: Sequence[Sequence[Json]], on_new_sheet: bool
    ) -> Iterator[tuple[bool, int, bytes]]:
        """Whether a new sheet is begun for it, the number of rows, the rows."""
        used, size = self._rows, self._bytes
        while rows:
            if on_new_sheet or used == self._most_rows:
                on_new_sheet, used, size = True, 1, 0
            some = rows[: self._most_rows - used]
            data = _rows_xml(some, used + 1).encode()
            if size + len(data) > MOST_BYTES and used > 1:
                on_new_sheet = True
                continue
            yield on_new_sheet, len(some), data
            on_new_sheet, used, size = False, used + len(some), size + len(data)
            rows = rows[len(some) :]

    def _begin_sheet(self) -> None:
        if len(self._columns) > MOST_COLUMNS:
            raise UsageError(
                f"{path_text(self.path)}: {len(self._columns):,} columns, of which a sheet takes"
                f" {MOST_COLUMNS:,}; choose some with --columns, or write another format"
            )
        self._sheets += 1
        self._file = self._zip.open(f"xl/worksheets/sheet{self._sheets}.xml", "w")
        self._opened = [self._zip, self._file]
        self._bytes = 0
        self._rows = 1
        header = _rows_xml([self._columns], 1)
        self._put(f'{_XML}<worksheet xmlns="{_MAIN}"><sheetData>{header}'.encode())

    def _end_sheet(self) -> None:
        self._put(b"</sheetData></worksheet>")
        self._file.close()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._bytes += len(data)


def _rows_xml(rows: Sequence[Sequence[Json]], first: int) -> str:
    """ValueError for a text that a cell cannot hold."""
    letters = _letters(max(map(len, rows)))
    parts = []
    for number, row in enumerate(rows, first):
        parts.append(f'<row r="{number}">')
        for letter, cell in zip(letters, row, strict=False):
            if cell is not None:
                parts.append(_cell_xml(f"{letter}{number}", cell))
        parts.append("</row>")
    return "".join(parts)


def _cell_xml(place: str, cell: Json) -> str:
    kind = type(cell)
    if kind is bool:
        return f'<c r="{place}" t="b"><v>{cell:d}</v></c>'
    if kind is int and -_EXACT <= cell <= _EXACT:
        return f'<c r="{place}"><v>{cell}</v></c>'
    if kind is float and math.isfinite(cell):
        return f'<c r="{place}"><v>{cell!r}</v></c>'
    text = cell if kind is str else text_of(cell)
    if len(text) > LONGEST_TEXT // 2:
        _require_room(text)
    if _UNSAFE.search(text):
        text = _UNSAFE.sub(_escape, text)
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _escape(match: re.Match[str]) -> str:
    """As XML has it, or as workbooks write what XML cannot hold (22.9.2.19)."""
    return _ENTITIES.get(match[0]) or f"_x{ord(match[0]):04X}_"


def _require_room(text: str) -> None:
    length = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if length > LONGEST_TEXT:
        raise ValueError(
            f"it has {length:,} characters, of which a cell of a workbook takes {LONGEST_TEXT:,};"
            " write .csv, .jsonl or .parquet, or leave the column out with --columns"
        )


def _encoded(cell: Json) -> bytes:
    return b"" if cell is None else _cell_xml("A1", cell).encode()


def _letters(count: int) -> list[str]:
    """A, B, …, Z, AA, AB, … of so many columns."""
    alphabet = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    letters: list[str] = []
    longer = [""]
    while len(letters) < count:
        longer = [before + letter for before in longer for letter in alphabet]
        letters += longer
    return letters[:count]


def _parts(sheets: int) -> Iterator[tuple[str, str]]:
    """What a workbook is made of besides its sheets."""
    numbers = range(1, sheets + 1)
    types = "".join(
        f'<Override PartName="/xl/{name}.xml" ContentType="{_KIND}.{kind}+xml"/>'
        for name, kind in (
            ("workbook", "sheet.main"),
            *((f"worksheets/sheet{number}", "worksheet") for number in numbers),
        )
    )
    relations = "application/vnd.openxmlformats-package.relationships+xml"
    defaults = (
        f'<Default Extension="rels" ContentType="{relations}"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
    )
    yield (
        "[Content_Types].xml",
        f'<Types xmlns="{_PACKAGE}/content-types">{defaults}{types}</Types>',
    )
    yield "_rels/.rels", _relations([("officeDocument", "xl/workbook.xml")])
    yield (
        "xl/_rels/workbook.xml.rels",
        _relations([("worksheet", f"worksheets/sheet{number}.xml") for number in numbers]),
    )
    listed = "".join(
        f'<sheet name="Sheet{number}" sheetId="{number}" r:id="rId{number}"/>' for number in numbers
    )
    yield (
        "xl/workbook.xml",
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}"><sheets>{listed}</sheets></workbook>',
    )


def _relations(targets: Sequence[tuple[str, str]]) -> str:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{_DOCUMENT}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>'
