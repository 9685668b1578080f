"""Encodings: told by a mark, given, or found by content; and what no encoding makes text of."""

from __future__ import annotations

import codecs
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.text.encodings import Encoding, encoding_of, sample_of, shown, unsound
from artist_bio_gen.values import BadRow, Row

NAMES = ["Björk Guðmundsdóttir", "Édith Piaf", "Juliette Gréco", "Françoise Hardy", "Noël Coward"]
TEXT = "id,name\n" + "".join(f"{at},{name}\n" for at, name in enumerate(NAMES * 20))


def of(start: bytes, given: str | None = None) -> Encoding:
    return encoding_of(start, given, name="a.csv", sample=lambda: start)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["", "-le", "-be"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_mark_tells_the_encoding_and_that_is_told(
    encoding: str, order: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"artists.{suffix}"
    text = "id,name\n1,坂本龍一\n" if suffix == "csv" else '{"id":"1","name":"坂本龍一"}\n'
    path.write_bytes((("\ufeff" if order else "") + text).encode(encoding + order))
    with open_source(str(path)) as rows:
        assert [column.name for column in rows.columns] == ["id", "name"]
        assert [row.values for row in rows if isinstance(row, Row)] == [("1", "坂本龍一")]
        assert rows.facts()["encoding"] == encoding


@pytest.mark.parametrize("text", ["id,name\n1,a\n", '[{"id":"1"}]', '{"id":"1"}\n'])
def test_where_a_decoder_cannot_go_on_the_encoding_is_said_to_be_wrong(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / ("artists.csv" if text.startswith("id") else "artists.json")
    path.write_text(text)
    told = r"artists\.(csv|json) is no idna \(.+\); give its encoding with --encoding"
    with pytest.raises(InputError, match=told), open_source(str(path), encoding="idna") as rows:
        list(rows)


def test_a_file_that_cannot_be_read_on_is_no_fault_of_its_encoding() -> None:
    with (
        pytest.raises(
            InputError, match=r"^a\.csv cannot be read to its end: Input/output error; get it"
        ),
        Encoding("utf-8").told("a.csv"),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_utf_8_is_what_is_not_told() -> None:
    assert of(b"id,name\n") == Encoding("utf-8")
    assert of(codecs.BOM_UTF8 + b"id") == Encoding("utf-8")
    assert of(b"\xff") == Encoding("utf-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_mark_than_what_is_given_is_an_error(encoding: str) -> None:
    with pytest.raises(InputError, match=r"a\.csv begins with the mark of UTF-\d\d; read it with"):
        of("id,name\n".encode(encoding), "UTF8")


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "a\x00b"])
def test_an_unknown_encoding_is_wrong_usage(encoding: str) -> None:
    with pytest.raises(UsageError, match="no such text encoding"):
        of(b"id", encoding)


# auto


def test_auto_takes_a_mark_first_and_utf_8_next() -> None:
    assert of("id".encode("utf-16"), "auto").name == "utf-16"
    assert of("1,坂本".encode()[:-1], "auto") == Encoding("utf-8", 1.0)
    assert of(b"id,name", "Auto") == Encoding("utf-8", 1.0)


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1"])
def test_auto_finds_an_encoding_and_tells_how_sure_it_is(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_bytes(TEXT.encode(encoding))
    with open_source(str(path), encoding="auto") as rows:
        facts = rows.facts()
        assert [row.values[1] for row in rows if isinstance(row, Row)] == NAMES * 20
    assert 0 < facts["encoding_confidence"] <= 1


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("windows-1251", ["Виктор Цой", "Алла Пугачёва", "Владимир Высоцкий"]),
        ("windows-1250", ["Czesław Niemen", "Michał Urbaniak", "Świętosława Ćwikła"]),
        ("shift_jis", ["坂本龍一", "宇多田ヒカル", "久石譲"]),
        ("utf-16-le", ["Édith Piaf", "坂本龍一"]),
        ("utf-16-be", ["Виктор Цой", "Nina"]),
    ],
)
def test_auto_reads_the_names_as_they_are(encoding: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_bytes(("id,name\n" + "".join(f"1,{name}\n" for name in names * 30)).encode(encoding))
    with open_source(str(path), encoding="auto") as rows:
        assert [row.values[1] for row in rows if isinstance(row, Row)] == names * 30


def test_auto_gives_up_on_what_is_no_text() -> None:
    with pytest.raises(InputError, match=r"a\.csv: no encoding fits its content; give it with"):
        of(bytes(range(255)) * 10, "auto")


def test_auto_looks_beyond_a_beginning_that_is_ascii(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_bytes(b"id,name\n" + b"1,Nina\n" * 50_000 + TEXT.encode("windows-1252")[8:])
    with open_source(str(path), encoding="auto") as rows:
        assert not any(isinstance(row, BadRow) for row in rows)


def test_a_byte_that_the_found_encoding_has_not_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_bytes(b"id,name\n" + b"1,Nina\n" * 1_000_000 + b"2,Bj\xf6rk\n3,Elis\n")
    with open_source(str(path), encoding="auto") as rows:
        assert rows.facts()["encoding"] == "utf-8"
        bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.number for row in bad] == [1_000_002]
    assert "byte 0xf6, which is no utf-8" in bad[0].reason


def test_without_its_package_auto_says_how_to_get_it() -> None:
    program = (
        "import sys\n"
        "sys.modules['charset_normalizer'] = None\n"
        "from artist_bio_gen.errors import ConfigError\n"
        "from artist_bio_gen.sources.text.encodings import encoding_of\n"
        "try:\n"
        "    encoding_of(b'', 'auto', name='a.csv', sample=lambda: b'1,Bj\\xf6rk')\n"
        "except ConfigError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"--encoding auto needs the package charset_normalizer" in done.stdout
    assert b"'artist-bio-gen[encodings]'" in done.stdout


def test_a_sample_is_the_lines_by_which_an_encoding_shows() -> None:
    data = b"id,name\n" + b"1,Nina\n" * 100_000 + b"2,Bj\xf6rk\n" + b"3,Elis\n" * 100
    assert sample_of(lambda: io.BufferedReader(io.BytesIO(data)), data[:10]) == b"2,Bj\xf6rk\n"
    assert sample_of(None, data[:10]) == data[:10]


# What is no text


def test_what_is_unsound_is_named() -> None:
    decode = Encoding("utf-8").decoder()
    assert unsound(decode(b"a\xf6b", True), "utf-8") == "byte 0xf6, which is no utf-8,"
    assert unsound("a\x00b", "utf-8") == "NUL"
    assert unsound("a\ud83c", "utf-16") == "half a character (U+D83C)"
    assert unsound("Zoë 🎷", "utf-8") == ""


def test_what_is_shown_can_be_stored_and_is_cut() -> None:
    assert shown("a\x00\udcf6b\r\n") == "a\ufffd\ufffdb"
    assert shown("x" * 1000) == "x" * 500
