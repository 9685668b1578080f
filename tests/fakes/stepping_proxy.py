"""A way to Postgres on which every step is counted: what the client says, and what the server
answers. One process after another may be stopped at each of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class SteppingProxy:
    """Serves the process that makes it, for as long as that lives. `step` is called before the
    server hears what the client says, and before the client hears what the server answers."""

    def __init__(self, url: str, step: Callable[[], None]) -> None:
        parts = conninfo_to_dict(url)
        host, port = str(parts.get("host") or ""), int(parts.get("port") or 5432)
        self._family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self._server = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._step = step
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = make_conninfo(
            url,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(self._family)
            server.connect(self._server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._hand_on, args=(source, sink), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        # Each side waits for the other, so that what is read at once is what was said at once.
        while data := source.recv(1 << 20):
            self._step()
            sink.sendall(data)
        sink.close()
