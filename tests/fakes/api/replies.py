"""The bodies of the API's replies, in the shapes of its reference of November 2026.

A text is made from the request alone: the same request gets the same bio.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from .faults import ErrorReply

Endpoint = Literal["responses", "chat"]
Finish = Literal["stop", "length", "content_filter"]

CHARACTERS_PER_TOKEN = 4  # the rule of thumb of the API's tokenizer guide, for English

_NAME = re.compile(
    r"(?i)\b(?:artist|(?:\w*_)?name)\b[\"'*]*[ \t]*[:=>][ \t]*[\"'*]*(?P<name>[^\n\"<>]{1,120})"
)
_SENTENCES = (
    "has been heard in concert halls and small rooms alike.",
    "works from a few plain themes that return in new forms.",
    "is known for recordings made with a close circle of players.",
    "began early and learned from the musicians of the neighbourhood.",
    "writes for voices as readily as for instruments.",
    "keeps the tone clear and the gestures short.",
    "has toured widely and returned to the same home each time.",
    "draws on songs that were handed down in the family.",
    "prefers the first take and leaves the small flaws in.",
    "has taught for many years beside the work on stage.",
    "collects field recordings and lets them colour the arrangements.",
    "is counted among the quiet influences on a younger generation.",
    "moves between styles without making a point of it.",
    "treats silence as a part of the score.",
    "published the later works independently.",
    "remains active and continues to record.",
)


class BadRequest(Exception):
    """The request is not one that the API would take."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.reply = ErrorReply(400, code, message, param=param)


@dataclass(frozen=True, slots=True)
class Request:
    """`text` is what changes from artist to artist; `digest` its SHA-256 in hex."""

    endpoint: Endpoint
    model: str
    text: str
    instructions: str | None
    max_tokens: int | None
    temperature: float | None
    metadata: dict[str, str]
    digest: str


def read_request(endpoint: Endpoint, body: bytes) -> Request:
    """Raises BadRequest with what the API would say."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"We could not parse the JSON body of your request: {exc}") from exc
    if not isinstance(fields, dict):
        raise BadRequest("The JSON body of your request is no object.")
    if fields.get("stream"):
        raise BadRequest("This server does not stream.", param="stream")
    if endpoint == "responses":
        text, instructions = _responses_text(fields)
        limit = fields.get("max_output_tokens")
    else:
        text, instructions = _chat_text(fields)
        limit = fields.get("max_completion_tokens", fields.get("max_tokens"))
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        if endpoint == "chat" or not fields.get("prompt"):
            raise _missing("model")
        model = "of-the-stored-prompt"
    return Request(
        endpoint=endpoint,
        model=model,
        text=text,
        instructions=instructions,
        max_tokens=limit,
        temperature=fields.get("temperature"),
        metadata=fields.get("metadata") or {},
        digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def bio(request: Request, words: int) -> str:
    """About `words` words; begins with the artist's name where the request shows one."""
    found = _NAME.search(request.text)
    name = found["name"].strip(" \t\r,;'\"") if found else "The artist"
    return f"{name or 'The artist'} {_tail(int(request.digest[:2], 16), words)}"


@functools.lru_cache(maxsize=4096)
def _tail(choice: int, words: int) -> str:
    parts: list[str] = []
    count = 0
    while count < words:
        sentence = _SENTENCES[(choice + len(parts) * (2 * (choice >> 4) + 1)) % len(_SENTENCES)]
        parts.append(sentence if not parts else f"The artist {sentence}")
        count += len(parts[-1].split())
    return " ".join(parts)


def answer(
    request: Request,
    *,
    number: int,
    now: int,
    text: str | None,
    finish: Finish = "stop",
    refusal: str | None = None,
    with_message: bool = True,
) -> dict[str, Any]:
    """The body of a call's reply. A request's own limit of tokens cuts the text as the API
    would. `number` makes the ids; `with_message=False` leaves the message out."""
    if text and request.max_tokens is not None and finish == "stop":
        most = request.max_tokens * CHARACTERS_PER_TOKEN
        if len(text) > most:
            text, finish = text[:most], "length"
    shape = _responses_answer if request.endpoint == "responses" else _chat_answer
    return shape(request, number, now, text, finish, refusal, with_message)


def error_body(error: ErrorReply) -> bytes:
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def model_body(name: str, shutdown_date: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_753_000_000,
        "owned_by": "system",
        "shutdown_date": shutdown_date,
    }


def _responses_answer(
    request: Request,
    number: int,
    now: int,
    text: str | None,
    finish: Finish,
    refusal: str | None,
    with_message: bool,
) -> dict[str, Any]:
    status = "completed" if finish == "stop" else "incomplete"
    reason = "max_output_tokens" if finish == "length" else finish
    content: dict[str, Any] = (
        {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        if refusal is None
        else {"type": "refusal", "refusal": refusal}
    )
    message = {
        "id": f"msg_{number:032x}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [content],
    }
    tokens_in, tokens_out = _tokens(request, refusal or text)
    return {
        "id": f"resp_{number:032x}",
        "object": "response",
        "created_at": now,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None if finish == "stop" else {"reason": reason},
        "instructions": request.instructions,
        "max_output_tokens": request.max_tokens,
        "model": request.model,
        "output": [message] if with_message else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens_in + tokens_out,
        },
        "user": None,
        "metadata": request.metadata,
    }


def _chat_answer(
    request: Request,
    number: int,
    now: int,
    text: str | None,
    finish: Finish,
    refusal: str | None,
    with_message: bool,
) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None if refusal is not None else text,
            "refusal": refusal,
            "annotations": [],
        },
        "logprobs": None,
        "finish_reason": finish,
    }
    tokens_in, tokens_out = _tokens(request, refusal or text)
    return {
        "id": f"chatcmpl-{number:029x}",
        "object": "chat.completion",
        "created": now,
        "model": request.model,
        "choices": [choice] if with_message else [],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0000000000",
    }


def _tokens(request: Request, written: str | None) -> tuple[int, int]:
    asked = len(request.text) + len(request.instructions or "")
    return 1 + asked // CHARACTERS_PER_TOKEN, len(written or "") // CHARACTERS_PER_TOKEN


def _responses_text(fields: dict[str, Any]) -> tuple[str, str | None]:
    given = fields.get("input")
    stored = fields.get("prompt")
    if given is None and stored is None:
        raise _missing("input")
    instructions = fields.get("instructions")
    parts = []
    if isinstance(stored, dict) and stored.get("variables"):
        variables = stored["variables"]
        parts += [f"{name}: {_content(value)}" for name, value in variables.items()]
    if isinstance(given, str):
        parts.append(given)
    elif isinstance(given, list):
        said, told = _messages(given, "input")
        parts.append(said)
        instructions = "\n".join(filter(None, [instructions, told])) or None
    elif given is not None:
        raise BadRequest("Invalid type for 'input'.", param="input")
    return "\n".join(parts), instructions


def _chat_text(fields: dict[str, Any]) -> tuple[str, str | None]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _missing("messages")
    said, told = _messages(messages, "messages")
    return said, told or None


def _messages(messages: list[Any], param: str) -> tuple[str, str]:
    said: list[str] = []
    told: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or "role" not in message:
            raise BadRequest(f"Invalid message in '{param}'.", param=param)
        where = told if message["role"] in ("system", "developer") else said
        where.append(_content(message.get("content")))
    return "\n".join(said), "\n".join(told)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_content(part) for part in content)
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return "" if content is None else str(content)


def _missing(param: str) -> BadRequest:
    return BadRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )
