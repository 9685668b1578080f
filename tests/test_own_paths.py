"""No file of a run may be another one of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from artist_bio_gen.cli.paths import require_own_paths
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import UsageError


def told(
    folder: Path, *, log: str | None = None, source: str = "a.csv", output: str = "out.jsonl"
) -> Settings:
    return Settings(
        input=str(folder / source),
        output=folder / output,
        log_file=None if log is None else folder / log,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("out.jsonl", "out.0001.jsonl", "out.jsonl.head", "out.jsonl.lock"),
        *("out.jsonl.failed.jsonl", "out.jsonl.quarantine.20261122T000000Z.5"),
        *("out.jsonl.journal.0b5e1c1e-0000-4000-8000-000000000000.000001", "out.jsonl.run.abc"),
        *("out.0001.jsonl.quarantine.x.1", ".out.jsonl.head.tmp", "sub/../out.jsonl"),
    ],
)
def test_neither_the_log_nor_the_input_may_be_a_file_of_the_ledger(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="belongs to the ledger"):
        require_own_paths(told(tmp_path, log=name))
    with pytest.raises(UsageError, match="belongs to the ledger"):
        require_own_paths(told(tmp_path, source=name))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_another_name_of_a_file_is_seen_through(link: object, tmp_path: Path) -> None:
    tmp_path.joinpath("out.jsonl").write_bytes(b"x")
    tmp_path.joinpath("a.csv").write_bytes(b"x")
    assert callable(link)
    link(tmp_path / "out.jsonl", tmp_path / "mine.log")
    link(tmp_path / "a.csv", tmp_path / "input.log")
    with pytest.raises(UsageError, match=r"out\.jsonl belongs to the ledger"):
        require_own_paths(told(tmp_path, log="mine.log"))
    with pytest.raises(UsageError, match="this is the input"):
        require_own_paths(told(tmp_path, log="input.log"))


def test_the_log_of_a_ledger_behind_a_link_may_not_be_its_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    tmp_path.joinpath("real/out.jsonl").write_bytes(b"x")
    tmp_path.joinpath("here.jsonl").symlink_to("real/out.jsonl")
    with pytest.raises(UsageError, match="belongs to the ledger"):
        require_own_paths(told(tmp_path, output="here.jsonl", log="real/out.jsonl.head"))


@pytest.mark.parametrize("name", ["output", "source"])
def test_an_old_log_may_not_take_a_files_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an old log would be put"):
        require_own_paths(told(tmp_path, log="x", **{name: "x.1"}))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mine.md", "the prompt"),
        ("model.gguf", "the model's weights"),
        (".env", "a file of settings"),
        (".env.local", "a file of settings"),
    ],
)
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_log_may_be_no_file_that_is_read(
    name: str, what: str, link: Callable[[Path, Path], None] | None, tmp_path: Path
) -> None:
    tmp_path.joinpath(name).write_bytes(b"x")
    log = name if link is None else "run.log"
    if link is not None:
        link(tmp_path / name, tmp_path / log)
    given = replace(
        told(tmp_path, log=log),
        prompt=tmp_path / "mine.md",
        local_model=str(tmp_path / "model.gguf"),
    )
    with pytest.raises(UsageError, match=f"run.log: this is {what}|{name}: this is {what}"):
        require_own_paths(given, folder=tmp_path)
    require_own_paths(replace(given, log=False), folder=tmp_path)


def test_files_of_their_own_are_taken(tmp_path: Path) -> None:
    tmp_path.joinpath("out.jsonl").write_bytes(b"x")
    require_own_paths(told(tmp_path))
    require_own_paths(told(tmp_path, log="out.log"))
    require_own_paths(told(tmp_path / "no folder is there"))


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_no_ledger(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        require_own_paths(Settings(output=Path(name), input="a.csv"))


def test_a_link_to_itself_is_no_ledger(tmp_path: Path) -> None:
    tmp_path.joinpath("out.jsonl").symlink_to("out.jsonl")
    with pytest.raises(UsageError, match="is a link to itself"):
        require_own_paths(told(tmp_path))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.head", "out.jsonl.lock"])
def test_a_named_pipe_in_the_place_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name}: is no regular file"):
        require_own_paths(told(tmp_path))
