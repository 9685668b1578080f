"""The long runs, for a few trials: they start, count, tell, and end when they are told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Postgres

SOAK = Path(__file__).resolve().parents[1] / "scripts" / "soak"


def command(name: str, *options: str) -> list[str]:
    return [sys.executable, str(SOAK / f"{name}.py"), *options]


def environment(postgres: Postgres) -> dict[str, str]:
    return {**os.environ, "TEST_DATABASE_URL": postgres.url}


@pytest.mark.parametrize(
    ("name", "unit", "trials"),
    [("kills", "kills", 8), ("commits", "cuts", 20), ("damage", "damages", 200)],
)
def test_a_few_trials(
    name: str, unit: str, trials: int, postgres: Postgres, tmp_path: Path
) -> None:
    told = tmp_path / "figures.json"
    options = [f"--{unit}", str(trials), "--seed", "7", "--json", str(told)]
    done = subprocess.run(
        command(name, *options),
        env=environment(postgres),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(told.read_text())
    assert (figures["name"], figures["unit"], figures["seed"]) == (name, unit, 7)
    # A life may end by itself before it is killed.
    assert 0 < figures["trials"] <= trials
    assert set(figures["wrong"].values()) == {0}
    assert figures["rate_below"] == 3 / figures["trials"]
    assert f"0 wrong in {figures['trials']}: rate below" in done.stdout
    assert "seed 7" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_the_first_interrupt_ends_it_with_the_figures_so_far(
    postgres: Postgres, tmp_path: Path
) -> None:
    told = tmp_path / "figures.json"
    process = subprocess.Popen(
        command("commits", "--minutes", "60", "--json", str(told)),
        env=environment(postgres),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("commits: seed ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "wrong in" in out
    assert json.loads(told.read_text())["failures"] == 0


def test_all_of_them_and_one_table(postgres: Postgres, tmp_path: Path) -> None:
    told = tmp_path / "all.json"
    done = subprocess.run(
        command("run", "--minutes", "0.02", "--seed", "7", "--json", str(told)),
        env=environment(postgres),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    header, _, *rows = done.stdout.splitlines()
    assert header.startswith("| run | trials | wrong |")
    assert [row.split("|")[1].strip() for row in rows] == ["kills", "commits", "damage"]
    assert [each["failures"] for each in json.loads(told.read_text())] == [0, 0, 0]
