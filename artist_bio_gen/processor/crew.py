"""Worker threads that are replaced by fresh ones from time to time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from artist_bio_gen.processor.control import Control

NO_THREAD = (RuntimeError, MemoryError)
"""What Python raises when the system gives no thread, or no memory for one."""


class Crew:
    """So many threads at a time, each at a piece of work after another.

    A thread ends after its piece and another takes its place: what the C library's allocator
    keeps for a thread (up to some 200 KiB, never given back while it lives) goes with it. With
    threads that live as long as the run, 64 of them gather 10 MiB over a million artists.
    """

    def __init__(self, count: int, work: Callable[[int], bool], control: Control) -> None:
        """`work` takes the worker's number, from 1 on; True means that there is more to do."""
        self._count = count
        self._work = work
        self._control = control
        self._changed = threading.Condition()  # guards the one below
        self._left = 0

    def start(self) -> None:
        """One of NO_THREAD when the system gives no more; `wait` waits for those it gave."""
        for number in range(1, self._count + 1):
            with self._changed:
                self._left += 1
            try:
                self._start_one(number)
            except NO_THREAD:
                self._end_one()
                raise

    def wait(self, grace: float) -> bool:
        """Until all have ended; once the run is stopped, until `grace` seconds after that. False
        when some have not ended by then."""
        self._control.when_stopped(self._wake)
        with self._changed:
            self._changed.wait_for(lambda: self._left == 0 or self._control.stopped)
            left = max(0.0, grace - self._control.stopped_for)
            return self._changed.wait_for(lambda: self._left == 0, left)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _start_one(self, number: int) -> None:
        threading.Thread(
            target=self._live, args=(number,), name=f"worker-{number}", daemon=True
        ).start()

    def _live(self, number: int) -> None:
        handed_on = False
        try:
            while not handed_on and self._work(number):
                handed_on = self._hand_on(number)
        finally:
            if not handed_on:
                self._end_one()

    def _end_one(self) -> None:
        with self._changed:
            self._left -= 1
            self._changed.notify_all()

    def _hand_on(self, number: int) -> bool:
        try:
            self._start_one(number)
        except NO_THREAD:  # for now: this one goes on
            return False
        return True
