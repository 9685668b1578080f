#!/usr/bin/env python3
"""Lines a second and memory of `artist-bio-gen verify`, beside a loop that only reads and hashes.

Makes its own ledger of valid lines of about 1 KB and, unless --offline, its own Postgres with the
same lines and bios. Each program runs in a process of its own. What is printed:

  lines/s   from the start of the command to its end, reading the program in included
  a CPU s   lines for each second of CPU time of the command and its children
  ratio     of lines/s, by those of the plain loop (readline, SHA-256, nothing else)
  MiB       highest memory, children included: PSS as sampled, and RSS by high-water marks

The runs: the plain loop; offline in one process and in two; against the database; and, for the
memory, offline over few lines and over all.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _harness as harness  # also puts the repository on the path

from artist_bio_gen.ledger.line import draft, first_prev, seal
from artist_bio_gen.values import Artist, Bio, Usage

LEDGER = "11111111-1111-4111-8111-111111111111"
RUN = "22222222-2222-4222-8222-222222222222"
ID, TEXT, SEQ = "@artist-id@", "@response-text@", 999_999_999_999_999
COMMITTED_AT = "2026-01-02T03:04:05.678901+00:00"
SENTENCE = "The artist was born in a small town and has made music ever since. "

PLAIN = """
import hashlib, sys
count = 0
with open(sys.argv[1], "rb") as ledger:
    while line := ledger.readline():
        hashlib.sha256(line[:-76]).hexdigest()
        count += 1
print(f'{count:,} lines')
"""


class Wrong(Exception):
    """A run that did not do its work, so its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger that is made, and what the database is given of it."""

    seq: int
    hash: str
    artist_id: str
    text: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Rates are in lines a second, memory in MiB."""

    what: str
    lines: int
    wall_s: float
    cpu_s: float
    rate: float
    cpu_rate: float
    ratio: float | None
    pss_mib: float
    rss_mib: float


def entries(count: int, line_bytes: int) -> Iterator[Entry]:
    """Valid lines: one line of the program's own is the pattern for all."""
    bio = Bio(
        TEXT,
        {"prompt": "default", "version": "1", "variables": {"name": "A"}, "model": "a-model"},
        "5" * 64,
        response_id="resp_0123456789abcdef",
        created=1_700_000_000,
        finish_reason="stop",
        usage=Usage(120, 0, 60, 0, 180),
        request_id="req_0123456789abcdef",
        latency_ms=812.5,
    )
    artist = Artist(1, ID, "An Artist", {"born": "1933", "country": "Chile"})
    pattern = seal(
        draft(artist, bio, ledger=LEDGER, run=RUN),
        seq=SEQ,
        prev="0" * 64,
        committed_at=COMMITTED_AT,
    )
    body = pattern.data[: pattern.data.rindex(b',"prev":')].decode()
    head, rest = body.split(ID)
    middle, rest = rest.split(TEXT)
    before, after = rest.split(str(SEQ))
    length = line_bytes - len(body) - 120
    text = (SENTENCE * (length // len(SENTENCE) + 1))[: max(1, length)]
    prev = first_prev(LEDGER)
    for seq in range(1, count + 1):
        artist_id = f"0b37acc2-6a1b-4c5e-9f00-{seq:012d}"
        bio_text = f"{seq}. {text}"
        covered = (
            f'{head}{artist_id}{middle}{bio_text}{before}{seq}{after},"prev":"{prev}"'.encode()
        )
        prev = hashlib.sha256(covered).hexdigest()
        data = covered + f',"hash":"{prev}"}}'.encode()
        yield Entry(seq, prev, artist_id, bio_text, data)


def write_ledger(path: Path, count: int, line_bytes: int) -> None:
    with path.open("wb", buffering=1024 * 1024) as file:
        for entry in entries(count, line_bytes):
            file.write(entry.data)
            file.write(b"\n")


def fill(database: str, count: int, line_bytes: int) -> None:
    import psycopg

    from artist_bio_gen.database.migrate import migrate

    migrate(database, table="artists")
    with psycopg.connect(database) as connection:
        cursor = connection.cursor()
        with cursor.copy(
            "copy artist_bio_gen.commits (ledger, seq, run, artist_id, generation, input_sha256,"
            " prompt_sha256, hash, line) from stdin"
        ) as copy:
            for entry in entries(count, line_bytes):
                line = entry.data.decode()
                digests = ("6" * 64, "5" * 64, entry.hash)
                copy.write_row((LEDGER, entry.seq, RUN, entry.artist_id, 1, *digests, line))
        with cursor.copy("copy artists (id, name, bio) from stdin") as copy:
            for entry in entries(count, line_bytes):
                copy.write_row((entry.artist_id, "An Artist", entry.text))
        cursor.execute(
            "insert into artist_bio_gen.heads (ledger, seq, hash, path, host, table_name)"
            " values (%s, %s, %s, '', '', 'public.artists')",
            [LEDGER, count, entry.hash],
        )
        cursor.execute(
            "insert into artist_bio_gen.runs (run, ledger, host, pid, version, settings)"
            " values (%s, %s, '', 0, '', '{}')",
            [RUN, LEDGER],
        )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


@dataclass(frozen=True, slots=True)
class Bench:
    folder: Path
    program: str
    rounds: int

    def run(
        self, what: str, command: Sequence[str | Path], lines: int, plain: Figures | None = None
    ) -> Figures:
        """The run with the median time. Raises Wrong."""
        runs = [
            self._once(what, [str(word) for word in command], lines) for _ in range(self.rounds)
        ]
        middle = statistics.median_low(run.wall_s for run in runs)
        found = next(run for run in runs if run.wall_s == middle)
        ratio = None if plain is None else (lines / found.wall_s) / plain.rate
        return Figures(
            what,
            lines,
            found.wall_s,
            found.cpu_s,
            lines / found.wall_s,
            lines / found.cpu_s,
            ratio,
            found.pss_mib,
            found.rss_mib,
        )

    def verify(self, ledger: Path, *options: str) -> list[str | Path]:
        return [self.program, "verify", ledger, "--progress=none", *options]

    def _once(self, what: str, command: Sequence[str], lines: int) -> harness.Measured:
        found = harness.measure(
            command,
            environment=_environment(),
            folder=self.folder,
            output_file=self.folder / "nothing",
        )
        if found.exit_code != 0 or f"{lines:,} lines" not in found.printed:
            raise Wrong(f"{what} ended with {found.exit_code}:\n{found.printed}")
        return found


def measure(bench: Bench, options: argparse.Namespace) -> Iterator[Figures]:
    ledger, few = bench.folder / "out.jsonl", bench.folder / "few.jsonl"
    write_ledger(ledger, options.lines, options.line_bytes)
    write_ledger(few, options.few_lines, options.line_bytes)
    plain = bench.run("plain loop", [sys.executable, "-c", PLAIN, ledger], options.lines)
    yield plain
    for processes in options.processes:
        command = bench.verify(ledger, "--offline", f"--processes={processes}")
        yield bench.run(f"offline, processes: {processes}", command, options.lines, plain)
    command = bench.verify(few, "--offline", "--processes=1")
    yield bench.run("offline, processes: 1, few lines", command, options.few_lines)
    if options.offline:
        return
    with harness.workbench(options.dir) as place, place.database() as database:
        fill(database, options.lines, options.line_bytes)
        command = bench.verify(ledger, f"--database-url={database}", "--processes=1")
        yield bench.run("with the database", command, options.lines, plain)


def _environment() -> dict[str, str]:
    """This one without settings that would change what is measured."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARTIST_BIO_GEN_", "OPENAI_", "DATABASE_URL", "PG"))
    }


def table(results: Sequence[Figures]) -> Iterator[str]:
    yield "| run | lines | s | lines/s | a CPU s | ratio | PSS MiB | RSS MiB |"
    yield "|" + " --- |" * 8
    for each in results:
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        yield (
            f"| {each.what} | {each.lines:,} | {each.wall_s:.1f} | {each.rate:,.0f}"
            f" | {each.cpu_rate:,.0f} | {ratio} | {each.pss_mib:.1f} | {each.rss_mib:.1f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that what was started is stopped, here as after Ctrl+C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as afterwards:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
        afterwards.callback(shutil.rmtree, folder)
        machine = harness.machine(folder)
        print(
            "on " + ", ".join(f"{name} {value}" for name, value in machine.items()),
            file=sys.stderr,
            flush=True,
        )
        try:
            results = list(measure(Bench(folder, options.program, options.rounds), options))
        except Wrong as exc:
            print(f"verify.py: {exc}", file=sys.stderr)
            return 1
    machine["load_after"] = [round(each, 2) for each in os.getloadavg()]
    print("\n".join(table(results)))
    print(f"\nload before {machine['load']}, after {machine['load_after']}")
    if options.json:
        report: dict[str, Any] = {"machine": machine, "runs": [asdict(each) for each in results]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _number(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(sys.executable).with_name("artist-bio-gen")
    parser.add_argument("--lines", type=_number, default=2_000_000, help="(default: 2,000,000)")
    parser.add_argument(
        "--few-lines", type=_number, default=100_000, help="for the memory (default: 100,000)"
    )
    parser.add_argument("--line-bytes", type=_number, default=1024, help="(default: 1024)")
    parser.add_argument(
        "--processes",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 2],
        help="of the offline runs, with commas (default: 1,2)",
    )
    parser.add_argument("--offline", action="store_true", help="without the database")
    parser.add_argument(
        "--rounds", type=int, default=1, help="runs of each; the median is shown (default: 1)"
    )
    parser.add_argument(
        "--program",
        default=str(beside) if beside.exists() else "artist-bio-gen",
        help="the artist-bio-gen to measure (default: the one beside this Python)",
    )
    parser.add_argument(
        "--dir", type=Path, help="folder for ledger and database (default: for temporary files)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
