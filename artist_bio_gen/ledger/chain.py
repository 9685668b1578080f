"""What the pieces of a ledger's files come to, put together in the order of the files.

The chain goes on from the highest line so far, not from the one that was read last: a block that
was copied or moved is told where it stands, and not once more where it is missing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from pathlib import Path

from artist_bio_gen.ledger.differences import Difference, Found, Kind
from artist_bio_gen.ledger.scan import Rubble, Stretch

_GAPS_HELD = 100_000


@dataclass(frozen=True, slots=True)
class _Gap:
    """Numbers `first` to `last` have not been met. `damaged` lines stand in their place, before
    byte `offset`."""

    first: int
    last: int
    damaged: int
    file: Path
    offset: int


class Chain:
    """`seq` and `hash` are those of the highest line so far; `hash` is None while nobody knows
    with what the ledger begins. `rubble` is what stands behind the last whole line."""

    def __init__(self, ledger_id: str | None, first_prev: str | None, found: Found) -> None:
        self.seq = 0
        self.hash = first_prev
        self.rubble: tuple[Path, Rubble] | None = None
        self._id = ledger_id
        self._found = found
        self._gaps: list[_Gap] = []  # in ascending order
        self._damaged = 0  # lines since the highest one

    def add_rubble(self, file: Path, rubble: Rubble) -> None:
        joined = rubble if self.rubble is None else self.rubble[1].joined(rubble)
        self.rubble = (file, joined)

    def end_file(self) -> None:
        """No more pieces of this file: what stands behind its last whole line may be torn."""
        if self.rubble is None:
            return
        file, rubble = self.rubble
        if rubble.before:
            end = rubble.end if rubble.torn_at is None else rubble.torn_at
            self._add_damaged(file, replace(rubble, end=end, lines=rubble.before))
        if rubble.torn_at is not None:
            what = (
                f"{rubble.end - rubble.torn_at:,} bytes behind the last whole line, as a crash"
                " leaves them"
            )
            self._found.add(
                Difference(
                    "torn_tail",
                    self.seq + 1 + self._damaged,
                    file,
                    rubble.torn_at,
                    None,
                    what,
                    end=rubble.end,
                )
            )
            self._damaged += rubble.lines - rubble.before
        self.rubble = None

    def add(self, file: Path, stretch: Stretch) -> int | None:
        """Takes in whole lines that follow each other. Tells how many of them stand elsewhere
        already, None when the chain does not go on with any of them."""
        if self.rubble is not None:
            self._add_damaged(*self.rubble)
            self.rubble = None
        place = stretch.begins
        if place.ledger != self._id:
            what = f"of another ledger, {place.ledger}"
            self._tell("chain_break", file, stretch, what, last=stretch.last)
            return None
        known = max(0, self.seq + 1 - place.seq)
        if known:
            self._add_behind(file, stretch)
            if stretch.last <= self.seq:
                return None
        elif place.prev == self.hash and place.seq > self.seq + 1:
            what = f"follows line {self.seq}, but has the number {place.seq}"
            self._tell("chain_break", file, stretch, what)
        elif place.seq > self.seq + 1:
            gap = _Gap(self.seq + 1, place.seq - 1, self._damaged, file, stretch.offset)
            self._gaps.append(gap)
            if len(self._gaps) > _GAPS_HELD:
                self._tell_gaps(_GAPS_HELD // 2)
        elif self.hash not in (None, place.prev):
            before = f"line {self.seq}" if self.seq else f"the id of the ledger, {self._id}"
            self._tell("chain_break", file, stretch, f"line {place.seq} does not follow {before}")
        self.seq, self.hash, self._damaged = stretch.last, stretch.hash, 0
        return known

    def close(self) -> None:
        """Nothing comes any more."""
        self._tell_gaps(len(self._gaps))

    def _add_damaged(self, file: Path, rubble: Rubble) -> None:
        what = "not whole: its hash does not match what it covers"
        if rubble.lines > 1:
            what = f"{rubble.lines:,} lines that are not whole: their hashes do not match"
        self._found.add(
            Difference(
                "damaged_line",
                self.seq + 1 + self._damaged,
                file,
                rubble.offset,
                rubble.artist_id,
                what,
                rubble.lines,
                rubble.end,
            )
        )
        self._damaged += rubble.lines

    def _add_behind(self, file: Path, stretch: Stretch) -> None:
        """Lines with numbers up to the highest one: those that were missing so far stand in the
        wrong place, the others are there twice."""
        number, last = stretch.begins.seq, min(stretch.last, self.seq)
        while number <= last:
            index = bisect_left(self._gaps, number, key=lambda gap: gap.last)
            gap = self._gaps[index] if index < len(self._gaps) else None
            if gap is not None and gap.first <= number:
                end = min(gap.last, last)
                what = f"out of its place, behind line {self.seq}"
                self._tell("chain_break", file, stretch, what, first=number, last=end)
                rest = [replace(gap, last=number - 1), replace(gap, first=end + 1)]
                self._gaps[index : index + 1] = [each for each in rest if each.first <= each.last]
            else:
                end = last if gap is None else min(gap.first - 1, last)
                what = "stands in the ledger already"
                self._tell("repeated_line", file, stretch, what, first=number, last=end)
            number = end + 1

    def _tell(
        self,
        kind: Kind,
        file: Path,
        stretch: Stretch,
        what: str,
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> None:
        """Of lines `first` to `last` of a stretch; None: its first one. The byte is where the
        stretch begins."""
        begin = stretch.begins.seq
        first = begin if first is None else first
        count = 1 if last is None else last - first + 1
        self._found.add(
            Difference(
                kind,
                first,
                file,
                stretch.offset,
                stretch.begins.artist_id if first == begin else None,
                what,
                count,
            )
        )

    def _tell_gaps(self, how_many: int) -> None:
        for gap in self._gaps[:how_many]:
            numbers = gap.last - gap.first + 1
            if (missing := numbers - gap.damaged) <= 0:
                continue  # the damaged lines are these
            what = "missing before this byte"
            if gap.damaged:
                what = (
                    f"{missing:,} of the lines {gap.first} to {gap.last} missing before this byte,"
                    " the others damaged"
                )
            self._found.add(
                Difference("missing_line", gap.first, gap.file, gap.offset, None, what, missing)
            )
        del self._gaps[:how_many]
