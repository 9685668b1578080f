"""A run that keeps one core busy is bound to it, as long as nobody else wants it."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator

import pytest

from artist_bio_gen.processor.core import (
    AGAIN_AFTER_S,
    LOOK_EVERY_S,
    Core,
    bind_all,
    idle_seconds,
)

CORES = sorted(os.sched_getaffinity(0))

needs_two = pytest.mark.skipif(len(CORES) < 2, reason="one core leaves no choice")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    bind_all(CORES)


class Machine:
    """One on which time passes in steps, with what the run and others take of each core."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.idle = dict.fromkeys(CORES, 0.0)
        self.bound: list[Collection[int]] = []
        self.core = Core(
            idle=lambda: dict(self.idle),
            used=lambda: self.used,
            clock=lambda: self.now,
            bind=self.bound.append,
        )

    def step(self, run: float, idle: dict[int, float], seconds: float = LOOK_EVERY_S) -> None:
        """`run` and `idle` in shares of one core's time; cores that are not named are idle."""
        self.now += seconds
        self.used += run * seconds
        for core in CORES:
            self.idle[core] += idle.get(core, 1.0) * seconds
        self.core.look()


FIRST, SECOND = CORES[0], CORES[-1]


@needs_two
def test_a_busy_run_is_bound_to_the_idlest_core() -> None:
    machine = Machine()
    machine.step(0.9, {FIRST: 0.3, SECOND: 0.6})
    assert machine.bound == [{SECOND}]
    machine.step(0.9, {FIRST: 0.5, SECOND: 0.05})
    assert len(machine.bound) == 1


@needs_two
def test_a_run_that_waits_for_its_api_stays_free() -> None:
    machine = Machine()
    for _ in range(5):
        machine.step(0.2, {FIRST: 0.8})
    assert machine.bound == []


@needs_two
def test_a_run_on_a_machine_without_room_stays_free() -> None:
    machine = Machine()
    machine.step(0.6, dict.fromkeys(CORES, 0.0))
    assert machine.bound == []


@needs_two
def test_a_core_that_others_want_is_left_for_a_while() -> None:
    machine = Machine()
    machine.step(0.9, {FIRST: 0.1})
    machine.step(0.6, {SECOND: 0.0})
    assert machine.bound == [{SECOND}, set(CORES)]
    machine.step(0.9, {FIRST: 0.1})
    assert len(machine.bound) == 2
    machine.step(0.9, {FIRST: 0.1}, seconds=AGAIN_AFTER_S)
    assert machine.bound[2:] == [{SECOND}]


@needs_two
def test_a_run_that_is_not_busy_any_more_is_let_go() -> None:
    machine = Machine()
    machine.step(0.9, {FIRST: 0.1})
    machine.step(0.1, {SECOND: 0.9})
    assert machine.bound == [{SECOND}, set(CORES)]
    machine.core.release()
    assert len(machine.bound) == 2


def test_it_looks_only_now_and_then() -> None:
    machine = Machine()
    machine.step(0.9, {FIRST: 0.1}, seconds=LOOK_EVERY_S / 2)
    assert machine.bound == []


def test_where_the_system_does_not_tell_threads_stay_free() -> None:
    machine = Machine()
    core = Core(
        idle=dict, used=lambda: machine.used, clock=lambda: machine.now, bind=machine.bound.append
    )
    machine.now, machine.used = 2.0, 2.0
    core.look()
    core.release()
    assert machine.bound == []


@needs_two
def test_all_threads_are_bound_and_those_that_they_start() -> None:
    found: list[set[int]] = []
    go, parent_is_there = threading.Event(), threading.Event()

    def parent() -> None:
        parent_is_there.set()
        assert go.wait(60)
        found.append(os.sched_getaffinity(0))
        child = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=parent)
    thread.start()
    assert parent_is_there.wait(60)
    bind_all({FIRST})
    go.set()
    thread.join()
    assert [*found, os.sched_getaffinity(0)] == [{FIRST}] * 3


@needs_two
def test_on_one_core_threads_do_not_push_each_other_away() -> None:
    found: list[int] = []
    bind_all({FIRST})
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    assert [*found, os.sched_getscheduler(0)] == [os.SCHED_BATCH] * 2
    bind_all(CORES)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@needs_two
def test_who_was_started_under_another_policy_keeps_it() -> None:
    found: list[int] = []
    go, is_there = threading.Event(), threading.Event()

    def idler() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        is_there.set()
        assert go.wait(60)
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=idler)
    thread.start()
    assert is_there.wait(60)
    bind_all({FIRST})
    go.set()
    thread.join()
    assert found == [os.SCHED_IDLE]


def test_the_system_tells_of_each_core() -> None:
    assert set(CORES) <= set(idle_seconds())
