"""Files on a web server, which sends parts of them, and may be slow, busy, wrong, or cut it short.

with FileServer({"/a.csv": Served(b"id,name\\n", cuts=[4])}) as server:
    fetch(f"{server.base}/a.csv", ...)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fakes.raw_http import Peer, RawServer, Request

LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
NOW = "Sun, 01 Nov 2026 00:00:00 GMT"


@dataclass(slots=True)
class Served:
    """One file. Each request takes the next of `answers` (whole answers in place of the file) as
    long as there are any, and then of `cuts` (bytes of the body after which the connection ends).

    `etag` None: that of its content. `ranges`: parts are sent. `length` is announced in place of
    the true one; -1: none is. `holds`: after the last byte of a cut, the connection stays open
    without a word instead. `resets`: it ends with RST."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    ranges: bool = True
    chunked: bool = False
    length: int | None = None
    answers: list[bytes] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    holds: bool = False
    resets: bool = False


class FileServer(RawServer):
    """`requests` holds what was asked for."""

    def __init__(self, files: Mapping[str, Served], *, tls: bool = False) -> None:
        super().__init__(self._script, tls=tls)
        self._files = files
        self.base = self.url.removesuffix("/v1")

    def _script(self, peer: Peer) -> None:
        request = peer.request()
        served = self._files.get(request.target.partition("?")[0])
        if served is None:
            peer.send(answer("404 Not Found", b"nothing here"))
        elif served.answers:
            peer.send(served.answers.pop(0))
        else:
            _send(peer, request, served)


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; of names of headers, _ stands for -."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _send(peer: Peer, request: Request, served: Served) -> None:
    etag = etag_of(served.data) if served.etag is None else served.etag
    headers = {"Date": NOW, **({"ETag": etag} if etag else {}), **served.headers}
    start, status = 0, "200 OK"
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    unchanged = request.headers.get("if-range") in (etag, headers.get("Last-Modified"))
    if asked and served.ranges and unchanged:
        start, status = int(asked[1]), "206 Partial Content"
        last, whole = len(served.data) - 1, len(served.data)
        headers["Content-Range"] = f"bytes {start}-{last}/{whole}"
    body = served.data[start:]
    if served.chunked:
        headers["Transfer-Encoding"] = "chunked"
        body = _chunked(body)
    elif served.length != -1:
        length = len(body) if served.length is None else served.length
        headers["Content-Length"] = str(length)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    peer.send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1"))
    if not served.cuts:
        peer.send(body)
        return
    peer.send(body[: served.cuts.pop(0)])
    if served.holds:
        peer.hold()
    elif served.resets:
        peer.reset()


def etag_of(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _chunked(body: bytes, size: int = 10_000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
