"""What a server is still at when a run has to end.

A statement may take as long as somebody's trigger likes, and the thread that waits for it hears
of nothing else. So another one looks on, and breaks off what goes on for too long: at the server,
and if that does not help, by closing the connection under it. A commit that was broken off has
happened or not; as after a lost connection, the next start asks the head.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import psycopg

from artist_bio_gen.errors import StoppedError

_TICK = 1.0
"""Seconds: work that goes on from one look to the next takes too long by then. A commit takes
some milliseconds."""


class LastWord:
    """Guards the work of one connection after the other, of one thread."""

    def __init__(self) -> None:
        self._lock = (
            threading.Lock()
        )  # guards the connection at work, its number, and `_broken_off`
        self._at_work: psycopg.Connection | None = None
        self._number = 0
        self._broken_off = False
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()

    @property
    def broken_off(self) -> bool:
        """Work was broken off, and none is begun any more."""
        return self._broken_off

    @contextlib.contextmanager
    def over(self, conn: psycopg.Connection) -> Iterator[None]:
        """While the block lasts, work is done with `conn`. StoppedError when it is too late."""
        with self._lock:
            if self._broken_off:
                raise StoppedError("the database takes too long")
            self._number += 1
            self._at_work = conn
        try:
            yield
        finally:
            with self._lock:
                self._at_work = None

    def is_due_in(self, seconds: float) -> None:
        """From then on work that takes long is broken off. Returns at once."""
        onlooker = threading.Thread(
            target=self._look_on, args=(seconds,), name="last word", daemon=True
        )
        # Where the system gives no more threads, which may be why the run ends, it is waited for.
        with contextlib.suppress(RuntimeError, MemoryError):
            onlooker.start()

    def _look_on(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            return
        seen = None
        while not self._closed.wait(_TICK):
            with self._lock:
                conn, number = self._at_work, self._number
                if conn is None or number != seen:
                    seen = None if conn is None else number
                    continue
                again, self._broken_off = self._broken_off, True
            if again:
                _hang_up(conn)
            else:
                _cancel(conn)


def _cancel(conn: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.Error, OSError):  # then the next look hangs up
        conn.cancel_safe(timeout=_TICK)


def _hang_up(conn: psycopg.Connection) -> None:
    """The thread that waits for an answer finds the connection closed. The connection's own
    methods must not be called from here: they are that thread's."""
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(conn.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
