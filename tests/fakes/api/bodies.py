"""Replies with status 200 that are no bio, or a bio that needs care."""

from __future__ import annotations

from typing import Any

import orjson

from .faults import Fault
from .replies import Request, answer

HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>Sorry.</body></html>\n"

_FAILURE = {"code": "server_error", "message": "The model failed to generate a reply."}


def odd_body(request: Request, fault: Fault, *, number: int, now: int, text: str) -> bytes:
    """The body for a fault of `faults.BODIES`. `text` is the bio that would have been sent."""
    kind, argument = fault.kind, fault.argument

    def say(**changes: Any) -> dict[str, Any]:
        return answer(request, **{"number": number, "now": now, "text": text, **changes})

    match kind:
        case "refuse":
            return orjson.dumps(say(text=None, refusal="I'm sorry, I can't help with that."))
        case "incomplete":
            return orjson.dumps(say(text=text[: len(text) // 2], finish="length"))
        case "incomplete_empty":
            missing = request.endpoint == "responses"
            return orjson.dumps(say(text="", finish="length", with_message=not missing))
        case "content_filter":
            return orjson.dumps(say(text=text[: len(text) // 2], finish="content_filter"))
        case "empty":
            return orjson.dumps(say(text=""))
        case "whitespace":
            return orjson.dumps(say(text=" \n\t\u00a0\u2003\n"))
        case "null_text":
            return orjson.dumps(say(text=None))
        case "no_output":
            return orjson.dumps(say(with_message=False))
        case "failed":
            return orjson.dumps(_failed(say(with_message=False), request))
        case "queued":
            return orjson.dumps(_queued(say(), request, argument or "queued"))
        case "no_usage":
            return orjson.dumps({k: v for k, v in say().items() if k != "usage"})
        case "nul":
            return orjson.dumps(say(text=f"{text[:9]}\x00{text[9:]}"))
        case "surrogate":
            return orjson.dumps(say(text=f"{text[:9]}~lone~{text[9:]}")).replace(
                b"~lone~", b"\\ud83d"
            )
        case "line_separator":
            return orjson.dumps(say(text=f"{text}\u2028{text}\u2029{text}\x85{text}"))
        case "long":
            size = int(argument or 10_000_000)
            return orjson.dumps(say(text=(text + " ") * (size // (len(text) + 1) + 1)))
        case "broken_json":
            whole_body = orjson.dumps(say())
            return whole_body[: len(whole_body) * 2 // 3]
        case "wrong_type":
            return (argument or "[]").encode()
        case "wrong_shape":
            return b'{"object":"something.else","output":"text","choices":{}}'
        case "nan":
            return orjson.dumps(say()).replace(b'"total_tokens":', b'"total_tokens":NaN,"was":')
        case "deep":
            return b"[" * 100_000 + b"]" * 100_000
        case "not_utf8":
            return orjson.dumps(say(text=f"{text}~byte~")).replace(b"~byte~", b"\xff\xfe")
        case "html_ok":
            return HTML_PAGE
    raise AssertionError(f"{kind} is listed as a body and has none")


def _failed(body: dict[str, Any], request: Request) -> dict[str, Any]:
    if request.endpoint == "chat":
        return {"error": {**_FAILURE, "type": "server_error", "param": None}}
    return {**body, "status": "failed", "error": _FAILURE, "usage": None}


def _queued(body: dict[str, Any], request: Request, status: str) -> dict[str, Any]:
    if request.endpoint == "chat":
        return {**body, "choices": [{**body["choices"][0], "finish_reason": None}]}
    return {**body, "status": status, "output": [], "usage": None}
