"""A way to Postgres that can be cut around a COMMIT, and that can answer in the server's stead."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Cut: TypeAlias = Literal["before", "after", "during", "late"]
"""before: the server never hears of the COMMIT. after: it has committed, its answer is lost.
during: it hears of the COMMIT and of the cut at once. late: the client is cut off, and the
server hears of the COMMIT only when the client, on a new connection, asks for a row's lock."""

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_BEGIN = b"Q\x00\x00\x00\x0aBEGIN\x00"
_ASKS_FOR_A_LOCK = b"for update"
_READY = b"Z\x00\x00\x00\x05I"

Moment: TypeAlias = Literal["connect", "begin", "commit", "committed"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error with this SQLSTATE instead of the server's answer to the next connection, BEGIN or
    COMMIT; `committed`: to a COMMIT that the server has carried out. The connection ends behind it;
    `fatal` says that this was to be expected."""

    at: Moment
    state: str
    fatal: bool

    @property
    def message(self) -> bytes:
        """As the protocol's ErrorResponse has it (PostgreSQL manual, 54.7 and 54.8)."""
        severity = b"FATAL" if self.fatal else b"ERROR"
        fields = b"S%b\0V%b\0C%b\0Minjected %b\0\0" % (
            *(severity, severity),
            *(self.state.encode(), self.state.encode()),
        )
        ready = b"" if self.fatal else _READY
        return b"E" + struct.pack("!i", len(fields) + 4) + fields + ready


class PgProxy:
    """Listens on the loopback and hands on to the server of `url`. The next COMMIT is cut as
    `cut_next` says, or as `choose_cut` does if it says nothing; `commits` counts those that were
    seen, `cuts` those that were cut. `before_late_commit` is called when the server has been asked
    for the lock and before it hears of the COMMIT. `refuse_next` is for one answer, and `refused`
    counts those. While it is `away`, new connections end at once."""

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
        self.choose_cut: Callable[[], Cut | None] = lambda: None
        self.refuse_next: Refusal | None = None
        self.refused = 0
        self.away = False
        self.commits = 0
        self.cuts: Counter[Cut] = Counter()
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
                refusal = self._refusal("connect")
                if self.away or refusal is not None:
                    self._turn_away(client, refusal)
                    continue
                server.connect(self._server)
                instead: list[bytes] = []
                self._begin(self._to_server, client, server, instead)
                self._begin(self._to_client, client, server, instead)

    def _refusal(self, at: Moment) -> Refusal | None:
        refusal = self.refuse_next
        if refusal is None or refusal.at != at:
            return None
        self.refuse_next = None
        self.refused += 1
        return refusal

    def _turn_away(self, client: socket.socket, refusal: Refusal | None) -> None:
        with contextlib.suppress(OSError):
            if refusal is not None and client.recv(1 << 20):
                client.sendall(refusal.message)
        _cut(client)

    def _to_server(
        self, client: socket.socket, server: socket.socket, instead: list[bytes]
    ) -> None:
        """`instead` gets what is to be sent in place of the server's next answer."""
        with contextlib.suppress(OSError):
            # The client says one thing at a time and waits for the answer, so that what is read
            # at once is whole messages; longer ones come in parts, which hold no COMMIT alone.
            while data := client.recv(1 << 20):
                refusal = self._refusal("begin") if data == _BEGIN else None
                if data == _COMMIT:
                    self.commits += 1
                    refusal = self._refusal("commit") or self._refusal("committed")
                if refusal is not None and refusal.at != "committed":
                    client.sendall(refusal.message)
                    break
                if refusal is not None:
                    instead.append(refusal.message)
                elif data == _COMMIT:
                    cut, self.cut_next = self.cut_next or self.choose_cut(), None
                    if cut is not None:
                        self.cuts[cut] += 1
                    if cut == "late":
                        self._late = server
                        _cut(client)
                        return
                    if cut == "after":
                        instead.append(b"")
                    if cut == "during":
                        _cut(client)  # or the answer might still get through
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
        self, client: socket.socket, server: socket.socket, instead: list[bytes]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if instead:
                    client.sendall(instead[0])
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is cut already
        sock.shutdown(socket.SHUT_RDWR)
