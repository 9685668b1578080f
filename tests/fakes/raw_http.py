"""A server that writes exactly the bytes a test gives it, and cuts, drips or resets at will.

    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")

    with RawServer(script) as server:
        ...

The script runs once for each connection, in a thread of its own; the connection ends with it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

_TLS = Path(__file__).with_name("tls")


@dataclass(frozen=True, slots=True)
class Request:
    """`connection` counts from 0; names of headers are in lower case."""

    connection: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Peer:
    """One connection, seen from the server."""

    def __init__(self, sock: socket.socket, server: RawServer, number: int) -> None:
        self._socket = sock
        self._server = server
        self.number = number

    def request(self) -> Request:
        """The next request, whole. EOFError when the client ends the connection instead."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._receive(1)
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        body = b""
        while len(body) < int(headers.get("content-length", 0)):
            body += self._receive(65536)
        request = Request(self.number, method, target, headers, body)
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        """A byte at a time, until all is sent or the server is closed."""
        for byte in data:
            self.send(bytes([byte]))
            if self._server.closing.wait(every):
                return

    def hold(self) -> None:
        """Keeps the connection open and says nothing, until the client or the server ends it."""
        with contextlib.suppress(EOFError):
            self._receive(1)

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def start_tls(self) -> None:
        self._socket = server_tls().wrap_socket(self._socket, server_side=True)
        self._server.own(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _receive(self, count: int) -> bytes:
        data = self._socket.recv(count)
        if not data:
            raise EOFError
        return data


Script: TypeAlias = Callable[[Peer], None]


class RawServer:
    """Listens on a free port of 127.0.0.1 for the length of a `with` block. `requests` holds
    what was asked, `connections` counts who came."""

    def __init__(self, script: Script, *, tls: bool = False) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}/v1"

    def own(self, sock: socket.socket) -> None:
        self._sockets.append(sock)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.own(sock)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections))
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        peer = Peer(sock, self, number)
        # A client that goes away is the subject of some tests, never a fault of the server.
        with contextlib.suppress(EOFError, OSError):
            if self._tls:
                peer.start_tls()
            self._script(peer)
        peer.close()


def reply(
    body: bytes = b"{}", *, status: str = "200 OK", headers: Mapping[str, str] | None = None
) -> bytes:
    """A well-formed reply of known length."""
    lines = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def always(data: bytes) -> Script:
    """Answers every request of every connection with the same bytes."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(data)

    return script


def once(data: bytes) -> Script:
    """Answers one request, then ends the connection."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)

    return script


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_TLS / "server.pem")
    return context


def trusting_tls() -> ssl.SSLContext:
    """What a client needs to trust the server above."""
    return ssl.create_default_context(cafile=str(_TLS / "authority.pem"))
