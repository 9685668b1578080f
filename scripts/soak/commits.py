#!/usr/bin/env python3
"""Cuts the connection to Postgres around COMMIT, and counts what is lost or made twice.

A writer made of the program's own parts, around a model that costs nothing, works through a proxy
that cuts commits at random: before the server hears of it, while it does, behind it with the answer
lost, or so that it arrives late, when the writer is asking already what became of it. Every
thousand cuts or so ledger, database and the model's bill are compared:

  lost       artists with a call and without a bio
  twice      lines that an artist has too many
  bought     calls that were made again
  disagree   ledgers that are damaged, or are not what the database has
  errors     runs that ended by an error

Starts its own Postgres, or takes the one of TEST_DATABASE_URL. Ctrl+C ends it with the figures so
far.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import _soak as common  # also puts the repository on the path
import psycopg

from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.errors import ArtistBioGenError
from artist_bio_gen.values import Artist
from tests.fakes.pg_proxy import Cut, PgProxy
from tests.faults.books import checked, ledger_lines, read_books
from tests.postgres import server, short_folder
from tests.writer import Writer, artists, noted

CUTS_OF_A_LEDGER = 1000
MOST_ROWS = 100_000
WORKERS = 2
CALL_S = 0.001
KINDS: tuple[Cut, ...] = get_args(Cut)


def soak(figures: common.Figures, limit: common.Limit, chance: random.Random) -> None:
    with (
        short_folder() as folder,
        server(folder) as postgres,
        psycopg.connect(postgres.url, autocommit=True) as administration,
    ):
        while not limit.reached(figures):
            place = folder / "ledger"
            place.mkdir()
            with postgres.empty_database(administration) as url:
                migrate(url, table="artists")
                failures = figures.failures
                one_ledger(place, url, figures, limit, chance)
                if figures.failures > failures:
                    figures.examples.append(f"kept: {common.keep(place)}")
            shutil.rmtree(place)


def one_ledger(
    place: Path, url: str, figures: common.Figures, limit: common.Limit, chance: random.Random
) -> None:
    before = figures.trials
    path = place / "out.jsonl"

    def choose() -> Cut | None:
        if enough():
            return None
        figures.trials += 1
        kind = chance.choice(KINDS)
        figures.beside[f"cut {kind}"] += 1
        return kind

    def enough() -> bool:
        return figures.trials - before >= CUTS_OF_A_LEDGER or limit.reached(figures)

    def until_enough() -> Iterator[Artist]:
        for artist in artists(0, MOST_ROWS):
            if enough():
                return
            yield artist

    with PgProxy(url) as proxy:
        proxy.choose_cut = choose
        writer = Writer(
            path=path, database_url=proxy.url, notes=place, workers=WORKERS, call_s=CALL_S
        )
        try:
            writer.live(until_enough())
        except ArtistBioGenError as exc:
            figures.found("errors", str(exc))
    compare(place, url, figures)


def compare(place: Path, url: str, figures: common.Figures) -> None:
    path = place / "out.jsonl"
    try:
        read = checked(ledger_lines(path))
        with psycopg.connect(url) as conn:
            read_books(path, conn)
    except AssertionError as exc:
        figures.found("disagree", str(exc).partition("\n")[0])
        return
    lines = Counter(str(line["artist_id"]) for line in read)
    bill = Counter(noted(place / "bill"))
    lost = set(bill) - set(lines)
    figures.found("lost", str(sorted(lost)[:3]), len(lost))
    figures.found("twice", str(lines.most_common(1)), len(read) - len(lines))
    figures.found("bought", str(bill.most_common(1)), bill.total() - len(bill))
    figures.beside["rows"] += len(lines)


if __name__ == "__main__":
    sys.exit(
        common.soak(
            __doc__,
            soak,
            name="commits",
            unit="cuts",
            wrong=("lost", "twice", "bought", "disagree", "errors"),
        )
    )
