"""Sockets to the API's server: their options, and one whose time-outs the kernel keeps."""

from __future__ import annotations

import contextlib
import select
import socket
import struct

SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A path that drops idle connections silently is noticed within two minutes, and is kept
    # open while a slow model thinks.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
)

_SLACK = 0.01  # share of a time-out by which the one that is set may differ from it


class PatientSocket(socket.socket):
    """A connected socket of the same kind as `connected`, which it takes over.

    With a time-out of Python's own, each send and each recv asks poll first, and setting it is a
    system call too: seven instead of three for one small exchange, at each of which a thread gives
    up the interpreter and stands in line for it again. Here the kernel keeps the time
    (SO_RCVTIMEO, SO_SNDTIMEO; socket(7)), and is told only when it has changed by more than 1 %.
    """

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(
            connected.family, connected.type, connected.proto, fileno=connected.detach()
        )
        super().settimeout(None)
        self._limit = 0.0

    def settimeout(self, value: float | None) -> None:
        seconds = value or 0.0  # 0 is no limit, as for the kernel
        if abs(seconds - self._limit) <= seconds * _SLACK:
            return
        whole, rest = divmod(max(1, round(seconds * 1_000_000)), 1_000_000) if value else (0, 0)
        limit = struct.pack("ll", whole, rest)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._limit = seconds

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        try:
            return super().recv(bufsize, flags)
        except BlockingIOError as exc:
            raise TimeoutError("timed out") from exc

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0, /) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except BlockingIOError as exc:
            raise TimeoutError("timed out") from exc


def is_readable(sock: socket.socket) -> bool:
    """Whether an idle connection has something to say, which can only be that it ends."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def break_off(sock: socket.socket) -> None:
    """Makes a wait in another thread end. Not SSLSocket's own shutdown, which would drop the
    TLS object under that thread."""
    with contextlib.suppress(OSError):  # it has ended by itself meanwhile
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
