"""The look through an input before the first call: what is counted, told and passed over."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.pending import CHUNK, Left, Verdict
from artist_bio_gen.pending.plan import TELL_EVERY_S, Plan, behind, plan
from artist_bio_gen.values import NO_ROW, Artist, Failed, Rejected, Skipped
from tests.builders import artist


def done(number: int, *, by_input: bool = False, by_prompt: bool = False) -> Skipped:
    return Skipped(artist(number), "done", by_input, by_prompt)


def without_row(number: int) -> Failed:
    return Failed(artist(number), NO_ROW, "no row", attempts=0, transient=True)


class Look:
    """A look through verdicts, and what was told of it."""

    def __init__(self, *, stop_after: int | None = None, seconds_a_look: float = 0.0) -> None:
        self.under_way: set[str] = set()
        self.skipped: list[Skipped] = []
        self.told: list[str] = []
        self._stop_after = stop_after
        self._asked = count(1)
        self._now = count(0.0, seconds_a_look)

    def __call__(self, *verdicts: Verdict) -> Plan:
        return self.through(iter(verdicts))

    def through(self, verdicts: Iterator[Verdict]) -> Plan:
        return plan(
            self._noted(verdicts),
            self.under_way,
            skipped=self.skipped.append,
            tell=self.told.append,
            stopped=lambda: self._stop_after is not None and next(self._asked) > self._stop_after,
            clock=lambda: next(self._now),
        )

    def _noted(self, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
        for verdict in verdicts:
            if isinstance(verdict, Left | Failed):
                self.under_way.add(verdict.artist.id)
            yield verdict


def test_rows_are_counted_by_what_is_to_be_done_with_them() -> None:
    look = Look()
    found = look(
        Skipped(artist(1), "elsewhere"),
        Skipped(artist(2), "has_bio"),
        done(3),
        done(4, by_input=True),
        done(5, by_prompt=True),
        done(6, by_input=True, by_prompt=True),
        Left(artist(7), "new"),
        Left(artist(8), "new"),
        Left(artist(9), "transient"),
        Left(artist(10), "failed"),
        Left(artist(11, generation=2), "changed"),
        Left(artist(12, generation=2), "again"),
        Skipped(artist(13), "failed"),
        Skipped(artist(14), "left"),
        Skipped(artist(15), "no_row"),
        without_row(16),
        Skipped(artist(7), "repeated"),
        Rejected(18, "no id"),
    )
    assert found.whole
    assert found.front.rows == 6
    assert found.counts() == {
        "rows": 18,
        "finished": 6,
        "left": {"new": 2, "transient": 1, "failed": 1, "changed": 1, "again": 1},
        "changed": 3,
        "changed_input": 2,
        "changed_prompt": 2,
        "failed": 1,
        "no_row": 2,
        "repeated": 1,
        "rejected": 1,
        "set_aside": 1,
    }
    assert look.under_way == set()


def test_a_person_is_told_in_whole_sentences() -> None:
    look = Look()
    found = look(
        done(1, by_input=True),
        done(2, by_prompt=True),
        Left(artist(3), "new"),
        Left(artist(4), "transient"),
        Skipped(artist(5), "failed"),
        Skipped(artist(6), "left"),
        without_row(7),
        Skipped(artist(3), "repeated"),
        Rejected(9, "no id"),
    )
    assert list(found.report()) == [
        (
            "input: 9 rows looked up: 2 finished, 2 left to do (1 new, 1 that failed in a way that"
            " may pass), 1 failed for good (--retry-failed takes them), 1 not in the table,"
            " 1 repeated, 1 rejected"
        ),
        (
            "input: 2 finished artists have changed since (1 by their input, 1 by prompt or model);"
            " --refresh changed writes just those anew"
        ),
        "input: 1 artists are left for a plain --resume",
    ]


def test_nothing_left_is_told_in_one_sentence() -> None:
    assert list(Look()(done(1), done(2)).report()) == [
        "input: 2 rows looked up: 2 finished, 0 left to do"
    ]


@pytest.mark.parametrize("first", [Left(artist(4), "new"), without_row(4)])
def test_those_before_the_first_that_is_left_are_final(first: Left | Failed) -> None:
    look = Look()
    front = [done(1), Skipped(artist(2), "failed"), Skipped(artist(3), "left")]
    found = look(*front[:1], Rejected(9, "no id"), *front[1:], first, done(5))
    assert found.front.rows == 4
    assert look.skipped == front


def test_with_nothing_left_all_are_the_front() -> None:
    look = Look()
    assert look(done(1), Rejected(2, "no id"), done(3)).front.rows == 3
    assert look.skipped == [done(1), done(3)]


def test_the_first_signal_ends_the_look() -> None:
    look = Look(stop_after=2)
    found = look.through(done(number) for number in count())
    assert (found.whole, found.rows, found.front.rows) == (False, 2, 2)
    assert look.skipped == [done(0), done(1)]


def test_an_input_that_breaks_off_is_left_to_the_work_to_tell() -> None:
    def verdicts() -> Iterator[Verdict]:
        yield done(1)
        raise InputError("artists.csv: the disk is gone")

    found = Look().through(verdicts())
    assert (found.whole, found.front.rows) == (False, 1)


def test_a_long_look_is_told_now_and_then() -> None:
    look = Look(seconds_a_look=TELL_EVERY_S / 2)
    look(*(done(number) for number in range(4 * CHUNK)))
    assert look.told == [
        f"input: {2 * CHUNK:,} rows looked up",
        f"input: {4 * CHUNK:,} rows looked up",
    ]
    look = Look()
    look(*(done(number) for number in range(4 * CHUNK)))
    assert look.told == []


def test_behind_the_front_all_rows_come_and_of_the_front_the_rejected_alone() -> None:
    rows: list[Artist | Rejected] = [
        artist(1),
        Rejected(2, "no id"),
        artist(3),
        artist(4),
        Rejected(5, "no id"),
    ]
    assert list(behind(3, rows, stopped=lambda: False)) == [rows[1], *rows[3:]]
    assert list(behind(0, rows, stopped=lambda: False)) == rows


def test_passing_over_the_front_can_be_called_off() -> None:
    rows = (artist(number) for number in count())
    with pytest.raises(StoppedError):
        next(behind(10**9, rows, stopped=lambda: next(rows).row > 1_000))
