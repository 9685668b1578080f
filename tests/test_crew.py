"""Worker threads that are replaced."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.crew import Crew

IN_TIME = 30.0


def test_each_piece_of_work_has_a_thread_of_its_own() -> None:
    pieces: Counter[int] = Counter()
    threads: set[int | None] = set()
    lock = threading.Lock()

    def work(number: int) -> bool:
        with lock:
            pieces[number] += 1
            threads.add(threading.current_thread().native_id)
            return pieces[number] < 5

    control = Control()
    crew = Crew(3, work, control)
    crew.start()
    assert crew.wait(IN_TIME)
    assert pieces == {1: 5, 2: 5, 3: 5}
    assert len(threads) > 3


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_worker_goes_on_in_its_thread_when_no_more_can_be_had(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int | None] = []

    def work(number: int) -> bool:
        threads.append(threading.current_thread().native_id)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        return len(threads) < 3

    def refuse(thread: threading.Thread) -> None:
        raise error

    crew = Crew(1, work, Control())
    crew.start()
    assert crew.wait(IN_TIME)
    assert len(threads) == 3
    assert len(set(threads)) == 1


def test_work_that_raises_ends_its_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    heard = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: (told.append(args), heard.set()))
    others = Counter[int]()

    def work(number: int) -> bool:
        if number == 1:
            raise ValueError("unforeseen")
        others[number] += 1
        return others[number] < 4

    crew = Crew(2, work, Control())
    crew.start()
    assert crew.wait(IN_TIME)
    assert others == {2: 4}
    assert heard.wait(IN_TIME)
    assert [args.exc_type for args in told] == [ValueError]


def test_once_stopped_it_waits_no_longer_than_the_grace() -> None:
    control = Control()
    begun, end = threading.Event(), threading.Event()

    def work(number: int) -> bool:
        begun.set()
        end.wait(IN_TIME)
        return False

    crew = Crew(1, work, control)
    crew.start()
    assert begun.wait(IN_TIME)
    control.stop("signal")
    assert not crew.wait(0.0)
    end.set()
    assert crew.wait(IN_TIME)


def test_the_grace_counts_from_the_stop() -> None:
    """What else is under way, a look-up that takes its time, may use it up before the workers are
    waited for."""
    now = [100.0]
    control = Control(clock=lambda: now[0])
    begun, end = threading.Event(), threading.Event()

    def work(number: int) -> bool:
        begun.set()
        end.wait(2 * IN_TIME)
        return False

    crew = Crew(1, work, control)
    crew.start()
    assert begun.wait(IN_TIME)
    control.stop("signal")
    now[0] += IN_TIME
    waited = time.monotonic()
    assert not crew.wait(IN_TIME)
    assert time.monotonic() - waited < IN_TIME
    end.set()
    assert crew.wait(2 * IN_TIME)
