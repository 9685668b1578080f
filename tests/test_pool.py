"""Many artists at once: how many, how far ahead, and how it ends."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import (
    EXIT_DEFECT,
    ArtistBioGenError,
    ConfigError,
    InputError,
    LedgerError,
    LedgerFileError,
    LimitError,
    StoppedError,
    Unavailable,
    Unusable,
)
from artist_bio_gen.ledger.journal import SEGMENT_BYTES, Intent, Journal, Reply, orphans
from artist_bio_gen.ledger.line import Draft
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.committer import DUPLICATE
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.core import Core
from artist_bio_gen.processor.pool import LARGEST_GROUP, Processor
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import NO_ROW, Artist, Bio, Done, Failed, Rejected, Skipped
from tests.builders import LEDGER, RUN, Heard, Simple, artist, bio, failed
from tests.fakes.faulty_files import Fault, FaultyFiles

IN_TIME = 30.0
"""Seconds. What is not over by then hangs."""

Item = Draft | Failed | Rejected


class Ending:
    """In the committer's place: makes nothing final, but remembers what came."""

    def __init__(self) -> None:
        self.groups: list[list[Item]] = []
        self.in_journal: list[bool] = []
        self.before: Callable[[Sequence[Item]], None] = lambda group: None
        self.refused: str | None = None  # as failures of this kind

    def commit(
        self, group: Sequence[Item], *, in_journal: bool = True
    ) -> list[Done | Failed | Rejected]:
        self.before(group)
        self.groups.append(list(group))
        self.in_journal.append(in_journal)
        drafts = [item for item in group if isinstance(item, Draft)]
        others = [item for item in group if not isinstance(item, Draft)]
        if self.refused is not None:
            kind = self.refused
            refused = [Failed(each.artist, kind, "it is refused", 1, False) for each in drafts]
            return [*refused, *others]
        done = (Done(each.artist, each.bio, 1, "0" * 64, each.worker) for each in drafts)
        return [*done, *others]  # in the committer's own order

    @property
    def items(self) -> list[Item]:
        return [item for group in self.groups for item in group]

    def ids(self) -> list[str]:
        return sorted(
            (item.artist.id for item in self.items if not isinstance(item, Rejected)), key=int
        )


class Bench:
    def __init__(
        self,
        folder: Path,
        generate: Callable[[Artist, str], Bio],
        *,
        workers: int = 4,
        max_consecutive_failures: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        journal: type[Journal] = Journal,
        require_room: Callable[[], None] = lambda: None,
        linger: Callable[[float], None] = lambda seconds: None,
        core: Core | None = None,
    ) -> None:
        self.ledger = folder / "out.jsonl"
        self.files = FaultyFiles()
        self.journal = journal(
            self.ledger, RUN, files=self.files.calls, segment_bytes=segment_bytes
        )
        self.control = Control()
        self.heard = Heard()
        self.ending = Ending()
        self.under_way: set[str] = set()
        telemetry = Telemetry(self.heard)
        self.processor = Processor(
            Caller(
                Simple(generate),
                self.journal,
                run=RUN,
                policy=RetryPolicy(max_attempts=1),
                control=self.control,
                telemetry=telemetry,
                require_room=require_room,
            ),
            self.journal,
            self.ending,  # type: ignore[arg-type]
            ledger_id=LEDGER,
            run=RUN,
            workers=workers,
            under_way=self.under_way,
            control=self.control,
            telemetry=telemetry,
            max_consecutive_failures=max_consecutive_failures,
            linger=linger,
            core=core,
        )
        self.all_back: bool | None = None
        self.raised: BaseException | None = None

    def begin(
        self, rows: Iterable[Artist | Failed | Rejected | Skipped], *, grace: float = IN_TIME
    ) -> threading.Thread:
        def run() -> None:
            try:
                self.all_back = self.processor.run(self._noted(rows), grace=grace)
            except BaseException as exc:  # noqa: BLE001 - looked at by the test
                self.raised = exc

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def run(
        self, rows: Iterable[Artist | Failed | Rejected | Skipped], *, grace: float = IN_TIME
    ) -> None:
        end(self.begin(rows, grace=grace))

    def _noted(self, rows: Iterable[Artist | Failed | Rejected | Skipped]) -> Iterator[object]:
        for row in rows:
            if isinstance(row, Artist | Failed):
                self.under_way.add(row.id if isinstance(row, Artist) else row.artist.id)
            yield row

    def left(self) -> list[Intent | Reply | Failed]:
        self.journal.close()
        return [entry for orphan in orphans(self.ledger) for entry in orphan.entries()]


def end(thread: threading.Thread) -> None:
    thread.join(IN_TIME)
    assert not thread.is_alive(), "it hangs"


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(generate: Callable[[Artist, str], Bio], **settings: Any) -> Bench:
        made.append(Bench(tmp_path, generate, **settings))
        return made[-1]

    yield make
    for each in made:
        each.journal.close()


def write(artist: Artist, request_id: str) -> Bio:
    return bio(f"Bio of {artist.id}.")


def refuse(artist: Artist, request_id: str) -> Bio:
    raise Unusable("I cannot", kind="refused")


def artists(count: int, first: int = 1) -> Iterator[Artist]:
    return (artist(number) for number in range(first, first + count))


class Calls:
    """A model whose calls wait for `let_go`, and which tells when `expected` of them wait."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.begun: list[str] = []
        self.all_begun = threading.Event()
        self.let_go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, artist: Artist, request_id: str) -> Bio:
        with self._lock:
            self.begun.append(artist.id)
            if len(self.begun) == self.expected:
                self.all_begun.set()
        assert self.let_go.wait(IN_TIME)
        return write(artist, request_id)


# ---- all goes well ----------------------------------------------------------------------------


def test_everything_that_is_bought_is_made_final_once(bench: Make) -> None:
    made = bench(write, workers=8)
    made.run(artists(1_000))
    assert made.all_back is True
    assert made.ending.ids() == [str(number) for number in range(1, 1_001)]
    assert (made.control.reason, made.control.error) == (None, None)
    assert made.under_way == set()
    drafts = [item for item in made.ending.items if isinstance(item, Draft)]
    assert {draft.worker for draft in drafts} <= set(range(1, 9))
    assert all(draft.bio.text == f"Bio of {draft.artist.id}." for draft in drafts)
    assert all(
        (draft.run, draft.input_sha256) == (RUN, draft.artist.input_sha256) for draft in drafts
    )
    assert made.left() == []


@pytest.mark.parametrize("workers", [1, 3])
def test_no_row_at_all(bench: Make, workers: int) -> None:
    made = bench(write, workers=workers)
    made.run([])
    assert (made.all_back, made.ending.groups) == (True, [])


def test_as_many_calls_at_once_as_there_are_workers_and_no_more(bench: Make) -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(4, timeout=IN_TIME)

    def generate(artist: Artist, request_id: str) -> Bio:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        return write(artist, request_id)

    made = bench(generate, workers=4)
    made.run(artists(200))
    assert (most, len(made.ending.items)) == (4, 200)


def test_the_source_is_read_no_further_ahead_than_the_window(bench: Make) -> None:
    workers = 3
    made = bench(write, workers=workers)
    taken, lead = 0, 0

    def counted() -> Iterator[Artist]:
        nonlocal taken, lead
        for each in artists(3_000):
            taken += 1
            lead = max(lead, taken - len(made.ending.items))
            yield each

    made.run(counted())
    assert len(made.ending.items) == 3_000
    # The row that is held while the window is full, and a group that is being made final.
    assert lead <= 2 * workers + LARGEST_GROUP + 1


def test_a_source_is_not_read_on_while_the_window_is_full(bench: Make) -> None:
    calls = Calls(expected=2)
    made = bench(calls, workers=2)
    window = 2 * 2 + LARGEST_GROUP
    read: list[int] = []
    full = threading.Event()

    def counted() -> Iterator[Artist]:
        for each in artists(10_000):
            read.append(each.row)
            if len(read) == window + 1:
                full.set()
            yield each

    thread = made.begin(counted())
    assert full.wait(IN_TIME)
    assert calls.all_begun.wait(IN_TIME)
    assert (len(read), len(calls.begun)) == (window + 1, 2)
    made.control.stop("signal")
    calls.let_go.set()
    end(thread)
    assert len(read) <= window + 2
    assert made.ending.ids() == sorted(calls.begun, key=int)


def test_what_arrives_within_the_linger_is_one_group(bench: Make) -> None:
    third = threading.Event()
    lingered: list[float] = []

    def generate(artist: Artist, request_id: str) -> Bio:
        if artist.id == "3":
            third.set()  # the only worker has handed on the two before
        return write(artist, request_id)

    def linger(seconds: float) -> None:
        lingered.append(seconds)
        assert third.wait(IN_TIME)

    made = bench(generate, workers=1, linger=linger)
    made.run(artists(3))
    first = [item.artist.id for item in made.ending.groups[0] if isinstance(item, Draft)]
    assert first[:2] == ["1", "2"]
    assert len(made.ending.items) == 3
    assert set(lingered) == {0.0}, "a row alone waits for nobody"


def test_the_core_is_looked_after_and_given_back(bench: Make) -> None:
    bound: list[Collection[int]] = []
    idle = dict.fromkeys(os.sched_getaffinity(0), 0.0)
    clock, used = itertools.count(0.0, 2.0), itertools.count(0.0, 2.0)  # all of one core

    def looked() -> dict[int, float]:
        for core in idle:
            idle[core] += 1.0
        return dict(idle)

    core = Core(idle=looked, used=lambda: next(used), clock=lambda: next(clock), bind=bound.append)
    made = bench(write, core=core)
    made.run(artists(100))
    assert len(made.ending.items) == 100
    if len(idle) > 1:
        assert [len(each) for each in bound] == [1, len(idle)]


def test_no_linger_is_long(bench: Make) -> None:
    lingered: list[float] = []
    bench(write, workers=256, linger=lingered.append).run(artists(10))
    assert lingered
    assert max(lingered) <= 0.01


def test_replies_are_synced_before_they_are_made_final(bench: Make) -> None:
    made = bench(write, workers=4)

    def check(group: Sequence[Item]) -> None:
        calls = list(made.files.made)
        for item in group:
            assert isinstance(item, Draft)
            reply = b'"is":"reply","artist":{"row":%d,' % item.artist.row
            at = next(
                n for n, (name, args) in enumerate(calls) if name == "write" and reply in args[1]
            )
            assert "fsync" in [name for name, _ in calls[at:]]

    made.ending.before = check
    made.run(artists(50))
    assert (len(made.ending.items), made.control.error) == (50, None)


def test_nothing_is_made_final_while_its_sync_still_lasts(bench: Make) -> None:
    made_final = threading.Event()
    early: list[bool] = []

    class SlowSync(Journal):
        def sync(self) -> None:
            # Whoever hurries on does so within this time; nobody who waits is waited for.
            early.append(made_final.wait(0.5) if not early else False)
            super().sync()

    made = bench(write, workers=1, journal=SlowSync)
    made.ending.before = lambda group: made_final.set()
    made.run(artists(1))
    assert early[0] is False
    assert made.ending.ids() == ["1"]


def test_groups_are_bounded(bench: Make) -> None:
    made = bench(write, workers=2)
    first = threading.Event()
    all_in = threading.Event()

    def wait(group: Sequence[Item]) -> None:
        if not first.is_set():
            first.set()
            assert all_in.wait(IN_TIME)

    def rows() -> Iterator[Rejected]:
        for number in range(2 * LARGEST_GROUP):
            if number == LARGEST_GROUP:
                all_in.set()
            yield Rejected(number, "no id")

    made.ending.before = wait
    made.run(rows())
    assert len(made.ending.items) == 2 * LARGEST_GROUP
    assert max(map(len, made.ending.groups)) <= LARGEST_GROUP


def test_failed_and_rejected_rows_go_along_and_skipped_ones_do_not(bench: Make) -> None:
    made = bench(write)
    rejected, no_row = Rejected(9, "no id"), failed(8, kind=NO_ROW)
    rows = [artist(1), rejected, Skipped(artist(2), "done"), no_row, Skipped(artist(3), "repeated")]
    made.run(rows)
    assert rejected in made.ending.items
    assert no_row in made.ending.items
    assert made.ending.ids() == ["1", "8"]


def test_skipped_artists_are_told(bench: Make) -> None:
    made = bench(write)
    rows = [
        *(Skipped(each, "done", changed_input=each.row % 2 == 0) for each in artists(2_500)),
        Skipped(artist(1), "elsewhere"),
        Skipped(artist(2), "has_bio", changed_prompt=True),
        Skipped(artist(3), "repeated"),
        Skipped(artist(4), "failed"),
    ]
    made.run(rows)
    told = made.heard.fields("skipped")
    named = [each for each in told if "artist_id" in each]
    assert [(each["artist_id"], each["reason"], each["count"]) for each in named] == [
        ("3", "repeated", 1),
        ("4", "failed", 1),
    ]
    assert 3 <= sum(each["reason"] == "done" for each in told) <= 4
    done = [each for each in told if each["reason"] == "done"]
    assert sum(each["count"] for each in done) == 2_500
    assert sum(each["changed_input"] for each in done) == 1_250
    (has_bio,) = [each for each in told if each["reason"] == "has_bio"]
    assert (has_bio["count"], has_bio["changed_prompt"]) == (1, 1)


# ---- stopping ---------------------------------------------------------------------------------


def test_a_stop_finishes_the_calls_in_flight_and_begins_none(bench: Make) -> None:
    calls = Calls(expected=4)
    made = bench(calls, workers=4)
    thread = made.begin(artists(100))
    assert calls.all_begun.wait(IN_TIME)
    made.control.stop("signal")
    calls.let_go.set()
    end(thread)
    assert made.all_back is True
    assert len(calls.begun) == 4
    assert made.ending.ids() == sorted(calls.begun, key=int)
    assert (made.control.reason, made.control.error) == ("signal", None)
    assert made.left() == []


def test_a_stop_while_a_busy_model_is_waited_for_leaves_the_artist_to_the_next_run(
    bench: Make,
) -> None:
    asked = threading.Event()

    def busy(artist: Artist, request_id: str) -> Bio:
        asked.set()
        raise Unavailable("busy", kind="overloaded", retry_after=IN_TIME)

    made = bench(busy, workers=1)
    thread = made.begin(artists(1))
    assert asked.wait(IN_TIME)
    made.control.stop("signal")
    end(thread)
    assert (made.ending.items, made.all_back, made.left()) == ([], True, [])


def test_a_stop_before_the_first_row(bench: Make) -> None:
    made = bench(write)
    made.control.stop("signal")
    made.run(artists(10))
    assert (made.all_back, made.ending.items) == (True, [])


def test_calls_that_do_not_come_back_in_time_are_left_and_named(bench: Make) -> None:
    calls = Calls(expected=2)
    made = bench(calls, workers=2)
    thread = made.begin(artists(10), grace=0.0)
    assert calls.all_begun.wait(IN_TIME)
    made.control.stop("signal")
    end(thread)
    assert made.all_back is False
    assert made.ending.items == []
    in_flight = [entry.artist_id for entry in made.left() if isinstance(entry, Intent)]
    assert sorted(in_flight) == ["1", "2"]
    # They come back to a run that has ended: nobody takes the replies, nothing falls over.
    late = [each for each in threading.enumerate() if each.name.startswith("worker-")]
    calls.let_go.set()
    for worker in late:
        end(worker)
    assert made.ending.items == []


def test_a_call_that_comes_back_within_the_grace_is_made_final(bench: Make) -> None:
    calls = Calls(expected=1)
    made = bench(calls, workers=1)
    thread = made.begin(artists(3))
    assert calls.all_begun.wait(IN_TIME)
    made.control.when_stopped(calls.let_go.set)
    made.control.stop("signal")
    end(thread)
    assert (made.all_back, made.ending.ids()) == (True, ["1"])


def test_a_source_that_waits_for_the_database_ends_with_the_run(bench: Make) -> None:
    made = bench(write)

    def rows() -> Iterator[Artist]:
        yield artist(1)
        made.control.stop("signal")
        raise StoppedError

    made.run(rows())
    assert (made.all_back, made.raised, made.control.error) == (True, None, None)


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConfigError("the key is wrong"), LimitError("the quota")])
def test_an_error_of_a_call_ends_the_run(bench: Make, error: ArtistBioGenError) -> None:
    def generate(artist: Artist, request_id: str) -> Bio:
        if artist.id == "20":
            raise error
        return write(artist, request_id)

    made = bench(generate, workers=2)
    made.run(artists(100_000))
    assert made.control.error is error
    assert made.all_back is True
    bought = {entry.artist.id for entry in made.left() if isinstance(entry, Reply)}
    assert bought <= set(made.ending.ids())
    assert len(made.ending.items) < 1_000


@pytest.mark.parametrize("where", ["a call", "the source"])
def test_without_memory_the_run_ends_as_at_a_limit(bench: Make, where: str) -> None:
    def generate(artist: Artist, request_id: str) -> Bio:
        if where == "a call" and artist.id == "5":
            raise MemoryError
        return write(artist, request_id)

    def rows() -> Iterator[Artist]:
        yield from artists(100)
        raise MemoryError

    made = bench(generate, workers=2)
    made.run(rows())
    assert isinstance(made.control.error, LimitError)
    assert "no more memory" in str(made.control.error)
    assert made.raised is None


def test_an_error_nobody_foresaw_in_a_call_ends_the_run(bench: Make) -> None:
    def generate(artist: Artist, request_id: str) -> Bio:
        if artist.id == "5":
            raise ZeroDivisionError("by zero")
        return write(artist, request_id)

    made = bench(generate, workers=2)
    made.run(artists(100_000))
    assert made.control.error is not None
    assert "ZeroDivisionError: by zero (test_pool.py, line " in str(made.control.error)
    assert isinstance(made.control.error.__cause__, ZeroDivisionError)
    assert set(made.ending.ids()) >= {"1", "2", "3", "4"}
    in_flight = [entry.artist_id for entry in made.left() if isinstance(entry, Intent)]
    assert in_flight == ["5"]


@pytest.mark.parametrize("error", [LedgerError("parted"), LimitError("away"), KeyError("x")])
def test_an_error_of_the_committer_ends_the_run_and_loses_nothing(
    bench: Make, error: Exception
) -> None:
    calls, called = 0, threading.Condition()

    def generate(artist: Artist, request_id: str) -> Bio:
        nonlocal calls
        with called:
            calls += 1
            called.notify()
        return write(artist, request_id)

    made = bench(generate, workers=2)
    groups = 0

    def fail_at_the_second(group: Sequence[Item]) -> None:
        nonlocal groups
        groups += 1
        if groups == 2:
            enough = len(made.ending.items) + len(group) + 1
            with called:
                assert called.wait_for(lambda: calls >= enough, IN_TIME)
            raise error

    made.ending.before = fail_at_the_second
    made.run(artists(100_000))
    told = made.control.error
    assert told is not None
    assert error in (told, told.__cause__)
    assert groups == 2  # nothing is tried behind a group that failed
    asked = [each["artist_id"] for each in made.heard.fields("calling")]
    bought = {entry.artist.id for entry in made.left() if isinstance(entry, Reply)}
    assert set(asked) == bought | set(made.ending.ids())


def test_what_arrives_after_a_file_could_not_be_written_is_still_handed_on(bench: Make) -> None:
    calls = Calls(expected=4)
    made = bench(calls, workers=4)
    error = LedgerFileError("the disk is full")
    seen: list[str] = []

    def fail(group: Sequence[Item]) -> None:
        seen.extend(item.artist.id for item in group if not isinstance(item, Rejected))
        if len(seen) == 1:
            calls.let_go.set()
        raise error

    made.ending.before = fail
    refusal = failed(1_000, kind=NO_ROW)

    def rows() -> Iterator[Artist | Failed]:
        yield from artists(4)
        assert calls.all_begun.wait(IN_TIME)
        yield refusal

    made.run(rows())
    assert made.control.error is error
    assert seen[0] == "1000"
    assert sorted(seen[1:]) == ["1", "2", "3", "4"]
    assert "1" in made.under_way
    bought = {entry.artist.id for entry in made.left() if isinstance(entry, Reply)}
    assert bought == {"1", "2", "3", "4"}


def test_a_broken_journal_is_told_to_the_committer(bench: Make) -> None:
    made = bench(write, workers=1)
    made.files.add(Fault("write", errno.ENOSPC, nth=2))  # of the first reply
    made.run(artists(3))
    assert (made.ending.ids(), made.ending.in_journal) == (["1"], [False])


def test_a_journal_that_is_whole_is_told_to_the_committer(bench: Make) -> None:
    made = bench(write, workers=1)
    made.run(artists(3))
    assert set(made.ending.in_journal) == {True}


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("nth", range(1, 7))
def test_threads_that_cannot_be_had_end_the_run_and_name_the_way_out(
    bench: Make, monkeypatch: pytest.MonkeyPatch, nth: int, error: Exception
) -> None:
    """The committer's, the syncer's or a worker's."""
    made = bench(write, workers=4)
    start, started = threading.Thread.start, 0

    def limited(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        if started >= nth:
            raise error
        start(thread)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", limited)
    assert made.processor.run(artists(3), grace=IN_TIME)
    assert isinstance(made.control.error, LimitError)
    assert "--workers" in str(made.control.error)
    assert made.heard.fields("calling") == []
    assert threading.active_count() == before


def test_a_stop_while_the_committer_waits_for_the_database(bench: Make) -> None:
    made = bench(write, workers=2)

    def wait(group: Sequence[Item]) -> None:
        made.control.stop("signal")
        raise StoppedError

    made.ending.before = wait
    made.run(artists(100_000))
    assert (made.control.reason, made.control.error) == ("signal", None)
    called = [each["artist_id"] for each in made.heard.fields("calling")]
    bought = {entry.artist.id for entry in made.left() if isinstance(entry, Reply)}
    assert set(called) == bought


def test_an_error_of_the_source_ends_the_run_after_what_was_taken(bench: Make) -> None:
    made = bench(write)
    error = InputError("artists.csv: cannot be read")

    def rows() -> Iterator[Artist]:
        yield from artists(3)
        raise error

    made.run(rows())
    assert (made.control.error, made.raised) == (error, None)
    taken = {each["artist_id"] for each in made.heard.fields("calling")}
    assert set(made.ending.ids()) == taken
    assert made.left() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_another_error_of_the_source_is_raised_after_what_was_taken(
    bench: Make, error: BaseException
) -> None:
    made = bench(write)

    def rows() -> Iterator[Artist]:
        yield from artists(3)
        raise error

    made.run(rows())
    assert made.raised is error
    assert made.control.stopped
    assert made.left() == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_journal_that_breaks_ends_the_run_and_what_was_bought_is_still_made_final(
    bench: Make, call: str
) -> None:
    calls = Calls(expected=4)
    made = bench(calls, workers=4)
    thread = made.begin(artists(1_000))
    assert calls.all_begun.wait(IN_TIME)
    made.files.add(Fault(call, errno.EIO))
    calls.let_go.set()
    end(thread)
    assert isinstance(made.control.error, LedgerFileError)
    called = sorted((each["artist_id"] for each in made.heard.fields("calling")), key=int)
    assert made.ending.ids() == called


def test_a_journal_whose_old_files_cannot_be_removed_ends_the_run(bench: Make) -> None:
    made = bench(write, workers=2, segment_bytes=1)
    made.files.add(Fault("unlink", errno.EROFS))
    made.run(artists(100_000))
    assert isinstance(made.control.error, LedgerFileError)


# ---- failures in a row ------------------------------------------------------------------------


def test_failures_in_a_row_stop_the_run(bench: Make) -> None:
    made = bench(refuse, workers=2, max_consecutive_failures=10)
    made.run(artists(100_000))
    assert made.control.reason == "failures"
    assert isinstance(made.control.error, LimitError)
    assert 10 <= len(made.ending.items) <= 10 + 2 * LARGEST_GROUP


def test_without_a_limit_failures_stop_nothing(bench: Make) -> None:
    made = bench(refuse, workers=2)
    made.run(artists(500))
    assert (made.control.reason, len(made.ending.items)) == (None, 500)


def test_artists_that_were_not_called_for_are_no_failures_in_a_row(bench: Make) -> None:
    made = bench(write, max_consecutive_failures=5)
    made.run(failed(number, kind=NO_ROW) for number in range(100))
    assert made.control.reason is None


def test_artists_whose_bio_another_run_has_written_are_no_failures_in_a_row(bench: Make) -> None:
    made = bench(write, max_consecutive_failures=5)
    made.ending.refused = DUPLICATE
    made.run(artists(100))
    assert (made.control.reason, len(made.ending.items)) == (None, 100)


def test_bios_that_the_database_refuses_are_failures_in_a_row(bench: Make) -> None:
    made = bench(write, max_consecutive_failures=5)
    made.ending.refused = "database"
    made.run(artists(100_000))
    assert made.control.reason == "failures"


def test_failures_between_bios_are_not_in_a_row(bench: Make) -> None:
    """Also when they come in one group, in which bios and failures stand apart."""

    released = threading.Event()

    def every_other(artist: Artist, request_id: str) -> Bio:
        if artist.row == 200:
            released.set()
        return (refuse if artist.row % 2 else write)(artist, request_id)

    def hold_first(group: Sequence[Item]) -> None:
        if not made.ending.groups:
            assert released.wait(IN_TIME)

    made = bench(every_other, workers=1, max_consecutive_failures=20)
    made.ending.before = hold_first
    made.run(artists(200))
    assert (made.control.reason, len(made.ending.items)) == (None, 200)


# ---- what nobody foresaw ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(errno.EIO, "in closing"), KeyError("fd")])
@pytest.mark.parametrize("method", ["sync", "settle"])
def test_an_error_nobody_foresaw_behind_the_workers_ends_the_run(
    bench: Make, method: str, error: Exception
) -> None:
    class Broken(Journal):
        """Fails in a way that its own errors do not cover."""

        def sync(self) -> None:
            super().sync()
            if method == "sync":
                raise error

        def settle(self, artist_ids: list[str]) -> None:
            # Before anything is settled, so that what was called for can be looked for below.
            if method == "settle":
                raise error

    made = bench(write, journal=Broken)
    made.run(artists(100_000))
    assert made.control.error is not None
    assert made.control.error.__cause__ is error
    assert made.control.error.exit_code == EXIT_DEFECT
    called = {each["artist_id"] for each in made.heard.fields("calling")}
    assert 0 < len(called) < 100_000
    kept = {entry.artist.id for entry in made.left() if isinstance(entry, Reply)}
    assert kept == called
    if method == "sync":  # what has arrived is still handed on
        assert set(made.ending.ids()) == called


@pytest.mark.parametrize("error", [InputError("cut"), StoppedError(), ZeroDivisionError()])
def test_what_was_skipped_before_the_source_broke_is_told(
    bench: Make, error: BaseException
) -> None:
    made = bench(write)

    def rows() -> Iterator[Skipped]:
        yield from (Skipped(each, "done") for each in artists(900))
        yield from (Skipped(each, "elsewhere") for each in artists(50))
        raise error

    made.run(rows())
    told = {each["reason"]: each["count"] for each in made.heard.fields("skipped")}
    assert told == {"done": 900, "elsewhere": 50}


@pytest.mark.parametrize("nth", range(1, 11))
def test_no_call_is_made_once_the_disk_is_full(bench: Make, tmp_path: Path, nth: int) -> None:
    """Whatever write it is that finds it full, an intent or a reply: what is called has its intent
    in the journal, what has arrived is handed on, and nothing else is begun."""
    called: list[str] = []

    def count(artist: Artist, request_id: str) -> Bio:
        called.append(artist.id)
        return write(artist, request_id)

    made = bench(count, workers=4)
    made.files.add(Fault("write", errno.ENOSPC, nth, forever=True))
    made.run(artists(1_000))
    assert isinstance(made.control.error, LedgerFileError)
    assert made.control.error.exit_code == 6
    entries = b"".join(path.read_bytes() for path in tmp_path.glob("*.journal.*"))
    tried = [args[1] for name, args in made.files.made if name == "write"]
    assert entries == b"".join(tried[: nth - 1])
    assert entries.count(b'"is":"intent"') == len(called)
    assert made.ending.ids() == sorted(called, key=int)


def test_without_room_on_the_disk_no_call_is_made(bench: Make) -> None:
    calls = Calls(4)
    room = [True]

    def require_room() -> None:
        if not room[0]:
            raise LimitError("no room")

    made = bench(calls, workers=4, require_room=require_room)
    thread = made.begin(artists(1_000))
    assert calls.all_begun.wait(IN_TIME)
    room[0] = False
    calls.let_go.set()
    end(thread)
    assert isinstance(made.control.error, LimitError)
    assert len(calls.begun) == 4
    assert made.ending.ids() == sorted(calls.begun, key=int)
    assert made.left() == []


def test_a_reply_that_comes_after_the_grace_is_not_lost_while_the_last_commit_lasts(
    bench: Make,
) -> None:
    let_go, in_commit, finish = threading.Event(), threading.Event(), threading.Event()
    begun = threading.Event()

    def generate(artist: Artist, request_id: str) -> Bio:
        if artist.id == "2":
            begun.set()
            assert let_go.wait(IN_TIME)
        return write(artist, request_id)

    def commit(group: Sequence[Item]) -> None:
        in_commit.set()
        assert finish.wait(IN_TIME)

    made = bench(generate, workers=2)
    made.ending.before = commit
    thread = made.begin(artists(2), grace=0.1)
    assert in_commit.wait(IN_TIME)
    assert begun.wait(IN_TIME)
    workers, clerk = (
        [t for t in threading.enumerate() if t.name.startswith(name)]
        for name in ("worker-", "clerk")
    )
    made.control.stop("signal")
    for each in clerk:
        end(each)
    let_go.set()
    for each in workers:
        end(each)
    finish.set()
    end(thread)
    assert made.all_back is False
    assert Reply(RUN, artist(2), bio("Bio of 2.")) in made.left()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_breaks_beyond_all_errors_ends_the_run(bench: Make) -> None:
    def generate(artist: Artist, request_id: str) -> Bio:
        if artist.id == "3":
            raise KeyboardInterrupt
        return write(artist, request_id)

    made = bench(generate, workers=2)
    made.run(artists(1_000))
    for thread in threading.enumerate():
        if thread.name.startswith("worker-"):
            end(thread)
    assert made.control.reason == "error"
    assert "1" in made.ending.ids()
    assert Intent("3", "Artist 3", 1, f"{RUN}-3-1") in made.left()
