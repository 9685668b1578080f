"""Which artists a run takes that goes on with just some: those that have changed, or failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from artist_bio_gen.ledger.line import draft
from artist_bio_gen.pending import Left, Rules, Verdict, Why, judged, writing_anew
from artist_bio_gen.values import Artist, Failed, Skipped
from tests.builders import PROMPT_SHA256, RUN, artist, bio, failed
from tests.integration.test_resume import THIS_RUN, Begin, Start, begin, path

__all__ = ["begin", "path"]  # fixtures

BORN_LATER = {"born": "1934"}
OTHER_PROMPT = "6" * 64


@pytest.fixture
def start(begin: Begin) -> Start:
    begun = begin()
    begun.reconcile()
    return begun


def judge(start: Start, *rows: Artist, **rules: object) -> list[Verdict]:
    settings = replace(Rules(THIS_RUN, PROMPT_SHA256), **rules)  # type: ignore[arg-type]
    return list(judged(rows, start.known, settings, table="artists", under_way=set()))


def fail(start: Start, *failures: Failed) -> None:
    start.store.record(failures, ledger=start.ledger.id, run=RUN)


def later(number: int) -> Artist:
    """An artist of whom something else is known than when its bio was written."""
    return artist(number, data=BORN_LATER)


@pytest.fixture
def all_kinds(start: Start) -> list[Artist]:
    """1 finished, 2 finished and changed, 3 new, 4 and 5 failed in passing and for good; 6 and 7
    finished, changed, and failed in passing and for good when they were to be written anew."""
    start.commit(1, 2, 6, 7)
    fail(start, failed(4, transient=True), failed(5))
    fail(start, failed(6, transient=True), failed(7))
    return [artist(1), later(2), artist(3), artist(4), artist(5), later(6), later(7)]


def second(number: int, why: Why) -> Left:
    return Left(replace(later(number), generation=2), why)


def aside(*artists: Artist) -> list[Skipped]:
    return [Skipped(each, "left") for each in artists]


def test_a_plain_resume_takes_what_is_new_and_what_may_pass(
    start: Start, all_kinds: list[Artist]
) -> None:
    one, two, three, four, five, six, seven = all_kinds
    assert judge(start, *all_kinds) == [
        Skipped(one, "done"),
        Skipped(two, "done", changed_input=True),
        Left(three, "new"),
        Left(four, "transient"),
        Skipped(five, "failed"),
        Skipped(six, "done", changed_input=True),
        Skipped(seven, "done", changed_input=True),
    ]


def test_a_refresh_takes_just_the_changed(start: Start, all_kinds: list[Artist]) -> None:
    one, _, three, four, five, _, seven = all_kinds
    assert judge(start, *all_kinds, refresh=True) == [
        Skipped(one, "done"),
        second(2, "changed"),
        *aside(three, four),
        Skipped(five, "failed"),
        second(6, "changed"),
        Skipped(seven, "failed"),
    ]


def test_retrying_takes_just_what_had_failed(start: Start, all_kinds: list[Artist]) -> None:
    one, two, three, four, five, *_ = all_kinds
    assert judge(start, *all_kinds, retry_failed=True) == [
        Skipped(one, "done"),
        Skipped(two, "done", changed_input=True),
        *aside(three),
        Left(four, "transient"),
        Left(five, "failed"),
        second(6, "transient"),
        second(7, "failed"),
    ]


def test_both_together_do_both_kinds(start: Start, all_kinds: list[Artist]) -> None:
    one, _, three, four, five, *_ = all_kinds
    assert judge(start, *all_kinds, refresh=True, retry_failed=True) == [
        Skipped(one, "done"),
        second(2, "changed"),
        *aside(three),
        Left(four, "transient"),
        Left(five, "failed"),
        second(6, "transient"),
        second(7, "failed"),
    ]


def test_another_prompt_is_a_change_of_every_bio(start: Start) -> None:
    start.commit(1, 2)
    rows = [artist(1), artist(2)]
    verdicts = judge(start, *rows, refresh=True, prompt_sha256=OTHER_PROMPT)
    assert verdicts == [Left(replace(row, generation=2), "changed") for row in rows]


def test_what_was_written_anew_has_not_changed_any_more(start: Start) -> None:
    start.commit(1)
    (verdict,) = judge(start, later(1), refresh=True)
    assert isinstance(verdict, Left)
    anew = draft(verdict.artist, bio("Anew."), ledger=start.ledger.id, run=RUN)
    start.committer.commit([anew])
    assert judge(start, later(1), refresh=True) == [Skipped(later(1), "done")]
    # And back again is one more change.
    assert judge(start, artist(1), refresh=True) == [
        Left(replace(artist(1), generation=3), "changed")
    ]


@pytest.mark.parametrize("rules", [{"refresh": True}, {"retry_failed": True}])
def test_what_this_run_has_tried_is_not_tried_again_in_it(
    start: Start, rules: dict[str, bool]
) -> None:
    start.commit(1)
    tried = replace(failed(1), artist=later(1))
    start.store.record([tried], ledger=start.ledger.id, run=THIS_RUN)
    assert judge(start, later(1), **rules) == [Skipped(later(1), "repeated")]


def test_a_failure_is_over_when_its_artist_has_a_bio(
    start: Start, admin: psycopg.Connection
) -> None:
    fail(start, failed(1), failed(2, transient=True), failed(3))
    start.commit(1, 2)
    noted = admin.execute("select artist_id from artist_bio_gen.failures").fetchall()
    assert noted == [("3",)]
    rows = [later(1), artist(2)]
    assert judge(start, *rows, retry_failed=True) == [
        Skipped(rows[0], "done", changed_input=True),
        Skipped(rows[1], "done"),
    ]


def test_a_failure_noted_for_another_ledger_stays(start: Start, admin: psycopg.Connection) -> None:
    other = "99999999-9999-4999-8999-999999999999"
    start.store.record([failed(1)], ledger=other, run=RUN)
    start.commit(1)
    noted = admin.execute("select ledger::text from artist_bio_gen.failures").fetchall()
    assert noted == [(other,)]


def test_artists_that_are_not_in_the_table(start: Start, admin: psycopg.Connection) -> None:
    start.commit(1)
    admin.execute("delete from artists")
    rows = [later(1), artist(2)]
    assert judge(start, *rows, refresh=True, on_missing="skip") == [
        Skipped(rows[0], "no_row"),
        Skipped(rows[1], "no_row"),
    ]
    gone, new = judge(start, *rows, refresh=True, on_missing="fail")
    assert isinstance(gone, Failed)
    assert new == Skipped(rows[1], "left")


def test_an_unfinished_again_is_left_but_for_what_failed_in_it(start: Start) -> None:
    start.commit(1, 2, 3)
    said: list[str] = []
    ask = partial(writing_anew, start.store, start.ledger, "a.csv", say=said.append)
    assert ask(again=True) == 3
    start.commit(1, generation=2)
    fail(start, failed(2))
    after = ask(again=False, just_some=True)
    assert after == 3
    assert said == ["an unfinished --again over a.csv is left for a plain --resume"]
    rows: Iterator[Artist] = map(artist, (1, 2, 3))
    assert judge(start, *rows, retry_failed=True, anew_after=after) == [
        Skipped(artist(1), "done"),
        Left(artist(2, generation=2), "failed"),
        Skipped(artist(3), "left"),
    ]
