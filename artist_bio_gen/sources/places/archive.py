"""The files in a zip archive, each read from its place in it."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.formats import by_name
from artist_bio_gen.sources.places.packing import (
    BZIP2,
    PACKINGS,
    Decoder,
    Inflater,
    Packing,
    unpacking,
)
from artist_bio_gen.sources.places.spool import spooled

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_BLOCK = 256 * 1024
_MOST_DIRECTORY = 64 * 1024 * 1024
"""Bytes of the list of members, which is read as a whole."""

_MOST_MEMORY = 256 * 1024 * 1024
_SHOWN = 20  # names in a message

_WORKBOOK_MEMBERS = frozenset({"[Content_Types].xml", "mimetype"})
"""A workbook is an archive in which one of these stands (Office Open XML, OpenDocument)."""

_ENCRYPTED = 0x1
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END = struct.Struct("<4s4xHHLLH")
_LZMA_HEADER = struct.Struct("<2xHBL")

_OTHER_METHODS = {9: "deflate64", 93: "zstandard", 95: "xz", 98: "ppmd"}
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def members(content: Content, options: SourceOptions) -> list[Content]:
    """What can be read in it, in the order of names; --member takes one. A workbook comes back
    as it is. An archive that is not on disk is put there first."""
    content = spooled(content, options)
    assert content.path is not None
    found = _directory(content, content.path)
    if any(member.filename in _WORKBOOK_MEMBERS for member in found):
        return [content]
    chosen = _chosen(content, found, options)
    return [_member(content, member) for member in chosen]


def _directory(content: Content, path: Path) -> list[zipfile.ZipInfo]:
    try:
        with path.open("rb") as file:
            _require_small_directory(content, file)
            with zipfile.ZipFile(file) as archive:
                return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as exc:
        raise InputError(
            f"{content.name} is a damaged zip archive ({exc}), whose list of members cannot be"
            " read; get it again"
        ) from exc


def _require_small_directory(content: Content, file: io.BufferedReader[Any]) -> None:
    file.seek(max(0, file.seek(0, io.SEEK_END) - 65_557))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        return  # zipfile says what is wrong
    size = _END.unpack_from(tail, at)[3]
    if size == 0xFFFFFFFF:  # it stands in the larger form (zip64), right before its locator
        far = tail.rfind(b"PK\x06\x06", 0, at)
        size = struct.unpack_from("<Q", tail, far + 40)[0] if far >= 0 else 0
    if size > _MOST_DIRECTORY:
        raise InputError(
            f"{content.name} has a list of members of {size:,} bytes, which is more than"
            f" {_MOST_DIRECTORY:,}; unpack it, and give the files"
        )


def _chosen(
    content: Content, found: list[zipfile.ZipInfo], options: SourceOptions
) -> list[zipfile.ZipInfo]:
    files = sorted((each for each in found if not each.is_dir()), key=lambda each: each.filename)
    if options.member is not None:
        named = [each for each in files if each.filename == options.member]
        if not named:
            raise UsageError(
                f"--member {options.member}: {content.name} has no such file, but {_named(files)}"
            )
        return named[-1:]
    files = [each for each in files if not _is_hidden(each.filename)]
    readable = [each for each in files if options.format or _has_format(each.filename)]
    chosen = readable or (files if len(files) == 1 else [])
    if not chosen:
        raise InputError(
            f"{content.name} holds {_named(files)}: nothing whose name says that it has rows;"
            " choose with --member, or say with --format what they are"
        )
    return chosen


def _named(files: Iterable[zipfile.ZipInfo]) -> str:
    names = [each.filename for each in files]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "no file at all") + more


def _is_hidden(name: str) -> bool:
    """What systems put beside the files that were meant."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _has_format(name: str) -> bool:
    """Whether the name says that rows are in it, packed or not."""
    path = PurePosixPath(name.lower())
    if path.suffix in {suffix for packing in PACKINGS for suffix in packing.suffixes}:
        path = path.with_suffix("")
    return by_name(path.name) is not None


def _member(content: Content, member: zipfile.ZipInfo) -> Content:
    name = f"{content.name}/{member.filename}"
    if member.flag_bits & _ENCRYPTED:
        raise InputError(f"{name} is encrypted; unpack it with its password, and give the file")
    if member.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(member.compress_type, str(member.compress_type))
        raise InputError(
            f"{name} is compressed with the method {method}, which is not read; unpack the"
            " archive, and give the file"
        )
    if member.filename.lower().endswith(".zip"):
        raise InputError(f"{name} is an archive within an archive; unpack the outer one")
    return Content(
        name=name,
        file_name=PurePosixPath(member.filename).name,
        open=partial(_open, content, member, name),
        again=True,
        size=member.file_size,
        packed_size=member.compress_size,
    )


def _open(content: Content, member: zipfile.ZipInfo, name: str) -> io.BufferedReader[Any]:
    packed = io.BufferedReader(_Packed(content, member, name), _BLOCK)
    with on_failure(packed.close):
        source = packed
        if member.compress_type == zipfile.ZIP_DEFLATED:
            source = unpacking(packed, _DEFLATE, name=name)
        elif member.compress_type == zipfile.ZIP_BZIP2:
            source = unpacking(packed, BZIP2, name=name)
        elif member.compress_type == zipfile.ZIP_LZMA:
            source = unpacking(packed, _lzma(packed, name), name=name)
    return io.BufferedReader(_Checked(source, member, name), _BLOCK)


_DEFLATE = Packing("deflate", (), (), lambda: Inflater(-15), lambda: (zlib.error,), 128 * 1024)


def _lzma(packed: io.BufferedReader[Any], name: str) -> Packing:
    """The decoder for what follows the properties at the beginning (APPNOTE.TXT, 5.8.8)."""
    header = packed.read(_LZMA_HEADER.size)
    size, byte, dictionary = _LZMA_HEADER.unpack(header) if len(header) == 9 else (0, 0, 0)
    if size != 5 or byte >= 9 * 5 * 5:
        raise InputError(f"{name} is damaged: it does not begin as LZMA does; get it again")
    if dictionary > _MOST_MEMORY:
        raise InputError(
            f"{name} wants {dictionary:,} bytes of memory to be unpacked, which is more than"
            f" {_MOST_MEMORY:,}; unpack it yourself, and give the file"
        )
    rest, lc = divmod(byte, 9)
    pb, lp = divmod(rest, 5)
    about = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}

    def decoder() -> Decoder:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[about])

    return Packing("lzma", (), (), decoder, lambda: (lzma.LZMAError, EOFError))


def _is_local_header(header: bytes) -> bool:
    return len(header) == _LOCAL_HEADER.size and header.startswith(b"PK\x03\x04")


class _Packed(io.RawIOBase):
    """The bytes of a member as they stand in the archive."""

    def __init__(self, content: Content, member: zipfile.ZipInfo, name: str) -> None:
        self._left = member.compress_size
        self._file = content.open()
        with on_failure(self._file.close):
            # Where bytes are missing before the list, zipfile counts from before the file's begin.
            self._file.seek(max(0, member.header_offset))
            header = self._file.read(_LOCAL_HEADER.size)
            if member.header_offset < 0 or not _is_local_header(header):
                raise InputError(
                    f"{name} is not where the archive's list of members says; get it again"
                )
            _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
            self._file.seek(name_bytes + extra_bytes, io.SEEK_CUR)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._file.readinto1(view)
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Checked(io.RawIOBase):
    """As many bytes as the member has, and InputError at the end if they are not those that were
    put in."""

    def __init__(self, source: io.BufferedReader[Any], member: zipfile.ZipInfo, name: str) -> None:
        self._source = source
        self._name = name
        self._size = self._left = member.file_size
        self._expected = member.CRC
        self._crc = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._source.readinto1(view) if self._left else 0
        if not count and self._left:
            raise self._flawed("is damaged (it ends before its whole length)")
        self._crc = zlib.crc32(view[:count], self._crc)
        self._left -= count
        if not count and self._crc != self._expected:
            raise self._flawed("is damaged (its checksum does not fit)")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()

    def _flawed(self, what: str) -> InputError:
        return InputError(
            f"{self._name} {what}; {self._size - self._left:,} bytes of its content could be read,"
            " and the whole rows among them stand; get the archive again"
        )
