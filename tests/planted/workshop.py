"""Copies of the package and its tests, into which bugs are planted, and test runs inside them.

The package that is installed and the one in the work tree stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.planted.bug import Change

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "artist_bio_gen"
COPIED = (PACKAGE, "tests", "scripts", "sql")
PATIENCE_S = 240.0
"""A bug may make a test wait for ever; it counts as not caught then."""

REPORT = "PLANTED_REPORT"
WHERE = "PLANTED_COPY"


class DoesNotFitError(Exception):
    """The text that a bug replaces is not there, or more than once: the code has moved on, and
    the bug must be planted anew (or has become impossible, which is better)."""


def copy_tree(target: Path, source: Path = ROOT) -> Path:
    """The package, its tests, scripts and migrations, as they are in `source` now."""
    target.mkdir()
    for name in COPIED:
        shutil.copytree(source / name, target / name)
    shutil.copy(source / "pyproject.toml", target)
    return target


def planted(changes: Sequence[Change], root: Path = ROOT) -> dict[Path, str]:
    """The files that the bug changes, with their text then. DoesNotFitError when it cannot be
    planted."""
    texts: dict[Path, str] = {}
    for change in changes:
        path = root / PACKAGE / change.file
        text = texts.get(path) or path.read_text(encoding="utf-8")
        if (count := text.count(change.old)) != 1:
            raise DoesNotFitError(
                f"{PACKAGE}/{change.file}: stands there {count} times instead of once; look what"
                f" has become of it, and change the bug in tests/planted:\n{change.old}"
            )
        texts[path] = text.replace(change.old, change.new)
    for path, text in texts.items():
        compile(text, path, "exec")  # what is no Python would be caught by anything
    return texts


def plant(changes: Sequence[Change], root: Path) -> None:
    for path, text in planted(changes, root).items():
        path.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of some tests: pytest's exit code (None when it had to be ended), each case with
    its state (`passed`, `failed`, or `broken` when it did not fail by itself but what was set up
    for it), and the end of what was printed."""

    exit_code: int | None
    cases: Mapping[str, str]
    printed: str

    def states(self, node: str) -> set[str]:
        """Of all cases of a test function, or of the one case."""
        return {
            state
            for case, state in self.cases.items()
            if case == node or case.startswith(f"{node}[")
        }


def run(
    nodes: Sequence[str],
    root: Path,
    database_url: str,
    *,
    patience_s: float = PATIENCE_S,
) -> Ran:
    """Runs these tests of the copy at `root`, against the copy."""
    report = root / "report.jsonl"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "-p", "tests.planted.inside", *nodes],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": str(root),  # before the installed package, in child processes too
            "TEST_DATABASE_URL": database_url,
            "TMPDIR": str(root),
            REPORT: str(report),
            WHERE: str(root),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=patience_s)
    except BaseException as exc:
        os.killpg(process.pid, 9)  # with what its tests have started
        printed, _ = process.communicate()
        if not isinstance(exc, subprocess.TimeoutExpired):
            raise
        return Ran(None, {}, printed[-4000:])
    return Ran(process.returncode, dict(_read(report)), printed[-4000:])


def _read(report: Path) -> Iterator[tuple[str, str]]:
    """The last state of a case stands: a test that passed may break at its end."""
    if report.exists():
        for data in report.read_text(encoding="utf-8").split("\n")[:-1]:
            case, state = json.loads(data)
            yield case, state
