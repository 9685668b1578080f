"""What the libraries raise over a damaged workbook, as one error that a person can act upon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from artist_bio_gen.errors import InputError


@contextmanager
def damage_told(where: str, last: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """For calls of a library that reads `where`: its errors are raised as an InputError. `last` is
    asked for the last row that was read when one comes. Not for a block with a `yield`."""
    try:
        yield
    except BaseException as exc:  # a panic of Rust's is no Exception
        raise unreadable(exc, where, last()) from exc


def unreadable(exc: BaseException, where: str, last: int) -> InputError:
    """What to say of an error of a library; those that are none of the file's go on."""
    if isinstance(exc, (MemoryError, KeyboardInterrupt, SystemExit, InputError)):
        raise exc
    told = " ".join(str(exc).split())[:200] or type(exc).__name__
    behind = f" behind row {last:,}" if last else ""
    return InputError(
        f"{where} cannot be read{behind} ({told}); it is damaged: take a sound copy, or mend it"
        " with a spreadsheet program"
    )
