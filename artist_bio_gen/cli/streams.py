"""The standard streams where they are not what a program expects: closed, full, not read.

What was done keeps its exit code, whether or not it could be told.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TextIO

import click

from artist_bio_gen.errors import LimitError


def open_missing() -> None:
    """Gives a stream that the parent has closed to the null device, the descriptor as well: else
    the next file that is opened, perhaps the ledger, would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free one
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def in_printing(exc: OSError) -> bool:
    """Does this come from writing to a standard stream, and not from a file of ours?"""
    frames = traceback.walk_tb(exc.__traceback__)
    return any(frame.f_code is click.echo.__code__ for frame, _ in frames)


def let_go(stream: TextIO) -> None:
    """Has a stream that takes nothing lose what it keeps: Python itself would try it again at the
    end, and put an exit code of its own in place of ours."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError):  # a stream without a descriptor of its own
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ends without a word when nobody reads on, as `| head` does. LimitError when the standard
    output takes no more, as on a full disk."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as exc:
        if exc.filename is not None:
            raise  # of a file
        if not isinstance(exc, BrokenPipeError):
            told = f"the standard output takes no more: {exc.strerror}"
            raise LimitError(told) from exc
        # So that Python's own flush at the end finds somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
