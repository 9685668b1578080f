"""`artist-bio-gen ledger`: a ledger looked at from either end, counted, and exported."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from artist_bio_gen.errors import InputError, LedgerError, UsageError
from artist_bio_gen.ledger import reading
from artist_bio_gen.ledger.earlier import as_earlier, encode
from artist_bio_gen.ledger.export import export, guarded
from artist_bio_gen.ledger.line import Draft, draft, first_prev
from artist_bio_gen.ledger.segments import segment_path
from artist_bio_gen.ledger.stats import MOST_NAMES, OTHERS, Latencies, Stats, gather
from artist_bio_gen.values import Head, Usage
from tests.builders import LEDGER, RUN, a_draft, artist, bio, lines_of, make_ledger, sealed
from tests.test_cli import call

COMMAND = [sys.executable, "-m", "artist_bio_gen"]

START = Head(LEDGER, 0, first_prev(LEDGER))


def write(path: Path, drafts: Sequence[Draft]) -> list[bytes]:
    """A ledger of these lines, in one file."""
    lines = [line.data for line in sealed(drafts, START)]
    path.write_bytes(b"".join(data + b"\n" for data in lines))
    return lines


def drafts(count: int, **changes: Any) -> list[Draft]:
    return [a_draft(number, **changes) for number in range(1, count + 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def segmented(path: Path) -> list[bytes]:
    """A ledger of 90 lines in three files. Behind the first two stands what was given up after a
    failed fsync: whole lines and a torn one that begin anew in the next file; a run of NUL."""
    lines = write(path, drafts(90))
    path.write_bytes(b"".join(each + b"\n" for each in lines[:33]) + lines[33][:100])
    segment_path(path, 1).write_bytes(
        b"".join(each + b"\n" for each in lines[30:62]) + b"\0" * 5_000 + b"\n{}\n"
    )
    segment_path(path, 2).write_bytes(b"".join(each + b"\n" for each in lines[60:]))
    return lines


def told(path: Path, *words: str) -> Result:
    return call("ledger", *words, cwd=path.parent)


# ---- reading ------------------------------------------------------------------------------------


def test_lines_come_in_order_over_all_segments(path: Path, segmented: list[bytes]) -> None:
    assert list(reading.lines(path)) == segmented


def test_every_line_is_found_by_its_number(path: Path, segmented: list[bytes]) -> None:
    assert [reading.line(path, seq) for seq in range(1, 91)] == segmented


def test_a_line_of_a_large_ledger_is_found_without_reading_it(path: Path) -> None:
    long = "word " * 2_000
    lines = write(path, [a_draft(number, text=f"{number} {long}") for number in range(1, 601)])
    assert path.stat().st_size > 5 * 1024 * 1024
    for seq in (1, 2, 299, 300, 301, 599, 600):
        assert reading.line(path, seq) == lines[seq - 1]
    # Read from the start it would be found damaged.
    data = bytearray(path.read_bytes())
    data[len(lines[0]) + 200] ^= 1
    path.write_bytes(data)
    assert reading.line(path, 500) == lines[499]
    with pytest.raises(LedgerError, match=r"line 2 is damaged \(damaged_line\)"):
        reading.line(path, 2)


@pytest.mark.parametrize("count", [1, 2, 29, 30, 31, 60, 61, 90, 1_000])
def test_the_last_lines_are_read_from_the_end(
    path: Path, segmented: list[bytes], count: int
) -> None:
    assert reading.Tail(path, count).lines == segmented[-count:]


def test_the_last_lines_may_be_longer_than_a_block(path: Path) -> None:
    lines = write(path, [a_draft(number, text="x" * 3_000_000) for number in (1, 2, 3)])
    assert reading.Tail(path, 2).lines == lines[1:]


@pytest.mark.parametrize("seq", [4, 7])
def test_a_number_that_is_not_there_is_told(path: Path, seq: int) -> None:
    write(path, drafts(3))
    with pytest.raises(UsageError, match=f"has no line {seq}; its last is 3"):
        reading.line(path, seq)


def test_an_empty_ledger_has_no_line(path: Path) -> None:
    make_ledger(path, 0).close()
    assert list(reading.lines(path)) == []
    assert reading.Tail(path, 5).lines == []
    assert reading.last_seq(path) == 0
    with pytest.raises(UsageError, match="has no line 1; its last is 0"):
        reading.line(path, 1)


def test_a_ledger_behind_a_link_is_the_same(path: Path, segmented: list[bytes]) -> None:
    link = path.with_name("link.jsonl")
    link.symlink_to(path)
    assert list(reading.lines(link)) == segmented


def joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def broken(path: Path, lines: list[bytes], how: str) -> None:
    """Line 3 of five is not what it was."""
    changed = {
        "damaged_line": [*lines[:2], lines[2].replace(b"Bio of", b"Bio 0f"), *lines[3:]],
        "chain_break": [*lines[:2], *lines[3:]],
        "repeated": [*lines[:2], lines[1], *lines[2:]],
        "moved": [lines[0], lines[1], lines[3], lines[2], lines[4]],
        "nul": [*lines[:2], b"\0" * len(lines[2]), *lines[3:]],
    }[how]
    path.write_bytes(b"".join(data + b"\n" for data in changed))


@pytest.mark.parametrize("how", ["damaged_line", "chain_break", "repeated", "moved", "nul"])
def test_reading_stops_at_damage_behind_what_is_sound(path: Path, how: str) -> None:
    lines = write(path, drafts(5))
    broken(path, lines, how)
    found = reading.lines(path)
    assert list(islice(found, 2)) == lines[:2]
    kinds = "damaged_line|chain_break|missing_line"
    with pytest.raises(LedgerError, match=rf"out.jsonl.*\(({kinds})\).*verify"):
        next(found)
    end = reading.Tail(path, 5)
    assert end.lines == lines[:2]
    assert re.search(r"artist-bio-gen verify .*out.jsonl", str(end.damage))


JUNK = b"junk\n"


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 30])
@pytest.mark.parametrize(
    "behind",
    [
        lambda lines: JUNK,
        lambda lines: JUNK + joined(lines[-3:]),
        lambda lines: JUNK + joined(lines[2:]),
        lambda lines: JUNK + JUNK + b"torn",
        lambda lines: b"\0" * 100 + b"\n",
    ],
)
def test_the_lines_before_damage_are_shown_and_the_right_one_is_named(
    path: Path, behind: Callable[[list[bytes]], bytes], count: int
) -> None:
    lines = write(path, drafts(10))
    path.write_bytes(joined(lines) + behind(lines))
    end = reading.Tail(path, count)
    assert end.lines == lines[-count:]
    assert "line 11 is damaged (damaged_line)" in str(end.damage)
    for words, shown in ((("tail", "-n", str(count)), lines[-count:]), (("show",), lines[-1:])):
        said = told(path, *words, str(path), "--raw")
        assert said.exit_code == 5
        assert said.stdout_bytes == joined(shown)
        assert "line 11 is damaged" in said.stderr


def test_damage_in_an_earlier_segment_is_found_when_it_is_met(
    path: Path, segmented: list[bytes]
) -> None:
    first = path.read_bytes().split(b"\n")
    first[20] = b"junk"
    path.write_bytes(b"\n".join(first))
    end = reading.Tail(path, 20)
    assert (end.lines, end.damage) == (segmented[-20:], None)
    end = reading.Tail(path, 80)
    assert end.lines == segmented[:20]
    assert "line 21 is damaged" in str(end.damage)


def test_lines_that_are_taken_out_are_missing_and_no_wrong_usage(path: Path) -> None:
    lines = write(path, drafts(10))
    path.write_bytes(joined(lines[:4] + lines[6:]))
    for seq in (5, 6):
        said = told(path, "show", str(path), str(seq))
        assert said.exit_code == 5
        assert f"line {seq} is not there (missing_line)" in said.output
    assert reading.line(path, 7) == lines[6]
    with pytest.raises(LedgerError, match=r"lines 5 to 6 are not there \(missing_line\)"):
        list(reading.lines(path))
    said = told(path, "show", str(path), "11")
    assert (said.exit_code, "its last is 10" in said.output) == (2, True)


@pytest.mark.parametrize("form", ["csv", "jsonl", "earlier"])
@pytest.mark.parametrize("count", [1, 3_000])
def test_an_export_that_finds_no_room_says_so(path: Path, form: str, count: int) -> None:
    write(path, drafts(count))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "ledger", "export", str(path), "--format", form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 6
    assert done.stderr == "error: the standard output takes no more: No space left on device\n"


def test_the_figures_of_an_empty_file_name_no_ledger(path: Path) -> None:
    path.touch()
    said = told(path, "stats", str(path))
    assert re.search("^ledger     not known$", said.output, re.MULTILINE)
    assert list(path.parent.iterdir()) == [path]


def test_a_torn_tail_is_told_behind_the_last_line(path: Path) -> None:
    lines = write(path, drafts(3))
    path.write_bytes(path.read_bytes() + b'{"artist_id":')
    found = reading.lines(path)
    assert list(islice(found, 3)) == lines
    with pytest.raises(LedgerError, match=r"torn line behind line 3 \(torn_tail\)"):
        next(found)
    end = reading.Tail(path, 2)
    assert (end.lines, end.torn) == (lines[1:], True)


def test_a_segment_that_ends_too_early_is_told(path: Path, segmented: list[bytes]) -> None:
    segment_path(path, 1).write_bytes(b"".join(each + b"\n" for each in segmented[30:50]))
    with pytest.raises(
        LedgerError, match=r"out.0001.jsonl: ends with line 50.*begins with line 61"
    ):
        list(reading.lines(path))


def test_what_is_no_ledger_is_told(path: Path) -> None:
    with pytest.raises(UsageError, match="there is no ledger"):
        list(reading.lines(path))
    path.write_bytes(encode({"artist_id": "a1", "response_text": "old"}))
    with pytest.raises(LedgerError, match="artist-bio-gen adopt"):
        list(reading.lines(path))


def test_a_file_that_cannot_be_read_is_told() -> None:
    unreadable = Path("/proc/self/mem")  # opens, and gives EIO when it is read
    with pytest.raises(InputError, match="mem: cannot be read: Input/output error"):
        list(reading.lines(unreadable))
    with (
        pytest.raises(InputError, match="mem: cannot be read"),
        reading._opened(unreadable) as file,
    ):
        file.read(1)


def test_more_gives_what_came_since_also_in_a_new_segment(path: Path) -> None:
    lines = write(path, drafts(3))
    every = [each.data for each in sealed(drafts(9), START)]
    assert every[:3] == lines
    end = reading.Tail(path, 1)
    assert list(end.more()) == []
    with path.open("ab") as file:
        file.write(every[3] + b"\n" + every[4][:50])
        file.flush()
        assert list(end.more()) == every[3:4]
        file.write(every[4][50:] + b"\n")
        file.flush()
        assert list(end.more()) == every[4:5]
        file.write(every[5][:10])
    # Line 5 was given up after a failed fsync, and is in the next file once more.
    segment_path(path, 1).write_bytes(b"".join(each + b"\n" for each in every[4:8]))
    assert list(end.more()) == every[5:8]
    with segment_path(path, 1).open("ab") as file:
        file.write(every[8] + b"\n")
    assert list(end.more()) == every[8:]
    assert end.seq == 9


def test_more_notices_a_line_that_does_not_follow(path: Path) -> None:
    write(path, drafts(2))
    end = reading.Tail(path, 0)
    other = [each.data for each in sealed(drafts(3, text="another"), START)]
    with path.open("ab") as file:
        file.write(other[2] + b"\n")
    with pytest.raises(LedgerError, match=r"line 3 does not follow line 2 \(chain_break\)"):
        list(end.more())


def test_more_notices_a_file_that_was_cut(path: Path) -> None:
    write(path, drafts(3))
    end = reading.Tail(path, 1)
    os.truncate(path, 100)
    with pytest.raises(LedgerError, match="has become shorter"):
        list(end.more())


# ---- show ---------------------------------------------------------------------------------------


def test_a_line_is_shown_for_a_person(path: Path) -> None:
    write(path, drafts(3))
    said = told(path, "show", str(path), "2").output
    assert "line       2, generation 1" in said
    assert "artist     2 Artist 2" in said
    assert "prompt     default, version 1" in said
    assert "tokens     10 in, 20 out" in said
    assert "    Bio of artist 2." in said


def test_without_a_number_the_last_line_is_shown(path: Path) -> None:
    write(path, drafts(3))
    assert "line       3, generation 1" in told(path, "show", str(path)).output


def test_raw_is_the_exact_line_and_json_has_line_breaks(path: Path) -> None:
    lines = write(path, drafts(3))
    assert told(path, "show", str(path), "2", "--raw").stdout_bytes == lines[1] + b"\n"
    shown = told(path, "show", str(path), "2", "--json").output
    assert json.loads(shown) == json.loads(lines[1])
    assert shown.startswith('{\n  "artist_id": "2"')


def anew(number: int, generation: int, **changes: Any) -> Draft:
    written = bio(f"Bio {generation} of artist {number}.", **changes)
    whose = artist(number, generation=generation)
    return draft(whose, written, ledger=LEDGER, run=RUN)


def test_all_bios_of_an_artist_are_shown(path: Path) -> None:
    lines = write(path, [anew(1, 1), anew(11, 1), anew(1, 2), anew(2, 1)])
    said = told(path, "show", str(path), "--artist", "1", "--raw")
    assert said.stdout_bytes == lines[0] + b"\n" + lines[2] + b"\n"
    said = told(path, "show", str(path), "--artist", "3")
    assert (said.exit_code, "has no line of artist 3" in said.output) == (2, True)
    said = told(path, "show", str(path), "--artist", "\udcff")
    assert (said.exit_code, "must be UTF-8" in said.output) == (2, True)


@pytest.mark.parametrize(
    "words", [("1", "--artist", "1"), ("1", "--raw", "--json"), ("0",), ("x",)]
)
def test_what_cannot_be_meant_is_refused(path: Path, words: tuple[str, ...]) -> None:
    write(path, drafts(3))
    assert told(path, "show", str(path), *words).exit_code == 2


def test_texts_do_not_steer_the_terminal(path: Path) -> None:
    bell = artist(1, name="Evil\x1b[2J\x9b\nName", data={"x": "\x1b]0;"})
    write(path, [draft(bell, bio("Text\x1b[2J\x07."), ledger=LEDGER, run=RUN)])
    for words in (("show",), ("show", "--json"), ("tail",), ("tail", "--json"), ("stats",)):
        said = told(path, words[0], str(path), *words[1:]).output
        assert not {"\x1b", "\x07", "\x9b"} & set(said)
    assert "Evil\\x1b[2J" in told(path, "show", str(path)).output


def test_raw_on_a_terminal_does_not_steer_it_either(path: Path) -> None:
    write(path, [draft(artist(name="Evil\x9b\x7f"), bio(), ledger=LEDGER, run=RUN)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "ledger", "show", str(path), "--raw"], stdout=theirs, cwd=path.parent
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:
        pass  # Linux tells the end of a terminal so
    os.close(ours)
    assert process.wait() == 0
    assert b"Evil\\x9b\\x7f" in seen


# ---- tail ---------------------------------------------------------------------------------------


def test_the_tail_is_one_line_of_the_screen_each(path: Path, segmented: list[bytes]) -> None:
    said = told(path, "tail", str(path), "-n", "3").output.splitlines()
    assert [line.split()[0] for line in said] == ["88", "89", "90"]
    assert said[0].endswith("88  Artist 88: Bio of artist 88.")
    assert told(path, "tail", str(path), "-n", "2", "--raw").stdout_bytes == b"".join(
        data + b"\n" for data in segmented[-2:]
    )


def test_a_torn_tail_shows_what_is_sound_and_says_so(path: Path) -> None:
    write(path, drafts(3))
    path.write_bytes(path.read_bytes() + b"{")
    said = told(path, "tail", str(path))
    assert said.exit_code == 5
    assert "Artist 3" in said.stdout
    assert "torn_tail" in said.stderr


def test_follow_shows_what_comes_until_it_is_interrupted(path: Path) -> None:
    every = [each.data for each in sealed(drafts(5), START)]
    write(path, drafts(2))
    process = subprocess.Popen(
        [*COMMAND, "ledger", "tail", str(path), "-n", "1", "--follow", "--raw"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=path.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == every[1] + b"\n"
    with path.open("ab") as file:
        file.write(every[2] + b"\n" + every[3] + b"\n")
    assert process.stdout.readline() == every[2] + b"\n"
    assert process.stdout.readline() == every[3] + b"\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"error: interrupted\n")


# ---- stats --------------------------------------------------------------------------------------


def test_what_a_ledger_came_to(path: Path) -> None:
    other = "00000000-0000-4000-8000-000000000002"
    write(
        path,
        [
            anew(1, 1),
            anew(2, 1, usage=None, cleaned=True),
            draft(
                artist(1, generation=2),
                replace(
                    bio(usage=Usage(5, 2, 7, 3, 12), attempts=3),
                    request={"prompt_id": "p", "variables": {}},
                    latency_ms=float("nan"),
                ),
                ledger=LEDGER,
                run=other,
            ),
        ],
    )
    found = gather(path).as_json()
    assert (found["ledger"], found["lines"], found["artists"], found["cleaned"]) == (
        LEDGER,
        3,
        2,
        1,
    )
    assert (found["segments"], found["bytes"]) == (1, path.stat().st_size)
    assert found["generations"] == {"1": 2, "2": 1}
    assert found["runs"] == {RUN: 2, other: 1}
    assert found["tokens"] == {
        "input_tokens": 15,
        "cached_tokens": 2,
        "output_tokens": 27,
        "reasoning_tokens": 3,
        "total_tokens": 42,
    }
    assert (found["without_usage"], found["without_latency"], found["attempts"]) == (1, 1, 5)
    assert found["models"] == {"a-model": 2, "(not known)": 1}
    assert found["prompts"] == {"default, version 1": 2, "p": 1}
    assert found["latency_ms"]["p50"] == pytest.approx(12.5, rel=0.011)
    assert found["hash"] == json.loads(lines_of(path)[-1])["hash"]


def test_stats_are_told_as_text_and_as_json(path: Path, segmented: list[bytes]) -> None:
    text = told(path, "stats", str(path)).output
    assert "lines      90 in 3 files" in text
    assert "head       line 90, " in text
    assert json.loads(told(path, "stats", str(path), "--json").output)["lines"] == 90


def test_an_empty_ledger_has_figures_too(path: Path) -> None:
    make_ledger(path, 0).close()
    said = told(path, "stats", str(path))
    assert said.exit_code == 0
    assert "lines      0 in one file, 0 bytes" in said.output


def test_percentiles_are_right_to_one_per_cent_in_a_handful_of_numbers() -> None:
    latencies = Latencies()
    for ms in range(1, 100_001):
        latencies.add(ms)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert latencies.percentile(share) == pytest.approx(share * 100_000, rel=0.011)
    assert len(latencies._counts) < 700
    assert Latencies().percentile(0.5) is None
    latencies = Latencies()
    latencies.add(0.0)
    assert latencies.percentile(0.99) == 0.0


def test_names_without_end_take_no_memory_without_end() -> None:
    (data,) = [each.data for each in sealed(drafts(1), START)]
    line = json.loads(data)
    stats = Stats(LEDGER, 1, 0)
    for number in range(MOST_NAMES + 50):
        line["request"]["model"] = f"model-{number}"
        stats.add(line)
    assert len(stats.models) == MOST_NAMES + 1
    assert stats.models[OTHERS] == 50


# ---- export -------------------------------------------------------------------------------------


def test_the_earlier_format_is_that_of_every_line_in_order(
    path: Path, segmented: list[bytes]
) -> None:
    said = told(path, "export", str(path), "--format", "earlier").stdout_bytes
    assert said == b"".join(encode(as_earlier(json.loads(data))) for data in segmented)
    assert said.startswith(b'{"artist_id": "1", "artist_name": "Artist 1", "artist_data": {"born"')


def test_jsonl_is_one_file_whose_chain_can_be_checked(
    path: Path, segmented: list[bytes], tmp_path: Path
) -> None:
    target = tmp_path / "whole.jsonl"
    assert told(path, "export", str(path), "--format", "jsonl", "--to", str(target)).exit_code == 0
    assert lines_of(target) == segmented
    assert list(reading.lines(target)) == segmented
    assert target.stat().st_mode & 0o777 == 0o600


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_csv_has_a_row_for_each_line_and_no_formula(path: Path) -> None:
    evil = artist(1, id="=1+1", name="@SUM(A1)", data={"x": "=2"})
    write(
        path,
        [
            draft(evil, bio('-2,"+3"\nnext'), ledger=LEDGER, run=RUN),
            draft(artist(2, data={}), replace(bio("+x"), created=-5), ledger=LEDGER, run=RUN),
        ],
    )
    one, two = rows(told(path, "export", str(path), "--format", "csv").stdout_bytes)
    assert (one["artist_id"], one["artist_name"]) == ("'=1+1", "'@SUM(A1)")
    assert one["response_text"] == '\'-2,"+3"\nnext'
    assert (one["artist_data"], two["artist_data"]) == ('{"x":"=2"}', "")
    assert (two["response_text"], two["created"]) == ("'+x", "-5"), "a number is no formula"
    assert (one["input_tokens"], one["model"], one["seq"]) == ("10", "a-model", "1")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_every_beginning_of_a_formula_is_guarded(begin: str) -> None:
    assert guarded(f"{begin}x") == f"'{begin}x"
    assert guarded(f"x{begin}") == f"x{begin}"


@pytest.mark.parametrize("form", ["earlier", "csv", "jsonl"])
def test_newest_leaves_out_what_was_written_anew(path: Path, form: str) -> None:
    write(path, [anew(1, 1), anew(2, 1), anew(1, 2), anew(3, 1), anew(1, 3), anew(2, 2)])
    every, newest = (b"".join(export(path, form, newest=only)) for only in (False, True))
    texts = [f"Bio {g} of artist {n}." for n, g in ((3, 1), (1, 3), (2, 2))]
    assert every.count(b"Bio ") == 6
    assert newest.count(b"Bio ") == 3
    at = [newest.index(text.encode()) for text in texts]
    assert at == sorted(at)


def test_an_export_stops_at_damage_and_leaves_no_file(path: Path, tmp_path: Path) -> None:
    lines = write(path, drafts(5))
    broken(path, lines, "damaged_line")
    target = tmp_path / "whole.jsonl"
    said = told(path, "export", str(path), "--format", "jsonl", "--to", str(target))
    assert said.exit_code == 5
    assert "artist-bio-gen verify" in said.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.jsonl"]
    said = told(path, "export", str(path), "--format", "jsonl")
    assert (said.exit_code, said.stdout_bytes) == (5, lines[0] + b"\n" + lines[1] + b"\n")


def test_an_export_to_where_nothing_can_be_written_is_told(path: Path) -> None:
    write(path, drafts(2))
    said = told(path, "export", str(path), "--format", "csv", "--to", "/proc/out.csv")
    assert (said.exit_code, "/proc/out.csv: cannot be written" in said.output) == (6, True)


def test_an_export_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    write(path, drafts(2))
    for target in (path, tmp_path / "none" / "x.csv"):
        before = path.read_bytes()
        said = told(path, "export", str(path), "--format", "csv", "--to", str(target))
        assert said.exit_code == 2
        assert path.read_bytes() == before


def test_an_export_is_no_file_of_the_ledger(path: Path) -> None:
    """It would be taken for the ledger's second file."""
    write(path, drafts(2))
    target = segment_path(path, 1)
    said = told(path, "export", str(path), "--format", "csv", "--to", str(target))
    assert (said.exit_code, "belongs to the ledger" in said.output) == (2, True)
    assert not target.exists()


# ---- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("export", "--format", "jsonl"), ("tail", "-n", "3000"), ("show", "--artist", "1", "--raw")],
)
def test_nobody_reading_on_is_no_error(path: Path, words: tuple[str, ...]) -> None:
    write(path, [anew(1, generation) for generation in range(1, 3001)])
    process = subprocess.Popen(
        [*COMMAND, "ledger", words[0], str(path), *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=path.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_nothing_is_written_and_no_lock_is_waited_for(path: Path) -> None:
    ledger = make_ledger(path, 3)
    with ledger.locked():
        before = {each.name: each.stat() for each in path.parent.iterdir()}
        for words in (("show",), ("tail",), ("stats",), ("export", "--format", "csv")):
            assert told(path, words[0], str(path), *words[1:]).exit_code == 0
        after = {each.name: each.stat() for each in path.parent.iterdir()}
    assert {name: stat.st_mtime_ns for name, stat in before.items()} == {
        name: stat.st_mtime_ns for name, stat in after.items()
    }
    ledger.close()


@pytest.mark.parametrize("words", [("show",), ("tail",), ("stats",), ("export", "--format", "csv")])
def test_a_missing_ledger_is_told(path: Path, words: tuple[str, ...]) -> None:
    said = told(path, words[0], str(path), *words[1:])
    assert (said.exit_code, "there is no ledger" in said.output) == (2, True)
