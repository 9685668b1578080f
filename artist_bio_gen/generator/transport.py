"""How a request reaches the model's API: `Transport`, and the lean one that is the default.

A transport makes one call and never repeats it; it follows no redirect, since a key must not
travel to an address that nobody chose. It knows the address and the key; what the bytes say
is the business of api.py. Every transport is held to tests/integration/test_transports.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from artist_bio_gen.errors import CallFailed
from artist_bio_gen.failing import on_failure
from artist_bio_gen.generator.address import (
    USER_AGENT,
    Address,
    choose_proxy,
    header_lines,
    tls_context,
    tunnel_refused,
    unreachable,
    untrusted,
)
from artist_bio_gen.generator.http1 import MAX_BODY, BadReply, Exchange, Reply
from artist_bio_gen.generator.sockets import SOCKET_OPTIONS, PatientSocket, break_off, is_readable

if TYPE_CHECKING:
    import ssl

__all__ = ["LeanTransport", "Reply", "Transport"]


class Transport(Protocol):
    """Calls to one API. Threads may share it.

    `post` and `get` take the path below the base address (`/responses`) and a limit in seconds
    for the whole call. They return whatever was answered, errors and redirects included, and
    raise Unavailable (kind `unreachable`) when no connection came about, CallFailed (kind
    `timeout`, `reset`, `bad_reply` or `closed`) when it broke after that: the request may have
    been served and billed. ConfigError is for an address, certificate or proxy that cannot work.
    """

    @property
    def base_url(self) -> str: ...

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Reply: ...

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Reply: ...

    def close(self) -> None:
        """Ends idle connections and breaks those in use."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LeanTransport:
    """Plain HTTP/1.1 over connections that are kept and used again.

    `connect_timeout` (seconds) bounds connecting, TLS included; only the system's resolver
    keeps time of its own. `proxies` as in `choose_proxy`. A connection that the server has
    closed, or on which it said something unasked, is noticed before it is used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        org_id: str | None = None,
        connect_timeout: float = 10.0,
        proxies: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        max_body: int = MAX_BODY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self._address = Address.parse(base_url)
        self._proxy = choose_proxy(self._address, proxies)
        self._tls = tls
        if self._address.scheme == "https" and tls is None:
            self._tls = tls_context()
        self._connect_timeout = connect_timeout
        self._max_body = max_body
        self._clock = clock

        always = [("Host", self._address.authority), ("User-Agent", USER_AGENT)]
        # Replies are small: packing them would cost both sides more than it saves.
        always += [("Accept", "application/json"), ("Accept-Encoding", "identity")]
        if api_key:
            always.append(("Authorization", f"Bearer {api_key}"))
        if org_id:
            always.append(("OpenAI-Organization", org_id))
        self._target = self._address.path
        if self._proxy and self._address.scheme == "http":
            self._target = f"http://{self._address.authority}{self._address.path}"
            if self._proxy.credentials:
                always.append(("Proxy-Authorization", self._proxy.credentials))
        self._always = header_lines(always)

        self._lock = threading.Lock()  # guards the three below; no I/O under it
        self._idle: list[socket.socket] = []
        self._busy: set[socket.socket] = set()
        self._closed = False

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Reply:
        head = (
            f"POST {self._target}{path} HTTP/1.1\r\n{self._always}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{header_lines(headers.items())}\r\n"
        )
        return self._call(head.encode("ascii") + body, timeout)

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Reply:
        head = (
            f"GET {self._target}{path} HTTP/1.1\r\n{self._always}"
            f"{header_lines(headers.items())}\r\n"
        )
        return self._call(head.encode("ascii"), timeout)

    def _call(self, request: bytes, timeout: float) -> Reply:
        deadline = self._clock() + timeout
        sock = self._take(deadline)
        exchange = Exchange(sock, deadline, self._clock)
        reusable = False
        try:
            exchange.send(request)
            reply = exchange.receive(max_body=self._max_body)
            reusable = exchange.reusable
        except (OSError, BadReply) as exc:
            raise self._broken(exc, exchange.answered, timeout) from exc
        finally:
            self._give_back(sock, reusable)
        return reply

    def _broken(self, exc: Exception, answered: bool, timeout: float) -> CallFailed:
        host = self._address.authority
        if self._closed:
            return CallFailed(
                f"{host}: closed while it was asked", kind="closed", answered=answered
            )
        if isinstance(exc, TimeoutError):
            return CallFailed(
                f"{host}: no complete reply within {timeout:g} s; --timeout gives it longer",
                kind="timeout",
                answered=answered,
            )
        if isinstance(exc, BadReply) and not exc.cut:
            return CallFailed(
                f"{host}: the reply cannot be read: {exc}", kind="bad_reply", answered=answered
            )
        return CallFailed(f"{host}: connection lost: {exc}", kind="reset", answered=answered)

    def _take(self, deadline: float) -> socket.socket:
        while True:
            with self._lock:
                sock = self._idle.pop() if self._idle else None
            if sock is None:
                sock = self._connect(min(deadline, self._clock() + self._connect_timeout))
            elif is_readable(sock):
                sock.close()
                continue
            with self._lock:
                if not self._closed:
                    self._busy.add(sock)
                    return sock
            sock.close()
            raise CallFailed(
                f"{self._address.authority}: the transport is closed", kind="closed", answered=False
            )

    def _give_back(self, sock: socket.socket, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(sock)
            if reusable and not self._closed:
                self._idle.append(sock)
                return
        sock.close()

    def _connect(self, deadline: float) -> socket.socket:
        """A socket on which a request can be sent. Unavailable when it does not come about."""
        import ssl

        first = self._proxy or self._address
        try:
            sock = _open(first.host, first.port, deadline, self._clock)
            with on_failure(sock.close):
                if self._proxy and self._address.scheme == "https":
                    self._tunnel(sock, deadline)
                if self._tls is not None and self._address.scheme == "https":
                    sock.settimeout(_left(deadline, self._clock))
                    return self._tls.wrap_socket(sock, server_hostname=self._address.host)
                return PatientSocket(sock)
        except ssl.SSLCertVerificationError as exc:
            raise untrusted(self._address, exc) from exc
        except (OSError, BadReply) as exc:
            raise unreachable(self._address, self._proxy, exc) from exc

    def _tunnel(self, sock: socket.socket, deadline: float) -> None:
        assert self._proxy is not None
        to = self._address.endpoint
        headers = [("Host", to), ("User-Agent", USER_AGENT)]
        if self._proxy.credentials:
            headers.append(("Proxy-Authorization", self._proxy.credentials))
        exchange = Exchange(sock, deadline, self._clock)
        exchange.send(f"CONNECT {to} HTTP/1.1\r\n{header_lines(headers)}\r\n".encode("ascii"))
        status = exchange.receive_head()
        if not 200 <= status < 300:
            raise tunnel_refused(self._address, self._proxy, status)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for sock in self._busy:
                break_off(sock)
        for sock in idle:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left(deadline: float, clock: Callable[[], float]) -> float:
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError("timed out while connecting")
    return left


def _open(host: str, port: int, deadline: float, clock: Callable[[], float]) -> socket.socket:
    """Connects to the first address of the host that answers."""
    failure: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, where in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            with on_failure(sock.close):
                sock.settimeout(_left(deadline, clock))
                sock.connect(where)
                for option in SOCKET_OPTIONS:
                    sock.setsockopt(*option)
                return sock
        except OSError as exc:
            failure = exc
    raise failure
