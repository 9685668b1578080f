"""What `open_source` is given, and what it makes of it: paths, patterns, pipes, addresses, formats
that are named, seen or plugged in."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import (
    ConfigError,
    InputError,
    LimitError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.sources import Reading, formats, open_source
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.formats import DATABASES, FORMATS, choose, load
from artist_bio_gen.sources.places.local import files_of, local_content
from artist_bio_gen.sources.text.delimited import Place
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import BadRow, Row

CSV = b"id,name\n1,Nina\n2,Bill\n"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "artists.csv"


def values(stream: Reading) -> list[tuple[Any, ...]]:
    with stream:
        return [row.values for row in stream if isinstance(row, Row)]


def write(folder: Path, name: str, data: bytes = CSV) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    return str(path)


# Options


def test_options_are_an_object_or_its_fields_or_both(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv")
    assert values(open_source(path, SourceOptions(max_rows=1))) == [("1", "Nina")]
    assert values(open_source(Path(path), max_rows=1)) == [("1", "Nina")]
    both = open_source(path, SourceOptions(max_rows=2, columns=("name",)), max_rows=1)
    assert values(both) == [("Nina",)]


def test_an_option_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id\tname\n1\tNina\n")
    assert values(open_source(path, columns="name,id", delimiter="tab")) == [("Nina", "1")]
    assert values(open_source(path, columns=["name"], delimiter="\t")) == [("Nina",)]
    assert values(open_source(path, columns=None, max_rows=None)) == [("1", "Nina")]


def test_an_unknown_option_names_those_that_are_near(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no option 'max_row'; did you mean max_rows"):
        open_source(write(tmp_path, "a.csv"), max_row=1)
    with pytest.raises(TypeError, match=r"no option 'zzzzzz'$"):
        open_source(write(tmp_path, "a.csv"), zzzzzz=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("chunk_size", 0), ("on_error", "ignore"), ("delimiter", ",,"), ("error_threshold", 2)],
)
def test_an_impossible_value_is_a_usage_error(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name} = .*must be "):
        open_source(write(tmp_path, "a.csv"), **{name: value})


def test_the_options_reach_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id,name\n" + b"x\n" * 200)
    with pytest.raises(LimitError, match="200 of 200 rows"):
        values(open_source(path))
    with pytest.raises(InputError, match="row 2 cannot be read"):
        values(open_source(path, on_error="stop"))
    assert values(open_source(path, error_threshold=1)) == []


@pytest.mark.parametrize(
    ("name", "data", "options", "found"),
    [
        ("a.csv", b"id,name\n//1,out\n#2,in\n", {"comment": "//"}, [("#2", "in")]),
        ("a.csv", b"id,name\n#2,in\n", {"comment": "none"}, [("#2", "in")]),
        ("a.csv", b"by hand\nid,name\n1,x\n", {"skip_rows": 1}, [("1", "x")]),
        ("a.csv", b"1,x\n", {"header": False}, [("1", "x")]),
        ("a.csv", b"id,name\n1,Bj\xf6rk\n", {"encoding": "cp1252"}, [("1", "Björk")]),
        ("a.csv", b"id|a;b|c\n1|x;y|z\n", {"delimiter": ";"}, [("1|x", "y|z")]),
        ("a.txt", b"id,x\tname\n1,x\ty\n", {"format": "tsv"}, [("1,x", "y")]),
        ("a.jsonl", b'by hand\n{"id":1}\n', {"skip_rows": 1}, [(1,)]),
        ("a.jsonl", b'{"id":"Bj\xf6rk"}\n', {"encoding": "cp1252"}, [("Björk",)]),
        ("a.jsonl", b'{"id":1}\n' * 1000 + b'{"x":1}\n', {"schema": "strict"}, [(1,)] * 1000),
        ("a.json", b'[{"id":"Bj\xf6rk"}]\n', {"encoding": "cp1252"}, [("Björk",)]),
        ("a.json", b"[" + b'{"id":1},' * 1000 + b'{"x":1}]', {"schema": "strict"}, [(1,)] * 1000),
    ],
)
def test_options_of_texts_reach_those_who_read_them(
    tmp_path: Path, name: str, data: bytes, options: dict[str, Any], found: list[tuple[Any, ...]]
) -> None:
    assert values(open_source(write(tmp_path, name, data), **options)) == found


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_texts_know_whether_their_bytes_can_wait_and_are_called_off(name: str) -> None:
    data = {"a.csv": b"id\n" + b"1\n" * 100_000, "a.jsonl": b'{"id":1}\n' * 100_000}.get(name)
    data = data or b"[" + b'{"id":1},' * 100_000 + b"]"
    stop = False

    def opened(*, can_wait: bool) -> RowStream:
        bytes_of_it = Content(name, name, lambda: io.BufferedReader(io.BytesIO(data)))
        given = replace(bytes_of_it, can_wait=can_wait)
        return formats.open_content(given, SourceOptions(), lambda: stop)

    with opened(can_wait=False) as hasty, opened(can_wait=True) as stream:
        assert (hasty.can_wait, stream.can_wait) == (False, True)
        assert stream.read(10) is not None
        stop = True
        with pytest.raises(StoppedError):
            [*stream.chunks()]


# Files


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.csv cannot be opened: No such file"):
        open_source(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("path", "told"), [("", "'' cannot be opened: it is no name"), ("a\x00b", "cannot be opened")]
)
def test_an_impossible_path_is_an_error(path: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_source(path)


def test_a_folder_is_an_error_that_shows_a_pattern(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be opened: Is a directory; .*/\*\.csv"):
        open_source(str(tmp_path))


def test_a_file_that_cannot_be_read_is_closed(tmp_path: Path) -> None:
    """A file left open would be a ResourceWarning, and that an error here."""
    with pytest.raises(InputError, match="is empty"):
        open_source(write(tmp_path, "a.csv", b""))
    with pytest.raises(UsageError):
        open_source(write(tmp_path, "a.csv"), columns="x")
    with pytest.raises(UsageError):
        open_source(write(tmp_path, "a.csv"), format="x")
    gc.collect()


def test_the_example_is_read_whole() -> None:
    names = [row[1] for row in values(open_source(str(EXAMPLE)))]
    assert len(names) == 24
    assert "Grover Washington, Jr." in names
    assert "坂本龍一" in names


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    path = write(tmp_path, "a b.csv")
    assert len(values(open_source(f"file://{path.replace(' ', '%20')}"))) == 2
    assert len(values(open_source(f"file://localhost{path}"))) == 2


@pytest.mark.parametrize("name", ["artists.xlsx", "artists.XLS", "artists.ods"])
@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (b"id\tname\n1\tNina\n", "is text, and no workbook; read it with --format tsv"),
        ("id\tname\r\n1\tNina\r\n".encode("utf-16"), "read it with --format tsv"),
        (b"id;name\n1;\xc5se\n", "is text, and no workbook; read it with --format csv"),
        (b"\xef\xbb\xbf\n<html><table>", "is HTML or XML, .* spreadsheet program, .* as .xlsx"),
        (b"<!DOCTYPE html>", "is HTML or XML, .* spreadsheet program, and save it as .xlsx"),
        (b'<?xml version="1.0"?>', "is HTML or XML, .* spreadsheet program, and save it as .xlsx"),
    ],
)
def test_a_text_that_is_named_as_a_workbook_says_how_to_read_it(
    tmp_path: Path, name: str, data: bytes, way_out: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=way_out):
        open_source(path)
    if "--format" in way_out:
        with open_source(path, format=way_out[-3:], encoding=None) as rows:
            assert len(rows.columns) == 2


def test_json_is_another_name_of_json_lines_which_reads_arrays_too(tmp_path: Path) -> None:
    path = tmp_path / "artists.txt"
    path.write_text('[{"id": 1}, {"id": 2}]')
    with open_source(path, format="json") as rows:
        assert [row.values for row in rows if isinstance(row, Row)] == [(1,), (2,)]
        assert rows.facts()["format"] == "jsonl"


@pytest.mark.parametrize("source", [[{"id": 1}], b"artists.csv", None])
def test_rows_in_memory_are_no_source_and_it_says_what_takes_them(source: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(source).__name__}; .*from_rows"):
        open_source(source)


def test_it_can_be_iterated_with_async_for() -> None:
    async def names() -> list[str]:
        with open_source(str(EXAMPLE), max_rows=2) as rows:
            return [row.values[1] async for row in rows if isinstance(row, Row)]

    assert len(asyncio.run(names())) == 2


def test_one_plain_file_is_known_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv")
    write(tmp_path, "b.csv")
    with open_source(path) as plain:
        assert plain.plain is not None
    with open_source(path, max_rows=1) as plain:
        assert plain.plain is not None
    for options in ({"strip": True}, {"skip_empty": True}, {"split_id": ";"}, {"columns": "id"}):
        with open_source(path, **options) as other:  # type: ignore[arg-type]
            assert other.plain is None
    with open_source(str(tmp_path / "*.csv")) as other:
        assert other.plain is None


def test_a_plain_file_goes_on_where_somebody_else_has_read_to(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id,name\n" + b"".join(b"%d,x\n" % at for at in range(9)))
    with open_source(path) as whole:
        assert whole.plain is not None
        cells = [*whole.plain.cells()]
    with open_source(path, max_rows=6) as rows:
        number, offset, _ = cells[4]
        assert offset is not None
        rows.go_on_at(Place(offset, number), 4)
        assert [row.number for row in rows] == [6, 7]
        progress = rows.progress()
        assert (progress.rows, progress.expected, progress.seconds_left) == (6, 6, 0)


def test_rows_that_somebody_else_could_not_read_count_for_the_threshold(tmp_path: Path) -> None:
    lines = [b"x\n" if at in (3, 4, 8) else b"%d,x\n" % at for at in range(20)]
    path = write(tmp_path, "a.csv", b"id,name\n" + b"".join(lines))
    with open_source(path) as whole:
        assert whole.plain is not None
        number, offset, _ = [*whole.plain.cells()][6]
        assert offset is not None
    for bad in (0, 2):
        with open_source(path, error_minimum=5, error_threshold=0.15) as rows:
            rows.go_on_at(Place(offset, number), 6, bad)
            if bad:
                with pytest.raises(LimitError, match="3 of 20 rows cannot be read"):
                    list(rows)
            else:
                assert len(list(rows)) == 14


# The standard input, and pipes


def open_here() -> set[str]:
    """Files, pipes and child processes of this process."""
    there = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that by which this was listed; closed meanwhile
            there.add(str(file.readlink()))
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            there |= {f"child {pid}" for pid in (task / "children").read_text().split()}
    return there


@pytest.mark.parametrize(
    "options", [{}, {"parallel": 3}, {"spill": "parquet"}, {"max_rows": 100}], ids=str
)
def test_who_leaves_a_loop_in_the_middle_leaves_nothing_open(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Warnings are errors here, and one of what is left open would be one."""
    if "spill" in options:
        pytest.importorskip("pyarrow")
        (tmp_path / "spill").mkdir()
        options = {**options, "spill_dir": tmp_path / "spill"}
    data = b"id,name\n" + b"".join(b"%d,Nina\n" % at for at in range(100_000))
    for name in "abc":
        write(tmp_path, f"{name}.csv", data)
    before = open_here()
    for row in open_source(tmp_path / "*.csv", **options):
        assert row.number == 2
        break
    gc.collect()
    deadline = time.monotonic() + 60
    while open_here() - before:  # children that were just being started, in threads
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not [*tmp_path.glob("spill/*")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"id,name\n1,Nina\n", "standard input None csv [('1', 'Nina')]\n"),
        (b'{"id": "1"}\n', "standard input None jsonl [('1',)]\n"),
    ],
)
def test_the_standard_input_is_a_source_whose_format_is_seen(data: bytes, told: str) -> None:
    program = (
        "from artist_bio_gen.sources import open_source\n"
        "with open_source('-') as rows:\n"
        "    found = [row.values for row in rows]\n"
        "    print(rows.name, rows.estimated_row_count, rows.facts()['format'], found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True
    )
    assert done.stdout.decode() == told


@contextmanager
def pipe(folder: Path) -> Iterator[tuple[str, int]]:
    path = folder / "pipe.csv"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    try:
        yield str(path), end
    finally:
        os.close(end)


def test_a_row_that_is_in_a_pipe_is_given_before_the_next_one_comes(tmp_path: Path) -> None:
    with pipe(tmp_path) as (path, end):
        os.write(end, b"id,name\n1,Nina\n")
        with open_source(path, cancelled=no_longer(50)) as rows:
            each = iter(rows)
            assert next(each) == Row(2, ("1", "Nina"))
            os.write(end, b"2,Bill\n")
            assert next(each) == Row(3, ("2", "Bill"))


def no_longer(looks: int) -> Callable[[], bool]:
    """So that a test which waits for ever fails."""
    left = iter(range(looks))
    return lambda: next(left, None) is None


def test_a_pipe_to_which_nobody_writes_can_be_called_off(tmp_path: Path) -> None:
    with pipe(tmp_path) as (path, _), pytest.raises(StoppedError):
        open_source(path, cancelled=no_longer(3))


@pytest.mark.parametrize("line", ["# nothing\n", "\n"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_reading_can_be_called_off_where_no_row_comes(line: str, kind: str, tmp_path: Path) -> None:
    """There is always more to read, and never a row."""
    path = tmp_path / "a.csv"
    block = line.encode() * (4096 // len(line))
    if kind == "pipe":
        os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(end, b"id,name\n")
    looks = 0

    def cancelled() -> bool:
        nonlocal looks
        looks += 1
        assert looks <= 20, "it reads on"
        os.write(end, block)
        return looks == 20

    try:
        with (
            open_source(str(path), cancelled=cancelled) as rows,
            pytest.raises(StoppedError),
        ):
            list(rows)
    finally:
        os.close(end)


# Patterns


def test_a_pattern_is_all_files_that_match_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "b.csv", b"id,name\n2,Bill\n")
    write(tmp_path, "a.csv", b"id,name\n1,Nina\nx\n")
    write(tmp_path, "c.txt", b"id,name\n3,Ray\n")
    (tmp_path / "folder.csv").mkdir()
    with open_source(str(tmp_path / "*.csv")) as rows:
        found = list(rows)
    assert [(Path(row.file).name, row.number) for row in found] == [
        ("a.csv", 2),
        ("a.csv", 3),
        ("b.csv", 2),
    ]
    assert isinstance(found[1], BadRow)
    assert Path(rows.result.errors[0].file).name == "a.csv"


def test_a_pattern_may_go_into_folders(tmp_path: Path) -> None:
    for name in ("x/a.csv", "x/y/b.csv"):
        write(tmp_path, name)
    assert len(values(open_source(str(tmp_path / "**" / "*.csv")))) == 4


def test_a_pattern_that_matches_one_file_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, "a.csv")
    with open_source(str(tmp_path / "?.csv")) as rows:
        assert rows.name == str(tmp_path / "a.csv")
        assert rows.plain is not None


def test_a_file_whose_very_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a[1].csv")
    write(tmp_path, "a1.csv", b"id,name\n")
    assert len(values(open_source(path))) == 2
    assert files_of(path) == (path,)


def test_a_pattern_that_nothing_matches_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\*\.csv: no file matches"):
        open_source(str(tmp_path / "*.csv"))


def test_the_files_of_a_pattern_may_differ_in_format_and_columns(tmp_path: Path) -> None:
    write(tmp_path, "1.csv")
    write(tmp_path, "2.tsv", b"name\tid\tborn\nRay\t3\t1930\n")
    write(tmp_path, "3.jsonl", b'{"id": 4, "genre": ["soul"]}\n')
    with open_source(str(tmp_path / "*")) as rows:
        found = [row.values for row in rows if isinstance(row, Row)]
        assert [column.name for column in rows.columns] == ["id", "name", "born", "genre"]
    assert found == [
        ("1", "Nina"),
        ("2", "Bill"),
        ("3", "Ray", "1930"),
        (4, None, None, ["soul"]),
    ]
    with pytest.raises(InputError, match=r"2\.tsv has 'born'.*--schema union"):
        values(open_source(str(tmp_path / "*"), schema="strict"))


@pytest.mark.parametrize("parallel", [2, 8])
def test_files_side_by_side_give_the_same_rows_in_the_same_order(
    tmp_path: Path, parallel: int
) -> None:
    for number in range(5):
        rows = "".join(f"{number}-{at},Nina\n" for at in range(3000))
        write(tmp_path, f"{number}.csv", b"id,name\nx\n" + rows.encode())
    pattern = str(tmp_path / "*.csv")
    with open_source(pattern) as one, open_source(pattern, parallel=parallel) as many:
        assert list(many) == list(one)
        assert many.result.rows_read == 15_000
        assert many.result.error_count == 5


def test_files_of_this_machine_can_be_looked_at_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv")
    assert files_of(path) == (path,)
    assert files_of(str(tmp_path / "*.csv")) == (path,)
    assert files_of("-") is None
    assert files_of("https://example.org/a.csv") is None
    assert files_of("postgresql://localhost/x") is None


# Formats


@pytest.mark.parametrize("given", [None, "csv"])
def test_text_without_a_known_name_is_csv(tmp_path: Path, given: str | None) -> None:
    with open_source(write(tmp_path, "artists"), format=given) as rows:
        assert len(list(rows)) == 2
        assert rows.facts()["format"] == "csv"


def test_the_name_tells_the_format(tmp_path: Path) -> None:
    path = write(tmp_path, "a.TSV", b"id,x\tname\n1,x\tNina\n")
    assert values(open_source(path)) == [("1,x", "Nina")]


def test_the_content_goes_before_the_name_and_that_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "artists.csv")
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("create table artists (id text, name text)")
        database.execute("insert into artists values ('1', 'Nina')")
    database.close()
    with open_source(path) as rows:
        assert values(rows) == [("1", "Nina")]
        facts = rows.facts()
    assert facts["format"] == "sqlite"
    assert facts["named"] == f"{path} is named as CSV and is an SQLite database"
    assert values(open_source(f"sqlite:///{path}")) == [("1", "Nina")]


def test_an_address_of_sqlite_has_three_slashes() -> None:
    with pytest.raises(UsageError, match=r"write sqlite:///artists\.db"):
        open_source("sqlite://artists.db")


def test_a_format_that_is_given_goes_before_all(tmp_path: Path) -> None:
    path = write(tmp_path, "a.parquet")
    assert len(values(open_source(path, format="csv"))) == 2
    with pytest.raises(UsageError, match="--format cvs: there is no such format; there are csv"):
        open_source(path, format="cvs")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.csv", b"%PDF-1.7\n", "a PDF document"),
        ("a.csv", b"<?xml version='1.0'?>", "XML"),
        ("a.csv", b"Rar!\x1a\x07", "a RAR archive"),
        ("a.pdf", b"", r"is named \.pdf"),
        ("a.duckdb", b"\0" * 20, r"is named \.duckdb"),
        ("a.tar", b"x", r"is named \.tar"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(
    tmp_path: Path, name: str, data: bytes, what: str
) -> None:
    with pytest.raises(InputError, match=rf"{what}.*what can be read: CSV, TSV, JSON Lines"):
        open_source(write(tmp_path, name, data))


def content(name: str) -> Content:
    return Content(name, name, lambda: None)  # type: ignore[arg-type, return-value]


def zipped(first: bytes, rest: bytes = b"") -> bytes:
    return b"PK\x03\x04" + bytes(22) + len(first).to_bytes(2, "little") + bytes(2) + first + rest


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("", b"PAR1", "parquet"),
        ("", b"ARROW1\0\0", "arrow"),
        ("", b"SQLite format 3\0", "sqlite"),
        ("", b"\xd0\xcf\x11\xe0\xa1\xb1", "xls"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1", "xls"),
        ("", zipped(b"[Content_Types].xml"), "xlsx"),
        ("a.ods", zipped(b"xl/workbook.xml"), "xlsx"),
        ("", zipped(b"mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), "ods"),
        ("", b'{"id": 1}', "jsonl"),
        ("", b'\xef\xbb\xbf\n { "id": 1}', "jsonl"),
        ("", b'[{"id": 1}]', "jsonl"),
        ("", b'\xef\xbb\xbf[\n  {"id": 1}]', "jsonl"),
        ("", b"[ ]", "jsonl"),
        ("", b"[id],name", "csv"),
        ("", b"{id},name", "csv"),
        ("a.csv", b'{"id": 1}', "csv"),
        ("a.tsv", b"id\tname", "tsv"),
        ("a.NDJSON", b"{}", "jsonl"),
        ("a.xlsx", b"PK", "xlsx"),
        ("a.whatever", b"id,name", "csv"),
        ("", b"", "csv"),
    ],
)
def test_formats_are_told_by_content_name_and_else_are_csv(
    name: str, start: bytes, expected: str
) -> None:
    assert choose(content(name), start, None)[0].name == expected


@pytest.mark.parametrize("each", [*FORMATS, *DATABASES], ids=lambda each: each.name)
def test_every_opener_is_there(each: formats.Format | formats.Database) -> None:
    assert callable(load(each.opener))


# Plug-ins

PLUGGED_IN = """
from artist_bio_gen.sources.formats import Database, Format, begins_with
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Column

class Lines(RowStream):
    columns = (Column("id"), Column("name"))

    def __init__(self, name, text):
        self.name = name
        self._rows = [line.split("~") for line in text.split()]

    def read(self, size):
        rows, self._rows = self._rows[:size], self._rows[size:]
        return Chunk(("id", "name"), range(1, 1 + len(rows)), rows) if rows else None

    def close(self):
        pass

def open_tilde(content, options, cancelled):
    assert options.format == "tilde"
    with content.open() as file:
        return Lines(content.name, file.read().decode().removeprefix("tilde\\n"))

def open_server(address, options, cancelled):
    return Lines(address, address.partition("://")[2])

def shout(chunk):
    values = [[id, name.upper()] for id, name in chunk.values()]
    return Chunk(chunk.columns, chunk.numbers, values, bad=chunk.bad, file=chunk.file)

def count(chunk):
    import os
    values = [[*row, len(row), os.getpid()] for row in chunk.values()]
    columns = (*chunk.columns, "cells", "pid")
    return Chunk(columns, chunk.numbers, values, bad=chunk.bad, file=chunk.file)

def crowded(chunk):
    if len(chunk) > 3:
        raise MemoryError
    if len(chunk) == 1:
        print("what a function prints is no chunk")
    return chunk

def hanging(chunk):
    import pathlib, threading
    pathlib.Path(__file__).with_name("hanging").touch()
    threading.Event().wait()

tried = []

def lonely(chunk):
    if len(chunk) == 1 and not tried:
        tried.append(chunk)
        raise MemoryError
    return chunk

def broken(chunk):
    raise ValueError("no such artist")

def ending(chunk):
    import os
    os._exit(7)

tilde = Format("tilde", "tildes", "plugged_in:open_tilde", (".tilde",), begins_with(b"tilde\\n"))
server = Database("server", "a server", "plugged_in:open_server", ("tilde",))
"""
ENTRY_POINTS = """
[artist_bio_gen.sources]
tilde = plugged_in:tilde
server = plugged_in:server

[artist_bio_gen.chunk_functions]
shout = plugged_in:shout
gone = plugged_in:gone
count = plugged_in:count
crowded = plugged_in:crowded
lonely = plugged_in:lonely
hanging = plugged_in:hanging
broken = plugged_in:broken
ending = plugged_in:ending
"""


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    info = folder / "plugged_in-1.0.dist-info"
    write(info, "METADATA", b"Metadata-Version: 2.1\nName: plugged-in\nVersion: 1.0\n")
    write(info, "entry_points.txt", ENTRY_POINTS.encode())
    write(folder, "plugged_in.py", PLUGGED_IN.encode())
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "plugged_in", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("a.tilde", b"1~Nina", {}),
        ("a", b"tilde\n1~Nina", {}),
        ("a.csv", b"1~Nina", {"format": "tilde"}),
    ],
)
def test_a_format_can_be_plugged_in(
    plug_ins: Path, name: str, data: bytes, options: dict[str, str]
) -> None:
    with open_source(write(plug_ins, name, data), **options) as rows:  # type: ignore[arg-type]
        assert rows.facts()["format"] == "tilde"
        assert [row.values for row in rows if isinstance(row, Row)] == [("1", "Nina")]


def test_a_database_can_be_plugged_in(plug_ins: Path) -> None:
    assert values(open_source("tilde://1~Nina")) == [("1", "Nina")]


def test_a_chunk_function_can_be_plugged_in(plug_ins: Path) -> None:
    path = write(plug_ins, "a.csv")
    assert values(open_source(path, chunk_function="shout")) == [("1", "NINA"), ("2", "BILL")]
    with pytest.raises(UsageError, match=r"--chunk-function x: .*there are shout, gone, count"):
        open_source(path, chunk_function="x")
    with pytest.raises(ConfigError, match=r"plug-in gone \(plugged_in:gone\) cannot be loaded"):
        open_source(path, chunk_function="gone")


def test_unknown_formats_are_told_with_those_that_are_plugged_in(plug_ins: Path) -> None:
    with pytest.raises(UsageError, match=r"there are csv, .*, tilde$"):
        open_source(write(plug_ins, "a.csv"), format="x")


def many_rows(folder: Path, rows: int) -> str:
    lines = "".join(f"{at},Artist {at}\n" for at in range(rows))
    return write(folder, "many.csv", f"id,name\n{lines}ragged\n".encode())


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_chunk_function_may_work_in_several_processes(plug_ins: Path, parallel: int) -> None:
    path = many_rows(plug_ins, 500)
    with open_source(path, chunk_function="count", parallel=parallel, chunk_size=20) as rows:
        found = list(rows)
        assert [column.name for column in rows.columns] == ["id", "name", "cells", "pid"]
    assert isinstance(found.pop(), BadRow)
    cells = [row.values for row in found if isinstance(row, Row)]
    assert [row[:3] for row in cells] == [(str(at), f"Artist {at}", 2) for at in range(500)]
    pids = {row[3] for row in cells}
    assert len(pids) == parallel
    assert (os.getpid() in pids) == (parallel == 1)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_chunk_function_that_lacks_memory_gets_fewer_rows(plug_ins: Path, parallel: int) -> None:
    path = many_rows(plug_ins, 50)
    with open_source(path, chunk_function="crowded", parallel=parallel, chunk_size=16) as rows:
        assert [row.values[0] for row in rows if isinstance(row, Row)] == [*map(str, range(50))]
        assert rows.result.error_count == 1


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_lone_row_that_lacked_memory_for_once_is_not_lost(plug_ins: Path, parallel: int) -> None:
    path = many_rows(plug_ins, 33)
    with open_source(path, chunk_function="lonely", parallel=parallel, chunk_size=16) as rows:
        assert [row.values[0] for row in rows if isinstance(row, Row)] == [*map(str, range(33))]


def test_a_chunk_function_that_comes_to_no_end_in_a_process_is_called_off(plug_ins: Path) -> None:
    path = write(plug_ins, "a.csv")
    begun = plug_ins / "site" / "hanging"
    before = open_here()
    with (
        open_source(path, chunk_function="hanging", parallel=2, cancelled=begun.exists) as rows,
        pytest.raises(StoppedError),
    ):
        list(rows)
    assert open_here() - before == set()


@pytest.mark.parametrize(
    ("function", "what"),
    [("broken", "failed at rows 2 to 17: ValueError: no such artist"), ("ending", "ended with 7")],
)
def test_a_chunk_function_that_fails_in_a_process_is_told(
    plug_ins: Path, function: str, what: str
) -> None:
    path = many_rows(plug_ins, 50)
    with (
        open_source(path, chunk_function=function, parallel=2, chunk_size=16) as rows,
        pytest.raises(InputError, match=what),
    ):
        list(rows)


# Content


def test_the_content_of_a_file_tells_its_size(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv")
    found = local_content(path, lambda: False)
    assert (found.name, found.file_name, found.path) == (path, "a.csv", Path(path))
    assert (found.size, found.packed_size, found.again) == (len(CSV), len(CSV), True)


def test_importing_it_takes_no_heavy_package() -> None:
    script = "import sys, artist_bio_gen.sources; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"pyarrow", "pandas", "duckdb", "openpyxl", "psycopg", "pymysql", "fsspec", "sqlite3"}
    assert heavy.isdisjoint(loaded)


def test_a_memory_limit_ends_the_reading_in_order(tmp_path: Path) -> None:
    with open_source(write(tmp_path, "a.csv"), memory_limit=10_000) as rows:
        assert len(list(rows)) == 2
    ballast = bytearray(b"x") * 60_000_000  # so that this process takes more than the least limit
    with (
        open_source(write(tmp_path, "a.csv"), memory_limit=50) as rows,
        pytest.raises(LimitError, match="50 MB"),
    ):
        list(rows)
    assert len(ballast) == 60_000_000


def test_a_result_can_be_written_as_json(tmp_path: Path) -> None:
    from dataclasses import asdict

    with open_source(write(tmp_path, "a.csv", CSV + b"x\n")) as rows:
        list(rows)
    told = json.loads(json.dumps(asdict(rows.result)))
    assert told["rows_read"] == 2
    assert told["errors"][0]["number"] == 4


@pytest.mark.parametrize("parallel", [1, 2])
def test_of_each_file_of_a_pattern_it_is_told_what_it_is(tmp_path: Path, parallel: int) -> None:
    for name in ("1.csv", "3.csv"):
        write(tmp_path, name, b"id\n1\n")
    second = write(tmp_path, "2.csv", b"")
    import sqlite3

    with closing(sqlite3.connect(second)) as db, db:
        db.execute("create table artists (id text)")
    with open_source(f"{tmp_path}/*.csv", parallel=parallel) as rows:
        list(rows)
        facts = rows.facts()
    files = facts["files"]
    assert [each["format"] for each in files] == ["csv", "sqlite", "csv"]  # type: ignore[index, union-attr, call-overload]
    assert facts["named"] == f"{second} is named as CSV and is an SQLite database"
