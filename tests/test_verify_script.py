"""The checker in scripts/ that shares nothing with the program: both say the same of any damage."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artist_bio_gen.ledger import verify
from artist_bio_gen.ledger.segments import beside, segment_path
from tests.builders import ends_of_lines, lines_of, make_ledger
from tests.test_verify import in_segments, written

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "verify_ledger.py"


def _script() -> Callable[[Path, str], tuple[int, str]]:
    spec = importlib.util.spec_from_file_location("verify_ledger", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check: Callable[[Path, str], tuple[int, str]] = module.check
    return check


script_check = _script()


def verdicts(ledger: Path, expect: str) -> tuple[bool, bool]:
    """Whether program and script find the ledger in order."""
    ours = verify.check(ledger, expect=expect or None).ok
    try:
        script_check(ledger, expect)
    except ValueError:
        return ours, False
    return ours, True


def agreed(ledger: Path, expect: str = "") -> bool:
    ours, theirs = verdicts(ledger, expect)
    assert ours == theirs, f"the program says {ours}, the script {theirs}"
    return ours


def head(ledger: Path) -> str:
    found = verify.check(ledger)
    assert found.ok
    return f"{found.last_seq}:{found.last_hash}"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 5).close()
    return path


def flipped(path: Path, step: int = 1) -> Iterator[tuple[int, int]]:
    """Each bit of the file turned over, every `step`-th of them, as (byte, bit); in between the
    file is as it was."""
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for number in range(0, 8 * len(data), step):
            at, bit = divmod(number, 8)
            os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit]), at)
            yield at, bit
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert path.read_bytes() == data


def test_script_is_one_that_can_be_read_at_a_glance() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "artist_bio_gen" not in text


def test_every_bit_that_is_flipped_is_found(ledger: Path) -> None:
    """Also without a head: the last line's own hash covers it."""
    assert 5_000 < ledger.stat().st_size < 7_000
    missed = [place for place in flipped(ledger) if agreed(ledger)]
    assert missed == []


def test_every_truncation_is_found_by_the_head(ledger: Path) -> None:
    expect, data = head(ledger), ledger.read_bytes()
    ends = ends_of_lines(data)
    for size in range(len(data) - 1, -1, -1):
        os.truncate(ledger, size)
        assert not agreed(ledger, expect), size
        if size in ends or size % 7 == 0:
            assert agreed(ledger) == (size in ends), size


def test_every_flip_in_a_ledger_of_several_files_is_found_by_the_head(tmp_path: Path) -> None:
    path, expect, superseded = in_segments(tmp_path, lines=6, begins=(3, 5))
    for segment in (path, segment_path(path, 1), segment_path(path, 2)):
        counts = segment.stat().st_size - superseded[segment]
        for at, bit in flipped(segment, step=11):
            found = not agreed(path, expect)
            assert found == (at < counts), (segment.name, at, bit)


def test_every_truncation_of_any_file_is_judged_alike(tmp_path: Path) -> None:
    path, expect, superseded = in_segments(tmp_path, lines=6, begins=(3, 5))
    for segment in (path, segment_path(path, 1), segment_path(path, 2)):
        data = segment.read_bytes()
        counts = len(data) - superseded[segment]
        for size in range(0, len(data), 11):
            os.truncate(segment, size)
            agreed(path)
            assert agreed(path, expect) == (size >= counts), (segment.name, size)
            segment.write_bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_lines_removed_doubled_swapped_and_damaged_at_random(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path, expect, _ = in_segments(tmp_path, lines=12, begins=chance.choice([(), (4,), (5, 9)]))
    for _ in range(25):
        segment = chance.choice([*tmp_path.glob("out*.jsonl")])
        before = segment.read_bytes()
        lines = before.splitlines(keepends=True)
        match chance.randrange(6):
            case 0:
                del lines[chance.randrange(len(lines))]
            case 1:
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
            case 2:
                chance.shuffle(lines)
            case 3:
                at = chance.randrange(len(before))
                lines = [before[:at], b"\0" * chance.choice([1, 700, 5000]), before[at:]]
            case 4:
                at = chance.randrange(len(before))
                lines = [before[:at], b"\0" * (len(before) - at)]
            case 5:
                lines = [before, chance.choice([b"\n", b"\r\n", b"{}\n", b"\0" * 4096, b'{"seq":'])]
        segment.write_bytes(b"".join(lines))
        agreed(path)
        agreed(path, expect)
        agreed(path, expect.partition(":")[2])
        segment.write_bytes(before)
    assert agreed(path, expect)


def test_texts_that_look_like_a_line_confuse_neither(tmp_path: Path) -> None:
    path, expect = written(
        tmp_path,
        [
            'x","ledger":"other","run":"r","seq":7,"generation":1,"prev":"',
            "one\u2028two\u0085three\rfour\x0bfive\x1csix",
            '\\\\" ,"hash":"' + "0" * 64 + '"}',
            "[" * 100_000,
            "NaN",
        ],
        data={"seq": 99, "response_text": "no", "ledger": "x", "a": [[[{"seq": 5, "hash": "1"}]]]},
    )
    assert agreed(path, expect)


def test_a_ledger_without_a_line_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 0).close()
    assert agreed(path)
    assert not agreed(path, f"1:{'0' * 64}")
    beside(path, "head").unlink()
    assert agreed(path)


@pytest.mark.parametrize(
    ("line", "noted", "in_order"),
    [(5, 5, True), (3, 3, True), (5, 6, False), (5, 4, False)],
    ids=["same", "older", "ahead", "another line"],
)
def test_the_head_beside_the_ledger_counts_as_well(
    ledger: Path, line: int, noted: int, in_order: bool
) -> None:
    digest = lines_of(ledger)[line - 1][-66:-2].decode()
    noted_head = {"ledger": verify.check(ledger).id, "seq": noted, "hash": digest}
    beside(ledger, "head").write_text(json.dumps(noted_head))
    assert agreed(ledger) is in_order


@pytest.mark.parametrize("cut", [0, 10])
def test_as_a_command(ledger: Path, cut: int) -> None:
    expect = head(ledger)
    os.truncate(ledger, ledger.stat().st_size - cut)
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, ledger, "--expect-head", expect],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (5 if cut else 0)
    assert done.stdout.startswith(str(ledger) if cut else "OK: line 5, ")
    assert done.stderr == ""


@pytest.mark.parametrize("noted", [None, b"{}", b"[]", b"\0"])
def test_what_cannot_be_read_is_told(ledger: Path, noted: bytes | None) -> None:
    if noted is None:
        ledger.unlink()
    else:
        beside(ledger, "head").write_bytes(noted)
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, ledger], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout.strip()
