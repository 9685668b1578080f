"""One HTTP exchange, over a pair of sockets: whatever arrives is a reply or a typed failure."""

from __future__ import annotations

import contextlib
import gzip
import socket
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.generator.http1 import MAX_HEAD, BadReply, Exchange, Reply

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nA: b\r\n\r\n"


class Pieces(socket.socket):
    """A connection on which the reply has arrived already, in the pieces it is read in."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def recv(self, size: int, flags: int = 0) -> bytes:
        return next(self._pieces, b"")


def receive(*pieces: bytes, max_body: int = 10_000) -> tuple[Reply, Exchange]:
    with Pieces(piece for piece in pieces if piece) as sock:
        exchange = Exchange(sock, 1.0, lambda: 0.0)
        return exchange.receive(max_body=max_body), exchange


@given(st.binary(max_size=300))
def test_any_bytes_are_a_reply_or_a_bad_reply(data: bytes) -> None:
    with contextlib.suppress(BadReply):
        receive(data)


FRAGMENTS = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 500 ", b"HTTP/1.1 100 C", b"\r\n", b"\n", b"\r\n\r\n", b":",
    b"Content-Length: 3", b"Content-Length: ", b"Transfer-Encoding: chunked", b"0", b"3", b"ff",
    b"Content-Encoding: gzip", b"Connection: close", b"\x00", b"\xff", b" ", gzip.compress(b"{}"),
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30), st.integers(0, 200))
def test_any_fragments_in_any_pieces_are_a_reply_or_a_bad_reply(
    fragments: list[bytes], cut: int
) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + b"".join(fragments)
    try:
        reply, _ = receive(data[:cut], data[cut:])
    except BadReply:
        return
    assert 200 <= reply.status <= 599


@pytest.mark.parametrize("whole", [GOOD, CHUNKED])
def test_pieces_do_not_matter(whole: bytes) -> None:
    for cut in range(len(whole)):
        reply, exchange = receive(whole[:cut], whole[cut:])
        assert (reply.body, exchange.reusable) == (b"{}", True)
    reply, exchange = receive(*(bytes([byte]) for byte in whole))
    assert (reply.body, exchange.reusable) == (b"{}", True)


@pytest.mark.parametrize("whole", [GOOD, CHUNKED])
def test_every_cut_is_told_as_one(whole: bytes) -> None:
    for cut in range(len(whole)):
        with pytest.raises(BadReply) as caught:
            receive(whole[:cut])
        assert caught.value.cut


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2", True),
        (b"HTTP/1.1 200 OK\nContent-Length: 2", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2", True),
    ],
)
def test_heads_that_servers_send(head: bytes, reusable: bool) -> None:
    end = b"\n\n" if b"\r\n" not in head else b"\r\n\r\n"
    reply, exchange = receive(head + end + b"{}")
    assert (reply.body, exchange.reusable) == (b"{}", reusable)


def test_a_length_beside_chunks_ends_the_connection() -> None:
    """RFC 9112, section 6.3: such a message may be an attempt to smuggle another one in."""
    both = CHUNKED.replace(b"Transfer", b"Content-Length: 9\r\nTransfer")
    reply, exchange = receive(both)
    assert (reply.body, exchange.reusable) == (b"{}", False)


def test_headers_are_in_lower_case_and_repeated_ones_joined() -> None:
    reply, _ = receive(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 0\r\n\r\n")
    assert reply.headers == {"x-a": "1, 2", "content-length": "0"}


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nContent-Length: \u00b2\r\n\r\n{}".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}.",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * MAX_HEAD,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n" + b"x" * 10_001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2711\r\n" + b"x" * 10_001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_001,
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * MAX_HEAD + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 2 * MAX_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + GOOD,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_cannot_be_read_is_a_bad_reply(data: bytes) -> None:
    pieces = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    with pytest.raises(BadReply) as caught:
        receive(*pieces)
    assert not caught.value.cut


def packed(body: bytes, coding: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_packed_body_that_is_cut_is_not_taken_for_a_whole_one() -> None:
    for coding, body in (
        ("gzip", gzip.compress(b"{}" * 99)),
        ("deflate", zlib.compress(b"{}" * 99)),
    ):
        for cut in range(1, len(body)):
            with pytest.raises(BadReply):
                receive(packed(body[:cut], coding))


def test_packed_body_is_not_unpacked_beyond_the_limit() -> None:
    with pytest.raises(BadReply, match="longer than 10000"):
        receive(packed(gzip.compress(b"x" * 10_000_000), "gzip"))


def test_every_wait_ends_at_the_deadline() -> None:
    times = iter([0.0, 0.4, 0.8, 1.2])
    with Pieces([b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", b"A: c\r\n", b"\r\n"]) as sock:
        exchange = Exchange(sock, 1.0, lambda: next(times))
        with pytest.raises(TimeoutError):
            exchange.receive()
    assert not exchange.answered
