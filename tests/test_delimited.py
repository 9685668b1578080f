"""CSV as a stream: what is read, what is a bad row, and that nothing else is ever lost."""

from __future__ import annotations

import codecs
import csv
import io
import time
import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.text.delimited import END, MAX_COLUMNS, SAMPLE, DelimitedStream, Place
from artist_bio_gen.values import BadRow, Row
from tests.odd_csv import ODD

EXAMPLE = Path(__file__).parent.parent / "examples" / "artists.csv"


def stream(
    data: bytes,
    *,
    encoding: str | None = None,
    header: bool = True,
    comment: str = "#",
    delimiter: str | None = ",",
    max_row: int = 1000,
    read_at_once: int = 7,
    **more: Any,
) -> DelimitedStream:
    """A stream over these bytes, read in small pieces so that everything straddles blocks."""
    return DelimitedStream(
        io.BufferedReader(Pieces(data, read_at_once)),
        name="artists.csv",
        size=len(data),
        encoding=encoding,
        header=header,
        comment=comment,
        delimiter=delimiter,
        max_row=max_row,
        **more,
    )


class Pieces(io.RawIOBase):
    """A file whose `read` gives a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._rest = memoryview(data)
        self._at_once = at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._at_once, len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def read(data: str | bytes, **options: object) -> list[tuple[object, ...]]:
    """Each row as (line, *cells); a bad one as (line, its reason)."""
    raw = data if isinstance(data, bytes) else data.encode()
    with stream(raw, **options) as rows:  # type: ignore[arg-type]
        return [
            (row.number, row.reason) if isinstance(row, BadRow) else (row.number, *row.values)
            for row in rows
        ]


def good(data: str | bytes, **options: object) -> list[tuple[object, ...]]:
    raw = data if isinstance(data, bytes) else data.encode()
    with stream(raw, **options) as rows:  # type: ignore[arg-type]
        return [row.values for row in rows if isinstance(row, Row)]


# Rows and their numbers


def test_columns_come_from_the_header() -> None:
    with stream(b" id ,name,born\n1,Nina,1933\n") as rows:
        assert [column.name for column in rows.columns] == ["id", "name", "born"]
        assert {column.type for column in rows.columns} == {"text"}
        assert list(rows) == [Row(2, ("1", "Nina", "1933"))]


def test_without_a_header_columns_are_numbered() -> None:
    with stream(b"1,Nina\n2,Fela\n", header=False) as rows:
        assert [column.name for column in rows.columns] == ["1", "2"]
        assert list(rows) == [Row(1, ("1", "Nina")), Row(2, ("2", "Fela"))]


def test_a_header_that_looks_like_data_is_taken_as_told() -> None:
    with stream(b"1,Nina\n2,Fela\n") as rows:
        assert [column.name for column in rows.columns] == ["1", "Nina"]
        assert list(rows) == [Row(2, ("2", "Fela"))]


def test_a_column_without_a_name_is_called_by_its_position() -> None:
    with stream(b",name,\n1,Nina,x\n") as rows:
        assert [column.name for column in rows.columns] == ["1", "name", "3"]


def test_a_row_is_numbered_by_the_line_on_which_it_begins() -> None:
    data = '# by hand\n\nid,name\n1,"two\r\nlines"\n\n# more\n2,"three\n\nlines"\n3,Nina\n'
    assert read(data) == [
        (4, "1", "two\r\nlines"),
        (8, "2", "three\n\nlines"),
        (11, "3", "Nina"),
    ]


def test_a_comment_begins_where_a_row_begins() -> None:
    data = 'id,name\n#1,out\n2,#in\n3,"a\n# not a comment\nb"\n4, #x\n"#5",in\n'
    assert good(data) == [
        ("2", "#in"),
        ("3", "a\n# not a comment\nb"),
        ("4", " #x"),
        ("#5", "in"),
    ]


def test_a_quote_in_a_comment_opens_nothing() -> None:
    assert good('id,name\n#,"oh\n1,Nina\n') == [("1", "Nina")]


def test_comments_can_be_switched_off_or_marked_otherwise() -> None:
    assert good("id,name\n#1,Nina\n", comment="") == [("#1", "Nina")]
    assert good("id,name\n//1,out\n/2,in\n", comment="//") == [("/2", "in")]


def test_lines_of_white_space_are_blank() -> None:
    assert good("id,name\n\n   \n\t\n1,Nina\n \n") == [("1", "Nina")]


def test_a_line_of_tabs_is_a_row_where_tabs_separate() -> None:
    assert good("id\tname\tborn\n\t\t\n", delimiter="\t") == [("", "", "")]


def test_empty_cells_stay_empty_and_nothing_is_guessed() -> None:
    assert good('id,name,a,b\n007,NULL,,""\n') == [("007", "NULL", "", "")]


def test_white_space_in_cells_is_kept() -> None:
    assert good("id,name\n 1 ,\tNina \n") == [(" 1 ", "\tNina ")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(end: str) -> None:
    data = end.join(["id,name", "1,Nina", '2,"Sammy', 'Davis"', "", "3,Fela"])
    for at_once in range(1, len(data)):
        assert read(data, read_at_once=at_once) == [
            (2, "1", "Nina"),
            (3, "2", f"Sammy{end}Davis"),
            (6, "3", "Fela"),
        ]


def test_other_line_ends_of_unicode_are_text() -> None:
    assert good("id,name\n1,a\u2028b\x0bc\x0cd\x85e\n") == [("1", "a\u2028b\x0bc\x0cd\x85e")]


def test_the_last_line_needs_no_end() -> None:
    assert good('id,name\n1,"Nina"') == [("1", "Nina")]


def test_iterating_twice_goes_on() -> None:
    with stream(b"id,name\n1,a\n2,b\n") as rows:
        assert next(iter(rows)) == Row(2, ("1", "a"))
        assert list(rows) == [Row(3, ("2", "b"))]


# Three ways to the same rows


def told(data: bytes, **options: Any) -> list[object]:
    """All that a stream says of its rows."""
    with stream(data, **options) as rows:
        return [rows.columns, *rows.cells()]


@pytest.mark.parametrize("at_once", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("what", ODD)
def test_all_at_once_is_what_line_by_line_is(what: str, at_once: int) -> None:
    odd = ODD[what]
    options = {"read_at_once": at_once, "max_row": 10_000, **odd.options}
    at_once_rows = told(odd.data, **options)
    assert at_once_rows == told(odd.data, **options, line_by_line=True)
    with stream(odd.data, **options) as rows:
        chunks = [*rows.chunks(3)]
    assert all(len(chunk) + len(chunk.bad) <= 3 for chunk in chunks)
    assert [row for chunk in chunks for row in chunk.rows()] == [
        cells if isinstance(cells, BadRow) else Row(number, cells)
        for number, _, cells in at_once_rows[1:]  # type: ignore[misc]
    ]


@pytest.mark.parametrize("what", [what for what, odd in ODD.items() if odd.like_csv])
def test_it_is_what_the_csv_module_reads(what: str) -> None:
    odd = ODD[what]
    options = dict(odd.options)
    encoding = options.get("encoding", "utf-8-sig")
    reader = csv.reader(
        io.StringIO(odd.data.decode(encoding), newline=""),
        delimiter=options.get("delimiter", ","),
        strict=True,
    )
    header, *expected = [tuple(row) for row in reader if row]
    if not options.get("header", True):
        expected.insert(0, header)
    found = good(odd.data, **{"comment": "", **options})
    assert found == [row for row in expected if len(row) == len(header)]


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "1,a\n",
                "2,b\r\n",
                '3,"c"\n',
                '4,"d\ne"\n',
                '"',
                ",",
                "\n",
                "\r",
                "#x\n",
                "5,é\n",
                "\0",
            ]
        )
        | st.text(st.sampled_from('a1,"\r\n#é; \t'), max_size=6),
        max_size=30,
    ),
    at_once=st.sampled_from([1, 5, 40, 4096]),
    max_row=st.sampled_from([12, 60, 1000]),
    delimiter=st.sampled_from(",;"),
)
@settings(max_examples=200)
def test_all_at_once_is_line_by_line_whatever_comes(
    pieces: list[str], at_once: int, max_row: int, delimiter: str
) -> None:
    data = ("x,y\n" + "".join(pieces)).replace(",", delimiter).encode()
    options: dict[str, Any] = {
        "read_at_once": at_once,
        "max_row": max_row,
        "delimiter": delimiter,
    }
    assert told(data, **options) == told(data, **options, line_by_line=True)


def test_plain_rows_are_split_at_once() -> None:
    """Else a comparison of the two ways would compare one with itself."""
    data = b"id,name\n" + b"1,a\n" * 500
    for line_by_line, numbers in ((False, range(2, 502)), (True, [*range(2, 502)])):
        with stream(data, read_at_once=4096, max_row=10_000, line_by_line=line_by_line) as rows:
            chunk = rows.read(1000)
            assert chunk is not None
            assert chunk.numbers == numbers


# Chunks


def test_chunks_are_as_large_as_they_are_wanted_and_keep_their_order() -> None:
    data = b"id,name\n" + b"".join(b"%d,a\n" % number for number in range(100)) + b"x\n100,b\n"
    with stream(data, read_at_once=4096) as rows:
        sizes = []
        numbers: list[int] = []
        for size in (1, 10, 50, 1000, 1000):
            chunk = rows.read(size)
            assert chunk is not None
            sizes.append(len(chunk))
            numbers += [row.number for row in chunk.rows()]
            if chunk.bad:
                break
        while (last := rows.read(1000)) is not None:
            numbers += [row.number for row in last.rows()]
        assert sizes[:2] == [1, 10]
        assert numbers == [*range(2, 104)]


def test_chunks_may_become_larger_from_one_to_the_next() -> None:
    """As those of a child, and of what reads ahead to disk, do."""
    data = b"id,name\n" + b"".join(b"%d,%s\n" % (at, b"x" * 80) for at in range(300))
    with stream(data, read_at_once=len(data), max_row=len(data)) as file:
        found = [file.read(size) for size in (100, 400, 400)]
    assert [None if chunk is None else len(chunk) for chunk in found] == [100, 200, None]
    numbers = [number for chunk in found[:2] if chunk is not None for number in chunk.numbers]
    assert numbers == list(range(2, 302))


def test_rows_as_mappings() -> None:
    with stream(b'id,name\n1,a\n2,"b"\n') as rows:
        assert [row for chunk in rows.chunks() for row in chunk.dicts()] == [
            {"id": "1", "name": "a"},
            {"id": "2", "name": "b"},
        ]


def test_reading_in_chunks_goes_on_where_iterating_stopped() -> None:
    data = b"id,name\n" + b"".join(b"%d,a\n" % number for number in range(20))
    with stream(data, read_at_once=4096) as rows:
        assert [row.number for row in islice(rows, 5)] == [2, 3, 4, 5, 6]
        chunk = rows.read(4)
        assert chunk is not None
        assert list(chunk.numbers) == [7, 8, 9, 10]
        assert [row.number for row in rows] == [*range(11, 22)]


class Arriving(io.RawIOBase):
    """A pipe into which these pieces were written so far; whoever waits for more has failed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        assert self.pieces, "it waits for what has not arrived"
        piece = self.pieces.pop(0)
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_row_that_has_arrived_is_given_at_once() -> None:
    pipe = Arriving(b"id,name\n1,a\n2,b\n3,", b'c\n4,"d\n', b'e"\n5,f\n')
    with DelimitedStream(io.BufferedReader(pipe), name="a pipe") as rows:
        chunks = [rows.read(1000) for _ in range(4)]
        assert [[*chunk.numbers] for chunk in chunks if chunk] == [[2, 3], [4], [5], [7]]
        with pytest.raises(AssertionError, match="it waits"):
            rows.read(1000)
        pipe.pieces += [b"6,g\n"]
        assert next(iter(rows)) == Row(8, ("6", "g"))


def test_a_read_without_memory_can_be_repeated() -> None:
    class Short(Pieces):
        reads = 0

        def readinto(self, buffer: Any) -> int:
            self.reads += 1
            if self.reads > 3 and self.reads % 2:
                raise MemoryError
            return super().readinto(buffer)

    lines = [f'{number},"a\nb"' if number % 3 else f"{number},x" for number in range(50)]
    data = "\n".join(["id,name", *lines, ""]).encode()
    with (
        DelimitedStream(io.BufferedReader(Short(data, 11)), name="a.csv") as rows,
        stream(data) as whole,
    ):
        found: list[Row | BadRow] = []
        failures = 0
        while True:
            try:
                chunk = rows.read(5)
            except MemoryError:
                failures += 1
                continue
            if chunk is None:
                break
            found += chunk.rows()
        assert failures > 20
        assert found == list(whole)


# Options


def test_lines_before_the_header_are_skipped_and_counted() -> None:
    data = 'Catalogue, "made\n\nà la main;\nid;name\n1;a\n'.encode()
    with stream(data, skip_rows=3, delimiter=None) as rows:
        assert list(rows) == [Row(5, ("1", "a"))]
        assert rows.facts() == {"encoding": "utf-8", "delimiter": ";"}
    with stream(data, skip_rows=3, delimiter=None) as rows:
        assert [offset for _, offset, _ in rows.cells()] == [data.index(b"1;a")]


def test_more_lines_to_skip_than_there_are_is_an_error() -> None:
    with pytest.raises(InputError, match="has only 1 line; give fewer as --skip-rows"):
        stream(b"id,name\n", skip_rows=2)


def test_a_file_named_tsv_is_separated_by_tabs(tmp_path: Path) -> None:
    path = tmp_path / "artists.tsv"
    path.write_text("id\tfirst, last\n1\tNina, Simone\n")
    with open_source(str(path)) as rows:
        assert [column.name for column in rows.columns] == ["id", "first, last"]
        assert list(rows) == [Row(2, ("1", "Nina, Simone"))]


def test_the_delimiter_is_found_and_told(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id;name\n1;Nina\n")
    with open_source(str(path)) as rows:
        assert list(rows) == [Row(2, ("1", "Nina"))]
        assert rows.facts()["delimiter"] == ";"


def test_a_first_line_that_tells_the_delimiter_is_passed_over_and_told() -> None:
    data = codecs.BOM_UTF8 + "sep=;\r\nid;name, as known\r\n1;Åse, Nina\r\n2;x;\r\n".encode()
    with stream(data, delimiter=None) as rows:
        assert [column.name for column in rows.columns] == ["id", "name, as known"]
        assert rows.facts() == {
            "encoding": "utf-8",
            "delimiter": ";",
            "delimiter_told": "sep=; on line 1",
        }
        (number, offset, cells), (_, _, flawed) = rows.cells()
        assert (number, offset, cells) == (3, data.index(b"1;"), ("1", "Åse, Nina"))
        assert isinstance(flawed, BadRow)
    file = io.BufferedReader(io.BytesIO(data))
    with DelimitedStream(file, name="artists.csv", size=len(data)) as again:
        assert again.estimated_row_count == 2
        again.go_on_at(Place(data.index(b"2;x"), 4))
        assert [row.number for row in again] == [4]


def test_only_the_first_line_tells_a_delimiter_and_one_that_is_given_wins() -> None:
    with stream(b"name\nsep=;\n", delimiter=None) as rows:
        assert list(rows) == [Row(2, ("sep=;",))]
    with stream(b"sep=;\n1,2\n", delimiter=None, skip_rows=1, header=False) as rows:
        assert list(rows) == [Row(2, ("1", "2"))]
    with stream(b"sep=;\n1;2\n", delimiter=",") as rows:
        assert list(rows) == [Row(2, ("1;2",))]
    with pytest.raises(InputError, match="is empty"):
        stream(b"sep=;\n", delimiter=None)


@pytest.mark.parametrize("row", ["1,Nina,", '1,"Nina",'])
def test_of_a_delimiter_at_the_end_of_a_row_it_is_told_to_take_it_away(row: str) -> None:
    (bad,) = read(f"id,name\n{row}\n")
    assert bad == (2, "3 cells for 2 columns; take the ',' at its end away")


def test_a_comment_mark_is_no_delimiter() -> None:
    with stream(b"; id,name\nid,name;alias\n1,a;b\n", delimiter=None, comment=";") as rows:
        assert list(rows) == [Row(3, ("1", "a;b"))]


# Encodings


def test_a_byte_order_mark_is_taken_off() -> None:
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"):
        data = "id,name\n1,坂本龍一\n"
        raw = ("" if encoding in ("utf-16", "utf-32") else "\ufeff") + data
        with stream(
            raw.encode(encoding),
            encoding=None if encoding == "utf-8" else encoding,
            read_at_once=1,
        ) as rows:
            assert rows.columns[0].name == "id"
            assert list(rows) == [Row(2, ("1", "坂本龍一"))]


def test_utf_16_without_a_mark_says_so() -> None:
    with pytest.raises(InputError, match=r"no utf-16 .*BOM.*--encoding"):
        stream("id,name\n1,Nina\n".encode("utf-16-le"), encoding="utf-16")


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("windows-1252", "Björk"), ("shift_jis", "坂本龍一"), ("koi8-r", "Виктор Цой")],
)
def test_other_encodings_are_read_when_given(encoding: str, name: str) -> None:
    assert good(f"id,name\n1,{name}\n".encode(encoding), encoding=encoding) == [("1", name)]


NO_UTF_8 = (
    "byte 0xf6, which is no utf-8, in column 'name'; mend it, or give the file's encoding with"
    " --encoding (windows-1252, utf-16, …)"
)


def test_undecodable_bytes_cost_one_row_and_are_named() -> None:
    data = b"id,name\n1,Bj\xc3\xb6rk\n2,Bj\xf6rk\n3,Elis\n"
    assert read(data) == [
        (2, "1", "Björk"),
        (
            3,
            NO_UTF_8,
        ),
        (4, "3", "Elis"),
    ]
    with stream(data) as rows:
        assert [row.text for row in rows if isinstance(row, BadRow)] == ["2,Bj\ufffdrk"]


def test_a_character_cut_off_by_the_end_of_the_file_is_undecodable() -> None:
    ((_, reason),) = read(b"id,name\n1,Bj\xc3")
    assert str(reason).startswith("byte 0xc3, which is no utf-8, in column 'name'")


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [("windows-1252", b"\x81"), ("ascii", b"\xe9"), ("shift_jis", b"\xff"), ("utf-8", b"\xed\xa0")],
)
def test_undecodable_bytes_of_other_encodings_cost_one_row(encoding: str, bad: bytes) -> None:
    data = b"id,name\n1,Nina\n2,x" + bad + b"\n3,Elis\n"
    rows = read(data, encoding=encoding)
    assert [row[0] for row in rows] == [2, 3, 4]
    assert f"byte 0x{bad[0]:02x}, which is no {encoding}," in str(rows[1][1])


def test_half_a_utf_16_character_costs_one_row() -> None:
    raw = "id,name\n1,a\n2,?\n3,b\n".encode("utf-16-le").replace(b"?\x00", b"\x00\xd8")
    rows = read(raw, encoding="utf-16-le")
    assert [row[0] for row in rows] == [2, 3, 4]
    assert "which is no utf-16-le" in str(rows[1][1])


def test_undecodable_bytes_in_a_comment_hurt_nobody() -> None:
    assert good(b"id,name\n# Bj\xf6rk\n1,Nina\n") == [("1", "Nina")]


def test_an_undecodable_first_row_without_a_header_still_tells_the_columns() -> None:
    rows = read(b"1,Bj\xf6rk\n2,Nina\n", header=False)
    assert [row[0] for row in rows] == [1, 2]
    assert rows[1] == (2, "2", "Nina")


def test_an_undecodable_header_is_an_error() -> None:
    with pytest.raises(InputError, match=r"artists.csv line 1: the header .* 0xe9.*--encoding"):
        stream(b"id,pr\xe9nom\n1,Nina\n")


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "a\x00b"])
def test_an_unknown_encoding_is_wrong_usage(encoding: str) -> None:
    with pytest.raises(UsageError, match="no such text encoding"):
        stream(b"id,name\n", encoding=encoding)


# Bad rows


def test_ragged_rows_are_bad_and_tell_both_counts() -> None:
    data = 'id,name,born\n1,a\n2,b,1933\n3,c,1,2\n"4",d\n"5","e",1,2,3\n6\n7,,\n'
    short = "write missing cells as empty ones"
    long = "put quotes around a cell that contains ','"
    assert read(data) == [
        (2, f"2 cells for 3 columns; {short}"),
        (3, "2", "b", "1933"),
        (4, f"4 cells for 3 columns; {long}"),
        (5, f"2 cells for 3 columns; {short}"),
        (6, f"5 cells for 3 columns; {long}"),
        (7, f"1 cell for 3 columns; {short}"),
        (8, "7", "", ""),
    ]


def test_nul_makes_a_bad_row() -> None:
    rows = read(b"id,name\n1,Ni\x00na\n2,Elis\n")
    assert rows[0][0] == 2
    assert str(rows[0][1]).startswith("NUL in column 'name'")
    assert rows[1:] == [(3, "2", "Elis")]
    with stream(b"id,name\n1,Ni\x00na\n") as bad:
        assert [row.text for row in bad if isinstance(row, BadRow)] == ["1,Ni\ufffdna"]


def test_a_quote_that_is_not_doubled_makes_a_bad_row() -> None:
    rows = read('id,name\n13,"1"4\n14,"Edward ""Duke"" Ellington"\n15,Ed "Duke" E\n')
    assert rows[0][0] == 2
    assert "a quote inside a quoted cell is written twice" in str(rows[0][1])
    assert rows[1:] == [(3, "14", 'Edward "Duke" Ellington'), (4, "15", 'Ed "Duke" E')]


OPEN_QUOTE = (
    "the quote that opens in column 'name' is not closed before the file ends;"
    " close it or take it away"
)


def test_an_open_quote_at_the_end_of_the_file_costs_its_line_only() -> None:
    assert read('id,name\n1,a\n2,"b\n3,c\n\n4,d') == [
        (2, "1", "a"),
        (
            3,
            OPEN_QUOTE,
        ),
        (4, "3", "c"),
        (6, "4", "d"),
    ]


def test_an_open_quote_is_found_at_the_next_quoted_cell() -> None:
    rows = read('id,name\n2,"b\n3,c\n4,"d"\n5,"e"\n')
    assert [row[0] for row in rows] == [2, 3, 4, 5]
    assert rows[1:] == [(3, "3", "c"), (4, "4", "d"), (5, "5", "e")]


def test_an_open_quote_looks_no_further_than_the_longest_row() -> None:
    data = 'id,name\n1,"a\n' + "2,b\n" * 1000
    rows = read(data, max_row=100)
    assert rows[0][0] == 2
    assert "is not closed in the next 95 characters" in str(rows[0][1])
    assert rows[1:] == [(number, "2", "b") for number in range(3, 1003)]


def test_an_open_quote_looks_no_further_than_so_many_lines() -> None:
    data = 'id,name\n1,"a\n' + "\n" * 1_000_001 + "2,b\n"
    rows = read(data, max_row=2 * len(data), read_at_once=1 << 16)
    assert rows[0][0] == 2
    assert "is not closed in the next 1,000,000 lines" in str(rows[0][1])
    assert rows[1:] == [(1_000_004, "2", "b")]


def test_a_row_of_many_lines_with_too_many_cells_tells_them() -> None:
    rows = read('id,name\n1,"a\n2,b",c\n3,d\n')
    assert rows[0][0] == 2
    assert "3 cells for 2 columns (on 2 lines; is a quote opened" in str(rows[0][1])
    assert rows[1:] == [(4, "3", "d")]


@pytest.mark.parametrize("cell", ["x" * 200, '"' + "x" * 200 + '"', '"' + "x\n" * 100 + '"'])
def test_a_row_beyond_the_longest_is_bad_and_the_rest_goes_on(cell: str) -> None:
    rows = read(f"id,name\n1,a\n2,{cell}\n3,b\n", max_row=100)
    assert rows[0] == (2, "1", "a")
    assert rows[1][0] == 3
    assert rows[-1] == (rows[-1][0], "3", "b")
    assert [row for row in rows if len(row) == 3] == [rows[0], rows[-1]]


def test_a_row_of_just_the_longest_length_is_read() -> None:
    cell = "x" * (100 - len("1,\n"))
    assert good(f"id,name\n1,{cell}\n", max_row=100) == [("1", cell)]
    assert len(read(f"id,name\n1,{cell}x\n", max_row=100)[0]) == 2
    assert good('id,name\n1,"' + "x\n" * 47 + '"\n', max_row=100) == [("1", "x\n" * 47)]


def test_the_text_of_a_bad_row_is_cut() -> None:
    with stream(b"id,name\n" + b"x" * 900 + b"\n") as rows:
        (bad,) = rows
    assert isinstance(bad, BadRow)
    assert bad.text == "x" * 500


def test_a_cell_larger_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    cells = ("x" * 3_000_000, 'y,"\n' * 500_000)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "a", "b"), ("1", *cells)])
    with open_source(str(path)) as rows:
        assert list(rows) == [Row(2, ("1", *cells))]


# Errors of the whole


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only this\n", b"\xef\xbb\xbf", b"  \n"])
def test_a_file_without_rows_is_an_error(data: bytes) -> None:
    for header in (True, False):
        with pytest.raises(InputError, match=r"artists\.csv is empty"):
            stream(data, header=header)


def test_a_header_alone_is_no_error() -> None:
    assert read("id,name\n") == []


def test_columns_of_the_same_name_are_an_error() -> None:
    with pytest.raises(InputError, match=r"line 2: more than one column is called 'name'; rename"):
        stream(b"\nid,name, name\n")


@pytest.mark.parametrize("header", [True, False])
def test_a_first_row_with_an_open_quote_is_an_error(header: bool) -> None:
    with pytest.raises(InputError, match=r"line 1: the .* cannot be read: the quote"):
        stream(b'id,"name\n1,Nina\n', header=header)


def test_more_columns_than_any_table_has_are_an_error() -> None:
    with pytest.raises(InputError, match="more than 16,384 columns"):
        stream(b"," * MAX_COLUMNS, max_row=10**6, read_at_once=10**6)
    with stream(b"," * (MAX_COLUMNS - 1), max_row=10**6, read_at_once=10**6) as rows:
        assert len(rows.columns) == MAX_COLUMNS


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(UsageError, match="cannot separate cells"):
        stream(b"id,name\n", delimiter=delimiter)


@pytest.mark.parametrize("comment", ['"', ",", "\n#"])
def test_a_comment_mark_is_no_part_of_csv(comment: str) -> None:
    with pytest.raises(UsageError, match="cannot begin a comment"):
        stream(b"id,name\n", comment=comment)


def test_a_file_that_fails_while_it_is_read_is_an_error() -> None:
    class Failing(Pieces):
        def readinto(self, buffer: Any) -> int:
            size = super().readinto(buffer)
            if not size:
                raise OSError(5, "Input/output error")
            return size

    file = io.BufferedReader(Failing(b"id,name\n1,a\n", 100))
    with (
        DelimitedStream(file, name="artists.csv") as rows,
        pytest.raises(
            InputError, match=r"artists.csv cannot be read to its end: Input/output error"
        ),
    ):
        list(rows)


def test_closing_ends_the_file_and_can_be_repeated() -> None:
    file = io.BufferedReader(Pieces(b"id,name\n1,a\n", 100))
    with DelimitedStream(file, name="artists.csv") as rows:
        assert list(rows) == [Row(2, ("1", "a"))]
    rows.close()
    assert file.closed


# The estimate


def test_the_number_of_rows_is_known_for_a_small_file() -> None:
    data = b'# c\nid,name\n\n1,"a\nb"\n2,c\n'
    with stream(data, read_at_once=len(data)) as rows:
        assert rows.estimated_row_count == 2
    with stream(b"1,a\n2,c\n", header=False, read_at_once=100) as rows:
        assert rows.estimated_row_count == 2
    with stream(b"by\nhand\n\nid,name\n1,a\n", skip_rows=3, read_at_once=100) as rows:
        assert rows.estimated_row_count == 1


def test_the_number_of_rows_is_estimated_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    count = 20_000
    path.write_text("id,name\n" + "".join(f"{n:06},Nina\n" for n in range(count)))
    assert path.stat().st_size > 3 * SAMPLE
    with open_source(str(path)) as rows:
        assert rows.estimated_row_count == pytest.approx(count, rel=0.01)


# Properties

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
special_cells = st.text(st.sampled_from('",\r\n# \tä坂;'), max_size=8)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(cells | special_cells, min_size=width, max_size=width), min_size=1, max_size=8
    )
)


@given(
    table=tables,
    delimiter=st.sampled_from(",;\t|"),
    # The writer leaves a line end unquoted that is not its own.
    dialect=st.sampled_from(
        [
            (csv.QUOTE_ALL, "\n"),
            (csv.QUOTE_ALL, "\r"),
            (csv.QUOTE_ALL, "\r\n"),
            (csv.QUOTE_MINIMAL, "\r\n"),
        ]
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be", "gb18030"]),
    at_once=st.integers(1, 64),
)
def test_what_the_csv_module_writes_is_read_back(
    table: list[list[str]],
    delimiter: str,
    dialect: tuple[Literal[0, 1], str],
    encoding: str,
    at_once: int,
) -> None:
    width = len(table[0])
    quoting, line_end = dialect
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(f"column {at}" for at in range(width))
    # The writer quotes no cell that is white space alone: as the only one of its row, it is a
    # blank line here.
    sound = [row for row in table if width > 1 or quoting == csv.QUOTE_ALL or row[0].strip()]
    writer.writerows(sound)
    data = file.getvalue().encode(encoding)
    with stream(
        data,
        encoding=encoding,
        comment="",
        delimiter=delimiter,
        read_at_once=at_once,
        max_row=10_000,
    ) as rows:
        assert [row.values if isinstance(row, Row) else row for row in rows] == [
            tuple(row) for row in sound
        ]


@given(
    lines=st.lists(st.text(st.sampled_from('a1 ,#;\t"ä'), max_size=9), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@example(lines=['"a', 'b"', '""', '"'], line_end="\n")
def test_sound_rows_are_what_the_csv_module_reads(lines: list[str], line_end: str) -> None:
    """The quicker way for lines without quotes gives the same cells."""
    text = line_end.join(["x,y", *lines]) + line_end
    try:
        expected = [
            tuple(row)
            for row in csv.reader(io.StringIO(text, newline=""), strict=True)
            if len(row) == 2
        ][1:]
    except csv.Error:
        return
    assert good(text, comment="") == expected


SOUND = [(str(number), f'na,me"{number}"') for number in range(3)]


def as_csv(rows: Sequence[tuple[str, str]], quoted: bool) -> bytes:
    file = io.StringIO()
    plain = [(a, b.replace(",", "").replace('"', "")) for a, b in rows]
    csv.writer(file, lineterminator="\n").writerows(rows if quoted else plain)
    return file.getvalue().encode()


@given(damage=st.binary(max_size=40), quoted=st.booleans())
@example(damage=b'"', quoted=True)
@example(damage=b'9,"x', quoted=True)
@example(damage=b'9,"x\n"', quoted=False)
@example(damage=b"\xff\x00\r", quoted=True)
def test_damage_costs_no_other_row(damage: bytes, quoted: bool) -> None:
    """Whatever bytes stand between the rows: those before and after it are read.

    Only a quote that the damage opens and a sound row closes may swallow what lies between.
    """
    around = as_csv(SOUND, quoted)
    rows = good(b"id,name\n" + around + damage + b"\n" + around, comment="")
    with stream(b"id,name\n" + around, comment="") as undamaged:
        expected = [row.values for row in undamaged if isinstance(row, Row)]
    assert rows[: len(expected)] == expected
    if not quoted or b'"' not in damage:
        assert rows[-len(expected) :] == expected


@given(
    data=st.binary(max_size=200)
    | st.text(st.sampled_from('a1,"\r\n#é\x00'), max_size=80).map(str.encode),
    header=st.booleans(),
    encoding=st.sampled_from([None, "utf-16", "utf-16-le", "utf-7", "gb18030", "iso2022_jp"]),
    max_row=st.integers(1, 60),
)
def test_no_bytes_raise_anything_but_an_input_error(
    data: bytes, header: bool, encoding: str | None, max_row: int
) -> None:
    try:
        rows = stream(data, header=header, encoding=encoding, max_row=max_row)
    except InputError:
        return
    with rows:
        try:
            seen = list(rows)
        except InputError:
            return
    numbers = [row.number for row in seen]
    assert numbers == sorted(set(numbers))
    for row in seen:
        if isinstance(row, Row):
            assert len(row.values) == len(rows.columns)
        texts = row.values if isinstance(row, Row) else (row.reason, row.text)
        for text in texts:
            assert "\x00" not in text
            text.encode()


# Bounds


def test_quotes_that_never_close_are_read_in_linear_time() -> None:
    """Each of these lines opens a quote, whether or not one is open already."""
    data = b"id,name\n" + b'x","y\n' * 100_000
    began = time.process_time()
    with stream(data, max_row=1_000_000, read_at_once=1 << 16) as rows:
        count = sum(1 for row in rows if isinstance(row, BadRow))
    assert count == 100_000
    # Looking to the end from each line would be 30 thousand million characters.
    assert time.process_time() - began < 60


def test_memory_is_bounded_by_the_longest_row() -> None:
    """A line without an end, then a quote without one: five times as much takes no more."""
    longest = 10_000

    def peak(times: int) -> int:
        size = times * longest
        endless = b"id,name\n1,a\n2," + b"x" * size + b'\n3,"' + b"y\n" * (size // 2)
        tracemalloc.start()
        try:
            with stream(endless, max_row=longest, read_at_once=4096) as rows:
                assert [row.number for row in rows if isinstance(row, Row)] == [2]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10) < 1.1 * peak(2)


def test_a_line_without_an_end_is_given_up_while_it_is_read() -> None:
    with pytest.raises(InputError, match=r"more than 64,000 characters without the end of a line"):
        stream(b"\0" * 100_000, max_row=1000, read_at_once=4096)
    with (
        stream(b"id,name\n1,a\n" + b"x" * 100_000, max_row=1000, read_at_once=4096) as rows,
        pytest.raises(InputError, match="without the end of a line"),
    ):
        list(rows)


# Places


@given(
    st.lists(
        st.sampled_from(
            [
                "1,a,b",
                '2,"a\nb",c',
                "",
                "# no row",
                "3,é,\u4e00",
                '4,"x,y",z',
                "5,too,many,cells",
                " ",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
@example(['2,"a\nb",c', "1,a,b"], "\r\n", True, True)
def test_a_stream_goes_on_at_the_place_of_any_row(
    lines: list[str], end: str, mark: bool, header: bool
) -> None:
    data = codecs.BOM_UTF8 * mark + end.join(["id,name,x", *lines, ""]).encode()
    with stream(data, header=header) as whole:
        rows = [*whole.cells()]
    for index, (number, offset, _) in enumerate(rows):
        assert offset is not None
        with seekable(data, header=header) as again:
            again.go_on_at(Place(offset, number))
            assert [*again.cells()] == rows[index:]
    with seekable(data, header=header) as again:
        again.go_on_at(END)
        assert [*again] == []


def seekable(data: bytes, *, header: bool) -> DelimitedStream:
    file: Any = io.BufferedReader(io.BytesIO(data))  # type: ignore[type-var]
    return DelimitedStream(file, name="artists.csv", size=len(data), header=header)


def test_behind_bytes_that_are_no_text_there_are_no_places() -> None:
    with stream(b"id,name\n1,a\n2,\xff\n3,c\n", read_at_once=100) as rows:
        assert [offset for _, offset, _ in rows.cells()] == [None] * 3
    with stream("id,name\n1,a\n".encode("utf-16"), encoding="utf-16") as rows:
        assert [offset for _, offset, _ in rows.cells()] == [None]
