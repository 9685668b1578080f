"""What ledger, journals and database say after a fault, read without the program, and what must
hold then. The ledger is read as its description has it: the chain over all its files, a file's
lines counting up to where the next one begins."""

from __future__ import annotations

import hashlib
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import psycopg

TABLES = (
    "artists",
    *(
        f"artist_bio_gen.{name}"
        for name in ("heads", "commits", "failures", "replaced_bios", "runs")
    ),
)
"""Everything that a run writes to."""


@dataclass(frozen=True, slots=True)
class Books:
    """Of each line its bytes and its fields; of the database the commit rows' lines and the bios
    in the artists' table."""

    lines: list[bytes]
    read: list[dict[str, Any]]
    rows: list[bytes]
    bios: dict[str, str]

    @property
    def ids(self) -> list[str]:
        return [line["artist_id"] for line in self.read]

    @property
    def head(self) -> str:
        return self.read[-1]["hash"] if self.read else ""


def ledger_files(path: Path) -> list[Path]:
    """The ledger's files, the first one first."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.\d{{4,}}{re.escape(path.suffix)}")
    later = sorted(each for each in path.parent.iterdir() if pattern.fullmatch(each.name))
    return [each for each in (path, *later) if each.exists()]


def ledger_lines(path: Path) -> list[bytes]:
    """The lines that count, without line feeds. An error when the last file's last one is torn."""
    lines: list[bytes] = []
    files = ledger_files(path)
    for file in files:
        *whole, rest = file.read_bytes().split(b"\n")
        if whole and file != path:
            del lines[orjson.loads(whole[0])["seq"] - 1 :]  # superseded by this file
        lines += whole
        assert rest == b"" or file != files[-1], "the last line is torn"
    return lines


def checked(lines: list[bytes]) -> list[dict[str, Any]]:
    """The lines' fields; each line has its own hash, its number, and follows the one before."""
    read = []
    prev = None
    for number, data in enumerate(lines, 1):
        line = orjson.loads(data)
        body, _, _ = data.rpartition(b',"hash":')
        assert line["hash"] == hashlib.sha256(body).hexdigest(), f"line {number} is damaged"
        prev = prev or hashlib.sha256(line["ledger"].encode()).hexdigest()
        assert (line["seq"], line["prev"]) == (number, prev), f"line {number} does not follow"
        prev = line["hash"]
        read.append(line)
    return read


def read_books(path: Path, conn: psycopg.Connection) -> Books:
    """Both sides, and they are equal: lines and commit rows byte by byte, the head, and a bio in
    the table for each artist, none other; no artist stands there twice."""
    lines = ledger_lines(path)
    read = checked(lines)
    rows = conn.execute("select line from artist_bio_gen.commits order by seq").fetchall()
    bios = dict(conn.execute("select id, bio from artists where bio is not null").fetchall())
    books = Books(lines, read, [row[0].encode() for row in rows], bios)
    assert books.rows == lines
    assert {line["artist_id"]: line["response_text"] for line in read} == bios
    assert len(set(books.ids)) == len(books.ids), "an artist has two lines"
    if read:
        heads = conn.execute("select seq, hash from artist_bio_gen.heads").fetchall()
        assert heads == [(len(read), books.head)]
    return books


def paid_for(path: Path) -> set[str]:
    """Artists whose reply, good or not, stands in a journal beside the ledger."""
    return {
        (entry.get("artist") or entry["failed"]["artist"])["id"]
        for entry in journal_entries(path)
        if entry["is"] in ("reply", "failure")
    }


def journal_entries(path: Path) -> Iterator[dict[str, Any]]:
    for journal in sorted(path.parent.glob(f"{path.name}.journal.*")):
        for data in journal.read_bytes().split(b"\n")[:-1]:
            crc, _, body = data.partition(b" ")
            if body and crc == b"%08x" % zlib.crc32(body):
                yield orjson.loads(body)


def told_lines(notes: Path) -> dict[int, str]:
    """Number and hash of each line of which somebody was told that it is on disk."""
    told = notes / "told"
    pairs = (line.split() for line in told.read_text().splitlines()) if told.exists() else ()
    return {int(seq): digest for seq, digest in pairs}


def assert_told_is_there(notes: Path, books: Books) -> None:
    told = told_lines(notes)
    assert {seq: books.read[seq - 1]["hash"] for seq in told} == told


# ---- copies ----------------------------------------------------------------------------------


def empty(conn: psycopg.Connection) -> None:
    """A database as a migration leaves it. Deleting so few rows is ten times as quick as
    truncating."""
    with conn.transaction():
        for table in TABLES:
            conn.execute(f"delete from {table}")  # type: ignore[arg-type]


Tables: TypeAlias = dict[str, bytes]


def keep(conn: psycopg.Connection) -> Tables:
    """A copy of all tables."""
    kept = {}
    for table in TABLES:
        with conn.cursor().copy(f"copy {table} to stdout") as copy:  # type: ignore[arg-type]
            kept[table] = b"".join(copy)
    return kept


def put_back(conn: psycopg.Connection, kept: Tables) -> None:
    """The tables as they were when `keep` was called."""
    with conn.transaction():
        empty(conn)
        for table, content in kept.items():
            with conn.cursor().copy(f"copy {table} from stdin") as copy:  # type: ignore[arg-type]
                copy.write(content)


def copy_folder(source: Path, target: Path) -> None:
    """`target` with the same files as `source`, and no others."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
