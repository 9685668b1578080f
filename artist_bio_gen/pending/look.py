"""The look through an input of which nearly all may be finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from artist_bio_gen.database.nearby import Match, Nearby
from artist_bio_gen.database.store import Known
from artist_bio_gen.parser import ColumnChoice, Fingerprints, parse
from artist_bio_gen.pending import Rules, Verdict, judged
from artist_bio_gen.sources.text.delimited import END, Place
from artist_bio_gen.sources.text.plain import Cells
from artist_bio_gen.values import Artist, BadRow, Rejected, Row

LOOKED_THROUGH = 1_000
"""Rows compared at a time with what was committed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """So many rows after each other whose artists are committed in this ledger, and of how many of
    these input or prompt has changed since."""

    rows: int
    changed: int = 0
    changed_input: int = 0
    changed_prompt: int = 0


_CELLS = itemgetter(2)


class Look:
    """`judged` for an input of which nearly all may be finished: most of it is compared with
    commit rows that stand near each other, without making an artist of each row."""

    def __init__(
        self,
        known: Callable[[Sequence[str]], Mapping[str, Known]],
        nearby: Nearby,
        rules: Rules,
        choice: ColumnChoice,
        canonical_id: Callable[[str], str],
        *,
        table: str,
        under_way: set[str],
        at_a_time: int = LOOKED_THROUGH,
    ) -> None:
        """For `rules` that `takes` names."""
        self._known = known
        self._nearby = nearby
        self._rules = rules
        self._choice = choice
        self._fingerprints = Fingerprints(choice)
        self._canonical_id = canonical_id
        self._table = table
        self._under_way = under_way
        self._at_a_time = at_a_time
        self._seqs: list[int] = []
        self._chunk: list[Cells] = []

    @staticmethod
    def takes(rules: Rules) -> bool:
        """Whether an artist with one bio in this ledger is finished, whatever else is known."""
        return rules.anew_after is None and not rules.just_some

    def through(
        self, rows: Iterable[Cells], before: Finished | None = None
    ) -> Iterator[Verdict | Finished]:
        """What is to be done with each row, in their order. `before` stand rows of which that is
        known."""
        if before is not None and before.rows:
            yield before
        rows = iter(rows)
        id_of = itemgetter(self._choice.id)
        while chunk := list(islice(rows, self._at_a_time)):
            self._chunk = chunk
            matches: list[Match | None] = [None] * len(chunk)
            cells: list[Any] = [*map(_CELLS, chunk)]
            if BadRow not in set(map(type, cells)):
                ids = [*map(id_of, cells)]
                if len(set(ids)) == len(ids):
                    # An id that stands in a commit row is in its canonical form.
                    matches = self._nearby.find(ids, self._fingerprints.of(cells))
            if None not in matches and not any(matches):
                yield Finished(len(chunk))
            else:
                yield from self._told(chunk, matches)

    def _parse(self, rows: Iterable[Cells]) -> Iterator[Artist | Rejected]:
        return parse(
            (
                cells if isinstance(cells, BadRow) else Row(number, tuple(cells))
                for number, _, cells in rows
            ),
            self._choice,
            self._canonical_id,
        )

    def place_of(self, row: int | None) -> Place | None:
        """Where the row begins that was given last, by its number, or the end when all were given
        (None). None where that cannot be told."""
        if row is None:
            told = not self._chunk or self._chunk[-1][1] is not None
            return END if told else None
        for number, offset, _ in self._chunk:
            if number == row:
                return None if offset is None else Place(offset, number)
        return None

    def _told(
        self, chunk: Sequence[Cells], matches: list[Match | None]
    ) -> Iterator[Verdict | Finished]:
        others = [index for index, match in enumerate(matches) if match is None]
        parsed = [*self._parse(chunk[index] for index in others)]
        self._find_parsed(others, parsed, matches)
        left = (row for index, row in zip(others, parsed, strict=True) if matches[index] is None)
        self._seqs.clear()
        verdicts = judged(
            left,
            self._looked_up,
            self._rules,
            table=self._table,
            under_way=self._under_way,
        )
        for is_missing, group in groupby(matches, lambda match: match is None):
            if is_missing:
                yield from islice(verdicts, sum(1 for _ in group))
            else:
                yield _finished(Counter(group))
        self._nearby.follow(len(chunk), self._seqs)

    def _find_parsed(
        self,
        indexes: Sequence[int],
        rows: Sequence[Artist | Rejected],
        matches: list[Match | None],
    ) -> None:
        """Once more for those whose id is written in another way, or whose cells need care. Where
        an id stands here twice, it is looked up."""
        times = Counter(row.id for row in rows if isinstance(row, Artist))
        some = [
            (index, row.id, row.input_sha256)
            for index, row in zip(indexes, rows, strict=True)
            if isinstance(row, Artist) and times[row.id] == 1
        ]
        if some:
            places, ids, fingerprints = zip(*some, strict=True)
            for index, match in zip(places, self._nearby.find(ids, fingerprints), strict=True):
                matches[index] = match

    def _looked_up(self, ids: Sequence[str]) -> Mapping[str, Known]:
        found = self._known(ids)
        self._seqs += [known.seq for known in found.values() if known.seq is not None]
        return found


def _finished(matches: Counter[Match | None]) -> Finished:
    by_input, by_prompt, by_both = matches[1], matches[2], matches[3]
    return Finished(
        matches.total(),
        by_input + by_prompt + by_both,
        by_input + by_both,
        by_prompt + by_both,
    )
