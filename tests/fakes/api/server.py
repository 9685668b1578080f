"""The server: HTTP/1.1 by hand on an asyncio protocol, so that a benchmark on the same two
cores measures its client and not this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from .behaviour import Plan
from .bodies import HTML_PAGE, odd_body
from .faults import BODIES, BROKEN_WIRE, ERRORS, REFUSED_WIRE, ErrorReply, Fault
from .replies import (
    BadRequest,
    Endpoint,
    Request,
    answer,
    bio,
    error_body,
    model_body,
    read_request,
)
from .tally import Call, Ending, Tally
from .wire import RATE_HEADERS, WAYS, Reply, header_lines, reset, whole

MAX_HEAD_BYTES = 65_536
DRIP_PIECES = 20
DRIP_S = "5"

_ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
}


@dataclass(slots=True)
class Server:
    """What the connections share. One event loop, so nothing is locked."""

    plan: Plan
    tally: Tally
    number: int = 0
    good_headers: bytes = b""

    def __post_init__(self) -> None:
        # Ids of two servers differ, so that a reply can be told from that of another run.
        self.number = time.time_ns() << 64
        self.behave()

    def behave(self) -> None:
        """To be called after each change of the plan."""
        rate = RATE_HEADERS if self.plan.behaviour.rate_headers else {}
        self.good_headers = header_lines({**rate, **self.plan.headers})
        self.tally.count_artists = self.plan.behaviour.count_artists

    def next_number(self) -> int:
        self.number += 1
        return self.number


class _Head:
    """Request line and headers of a request."""

    __slots__ = ("_raw", "lower")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.lower = raw.lower()

    def value(self, name: bytes) -> bytes:
        """The header's value, or nothing. `name` is in lower case, as `\\r\\nname:`."""
        start = self.lower.find(name)
        if start < 0:
            return b""
        start += len(name)
        end = self.lower.find(b"\r\n", start)
        return self._raw[start : end if end >= 0 else None].strip()


class Connection(asyncio.Protocol):
    """One client. A request that arrives while another is being answered waits for it."""

    __slots__ = ("_buffer", "_call", "_hung", "_last", "_loop", "_server", "_timer", "_transport")

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer = b""
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = False
        self._hung = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast(asyncio.Transport, transport)
        self._server.tally.connections += 1
        self._server.tally.open_connections += 1
        if self._server.plan.connections_to_reset > 0:
            self._server.plan.connections_to_reset -= 1
            reset(self._transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.tally.open_connections -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            self._end("gone", 0)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and self._free() and self._take_request():
            pass

    def _free(self) -> bool:
        return self._call is None and not self._hung and not self._transport.is_closing()

    def _take_request(self) -> bool:
        """Takes one request out of the buffer; False when it is not all there yet."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                self._last = True
                self._refuse(ErrorReply(431, None, "Request header fields too large."))
            return False
        head = _Head(buffer[:end])
        length = head.value(b"\r\ncontent-length:")
        if b"\r\ntransfer-encoding:" in head.lower:
            self._last = True
            self._refuse(ErrorReply(411, None, "Length required."))
            return False
        after = end + 4 + int(length or 0)
        if len(buffer) < after:
            if b"\r\nexpect: 100-continue" in head.lower and len(buffer) == end + 4:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        self._buffer = buffer[after:]
        self._last = b"\r\nconnection: close" in head.lower
        line, _, headers = buffer[:end].partition(b"\r\n")
        method, _, target = line.decode("latin-1").rpartition(" ")[0].partition(" ")
        body = buffer[end + 4 : after]
        path = _path(target)
        if path.startswith("/_/"):
            self._control(method, path, body)
        else:
            self._server.tally.requests.append((method, target, headers, body))
            self._route(method, path, head, body)
        return True

    def _route(self, method: str, path: str, head: _Head, body: bytes) -> None:
        wanted = self._server.plan.behaviour.api_key
        if wanted and head.value(b"\r\nauthorization:") != f"Bearer {wanted}".encode():
            self._refuse(ERRORS["unauthorized"])
        elif endpoint := _ENDPOINTS.get(path):
            if method == "POST":
                request_id = head.value(b"\r\nx-client-request-id:").decode("latin-1")
                self._generate(endpoint, request_id, body)
            else:
                self._refuse(ErrorReply(405, None, f"Not allowed: {method} {path}"))
        elif method == "GET" and path.startswith("/v1/models"):
            self._models(path.removeprefix("/v1/models").removeprefix("/"))
        else:
            self._refuse(ErrorReply(404, None, f"Invalid URL ({method} {path})"))

    def _generate(self, endpoint: Endpoint, client_request_id: str, body: bytes) -> None:
        server = self._server
        try:
            request = read_request(endpoint, body)
            artist = server.plan.artist(client_request_id, request)
            fault = server.plan.fault(artist, request)
        except BadRequest as exc:
            self._refuse(exc.reply)
            return
        except ValueError as exc:
            self._refuse(ErrorReply(400, None, str(exc)))
            return
        if server.plan.models and request.model not in server.plan.models:
            self._refuse(ERRORS["model_not_found"])
            return
        call = Call(client_request_id, artist, request.digest, time.monotonic(), fault.kind)
        self._call = call
        server.tally.begin(call)
        delay = server.plan.delay()
        if delay > 0:
            self._timer = self._loop.call_later(delay, self._answer, request, fault)
        else:
            self._answer(request, fault)

    def _answer(self, request: Request, fault: Fault) -> None:
        self._timer = None
        kind = fault.kind
        server = self._server
        if error := ERRORS.get(kind):
            self._send(_error_reply(error, server.next_number(), fault.argument), "error")
            return
        number = server.next_number()
        now = int(time.time())
        behaviour = server.plan.behaviour
        text = behaviour.text or bio(request, behaviour.words)
        headers = b"x-request-id: req_%032x\r\nopenai-processing-ms: 1\r\n%b" % (
            number,
            server.good_headers,
        )
        if kind in BODIES:
            body = odd_body(request, fault, number=number, now=now, text=text)
            page = b"text/html" if kind == "html_ok" else b"application/json"
            self._send(Reply(200, headers, body, page), "answered")
            return
        body = orjson.dumps(answer(request, number=number, now=now, text=text))
        reply = Reply(200, headers, body)
        if kind == "ok":
            self._send(reply, "answered")
        else:
            self._send_oddly(reply, fault)

    def _send(self, reply: Reply, ending: Ending) -> None:
        # Counted first: who has the reply finds it in the counts and in the log.
        self._end(ending, reply.status)
        self._transport.write(whole(reply))
        if self._last:
            self._transport.close()

    def _send_oddly(self, reply: Reply, fault: Fault) -> None:
        kind, argument = fault.kind, fault.argument
        if kind == "hang":
            self._end("cut", 0)
            self._hung = True
        elif kind == "drip":
            pieces = whole(reply)
            size = len(pieces) // DRIP_PIECES + 1
            self._drip(pieces, size, float(argument or DRIP_S) / DRIP_PIECES)
        elif kind == "html_error":
            self._send(Reply(int(argument or 502), b"", HTML_PAGE, b"text/html"), "error")
        elif kind == "redirect":
            location = header_lines({"Location": argument or "/v1/elsewhere"})
            self._send(Reply(307, location, b""), "error")
        else:
            status = 0 if kind in ("close", "reset", "reset_before", "garbage") else reply.status
            ending: Ending = "answered"
            if kind in BROKEN_WIRE:
                ending = "cut"
            elif kind in REFUSED_WIRE:
                ending = "error"
            self._end(ending, status)
            if WAYS[kind](self._transport, reply, argument) and self._last:
                self._transport.close()

    def _drip(self, rest: bytes, size: int, pause_s: float) -> None:
        self._timer = None
        if len(rest) > size:
            self._timer = self._loop.call_later(pause_s, self._drip, rest[size:], size, pause_s)
            self._transport.write(rest[:size])
            return
        self._end("answered", 200)
        self._transport.write(rest)
        if self._last:
            self._transport.close()

    def _end(self, ending: Ending, status: int) -> None:
        assert self._call is not None
        self._server.tally.end(self._call, ending, status)
        self._call = None
        if self._buffer:
            self._loop.call_soon(self.data_received, b"")

    def _refuse(self, error: ErrorReply) -> None:
        """For a request that never became a call."""
        self._transport.write(whole(_error_reply(error, self._server.next_number(), "")))
        if self._last:
            self._transport.close()

    def _models(self, name: str) -> None:
        models = self._server.plan.models
        if not name:
            listed = [model_body(model, date) for model, date in models.items()]
            self._json({"object": "list", "data": listed})
        elif name in models or not models:
            self._json(model_body(name, models.get(name)))
        else:
            self._refuse(ERRORS["model_not_found"])

    def _control(self, method: str, path: str, body: bytes) -> None:
        server = self._server
        match method, path:
            case "GET", "/_/counts":
                self._json(server.tally.counts())
            case "GET", "/_/requests":
                self._json(server.tally.last_requests())
            case "POST", "/_/clear":
                server.tally.clear()
                self._json({})
            case "POST", "/_/script":
                try:
                    server.plan = server.plan.changed(orjson.loads(body))
                except ValueError as exc:
                    self._refuse(ErrorReply(400, None, str(exc)))
                    return
                server.behave()
                self._json({})
            case _:
                self._refuse(ErrorReply(404, None, f"Invalid URL ({method} {path})"))

    def _json(self, value: Any) -> None:
        headers = b"x-request-id: req_%032x\r\n" % self._server.next_number()
        self._transport.write(whole(Reply(200, headers, orjson.dumps(value))))
        if self._last:
            self._transport.close()


def _error_reply(error: ErrorReply, number: int, argument: str) -> Reply:
    headers = {"x-request-id": f"req_{number:032x}"}
    wait = argument or error.retry_after
    if wait and wait.endswith("ms"):
        headers["retry-after-ms"] = wait.removesuffix("ms")
    elif wait and wait != "none":
        headers["Retry-After"] = wait
    return Reply(error.status, header_lines(headers), error_body(error))


def _path(target: str) -> str:
    """Without the query, and without the address that a client of a proxy puts before it."""
    if target.startswith("http://"):
        target = "/" + target.removeprefix("http://").partition("/")[2]
    return target.partition("?")[0]
