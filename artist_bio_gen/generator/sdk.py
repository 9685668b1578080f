"""The reference transport: the `openai` package, asked to do exactly one call.

Its retries are off, it follows no redirect, and status, headers and bytes come out as they
were answered. Its own time-outs are for each read of the network; the backend below turns them
into one limit for the whole call. Importing this module takes about a second.
"""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, cast

import httpcore2
import httpx2
import openai

from artist_bio_gen.errors import CallFailed
from artist_bio_gen.generator.address import (
    USER_AGENT,
    Address,
    Proxy,
    choose_proxy,
    header_lines,
    tls_context,
    tunnel_refused,
    unreachable,
    untrusted,
)
from artist_bio_gen.generator.http1 import MAX_BODY, Reply
from artist_bio_gen.generator.sockets import SOCKET_OPTIONS, break_off

_RAW = "X-Stainless-Raw-Response"
"""The package's own switch; with `stream` its replies are handed over unread."""


class SdkTransport:
    """Parameters and promises as those of `LeanTransport`; see `transport.Transport`."""

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
        self._max_body = max_body
        self._closed = False
        header_lines([("Authorization", api_key or ""), ("OpenAI-Organization", org_id or "")])
        # What is not given must not come from the package's own look at the environment.
        headers: dict[str, Any] = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        headers["OpenAI-Project"] = openai.Omit()
        if not org_id:
            headers["OpenAI-Organization"] = openai.Omit()
        # The package looks for this one in each call's own headers only.
        self._of_a_call: dict[str, Any] = {_RAW: "stream"}
        if not api_key:
            self._of_a_call["Authorization"] = openai.Omit()
        self._network = _Network(connect_timeout, clock)
        self._client = openai.OpenAI(
            api_key=api_key or "none",
            organization=org_id or "none",
            project="none",
            base_url=base_url,
            max_retries=0,
            default_headers=headers,
            http_client=httpx2.Client(
                transport=_Wire(self._address, self._proxy, tls, self._network),
                follow_redirects=False,
                trust_env=False,
            ),
        )

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Reply:
        return self._call(
            lambda options: self._client.post(
                path, cast_to=openai.APIResponse[Any], content=body, options=options
            ),
            headers,
            timeout,
        )

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Reply:
        return self._call(
            lambda options: self._client.get(
                path, cast_to=openai.APIResponse[Any], options=options
            ),
            headers,
            timeout,
        )

    def _call(
        self,
        ask: Callable[[Any], openai.APIResponse[Any]],
        headers: Mapping[str, str],
        timeout: float,
    ) -> Reply:
        host = self._address.authority
        if self._closed:
            raise CallFailed(f"{host}: the transport is closed", kind="closed", answered=False)
        header_lines(headers.items())
        self._network.begin(timeout)
        try:
            try:
                reply = ask({"headers": {**headers, **self._of_a_call}}).http_response
            except openai.APIStatusError as exc:
                reply = exc.response
            try:
                body = self._read(reply)
            finally:
                reply.close()
        except (openai.APIConnectionError, httpx2.HTTPError, *_NETWORK_ERRORS) as exc:
            raise self._broken(exc, timeout) from exc
        return Reply(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, body)

    def _read(self, reply: httpx2.Response) -> bytes:
        if reply.is_closed:  # the package reads the replies that it turns into errors
            return reply.content
        body = bytearray()
        for part in reply.iter_bytes():
            body += part
            if len(body) > self._max_body:
                raise httpx2.DecodingError(f"its body is longer than {self._max_body} bytes")
        return bytes(body)

    def _broken(self, exc: Exception, timeout: float) -> Exception:
        host = self._address.authority
        causes = list(_causes(exc))
        call = self._network.call
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return untrusted(self._address, cause)
        for cause in causes:
            if isinstance(cause, httpcore2.ProxyError) and self._proxy:
                return tunnel_refused(self._address, self._proxy, cause)
            if isinstance(cause, _NOT_CONNECTED):
                return unreachable(self._address, self._proxy, cause)
        if self._closed:
            message, kind = "closed while it was asked", "closed"
        elif any(isinstance(cause, httpcore2.TimeoutException) for cause in causes):
            message = f"no complete reply within {timeout:g} s; --timeout gives it longer"
            kind = "timeout"
        elif call.ended or any(isinstance(cause, httpcore2.NetworkError) for cause in causes):
            message, kind = f"connection lost: {causes[-1]}", "reset"
        else:
            message, kind = f"the reply cannot be read: {causes[-1]}", "bad_reply"
        return CallFailed(f"{host}: {message}", kind=kind, answered=call.answered)

    def close(self) -> None:
        self._closed = True
        self._network.break_off()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_NETWORK_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
)
_NOT_CONNECTED = (httpcore2.ConnectError, httpcore2.ConnectTimeout)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The error and those below it; httpcore2 hands its cause over as an argument as well."""
    while exc is not None:
        yield exc
        below = exc.__cause__ or next(iter(exc.args), None)
        exc = below if isinstance(below, BaseException) else None


class _Wire(httpx2.BaseTransport):
    """httpx2's way to httpcore2's connection pool, with a network of our own below it."""

    def __init__(
        self,
        address: Address,
        proxy: Proxy | None,
        tls: ssl.SSLContext | None,
        network: _Network,
    ) -> None:
        if tls is None and address.scheme == "https":
            tls = tls_context()
        # The number of workers is the limit; the pool must not be another one.
        self._pool: httpcore2.ConnectionPool
        if proxy is None:
            self._pool = httpcore2.ConnectionPool(
                ssl_context=tls, max_connections=None, network_backend=network
            )
        else:
            credentials: list[tuple[bytes | str, bytes | str]] = []
            if proxy.credentials:
                credentials.append(("Proxy-Authorization", proxy.credentials))
            self._pool = httpcore2.HTTPProxy(
                f"http://{proxy.host}:{proxy.port}",
                proxy_headers=credentials,
                ssl_context=tls,
                max_connections=None,
                network_backend=network,
            )
        self._network = network

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = [(k, v) for k, v in request.headers.raw if k.lower() != _RAW.lower().encode()]
        url = request.url
        reply = self._pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=headers,
                content=cast("Iterable[bytes]", request.stream),
                extensions=request.extensions,
            )
        )
        self._network.call.answered = True
        return httpx2.Response(
            reply.status, headers=reply.headers, stream=_Body(reply), extensions=reply.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, reply: httpcore2.Response) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()


class _Call(threading.local):
    """The call that this thread is in: when it must end, whether the head of a reply has
    arrived, whether the server has ended the connection."""

    deadline = 0.0
    answered = False
    ended = False


class _Network(httpcore2.SyncBackend):
    """Connections whose every wait ends at the deadline of the call that they serve."""

    def __init__(self, connect_timeout: float, clock: Callable[[], float]) -> None:
        self.call = _Call()
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._open: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def begin(self, timeout: float) -> None:
        self.call.deadline = self._clock() + timeout
        self.call.answered = self.call.ended = False

    def left(self, error: type[httpcore2.TimeoutException]) -> float:
        left = self.call.deadline - self._clock()
        if left <= 0:
            raise error("the time for this call is used up")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        limit = min(self._connect_timeout, self.left(httpcore2.ConnectTimeout))
        stream = super().connect_tcp(host, port, limit, local_address, [*SOCKET_OPTIONS])
        return self.wrap(stream)

    def wrap(self, stream: httpcore2.NetworkStream) -> _Stream:
        wrapped = _Stream(stream, self)
        self._open.add(wrapped)
        return wrapped

    def break_off(self) -> None:
        for stream in list(self._open):
            break_off(stream.get_extra_info("socket"))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._network.left(httpcore2.ReadTimeout))
        if not data:
            self._network.call.ended = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        limit = self._network.left(httpcore2.ConnectTimeout)
        return self._network.wrap(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
