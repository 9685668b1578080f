"""What is said to the model's API, and what its answers mean. Pure functions.

Two call shapes: `responses` (OpenAI's own) and `chat` (nearly every compatible server). A reply
becomes an `Answer` or one of the typed errors; nothing else is raised, whatever a server says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from artist_bio_gen.errors import CallFailed, Unusable
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.generator.status import FILTERED, Problem, load, raise_error, said, shown
from artist_bio_gen.generator.text import clean, identifier
from artist_bio_gen.values import Json, Usage

Api: TypeAlias = Literal["responses", "chat"]

PATHS: Mapping[Api, str] = {"responses": "/responses", "chat": "/chat/completions"}

MAX_TEXT = 100_000
"""Characters. A longer answer is a model that ran away, not a biography."""


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """A prompt that the server keeps (Responses only; OpenAI ends them on 2026-11-30)."""

    id: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete text, cleaned, with what the API said about it. `finish_reason` is in the
    API's own word (`completed` of Responses, `stop` of chat)."""

    text: str
    cleaned: bool
    response_id: str | None
    created: int | None
    finish_reason: str
    usage: Usage | None


def build_body(
    api: Api,
    *,
    model: str | None,
    prompt: tuple[str, str] | StoredPrompt,
    variables: Mapping[str, str],
    parameters: Mapping[str, Json],
    at_openai: bool,
) -> bytes:
    """One request. `prompt` is our own text as (instructions, input), or a stored one, which
    alone gets the variables. `parameters` may hold `temperature` and `max_output_tokens`.
    `at_openai` tells that it goes to OpenAI itself, whose newer models refuse the older name
    of the chat API's limit, which everybody else knows."""
    body: dict[str, Json] = {"model": model} if model else {}
    limit = "max_output_tokens"
    if isinstance(prompt, StoredPrompt):
        # No input beside it: some servers then ignore the prompt.
        version = {"version": prompt.version} if prompt.version else {}
        body["prompt"] = {"id": prompt.id, **version, "variables": variables}
    elif api == "responses":
        instructions, body["input"] = prompt
        if instructions:
            body["instructions"] = instructions
    else:
        instructions, user = prompt
        system = [{"role": "system", "content": instructions}] if instructions else []
        body["messages"] = [*system, {"role": "user", "content": user}]
        limit = "max_completion_tokens" if at_openai else "max_tokens"
    for name, value in parameters.items():
        body[limit if name == "max_output_tokens" else name] = value
    return orjson.dumps(body)


def read_reply(
    reply: Reply, api: Api, *, about: str, max_output_tokens: int | None = None, now: float = 0.0
) -> Answer:
    """What the server answered to a request.

    `about` names what was asked for in messages (the model, the stored prompt); `now` (Unix
    seconds) is for a wait that is given as a date. Raises Unavailable, CallFailed, Unusable,
    LimitError or ConfigError.
    """
    if reply.status != 200:
        raise_error(reply, about=about, now=now)
    document = load(reply.body)
    if not isinstance(document, dict):
        # It has been billed and the text is lost. Another call may bring a sound one; as a
        # failed call it counts, so that a server which always answers so is not paid for ever.
        raise CallFailed(
            f"{said(reply)}, and its body is no JSON object: {shown(reply.body)!r}",
            kind="bad_reply",
            answered=True,
        )
    read = _read_response if api == "responses" else _read_completion
    return read(_Paid(document, reply), max_output_tokens)


class _Paid:
    """A reply that has been billed: what every outcome keeps of it."""

    def __init__(self, document: Mapping[str, Json], reply: Reply) -> None:
        self.document = document
        self.reply = reply
        self.response_id = identifier(_text(document.get("id")))
        self.usage = read_usage(document.get("usage"))

    def answer(self, text: str, finish_reason: str) -> Answer:
        if len(text) > MAX_TEXT:
            raise self.unusable("too_long", f"the text has {len(text)} characters", text)
        bio, cleaned = clean(text)
        if not any(character.isalnum() for character in bio):
            raise self.unusable("empty", "the text is empty", text)
        created = self.document.get("created_at", self.document.get("created"))
        return Answer(
            text=bio,
            cleaned=cleaned,
            response_id=self.response_id,
            created=_integer(created),
            finish_reason=finish_reason,
            usage=self.usage,
        )

    def unusable(self, kind: str, reason: str, text: str = "") -> Unusable:
        return Unusable(
            f"{said(self.reply)}, but {reason}",
            kind=kind,
            text=clean(text[:MAX_TEXT])[0] or None,
            response_id=self.response_id,
            usage=self.usage.counts() if self.usage else None,
        )

    def failed(self, kind: str, reason: str) -> CallFailed:
        return CallFailed(f"{said(self.reply)}, but {reason}", kind=kind, answered=True)


def _read_response(paid: _Paid, max_output_tokens: int | None) -> Answer:
    document = paid.document
    text, refusal = _texts(_messages(document.get("output")))
    status = document.get("status")
    if status == "failed":
        problem = Problem.of(document)
        if problem.code in FILTERED:
            raise paid.unusable("content_filter", f"the call failed: {problem}")
        if problem.code == "invalid_prompt":
            raise paid.unusable("bad_request", f"the call failed: {problem}")
        raise paid.failed("server_error", f"the call failed: {problem}")
    if status == "incomplete":
        details = document.get("incomplete_details")
        reason = _text(details.get("reason")) if isinstance(details, dict) else None
        kind = "content_filter" if reason == "content_filter" else "incomplete"
        raise paid.unusable(kind, _incomplete(reason), text)
    if status != "completed":
        raise paid.failed("bad_reply", _no_answer(document, paid.reply))
    if refusal is not None:
        raise paid.unusable("refused", f"the model refused: {shown(refusal)}", refusal)
    used = paid.usage.output_tokens if paid.usage else None
    if max_output_tokens is not None and used is not None and used >= max_output_tokens:
        # llama.cpp says completed even when it cut the text.
        raise paid.unusable("incomplete", _incomplete("max_output_tokens"), text)
    return paid.answer(text, "completed")


def _read_completion(paid: _Paid, max_output_tokens: int | None) -> Answer:
    choices = paid.document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise paid.failed("bad_reply", _no_answer(paid.document, paid.reply))
    content = message.get("content")
    text, refusal = _texts(content) if isinstance(content, list) else (_text(content) or "", None)
    refusal = _text(message.get("refusal")) or refusal
    if refusal is not None:
        raise paid.unusable("refused", f"the model refused: {shown(refusal)}", refusal)
    reason = choice.get("finish_reason")
    if reason in ("error", "abort"):  # vLLM and others, when they give up on a call
        raise paid.failed("server_error", f"it was given up ({reason})")
    if reason != "stop":
        kind = "content_filter" if reason == "content_filter" else "incomplete"
        raise paid.unusable(kind, _incomplete(_text(reason)), text)
    return paid.answer(text, "stop")


def _incomplete(reason: str | None) -> str:
    if reason in ("max_output_tokens", "length"):
        return "the text was cut at its limit of tokens; raise --max-output-tokens"
    return f"the text is not complete ({shown(reason or 'no reason is given')})"


def _no_answer(document: Mapping[str, Json], reply: Reply) -> str:
    """Some gateways answer 200 with an error in it."""
    status = _text(document.get("status"))
    if status:
        return f"its status is {shown(status)!r}, which is no answer"
    return f"there is no message in it: {Problem.of(document, reply.body)}"


def _messages(output: Json) -> Iterator[Json]:
    """The parts of the messages in a response's output. Reasoning is none of them, nor what a
    model says on its way to the answer."""
    for item in output if isinstance(output, list) else []:
        if isinstance(item, dict) and item.get("type") == "message":
            content = item.get("content")
            if item.get("phase") != "commentary" and isinstance(content, list):
                yield from content


def _texts(parts: Iterable[Json]) -> tuple[str, str | None]:
    """What a message says, and its refusal if it is one."""
    spoken, refusal = [], None
    for part in parts:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "refusal":
            refusal = _text(part.get("refusal")) or ""
        elif part.get("type") in ("output_text", "text"):
            spoken.append(_text(part.get("text")) or "")
    return "".join(spoken), refusal


_NOTHING_TOLD = Usage()


def read_usage(usage: Json) -> Usage | None:
    """Tokens in either shape; None when none are told."""
    if not isinstance(usage, dict):
        return None

    def count(name: str, other: str) -> int | None:
        found = _integer(usage.get(name))
        return _integer(usage.get(other)) if found is None else found

    def detail(name: str, group: str, other: str) -> int | None:
        details = usage.get(group)
        if not isinstance(details, dict):
            details = usage.get(other)
        return _integer(details.get(name)) if isinstance(details, dict) else None

    read = Usage(
        input_tokens=count("input_tokens", "prompt_tokens"),
        cached_tokens=detail("cached_tokens", "input_tokens_details", "prompt_tokens_details"),
        output_tokens=count("output_tokens", "completion_tokens"),
        reasoning_tokens=detail(
            "reasoning_tokens", "output_tokens_details", "completion_tokens_details"
        ),
        total_tokens=_integer(usage.get("total_tokens")),
    )
    return None if read == _NOTHING_TOLD else read


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Json) -> int | None:
    """A count or a time that fits the database's bigint; fractions are cut."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**63 else None
