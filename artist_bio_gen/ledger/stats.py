"""A ledger in figures, gathered in one pass and in flat memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artist_bio_gen.ledger.line import fields
from artist_bio_gen.ledger.reading import lines
from artist_bio_gen.ledger.segments import find_id, real, segments
from artist_bio_gen.values import Json

MOST_NAMES = 1_000
"""So many models, prompts and generations are told apart; what comes after them is `(others)`."""

OTHERS = "(others)"

_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens")
_STEP = math.log(1.02)


class Latencies:
    """Percentiles to within 1 %, from one count for each 2 %: some hundred numbers whatever the
    count."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._most = 0.0

    def add(self, ms: float) -> None:
        self._counts[round(math.log(max(ms, 0.001)) / _STEP)] += 1
        self._most = max(self._most, ms)

    def percentile(self, share: float) -> float | None:
        """In ms; None before the first."""
        left = max(math.ceil(self._counts.total() * share), 1)
        for step, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return min(round(math.exp(step * _STEP), 3), self._most)
        return None


@dataclass(slots=True)
class Stats:
    """What `gather` found. `bytes` is the size of all files together. Times are as in the lines.
    `without_usage` counts lines whose tokens nobody told, `without_latency` likewise."""

    ledger: str | None
    segments: int
    bytes: int
    lines: int = 0
    artists: int = 0
    cleaned: int = 0
    first: str | None = None
    last: str | None = None
    hash: str | None = None
    attempts: int = 0
    without_usage: int = 0
    without_latency: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOKENS, 0))
    runs: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    generations: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, line: Mapping[str, Json]) -> None:
        self.lines += 1
        self.artists += line["generation"] == 1
        self.cleaned += line["cleaned"]
        self.first = self.first or line["committed_at"]
        self.last = line["committed_at"]
        self.hash = line["hash"]
        self.attempts += line["attempts"]
        request = line["request"]
        _count(self.runs, line["run"])
        _count(self.models, request.get("model") or "(not known)")
        _count(self.prompts, prompt_of(request))
        _count(self.generations, str(line["generation"]))
        if line["usage"] is None:
            self.without_usage += 1
        else:
            for key in _TOKENS:
                self.tokens[key] += line["usage"].get(key) or 0
        if line["latency_ms"] is None:
            self.without_latency += 1
        else:
            self.latencies.add(line["latency_ms"])

    def as_json(self) -> dict[str, Any]:
        return {
            "ledger": self.ledger,
            "segments": self.segments,
            "bytes": self.bytes,
            "lines": self.lines,
            "artists": self.artists,
            "generations": dict(self.generations),
            "cleaned": self.cleaned,
            "runs": dict(self.runs),
            "first": self.first,
            "last": self.last,
            "hash": self.hash,
            "attempts": self.attempts,
            "tokens": self.tokens,
            "without_usage": self.without_usage,
            "latency_ms": {
                f"p{round(share * 100)}": self.latencies.percentile(share)
                for share in (0.5, 0.95, 0.99)
            },
            "without_latency": self.without_latency,
            "models": dict(self.models),
            "prompts": dict(self.prompts),
        }

    def report(self) -> Iterator[str]:
        """For a person, a line for each thing."""
        yield f"lines      {self.lines:,} in {_files(self.segments)}, {self.bytes:,} bytes"
        yield f"artists    {self.artists:,}{_anew(self.generations)}"
        yield f"runs       {_of(self.runs, most=5)}"
        yield f"committed  {self.first or 'never'} to {self.last or 'never'}"
        tokens, without = self.tokens, self.without_usage
        yield (
            f"tokens     {tokens['input_tokens']:,} in ({tokens['cached_tokens']:,} cached),"
            f" {tokens['output_tokens']:,} out ({tokens['reasoning_tokens']:,} reasoning)"
            + (f"; not known of {without:,} lines" if without else "")
        )
        yield f"attempts   {self.attempts:,}"
        shown = [
            f"p{round(share * 100)} {value:,.0f} ms"
            for share in (0.5, 0.95, 0.99)
            if (value := self.latencies.percentile(share)) is not None
        ]
        yield f"latency    {', '.join(shown) or 'not known'}"
        yield f"models     {_of(self.models)}"
        yield f"prompts    {_of(self.prompts)}"
        yield f"cleaned    {self.cleaned:,}"
        yield f"ledger     {self.ledger or 'not known'}"
        yield f"head       line {self.lines:,}, {self.hash or 'none'}"


def gather(ledger: Path) -> Stats:
    """Reads and checks the whole ledger. LedgerError at damage."""
    ledger = real(ledger)
    each_line = lines(ledger)
    first = next(each_line, None)
    files = segments(ledger)
    stats = Stats(find_id(ledger), len(files), sum(each.path.stat().st_size for each in files))
    if first is not None:
        stats.add(fields(first))
    for data in each_line:
        stats.add(fields(data))
    return stats


def prompt_of(request: Mapping[str, Json]) -> str:
    """`default, version 1`: the prompt's name or id, and its version where it has one."""
    name = request.get("prompt") or request.get("prompt_id") or "(not known)"
    version = request.get("version")
    return f"{name}, version {version}" if version else str(name)


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < MOST_NAMES else OTHERS] += 1


def _of(counter: Counter[str], most: int = 10) -> str:
    told = [f"{name} ({count:,})" for name, count in counter.most_common(most)]
    if len(counter) > most:
        told.append(f"{len(counter) - most:,} more")
    return "; ".join(told) or "none"


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count:,} files"


def _anew(generations: Counter[str]) -> str:
    anew = sum(count for generation, count in generations.items() if generation != "1")
    return f", {anew:,} bios written anew" if anew else ""
