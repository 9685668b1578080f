"""Which model writes the bios: chosen before a run, opened when the first artist needs it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import orjson

from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator import client
from artist_bio_gen.generator.address import Address
from artist_bio_gen.generator.api import PATHS, Api, StoredPrompt
from artist_bio_gen.generator.client import (
    DEFAULT_BASE_URL,
    TransportName,
    check_model,
    choose_api,
    fingerprint,
    make_generate,
    open_transport,
    request_body,
)
from artist_bio_gen.generator.transport import Transport
from artist_bio_gen.prompts import Prompt
from artist_bio_gen.values import Artist, Generate, Json

API_TIMEOUT = 120.0
LOCAL_TIMEOUT = 300.0
REMOTE_WORKERS = 16
LOCAL_WORKERS = 2
LOCAL_TEMPERATURE = 0.0
LOCAL_MAX_OUTPUT_TOKENS = 400
"""A small model that has begun to loop would write for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """`name` and `fingerprint` (of prompt, model and parameters) go into each line; `chosen` says
    to a person what was chosen and why. `show` gives the whole request for an artist as text.
    `open` gives the callable; it takes what to say while that takes time."""

    name: str
    workers: int
    fingerprint: str
    chosen: str
    show: Callable[[Artist], str]
    open: Callable[[Callable[[str], None]], AbstractContextManager[Generate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How each call is made, whichever model answers it. `timeout` is for one call in all, in
    seconds; `temperature` and `max_output_tokens` None leave it to the model."""

    prompt: Prompt | StoredPrompt
    api: Literal["auto"] | Api = "auto"
    transport: TransportName = "lean"
    temperature: float | None = None
    max_output_tokens: int | None = None
    timeout: float | None = None
    connect_timeout: float = 10.0

    @property
    def parameters(self) -> Mapping[str, Json]:
        given = {"temperature": self.temperature, "max_output_tokens": self.max_output_tokens}
        return {name: value for name, value in given.items() if value is not None}


def choose_model(
    call: Call,
    *,
    base_url: str | None,
    api_key: str | None,
    org_id: str | None,
    model: str | None,
    local_model: str | None,
    models_dir: Path | None,
    workers: int | None,
    may_be_local: bool,
    may_ask: bool,
) -> Model:
    """A key or an address means a model behind an address, unless a local one is named; with
    neither, a local one is taken if `may_be_local`. `workers` None means what suits the model.
    `may_ask` allows a question to the server; without it no call is made, so that nothing need be
    there. ConfigError when nothing can be chosen."""
    if local_model is None and (base_url is not None or api_key is not None):
        return _remote(call, base_url, api_key, org_id, model, workers or REMOTE_WORKERS, may_ask)
    try:
        if local_model is None and not may_be_local:
            raise ConfigError(
                "no OPENAI_API_KEY and no OPENAI_BASE_URL, and nobody at a terminal to see that a"
                " local model would be used; give one of them, or agree with --embedded"
            )
        return _local(call, local_model, models_dir, workers or LOCAL_WORKERS)
    except ConfigError as exc:
        if may_ask or local_model is not None:
            raise
        return _none_yet(call, exc)


def _remote(
    call: Call,
    base_url: str | None,
    api_key: str | None,
    org_id: str | None,
    model: str | None,
    workers: int,
    may_ask: bool,
) -> Model:
    address = base_url or DEFAULT_BASE_URL
    Address.parse(address)  # so that a wrong one is told before anything is written

    def connect() -> Transport:
        return open_transport(
            call.transport,
            address,
            api_key=api_key,
            org_id=org_id,
            connect_timeout=call.connect_timeout,
        )

    if model is None and may_ask and not isinstance(call.prompt, StoredPrompt):
        with connect() as transport:
            model = client.choose_model(transport, today=datetime.datetime.now(datetime.UTC).date())

    @contextmanager
    def opened(say: Callable[[str], None]) -> Iterator[Generate]:
        with connect() as transport:
            if model is not None and (
                warning := check_model(
                    transport, model, today=datetime.datetime.now(datetime.UTC).date()
                )
            ):
                say(warning)
            yield _generate(call, transport, model)

    return Model(
        name=model or "the server's own",
        workers=workers,
        fingerprint=fingerprint(model, call.prompt, call.parameters),
        chosen=f"model {model or 'chosen at the start, or by the prompt,'} at {address}",
        show=_shown(call, address, model),
        open=opened,
    )


def _local(call: Call, name_or_path: str | None, models_dir: Path | None, workers: int) -> Model:
    from artist_bio_gen.generator.local import LocalModel, choose_weights

    why = "" if name_or_path else "no OPENAI_API_KEY and no OPENAI_BASE_URL: "

    weights = choose_weights(name_or_path, models_dir)
    call = replace(
        call,
        api="chat",
        temperature=_given(call.temperature, LOCAL_TEMPERATURE),
        max_output_tokens=_given(call.max_output_tokens, LOCAL_MAX_OUTPUT_TOKENS),
        timeout=_given(call.timeout, LOCAL_TIMEOUT),
    )

    @contextmanager
    def opened(say: Callable[[str], None]) -> Iterator[Generate]:
        with (
            LocalModel(weights.open(say), slots=workers, say=say) as server,
            open_transport("lean", server.base_url, api_key=server.api_key) as transport,
        ):
            yield server.watched(_generate(call, transport, weights.name))

    return Model(
        name=weights.name,
        workers=workers,
        fingerprint=fingerprint(weights.name, call.prompt, call.parameters),
        chosen=f"{why}local model {weights.name}",
        show=_shown(call, "the local model", weights.name),
        open=opened,
    )


def _none_yet(call: Call, missing: ConfigError) -> Model:
    """Shows requests, and cannot make them."""
    if call.api == "auto":
        call = replace(call, api="responses" if isinstance(call.prompt, StoredPrompt) else "chat")

    def opened(say: Callable[[str], None]) -> AbstractContextManager[Generate]:
        raise missing

    return Model(
        name="none yet",
        workers=LOCAL_WORKERS,
        fingerprint=fingerprint(None, call.prompt, call.parameters),
        chosen=f"no model yet, which a dry run does without; a run needs one: {missing}",
        show=_shown(call, "…", None),
        open=opened,
    )


def _generate(call: Call, transport: Transport, model: str | None) -> Generate:
    return make_generate(
        transport,
        api=choose_api(call.api, transport.base_url),
        model=model,
        prompt=call.prompt,
        temperature=call.temperature,
        max_output_tokens=call.max_output_tokens,
        timeout=_given(call.timeout, API_TIMEOUT),
    )


def _shown(call: Call, address: str, model: str | None) -> Callable[[Artist], str]:
    api = choose_api(call.api, address)
    body = request_body(address, api, model, call.prompt, call.parameters)

    def show(artist: Artist) -> str:
        request, _ = body(artist)
        pretty = orjson.dumps(orjson.loads(request), option=orjson.OPT_INDENT_2).decode()
        return f"POST {address}{PATHS[api]}\n{pretty}"

    return show


_T = TypeVar("_T")


def _given(value: _T | None, default: _T) -> _T:
    return default if value is None else value
