"""What the long runs share: how long they go on, what they count, and how it is told.

A rate is never shown without its number of trials: no failure in N trials bounds the rate at
about 3/N (95 %).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MINUTES = 20.0
EXAMPLES = 5
TELL_EVERY_S = 60.0


@dataclass(slots=True)
class Figures:
    """What came of it. `unit` is the word for trials; `wrong` has every kind of failure that is
    looked for, from the start with 0; `beside` is what else was counted."""

    name: str
    unit: str
    seed: int
    wrong: Counter[str]
    beside: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return self.wrong.total()

    @property
    def bound(self) -> float | None:
        """Below this the rate lies with 95 % certainty; None when something was wrong."""
        return 3 / self.trials if self.trials and not self.failures else None

    def found(self, kind: str, example: str, count: int = 1) -> None:
        if count:
            self.wrong[kind] += count
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{kind}: {example}")

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "seed": self.seed,
            "trials": self.trials,
            "seconds": round(self.seconds, 1),
            "wrong": dict(self.wrong),
            "failures": self.failures,
            "rate_below": self.bound,
            "beside": dict(self.beside),
            "examples": self.examples,
        }

    def report(self) -> Iterator[str]:
        rate = "no bound" if self.bound is None else f"rate below {self.bound:.2g} (3/N, 95 %)"
        yield f"{self.name}: {self.trials:,} {self.unit} in {self.seconds:.0f} s, seed {self.seed}"
        yield "  " + ", ".join(f"{count:,} {kind}" for kind, count in self.wrong.items())
        yield f"  {self.failures:,} wrong in {self.trials:,}: {rate}"
        if self.beside:
            yield "  " + ", ".join(f"{count:,} {kind}" for kind, count in self.beside.items())
        yield from (f"  {each}" for each in self.examples)


class Limit:
    """When to end: after so many seconds or trials, whichever comes first, or at the first
    Ctrl+C; the second one leaves at once."""

    def __init__(self, seconds: float, trials: int | None) -> None:
        self._started = time.monotonic()
        self._told = self._started
        self._seconds = seconds
        self._trials = trials
        self._stopped = False

    @property
    def passed(self) -> float:
        return time.monotonic() - self._started

    def left(self, figures: Figures) -> int | None:
        """Trials; None when there is no such limit."""
        return None if self._trials is None else max(0, self._trials - figures.trials)

    def reached(self, figures: Figures) -> bool:
        if time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            say(f"{figures.name}: {figures.trials:,} {figures.unit}, {figures.failures:,} wrong")
        return self._stopped or self.passed > self._seconds or self.left(figures) == 0

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, _: object) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True

        for each in before:
            signal.signal(each, stop)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


Trials: TypeAlias = Callable[[Figures, Limit, random.Random], None]
"""Tries until the limit is reached, and counts in the figures."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep(folder: Path) -> Path:
    """A copy of what was found wrong, for whoever looks into it; it is not removed."""
    return shutil.copytree(folder, Path(tempfile.mkdtemp(prefix="soak-wrong-")) / folder.name)


def parser(about: str | None, unit: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"how long (default: {MINUTES:g})"
    )
    made.add_argument("--seed", type=int, help="for the same trials again (default: a new one)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    if unit:
        made.add_argument(f"--{unit}", dest="trials", type=int, metavar="N", help="so many at most")
    return made


def soak(
    about: str | None,
    trials: Trials,
    *,
    name: str,
    unit: str,
    wrong: Sequence[str],
    arguments: Sequence[str] | None = None,
) -> int:
    """The command of a long run: 0 when nothing was wrong, 1 else; the figures in both cases."""
    options = parser(about, unit).parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    figures = Figures(name, unit, seed, Counter(dict.fromkeys(wrong, 0)))
    limit = Limit(options.minutes * 60, options.trials)
    with limit.stopped_by_signals():
        say(f"{name}: seed {seed}")
        try:
            trials(figures, limit, random.Random(seed))
        finally:
            figures.seconds = limit.passed
            print("\n".join(figures.report()), flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")
    return 1 if figures.failures or not figures.trials else 0
