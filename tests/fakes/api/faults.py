"""What can go wrong with a call, and which call it happens to.

A fault is written `kind[=argument][*times][@probability]`, for example `rate_limit=0.5*2`.
A call takes its fault from the first of these that has one for it:

1. markers in the request's text, `[[fault:refuse]]`: the calls of one artist use them up in
   order, `*2` for its first two calls, without a number for all that follow;
2. the schedule: one step a call in the order of arrival, `ok*5, reset, rate_limit*3`;
3. chances: `server_error@0.01, reset@0.02`, drawn from the seed, the request's text and the
   number of its call, so the order of arrival does not matter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

OK = "ok"

_QUOTA = "You exceeded your current quota, please check your plan and billing details."


@dataclass(frozen=True, slots=True)
class Fault:
    """`times` is None where no number was written. `chance` is a probability."""

    kind: str
    argument: str = ""
    times: int | None = None
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """`retry_after` (seconds) is the default of the fault's argument, None for no such header."""

    status: int
    code: str | None
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    retry_after: str | None = None


# Codes and types as the API's error guide lists them.
ERRORS = {
    "rate_limit": ErrorReply(
        429, "rate_limit_exceeded", "Rate limit reached.", "requests", retry_after="1"
    ),
    "token_limit": ErrorReply(
        429, "rate_limit_exceeded", "Rate limit reached.", "tokens", retry_after="1"
    ),
    "slow_down": ErrorReply(
        429, "slow_down", "Please reduce your request rate.", "requests", retry_after="1"
    ),
    "flex_unavailable": ErrorReply(
        429, "resource_unavailable", "Resource unavailable.", "resource_unavailable"
    ),
    "insufficient_quota": ErrorReply(429, "insufficient_quota", _QUOTA, "insufficient_quota"),
    "credit_balance_exhausted": ErrorReply(
        429, "credit_balance_exhausted", _QUOTA, "insufficient_quota"
    ),
    "organization_spend_limit_exceeded": ErrorReply(
        429, "organization_spend_limit_exceeded", _QUOTA, "insufficient_quota"
    ),
    "project_spend_limit_exceeded": ErrorReply(
        429, "project_spend_limit_exceeded", _QUOTA, "insufficient_quota"
    ),
    "organization_usage_limit_exceeded": ErrorReply(
        429, "organization_usage_limit_exceeded", _QUOTA, "insufficient_quota"
    ),
    "overloaded": ErrorReply(
        503, "server_is_overloaded", "The server is overloaded.", "server_error", retry_after="1"
    ),
    "server_error": ErrorReply(500, "server_error", "The server had an error.", "server_error"),
    "bad_gateway": ErrorReply(502, None, "Bad gateway.", "server_error"),
    "gateway_timeout": ErrorReply(504, None, "Gateway time-out.", "server_error"),
    "request_timeout": ErrorReply(408, None, "Request time-out."),
    "conflict": ErrorReply(409, None, "Conflict."),
    "unauthorized": ErrorReply(401, "invalid_api_key", "Incorrect API key provided."),
    "forbidden": ErrorReply(403, "unsupported_country_region_territory", "Not supported here."),
    "model_not_found": ErrorReply(404, "model_not_found", "The model does not exist."),
    "bad_request": ErrorReply(400, None, "Unsupported parameter.", param="temperature"),
    "context_length": ErrorReply(
        400, "context_length_exceeded", "The input exceeds the context window.", param="input"
    ),
    "too_large": ErrorReply(413, None, "Request too large."),
    "unprocessable": ErrorReply(422, None, "Unprocessable entity."),
}
"""Complete replies with an error status. Argument: seconds for `Retry-After`, or
milliseconds as `20ms` for `retry-after-ms`, or `none`."""

BODIES = frozenset(
    {
        "refuse",  # refused, in the endpoint's own shape
        "incomplete",  # cut off at max_output_tokens / finish_reason length
        "incomplete_empty",  # the same before the first word
        "content_filter",
        "empty",
        "whitespace",
        "null_text",
        "no_output",  # no message, no choice
        "failed",  # status failed; chat: an error object with status 200
        "queued",  # not finished; argument: another status
        "no_usage",
        "nul",
        "surrogate",  # a lone one, as a JSON escape
        "line_separator",  # U+2028, U+2029 and U+0085, unescaped
        "long",  # argument: characters, ten million without
        "broken_json",
        "wrong_type",  # argument: the whole body, `[]` without
        "wrong_shape",
        "nan",
        "deep",  # 100,000 nested lists
        "not_utf8",
        "html_ok",  # a page with status 200
    }
)
"""Complete replies with status 200 that are no bio, or a bio that needs care."""

COMPLETE_WIRE = frozenset(
    {
        "chunked",
        "gzip",
        "no_length",  # ended by the end of the connection
        "drip",  # argument: seconds for the whole body, 5 without
        "huge_headers",  # argument: bytes, 200,000 without
        "continue_100",  # an interim reply first
        "close_after",  # the connection ends after the reply, unannounced
    }
)
"""A good reply on an unusual way; whether a client takes it is the client's choice."""

BROKEN_WIRE = frozenset(
    {
        "truncated",  # half of what Content-Length says, then the end
        "chunked_cut",
        "gzip_broken",
        "half_head",
        "garbage",  # no HTTP at all
        "close",  # the connection ends without a byte
        "reset",  # RST after the call was done, so it would be billed
        "hang",  # never answers
    }
)
"""The call was done and would be billed, and its reply cannot be read."""

REFUSED_WIRE = frozenset(
    {
        "reset_before",  # RST before anything was done
        "html_error",  # 502 with a page, as a proxy would; argument: another status
        "redirect",  # 307; argument: the address, another path here without
    }
)
"""Nothing was done for the call."""

KINDS = frozenset({OK}) | set(ERRORS) | BODIES | COMPLETE_WIRE | BROKEN_WIRE | REFUSED_WIRE

_FAULT = re.compile(
    r"\s*(?P<kind>[a-z_0-9]+)(?:=(?P<argument>[^*@,\]]*))?"
    r"(?:\*(?P<times>\d+))?(?:@(?P<chance>[0-9.]+))?\s*"
)
_MARKER = re.compile(r"\[\[fault:([^\]]*)\]\]")


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Reads a comma-separated list. Raises ValueError naming the part that is no fault."""
    return tuple(_parse_fault(part) for part in text.split(",") if part.strip())


def markers(text: str) -> tuple[Fault, ...]:
    """The faults that a request's text asks for. Raises ValueError as `parse_faults` does."""
    return tuple(_parse_fault(part) for part in _MARKER.findall(text))


def pick_marked(marked: tuple[Fault, ...], number: int) -> Fault | None:
    """The fault of an artist's call `number`, counted from 0."""
    for fault in marked:
        if fault.times is None or number < fault.times:
            return fault
        number -= fault.times
    return None


def schedule(steps: tuple[Fault, ...], *, repeat: bool) -> Iterator[Fault]:
    while True:
        for step in steps:
            for _ in range(1 if step.times is None else step.times):
                yield step
        if not repeat or not steps:
            return


def draw(chances: tuple[Fault, ...], seed: int, digest: str, number: int) -> Fault | None:
    """At most one of the chances, which exclude each other. `digest` is the text's hash."""
    source = hashlib.sha256(f"{seed}/{digest}/{number}".encode()).digest()
    left = int.from_bytes(source[:8], "big") / 2**64
    for fault in chances:
        left -= fault.chance
        if left < 0:
            return fault
    return None


def _parse_fault(text: str) -> Fault:
    match = _FAULT.fullmatch(text)
    if match is None or match["kind"] not in KINDS:
        raise ValueError(f"{text.strip()!r} is no fault; there are: {', '.join(sorted(KINDS))}")
    return Fault(
        kind=match["kind"],
        argument=match["argument"] or "",
        times=None if match["times"] is None else int(match["times"]),
        chance=1.0 if match["chance"] is None else float(match["chance"]),
    )
