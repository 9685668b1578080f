"""Workbooks with many shared strings, which are read by us: the same rows as by the library,
whatever they hold, and little memory."""

from __future__ import annotations

import datetime as dt
import io
import tracemalloc
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.sources.workbook.elements import Unusual
from artist_bio_gen.sources.workbook.sheets import WorkbookStream
from artist_bio_gen.sources.workbook.texts import SharedTexts
from artist_bio_gen.values import BadRow, Row
from tests import workbooks
from tests.test_workbook import ARTISTS, TIMES
from tests.workbooks import SHEET, Writer, by_xlsxwriter, opened, rebuilt

OURS = "artist-bio-gen, as the workbook has many texts"
THEIRS = "python-calamine-plus"
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
WRITERS: Mapping[str, Writer] = {
    "xlsxwriter": by_xlsxwriter,
    "openpyxl": workbooks.by_openpyxl,
    "LibreOffice": workbooks.by_libreoffice("xlsx"),
}


def read(path: Path, many_texts: int, **options: Any) -> tuple[list[Any], str, Any]:
    """Rows, or what is said instead of the rest; by what the first sheet was read; other facts."""
    rows: list[Any] = []
    with WorkbookStream(path.open("rb"), path.name, SourceOptions(**options), many_texts) as stream:
        try:
            for row in stream:
                rows.append(row)
        except InputError as exc:
            rows.append(str(exc))
        facts = stream.facts()
        columns = stream.columns
    readers = [sheet.pop("reader") for sheet in facts["sheets"]]
    return [columns, *rows], readers[0], facts


def both(path: Path, reader: str = OURS, **options: Any) -> list[Row | BadRow]:
    """The rows, which are the same by both, and by `reader` where texts are many."""
    ours, by, facts = read(path, 0, **options)
    theirs, _, their_facts = read(path, 2**60, **options)
    assert ours == theirs
    assert by == reader
    if by == OURS:
        assert facts == their_facts
    return ours[1:]


def book(path: Path, rows: str, texts: Sequence[str] = (), styles: Sequence[str] = ()) -> Path:
    """A workbook of this XML: its rows, its shared strings, and the formats of its styles."""
    plain = path.with_name(f"plain_{path.name}")
    by_xlsxwriter(plain, {"Sheet1": [("text",)]})
    members = {
        SHEET: f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>",
        "xl/sharedStrings.xml": f"<sst {MAIN}>{''.join(texts)}</sst>",
    }
    if styles:
        members["xl/styles.xml"] = styles_of(styles)
    rebuilt(path, plain, {name: text.encode() for name, text in members.items()})
    plain.unlink()
    return path


def styles_of(styles: Sequence[str]) -> str:
    codes = "".join(
        f'<numFmt numFmtId="{at}" formatCode="{code}"/>' for at, code in enumerate(styles, 200)
    )
    formats = "".join(f'<xf numFmtId="{at}"/>' for at in range(200, 200 + len(styles)))
    return (
        f'<styleSheet {MAIN}><numFmts>{codes}</numFmts><cellXfs><xf numFmtId="0"/>{formats}'
        "</cellXfs></styleSheet>"
    )


def shared(number: int, *texts: int) -> str:
    cells = "".join(
        f'<c r="{letter}{number}" t="s"><v>{text}</v></c>'
        for letter, text in zip("ABCDEFGH", texts, strict=False)
    )
    return f'<row r="{number}">{cells}</row>'


HEADER = shared(1, 0, 1)
TEXTS = ["<si><t>name</t></si>", "<si><t>note</t></si>", "<si><t>x</t></si>"]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_rows_by_us_and_by_the_library(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    artists = [row[:3] for row in ARTISTS] if writer == "openpyxl" else ARTISTS
    WRITERS[writer](path, {"Artists": artists})
    # openpyxl writes texts into the cells when it streams.
    rows = both(path, THEIRS if writer == "openpyxl" else OURS)
    assert [row.values for row in rows if isinstance(row, Row)] == [
        tuple(row) for row in artists[1:]
    ]


def test_several_sheets_hidden_ones_and_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as made:
        for name in ("one", "empty", "hidden", "two"):
            sheet = made.add_worksheet(name)
            if name != "empty":
                sheet.write_row(0, 0, ["id", "name"])
                sheet.write_row(1, 0, [7, name])
            if name == "hidden":
                sheet.hide()
    rows = both(path)
    assert [row.values for row in rows if isinstance(row, Row)] == [(7, "one"), (7, "two")]
    assert len(both(path, sheet="hidden")) == 1


def test_sheets_of_which_one_has_to_be_read_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    by_xlsxwriter(path, {"Artists": ARTISTS, "Times": TIMES, "More": ARTISTS})
    assert len(both(path)) == 4 + 2 + 4


def test_a_large_workbook_is_read_so_in_its_child(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    rows = [(f"{at:036}", f"Artist Number {at}", at, at % 2 == 0) for at in range(60_000)]
    by_xlsxwriter(path, {"A": [("id", "name", "n", "even"), *rows]})
    with opened(path) as stream:
        assert [row.values for row in stream if isinstance(row, Row)] == rows
        assert stream.facts()["sheets"] == [{"sheet": "A", "reader": OURS, "header_row": 1}]


@pytest.mark.parametrize(
    "text",
    [
        "<si><t> a </t></si>",
        '<si><t xml:space="preserve"> a </t></si>',
        "<si><t>a\r\nb\rc</t></si>",
        "<si><t>a&#13;&#10;b</t></si>",
        "<si><t>_x0041_ _x000D_ _x000d_ _xD83D__xDE00_ _x0152_ _x005F_x0041_</t></si>",
        "<si><t>&amp;lt; &lt;&gt;&quot;&apos;&#x41;&#1041;</t></si>",
        "<si><t>&amp;lt; &lt; &amp; </t></si>",
        "<si><t/></si>",
        "<si></si>",
        "<si/>",
        "<si><r><t>a</t></r><r><rPr><b/></rPr><t> b</t></r></si>",
        '<si><t>a</t><rPh sb="0" eb="1"><t>X</t></rPh><phoneticPr fontId="1"/></si>',
        "<si><t>x<![CDATA[<y>]]>z</t></si>",
        "<si><t>a<!-- c -->b</t></si>",
        "<si> <t>ws</t> </si>",
        "<si><t>ü\U0001f600\u2028\x85\u2003</t></si>",
        "<si><r><t>_x00</t></r><r><t>41_</t></r></si>",
        "<si><t> <![CDATA[ a ]]> </t></si>",
        '<si><t>&#32;a ]]&gt; t="s"</t></si>\n<si><t>next</t></si>',
        "<si><t>a</t><t>b</t></si>",
        "<si><r><t>a</t><t> b</t></r><t>c</t></si>",
    ],
)
def test_texts_of_all_kinds(text: str, tmp_path: Path) -> None:
    texts = [*TEXTS, text, "<si><t>last</t></si>"]
    rows = HEADER + shared(2, 2, 3) + shared(3, 4, 4)
    both(book(tmp_path / "a.xlsx", rows, texts))


@pytest.mark.parametrize(
    "text",
    [
        f"<si><t {MAIN}>a</t></si>",
        f"<si><r {MAIN}><t>a</t></r></si>",
        f"<si><r><t {MAIN}>a</t></r></si>",
        f"<si {MAIN}><t>a</t></si>",
        "<si><t>a<b>b</b>c</t></si>",
        "<si><r><t>a<b/>c</t></r></si>",
        "<si><x><t>a</t></x></si>",
    ],
)
def test_texts_in_elements_that_we_do_not_know(text: str, tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", HEADER + shared(2, 2, 3), [*TEXTS, text])
    (row,) = both(path, THEIRS)
    assert isinstance(row, Row)
    assert row.values[1] is not None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1))
def test_random_texts(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("random") / "a.xlsx"
    by_xlsxwriter(path, {"A": [("text",), *((text,) for text in texts)]})
    rows = both(path)
    found = [row.values[0] for row in rows if isinstance(row, Row)]
    assert len(found) == sum(text != "" for text in texts)


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="B2"><v>5</v></c>',
        '<c r="B2" t="n"><v>5.5</v></c>',
        '<c r="B2" s="0"><v>1e3</v></c>',
        '<c r="B2"><v>-0</v></c>',
        '<c r="B2"><v>00012</v></c>',
        '<c r="B2"><v>9007199254740993</v></c>',
        '<c r="B2"><v>-99999999999999999</v></c>',
        '<c r="B2" t="str"><f aca="false">A1</f><v> of a_x0041_ formula </v></c>',
        '<c r="B2"><f t="shared" si="0"/><v>2</v></c>',
        '<c r="B2" t="e"><f>NA()</f><v>#N/A</v></c>',
        '<c r="B2" t="e"><v>#DIV/0!</v></c>',
        '<c r="B2"><v>1E400</v></c>',
        '<c r="B2" t="b"><v>1</v></c>',
        '<c r="B2" t="b"><v>0</v></c>',
        '<c r="B2"/>',
        '<c r="B2" s="0" />',
        '<c r="B2" t="s"/>',
        "",
    ],
)
def test_cells_that_we_read(cell: str, tmp_path: Path) -> None:
    rows = HEADER + f'<row r="2"><c r="A2" t="s"><v>2</v></c>{cell}</row><row r="3"/>'
    assert len(both(book(tmp_path / "a.xlsx", rows, TEXTS))) == 1


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="B3000" t="inlineStr"><is><t>inline</t></is></c>',
        '<c r="B3000" t="str"><f>A1</f><v>a &lt; b</v></c>',
        '<c r="B3000"><f>1+1</f></c>',
        '<c r="B3000"><f><v>2</v></c>',
        '<c r="B3000" t="e"><v>#FOO</v></c>',
        '<c r="B3000"><v>9223372036854775807</v></c>',
        '<c r="B3000"><v>9223372036854775808</v></c>',
        '<c r="B3000" t="d"><v>2001-01-01</v></c>',
        '<c r="B3000" t="x"><v>1</v></c>',
        '<c r="B3000" s="1"><v>40000.5</v></c>',
        '<c r="B3000" s="9"><v>1</v></c>',
        '<c r="B3000" t="s"><v>3</v></c>',
        '<c r="B3000" t="s"><v>-1</v></c>',
        '<c r="B3000" t="s"><v> 1</v></c>',
        '<c r="B3000" t="s"><v></v></c>',
        '<c r="B3000" t="b"><v>2</v></c>',
        '<c r="B3000"><v></v></c>',
        '<c r="B3000"><v>1_0</v></c>',
        '<c r="B3000"><v>\u0661</v></c>',
        '<c r="B3000" t="s"><v>\u0661</v></c>',
        '<c r="B3000"><v>nan</v></c>',
        '<c t="s"><v>2</v></c>',
        '<c r="B3000" cm="1"><v>1</v></c>',
        '<c r="B3001"><v>1</v></c>',
        '<c r="B3000"><v>1</v>',
        "<!-- nothing -->",
    ],
)
def test_what_we_do_not_know_is_left_to_the_library(cell: str, tmp_path: Path) -> None:
    before = "".join(shared(number, 2, 1) for number in range(2, 3000))
    odd = f'<row r="3000"><c r="A3000" t="s"><v>2</v></c>{cell}</row>'
    rows = HEADER + before + odd + shared(3001, 2, 2) + shared(3005, 2, 2)
    path = book(tmp_path / "a.xlsx", rows, TEXTS, ["yyyy"])
    found, by, _ = read(path, 0)
    expected, _, _ = read(path, 2**60)
    assert found == expected
    assert by != OURS


@pytest.mark.parametrize("last", [[10, 4000], [10]])
@pytest.mark.parametrize("length", [1, 300_000], ids=["in a piece", "between two pieces"])
def test_rows_out_of_order_are_all_there(length: int, last: list[int], tmp_path: Path) -> None:
    rows = HEADER + "".join(shared(number, 2, 1) for number in (*range(2, 3000), *last))
    at = rows.rindex('<row r="10"') + len('<row r="10"')
    rows = f'{rows[:at]} spans="{"1" * length}"{rows[at:]}'
    path = book(tmp_path / "a.xlsx", rows, TEXTS)
    found = both(path, "openpyxl, as its rows are out of order")
    assert [row.number for row in found] == [*range(2, 3000), *last]


def test_rows_stay_where_the_one_that_bears_disorder_cannot_open_the_workbook(
    tmp_path: Path,
) -> None:
    rows = HEADER + "".join(shared(number, 2, 3) for number in (*range(2, 300), 10))
    path = book(tmp_path / "a.xlsx", rows, [*TEXTS, "<si><t>no XML: \x01</t></si>"])
    for many_texts in (0, 2**60):
        (_, *found, last), _, _ = read(path, many_texts)
        # The quick reader notices it while row 299 is still its own.
        assert [row.number for row in found] == [*range(2, 299)]
        assert "behind row 298 (not well-formed" in last


def test_a_sheet_that_is_cut_gives_its_rows_up_to_there(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.xlsx", tmp_path / "cut.xlsx"
    by_xlsxwriter(path, {"A": [("a", "b"), *((f"text {at}", at) for at in range(20_000))]})
    sheet = workbooks.member(path, SHEET)
    rebuilt(cut, path, {SHEET: sheet[: len(sheet) // 2]})
    *rows, last = both(cut, THEIRS)
    assert len(rows) > 5_000
    assert "cut.xlsx sheet 'A' cannot be read behind row" in str(last)


@pytest.mark.parametrize(
    ("code", "reader"),
    [
        ("0.00", OURS),
        ("General", OURS),
        ("[Red]-0.0E+00;[&gt;5]#,##0", OURS),
        ("&quot;of days&quot; 0\\d_h*m", OURS),
        ("[$€-407] #,##0", OURS),
        ("yyyy-mm-dd", THEIRS),
        ("[h]:mm", THEIRS),
        ("[ss]", THEIRS),
        ("0 AM/PM", THEIRS),
        ("&quot;d&quot; d", THEIRS),
        ("Standard", THEIRS),
    ],
)
def test_formats_that_are_no_dates(code: str, reader: str, tmp_path: Path) -> None:
    rows = HEADER + '<row r="2"><c r="A2" t="s" /><c r="B2" s="1"><v>40000.5</v></c></row>'
    path = book(tmp_path / "a.xlsx", rows, TEXTS, [code])
    (row,) = both(path, reader)
    assert isinstance(row, Row)
    assert (row.values[1] == 40000.5) == (reader == OURS)


def test_a_builtin_format_stays_a_date_whatever_a_late_table_calls_it(tmp_path: Path) -> None:
    rows = HEADER + '<row r="2"><c r="A2" s="1"><v>40000.5</v></c></row>'
    path = book(tmp_path / "a.xlsx", rows, TEXTS)
    late = (
        f'<styleSheet {MAIN}><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
        '<numFmts><numFmt numFmtId="14" formatCode="0.00"/></numFmts></styleSheet>'
    )
    with_late = rebuilt(tmp_path / "late.xlsx", path, {"xl/styles.xml": late.encode()})
    (row,) = both(with_late, THEIRS)
    assert isinstance(row, Row)
    assert row.values[0] == dt.datetime.fromisoformat("2009-07-06T12:00:00")


def test_styles_with_a_prefix(tmp_path: Path) -> None:
    rows = HEADER + '<row r="2"><c r="A2" t="s"><v>2</v></c><c r="B2" s="0"><v>40000</v></c></row>'
    path = book(tmp_path / "a.xlsx", rows, TEXTS)
    prefixed = (
        f'<x:styleSheet {MAIN.replace("xmlns", "xmlns:x")}><x:cellXfs><x:xf numFmtId="14"/>'
        "</x:cellXfs></x:styleSheet>"
    )
    named = rebuilt(tmp_path / "prefixed.xlsx", path, {"xl/styles.xml": prefixed.encode()})
    assert both(named, THEIRS)


def test_an_instruction_may_hold_what_looks_like_the_rows(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", HEADER + shared(2, 2, 2), TEXTS)
    sheet = workbooks.member(path, SHEET).replace(b"<sheetData>", b"<?x <sheetData/>?><sheetData>")
    rebuilt(tmp_path / "odd.xlsx", path, {SHEET: sheet})
    assert len(both(tmp_path / "odd.xlsx", THEIRS)) == 1


@pytest.mark.parametrize("sheet", ['name="B" sheetId="2" r:id="none"', 'name="B" sheetId="2"'])
def test_a_sheet_that_cannot_be_found_is_not_left_out_in_silence(
    sheet: str, tmp_path: Path
) -> None:
    path, odd = book(tmp_path / "a.xlsx", HEADER + shared(2, 2, 2), TEXTS), tmp_path / "odd.xlsx"
    listed = workbooks.member(path, "xl/workbook.xml").replace(
        b"</sheets>", f"<sheet {sheet}/></sheets>".encode()
    )
    rebuilt(odd, path, {"xl/workbook.xml": listed})
    told = "Relationship not found"
    with odd.open("rb") as file, pytest.raises(InputError, match=told):
        WorkbookStream(file, odd.name, SourceOptions(), 0)


def test_as_many_rows_are_looked_at_for_columns(tmp_path: Path) -> None:
    lines = [shared(number, 2, 1, *[0][number != 150 :]) for number in range(1, 161)]
    del lines[49]  # an empty row, which only the library gives
    path = book(tmp_path / "a.xlsx", "".join(lines), TEXTS)
    rows = both(path, header=False)
    assert [row.number for row in rows if isinstance(row, BadRow)] == [150]


def test_rows_that_become_wider(tmp_path: Path) -> None:
    rows = "".join(shared(number, *[2] * (2 + number // 3000)) for number in range(2, 6001))
    path = book(tmp_path / "a.xlsx", HEADER + rows, TEXTS)
    found = both(path)
    assert sum(isinstance(row, BadRow) for row in found) == 3001


# ---- the table of texts ------------------------------------------------------------------------


def table_of(texts: Sequence[str]) -> SharedTexts:
    xml = f"<sst {MAIN}>" + "".join(f"<si><t>{text}</t></si>" for text in texts) + "</sst>"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("texts", xml)
    with zipfile.ZipFile(packed).open("texts") as file:
        return SharedTexts(file)


@pytest.mark.parametrize("letter", ["a", "ö", "ř", "😀"])
def test_a_text_takes_its_own_bytes_and_few_more(letter: str) -> None:
    texts = [f"{letter} Artist Number {at}" for at in range(100_000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        table = table_of(texts)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < sum(len(text.encode()) for text in texts) + 5 * len(texts)
    asked = [0, 1_023, 1_024, 99_999, 5]
    assert table.many([*map(str, asked)]) == [texts[at] for at in asked]


@pytest.mark.parametrize("index", ["100", "-1", "", " 1", "+1", "1_0", "x", "٣"])
def test_a_number_that_is_none_of_a_text(index: str) -> None:
    table = table_of([f"text {at}" for at in range(100)])
    with pytest.raises(Unusual):
        table.many(["5", index, "6"])
