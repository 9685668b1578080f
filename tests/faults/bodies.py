"""What a model, or what stands before it, may answer instead of a bio; and bios in odd clothes."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Api: TypeAlias = Literal["responses", "chat"]
Step: TypeAlias = str | int

BIO = "Nina Simone was a singer."


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes that a server sends, and whether it then closes. `bio` is the text that must be
    stored for it, None when nothing may be; `or_nothing` leaves it to the client."""

    data: bytes
    bio: str | None = None
    closes: bool = False
    or_nothing: bool = False


def sound(api: Api, text: Any = BIO) -> dict[str, Any]:
    """A complete reply, in the shape that the API's reference gives."""
    if api == "chat":
        return {
            "id": "chatcmpl_1",
            "created": 1_760_000_000,
            "choices": [
                {"message": {"content": text, "refusal": None}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
    return {
        "id": "resp_1",
        "created_at": 1_760_000_000,
        "status": "completed",
        "incomplete_details": None,
        "error": None,
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": text}]},
        ],
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
    }


PLACES: Mapping[Api, tuple[tuple[Step, ...], ...]] = {
    "responses": (
        ("id",), ("created_at",), ("status",), ("incomplete_details",), ("error",), ("output",),
        ("output", 0), ("output", 0, "type"), ("output", 0, "content"),
        ("output", 0, "content", 0), ("output", 0, "content", 0, "type"),
        ("output", 0, "content", 0, "text"), ("usage",), ("usage", "output_tokens"),
    ),
    "chat": (
        ("id",), ("created",), ("choices",), ("choices", 0), ("choices", 0, "message"),
        ("choices", 0, "message", "content"), ("choices", 0, "message", "refusal"),
        ("choices", 0, "finish_reason"), ("usage",), ("usage", "completion_tokens"),
    ),
}  # fmt: skip
TEXT: Mapping[Api, tuple[Step, ...]] = {
    "responses": ("output", 0, "content", 0, "text"),
    "chat": ("choices", 0, "message", "content"),
}
END: Mapping[Api, tuple[Step, ...]] = {
    "responses": ("status",),
    "chat": ("choices", 0, "finish_reason"),
}
"""Where it stands that the text is complete."""

MISSING: Any = object()
WRONG: tuple[Any, ...] = (
    *(MISSING, None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf")),
    *("", "x", "\x00", "\ud83d", [], [[]], [None], {}, {"": {}}, ["x"], {"text": BIO}),
)


def changed(api: Api, place: tuple[Step, ...], value: Any) -> dict[str, Any]:
    """A sound reply with another value, or none, in this place."""
    document: Any = sound(api)
    at = document
    for step in place[:-1]:
        at = at[step]
    if value is MISSING:
        del at[place[-1]]
    else:
        at[place[-1]] = copy.deepcopy(value)
    return dict(document)


def wrong_types(api: Api) -> Iterator[tuple[str, Answer]]:
    """Every kind of value in every place. Where that leaves text and end as they were, a client may
    take the bio; else there is none."""
    for place in PLACES[api]:
        for number, value in enumerate(WRONG):
            name = f"{'.'.join(map(str, place))}={number}"
            data = http(json.dumps(changed(api, place, value)).encode())
            if place == TEXT[api]:
                bio = "x" if value in ("x", ["x"]) and isinstance(value, str) else None
                taken = Answer(data, bio)
            elif place[: len(END[api])] == END[api] or place == TEXT[api][: len(place)]:
                taken = Answer(data, None)
            else:
                taken = Answer(data, BIO, or_nothing=True)
            yield name, taken


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        *(status.encode(), len(body), lines.encode("latin-1"), body),
    )


def chunks(body: bytes, size: int = 7) -> bytes:
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chunked(coded: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded


def texts(api: Api) -> Iterator[tuple[str, Answer]]:
    """Complete replies whose text needs care, or is none."""
    said: dict[str, tuple[Any, str | None]] = {
        "sound": (BIO, BIO),
        "empty": ("", None),
        "white space": (" \n\t\xa0\u2003\u2028\x85", None),
        "no letter": ("... \u200b\u2060 \u2014 !?", None),
        "zero width": ("\u200b\ufeff\u200d", None),
        "NUL": ("Nina\x00 sang.", "Nina sang."),
        "only NUL": ("\x00\x00", None),
        "line separators": ("Nina\u2028sang\u2029well\x0b.", "Nina\u2028sang\u2029well."),
        "escapes": ("Nina\x1b[31m sang.\x07", "Nina[31m sang."),
        "10 MB": ("Nina sang. " * 1_000_000, None),
        "many scripts": ("Ŋîñå 坂本 \U0001f3b7 e\u0301.", "Ŋîñå 坂本 \U0001f3b7 e\u0301."),
    }
    for name, (text, bio) in said.items():
        yield name, Answer(http(json.dumps(sound(api, text)).encode()), bio)
        if name != "10 MB":
            raw = json.dumps(sound(api, text), ensure_ascii=False).encode()
            yield f"{name}, unescaped", Answer(http(raw), bio)
    lone = json.dumps(sound(api, "Nina \ud83d sang.")).encode()
    yield "lone surrogate", Answer(http(lone), "Nina  sang.")
    bare = json.dumps(sound(api)).encode().replace(BIO.encode(), b"Nina \xed\xa0\xbd sang.")
    yield "lone surrogate, unescaped", Answer(http(bare), None)
    for name, bad in {"invalid UTF-8": b"\xff\xfe", "half a character": b"\xf0\x9f"}.items():
        yield name, Answer(http(json.dumps(sound(api)).encode().replace(b"Nina", bad)), None)


def no_bios(api: Api) -> Iterator[tuple[str, Answer]]:
    """Replies that say themselves that they are no answer, or are none."""
    ends: tuple[Any, ...] = (
        ("incomplete", "failed", "queued", "in_progress", "cancelled", "Completed", "stop")
        if api == "responses"
        else ("length", "content_filter", "tool_calls", "error", "abort", "Stop", "completed", "")
    )
    for end in ends:
        yield f"end {end!r}", Answer(http(json.dumps(changed(api, END[api], end)).encode()))
    refusing = (
        changed(api, ("output", 0, "content"), [{"type": "refusal", "refusal": "No."}])
        if api == "responses"
        else changed(api, ("choices", 0, "message", "refusal"), "No.")
    )
    yield "refused", Answer(http(json.dumps(refusing).encode()))
    filtered = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    yield "filtered", Answer(http(json.dumps({**sound(api), **filtered, "choices": []}).encode()))
    whole = json.dumps(sound(api)).encode()
    last = b'"choices":[]}' if api == "chat" else b'"status":"incomplete"}'
    other = {
        "duplicate key": whole[:-1] + b"," + last,
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "deep inside": whole[:-1] + b',"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "HTML": f"<!DOCTYPE html><html><body>{BIO}</body></html>".encode(),
        "plain text": BIO.encode(),
        "a string": json.dumps(BIO).encode(),
        "a list": b"[" + whole + b"]",
        "two documents": whole + whole,
        "lines": whole + b"\n" + whole + b"\n",
        "an event stream": b"data: " + whole + b"\n\ndata: [DONE]\n\n",
        "single quotes": whole.replace(b'"', b"'"),
        "UTF-16": whole.decode().encode("utf-16"),
        "nothing": b"",
        "null": b"null",
        "a number": b"42",
        "NaN": b"NaN",
        "an empty object": b"{}",
        "an error": b'{"error":{"message":"The model is overloaded.","code":"overloaded"}}',
    }
    for name, body in other.items():
        yield name, Answer(http(body))
    yield "20 MB", Answer(http(b" " * 20_000_000 + whole))
    for status in ("201 Created", "202 Accepted", "204 No Content", "206 Partial Content"):
        yield status, Answer(http(b"" if "204" in status else whole, status=status))


def wires(api: Api) -> Iterator[tuple[str, Answer]]:
    """A sound reply on an odd way; some are so odd that a client may refuse them."""
    whole = json.dumps(sound(api)).encode()
    packed = gzip.compress(whole)
    head = b"HTTP/1.1 200 OK\r\n"
    size = len(whole)
    yield "chunked", Answer(chunked(chunks(whole)), BIO)
    yield "gzip unasked", Answer(http(packed, "Content-Encoding: gzip"), BIO)
    yield "deflate unasked", Answer(http(zlib.compress(whole), "Content-Encoding: deflate"), BIO)
    yield "to the end", Answer(head + b"Connection: close\r\n\r\n" + whole, BIO, closes=True)
    yield "an interim reply", Answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + http(whole), BIO)
    yield "NaN beside it", Answer(http(whole[:-1] + b',"more":NaN}'), BIO, or_nothing=True)
    yield "a duplicate id", Answer(http(whole[:-1] + b',"id":"other"}'), BIO, or_nothing=True)
    yield "a byte order mark", Answer(http(b"\xef\xbb\xbf" + whole), BIO, or_nothing=True)
    yield "gzip said, plain sent", Answer(http(whole, "Content-Encoding: gzip"))
    yield "gzip sent, plain said", Answer(http(packed))
    # Without its check sum: what it held is there.
    trailing = http(packed[:-4], "Content-Encoding: gzip")
    yield "gzip cut at its end", Answer(trailing, BIO, or_nothing=True)
    yield "gzip cut", Answer(http(packed[:-60], "Content-Encoding: gzip"))
    yield "gzip damaged", Answer(http(packed[:20] + b"\0" + packed[21:], "Content-Encoding: gzip"))
    bomb = gzip.compress(b" " * 200_000_000, 1)
    yield "a gzip bomb", Answer(http(bomb, "Content-Encoding: gzip"))
    yield "an unknown packing", Answer(http(whole, "Content-Encoding: br"), BIO, or_nothing=True)
    lengths = {
        "too short": b"%d" % (size - 2),
        "too long": b"%d" % (size + 100),
        "negative": b"-1",
        "no number": b"many",
        "hexadecimal": b"0x%x" % size,
        "two": b"%d\r\nContent-Length: %d" % (size, size - 2),
        "huge": b"9" * 30,
    }
    for name, length in lengths.items():
        data = head + b"Content-Length: " + length + b"\r\n\r\n" + whole
        yield f"length {name}", Answer(data, None, closes=True)
    coded = chunks(whole)
    rubbish = {
        "no size": coded.replace(b"7\r\n", b"\r\n", 1),
        "a wrong size": coded.replace(b"7\r\n", b"9\r\n", 1),
        "a negative size": coded.replace(b"7\r\n", b"-7\r\n", 1),
        "a huge size": coded.replace(b"7\r\n", b"ffffffffffffffff\r\n", 1),
        "rubbish": b"\x00\x01rubbish\r\n" + coded,
        "no end": coded.removesuffix(b"0\r\n\r\n"),
        "an early end": coded[:50] + b"0\r\n\r\n",
    }
    for name, each in rubbish.items():
        # After what looks whole the connection goes on: its end would hit the next call.
        yield f"chunks, {name}", Answer(chunked(each), None, closes=name != "an early end")
    odd = {
        "no head": whole,
        "half a head": head,
        "no status": b"HTTP/1.1\r\n\r\n" + whole,
        "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n" + whole,
        "a line that is no header": head + b"rubbish\r\n\r\n" + whole[: size // 2],
        "endless headers": head + b"X: x\r\n" * 200_000 + b"\r\n" + whole,
    }
    for name, each in odd.items():
        yield name, Answer(each, None, closes=True)


def corpus(api: Api) -> dict[str, Answer]:
    return {
        **{f"text: {name}": answer for name, answer in texts(api)},
        **{f"none: {name}": answer for name, answer in no_bios(api)},
        **{f"wire: {name}": answer for name, answer in wires(api)},
        **{f"type: {name}": answer for name, answer in wrong_types(api)},
    }
