"""A ledger's files checked by themselves: each kind of damage, told once and where it stands."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from artist_bio_gen.errors import UsageError
from artist_bio_gen.ledger.line import draft, first_prev, seal
from artist_bio_gen.ledger.repeats import Repeats
from artist_bio_gen.ledger.scan import NEXT_TEXT, TOGETHER, Batch, Stretch, record, scan
from artist_bio_gen.ledger.segments import beside, segment_path
from artist_bio_gen.ledger.verify import Check, Difference, Kind, Report, check
from artist_bio_gen.values import Head, Json
from tests.builders import (
    COMMITTED_AT,
    LEDGER,
    RUN,
    a_draft,
    artist,
    bio,
    ends_of_lines,
    lines_of,
    make_ledger,
    next_lines,
    sealed,
)

EMPTY = Head(LEDGER, 0, first_prev(LEDGER))
OTHER = "22222222-2222-4222-8222-222222222222"


def written(
    folder: Path, texts: Sequence[str], data: dict[str, Json] | None = None
) -> tuple[Path, str]:
    """A ledger with these bios, without anything beside it, and its head."""
    drafts = [
        draft(artist(number, data=data), bio(text), ledger=LEDGER, run=RUN)
        for number, text in enumerate(texts, 1)
    ]
    lines = sealed(drafts, EMPTY)
    path = folder / "out.jsonl"
    path.write_bytes(b"".join(line.data + b"\n" for line in lines))
    return path, f"{lines[-1].seq}:{lines[-1].hash}"


def in_segments(
    folder: Path, lines: int, begins: Sequence[int]
) -> tuple[Path, str, dict[Path, int]]:
    """A ledger whose further files begin with these lines, and its head. Behind the end of each
    file but the last stands a whole line and a half that are superseded: bytes by file."""
    path, head = written(folder, [f"Bio {number}." for number in range(1, lines + 1)])
    data = [line + b"\n" for line in lines_of(path)]
    superseded = {}
    firsts = [1, *begins]
    for number, (first, end) in enumerate(zip(firsts, [*begins, lines + 1], strict=True)):
        segment = segment_path(path, number)
        tail = b"" if end > lines else b"".join(data[end - 1 : end + 1])[:-500]
        segment.write_bytes(b"".join(data[first - 1 : end - 1]) + tail)
        superseded[segment] = len(tail)
    return path, head, superseded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path, [f"Bio {number}." for number in range(1, 11)])[0]


def change(path: Path, what: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = [line + b"\n" for line in lines_of(path)]
    path.write_bytes(b"".join(what(lines)))


def only(report: Report) -> Difference:
    (difference,) = report.examples
    assert report.counts == {difference.kind: difference.count}
    return difference


def told(report: Report) -> list[tuple[Kind, int | None, int]]:
    return [(each.kind, each.seq, each.count) for each in report.examples]


# ---- in order ---------------------------------------------------------------------------------


def test_a_ledger_in_order(path: Path) -> None:
    report = check(path)
    assert report.ok
    assert (report.id, report.lines, report.bytes) == (LEDGER, 10, path.stat().st_size)
    assert (report.last_seq, report.last_hash) == (10, lines_of(path)[-1][-66:-2].decode())
    assert report.examples == report.notes == ()
    seen = report.runs[RUN]
    assert (seen.seq, seen.file, seen.offset, seen.lines) == (1, path, 0, 10)


def test_several_files_are_one_ledger_and_what_is_superseded_is_told(tmp_path: Path) -> None:
    path, head, superseded = in_segments(tmp_path, lines=9, begins=(4, 5))
    report = check(path, expect=head)
    assert report.ok
    assert report.lines == 9
    assert report.files == (path, segment_path(path, 1), segment_path(path, 2))
    assert [note.partition(" are ")[0] for note in report.notes] == [
        f"out.jsonl: {superseded[path]:,} bytes behind line 3",
        f"out.0001.jsonl: {superseded[segment_path(path, 1)]:,} bytes behind line 4",
    ]


def test_a_link_leads_to_the_ledger(path: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    link = tmp_path / "away" / "link.jsonl"
    link.symlink_to(path)
    assert check(link).ledger == path


@pytest.mark.parametrize("range_bytes", [1, 500, 1300, 4096])
def test_ranges_of_any_size_come_to_the_same(tmp_path: Path, range_bytes: int) -> None:
    path, head, _ = in_segments(tmp_path, lines=9, begins=(4, 7))
    change(path, lambda lines: [lines[0], b"\0" * 3000 + lines[1], *lines[2:]])
    newest = segment_path(path, 2)
    newest.write_bytes(newest.read_bytes()[:-30])
    whole = check(path, expect=head)
    assert set(whole.counts) == {"damaged_line", "torn_tail", "head_ahead"}
    with Check(path, expect=head, range_bytes=range_bytes) as checking:
        for _ in checking.lines():
            pass
        assert checking.report() == whole


@pytest.mark.parametrize("range_bytes", [500, 5000, 10**6])
def test_lines_to_be_compared_come_in_batches(tmp_path: Path, range_bytes: int) -> None:
    """All that belong together, however they were read, and with their escapes undone."""
    count = 2 * TOGETHER + 7
    texts = [f"{'Bio' if number < TOGETHER else chr(34)} {number}." for number in range(count)]
    path, _ = written(tmp_path, texts)
    met: dict[int, list[Batch]] = {}
    with Check(path, with_batches=True, range_bytes=range_bytes) as checking:
        for lines in checking.lines():
            for batch in lines.batches:
                met.setdefault((batch.first - 1) // TOGETHER, []).append(batch)
    for number, batches in met.items():
        some = texts[number * TOGETHER : (number + 1) * TOGETHER]
        facts = [batch.facts for batch in batches]
        assert None not in facts
        assert NEXT_TEXT.join(each.texts for each in facts if each) == (
            NEXT_TEXT.join(text.encode() for text in some)
        )
        assert sum(batch.count for batch in batches) == len(some)
    data = path.read_bytes()
    whole = [line for batches in met.values() for batch in batches for line in batch.each()]
    assert [seq for seq, _, _ in whole] == [*range(1, count + 1)]
    assert all(data.startswith(line, offset) for _, offset, line in whole)
    assert b"".join(line for _, _, line in whole) == data


def test_a_text_that_is_no_json_is_compared_by_itself(tmp_path: Path) -> None:
    """Whole all the same: its hash covers what stands there."""
    made = draft(artist(1), bio("x"), ledger=LEDGER, run=RUN)
    made = replace(made, before_seq=made.before_seq.replace(b':"x",', b':"\\x",'))
    (line,) = sealed([made], EMPTY)
    path = tmp_path / "out.jsonl"
    path.write_bytes(line.data + b"\n")
    (stretch,) = scan(path, 0, path.stat().st_size, last=None, with_batches=True).pieces
    assert isinstance(stretch, Stretch)
    assert [(batch.count, batch.facts) for batch in stretch.batches] == [(1, None)]
    there = hashlib.sha256(b"\\x").hexdigest()
    assert record(1, line.data + b"\n").split(b"\t")[5] == b"\\\\x%b\n" % there.encode()


def test_several_processes_come_to_the_same(tmp_path: Path) -> None:
    path, head, _ = in_segments(tmp_path, lines=60, begins=(20, 40))
    change(segment_path(path, 1), lambda lines: [*lines[:5], *lines[6:]])
    with Check(path, processes=2, expect=head, range_bytes=3000) as checking:
        for _ in checking.lines():
            pass
        assert checking.report() == check(path, expect=head)


def test_progress_ends_with_all_bytes(path: Path) -> None:
    heard: list[tuple[int, int]] = []
    with Check(
        path, range_bytes=2000, progress=lambda done, total: heard.append((done, total))
    ) as checking:
        for _ in checking.lines():
            pass
    size = path.stat().st_size
    assert heard[-1] == (size, size)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert len(heard) > 3


# ---- damage -----------------------------------------------------------------------------------


def test_a_damaged_line_is_told_with_place_and_artist(path: Path) -> None:
    ends = ends_of_lines(path.read_bytes())
    change(path, lambda lines: [line.replace(b"Bio 4.", b"Bio 5.") for line in lines])
    found = only(check(path))
    assert (found.kind, found.seq, found.file, found.offset, found.end, found.artist_id) == (
        "damaged_line",
        4,
        path,
        ends[3],
        ends[4],
        "4",
    )


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([0], [("missing_line", 1, 1)]),
        ([4], [("missing_line", 5, 1)]),
        ([4, 5, 6], [("missing_line", 5, 3)]),
        ([2, 7], [("missing_line", 3, 1), ("missing_line", 8, 1)]),
    ],
)
def test_missing_lines(
    path: Path, lost: list[int], expected: list[tuple[Kind, int | None, int]]
) -> None:
    change(path, lambda lines: [line for at, line in enumerate(lines) if at not in lost])
    assert told(check(path)) == expected


def test_a_line_that_stands_twice(path: Path) -> None:
    change(path, lambda lines: [*lines[:5], lines[4], *lines[5:]])
    found = only(check(path))
    assert (found.kind, found.seq, found.offset) == (
        "repeated_line",
        5,
        ends_of_lines(path.read_bytes())[5],
    )


def test_a_block_that_was_copied_further_down(path: Path) -> None:
    change(path, lambda lines: [*lines[:8], *lines[2:5], *lines[8:]])
    assert told(check(path)) == [("repeated_line", 3, 3)]


def test_a_ledger_that_was_appended_to_itself(path: Path) -> None:
    change(path, lambda lines: [*lines, *lines])
    report = check(path)
    assert told(report) == [("repeated_line", 1, 10)]
    assert (report.lines, report.last_seq) == (20, 10)


def test_two_lines_that_changed_places(path: Path) -> None:
    change(path, lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]])
    assert told(check(path)) == [("chain_break", 5, 1)]


def test_a_file_in_the_reverse_order(path: Path) -> None:
    change(path, lambda lines: lines[::-1])
    report = check(path)
    assert report.counts == {"chain_break": 9}


def test_a_line_that_was_made_anew_breaks_the_chain(path: Path) -> None:
    other = seal(a_draft(5, text="Forged."), seq=5, prev="0" * 64, committed_at=COMMITTED_AT)
    change(path, lambda lines: [*lines[:4], other.data + b"\n", *lines[5:]])
    assert told(check(path)) == [("chain_break", 5, 1), ("chain_break", 6, 1)]


def test_a_line_before_the_first_one_that_names_no_line_before_it(path: Path) -> None:
    zeroth = seal(a_draft(11), seq=0, prev="", committed_at=COMMITTED_AT).data + b"\n"
    change(path, lambda lines: [zeroth, *lines])
    assert only(check(path)).kind == "damaged_line"


def test_a_line_that_follows_with_a_wrong_number(path: Path) -> None:
    last = lines_of(path)[-1]
    line = seal(a_draft(11), seq=13, prev=last[-66:-2].decode(), committed_at=COMMITTED_AT)
    change(path, lambda lines: [*lines, line.data + b"\n"])
    found = only(check(path))
    assert (found.kind, found.seq) == ("chain_break", 13)


def test_lines_of_another_ledger(path: Path) -> None:
    other = Head(OTHER, 0, first_prev(OTHER))
    foreign = sealed([a_draft(n, ledger=other.ledger) for n in (1, 2)], other)
    change(path, lambda lines: [*lines, *(line.data + b"\n" for line in foreign)])
    found = only(check(path))
    assert (found.kind, found.count) == ("chain_break", 2)
    assert other.ledger in found.detail


def test_two_lines_that_a_lost_line_feed_made_one(path: Path) -> None:
    change(path, lambda lines: [*lines[:4], lines[4][:-1] + b" " + lines[5], *lines[6:]])
    assert told(check(path)) == [("damaged_line", 5, 1), ("missing_line", 5, 1)]


def test_nul_bytes_between_lines_are_damage_and_at_the_end_a_torn_tail(path: Path) -> None:
    data = path.read_bytes()
    ends = ends_of_lines(data)
    path.write_bytes(data[: ends[4]] + b"\0" * 100 + data[ends[4] :])
    assert told(check(path)) == [("damaged_line", 5, 1)]
    path.write_bytes(data + b"\0" * 8192)
    found = only(check(path))
    assert (found.kind, found.seq, found.offset, found.end) == (
        "torn_tail",
        11,
        len(data),
        len(data) + 8192,
    )


def test_a_damaged_last_line_is_no_torn_tail(path: Path) -> None:
    """A crash leaves no line feed behind a line that it tore."""
    change(path, lambda lines: [*lines[:9], lines[9].replace(b"Bio", b"bio")])
    assert told(check(path)) == [("damaged_line", 10, 1)]


def test_damage_and_then_a_torn_tail(path: Path) -> None:
    change(path, lambda lines: [*lines[:8], lines[8].replace(b"Bio", b"bio"), lines[9][:-1]])
    assert told(check(path)) == [("torn_tail", 10, 1), ("damaged_line", 9, 1)]


def test_a_bio_that_stands_in_two_lines(tmp_path: Path) -> None:
    """Each line follows the one before; only the artist's number tells."""
    drafts = [a_draft(number) for number in (1, 2, 3, 2, 4)]
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"".join(line.data + b"\n" for line in sealed(drafts, EMPTY)))
    found = only(check(path))
    assert (found.kind, found.seq, found.artist_id) == ("repeated_line", 4, "2")
    assert "line 2" in found.detail


def test_a_bio_written_anew_is_no_repetition(tmp_path: Path) -> None:
    drafts = [
        draft(artist(1, generation=generation), bio(), ledger=LEDGER, run=RUN)
        for generation in (1, 2, 11)
    ]
    drafts.append(draft(artist(1, id="11"), bio(), ledger=LEDGER, run=RUN))
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"".join(line.data + b"\n" for line in sealed(drafts, EMPTY)))
    assert check(path).ok


def test_keys_that_went_to_the_temporary_file_are_found() -> None:
    keys = Repeats(spill_at=64)
    try:
        for number in range(1000):
            first = number % 256
            keys.add({first: bytes([first]) + number.to_bytes(7, "big")})
        assert keys.candidates(10) == set()
        twice = bytes([3]) + (3).to_bytes(7, "big")
        keys.add({3: twice})
        assert keys.candidates(10) == {twice}
    finally:
        keys.close()


def test_everything_is_counted_and_the_first_are_kept(path: Path) -> None:
    change(path, lambda lines: lines[::2])
    report = check(path, examples=2)
    assert report.counts == {"missing_line": 4}
    assert [each.seq for each in report.examples] == [2, 4]
    assert len(check(path, examples=None).examples) == 4


# ---- segments ---------------------------------------------------------------------------------


def test_a_segment_that_is_gone(tmp_path: Path) -> None:
    path, head, _ = in_segments(tmp_path, lines=9, begins=(4, 7))
    segment_path(path, 1).unlink()
    # Nothing supersedes any more what stood at the end of the file before.
    assert told(check(path, expect=head)) == [("torn_tail", 5, 1), ("missing_line", 5, 1)]


def test_a_segment_whose_first_line_is_damaged(tmp_path: Path) -> None:
    path, head, _ = in_segments(tmp_path, lines=9, begins=(4, 7))
    segment = segment_path(path, 1)
    change(segment, lambda lines: [lines[0].replace(b"Bio", b"bio"), *lines[1:]])
    found = only(check(path, expect=head))
    assert (found.kind, found.seq, found.file, found.offset) == ("damaged_line", 4, segment, 0)


def test_files_of_such_a_name_that_are_none_of_its_own_are_passed_over(tmp_path: Path) -> None:
    path, _ = written(tmp_path, ["One."])
    other = Head(OTHER, 0, first_prev(OTHER))
    (line,) = sealed([a_draft(1, ledger=other.ledger)], other)
    segment_path(path, 1).write_bytes(line.data + b"\n")
    segment_path(path, 2).write_bytes(b'{"artist_id":"1","response_text":"of the earlier form"}\n')
    segment_path(path, 3).touch()
    report = check(path)
    assert report.ok
    assert report.files == (path,)


# ---- heads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [1, 6, 10])
def test_an_expected_line_that_is_there(path: Path, line: int) -> None:
    digest = lines_of(path)[line - 1][-66:-2].decode()
    assert check(path, expect=f"{line}:{digest}").ok
    assert check(path, expect=digest).ok


def test_an_expected_line_behind_the_end(path: Path) -> None:
    digest = lines_of(path)[9][-66:-2].decode()
    change(path, lambda lines: lines[:7])
    found = only(check(path, expect=f"10:{digest}"))
    assert (found.kind, found.seq, found.offset) == ("head_ahead", 10, path.stat().st_size)
    assert only(check(path, expect=digest)).kind == "head_ahead"


def test_an_expected_line_that_is_another(path: Path) -> None:
    found = only(check(path, expect=f"4:{'0' * 64}"))
    assert (found.kind, found.seq) == ("chain_break", 4)


@pytest.mark.parametrize(
    "expect",
    ["", "4", "4:", "x:" + "0" * 64, "0" * 63, "4:" + "G" * 64, "1" * 5000 + ":" + "0" * 64],
)
def test_an_expectation_that_is_no_head(path: Path, expect: str) -> None:
    with pytest.raises(UsageError, match="NUMBER:HASH"):
        check(path, expect=expect)


def test_the_head_beside_the_ledger_is_one_to_reach(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with make_ledger(path, 3) as ledger:
        ledger.save_head()
    assert check(path).ok
    change(path, lambda lines: lines[:2])
    found = only(check(path))
    assert (found.kind, found.seq) == ("head_ahead", 3)
    assert "out.jsonl.head" in found.detail
    path.unlink()
    assert only(check(path)).kind == "head_ahead"


# ---- what cannot be checked -------------------------------------------------------------------


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: there is no ledger"):
        check(tmp_path / "none.jsonl")


def test_no_ledger_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: there is no ledger"):
        check(tmp_path / "nowhere" / "none.jsonl")


@pytest.mark.parametrize("noted", [b"", b"\0\0", b"[]", b"{}", b'{"seq":"5"}'])
def test_a_head_beside_the_ledger_that_cannot_be_read_is_told(path: Path, noted: bytes) -> None:
    beside(path, "head").write_bytes(noted)
    report = check(path)
    assert report.ok
    assert report.notes == (f"{path.name}.head cannot be read, and so tells of no line",)


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check(tmp_path)


def test_an_empty_ledger_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 0).close()
    report = check(path)
    assert (report.ok, report.last_seq, report.lines) == (True, 0, 0)


# ---- while a run is at work -------------------------------------------------------------------


@pytest.fixture
def half_written(tmp_path: Path) -> Iterator[tuple[Path, int, bytes]]:
    """A ledger of three lines and half of the fourth, held by its writer: its path, the writer's
    descriptor, and the other half."""
    path = tmp_path / "out.jsonl"
    with make_ledger(path, 3) as ledger:
        (line,) = next_lines(ledger, 1)
    data = line.data + b"\n"
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, data[:500])
    yield path, fd, data[500:]
    os.close(fd)


def test_a_line_that_is_being_written_is_waited_for(
    half_written: tuple[Path, int, bytes],
) -> None:
    path, fd, rest = half_written
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            os.write(fd, rest)
            fcntl.flock(fd, fcntl.LOCK_UN)

    with Check(path, sleep=sleep) as checking:
        for _ in checking.lines():
            pass
        report = checking.report()
    assert (report.ok, report.last_seq, len(waits)) == (True, 4, 2)


def test_a_writer_that_does_not_let_go_is_told_and_not_taken_for_damage(
    half_written: tuple[Path, int, bytes],
) -> None:
    path, _, _ = half_written
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with Check(path, clock=lambda: now[0], sleep=sleep) as checking:
        for _ in checking.lines():
            pass
        assert not checking.judged
        report = checking.report()
    assert (report.ok, report.last_seq) == (True, 3)
    assert report.notes == ("a run is at work on it; what stands behind line 3 was not judged",)


def test_a_writer_that_died_leaves_a_torn_tail(half_written: tuple[Path, int, bytes]) -> None:
    path, fd, _ = half_written
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert told(check(path)) == [("torn_tail", 4, 1)]


def test_writers_are_not_held_up_when_the_check_is_over(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])
    beside(path, "lock").touch()
    assert not check(path).ok
    for held in (path, beside(path, "lock")):
        with held.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
