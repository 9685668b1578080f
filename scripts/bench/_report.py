"""A benchmark from its options to its table and its JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _harness as harness
from _targets import judged


@dataclass(frozen=True, slots=True)
class Report:
    """`runs` are dataclasses, one for each run; `measures` have the names of `_targets`."""

    table: Sequence[str]
    runs: Sequence[Any]
    measures: Mapping[str, float]


def produce(
    name: str, options: argparse.Namespace, work: Callable[[harness.Workbench], Report]
) -> int:
    """Does the work on a workbench of its own and tells what came out. 1 if a run was wrong; a
    target that was missed changes nothing, for a benchmark measures."""
    # So that what was started is stopped, here as after Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with harness.workbench(options.dir) as place:
        machine = harness.machine(place.folder)
        say("on " + ", ".join(f"{key} {value}" for key, value in machine.items()))
        try:
            report = work(place)
        except harness.Wrong as exc:
            say(f"{name}: {exc}")
            return 1
        machine["load_after"] = [round(each, 2) for each in os.getloadavg()]
    print("\n".join(report.table))
    if options.judge:
        print("\n" + "\n".join(judged(report.measures)))
    print(f"\nload before {machine['load']}, after {machine['load_after']}")
    if options.json:
        told = {
            "bench": name,
            "machine": machine,
            "table": list(report.table),
            "measures": report.measures,
            "runs": [asdict(each) for each in report.runs],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


def parser(text: str | None) -> argparse.ArgumentParser:
    """With the options that all have."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(sys.executable).with_name("artist-bio-gen")
    made.add_argument(
        "--program",
        default=str(beside) if beside.exists() else "artist-bio-gen",
        help="the artist-bio-gen to measure (default: the one beside this Python)",
    )
    made.add_argument(
        "--dir", type=Path, help="folder for ledger and database (default: for temporary files)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    made.add_argument(
        "--judge", action="store_true", help="print what was to be reached beside what was seen"
    )
    return made


def numbers(text: str) -> list[int]:
    """`10_000,100_000`"""
    return [int(part.replace("_", "")) for part in text.split(",")]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
