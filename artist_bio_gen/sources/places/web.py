"""One file at a web address: streamed, and asked for from where it stopped when it was cut."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from artist_bio_gen import __version__
from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.addresses import LookUp, checked
from artist_bio_gen.sources.places.packing import GZIP, unpacking
from artist_bio_gen.sources.places.sockets import (
    Patience,
    PlainSocket,
    TlsSocket,
    connect,
    secure,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

LONGEST_WAIT_S = 60.0
MOST_REDIRECTS = 5
MOST_CUTS = 5
"""In a row, with less than `PROGRESS` between them."""

PROGRESS = 1024 * 1024

_BLOCK = 256 * 1024
_FIRST_PAUSE_S = 0.5  # before the second attempt; doubled each time
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_CUT = (OSError, http.client.HTTPException)

_SUFFIXES = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/jsonlines": ".jsonl",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.sqlite3": ".sqlite",
}
"""For names that have no ending: what the server says it is."""


def download(
    address: str,
    options: SourceOptions,
    cancelled: Callable[[], bool],
    *,
    look_up: LookUp = socket.getaddrinfo,
    tls: ssl.SSLContext | None = None,
    pause: Callable[[float], None] | None = None,
) -> Content:
    """Asks for it; what the content is read from is the answer. `pause` waits between attempts."""
    patience = Patience(options.query_timeout or LONGEST_WAIT_S, cancelled)
    way = _Way(options.allow_private, patience, look_up, tls)
    body = _Body(Target.parse(address), way, pause or patience.pause)
    reader = io.BufferedReader(body, _BLOCK)
    size, packed = body.size, body.headers.get("Content-Encoding", "identity").strip().lower()
    if packed in ("gzip", "x-gzip"):
        reader, size = unpacking(reader, GZIP, name=body.name), None
    elif packed not in ("identity", ""):
        reader.close()
        raise InputError(
            f"{body.name}: is sent in the encoding {packed[:40]!r}, though none was asked for;"
            " fetch it yourself, and give the file"
        )
    return Content(
        name=body.name,
        file_name=body.file_name,
        open=lambda: reader,
        size=size,
        packed_size=body.size,
        can_wait=False,
    )


@dataclass(frozen=True, slots=True)
class Target:
    """An address, taken apart. `path` is as it is sent, with the query. `credentials` is the value
    of Authorization."""

    scheme: str
    host: str
    port: int
    path: str
    credentials: str | None = None

    @classmethod
    def parse(cls, address: str) -> Self:
        """UsageError when it cannot be asked for."""
        try:
            parts = urlsplit(address.strip())
            host, port = parts.hostname or "", parts.port
            host = host if ":" in host else host.encode("idna").decode()
        except ValueError as exc:  # UnicodeError among them
            raise UsageError(
                f"{_shown(address)}: is no web address ({exc}); give http(s)://host[:port]/path"
            ) from exc
        scheme = parts.scheme.lower()
        if scheme not in ("http", "https") or not host:
            raise UsageError(
                f"{_shown(address)}: is no web address; give http(s)://host[:port]/path"
            )
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~") or "/"
        if parts.query:
            path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]|")
        port = (443 if scheme == "https" else 80) if port is None else port
        return cls(scheme, host, port, path, _credentials(parts))

    @property
    def authority(self) -> str:
        """As the Host header has it: a usual port is left out, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def name(self) -> str:
        """For messages: what stands in a query may be a signature, and is left out."""
        path, mark, _ = self.path.partition("?")
        return f"{self.scheme}://{self.authority}{path}{'?…' if mark else ''}"

    @property
    def file_name(self) -> str:
        return unquote(self.path.partition("?")[0].rpartition("/")[2])

    def redirected(self, location: str) -> Target:
        """Where an answer sends us. InputError when we do not go there."""
        try:
            new = Target.parse(urljoin(f"{self.scheme}://{self.authority}{self.path}", location))
        except (UsageError, ValueError) as exc:
            raise InputError(
                f"{self.name}: redirects to what is no web address; fetch"
                " it yourself, and give the file"
            ) from exc
        if self.scheme == "https" and new.scheme == "http":
            raise InputError(
                f"{self.name}: redirects to {new.name}, where nothing is encrypted; if that is"
                " good enough, give that address"
            )
        return replace(new, credentials=self.credentials if new.origin == self.origin else None)


def _credentials(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode("utf-8", "surrogateescape")).decode()


def _shown(address: str) -> str:
    """Of an address that cannot be taken apart, what is surely no secret."""
    return re.sub(r"//.*@", "//***@", address.partition("?")[0])[:200]


@dataclass(frozen=True, slots=True)
class _Way:
    """How to get to an address, and to where that sends us."""

    allow_private: bool
    patience: Patience
    look_up: LookUp
    tls: ssl.SSLContext | None

    def ask(self, first: Target, headers: Mapping[str, str]) -> _Reply:
        """The first answer that is no redirect. OSError or HTTPException when there is none."""
        target = first
        for _ in range(MOST_REDIRECTS + 1):
            reply = self._ask(target, headers, redirected=target is not first)
            location = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or location is None:
                return reply
            reply.close()
            target = target.redirected(location)
        raise InputError(
            f"{first.name}: redirects more than {MOST_REDIRECTS} times; check the address"
        )

    def _ask(self, target: Target, headers: Mapping[str, str], *, redirected: bool) -> _Reply:
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = sock = self._connect(target, redirected=redirected)
        with on_failure(connection.close):
            connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", target.authority)
            connection.putheader("User-Agent", f"artist-bio-gen/{__version__}")
            connection.putheader("Accept", "*/*")
            connection.putheader("Accept-Encoding", "identity")  # so that a part can be asked for
            connection.putheader("Connection", "close")
            if target.credentials:
                connection.putheader("Authorization", target.credentials)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            sock.until = time.monotonic() + self.patience.seconds
            response = connection.getresponse()
            with on_failure(response.close):
                return _Reply(connection, sock, response, target)

    def _connect(self, target: Target, *, redirected: bool) -> PlainSocket | TlsSocket:
        places = checked(
            target.host,
            target.port,
            allow_private=self.allow_private,
            redirected=redirected,
            look_up=self.look_up,
        )
        for family, _, _, _, place in places[:-1]:
            try:
                return self._secured(connect(family, place, self.patience), target)
            except ssl.SSLError:
                raise
            except OSError:
                continue  # the next one may be reached
        family, _, _, _, place = places[-1]
        return self._secured(connect(family, place, self.patience), target)

    def _secured(self, sock: PlainSocket, target: Target) -> PlainSocket | TlsSocket:
        if target.scheme == "http":
            return sock
        try:
            return secure(sock, target.host, self.tls or ssl.create_default_context())
        except ssl.SSLCertVerificationError as exc:
            raise InputError(
                f"{target.name}: the certificate of {target.host} is not trusted"
                f" ({exc.verify_message}); if it is signed by an authority of your own, name that"
                " one's file in SSL_CERT_FILE"
            ) from exc


class _Reply:
    """An answer whose body is still to come, and the connection it comes by."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        sock: PlainSocket | TlsSocket,
        response: http.client.HTTPResponse,
        target: Target,
    ) -> None:
        _require_length(response, target)
        self._connection = connection
        self._sock = sock
        self._response = response
        self.target = target
        self.status = response.status
        self.headers = response.headers
        self.length = response.length

    def read(self, most: int) -> bytes:
        self._sock.until = time.monotonic() + self._sock.patience.seconds
        return self._response.read1(most)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def _require_length(response: http.client.HTTPResponse, target: Target) -> None:
    """A length that is no number, or two of them, would be passed over or be the wrong one, and
    rows that are missing would not be missed (RFC 9112, 6.3)."""
    told = {length.strip() for length in response.headers.get_all("Content-Length", [])}
    if response.chunked or not told:
        return
    if len(told) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", each) for each in told):
        shown = " and ".join(sorted(told))[:80]
        raise InputError(
            f"{target.name}: the server tells its length as {shown}, so nobody knows how long it"
            " is; fetch it yourself, and give the file"
        )


class _Body(io.RawIOBase):
    """The bytes of one file, over as many connections as it takes."""

    def __init__(self, target: Target, way: _Way, pause: Callable[[float], None]) -> None:
        self.name = target.name
        self._target = target
        self._way = way
        self._pause = pause
        self._at = 0
        self._cuts = 0
        self._cut_at = 0
        try:
            self._reply = way.ask(target, {})
        except _CUT as exc:
            raise InputError(
                f"{self.name}: cannot be reached: {_reason(exc)}; check the address, or try later"
            ) from exc
        if self._reply.status != 200:
            self._reply.close()
            raise self._refused(self._reply)
        self.headers = self._reply.headers
        self.size = self._reply.length
        self._validator = _validator(self.headers)
        self.file_name = _file_name(self._reply, target)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            self._way.patience.require(time.monotonic())
            try:
                data = self._reply.read(len(view))
                if not data and self.size is not None and self._at < self.size:
                    raise ConnectionError(f"{self.size - self._at:,} bytes less than announced")
            except _CUT as exc:
                self._go_on(exc)
                continue
            self._at += len(data)
            view[: len(data)] = data
            return len(data)

    def close(self) -> None:
        if "_reply" in self.__dict__:
            self._reply.close()
        super().close()

    def _go_on(self, cut: Exception) -> None:
        """Asks for the rest, until it comes."""
        self._reply.close()
        if self._at - self._cut_at >= PROGRESS:
            self._cuts = 0
        self._cut_at = self._at
        if self._validator is None or self.headers.get("Accept-Ranges", "").lower() == "none":
            raise self._cut_off(cut, "the server does not say how to ask for the rest")
        headers = {"Range": f"bytes={self._at}-", "If-Range": self._validator}
        while True:
            self._cuts += 1
            if self._cuts > MOST_CUTS:
                raise self._cut_off(cut, f"the rest did not come in {MOST_CUTS} attempts")
            if self._cuts > 1:
                self._pause(_FIRST_PAUSE_S * 2 ** (self._cuts - 2))
            try:
                reply = self._way.ask(self._target, headers)
            except _CUT as exc:
                cut = exc
                continue
            if reply.status not in _BUSY:
                break
            reply.close()
            cut = ConnectionError(f"the server answers {reply.status}")
        with on_failure(reply.close):
            self._require_rest(reply, cut)
        self._reply = reply

    def _require_rest(self, reply: _Reply, cut: Exception) -> None:
        """InputError unless it is the rest of the same file."""
        if reply.status == 200:
            same = _validator(reply.headers) == self._validator
            raise self._cut_off(
                cut, "the server does not send parts" if same else "the file has changed meanwhile"
            )
        if reply.status in (412, 416):
            raise self._cut_off(cut, "the file has changed meanwhile")
        if reply.status != 206:
            raise self._cut_off(cut, f"asked for the rest, the server answers {reply.status}")
        found = re.fullmatch(
            r"bytes (\d+)-(\d+)/(\d+|\*)", reply.headers.get("Content-Range", "").strip()
        )
        if not found or int(found[1]) != self._at:
            raise self._cut_off(cut, "asked for the rest, the server sends another part")
        if self.size is not None and found[3] not in ("*", str(self.size)):
            raise self._cut_off(cut, "the file has changed meanwhile")

    def _cut_off(self, cut: Exception, why: str) -> InputError:
        return InputError(
            f"{self.name}: was cut after {self._at:,} bytes ({_reason(cut)}), and {why}; the rows"
            " so far stand. Try again, or fetch it yourself, and give the file"
        )

    def _refused(self, reply: _Reply) -> InputError:
        hint = {
            401: "give user and password in the address, as in https://user:password@host/path",
            403: "the server does not give it to everybody; is the address still valid?",
            404: "check the address",
            410: "check the address",
        }.get(reply.status, "try later" if reply.status in _BUSY else "check the address")
        phrase = http.client.responses.get(reply.status, "")
        return InputError(f"{self.name}: the server answers {reply.status} {phrase}; {hint}")


def _reason(exc: Exception) -> str:
    if isinstance(exc, http.client.IncompleteRead):
        return "the connection was cut"
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _validator(headers: Message) -> str | None:
    """What a part is asked for with, so that it is one of the same file (RFC 9110, 13.1.5): a
    strong ETag, or a date that is old enough to tell two versions apart."""
    tag: str = headers.get("ETag", "").strip()
    if tag.startswith('"'):
        return tag
    changed, now = headers.get("Last-Modified"), headers.get("Date")
    if tag or not changed or not now:
        return None
    try:
        age = parsedate_to_datetime(now) - parsedate_to_datetime(changed)
    except (ValueError, TypeError):  # TypeError: one has a zone, the other none
        return None
    return str(changed) if age.total_seconds() >= 1 else None


def _file_name(reply: _Reply, asked: Target) -> str:
    """What the server calls it, else what the address does."""
    told = reply.headers.get_filename()
    told = PurePosixPath((told or "").replace("\\", "/")).name
    for name in (told, reply.target.file_name, asked.file_name):
        if PurePosixPath(name).suffix:
            return name
    name = told or asked.file_name or "download"
    return name + _SUFFIXES.get(reply.headers.get_content_type(), "")
