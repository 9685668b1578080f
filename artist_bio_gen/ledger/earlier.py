"""The earlier format: a JSON object a line, for bios and failures alike, without a chain.

    artist_id, artist_name, artist_data, request {prompt_id, variables, version},
    response_text, response_id, created, db_status, error

`parse` tells what such a line holds, `as_earlier` makes one of a ledger's line, `encode` gives the
bytes: as `json.dumps(..., ensure_ascii=False)` writes them, which is what those programs used.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import orjson

from artist_bio_gen.values import Json

KEYS = (
    "artist_id",
    "artist_name",
    "artist_data",
    "request",
    "response_text",
    "response_id",
    "created",
    "db_status",
    "error",
)

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes; a longer one is rejected unread. A bio with its data takes a few thousand."""

DATA_COLUMN = "artist_data"
"""Where the data is one text, as those programs had it, this is the column that it came from: so
the fingerprint is that of the same catalogue read by this program."""

_OPTIONAL = ("artist_data",)  # left out where there was none
_OTHER_STATES = ("skipped", "error")
_SKIP_BLOCK = 1024 * 1024
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Good:
    """A line with a bio that had reached the database. `data` is column by column, `request` as it
    stands; `further` are keys that the format has not."""

    id: str
    name: str
    data: Mapping[str, Json]
    request: Mapping[str, Json]
    text: str
    response_id: str | None
    created: int | None
    further: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """A line of an artist who got no bio, or whose bio did not reach the database. `reason` is one
    of a handful of words; `error` what the line says."""

    id: str
    name: str
    reason: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Bad:
    """What is no line of this format."""

    reason: str


Parsed: TypeAlias = Good | Again | Bad


# ---- reading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OldLine:
    """A line of the file as it was found: its number from 1 on, where it begins, its bytes with
    their end; None for one that is longer than may be read."""

    number: int
    offset: int
    data: bytes | None


def old_lines(file: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[OldLine]:
    """The lines of the file that hold something, in bounded memory."""
    number = offset = 0
    while data := file.readline(longest):
        number += 1
        size = len(data)
        if not data.endswith(b"\n") and size == longest:
            size += _skip_line(file)
            yield OldLine(number, offset, None)
        elif data.strip():
            yield OldLine(number, offset, data)
        offset += size


def _skip_line(file: BinaryIO) -> int:
    skipped = 0
    while data := file.readline(_SKIP_BLOCK):
        skipped += len(data)
        if data.endswith(b"\n"):
            break
    return skipped


def parse(data: bytes) -> Parsed:
    """What the line holds. Nothing is mended: what cannot be stored as it stands is `Bad`."""
    try:
        record = orjson.loads(data.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as exc:
        return Bad(f"is no JSON that can be read: {exc}")
    if not isinstance(record, dict):
        return Bad("is JSON, but no object")
    if "hash" in record and "prev" in record:
        return Bad("is a line of a ledger with a chain")
    if missing := [key for key in KEYS if key not in record and key not in _OPTIONAL]:
        return Bad(f"has no {missing[0]!r}")
    if flaw := _flaw(record, data):
        return Bad(flaw)
    artist_id, name = _text(record["artist_id"]), _text(record["artist_name"])
    if artist_id is None or name is None:
        which = "artist_id" if artist_id is None else "artist_name"
        return Bad(f"{which} is {_shown(record[which])}; it has to be a text that is not empty")
    return _again(record, artist_id, name) or _good(record, artist_id, name)


def _again(record: Mapping[str, Json], artist_id: str, name: str) -> Again | Bad | None:
    error, state, text = record["error"], record["db_status"], record["response_text"]
    for key in ("error", "db_status", "response_text"):
        if not isinstance(record[key], str | None):
            return Bad(f"{key} is {_shown(record[key])}; it has to be a text or null")
    if error:
        return Again(artist_id, name, "error", error[:_SHOWN])
    if state != "updated":
        told = state if state in _OTHER_STATES else "other" if state else "null"
        return Again(artist_id, name, f"db_status {told}")
    if not text or text.isspace():
        return Again(artist_id, name, "no text")
    return None


def _good(record: Mapping[str, Json], artist_id: str, name: str) -> Good | Bad:
    data, request = record.get("artist_data"), record["request"]
    if isinstance(data, str):
        data = {} if not data or data.isspace() else {DATA_COLUMN: data}
    if not isinstance(data, dict | None):
        return Bad(f"artist_data is {_shown(data)}; it has to be a text, an object or null")
    if not isinstance(request, dict):
        return Bad(f"request is {_shown(request)}; it has to be an object")
    if not isinstance(request.get("prompt_id"), str):
        return Bad(f"request.prompt_id is {_shown(request.get('prompt_id'))}; it has to be a text")
    if not isinstance(request.get("variables"), dict | None):
        return Bad(f"request.variables is {_shown(request['variables'])}; it has to be an object")
    if not isinstance(request.get("version"), str | None):
        return Bad(f"request.version is {_shown(request['version'])}; it has to be a text or null")
    if not isinstance(record["response_id"], str | None):
        return Bad(f"response_id is {_shown(record['response_id'])}; it has to be a text or null")
    created = record["created"]
    if not isinstance(created, int | None) or isinstance(created, bool) or (created or 0) >= 2**63:
        return Bad(f"created is {_shown(created)}; it has to be a whole number of seconds or null")
    return Good(
        artist_id,
        name,
        data or {},
        request,
        record["response_text"],
        record["response_id"],
        created,
        tuple(key[:_SHOWN] for key in record if key not in KEYS),
    )


def _text(value: Json) -> str | None:
    """An id or name, which some wrote as a number; None for what is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def _flaw(record: Mapping[str, Json], data: bytes) -> str:
    """What in this object the ledger or Postgres would refuse; "" if nothing. Undecodable bytes,
    lone surrogates and NaN are no JSON, and did not come so far."""
    try:
        orjson.dumps(record)
    except TypeError as exc:
        return f"cannot be written as a ledger's line: {exc}"
    # Looked for in the bytes first: the walk is slow, and nearly no line needs it.
    return "holds NUL, which Postgres cannot store" if _may_hold_nul(data, record) else ""


def _may_hold_nul(data: bytes, record: Mapping[str, Json]) -> bool:
    return b"\\u0000" in data and _holds_nul(record)


def _holds_nul(value: Json) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(_holds_nul, (*value, *value.values())))
    return isinstance(value, list) and any(map(_holds_nul, value))


def _shown(value: Json) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return json.dumps(value, ensure_ascii=False)[:_SHOWN]


# ---- writing --------------------------------------------------------------------------------


def as_earlier(line: Mapping[str, Json]) -> dict[str, Json]:
    """A ledger's line as a record of the earlier format, keys in its order. The request of a line
    that was taken over is given back as it stood there; of others, the prompt's name stands for
    its id."""
    data, request = line["artist_data"], line["request"]
    if len(data) == 1 and isinstance(data.get(DATA_COLUMN), str):
        data = data[DATA_COLUMN]
    if line["latency_ms"] is not None:  # only of what was taken over it is not known
        prompt = request.get("prompt_id", request.get("prompt"))
        request = earlier_request(prompt, request["variables"], request["version"])
    given = {**line, "artist_data": data or None, "request": request}
    return {key: given[key] for key in KEYS}


def earlier_request(
    prompt_id: str, variables: Mapping[str, Json], version: str | None
) -> dict[str, Json]:
    """Without a version the key is left out, as it was then."""
    request: dict[str, Json] = {"prompt_id": prompt_id, "variables": variables}
    return request if version is None else {**request, "version": version}


def encode(record: Mapping[str, Json]) -> bytes:
    """The record as one line. ValueError or TypeError for what JSON or UTF-8 does not have."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
