"""Excel workbooks of one sheet: texts in the cells, or shared by all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from _sources import COLUMNS, Case, in_file, row

RATE, MIB = 150_000, 130


def write_inline(path: Path, rows: int) -> None:
    import rustpy_xlsxwriter

    made = (dict(zip(COLUMNS, _typed(number), strict=True)) for number in range(rows))
    rustpy_xlsxwriter.write_worksheet(made, str(path))


def write_shared(path: Path, rows: int) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"strings_to_numbers": False}) as book:
        sheet = book.add_worksheet("Artists")
        for at, name in enumerate(COLUMNS):
            sheet.write_string(0, at, name)
        for number in range(rows):
            identifier, name, born, country, note = _typed(number)
            line = number + 1
            sheet.write_string(line, 0, identifier)
            sheet.write_string(line, 1, name)
            sheet.write_number(line, 2, born)
            sheet.write_string(line, 3, country)
            sheet.write_string(line, 4, note)


def _typed(number: int) -> tuple[str, str, int, str, str]:
    identifier, name, born, country, note = row(number)
    return identifier, name, int(born), country, note


def by_calamine(source: str) -> Iterator[int]:
    from python_calamine_plus import CalamineWorkbook

    book = CalamineWorkbook.from_path(source)
    rows = iter(book.stream_sheet_by_name(book.sheet_names[0]))
    header = next(rows)
    for cells in rows:
        dict(zip(header, cells))  # noqa: B905 - the plain loop
        yield 1


def cases() -> list[Case]:
    return [
        Case(
            "xlsx, inline strings",
            1_000_000,
            in_file("inline.xlsx", write_inline),
            by_calamine,
            rate=RATE,
            mib=MIB,
            first_s=0.5,
        ),
        Case(
            "xlsx, shared strings",
            1_000_000,
            in_file("shared.xlsx", write_shared),
            by_calamine,
            rate=RATE,
            mib=MIB,
            first_s=1.5,
        ),
    ]
