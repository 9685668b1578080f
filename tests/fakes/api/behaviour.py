"""How the server behaves: settings that may change while it runs, and what follows of them."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from . import faults
from .faults import OK, Fault
from .replies import Request

_GOOD = Fault(OK)


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The help of each field says what it takes; `changed` reads strings and JSON values."""

    latency: str = _option(
        "0",
        "seconds before a reply: 0.05, uniform:LOW:HIGH, normal:MEAN:SD, lognormal:MEDIAN:SIGMA "
        "or exponential:MEAN",
    )
    words: int = _option(60, "words of a bio, about")
    text: str = _option("", "the text of every reply, instead of one made from the request")
    schedule: str = _option("", "faults of the calls in their order: ok*5, reset, rate_limit=1*2")
    repeat: bool = _option(False, "begin the schedule again at its end")
    chances: str = _option("", "faults by probability: server_error@0.01, reset@0.02")
    seed: int = _option(0, "of chances and latency")
    models: str = _option("", "names with shutdown dates, a, b=2026-12-11; others get a 404")
    api_key: str = _option("", "wanted of every request; any will do without")
    rate_headers: bool = _option(True, "send x-ratelimit-*")
    headers: str = _option("{}", "more headers of every good reply, a JSON object")
    reset_connections: int = _option(0, "reset the next N connections as they are opened")
    artist_header: str = _option(
        # The run in front may be a UUID, or a word without a dash; the attempt stands behind.
        r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[^-]*)-(?P<artist>.+)-[^-]*",
        "regular expression that finds the artist (percent-encoded) in X-Client-Request-Id",
    )
    artist_text: str = _option("", "the same for the request's text; goes before the header")
    count_artists: bool = _option(True, "count calls per artist and text; costs memory")

    def changed(self, changes: Mapping[str, Any]) -> Behaviour:
        """Raises ValueError naming an option that is unknown or has no such value."""
        known = [option.name for option in dataclasses.fields(Behaviour)]
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name!r} is no option; there are: {', '.join(known)}")
            wanted = type(getattr(self, name))
            values[name] = wanted(json.dumps(value) if isinstance(value, dict) else value)
        return dataclasses.replace(self, **values)


class Plan:
    """The behaviour made ready for use. Raises ValueError where it cannot be."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.delay = _delay(behaviour.latency, behaviour.seed)
        self.models = _models(behaviour.models)
        self.headers: dict[str, str] = json.loads(behaviour.headers)
        self.connections_to_reset = behaviour.reset_connections
        self._steps = _steps(behaviour)
        self._chances = faults.parse_faults(behaviour.chances)
        self._in_header = re.compile(behaviour.artist_header, re.DOTALL)
        self._in_text = re.compile(behaviour.artist_text) if behaviour.artist_text else None
        self._calls: Counter[str] = Counter()

    def changed(self, changes: Mapping[str, Any]) -> Plan:
        """What is not named goes on as it was, a schedule in its middle too."""
        new = Plan(self.behaviour.changed(changes))
        if "schedule" not in changes:
            new._steps = self._steps
        if "reset_connections" not in changes:
            new.connections_to_reset = self.connections_to_reset
        new._calls = self._calls
        return new

    def artist(self, client_request_id: str, request: Request) -> str:
        """The id that the call carries, or the hash of its text where it carries none."""
        if self._in_text is not None and (found := self._in_text.search(request.text)):
            return found[1]
        if found := self._in_header.fullmatch(client_request_id):
            return unquote(found["artist"])
        return f"sha256:{request.digest}"

    def fault(self, artist: str, request: Request) -> Fault:
        """Raises ValueError for a marker that is no fault."""
        marked = faults.markers(request.text) if "[[fault:" in request.text else ()
        number = 0
        if marked or self._chances:
            number = self._calls[artist]
            self._calls[artist] += 1
        if marked and (fault := faults.pick_marked(marked, number)):
            return fault
        if self._steps is not None and (fault := next(self._steps, None)):
            return fault
        if self._chances:
            seed = self.behaviour.seed
            return faults.draw(self._chances, seed, request.digest, number) or _GOOD
        return _GOOD


def _steps(behaviour: Behaviour) -> Iterator[Fault] | None:
    steps = faults.parse_faults(behaviour.schedule)
    return faults.schedule(steps, repeat=behaviour.repeat) if steps else None


def _models(text: str) -> dict[str, str | None]:
    pairs = (part.strip().partition("=") for part in text.split(",") if part.strip())
    return {name: date or None for name, _, date in pairs}


def _delay(text: str, seed: int) -> Callable[[], float]:
    kind, _, rest = text.partition(":")
    if not rest:
        fixed = float(kind)
        return lambda: fixed
    numbers = [float(part) for part in rest.split(":")]
    draw = random.Random(seed)
    match kind, numbers:
        case "uniform", [low, high]:
            return lambda: draw.uniform(low, high)
        case "normal", [mean, deviation]:
            return lambda: max(0.0, draw.gauss(mean, deviation))
        case "lognormal", [median, sigma]:
            return lambda: median * draw.lognormvariate(0.0, sigma)
        case "exponential", [mean]:
            return lambda: draw.expovariate(1 / mean)
    raise ValueError(f"latency {text!r} is neither seconds nor a known distribution")
