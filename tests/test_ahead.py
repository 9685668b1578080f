"""A long ledger checked by several processes: what they find is what a check line by line finds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import orjson
import pytest

from artist_bio_gen.errors import StoppedError
from artist_bio_gen.ledger.ahead import NO_LINE, Range, check_range, in_ranges
from artist_bio_gen.ledger.check import scan_file
from artist_bio_gen.ledger.line import first_prev
from artist_bio_gen.values import Head
from tests.builders import LEDGER, ends_of_lines, make_ledger, next_lines

LINES = 300


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ahead") / "out.jsonl"
    make_ledger(path, LINES).close()
    return path


@pytest.fixture
def path(ledger: Path, tmp_path: Path) -> Path:
    """A copy."""
    copy = tmp_path / ledger.name
    copy.write_bytes(ledger.read_bytes())
    return copy


def begin(path: Path) -> str:
    """With what the chain begins."""
    return str(orjson.loads(path.read_bytes().split(b"\n")[0])["prev"])


def hash_of(path: Path, seq: int) -> str:
    return str(orjson.loads(path.read_bytes().split(b"\n")[seq - 1])["hash"])


def ahead(path: Path, *, seq: int = 0, last: int | None = None, **how: object) -> Range | None:
    ends = ends_of_lines(path.read_bytes())
    prev = begin(path) if seq == 0 else hash_of(path, seq)
    settings = {"processes": 2, "from_bytes": 1, "range_bytes": 4_000, **how}
    find = partial(in_ranges, path, ends[seq], path.stat().st_size, prev, seq, last)
    return find(lambda: False, **settings)  # type: ignore[arg-type]


def test_all_is_found_in_ranges_of_any_size(path: Path) -> None:
    for size in (500, 4_000, 100_000, 10_000_000):
        found = ahead(path, range_bytes=size)
        assert found is not None
        assert (found.first, found.last, found.first_bios) == (1, LINES, True)
        assert found.hash == hash_of(path, LINES)
        assert found.end == path.stat().st_size


def test_it_goes_on_behind_a_line_and_up_to_one(path: Path) -> None:
    found = ahead(path, seq=7, last=200)
    assert found is not None
    assert found.first == 8
    assert 150 < found.last <= 200
    assert found.end == ends_of_lines(path.read_bytes())[found.last]


@pytest.mark.parametrize("where", ["text", "hash", "line feed"])
def test_it_ends_before_what_is_not_in_order(path: Path, where: str) -> None:
    end = ends_of_lines(path.read_bytes())[181]
    at = {"text": end - 300, "hash": end - 20, "line feed": end - 1}[where]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    found = ahead(path)
    assert found is not None
    assert 150 < found.last <= 180
    assert found.end == ends_of_lines(path.read_bytes())[found.last]


def test_lines_out_of_their_place_end_it(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[150], lines[151] = lines[151], lines[150]
    path.write_bytes(b"".join(lines))
    found = ahead(path)
    assert found is not None
    assert 120 < found.last <= 150


def test_nothing_is_found_where_the_beginning_is_another(path: Path) -> None:
    head = Head(LEDGER, 0, first_prev(LEDGER))
    find = partial(in_ranges, path, 0, path.stat().st_size, head.hash, 0, None)
    assert find(lambda: False, processes=2, from_bytes=1) is None


def test_a_short_rest_and_a_single_processor_are_left_to_the_other_check(path: Path) -> None:
    assert ahead(path, from_bytes=10_000_000) is None
    assert ahead(path, processes=1) is None


def test_it_can_be_called_off(path: Path) -> None:
    find = partial(in_ranges, path, 0, path.stat().st_size, begin(path), 0, None)
    with pytest.raises(StoppedError):
        find(lambda: True, processes=2, from_bytes=1, range_bytes=4_000)


def test_a_further_bio_of_an_artist_is_told(path: Path) -> None:
    with make_ledger(path.with_name("other.jsonl"), 20) as other, other.locked():
        other.append(next_lines(other, 20, generation=2))
    found = ahead(path.with_name("other.jsonl"))
    assert found is not None
    assert (found.last, found.first_bios) == (40, False)


def test_a_range_in_which_no_line_begins(path: Path) -> None:
    assert check_range(path, 10, 20) == NO_LINE


def test_both_checks_say_the_same(path: Path) -> None:
    checked = scan_file(path, Head(LEDGER, 0, begin(path)), 0)
    found = ahead(path)
    assert found is not None
    assert (checked.head.seq, checked.head.hash, checked.size) == (
        found.last,
        found.hash,
        found.end,
    )
