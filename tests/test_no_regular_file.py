"""What is no regular file is told as such by every command that takes a ledger, and not waited for.

The address leads nowhere: this is looked at before a database is.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders import make_ledger
from tests.test_cli import call

ENVIRON = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}

COMMANDS = [
    ("verify",),
    ("verify", "--offline"),
    ("repair",),
    ("repair", "--yes"),
    ("restore",),
    ("restore", "--yes"),
    ("ledger", "show"),
    ("ledger", "tail"),
    ("ledger", "stats"),
    ("ledger", "export", "--format", "csv"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "name", ["out.jsonl", "out.0001.jsonl", "out.jsonl.head", "out.jsonl.lock"]
)
def test_a_named_pipe(words: tuple[str, ...], name: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 3).close()
    tmp_path.joinpath(name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    said = call(*words, str(path), environ=ENVIRON, cwd=tmp_path)
    assert said.exit_code == 2, said.output
    assert f"{name}: is no regular file" in said.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_device(words: tuple[str, ...], tmp_path: Path) -> None:
    said = call(*words, "/dev/zero", environ=ENVIRON, cwd=tmp_path)
    assert said.exit_code == 2, said.output
    assert "/dev/zero: is no regular file" in said.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_folder(words: tuple[str, ...], tmp_path: Path) -> None:
    said = call(*words, str(tmp_path), environ=ENVIRON, cwd=tmp_path)
    assert said.exit_code == 2, said.output
    assert "is a " in said.output or "is no regular file" in said.output
