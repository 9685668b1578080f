"""A ledger in another form: as the earlier format, as CSV, as one file of its own lines."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from artist_bio_gen.errors import LimitError
from artist_bio_gen.ledger.earlier import as_earlier, encode
from artist_bio_gen.ledger.line import fields
from artist_bio_gen.ledger.reading import lines
from artist_bio_gen.values import Json

COLUMNS = (
    "artist_id",
    "artist_name",
    "artist_data",
    "response_text",
    "generation",
    "prompt",
    "prompt_version",
    "model",
    "response_id",
    "created",
    "committed_at",
    "input_tokens",
    "output_tokens",
    "latency_ms",
    "attempts",
    "cleaned",
    "run",
    "seq",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def export(ledger: Path, form: str, *, newest: bool = False) -> Iterator[bytes]:
    """The ledger's lines in the form `earlier`, `csv` or `jsonl`, piece by piece. `newest`: of an
    artist whose bio was written anew, the last one alone. LedgerError at damage, behind what
    stands before it."""
    try:
        yield from FORMS[form](_newest(ledger) if newest else lines(ledger))
    except sqlite3.Error as exc:
        raise LimitError(
            f"{ledger}: its ids cannot be kept for comparing ({exc}); make room in the folder for"
            " temporary files, or name another with TMPDIR"
        ) from exc


def _earlier(chosen: Iterator[bytes]) -> Iterator[bytes]:
    return (encode(as_earlier(fields(data))) for data in chosen)


def _jsonl(chosen: Iterator[bytes]) -> Iterator[bytes]:
    return (data + b"\n" for data in chosen)


def _csv(chosen: Iterator[bytes]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for data in chosen:
        yield _taken(buffer)
        writer.writerow(map(guarded, _cells(fields(data))))
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def _cells(line: Mapping[str, Json]) -> tuple[Json, ...]:
    request, usage, data = line["request"], line["usage"] or {}, line["artist_data"]
    flat: dict[str, Any] = {
        **line,
        "artist_data": orjson.dumps(data).decode() if data else None,
        "prompt": request.get("prompt", request.get("prompt_id")),
        "prompt_version": request.get("version"),
        "model": request.get("model"),
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "cleaned": "true" if line["cleaned"] else "false",
    }
    return tuple(flat[column] for column in COLUMNS)


def guarded(cell: Json) -> Json:
    """A text that a spreadsheet would take for a formula, as text: with a quote before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _newest(ledger: Path) -> Iterator[bytes]:
    """Artists with more than one bio are noted in a first pass, on disk: after an --again over the
    whole catalogue they are all of them."""
    with closing(sqlite3.connect("", isolation_level=None)) as index:
        index.execute("create temp table newest (id text primary key, seq int) without rowid")
        index.execute("begin")
        last = 0
        for data in lines(ledger):
            line = fields(data)
            last = line["seq"]
            if line["generation"] > 1:
                index.execute(
                    "insert into newest values (?, ?) on conflict do update set seq = excluded.seq",
                    [line["artist_id"], last],
                )
        for data in islice(lines(ledger), last):  # a run may have appended more since
            line = fields(data)
            noted = index.execute("select seq from newest where id = ?", [line["artist_id"]])
            if (noted.fetchone() or [line["seq"]])[0] == line["seq"]:
                yield data


FORMS: Mapping[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "earlier": _earlier,
    "csv": _csv,
    "jsonl": _jsonl,
}
