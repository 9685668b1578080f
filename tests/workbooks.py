"""Workbooks for tests: made by several programs, read by ours and by openpyxl."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import openpyxl
import rustpy_xlsxwriter
import xlsxwriter

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.workbook.opening import open_workbook
from artist_bio_gen.stream import RowStream
from tests.debian import debian

Table: TypeAlias = Sequence[Sequence[Any]]
"""Rows of a sheet, from its first on; None where a cell is empty."""

Writer: TypeAlias = Callable[[Path, Mapping[str, Table]], None]

FORMATS = {
    dt.datetime: "yyyy-mm-dd hh:mm:ss.000",
    dt.date: "yyyy-mm-dd",
    dt.time: "hh:mm:ss",
    dt.timedelta: "[h]:mm:ss",
}


def opened(path: Path, **options: Any) -> RowStream:
    return open_workbook(content_of(path), SourceOptions(**options), lambda: False)


def content_of(path: Path) -> Content:
    return Content(
        name=path.name,
        file_name=path.name,
        open=lambda: path.open("rb"),
        again=True,
        path=path,
        size=path.stat().st_size,
    )


def by_xlsxwriter(path: Path, sheets: Mapping[str, Table], **options: Any) -> None:
    with xlsxwriter.Workbook(path, options) as book:
        formats = {kind: book.add_format({"num_format": each}) for kind, each in FORMATS.items()}
        for name, table in sheets.items():
            sheet = book.add_worksheet(name)
            for at, row in enumerate(table):
                for column, cell in enumerate(row):
                    match cell:
                        case None:
                            pass
                        case str():
                            assert sheet.write_string(at, column, cell) == 0
                        case bool():
                            sheet.write_boolean(at, column, cell)
                        case int() | float():
                            sheet.write_number(at, column, cell)
                        case _:
                            sheet.write_datetime(at, column, cell, formats[type(cell)])


def by_xlsxwriter_in_little_memory(path: Path, sheets: Mapping[str, Table]) -> None:
    """With its texts in the cells themselves."""
    by_xlsxwriter(path, sheets, constant_memory=True)


def by_openpyxl(path: Path, sheets: Mapping[str, Table]) -> None:
    book = openpyxl.Workbook(write_only=True)
    for name, table in sheets.items():
        sheet = book.create_sheet(name)
        for row in table:
            sheet.append(row)
    book.save(path)


def by_rustpy(path: Path, sheets: Mapping[str, Table]) -> None:
    writer = rustpy_xlsxwriter.FastExcel(str(path))
    for name, (header, *rows) in sheets.items():
        writer.sheet(name, [dict(zip(header, row, strict=True)) for row in rows])
    writer.save()


def by_libreoffice(suffix: str) -> Writer:
    def write(path: Path, sheets: Mapping[str, Table]) -> None:
        first = path.with_name(f"from_{path.stem}.xlsx")
        by_xlsxwriter(first, sheets)
        converted(first, path, suffix)
        first.unlink()

    return write


def converted(source: Path, path: Path, suffix: str = "") -> None:
    """Writes `path` in its format, or that of `suffix`, by LibreOffice."""
    suffix = suffix or path.suffix[1:]
    soffice = debian("libreoffice-calc", program="soffice")
    home, folder = path.with_name("home"), path.with_name("converted")
    subprocess.run(
        [
            *(soffice, f"-env:UserInstallation=file://{home}", "--headless"),
            *("--convert-to", suffix, "--outdir", str(folder), str(source)),
        ],
        env={**os.environ, "HOME": str(home)},
        check=True,
        capture_output=True,
        timeout=300,
    )
    (folder / f"{source.stem}.{suffix}").rename(path)
    shutil.rmtree(home)


def rebuilt(path: Path, source: Path, members: Mapping[str, bytes | None]) -> Path:
    """The workbook with some of its members replaced, added or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in dict.fromkeys([*old.namelist(), *members]):
            data = members[name] if name in members else old.read(name)
            if data is not None:
                new.writestr(name, data)
    return path


def member(source: Path, name: str) -> bytes:
    with zipfile.ZipFile(source) as archive:
        return archive.read(name)


SHEET = "xl/worksheets/sheet1.xml"


def with_sheet(path: Path, rows: str | Iterable[str], *, before: str = "", after: str = "") -> Path:
    """A workbook whose sheet is this XML of rows. Texts are inline, style 0 is the only one."""
    plain = path.with_name(f"plain_{path.name}")
    by_xlsxwriter(plain, {"Sheet1": []})
    text = rows if isinstance(rows, str) else "".join(rows)
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><worksheet'
        ' xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"{before}<sheetData>{text}</sheetData>{after}</worksheet>"
    )
    rebuilt(path, plain, {SHEET: xml.encode()})
    plain.unlink()
    return path


def xml_row(number: int, *cells: str | int, letters: str = "ABCDEFGH") -> str:
    return (
        f'<row r="{number}">'
        + "".join(
            f'<c r="{letter}{number}" t="inlineStr"><is><t>{cell}</t></is></c>'
            if isinstance(cell, str)
            else f'<c r="{letter}{number}"><v>{cell}</v></c>'
            for letter, cell in zip(letters, cells, strict=False)
        )
        + "</row>"
    )
