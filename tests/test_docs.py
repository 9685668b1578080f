"""README and guides are run: their commands, their output, their links, their options.

What stands behind the language of a fenced block says what is done with it:

- `sh run`: run by bash, all blocks of a page in their order in one folder, which holds
  `examples/`; the environment leads to a fake API and to a fresh database. `exit=4` is the code
  it has to end with. With `signal=INT` or `signal=KILL` it gets that signal as soon as it has
  brought a line or more into out.jsonl.
- `sql run`: run in that database.
- `text output`: stands behind a block that is run; each of its lines has to be among those that
  were printed. Figures, ids, addresses, bios and lines of progress may be others; `…` is a gap.
- `json line`: a line of a ledger, with gaps.
- `… file=NAME`: is written into the folder under this name.

A block of `sh` without a mark is not run: it installs something, takes a local model, or sets
what the reader has to know.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from artist_bio_gen import config
from artist_bio_gen.database import embedded
from tests.fakes.api import FakeApi

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "AGENTS.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
]
TOLD_TO_PEOPLE = [page for page in PAGES if page.name not in ("AGENTS.md", "CHANGELOG.md")]

NOT_RUN = ("cd", "cp", "export", "git", "pip", "scripts/", ".venv/")
"""How the lines of a block of `sh` begin that has no mark and is not run."""

OF_OTHER_COMMANDS = {
    *("--help", "--json", "--fix", "--upgrade"),
    *("--count", "--head", "--no-safe-cells"),
    *(
        "--artist",
        "--examples",
        "--expect-head",
        "--follow",
        "--format",
        "--ledger-id",
        "--list",
        "--newest",
        "--offline",
        "--processes",
        "--raw",
        "--replace",
        "--to",
    ),
    # of the benchmarks
    *("--dir", "--finished", "--into", "--judge", "--memory-rows", "--rounds", "--rows"),
    *("--seconds", "--table-rows", "--full", "--limit", "--only", "--size"),
}
"""Flags that a page may name and that are no settings."""

_FENCE = re.compile(r"^```(\w+)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `marks` are the words behind the language, `name=value` as pairs."""

    page: str
    line: int
    language: str
    marks: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page} line {self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            text.count("\n", 0, found.start()) + 1,
            found[1],
            {name: value for name, _, value in (word.partition("=") for word in found[2].split())},
            found[3],
        )
        for found in _FENCE.finditer(text)
    ]


# ---- a page as a story ------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """The folder in which a page's examples run one after the other."""

    folder: Path
    environment: dict[str, str]
    database_url: str
    printed: str = ""

    def act(self, block: Block) -> None:
        if name := block.marks.get("file"):
            (self.folder / name).write_text(block.text, encoding="utf-8")
        elif block.language == "sh" and "run" in block.marks:
            self._run(block)
        elif block.language == "sql" and "run" in block.marks:
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                connection.execute(block.text.encode())
        elif "output" in block.marks:
            said = {_plain(line) for line in self.printed.splitlines()}
            missing = [line for line in _told(block.text) if _plain(line) not in said]
            assert missing == [], f"{block}: not printed; what was printed:\n{self.printed}"

    def _run(self, block: Block) -> None:
        sent = block.marks.get("signal")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {block.text}"] if sent else ["bash", "-euc", block.text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wanted = int(block.marks.get("exit", "0"))
        if sent:
            before = self._lines()
            while self._lines() == before and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.Signals[f"SIG{sent}"])
            wanted = {"INT": 130, "KILL": -signal.SIGKILL}[sent]
        self.printed, _ = process.communicate()
        assert process.returncode == wanted, f"{block}: {process.returncode}\n{self.printed}"

    def _lines(self) -> int:
        ledger = self.folder / "out.jsonl"
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def _told(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip() not in ("", "…", "^C")]


def _plain(line: str) -> str:
    """The line without what is different in each run."""
    if re.match(r" {4}\S", line) or re.match(r"\[[\d.]+ (s|min|h)\b", line):
        return ""  # a bio; progress
    for name in _names():
        line = line.replace(name, "NAME")
    for pattern, instead in _CHANGING:
        line = pattern.sub(instead, line)
    return line.rstrip()


_CHANGING = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"[0-9a-f]{64}", "HASH"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"postgresql://\S+", "DATABASE"),
        (r"/\S+/", "/"),
        (r"\d[\d,.]*( min \d+)?( ms| s| min)\b", "TIME"),
        (r"\d[\d,.]*", "N"),
    )
]


def _names() -> list[str]:
    with (ROOT / "examples" / "artists.csv").open(encoding="utf-8", newline="") as file:
        return [row[1] for row in csv.reader(file) if len(row) > 1]


@contextmanager
def story(database_url: str, tmp_path: Path, data_dir: Path) -> Iterator[Story]:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    commands = tmp_path / ".commands"
    commands.mkdir()
    for name, call in (
        ("artist-bio-gen", f"{sys.executable} -m artist_bio_gen"),
        ("python", sys.executable),
    ):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    with FakeApi(models="gpt-test", latency="0.3") as api, ExitStack() as after:
        after.callback(stop_embedded, data_dir / "postgres")
        yield Story(
            tmp_path,
            {
                "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": database_url,
                "OPENAI_BASE_URL": api.base_url,
                "OPENAI_API_KEY": "sk-test-key",
                "ARTIST_BIO_GEN_DATA_DIR": str(data_dir),
            },
            database_url,
        )


def stop_embedded(data_dir: Path) -> None:
    """For a page that did not come to its end."""
    if data_dir.exists():
        embedded.stop(data_dir)


def after_a_run(told: Story) -> None:
    """What the guides take for granted: the reader has been through the README."""
    for command in ("migrate", "--input examples/artists.csv"):
        text = f"artist-bio-gen {command}\n"
        told.act(Block("what comes before", 0, "sh", {"run": ""}, text))


@pytest.mark.embedded
@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "docs/ledger.md", "docs/prompts.md", "docs/database.md"),
        *("docs/adopt.md", "docs/ledger-command.md", "docs/repair.md"),
        *("docs/verify.md", "docs/sources.md"),
    ],
)
def test_the_examples_of_a_page_run(
    page: str, database_url: str, tmp_path: Path, short_dir: Path
) -> None:
    examples = blocks(ROOT / page)
    assert any("run" in block.marks for block in examples)
    with story(database_url, tmp_path, short_dir / uuid.uuid4().hex[:8]) as told:
        if page != "README.md":
            after_a_run(told)
        for block in examples:
            told.act(block)


def test_what_is_not_run_could_not_be() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language != "sh" or "run" in block.marks or page.name == "commit-log.md":
                continue  # the queries of that guide have a test of their own
            lines = [line for line in block.text.splitlines() if line and line[0] not in "# "]
            assert all(line.startswith(NOT_RUN) for line in lines), f"{block}: mark it as `sh run`"


# ---- what a page says of lines, rights, options and files -------------------------------------


def test_the_readme_shows_a_line_with_the_keys_of_a_line_in_their_order(
    database_url: str, tmp_path: Path, short_dir: Path
) -> None:
    (shown,) = (block for block in blocks(ROOT / "README.md") if "line" in block.marks)
    with story(database_url, tmp_path, short_dir / "none") as told:
        after_a_run(told)
        with (tmp_path / "out.jsonl").open(encoding="utf-8") as ledger:
            line = json.loads(ledger.readline())
    keys = re.findall(r'^  "(\w+)":', shown.text, re.MULTILINE)
    assert keys == [key for key in line if key in keys], shown
    guide = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE)[: len(line)] == list(line)


def test_the_rights_of_the_guide_are_enough(
    database_url: str, tmp_path: Path, short_dir: Path
) -> None:
    (grants,) = (
        block
        for block in blocks(ROOT / "docs" / "database.md")
        if block.language == "sql" and "create role" in block.text
    )
    role = f"bio_writer_{uuid.uuid4().hex[:8]}"
    with (
        story(database_url, tmp_path, short_dir / "none") as told,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        told.act(Block("before the rights", 0, "sh", {"run": ""}, "artist-bio-gen migrate\n"))
        connection.execute(grants.text.replace("bio_writer", role).encode())
        try:
            as_role = make_conninfo(database_url, options=f"-c role={role}")
            told.environment["DATABASE_URL"] = as_role
            connection.execute("insert into artists values ('b', 'By hand', 'Written by hand.')")
            (tmp_path / "two.csv").write_text("id,name\na,[[fault:failed]]\nb,By hand\n")
            for options in ("", "--resume --retry-failed", "--resume --again"):
                command = f"artist-bio-gen --input two.csv --max-attempts 1 {options}\n"
                told.act(Block(f"{grants}", grants.line, "sh", {"run": "", "exit": "4"}, command))
            replaced = connection.execute("select bio from artist_bio_gen.replaced_bios").fetchall()
            assert replaced[0] == ("Written by hand.",)
        finally:
            connection.execute(f'drop owned by "{role}"; drop role "{role}"'.encode())


@pytest.mark.parametrize("page", TOLD_TO_PEOPLE, ids=lambda page: page.name)
def test_every_option_that_a_page_names_is_one(page: Path) -> None:
    flags = {option.flag for option in config.OPTIONS.values() if option.flag}
    flags |= {f"--no-{flag.removeprefix('--')}" for flag in flags}
    text = page.read_text(encoding="utf-8")
    # pip and others have flags of their own.
    lines = [line for line in text.splitlines() if not re.search(r"\b(pip|initdb) ", line)]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", "\n".join(lines)))
    assert named - flags - OF_OTHER_COMMANDS - {"--switch", "--no-switch"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), f"{page.name}: {target}"
        if section:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in [_anchor(heading) for heading in headings], f"{page.name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_in_the_repository_is_there(page: Path) -> None:
    top = "artist_bio_gen|docs|examples|scripts|sql|tests"
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{top})/[\w./-]*\w/?)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
