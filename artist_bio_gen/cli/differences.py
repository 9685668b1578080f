"""What `repair` and `restore` found, as text and as JSON, in the words of `verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from artist_bio_gen.ledger.differences import Difference, Kind
from artist_bio_gen.values import path_text


def as_text(counts: Mapping[Kind, int], examples: Sequence[Difference]) -> Iterator[str]:
    """A line for each kind with its count, below it the first examples."""
    for kind, count in counts.items():
        yield f"{kind:<14} {count:,}"
        for each in examples:
            if each.kind == kind:
                where = "" if each.file is None else f"{each.file.name}"
                where += "" if each.offset is None else f" byte {each.offset:,}"
                yield f"    {where}: {each.detail}" if where else f"    {each.detail}"


def as_json(counts: Mapping[Kind, int], examples: Sequence[Difference]) -> dict[str, Any]:
    return {
        "counts": dict(counts),
        "examples": [
            {
                "kind": each.kind,
                "seq": each.seq,
                "file": None if each.file is None else path_text(each.file),
                "offset": each.offset,
                "artist_id": each.artist_id,
                "detail": each.detail,
                "count": each.count,
            }
            for each in examples
        ],
    }
