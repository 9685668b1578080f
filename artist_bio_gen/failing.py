"""What is undone when something fails half-way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_failure(undo: Callable[[], object]) -> Iterator[None]:
    """Calls `undo` when the block raises anything at all, a Ctrl+C too, and lets that go on: what
    is open by then is nobody's yet. Without an error nothing is done."""
    try:
        yield
    except BaseException:  # whatever it is, it goes on
        undo()
        raise
