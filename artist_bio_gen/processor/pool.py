"""Many artists at once: a bounded window, a pool of threads, and the way back to disk.

    feeder (the caller's thread) ─ window ─> clerk ─> syncer ─> committer
                                             │   │      │          │
                                      workers ask   fsync of   transaction, line,
                                      the API; the  the        fsync; window and
                                      clerk keeps   journal    journal are freed
                                      the journal

Each arrow is a queue; each thread behind the workers takes all that has arrived as one group, so
a thousand rows share one sync and one transaction. The syncer lingers a few milliseconds, by the
number of other workers, for theirs to arrive: each group costs about as much as thirty rows.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from artist_bio_gen.errors import (
    ArtistBioGenError,
    DefectError,
    LedgerFileError,
    LimitError,
    StoppedError,
    out_of_memory,
)
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.processor.caller import Answer, Call, Caller, Settled
from artist_bio_gen.processor.clerk import Clerk
from artist_bio_gen.processor.committer import DUPLICATE, Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.core import Core
from artist_bio_gen.processor.crew import NO_THREAD, Crew
from artist_bio_gen.processor.skips import SkipTally
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import NO_ROW, Artist, Bio, Done, Failed, Rejected, Skipped

LARGEST_GROUP = 256
"""Rows of one transaction: enough to make its cost small, few enough that a poison row is found
quickly and other processes get their turn at the lock."""

_LINGER_A_WORKER_S = 0.00015
_LONGEST_LINGER_S = 0.01

_CALLS_OF_A_THREAD = 128
"""After so many a worker's thread is replaced: seldom enough to cost nothing."""

_Arrived: TypeAlias = Draft | Failed | Rejected


class Processor:
    """Works through artists. One use: `run` once.

    `under_way` holds the ids that were taken from the input and are not settled; it is shared
    with whoever keeps repeated ids out (adding and removing an element of a set is atomic).
    """

    def __init__(
        self,
        caller: Caller,
        journal: Journal,
        committer: Committer,
        *,
        ledger_id: str,
        run: str,
        workers: int,
        under_way: set[str],
        control: Control,
        telemetry: Telemetry,
        max_consecutive_failures: int = 0,
        on_done: Callable[[Done], None] = lambda done: None,
        linger: Callable[[float], None] | None = None,
        core: Core | None = None,
    ) -> None:
        """`max_consecutive_failures`: so many calls in a row without a bio stop the run (a dead
        server or a wrong prompt must not turn a catalogue into failures); 0 means never.
        `on_done` is called in the committer's thread for each bio that is on disk. `linger` waits
        so many seconds (None: `control`'s). `core` is looked after by the committer's thread."""
        self._caller = caller
        self._journal = journal
        self._committer = committer
        self._ledger_id = ledger_id
        self._run = run
        self._workers = workers
        self._under_way = under_way
        self._control = control
        self._telemetry = telemetry
        self._max_consecutive_failures = max_consecutive_failures
        self._on_done = on_done
        self._linger = partial(
            linger or control.linger, min(_LONGEST_LINGER_S, (workers - 1) * _LINGER_A_WORKER_S)
        )
        self._core = core or Core()
        self._consecutive_failures = 0  # the committer's thread alone uses it
        # Twice the workers: while one half of the window is being called, the other half is
        # being committed or waits to be called, and neither side runs dry.
        self._window = 2 * workers + LARGEST_GROUP
        # Places that have become free in it, many at a time; the feeder counts them.
        self._freed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._skipped = SkipTally(run, telemetry)
        self._clerk = Clerk(
            caller,
            journal,
            workers=workers,
            control=control,
            telemetry=telemetry,
            hand_on=self._hand_on,
            unforeseen=_unforeseen,
        )
        self._arrived: queue.SimpleQueue[_Arrived | None] = queue.SimpleQueue()
        self._synced: queue.SimpleQueue[_Arrived | None] = queue.SimpleQueue()

    def run(self, rows: Iterable[Artist | Failed | Rejected | Skipped], *, grace: float) -> bool:
        """Takes rows until they end or the run is stopped, and returns when everything taken is
        final. After a stop, calls in flight are waited for `grace` seconds; False when some were
        left (the journal names them to the next start)."""
        self._control.when_stopped(partial(self._freed.put, 1))  # wakes a feeder that waits
        crew = Crew(self._workers, self._work, self._control)
        clerk = threading.Thread(target=self._clerk.run, name="clerk", daemon=True)
        syncer = threading.Thread(target=self._sync, name="syncer", daemon=True)
        committer = threading.Thread(target=self._commit, name="committer", daemon=True)
        try:
            self._start(committer, syncer, clerk, crew)
            self._feed(rows)
        except StoppedError:
            pass  # while waiting for a database that is away
        except ArtistBioGenError as exc:
            self._control.stop("error", exc)
        except MemoryError:
            self._control.stop("error", out_of_memory())
        except BaseException:  # whatever it is, the threads have to end
            self._control.stop("error")
            raise
        finally:
            self._clerk.bring_no_more()
            all_back = crew.wait(grace)
            self._clerk.give_up()
            _join(clerk)
            self._arrived.put(None)
            if syncer.ident is None:  # it could not be started, and hands nothing on
                self._synced.put(None)
            _join(syncer)
            _join(committer)
            self._core.release()
        return all_back

    def _start(
        self,
        committer: threading.Thread,
        syncer: threading.Thread,
        clerk: threading.Thread,
        crew: Crew,
    ) -> None:
        try:
            committer.start()
            syncer.start()
            clerk.start()
            crew.start()
        except NO_THREAD as exc:
            raise LimitError(
                f"the system gives no threads for {self._workers} workers"
                f" ({str(exc) or 'no memory'}); no call was made. Give fewer with --workers, or"
                " raise the limit on memory or processes, then --resume"
            ) from exc

    def _feed(self, rows: Iterable[Artist | Failed | Rejected | Skipped]) -> None:
        free = self._window
        try:
            for row in rows:
                if self._control.stopped:
                    break
                if isinstance(row, Skipped):
                    self._skipped.add(row)
                    continue
                while not free:
                    free += self._freed.get()
                free -= 1
                if isinstance(row, Artist):
                    self._clerk.bring(row)
                else:
                    self._arrived.put(row)
        finally:
            self._skipped.tell()

    def _work(self, number: int) -> bool:
        """Some calls, one after another; False when there are no more."""
        calls = self._clerk.calls[number]
        for _ in range(_CALLS_OF_A_THREAD):
            call = calls.get()
            if call is None:
                return False
            brought: Answer | Settled = Settled(call, None)
            try:
                brought = self._make(call)
            except BaseException:  # even that fails when there is no memory; nobody else would tell
                self._control.stop("error")
                raise
            finally:
                self._clerk.bring(brought)
        return True

    def _make(self, call: Call) -> Answer | Settled:
        try:
            return self._caller.make(call)
        except StoppedError:
            pass  # left for the next run
        except ArtistBioGenError as exc:
            self._control.stop("error", exc)
        except Exception as exc:  # noqa: BLE001
            # The edge of a thread: an error nobody foresaw must end the run, not one worker.
            self._control.stop("error", _unforeseen(exc))
        return Settled(call, None)

    def _hand_on(self, artist: Artist, outcome: Bio | Failed, worker: int | None) -> None:
        if isinstance(outcome, Bio):
            run, ledger = self._run, self._ledger_id
            self._arrived.put(draft(artist, outcome, ledger=ledger, run=run, worker=worker))
        else:
            self._arrived.put(outcome)

    def _sync(self) -> None:
        more = True
        while more:
            group, more = _take(self._arrived, LARGEST_GROUP, self._linger)
            try:
                self._journal.sync()
            except LedgerFileError as exc:
                # What has arrived is still committed if that is possible; then the run ends.
                self._control.stop("error", exc)
            except Exception as exc:  # noqa: BLE001
                # The edge of a thread, as above; what has arrived must still be handed on.
                self._control.stop("error", _unforeseen(exc))
            for item in group:
                self._synced.put(item)
        self._synced.put(None)

    def _commit(self) -> None:
        more = True
        given_up = False
        while more:
            group, more = _take(self._synced, LARGEST_GROUP)
            if group and not given_up:
                try:
                    in_journal = self._journal.sound
                    self._settle(group, self._committer.commit(group, in_journal=in_journal))
                except StoppedError:
                    given_up = True  # the database is away and the run is to end
                except LedgerFileError as exc:
                    # What has arrived may stand in no file at all: the database takes it still.
                    self._control.stop("error", exc)
                except ArtistBioGenError as exc:
                    given_up = True
                    self._control.stop("error", exc)
                except Exception as exc:  # noqa: BLE001
                    # The edge of a thread, as above; the queue must still be emptied.
                    given_up = True
                    self._control.stop("error", _unforeseen(exc))
            if group:
                self._freed.put(len(group))
            self._core.look()

    def _settle(self, group: list[_Arrived], outcomes: list[Done | Failed | Rejected]) -> None:
        ids = [item.artist.id for item in outcomes if not isinstance(item, Rejected)]
        self._journal.settle(ids)
        self._under_way.difference_update(ids)
        done = set()
        for outcome in outcomes:
            if isinstance(outcome, Done):
                done.add(outcome.artist.id)
                self._on_done(outcome)
        have_it = {
            item.artist.id
            for item in outcomes
            if isinstance(item, Failed) and item.kind == DUPLICATE
        }
        self._count_failures_in_a_row(group, done, have_it)

    def _count_failures_in_a_row(
        self, group: list[_Arrived], done: set[str], have_it: set[str]
    ) -> None:
        """In the order of arrival, in which good replies stand between the failures of a group.
        `have_it` are artists whose bio another run has committed meanwhile."""
        for item in group:
            if isinstance(item, Rejected) or (isinstance(item, Failed) and item.kind == NO_ROW):
                continue  # no call was made
            if item.artist.id in have_it:
                continue
            if item.artist.id in done:
                self._consecutive_failures = 0
                continue
            self._consecutive_failures += 1
            if self._consecutive_failures == self._max_consecutive_failures:
                self._control.stop(
                    "failures",
                    LimitError(
                        f"{self._consecutive_failures} artists in a row got no bio; see the reasons"
                        " in the .failed.jsonl file beside the ledger, mend the cause, then"
                        " --resume (--max-consecutive-failures 0 never stops)"
                    ),
                )


def _take(
    source: queue.SimpleQueue[_Arrived | None],
    most: int,
    linger: Callable[[], None] = lambda: None,
) -> tuple[list[_Arrived], bool]:
    """All that waits in the queue, at least one and at most `most`; False when its end (None)
    was among it. `linger` is called when there is a first one, so that more may come."""
    group: list[_Arrived] = []
    item = source.get()
    if item is not None:
        linger()
    try:
        while item is not None:
            group.append(item)
            if len(group) >= most:
                return group, True
            item = source.get_nowait()
    except queue.Empty:
        return group, True
    return group, False


def _join(thread: threading.Thread) -> None:
    if thread.ident is not None:  # else it could not be started
        thread.join()


def _unforeseen(exc: Exception) -> ArtistBioGenError:
    if isinstance(exc, MemoryError):
        return out_of_memory()
    where = traceback.extract_tb(exc.__traceback__)[-1]
    error = DefectError(
        f"an error nobody foresaw: {type(exc).__name__}: {exc}"
        f" ({Path(where.filename).name}, line {where.lineno})"
    )
    error.__cause__ = exc
    return error
