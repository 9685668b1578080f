#!/usr/bin/env python3
"""All long runs one after the other, and one table of what came of them.

Ctrl+C ends the one that is running, with its figures, and the table is of those that ran.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _soak as common

RUNS = ("kills", "commits", "damage")


class Runs:
    """`figures` of those that have ended; one that broke before it could tell any has none."""

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []
        self._running: subprocess.Popen[bytes] | None = None
        self._interrupted = False

    def interrupt(self, number: int, _: object) -> None:
        """The one that is running ends with its figures, at the second signal at once."""
        self._interrupted = True
        if self._running is not None:
            self._running.send_signal(number)

    def run(self, options: Sequence[str], folder: Path) -> None:
        for name in RUNS:
            if self._interrupted:
                return
            told = folder / f"{name}.json"
            command = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
            # In a session of its own, so that Ctrl+C reaches it once.
            with subprocess.Popen(
                [*command, *options, "--json", str(told)],
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            ) as self._running:
                self._running.wait()
            if told.exists():
                self.figures.append(json.loads(told.read_text()))


def table(figures: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| run | trials | wrong | rate below (3/N, 95 %) | what was looked for | seed | s |"
    yield "| --- | ---: | ---: | ---: | --- | ---: | ---: |"
    for each in figures:
        bound = "" if each["rate_below"] is None else f"{each['rate_below']:.2g}"
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in each["wrong"].items())
        yield (
            f"| {each['name']} | {each['trials']:,} {each['unit']} | {each['failures']:,} | {bound}"
            f" | {kinds} | {each['seed']} | {each['seconds']:.0f} |"
        )


def main() -> int:
    options = common.parser(__doc__, "").parse_args()
    words = ["--minutes", str(options.minutes)]
    words += [] if options.seed is None else ["--seed", str(options.seed)]
    runs = Runs()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, runs.interrupt)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        runs.run(words, Path(folder))
    print("\n".join(table(runs.figures)))
    for each in runs.figures:
        for example in each["examples"]:
            print(f"{each['name']}: {example}")
    if options.json:
        options.json.write_text(json.dumps(runs.figures, indent=2) + "\n")
    sound = not any(each["failures"] for each in runs.figures)
    return 0 if sound and len(runs.figures) == len(RUNS) else 1


if __name__ == "__main__":
    sys.exit(main())
