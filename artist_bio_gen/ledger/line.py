"""One line of the ledger: its bytes, its place in the chain, and how both are checked.

A line ends with `,"prev":"<64 hex>","hash":"<64 hex>"}`. `hash` is SHA-256 over the line's
exact bytes up to and without `,"hash":`; `prev` is the hash of the line before, for the first
line SHA-256 over the ledger's id. So checking needs no JSON parser, only slices from the end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from artist_bio_gen.values import Artist, Bio

VERSION = 1

HASH_TAIL = len(',"hash":""}') + 64
_PREV_TAIL = len(',"prev":""') + 64 + HASH_TAIL
_SEQ_KEY = b',"seq":'


def first_prev(ledger: str) -> str:
    """`prev` of a ledger's first line, and the hash of its head while it has none."""
    return hashlib.sha256(ledger.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Draft:
    """A line that has no place in the chain yet. Made by the worker, outside of every lock.
    `worker` is None for a reply taken from a journal."""

    artist: Artist
    bio: Bio
    run: str
    input_sha256: str
    before_seq: bytes
    after_seq: bytes
    worker: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands in the file, without its line feed."""

    seq: int
    hash: str
    data: bytes


def draft(artist: Artist, bio: Bio, *, ledger: str, run: str, worker: int | None = None) -> Draft:
    input_sha256 = artist.input_sha256
    before = orjson.dumps(
        {
            "artist_id": artist.id,
            "artist_name": artist.name,
            "artist_data": artist.data,
            "request": bio.request,
            "response_text": bio.text,
            "response_id": bio.response_id,
            "created": bio.created,
            # What the earlier format wrote for a bio that reached the database.
            "db_status": "updated",
            "error": None,
            "v": VERSION,
            "ledger": ledger,
            "run": run,
        }
    )
    after = orjson.dumps(
        {
            "generation": artist.generation,
            "prompt_sha256": bio.prompt_sha256,
            "input_sha256": input_sha256,
            "finish_reason": bio.finish_reason,
            "usage": bio.usage,
            "cost_usd": None,
            "latency_ms": round(bio.latency_ms, 3),
            "attempts": bio.attempts,
            "request_id": bio.request_id,
        }
    )
    return Draft(artist, bio, run, input_sha256, before[:-1], after[1:-1], worker)


def seal(draft: Draft, *, seq: int, prev: str, committed_at: str) -> Line:
    """Gives the draft its number and its place behind the line whose hash is `prev`.
    `committed_at` is RFC 3339 in UTC: the moment before the transaction that holds the line."""
    body = b'%b,"seq":%d,%b,"committed_at":"%b","cleaned":%b,"prev":"%b"' % (
        draft.before_seq,
        seq,
        draft.after_seq,
        committed_at.encode(),
        b"true" if draft.bio.cleaned else b"false",
        prev.encode(),
    )
    digest = hashlib.sha256(body).hexdigest()
    return Line(seq, digest, b'%b,"hash":"%b"}' % (body, digest.encode()))


def follows(data: bytes, prev: str) -> str | None:
    """The hash of a line (without line feed) if it is undamaged and stands behind `prev`,
    else None. The hot path of every check."""
    body = data[:-HASH_TAIL]
    digest = hashlib.sha256(body).hexdigest()
    if data[-HASH_TAIL:] != b',"hash":"%b"}' % digest.encode():
        return None
    if data[-_PREV_TAIL:-HASH_TAIL] != b',"prev":"%b"' % prev.encode():
        return None
    return digest


def is_whole(data: bytes) -> bool:
    """Is the line undamaged in itself, wherever it stands?"""
    digest = hashlib.sha256(data[:-HASH_TAIL]).hexdigest()
    return data[-HASH_TAIL:] == b',"hash":"%b"}' % digest.encode()


def seq_of(data: bytes) -> int:
    """The line's number. Found from the right: behind `seq` stand only keys of the program's
    own, while a catalogue may well have a column of that name. ValueError if there is none."""
    start = data.rindex(_SEQ_KEY) + len(_SEQ_KEY)
    return int(data[start : data.index(b",", start)])


def is_first_bio(data: bytes, seq: int) -> bool:
    """Is it a line of this number, with its artist's first bio in this ledger? False for one that
    the program has not written in its own order of fields."""
    return data.startswith(b'%d,"generation":1,' % seq, data.rfind(_SEQ_KEY) + len(_SEQ_KEY))


def fields(data: bytes) -> dict[str, Any]:
    """The line as a mapping; for reading single lines, not for checking them."""
    parsed: dict[str, Any] = orjson.loads(data)
    return parsed
