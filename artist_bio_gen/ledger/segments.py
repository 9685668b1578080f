"""The files of a ledger (`out.jsonl`, then `out.0001.jsonl` and so on), and what lies beside.

A new segment begins after a failed fsync, since nobody can tell what of the file before is on
disk behind the line synced last. So a segment ends where the next one begins: behind line s - 1,
if the next one's first line is s. What stands there nevertheless is *superseded*: the tail of the
failed fsync, whose lines are in the next segment; it is no part of the ledger. A segment has at
least one line, and its first `prev` is the last hash of the segment before it.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from artist_bio_gen.errors import LedgerError, LedgerFileError, UsageError
from artist_bio_gen.ledger.line import first_prev, follows, is_whole, seq_of

LONGEST_LINE = 256 * 1024 * 1024
"""Bytes; a longer one is damage: a row has up to 16 Mi characters, which may stand in the line
twice, with up to six bytes each. Bounds what a check holds in memory when a crash left a long
run of NUL bytes without a line feed."""

_LOOKED_THROUGH = 4 * 1024 * 1024
"""Bytes of a file in which a whole line is looked for, when its first one is none. Bounds what a
large file that only bears such a name costs."""

_MOST_LINES = 2**63 - 1
"""What the database can number; a head that tells of more is damaged."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a ledger. Its lines are numbered `first` to `last`; `last` is None for the newest
    file, whose end is whatever it verifies to."""

    path: Path
    first: int
    last: int | None


def real(path: Path) -> Path:
    """Where a ledger behind a link lies. Its lock and its journals lie there too: otherwise a
    start by another name would not find the replies that were paid for."""
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError as exc:
        raise UsageError(f"{path}: is a link to itself; name a file") from exc


def beside(ledger: Path, suffix: str) -> Path:
    """`out.jsonl` and `lock` make `out.jsonl.lock`."""
    return ledger.with_name(f"{ledger.name}.{suffix}")


def segment_path(ledger: Path, number: int) -> Path:
    """`out.jsonl` and 1 make `out.0001.jsonl`; 0 is the ledger's first file, which names it."""
    return ledger if number == 0 else ledger.with_name(f"{ledger.stem}.{number:04d}{ledger.suffix}")


def segments(ledger: Path) -> list[Segment]:
    """The files of the ledger that are there, in order; `ledger` itself always comes first, there
    or not. LedgerError when one between them is missing. A file of such a name that belongs to
    another ledger, or is none, is passed over."""
    firsts = _first_lines(ledger)
    for expected, number in enumerate(sorted(firsts), 1):
        if number != expected:
            raise LedgerError(
                f"{segment_path(ledger, expected)}: this segment of the ledger is missing, while"
                f" {segment_path(ledger, number).name} is there; put it back"
            )
    begins = [1, *(firsts[number] for number in sorted(firsts))]
    ends = [*(first - 1 for first in begins[1:]), None]
    return [
        Segment(segment_path(ledger, number), first, last)
        for number, (first, last) in enumerate(zip(begins, ends, strict=True))
    ]


def _first_lines(ledger: Path) -> dict[int, int]:
    """Number of the file to number of its first line, without the ledger's first file."""
    pattern = re.compile(
        rf"{re.escape(ledger.stem)}\.(\d{{4,}}){re.escape(ledger.suffix)}", re.ASCII
    )
    candidates = {
        int(match[1]): each
        for each in ledger.parent.iterdir()
        if (match := pattern.fullmatch(each.name)) and int(match[1]) > 0
    }
    if not candidates:
        return {}
    found = {}
    own_id = find_id(ledger)
    for number, path in candidates.items():
        try:
            first = _first_seq(path, own_id)
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be read: {exc.strerror}") from exc
        if first is not None:
            found[number] = first
    return found


def _first_seq(path: Path, ledger_id: str | None) -> int | None:
    """The number of a file's first line; where that one is damaged, reckoned back from the first
    that is whole, so that a check finds the damage. None for a file that is not of this ledger."""
    size = 0
    with path.open("rb") as file:
        for before, data in enumerate(iter(partial(file.readline, LONGEST_LINE), b"")):
            whole = data.endswith(b"\n") and is_whole(data[:-1])
            try:
                if orjson.loads(data)["ledger"] == ledger_id and (whole or not before):
                    return max(1, seq_of(data) - before)
            except (ValueError, KeyError, TypeError):
                pass
            size += len(data)
            if whole or size > _LOOKED_THROUGH:
                return None
    return None


def noted_seq(ledger: Path) -> int:
    """The number of the last line that the head beside the ledger tells of; 0 without one."""
    try:
        seq = _noted(ledger)["seq"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return seq if type(seq) is int and 0 < seq <= _MOST_LINES else 0


def find_id(ledger: Path) -> str | None:
    """The ledger's id, from its first line, else from the head beside it; None when neither
    tells it. OSError when the file is there and cannot be read."""
    if ledger.exists() and not ledger.is_file():  # a named pipe would be waited for
        raise UsageError(f"{ledger}: is no regular file, so it is no ledger; name another")
    try:
        with ledger.open("rb") as file:
            first = file.readline(LONGEST_LINE)
        ledger_id = str(orjson.loads(first)["ledger"])
        if follows(first.rstrip(b"\n"), first_prev(ledger_id)) is not None:
            return ledger_id
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        pass
    try:
        return str(uuid.UUID(_noted(ledger)["ledger"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _noted(ledger: Path) -> Any:
    """What the head beside the ledger holds. OSError, ValueError when that cannot be read."""
    head = beside(ledger, "head")
    if not head.is_file():
        raise FileNotFoundError(head)
    return orjson.loads(head.read_bytes())
