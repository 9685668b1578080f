"""A way to Postgres that can be cut around a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Literal, Self, TypeAlias

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Cut: TypeAlias = Literal["before", "after", "during", "late"]
"""before: the server never hears of the COMMIT. after: it has committed, its answer is lost.
during: it hears of the COMMIT and of the cut at once. late: the client is cut off, and the
server hears of the COMMIT only when the client, on a new connection, asks for a row's lock."""

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_ASKS_FOR_A_LOCK = b"for update"


class PgProxy:
    """Listens on the loopback and hands on to the server of `url`. The next COMMIT is cut as
    `cut_next` says; `commits` counts those that were seen. `before_late_commit` is called when
    the server has been asked for the lock and before it hears of the COMMIT."""

    def __init__(self, url: str) -> None:
        parts = conninfo_to_dict(url)
        host, port = str(parts.get("host") or ""), int(parts.get("port") or 5432)
        self._family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self._server = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = make_conninfo(
            url,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )
        self.cut_next: Cut | None = None
        self.commits = 0
        self.before_late_commit: Callable[[], None] = lambda: None
        self._late: socket.socket | None = None
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def go_away(self) -> None:
        """Takes no new connection, and cuts those that are there."""
        _cut(self._listener)
        self._threads[0].join()
        for sock in self._sockets:
            _cut(sock)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(self._family)
                self._sockets += [client, server]
                server.connect(self._server)
                answer_lost = threading.Event()
                self._begin(self._to_server, client, server, answer_lost)
                self._begin(self._to_client, client, server, answer_lost)

    def _to_server(
        self, client: socket.socket, server: socket.socket, answer_lost: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            # The client says one thing at a time and waits for the answer, so that what is read
            # at once is whole messages; longer ones come in parts, which hold no COMMIT alone.
            while data := client.recv(1 << 20):
                if data == _COMMIT:
                    self.commits += 1
                    cut, self.cut_next = self.cut_next, None
                    if cut == "late":
                        self._late = server
                        _cut(client)
                        return
                    if cut == "after":
                        answer_lost.set()
                    if cut != "before":
                        server.sendall(data)
                    if cut in ("before", "during"):
                        break
                    continue
                server.sendall(data)
                if self._late is not None and _ASKS_FOR_A_LOCK in data:
                    late, self._late = self._late, None
                    self.before_late_commit()
                    late.sendall(_COMMIT)
        _cut(client)
        _cut(server)

    def _to_client(
        self, client: socket.socket, server: socket.socket, answer_lost: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if answer_lost.is_set():
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is cut already
        sock.shutdown(socket.SHUT_RDWR)
