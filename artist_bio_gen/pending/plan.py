"""The look through an input before the first call: what it comes to, and where the work begins."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from artist_bio_gen.errors import InputError, LimitError, StoppedError
from artist_bio_gen.pending import CHUNK, Left, Verdict, Why
from artist_bio_gen.pending.look import Finished
from artist_bio_gen.sources.text.delimited import Place
from artist_bio_gen.values import Artist, Failed, Rejected, Skipped, SkipReason

REJECTED_KEPT = 1_000
"""Rejected rows of the front that are kept, so that it need not be read again for them."""

TELL_EVERY_S = 10.0
"""How often a long look through the input is told."""

LEFT: Mapping[Why, str] = {
    "new": "new",
    "again": "to be written anew",
    "transient": "that failed in a way that may pass",
    "failed": "that had failed for good",
    "changed": "finished from another input, prompt or model",
}

FINISHED: tuple[SkipReason, ...] = ("done", "elsewhere", "has_bio")


@dataclass(frozen=True, slots=True)
class Front:
    """The first `rows` of an input, which are finished with, or rejected: nothing has to be looked
    up for them again. `place` is where the next one begins, and `rejected` are those among them;
    None, and not all of them, where that cannot be told in short."""

    rows: int
    place: Place | None = None
    rejected: Sequence[Rejected] = ()


NO_FRONT = Front(0)


@dataclass(frozen=True, slots=True)
class DoneFront:
    """The first rows of an input, as far as all of them are committed in this ledger, and where the
    next one begins. Committed they stay."""

    finished: Finished
    place: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """What a look through the input found, in rows: an id that comes twice may count twice.
    `left` by why, `skipped` by reason; `changed` are finished artists that stay as they are,
    by input, by prompt, or both. `done` are the first rows (None where that cannot be told in
    short). `whole` is False when the look was broken off, by a stop or by
    the input."""

    rows: int
    left: Mapping[Why, int]
    skipped: Mapping[SkipReason, int]
    rejected: int
    without_row: int
    changed: int
    changed_input: int
    changed_prompt: int
    front: Front
    whole: bool
    done: DoneFront | None = None

    @property
    def finished(self) -> int:
        return sum(self.skipped.get(reason, 0) for reason in FINISHED)

    def counts(self) -> dict[str, object]:
        """For the commit log."""
        return {
            "rows": self.rows,
            "finished": self.finished,
            "left": dict(self.left),
            "changed": self.changed,
            "changed_input": self.changed_input,
            "changed_prompt": self.changed_prompt,
            "failed": self.skipped.get("failed", 0),
            "no_row": self.skipped.get("no_row", 0) + self.without_row,
            "repeated": self.skipped.get("repeated", 0),
            "rejected": self.rejected,
            "set_aside": self.skipped.get("left", 0),
        }

    def report(self) -> Iterator[str]:
        """What a person should know, a sentence each."""
        whys = ", ".join(f"{self.left[why]:,} {LEFT[why]}" for why in LEFT if why in self.left)
        counts = [
            f"{self.finished:,} finished",
            f"{sum(self.left.values()):,} left to do{f' ({whys})' if whys else ''}",
        ]
        if failed := self.skipped.get("failed"):
            counts.append(f"{failed:,} failed for good (--retry-failed takes them)")
        if missing := self.skipped.get("no_row", 0) + self.without_row:
            counts.append(f"{missing:,} not in the table")
        if repeated := self.skipped.get("repeated"):
            counts.append(f"{repeated:,} repeated")
        if self.rejected:
            counts.append(f"{self.rejected:,} rejected")
        yield f"input: {self.rows:,} rows looked up: {', '.join(counts)}"
        if self.changed:
            yield (
                f"input: {self.changed:,} finished artists have changed since"
                f" ({self.changed_input:,} by their input, {self.changed_prompt:,} by prompt or"
                " model); --refresh changed writes just those anew"
            )
        if aside := self.skipped.get("left"):
            yield f"input: {aside:,} artists are left for a plain --resume"


NO_PLAN = Plan(0, {}, {}, 0, 0, 0, 0, 0, NO_FRONT, whole=False)
"""Of an input that was not looked through."""


def plan(
    verdicts: Iterable[Verdict | Finished],
    under_way: set[str],
    *,
    skipped: Callable[[Skipped | Finished], None],
    tell: Callable[[str], None],
    stopped: Callable[[], bool],
    place_of: Callable[[int | None], Place | None] = lambda row: None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Looks through all rows of an input before the work begins. `verdicts` are `judged` with
    this `under_way`, from which they are taken out again. `skipped` gets those of the front,
    which are final by that; `tell` hears now and then how far it is; once `stopped`, it ends.
    `place_of` tells where a row begins that was given just now, by its number; of None, where
    they end."""
    counted = _Counted(skipped, place_of)
    whole = True
    told = clock()
    try:
        for verdict in verdicts:
            if stopped():
                whole = False
                break
            counted.add(verdict)
            if isinstance(verdict, Left | Failed):
                under_way.discard(verdict.artist.id)
            if (counted.rows % CHUNK == 0 or isinstance(verdict, Finished)) and (
                clock() - told >= TELL_EVERY_S
            ):
                told = clock()
                tell(f"input: {counted.rows:,} rows looked up")
    except (InputError, LimitError, StoppedError):
        whole = False  # the work gets as far, and tells
    return counted.plan(whole=whole)


class _Counted:
    """What the verdicts on the first rows of an input come to."""

    def __init__(
        self,
        skipped: Callable[[Skipped | Finished], None],
        place_of: Callable[[int | None], Place | None],
    ) -> None:
        self.rows = 0
        self._skipped = skipped
        self._place_of = place_of
        self._left: Counter[Why] = Counter()
        self._passed: Counter[SkipReason] = Counter()
        self._rejected = self._without_row = 0
        self._changed = self._changed_input = self._changed_prompt = 0
        self._front: Front | None = None
        self._in_front: list[Rejected] = []
        self._done: DoneFront | None = None
        self._all_done = True

    def add(self, verdict: Verdict | Finished) -> None:
        if self._all_done and not (
            isinstance(verdict, Finished)
            or (isinstance(verdict, Skipped) and verdict.reason == "done")
        ):
            self._all_done = False
            row = verdict.row if isinstance(verdict, Rejected) else verdict.artist.row
            self._end_done(self._place_of(row))
        match verdict:
            case Skipped():
                self._passed[verdict.reason] += 1
                self._pass(verdict, verdict.changed_input or verdict.changed_prompt)
            case Finished():
                self._passed["done"] += verdict.rows
                self._pass(verdict, verdict.changed)
                self.rows += verdict.rows - 1
            case Left():
                self._end_front(verdict.artist.row)
                self._left[verdict.why] += 1
            case Failed():
                self._end_front(verdict.artist.row)
                self._without_row += 1
            case Rejected():
                self._rejected += 1
                if self._front is None and self._rejected <= REJECTED_KEPT:
                    self._in_front.append(verdict)
        self.rows += 1

    def plan(self, *, whole: bool) -> Plan:
        """With `whole` there are no more rows; else the look was broken off."""
        if self._front is None:
            self._front = self._front_before(None, told=whole)
            if self._all_done:
                self._end_done(self._front.place)
        return Plan(
            self.rows,
            self._left,
            self._passed,
            self._rejected,
            self._without_row,
            self._changed,
            self._changed_input,
            self._changed_prompt,
            self._front,
            whole,
            self._done,
        )

    def _pass(self, verdict: Skipped | Finished, changed: int) -> None:
        self._changed += changed
        self._changed_input += verdict.changed_input
        self._changed_prompt += verdict.changed_prompt
        if self._front is None:
            self._skipped(verdict)

    def _end_front(self, row: int) -> None:
        if self._front is None:
            self._front = self._front_before(row)

    def _front_before(self, row: int | None, *, told: bool = True) -> Front:
        told = told and self._rejected <= REJECTED_KEPT
        return Front(self.rows, self._place_of(row) if told else None, self._in_front)

    def _end_done(self, place: Place | None) -> None:
        if place is not None:
            finished = Finished(self.rows, self._changed, self._changed_input, self._changed_prompt)
            self._done = DoneFront(finished, place)


def behind(
    front: int,
    rows: Iterable[Artist | Rejected | Skipped],
    *,
    stopped: Callable[[], bool],
) -> Iterator[Artist | Rejected | Skipped]:
    """The rows without the artists among the first `front`: what became of these is told. As these
    may be millions, with nothing to be seen of them, StoppedError when it is `stopped`."""
    rows = iter(rows)
    for row in islice(rows, front):
        if stopped():
            raise StoppedError
        if isinstance(row, Rejected):
            yield row
    yield from rows
