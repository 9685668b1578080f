"""One run of one program over an input, measured: what `throughput.py` and `growth.py` share."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import _harness as harness  # also puts the repository on the path
from _report import say

from tests.fakes.api import FakeApi

Side = Literal["obvious", "aiohttp", "artist-bio-gen"]
SIDES: tuple[Side, ...] = ("obvious", "aiohttp", "artist-bio-gen")
STEADY = (0.1, 0.9)
FEWEST_A_WORKER = 10  # rows, or there is no steady part
SHORTEST = 0.85  # of the time that is wanted; a shorter run is repeated with more rows
MOST_GROWTH = 20


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
    """Of one run. Rates are in rows a second, CPU in ms a row, memory in MiB; `table_rows` were
    in the tables before it."""

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
    table_rows: int = 0


@dataclass(slots=True)
class Catalogue:
    """A database in which artists have their bios already; each run adds others."""

    url: str
    bios: int = 0
    runs_rows: int = 0
    """How many of these came from runs, and so from the benchmark's own artists."""


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

    def run(self, side: Side, cell: Cell, rows: int, catalogue: Catalogue | None = None) -> Figures:
        """One run with an empty database, or in one that exists. Raises Wrong."""
        with self._catalogue(catalogue) as used:
            return self._run(side, cell, rows, used)

    @contextmanager
    def _catalogue(self, given: Catalogue | None) -> Iterator[Catalogue]:
        if given is not None:
            yield given
            return
        with self.place.database() as url:
            yield Catalogue(url)

    def _run(self, side: Side, cell: Cell, rows: int, catalogue: Catalogue) -> Figures:
        load = os.getloadavg()[0]
        before = catalogue.bios
        source = self.place.artists(rows, first=catalogue.runs_rows)
        folder = self.place.folder / "run"
        folder.mkdir()
        output = folder / "out.jsonl"
        try:
            with FakeApi(
                latency=cell.latency_ms / 1000, words=self.words, count_artists=False, keep=0
            ) as api:
                fake_cpu = harness.cpu_seconds(api.pid)
                measured = harness.measure(
                    [
                        *self._command(side, catalogue.url),
                        f"--input={source}",
                        f"--output={output}",
                        f"--base-url={api.base_url}",
                        f"--api={self.api}",
                        f"--model={harness.MODEL}",
                        f"--workers={cell.workers}",
                    ],
                    environment=harness.environment(),
                    folder=folder,
                    output_file=output,
                )
                fake_cpu = harness.cpu_seconds(api.pid) - fake_cpu
                answered = api.counts().answered
                _check(side, measured, output, catalogue, rows, answered)
        finally:
            shutil.rmtree(folder)
        size = measured.output_bytes.samples[-1][1]
        begin, end = (measured.output_bytes.moment_of(share * size) for share in STEADY)
        steady_rows = (STEADY[1] - STEADY[0]) * rows
        rate = steady_rows / max(end - begin, 1e-9)
        steady_cpu_s = measured.cpu.value_at(end) - measured.cpu.value_at(begin)
        say(
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
            table_rows=before,
        )

    def _command(self, side: Side, database: str) -> list[str]:
        if side == "aiohttp":
            return [sys.executable, str(_script("bare.py"))]
        if side == "obvious":
            return [sys.executable, str(_script("obvious.py")), f"--database-url={database}"]
        plain = ["--migrate", "--yes", "--progress=none", f"--database-url={database}"]
        return [self.program, *plain, *self.extra]


def _script(name: str) -> Path:
    return Path(__file__).with_name(name)


def _check(
    side: Side,
    measured: harness.Measured,
    output: Path,
    catalogue: Catalogue,
    rows: int,
    answered: int,
) -> None:
    import psycopg

    if measured.exit_code != 0:
        raise harness.Wrong(f"{side} ended with {measured.exit_code}:\n{measured.printed}")
    with output.open("rb") as lines:
        written = sum(1 for _ in lines)
    counts = {"rows": rows, "lines": written, "calls": answered}
    if side != "aiohttp":
        with psycopg.connect(catalogue.url) as connection:
            query = "select count(*) from artists where bio <> ''"
            found = connection.execute(query).fetchone()
        counts["bios"] = (found[0] if found else 0) - catalogue.bios
        catalogue.bios += counts["bios"]
        catalogue.runs_rows += rows
    if len(set(counts.values())) != 1:
        raise harness.Wrong(
            f"{side} did not do each row exactly once: {counts}\n{measured.printed}"
        )


def middle(results: Sequence[Figures]) -> Figures:
    """The run with the median rate."""
    median = statistics.median_low(figures.steady_rate for figures in results)
    return next(figures for figures in results if figures.steady_rate == median)
