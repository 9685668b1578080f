"""One artist's bio, bought: what is asked again, what counts, what is kept."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import (
    ArtistBioGenError,
    CallFailed,
    ConfigError,
    LedgerFileError,
    LimitError,
    StoppedError,
    Unavailable,
    Unusable,
)
from artist_bio_gen.ledger.journal import Intent, Journal, Reply, orphans
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.clerk import Clerk
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Bio, Failed, Usage
from tests.builders import RUN, Heard, Simple, artist, bio
from tests.fakes.faulty_files import Fault, FaultyFiles


class OwnTime(Control):
    """A control whose sleeps take no time, and a clock that they move on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slept: list[float] = []
        self.while_sleeping: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.while_sleeping()
        super().sleep(0)


class Model:
    """Answers with what it is given, one after another; the last one for ever."""

    def __init__(self, *answers: Bio | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Artist, str]] = []
        self.while_called: Callable[[], None] = lambda: None

    def __call__(self, artist: Artist, request_id: str) -> Bio:
        self.calls.append((artist, request_id))
        self.while_called()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def as_it_is(exc: Exception) -> ArtistBioGenError:
    raise exc


class Bench:
    """A caller with its journal, its time, and what it told."""

    def __init__(
        self,
        folder: Path,
        *answers: Bio | Exception,
        redact: Callable[[str], str] = str,
        fails_late: bool = False,
        holds_secret: Callable[[str], bool] = lambda text: False,
        require_room: Callable[[], None] = lambda: None,
        **policy: float,
    ) -> None:
        self.ledger = folder / "out.jsonl"
        self.files = FaultyFiles()
        self.journal = Journal(self.ledger, RUN, files=self.files.calls)
        self.model = Model(*answers)
        self.control = OwnTime()
        self.heard = Heard()
        self.telemetry = Telemetry(self.heard)
        self.caller = Caller(
            Simple(self.model, fails_late=fails_late),
            self.journal,
            run=RUN,
            policy=replace(RetryPolicy(max_attempts=3, max_wait=100.0), **policy),
            control=self.control,
            telemetry=self.telemetry,
            redact=redact,
            holds_secret=holds_secret,
            require_room=require_room,
            clock=self.control.clock,
        )

    def buy(self, wanted: Artist | None = None) -> Bio | Failed:
        """What the clerk and a worker do for one artist, in one thread."""
        stopped_before = self.control.stopped
        got: list[Bio | Failed] = []
        clerk = Clerk(
            self.caller,
            self.journal,
            workers=1,
            control=self.control,
            telemetry=self.telemetry,
            hand_on=lambda artist, outcome, worker: got.append(outcome),
            unforeseen=as_it_is,
        )
        clerk.bring(wanted or artist(1))
        while not got:
            clerk.work()
            if not clerk.calls[1].empty():
                call = clerk.calls[1].get()
                assert call is not None
                clerk.bring(self.caller.make(call))
            elif not got and self.control.stopped:
                raise (None if stopped_before else self.control.error) or StoppedError
        return got[0]

    def left(self) -> list[Intent | Reply | Failed]:
        """What the next start would find if this process died now."""
        self.journal.close()
        return [entry for orphan in orphans(self.ledger) for entry in orphan.entries()]


@pytest.fixture(params=["asked", "read"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    """Errors come when the model is asked, or when its answer is read."""
    made: list[Bench] = []

    def make(*answers: Bio | Exception, **settings: Any) -> Bench:
        made.append(Bench(tmp_path, *answers, fails_late=request.param == "read", **settings))
        return made[-1]

    yield make
    for each in made:
        each.journal.close()


Make = Callable[..., Bench]


def failing(*, answered: bool = True, retry_after: float | None = None) -> CallFailed:
    return CallFailed(
        "the API answered 500", kind="server_error", answered=answered, retry_after=retry_after
    )


def busy(retry_after: float | None = None) -> Unavailable:
    return Unavailable("the API answered 429", kind="rate_limit_exceeded", retry_after=retry_after)


# ---- one call ---------------------------------------------------------------------------------


def test_a_bio_at_the_first_call(bench: Make) -> None:
    made = bench(bio("At once."))
    assert made.buy() == bio("At once.", attempts=1)
    assert made.model.calls == [(artist(1), f"{RUN}-1-1")]
    assert made.control.slept == []
    assert made.heard.fields("calling") == [
        {
            "run": RUN,
            "artist_id": "1",
            "attempt": 1,
            "request_id": f"{RUN}-1-1",
            "worker": 1,
        }
    ]
    assert made.left() == [Reply(RUN, artist(1), bio("At once."))]


def test_the_intent_is_in_the_journal_before_the_call_is_made(bench: Make) -> None:
    made = bench(bio())
    seen: list[Intent | Reply | Failed] = []
    made.model.while_called = lambda: seen.extend(made.left())
    made.buy()
    assert seen == [Intent("1", "Artist 1", 1, f"{RUN}-1-1")]


def test_no_call_is_made_when_its_intent_cannot_be_written(bench: Make) -> None:
    made = bench(bio())
    made.files.add(Fault("write", errno.ENOSPC))
    with pytest.raises(LedgerFileError, match="No space left"):
        made.buy()
    assert made.model.calls == []


@pytest.mark.parametrize("artist_id", ["a/b c", "ü", "x" * 1000, "\u2028\n"])
def test_the_id_of_an_attempt_fits_into_a_header(bench: Make, artist_id: str) -> None:
    made = bench(failing(), bio())
    made.buy(artist(id=artist_id))
    ids = [request_id for _, request_id in made.model.calls]
    assert len(set(ids)) == 2
    assert all(each.isascii() and each.isprintable() and len(each) <= 512 for each in ids)


# ---- what is asked again ----------------------------------------------------------------------


def test_a_failed_call_is_made_again_and_counts(bench: Make) -> None:
    made = bench(failing(), failing(answered=False), bio("Third."))
    assert made.buy() == bio("Third.", attempts=3)
    assert [request_id[-2:] for _, request_id in made.model.calls] == ["-1", "-2", "-3"]
    assert len(made.control.slept) == 2
    told = made.heard.fields("retrying")
    assert [each["attempt"] for each in told] == [1, 2]
    assert [each["wait_s"] for each in told] == [round(each, 3) for each in made.control.slept]
    assert (told[0]["kind"], told[0]["reason"]) == ("server_error", "the API answered 500")
    assert made.left() == [Reply(RUN, artist(1), bio("Third.", attempts=3))]


@pytest.mark.parametrize("answered", [True, False])
def test_used_up_attempts_are_a_failure(bench: Make, answered: bool) -> None:
    made = bench(failing(answered=answered))
    failed = Failed(artist(1), "server_error", "the API answered 500", 3, transient=False)
    assert made.buy() == failed
    assert len(made.model.calls) == 3
    assert made.left() == [failed]


def test_an_unusable_reply_is_not_asked_for_again_and_what_was_paid_for_is_kept(
    bench: Make,
) -> None:
    usage = {
        "input_tokens": 1,
        "cached_tokens": None,
        "output_tokens": 2,
        "reasoning_tokens": None,
        "total_tokens": 3,
    }
    refusal = Unusable("I cannot", kind="refused", text="No.", response_id="r", usage=usage)
    made = bench(failing(), refusal)
    failed = Failed(
        artist(1), "refused", "I cannot", 2, False, "No.", "r", Usage(1, None, 2, None, 3)
    )
    assert made.buy() == failed
    assert len(made.model.calls) == 2
    assert made.left() == [failed]


def test_waits_that_the_server_wants_do_not_count_as_attempts(bench: Make) -> None:
    made = bench(*[busy(retry_after=1.0)] * 20, bio("Late."), max_wait=1_000.0)
    assert made.buy() == bio("Late.", attempts=1)
    assert len(made.model.calls) == 21
    assert all(1.0 <= wait <= 30.0 for wait in made.control.slept)
    assert made.left() == [Reply(RUN, artist(1), bio("Late."))]


def test_waits_that_the_server_wants_end_with_max_wait(bench: Make) -> None:
    made = bench(busy(retry_after=10.0), max_wait=100.0)
    failed = made.buy()
    assert failed == Failed(
        artist(1), "rate_limit_exceeded", "the API answered 429", 0, transient=True
    )
    assert 80.0 <= sum(made.control.slept) <= 100.0
    assert made.left() == [failed]


def test_a_wait_longer_than_max_wait_is_not_begun(bench: Make) -> None:
    made = bench(busy(retry_after=3600.0), max_wait=100.0)
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert (failed.transient, failed.attempts) == (True, 0)
    assert made.control.slept == []


def test_waits_are_bounded_from_the_first_of_them_on(bench: Make) -> None:
    """Time that went into calls before counts for nothing, into calls between counts."""
    made = bench(failing(), *[busy(retry_after=1.0)] * 9, bio(), max_wait=100.0)

    def pass_time() -> None:
        made.control.now += 30.0

    made.model.while_called = pass_time
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert failed.kind == "rate_limit_exceeded"
    assert len(made.model.calls) == 1 + 5  # waits begin at 60 s and may last until 160 s
    assert failed.attempts == 1


def test_an_unreachable_server_is_asked_again_at_growing_intervals(bench: Make) -> None:
    down = Unavailable("no connection", kind="unreachable")
    made = bench(down, max_wait=10_000.0, longest_backoff=30.0)
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert failed.transient
    assert max(made.control.slept) <= 30.0
    assert max(made.control.slept[:3]) <= 2.0
    assert 100 <= len(made.control.slept) <= 3_000


def test_a_failed_call_waits_as_long_as_the_server_says(bench: Make) -> None:
    made = bench(failing(retry_after=20.0), bio())
    made.buy()
    assert 20.0 <= made.control.slept[0] <= 22.2


def test_failed_calls_and_waits_are_counted_apart(bench: Make) -> None:
    made = bench(busy(0.1), failing(), busy(0.1), failing(), busy(0.1), bio())
    assert made.buy() == bio(attempts=3)
    assert len(made.model.calls) == 6


# ---- stopping ---------------------------------------------------------------------------------


def test_no_call_is_begun_when_the_run_is_to_end(bench: Make) -> None:
    made = bench(bio())
    made.control.stop("signal")
    with pytest.raises(StoppedError):
        made.buy()
    assert made.model.calls == []
    assert made.left() == []


def test_a_stop_between_two_attempts_ends_the_waiting(bench: Make) -> None:
    made = bench(busy(retry_after=1.0))
    made.control.while_sleeping = lambda: made.control.stop("signal")
    with pytest.raises(StoppedError):
        made.buy()
    assert len(made.model.calls) == 1
    assert made.left() == []


def test_a_call_that_broke_off_before_the_stop_may_have_been_paid_for_and_is_named(
    bench: Make,
) -> None:
    made = bench(failing(answered=False))
    made.control.while_sleeping = lambda: made.control.stop("signal")
    with pytest.raises(StoppedError):
        made.buy()
    assert made.left() == [Intent("1", "Artist 1", 1, f"{RUN}-1-1")]


def test_a_stop_during_the_call_does_not_lose_the_reply(bench: Make) -> None:
    made = bench(bio("Paid for."))
    made.model.while_called = lambda: made.control.stop("signal")
    assert made.buy() == bio("Paid for.")
    assert made.left() == [Reply(RUN, artist(1), bio("Paid for."))]


@pytest.mark.parametrize("error", [LimitError("the quota is used up"), ConfigError("bad key")])
def test_an_error_that_every_call_would_meet_is_passed_on(bench: Make, error: Exception) -> None:
    made = bench(error)
    with pytest.raises(type(error), match=str(error)):
        made.buy()
    assert len(made.model.calls) == 1
    assert made.left() == []  # it was answered: nothing is in flight


def test_a_call_that_a_full_log_prevented_is_not_in_flight(bench: Make) -> None:
    """Another artist's reply keeps the journal's file."""
    made = bench(bio())
    made.buy(artist(2))
    made.heard.refused = "calling"
    with pytest.raises(LimitError, match="the log is full"):
        made.buy(artist(1))
    assert len(made.model.calls) == 1
    assert [type(entry) for entry in made.left()] == [Reply]


def test_an_error_nobody_foresaw_leaves_the_call_in_flight(bench: Make) -> None:
    made = bench(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        made.buy()
    assert made.left() == [Intent("1", "Artist 1", 1, f"{RUN}-1-1")]


# ---- a journal that breaks --------------------------------------------------------------------


@pytest.mark.parametrize("short", [None, 20])
def test_a_bio_whose_journal_breaks_is_still_handed_on_and_the_run_ends(
    bench: Make, short: int | None
) -> None:
    made = bench(bio("Paid for."))
    made.model.while_called = lambda: made.files.add(Fault("write", errno.EIO, short=short))
    assert made.buy() == bio("Paid for.")
    assert made.control.stopped
    assert isinstance(made.control.error, LedgerFileError)
    with pytest.raises(StoppedError):
        made.buy(artist(2))
    assert len(made.model.calls) == 1


def test_a_failure_whose_journal_breaks_is_still_handed_on_and_the_run_ends(bench: Make) -> None:
    made = bench(Unusable("I cannot", kind="refused"))
    made.model.while_called = lambda: made.files.add(Fault("write", errno.EIO))
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert isinstance(made.control.error, LedgerFileError)


@pytest.mark.parametrize("error", [busy(), failing()])
def test_no_further_call_is_made_when_the_journal_breaks_between_two(
    bench: Make, error: Exception
) -> None:
    made = bench(error, bio())
    made.model.while_called = lambda: made.files.add(Fault("write", errno.EIO))
    with pytest.raises(LedgerFileError):
        made.buy()
    assert len(made.model.calls) == 1


def test_a_paused_run_makes_no_call(bench: Make) -> None:
    made = bench(bio())
    made.control.pause()
    ended: list[str] = []

    def buy() -> None:
        try:
            made.buy()
        except StoppedError:
            ended.append("stopped")

    thread = threading.Thread(target=buy)
    thread.start()
    assert made.model.calls == []
    made.control.stop("signal")
    thread.join()
    assert (ended, made.model.calls) == (["stopped"], [])


# ---- what a server asks for and what it repeats -----------------------------------------------


@pytest.mark.parametrize("max_attempts", [3, 10_000])
def test_a_failed_call_is_not_made_again_later_than_max_wait(
    bench: Make, max_attempts: int
) -> None:
    made = bench(failing(retry_after=86_400.0), max_wait=100.0, max_attempts=max_attempts)
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.attempts) == ("server_error", 1)
    assert made.control.slept == []


def test_waits_that_a_server_asks_for_with_its_errors_end_with_max_wait(bench: Make) -> None:
    made = bench(failing(retry_after=30.0), max_wait=100.0, max_attempts=10_000)
    made.buy()
    assert 60.0 <= sum(made.control.slept) <= 100.0


@pytest.mark.parametrize("retry_after", [0.0, 0.001])
@pytest.mark.parametrize("error", [busy, failing])
def test_a_server_that_says_at_once_is_not_asked_in_a_loop(
    bench: Make, error: Callable[..., Exception], retry_after: float
) -> None:
    made = bench(error(retry_after=retry_after), max_wait=600.0, max_attempts=10_000)
    made.buy()
    assert len(made.model.calls) < 1_000
    assert 300.0 <= made.control.now <= 600.0


def test_a_call_without_an_answer_is_named_though_the_next_one_was_turned_away(
    bench: Make,
) -> None:
    made = bench(failing(answered=False), busy(retry_after=1.0))

    def stop_at_the_second() -> None:
        if len(made.control.slept) == 2:
            made.control.stop("signal")

    made.control.while_sleeping = stop_at_the_second
    with pytest.raises(StoppedError):
        made.buy()
    assert made.left() == [Intent("1", "Artist 1", 1, f"{RUN}-1-1")]


@pytest.mark.parametrize(
    "error",
    [
        Unusable("wrong key s3cret-key", kind="refused", text="Your key is s3cret-key."),
        CallFailed("wrong key s3cret-key", kind="server_error", answered=True),
        Unavailable("wrong key s3cret-key", kind="overloaded", retry_after=1e9),
    ],
)
def test_a_key_that_the_server_repeats_is_kept_nowhere(bench: Make, error: Exception) -> None:
    made = bench(error, redact=lambda text: text.replace("s3cret-key", "***"))
    failed = made.buy()
    assert isinstance(failed, Failed)
    assert failed.reason == "wrong key ***"
    assert failed.text in (None, "Your key is ***.")
    assert made.left() == [failed]
    assert b"s3cret-key" not in b"".join(
        args[1] for name, args in made.files.made if name == "write"
    )


# ---- secrets, and room on the disk --------------------------------------------------------------

KEY = "sk-canary-0123456789abcdef"


def secretive(bench: Make, *answers: Bio | Exception, **settings: Any) -> Bench:
    return bench(
        *answers,
        redact=lambda text: text.replace(KEY, "***"),
        holds_secret=lambda text: KEY in text,
        **settings,
    )


def journal_of(made: Bench) -> bytes:
    return b"".join(path.read_bytes() for path in made.ledger.parent.glob("*.journal.*"))


def test_a_text_with_the_key_in_it_is_no_bio_and_is_kept_without_it(bench: Make) -> None:
    made = secretive(bench, bio(f"She sang {KEY}."))
    bought = made.buy()
    assert isinstance(bought, Failed)
    assert (bought.kind, bought.transient, bought.attempts) == ("secret", False, 1)
    assert (bought.text, bought.usage) == ("She sang ***.", bio().usage)
    assert len(made.model.calls) == 1
    assert KEY.encode() not in journal_of(made)
    assert made.left() == [bought]


@pytest.mark.parametrize("name", ["response_id", "request_id", "finish_reason"])
def test_a_reply_that_tells_the_key_beside_its_text_is_kept_without_it(
    bench: Make, name: str
) -> None:
    made = secretive(bench, replace(bio(), **{name: f"x-{KEY}"}))
    assert made.buy() == replace(bio(), **{name: "x-***"})
    assert KEY.encode() not in journal_of(made)


@pytest.mark.parametrize("name", ["message", "text", "response_id"])
def test_a_failure_that_tells_the_key_is_kept_without_it(bench: Make, name: str) -> None:
    said = {"message": "no", "text": "no", "response_id": "no", name: f"no {KEY}"}
    made = secretive(bench, Unusable(**said, kind="refused"))
    bought = made.buy()
    assert isinstance(bought, Failed)
    assert KEY not in f"{bought} {made.heard.events}"
    assert KEY.encode() not in journal_of(made)


def test_a_retry_is_told_without_the_key(bench: Make) -> None:
    error = CallFailed(f"500 {KEY}", kind="server_error", answered=True)
    made = secretive(bench, error, bio())
    made.buy()
    (told,) = made.heard.fields("retrying")
    assert told["reason"] == "500 ***"


def test_room_is_asked_for_before_each_call(bench: Make) -> None:
    room = iter([True, True, False])

    def require_room() -> None:
        if not next(room):
            raise LimitError("no room")

    made = bench(failing(), require_room=require_room)
    with pytest.raises(LimitError):
        made.buy()
    assert len(made.model.calls) == 2
    assert made.heard.names().count("calling") == 2
    assert made.left() == []


def test_an_unanswered_call_stays_in_the_journal_when_there_is_no_room_to_repeat_it(
    bench: Make,
) -> None:
    room = iter([True, False])

    def require_room() -> None:
        if not next(room):
            raise LimitError("no room")

    made = bench(failing(answered=False), require_room=require_room)
    with pytest.raises(LimitError):
        made.buy()
    (left,) = made.left()
    assert isinstance(left, Intent)
