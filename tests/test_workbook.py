"""Workbooks as sources: made by four programs, each cell as openpyxl reads it, and what stands
around a table."""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources.cells import json_cell
from artist_bio_gen.sources.workbook.opening import open_workbook
from artist_bio_gen.sources.workbook.package import package_of
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Row
from tests import workbooks
from tests.workbooks import (
    SHEET,
    Table,
    Writer,
    by_libreoffice,
    by_openpyxl,
    by_rustpy,
    by_xlsxwriter,
    content_of,
    member,
    opened,
    rebuilt,
    with_sheet,
    xml_row,
)

at = dt.datetime.fromisoformat

HEADER = ("id", "name", "born", "checked", "note")
ARTISTS: Table = (
    HEADER,
    ("007", "Zoë & <Co>", 1901, True, " blanks at the ends "),
    ("12345678901234567890", "Ä 😀\nof two lines", 7, False, "=1+1"),
    ("x", None, -0.5, None, "1,5"),
    (None, "last", 2**49, True, "x" * 32_767),
)
TIMES: Table = (
    ("at", "day", "time", "span", "n"),
    (at("2001-02-03T04:05:06.789"), dt.date(1999, 12, 31), dt.time(4, 5, 6), dt.timedelta(1.25), 1),
    (at("1900-03-01T12:00:00"), dt.date(9999, 12, 31), dt.time(23, 59, 59), dt.timedelta(0.5), 2),
)
TIMES_AS_TEXT = [
    ("2001-02-03T04:05:06.789000", "1999-12-31", "04:05:06", "P1DT6H", 1),
    ("1900-03-01T12:00:00", "9999-12-31", "23:59:59", "PT12H", 2),
]

XLSX: Mapping[str, Writer] = {
    "xlsxwriter": by_xlsxwriter,
    "xlsxwriter in little memory": workbooks.by_xlsxwriter_in_little_memory,
    "openpyxl": by_openpyxl,
    "LibreOffice": by_libreoffice("xlsx"),
}


def rows_of(stream: RowStream) -> list[Row | BadRow]:
    with stream:
        return [*stream]


def values_of(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    rows = rows_of(opened(path, **options))
    assert [row for row in rows if isinstance(row, BadRow)] == []
    return [row.values for row in rows if isinstance(row, Row)]


def names_of(path: Path, **options: Any) -> list[str]:
    with opened(path, **options) as stream:
        return [column.name for column in stream.columns]


def by_openpyxl_read(path: Path, sheet: str) -> list[tuple[int, list[Any]]]:
    """Rows with anything in them, after the normalisation that the source states."""
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    found = []
    for number, row in enumerate(book[sheet].iter_rows(values_only=True), 1):
        cells = [normal(cell) for cell in row]
        if any(cell is not None for cell in cells):
            found.append((number, cells))
    book.close()
    return found


def normal(cell: Any) -> Any:
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= 2**53:
        return int(cell)
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    if isinstance(cell, str):
        return re.sub(r"_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), cell)
    return json_cell(cell)


def test_cells_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"Artists": ARTISTS})
    with opened(path) as stream:
        assert [(each.name, each.type) for each in stream.columns] == [
            (name, "cell") for name in HEADER
        ]
        assert stream.estimated_row_count == 4
        assert stream.facts()["sheets"] == [
            {"sheet": "Artists", "reader": "python-calamine-plus", "header_row": 1}
        ]
        rows = [*stream]
    assert rows == [Row(number, tuple(row)) for number, row in enumerate(ARTISTS[1:], 2)]


@pytest.mark.parametrize("writer", XLSX)
def test_each_cell_is_as_openpyxl_reads_it(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    sheets = {"Artists": ARTISTS, "Times": TIMES}
    XLSX[writer](path, sheets)
    for name in sheets:
        header, *expected = by_openpyxl_read(path, name)
        assert names_of(path, sheet=name) == header[1]
        rows = rows_of(opened(path, sheet=name))
        assert rows == [Row(number, tuple(cells)) for number, cells in expected]


def test_each_cell_of_rustpy_xlsxwriter_is_as_openpyxl_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_rustpy(path, {"Artists": ARTISTS})
    (_, *expected) = by_openpyxl_read(path, "Artists")
    assert rows_of(opened(path)) == [Row(number, tuple(cells)) for number, cells in expected]


@pytest.mark.parametrize("suffix", ["xls", "ods", "xlsx"])
def test_libreoffice_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    by_libreoffice(suffix)(path, {"Artists": ARTISTS, "Times": TIMES})
    assert values_of(path, sheet="Artists") == [tuple(row) for row in ARTISTS[1:]]
    times = values_of(path, sheet="Times")
    if suffix == "ods":  # its spans are text in the file, and LibreOffice rounds to 1/100 s there
        assert times[0] == ("2001-02-03T04:05:06.790000", *times[0][1:3], "PT30H00M00S", 1)
        assert [row[1:3] for row in times] == [row[1:3] for row in TIMES_AS_TEXT]
    else:
        assert times == TIMES_AS_TEXT


def test_a_name_that_tells_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.xls"
    by_xlsxwriter(tmp_path / "a.xlsx", {"Artists": ARTISTS})
    (tmp_path / "a.xlsx").rename(path)
    assert len(values_of(path)) == 4


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.xlsx"
    by_xlsxwriter(tmp_path / "a.xlsx", {"Artists": ARTISTS})
    (tmp_path / "a.xlsx").rename(path)
    assert len(values_of(path)) == 4


def test_values_of_formulas_and_texts_of_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["a", "b", "c"])
        sheet.write_formula(1, 0, "=1+1", None, 2)
        sheet.write_formula(1, 1, '="a"&"b"', None, "ab")
        sheet.write_formula(1, 2, "=1/0", None, "#DIV/0!")
        sheet.write_formula(2, 0, "=NA()", None, "#N/A")
    assert values_of(path) == [(2, "ab", "#DIV/0!"), ("#N/A", None, None)]


def test_dates_of_the_other_epoch(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"Times": TIMES}, date_1904=True)
    assert [row[1] for row in values_of(path)] == ["1999-12-31", "9999-12-31"]


def test_control_characters_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("a",), ("bell \x07, _x0041_ as text",)]})
    assert values_of(path) == [("bell \x07, _x0041_ as text",)]


# ---- rows --------------------------------------------------------------------------------------


def test_empty_rows_are_passed_over_and_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("a", "b"), (1, 2), (), (None, ""), (3, None), *[()] * 3000, (5,)]})
    assert rows_of(opened(path)) == [Row(2, (1, 2)), Row(5, (3, None)), Row(3006, (5, None))]


def test_a_value_beside_the_header_makes_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("a", "b"), (1, 2), (3, 4, "beside"), (5, 6)]})
    first, bad, last = rows_of(opened(path))
    assert (first, last) == (Row(2, (1, 2)), Row(4, (5, 6)))
    assert isinstance(bad, BadRow)
    assert bad.number == 3
    assert "column C, which has no header" in bad.reason
    assert bad.text == "3\t4\tbeside"


def test_columns_without_a_name_are_columns_if_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [(None, "a", None, "b"), (None, 1, 2, 3), (None, 4, None, 5)]})
    assert names_of(path) == ["a", "3", "b"]
    assert values_of(path) == [(1, 2, 3), (4, None, 5)]


def test_a_value_in_a_column_between_that_seemed_unused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    rows = [(1, None, 2)] * 200
    by_xlsxwriter(path, {"A": [("a", None, "b"), *rows, (1, "late", 2), (3, None, 4)]})
    *_, bad, last = rows_of(opened(path))
    assert isinstance(bad, BadRow)
    assert (bad.number, "column B" in bad.reason) == (202, True)
    assert last == Row(203, (3, 4))


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("a", "b", "a"), (1, 2, 3)]})
    with pytest.raises(InputError, match=r"a\.xlsx sheet 'A' row 1: .* called 'a'.*--no-header"):
        opened(path)
    assert values_of(path, header=False) == [("a", "b", "a"), (1, 2, 3)]
    assert names_of(path, header=False) == ["1", "2", "3"]


def test_more_rows_than_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_rustpy(path, {"A": [("a", "b"), *((n, f"Artist {n}") for n in range(5_000))]})
    assert values_of(path) == [(n, f"Artist {n}") for n in range(5_000)]
    with opened(path, chunk_size=7) as stream:
        assert len(stream.read(1_000) or ()) == 7, "as many as are put together there"


# ---- the header --------------------------------------------------------------------------------

ABOVE: Table = (
    ("Catalogue of artists",),
    ("Made:", dt.date(2026, 11, 1)),
    (),
)


def test_a_header_below_other_rows_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*ABOVE, *ARTISTS]})
    with opened(path) as stream:
        assert [column.name for column in stream.columns] == list(HEADER)
        assert "metadata" not in stream.facts()["sheets"][0]
        assert next(iter(stream)) == Row(5, tuple(ARTISTS[1]))
        assert stream.estimated_row_count == 4


def test_rows_above_are_kept_with_the_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*ABOVE, *ARTISTS]})
    for options in ({}, {"header_row": 4}):
        with opened(path, metadata="keep", **options) as stream:
            (facts,) = stream.facts()["sheets"]
        assert facts["metadata"] == [
            {"row": 1, "cells": ["Catalogue of artists"]},
            {"row": 2, "cells": ["Made:", "2026-11-01"]},
        ]
        assert facts["header_row"] == 4


def test_of_rows_above_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*[("x",)] * 150, ("a", "b"), (1, 2)]})
    with opened(path, metadata="keep", header_row=151) as stream:
        (facts,) = stream.facts()["sheets"]
    assert [each["row"] for each in facts["metadata"]] == [*range(1, 101)]


@pytest.mark.parametrize(
    ("options", "names", "first"),
    [
        ({"skip_rows": 3}, list(HEADER), 5),
        ({"header_row": 4}, list(HEADER), 5),
        ({"header_row": 5}, ["007", "Zoë & <Co>", "1901", "True", "blanks at the ends"], 6),
        ({"header": False}, ["1", "2", "3", "4", "5"], 1),
        ({"header": False, "skip_rows": 4}, ["1", "2", "3", "4", "5"], 5),
    ],
)
def test_where_the_table_begins_can_be_told(
    options: Mapping[str, Any], names: Sequence[str], first: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*ABOVE, *ARTISTS]})
    with opened(path, **options) as stream:
        assert [column.name for column in stream.columns] == names
        row = next(iter(stream))
        assert row.number == first


def test_a_header_row_far_below(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*[("x", n) for n in range(4_000)], ("a", "b"), (1, 2)]})
    assert names_of(path, header_row=4_001) == ["a", "b"]
    assert values_of(path, header_row=4_001) == [(1, 2)]


def test_an_empty_header_row_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [*ABOVE, *ARTISTS]})
    for row in (3, 4_000):
        with pytest.raises(InputError, match=f"row {row} is empty.*--header-row"):
            opened(path, header_row=row)


def test_a_header_of_numbers_is_the_first_full_row(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("title",), (2020, 2021, 2022), (1, 2, 3)]})
    assert names_of(path) == ["2020", "2021", "2022"]


def test_a_header_of_several_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Catalogue"])
        sheet.merge_range(2, 0, 3, 0, "id")
        sheet.merge_range(2, 1, 2, 2, "life")
        sheet.write_row(3, 1, ["born", "died", "note"])
        sheet.write_row(4, 0, ["a", 1, 2, "n"])
    for options in ({}, {"header_row": 3}):
        assert names_of(path, header_rows=2, **options) == ["id", "life born", "life died", "note"]
    assert names_of(path, header_rows=2, header_separator="/")[1] == "life/born"
    assert values_of(path, header_rows=2) == [("a", 1, 2, "n")]


def test_merged_cells_are_filled_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["group", "name", "x", "y"])
        sheet.merge_range(1, 0, 3, 0, "quartet")
        sheet.write_column(1, 1, ["a", "b", "c", "d"])
        sheet.merge_range(2, 2, 3, 3, 7)
    plain = [("quartet", "a", None, None), (None, "b", 7, None), (None, "c", None, None)]
    assert values_of(path)[:3] == plain
    filled = [("quartet", "a", None, None), ("quartet", "b", 7, 7), ("quartet", "c", 7, 7)]
    assert values_of(path, fill_merged=True) == [*filled, (None, "d", None, None)]


def test_merged_cells_of_an_old_workbook(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "b.xlsx") as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["group", "name"])
        sheet.merge_range(1, 0, 2, 0, "duo")
        sheet.write_column(1, 1, ["a", "b"])
    for suffix in ("xls", "ods"):
        path = tmp_path / f"a.{suffix}"
        workbooks.converted(tmp_path / "b.xlsx", path)
        if suffix == "xls":
            assert values_of(path, fill_merged=True) == [("duo", "a"), ("duo", "b")]
        else:
            with pytest.raises(UsageError, match=r"--fill-merged .* save it as \.xlsx"):
                opened(path, fill_merged=True)


# ---- sheets ------------------------------------------------------------------------------------


def test_all_sheets_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    sheets = {"One": [("a", "b"), (1, 2)], "Empty": [], "Two": [("b", "c"), (3, 4), (5, 6)]}
    by_xlsxwriter(path, sheets)
    with opened(path) as stream:
        assert [column.name for column in stream.columns] == ["a", "b"]
        assert stream.grows
        assert stream.estimated_row_count == 3
        chunks = [*stream.chunks()]
        assert [column.name for column in stream.columns] == ["a", "b", "c"]
        facts = stream.facts()
    assert [(chunk.file, *chunk.numbers) for chunk in chunks] == [
        ("a.xlsx sheet 'One'", 2),
        ("a.xlsx sheet 'Two'", 2, 3),
    ]
    assert chunks[1].dicts()[0] == {"a": None, "b": 3, "c": 4}
    assert [each["sheet"] for each in facts["sheets"]] == ["One", "Two"]
    assert facts["sheets_left_out"] == {"Empty": "empty"}


def test_strict_sheets_have_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"One": [("a",), (1,)], "Two": [("b",), (2,)]})
    with opened(path, schema="strict") as stream:
        assert stream.read(10) is not None
        with pytest.raises(InputError, match="'Two' has 'b'"):
            stream.read(10)


@pytest.mark.parametrize("sheet", ["Two", "2"])
def test_a_sheet_by_name_or_number(sheet: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"One": [("a",), (1,)], "Two": [("b",), (2,)]})
    rows = rows_of(opened(path, sheet=sheet))
    assert rows == [Row(2, (2,))]


def test_a_sheet_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"One": [("a",), (1,)], "Two": [("b",), (2,)]})
    with pytest.raises(UsageError, match=r"--sheet 3: .* there are 'One', 'Two'"):
        opened(path, sheet="3")


def test_hidden_sheets_are_read_if_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("Shown").write_column(0, 0, ["a", 1])
        hidden = book.add_worksheet("Hidden")
        hidden.write_column(0, 0, ["b", 2])
        hidden.hide()
        chart = book.add_chart({"type": "line"})
        assert chart is not None
        chart.add_series({"values": "=Shown!$A$2:$A$2"})
        book.add_chartsheet("Chart").set_chart(chart)
    with opened(path) as stream:
        assert [row.values for row in stream if isinstance(row, Row)] == [(1,)]
        assert "named by --sheet" in stream.facts()["sheets_left_out"]["Hidden"]
    assert values_of(path, sheet="Hidden") == [(2,)]


def test_a_workbook_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"One": [], "Two": []})
    with pytest.raises(InputError, match="no visible sheet with anything in it"):
        opened(path)
    assert rows_of(opened(path, sheet="One")) == []
    by_xlsxwriter(path, {"One": [("a", "b")]})
    assert (names_of(path), rows_of(opened(path))) == (["a", "b"], [])


# ---- odd files ---------------------------------------------------------------------------------


def test_rows_out_of_order_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [xml_row(n, n, f"n{n}") for n in range(2, 2_000)]
    rows[1_500:1_502] = [rows[1_501], rows[1_500]]
    path = with_sheet(tmp_path / "a.xlsx", [xml_row(1, "a", "b"), *rows])
    numbers = [*range(2, 1_502), 1_503, 1_502, *range(1_504, 2_000)]
    with opened(path) as stream:
        assert [*stream] == [Row(n, (n, f"n{n}")) for n in numbers]
        (facts,) = stream.facts()["sheets"]
    assert facts["reader"] == "openpyxl, as its rows are out of order"


def test_a_sheet_that_says_to_be_very_wide(tmp_path: Path) -> None:
    """Some programs say so of every sheet."""
    rows = [xml_row(1, "a", "b"), *(xml_row(n, n, at("2001-02-03").isoformat()) for n in (2, 4))]
    before = '<dimension ref="A1:XFD1048576"/>'
    path = with_sheet(tmp_path / "a.xlsx", rows, before=before)
    with opened(path) as stream:
        assert [*stream] == [Row(n, (n, "2001-02-03T00:00:00")) for n in (2, 4)]
        assert "openpyxl" in stream.facts()["sheets"][0]["reader"]


def test_both_readers_give_the_same_cells(tmp_path: Path) -> None:
    by_xlsxwriter(tmp_path / "a.xlsx", {"A": [*ARTISTS, *TIMES, ("\x07", "a\r\nb", 1e300)]})
    xml = member(tmp_path / "a.xlsx", SHEET)
    wide = re.sub(rb'<dimension ref="[^"]+"', b'<dimension ref="A1:XFD1048576"', xml)
    path = rebuilt(tmp_path / "b.xlsx", tmp_path / "a.xlsx", {SHEET: wide})
    with opened(path) as slow, opened(tmp_path / "a.xlsx") as quick:
        assert [*slow] == [*quick]
        assert slow.facts() != quick.facts()


def test_rows_before_a_damage_stand(tmp_path: Path) -> None:
    rows = [xml_row(1, "a", "b"), *(xml_row(n, n, f"n{n}") for n in range(2, 1_800))]
    path = with_sheet(tmp_path / "a.xlsx", [*rows, "<row r='1800'><c r=</row>"])
    found: list[Row | BadRow] = []
    with opened(path) as stream, pytest.raises(InputError, match=r"'Sheet1' .*behind row 1,798"):
        found.extend(stream)
    # A row is known to be whole when the next one begins.
    assert [row.number for row in found] == [*range(2, 1_799)]


def test_sheets_behind_a_damaged_one_are_read(tmp_path: Path) -> None:
    sheets = {"One": [("a",), *[(n,) for n in range(9)]], "Two": [("a",), (7,)]}
    by_xlsxwriter(tmp_path / "a.xlsx", sheets)
    xml = member(tmp_path / "a.xlsx", SHEET)
    path = rebuilt(tmp_path / "b.xlsx", tmp_path / "a.xlsx", {SHEET: xml[: len(xml) - 400]})
    *rows, bad, last = rows_of(opened(path))
    assert rows == [Row(n, (n - 2,), "b.xlsx sheet 'One'") for n in range(2, len(rows) + 2)]
    assert rows
    assert isinstance(bad, BadRow)
    assert "the rest cannot be read" in bad.reason
    assert last == Row(2, (7,), "b.xlsx sheet 'Two'")
    with opened(path, on_error="stop") as stream, pytest.raises(InputError, match="'One'"):
        rows_of(stream)


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": ARTISTS})
    data = path.read_bytes()
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"a\.xlsx"):
            rows_of(opened(path))


def test_what_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_text("id,name\n1,a\n")
    with pytest.raises(InputError, match=r"a\.xlsx is no workbook"):
        opened(path)
    rebuilt(path, _zip(tmp_path / "b.zip"), {})
    with pytest.raises(InputError, match="a zip archive, and no workbook"):
        opened(path)


def test_what_no_spreadsheet_program_writes(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.xlsx", tmp_path / "a.xlsx"
    by_xlsxwriter(plain, {"A": ARTISTS})
    sheet = member(plain, SHEET).replace(b"UTF-8", b"KLINGON")
    rebuilt(path, plain, {SHEET: sheet})
    with pytest.raises(InputError, match=r"a\.xlsx is a damaged workbook \(unknown encoding"):
        opened(path)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", method) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        with pytest.raises(InputError, match="packed in a way that no spreadsheet program uses"):
            opened(path)


def test_a_list_of_sheets_that_cannot_be_unpacked_is_left_to_the_library(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.xlsx", tmp_path / "a.xlsx"
    by_xlsxwriter(plain, {"A": ARTISTS})
    listed = "xl/workbook.xml"
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(member(plain, listed)) + packer.flush(zlib.Z_FULL_FLUSH) + b"\xff"
    rebuilt(path, plain, {listed: None})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(listed, packed)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[data.rindex(b"PK\x03\x04") + 8] = data[entry + 10] = zipfile.ZIP_DEFLATED
    struct.pack_into("<I", data, entry + 24, 1_000_000)  # its size
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive, pytest.raises(zlib.error):
        archive.read(listed)
    with path.open("rb") as file:
        assert not package_of(file).sheets


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": ARTISTS})
    content = content_of(path)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.xlsx cannot be opened: No such file"):
        open_workbook(content, SourceOptions(), lambda: False)


def test_opening_a_workbook_can_be_called_off(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": ARTISTS})
    with pytest.raises(StoppedError):
        open_workbook(content_of(path), SourceOptions(), lambda: True)


def test_a_workbook_that_comes_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": ARTISTS})
    content = replace(content_of(path), path=None, again=False)
    options = SourceOptions(spill_dir=tmp_path)
    with open_workbook(content, options, lambda: False) as stream:
        assert len([*stream]) == 4
    del stream, content
    assert [each.name for each in tmp_path.iterdir()] == ["a.xlsx"]


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id,name\n")
    return path


# ---- any values --------------------------------------------------------------------------------

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffe\uffff")),
    st.datetimes(at("1900-03-01"), at("9999-12-31")).map(lambda each: each.replace(microsecond=0)),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=20))
def test_what_is_written_is_read(rows: list[tuple[Any, ...]], tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"A": [("a", "b", "c"), *rows]})
    expected = [tuple(normal(cell) for cell in row) for row in rows]
    expected = [row for row in expected if any(cell is not None for cell in row)]
    read = values_of(path)
    assert len(read) == len(expected)
    for row, other in zip(read, expected, strict=True):
        for cell, wanted in zip(row, other, strict=True):
            if isinstance(wanted, float):
                assert math.isclose(cell, wanted, rel_tol=1e-15), "16 digits are written"
            else:
                assert (cell, type(cell)) == (wanted, type(wanted))
