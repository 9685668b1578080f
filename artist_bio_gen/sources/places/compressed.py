"""Compressed files and archives: the files within them, unpacked while they are read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.content import Content, peeked
from artist_bio_gen.sources.places.archive import members
from artist_bio_gen.sources.places.packing import (
    ARCHIVE_STARTS,
    PACKINGS,
    ZSTD,
    Packing,
    may_go_on,
    packing_of,
    require_zstd,
    unpacking,
)

_SAMPLE = 1024 * 1024
_LOOKED_AT = 10  # bytes that tell whether something may be text


def unpacked(content: Content, options: SourceOptions) -> list[Content]:
    """The files within this one, or itself if it is not compressed; told by its first bytes, as
    names are often wrong. An archive may have several, in the order of their names; what is in
    them is unpacked once more. Workbooks, which are archives too, stay as they are."""
    start, content = peeked(content, may_go_on)
    with on_failure(content.drop):
        if not start.startswith(ARCHIVE_STARTS):
            return [_layer_off(content, start)]
        found = members(content, options)
        return [_layer_off(member, peeked(member, may_go_on)[0]) for member in found]


def _layer_off(content: Content, start: bytes) -> Content:
    packing = packing_of(start)
    inner, suffix = _without_suffix(content.file_name)
    if packing is None:
        if suffix and start and not _is_text(start[:_LOOKED_AT]):
            raise InputError(
                f"{content.name} is not compressed as its name says: it begins with"
                f" {start[:4].hex(' ')}; is it damaged? Get it again, or give it its right name"
            )
        return replace(content, file_name=inner)
    if suffix == "" and inner.endswith((".tgz", ".tbz2", ".txz")):
        inner = f"{PurePosixPath(inner).stem}.tar"
    if inner.lower().endswith(".tar"):
        raise InputError(
            f"{content.name} is a tar archive, which is not read; unpack it, and give its files"
        )
    if packing is ZSTD:
        require_zstd()  # ConfigError now rather than with the first row
    return replace(
        content,
        file_name=inner,
        open=lambda: unpacking(content.open(), packing, name=content.name),
        path=None,
        size=_likely_size(content, packing),
        packed_size=content.size,
    )


def _likely_size(content: Content, packing: Packing) -> int | None:
    """About how many bytes it unpacks to, by its beginning: for estimates, as what the formats
    themselves say of it holds for one part, or up to 4 GiB."""
    if not content.again or not content.size:
        return None
    taken = unpacked_to = 0
    decoder = packing.decoder()
    with content.open() as source, suppress(*packing.faults()):
        while taken < _SAMPLE and unpacked_to < _SAMPLE and not decoder.eof:
            data = source.read(_SAMPLE // 64) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                break
            taken += len(data)
            unpacked_to += len(decoder.decompress(data, _SAMPLE))
    return round(unpacked_to / taken * content.size) if unpacked_to else None


def _without_suffix(file_name: str) -> tuple[str, str]:
    for packing in PACKINGS:
        for suffix in packing.suffixes:
            if file_name.lower().endswith(suffix):
                return file_name[: -len(suffix)], suffix
    return file_name, ""


def _is_text(start: bytes) -> bool:
    return start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or not any(
        byte < 32 and byte not in b"\t\n\r\f" for byte in start
    )
