"""The real command, started, killed and started again, and what must hold afterwards.

The checks read ledger, journals, database and the fake API's own count by themselves: nothing
of the program is asked whether the program was right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

COMMAND = [sys.executable, "-m", "artist_bio_gen"]


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
        return subprocess.Popen(
            [
                *COMMAND,
                *("--input", str(self.input), "--output", str(self.ledger)),
                *("--table", self.table, "--yes", "--progress", "plain"),
                *(*resume, *self.options, *options),
            ],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": self.database_url,
                "OPENAI_BASE_URL": self.base_url,
                "OPENAI_API_KEY": "sk-test-key",
                "ARTIST_BIO_GEN_MODEL": "gpt-test",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,  # type: ignore[call-overload]
        )

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


def read_books(job: Job) -> Books:
    """Checks chain and numbers of every line on the way; an artist that stands in the ledger
    twice is an error here."""
    bios: dict[str, str] = {}
    prev = None
    for number, data in enumerate(lines_of(job.ledger), 1):
        line = json.loads(data)
        body, _, _ = data.rpartition(b',"hash":')
        assert line["hash"] == hashlib.sha256(body).hexdigest(), f"line {number} is damaged"
        if prev is None:
            prev = hashlib.sha256(line["ledger"].encode()).hexdigest()
        assert line["prev"] == prev, f"line {number} does not follow the one before"
        assert line["seq"] == number
        assert line["artist_id"] not in bios, f"{line['artist_id']} stands in the ledger twice"
        bios[line["artist_id"]] = line["response_text"]
        prev = line["hash"]
    with psycopg.connect(job.database_url) as connection:
        query = f"select id::text, bio from {job.table} where bio is not null"
        rows = connection.execute(query).fetchall()  # type: ignore[arg-type]
        commits = connection.execute(
            "select line from artist_bio_gen.commits order by seq"
        ).fetchall()
    assert [row[0].encode() for row in commits] == list(lines_of(job.ledger))
    return Books(bios, dict(rows))


def lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for data in file:
            assert data.endswith(b"\n"), "the last line is torn"
            yield data[:-1]


_IN_FLIGHT = "in_flight"


def named_in_flight(log: Path) -> Counter[str]:
    """How often the reports of later starts named each artist, by the commit log."""
    named: Counter[str] = Counter()
    for path in sorted(log.parent.glob(f"{log.name}*")):
        for data in path.read_bytes().split(b"\n"):
            if b'"in_flight"' in data:
                event = json.loads(data)
                if event["event"] == _IN_FLIGHT:
                    named[event["artist_id"]] += 1
    return named


@contextmanager
def no_leftovers(job: Job) -> Iterator[None]:
    """After the block nothing lies beside the ledger but what a finished run leaves."""
    yield
    allowed = re.compile(r"out\.jsonl(\.lock|\.head|\.log|\.failed\.jsonl|\.quarantine\..*)?")
    left = [path.name for path in job.folder.glob("out.jsonl*")]
    assert [name for name in left if not allowed.fullmatch(name)] == []
