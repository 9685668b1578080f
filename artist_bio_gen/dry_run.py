"""A look at what a run would do: everything is parsed, nothing is called, written or looked up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from artist_bio_gen.errors import Unusable
from artist_bio_gen.generator.model import Model
from artist_bio_gen.telemetry.progress import one_line
from artist_bio_gen.values import Artist, Rejected

SHOWN_REQUESTS = 5
"""Requests that are shown in full."""

SHOWN_REJECTED = 20


@dataclass(frozen=True, slots=True)
class DryRun:
    """`messages` are whole sentences, or a request, for a person."""

    rejected: int
    messages: tuple[str, ...]


def dry_run(rows: Iterable[Artist | Rejected], model: Model) -> DryRun:
    messages = []
    artists = rejected = 0
    for row in rows:
        if isinstance(row, Rejected):
            rejected += 1
            if rejected <= SHOWN_REJECTED:
                where = f"row {row.row}{f' of {one_line(row.file)}' if row.file else ''}"
                messages.append(f"{where} would be rejected: {one_line(row.reason)}")
            continue
        artists += 1
        if artists <= SHOWN_REQUESTS:
            messages.append(_request(row, model))
    messages.append(f"{artists:,} artists would be looked up, {rejected:,} rows rejected; no call")
    return DryRun(rejected, tuple(messages))


def _request(artist: Artist, model: Model) -> str:
    whose = f"request for artist {one_line(artist.id)} ({one_line(artist.name)})"
    try:
        return f"{whose}:\n{model.show(artist)}"
    except Unusable as exc:  # in a run it would be a failure of this artist alone
        return f"no {whose}: {one_line(exc)}"
