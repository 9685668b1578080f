"""The benchmarks, for a few rows: they start, count, tell, and judge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "scripts" / "bench"
Figures: TypeAlias = Callable[..., tuple[str, dict[str, Any]]]


def bench(name: str, *options: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCH / f"{name}.py", *options]
    return subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def figures(short_dir: Path, tmp_path: Path) -> Figures:
    """Runs a benchmark: what it printed and what it wrote. Nothing else may stay behind."""

    def run(name: str, *options: object) -> tuple[str, dict[str, Any]]:
        told = tmp_path / f"{name}.json"
        work = short_dir / uuid.uuid4().hex[:8]
        work.mkdir()
        work.chmod(0o711)
        options = (*options, "--dir", work, "--json", told, "--judge")
        done = bench(name, *options, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "load before" in done.stdout
        assert list(work.iterdir()) == []
        return done.stdout, json.loads(told.read_text())

    return run


@pytest.mark.embedded
def test_throughput_of_all_programs_in_turn(figures: Figures) -> None:
    options = ["--latency", "50", "--workers", "64", "--seconds", "0.1", "--only", "obvious"]
    options += ["--only", "aiohttp", "--only", "artist-bio-gen", "--rounds", "1"]
    printed, told = figures("throughput", *options)
    assert [run["side"] for run in told["runs"]] == ["obvious", "aiohttp", "artist-bio-gen"]
    assert {run["rows"] >= 640 for run in told["runs"]} == {True}
    measures = told["measures"]
    rate = {run["side"]: run["steady_rate"] for run in told["runs"]}
    assert measures["50ms_64.to_aiohttp"] == rate["artist-bio-gen"] / rate["aiohttp"]
    assert measures["50ms_64.to_obvious"] == rate["artist-bio-gen"] / rate["obvious"]
    judged = [line for line in printed.splitlines() if "reached" in line or "missed" in line]
    assert len(judged) == 3, "of limit, of the obvious script, CPU"


@pytest.mark.embedded
def test_start_of_a_run_with_one_row(figures: Figures) -> None:
    printed, told = figures("start", "--rounds", "1")
    wall = {run["what"]: run["wall_ms"] for run in told["runs"]}
    assert set(wall) == {"obvious", "artist-bio-gen", "artist-bio-gen --help", "import openai"}
    assert told["measures"] == {"start.to_obvious": wall["artist-bio-gen"] / wall["obvious"]}
    assert "start of a run with one row | at most 0.5" in printed


@pytest.mark.embedded
def test_a_lone_row_from_its_reply_to_the_disk(figures: Figures) -> None:
    printed, told = figures("lone", "--rows", "20", "--latency", "5")
    assert len(told["runs"]) == 20
    assert all(0 < run["committed"] < run["on_disk"] for run in told["runs"])
    assert told["measures"]["lone.p99_ms"] == max(run["on_disk"] for run in told["runs"])
    assert "| on disk |" in printed


@pytest.mark.embedded
def test_growth_by_rows_and_by_tables(figures: Figures) -> None:
    sizes = ["--workers", "4", "--latency", "1", "--rounds", "1"]
    _, told = figures("growth", "rows", "--rows", "40,80", *sizes)
    assert [run["rows"] for run in told["runs"]] == [40, 80]
    small, large = (run["steady_rate"] for run in told["runs"])
    assert told["measures"] == {"growth.rows": large / small}
    options = ["table", "--table-rows", "500", "--rows-each", "40", *sizes[:-1], "2"]
    printed, told = figures("growth", *options)
    assert [run["table_rows"] for run in told["runs"]] == [0, 500, 0, 540]
    assert "rows a second, full to empty table" in printed


@pytest.mark.embedded
def test_memory_by_rows_and_its_plot(figures: Figures, tmp_path: Path) -> None:
    options = ["memory", "--memory-rows", "40,80", "--workers", "4"]
    _, told = figures("growth", *options)
    few, many = (run["rss_mib"] for run in told["runs"])
    assert told["measures"]["growth.memory"] == max(few, many) / few
    done = bench("plots", tmp_path / "growth.json", folder=tmp_path)
    assert done.stdout == "memory.svg\n", done.stderr


def throughput_runs() -> list[dict[str, Any]]:
    rates = {"obvious": 250.0, "aiohttp": 1000.0, "artist-bio-gen": 1100.0}
    return [
        {"side": side, "latency_ms": 50.0, "workers": workers, "steady_rate": rate * workers / 64}
        for workers in (16, 64, 256)
        for side, rate in rates.items()
    ]


def test_a_plot_is_well_formed_and_the_same_each_time(tmp_path: Path) -> None:
    told = tmp_path / "throughput.json"
    told.write_text(json.dumps({"bench": "throughput.py", "runs": throughput_runs()}))
    made = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        done = bench("plots", told, "--to", folder, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        made.append((folder / "throughput-50ms.svg").read_bytes())
    assert made[0] == made[1]
    drawn = ET.fromstring(made[0])
    shown = {each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert shown >= {"obvious script", "bare aiohttp loop", "artist-bio-gen", "workers / latency"}
    assert shown >= {"16", "64", "256"}
    for each in drawn.iter("{http://www.w3.org/2000/svg}polyline"):
        places = [tuple(map(float, place.split(","))) for place in each.attrib["points"].split()]
        assert all(0 <= x <= 640 and 0 <= y <= 400 for x, y in places)


def test_all_targets_in_one_table(tmp_path: Path) -> None:
    for name, measures in (
        ("old", {"start.to_obvious": 0.4, "lone.p99_ms": 5.01}),
        ("new", {"start.to_obvious": 0.51, "256.rss_mib": 100.0}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps({"measures": measures}))
    done = bench("judge", "old.json", "new.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = {
        line.split(" | ")[0].removeprefix("| "): line.rsplit("|", 2)[1].strip()
        for line in done.stdout.splitlines()[2:]
    }
    assert verdicts["start of a run with one row"] == "missed"
    assert verdicts["one worker: reply to line on disk, p99"] == "missed"
    assert verdicts["peak memory, 256 workers"] == "reached"
    assert verdicts["verify against the database"] == ""
    assert "| not measured |" in done.stdout


def test_a_page_gets_the_tables_and_keeps_the_rest(tmp_path: Path) -> None:
    machine = {"cpu": "A CPU", "cores": 2, "memory_gib": 24.0, "kernel": "6.1-x", "python": "3.11"}
    machine |= {"fdatasync_ms": 0.2, "load": [0.1, 0.2, 0.3], "load_after": [1.5, 0.9, 0.4]}
    told = {"machine": machine, "table": ["| a |", "| --- |", "| 1 |"], "measures": {}}
    (tmp_path / "start.json").write_text(json.dumps(told))
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- targets -->\n<!-- /targets -->\n<!-- start -->\n\nold\n\n")
    done = bench("judge", "start.json", "--into", page, folder=tmp_path)
    assert done.returncode == 1
    assert "<!-- start --> has no <!-- /start --> behind it" in done.stderr
    with page.open("a") as rest:
        rest.write("<!-- /start -->\n\nAfter.\n")
    for _ in range(2):
        done = bench("judge", "start.json", "--into", page, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        text = page.read_text()
        assert text.startswith("Before.\n\n<!-- targets -->\n\n| measure | to reach | seen | |\n")
        _, _, start = text.partition("<!-- start -->")
        assert start == (
            "\n\n| a |\n| --- |\n| 1 |\n\n"
            "Seen on: A CPU, 2 cores, 24 GiB, Linux 6.1, Python 3.11; an fdatasync of 1 KB takes"
            " 0.2 ms; load before 0.1, 0.2, 0.3, after 1.5, 0.9, 0.4."
            "\n\n<!-- /start -->\n\nAfter.\n"
        )


def test_the_commands_of_the_guide_have_these_options() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\.venv/bin/python scripts/bench/(\w+)\.py (.+)$", text, re.MULTILINE)
    assert {name for name, _ in commands} >= {"throughput", "start", "lone", "growth", "judge"}
    helped = {name: bench(name, "--help", folder=ROOT).stdout for name, _ in commands}
    for name, options in commands:
        flags = {word for word in options.split() if word.startswith("--")}
        assert flags - set(re.findall(r"--[a-z-]+", helped[name])) == set(), name


@pytest.mark.embedded
def test_a_program_that_does_not_do_its_work_is_told_and_has_no_figures(tmp_path: Path) -> None:
    done = bench("start", "--rounds", "1", "--program", "/bin/false", folder=tmp_path)
    assert done.returncode == 1
    assert "start.py: artist-bio-gen ended with 1" in done.stderr
    assert done.stdout == ""


@pytest.mark.embedded
def test_resume_to_its_first_call_and_verify(figures: Figures) -> None:
    printed, told = figures("resume", "--finished", "300", "--left", "60", "--rounds", "2")
    assert [run["what"] for run in told["runs"]] == ["whole", "noted", "verify"] * 2
    assert set(told["measures"]) == {
        *("resume.whole_s", "resume.noted_s", "resume.mib", "verify.database_s"),
    }
    assert "resume, noted head: first new call | at most 45 s" in printed
