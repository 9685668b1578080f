#!/usr/bin/env python3
"""The plots of docs/performance.md, from what the benchmarks have written with --json.

  throughput-LATENCY.svg  rows a second by workers, of all programs, with the limit of
                          workers / latency; made when two numbers of workers or more were measured
  memory.svg              highest memory by rows

Files of `throughput.py` and of `growth.py memory` may be given together; the same figures make the
same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 40, 50  # room for axes and names
COLOURS = {
    "limit": "#999999",
    "obvious": "#d55e00",
    "aiohttp": "#e69f00",
    "artist-bio-gen": "#0072b2",
    "PSS": "#0072b2",
    "RSS": "#56b4e9",
}
NAMES = {"limit": "workers / latency", "obvious": "obvious script", "aiohttp": "bare aiohttp loop"}

Points: TypeAlias = Sequence[tuple[float, float]]
Run: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places on the paper: in steps of powers, or evenly from 0 on."""

    lowest: float
    highest: float
    start: float
    end: float
    by_powers: bool

    def place(self, value: float) -> float:
        low, high, here = self.lowest, self.highest, value
        if self.by_powers:
            low, high, here = math.log(low), math.log(high), math.log(here)
        share = (here - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Plot:
    """`lines` by the names of COLOURS. The x axis goes in powers and is marked at the points."""

    title: str
    x_name: str
    y_name: str
    lines: Mapping[str, Points]
    y_by_powers: bool = False

    def svg(self) -> Iterator[str]:
        xs = sorted({x for points in self.lines.values() for x, _ in points})
        ys = [y for points in self.lines.values() for _, y in points]
        marks = _powers(min(ys), max(ys)) if self.y_by_powers else _even(max(ys))
        across = Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT, by_powers=True)
        up = Scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP, by_powers=self.y_by_powers)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        )
        yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        yield _text(LEFT, TOP - 18, self.title, size=14)
        yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, self.x_name, anchor="middle")
        yield _text(4, TOP - 18, self.y_name)
        for mark in marks:
            y = up.place(mark)
            yield _line([(LEFT, y), (WIDTH - RIGHT, y)], "#dddddd", 1)
            yield _text(LEFT - 8, y + 4, f"{mark:,g}", anchor="end")
        for x in xs:
            yield _text(across.place(x), HEIGHT - BOTTOM + 18, _short(x), anchor="middle")
        names = []
        for name, points in self.lines.items():
            places = [(across.place(x), up.place(y)) for x, y in points]
            dashes = ' stroke-dasharray="5 4"' if name == "limit" else ""
            yield _line(places, COLOURS[name], 2, dashes)
            names.append((places[-1][1], name))
            for x, y in places if name != "limit" else ():
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{COLOURS[name]}"/>'
        lowest = 0.0
        for y, name in sorted(names):  # one below the other, though lines may meet
            lowest = max(lowest + 16, y)
            shown = NAMES.get(name, name)
            yield _text(WIDTH - RIGHT + 12, lowest + 4, shown, colour=COLOURS[name])
        yield "</svg>"


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#333333"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' fill="{colour}">{escape(text)}</text>'
    )


def _line(places: Points, colour: str, width: int, more: str = "") -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'
    )


def _powers(lowest: float, highest: float) -> list[float]:
    """Powers of ten around the values, with 2 and 5 of them between."""
    steps = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
        for digit in (1, 2, 5)
    ]
    first = max((each for each in steps if each <= lowest), default=steps[0])
    last = min((each for each in steps if each >= highest), default=steps[-1])
    return [each for each in steps if first <= each <= last]


def _even(highest: float) -> list[float]:
    """From 0 on, in four to eight round steps."""
    power = 10.0 ** math.floor(math.log10(highest / 4))
    step = next(digit * power for digit in (1, 2, 5, 10) if highest / (digit * power) <= 8)
    return [number * step for number in range(math.ceil(highest / step) + 1)]


def _short(number: float) -> str:
    for size, name in ((1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:g}{name}"
    return f"{number:g}"


def throughput(runs: Sequence[Run], latency: float) -> Plot | None:
    """None without figures of that latency."""
    here = [each for each in runs if each["latency_ms"] == latency]
    workers = sorted({each["workers"] for each in here})
    if len(workers) < 2:
        return None
    lines: dict[str, Points] = {"limit": [(n, n / latency * 1000) for n in workers]}
    for side in ("obvious", "aiohttp", "artist-bio-gen"):
        of_side = [each for each in here if each["side"] == side]
        if of_side:
            lines[side] = _medians(of_side, "workers", "steady_rate")
    title = f"Rows a second at {latency:g} ms latency"
    return Plot(title, "workers", "rows/s", lines, y_by_powers=True)


def memory(runs: Sequence[Run]) -> Plot | None:
    """None without two sizes."""
    if len({each["rows"] for each in runs}) < 2:
        return None
    lines = {
        name: _medians(runs, "rows", field)
        for name, field in (("PSS", "pss_mib"), ("RSS", "rss_mib"))
    }
    workers = runs[0]["workers"]
    return Plot(f"Highest memory with {workers} workers", "rows", "MiB", lines)


def _medians(runs: Sequence[Run], x: str, y: str) -> Points:
    places = sorted({each[x] for each in runs})
    return [
        (place, statistics.median_low(each[y] for each in runs if each[x] == place))
        for place in places
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    compared: list[Run] = []
    grown: list[Run] = []
    for file in options.files:
        told = json.loads(file.read_text(encoding="utf-8"))
        if told.get("bench") == "throughput.py":
            compared += told["runs"]
        elif "growth.memory" in told.get("measures", ()):
            grown += told["runs"]
    plots = {
        f"throughput-{options.latency:g}ms.svg": throughput(compared, options.latency),
        "memory.svg": memory(grown),
    }
    for name, plot in plots.items():
        if plot is None:
            continue
        path = options.to / name
        path.write_text("\n".join(plot.svg()) + "\n", encoding="utf-8")
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--latency", type=float, default=50.0, help="ms, of the first plot (default: 50)"
    )
    parser.add_argument(
        "--to", type=Path, default=Path(), help="folder for the plots (default: this one)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
