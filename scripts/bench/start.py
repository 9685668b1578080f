#!/usr/bin/env python3
"""How long a run with one row takes, beside the obvious script with one row.

Both are whole processes, from their start to their end, in turn, over one database whose tables
are there, against a fake API without latency. Each run has an artist and an output of its own.
Beside them: `artist-bio-gen --help`, and what importing the `openai` package takes by itself. The
first round warms the files up and is not counted. What is printed is in ms, the median first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import _harness as harness  # also puts the repository on the path
from _report import Report, parser, produce

from tests.fakes.api import FakeApi

OBVIOUS, OWN, HELP, IMPORT = "obvious", "artist-bio-gen", "artist-bio-gen --help", "import openai"


@dataclass(frozen=True, slots=True)
class Figures:
    what: str
    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Bench:
    place: harness.Workbench
    program: str
    database: str
    base_url: str

    def round(self, number: int) -> Iterator[Figures]:
        """Each command once. Raises Wrong."""
        obvious = [sys.executable, str(Path(__file__).with_name("obvious.py"))]
        yield self._timed(OBVIOUS, [*obvious, *self._one_row(2 * number)])
        own = [self.program, "--yes", "--progress=none", *self._one_row(2 * number + 1)]
        yield self._timed(OWN, own)
        yield self._timed(HELP, [self.program, "--help"])
        yield self._timed(IMPORT, [sys.executable, "-c", "import openai"])

    def _one_row(self, artist: int) -> list[str]:
        return [
            f"--input={self.place.artists(1, first=artist)}",
            f"--output={self.place.folder / f'out-{artist}.jsonl'}",
            f"--database-url={self.database}",
            f"--base-url={self.base_url}",
            f"--model={harness.MODEL}",
            "--workers=1",
        ]

    def _timed(self, what: str, command: Sequence[str]) -> Figures:
        found = harness.timed(command, environment=harness.environment(), folder=self.place.folder)
        if found.exit_code != 0:
            raise harness.Wrong(f"{what} ended with {found.exit_code}:\n{found.printed}")
        return Figures(what, found.wall_s * 1000, found.cpu_s * 1000)


def measure(place: harness.Workbench, program: str, rounds: int) -> list[Figures]:
    import psycopg

    from artist_bio_gen.database.migrate import migrate

    with place.database() as database, FakeApi(keep=0) as api:
        migrate(database, table="artists")
        bench = Bench(place, program, database, api.base_url)
        results = [list(bench.round(number)) for number in range(rounds + 1)]
        with psycopg.connect(database) as connection:
            found = connection.execute("select count(*) from artists where bio <> ''").fetchone()
        bios, calls, wanted = found[0] if found else 0, api.counts().answered, 2 * (rounds + 1)
        if (bios, calls) != (wanted, wanted):
            raise harness.Wrong(f"{wanted} runs of one row: {bios} bios, {calls} calls")
    return [each for counted in results[1:] for each in counted]


def table(results: Sequence[Figures]) -> Iterator[str]:
    yield "| one row | ms | fastest | slowest | CPU ms | to obvious |"
    yield "|" + " --- |" * 6
    for what in (OBVIOUS, OWN, HELP, IMPORT):
        wall = [each.wall_ms for each in results if each.what == what]
        cpu = statistics.median(each.cpu_ms for each in results if each.what == what)
        yield (
            f"| {what} | {statistics.median(wall):,.0f} | {min(wall):,.0f} | {max(wall):,.0f} "
            f"| {cpu:,.0f} | {_to_obvious(results, what):.2f} |"
        )


def _to_obvious(results: Sequence[Figures], what: str) -> float:
    def median(side: str) -> float:
        return statistics.median(each.wall_ms for each in results if each.what == side)

    return median(what) / median(OBVIOUS)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def work(place: harness.Workbench) -> Report:
        results = measure(place, options.program, options.rounds)
        return Report(
            list(table(results)), results, {"start.to_obvious": _to_obvious(results, OWN)}
        )

    return produce("start.py", options, work)


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=15, help="that are counted (default: 15)")
    return made


if __name__ == "__main__":
    sys.exit(main())
