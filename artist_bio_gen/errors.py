"""The family of errors. Each message names the thing, the value and the way out.

ArtistBioGenError
├── InputError            the input cannot be read                       exit 1
├── UsageError            the command was given something it cannot use  exit 2
├── ConfigError           a setting, key, server or table does not fit   exit 3
├── LedgerError           ledger, journal and database disagree          exit 5
│   └── LedgerFileError   a file call on ledger or journal failed        exit 6
├── LimitError            stopped by quota, disk, failures; resumable    exit 6
├── DefectError           an error nobody foresaw                        exit 70
└── ModelError            one call gave no bio; never ends a run by itself
    ├── Unavailable       the server wants us to wait; nothing was bought
    ├── CallFailed        the call failed; another attempt may succeed
    └── Unusable          a reply that is no bio, or a request that cannot succeed
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_INPUT = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_SOME_FAILED = 4
EXIT_DISAGREE = 5
EXIT_LIMIT = 6
EXIT_DEFECT = 70  # EX_SOFTWARE of sysexits(3)
EXIT_INTERRUPTED = 130


class ArtistBioGenError(Exception):
    """Base of all errors of this package. `exit_code` is what the command returns for it."""

    exit_code: ClassVar[int] = EXIT_CONFIG


class InputError(ArtistBioGenError):
    """The input cannot be read (as a whole; a single bad row is a `Rejected` outcome)."""

    exit_code = EXIT_INPUT


class UsageError(ArtistBioGenError):
    """The command or a function was given something it cannot use."""

    exit_code = EXIT_USAGE


class ConfigError(ArtistBioGenError):
    """A setting, a key, a server or a table does not fit the run."""

    exit_code = EXIT_CONFIG


class LedgerError(ArtistBioGenError):
    """Ledger, journal and database disagree, or a ledger is damaged."""

    exit_code = EXIT_DISAGREE


class LedgerFileError(LedgerError):
    """A file call on the ledger or a journal failed; nothing after it is acknowledged."""

    exit_code = EXIT_LIMIT


class LimitError(ArtistBioGenError):
    """The run was stopped by a limit (quota, disk, failures in a row). It can be resumed."""

    exit_code = EXIT_LIMIT


def out_of_memory() -> LimitError:
    """What a MemoryError means to a person, wherever it comes up."""
    return LimitError(
        "the system gives no more memory; what was paid for is not lost by that. Give more, or"
        " fewer --workers, then --resume"
    )


class DefectError(ArtistBioGenError):
    """An error nobody foresaw, caught at the edge of a thread; it ends the run."""

    exit_code = EXIT_DEFECT


class StoppedError(Exception):
    """Raised out of a wait because the run is to end. No error: it never reaches the user."""


class ModelError(ArtistBioGenError):
    """One call to the model gave no bio. `kind` is one word for logs and counters."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unavailable(ModelError):
    """The server cannot take the call now (429, 503, no connection): wait and ask again.

    Nothing was bought, so it does not count as an attempt. `retry_after` is in seconds,
    None when the server did not say.
    """

    def __init__(self, message: str, *, kind: str, retry_after: float | None = None) -> None:
        super().__init__(message, kind=kind)
        self.retry_after = retry_after


class CallFailed(ModelError):
    """The call failed in a way that may pass (5xx, time-out, reset). It may have been billed,
    so it counts as an attempt. `answered` tells that a reply with a status had arrived;
    `retry_after` is in seconds, None when the server did not say."""

    def __init__(
        self, message: str, *, kind: str, answered: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(message, kind=kind)
        self.answered = answered
        self.retry_after = retry_after


class Unusable(ModelError):
    """A reply that is no bio (refused, incomplete, empty, malformed), or a request that this
    server will never answer. Not asked again in this run. `text`, `response_id` and `usage`
    (a mapping as in `values.Usage`) are what had been paid for. `transient`: nothing was bought,
    and the next run may ask again."""

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        text: str | None = None,
        response_id: str | None = None,
        usage: dict[str, int | None] | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message, kind=kind)
        self.text = text
        self.response_id = response_id
        self.usage = usage
        self.transient = transient
