"""Files that rows are written to: what stands in them, by other programs' reading, and that they
are there as a whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artist_bio_gen.destinations import SUFFIXES, open_destination
from artist_bio_gen.destinations.parquet import GROUP_BYTES, ParquetDestination
from artist_bio_gen.destinations.xlsx import LONGEST_TEXT, XlsxDestination
from artist_bio_gen.errors import LimitError, UsageError
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import BadRow, Column, Json
from tests.workbooks import converted

A_B = (Column("a"), Column("b"))


def chunk(*rows: Sequence[Json], columns: Sequence[str] = ("a", "b"), first: int = 2) -> Chunk:
    return Chunk(tuple(columns), range(first, first + len(rows)), rows)


def written(path: Path, *chunks: Chunk, safe_cells: bool = True) -> Path:
    columns = [Column(name) for name in chunks[0].columns]
    with open_destination(path, columns, safe_cells=safe_cells) as destination:
        for each in chunks:
            destination.write(each)
    return path


def sheets(path: Path) -> list[list[tuple[Any, ...]]]:
    """As openpyxl has them; formulas as their text, so that one is seen as such."""
    book = openpyxl.load_workbook(path)
    return [list(sheet.iter_rows(values_only=True)) for sheet in book]


# ---- whole, or not there ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_is_there_at_the_end_and_nothing_besides(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    with open_destination(path, A_B) as destination:
        destination.write(chunk(("1", "x"), ("2", "y")))
        assert not path.exists()
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert destination.rows_written == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    def fail() -> None:
        with open_destination(tmp_path / f"out{suffix}", A_B) as destination:
            destination.write(chunk(("1", "x")))
            assert len(list(tmp_path.iterdir())) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_late_columns_and_other_kinds_leave_nothing_either(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    written(path, chunk(("1", "x")), chunk((1, "x", 2.5), columns=("a", "b", "c")))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_takes_no_more_is_a_limit(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"

    def fill() -> None:
        with open_destination(path, A_B) as destination:
            destination.write(chunk(("1", "x")))
            (draft,) = tmp_path.iterdir()
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, draft_descriptor(draft))
            os.close(full)
            for _ in range(400):
                destination.write(chunk((os.urandom(2000).hex(), "x")))

    with pytest.raises(LimitError, match=re.escape(f"{path}: cannot be written: No space left")):
        fill()
    assert list(tmp_path.iterdir()) == []


def draft_descriptor(draft: Path) -> int:
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/self/fd/{number}") == str(draft):  # noqa: PTH115
                return int(number)
        except FileNotFoundError:  # of the listing itself
            continue
    raise AssertionError(f"{draft} is not open")


def test_a_file_that_cannot_be_synced_is_not_put_in_place(tmp_path: Path) -> None:
    """A pipe in the draft's place takes all that is written, and cannot be synced."""
    near, far = os.pipe()

    def write() -> None:
        with open_destination(tmp_path / "out.jsonl", A_B) as destination:
            (draft,) = tmp_path.iterdir()
            os.dup2(far, draft_descriptor(draft))
            os.close(far)
            destination.write(chunk(("1", "x")))

    with pytest.raises(LimitError, match="cannot be written: Invalid argument"):
        write()
    assert os.read(near, 1_000) == b'{"a":"1","b":"x"}\n'
    os.close(near)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("there.csv", "is there already and is not overwritten; name another file"),
        ("dangling.csv", "is there already and is not overwritten; name another file"),
        ("none/out.csv", "does not exist; make it first"),
        ("out.pdf", "end it with one of .csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx"),
        ("out", "end it with one of"),
    ],
)
def test_what_cannot_be_written_to_is_told_beforehand(
    name: str, way_out: str, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / name))) as told:
        open_destination(tmp_path / name, A_B)
    assert way_out in str(told.value)
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_a_character_is_told_with_its_place_and_the_chunk_is_not_written(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    with open_destination(path, A_B) as destination:
        destination.write(chunk(("1", "x")))
        with pytest.raises(UsageError, match=r"row 4, column 'b' cannot be written: half a char"):
            destination.write(chunk(("2", "y"), ("3", "z\ud800"), first=3))
        destination.write(chunk(("4", "w"), first=5))
    assert destination.rows_written == 2
    if suffix == ".jsonl":
        assert path.read_text() == '{"a":"1","b":"x"}\n{"a":"4","b":"w"}\n'


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_rows_are_not_written(suffix: str, tmp_path: Path) -> None:
    bad = Chunk(("a", "b"), (), (), bad=(BadRow(7, "too short"),))
    with open_destination(tmp_path / f"out{suffix}", A_B) as destination:
        destination.write(bad)
    assert destination.rows_written == 0


# ---- CSV and TSV ---------------------------------------------------------------------------------


def test_csv_is_what_rfc_4180_says(tmp_path: Path) -> None:
    rows = [('say "x"', "a,b"), ("two\r\nlines", ""), (" x ", None), (1, 2.5), (True, {"k": [1]})]
    path = written(tmp_path / "out.csv", chunk(*rows))
    assert path.read_bytes() == (
        b'a,b\r\n"say ""x""","a,b"\r\n"two\r\nlines",\r\n x ,\r\n1,2.5\r\ntrue,"{""k"":[1]}"\r\n'
    )


def test_tsv_has_tabs(tmp_path: Path) -> None:
    path = written(tmp_path / "out.tsv", chunk(("x\ty", "a,b")))
    assert path.read_bytes() == b'a\tb\r\n"x\ty"\ta,b\r\n'


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_begins_like_a_formula_gets_a_quote(begin: str, tmp_path: Path) -> None:
    rows = [(f"{begin}1", "x"), (f"x{begin}", -1), ("", None)]
    with open_destination(tmp_path / "out.csv", A_B) as destination:
        destination.write(chunk(*rows))
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [*csv.reader(file)][1:] == [[f"'{begin}1", "x"], [f"x{begin}", "-1"], ["", ""]]
    (note,) = destination.notes()
    assert note.startswith("1 cells that begin like a formula were given a '")
    assert "--no-safe-cells" in note
    exact = written(tmp_path / "exact.csv", chunk(*rows), safe_cells=False)
    with exact.open(newline="") as file:
        assert [*csv.reader(file)][1] == [f"{begin}1", "x"]


def test_a_column_that_is_named_like_a_formula_is_none_either(tmp_path: Path) -> None:
    path = written(tmp_path / "out.csv", chunk(("1",), columns=("=a",)))
    assert path.read_text().splitlines() == ["'=a", "1"]


def test_a_row_that_begins_like_a_comment_is_quoted(tmp_path: Path) -> None:
    path = written(tmp_path / "out.csv", chunk(("#1", "x"), ("2", "#")))
    assert path.read_text().splitlines() == ["a,b", '"#1","x"', "2,#"]


def test_columns_that_turn_up_late_stand_in_the_header_and_in_each_row(tmp_path: Path) -> None:
    path = written(
        tmp_path / "out.csv",
        chunk(("1", 'x "\n" y'), ("2", None), ("", "")),
        chunk(("3", "z", "late"), columns=("a", "b", "c")),
        chunk(("4", "z", "late", "\r\n"), columns=("a", "b", "c", "d")),
    )
    with path.open(newline="") as file:
        assert [*csv.reader(file)] == [
            ["a", "b", "c", "d"],
            ["1", 'x "\n" y', "", ""],
            ["2", "", "", ""],
            ["", "", "", ""],
            ["3", "z", "late", ""],
            ["4", "z", "late", "'\r\n"],
        ]


# ---- JSON Lines ----------------------------------------------------------------------------------


def test_a_row_keeps_just_its_own_keys(tmp_path: Path) -> None:
    rows: list[dict[str, Json]] = [{"a": 1}, {"b": None, "c": {"é": [1.5, True]}}]
    path = written(tmp_path / "out.jsonl", Chunk(("a", "b", "c"), (1, 2), dicts=rows))
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == rows
    assert path.read_bytes() == '{"a":1}\n{"b":null,"c":{"é":[1.5,true]}}\n'.encode()


def test_a_number_that_json_has_not_is_told_with_its_place(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="row 3, column 'b' cannot be written: Integer exceeds"),
        open_destination(tmp_path / "out.jsonl", A_B) as destination,
    ):
        destination.write(chunk(("1", 1), ("2", 2**64)))


# ---- workbooks -----------------------------------------------------------------------------------


def test_a_workbook_holds_the_rows_as_other_programs_read_them(tmp_path: Path) -> None:
    rows: list[tuple[Json, ...]] = [
        ("=1+1", "@x"),
        ("007", "1915-04-07"),
        (7, -7.25),
        (2**53, -(2**53)),
        (True, False),
        (None, " blanks at the ends "),
        ("<a & b>", "two\nlines"),
        ("坂本龍一", "𝄞"),
    ]
    path = written(tmp_path / "out.xlsx", chunk(*rows))
    assert sheets(path) == [[("a", "b"), *rows]]
    with zipfile.ZipFile(path) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_a_spreadsheet_program_opens_the_workbook_and_finds_the_rows(tmp_path: Path) -> None:
    rows: list[tuple[Json, ...]] = [
        ("=1+1", "007"),
        (7, -7.25),
        (None, '  blanks, "quotes"  '),
        ("<a & b>", "two\nlines"),
        ("坂本龍一", "𝄞 _x0041_"),
    ]
    path = written(tmp_path / "out.xlsx", chunk(*rows))
    converted(path, tmp_path / "again.xlsx")
    assert sheets(tmp_path / "again.xlsx") == [[("a", "b"), *rows]]


def test_what_a_workbook_has_no_number_for_becomes_text(tmp_path: Path) -> None:
    rows = [(2**53 + 1, -(2**63)), (math.nan, -math.inf), ([1, "x"], {"k": None})]
    path = written(tmp_path / "out.xlsx", chunk(*rows))
    assert sheets(path)[0][1:] == [
        ("9007199254740993", "-9223372036854775808"),
        ("NaN", "-Infinity"),
        ('[1,"x"]', '{"k":null}'),
    ]


def test_what_xml_cannot_hold_is_escaped_as_workbooks_do(tmp_path: Path) -> None:
    path = written(tmp_path / "out.xlsx", chunk(("a\x00b\x1b\r\uffff", "_x0041_ _x004_")))
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert ">a_x0000_b_x001B__x000D__xFFFF_<" in sheet
    assert ">_x005F_x0041_ _x004_<" in sheet


def test_a_text_too_long_for_a_workbook_is_refused_with_its_place(tmp_path: Path) -> None:
    longest = "x" * LONGEST_TEXT
    path = written(tmp_path / "out.xlsx", chunk(("1", longest)))
    assert sheets(path)[0][1] == ("1", longest)
    for too_long in (longest + "x", "𝄞" * 16_384):
        with (
            pytest.raises(UsageError, match=r"row 3, column 'b' cannot be written: it has 32,768"),
            open_destination(tmp_path / "other.xlsx", A_B) as destination,
        ):
            destination.write(chunk(("1", "x"), ("2", too_long)))
    assert not (tmp_path / "other.xlsx").exists()


def test_more_columns_than_a_sheet_has_are_refused(tmp_path: Path) -> None:
    columns = [Column(f"c{number}") for number in range(16_385)]
    with pytest.raises(UsageError, match=r"16,385 columns, of which a sheet takes 16,384"):
        open_destination(tmp_path / "out.xlsx", columns)
    assert list(tmp_path.iterdir()) == []
    with open_destination(tmp_path / "out.xlsx", columns[:-1]) as destination:
        names = tuple(column.name for column in columns[:-1])
        destination.write(Chunk(names, (2,), [tuple(range(16_384))]))
    assert sheets(tmp_path / "out.xlsx")[0][1] == tuple(range(16_384))


def test_a_full_sheet_is_gone_on_with_in_a_further_one(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    with XlsxDestination(path, A_B, most_rows=4) as destination:
        destination.write(chunk(("1", "x"), ("2", "x")))
        destination.write(chunk(*((str(number), "x") for number in range(3, 10))))
    found = sheets(path)
    assert [[row[0] for row in sheet] for sheet in found] == [
        ["a", "1", "2", "3"],
        ["a", "4", "5", "6"],
        ["a", "7", "8", "9"],
    ]
    assert destination.notes() == ("the rows stand on 3 sheets",)


def test_columns_that_turn_up_late_begin_a_further_sheet(tmp_path: Path) -> None:
    path = written(
        tmp_path / "out.xlsx", chunk(("1", "x")), chunk(("2", "y", 3), columns=("a", "b", "c"))
    )
    assert sheets(path) == [[("a", "b"), ("1", "x")], [("a", "b", "c"), ("2", "y", 3)]]


# ---- Parquet -------------------------------------------------------------------------------------


def kinds(path: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def test_a_column_is_of_the_kind_that_all_its_cells_have(tmp_path: Path) -> None:
    names = ("text", "bool", "int", "float", "none", "mixed", "nested", "wide")
    rows: list[tuple[Json, ...]] = [
        ("007", True, 7, 7.5, None, 7, {"k": [1]}, 2**63),
        (None, None, None, None, None, "x", None, 1),
    ]
    path = written(tmp_path / "out.parquet", chunk(*rows, columns=names))
    assert kinds(path) == {
        "text": "string",
        "bool": "bool",
        "int": "int64",
        "float": "double",
        "none": "string",
        "mixed": "extension<arrow.json>",
        "nested": "extension<arrow.json>",
        "wide": "extension<arrow.json>",
    }
    first, second = pq.read_table(path).to_pylist()
    assert first == {
        "text": "007",
        "bool": True,
        "int": 7,
        "float": 7.5,
        "none": None,
        "mixed": "7",
        "nested": '{"k":[1]}',
        "wide": "9223372036854775808",
    }
    assert second == {**dict.fromkeys(names), "mixed": '"x"', "wide": "1"}


def test_a_kind_may_change_when_rows_are_written_already(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with ParquetDestination(path, A_B, group_rows=2) as destination:
        destination.write(chunk((None, "x"), (None, "y"), (None, "z")))
        destination.write(chunk((1, "x"), (2, None)))
        destination.write(chunk(("3", "x", 1.5), columns=("a", "b", "c")))
    assert kinds(path) == {"a": "extension<arrow.json>", "b": "string", "c": "double"}
    table = pq.read_table(path)
    assert table["a"].to_pylist() == [None, None, None, "1", "2", '"3"']
    assert table["b"].to_pylist() == ["x", "y", "z", "x", None, "x"]
    assert table["c"].to_pylist() == [None] * 5 + [1.5]


def test_rows_are_let_go_of_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with ParquetDestination(path, A_B, group_rows=100) as destination:
        for start in range(0, 1000, 50):
            destination.write(chunk(*((f"{n}", "x") for n in range(start, start + 50))))
    assert pq.ParquetFile(path).num_row_groups == 10
    assert pq.read_table(path)["a"].to_pylist() == [str(number) for number in range(1000)]


def test_large_rows_are_let_go_of_before_there_are_so_many(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    large = "x" * (GROUP_BYTES // 4)
    written(path, *(chunk((number, large)) for number in range(10)))
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [4, 4, 2]


def test_without_rows_there_are_columns_still(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet", ".xlsx"):
        with open_destination(tmp_path / f"out{suffix}", A_B):
            pass
    assert (tmp_path / "out.csv").read_bytes() == b"a,b\r\n"
    assert kinds(tmp_path / "out.parquet") == {"a": "string", "b": "string"}
    assert sheets(tmp_path / "out.xlsx") == [[("a", "b")]]


def test_parquet_takes_no_memory_pool_that_keeps_what_is_freed(tmp_path: Path) -> None:
    written(tmp_path / "out.parquet", chunk(("1", "x")))
    assert pa.default_memory_pool().backend_name == "system"


# Drafts that were left


KILLED = """
import os, signal, sys
from pathlib import Path
from artist_bio_gen.destinations import open_destination
from artist_bio_gen.values import Column
with open_destination(Path(sys.argv[1]), [Column("a")]):
    print("open", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def drafts_of(path: Path) -> list[Path]:
    return [each for each in path.parent.iterdir() if each != path]


def another_process(path: Path, then: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, path, then], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_draft_of_a_process_that_was_killed_is_removed_by_the_next_one(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    another_process(path, "die").communicate()
    (left,) = drafts_of(path)
    alike = {tmp_path / f".out{suffix}.{end}" for end in ("mine", "20260131", "original")}
    for each in alike:
        each.touch()
    written(path, chunk(("1", "x")))
    assert not left.exists()
    assert {*drafts_of(path)} == alike


def test_a_draft_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    process = another_process(path, "wait")
    (theirs,) = drafts_of(path)
    written(path, chunk(("1", "x")))
    assert theirs.exists()
    process.communicate(b"")
    assert process.returncode == 0
    assert path.read_bytes() == b"a\r\n"  # the one that ended last
    assert drafts_of(path) == []
