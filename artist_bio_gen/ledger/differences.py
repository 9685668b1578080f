"""The kinds of differences, in the words that verify, repair and their guides share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal[
    "torn_tail",
    "damaged_line",
    "chain_break",
    "missing_line",
    "repeated_line",
    "unknown_run",
    "missing_row",
    "text_differs",
    "head_ahead",
    "wrong_database",
]

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be. `seq` is the line's number (for damage the one that
    belongs to its place), `offset` the byte at which it begins in `file`; None where there is
    none. It concerns `count` lines, from that one on, up to byte `end`."""

    kind: Kind
    seq: int | None
    file: Path | None
    offset: int | None
    artist_id: str | None
    detail: str
    count: int = 1
    end: int | None = None


class Found:
    """The differences so far: all are counted, the first `most` of each kind are kept (None:
    all). Give those of one kind in the order in which they stand in the ledger."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counts: Counter[Kind] = Counter()
        self._kept: dict[Kind, list[Difference]] = {kind: [] for kind in KINDS}

    def add(self, difference: Difference) -> None:
        self._counts[difference.kind] += difference.count
        kept = self._kept[difference.kind]
        if self._most is None or len(kept) < self._most:
            kept.append(difference)

    def counts(self) -> dict[Kind, int]:
        """Lines concerned, by kind, in the order of `KINDS`; only what was met."""
        return {kind: self._counts[kind] for kind in KINDS if self._counts[kind]}

    def examples(self) -> tuple[Difference, ...]:
        return tuple(each for kind in KINDS for each in self._kept[kind])
