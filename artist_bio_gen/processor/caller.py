"""One artist's bio, bought: the only place where a call to the model is made again.

A call has three steps. `prepare` and `read` are the clerk's (clerk.py), who does many at a time and
notes them in the journal; `make`, which waits for the API, is a worker's. What fails there stays
with the worker: further calls are made, noted and kept one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import tenacity

from artist_bio_gen.errors import (
    CallFailed,
    ConfigError,
    LedgerFileError,
    LimitError,
    StoppedError,
    Unavailable,
    Unusable,
)
from artist_bio_gen.ledger.journal import Entry, Journal
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Answered, Artist, Bio, Failed, Generate, Prepared, Usage

_ModelErrors: TypeAlias = Unavailable | CallFailed | Unusable | LimitError | ConfigError
_MODEL_ERRORS = (Unavailable, CallFailed, Unusable, LimitError, ConfigError)

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


@dataclass(slots=True)
class Tries:
    calls: int = 0
    billable: int = 0  # without those that the server turned away unread
    first_wait: float | None = None
    unanswered: bool = False  # was a call left without an answer? It may have been billed


@dataclass(slots=True)
class Call:
    """What is asked of the model for one artist, by one worker. `request_id` and the count in
    `tries` are those of the newest attempt; `met` is the error with which it came back."""

    artist: Artist
    worker: int
    prepared: Prepared
    request_id: str
    tries: Tries
    met: _ModelErrors | None = None

    @property
    def intent(self) -> Entry:
        return Entry.intent(self.artist, self.tries.calls, self.request_id)


class Answer(NamedTuple):
    """A call came back with something to be read."""

    call: Call
    answered: Answered


class Settled(NamedTuple):
    """A worker is through with a call. What came of it is in the journal; None when nothing did."""

    call: Call
    outcome: Bio | Failed | None


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

    def prepare(self, artist: Artist, worker: int) -> Call | Failed:
        """The first call, ready to be noted and made; a failure when the artist does not go into
        the prompt. LimitError when there is no room for what comes of it."""
        self._require_room()
        try:
            prepared = self._generate.prepare(artist)
        except Unusable as exc:
            return self._failed(artist, exc, 0)
        return Call(artist, worker, prepared, self._request_id(artist, 1), Tries(1, 1))

    def make(self, call: Call) -> Answer | Settled:
        """Makes a call that is noted. After an error, also one that `read` has met, further calls
        until there is a bio or none to be had, which is in the journal then.

        StoppedError when the run ends before the call or between two; LimitError and ConfigError
        when no call of this run can succeed. After these the journal keeps the artist only if a
        call got no answer, so that it may have been billed: the next start names it.
        """
        if call.met is not None:
            return self._go_on(call, call.met)
        try:
            return Answer(call, self._generate.ask(call.prepared, call.request_id))
        except _MODEL_ERRORS as exc:
            return self._go_on(call, exc)

    def read(self, answer: Answer) -> Bio | Failed | None:
        """What a call brought, not in the journal yet; None when it has to go back to its worker
        with the error that it has met."""
        call = answer.call
        try:
            return self._without_secrets(self._generate.read(answer.answered))
        except Unusable as exc:
            return self._failed(call.artist, exc, call.tries.billable)
        except _MODEL_ERRORS as exc:
            call.met = exc
            return None

    def _go_on(self, call: Call, error: _ModelErrors) -> Settled:
        artist, tries = call.artist, call.tries
        try:
            self._note(error, artist, tries)
            bio = self._call_again(error, call)
        except (Unavailable, CallFailed, Unusable) as exc:
            failed = self._failed(artist, exc, tries.billable)
            self._keep(Entry.failure(failed))
            return Settled(call, failed)
        except (StoppedError, LimitError, ConfigError):
            if not tries.unanswered:
                self._journal.settle([artist.id])
            raise
        if bio.attempts != tries.billable:
            bio = replace(bio, attempts=tries.billable)
        self._keep(Entry.reply(artist, bio))
        return Settled(call, bio)

    def _call_again(self, error: _ModelErrors, call: Call) -> Bio:
        """Tenacity takes over after the first error. Only then, because what it sets up for an
        artist is garbage in circles, which for a million artists makes memory swell."""
        tries = call.tries
        untold = [error]

        def again() -> Bio:
            if untold:
                raise untold.pop()
            return self._call(call)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unavailable, CallFailed)),
            wait=self._wait,
            stop=lambda state: self._is_spent(state, tries),
            sleep=self._control.sleep,
            before_sleep=lambda state: self._tell(state, call.artist, tries),
            reraise=True,
        )(again)

    def _keep(self, entry: Entry) -> None:
        try:
            self._journal.write(entry)
        except LedgerFileError as exc:
            # It was paid for: commit it if that is still possible, and make no further call.
            self._control.stop("error", exc)

    def _call(self, call: Call) -> Bio:
        artist, tries = call.artist, call.tries
        self._control.wait_until_flowing()
        self._require_room()
        tries.calls += 1
        tries.billable += 1
        call.request_id = self._request_id(artist, tries.calls)
        self._journal.write(call.intent)
        try:
            self._telemetry.emit("calling", **self.told(call))
            answered = self._generate.ask(call.prepared, call.request_id)
            return self._without_secrets(self._generate.read(answered))
        except _MODEL_ERRORS as exc:  # or the log takes no more, and no call was made
            self._note(exc, artist, tries)
            raise

    def told(self, call: Call) -> dict[str, Any]:
        """Of a call that is about to be made."""
        return {
            "run": self._run,
            "artist_id": call.artist.id,
            "attempt": call.tries.calls,
            "request_id": call.request_id,
            "worker": call.worker,
        }

    def _request_id(self, artist: Artist, attempt: int) -> str:
        return f"{self._run}-{quote(artist.id, safe='')[:_LONGEST_ID]}-{attempt}"

    def _note(self, error: _ModelErrors, artist: Artist, tries: Tries) -> None:
        """What an error of the last call means for the artist's others, and for the journal."""
        answered = True
        match error:
            case Unavailable():
                tries.billable -= 1
                self._begin_wait(tries)
            case CallFailed():
                answered = error.answered
                tries.unanswered = tries.unanswered or not answered
                if error.retry_after is not None:
                    self._begin_wait(tries)
            case Unusable():
                return  # a failure, which is kept as such
        if answered:
            self._journal.write(Entry.answered(artist, tries.calls))

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

    def _begin_wait(self, tries: Tries) -> None:
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

    def _is_spent(self, state: tenacity.RetryCallState, tries: Tries) -> bool:
        exc = _error_of(state)
        if isinstance(exc, CallFailed) and tries.billable >= self._policy.max_attempts:
            return True
        if tries.first_wait is None:  # it is we who chose to wait, and not for long
            return False
        waited = self._clock() - tries.first_wait
        return waited + state.upcoming_sleep > self._policy.max_wait

    def _tell(self, state: tenacity.RetryCallState, artist: Artist, tries: Tries) -> None:
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


def _error_of(state: tenacity.RetryCallState) -> Unavailable | CallFailed:
    assert state.outcome is not None
    exc = state.outcome.exception()
    assert isinstance(exc, Unavailable | CallFailed)
    return exc
