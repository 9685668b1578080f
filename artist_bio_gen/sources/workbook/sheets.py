"""The sheets of a workbook as one stream. For use in a process with limits (see workbook.py)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.many import Many, Part
from artist_bio_gen.sources.workbook.check import Extent, check_workbook
from artist_bio_gen.sources.workbook.damage import damage_told
from artist_bio_gen.sources.workbook.elements import Unusual
from artist_bio_gen.sources.workbook.lean import LeanBook
from artist_bio_gen.sources.workbook.package import Listed, Package, package_of
from artist_bio_gen.sources.workbook.rows import (
    WIDEST,
    CarefulRows,
    QuickRows,
    SheetRows,
    WholeRows,
)
from artist_bio_gen.sources.workbook.sheet import Merges, SheetStream
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Json

MANY_TEXTS = 4 * 1024 * 1024
"""Bytes of shared strings, unpacked, from which on they are held by us: that takes half of the
memory, and with fewer of them it is all the same."""


def open_sheets(path: str, name: str, options: SourceOptions) -> RowStream:
    """The rows of all visible sheets that hold something, or of the one that `options` name."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed with the stream
    except OSError as exc:
        raise InputError(f"{name} cannot be opened: {exc.strerror}") from exc
    with on_failure(file.close):
        return WorkbookStream(file, name, options)


class WorkbookStream(RowStream):
    def __init__(
        self,
        file: BinaryIO,
        name: str,
        options: SourceOptions,
        many_texts: int = MANY_TEXTS,
    ) -> None:
        """`file` is closed with the stream, and by the caller when this raises. `many_texts` is the
        size in bytes from which on shared strings are held by us."""
        self.name = name
        self._file = file
        self._book = _Workbook(file, name, options, many_texts)
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
    """The file as we read it where it has many texts, and as both libraries open it: the second
    one when it is needed, and the first one else."""

    def __init__(self, file: BinaryIO, name: str, options: SourceOptions, many_texts: int) -> None:
        self._name = name
        self._file = file
        self._options = options
        self._checked = check_workbook(file, name)
        self._package = package_of(file) if self._checked.kind == "xlsx" else Package()
        self._members = self._package.members()
        self._calamine = require("python_calamine_plus", extra="excel", what=name)
        self._careful: Any = None
        self._lean: LeanBook | None = None
        self.left_out: dict[str, str] = {}
        if self._package.texts_size >= many_texts and not self._needs_merges:
            with suppress(Unusual):
                self._lean = LeanBook(file, self._package)
        self._opened: Any = None if self._lean is not None else self._open()

    @property
    def _needs_merges(self) -> bool:
        return self._options.fill_merged or self._options.header_rows > 1

    @property
    def _quick(self) -> Any:
        """The file as python-calamine-plus opens it, all of its shared strings in memory. Those
        that we held are let go of."""
        if self._opened is None:
            if self._lean is not None:
                self._lean.close()
                self._lean = None
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        with damage_told(self._name):
            try:
                return self._calamine.CalamineWorkbook.from_path(self._path())
            except self._calamine.PasswordError as exc:
                raise InputError(
                    f"{self._name} is encrypted; open it and save it without a password"
                ) from exc

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
        listed = self._package.sheets if self._lean is not None else self._listed()
        tables = [each.name for each in listed if each.is_table]
        hidden = {each.name for each in listed if each.is_hidden}
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

    def _listed(self) -> list[Listed]:
        types, states = self._calamine.SheetTypeEnum, self._calamine.SheetVisibleEnum
        return [
            Listed(
                each.name,
                is_table=each.typ == types.WorkSheet,
                is_hidden=each.visible != states.Visible,
            )
            for each in self._quick.sheets_metadata
        ]

    def where(self, name: str) -> str:
        return f"{self._name} sheet {name!r}"

    def open(self, name: str) -> SheetStream:
        where = self.where(name)
        options = self._options
        merges = None
        if self._needs_merges:
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
            with damage_told(where):
                return WholeRows(self._quick.get_sheet_by_name(name), where)
        if self._extent(name).columns > WIDEST:
            why = f"it says to have more than {WIDEST:,} columns"
            return self._careful_rows(name, where, 0, why)
        if self._lean is not None:
            with suppress(Unusual):
                return self._lean.rows(name, partial(self._quick_rows, name, where))
        return self._quick_rows(name, where, 0)

    def _quick_rows(self, name: str, where: str, behind: int, _: str = "") -> QuickRows:
        careful = partial(self._careful_rows, name, where)
        with damage_told(where, lambda: behind):
            rows = self._quick.stream_sheet_by_name(name, min_row=behind)
        return QuickRows(rows, where, careful, behind)

    def _careful_rows(self, name: str, where: str, behind: int, why: str) -> CarefulRows:
        if self._careful is None:
            openpyxl = require("openpyxl", extra="excel", what=where)
            with damage_told(where, lambda: behind):
                self._careful = openpyxl.load_workbook(self._file, read_only=True, data_only=True)
        return CarefulRows(self._careful[name], where, behind, why)

    def _merges(self, name: str, where: str) -> Merges:
        with damage_told(where):
            if self._checked.kind == "xlsx":
                # Merged ranges stand behind the rows: they cost a pass over the sheet.
                stream = self._quick.stream_sheet_by_name(name, rich=True, max_row=0)
                found = stream.merged_cell_ranges
            else:
                found = self._quick.get_sheet_by_name(name).merged_cell_ranges
        if found is None and self._options.fill_merged:
            raise UsageError(
                f"{where}: --fill-merged cannot be had of this format; save it as .xlsx"
            )
        return found or ()

    def _is_empty(self, name: str) -> bool:
        try:
            with damage_told(name):
                if self._checked.kind != "xlsx":
                    return not self._quick.get_sheet_by_name(name).height
                if self._extent(name).columns > WIDEST:
                    return False
                if self._lean is not None:
                    return self._lean.is_empty(name)
                return next(iter(self._quick.stream_sheet_by_name(name)), None) is None
        except InputError:
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
