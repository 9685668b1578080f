"""What stands before and after calls, for many at a time: in which order, and what is kept."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import (
    ArtistBioGenError,
    DefectError,
    LedgerFileError,
    LimitError,
    Unusable,
)
from artist_bio_gen.ledger.journal import Entry, Intent, Journal, Reply, orphans
from artist_bio_gen.processor.caller import Answer, Call, Caller, RetryPolicy, Settled
from artist_bio_gen.processor.clerk import AT_ONCE, Clerk
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Bio, Failed
from tests.builders import RUN, Heard, artist, bio, failed
from tests.fakes.faulty_files import Fault, FaultyFiles

IN_TIME = 30.0


class Model:
    """Its three steps, of which a test may replace the first and the last."""

    def __init__(self) -> None:
        self.prepare: Callable[[Artist], Artist] = lambda artist: artist
        self.read: Callable[[Artist], Bio] = lambda artist: bio(f"Bio of {artist.id}.")

    def ask(self, prepared: Artist, request_id: str) -> Artist:
        return prepared


def unforeseen(exc: Exception) -> ArtistBioGenError:
    return DefectError(f"unforeseen: {exc}")


class Bench:
    def __init__(self, folder: Path, *, workers: int = 2, **settings: Any) -> None:
        self.folder = folder
        self.files = FaultyFiles()
        self.journal = Journal(folder / "out.jsonl", RUN, files=self.files.calls)
        self.model = Model()
        self.control = Control()
        self.heard = Heard()
        self.got: list[tuple[Artist, Bio | Failed, int | None]] = []
        self.hand_on = lambda *what: self.got.append(what)
        telemetry = Telemetry(self.heard)
        self.caller = Caller(
            self.model,
            self.journal,
            run=RUN,
            policy=RetryPolicy(),
            control=self.control,
            telemetry=telemetry,
            **settings,
        )
        self.clerk = Clerk(
            self.caller,
            self.journal,
            workers=workers,
            control=self.control,
            telemetry=telemetry,
            hand_on=lambda *what: self.hand_on(*what),
            unforeseen=unforeseen,
        )

    def given(self) -> list[Call]:
        """The calls that the workers have got since this was asked last."""
        calls = []
        for waiting in self.clerk.calls.values():
            while not waiting.empty():
                call = waiting.get()
                assert call is not None
                calls.append(call)
        return calls

    def bring(self, *artists: Artist, turns: int = 1) -> list[Call]:
        for each in artists:
            self.clerk.bring(each)
        for _ in range(turns):
            self.clerk.work()
        return self.given()

    def writes(self) -> list[bytes]:
        return [args[1] for name, args in self.files.made if name == "write"]

    def left(self) -> list[Intent | Reply | Failed]:
        self.journal.close()
        return [
            entry for orphan in orphans(self.folder / "out.jsonl") for entry in orphan.entries()
        ]

    def texts(self) -> list[str]:
        return [outcome.text for _, outcome, _ in self.got if isinstance(outcome, Bio)]


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.journal.close()


def artists(count: int) -> list[Artist]:
    return [artist(number) for number in range(1, count + 1)]


def test_each_worker_gets_a_call_and_the_others_wait(bench: Make) -> None:
    made = bench(workers=2)
    calls = made.bring(*artists(3))
    assert [(call.artist.id, call.worker) for call in calls] == [("1", 1), ("2", 2)]
    made.clerk.bring(made.caller.make(calls[1]))
    made.clerk.work()
    assert [(call.artist.id, call.worker) for call in made.given()] == [("3", 2)]
    assert made.got == [(artist(2), bio("Bio of 2."), 2)]


def test_what_came_together_is_written_in_one_go_and_so_are_the_next_calls(bench: Make) -> None:
    made = bench(workers=3)
    for call in made.bring(*artists(6)):
        made.clerk.bring(made.caller.make(call))
    made.clerk.work()
    kinds = [[b'"intent"' in line for line in data.splitlines()] for data in made.writes()]
    assert kinds == [[True] * 3, [False] * 3, [True] * 3]
    assert made.heard.names() == ["calling"] * 6
    assert [each["worker"] for each in made.heard.fields("calling")[:3]] == [1, 2, 3]


def test_a_worker_gets_its_next_call_only_when_its_last_reply_is_in_the_journal(
    bench: Make,
) -> None:
    """Else a kill might cost more than one call a worker."""
    made = bench(workers=1)
    (call,) = made.bring(*artists(2))
    made.clerk.bring(made.caller.make(call))
    seen: list[int] = []

    def look(artist: Artist) -> Artist:
        seen.append(sum(b'"is":"reply"' in data for data in made.writes()))
        return artist

    made.model.prepare = look
    made.clerk.work()
    assert seen == [1]
    assert len(made.given()) == 1


def test_no_more_than_some_are_read_before_new_calls_are_given_out(bench: Make) -> None:
    workers = AT_ONCE + 4
    made = bench(workers=workers)
    first = made.bring(*artists(2 * workers))
    assert len(first) == AT_ONCE
    made.clerk.work()  # though nothing has come meanwhile
    calls = [*first, *made.given()]
    assert len(calls) == workers
    for call in calls:
        made.clerk.bring(made.caller.make(call))
    made.clerk.work()
    assert len(made.given()) == len(made.got) == AT_ONCE
    made.clerk.work()
    assert len(made.given()) == 4
    assert len(made.got) == workers


@pytest.mark.parametrize("paused", [True, False])
def test_what_ends_while_calls_are_made_ready_is_heeded(bench: Make, paused: bool) -> None:
    made = bench(workers=3)

    def prepare(artist: Artist) -> Artist:
        if artist.id == "2":
            if paused:
                made.control.pause()
            else:
                made.control.stop("signal")
        return artist

    made.model.prepare = prepare
    assert made.bring(*artists(3)) == []
    assert (made.heard.names(), made.writes()) == ([], [])
    if paused:
        made.model.prepare = lambda artist: artist
        made.control.resume()
        made.clerk.work()
        assert sorted(call.artist.id for call in made.given()) == ["1", "2", "3"]
    made.clerk.give_up()
    made.clerk.run()


def test_a_reply_that_nobody_waits_for_is_written_as_long_as_the_journal_is_open(
    bench: Make,
) -> None:
    made = bench(workers=3)
    late, behind, later = made.bring(*artists(3))
    made.control.stop("signal")
    made.clerk.give_up()
    made.clerk.bring(made.caller.make(behind))
    made.clerk.run()
    made.clerk.bring(made.caller.make(late))
    assert made.got == []
    left = made.left()
    assert {e.artist.id for e in left if isinstance(e, Reply)} == {late.artist.id, behind.artist.id}
    assert [e.artist_id for e in left if isinstance(e, Intent)] == [later.artist.id]
    made.clerk.bring(made.caller.make(later))  # the journal is closed by now
    assert made.control.error is None, "it would be told as a disk's"


def test_one_write_that_memory_does_not_suffice_for_is_made_in_parts(bench: Make) -> None:
    made = bench(workers=3)
    for call in made.bring(*artists(3)):
        made.clerk.bring(made.caller.make(call))
    write = made.journal.write

    def scant(*entries: Entry) -> None:
        if len(entries) > 1 or entries[0].artist_id == "2":
            raise MemoryError
        write(*entries)

    made.journal.write = scant  # type: ignore[method-assign]
    made.clerk.work()
    assert sorted(made.texts()) == ["Bio of 1.", "Bio of 2.", "Bio of 3."]
    assert made.control.reason == "error"
    kinds = sorted(type(entry).__name__ for entry in made.left())
    assert kinds == ["Intent", "Reply", "Reply"]


def test_an_artist_who_does_not_fit_the_prompt_is_a_failure_without_a_call(bench: Make) -> None:
    made = bench(workers=1)

    def refuse(artist: Artist) -> Artist:
        if artist.id == "1":
            raise Unusable("no such column", kind="prompt")
        return artist

    made.model.prepare = refuse
    (call,) = made.bring(*artists(2))
    assert call.artist.id == "2"
    told = Failed(artist(1), "prompt", "no such column", 0, transient=False)
    assert made.got == [(artist(1), told, None)]
    assert [each["artist_id"] for each in made.heard.fields("calling")] == ["2"]
    assert made.left() == [told, Intent("2", "Artist 2", 1, f"{RUN}-2-1")]


def test_without_room_for_the_next_call_none_of_them_is_begun(bench: Make) -> None:
    room = iter([True, True, False])

    def require_room() -> None:
        if not next(room):
            raise LimitError("no room")

    made = bench(workers=3, require_room=require_room)
    assert made.bring(*artists(3)) == []
    assert isinstance(made.control.error, LimitError)
    made.clerk.bring_no_more()
    made.clerk.run()  # all workers are free, so it ends
    assert made.left() == []


def test_calls_that_cannot_be_noted_are_not_made(bench: Make) -> None:
    made = bench(workers=3)
    made.files.add(Fault("write", errno.ENOSPC))
    assert made.bring(*artists(3)) == []
    assert isinstance(made.control.error, LedgerFileError)
    assert made.heard.names() == []


def test_replies_that_cannot_be_kept_are_still_handed_on_and_the_run_ends(bench: Make) -> None:
    made = bench(workers=3)
    for call in made.bring(*artists(6)):
        made.clerk.bring(made.caller.make(call))
    made.files.add(Fault("write", errno.EIO))
    made.clerk.work()
    assert isinstance(made.control.error, LedgerFileError)
    assert sorted(made.texts()) == ["Bio of 1.", "Bio of 2.", "Bio of 3."]
    assert made.given() == []


def test_an_answer_that_breaks_the_program_costs_no_other_one(bench: Make) -> None:
    made = bench(workers=3)

    def read(artist: Artist) -> Bio:
        if artist.id == "2":
            raise ZeroDivisionError("in reading")
        return bio(f"Bio of {artist.id}.")

    made.model.read = read
    for call in made.bring(*artists(3)):
        made.clerk.bring(made.caller.make(call))
    made.clerk.bring_no_more()
    made.clerk.run()
    assert sorted(made.texts()) == ["Bio of 1.", "Bio of 3."]
    assert "in reading" in str(made.control.error)
    assert Intent("2", "Artist 2", 1, f"{RUN}-2-1") in made.left()


def test_a_bio_that_cannot_be_handed_on_costs_no_other_one(bench: Make) -> None:
    made = bench(workers=3)
    for call in made.bring(*artists(3)):
        made.clerk.bring(made.caller.make(call))

    def hand_on(wanted: Artist, outcome: Bio | Failed, worker: int | None) -> None:
        if wanted.id == "2":
            raise ZeroDivisionError("in handing on")
        made.got.append((wanted, outcome, worker))

    made.hand_on = hand_on
    made.clerk.work()
    assert sorted(made.texts()) == ["Bio of 1.", "Bio of 3."]
    assert "in handing on" in str(made.control.error)
    assert sum(isinstance(entry, Reply) for entry in made.left()) == 3


def test_a_prompt_that_breaks_the_program_ends_the_run_and_not_the_thread(bench: Make) -> None:
    made = bench(workers=2)
    (first,) = made.bring(artist(1))

    def fail(artist: Artist) -> Artist:
        raise ZeroDivisionError("in rendering")

    made.model.prepare = fail
    assert made.bring(artist(2)) == []
    assert "in rendering" in str(made.control.error)
    made.clerk.bring(made.caller.make(first))
    made.clerk.bring_no_more()
    made.clerk.run()
    assert made.texts() == ["Bio of 1."]


def test_a_paused_run_gives_out_calls_when_it_goes_on(bench: Make) -> None:
    made = bench(workers=1)
    made.control.pause()
    assert made.bring(artist(1)) == []
    made.clerk.bring_no_more()
    thread = threading.Thread(target=made.clerk.run, daemon=True)
    thread.start()
    made.control.resume()
    call = made.clerk.calls[1].get(timeout=IN_TIME)
    assert call is not None
    made.clerk.bring(made.caller.make(call))
    assert made.clerk.calls[1].get(timeout=IN_TIME) is None
    thread.join(IN_TIME)
    assert made.texts() == ["Bio of 1."]


def test_a_stop_leaves_what_waits_and_takes_what_is_in_flight(bench: Make) -> None:
    made = bench(workers=1)
    (call,) = made.bring(*artists(5))
    made.control.stop("signal")
    made.clerk.bring(made.caller.make(call))
    made.clerk.bring_no_more()
    made.clerk.run()
    assert made.texts() == ["Bio of 1."]
    assert made.clerk.calls[1].get(timeout=IN_TIME) is None
    assert [type(entry) for entry in made.left()] == [Reply]


def test_who_gives_up_gets_what_had_come_by_then(bench: Make) -> None:
    workers = 3 * AT_ONCE
    made = bench(workers=workers)
    calls = made.bring(*artists(workers), turns=3)
    for call in calls[1:]:
        made.clerk.bring(made.caller.make(call))
    made.clerk.bring_no_more()
    made.clerk.give_up()
    made.clerk.run()
    assert len(made.got) == workers - 1
    assert Intent("1", "Artist 1", 1, f"{RUN}-1-1") in made.left()


def test_what_a_worker_has_settled_is_handed_on_and_not_written_again(bench: Make) -> None:
    made = bench(workers=2)
    first, second = made.bring(*artists(2))
    before = len(made.writes())
    made.clerk.bring(Settled(first, failed(1)))
    made.clerk.bring(Settled(second, None))
    made.clerk.bring_no_more()
    made.clerk.run()
    assert made.got == [(artist(1), failed(1), 1)]
    assert len(made.writes()) == before


def test_an_answer_is_what_a_worker_makes_of_a_call(bench: Make) -> None:
    made = bench(workers=1)
    (call,) = made.bring(artist(1))
    assert made.caller.make(call) == Answer(call, artist(1))
