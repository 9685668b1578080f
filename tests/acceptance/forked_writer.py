"""A writer that is forked and killed, thousands of times.

    python -m tests.acceptance.forked_writer FOLDER DATABASE_URL KILLS ROWS SEED

prints one JSON object with how the lives ended. Three kills of four are timed from the life's
first call, so that they hit the writing; the fourth from the fork, so that it hits the start and
the recovery from the kill before.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.writer import Writer, artists, ended, forked

WORKERS = 4
CALL_S = 0.002
LONGEST_START_S = 0.1
LONGEST_WORK_S = 0.03


@dataclass(frozen=True)
class Kill:
    while_writing: bool
    after_s: float


def live(folder: Path, database_url: str, rows: int, kill: Kill | None) -> int:
    """Forks a writer and kills it (None: lets it finish). Its exit status."""
    working, at_work = os.pipe()
    os.set_blocking(at_work, False)

    def work() -> None:
        os.close(working)
        writer = Writer(
            path=folder / "out.jsonl",
            database_url=database_url,
            notes=folder,
            workers=WORKERS,
            call_s=CALL_S,
            on_call=partial(os.write, at_work, b"."),
        )
        writer.live(artists(0, rows))

    child = forked(work)
    os.close(at_work)
    if kill is not None:
        if kill.while_writing:
            select.select([working], [], [])  # its first call, or its end when nothing is left
        time.sleep(kill.after_s)
        os.kill(child, signal.SIGKILL)
    status = ended(child)
    os.close(working)
    return status


def kills_of(count: int, seed: int) -> Iterator[Kill]:
    moments = random.Random(seed)
    for number in range(count):
        while_writing = number % 4 != 3
        longest = LONGEST_WORK_S if while_writing else LONGEST_START_S
        yield Kill(while_writing, moments.uniform(0, longest))


def main() -> None:
    folder, database_url = Path(sys.argv[1]), sys.argv[2]
    kills, rows, seed = map(int, sys.argv[3:])
    exits = Counter(live(folder, database_url, rows, kill) for kill in kills_of(kills, seed))
    last = live(folder, database_url, rows, None)
    print(json.dumps({"exits": dict(exits), "last": last}))


if __name__ == "__main__":
    main()
