"""Stopping and pausing a run, asked from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from artist_bio_gen.errors import ArtistBioGenError, LedgerError, StoppedError


class Control:
    """Whether the run goes on. The first reason to stop stands.

    Do not call from a signal handler (it may interrupt a thread that holds one of these locks);
    let a thread call it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopped_at = 0.0
        self._lock = threading.Lock()  # guards reason, error, the callbacks and the pauses
        self._stopped = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()
        self._callbacks: list[Callable[[], None]] = []
        self._when_flowing: list[Callable[[], None]] = []
        self._pauses = 0
        self.reason: str | None = None
        self.error: ArtistBioGenError | None = None

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    @property
    def stopped_for(self) -> float:
        """Seconds since the run was stopped; 0 as long as it goes on."""
        return self._clock() - self._stopped_at if self.stopped else 0.0

    def stopped_longer_than(self, seconds: float) -> bool:
        """For waits that are part of finishing what is under way."""
        return self.stopped_for > seconds

    def stop(self, reason: str, error: ArtistBioGenError | None = None) -> None:
        """Asks the run to end: no new artist is taken, calls in flight are finished. What the
        ledger or its disk then say is told as well, where the first reason was no error."""
        with self._lock:
            if self.reason is not None:
                if self.error is None and isinstance(error, LedgerError):
                    self.error = error
                return
            self.reason, self.error = reason, error
            self._stopped_at = self._clock()
            callbacks = list(self._callbacks)
            self._stopped.set()
            self._flowing.set()
        with ExitStack() as stack:  # each is called, whatever another one raises
            for callback in reversed(callbacks):
                stack.callback(callback)

    def when_stopped(self, callback: Callable[[], None]) -> None:
        """`callback` is called once, from the thread that stops the run."""
        with self._lock:
            if self.reason is None:
                self._callbacks.append(callback)
                return
        callback()

    def when_changed(self, callback: Callable[[], None]) -> None:
        """`callback` is called when the run is stopped, as `when_stopped` has it, and each time
        that calls may be made again."""
        with self._lock:
            self._when_flowing.append(callback)
        self.when_stopped(callback)

    def sleep(self, seconds: float) -> None:
        """Waits, unless the run is to end: then raises StoppedError at once."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def linger(self, seconds: float) -> None:
        """Waits, but no longer than the run goes on."""
        self._stopped.wait(seconds)

    def pause(self) -> None:
        """No new call is made until each `pause` has had its `resume`."""
        with self._lock:  # so that it cannot come after a stop and hold everybody for ever
            self._pauses += 1
            if self.reason is None:
                self._flowing.clear()

    def resume(self) -> None:
        with self._lock:
            self._pauses -= 1
            if self._pauses:
                return
            self._flowing.set()
            callbacks = list(self._when_flowing)
        for callback in callbacks:
            callback()

    @property
    def flowing(self) -> bool:
        """Whether calls may be made."""
        return self._flowing.is_set() and not self.stopped

    def wait_until_flowing(self) -> None:
        """Returns when calls may be made. StoppedError when the run is to end."""
        if not self._flowing.is_set():  # waiting takes a lock that all workers share
            self._flowing.wait()
        if self.stopped:
            raise StoppedError
