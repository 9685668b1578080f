"""How files are compressed, and how they come out: as a stream, never onto a disk."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from artist_bio_gen.errors import ConfigError, InputError
from artist_bio_gen.extras import require

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

PADDING = 32 * 1024 * 1024
"""So many bytes in a row that are all the same are no rows: a bomb, or a damaged file."""

MOST_EMPTY = 10_000
"""So many compressed files behind each other that hold nothing are no rows either: each costs as
much time as one with thousands."""

_BLOCK = 256 * 1024  # bytes read at once
_MOST_MEMORY = 256 * 1024 * 1024  # that a file may make its decoder take


class Decoder(Protocol):
    """As those of bz2, lzma and zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Packing:
    """How files are compressed. `starts` are the first bytes, by which it is told; `step` is how
    much is unpacked at once, and thus how much before a damage may be lost. `faults` are what its
    decoder raises on damage; `padded`: NULs may follow (gzip's and xz's own documents say so)."""

    name: str
    suffixes: tuple[str, ...]
    starts: tuple[bytes, ...]
    decoder: Callable[[], Decoder]
    faults: Callable[[], tuple[type[Exception], ...]]
    step: int = 16 * 1024
    padded: bool = False


class Inflater:
    """zlib's decoder in the shape of the others. What precedes a damage is given to the last
    byte: zlib itself forgets what the failed call has unpacked."""

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)
        self._rest = b""
        self._full = False
        self._damage: zlib.error | None = None

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not (self._rest or self._full or self._damage)

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._damage:
            raise self._damage
        data = self._rest + data
        before = self._zlib.copy()
        try:
            piece = self._zlib.decompress(data, max_length)
        except zlib.error as exc:
            self._zlib = before
            self._damage = exc
            return self._before_damage(data)
        self._rest = self._zlib.unconsumed_tail
        self._full = len(piece) == max_length
        return piece

    def _before_damage(self, data: bytes) -> bytes:
        """What can be unpacked, which is less than was asked for when it failed."""
        pieces = []
        with suppress(zlib.error):
            for at in range(len(data)):
                pieces.append(self._zlib.decompress(data[at : at + 1]))
        return b"".join(pieces)


def _zstd_decoder() -> Decoder:
    decoder: Decoder = require_zstd().ZstdDecompressor()
    return decoder


def require_zstd() -> Any:
    try:
        return require("compression.zstd", extra="zstd", what="Zstandard")  # from Python 3.14 on
    except ConfigError:
        return require("backports.zstd", extra="zstd", what="Zstandard")


GZIP = Packing(
    "gzip",
    (".gz", ".gzip"),
    (b"\x1f\x8b\x08",),
    lambda: Inflater(31),
    lambda: (zlib.error,),
    step=128 * 1024,
    padded=True,
)
BZIP2 = Packing(
    "bzip2",
    (".bz2",),
    tuple(
        b"BZh%d%s" % (level, block)
        for level in range(1, 10)
        for block in (b"1AY&SY", b"\x17rE8P\x90")
    ),
    bz2.BZ2Decompressor,
    lambda: (OSError, EOFError, ValueError),
)
XZ = Packing(
    "xz",
    (".xz",),
    (b"\xfd7zXZ\x00",),
    lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY),
    lambda: (lzma.LZMAError, EOFError),
    padded=True,
)
ZSTD = Packing(
    "zstandard",
    (".zst", ".zstd"),
    (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))),
    _zstd_decoder,
    lambda: (require_zstd().ZstdError, EOFError),
)
PACKINGS = (GZIP, BZIP2, XZ, ZSTD)

ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""Of a zip archive: with members, without, in several parts."""


def unpacking(
    source: io.BufferedReader[Any], packing: Packing, *, name: str, **more: Any
) -> io.BufferedReader[Any]:
    return io.BufferedReader(Unpacking(source, packing, name=name, **more), _BLOCK)


def packing_of(start: bytes) -> Packing | None:
    """How something that begins like this is compressed."""
    for packing in PACKINGS:
        if start.startswith(packing.starts):
            return packing
    return None


def may_go_on(start: bytes) -> bool:
    """Whether this is too short to tell how something that begins so is compressed."""
    return bool(start) and any(
        len(start) < len(known) and known.startswith(start)
        for known in (*ARCHIVE_STARTS, *(each for packing in PACKINGS for each in packing.starts))
    )


class Unpacking(io.RawIOBase):
    """What `source` is when it is unpacked; it may be several compressed files behind each other.

    What can be unpacked is given, then InputError is raised if that was not the end. What the
    source has is given at once, without waiting for more.
    """

    def __init__(
        self,
        source: io.BufferedReader[Any],
        packing: Packing,
        *,
        name: str,
        padding: int = PADDING,
    ) -> None:
        self._source = source
        self._packing = packing
        self._name = name
        self._decoder = packing.decoder()
        self._faults = packing.faults()
        self._rest = b""  # packed, and not yet given to the decoder
        self._empty = 0  # compressed files in a row with nothing in them
        self._given = 0  # bytes
        self._same = b""  # the byte that all of the last blocks consist of
        self._same_for = 0
        self._most_same = padding
        self._flaw: InputError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            try:
                piece = self._next(min(len(view) - filled, self._packing.step), wait=not filled)
            except InputError as exc:
                if not filled:
                    raise
                self._flaw = exc  # what is filled comes first
                break
            if not piece:
                break
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def close(self) -> None:
        self._source.close()
        super().close()

    def _next(self, most: int, *, wait: bool) -> bytes:
        """b"" at the end, and where there is nothing without waiting for the source."""
        if self._flaw:
            raise self._flaw
        while True:
            if self._decoder.eof and not self._begin_next(wait=wait):
                return b""
            data = b""
            if self._decoder.needs_input:
                data, self._rest = self._rest, b""
                if not data and not wait:
                    return b""
                data = data or self._source.read1(_BLOCK)
                if not data:
                    raise self._flawed("ends too early; is it cut off?")
            try:
                piece = self._decoder.decompress(data, most)
            except self._faults as exc:
                raise self._flawed(f"is damaged ({self._packing.name}: {exc})") from exc
            if piece:
                self._empty = 0
                self._given += len(piece)
                self._require_rows(piece)
                return piece

    def _begin_next(self, *, wait: bool) -> bool:
        """Goes on with the compressed file behind the one that has ended; False at the end."""
        packing = self._packing
        rest = self._rest or self._decoder.unused_data
        while True:
            rest = rest.lstrip(b"\0") if packing.padded else rest
            self._rest = rest
            if rest.startswith(packing.starts):
                break
            if rest and not any(known.startswith(rest) for known in packing.starts):
                raise self._flawed(f"has something behind its end that is no {packing.name}")
            if not wait:
                return False
            more = self._source.read1(_BLOCK)
            if not more:
                if rest:
                    raise self._flawed("ends too early; is it cut off?")
                return False
            rest += more
        self._empty += 1
        if self._empty > MOST_EMPTY:
            raise self._flawed(
                f"holds {MOST_EMPTY:,} {packing.name} files in a row with nothing in them; is it a"
                " bomb?"
            )
        self._decoder = packing.decoder()
        return True

    def _require_rows(self, piece: bytes) -> None:
        first = piece[:1]
        if piece[-1:] != first or piece.count(first) != len(piece):
            self._same_for = 0
            return
        self._same_for = self._same_for + len(piece) if first == self._same else len(piece)
        self._same = first
        if self._same_for > self._most_same:
            raise self._flawed(
                f"unpacks to {self._same_for:,} bytes {first!r} in a row, which are no rows; is it"
                " a bomb?"
            )

    def _flawed(self, what: str) -> InputError:
        return InputError(
            f"{self._name} {what}; {self._given:,} bytes of its content could be read, and the"
            " whole rows among them stand; get the file again"
        )
