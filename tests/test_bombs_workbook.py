"""Workbooks that were made to fill memory or take for ever: each ends as an error of ours, in
bounded time, and neither this process nor the one that reads takes more than 500 MiB (G16)."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.workbooks import SHEET, by_xlsxwriter, member, rebuilt, with_sheet, xml_row

MOST_MIB = 500
MOST_S = 120
"""Longest time for one of them on a machine that others use as well."""

HEAD = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
SHEET_BEGINS = (
    HEAD
    + b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
)
SHEET_ENDS = b"</sheetData></worksheet>"

READ = """
import json, re, resource, sys
from tests.workbooks import opened
from pathlib import Path
from artist_bio_gen.errors import InputError, LimitError
rows = 0
try:
    with opened(Path(sys.argv[1])) as stream:
        for chunk in stream.chunks():
            rows += len(chunk)
    end = "read"
except (InputError, LimitError) as exc:
    end = f"{type(exc).__name__}: {exc}"
# Not getrusage of this process: that begins with what the process had that started this one.
own = re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([end, rows, max(int(own[1]), children) / 1024]))
"""


def read(path: Path) -> tuple[str, int]:
    """How reading it ends in a process of its own, and how many rows were given before."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    assert done.returncode == 0, done.stderr
    end, rows, peak_mib = json.loads(done.stdout)
    assert peak_mib < MOST_MIB
    assert path.name in end or end == "read"
    return end, rows


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.xlsx"
    by_xlsxwriter(path, {"Sheet1": [("id", "name"), ("1", "a")]})
    return path


def with_stream(path: Path, source: Path, name: str, blocks: Iterable[bytes]) -> Path:
    """The workbook with this member written block by block."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for each in old.namelist():
            if each != name:
                new.writestr(each, old.read(each))
        with new.open(name, "w", force_zip64=True) as file:
            for block in blocks:
                file.write(block)
    return path


def lying(path: Path, name: str, size: int) -> Path:
    """The workbook whose directory says that this member unpacks to `size` bytes."""
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name.encode():
        at = data.find(b"PK\x01\x02", at + 4)
    struct.pack_into("<I", data, at + 24, size)
    path.write_bytes(data)
    return path


def test_a_text_of_400_mb_in_400_kb(plain: Path, tmp_path: Path) -> None:
    blocks = [
        SHEET_BEGINS + b'<row r="1"><c r="A1" t="inlineStr"><is><t>',
        *[b"x" * 1_000_000] * 400,
        b"</t></is></c></row>" + SHEET_ENDS,
    ]
    path = with_stream(tmp_path / "bomb.xlsx", plain, SHEET, blocks)
    assert path.stat().st_size < 500_000
    end, _ = read(path)
    assert end.startswith("LimitError")
    assert "more than 300 times its size" in end


def test_the_same_with_a_directory_that_lies(plain: Path, tmp_path: Path) -> None:
    blocks = [
        SHEET_BEGINS + xml_row(1, "a").encode() + b'<row r="2"><c r="A2" t="inlineStr"><is><t>',
        *[b"x" * 1_000_000] * 600,
        b"</t></is></c></row>" + SHEET_ENDS,
    ]
    path = lying(with_stream(tmp_path / "bomb.xlsx", plain, SHEET, blocks), SHEET, 5_000)
    end, _ = read(path)
    assert end.startswith(("LimitError", "InputError"))


def test_a_text_that_does_not_pack_well(plain: Path, tmp_path: Path) -> None:
    """No ratio tells it: the process that reads reaches its limit."""
    noise = random.Random(1)
    blocks = [
        SHEET_BEGINS + xml_row(1, "a").encode() + b'<row r="2"><c r="A2" t="inlineStr"><is><t>',
        *[noise.randbytes(1_000).hex().encode() * 500] * 600,
        b"</t></is></c></row>" + SHEET_ENDS,
    ]
    end, _ = read(with_stream(tmp_path / "bomb.xlsx", plain, SHEET, blocks))
    assert end.startswith("LimitError")
    assert "needs more memory" in end or "times its size" in end


def test_shared_strings_that_fill_memory(plain: Path, tmp_path: Path) -> None:
    noise = random.Random(1)
    texts = [
        b"".join(b"<si><t>%s</t></si>" % noise.randbytes(8).hex().encode() for _ in range(2_000))
    ]
    blocks = [
        HEAD + b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">',
        *texts * 12_000,
        b"</sst>",
    ]
    path = with_stream(tmp_path / "bomb.xlsx", plain, "xl/sharedStrings.xml", blocks)
    end, rows = read(path)
    assert (end.split(":")[0], rows) == ("LimitError", 0)


@pytest.mark.parametrize("declared", ["", '<dimension ref="A1:XFD1048576"/>'])
def test_cells_in_opposite_corners(declared: str, tmp_path: Path) -> None:
    """4 kB, on which python-calamine aborts."""
    last = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    path = with_sheet(tmp_path / "bomb.xlsx", [xml_row(1, "a"), last], before=declared)
    assert path.stat().st_size < 10_000
    end, rows = read(path)
    assert (end, rows) == ("read", 0), "the last row is a bad one"


def test_a_far_cell_on_the_first_row_makes_no_row_wide(tmp_path: Path) -> None:
    first = '<row r="1"><c r="A1" t="str"><v>a</v></c><c r="XFD1" t="str"><v>b</v></c></row>'
    rows = (xml_row(number, number) for number in range(2, 50_002))
    end, read_rows = read(with_sheet(tmp_path / "bomb.xlsx", [first, *rows]))
    assert (end, read_rows) == ("read", 50_000)


def test_a_row_number_beyond_all_sheets(tmp_path: Path) -> None:
    for number in (2_000_000_000, 4_294_967_296, 10**30):
        path = with_sheet(tmp_path / "bomb.xlsx", [xml_row(1, "a"), xml_row(number, 1)])
        end, _ = read(path)
        assert end.startswith("InputError")


@pytest.mark.parametrize("name", [SHEET, "xl/sharedStrings.xml", "xl/workbook.xml"])
def test_entities_within_entities(name: str, plain: Path, tmp_path: Path) -> None:
    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(12)
    ).encode()
    xml = member(plain, name)
    head, _, rest = xml.partition(b"?>")
    bomb = head + b"?><!DOCTYPE x [" + entities + b"]>" + rest.replace(b"<t>", b"<t>&e11;")
    end, rows = read(rebuilt(tmp_path / "bomb.xlsx", plain, {name: bomb}))
    assert (end.split(":")[0], rows) == ("InputError", 0)
    assert "has a DTD" in end


def test_an_entity_that_reads_a_file_in_another_encoding(plain: Path, tmp_path: Path) -> None:
    text = member(plain, SHEET).decode().partition("?>")[2]
    xml = f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x SYSTEM "file:///etc/passwd">{text}'
    end, _ = read(rebuilt(tmp_path / "bomb.xlsx", plain, {SHEET: xml.encode("utf-16")}))
    assert "has a DTD" in end


def test_a_document_that_never_begins(plain: Path, tmp_path: Path) -> None:
    xml = HEAD + b"<!--" + b" " * 1_000_000 + b"-->" + member(plain, SHEET)
    end, _ = read(rebuilt(tmp_path / "bomb.xlsx", plain, {SHEET: xml}))
    assert end.startswith("InputError")


def test_members_that_lie_within_each_other(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for each in old.namelist():
            new.writestr(each, old.read(each))
        # A second entry of the directory for the same bytes.
        again = new.infolist()[-1]
        new.filelist.append(again)
    end, _ = read(path)
    assert "lies within another file" in end


def test_more_members_than_a_workbook_has(plain: Path, tmp_path: Path) -> None:
    names = {f"xl/media/{number}.png": b"" for number in range(20_001)}
    end, _ = read(rebuilt(tmp_path / "bomb.xlsx", plain, names))
    assert end.startswith("LimitError")
    assert "20,0" in end


def test_merged_cells_over_the_whole_sheet(tmp_path: Path) -> None:
    merges = "".join('<mergeCell ref="A1:XFD1048576"/>' for _ in range(10_000))
    path = with_sheet(
        tmp_path / "bomb.xlsx",
        [xml_row(1, "a"), *(xml_row(n, n) for n in range(2, 100))],
        after=f"<mergeCells>{merges}</mergeCells>",
    )
    end, _ = read(path)
    assert end == "read"


def test_an_opendocument_sheet_of_repeated_cells(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ods"
    cell = (
        '<table:table-cell office:value-type="string" table:number-columns-repeated="16384">'
        "<text:p>x</text:p></table:table-cell>"
    )
    names = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{names}:office:1.0"'
        f' xmlns:table="{names}:table:1.0" xmlns:text="{names}:text:1.0"><office:body>'
        '<office:spreadsheet><table:table table:name="A">'
        f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = (
        f'<manifest:manifest xmlns:manifest="{names}:manifest:1.0"><manifest:file-entry'
        ' manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument'
        '.spreadsheet"/></manifest:manifest>'
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    end, rows = read(path)
    assert (end.split(":")[0], rows) == ("InputError", 0)
    assert "Cell limit exceeded" in end


@pytest.mark.parametrize("suffix", ["xlsx", "xls"])
def test_an_encrypted_workbook_is_told_as_such(suffix: str, tmp_path: Path) -> None:
    """An OLE file with the directory of an encrypted package."""
    names = ["Root Entry", "EncryptionInfo", "EncryptedPackage"]
    directory = b"".join(name.encode("utf-16-le").ljust(128, b"\x00") for name in names)
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\x00") + directory)
    end, _ = read(path)
    assert "is encrypted; open it and save it without a password" in end


def _flip(data: bytearray, noise: random.Random) -> None:
    for _ in range(noise.randrange(1, 20)):
        data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)


def _cut(data: bytearray, noise: random.Random) -> None:
    del data[noise.randrange(len(data)) :]


def _repeat(data: bytearray, noise: random.Random) -> None:
    at = noise.randrange(len(data))
    data[at:at] = data[at : at + noise.randrange(1, 2_000)] * noise.randrange(1, 50)


DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _cut, _repeat)
ALLOWED = ("InputError", "LimitError", "read")


@pytest.mark.parametrize("seed", range(6))
def test_damage_at_random(seed: int, tmp_path: Path) -> None:
    """In the archive, and in what is packed in it."""
    noise = random.Random(seed)
    plain = tmp_path / "plain.xlsx"
    rows = [("id", "name"), *((number, f"Artist {number}") for number in range(300))]
    by_xlsxwriter(plain, {"Sheet1": rows})
    names = (SHEET, "xl/workbook.xml", "xl/sharedStrings.xml", "xl/styles.xml", "")
    for trial, name in enumerate(names):
        path = tmp_path / f"bomb{trial}.xlsx"
        data = bytearray(member(plain, name) if name else plain.read_bytes())
        noise.choice(DAMAGE)(data, noise)
        if name:
            rebuilt(path, plain, {name: bytes(data)})
        else:
            path.write_bytes(data)
        end, _ = read(path)
        assert end.split(":")[0] in ALLOWED


def test_a_wrong_checksum_is_an_error_behind_the_rows(tmp_path: Path) -> None:
    plain = tmp_path / "plain.xlsx"
    by_xlsxwriter(plain, {"Sheet1": [("id",), *((number,) for number in range(100))]})
    data = bytearray(plain.read_bytes())
    checksum = struct.pack("<I", zlib.crc32(member(plain, SHEET)))
    assert data.count(checksum) >= 1
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(data.replace(checksum, b"\x00\x01\x02\x03"))
    end, rows = read(path)
    assert end.split(":")[0] in ALLOWED
    assert rows in (0, 99, 100)
