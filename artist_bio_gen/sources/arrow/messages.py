"""Arrow's messages on their way from a file to pyarrow, looked at before they are unpacked: each
packed buffer begins with the number of bytes that it unpacks to (Message.fbs: BodyCompression)."""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from artist_bio_gen.errors import LimitError

_GOES_ON = b"\xff\xff\xff\xff"
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_I32, _I64, _U16, _BUFFER = Struct("<i"), Struct("<q"), Struct("<H"), Struct("<qq")
_MB = 1_000_000
_MOST_TIMES = 32_768  # its packed size: a block of zstd is 4 bytes for 128 KiB (RFC 8878)


class Watched:
    """A file that raises LimitError where a message unpacks to more than `most` bytes. To be read
    as pyarrow does it: the size of a message, what it tells, its body; or all of them at once."""

    def __init__(self, file: Any, name: str, most: int) -> None:
        """`file` is a reader of bytes, or a pyarrow.NativeFile, whose buffers cost less."""
        self._file = file
        self._read = getattr(file, "read_buffer", file.read)
        self._name = name
        self._most = most
        self._size = 0  # of what the next message tells
        self._packed: list[int] = []  # where the buffers begin in the body that comes next

    def read(self, size: int) -> Any:
        data = self._read(size)
        try:
            self._look(memoryview(data).cast("B"))
        except (IndexError, error):  # damaged, as pyarrow will tell
            self._packed = []
        return data

    def _look(self, data: memoryview) -> None:
        size, self._size = self._size, 0
        packed, self._packed = self._packed, []
        if packed:
            self._require_room(packed, data)
        elif len(data) == 4:
            (self._size,) = _I32.unpack(data)
        elif size == len(data):
            self._packed = _packed_buffers(data)
        elif data[:4] == _GOES_ON:
            body = 8 + _I32.unpack_from(data, 4)[0]
            self._require_room(_packed_buffers(data[8:body]), data[body:])

    def _require_room(self, packed: list[int], body: memoryview) -> None:
        size = sum(max(0, _I64.unpack_from(body, at)[0]) for at in packed)
        if size > self._most:
            if size > _MOST_TIMES * len(body):
                raise OSError(f"{len(body):,} bytes do not unpack to {size:,}")  # damaged
            raise LimitError(
                f"{self._name}: a batch of {len(body):,} bytes unpacks to {size / _MB:,.0f} MB;"
                f" only {self._most / _MB:,.0f} MB may be held so. Give --memory-limit"
                f" {4 * size // _MB + 1} or more, or write the file anew with fewer rows in a batch"
            )

    def seek(self, place: int, whence: int = 0) -> None:
        self._file.seek(place, whence)

    def tell(self) -> int:
        place: int = self._file.tell()
        return place

    @property
    def closed(self) -> bool:
        closed: bool = self._file.closed
        return closed

    def close(self) -> None:
        self._file.close()


def _packed_buffers(message: memoryview) -> list[int]:
    """Where in its body the packed buffers begin; none where it holds no packed batch."""
    table = _I32.unpack_from(message, 0)[0]
    kind, header = _field(message, table, 1), _field(message, table, 2)
    if not kind or not header or message[kind] not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return []
    batch = _there(message, header)
    if message[kind] == _DICTIONARY_BATCH:
        batch = _there(message, _field(message, batch, 1))
    if not _field(message, batch, 3):
        return []
    vector = _there(message, _field(message, batch, 2))
    places = range(vector + 4, vector + 4 + 16 * _I32.unpack_from(message, vector)[0], 16)
    return [start for start, size in (_BUFFER.unpack_from(message, at) for at in places) if size]


def _field(data: memoryview, table: int, number: int) -> int:
    """Where the field of a table of FlatBuffers stands; 0 where it is left out."""
    known = table - _I32.unpack_from(data, table)[0]
    entry = 4 + 2 * number
    if entry + 2 > _U16.unpack_from(data, known)[0]:
        return 0
    place: int = _U16.unpack_from(data, known + entry)[0]
    return table + place if place else 0


def _there(data: memoryview, at: int) -> int:
    place: int = at + _I32.unpack_from(data, at)[0]
    return place
