"""Compressed files and archives: every row that can be read is read, and what is wrong is said."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, LimitError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.compressed import unpacked
from artist_bio_gen.sources.places.packing import (
    BZIP2,
    GZIP,
    MOST_EMPTY,
    PACKINGS,
    XZ,
    ZSTD,
    Packing,
    Unpacking,
    packing_of,
    require_zstd,
    unpacking,
)
from artist_bio_gen.sources.places.spool import spooled
from artist_bio_gen.values import BadRow

zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": partial(lzma.compress, preset=1),
    # with a checksum, as the command zstd does
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}
OPTIONS = SourceOptions()


def table(rows: int) -> bytes:
    lines = [f"{number},Artist {number * 7919 % 10_007},Ghana" for number in range(rows)]
    return ("id,name,country\n" + "\n".join(lines) + "\n").encode()


def content_of(path: Path) -> Content:
    size = path.stat().st_size
    return Content(
        name=str(path),
        file_name=path.name,
        open=lambda: path.open("rb"),
        again=True,
        path=path,
        size=size,
        packed_size=size,
    )


def once(data: bytes, name: str = "") -> Content:
    """As a pipe: one pass, no size, no path."""
    return Content(name or "standard input", name, lambda: io.BufferedReader(io.BytesIO(data)))


def ids(path: Path, **more: Any) -> list[Any]:
    with open_source(path, **more) as source:
        return [row.values[0] for row in source if not isinstance(row, BadRow)]


def read_until_it_ends(file: io.BufferedReader[Any]) -> tuple[bytes, str]:
    """What can be read, and with which error it ended."""
    found = []
    try:
        with file:
            while data := file.read1(10_000):
                found.append(data)
    except InputError as exc:
        return b"".join(found), str(exc)
    return b"".join(found), ""


@pytest.mark.parametrize("suffix", PACK)
def test_rows_of_a_compressed_file_are_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"artists.csv{suffix}"
    path.write_bytes(PACK[suffix](table(5_000)))
    assert ids(path) == [str(number) for number in range(5_000)]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("rows", [3, 60_000])
def test_about_how_many_rows_there_are_is_known(tmp_path: Path, suffix: str, rows: int) -> None:
    path = tmp_path / f"artists.csv{suffix}"
    path.write_bytes(PACK[suffix](table(rows)))
    with open_source(path) as source:
        assert source.estimated_row_count == pytest.approx(rows, rel=0.2)


@pytest.mark.parametrize("suffix", PACK)
def test_the_first_bytes_count_and_not_the_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "artists.csv").write_bytes(PACK[suffix](table(10)))
    assert len(ids(tmp_path / "artists.csv")) == 10
    (tmp_path / f"plain.csv{suffix}").write_bytes(table(10))
    assert len(ids(tmp_path / f"plain.csv{suffix}")) == 10


@pytest.mark.parametrize("suffix", PACK)
def test_a_name_without_its_content_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"artists.csv{suffix}"
    path.write_bytes(b"\x00" + PACK[suffix](table(10))[1:])
    with pytest.raises(InputError, match="not compressed as its name says: it begins with 00"):
        unpacked(content_of(path), OPTIONS)


@pytest.mark.parametrize("suffix", PACK)
def test_several_compressed_files_behind_each_other_are_one(suffix: str) -> None:
    data = table(3_000)
    parts = [data[:10], data[10:20_000], b"", data[20_000:]]
    packed = b"".join(PACK[suffix](part) for part in parts)
    (content,) = unpacked(once(packed), OPTIONS)
    assert read_until_it_ends(content.open()) == (data, "")


@pytest.mark.parametrize("suffix", PACK)
def test_unpacking_takes_bytes_as_they_come(suffix: str) -> None:
    data = table(500)
    packed = PACK[suffix](data[:5_000]) + PACK[suffix](data[5_000:])
    packing = packing_of(packed)
    assert packing is not None

    class Dripping(io.RawIOBase):
        at = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            piece = packed[self.at : self.at + 1]
            self.at += 1
            memoryview(buffer)[: len(piece)] = piece
            return len(piece)

    source = io.BufferedReader(Dripping(), 1)
    assert Unpacking(source, packing, name="x").readall() == data


def test_a_row_in_a_pipe_is_given_before_the_next_one_is_written() -> None:
    near, far = os.pipe()
    packer = zlib.compressobj(wbits=31)

    def send(data: bytes) -> None:
        os.write(far, packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))

    piped = Content("pipe", "", lambda: os.fdopen(near, "rb"))
    send(b"id,name\n1,Ada\n")
    (content,) = unpacked(piped, OPTIONS)
    with content.open() as file:
        assert file.read1(1_000) == b"id,name\n1,Ada\n"
        send(b"2,Bo\n")
        assert file.read1(1_000) == b"2,Bo\n"
        os.write(far, packer.flush())
        os.close(far)
        assert file.read1(1_000) == b""


def test_a_pipe_that_says_little_at_first_is_waited_for_only_if_it_may_be_compressed() -> None:
    near, far = os.pipe()
    os.write(far, b"id")
    (content,) = unpacked(Content("pipe", "", lambda: os.fdopen(near, "rb")), OPTIONS)
    os.close(far)
    assert read_until_it_ends(content.open()) == (b"id", "")

    near, far = os.pipe()
    packed = gzip.compress(b"id\n1\n")
    os.write(far, packed[:1])
    late = threading.Thread(target=lambda: (os.write(far, packed[1:]), os.close(far)))
    late.start()
    (content,) = unpacked(Content("pipe", "", lambda: os.fdopen(near, "rb")), OPTIONS)
    assert read_until_it_ends(content.open()) == (b"id\n1\n", "")
    late.join()


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.999])
def test_a_cut_file_gives_all_before_the_cut_then_says_so(
    tmp_path: Path, suffix: str, share: float
) -> None:
    data = table(60_000)
    whole = PACK[suffix](data)
    path = tmp_path / f"artists.csv{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    (content,) = unpacked(content_of(path), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert data.startswith(found)
    assert str(path) in error
    assert f"cut off?; {len(found):,} bytes" in error
    if suffix in (".gz", ".zst"):  # the others come in large blocks
        assert len(found) > (share - 0.2) * len(data)


@pytest.mark.parametrize("suffix", PACK)
def test_rows_before_a_cut_are_given_and_the_error_comes_behind_them(
    tmp_path: Path, suffix: str
) -> None:
    data = table(100_000)
    whole = PACK[suffix](data)
    path = tmp_path / f"artists.csv{suffix}"
    path.write_bytes(whole[:-20])
    (content,) = unpacked(content_of(path), OPTIONS)
    found, _ = read_until_it_ends(content.open())
    rows = []
    with open_source(path) as source, pytest.raises(InputError, match="whole rows among them"):
        rows.extend(row.values[0] for row in source)
    assert len(rows) in (found.count(b"\n") - 1, found.count(b"\n"))
    assert rows == [str(number) for number in range(len(rows))]


@pytest.mark.parametrize("at_share", [0.3, 0.9])
def test_of_a_damaged_gzip_all_before_the_damage_is_given(at_share: float) -> None:
    data = table(60_000)
    packed = bytearray(gzip.compress(data))
    at = int(len(packed) * at_share)
    packed[at : at + 64] = bytes(64)
    # byte by byte, zlib gives all that it can
    decoder, sound = zlib.decompressobj(31), bytearray()
    with suppress(zlib.error):
        for byte in packed:
            sound += decoder.decompress(bytes([byte]))
    assert 0.1 * len(data) < len(sound)
    assert not decoder.eof
    (content,) = unpacked(once(bytes(packed)), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert len(found) >= len(sound)
    assert found.startswith(sound)
    assert "is damaged (gzip: Error -3 while decompressing data: " in error
    assert f"{len(found):,} bytes" in error


@pytest.mark.parametrize("suffix", PACK)
def test_damage_is_told_and_most_before_it_is_given(suffix: str) -> None:
    data = random.Random(5).randbytes(1_500_000).hex().encode()
    packed = bytearray(PACK[suffix](data))
    at = len(packed) * 3 // 4
    packed[at : at + 200] = bytes(200)
    (content,) = unpacked(once(bytes(packed)), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert "damaged" in error
    assert len(found) > 0.4 * len(data)
    if suffix not in (".zst", ".gz"):
        return
    assert data.startswith(found[: int(0.7 * len(data))])


def test_a_checksum_that_does_not_fit_is_told_behind_all_bytes() -> None:
    data = table(1_000)
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 1
    (content,) = unpacked(once(bytes(packed)), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert found == data
    assert "incorrect data check" in error


@pytest.mark.parametrize("suffix", PACK)
def test_what_follows_the_end_is_told_behind_all_bytes(suffix: str) -> None:
    data = table(1_000)
    (content,) = unpacked(once(PACK[suffix](data) + b"rubbish"), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert found == data
    assert "something behind its end" in error
    (content,) = unpacked(once(PACK[suffix](data) + packing_start(suffix)[:3]), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert found == data
    assert "ends too early" in error


def packing_start(suffix: str) -> bytes:
    return next(each for each in PACKINGS if suffix in each.suffixes).starts[0]


@pytest.mark.parametrize(("packing", "suffix"), [(GZIP, ".gz"), (XZ, ".xz")])
def test_padding_behind_the_end_is_passed_over(packing: Packing, suffix: str) -> None:
    assert packing.padded
    packed = PACK[suffix](b"id\n1\n") + bytes(512) + PACK[suffix](b"2\n") + bytes(1_000_000)
    (content,) = unpacked(once(packed), OPTIONS)
    assert read_until_it_ends(content.open()) == (b"id\n1\n2\n", "")


def test_frames_of_zstandard_that_hold_nothing_are_passed_over() -> None:
    skipped = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    packed = skipped + zstd.compress(b"id\n") + skipped + zstd.compress(b"1\n")
    (content,) = unpacked(once(packed), OPTIONS)
    assert read_until_it_ends(content.open()) == (b"id\n1\n", "")


@given(data=st.binary(max_size=400), at=st.integers(0, 399), byte=st.integers(0, 255))
def test_no_damage_raises_anything_else(data: bytes, at: int, byte: int) -> None:
    for suffix, pack in PACK.items():
        packed = bytearray(pack(data))
        packed[at % len(packed)] = byte
        start = packing_start(suffix)
        if packed.startswith(start):
            read_until_it_ends(unpacked(once(bytes(packed)), OPTIONS)[0].open())


def test_random_bytes_behind_a_true_beginning_raise_nothing_else() -> None:
    for packing in (GZIP, BZIP2, XZ, ZSTD):
        for seed in range(50):
            body = packing.starts[0] + zlib.compress(bytes([seed] * seed)) * 3
            _, error = read_until_it_ends(unpacked(once(body), OPTIONS)[0].open())
            assert error


# ---- bombs -------------------------------------------------------------------------------------


def bomb(suffix: str, byte: bytes = b"\0") -> bytes:
    """300 MB of the same byte."""
    return PACK[suffix](byte * 10_000_000) * 30


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_takes_no_memory_and_ends_in_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bomb(suffix))
    script = (
        "import re, sys\n"
        "from artist_bio_gen.errors import InputError\n"
        "from artist_bio_gen.sources.places.packing import packing_of, unpacking\n"
        "for padding in (32 << 20, 1 << 40):\n"
        "    file = open(sys.argv[1], 'rb')\n"
        "    packing, size = packing_of(file.peek()[:10]), 0\n"
        "    try:\n"
        "        with unpacking(file, packing, name='bomb', padding=padding) as reader:\n"
        "            while data := reader.read1(65536): size += len(data)\n"
        "    except InputError as exc: print(exc)\n"
        "    with open('/proc/self/status') as status:\n"
        "        print(size, re.search(r'VmHWM:\\s+(\\d+)', status.read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    error, refused, whole = done.stdout.splitlines()
    assert "in a row, which are no rows" in error
    assert int(refused.split()[0]) <= 33 << 20
    size, peak_kib = map(int, whole.split())
    assert size == 300_000_000
    assert peak_kib < 100 * 1024


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_named_csv_ends_in_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "artists.csv"
    for byte in (b"\0", b" "):
        path.write_bytes(bomb(suffix, byte))
        with pytest.raises(InputError), open_source(path) as source:
            for _ in source:
                pass


def test_the_same_byte_for_a_while_is_no_bomb() -> None:
    data = b"a" * 5_000 + b"b" * 5_000
    source = io.BufferedReader(io.BytesIO(gzip.compress(data * 10)))
    assert Unpacking(source, GZIP, name="x", padding=6_000).readall() == data * 10
    source = io.BufferedReader(io.BytesIO(gzip.compress(b"a" * 300_000)))
    with pytest.raises(InputError, match="which are no rows"):
        Unpacking(source, GZIP, name="x", padding=200_000).readall()


def test_a_dictionary_beyond_all_measure_is_refused() -> None:
    packed = bytearray(lzma.compress(b"id\n1\n"))
    size = (packed[12] + 1) * 4  # of the block's header, which ends with its checksum
    assert packed[14] == 0x21  # LZMA2, then the size of its properties
    packed[16] = 37  # 1.5 GiB
    packed[12 + size - 4 : 12 + size] = zlib.crc32(packed[12 : 12 + size - 4]).to_bytes(4, "little")
    _, error = read_until_it_ends(unpacked(once(bytes(packed)), OPTIONS)[0].open())
    assert "Memory usage limit" in error


# ---- archives ----------------------------------------------------------------------------------


METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def archive(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def read_members(path: Path, options: SourceOptions = OPTIONS) -> dict[str, bytes]:
    found = {}
    for content in unpacked(content_of(path), options):
        with content.open() as file:
            found[content.file_name] = file.read()
    return found


@pytest.mark.parametrize("method", METHODS)
def test_members_of_an_archive_come_in_the_order_of_their_names(
    tmp_path: Path, method: str
) -> None:
    path = tmp_path / "artists.zip"
    archive(path, {"b.csv": table(2_000), "a.csv": table(10), "c/d.csv": b""}, METHODS[method])
    found = read_members(path)
    assert list(found) == ["a.csv", "b.csv", "d.csv"]
    assert found["b.csv"] == table(2_000)
    assert found["d.csv"] == b""
    sizes = [content.size for content in unpacked(content_of(path), OPTIONS)]
    assert sizes == [len(table(10)), len(table(2_000)), 0]


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_an_archive_are_those_of_its_members(tmp_path: Path, method: str) -> None:
    path = archive(
        tmp_path / "artists.zip", {"b.csv": table(20), "a.csv": table(10)}, METHODS[method]
    )
    assert ids(path) == [str(number) for number in [*range(10), *range(20)]]
    assert len(ids(path, member="b.csv")) == 20


def test_what_has_no_rows_is_left_out(tmp_path: Path) -> None:
    files = {
        "a.csv": table(1),
        "__MACOSX/a.csv": b"x",
        ".hidden.csv": b"x",
        "notes.pdf": b"x",
        "folder/": b"",
        "b.csv.gz": gzip.compress(table(2)),
        "c.jsonl.zst": b"",
    }
    path = archive(tmp_path / "artists.zip", files)
    assert read_members(path) == {"a.csv": table(1), "b.csv": table(2), "c.jsonl": b""}
    one = archive(tmp_path / "one.zip", {"artists": table(1)})
    assert read_members(one) == {"artists": table(1)}


def test_a_member_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"x/a.dat": table(1), "b.csv": table(2)})
    assert read_members(path, SourceOptions(member="x/a.dat")) == {"a.dat": table(1)}
    with pytest.raises(UsageError, match=r"--member c\.csv: .* no such file, but b\.csv, x/a\.dat"):
        unpacked(content_of(path), SourceOptions(member="c.csv"))
    assert len(unpacked(content_of(path), SourceOptions(format="csv"))) == 2


def test_of_members_with_one_name_the_last_one_is_chosen(tmp_path: Path) -> None:
    """As by programs that unpack: it was put there in place of the one before."""
    path = archive(tmp_path / "a.zip", {"a.csv": table(1)})
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("a.csv", table(2))
    assert read_members(path, SourceOptions(member="a.csv")) == {"a.csv": table(2)}


def test_an_archive_without_rows_says_what_it_holds(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {f"{number}.png": b"" for number in range(30)})
    with pytest.raises(InputError, match=r"0\.png, .* and 10 more: nothing whose name says"):
        unpacked(content_of(path), OPTIONS)
    empty = archive(tmp_path / "empty.zip", {})
    with pytest.raises(InputError, match="no file at all"):
        unpacked(content_of(empty), OPTIONS)


def test_workbooks_are_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "book.xlsx", {"[Content_Types].xml": b"", "xl/workbook.xml": b""})
    assert unpacked(content_of(path), OPTIONS)[0].path == path
    wrong = archive(tmp_path / "book.zip", {"[Content_Types].xml": b"", "xl/workbook.xml": b""})
    assert unpacked(content_of(wrong), OPTIONS)[0].path == wrong


def test_an_archive_from_a_pipe_is_put_on_disk_and_removed(tmp_path: Path) -> None:
    data = archive(tmp_path / "a.zip", {"a.csv": table(5), "b.csv": table(6)}).read_bytes()
    folder = tmp_path / "spill"
    folder.mkdir()
    options = SourceOptions(spill_dir=folder)
    contents = unpacked(once(data), options)
    assert [read_until_it_ends(each.open())[0] for each in contents] == [table(5), table(6)]
    assert len(list(folder.iterdir())) == 1
    del contents
    assert list(folder.iterdir()) == []


def test_what_is_put_on_disk_has_a_limit(tmp_path: Path) -> None:
    content = once(bytes(3_000_000), "big.xlsx")
    with pytest.raises(LimitError, match=r"big\.xlsx .* more than 2 MB .*--spill-max"):
        spooled(content, SourceOptions(spill_dir=tmp_path, spill_max=2))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--spill-dir"):
        spooled(once(b"", "x"), SourceOptions(spill_dir=tmp_path / "file" / "none"))


def test_what_a_killed_process_has_put_on_disk_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import io, os, signal, sys; from pathlib import Path\n"
        "from artist_bio_gen.config.source import SourceOptions\n"
        "from artist_bio_gen.sources.content import Content\n"
        "from artist_bio_gen.sources.places.spool import spooled\n"
        "made = spooled(Content('x', 'x.xlsx', lambda: io.BufferedReader(io.BytesIO(b'x'))),"
        " SourceOptions(spill_dir=Path(sys.argv[1])))\n"
        "assert made.path.suffix == '.xlsx' and made.path.read_bytes() == b'x'\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    options = SourceOptions(spill_dir=tmp_path)
    mine = spooled(once(b"mine"), options)
    other = spooled(once(b"other"), options)
    assert mine.path is not None
    assert other.path is not None
    assert set(tmp_path.iterdir()) == {mine.path.parent, other.path.parent}
    with mine.open() as file:
        assert file.read() == b"mine"


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_member_is_told_behind_its_sound_bytes(tmp_path: Path, method: str) -> None:
    data = random.Random(5).randbytes(100_000).hex().encode()
    path = archive(tmp_path / "a.zip", {"a.csv": data}, METHODS[method])
    packed = bytearray(path.read_bytes())
    packed[80_000] ^= 0xFF
    path.write_bytes(packed)
    (content,) = unpacked(content_of(path), OPTIONS)
    found, error = read_until_it_ends(content.open())
    assert "a.zip/a.csv is damaged" in error
    if method == "stored":
        assert len(found) == len(data)
    if method == "deflate":
        assert data.startswith(found[:130_000])


@pytest.mark.parametrize("method", METHODS)
def test_closing_a_member_lets_go_of_the_archive(tmp_path: Path, method: str) -> None:
    path = archive(tmp_path / "a.zip", {"a.csv": table(5_000)}, METHODS[method])
    (content,) = unpacked(content_of(path), OPTIONS)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    file = content.open()
    file.read(10)
    assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
    file.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.csv": table(1_000)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged zip archive"):
        unpacked(content_of(path), OPTIONS)


def test_encrypted_members_and_other_methods_are_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.csv": table(10)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip/a\.csv is encrypted"):
        unpacked(content_of(path), OPTIONS)
    data[at + 8] &= ~1
    data[at + 10] = 9  # deflate64
    path.write_bytes(data)
    with pytest.raises(InputError, match="method deflate64"):
        unpacked(content_of(path), OPTIONS)


def test_archives_within_each_other_are_told(tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.zip", {"a.csv": table(1)}).read_bytes()
    path = archive(tmp_path / "a.zip", {"inner.zip": inner})
    with pytest.raises(InputError, match="archive within an archive"):
        unpacked(content_of(path), OPTIONS)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(1024)))
    with pytest.raises(InputError, match="tar archive"):
        unpacked(content_of(tmp_path / "a.tar.gz"), OPTIONS)


def test_a_list_of_members_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.csv": table(1)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = (100_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="list of members of 100,000,000 bytes"):
        unpacked(content_of(path), OPTIONS)


def test_an_archive_without_its_first_bytes_is_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"b.csv": table(10), "a.csv": table(1_000)})
    data = path.read_bytes()
    path.write_bytes(data[:10] + data[60:])  # its list says where members were before
    with pytest.raises(InputError, match="is not where the archive's list of members says"):
        unpacked(content_of(path), OPTIONS)


def test_very_many_frames_that_hold_nothing_are_no_rows() -> None:
    empty = require_zstd().compress(b"")
    few = empty * MOST_EMPTY + require_zstd().compress(b"id\n")
    assert unpacked_bytes(few) == b"id\n"
    with pytest.raises(InputError, match="10,000 zstandard files in a row with nothing in them"):
        unpacked_bytes(empty * 2 + few)


def unpacked_bytes(data: bytes) -> bytes:
    return unpacking(io.BufferedReader(io.BytesIO(data)), ZSTD, name="a.zst").read()  # type: ignore[arg-type]
