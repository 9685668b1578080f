#!/usr/bin/env python3
"""How long a resume takes to its first new call, and `verify` against the database.

Makes a job of which nearly all is finished: the program itself writes the first artist's bio, the
lines of the others are sealed behind it with the program's own functions, and their rows are
copied into the database. What is left stands at the end of the input. Then the real command goes
on with it, is stopped at its first call (as by Ctrl+C), and is started once more. What is printed:

  whole     the start that checks the whole chain
  noted     the start after that clean stop, whose head lets it check only what is new
  verify    `verify` against the database, from its start to its end

  first call s   from the start of the command to the first call that reaches the API
  MiB            highest memory, children included: PSS as sampled, and RSS by high-water marks

A run counts only when it found as many finished artists as there are. Ten million take some 35 GB
of room and a quarter of an hour before anything is measured.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness  # also puts the repository on the path
import orjson
from _report import Report, parser, produce, say

from artist_bio_gen.errors import EXIT_INTERRUPTED
from artist_bio_gen.ledger.line import Draft, seal
from artist_bio_gen.values import Artist, Bio
from tests.fakes.api import FakeApi

if TYPE_CHECKING:
    import psycopg

ID, NAME, DATA, TEXT, INPUT = "@id@", "@name@", "@data@", "@text@", "@input@"
SENTENCE = "The artist was born in a small town and has made music ever since. "
LOOK_EVERY_S = 0.05
REST = 560
"""Bytes of a line besides its text and what is the same in all."""

SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""Odd, so no two numbers get one id; and the ids are spread over all as a catalogue's are."""

COLUMNS = ("born", "country", "genre", "active")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Memory in MiB; `seconds` to the first call, or to the end of `verify`."""

    what: str
    finished: int
    left: int
    seconds: float
    cpu_s: float
    pss_mib: float
    rss_mib: float
    load_before: float


@dataclass(frozen=True, slots=True)
class Job:
    """A folder with input and ledger, and where the program finds the rest."""

    folder: Path
    program: str
    database: str
    api: FakeApi
    finished: int
    left: int

    @property
    def input(self) -> Path:
        return self.folder / "artists.csv"

    @property
    def ledger(self) -> Path:
        return self.folder / "out.jsonl"

    def command(self, *more: str, source: Path | None = None) -> list[str]:
        return [
            self.program,
            f"--input={source or self.input}",
            f"--output={self.ledger}",
            f"--database-url={self.database}",
            f"--base-url={self.api.base_url}",
            "--api=chat",
            f"--model={harness.MODEL}",
            "--workers=16",
            "--progress=none",
            *more,
        ]


def artist(number: int) -> Artist:
    data = {
        "born": str(1900 + number % 100),
        "country": ("Benin", "Chile", "Côte d'Ivoire", "Japan")[number % 4],
        "genre": ("choral music", "", "highlife", "string quartet", "techno")[number % 5],
        # Every fourth has a comma, and so quotes in the file.
        "active": f"{1920 + number % 80}{', with breaks' if number % 4 == 0 else ' to 1999'}",
    }
    known = {name: cell for name, cell in data.items() if cell}
    return Artist(
        number + 2,
        str(uuid.UUID(int=(number + 1) * SPREAD % 2**128)),
        f"Artist Number {number}",
        known,
    )


def write_input(path: Path, first: int, last: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("id", "name", *COLUMNS))
        for number in range(first, last):
            each = artist(number)
            lines.writerow((each.id, each.name, *(each.data.get(name, "") for name in COLUMNS)))


@dataclass(frozen=True, slots=True)
class Finished:
    """An artist with the bio that the program would have written, not yet in the chain."""

    artist: Artist
    bio: str
    draft: Draft


def others(pattern: Mapping[str, Any], count: int, line_bytes: int) -> Iterator[Finished]:
    """The artists behind the first, with lines like the one that the program wrote for that."""
    names = list(pattern)
    before = {name: pattern[name] for name in names[: names.index("seq")]}
    after = {
        name: pattern[name]
        for name in names[names.index("generation") : names.index("committed_at")]
    }
    before |= {"artist_id": ID, "artist_name": NAME, "artist_data": DATA, "response_text": TEXT}
    before["request"] = {**pattern["request"], "variables": {}}  # or no line has 1 KB
    after["input_sha256"] = INPUT
    head, tail = (orjson.dumps(part).decode().replace("%", "%%") for part in (before, after))
    head = head[:-1].replace(f'"{DATA}"', "%s")
    for mark in (ID, NAME, TEXT):
        head = head.replace(mark, "%s")
    tail = tail[1:-1].replace(INPUT, "%s")
    known = Bio("", {}, pattern["prompt_sha256"])
    room = max(1, line_bytes - len(head) - len(tail) - REST)
    text = (SENTENCE * (room // len(SENTENCE) + 1))[:room]
    for number in range(1, count):
        each = artist(number)
        digest = each.input_sha256
        bio = f"{number}. {text}"
        made = head % (each.id, each.name, orjson.dumps(each.data).decode(), bio)
        draft = Draft(
            each, known, pattern["run"], digest, made.encode(), (tail % digest).encode(), None
        )
        yield Finished(each, bio, draft)


def build(job: Job, line_bytes: int) -> None:
    """The first artist by the program, the others as it would have left them."""
    first = job.folder / "first.csv"
    write_input(first, 0, 1)
    done = harness.timed(
        job.command("--migrate", "--yes", source=first),
        environment=harness.environment(),
        folder=job.folder,
    )
    if done.exit_code:
        raise harness.Wrong(f"the first bio: exit code {done.exit_code}\n{done.printed}")
    write_input(job.input, 0, job.finished + job.left)
    fill(job, line_bytes)
    os.sync()


def fill(job: Job, line_bytes: int) -> None:
    import psycopg

    pattern = orjson.loads(job.ledger.read_bytes())
    ledger, run, prompt = pattern["ledger"], pattern["run"], pattern["prompt_sha256"]
    seq, prev = pattern["seq"], pattern["hash"]
    with (
        psycopg.connect(job.database) as one,
        psycopg.connect(job.database) as other,
        without_keys(one, "artist_bio_gen.commits"),
        without_keys(other, "public.artists"),
        job.ledger.open("ab", buffering=1024 * 1024) as file,
        one.cursor().copy("copy artist_bio_gen.commits from stdin") as lines,
        other.cursor().copy("copy public.artists (id, name, bio) from stdin") as rows,
    ):
        for each in others(pattern, job.finished, line_bytes):
            line = seal(each.draft, seq=seq + 1, prev=prev, committed_at=pattern["committed_at"])
            seq, prev = line.seq, line.hash
            file.write(line.data + b"\n")
            known = (ledger, str(seq), run, each.artist.id, "1", each.draft.input_sha256, prompt)
            lines.write("\t".join((*known, prev, "")).encode() + copied(line.data) + b"\n")
            rows.write(f"{each.artist.id}\t{each.artist.name}\t{each.bio}\n")
    with psycopg.connect(job.database, autocommit=True) as connection:
        connection.execute(
            "update artist_bio_gen.heads set seq = %s, hash = %s where ledger = %s",
            [seq, prev, ledger],
        )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def copied(line: bytes) -> bytes:
    """As COPY wants it; no other byte of a line has to be escaped."""
    return line.replace(b"\\", b"\\\\")


@contextmanager
def without_keys(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """Keys are made in one go behind millions of rows, rather than row by row."""
    from psycopg import sql

    keys = connection.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = %s::regclass and contype in ('p', 'u')",
        [table],
    ).fetchall()
    name = sql.Identifier(*table.split("."))
    for key, _ in keys:
        connection.execute(
            sql.SQL("alter table {} drop constraint {}").format(name, sql.Identifier(key))
        )
    yield
    connection.execute("set maintenance_work_mem = '1GB'")
    for key, definition in keys:
        connection.execute(
            sql.SQL("alter table {} add constraint {} {}").format(
                name, sql.Identifier(key), sql.SQL(definition)
            )
        )


# ---- measuring -------------------------------------------------------------------------------


def to_first_call(job: Job, what: str, *more: str) -> Figures:
    """One start of the real command, stopped at its first call. Raises Wrong."""
    finished = lines_in(job.database)  # those that the stop before had in flight among them
    before = job.api.counts().calls
    load = os.getloadavg()[0]
    log = job.folder / "printed.txt"
    with log.open("wb") as printed:
        started = time.monotonic()
        process = subprocess.Popen(
            job.command("--resume", *more),
            cwd=job.folder,
            env=harness.environment(),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        sampler = harness.Sampler(process.pid, started, job.ledger)
        sampler.start()
        try:
            while job.api.counts().calls == before and process.poll() is None:
                time.sleep(LOOK_EVERY_S)
            seconds = time.monotonic() - started
            sampler.stop()
            process.terminate()  # a clean stop, as by Ctrl+C
            exit_code = process.wait()
        except BaseException:  # interrupted: nothing that was started stays
            process.kill()
            process.wait()
            raise
    told = log.read_text(encoding="utf-8", errors="replace")
    if exit_code != EXIT_INTERRUPTED or f" {finished:,} finished" not in told:
        raise harness.Wrong(f"{what}: exit code {exit_code}\n{told[-4000:]}")
    say(f"{what}: {seconds:.1f} s\n{told}")
    return Figures(
        what,
        job.finished,
        job.left,
        seconds,
        sampler.cpu[-1][1] if sampler.cpu else 0.0,
        sampler.pss / harness.MIB,
        sum(sampler.high_water.values()) / harness.MIB,
        load,
    )


def lines_in(database: str) -> int:
    import psycopg

    with psycopg.connect(database) as connection:
        found = connection.execute("select max(seq) from artist_bio_gen.heads").fetchone()
    return found[0] if found else 0


def verified(job: Job) -> Figures:
    load = os.getloadavg()[0]
    measured = harness.measure(
        [job.program, "verify", str(job.ledger), f"--database-url={job.database}"],
        environment=harness.environment(),
        folder=job.folder,
        output_file=job.ledger,
    )
    if measured.exit_code:
        raise harness.Wrong(f"verify: exit code {measured.exit_code}\n{measured.printed}")
    say(f"verify: {measured.wall_s:.1f} s\n{measured.printed}")
    return Figures(
        "verify",
        job.finished,
        job.left,
        measured.wall_s,
        measured.cpu_s,
        measured.pss_mib,
        measured.rss_mib,
        load,
    )


def bench(options: argparse.Namespace, place: harness.Workbench) -> Report:
    folder = place.folder / "job"
    folder.mkdir()
    runs = []
    with place.database() as database, FakeApi(latency=0.5, count_artists=False, keep=0) as api:
        job = Job(folder, options.program, database, api, options.finished, options.left)
        started = time.monotonic()
        build(job, options.line_bytes)
        say(f"{job.finished:,} finished artists made in {time.monotonic() - started:.0f} s")
        for number in range(options.rounds):
            more = ["--check=whole"] if number else []  # the first finds no note of a stop
            runs.append(to_first_call(job, "whole", *more))
            runs.append(to_first_call(job, "noted"))
            if not options.no_verify:
                runs.append(verified(job))
    middle = {what: _middle(runs, what) for what in dict.fromkeys(run.what for run in runs)}
    measures = {_MEASURES[what]: run.seconds for what, run in middle.items()}
    measures["resume.mib"] = max(run.rss_mib for run in runs if run.what != "verify")
    return Report([*table([*middle.values()])], runs, measures)


_MEASURES = {
    "whole": "resume.whole_s",
    "noted": "resume.noted_s",
    "verify": "verify.database_s",
}


def _middle(runs: Sequence[Figures], what: str) -> Figures:
    """The run with the median time."""
    some = [run for run in runs if run.what == what]
    seconds = statistics.median_low(run.seconds for run in some)
    return next(run for run in some if run.seconds == seconds)


def table(runs: Sequence[Figures]) -> Iterator[str]:
    yield "| run | finished | left | first call, or end, s | CPU s | PSS MiB | RSS MiB |"
    yield "|" + " --- |" * 7
    for run in runs:
        yield (
            f"| {run.what} | {run.finished:,} | {run.left:,} | {run.seconds:.1f} | {run.cpu_s:.1f}"
            f" | {run.pss_mib:.1f} | {run.rss_mib:.1f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return produce("resume.py", options, partial(bench, options))


def _number(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--finished", type=_number, default=1_000_000, help="(default: 1,000,000)")
    made.add_argument("--left", type=_number, default=100_000, help="(default: 100,000)")
    made.add_argument("--line-bytes", type=_number, default=1024, help="(default: 1024)")
    made.add_argument(
        "--rounds", type=int, default=1, help="of all runs; medians are shown (default: 1)"
    )
    made.add_argument("--no-verify", action="store_true", help="without `verify`")
    return made


if __name__ == "__main__":
    sys.exit(main())
