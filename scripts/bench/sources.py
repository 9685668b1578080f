#!/usr/bin/env python3
"""Rows a second and memory of each kind of source, read by `open_source` and by the plain library.

Each reading is a process of its own; the two take turns, so that they meet the same load. Shown
are medians: rows/s with every row made a dict, the ratio to the plain library's own loop, seconds
to the first row, and the highest memory with children (RSS by high-water marks).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import _harness as harness
from _sources import Case, named

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one case. `missed` says what was to be reached and was not."""

    case: str
    rows: int
    rate: float
    plain_rate: float | None
    ratio: float | None
    first_s: float | None
    mib: float
    plain_mib: float | None
    missed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Once:
    rate: float
    first_s: float | None
    mib: float


def all_cases() -> dict[str, Case]:
    modules = [importlib.import_module(path.stem) for path in sorted(HERE.glob("_sources_*.py"))]
    return {case.name: case for module in modules for case in module.cases()}


def measured(case: Case, folder: Path, rounds: int) -> Figures:
    ours: list[Once] = []
    plain: list[Once] = []
    with case.made(folder, case.rows) as source:
        for _ in range(rounds):
            if case.plain is not None:
                plain.append(_once(case, source, named(case.plain), folder))
            loop = "" if case.ours is None else named(case.ours)
            ours.append(_once(case, source, loop, folder))
    rate = statistics.median(each.rate for each in ours)
    plain_rate = statistics.median(each.rate for each in plain) if plain else None
    firsts = [each.first_s for each in ours if each.first_s is not None]
    found = Figures(
        case.name,
        case.rows,
        rate,
        plain_rate,
        None if plain_rate is None else rate / plain_rate,
        statistics.median(firsts) if firsts else None,
        max(each.mib for each in ours),
        max(each.mib for each in plain) if plain else None,
        (),
    )
    return replace(found, missed=tuple(_missed(case, found)))


def _once(case: Case, source: str, loop: str, folder: Path) -> Once:
    found = harness.measure(
        [sys.executable, str(HERE / "_sources.py"), loop, source, json.dumps(dict(case.options))],
        environment=harness.environment(),
        folder=folder,
        output_file=folder / "nothing",
    )
    try:
        told = json.loads(found.printed.splitlines()[-1])
    except (ValueError, IndexError):
        told = {}
    if found.exit_code != 0 or told.get("rows") != case.rows:
        raise harness.Wrong(f"{case.name} ended with {found.exit_code}:\n{found.printed}")
    return Once(told["rows"] / told["s"], told["first_s"], found.rss_mib)


def _missed(case: Case, found: Figures) -> Iterator[str]:
    if case.rate is not None and found.rate < case.rate:
        yield f"rate {case.rate:,.0f}"
    if found.ratio is not None and found.ratio < case.ratio:
        yield f"ratio {case.ratio:g}"
    if case.mib is not None and found.mib > case.mib:
        yield f"{case.mib:g} MiB"
    if case.first_s is not None and (found.first_s or 0.0) > case.first_s:
        yield f"first row {case.first_s:g} s"


def table(results: Sequence[Figures]) -> Iterator[str]:
    yield "| source | rows | rows/s | plain rows/s | ratio | first s | MiB | plain MiB | missed |"
    yield "|" + " --- |" * 9
    for each in results:
        yield (
            f"| {each.case} | {each.rows:,} | {each.rate:,.0f}"
            f" | {'' if each.plain_rate is None else f'{each.plain_rate:,.0f}'}"
            f" | {'' if each.ratio is None else f'{each.ratio:.2f}'}"
            f" | {'' if each.first_s is None else f'{each.first_s:.2f}'} | {each.mib:.1f}"
            f" | {'' if each.plain_mib is None else f'{each.plain_mib:.1f}'}"
            f" | {', '.join(each.missed)} |"
        )


def measures(results: Sequence[Figures]) -> Iterator[tuple[str, float]]:
    for each in results:
        yield f"{each.case}_{each.rows}.rate", each.rate
        yield f"{each.case}_{each.rows}.mib", each.mib
        if each.ratio is not None:
            yield f"{each.case}_{each.rows}.ratio", each.ratio


def chosen(options: argparse.Namespace) -> Iterator[Case]:
    cases = all_cases()
    for name in options.only or cases:
        if name not in cases:
            raise harness.Wrong(f"there is no case {name}; there are {', '.join(cases)}")
        case = cases[name]
        if options.rows is not None:
            yield replace(case, rows=options.rows)
            continue
        yield case
        if options.full:
            yield from (replace(case, rows=rows) for rows in case.sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that what was started is stopped, here as after Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = []
    with contextlib.ExitStack() as afterwards:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
        afterwards.callback(shutil.rmtree, folder)
        folder.chmod(0o711)
        machine = harness.machine(folder)
        try:
            for case in chosen(options):
                results.append(measured(case, folder, options.rounds))
                print(list(table(results))[-1], file=sys.stderr, flush=True)
        except harness.Wrong as exc:
            print(f"sources.py: {exc}", file=sys.stderr)
            return 1
    machine["load_after"] = [round(each, 2) for each in os.getloadavg()]
    lines = [*table(results)]
    print("\n".join(lines))
    print(f"\nload before {machine['load']}, after {machine['load_after']}")
    if options.json:
        report = {
            "bench": "sources",
            "machine": machine,
            "table": lines,
            "measures": dict(measures(results)),
            "runs": [asdict(each) for each in results],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _number(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="CASE", help="this one (repeatable)")
    parser.add_argument("--rows", type=_number, help="of each (default: the case's own)")
    parser.add_argument("--full", action="store_true", help="the larger sizes as well")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: 3)")
    parser.add_argument("--dir", type=Path, help="folder for what is made (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
