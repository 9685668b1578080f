"""What is left to do: which artists of an input need a bio, and why.

`judged` decides that for each row, by what the database knows of its artist, in flat memory;
`pending` gives what the processor takes. `look.py` does it for inputs of which nearly all may be
finished; `plan.py` counts beforehand, for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, TypeAlias

from artist_bio_gen.database.store import BioStore, Known
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.values import NO_ROW, Artist, Failed, Rejected, Skipped

STDIN = "-"
"""The input that need not be the same a second time."""

CHUNK = 500
"""Artists looked up at a time."""

Why: TypeAlias = Literal["new", "again", "transient", "failed", "changed"]
"""new: without a bio; again: its turn of an --again; transient and failed: its last call failed,
in a way that may pass, or for good; changed: finished, from another input or prompt."""


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
