"""A PostgREST, as Supabase has it, on the loopback: one table, filters on its columns, a limit of
its own on rows, and failures that are asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from artist_bio_gen.values import Json

KEY = "service-role-key-of-the-tests"

Failure = tuple[int, Mapping[str, str], Json]
"""Status, headers, body; status 0 cuts the connection instead."""


class PostgRest:
    """`max_rows` is what the server gives at most, whatever is asked. The next requests are
    answered by `failures`, in their order. `requests` are the queries that were answered."""

    def __init__(self, rows: list[dict[str, Json]], *, max_rows: int = 1000) -> None:
        self.rows = rows
        self.max_rows = max_rows
        self.failures: list[Failure] = []
        self.requests: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"supabase+{self.origin}/rest/v1/artists"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, query: dict[str, str]) -> tuple[list[dict[str, Json]], int]:
        """Rows, and how many fit in all."""
        order = query.pop("order", "id.asc").removesuffix(".asc")
        limit = min(int(query.pop("limit", self.max_rows)), self.max_rows)
        chosen = query.pop("select", "*")
        found = sorted(self.rows, key=lambda row: (row[order] is None, row[order]))
        for column, condition in query.items():
            operator, _, value = condition.partition(".")
            found = [row for row in found if _fits(row[column], operator, value)]
        names = [] if chosen == "*" else chosen.split(",")
        page = found[:limit]
        if names:
            page = [{name: row[name] for name in names} for row in page]
        return page, len(found)


def _fits(cell: Json, operator: str, value: str) -> bool:
    if operator == "is":
        return cell is None
    if cell is None:
        return False
    other: Any = int(value) if isinstance(cell, int) else value
    fits: bool = {"eq": cell == other, "gt": cell > other, "gte": cell >= other}[operator]
    return fits


def _handler(rest: PostgRest) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if rest.failures:
                status, headers, body = rest.failures.pop(0)
                if not status:
                    self.close_connection = True
                    return
                self._send(status, headers, body)
                return
            if (self.headers["apikey"], self.headers["Authorization"]) != (KEY, f"Bearer {KEY}"):
                self._send(401, {}, {"message": f"{self.headers['apikey']} is no key"})
                return
            parts = urlsplit(self.path)
            if parts.path != "/rest/v1/artists":
                self._send(404, {}, {"message": "no such table"})
                return
            query = dict(parse_qsl(parts.query))
            rest.requests.append(dict(query))
            try:
                page, total = rest.answer(query)
            except KeyError as exc:
                self._send(400, {}, {"message": f"column {exc.args[0]} does not exist"})
                return
            told = total if "count" in (self.headers["Prefer"] or "") else "*"
            span = f"0-{len(page) - 1}" if page else "*"
            self._send(200, {"Content-Range": f"{span}/{told}"}, page)

        def _send(self, status: int, headers: Mapping[str, str], body: Json) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    return Handler
