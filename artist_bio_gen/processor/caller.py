"""One artist's bio, bought: the only place where a call to the model is made again.

Each call is noted in the journal before it is made, and what comes of it before anything else
is done with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote

import tenacity

from artist_bio_gen.errors import (
    CallFailed,
    ConfigError,
    LedgerFileError,
    LimitError,
    ModelError,
    StoppedError,
    Unavailable,
    Unusable,
)
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Bio, Failed, Generate, Usage

_AT_ONCE_S = 0.01
_LONGEST_ID = 300  # characters of an artist's id in X-Client-Request-Id (the API's limit is 512)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts calls that may have been billed. Waits that the server asks for, or
    that an unreachable server needs, are bounded by `max_wait` seconds for one artist."""

    max_attempts: int = 5
    max_wait: float = 600.0
    backoff: float = 0.5
    longest_backoff: float = 30.0


class Caller:
    """Calls the model for one artist after another. Thread-safe: it keeps nothing of an artist."""

    def __init__(
        self,
        generate: Generate,
        journal: Journal,
        *,
        run: str,
        policy: RetryPolicy,
        control: Control,
        telemetry: Telemetry,
        redact: Callable[[str], str] = str,
        holds_secret: Callable[[str], bool] = lambda text: False,
        require_room: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`redact` takes secrets out of what a server said before it is kept; a text that
        `holds_secret` is no bio. `require_room` raises LimitError, before a call is made, when
        what comes of it might not find a place on the disk."""
        self._generate = generate
        self._journal = journal
        self._run = run
        self._policy = policy
        self._control = control
        self._telemetry = telemetry
        self._redact = redact
        self._holds_secret = holds_secret
        self._require_room = require_room
        self._clock = clock
        self._backoff = tenacity.wait_random_exponential(
            multiplier=policy.backoff, max=policy.longest_backoff
        )

    def buy(self, artist: Artist, worker: int) -> Bio | Failed:
        """The bio, or why there is none; both are in the journal. StoppedError when the run ends
        before the call was made or between two attempts; LimitError and ConfigError when no
        call of this run can succeed. After these the journal keeps the artist only if a call
        got no answer, so that it may have been billed: the next start names it."""
        tries = _Tries()
        try:
            try:
                bio = self._call(artist, worker, tries)
            except (Unavailable, CallFailed) as exc:
                bio = self._call_again(exc, artist, worker, tries)
        except (Unavailable, CallFailed, Unusable) as exc:
            failed = self._failed(artist, exc, tries.billable)
            self._keep(lambda: self._journal.failure(failed))
            return failed
        except (StoppedError, LimitError, ConfigError):
            if not tries.unanswered:
                self._journal.settle([artist.id])
            raise
        if bio.attempts != tries.billable:
            bio = replace(bio, attempts=tries.billable)
        self._keep(lambda: self._journal.reply(artist, bio))
        return bio

    def _call_again(self, error: ModelError, artist: Artist, worker: int, tries: _Tries) -> Bio:
        """Tenacity takes over after the first error. Only then, because what it sets up for an
        artist is garbage in circles, which for a million artists makes memory swell."""
        untold = [error]

        def call() -> Bio:
            if untold:
                raise untold.pop()
            return self._call(artist, worker, tries)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unavailable, CallFailed)),
            wait=self._wait,
            stop=lambda state: self._is_spent(state, tries),
            sleep=self._control.sleep,
            before_sleep=lambda state: self._tell(state, artist, tries),
            reraise=True,
        )(call)

    def _keep(self, write: Callable[[], None]) -> None:
        try:
            write()
        except LedgerFileError as exc:
            # It was paid for: commit it if that is still possible, and make no further call.
            self._control.stop("error", exc)

    def _call(self, artist: Artist, worker: int, tries: _Tries) -> Bio:
        self._control.wait_until_flowing()
        self._require_room()
        tries.calls += 1
        tries.billable += 1
        request_id = f"{self._run}-{quote(artist.id, safe='')[:_LONGEST_ID]}-{tries.calls}"
        self._journal.intent(artist, tries.calls, request_id)
        try:
            self._telemetry.emit(
                "calling",
                run=self._run,
                artist_id=artist.id,
                attempt=tries.calls,
                request_id=request_id,
                worker=worker,
            )
            return self._without_secrets(self._generate(artist, request_id))
        except Unavailable:
            tries.billable -= 1
            self._begin_wait(tries)
            self._journal.answered(artist, tries.calls)
            raise
        except CallFailed as exc:
            tries.unanswered = tries.unanswered or not exc.answered
            if exc.retry_after is not None:
                self._begin_wait(tries)
            if exc.answered:
                self._journal.answered(artist, tries.calls)
            raise
        except (ConfigError, LimitError):  # or the log takes no more, and no call was made
            self._journal.answered(artist, tries.calls)
            raise

    def _without_secrets(self, bio: Bio) -> Bio:
        """A server that repeats what it was sent must not bring the key into ledger and table. A
        text is stored as it came or not at all, so one with the key in it is no bio."""
        if self._holds_secret(bio.text):
            raise Unusable(
                "the reply holds the API key, or a password; is it a model that answers here?",
                kind="secret",
                text=bio.text,
                response_id=bio.response_id and self._redact(bio.response_id),
                usage=bio.usage.counts() if bio.usage else None,
            )
        ids = (bio.response_id, bio.request_id, bio.finish_reason)
        if not any(map(self._holds_secret, filter(None, ids))):
            return bio
        response_id, request_id, finish_reason = (each and self._redact(each) for each in ids)
        return replace(
            bio, response_id=response_id, request_id=request_id, finish_reason=finish_reason
        )

    def _begin_wait(self, tries: _Tries) -> None:
        if tries.first_wait is None:
            tries.first_wait = self._clock()

    def _wait(self, state: tenacity.RetryCallState) -> float:
        exc = _error_of(state)
        if exc.retry_after is None:
            return self._backoff(state)
        # Spread, or all workers that were sent away together come back together.
        wait = exc.retry_after + tenacity.wait_random(0, 0.1 + exc.retry_after / 10)(state)
        # A server that always says "at once" must not be asked in a loop.
        return max(wait, self._backoff(state)) if exc.retry_after < _AT_ONCE_S else wait

    def _is_spent(self, state: tenacity.RetryCallState, tries: _Tries) -> bool:
        exc = _error_of(state)
        if isinstance(exc, CallFailed) and tries.billable >= self._policy.max_attempts:
            return True
        if tries.first_wait is None:  # it is we who chose to wait, and not for long
            return False
        waited = self._clock() - tries.first_wait
        return waited + state.upcoming_sleep > self._policy.max_wait

    def _tell(self, state: tenacity.RetryCallState, artist: Artist, tries: _Tries) -> None:
        exc = _error_of(state)
        self._telemetry.emit(
            "retrying",
            run=self._run,
            artist_id=artist.id,
            attempt=tries.calls,
            kind=exc.kind,
            wait_s=round(state.upcoming_sleep, 3),
            reason=self._redact(str(exc)),
        )

    def _failed(
        self, artist: Artist, exc: Unavailable | CallFailed | Unusable, attempts: int
    ) -> Failed:
        reason = self._redact(str(exc))
        if not isinstance(exc, Unusable):
            transient = isinstance(exc, Unavailable)
            return Failed(artist, exc.kind, reason, attempts, transient=transient)
        return Failed(
            artist,
            exc.kind,
            reason,
            attempts,
            transient=exc.transient,
            text=None if exc.text is None else self._redact(exc.text),
            response_id=exc.response_id and self._redact(exc.response_id),
            usage=Usage(**exc.usage) if exc.usage else None,
        )


@dataclass(slots=True)
class _Tries:
    calls: int = 0
    billable: int = 0  # without those that the server turned away unread
    first_wait: float | None = None
    unanswered: bool = False  # was a call left without an answer? It may have been billed


def _error_of(state: tenacity.RetryCallState) -> Unavailable | CallFailed:
    assert state.outcome is not None
    exc = state.outcome.exception()
    assert isinstance(exc, Unavailable | CallFailed)
    return exc
