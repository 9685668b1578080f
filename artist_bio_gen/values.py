"""The values that travel through a run. Frozen data only; nothing here does I/O.

A source yields `Row` (or `BadRow`), the parser makes an `Artist` (or a `Rejected`
outcome) of it, the model answers with a `Bio`, and every row ends as one `Outcome`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal, Protocol, TypeAlias

import orjson

Json: TypeAlias = Any
"""What a cell may hold: None, bool, int, float, str, or lists and mappings of these."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source: its name, its type as the source tells it, may it be null."""

    name: str
    type: str = "text"
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source. `number` is what a person sees: the line of the file on which
    the row begins, counted from 1. `values` stand in the order of the source's columns; where
    columns turn up late, an earlier row has fewer. `file` is the one of several files."""

    number: int
    values: tuple[Json, ...]
    file: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read. `text` is what could be seen of it, cut to 500 characters;
    `file` is the one of several files."""

    number: int
    reason: str
    text: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Artist:
    """A row that parsed. `id` is in the canonical form of the table's id column; `data` holds
    what the catalogue knows, in the order of its columns, empty cells left out. `generation`
    is the number of the bio to be written: 1, and higher when it is written anew."""

    row: int
    id: str
    name: str
    data: Mapping[str, Json] = field(default_factory=dict)
    generation: int = 1

    @property
    def input_sha256(self) -> str:
        """Fingerprint (hex) of what is known: the name and the data, whatever their order."""
        known = [self.name, self.data]
        return hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the API counted them; None where it did not say.
    `cached_tokens` are part of `input_tokens`, `reasoning_tokens` of `output_tokens`."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None

    def counts(self) -> dict[str, int | None]:
        """By name. Not by `asdict`, which costs 20 times as much: this is done for each bio."""
        return {
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True)
class Bio:
    """A complete, usable text with what is known of the call that made it.

    `request` goes into the ledger's line as it is: `prompt` (or `prompt_id`), `version`,
    `variables`, `model`, `parameters`. `prompt_sha256` (hex) is the fingerprint of prompt,
    model and parameters together. `created` is in Unix seconds, `latency_ms` the time of the
    last attempt alone, `attempts` counts the calls that were made for this text.
    `cleaned` tells that characters which cannot be stored were taken out of the text.
    """

    text: str
    request: Mapping[str, Json]
    prompt_sha256: str
    response_id: str | None = None
    created: int | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    request_id: str | None = None
    latency_ms: float = 0.0
    attempts: int = 1
    cleaned: bool = False


Prepared: TypeAlias = Any
"""A request for one artist, ready to be sent. What it is made of is the model's own affair."""

Answered: TypeAlias = Any
"""What came back for it, unread. The model's own affair as well."""


class Generate(Protocol):
    """The model: one call and no retry, in three steps, of which only `ask` waits.

    For many threads. All three raise the `ModelError` family, LimitError or ConfigError (see
    errors.py).
    """

    def prepare(self, artist: Artist) -> Prepared:
        """The request. Unusable (kind `prompt`) for an artist that does not go into the prompt."""

    def ask(self, prepared: Prepared, request_id: str) -> Answered:
        """Sends it and waits for the reply. `request_id` is the id of this attempt, sent as
        `X-Client-Request-Id`."""

    def read(self, answered: Answered) -> Bio:
        """The bio in the reply."""


def is_sound(text: str) -> bool:
    """Whether it can be stored and sent: it holds neither NUL nor half a character."""
    if "\x00" in text:
        return False
    if not text.isascii():
        try:
            text.encode()  # refuses lone surrogates: the quickest way to look for them
        except UnicodeEncodeError:
            return False
    return True


def path_text(path: PurePath | str) -> str:
    """A path as text that JSON and databases take: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a ledger: its number (0: no line yet) and its hash (hex)."""

    ledger: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Done:
    """The bio is committed and its line is on disk."""

    artist: Artist
    bio: Bio
    seq: int
    hash: str
    worker: int | None = None
    """Number of the thread that made the call; None for a reply taken from a journal."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No bio. `kind` is one word of the field (`refused`, `incomplete`, `timeout`, ...).
    `transient` failures are taken again by the next `--resume`, others only on demand.
    `text`, `response_id` and `usage` tell of a reply that was paid for and is not usable."""

    artist: Artist
    kind: str
    reason: str
    attempts: int
    transient: bool
    text: str | None = None
    response_id: str | None = None
    usage: Usage | None = None


NO_ROW = "no_row"
"""The kind of failure when the artist is not in the table and --on-missing is fail: no call."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is no artist: it could not be read (`unread`), has no id or name, or its id does
    not fit. `file` is the one of several files in which it stands."""

    row: int
    reason: str
    text: str = ""
    file: str = ""
    unread: bool = False


SkipReason: TypeAlias = Literal[
    "done", "elsewhere", "has_bio", "no_row", "failed", "repeated", "left"
]
"""done: committed in this ledger; elsewhere: in another ledger of this database; has_bio: its
row holds a bio (--keep-existing); no_row: not in the table (--on-missing skip); failed: failed
for good in an earlier run; repeated: the id stood in this input before; left: not of the kind that
this run takes (--refresh, --retry-failed), and for a plain --resume."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An artist for which nothing had to be done. For one that is done: has what the catalogue
    knows, or the prompt with its model and parameters, changed since its bio was written?"""

    artist: Artist
    reason: SkipReason
    changed_input: bool = False
    changed_prompt: bool = False


Outcome: TypeAlias = Done | Failed | Rejected | Skipped
