"""Stopping and pausing, asked from any thread."""

from __future__ import annotations

import threading

import pytest

from artist_bio_gen.errors import LedgerError, LimitError, StoppedError
from artist_bio_gen.processor.control import Control


def test_a_run_goes_on_until_it_is_stopped() -> None:
    control = Control()
    assert not control.stopped
    control.wait_until_flowing()
    control.sleep(0)
    control.stop("signal")
    assert control.stopped
    assert (control.reason, control.error) == ("signal", None)


def test_the_first_reason_stands() -> None:
    control, error = Control(), LimitError("quota")
    control.stop("error", error)
    control.stop("signal")
    control.stop("error", LimitError("another"))
    assert (control.reason, control.error) == ("error", error)


def test_what_the_ledger_says_after_a_stop_is_told_too() -> None:
    control, error = Control(), LedgerError("the file was changed")
    control.stop("signal")
    control.stop("error", LimitError("quota"))
    control.stop("error", error)
    control.stop("error", LedgerError("and again"))
    assert (control.reason, control.error) == ("signal", error)


def test_callbacks_are_called_once_by_whoever_stops() -> None:
    control = Control()
    called: list[str] = []
    control.when_stopped(lambda: called.append(threading.current_thread().name))
    assert called == []
    stopper = threading.Thread(target=control.stop, args=("signal",), name="stopper")
    stopper.start()
    stopper.join()
    control.stop("again")
    assert called == ["stopper"]


def test_a_callback_that_comes_late_is_called_at_once() -> None:
    control = Control()
    control.stop("signal")
    called: list[int] = []
    control.when_stopped(lambda: called.append(1))
    assert called == [1]


def test_a_callback_may_ask_about_the_stop() -> None:
    control = Control()
    seen: list[object] = []
    control.when_stopped(lambda: seen.append((control.stopped, control.reason)))
    control.stop("signal")
    assert seen == [(True, "signal")]


def in_thread(wait: object, ended: list[str]) -> threading.Thread:
    def run() -> None:
        try:
            wait()  # type: ignore[operator]
        except StoppedError:
            ended.append("stopped")
        else:
            ended.append("went on")

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_sleep_ends_when_the_run_is_stopped() -> None:
    control, ended = Control(), []
    thread = in_thread(lambda: control.sleep(3600), ended)
    control.stop("signal")
    thread.join()
    assert ended == ["stopped"]


def test_a_linger_ends_when_the_run_is_stopped_and_is_no_error() -> None:
    control = Control()
    control.linger(0.0)
    stopper = threading.Thread(target=control.stop, args=("signal",))
    stopper.start()
    control.linger(3600.0)
    stopper.join()
    control.linger(3600.0)


def test_calls_wait_while_the_run_is_paused() -> None:
    control, ended = Control(), []
    control.pause()
    threads = [in_thread(control.wait_until_flowing, ended) for _ in range(3)]
    assert ended == []
    control.resume()
    for thread in threads:
        thread.join()
    assert ended == ["went on"] * 3


def test_each_pause_wants_its_own_end() -> None:
    """The committer's database and that of the look-ups go away and come back by themselves."""
    control, ended = Control(), []
    control.pause()
    control.pause()
    control.resume()
    thread = in_thread(control.wait_until_flowing, ended)
    assert ended == []
    control.resume()
    thread.join()
    assert ended == ["went on"]


def test_a_stop_ends_a_pause() -> None:
    control, ended = Control(), []
    control.pause()
    threads = [in_thread(control.wait_until_flowing, ended) for _ in range(3)]
    control.stop("signal")
    for thread in threads:
        thread.join()
    assert ended == ["stopped"] * 3


def test_a_pause_after_the_stop_holds_nobody() -> None:
    control = Control()
    control.stop("signal")
    control.pause()
    with pytest.raises(StoppedError):
        control.wait_until_flowing()
    control.resume()
    with pytest.raises(StoppedError):
        control.wait_until_flowing()


def test_a_pause_at_the_moment_of_the_stop_holds_nobody() -> None:
    for _ in range(200):
        control, ended = Control(), []
        starting = threading.Barrier(2)

        def pause(control: Control = control, starting: threading.Barrier = starting) -> None:
            starting.wait()
            control.pause()

        pauser = threading.Thread(target=pause)
        pauser.start()
        starting.wait()
        control.stop("signal")
        pauser.join()
        thread = in_thread(control.wait_until_flowing, ended)
        thread.join()
        assert ended == ["stopped"]


def test_how_long_ago_the_run_was_stopped() -> None:
    now = [100.0]
    control = Control(clock=lambda: now[0])
    assert not control.stopped_longer_than(0.0)
    control.stop("signal")
    now[0] = 105.0
    control.stop("again")
    assert control.stopped_longer_than(4.0)
    assert not control.stopped_longer_than(5.0)


def test_all_hear_of_a_stop_though_one_of_them_fails() -> None:
    control, heard = Control(), []

    def fail() -> None:
        raise MemoryError

    control.when_stopped(lambda: heard.append("before"))
    control.when_stopped(fail)
    control.when_stopped(lambda: heard.append("behind"))
    with pytest.raises(MemoryError):
        control.stop("signal")
    assert heard == ["before", "behind"]


def test_who_asks_hears_of_each_going_on_and_of_the_stop() -> None:
    control, heard = Control(), []
    control.when_changed(lambda: heard.append(control.flowing))
    control.pause()
    control.pause()
    control.resume()
    assert (control.flowing, heard) == (False, [])
    control.resume()
    assert heard == [True]
    control.stop("signal")
    assert heard == [True, False]
