"""Which files a ledger has, and where each of them ends, also where its first lines are damaged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import orjson

from artist_bio_gen.ledger.ranges import File
from artist_bio_gen.ledger.scan import first_place
from artist_bio_gen.ledger.segments import LONGEST_LINE, beside


def lay_out(ledger: Path) -> tuple[str | None, list[File]]:
    """The ledger's id (None: nothing tells it) and its files, each with where it ends, also where
    first lines are damaged. A file named like a segment is passed over when it belongs to another
    ledger, or to none by the look of its first line."""
    path_and_first = [(ledger, 1)]
    found = first_place(ledger) if ledger.exists() else None
    ledger_id = _noted_id(ledger) if found is None else found[1].ledger
    for path in _numbered(ledger):
        found = first_place(path)
        if found is None and _looks_like_a_ledger(path):
            path_and_first.append((path, 0))
        elif found is not None and found[1].ledger == (ledger_id or found[1].ledger):
            ledger_id = found[1].ledger
            path_and_first.append((path, found[1].seq - found[0]))
    lasts = [first - 1 if first > 0 else None for _, first in path_and_first[1:]]
    return ledger_id, [
        File(path, last, path.stat().st_size if path.exists() else 0)
        for (path, _), last in zip(path_and_first, [*lasts, None], strict=True)
    ]


def _numbered(ledger: Path) -> list[Path]:
    """The files beside it that are named like its segments, in order."""
    pattern = re.compile(rf"{re.escape(ledger.stem)}\.([0-9]{{4,}}){re.escape(ledger.suffix)}")
    found = {
        int(match[1]): path
        for path in ledger.parent.iterdir()
        if (match := pattern.fullmatch(path.name)) and int(match[1]) > 0
    }
    return [found[number] for number in sorted(found)]


def _looks_like_a_ledger(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(LONGEST_LINE)
    return b'"ledger":"' in line or b'"hash":"' in line


def _noted_id(ledger: Path) -> str | None:
    noted = noted_head(ledger).get("ledger")
    return noted if isinstance(noted, str) else None


def noted_head(ledger: Path) -> Mapping[str, object]:
    """The head beside the ledger; empty when there is none, or it cannot be read."""
    try:
        head = orjson.loads(beside(ledger, "head").read_bytes())
    except (OSError, ValueError):
        return {}
    return head if isinstance(head, dict) else {}
