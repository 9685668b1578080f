"""How the bytes of a reply go out, in order and in disorder."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

RATE_HEADERS = {
    "x-ratelimit-limit-requests": "30000",
    "x-ratelimit-remaining-requests": "29999",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-limit-tokens": "150000000",
    "x-ratelimit-remaining-tokens": "149999000",
    "x-ratelimit-reset-tokens": "0s",
    "x-ratelimit-limit-project-tokens": "150000000",
    "x-ratelimit-remaining-project-tokens": "149999000",
    "x-ratelimit-reset-project-tokens": "0s",
}

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` are whole lines, each with its end."""

    status: int
    headers: bytes
    body: bytes
    type: bytes = b"application/json"


def header_lines(headers: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())


def head(reply: Reply, length: bytes) -> bytes:
    """`length` is the line that tells where the body ends."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\n%b%b\r\n" % (
        reply.status,
        _PHRASES[reply.status],
        reply.type,
        reply.headers,
        length,
    )


def whole(reply: Reply) -> bytes:
    return head(reply, b"Content-Length: %d\r\n" % len(reply.body)) + reply.body


def reset(transport: asyncio.Transport) -> None:
    """Ends the connection by RST: closing with a linger time of 0 throws away what is queued."""
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


Way = Callable[[asyncio.Transport, Reply, str], bool]
"""Sends a reply, takes the fault's argument, and tells whether the connection goes on."""


def _chunked(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(head(reply, b"Transfer-Encoding: chunked\r\n"))
    transport.write(_chunks(reply.body) + b"0\r\n\r\n")
    return True


def _chunked_cut(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(head(reply, b"Transfer-Encoding: chunked\r\n"))
    chunks = _chunks(reply.body)
    transport.write(chunks[: len(chunks) * 2 // 3])
    transport.close()
    return False


def _chunks(body: bytes, size: int = 200) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def _gzip(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    packed = gzip.compress(reply.body)
    length = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(packed)
    transport.write(head(reply, length) + packed)
    return True


def _gzip_broken(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    packed = gzip.compress(reply.body)
    packed = packed[: len(packed) // 2]
    length = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(packed)
    transport.write(head(reply, length) + packed)
    return True


def _no_length(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(head(reply, b"Connection: close\r\n") + reply.body)
    transport.close()
    return False


def _huge_headers(transport: asyncio.Transport, reply: Reply, argument: str) -> bool:
    line = b"x-padding: " + b"p" * 1000 + b"\r\n"
    padding = line * (int(argument or 200_000) // len(line) + 1)
    transport.write(whole(Reply(reply.status, reply.headers + padding, reply.body)))
    return True


def _continue_100(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n" + whole(reply))
    return True


def _close_after(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(whole(reply))
    transport.close()
    return False


def _truncated(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(whole(reply)[: -len(reply.body) // 2])
    transport.close()
    return False


def _half_head(transport: asyncio.Transport, reply: Reply, _argument: str) -> bool:
    transport.write(whole(reply)[:60])
    transport.close()
    return False


def _garbage(transport: asyncio.Transport, _reply: Reply, _argument: str) -> bool:
    transport.write(b"\x16\x03\x01\x00\xa5 this is not HTTP\r\n\r\n")
    transport.close()
    return False


def _close(transport: asyncio.Transport, _reply: Reply, _argument: str) -> bool:
    transport.close()
    return False


def _reset(transport: asyncio.Transport, _reply: Reply, _argument: str) -> bool:
    reset(transport)
    return False


WAYS: Mapping[str, Way] = {
    "chunked": _chunked,
    "chunked_cut": _chunked_cut,
    "gzip": _gzip,
    "gzip_broken": _gzip_broken,
    "no_length": _no_length,
    "huge_headers": _huge_headers,
    "continue_100": _continue_100,
    "close_after": _close_after,
    "truncated": _truncated,
    "half_head": _half_head,
    "garbage": _garbage,
    "close": _close,
    "reset": _reset,
    "reset_before": _reset,
}
"""All ways but `hang` and `drip`, which take time and so belong to the connection."""
