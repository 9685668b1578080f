"""Sockets whose waits can be called off."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from artist_bio_gen.errors import StoppedError
from artist_bio_gen.failing import on_failure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

T = TypeVar("T")

LOOK_S = 0.2
"""How often it is asked whether to go on."""


class Patience:
    """How long to wait for one thing, in seconds, and whether to go on waiting for it."""

    def __init__(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        self.seconds = seconds
        self.cancelled = cancelled

    def require(self, since: float) -> None:
        """StoppedError when it is called off, TimeoutError when it has taken too long."""
        if self.cancelled():
            raise StoppedError
        if time.monotonic() - since >= self.seconds:
            raise TimeoutError(f"nothing came for {self.seconds:g} s")

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.cancelled():
                raise StoppedError
            time.sleep(min(left, LOOK_S))

    def over(self, wait: Callable[[], T], until: float | None = None) -> T:
        """What `wait` returns; it waits for a moment, and raises TimeoutError as long as there is
        nothing. With `until`, something may come all the time and yet not be enough."""
        since = time.monotonic()
        if self.cancelled():
            raise StoppedError
        if until is not None and since >= until:
            raise TimeoutError(f"what came in {self.seconds:g} s was no end of it")
        while True:
            try:
                return wait()
            except TimeoutError:
                self.require(since)


class PlainSocket(socket.socket):
    """`until` is when it is enough, whatever comes: heads and ends of answers have lines without
    number, and bytes may come one by one."""

    patience: Patience
    until: float | None = None

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        return self.patience.over(
            lambda: super(PlainSocket, self).recv_into(buffer, nbytes, flags), self.until
        )


class TlsSocket(ssl.SSLSocket):
    patience: Patience
    until: float | None = None

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        return self.patience.over(
            lambda: super(TlsSocket, self).recv_into(buffer, nbytes, flags), self.until
        )


def connect(family: int, place: tuple[Any, ...], patience: Patience) -> PlainSocket:
    """OSError when it does not come about."""
    since = time.monotonic()
    sock = PlainSocket(family, socket.SOCK_STREAM)
    sock.patience = patience
    with on_failure(sock.close):
        sock.setblocking(False)
        state = sock.connect_ex(place)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if state == errno.EINPROGRESS:
            while not poll.poll(LOOK_S * 1000):
                patience.require(since)
            state = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if state:
            raise OSError(state, os.strerror(state))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(LOOK_S)
    return sock


def secure(sock: PlainSocket, host: str, context: ssl.SSLContext) -> TlsSocket:
    """TLS on it, with the certificate checked against the host's name. Takes the socket over."""
    context.sslsocket_class = TlsSocket
    secured = context.wrap_socket(
        sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    assert isinstance(secured, TlsSocket)
    secured.patience = sock.patience
    with on_failure(secured.close):
        sock.patience.over(secured.do_handshake)
    return secured
