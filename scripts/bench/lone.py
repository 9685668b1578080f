#!/usr/bin/env python3
"""From a reply to its line on disk, for a row that is alone: with one worker.

The fake API notes the moment at which it hands each reply to the kernel, and its latency keeps
the replies apart, so that no row waits for another. What is printed, in ms from there on:

  committed  bio and commit row are in the database, as the commit log tells
  in file    the line stands in the ledger, as seen from outside, looked for every 0.2 ms
  on disk    the line is fsynced and the row is told to be done, as the commit log tells

All moments are of this machine's clock of the day; a run during which it was set is wrong.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import _harness as harness  # also puts the repository on the path
from _report import Report, parser, produce

from tests.fakes.api import FakeApi

LOOK_EVERY_S = 0.0002
MOST_STEP_S = 0.0005  # of the clock, against one that is never set
WARM_UP = 10  # rows at the start that are not counted


@dataclass(frozen=True, slots=True)
class Row:
    """ms from its reply on."""

    committed: float
    in_file: float
    on_disk: float


class Watch(threading.Thread):
    """Notes when a file had which size."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ended = threading.Event()
        self.sizes: list[int] = []
        self.moments: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._look()
        self._look()

    def _look(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            size = self._path.stat().st_size
            if not self.sizes or size > self.sizes[-1]:
                self.sizes.append(size)
                self.moments.append(time.time())

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def reached(self, size: int) -> float:
        return self.moments[bisect.bisect_left(self.sizes, size)]


def measure(place: harness.Workbench, options: argparse.Namespace) -> list[Row]:
    """Raises Wrong."""
    from artist_bio_gen.database.migrate import migrate

    rows = options.rows + WARM_UP
    calls, output, log = (place.folder / name for name in ("calls", "out.jsonl", "commits.log"))
    watch = Watch(output)
    with (
        place.database() as database,
        FakeApi(latency=options.latency / 1000, keep=0, count_artists=False, log=calls) as api,
    ):
        migrate(database, table="artists")
        offset = time.time() - time.monotonic()
        watch.start()
        try:
            found = harness.timed(
                [
                    options.program,
                    f"--input={place.artists(rows)}",
                    f"--output={output}",
                    f"--log-file={log}",
                    f"--database-url={database}",
                    f"--base-url={api.base_url}",
                    f"--model={harness.MODEL}",
                    "--workers=1",
                    "--yes",
                    "--progress=none",
                    *options.extra,
                ],
                environment=harness.environment(),
                folder=place.folder,
            )
        finally:
            watch.stop()
    if found.exit_code != 0:
        raise harness.Wrong(f"the run ended with {found.exit_code}:\n{found.printed}")
    step = abs(time.time() - time.monotonic() - offset)
    if step > MOST_STEP_S:
        raise harness.Wrong(f"the clock was set by {step * 1000:.1f} ms meanwhile; run it again")
    replied = {call["artist"]: call["time"] for call in _objects(calls)}
    told: dict[str, dict[str, float]] = {"committed": {}, "appended": {}}
    for event in _objects(log):
        if event["event"] in told:
            moment = datetime.fromisoformat(event["time"]).timestamp()
            told[event["event"]][event["artist_id"]] = moment
    written = {artist: watch.reached(end) for artist, end in _ends(output)}
    if not len(replied) == len(written) == len(told["committed"]) == len(told["appended"]) == rows:
        raise harness.Wrong(
            f"{rows} rows: {len(replied)} replies, {len(written)} lines, {len(told['committed'])}"
            f" committed, {len(told['appended'])} on disk"
        )
    return [
        Row(
            committed=(told["committed"][artist] - moment) * 1000,
            in_file=(written[artist] - moment) * 1000,
            on_disk=(told["appended"][artist] - moment) * 1000,
        )
        for artist, moment in list(replied.items())[WARM_UP:]
    ]


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


def _ends(ledger: Path) -> Iterator[tuple[str, int]]:
    """Each line's artist and where the line ends."""
    end = 0
    with ledger.open("rb") as lines:
        for line in lines:
            end += len(line)
            yield json.loads(line)["artist_id"], end


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def table(results: Sequence[Row]) -> Iterator[str]:
    yield "| ms after the reply | median | p95 | p99 | highest |"
    yield "|" + " --- |" * 5
    for name, values in _columns(results).items():
        shown = (statistics.median(values), percentile(values, 0.95), percentile(values, 0.99))
        yield f"| {name} | " + " | ".join(f"{each:.2f}" for each in (*shown, max(values))) + " |"


def _columns(results: Sequence[Row]) -> dict[str, list[float]]:
    return {
        "committed": [row.committed for row in results],
        "in file": [row.in_file for row in results],
        "on disk": [row.on_disk for row in results],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def work(place: harness.Workbench) -> Report:
        results = measure(place, options)
        on_disk = [row.on_disk for row in results]
        measures = {
            "lone.median_ms": statistics.median(on_disk),
            "lone.p99_ms": percentile(on_disk, 0.99),
        }
        return Report(list(table(results)), results, measures)

    return produce("lone.py", options, work)


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1000, help="that are counted (default: 1000)")
    made.add_argument(
        "--latency", type=float, default=30.0, help="ms of the fake API (default: 30)"
    )
    made.add_argument("extra", nargs="*", help="options for artist-bio-gen, after --")
    return made


if __name__ == "__main__":
    sys.exit(main())
