"""What is to be reached, and whether it was. The benchmarks give what they have measured by the
names that stand here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    measure: str
    what: str
    bound: Literal["at least", "at most"]
    value: float
    unit: str = ""

    def reached(self, seen: float) -> bool:
        return seen >= self.value if self.bound == "at least" else seen <= self.value


TARGETS = (
    Target("50ms_64.share", "50 ms, 64 workers", "at least", 0.85, "of workers / latency"),
    Target("50ms_64.to_obvious", "50 ms, 64 workers", "at least", 4, "times the obvious script"),
    Target("50ms_256.to_obvious", "50 ms, 256 workers", "at least", 8, "times the obvious script"),
    Target("50ms_256.to_aiohttp", "50 ms, 256 workers", "at least", 0.7, "of the bare loop"),
    Target("500ms_256.share", "500 ms, 256 workers", "at least", 0.9, "of workers / latency"),
    Target("0ms_64.rate", "0 ms, 64 workers", "at least", 2000, "rows a second"),
    Target("0ms_64.to_obvious", "0 ms, 64 workers", "at least", 8, "times the obvious script"),
    Target("50ms_64.cpu_ms", "client CPU a row, 50 ms, 64 workers", "at most", 0.6, "ms"),
    Target("256.rss_mib", "peak memory, 256 workers", "at most", 100, "MiB"),
    Target(
        "start.to_obvious",
        "start of a run with one row",
        "at most",
        0.5,
        "times the obvious script",
    ),
    Target("lone.p99_ms", "one worker: reply to line on disk, p99", "at most", 5, "ms"),
    Target("resume.whole_s", "resume, whole chain: first new call", "at most", 90, "s"),
    Target("resume.noted_s", "resume, noted head: first new call", "at most", 45, "s"),
    Target("resume.mib", "resume: peak memory", "at most", 150, "MiB"),
    Target("verify.database_s", "verify against the database", "at most", 120, "s"),
    Target("growth.memory", "memory by rows, highest to first", "at most", 1.1, "times"),
    Target("growth.rows", "rows a second by rows, lowest to first", "at least", 0.9, "times"),
    Target("growth.table", "rows a second, full to empty table", "at least", 0.9, "times"),
)


def judged(measures: Mapping[str, float], *, all_of_them: bool = False) -> Iterator[str]:
    """A table of the targets that were measured, or of all. Whether the sizes were those that
    the targets are meant for, the reader must know."""
    if not all_of_them and not any(target.measure in measures for target in TARGETS):
        yield "none of what was measured has a target"
        return
    yield "| measure | to reach | seen | |"
    yield "|" + " --- |" * 4
    for target in TARGETS:
        seen = measures.get(target.measure)
        if seen is None and not all_of_them:
            continue
        verdict = "" if seen is None else ("reached" if target.reached(seen) else "missed")
        shown = (
            "not measured" if seen is None else f"{seen:,.3g}" if seen < 1000 else f"{seen:,.0f}"
        )
        yield (
            f"| {target.what} | {target.bound} {target.value:,g} {target.unit} | {shown} "
            f"| {verdict} |"
        )
