#!/usr/bin/env python3
"""Rows a second, client CPU and memory of artist-bio-gen beside those of an obvious script and of
a bare aiohttp loop.

Starts its own fake API and its own Postgres, both on this machine, and runs the programs in turn
for each cell of latency and workers, each with an empty database. What is printed:

  rows/s    of the steady part: between the moments at which the output file, one line for each
            bio that is stored (for the bare loop: for each reply), had reached 10 % and 90 % of
            its size, so without start, ramp and tail; `whole` from the start of the command to
            its end
  limit     that rate as a share of workers / latency
  CPU ms    of the client and its children for each row, in the steady part, and in `whole`;
            fake API and Postgres are not in it
  MiB       highest memory, children included: PSS as sampled, and RSS by high-water marks
  by ...    the steady rate as a multiple of the obvious script's, and of the bare loop's

The obvious script (`obvious.py`) is durable row by row; the bare loop (`bare.py`) stores nothing
and promises nothing. A run counts only when it ended with 0 and database, output and answered
calls hold each row exactly once. Arguments after `--` go to artist-bio-gen as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

import _harness as harness
from _report import Report, numbers, parser, produce
from _runs import SIDES, Bench, Cell, Figures, Side, middle

FIRST_GUESS = 300.0  # rows a second, until one run has told better


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


def table(results: Sequence[Figures]) -> Iterator[str]:
    yield (
        "| latency | workers | program | rows | rows/s | limit | whole rows/s | CPU ms "
        "| whole CPU ms | PSS MiB | RSS MiB | by obvious | by aiohttp |"
    )
    yield "|" + " --- |" * 13
    for cell, sides in _cells(results).items():
        for side, figures in sides.items():
            share = figures.share_of_limit
            yield (
                f"| {cell.latency_ms:g} ms | {cell.workers} | {side} | {figures.rows:,} "
                f"| {figures.steady_rate:,.0f} | {'' if share is None else f'{share:.2f}'} "
                f"| {figures.whole_rate:,.0f} | {figures.steady_cpu_ms:.2f} "
                f"| {figures.whole_cpu_ms:.2f} | {figures.pss_mib:.0f} | {figures.rss_mib:.0f} "
                f"| {_by(figures, sides, 'obvious')} | {_by(figures, sides, 'aiohttp')} |"
            )


def measures(results: Sequence[Figures]) -> dict[str, float]:
    found: dict[str, float] = {}
    for cell, sides in _cells(results).items():
        if (own := sides.get("artist-bio-gen")) is None:
            continue
        name = f"{cell.latency_ms:g}ms_{cell.workers}"
        found[f"{name}.rate"] = own.steady_rate
        found[f"{name}.cpu_ms"] = own.steady_cpu_ms
        if own.share_of_limit is not None:
            found[f"{name}.share"] = own.share_of_limit
        for other in ("obvious", "aiohttp"):
            if other in sides:
                found[f"{name}.to_{other}"] = own.steady_rate / sides[other].steady_rate
        peak = f"{cell.workers}.rss_mib"
        found[peak] = max(own.rss_mib, found.get(peak, 0.0))
    return found


def _cells(results: Sequence[Figures]) -> dict[Cell, dict[Side, Figures]]:
    """For each cell and side the run with the median rate."""
    runs: dict[Cell, dict[Side, list[Figures]]] = {}
    for each in results:
        cell = runs.setdefault(Cell(each.latency_ms, each.workers), {})
        cell.setdefault(each.side, []).append(each)
    return {
        cell: {side: middle(sides[side]) for side in SIDES if side in sides}
        for cell, sides in runs.items()
    }


def _by(figures: Figures, sides: Mapping[Side, Figures], other: Side) -> str:
    if figures.side == other or other not in sides:
        return ""
    return f"{figures.steady_rate / sides[other].steady_rate:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def work(place: harness.Workbench) -> Report:
        bench = Bench(place, options.api, options.program, options.extra, options.words)
        cells = [Cell(ms, each) for ms in options.latency for each in options.workers]
        results = compare(bench, cells, options.only or SIDES, options.seconds, options.rounds)
        return Report(list(table(results)), results, measures(results))

    return produce("throughput.py", options, work)


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument(
        "--latency",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[0.0, 50.0, 500.0],
        help="ms of the fake API, with commas (default: 0,50,500)",
    )
    made.add_argument(
        "--workers", type=numbers, default=[16, 64, 256], help="with commas (default: 16,64,256)"
    )
    made.add_argument(
        "--seconds", type=float, default=20.0, help="about the time of a run (default: 20)"
    )
    made.add_argument(
        "--rounds", type=int, default=1, help="runs of each cell; the median is shown (default: 1)"
    )
    made.add_argument("--only", choices=SIDES, action="append", help="one of the programs")
    made.add_argument(
        "--api", choices=("responses", "chat"), default="responses", help="(default: responses)"
    )
    made.add_argument("--words", type=int, default=60, help="of a bio (default: 60)")
    made.add_argument("extra", nargs="*", help="options for artist-bio-gen, after --")
    return made


if __name__ == "__main__":
    sys.exit(main())
