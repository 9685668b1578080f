"""What every transport promises, held against each of them: real sockets, a server that can do
anything. A transport that is added later joins TRANSPORTS and nothing else changes."""

from __future__ import annotations

import gzip
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest

from artist_bio_gen.errors import CallFailed, ConfigError, ModelError, Unavailable
from artist_bio_gen.generator.sdk import SdkTransport
from artist_bio_gen.generator.transport import LeanTransport, Reply, Transport
from tests.fakes.raw_http import Peer, RawServer, Script, always, once, reply, trusting_tls

TRANSPORTS = {"lean": LeanTransport, "openai": SdkTransport}

KEY = "sk-test-key"
PATIENT = 20.0
"""Seconds that no test should need."""
SHORT = 0.3


class Open(Protocol):
    def __call__(self, base_url: str, **options: Any) -> Transport: ...


@pytest.fixture(params=TRANSPORTS)
def connect(request: pytest.FixtureRequest) -> Open:
    return TRANSPORTS[request.param]


def ask(
    transport: Transport,
    body: bytes = b'{"a":1}',
    *,
    path: str = "/responses",
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENT,
) -> Reply:
    return transport.post(path, body, headers or {}, timeout)


def failure(transport: Transport, *, timeout: float = PATIENT) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(transport, timeout=timeout)
    return caught.value


# The request


def test_request_arrives_as_it_was_given(connect: Open) -> None:
    body = '{"input":"Björk 坂本 \u2028"}'.encode()
    with RawServer(always(reply())) as server:
        with connect(server.url, api_key=KEY, org_id="org-1") as transport:
            ask(transport, body, headers={"X-Client-Request-Id": "run-7-1"})
        (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/responses")
    assert request.body == body
    assert request.headers["host"] == server.address
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["openai-organization"] == "org-1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(len(body))
    assert request.headers["x-client-request-id"] == "run-7-1"
    assert request.headers["user-agent"].startswith("artist-bio-gen/")


def test_get_has_no_body(connect: Open) -> None:
    with RawServer(always(reply(b'{"id":"m"}'))) as server:
        with connect(server.url, api_key=KEY) as transport:
            answer = transport.get("/models/m", {}, PATIENT)
        (request,) = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/v1/models/m", b"")
    assert answer.body == b'{"id":"m"}'


CHILD = """
import sys
from tests.integration.test_transports import TRANSPORTS
with TRANSPORTS[sys.argv[1]](sys.argv[2]) as transport:
    transport.post("/responses", b"{}", {}, 20.0)
"""


@pytest.mark.parametrize("name", TRANSPORTS)
def test_nothing_is_sent_that_only_the_environment_holds(name: str) -> None:
    secrets = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY")
    environment = {**os.environ, **dict.fromkeys(secrets, "from-the-environment")}
    with RawServer(always(reply())) as server:
        command = [sys.executable, "-c", CHILD, name, server.url]
        subprocess.run(command, env=environment, check=True, timeout=3 * PATIENT)
        (request,) = server.requests
    assert not {"authorization", "openai-organization", "openai-project"} & set(request.headers)
    assert "from-the-environment" not in str(request.headers)


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", ""])
def test_paths_go_below_the_base_address(connect: Open, suffix: str) -> None:
    with RawServer(always(reply())) as server:
        with connect(f"http://{server.address}{suffix}", api_key=KEY) as transport:
            ask(transport, path="/chat/completions")
        (request,) = server.requests
    assert request.target == suffix.rstrip("/") + "/chat/completions"


def test_long_request_is_sent_whole(connect: Open) -> None:
    body = b'"' + b"x" * 3_000_000 + b'"'
    with RawServer(always(reply())) as server:
        with connect(server.url, api_key=KEY) as transport:
            ask(transport, body)
        assert server.requests[0].body == body


@pytest.mark.parametrize("key", ["sk-a\r\nX-Evil: 1", "sk-a\nb", "sk-\u00e9"])
def test_key_that_fits_no_header_is_a_setting_that_does_not_fit(connect: Open, key: str) -> None:
    with pytest.raises(ConfigError, match="Authorization") as caught:
        connect("http://127.0.0.1:9/v1", api_key=key)
    assert key not in str(caught.value)


def test_header_cannot_be_broken_open(connect: Open) -> None:
    with (
        connect("http://127.0.0.1:9/v1", api_key=KEY) as transport,
        pytest.raises(ConfigError, match="X-Client-Request-Id"),
    ):
        ask(transport, headers={"X-Client-Request-Id": "1\r\nX-Evil: 1"})


# The reply


@pytest.mark.parametrize(
    "status",
    ["200 OK", "400 Bad Request", "401 Unauthorized", "404 Not Found", "408 Request Timeout",
     "409 Conflict", "429 Too Many Requests", "500 Internal Server Error",
     "503 Service Unavailable"],
)  # fmt: skip
def test_every_status_comes_back_with_headers_and_body_and_is_asked_once(
    connect: Open, status: str
) -> None:
    headers = {"Retry-After": "0", "X-Request-Id": "req_1", "x-ratelimit-reset-tokens": "6m0s"}
    with RawServer(always(reply(b'{"error":{}}', status=status, headers=headers))) as server:
        with connect(server.url, api_key=KEY) as transport:
            answer = ask(transport)
        assert len(server.requests) == 1
    assert answer.status == int(status[:3])
    assert answer.body == b'{"error":{}}'
    assert answer.headers["x-request-id"] == "req_1"
    assert answer.headers["x-ratelimit-reset-tokens"] == "6m0s"
    assert answer.headers["retry-after"] == "0"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_handed_back_and_not_followed(connect: Open, status: int) -> None:
    with RawServer(always(reply())) as elsewhere:
        to = {"Location": f"{elsewhere.url}/responses"}
        with RawServer(always(reply(b"", status=f"{status} Moved", headers=to))) as server:
            with connect(server.url, api_key=KEY) as transport:
                answer = ask(transport)
            assert len(server.requests) == 1
        assert elsewhere.requests == []
    assert answer.status == status
    assert answer.headers["location"].endswith("/responses")


def test_interim_replies_are_skipped(connect: Open) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with (
        RawServer(always(interim + reply(b'{"ok":1}'))) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        assert ask(transport).body == b'{"ok":1}'


def test_status_without_a_body(connect: Open) -> None:
    with (
        RawServer(always(b"HTTP/1.1 204 No Content\r\n\r\n")) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        for _ in range(2):
            answer = ask(transport)
            assert (answer.status, answer.body) == (204, b"")
        assert server.connections == 1


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3;name="x"\r\n{"a\r\n1\r\n"\r\nB\r\n:"\r\n0\r\n\r\n"}\r\n0\r\nX-Trailer: 1\r\n\r\n'
)
CHUNKED_BODY = b'{"a":"\r\n0\r\n\r\n"}'


def test_chunked_body(connect: Open) -> None:
    with (
        RawServer(always(CHUNKED)) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        for _ in range(2):
            assert ask(transport).body == CHUNKED_BODY
        assert server.connections == 1


def test_body_up_to_the_end_of_the_connection(connect: Open) -> None:
    for version in (b"1.0", b"1.1"):
        with (
            RawServer(once(b"HTTP/" + version + b" 200 OK\r\n\r\n" + b"x" * 200_000)) as server,
            connect(server.url, api_key=KEY) as transport,
        ):
            assert ask(transport).body == b"x" * 200_000


def bare_deflate(data: bytes) -> bytes:
    pack = zlib.compressobj(wbits=-15)
    return pack.compress(data) + pack.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare_deflate),
     ("identity", bytes)],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_packed_body(connect: Open, coding: str, pack: Any, chunked: bool) -> None:
    body = b'{"text":"' + b"la la " * 2000 + b'"}'
    packed = pack(body)
    if chunked:
        data = b"".join(
            b"%x\r\n%s\r\n" % (len(part), part)
            for part in (packed[i : i + 100] for i in range(0, len(packed), 100))
        )
        head = b"Transfer-Encoding: chunked\r\n"
        packed = data + b"0\r\n\r\n"
    else:
        head = b"Content-Length: %d\r\n" % len(packed)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\n%s\r\n" % (coding.encode(), head)
    with (
        RawServer(always(head + packed)) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        assert ask(transport).body == body
        assert ask(transport).body == body


def test_reply_in_the_smallest_pieces(connect: Open) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(CHUNKED, 0)
        peer.hold()

    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        assert ask(transport).body == CHUNKED_BODY


def test_body_beyond_the_limit_is_a_bad_reply(connect: Open) -> None:
    with (
        RawServer(always(reply(b"x" * 20_001))) as server,
        connect(server.url, api_key=KEY, max_body=20_000) as transport,
    ):
        error = failure(transport)
    assert isinstance(error, CallFailed)
    assert (error.kind, error.answered) == ("bad_reply", True)


def test_packed_body_that_unpacks_beyond_the_limit_is_a_bad_reply(connect: Open) -> None:
    bomb = reply(gzip.compress(b"x" * 5_000_000), headers={"Content-Encoding": "gzip"})
    with (
        RawServer(always(bomb)) as server,
        connect(server.url, api_key=KEY, max_body=20_000) as transport,
    ):
        error = failure(transport)
    assert isinstance(error, CallFailed)
    assert error.kind == "bad_reply"


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>not HTTP</html>\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: minus one\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_a_bad_reply(connect: Open, garbage: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(garbage)
        peer.hold()

    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        error = failure(transport)
    assert isinstance(error, CallFailed)
    assert error.kind == "bad_reply"


# Connections


def test_connection_is_used_again(connect: Open) -> None:
    with (
        RawServer(always(reply())) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        for _ in range(5):
            ask(transport)
        assert server.connections == 1


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_connection_that_the_server_closes_is_not_used_again(connect: Open, status: str) -> None:
    data = reply(status=status, headers={"Connection": "close"})
    with RawServer(once(data)) as server, connect(server.url, api_key=KEY) as transport:
        for _ in range(3):
            assert ask(transport).body == b"{}"
        assert server.connections == 3


def test_connection_that_died_while_idle_costs_no_call(connect: Open) -> None:
    """The server promises to keep it and closes it all the same."""
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        if peer.number == 0:
            peer.close()
            closed.set()
        else:
            peer.hold()

    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        ask(transport)
        assert closed.wait(PATIENT)
        ask(transport)
        assert len(server.requests) == server.connections == 2


def test_bytes_after_a_reply_never_become_the_next_reply(
    connect: Open, request: pytest.FixtureRequest
) -> None:
    if connect is SdkTransport:
        reason = "httpcore2 takes them for the next reply"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    with (
        RawServer(always(reply(b'{"n":1}') + reply(b'{"n":"not asked"}'))) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        for _ in range(3):
            assert ask(transport).body == b'{"n":1}'


def test_many_threads_share_a_transport(connect: Open) -> None:
    def script(peer: Peer) -> None:
        while True:
            request = peer.request()
            peer.send(reply(request.body))

    with (
        RawServer(script) as server,
        connect(server.url, api_key=KEY) as transport,
        ThreadPoolExecutor(16) as pool,
    ):
        bodies = [str(n).encode() for n in range(200)]
        answers = list(pool.map(lambda body: ask(transport, body).body, bodies))
        assert answers == bodies
        assert len(server.requests) == 200
        assert server.connections <= 16


def test_more_calls_at_once_than_any_pool_holds(connect: Open) -> None:
    """Each waits until all have arrived: a limit on connections would never let them."""
    many = 150
    here = threading.Barrier(many)

    def script(peer: Peer) -> None:
        peer.request()
        here.wait(PATIENT)
        peer.send(reply())
        peer.hold()

    with (
        RawServer(script) as server,
        connect(server.url, api_key=KEY) as transport,
        ThreadPoolExecutor(many) as pool,
    ):
        assert all(a.status == 200 for a in pool.map(lambda _: ask(transport), range(many)))


# Failures


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_listens(connect: Open) -> None:
    with connect(f"http://127.0.0.1:{free_port()}/v1", api_key=KEY) as transport:
        error = failure(transport)
    assert isinstance(error, Unavailable)
    assert error.kind == "unreachable"
    assert "127.0.0.1" in str(error)


def test_host_without_an_address(connect: Open) -> None:
    with connect("http://no-such-host.invalid/v1", api_key=KEY) as transport:
        error = failure(transport)
    assert isinstance(error, Unavailable)
    assert error.kind == "unreachable"
    assert "no-such-host.invalid" in str(error)


def test_closed_without_a_reply(connect: Open) -> None:
    with (
        RawServer(lambda peer: peer.request() and None) as server,
        connect(server.url, api_key=KEY) as transport,
    ):
        error = failure(transport)
        assert len(server.requests) == 1
    assert isinstance(error, CallFailed)
    assert (error.kind, error.answered) == ("reset", False)


@pytest.mark.parametrize(("sent", "answered"), [(b"", False), (reply(b"x" * 99)[:-50], True)])
def test_reset(connect: Open, sent: bytes, answered: bool) -> None:
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)
        if sent:
            seen.wait(SHORT)  # a reset overtakes bytes that were not read yet
        peer.reset()

    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        error = failure(transport)
    assert isinstance(error, CallFailed)
    assert (error.kind, error.answered) == ("reset", answered)


@pytest.mark.parametrize(
    "whole",
    [reply(b'{"id":"resp_1"}', headers={"Content-Type": "a"}), CHUNKED],
    ids=["length", "chunked"],
)
def test_reply_cut_at_any_byte_is_never_taken_for_a_whole_one(connect: Open, whole: bytes) -> None:
    cuts = iter(range(len(whole)))
    lock = threading.Lock()

    def script(peer: Peer) -> None:
        peer.request()
        with lock:
            cut = next(cuts)
        peer.send(whole[:cut])

    head = whole.index(b"\r\n\r\n") + 4
    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        for cut in range(len(whole)):
            error = failure(transport)
            assert isinstance(error, CallFailed)
            assert error.kind == "reset", f"cut after {cut} bytes: {error}"
            assert error.answered == (cut >= head), f"cut after {cut} bytes"
        assert len(server.requests) == len(whole)


def silent(peer: Peer) -> None:
    peer.request()
    peer.hold()


def dripping_head(peer: Peer) -> None:
    peer.request()
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: x\r\n" * 10_000, 0.02)


def dripping_body(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(b"x" * 100_000, 0.02)


def dripping_error(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(b"x" * 100_000, 0.02)


@pytest.mark.parametrize(
    ("script", "answered"),
    [(silent, False), (dripping_head, False), (dripping_body, True), (dripping_error, True)],
)
def test_time_is_limited_in_all_however_bytes_drip(
    connect: Open, script: Any, answered: bool
) -> None:
    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        started = time.monotonic()
        error = failure(transport, timeout=SHORT)
        took = time.monotonic() - started
    assert isinstance(error, CallFailed)
    assert (error.kind, error.answered) == ("timeout", answered)
    assert SHORT * 0.9 <= took < SHORT + 2
    assert f"{SHORT:g} s" in str(error)


def test_connecting_has_a_limit_of_its_own(connect: Open) -> None:
    with (
        RawServer(Peer.hold) as server,  # says nothing, so that TLS never comes about
        connect(f"https://{server.address}/v1", api_key=KEY, connect_timeout=SHORT) as transport,
    ):
        started = time.monotonic()
        error = failure(transport, timeout=PATIENT)
        took = time.monotonic() - started
    assert isinstance(error, Unavailable)
    assert error.kind == "unreachable"
    assert took < SHORT + 2


def test_call_after_a_failure_goes_on_with_a_new_connection(connect: Open) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if peer.number:
            peer.send(reply())
            peer.hold()

    with RawServer(script) as server, connect(server.url, api_key=KEY) as transport:
        failure(transport)
        assert ask(transport).status == 200


def test_closing_ends_calls_in_progress(connect: Open) -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        asked.set()
        peer.hold()

    with RawServer(script) as server, ThreadPoolExecutor(1) as pool:
        transport = connect(server.url, api_key=KEY)
        call = pool.submit(failure, transport)
        assert asked.wait(PATIENT)
        transport.close()
        error = call.result(PATIENT)
        assert isinstance(error, CallFailed)
        assert error.kind == "closed"
        assert failure(transport).kind == "closed"
        assert len(server.requests) == 1


# TLS


def test_tls_with_a_trusted_certificate(connect: Open) -> None:
    with (
        RawServer(always(reply(b'{"ok":1}')), tls=True) as server,
        connect(server.url, api_key=KEY, tls=trusting_tls()) as transport,
    ):
        for _ in range(3):
            assert ask(transport).body == b'{"ok":1}'
        assert server.connections == 1


def test_certificate_of_an_unknown_authority_stops_before_the_key_is_sent(connect: Open) -> None:
    with (
        RawServer(always(reply()), tls=True) as server,
        connect(server.url, api_key=KEY) as transport,
        pytest.raises(ConfigError, match="SSL_CERT_FILE"),
    ):
        ask(transport)
    assert server.requests == []


def test_certificate_of_another_host_stops_before_the_key_is_sent(connect: Open) -> None:
    with RawServer(tunnel(b"{}")) as proxy:
        proxies = {"https": f"http://{proxy.address}"}
        with (
            connect(
                "https://other.test/v1", api_key=KEY, proxies=proxies, tls=trusting_tls()
            ) as transport,
            pytest.raises(ConfigError, match=r"other\.test"),
        ):
            ask(transport)
    assert [request.method for request in proxy.requests] == ["CONNECT"]


def test_server_that_speaks_no_tls(connect: Open) -> None:
    with (
        RawServer(lambda peer: peer.send(b"HTTP/1.1 400 no TLS here\r\n\r\n")) as server,
        connect(f"https://{server.address}/v1", api_key=KEY) as transport,
    ):
        error = failure(transport)
    assert isinstance(error, Unavailable)
    assert error.kind == "unreachable"


def test_tls_body_cut_without_a_farewell(connect: Open) -> None:
    with (
        RawServer(once(reply(b"x" * 99)[:-1]), tls=True) as server,
        connect(server.url, api_key=KEY, tls=trusting_tls()) as transport,
    ):
        error = failure(transport)
    assert isinstance(error, CallFailed)
    assert (error.kind, error.answered) == ("reset", True)


# Proxies


def test_http_goes_through_the_proxy(connect: Open) -> None:
    with RawServer(always(reply(b'{"by":"proxy"}'))) as proxy:
        proxies = {"http": f"http://user:p%40ss@{proxy.address}", "no": "other.test"}
        with connect("http://api.test/v1", api_key=KEY, proxies=proxies) as transport:
            assert ask(transport).body == b'{"by":"proxy"}'
        (request,) = proxy.requests
    assert request.target == "http://api.test/v1/responses"
    assert request.headers["host"] == "api.test"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


def tunnel(body: bytes) -> Script:
    """A proxy that answers itself, as the server of api.test, behind its CONNECT."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.start_tls()
        while True:
            peer.request()
            peer.send(reply(body))

    return script


def test_https_goes_through_a_tunnel(connect: Open) -> None:
    with RawServer(tunnel(b'{"by":"tunnel"}')) as proxy:
        proxies = {"https": f"http://user:pw@{proxy.address}"}
        with connect(
            "https://api.test/v1", api_key=KEY, proxies=proxies, tls=trusting_tls()
        ) as transport:
            for _ in range(2):
                assert ask(transport).body == b'{"by":"tunnel"}'
        connected, request, _ = proxy.requests
        assert proxy.connections == 1
    assert (connected.method, connected.target) == ("CONNECT", "api.test:443")
    assert connected.headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
    assert "authorization" not in connected.headers
    assert request.target == "/v1/responses"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in request.headers


@pytest.mark.parametrize(
    ("status", "error"),
    [("407 Proxy Authentication Required", ConfigError), ("403 Forbidden", ConfigError),
     ("502 Bad Gateway", Unavailable)],
)  # fmt: skip
def test_proxy_that_refuses_the_tunnel(connect: Open, status: str, error: type[Exception]) -> None:
    with RawServer(always(reply(b"", status=status))) as proxy:
        proxies = {"https": f"http://user:secret@{proxy.address}"}
        with (
            connect("https://api.test/v1", api_key=KEY, proxies=proxies) as transport,
            pytest.raises(error) as caught,
        ):
            ask(transport)
    assert "secret" not in str(caught.value)
    assert re.search(r"\b40[37]\b|proxy", str(caught.value))


def test_proxy_that_is_not_there(connect: Open) -> None:
    proxies = {"http": f"http://127.0.0.1:{free_port()}"}
    with connect("http://api.test/v1", api_key=KEY, proxies=proxies) as transport:
        error = failure(transport)
    assert isinstance(error, Unavailable)
    assert error.kind == "unreachable"


def test_this_machine_is_never_asked_through_a_proxy(connect: Open) -> None:
    with RawServer(always(reply())) as server, RawServer(always(reply())) as proxy:
        proxies = {"http": f"http://{proxy.address}", "all": f"http://{proxy.address}"}
        with connect(server.url, api_key=KEY, proxies=proxies) as transport:
            ask(transport)
        assert (len(server.requests), len(proxy.requests)) == (1, 0)


def test_default_trust_is_the_systems(connect: Open) -> None:
    """No file of certificates comes with the package; one that does not exist is not needed."""
    with connect("https://api.test/v1", api_key=KEY, tls=ssl.create_default_context()):
        pass
