"""What a reply that is not 200 means: which error it is, and how long the server wants us to
wait. Told apart by status and by the codes in the body, never by the words of a message."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import orjson

from artist_bio_gen.errors import CallFailed, ConfigError, LimitError, Unavailable, Unusable
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.values import Json

USED_UP = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
WAIT = frozenset({"rate_limit_exceeded", "slow_down", "server_is_overloaded"})
FILTERED = frozenset(
    {"content_filter", "content_policy_violation", "bio_policy", "misalignment_policy_violation"}
)
SETTING_REFUSED = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
SAME_FOR_ALL = frozenset({"model", "temperature", "prompt", "prompt.id", "prompt.version"})
"""Parameters of a request that no row changes: when one is refused, it would be every time."""

FAILED = {408: "timeout", 409: "conflict", 425: "too_early"}
"""Kinds of the failures that may pass and are not the server's own (5xx)."""

SHOWN = 300
"""Characters of a server's own words that go into a message."""

_KEY = re.compile(r"\b(sk-|Bearer\s+)[\w.*-]+")


def load(body: bytes) -> Json:
    """The document in a body; None when it holds none. A text that is paid for is not lost to a
    lone surrogate or a NaN beside it, which the strict parser refuses."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body.decode("utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def shown(words: str | bytes) -> str:
    """A server's words for a message: on one line, cut, without a key that it repeats."""
    text = words[: 4 * SHOWN].decode("utf-8", "replace") if isinstance(words, bytes) else words
    line = _KEY.sub(r"\1***", " ".join(text[: 2 * SHOWN].split()))
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "\u2026"


def said(reply: Reply) -> str:
    """Who says it, for the beginning of a message: the status, and the id that support asks for."""
    request = reply.headers.get("x-request-id")
    return f"the API answered {reply.status}" + (f" (request {shown(request)})" if request else "")


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error's body tells. Texts are empty where it does not."""

    code: str
    type: str
    param: str
    message: str

    @classmethod
    def of(cls, document: Json, body: bytes = b"") -> Problem:
        """Servers put it under `error`, or at the top, or give a bare text."""
        at = document if isinstance(document, dict) else {}
        at = at.get("error") or at
        if isinstance(at, str):
            return cls("", "", "", shown(at))
        if not isinstance(at, dict):
            at = {}
        message = at.get("message") or at.get("detail")
        return cls(
            code=_word(at.get("code")),
            type=_word(at.get("type")),
            param=_word(at.get("param")),
            message=shown(message if isinstance(message, str) and message else body),
        )

    def __str__(self) -> str:
        return ": ".join(part for part in (self.code or self.type, self.message) if part)


def _word(value: Json) -> str:
    return shown(value) if isinstance(value, str) else ""


def raise_error(reply: Reply, *, about: str, now: float) -> NoReturn:
    """Raises what a reply with another status than 200 stands for. `about` names the model or
    the stored prompt; `now` (Unix seconds) is for a wait that is given as a date."""
    status = reply.status
    problem = Problem.of(load(reply.body), reply.body)
    codes = {problem.code, problem.type}
    told = f"{said(reply)}: {problem}".rstrip(": ")
    wait = asked_wait(reply.headers, now)

    if codes & USED_UP or status == 402:
        raise LimitError(
            f"{told}; the account's money or limit is used up: add credit or raise the limit "
            "with the provider, then go on with --resume"
        )
    if codes & WAIT or status in (429, 503, 529):
        kind = next(iter(codes & WAIT), "rate_limit_exceeded" if status == 429 else "overloaded")
        if wait is None and status == 429 and problem.code in ("rate_limit_exceeded", ""):
            wait = reset_wait(reply.headers)
        raise Unavailable(told, kind=kind, retry_after=wait)
    if 300 <= status < 400:
        to = shown(reply.headers.get("location", "nowhere"))
        raise ConfigError(
            f"{said(reply)}: redirected to {to}; no redirect is followed, as the key would go "
            "along: if that address is right, give it as --base-url"
        )
    if status == 401:
        raise ConfigError(f"{told}; check the key in OPENAI_API_KEY, and OPENAI_ORG_ID")
    if status == 407:
        raise ConfigError(f"{told}; the proxy wants a user and password in HTTP_PROXY")
    if problem.code == "model_not_found":
        raise ConfigError(f"{told}; choose another one than {about} with --model")
    if status == 403:
        raise ConfigError(f"{told}; this key may not use {about} here")
    if status in (404, 405, 410):
        raise ConfigError(
            f"{told}; either {about} is not known there (--model, --prompt-id), or the server "
            "has no such call: check --base-url, and try --api chat or --api responses"
        )
    if status in (408, 409, 425) or status >= 500:
        raise CallFailed(
            told, kind=FAILED.get(status, "server_error"), answered=True, retry_after=wait
        )
    if status < 400:
        raise CallFailed(f"{said(reply)}, not 200", kind="bad_reply", answered=True)
    if codes & SETTING_REFUSED or problem.param in SAME_FOR_ALL:
        raise ConfigError(
            f"{told}; {problem.param or 'a setting'} does not suit {about}: change or leave out "
            "that setting"
        )
    kind = "content_filter" if codes & FILTERED else "bad_request"
    raise Unusable(told, kind=kind)


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks us to wait, by `retry-after-ms` or `retry-after` (seconds or
    a date); None when it does not say."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    seconds = _number(after)
    if after is None or seconds is not None:
        return seconds
    from email.utils import parsedate_to_datetime  # rare, and not quick to import

    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def reset_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate limit that is nearest to used up is whole again; None when the
    headers do not tell. A limit that is missing is unknown, never used up."""
    waits: list[tuple[float, float]] = []
    for what in ("requests", "tokens", "project-tokens"):
        remaining = _number(headers.get(f"x-ratelimit-remaining-{what}"))
        limit = _number(headers.get(f"x-ratelimit-limit-{what}"))
        reset = parse_duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        if remaining is not None and reset is not None and (remaining == 0 or limit):
            waits.append((remaining / limit if limit else 0.0, -reset))
    return -min(waits)[1] if waits else None


_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNITS |= {"\u00b5s": 1e-6, "\u03bcs": 1e-6}
_PART = r"(\d+(?:\.\d+)?)(ms|us|\u00b5s|\u03bcs|ns|d|h|m|s)"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Seconds of a duration as rate headers give it: `6m0s`, `8.64s`, `20ms`, `1h30m`; a bare
    number is seconds. None when it is none."""
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return _number(text)
    seconds = sum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, text))
    return seconds if math.isfinite(seconds) else None


def _number(text: str | None) -> float | None:
    """A finite number that is not negative; None for anything else."""
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
