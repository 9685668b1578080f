"""Whether a workbook may be opened: what it is, and that nobody made it to fill memory or disk.

Looked at are the first bytes, a zip archive's own directory and the beginning of each XML member.
What a directory hides (members that unpack to more than it says) is left to the limits of the
process that reads: sheets are read as a stream, and whatever else is too large ends it.
"""

from __future__ import annotations

import mmap
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, TypeAlias
from xml.parsers import expat

from artist_bio_gen.errors import InputError, LimitError

Kind: TypeAlias = Literal["xlsx", "xlsb", "xls", "ods"]

MOST_BYTES = 32 * 1024**3
"""Of all members together, unpacked. Twenty full sheets of 20 columns have about as many."""

MOST_RATIO = 300
"""Bytes unpacked for each packed one, of a member of `SMALL` bytes and more. A full sheet whose
rows are all alike has up to some 100; what deflate can do at most is 1,032."""

SMALL = 32 * 1024**2

MOST_WHOLE = 1024**3
"""Of a member that is held in memory as a whole: shared strings, styles, an OpenDocument sheet."""

_MOST_MEMBERS = 20_000
_PROLOG = 64 * 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ODS = b"application/vnd.oasis.opendocument.spreadsheet"
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_DIMENSION = re.compile(rb"""<(?:\w+:)?dimension\s[^>]*?ref=["'](?:[A-Z]+\d+:)?([A-Z]+)(\d+)["']""")
_ROW = re.compile(rb"<(?:\w+:)?row[\s>]")


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a sheet says it is: its last column and row, counted from 1 (0: it does not say),
    and about how many rows its beginning lets expect."""

    columns: int = 0
    rows: int = 0
    rows_expected: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """A workbook that may be opened. `extents` are by the members of an xlsx archive."""

    kind: Kind
    extents: dict[str, Extent] = field(default_factory=dict)


def check_workbook(file: BinaryIO, name: str) -> Checked:
    """InputError when it is damaged, encrypted, no workbook at all, or tells of DTDs and entities;
    LimitError when it is larger than it should be. `file` can be sought, and is left open."""
    start = file.read(8)
    if start == _OLE:
        _refuse_encrypted_package(file, name)
        return Checked("xls")
    if not start.startswith(b"PK"):
        raise InputError(f"{name} is no workbook; what can be read as one: .xlsx, .xls, .ods")
    try:
        with zipfile.ZipFile(file) as archive:
            return _check_archive(archive, name)
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError),
        LookupError,  # an encoding that there is not
    ) as exc:
        raise InputError(
            f"{name} is a damaged workbook ({exc}); take a sound copy, or mend it with a"
            " spreadsheet program"
        ) from exc
    except RuntimeError as exc:  # of zipfile, for members with a password
        raise _encrypted(name) from exc


def _check_archive(archive: zipfile.ZipFile, name: str) -> Checked:
    members = archive.infolist()
    _check_sizes(members, name)
    kind = _kind(archive, name)
    extents = {}
    for member in members:
        if not member.filename.lower().endswith((".xml", ".rels", ".vml")):
            continue
        streamed = _SHEET.fullmatch(member.filename) is not None
        if not streamed and member.file_size > MOST_WHOLE:
            raise LimitError(
                f"{name}: {member.filename} unpacks to {member.file_size // 1024**2:,} MiB, and is"
                f" held in memory as a whole; the most is {MOST_WHOLE // 1024**2:,} MiB: save its"
                " sheets as CSV"
            )
        with archive.open(member) as reader:
            start = reader.read(_PROLOG)
        _check_prolog(start, f"{name}: {member.filename}")
        if streamed:
            extents[member.filename] = _extent(start, member.file_size)
    return Checked(kind, extents)


def _check_sizes(members: list[zipfile.ZipInfo], name: str) -> None:
    if len(members) > _MOST_MEMBERS:
        raise LimitError(
            f"{name} has {len(members):,} files in it; a workbook has at most {_MOST_MEMBERS:,}:"
            " save its sheets as CSV"
        )
    ends = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < ends:
            raise InputError(
                f"{name}: {member.filename} lies within another file of it; it was made to fill"
                " memory, and is not opened: take a sound copy"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{name}: {member.filename} is packed in a way that no spreadsheet program uses;"
                " save it anew with one"
            )
        ends = member.header_offset + member.compress_size
        if member.file_size > SMALL and member.file_size > MOST_RATIO * member.compress_size:
            raise LimitError(
                f"{name}: {member.filename} unpacks to {member.file_size // 1024**2:,} MiB, more"
                f" than {MOST_RATIO} times its size; it looks like it was made to fill memory: if"
                " it is sound, save its sheets as CSV"
            )
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise LimitError(
            f"{name} unpacks to {total // 1024**3:,} GiB; the most is {MOST_BYTES // 1024**3:,}"
            " GiB: save its sheets as CSV"
        )


def _kind(archive: zipfile.ZipFile, name: str) -> Kind:
    members = set(archive.namelist())
    if "mimetype" in members:
        with archive.open("mimetype") as reader:
            told = reader.read(100)
        if told.startswith(_ODS):
            return "ods"
    if "xl/workbook.bin" in members:
        return "xlsb"
    if "[Content_Types].xml" in members and not members.isdisjoint(
        {"xl/workbook.xml", "_rels/.rels"}
    ):
        return "xlsx"
    raise InputError(f"{name} is a zip archive, and no workbook; what can be read: .xlsx, .ods")


class _Prolog(Exception):
    """The document's first element has begun."""


def _check_prolog(start: bytes, name: str) -> None:
    """Refuses what stands before the first element and defines anything. (Behind it, XML allows
    no DTD; entities that none has defined are errors.)"""
    if not start:
        return  # left to whoever needs it

    def refuse(*_: object) -> None:
        raise InputError(
            f"{name} has a DTD, which no spreadsheet program writes, and which can be made to fill"
            " memory; it is not opened: save it anew with a spreadsheet program"
        )

    def begun(*_: object) -> None:
        raise _Prolog

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = begun
    try:
        parser.Parse(start, False)
    except _Prolog:
        return
    except expat.ExpatError as exc:
        raise InputError(f"{name} is damaged: {exc}; take a sound copy") from exc
    raise InputError(
        f"{name} is damaged: nothing begins in its first {_PROLOG:,} bytes; take a sound copy"
    )


def _extent(start: bytes, size: int) -> Extent:
    begun = len(_ROW.findall(start))
    expected = round(begun * size / len(start)) if start else 0
    found = _DIMENSION.search(start)
    if found is None:
        return Extent(rows_expected=expected)
    rows = min(int(found[2]), 2**31)
    # "A1" is also what writers say who do not know.
    return Extent(column_number(found[1].decode()), rows, rows if rows > 1 else expected)


def column_number(letters: str) -> int:
    """1 for A."""
    number = 0
    for letter in letters[:4]:
        number = 26 * number + ord(letter) - 64
    return number


def column_letters(number: int) -> str:
    """A for 1."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _refuse_encrypted_package(file: BinaryIO, name: str) -> None:
    """An .xlsx with a password is an OLE file that holds a stream of this name ([MS-OFFCRYPTO]
    2.3.4.4); names stand at the beginning of directory entries of 128 bytes."""
    wanted = "EncryptedPackage".encode("utf-16-le")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(wanted)
        while at >= 0:
            if at % 128 == 0:
                raise _encrypted(name)
            at = data.find(wanted, at + 1)


def _encrypted(name: str) -> InputError:
    return InputError(f"{name} is encrypted; open it and save it without a password")
