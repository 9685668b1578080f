#!/usr/bin/env python3
"""A CSV much larger than memory, read by `open_source` under a limit that the kernel enforces.

The reader is a process of its own, in a cgroup (v1 or v2) with that limit where one can be made
(root, as a rule); its resident memory, children included, is looked at all the while. With --cap
the reader's own guard (`memory_limit`) is left out, to see what it does without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from _sources import COLUMNS, ROOT, row

MIB = 1024 * 1024
GB = 1_000_000_000
BLOCK_ROWS = 100_000
LOOK_EVERY_S = 0.05

READER = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from artist_bio_gen.sources import open_source
sys.stdin.readline()
with open_source(sys.argv[2], memory_limit=int(sys.argv[3]) or None) as source:
    rows = 0
    for chunk in source.chunks():
        rows += len(chunk.dicts())
    bad = source.result.error_count
print(json.dumps({"rows": rows, "bad": bad}))
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup with a memory limit."""

    path: Path
    limit_file: str
    peak_file: str

    def limit(self, size: int) -> None:
        (self.path / self.limit_file).write_text(str(size))

    def take_in(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def peak(self) -> int | None:
        """With the pages of files that the kernel keeps as long as there is room."""
        with contextlib.suppress(OSError):
            return int((self.path / self.peak_file).read_text())
        return None


@contextlib.contextmanager
def group() -> Iterator[Group | None]:
    """None where this user, or this system, can make none."""
    made = _made_group()
    try:
        yield made
    finally:
        if made is not None:
            made.path.rmdir()


def _made_group() -> Group | None:
    name = f"artist-bio-gen-limited-{os.getpid()}"
    for kind in (
        Group(Path("/sys/fs/cgroup/memory") / name, "memory.limit_in_bytes", _V1_PEAK),
        Group(Path("/sys/fs/cgroup") / name, "memory.max", "memory.peak"),
    ):
        try:
            kind.path.mkdir()
        except OSError:
            continue
        if (kind.path / kind.limit_file).exists():
            return kind
        kind.path.rmdir()
    return None


_V1_PEAK = "memory.max_usage_in_bytes"


def write_csv(path: Path, size: int) -> int:
    """So many bytes of rows, about; tells how many rows."""
    rows = 0
    with path.open("wb") as file:
        file.write(",".join(COLUMNS).encode() + b"\n")
        while file.tell() < size:
            lines = (",".join(cell.replace(",", "") for cell in row(rows + at)) for at in _BLOCK)
            block = "\n".join(lines).encode() + b"\n"
            # Made anew now and then only: it is the reading that is measured.
            for _ in range(max(1, min(20, (size - file.tell()) // len(block)))):
                file.write(block)
                rows += BLOCK_ROWS
    return rows


_BLOCK = range(BLOCK_ROWS)


def resident(process: psutil.Process) -> int:
    total = 0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


def read(source: Path, limit: int, guard_mb: int) -> dict[str, Any]:
    """`limit` in bytes, for the cgroup."""
    command = [sys.executable, "-c", READER, str(ROOT), str(source), str(guard_mb)]
    peak = 0
    with group() as limited:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            if limited is not None:
                limited.limit(limit)
                limited.take_in(child.pid)
            began = time.perf_counter()
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.close()
            child.stdin = None
            process = psutil.Process(child.pid)
            while child.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    peak = max(peak, resident(process))
                time.sleep(LOOK_EVERY_S)
            seconds = time.perf_counter() - began
            out, err = child.communicate()
        finally:
            child.kill()
            child.wait()
        in_group = None if limited is None else limited.peak()
    told = json.loads(out) if child.returncode == 0 else {}
    return {
        "exit_code": child.returncode,
        "said": err.decode(errors="replace").strip()[-500:],
        "s": round(seconds, 1),
        "peak_mib": round(peak / MIB, 1),
        "cgroup": None if limited is None else str(limited.path.parent),
        "cgroup_peak_mib": None if in_group is None else round(in_group / MIB, 1),
        **told,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=10, help="GB of the file (default: 10)")
    parser.add_argument("--limit", type=int, default=512, help="MiB (default: 512)")
    parser.add_argument("--cap", action="store_true", help="the kernel's limit alone, no guard")
    parser.add_argument("--dir", type=Path, help="folder for the file (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        path = Path(folder) / "artists.csv"
        rows = write_csv(path, int(given.size * GB))
        found = read(path, given.limit * MIB, 0 if given.cap else given.limit)
        found |= {"gb": path.stat().st_size / GB, "rows_written": rows, "limit_mib": given.limit}
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    finished = found["exit_code"] == 0 and found["rows"] == rows and not found["bad"]
    print(
        f"{found['gb']:.2f} GB, {rows:,} rows under {given.limit} MiB: "
        + (f"read in {found['s']} s ({rows / found['s']:,.0f} rows/s)" if finished else "NOT READ")
        + f", peak {found['peak_mib']} MiB resident"
        + (f", {found['cgroup_peak_mib']} MiB in its cgroup" if found["cgroup"] else ", no cgroup")
        + (f"\n{found['said']}" if found["said"] else "")
    )
    sys.exit(0 if finished and found["peak_mib"] <= given.limit else 1)


if __name__ == "__main__":
    main()
