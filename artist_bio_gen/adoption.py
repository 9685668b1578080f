"""What becomes of the lines of a file that is taken over, and what all of them came to."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from artist_bio_gen.database.comparing import Compared
from artist_bio_gen.database.store import Known
from artist_bio_gen.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from artist_bio_gen.generator.api import StoredPrompt
from artist_bio_gen.generator.client import fingerprint
from artist_bio_gen.ledger.earlier import Good
from artist_bio_gen.values import Artist, Bio, path_text

EXAMPLES = 5
"""Lines of each kind that are shown; the list has all."""

Kind: TypeAlias = Literal["rejected", "again", "differs", "elsewhere", "no_row", "refused"]
"""Why a line is left. rejected: it is no line of the format; again: no bio, to be bought by a run;
differs: table or ledger has another text; elsewhere: another ledger of this database has the
artist; no_row: not in the table, and --on-missing does not let it in; refused: by the database."""


@dataclass(frozen=True, slots=True)
class Left:
    """A line that is not taken over, as it stands in the list of these."""

    kind: Kind
    line: int
    artist_id: str | None
    artist_name: str | None
    reason: str


_REASONS: dict[Kind, str] = {
    "differs": "{where} has another text; --replace puts this one in its place",
    "elsewhere": "another ledger of this database has a bio of this artist",
    "no_row": "the table has no row with this id; --on-missing insert makes one",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The line that counts for its artist, by its number in the file."""

    line: int
    good: Good


@dataclass(frozen=True, slots=True)
class Decision:
    """`what` is the counter of `Adoption`, or why the line is left; `generation` is that of the
    bio to be written, 0 for none."""

    chosen: Chosen
    what: Literal["same", "put", "replaced", "in_ledger"] | Kind
    generation: int = 0
    where: str = ""

    def left(self, reason: str | None = None) -> Left:
        """As it stands in the list. `reason` is the database's, where it refused the bio."""
        good = self.chosen.good
        if reason is not None:
            return Left("refused", self.chosen.line, good.id, good.name, reason)
        kind = cast(Kind, self.what)
        told = _REASONS[kind].format(where=self.where)
        return Left(kind, self.chosen.line, good.id, good.name, told)


def decide(
    chosen: Chosen,
    there: Known,
    text: Compared,
    *,
    table: str,
    insert_missing: bool,
    replace_others: bool,
) -> Decision:
    """What becomes of a line, by what the database knows of its artist and says of its text."""
    if text.in_ledger:
        return Decision(chosen, "in_ledger")
    if text.in_ledger is None and there.elsewhere:
        return Decision(chosen, "elsewhere")
    if not there.has_row and not insert_missing:
        return Decision(chosen, "no_row")
    generation = (there.generation or 0) + 1
    if text.in_ledger is None and not text.differs:
        return Decision(chosen, "same" if there.has_bio else "put", generation)
    if replace_others:
        return Decision(chosen, "replaced", generation)
    where = f"table {table}" if text.in_ledger is None else "this ledger"
    return Decision(chosen, "differs", where=where)


def bought(decision: Decision) -> tuple[Artist, Bio]:
    """The line as what it once was: an artist, and the bio bought for it. Model, tokens and time
    taken are not known; of a number, JSON's null is what NaN becomes in the line."""
    good = decision.chosen.good
    artist = Artist(decision.chosen.line, good.id, good.name, good.data, decision.generation)
    bio = Bio(
        text=good.text,
        request=good.request,
        prompt_sha256=_prompt_sha256(good.request["prompt_id"], good.request.get("version")),
        response_id=good.response_id,
        created=good.created,
        latency_ms=math.nan,
    )
    return artist, bio


@lru_cache(maxsize=1_000)
def _prompt_sha256(prompt_id: str, version: str | None) -> str:
    """That of a run with this stored prompt, where model and parameters are left to the prompt."""
    return fingerprint(None, StoredPrompt(prompt_id, version), {})


@dataclass(slots=True)
class Adoption:
    """What became of the lines, or would become of them (`done` is false then).

    `same`: the table had the text, the ledger gets its line; `put`: it had no bio; `replaced`: it
    had another one. `in_ledger`: nothing was left to do. `again` counts artists by reason, `left`
    lines by kind; `repeated` are good lines of artists of whom another one counts.
    """

    old: Path
    ledger: Path
    run: str
    done: bool
    lines: int = 0
    good: int = 0
    repeated: int = 0
    same: int = 0
    put: int = 0
    replaced: int = 0
    in_ledger: int = 0
    again: Counter[str] = field(default_factory=Counter)
    left: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[Left]] = field(default_factory=dict)
    further: Counter[str] = field(default_factory=Counter)
    list_path: Path | None = None
    seq: int = 0
    hash: str | None = None
    interrupted: bool = False

    @property
    def taken(self) -> int:
        return self.same + self.put + self.replaced

    @property
    def exit_code(self) -> int:
        """Artists without a bio are no fault of the adoption: that is what a run is for."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        left = sum(count for kind, count in self.left.items() if kind != "again")
        return EXIT_SOME_FAILED if left else EXIT_DONE

    def counts(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "good": self.good,
            "repeated": self.repeated,
            "same": self.same,
            "put": self.put,
            "replaced": self.replaced,
            "in_ledger": self.in_ledger,
            "again": dict(self.again),
            "left": {kind: count for kind, count in self.left.items() if kind != "again"},
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "old": path_text(self.old),
            "ledger": path_text(self.ledger),
            "done": self.done,
            "interrupted": self.interrupted,
            **self.counts(),
            "not_kept": dict(self.further),
            "examples": {
                kind: [asdict(each) for each in few] for kind, few in self.examples.items()
            },
            "list": None if self.list_path is None else path_text(self.list_path),
            "run": self.run if self.done else None,
            "seq": self.seq if self.done else None,
            "hash": self.hash if self.done else None,
        }

    def leave(self, left: Left) -> None:
        self.left[left.kind] += 1
        few = self.examples.setdefault(left.kind, [])
        if len(few) < EXAMPLES:
            few.append(left)
