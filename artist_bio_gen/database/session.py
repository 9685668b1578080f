"""Work on the database that rides out what passes by itself: a lost connection, a restart, a full
server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg
import tenacity

from artist_bio_gen.database.connect import connect, connect_first, describe, passes
from artist_bio_gen.database.last_word import LastWord
from artist_bio_gen.errors import ConfigError, LedgerError, LimitError, StoppedError

_T = TypeVar("_T")

_IDLE = psycopg.pq.TransactionStatus.IDLE
UNIQUE_VIOLATION = "23505"
# Data, constraint, a function's or view's refusal, a limit such as an index entry's size, the
# user's own trigger: with another row it may go well.
_ROW_CLASSES = ("21", "22", "23", "38", "39", "44", "54", "P0")


class RowsRefusedError(Exception):
    """The database refuses one of these rows (too long, a constraint, a duplicate)."""

    def __init__(self, reason: str, *, duplicate: bool, may_pass: bool = False) -> None:
        """`duplicate`: another process was first with this artist's bio; `may_pass`: a row
        of the same key may have come in, or gone, at the same moment."""
        super().__init__(reason)
        self.duplicate = duplicate
        self.may_pass = may_pass


class _PassingError(Exception):
    """What may be gone at the next attempt."""


class Session:
    """One connection for one thread, and a new one when it is lost. `max_wait` (s): how long a
    database that is away is waited for. `sleep` is called between attempts and may raise to end
    the waiting. `on_trouble` and `on_recovery` frame each such wait."""

    def __init__(
        self,
        conninfo: str,
        *,
        max_wait: float,
        on_trouble: Callable[[str], None],
        on_recovery: Callable[[], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._conninfo = conninfo
        self._max_wait = max_wait
        self._on_trouble = on_trouble
        self._on_recovery = on_recovery
        self._sleep = sleep
        self._last_word = LastWord()
        self._conn: psycopg.Connection | None = connect_first(conninfo)

    def close(self) -> None:
        self._last_word.close()
        self._disconnect()

    def break_off_in(self, seconds: float) -> None:
        """From then on what takes the server long ends in StoppedError, as does all work after it.
        Called from any thread."""
        self._last_word.is_due_in(seconds)

    def do(self, work: Callable[[psycopg.Connection], _T]) -> _T:
        """Calls `work` with a live connection, again for as long as what fails may pass."""
        try:
            return self._attempt(work)
        except _PassingError as exc:
            self._on_trouble(str(exc))
        # Set up only now: it is garbage in circles, and there are many transactions.
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
            stop=tenacity.stop_after_delay(self._max_wait),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            result: _T = retrying(self._attempt, work)
        except _PassingError as exc:
            raise LimitError(
                f"{describe(self._conninfo)}: away for more than {self._max_wait:g} s ({exc});"
                " what was paid for is in the journal: --resume when the database is back"
            ) from exc
        except (RowsRefusedError, ConfigError, LedgerError):
            self._on_recovery()  # it answered, be it with another error
            raise
        self._on_recovery()
        return result

    def _attempt(self, work: Callable[[psycopg.Connection], _T]) -> _T:
        try:
            if self._conn is None or self._conn.closed:
                self._conn = connect(self._conninfo)
                be_patient(self._conn)
            with self._last_word.over(self._conn):
                return work(self._conn)
        except psycopg.Error as exc:
            if self._conn is not None and self._conn.info.transaction_status != _IDLE:
                self._disconnect()  # lost, or not even rolling back went well
            if self._last_word.broken_off:
                raise StoppedError("the database takes too long") from exc
            raise _sorted_error(exc, describe(self._conninfo)) from exc

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def _sorted_error(exc: psycopg.Error, where: str) -> Exception:
    """Tells apart what may pass, what a row is guilty of, and what needs a person. By SQLSTATE
    (PostgreSQL manual, appendix A); a lost connection has none."""
    state = exc.sqlstate
    text = str(exc).strip()
    if passes(exc):
        return _PassingError(text)
    if state is None:
        if isinstance(exc, psycopg.DataError):
            return RowsRefusedError(_one_sentence(exc), duplicate=False)
    elif state.startswith(_ROW_CLASSES):
        duplicate = exc.diag.constraint_name == "one_bio_per_generation"
        return RowsRefusedError(
            _one_sentence(exc),
            duplicate=duplicate,
            may_pass=state == UNIQUE_VIOLATION and not duplicate,
        )
    return ConfigError(f"{where}: {text} (SQLSTATE {state})")


def _one_sentence(exc: psycopg.Error) -> str:
    """What the server said, without the lines in which libpq writes it, whose labels change with
    the server's language."""
    diag = exc.diag
    said = (diag.message_primary, diag.message_detail, diag.message_hint, diag.context)
    parts = [" ".join(part.split()).rstrip(".") for part in said if part]
    return "; ".join(parts) or " ".join(str(exc).split())


def be_patient(conn: psycopg.Connection) -> None:
    """No wait inside of the server is for ever: a lock that somebody else holds, or a backend of
    ours whose client has gone, shows as trouble that is told and can be stopped."""
    conn.execute(
        "set lock_timeout = '5s'; set idle_in_transaction_session_timeout = '60s';"
        " set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10;"
        " set tcp_keepalives_count = 3"
    )
