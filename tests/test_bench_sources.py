"""The benchmark of the sources, for a few rows: it makes, reads, compares and tells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"


def bench(*options: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCH / "sources.py", *options, "--dir", folder]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_a_case_is_read_by_us_and_by_the_plain_library(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    told = tmp_path / "told.json"
    done = bench(
        *("--only", "csv", "--only", "jsonl", "--rows", "2_000", "--rounds", "1", "--json", told),
        folder=work,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(work.iterdir()) == []
    runs = json.loads(told.read_text())["runs"]
    assert [(run["case"], run["rows"]) for run in runs] == [("csv", 2000), ("jsonl", 2000)]
    for run in runs:
        assert run["ratio"] == run["rate"] / run["plain_rate"]
        assert 1 < run["mib"] < 200
        assert re.search(rf"^\| {run['case']} \| 2,000 \|", done.stdout, re.MULTILINE)
    measures = json.loads(told.read_text())["measures"]
    assert measures["csv_2000.ratio"] == runs[0]["ratio"]


def test_a_case_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    done = bench("--only", "nothing", folder=tmp_path)
    assert done.returncode == 1
    assert re.search(r"there is no case nothing; there are .*csv", done.stderr)
