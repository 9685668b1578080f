"""The sheets of a workbook as one stream. For use in a process with limits (see workbook.py)."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO
from xml.parsers import expat

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.sources.many import Many, Part
from artist_bio_gen.sources.workbook.check import Extent, check_workbook
from artist_bio_gen.sources.workbook.rows import (
    WIDEST,
    CarefulRows,
    QuickRows,
    SheetRows,
    WholeRows,
    unreadable,
)
from artist_bio_gen.sources.workbook.sheet import Merges, SheetStream
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Json


def open_sheets(path: str, name: str, options: SourceOptions) -> RowStream:
    """The rows of all visible sheets that hold something, or of the one that `options` name."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed with the stream
    except OSError as exc:
        raise InputError(f"{name} cannot be opened: {exc.strerror}") from exc
    try:
        return WorkbookStream(file, name, options)
    except BaseException:
        file.close()
        raise


class WorkbookStream(RowStream):
    def __init__(self, file: BinaryIO, name: str, options: SourceOptions) -> None:
        """`file` is closed with the stream, and by the caller when this raises."""
        self.name = name
        self._file = file
        self._book = _Workbook(file, name, options)
        sheets = self._book.chosen(options.sheet)
        self._several = len(sheets) > 1
        self._sheets: RowStream
        if self._several:
            parts = [
                Part(self._book.where(each), partial(self._book.open, each)) for each in sheets
            ]
            self._sheets = Many(parts, name=name, schema=options.schema, on_error=options.on_error)
            self.estimated_row_count = self._book.estimate(sheets)
        else:
            self._sheets = self._book.open(sheets[0])
            self.estimated_row_count = self._sheets.estimated_row_count
        self._names = sheets
        self.columns = self._sheets.columns
        self.grows = self._sheets.grows

    def facts(self) -> dict[str, Json]:
        facts = self._sheets.facts()
        told = facts["files"] if self._several else [facts]
        sheets = [
            {"sheet": name, **{key: each[key] for key in each if key != "file"}}
            for name, each in zip(self._names, told, strict=False)  # up to the present one
        ]
        left = self._book.left_out
        return {"sheets": sheets, **({"sheets_left_out": left} if left else {})}

    def read(self, size: int) -> Chunk | None:
        chunk = self._sheets.read(size)
        self.columns = self._sheets.columns
        return chunk

    def close(self) -> None:
        self._sheets.close()
        self._file.close()


class _Workbook:
    """The file as both libraries open it; the second one when it is needed."""

    def __init__(self, file: BinaryIO, name: str, options: SourceOptions) -> None:
        self._name = name
        self._file = file
        self._options = options
        self._checked = check_workbook(file, name)
        self._members = _members(file) if self._checked.kind == "xlsx" else {}
        self._calamine = calamine = require("python_calamine_plus", extra="excel", what=name)
        try:
            self._quick = calamine.CalamineWorkbook.from_path(self._path())
        except calamine.PasswordError as exc:
            raise InputError(
                f"{name} is encrypted; open it and save it without a password"
            ) from exc
        except BaseException as exc:
            raise unreadable(exc, name, 0) from exc
        self._careful: Any = None
        self.left_out: dict[str, str] = {}

    def _path(self) -> str:
        """That of the file. By a name that tells another format, or is no UTF-8, it would not be
        opened: then that of the descriptor, by which all formats are tried, and errors say less."""
        path = str(self._file.name)
        try:
            path.encode()
        except UnicodeEncodeError:
            path = ""
        if PurePath(path).suffix == f".{self._checked.kind}":
            return path
        return f"/proc/self/fd/{self._file.fileno()}"

    def chosen(self, wanted: str | None) -> list[str]:
        """Names of the sheets to be read; one at least."""
        tables, hidden = [], set()
        for each in self._quick.sheets_metadata:
            if each.typ == self._calamine.SheetTypeEnum.WorkSheet:
                tables.append(each.name)
                if each.visible != self._calamine.SheetVisibleEnum.Visible:
                    hidden.add(each.name)
        if wanted is not None:
            return [_named(wanted, tables, self._name)]
        found = []
        for name in tables:
            if name in hidden:
                self.left_out[name] = "hidden; named by --sheet, it is read"
            elif self._is_empty(name):
                self.left_out[name] = "empty"
            else:
                found.append(name)
        if not found:
            raise InputError(
                f"{self._name} has no visible sheet with anything in it; it needs a row for each"
                " artist"
            )
        return found

    def where(self, name: str) -> str:
        return f"{self._name} sheet {name!r}"

    def open(self, name: str) -> SheetStream:
        where = self.where(name)
        options = self._options
        merges = None
        if options.fill_merged or options.header_rows > 1:
            merges = self._merges(name, where)
        return SheetStream(
            self._rows(name, where),
            where=where,
            options=options,
            rows_expected=self._extent(name).rows_expected,
            merges=merges,
        )

    def estimate(self, sheets: list[str]) -> int | None:
        expected = [self._extent(each).rows_expected for each in sheets]
        return sum(expected) - len(sheets) if all(expected) else None

    def _rows(self, name: str, where: str) -> SheetRows:
        if self._checked.kind != "xlsx":
            try:
                return WholeRows(self._quick.get_sheet_by_name(name), where)
            except BaseException as exc:
                raise unreadable(exc, where, 0) from exc
        careful = partial(self._careful_rows, name, where)
        if self._extent(name).columns > WIDEST:
            return careful(0, f"it says to have more than {WIDEST:,} columns")
        try:
            return QuickRows(self._quick.stream_sheet_by_name(name), where, careful)
        except BaseException as exc:
            raise unreadable(exc, where, 0) from exc

    def _careful_rows(self, name: str, where: str, behind: int, why: str) -> CarefulRows:
        if self._careful is None:
            openpyxl = require("openpyxl", extra="excel", what=where)
            try:
                self._careful = openpyxl.load_workbook(self._file, read_only=True, data_only=True)
            except BaseException as exc:
                raise unreadable(exc, where, behind) from exc
        return CarefulRows(self._careful[name], where, behind, why)

    def _merges(self, name: str, where: str) -> Merges:
        try:
            if self._checked.kind == "xlsx":
                # Merged ranges stand behind the rows: they cost a pass over the sheet.
                stream = self._quick.stream_sheet_by_name(name, rich=True, max_row=0)
                found = stream.merged_cell_ranges
            else:
                found = self._quick.get_sheet_by_name(name).merged_cell_ranges
        except BaseException as exc:
            raise unreadable(exc, where, 0) from exc
        if found is None and self._options.fill_merged:
            raise UsageError(
                f"{where}: --fill-merged cannot be had of this format; save it as .xlsx"
            )
        return found or ()

    def _is_empty(self, name: str) -> bool:
        try:
            if self._checked.kind != "xlsx":
                return not self._quick.get_sheet_by_name(name).height
            if self._extent(name).columns > WIDEST:
                return False
            return next(iter(self._quick.stream_sheet_by_name(name)), None) is None
        except BaseException as exc:  # noqa: BLE001 - a panic of Rust is no Exception
            unreadable(exc, name, 0)  # lets those through that are none of the file's
            return False  # what is wrong is told when it is read

    def _extent(self, name: str) -> Extent:
        return self._checked.extents.get(self._members.get(name, ""), Extent())


def _named(wanted: str, sheets: list[str], name: str) -> str:
    if wanted in sheets:
        return wanted
    if wanted.isdecimal() and 0 < int(wanted) <= len(sheets):
        return sheets[int(wanted) - 1]
    raise UsageError(
        f"--sheet {wanted}: {name} has no such sheet; there are {', '.join(map(repr, sheets))}"
    )


def _members(file: BinaryIO) -> dict[str, str]:
    """Sheets by name, and the members of the archive in which they are. What is not as usual is
    left out: it only tells how large a sheet is."""
    sheets: dict[str, str] = {}
    targets: dict[str, str] = {}

    def relation(tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith("Relationship"):
            targets[attributes.get("Id", "")] = attributes.get("Target", "")

    def sheet(tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition(":")[2] == "sheet":
            ids = (value for key, value in attributes.items() if key.endswith(":id"))
            sheets[attributes.get("name", "")] = next(ids, "")

    with zipfile.ZipFile(file) as archive:
        for member, handler in (
            ("xl/_rels/workbook.xml.rels", relation),
            ("xl/workbook.xml", sheet),
        ):
            parser = expat.ParserCreate()
            parser.StartElementHandler = handler
            try:
                parser.Parse(archive.read(member), True)
            except (KeyError, expat.ExpatError, zipfile.BadZipFile):
                return {}
    return {
        name: target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
        for name, each in sheets.items()
        if (target := targets.get(each, ""))
    }
