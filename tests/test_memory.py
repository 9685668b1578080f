"""The guard over memory: smaller chunks near the limit, an end before it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artist_bio_gen.errors import LimitError
from artist_bio_gen.memory import MB, Memory, MemoryGuard, ProcessMemory, trim


class Given:
    """Memory as it is told, in MB; the last figure stays."""

    def __init__(self, *process: int, children: int = 0) -> None:
        self._process: Iterator[int] = iter(process)
        self._now = 0
        self._children = children
        self.trims = 0

    def __call__(self) -> Memory:
        self._now = next(self._process, self._now)
        return Memory(self._now * MB, self._children * MB)

    def trim(self) -> None:
        self.trims += 1


def guard(given: Given, limit: int = 100) -> MemoryGuard:
    return MemoryGuard(limit, read=given, trim=given.trim)


def test_far_from_the_limit_rows_are_as_wanted() -> None:
    given = Given(10, 69)
    watched = guard(given)
    assert [watched.size(1000), watched.size(1000)] == [1000, 1000]
    assert given.trims == 0


def test_near_the_limit_chunks_are_halved_step_by_step_and_grow_again() -> None:
    given = Given(70, 70, 80, 90, 69, 10, 10, 10)
    watched = guard(given)
    sizes = [watched.size(1000) for _ in range(7)]
    assert sizes == [500, 250, 125, 250, 500, 1000, 1000]
    assert given.trims == 1


def test_a_trim_that_helps_is_all_that_is_done() -> None:
    given = Given(80, 40)
    assert guard(given).size(1000) == 1000
    assert given.trims == 1


def test_each_time_memory_comes_near_it_is_trimmed_once() -> None:
    given = Given(80, 80, 80, 10, 80, 80, 80)
    watched = guard(given)
    for _ in range(5):
        watched.size(1000)
    assert given.trims == 2


def test_chunks_have_a_row_at_least() -> None:
    watched = guard(Given(80))
    assert [watched.size(4) for _ in range(5)] == [2, 1, 1, 1, 1]


def test_before_the_limit_work_ends_and_what_took_memory_is_told() -> None:
    watched = guard(Given(80, 80, 90, children=10))
    watched.spilled = 7 * MB
    watched.size(1000)
    with pytest.raises(LimitError) as stopped:
        watched.size(1000)
    assert str(stopped.value) == (
        "memory is short: 100 MB of the 100 MB that --memory-limit allows are in use (this process"
        " 90 MB, its child processes 10 MB; 500 rows at a time, 7 MB spilled to disk). What was"
        " done stands; go on with a higher --memory-limit, a smaller --chunk-size than 500, or"
        " --parallel 1"
    )


def test_a_trim_comes_before_the_end() -> None:
    assert guard(Given(99, 10)).size(8) == 8
    with pytest.raises(LimitError, match="99 MB of the 100 MB"):
        guard(Given(99, 99)).size(8)


def test_the_peak_is_kept() -> None:
    watched = guard(Given(10, 60, 20))
    for _ in range(3):
        watched.size(1)
    assert watched.peak == 60 * MB
    assert not watched.pressed


def test_pressure_begins_where_chunks_are_halved() -> None:
    assert [guard(Given(69)).pressed, guard(Given(70)).pressed] == [False, True]


def test_memory_of_this_process_is_what_it_takes() -> None:
    look = ProcessMemory()
    before = look().process
    block = bytearray(64 * MB)
    for at in range(0, len(block), 4096):
        block[at] = 1
    assert 60 * MB < look().process - before < 80 * MB
    del block
    trim()
    assert look().process - before < 30 * MB


def test_a_file_larger_than_the_limit_is_read_within_it(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "bench" / "limited.py"
    figures = tmp_path / "figures.json"
    options = ["--size", "0.12", "--limit", "80", "--dir", str(tmp_path), "--json", str(figures)]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["gb"] * 1e9 > 1.4 * 80 * 2**20
    assert found["rows"] == found["rows_written"]
    assert found["peak_mib"] < 80


def test_children_and_theirs_count_and_are_looked_at_now_and_then() -> None:
    now = [0.0]
    inner = "x = b'x' * 40_000_000; print('ready', flush=True); input()"
    outer = f"import subprocess, sys;subprocess.run([sys.executable, '-c', {inner!r}], check=False)"
    command = [sys.executable, "-c", outer]
    look = ProcessMemory(clock=lambda: now[0])
    before = look().children
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        assert look().children == before
        now[0] = 0.3
        assert look().children - before > 45 * MB
        assert ProcessMemory(children=False)().children == 0
        child.stdin.write(b"\n")
        child.stdin.flush()
    now[0] = 0.6
    assert look().children == before
