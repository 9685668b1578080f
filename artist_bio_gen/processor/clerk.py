"""What stands before and after each call, done for many at a time by one thread.

    artists ─> clerk ─ calls ─> workers, which wait for the API
                 ^                  │
                 └──── answers ─────┘

The clerk makes requests, notes calls and what they brought in the journal, one write for all that
has come, and hands on what is kept. A worker gets its next call only when what its last one brought
is in the journal, so that a kill never costs more than one call a worker.

Why not each worker for itself: what a thread does right after a wait was measured to take two to
four times as long as in a loop, probably since the processor's caches hold others' data by then.
With 256 workers that, and the writes for each row, were a quarter to a third of what a row costs.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from artist_bio_gen.errors import ArtistBioGenError, LedgerFileError, LimitError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.ledger.journal import Entry, Journal
from artist_bio_gen.processor.caller import Answer, Call, Caller, Settled
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Bio, Failed

_T = TypeVar("_T")

AT_ONCE = 32
"""Answers that are read, and calls that are made ready, before the others have their turn: enough
to share what a write costs, few enough that nobody waits for long."""


class _Sign(enum.Enum):
    LOOK = enum.auto()  # the run was stopped, or goes on
    NO_MORE = enum.auto()  # artists
    GIVE_UP = enum.auto()


_Brought: TypeAlias = Artist | Answer | Settled


class Clerk:
    """Serves one thread, which calls `run`; what brings, and gives up, may be called from any.

    `calls` has a queue for each worker, by its number from 1 on; None ends the worker.
    """

    def __init__(
        self,
        caller: Caller,
        journal: Journal,
        *,
        workers: int,
        control: Control,
        telemetry: Telemetry,
        hand_on: Callable[[Artist, Bio | Failed, int | None], None],
        unforeseen: Callable[[Exception], ArtistBioGenError],
    ) -> None:
        """`hand_on` takes what a worker's call brought, once it is in the journal. `unforeseen`
        makes an error of the run of what no part of it should raise."""
        self._caller = caller
        self._journal = journal
        self._control = control
        self._telemetry = telemetry
        self._hand_on = hand_on
        self._unforeseen = unforeseen
        self.calls = {number: queue.SimpleQueue[Call | None]() for number in range(1, workers + 1)}
        # The last one that became free is the first to be taken: its data may still be at hand.
        self._free = list(range(workers, 0, -1))
        self._waiting: deque[Artist] = deque()
        self._brought: queue.SimpleQueue[_Brought | _Sign] = queue.SimpleQueue()
        self._more = True
        self._over = False
        self._lock = threading.Lock()  # guards the one below
        self._ended = False
        control.when_changed(partial(self._brought.put, _Sign.LOOK))

    def bring(self, item: _Brought) -> None:
        """An artist to be asked for, or what a worker made of its call. A call that comes back when
        nobody waits for it any more still has its reply written, as long as the journal is open:
        the next start commits it."""
        with self._lock:
            if not self._ended:
                self._brought.put(item)
                return
        if isinstance(item, Answer):
            self._keep_late(item)

    def bring_no_more(self) -> None:
        """There are no more artists."""
        self._brought.put(_Sign.NO_MORE)

    def give_up(self) -> None:
        """Calls that have brought nothing by now are not waited for."""
        self._brought.put(_Sign.GIVE_UP)

    def run(self) -> None:
        """Until all artists that were brought are asked for and settled, or given up."""
        try:
            while not self._over:
                self.work()
        finally:
            for calls in self.calls.values():
                calls.put(None)
            with self._lock:
                self._ended = True
            while not self._brought.empty():  # it came behind the giving up
                item = self._brought.get()
                if isinstance(item, Answer):
                    self._keep_late(item)

    def work(self) -> None:
        """Takes what has been brought, at least one thing, and gives out new calls."""
        try:
            came = self._next()
            if came:
                for call, outcome in self._take_in(came):
                    self._of_one(partial(self._hand_on, call.artist, outcome, call.worker))
            self._give_out()
        except ArtistBioGenError as exc:
            self._control.stop("error", exc)
        except Exception as exc:  # noqa: BLE001
            # The edge of a thread: an error nobody foresaw must end the run, not this thread, which
            # has calls in flight to wait for.
            self._control.stop("error", self._unforeseen(exc))
        if self._control.stopped:
            self._waiting.clear()  # left for the next run
        if not self._more and not self._waiting and len(self._free) == len(self.calls):
            self._over = True

    def _next(self) -> list[Answer | Settled]:
        """What has been brought; waited for only when there is nothing to be given out. Artists are
        put to those that wait."""
        came: list[Answer | Settled] = []
        try:
            item = self._brought.get(block=not self._has_some_to_give)
            while True:
                if isinstance(item, Artist):
                    self._waiting.append(item)
                elif not isinstance(item, _Sign):
                    came.append(item)
                    if len(came) == AT_ONCE:
                        break
                elif item is _Sign.NO_MORE:
                    self._more = False
                elif item is _Sign.GIVE_UP:
                    self._over = True
                    break
                item = self._brought.get_nowait()
        except queue.Empty:
            pass
        return came

    def _take_in(self, came: Sequence[Answer | Settled]) -> list[tuple[Call, Bio | Failed]]:
        """Writes what has come, and gives it back to be handed on."""
        entries: list[Entry] = []
        kept: list[tuple[Call, Bio | Failed]] = []
        for item in came:
            call = item.call
            if isinstance(item, Settled):
                outcome = item.outcome
            else:
                outcome = self._of_one(partial(self._caller.read, item))
                if outcome is None and call.met is not None:
                    self.calls[call.worker].put(call)  # it makes further calls by itself
                    continue
                if outcome is not None:
                    entries.append(_entry(call.artist, outcome))
            self._free.append(call.worker)
            if outcome is not None:
                kept.append((call, outcome))
        self._write(entries)
        return kept

    def _keep_late(self, answer: Answer) -> None:
        outcome = self._of_one(partial(self._caller.read, answer))
        if outcome is not None:
            with contextlib.suppress(LedgerFileError):  # closed: the next start names the call
                self._journal.write(_entry(answer.call.artist, outcome))

    def _of_one(self, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except Exception as exc:  # noqa: BLE001
            # As above, but what the others brought is kept. The journal names this one.
            self._control.stop("error", self._unforeseen(exc))
            return None

    def _write(self, entries: Sequence[Entry]) -> None:
        """What was paid for is handed on even when it cannot be written, and committed if that is
        still possible."""
        if not entries:
            return
        try:
            self._journal.write(*entries)
        except LedgerFileError as exc:
            self._control.stop("error", exc)
        except Exception as exc:  # noqa: BLE001
            # One of them is at fault, or memory does not suffice for all at once: those that can be
            # written alone are.
            self._control.stop("error", self._unforeseen(exc))
            for entry in entries:
                self._of_one(partial(self._journal.write, entry))

    @property
    def _has_some_to_give(self) -> bool:
        return bool(self._waiting and self._free and self._control.flowing)

    def _give_out(self) -> None:
        begun: list[Call] = []
        failed: list[Failed] = []
        # Without them no call is in flight, and the artists are left for the next run.
        with on_failure(lambda: self._free.extend(call.worker for call in begun)):
            while self._has_some_to_give and len(begun) + len(failed) < AT_ONCE:
                call = self._caller.prepare(self._waiting.popleft(), self._free[-1])
                if isinstance(call, Failed):
                    failed.append(call)
                else:
                    begun.append(call)
                    self._free.pop()
            if not self._control.flowing:  # since the first of them was made ready
                self._waiting.extendleft(call.artist for call in reversed(begun))
                self._free.extend(call.worker for call in begun)
                begun.clear()
            if begun:
                self._note(begun)
        for call in begun:
            self.calls[call.worker].put(call)
        self._write([Entry.failure(each) for each in failed])
        for each in failed:
            self._hand_on(each.artist, each, None)

    def _note(self, begun: Sequence[Call]) -> None:
        self._journal.write(*(call.intent for call in begun))
        try:
            self._telemetry.emit_each("calling", map(self._caller.told, begun))
        except LimitError:  # the log takes no more, and none of the calls is made
            self._journal.write(*(Entry.answered(call.artist, 1) for call in begun))
            self._journal.settle([call.artist.id for call in begun])
            raise


def _entry(artist: Artist, outcome: Bio | Failed) -> Entry:
    return Entry.reply(artist, outcome) if isinstance(outcome, Bio) else Entry.failure(outcome)
