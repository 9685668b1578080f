"""Memory that stays flat however many rows pass through."""

from __future__ import annotations

import ctypes

# glibc's mallopt(3): numbers of its parameters.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE = 128 * 1024


def keep_flat() -> None:
    """Lets glibc give memory back. To be called before threads are started.

    By default it raises its thresholds as large buffers are freed (a group of rows on its way to
    the database is one), keeps what it has from then on, and has a heap for every few threads:
    over a million rows that is a quarter more. Elsewhere than on glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _LARGE)
    mallopt(_M_ARENA_MAX, 2)
