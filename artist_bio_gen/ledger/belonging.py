"""Which files belong to a ledger, by their names: what no other file of a run may be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from artist_bio_gen.errors import UsageError
from artist_bio_gen.values import path_text

_SIDE_FILES = (
    r"(head|lock|new|mending|fsync-failed|failed\.jsonl|(journal|quarantine|run)\..*)(\..+)?"
)


def is_own_name(ledger: Path, name: str) -> bool:
    """Is this the name of the ledger, of a segment of it, or of a file that it keeps beside?"""
    return bool(
        name == ledger.name
        or re.fullmatch(rf"{re.escape(ledger.stem)}\.\d{{4,}}{re.escape(ledger.suffix)}", name)
        # A segment has a quarantine of its own, and files are made under a name with a dot.
        or re.fullmatch(
            rf"\.?{re.escape(ledger.stem)}(\.\d{{4,}})?{re.escape(ledger.suffix)}\.{_SIDE_FILES}",
            name,
        )
    )


def own_files(ledger: Path) -> Iterator[Path]:
    """Those that are there. `ledger` is no link (`segments.real`)."""
    try:
        names = os.listdir(ledger.parent)  # noqa: PTH208 - in one go, and no path is made for others
    except OSError:  # opening the ledger tells what is wrong
        return
    yield from (ledger.parent / name for name in names if is_own_name(ledger, name))


def require_files(ledger: Path) -> None:
    """UsageError when something of it is there and is no regular file: a named pipe would be waited
    for, and a device has no end. `ledger` is no link (`segments.real`)."""
    if ledger.is_dir():
        raise UsageError(f"{path_text(ledger)}: is a folder; name a file in it, as out.jsonl")
    for each in (ledger, *own_files(ledger)):
        if each.exists() and not each.is_file():
            raise UsageError(
                f"{path_text(each)}: is no regular file, as what belongs to a ledger must be;"
                " name another ledger"
            )


def belongs_to(ledger: Path, path: Path) -> Path | None:
    """The file of the ledger, there or not, that `path` is, by whatever name."""
    there = Path(os.path.realpath(path))
    if there.parent == Path(os.path.realpath(ledger.parent)) and is_own_name(ledger, there.name):
        return there
    if path.exists():  # a hard link, or another name on a disk that takes a for A
        return next(
            (each for each in own_files(ledger) if each.exists() and each.samefile(path)), None
        )
    return None
