"""A look at a ledger while no run writes to it, without being one that writes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from artist_bio_gen.ledger.segments import beside

PATIENCE_S = 10.0
_AGAIN_S = 0.01


@contextmanager
def quiet(
    ledger: Path,
    newest: Path,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[bool]:
    """Waits until no run holds the ledger, and keeps them from writing for the block. False when
    one held it for too long. Where locks do not work, nobody can be waited for."""
    until = clock() + PATIENCE_S
    with ExitStack() as held:
        fds = []
        for path in (beside(ledger, "lock"), newest):
            if path.exists():
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                held.callback(os.close, fd)
                fds.append(fd)
        while not all(_shared(fd) for fd in fds):
            for fd in fds:
                fcntl.flock(fd, fcntl.LOCK_UN)
            if clock() > until:
                yield False
                return
            sleep(_AGAIN_S)
        yield True


def _shared(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
