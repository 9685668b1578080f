"""No input, however damaged or large, kills the program: it is refused in clear words, or costs the
rows that are damaged, within a fixed memory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.parser import choose_columns, parse
from artist_bio_gen.sources import open_source
from artist_bio_gen.values import Artist
from tests.acceptance.harness import PATIENCE_S
from tests.faults.seed import chance

MEMORY = 512 * 1024 * 1024
"""Bytes of address space for the whole process, interpreter and libraries included."""

BLOCK = 1024 * 1024

# The limit is set by the process itself, before it knows anything of the program.
CHILD = (
    "import resource, runpy;"
    f" resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}));"
    " runpy.run_module('artist_bio_gen', run_name='__main__')"
)

BEGINS = b"id,name\n1,Nina\n"
ENDS = b"\n2,Ella\n"


@dataclass(frozen=True, slots=True)
class Told:
    """What the command said of an input, and the numbers of artists and rejected rows."""

    exit_code: int
    text: str

    @property
    def counts(self) -> tuple[int, int] | None:
        found = re.search(r"([\d,]+) artists would be looked up, ([\d,]+) rows rejected", self.text)
        if found is None:
            return None
        return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def read(pieces: Iterable[bytes], folder: Path, *options: str, source: str = "-") -> Told:
    """The real command reads all of it, looks each row over, and does no more."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", CHILD, "--input", source, "--dry-run"),
            *("--progress", "none", "--verbose", *options),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            "ARTIST_BIO_GEN_MODEL": "m",
        },
    )
    assert process.stdin is not None
    stdin = process.stdin

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError):  # it has seen enough
            for piece in pieces:
                stdin.write(piece)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert process.stdout is not None
    with process.stdout as stdout:
        said = stdout.read().decode()
    feeder.join()
    told = Told(process.wait(PATIENCE_S), said)
    assert told.exit_code in (0, 1, 2), told.text[-2000:]
    assert "Traceback" not in told.text
    assert "unexpected" not in told.text
    assert "\x00" not in told.text
    return told


def megabytes(count: int, text: bytes) -> Iterator[bytes]:
    block = text * (BLOCK // len(text))
    for _ in range(count):
        yield block


NOTES = "\U0001f3b7".encode()
TEN = b"0123456789"
SHORT_ROW = b"7,Some name and what else the catalogue knows of such an artist which is not much\n"

# What is between two good rows, how many rows are rejected for it, and a word of the reason.
BETWEEN: dict[str, tuple[Iterable[bytes], int, str]] = {
    "a cell of 200 MB": ([b'3,"', *megabytes(200, b"x"), b'"'], 1, "longer than"),
    "a cell of 200 MB of notes": ([b"3,", *megabytes(200, NOTES)], 1, "longer than"),
    "100 MB of NUL": (megabytes(100, b"\0"), 1, "longer than"),
    "a NUL": ([b"3,a\0b"], 1, "NUL"),
    "a million cells": ([b"," * 1_000_000], 1, "1,000,001 cells for 2 columns"),
    "an id of 10 MB": ([*megabytes(10, TEN), b",x"], 1, "longer than 2,000 bytes"),
    "Latin-1": (["3,Björk".encode("latin-1")], 1, "--encoding"),
    "Shift JIS": (["3,坂本龍一".encode("shift_jis")], 1, "--encoding"),
    "half a character": ([b"3,\xf0\x9f\x8e"], 1, "which is no utf-8"),
    "a surrogate": ([b"3,\xed\xa0\xbd"], 1, "which is no utf-8"),
    "UTF-16": (["3,Björk".encode("utf-16-le")], 1, "NUL"),
    "a quote without a partner": ([b'3,"x'], 1, "is not closed"),
    "quotes only": ([b'"' * 5], 1, "is not closed"),
    "a quote in a quote": ([b'3,"a"b"'], 1, "written twice"),
    "a missing cell": ([b"3"], 1, "1 cell for 2 columns"),
    "no id and no name": ([b",\n3,\n,x"], 3, "is empty"),
    "20 MB of comments": (megabytes(20, b"# nothing\n"), 0, ""),
    "5 MB of empty lines": (megabytes(5, b"\n"), 0, ""),
    "all line ends": ([b"3,a\r4,b\r\n5,c\n\r6,d\n\n"], 0, ""),
}
MORE_ARTISTS = {"all line ends": 4}


@pytest.mark.parametrize("what", BETWEEN)
def test_damage_costs_the_rows_in_which_it_stands(what: str, tmp_path: Path) -> None:
    pieces, rejected, reason = BETWEEN[what]
    told = read([BEGINS, *([*pieces] if isinstance(pieces, list) else pieces), ENDS], tmp_path)
    assert told.exit_code == 0, told.text[-2000:]
    assert told.counts == (2 + MORE_ARTISTS.get(what, 0), rejected)
    assert reason in told.text


def open_quote(rows: bytes, count: int) -> Iterator[bytes]:
    yield BEGINS + b'3,"never closed\n'
    yield from megabytes(count, rows)


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path) -> None:
    told = read(open_quote(SHORT_ROW, 100), tmp_path)
    assert told.counts == (1 + 100 * (BLOCK // len(SHORT_ROW)), 1)
    assert re.search(r"row 3 would be rejected: the quote .* is not closed", told.text)


def test_a_quote_that_is_never_closed_over_short_lines_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_bytes(b"".join(open_quote(b"y\n", 16)))
    tracemalloc.start()
    try:
        with open_source(str(path)) as stream:
            kinds = [type(row).__name__ for row in islice(stream, 3)]
        assert tracemalloc.get_traced_memory()[1] < 120 * BLOCK
    finally:
        tracemalloc.stop()
    assert kinds == ["Row", "BadRow", "BadRow"]


# Nothing of these can be read: what they are, the exit code, and a word of what is said.
NOTHING: dict[str, tuple[Iterable[bytes], tuple[str, ...], int, str]] = {
    "nothing": ([], (), 1, "is empty"),
    "5 MB of line feeds": (megabytes(5, b"\n"), (), 1, "is empty"),
    "100 MB without a line end": (megabytes(100, b"x"), (), 1, "longer than"),
    "100 MB of cells without a line end": (megabytes(100, b"a,b,"), (), 1, "longer than"),
    "50 MB of quotes": (megabytes(50, b'"'), (), 1, "cannot be read"),
    "100 MB of NUL": (megabytes(100, b"\0"), (), 1, "longer than"),
    "a million columns": ([b"id,name" + b",x" * 1_000_000], (), 1, "16,384 columns"),
    "UTF-16 without its mark": (["id,name\n1,é\n".encode("utf-16-le")], (), 1, "--encoding"),
    "the other UTF-16": (["id,name\n1,é\n".encode("utf-16-be")], (), 1, "--encoding"),
    "a damaged zip archive": ([b"PK\x03\x04" + bytes(1000)], (), 1, "zip archive"),
    "a document": ([b"%PDF-1.7\n" + bytes(1000)], (), 1, "a PDF document"),
    "a program": ([b"\x7fELF\x02\x01\x01" + bytes(10_000)], (), 1, "cannot be read"),
    "an encoding that is none": ([BEGINS], ("--encoding", "rot13"), 2, "no such text encoding"),
    "UTF-8 read as UTF-16": ([BEGINS * 50], ("--encoding", "utf-16"), 1, "is no utf-16"),
    "the same column twice": ([b"id,id\n"], (), 1, "more than one column"),
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_cannot_be_read_at_all_is_refused_in_clear_words(what: str, tmp_path: Path) -> None:
    pieces, options, exit_code, says = NOTHING[what]
    told = read(pieces, tmp_path, *options)
    assert told.exit_code == exit_code, told.text[-2000:]
    assert says in told.text
    assert told.counts is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_file_with_the_mark_of_its_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    told = read(["id,name\n1,Nina\n2,Céline\n".encode(encoding)], tmp_path)
    assert told.counts == (2, 0)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "artists.csv").open("wb") as file:
        file.truncate(500 * BLOCK)
    told = read([], tmp_path, source=str(tmp_path / "artists.csv"))
    assert told.exit_code == 1
    assert "longer than" in told.text


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"], ids=["CR", "LF", "CR LF"])
def test_a_file_with_one_kind_of_line_end(end: bytes, tmp_path: Path) -> None:
    row = b"7,Nina" + end
    told = read([b"id,name" + end, *megabytes(2, row)], tmp_path)
    assert told.counts == (2 * (BLOCK // len(row)), 0)


def test_random_bytes_are_read_or_refused(tmp_path: Path) -> None:
    draw = chance("bytes")
    for header in ("--header", "--no-header"):
        told = read([b"id,name\n", *(draw.randbytes(BLOCK) for _ in range(2))], tmp_path, header)
        assert told.exit_code == 0, told.text[-2000:]
        assert told.counts is not None
        assert sum(told.counts) > 1000


PIECES = st.sampled_from(
    [
        b"id,name\n",
        b"1,a\n",
        b'"',
        b",",
        b"\r",
        b"\n",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"#",
        b"\xef\xbb\xbf",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    data=st.lists(PIECES | st.binary(max_size=20), max_size=40).map(b"".join),
    header=st.booleans(),
    encoding=st.sampled_from([None, None, "utf-16", "utf-7", "gb18030", "latin-1"]),
)
def test_whatever_a_file_holds_its_artists_can_be_written_and_stored(
    data: bytes, header: bool, encoding: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(data)
    try:
        with open_source(str(path), encoding=encoding, header=header) as stream:
            rows = list(parse(stream, choose_columns(stream.columns)))
    except (InputError, UsageError) as exc:
        str(exc).encode()
        return
    for row in rows:
        text = orjson.dumps(row).decode()
        assert "\\u0000" not in text.replace("\\\\", "")  # a backslash of the file's own is two
        if isinstance(row, Artist):
            assert row.id.strip() and row.name.strip()  # noqa: PT018 - one fact
        else:
            assert row.reason
