#!/usr/bin/env python3
"""Rows a second, client CPU and memory of artist-bio-gen beside those of the obvious script.

Starts its own fake API and its own Postgres, both on this machine, and runs both programs in
turn for each cell of latency and workers, each with an empty database. What is printed:

  rows/s    of the steady part: between the moments at which the output file, one line for each
            bio that is stored, had reached 10 % and 90 % of its size, so without start, ramp and
            tail; `whole` from the start of the command to its end
  limit     that rate as a share of workers / latency
  CPU ms    of the client and its children for each row, in the steady part, and in `whole`;
            fake API and Postgres are not in it
  MiB       highest memory, children included: PSS as sampled, and RSS by high-water marks
  ratio     of the steady rates, this program's by the obvious script's

A run counts only when it ended with 0 and database, output and answered calls hold each row
exactly once. `--memory` measures instead how the memory of artist-bio-gen grows with the rows.
Arguments after `--` go to artist-bio-gen as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import _harness as harness  # also puts the repository on the path

from tests.fakes.api import FakeApi

Side = Literal["obvious", "artist-bio-gen"]
SIDES: tuple[Side, ...] = ("obvious", "artist-bio-gen")
STEADY = (0.1, 0.9)
FIRST_GUESS = 300.0  # rows a second, until one run has told better
FEWEST_A_WORKER = 10  # rows, or there is no steady part
SHORTEST = 0.7  # of --seconds; a shorter run is repeated with more rows
MOST_GROWTH = 20
MODEL = "bench-model"


class Wrong(Exception):
    """A run that did not do its work, so its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Cell:
    latency_ms: float
    workers: int

    @property
    def limit(self) -> float | None:
        """Rows a second that the latency allows."""
        return self.workers / (self.latency_ms / 1000) if self.latency_ms else None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Rates are in rows a second, CPU in ms a row, memory in MiB."""

    side: Side
    latency_ms: float
    workers: int
    rows: int
    wall_s: float
    steady_s: float
    whole_rate: float
    steady_rate: float
    share_of_limit: float | None
    whole_cpu_ms: float
    steady_cpu_ms: float
    fake_cpu_ms: float
    pss_mib: float
    rss_mib: float
    load_before: float


@dataclass(frozen=True, slots=True)
class Bench:
    place: harness.Workbench
    api: Literal["responses", "chat"]
    program: str
    extra: Sequence[str]
    words: int

    def run_for(self, seconds: float, side: Side, cell: Cell, rows: int) -> Figures:
        """One run of about that time: repeated with more rows while it was too short."""
        wanted = seconds * (STEADY[1] - STEADY[0])
        while True:
            figures = self.run(side, cell, max(rows, FEWEST_A_WORKER * cell.workers))
            if figures.steady_s >= SHORTEST * wanted:
                return figures
            rows = round(
                figures.rows * min(MOST_GROWTH, 1.05 * wanted / max(figures.steady_s, 1e-9))
            )

    def run(self, side: Side, cell: Cell, rows: int) -> Figures:
        """One run from an empty database. Raises Wrong."""
        load = os.getloadavg()[0]
        source = self.place.artists(rows)
        folder = self.place.folder / "run"
        folder.mkdir()
        output = folder / "out.jsonl"
        try:
            with (
                self.place.database() as database,
                FakeApi(
                    latency=cell.latency_ms / 1000, words=self.words, count_artists=False, keep=0
                ) as api,
            ):
                fake_cpu = harness.cpu_seconds(api.pid)
                measured = harness.measure(
                    [
                        *self._command(side),
                        f"--input={source}",
                        f"--output={output}",
                        f"--database-url={database}",
                        f"--base-url={api.base_url}",
                        f"--api={self.api}",
                        f"--model={MODEL}",
                        f"--workers={cell.workers}",
                    ],
                    environment=_environment(),
                    folder=folder,
                    output_file=output,
                )
                fake_cpu = harness.cpu_seconds(api.pid) - fake_cpu
                answered = api.counts().answered
                _check(side, measured, output, database, rows, answered)
        finally:
            shutil.rmtree(folder)
        size = measured.output_bytes.samples[-1][1]
        begin, end = (measured.output_bytes.moment_of(share * size) for share in STEADY)
        steady_rows = (STEADY[1] - STEADY[0]) * rows
        rate = steady_rows / max(end - begin, 1e-9)
        steady_cpu_s = measured.cpu.value_at(end) - measured.cpu.value_at(begin)
        _say(
            f"{cell.latency_ms:g} ms, {cell.workers} workers, {rows:,} rows, {side}: "
            f"{rate:,.0f} rows/s"
        )
        return Figures(
            side=side,
            latency_ms=cell.latency_ms,
            workers=cell.workers,
            rows=rows,
            wall_s=measured.wall_s,
            steady_s=end - begin,
            whole_rate=rows / measured.wall_s,
            steady_rate=rate,
            share_of_limit=rate / cell.limit if cell.limit else None,
            whole_cpu_ms=measured.cpu_s * 1000 / rows,
            steady_cpu_ms=steady_cpu_s * 1000 / steady_rows,
            fake_cpu_ms=fake_cpu * 1000 / rows,
            pss_mib=measured.pss_mib,
            rss_mib=measured.rss_mib,
            load_before=load,
        )

    def _command(self, side: Side) -> list[str]:
        if side == "obvious":
            return [sys.executable, str(Path(__file__).with_name("obvious.py"))]
        return [self.program, "--migrate", "--yes", "--progress=none", *self.extra]


def _environment() -> dict[str, str]:
    """This one without settings that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARTIST_BIO_GEN_", "OPENAI_", "DATABASE_URL", "PG"))
    }
    return {**kept, "OPENAI_API_KEY": "sk-bench"}


def _check(
    side: Side, measured: harness.Measured, output: Path, database: str, rows: int, answered: int
) -> None:
    import psycopg

    if measured.exit_code != 0:
        raise Wrong(f"{side} ended with {measured.exit_code}:\n{measured.printed}")
    with psycopg.connect(database) as connection:
        query = "select count(*) from artists where bio <> ''"
        found = connection.execute(query).fetchone()
    with output.open("rb") as lines:
        written = sum(1 for _ in lines)
    counts = {"rows": rows, "bios": found[0] if found else 0, "lines": written, "calls": answered}
    if len(set(counts.values())) != 1:
        raise Wrong(f"{side} did not do each row exactly once: {counts}\n{measured.printed}")


def compare(
    bench: Bench, cells: Sequence[Cell], sides: Sequence[Side], seconds: float, rounds: int
) -> list[Figures]:
    """Runs the sides in turn, each round of a cell anew."""
    best = dict.fromkeys(SIDES, FIRST_GUESS)
    results = []
    for cell in cells:
        for _ in range(rounds):
            for side in sides:
                rows = round(seconds * min(best[side], cell.limit or best[side]))
                figures = bench.run_for(seconds, side, cell, rows)
                best[side] = max(best[side], figures.steady_rate)
                results.append(figures)
    return results


def memory(bench: Bench, workers: Sequence[int], sizes: Sequence[int]) -> list[Figures]:
    cells = [Cell(0, each) for each in workers]
    return [bench.run("artist-bio-gen", cell, rows) for cell in cells for rows in sizes]


def comparison_table(results: Sequence[Figures]) -> Iterator[str]:
    yield (
        "| latency | workers | program | rows | rows/s | limit | whole rows/s | CPU ms "
        "| whole CPU ms | PSS MiB | RSS MiB | ratio |"
    )
    yield "|" + " --- |" * 12
    for cell in dict.fromkeys(Cell(each.latency_ms, each.workers) for each in results):
        middle = {side: _middle(results, cell, side) for side in SIDES}
        for side, figures in middle.items():
            if figures is None:
                continue
            plain = middle["obvious"]
            ratio = ""
            if side != "obvious" and plain is not None:
                ratio = f"{figures.steady_rate / plain.steady_rate:.1f}"
            share = figures.share_of_limit
            yield (
                f"| {cell.latency_ms:g} ms | {cell.workers} | {side} | {figures.rows:,} "
                f"| {figures.steady_rate:,.0f} | {'' if share is None else f'{share:.2f}'} "
                f"| {figures.whole_rate:,.0f} | {figures.steady_cpu_ms:.2f} "
                f"| {figures.whole_cpu_ms:.2f} | {figures.pss_mib:.0f} | {figures.rss_mib:.0f} "
                f"| {ratio} |"
            )


def memory_table(results: Sequence[Figures]) -> Iterator[str]:
    yield "| workers | rows | PSS MiB | to the first | RSS MiB | to the first | rows/s | CPU ms |"
    yield "|" + " --- |" * 8
    for figures in results:
        first = next(each for each in results if each.workers == figures.workers)
        yield (
            f"| {figures.workers} | {figures.rows:,} "
            f"| {figures.pss_mib:.1f} | {figures.pss_mib / first.pss_mib:.2f} "
            f"| {figures.rss_mib:.1f} | {figures.rss_mib / first.rss_mib:.2f} "
            f"| {figures.steady_rate:,.0f} | {figures.steady_cpu_ms:.2f} |"
        )


def _middle(results: Sequence[Figures], cell: Cell, side: Side) -> Figures | None:
    """The run with the median rate."""
    runs = [f for f in results if (Cell(f.latency_ms, f.workers), f.side) == (cell, side)]
    if not runs:
        return None
    median = statistics.median_low(figures.steady_rate for figures in runs)
    return next(figures for figures in runs if figures.steady_rate == median)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that what was started is stopped, here as after Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with harness.workbench(options.dir) as place:
        machine = harness.machine(place.folder)
        _say("on " + ", ".join(f"{name} {value}" for name, value in machine.items()))
        bench = Bench(place, options.api, options.program, options.extra, options.words)
        try:
            if options.memory:
                workers = options.workers or [64]
                results = memory(bench, workers, options.memory_rows)
                table = memory_table(results)
            else:
                workers = options.workers or [16, 64, 256]
                cells = [Cell(ms, each) for ms in options.latency for each in workers]
                results = compare(
                    bench, cells, options.only or SIDES, options.seconds, options.rounds
                )
                table = comparison_table(results)
        except Wrong as exc:
            _say(f"throughput.py: {exc}")
            return 1
        machine["load_after"] = [round(each, 2) for each in os.getloadavg()]
    print("\n".join(table))
    print(f"\nload before {machine['load']}, after {machine['load_after']}")
    if options.json:
        report: dict[str, Any] = {"machine": machine, "runs": [asdict(each) for each in results]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(sys.executable).with_name("artist-bio-gen")
    parser.add_argument(
        "--latency",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[0.0, 50.0, 500.0],
        help="ms of the fake API, with commas (default: 0,50,500)",
    )
    parser.add_argument(
        "--workers", type=_numbers, help="with commas (default: 16,64,256; with --memory 64)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="about the time of a run (default: 20)"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="runs of each cell; the median is shown (default: 1)"
    )
    parser.add_argument("--only", choices=SIDES, action="append", help="one of the programs")
    parser.add_argument(
        "--memory", action="store_true", help="memory by rows at 0 ms, instead of the comparison"
    )
    parser.add_argument(
        "--memory-rows",
        type=_numbers,
        default=[10_000, 100_000, 1_000_000],
        help="(default: 10000,100000,1000000)",
    )
    parser.add_argument(
        "--api", choices=("responses", "chat"), default="responses", help="(default: responses)"
    )
    parser.add_argument("--words", type=int, default=60, help="of a bio (default: 60)")
    parser.add_argument(
        "--program",
        default=str(beside) if beside.exists() else "artist-bio-gen",
        help="the artist-bio-gen to measure (default: the one beside this Python)",
    )
    parser.add_argument(
        "--dir", type=Path, help="folder for ledger and database (default: for temporary files)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("extra", nargs="*", help="options for artist-bio-gen, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
