"""The real command, started, killed and started again, and what must hold afterwards.

The checks read ledger, journals, database and the fake API's own count by themselves: nothing
of the program is asked whether the program was right.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import psycopg

COMMAND = [sys.executable, "-m", "artist_bio_gen"]

PATIENCE_S = 60.0
"""What is waited for comes within this time even on a busy machine, or never."""


@dataclass(slots=True)
class Job:
    """One input, one ledger, one database, one API."""

    folder: Path
    database_url: str
    base_url: str
    input: Path
    options: tuple[str, ...] = ()
    table: str = "artists"
    starts: int = 0
    agreed: tuple[str, ...] = ("--yes",)
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables beside and instead of the usual ones; an empty text takes one away."""

    @property
    def ledger(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "out.jsonl.log"

    def start(self, *options: str, **popen: object) -> subprocess.Popen[str]:
        """Starts the command; the first time a new ledger, later with --resume."""
        resume = ("--resume",) if self.ledger.exists() else ()
        self.starts += 1
        return self.command(*self.words(*resume, *options), **popen)

    def words(self, *options: str) -> list[str]:
        """What stands behind the command's name for this job."""
        return [
            *("--input", str(self.input), "--output", str(self.ledger)),
            *("--table", self.table, *self.agreed, "--progress", "plain"),
            *(*self.options, *options),
        ]

    def command(self, *words: str, **popen: object) -> subprocess.Popen[str]:
        """Starts the command with these words alone, in the job's folder and environment."""
        usual = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.database_url,
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "sk-test-key",
            "ARTIST_BIO_GEN_MODEL": "gpt-test",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        variables = {name: value for name, value in {**usual, **self.env}.items() if value}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env=variables,
            text=True,
            **{**pipes, **popen},  # type: ignore[call-overload]
        )

    def tell(self, *words: str) -> tuple[int, str]:
        """`command`, to its end; exit code and everything that was printed."""
        process = self.command(*words)
        out, err = process.communicate()
        return process.returncode, out + err

    def finish(self, *options: str) -> tuple[int, str]:
        """Runs to the end; exit code and everything that was printed."""
        process = self.start(*options)
        out, err = process.communicate()
        return process.returncode, out + err

    def kill_after(self, seconds: float, *options: str) -> bool:
        """Starts, and kills with SIGKILL at a moment that is as good as random: `seconds` after
        the ledger has begun to grow. False when the run ended by itself before that."""
        before = size_of(self.ledger)
        process = self.start(*options)
        with Drain(process):
            while size_of(self.ledger) <= before:
                if process.poll() is not None:
                    return False
                time.sleep(0.005)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
        return False


class Running:
    """A command that runs while the block lasts; what it prints can be read meanwhile."""

    def __init__(
        self,
        job: Job,
        *options: str,
        words: Sequence[str] | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        """With `words` these alone, else what `Job.start` puts together."""
        self._job = job
        self._options = options
        self._words = words
        self._stdin = stdin

    def __enter__(self) -> Self:
        self._printed = tempfile.TemporaryFile()
        streams = {"stdin": self._stdin, "stdout": self._printed, "stderr": self._printed}
        if self._words is None:
            self.process = self._job.start(*self._options, **streams)
        else:
            self.process = self._job.command(*self._words, **streams)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._said = self.said
        self._printed.close()

    @property
    def said(self) -> str:
        """What was printed so far; after the block all of it."""
        if self._printed.closed:
            return self._said
        return os.pread(self._printed.fileno(), 10_000_000, 0).decode()

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Returns when it is so. An error when the command has ended before."""
        wait_for(lambda: true() or self.process.poll() is not None)
        assert self.process.poll() is None or true(), self.said

    def until_it_takes_signals(self) -> None:
        """While the program is loaded a signal ends it at once; from here on it stops in order."""
        self.wait_until(lambda: takes_signals(self.process.pid))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """The exit code; an error when it has not ended by then."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.said


def takes_signals(pid: int) -> bool:
    """Does a run of this process stop in order? Before it does, SIGHUP has no handler, while the
    others have one that ends the process at once. (proc_pid_status(5))"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGHUP - 1) & 1)


def wait_for(true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Returns when it is so; an error when it has not come about by then."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"did not come about within {seconds:g} s"
        time.sleep(0.01)


class Drain:
    """Reads what a process prints, so that it never waits for us; the text is kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        out, err = self._process.communicate()
        self.text = out + err

    def __enter__(self) -> Drain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._thread.join()


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def write_artists(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("id,name,born,country\n")
        for number in range(count):
            file.write(f"a{number},Artist {number},{1900 + number % 100},Nowhere\n")


@dataclass(frozen=True, slots=True)
class Books:
    """What ledger and database say, read without the program."""

    ledger: dict[str, str]
    database: dict[str, str]

    @property
    def agree(self) -> bool:
        return self.ledger == self.database


def read_books(job: Job, *, generations: bool = False) -> Books:
    """Checks chain and numbers of every line on the way; an artist that stands in the ledger
    twice is an error here, unless bios were written anew (`generations`): then the last counts."""
    bios: dict[str, str] = {}
    ledger = None
    for line in chain(job.ledger):
        newer = line["artist_id"] in bios
        assert generations or not newer, f"{line['artist_id']} stands in the ledger twice"
        bios[line["artist_id"]] = line["response_text"]
        ledger = line["ledger"]
    commits = query(
        job, "select line from artist_bio_gen.commits where ledger = %s order by seq", ledger
    )
    assert [row[0].encode() for row in commits] == list(lines_of(job.ledger))
    return Books(bios, database_bios(job))


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that may be written to just now, or end in a torn one; its last bytes
    without a line feed are left out."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def chain(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger, each checked: its own hash, its number, its link to the one before."""
    prev = None
    for number, data in enumerate(lines_of(path), 1):
        line = json.loads(data)
        body, _, _ = data.rpartition(b',"hash":')
        assert line["hash"] == hashlib.sha256(body).hexdigest(), f"line {number} is damaged"
        if prev is None:
            prev = hashlib.sha256(line["ledger"].encode()).hexdigest()
        assert line["prev"] == prev, f"line {number} does not follow the one before"
        assert line["seq"] == number
        yield line
        prev = line["hash"]


def database_bios(job: Job) -> dict[str, str]:
    """Id and bio of each artist that has one."""
    return dict(query(job, f"select id::text, bio from {job.table} where bio is not null"))


def query(job: Job, text: str, *values: object) -> list[Any]:
    """The rows that a statement gives."""
    with psycopg.connect(job.database_url, autocommit=True) as connection:
        cursor = connection.execute(text, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for data in file:
            assert data.endswith(b"\n"), "the last line is torn"
            yield data[:-1]


def events(log: Path, *names: str) -> list[dict[str, Any]]:
    """What the commit log tells, of all its files; of these names alone if some are given."""
    marks = [f'"event":"{name}"'.encode() for name in names] or [b"event"]
    return [
        json.loads(data)
        for path in sorted(log.parent.glob(f"{log.name}*"), reverse=True)  # the oldest first
        for data in path.read_bytes().split(b"\n")
        if any(mark in data for mark in marks)
    ]


def named_in_flight(log: Path) -> Counter[str]:
    """How often the reports of later starts named each artist, by the commit log."""
    return Counter(event["artist_id"] for event in events(log, "in_flight"))


def failures(job: Job) -> list[dict[str, Any]]:
    """The lines of the file of failures, which need not be there."""
    path = job.folder / "out.jsonl.failed.jsonl"
    return [json.loads(data) for data in lines_of(path)] if path.exists() else []


def journals(job: Job) -> list[str]:
    return sorted(path.name for path in job.folder.glob("out.jsonl.journal.*"))


def write_rows(path: Path, rows: Sequence[Sequence[object]], *, header: str = "id,name") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{header}\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


@contextmanager
def no_leftovers(job: Job) -> Iterator[None]:
    """After the block nothing lies beside the ledger but what a finished run leaves."""
    yield
    allowed = re.compile(r"out\.jsonl(\.lock|\.head|\.log|\.failed\.jsonl|\.quarantine\..*)?")
    left = [path.name for path in job.folder.glob("out.jsonl*")]
    assert [name for name in left if not allowed.fullmatch(name)] == []
