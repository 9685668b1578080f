"""What is left to do: which artists of an input need a bio, and why.

`judged` decides that for each row, by what the database knows of its artist, in flat memory;
`pending` gives what the processor takes; `plan` counts beforehand, for people.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from artist_bio_gen.database.nearby import Match, Nearby
from artist_bio_gen.database.store import BioStore, Known
from artist_bio_gen.errors import InputError, LimitError, StoppedError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.parser import ColumnChoice, Fingerprints, parse
from artist_bio_gen.sources.text.delimited import END, Place
from artist_bio_gen.sources.text.plain import Cells
from artist_bio_gen.values import (
    NO_ROW,
    Artist,
    BadRow,
    Failed,
    Rejected,
    Row,
    Skipped,
    SkipReason,
)

STDIN = "-"
"""The input that need not be the same a second time."""

CHUNK = 500
"""Artists looked up at a time."""

LOOKED_THROUGH = 1_000
"""Rows compared at a time with what was committed."""

REJECTED_KEPT = 1_000
"""Rejected rows of the front that are kept, so that it need not be read again for them."""

TELL_EVERY_S = 10.0
"""How often a long look through the input is told."""

Why: TypeAlias = Literal["new", "again", "transient", "failed", "changed"]
"""new: without a bio; again: its turn of an --again; transient and failed: its last call failed,
in a way that may pass, or for good; changed: finished, from another input or prompt."""

LEFT: Mapping[Why, str] = {
    "new": "new",
    "again": "to be written anew",
    "transient": "that failed in a way that may pass",
    "failed": "that had failed for good",
    "changed": "finished from another input, prompt or model",
}

FINISHED: tuple[SkipReason, ...] = ("done", "elsewhere", "has_bio")


@dataclass(frozen=True, slots=True)
class Rules:
    """When an artist counts as done. `anew_after`: bios of this ledger up to this number, and
    all of other ledgers, are to be written anew; None outside of a run with --again. `refresh`
    takes the finished artists whose input or prompt has changed, `retry_failed` those that have
    failed; with one of these, artists of no such kind are set aside."""

    run: str
    prompt_sha256: str
    on_missing: Literal["insert", "skip", "fail"] = "insert"
    keep_existing: bool = False
    refresh: bool = False
    retry_failed: bool = False
    anew_after: int | None = None

    @property
    def just_some(self) -> bool:
        return self.refresh or self.retry_failed


@dataclass(frozen=True, slots=True)
class Left:
    """An artist that needs a bio, with the number of that bio, and why."""

    artist: Artist
    why: Why


Verdict: TypeAlias = Left | Failed | Rejected | Skipped


def writing_anew(
    store: BioStore,
    ledger: Ledger,
    source: str,
    *,
    again: bool,
    just_some: bool = False,
    say: Callable[[str], None],
) -> int | None:
    """Up to which line bios are to be written anew; None when none are. An interrupted --again
    is gone on with, by whoever resumes with the same input, so that nobody is written anew
    twice; a run that takes `just_some` leaves its artists, but for those that have failed."""
    begun = store.writing_anew(ledger.id)
    if begun is not None and begun[1] == source and (again or source != STDIN):
        if just_some:
            say(f"an unfinished --again over {source} is left for a plain --resume")
        else:
            say(f"going on with an unfinished --again over {source}")
        return begun[0]
    if again:
        if begun is not None:
            say(f"an unfinished --again over {begun[1]} is given up for this one")
        store.set_writing_anew(ledger.id, ledger.head.seq, source)
        return ledger.head.seq
    if begun is not None:
        say(f"an unfinished --again over {begun[1]} is left as it is; resume it with that input")
    return None


def pending(
    rows: Iterable[Artist | Rejected | Skipped],
    known: Callable[[Sequence[str]], Mapping[str, Known]],
    rules: Rules,
    *,
    table: str,
    under_way: set[str],
) -> Iterator[Artist | Failed | Rejected | Skipped]:
    """The artists that are left to do; the others as what became of them."""
    for verdict in judged(rows, known, rules, table=table, under_way=under_way):
        yield verdict.artist if isinstance(verdict, Left) else verdict


def judged(
    rows: Iterable[Artist | Rejected | Skipped],
    known: Callable[[Sequence[str]], Mapping[str, Known]],
    rules: Rules,
    *,
    table: str,
    under_way: set[str],
) -> Iterator[Verdict]:
    """What is to be done with each row, in their order. Looks up a chunk at a time.

    An id is in `under_way` from here until it is settled, and settled means that the database
    knows it: so a repeated id is found either there or by the look-up, which is made after.
    """
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        repeated = set()
        for row in chunk:
            if isinstance(row, Artist):
                if row.id in under_way:
                    repeated.add(id(row))
                else:
                    under_way.add(row.id)
        now = known([row.id for row in chunk if isinstance(row, Artist)])
        for row in chunk:
            if not isinstance(row, Artist):
                yield row
            elif id(row) in repeated:
                yield Skipped(row, "repeated")
            else:
                verdict = _judge(row, now[row.id], rules, table)
                if isinstance(verdict, Skipped):
                    under_way.discard(row.id)
                yield verdict


# ---- many of them ------------------------------------------------------------------------------


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


# ---- one artist --------------------------------------------------------------------------------


def _judge(artist: Artist, there: Known, rules: Rules, table: str) -> Left | Failed | Skipped:
    if rules.run in (there.run, there.failed_run):
        return Skipped(artist, "repeated")
    why = _why(artist, there, rules)
    if isinstance(why, Skipped):
        return why
    if not there.has_row and rules.on_missing == "skip":
        return Skipped(artist, "no_row")
    wanted = (rules.refresh and why == "changed") or (
        rules.retry_failed and why in ("transient", "failed")
    )
    if rules.just_some and not wanted:
        return Skipped(artist, "left")
    if not there.has_row and rules.on_missing == "fail":
        reason = f"table {table} has no row with this id; --on-missing insert makes one"
        return Failed(artist, NO_ROW, reason, attempts=0, transient=True)
    if there.generation is None:
        return Left(artist, why)
    return Left(replace(artist, generation=there.generation + 1), why)


def _why(artist: Artist, there: Known, rules: Rules) -> Why | Skipped:
    """Why the artist may need a bio, or why it does not. A failure that is noted came after the
    artist's newest bio: committing one takes the failure away."""
    anew = rules.anew_after is not None
    failed = there.failed_run is not None and not (anew and there.failed_before_again)
    for_good = failed and not there.failed_transient
    if there.generation is None or (anew and _at_most(there.seq, rules.anew_after)):
        if there.elsewhere and not anew:
            return Skipped(artist, "elsewhere")
        if there.has_bio and rules.keep_existing:
            return Skipped(artist, "has_bio")
        if for_good and not rules.retry_failed:
            return Skipped(artist, "failed")
        if failed:
            return "failed" if for_good else "transient"
        return "new" if there.generation is None else "again"
    changed_input = there.input_sha256 != artist.input_sha256
    changed_prompt = there.prompt_sha256 != rules.prompt_sha256
    if failed and rules.retry_failed:  # writing it anew had failed
        return "failed" if for_good else "transient"
    if rules.refresh and (changed_input or changed_prompt):
        return Skipped(artist, "failed") if for_good else "changed"
    return Skipped(artist, "done", changed_input, changed_prompt)


def _at_most(seq: int | None, limit: int | None) -> bool:
    return seq is not None and limit is not None and seq <= limit


# ---- before the first call -------------------------------------------------------------------


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
    left: Counter[Why] = Counter()
    passed: Counter[SkipReason] = Counter()
    rows = rejected = without_row = changed = changed_input = changed_prompt = 0
    front: Front | None = None
    in_front: list[Rejected] = []
    done: DoneFront | None = None
    all_done = True
    whole = True
    told = clock()
    try:
        for verdict in verdicts:
            if stopped():
                whole = False
                break
            if all_done and not (
                isinstance(verdict, Finished)
                or (isinstance(verdict, Skipped) and verdict.reason == "done")
            ):
                all_done = False
                row = verdict.row if isinstance(verdict, Rejected) else verdict.artist.row
                if (place := place_of(row)) is not None:
                    done = DoneFront(Finished(rows, changed, changed_input, changed_prompt), place)
            if isinstance(verdict, Left | Failed):
                if front is None:
                    short = rejected <= REJECTED_KEPT
                    front = Front(rows, place_of(verdict.artist.row) if short else None, in_front)
                under_way.discard(verdict.artist.id)
            match verdict:
                case Left():
                    left[verdict.why] += 1
                case Failed():
                    without_row += 1
                case Rejected():
                    rejected += 1
                    if front is None and rejected <= REJECTED_KEPT:
                        in_front.append(verdict)
                case Finished():
                    passed["done"] += verdict.rows
                    changed_input += verdict.changed_input
                    changed_prompt += verdict.changed_prompt
                    changed += verdict.changed
                    if front is None:
                        skipped(verdict)
                    rows += verdict.rows - 1
                case Skipped():
                    passed[verdict.reason] += 1
                    changed_input += verdict.changed_input
                    changed_prompt += verdict.changed_prompt
                    changed += verdict.changed_input or verdict.changed_prompt
                    if front is None:
                        skipped(verdict)
            rows += 1
            if (rows % CHUNK == 0 or isinstance(verdict, Finished)) and (
                clock() - told >= TELL_EVERY_S
            ):
                told = clock()
                tell(f"input: {rows:,} rows looked up")
    except (InputError, LimitError, StoppedError):
        whole = False  # the work gets as far, and tells
    if front is None:
        short = whole and rejected <= REJECTED_KEPT
        front = Front(rows, place_of(None) if short else None, in_front)
        if all_done and front.place is not None:
            finished = Finished(rows, changed, changed_input, changed_prompt)
            done = DoneFront(finished, front.place)
    return Plan(
        rows,
        left,
        passed,
        rejected,
        without_row,
        changed,
        changed_input,
        changed_prompt,
        front,
        whole,
        done,
    )


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
