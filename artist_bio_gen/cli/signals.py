"""Ctrl+C and SIGTERM: the first asks the run to stop, the second leaves at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from artist_bio_gen.errors import EXIT_INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_ASKED_EARLY = (signal.SIGINT, signal.SIGTERM)

_SHOW_CURSOR = b"\x1b[?25h\n"


def leave_while_starting() -> None:
    """From here on, Ctrl+C and SIGTERM end the process at once, in one line: while it is loaded
    nothing is begun yet. A signal that the parent had switched off stays off."""
    for each in _ASKED_EARLY:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _leave)


def begin() -> None:
    """From here on both are a KeyboardInterrupt: what a command has begun is cleaned up. Nothing
    changes where `leave_while_starting` was not called."""
    for each in _ASKED_EARLY:
        if signal.getsignal(each) is _leave:
            signal.signal(each, signal.default_int_handler)


def _leave(*_: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


def leave_at_once() -> None:
    """Ends the process without another word: the journals are made for that."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # a bar had hidden it
    os._exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def on_signals(
    first: Callable[[str], None], again: Callable[[], None] = leave_at_once
) -> Iterator[None]:
    """While the block lasts, the first signal calls `first` with its name and each further one
    `again`, in threads of their own. To be used in the main thread. A signal that the parent
    had switched off (nohup) stays off.

    Python's own handlers run in the main thread, in the middle of anything, locks held, and not
    at all while it is in foreign code that loads a model. So a thread waits here for the byte
    that the interpreter writes into a pipe when a signal arrives.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watched = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]

    def watch() -> None:
        asked = False
        while arrived := os.read(reader, 1):
            if arrived[0] not in watched:
                continue
            if asked:
                again()
            else:
                asked = True
                # Aside, so that it cannot keep the second signal waiting.
                name = signal.Signals(arrived[0]).name
                stopper = threading.Thread(target=first, args=(name,), name="stop", daemon=True)
                try:
                    stopper.start()
                except RuntimeError:  # the system gives no more threads
                    first(name)

    old_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    old_handlers = {each: signal.signal(each, _nothing) for each in watched}
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _nothing(*_: object) -> None:
    """Takes the place of the default, which would end the process."""
