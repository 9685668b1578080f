"""The model as the rest of the program sees it: `Generate`, one artist in, one bio out.

One call and no retry; when to call again is decided by whoever calls. `make_generate` puts a
transport, a prompt and the shape of the API together; `open_transport` and `choose_model` get
what it needs from the settings.
"""

from __future__ import annotations

import datetime
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote, urlsplit

import orjson

from artist_bio_gen.errors import ConfigError, ModelError, Unusable
from artist_bio_gen.generator.api import PATHS, Api, StoredPrompt, build_body, read_reply
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.generator.status import load, raise_error, shown
from artist_bio_gen.generator.text import identifier
from artist_bio_gen.generator.transport import LeanTransport, Transport
from artist_bio_gen.prompts import Prompt
from artist_bio_gen.values import Artist, Bio, Generate, Json

DEFAULT_BASE_URL = "https://api.openai.com/v1"

PREFERRED_MODELS = ("gpt-6-luna", "gpt-5.6-luna")
"""Taken at OpenAI's own address when no model is given, the first that the key may use and that
is not shut down: the tier for much plain text (OpenAI's deprecations page, November 2026)."""

TransportName: TypeAlias = Literal["lean", "openai"]

_NOT_FOUND = (403, 404, 405, 410)
_ABOUT_MODELS_TIMEOUT = 30.0


def open_transport(
    name: TransportName,
    base_url: str,
    *,
    api_key: str | None,
    org_id: str | None = None,
    connect_timeout: float = 10.0,
) -> Transport:
    """`openai` is the reference, `lean` the quick one; both keep the same promises."""
    if name == "lean":
        return LeanTransport(
            base_url, api_key=api_key, org_id=org_id, connect_timeout=connect_timeout
        )
    from artist_bio_gen.generator.sdk import SdkTransport

    return SdkTransport(base_url, api_key=api_key, org_id=org_id, connect_timeout=connect_timeout)


def is_openai(base_url: str) -> bool:
    """Whether it is OpenAI's own address, or a regional one of theirs."""
    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def choose_api(api: Literal["auto"] | Api, base_url: str) -> Api:
    """`auto` is Responses at OpenAI's own address, else chat, which every server knows."""
    if api != "auto":
        return api
    return "responses" if is_openai(base_url) else "chat"


def request_body(
    base_url: str,
    api: Api,
    model: str | None,
    prompt: Prompt | StoredPrompt,
    parameters: Mapping[str, Json],
) -> Callable[[Artist], tuple[bytes, Mapping[str, str]]]:
    """What makes, for an artist, the bytes of the request and the variables in it. It raises
    Unusable (kind `prompt`) for an artist that does not go into the prompt."""
    if isinstance(prompt, StoredPrompt) and api != "responses":
        raise ConfigError(
            f"--prompt-id {prompt.id}: stored prompts exist in the Responses API only; give "
            "--api responses, or a prompt file with --prompt"
        )
    at_openai = is_openai(base_url)

    def body(artist: Artist) -> tuple[bytes, Mapping[str, str]]:
        try:
            if isinstance(prompt, StoredPrompt):
                variables: Mapping[str, str] = Prompt.variables(artist)
                said: tuple[str, str] | StoredPrompt = prompt
            else:
                rendered = prompt.render(artist)
                variables = rendered.variables
                said = (rendered.instructions, rendered.input)
            request = build_body(
                api,
                model=model,
                prompt=said,
                variables=variables,
                parameters=parameters,
                at_openai=at_openai,
            )
        except TypeError as exc:  # orjson's, for a lone surrogate or a value that is not JSON
            raise Unusable(
                f"artist {artist.id} (row {artist.row}): its data cannot be sent: {exc}",
                kind="prompt",
            ) from exc
        return request, variables

    return body


def fingerprint(
    model: str | None, prompt: Prompt | StoredPrompt, parameters: Mapping[str, Json]
) -> str:
    """SHA-256 (hex) of prompt, model and parameters together."""
    said = [prompt.id, prompt.version] if isinstance(prompt, StoredPrompt) else prompt.sha256
    known = [said, model, dict(parameters)]
    return hashlib.sha256(orjson.dumps(known, option=orjson.OPT_SORT_KEYS)).hexdigest()


def make_generate(
    transport: Transport,
    *,
    api: Api,
    model: str | None,
    prompt: Prompt | StoredPrompt,
    temperature: float | None = None,
    max_output_tokens: int | None = None,
    timeout: float = 120.0,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Generate:
    """The model for many threads. `model` may be None only where a stored prompt or the server
    chooses it; `timeout` (seconds) is for one call in all."""
    given = {"temperature": temperature, "max_output_tokens": max_output_tokens}
    return _Calls(
        transport,
        api,
        model,
        prompt,
        {k: v for k, v in given.items() if v is not None},
        timeout=timeout,
        clock=clock,
        now=now,
    )


@dataclass(frozen=True, slots=True)
class _Request:
    body: bytes
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Answered:
    reply: Reply
    variables: Mapping[str, str]
    latency_ms: float


class _Calls:
    """Transport, prompt and the shape of the API put together: a `Generate`."""

    def __init__(
        self,
        transport: Transport,
        api: Api,
        model: str | None,
        prompt: Prompt | StoredPrompt,
        parameters: dict[str, Json],
        *,
        timeout: float,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._api: Api = api
        self._model = model
        self._parameters = parameters
        self._timeout = timeout
        self._clock = clock
        self._now = now
        self._body = request_body(transport.base_url, api, model, prompt, parameters)
        self._prompt_sha256 = fingerprint(model, prompt, parameters)
        self._about, self._begins = _told_of(model, prompt)
        self._path = PATHS[api]
        self._served = threading.Event()

    def prepare(self, artist: Artist) -> _Request:
        return _Request(*self._body(artist))

    def ask(self, prepared: _Request, request_id: str) -> _Answered:
        started = self._clock()
        headers = {"X-Client-Request-Id": request_id}
        reply = self._transport.post(self._path, prepared.body, headers, self._timeout)
        return _Answered(reply, prepared.variables, (self._clock() - started) * 1000)

    def read(self, answered: _Answered) -> Bio:
        reply = answered.reply
        try:
            answer = read_reply(
                reply,
                self._api,
                about=self._about,
                max_output_tokens=self._parameters.get("max_output_tokens"),
                now=self._now(),
            )
        except ConfigError as exc:
            if self._served.is_set() and reply.status in _NOT_FOUND and load(reply.body) is None:
                # Others went through, and it is not the API that says so: something before it
                # (a firewall) does not like this artist's text. It must not stop every run.
                raise Unusable(str(exc), kind="blocked", transient=True) from exc
            raise
        if not self._served.is_set():
            self._served.set()
        return Bio(
            text=answer.text,
            request={
                **self._begins,
                "variables": answered.variables,
                "model": self._model,
                "parameters": self._parameters,
            },
            prompt_sha256=self._prompt_sha256,
            response_id=answer.response_id,
            created=answer.created,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            request_id=identifier(reply.headers.get("x-request-id")),
            latency_ms=round(answered.latency_ms, 3),
            cleaned=answer.cleaned,
        )


def _told_of(model: str | None, prompt: Prompt | StoredPrompt) -> tuple[str, Mapping[str, Json]]:
    """What an error says was called, and what a bio's request begins with."""
    if isinstance(prompt, StoredPrompt):
        about = f"model {model}" if model else f"prompt {prompt.id}"
        return about, {"prompt_id": prompt.id, "version": prompt.version}
    about = f"model {model}" if model else "the server's model"
    return about, {"prompt": prompt.name, "version": prompt.version}


def choose_model(transport: Transport, *, today: datetime.date) -> str:
    """The model when none is given: the only one that the server has, or at OpenAI's own address
    the first of PREFERRED_MODELS. ConfigError names those there are when none can be chosen."""
    give = "give one with --model or ARTIST_BIO_GEN_MODEL"
    try:
        reply = transport.get("/models", {}, _ABOUT_MODELS_TIMEOUT)
        if reply.status != 200:
            raise_error(reply, about="a model", now=time.time())
    except ModelError as exc:
        raise ConfigError(
            f"no model is given, and no list of models to be had: {exc}; {give}"
        ) from exc
    document = load(reply.body)
    listed = document.get("data") if isinstance(document, dict) else None
    models: dict[str, Mapping[str, Json]] = {
        model["id"]: model
        for model in (listed if isinstance(listed, list) else [])
        if isinstance(model, dict) and isinstance(model.get("id"), str) and _is_text(model["id"])
    }
    if is_openai(transport.base_url):
        for name in PREFERRED_MODELS:
            days = _days_left(models.get(name, {}), today)
            if name in models and (days is None or days > 0):
                return name
    elif len(models) == 1:
        return next(iter(models))
    names = sorted(models)
    there = f"; there are {shown(', '.join(names))}" if names else ""
    raise ConfigError(f"{transport.base_url}: no model is given; {give}{there}")


def _is_text(name: str) -> bool:
    """No half of a character is in it, which could neither be sent nor stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_model(transport: Transport, model: str, *, today: datetime.date) -> str | None:
    """What a person should know of a model before it is called many times: that the server does
    not know it, or that it will be shut down. None when there is nothing, or nothing is known: many
    servers do not tell, and what is wrong with the server a call tells best."""
    try:
        reply = transport.get(f"/models/{quote(model, safe='')}", {}, _ABOUT_MODELS_TIMEOUT)
    except ModelError:
        return None
    document = load(reply.body)
    if not isinstance(document, dict):
        return None
    if reply.status == 404:
        error = document.get("error")
        if isinstance(error, dict) and error.get("code") == "model_not_found":
            return f"model {model}: {transport.base_url} does not know it; see --model"
        return None
    days = _days_left(document, today) if reply.status == 200 else None
    if days is None:
        return None
    date = today + datetime.timedelta(days)
    if days <= 0:
        return f"model {model}: was shut down on {date}; choose another one with --model"
    return f"model {model}: will be shut down on {date}, in {days} days"


def _days_left(model: Mapping[str, Json], today: datetime.date) -> int | None:
    """Days to the date that OpenAI gives as YYYY-MM-DD; None without one."""
    date = model.get("shutdown_date")
    try:
        return (datetime.date.fromisoformat(date) - today).days if isinstance(date, str) else None
    except ValueError:
        return None
