#!/usr/bin/env python3
"""Kills a writer at random moments, and counts what is lost or bought twice.

The writer is made of the program's own parts around a model that costs nothing; it is forked,
killed with SIGKILL at a random moment of its work or its start, and forked again, some hundred
times over one ledger. After the last kill it may finish, and then ledger, database and the model's
bill are compared:

  lost       artists without a bio at the end, or lines of which somebody had been told that they
             are on disk and that are not there
  twice      lines that an artist has too many
  unnamed    calls that were made again and that no report named as in flight
  disagree   ledgers that are damaged, or are not what the database has
  errors     lives that ended by an error of their own

Starts its own Postgres, or takes the one of TEST_DATABASE_URL. Ctrl+C ends it with the figures so
far.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import _soak as common  # also puts the repository on the path
import psycopg

from artist_bio_gen.database.migrate import migrate
from tests.acceptance.forked_writer import WORKERS, kills_of, live
from tests.faults.books import checked, ledger_lines, read_books, told_lines
from tests.postgres import server, short_folder
from tests.writer import noted

KILLS_OF_A_LEDGER = 200
ROWS_FOR_A_KILL = 25  # so that there is work for nearly every life


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
                one_ledger(place, url, figures, limit, chance.randrange(2**32))
                if figures.failures > failures:
                    figures.examples.append(f"kept: {common.keep(place)}")
            shutil.rmtree(place)


def one_ledger(
    place: Path, url: str, figures: common.Figures, limit: common.Limit, seed: int
) -> None:
    left = limit.left(figures)
    kills = KILLS_OF_A_LEDGER if left is None else min(KILLS_OF_A_LEDGER, left)
    rows = ROWS_FOR_A_KILL * kills
    killed = 0
    for kill in kills_of(kills, seed):
        status = live(place, url, rows, kill)
        killed += status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            figures.found("errors", f"a life ended with {status}")
        if limit.reached(figures):
            break
    if live(place, url, rows, None) != 0:
        figures.found("errors", "the last life did not finish")
    figures.trials += killed
    figures.beside["rows"] += rows
    compare(place, url, figures, rows, killed)


def compare(place: Path, url: str, figures: common.Figures, rows: int, killed: int) -> None:
    path = place / "out.jsonl"
    try:
        read = checked(ledger_lines(path))
        with psycopg.connect(url) as conn:
            read_books(path, conn)
    except AssertionError as exc:
        figures.found("disagree", str(exc).partition("\n")[0])
        return
    lines = Counter(str(line["artist_id"]) for line in read)
    hashes = {line["seq"]: line["hash"] for line in read}
    untrue = [seq for seq, digest in told_lines(place).items() if hashes.get(seq) != digest]
    figures.found("lost", f"{rows - len(lines)} artists", rows - len(lines))
    figures.found("lost", f"lines {untrue[:3]} were told of", len(untrue))
    figures.found("twice", str(lines.most_common(1)), len(read) - len(lines))
    bill = Counter(noted(place / "bill"))
    again = bill - Counter(dict.fromkeys(bill, 1))
    unnamed = again - Counter(noted(place / "reported"))
    figures.found("unnamed", str(unnamed.most_common(3)), unnamed.total())
    too_many = bill.total() - rows - WORKERS * killed
    figures.found(
        "unnamed", f"{too_many} calls more than workers and kills allow", max(0, too_many)
    )
    figures.beside["lives that wrote"] += len({line["run"] for line in read})
    figures.beside["calls made again, named"] += again.total()


if __name__ == "__main__":
    sys.exit(
        common.soak(
            __doc__,
            soak,
            name="kills",
            unit="kills",
            wrong=("lost", "twice", "unnamed", "disagree", "errors"),
        )
    )
