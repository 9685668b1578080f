"""What stands in the repository, and that it can be built and started. Tracked files only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from artist_bio_gen.config import OPTIONS

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = {
    "AGENTS.md",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "artist_bio_gen",
    "docs",
    "examples",
    "pyproject.toml",
    "scripts",
    "sql",
    "tests",
}
"""And names that begin with a dot. A new file has a place below one of these."""

AGENTS_MAX_LINES = 100


def tracked(folder: str = ".") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", folder], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip(f"not a git work tree: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def scripts() -> list[Path]:
    return [path for path in tracked("scripts") if os.access(path, os.X_OK)]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(rb"#!.*\b(ba)?sh\b", file.readline()) is not None


def test_top_level_holds_only_what_is_planned() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} - TOP_LEVEL == set()


def test_every_script_tells_what_it_does() -> None:
    assert {path.name for path in scripts()} >= {"check", "demo", "lock", "setup", "test"}
    for path in scripts():
        command = [path] if is_shell(path) else [sys.executable, path]
        helped = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
        assert helped.returncode == 0, f"{path.name} --help: {helped.stderr}"
        assert helped.stdout.lower().startswith("usage:"), f"{path.name} --help"


def test_shell_scripts_parse() -> None:
    shell = [path for path in [*tracked("scripts"), *tracked(".ci")] if is_shell(path)]
    assert shell
    for path in shell:
        subprocess.run(["bash", "-n", path], check=True)


def test_ci_calls_the_test_script_and_nothing_else() -> None:
    _, *commands = (ROOT / ".ci/run").read_text().splitlines()
    assert commands == ['exec "$(dirname "${BASH_SOURCE[0]}")/../scripts/test"']


def test_locks_pin_versions_and_hashes_and_name_no_host() -> None:
    locks = [path for path in tracked("scripts/requirements") if path.suffix == ".txt"]
    names = {path.stem for path in locks}
    assert names >= {"base", "build", "dev", "embedded", "lock", "model-1.5b", "model-135m"}
    requirement = re.compile(
        r"[a-z0-9-]+==\S+( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+"
    )
    for path in locks:
        assert requirement.sub("", path.read_text()) == "", (
            f"{path.name}: more than pins and hashes"
        )


def test_locks_fit_together() -> None:
    """A package may have one version for older Pythons and another for newer ones, the same in
    each lock."""
    pins: dict[str, set[str]] = {}
    for path in (ROOT / "scripts/requirements").glob("*.txt"):
        here: dict[str, set[str]] = {}
        for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE):
            here.setdefault(name, set()).add(version)
        for name, versions in here.items():
            assert pins.setdefault(name, versions) == versions, f"{path.name}: {name}"


def test_agents_file_is_read_in_one_sitting() -> None:
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= AGENTS_MAX_LINES


def test_example_environment_names_real_settings() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)
    assert set(names) - {option.env for option in OPTIONS.values()} == set()
    assert all(line.startswith("#") for line in text.splitlines() if line), "nothing is switched on"


def test_wheel_holds_what_the_program_needs_and_no_tests(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert (
            "artist-bio-gen = artist_bio_gen.__main__:main" in archive.read(entry_points).decode()
        )
    needed = {path.relative_to(ROOT).as_posix() for path in tracked("artist_bio_gen")}
    needed |= {f"artist_bio_gen/sql/{path.name}" for path in tracked("sql")}
    assert {Path(name).suffix for name in needed} >= {".py", ".sql", ".typed", ".j2"}
    assert needed - held == set()
    assert [name for name in held if not name.startswith("artist_bio_gen/")] == []
    assert [name for name in held if "test" in name or "__pycache__" in name] == []
