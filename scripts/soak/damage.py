#!/usr/bin/env python3
"""Damages ledgers at random, and counts what a check does not find.

Small ledgers of one and of two files are made, and each is damaged some thousand times in one of
many ways: bits and bytes changed, bytes cut out, put in, doubled or zeroed, lines removed,
repeated, exchanged, taken from another ledger, or forged with a hash that fits. The last line's
number and hash, as somebody kept them elsewhere, are given to both verifiers: the one of the
program and the independent one.

  missed     damages that `artist-bio-gen verify` did not find
  alone      damages that scripts/verify_ledger.py did not find
  alarms     ledgers without damage in which one of them found some

Needs no database. Ctrl+C ends it with the figures so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType
from typing import TypeAlias

import _soak as common  # also puts the repository on the path

from artist_bio_gen.errors import EXIT_DISAGREE
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import segments
from artist_bio_gen.ledger.verify import check
from tests.builders import a_draft, sealed

SCRIPT = common.ROOT / "scripts" / "verify_ledger.py"
OF_A_LEDGER = 2_000
MOST_LINES = 6
LONGEST_TEXT = 400
MEMORY = Path("/dev/shm")

Files: TypeAlias = list[bytes]
"""What stands in each file of a ledger."""


def make(path: Path, chance: random.Random) -> Files:
    """A ledger of some lines, in a second file from a random line on, or in one alone."""
    path.parent.mkdir()
    lines = chance.randint(1, MOST_LINES)
    second = chance.randint(1, lines)
    with Ledger.create(path) as ledger, ledger.locked():
        for number in range(1, lines + 1):
            if number == second and chance.random() < 0.5:
                begin_the_next_file(ledger)
            text = "Bio. " + "x" * chance.randrange(LONGEST_TEXT)
            drafts = [a_draft(number, ledger=ledger.id, text=text)]
            ledger.append(sealed(drafts, ledger.head))
        ledger.save_head()
    return [segment.path.read_bytes() for segment in segments(path)]


def begin_the_next_file(ledger: Ledger) -> None:
    """As the start does after an fsync that failed with nothing behind the line synced last."""
    note = ledger.path.with_name(f"{ledger.path.name}.fsync-failed")
    note.write_text(f'{{"file": "{ledger.file.name}", "size": {ledger.size}}}')
    ledger.renew()


# ---- damage -----------------------------------------------------------------------------------


def flip_a_bit(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def change_a_byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(1) + data[at + 1 :]


def cut_the_end(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start, end = stretch(data, chance)
    return data[:start] + data[end:]


def put_in(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 50)) + data[at:]


def double(data: bytes, chance: random.Random) -> bytes:
    start, end = stretch(data, chance)
    return data[:end] + data[start:end] + data[end:]


def zero(data: bytes, chance: random.Random) -> bytes:
    start, end = stretch(data, chance)
    return data[:start] + bytes(end - start) + data[end:]


def change_the_case(data: bytes, chance: random.Random) -> bytes:
    start, end = stretch(data, chance)
    return data[:start] + data[start:end].swapcase() + data[end:]


def change_line_ends(data: bytes, chance: random.Random) -> bytes:
    return data.replace(b"\n", chance.choice([b"\r\n", b"\r", b"\n\n", b" \n"]))


def remove_a_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


def repeat_a_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def exchange_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    chance.shuffle(lines)
    return b"".join(lines)


def forge(data: bytes, chance: random.Random) -> bytes:
    """A letter changed, and the line's hash with it: only what follows can tell."""
    lines = data.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    body, _, _ = lines[at].rpartition(b',"hash":')
    body = body.replace(b"Bio.", chance.choice([b"Lie.", b"Bio!"]))
    lines[at] = b'%b,"hash":"%b"}\n' % (body, hashlib.sha256(body).hexdigest().encode())
    return b"".join(lines)


def stretch(data: bytes, chance: random.Random) -> tuple[int, int]:
    start, end = sorted(chance.sample(range(len(data) + 1), 2))
    return (start, min(end, start + 4096)) if chance.random() < 0.3 else (start, end)


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_a_bit,
    change_a_byte,
    cut_the_end,
    cut_out,
    put_in,
    double,
    zero,
    change_the_case,
    change_line_ends,
    remove_a_line,
    repeat_a_line,
    exchange_lines,
    forge,
)


def damage(files: Files, other: Files, chance: random.Random) -> tuple[str, Files]:
    """The name of what was done, and the files then."""
    while True:
        damaged = list(files)
        at = chance.choice([at for at, data in enumerate(files) if data])
        if chance.random() < 0.05:
            way, damaged[at] = "another_ledger", chance.choice(other)
        else:
            do = chance.choice(WAYS)
            way, damaged[at] = do.__name__, do(files[at], chance)
        # What stands behind the last line of an earlier file is no part of the ledger.
        begins_alike = at < len(files) - 1 and damaged[at].startswith(files[at])
        if damaged[at] != files[at] and not begins_alike:
            return way, damaged


# ---- the verifiers ----------------------------------------------------------------------------


def found_by_the_program(path: Path, head: str) -> bool:
    return not check(path, expect=head).ok


def found_by_the_script(script: CodeType, path: Path, head: str) -> bool:
    """Runs it as a command would be, but in this process, which is a hundred times quicker.
    Only its exit code for a difference counts, not that it broke."""
    arguments, sys.argv = sys.argv, [str(SCRIPT), str(path), "--expect-head", head]
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            exec(script, {"__name__": "__main__"})
    except SystemExit as exc:
        return exc.code == EXIT_DISAGREE
    finally:
        sys.argv = arguments
    return False


def put(path: Path, files: Files, names: Mapping[int, Path]) -> None:
    for number, data in enumerate(files):
        names[number].write_bytes(data)


def soak(figures: common.Figures, limit: common.Limit, chance: random.Random) -> None:
    script = compile(SCRIPT.read_text(encoding="utf-8"), SCRIPT, "exec")
    parent = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="soak-", dir=parent) as folder:
        while not limit.reached(figures):
            one_ledger(Path(folder), script, figures, limit, chance)


def one_ledger(
    folder: Path,
    script: CodeType,
    figures: common.Figures,
    limit: common.Limit,
    chance: random.Random,
) -> None:
    path, other_path = folder / "a" / "out.jsonl", folder / "b" / "out.jsonl"
    files, other = make(path, chance), make(other_path, chance)
    names = dict(enumerate(segment.path for segment in segments(path)))
    number, digest = sum(data.count(b"\n") for data in files), files[-1][-67:-3].decode()
    head = f"{number}:{digest}"
    figures.beside["ledgers"] += 1
    if found_by_the_program(path, head) or found_by_the_script(script, path, head):
        figures.found("alarms", f"kept: {common.keep(path.parent)}, head {head}")
    for _ in range(OF_A_LEDGER):
        if limit.reached(figures):
            break
        way, damaged = damage(files, other, chance)
        put(path, damaged, names)
        figures.trials += 1
        figures.beside[way] += 1
        missed = not found_by_the_program(path, head)
        alone = not found_by_the_script(script, path, head)
        if missed or alone:
            kept = common.keep(path.parent)
            figures.found("missed", f"{way}, kept: {kept}, head {head}", missed)
            figures.found("alone", f"{way}, kept: {kept}, head {head}", alone)
    shutil.rmtree(path.parent)
    shutil.rmtree(other_path.parent)


if __name__ == "__main__":
    sys.exit(
        common.soak(
            __doc__,
            soak,
            name="damage",
            unit="damages",
            wrong=("missed", "alone", "alarms"),
        )
    )
