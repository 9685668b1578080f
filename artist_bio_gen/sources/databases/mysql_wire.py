"""The rows that a MySQL or MariaDB server sends, taken from its packets many at a time.

PyMySQL reads each packet and each cell with several calls; a stream of a million rows takes five
times as long with it. So it makes connection and statement, and what follows is read here
(MySQL's internals manual: Protocol::Packet, Text Resultset Row).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from artist_bio_gen.errors import StoppedError
from artist_bio_gen.sources.databases.queries import LOOK_S, Flaw
from artist_bio_gen.values import Json

Convert: TypeAlias = Callable[[bytes], Json]
"""From a cell as it is sent. Raises ValueError when it cannot be read."""

_RECEIVE = 256 << 10
_WHOLE = 0xFFFFFF  # a packet of this length goes on in the next one
_NULL = 251
_LENGTHS = {252: 2, 253: 3, 254: 8}  # bytes that tell the length of a longer cell
_END = 0xFE
_ERROR = 0xFF
_END_LENGTH = 9


class Wire:
    """What has come over a socket and has not been read. PyMySQL reads by it too."""

    def __init__(self, sock: socket.socket, cancelled: Callable[[], bool]) -> None:
        self._sock = sock
        self._cancelled = cancelled
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._pending: Callable[[], int] = getattr(sock, "pending", lambda: 0)  # of TLS
        self.buffer = b""
        self.at = 0

    def read(self, size: int) -> bytes:
        """Just so many bytes. OSError when the connection is gone."""
        self.need(size)
        at = self.at
        self.at = at + size
        return self.buffer[at : self.at]

    def need(self, size: int) -> None:
        """Waits until so many bytes are in the buffer behind `at`."""
        missing = size - (len(self.buffer) - self.at)
        if missing <= 0:
            return
        parts = [self.buffer[self.at :]]
        while missing > 0:
            part = self._receive()
            parts.append(part)
            missing -= len(part)
        self.buffer = b"".join(parts)
        self.at = 0

    def _receive(self) -> bytes:
        while not self._cancelled():
            if self._pending() or self._poll.poll(LOOK_S * 1000):
                part = self._sock.recv(_RECEIVE)
                if not part:
                    raise ConnectionResetError("the server has closed the connection")
                return part
        raise StoppedError

    def close(self) -> None:
        self.buffer = b""
        self.at = 0


class Rows:
    """The rows of an answer, whose columns have been read. `raise_error` is given the packet of
    an error. After a MemoryError no row is lost: the next call goes on."""

    def __init__(
        self, wire: Wire, convert: Sequence[Convert], raise_error: Callable[[bytes], Any]
    ) -> None:
        self._wire = wire
        self._convert = tuple(convert)
        self._raise_error = raise_error
        self._rows: list[list[Json] | Flaw] = []
        self.ended = False
        self.flawed = False

    def read(self, most: int) -> list[list[Json] | Flaw]:
        """At most so many rows; fewer only at the end. OSError when the connection is gone: then
        what had come before it is given by the next call, if there was anything."""
        rows, wire = self._rows, self._wire
        buffer, at = wire.buffer, wire.at
        try:
            while len(rows) < most and not self.ended:
                start = at + 4
                have = len(buffer)
                if start <= have:
                    length = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
                    end = start + length
                if start > have or end > have:
                    wire.at = at
                    wire.need(4 if start > have else end - at)
                    buffer, at = wire.buffer, wire.at
                    continue
                first = buffer[start] if length else 0
                if first >= _END and (first == _ERROR or length < _END_LENGTH):
                    at = end
                    self._end(buffer[start:end])
                elif length == _WHOLE:
                    wire.at = at
                    whole, behind = self._long()
                    buffer, at = wire.buffer, wire.at
                    rows.append(self._row(whole, 0))
                    at += behind
                else:
                    rows.append(self._row(buffer, start))
                    at = end
        finally:
            if wire.buffer is buffer:  # else a long row has moved it, and is still to be read
                wire.at = at
        self._rows = []
        return rows

    def rest(self) -> list[list[Json] | Flaw]:
        """What had been read before the connection was lost."""
        rows, self._rows = self._rows, []
        return rows

    def _row(self, buffer: bytes, start: int) -> list[Json] | Flaw:
        row: list[Json] = []
        at = start
        try:
            for convert in self._convert:
                length = buffer[at]
                at += 1
                if length < _NULL:
                    end = at + length
                elif length == _NULL:
                    row.append(None)
                    continue
                else:
                    size = _LENGTHS[length]
                    end = at + size + int.from_bytes(buffer[at : at + size], "little")
                    at += size
                row.append(convert(buffer[at:end]))
                at = end
        except ValueError as exc:
            self.flawed = True
            return self._flaw(buffer, start, exc)
        return row

    def _flaw(self, buffer: bytes, start: int, exc: ValueError) -> Flaw:
        """The same row once more: what of it can be read."""

        def kept(convert: Convert) -> Convert:
            def read(data: bytes) -> Json:
                try:
                    return convert(data)
                except ValueError:
                    return data.decode("utf-8", "replace")

            return read

        cells = Rows(self._wire, [*map(kept, self._convert)], self._raise_error)._row(buffer, start)
        assert isinstance(cells, list)
        shown = ", ".join("" if cell is None else str(cell) for cell in cells)
        return Flaw(f"a cell cannot be read: {exc}; mend it in the database", shown, cells)

    def _long(self) -> tuple[bytes, int]:
        """A row that is sent in several packets, and their length on the wire, where it stays."""
        wire = self._wire
        parts: list[bytes] = []
        behind, length = 0, _WHOLE
        while length == _WHOLE:
            wire.need(behind + 4)
            at = wire.at + behind
            length = int.from_bytes(wire.buffer[at : at + 3], "little")
            behind += 4 + length
            wire.need(behind)
            end = wire.at + behind
            parts.append(wire.buffer[end - length : end])
        return b"".join(parts), behind

    def _end(self, packet: bytes) -> None:
        self.ended = True
        if packet[0] == _ERROR:
            self._raise_error(packet)
