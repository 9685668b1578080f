"""The elements of a large XML member, as text and some at a time."""

from __future__ import annotations

import codecs
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

_PIECE = 256 * 1024  # bytes; larger ones cost memory and gain nothing
_LONGEST = 8 * 1024 * 1024  # characters of one element
_ENCODING = re.compile(r"""<\?xml[^>]*\sencoding\s*=\s*["']\s*(?!utf-8["'])""", re.IGNORECASE)

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError)
"""What comes up where a member of an archive cannot be unpacked."""


class Unusual(Exception):
    """What a quick reader does not know, and leaves to a library; it may be damage. Says what."""


def elements_of(
    file: IO[bytes], around: str, each: str, passed_over: re.Pattern[str]
) -> Iterator[str]:
    """The elements called `each` that stand in the one called `around`, in pieces of whole ones.
    Neither has a prefix. `passed_over` is what may be left out between two pieces, nothing too.
    Raises Unusual."""
    try:
        yield from _pieces(file, around, each, passed_over)
    except DAMAGE as exc:
        raise Unusual(f"it cannot be unpacked ({exc})") from exc


def _pieces(file: IO[bytes], around: str, each: str, passed_over: re.Pattern[str]) -> Iterator[str]:
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text = decode(file.read(_PIECE))
    begins = re.search(rf"<{around}(?:\s[^<>]*?)?(/?)>", text)
    # In a comment, anything may stand, and in an instruction. (The first one tells the encoding.)
    before = "" if begins is None else text[: begins.start()]
    if begins is None or "<!" in before or "<?" in before[1:] or _ENCODING.match(text):
        raise Unusual(f"it does not begin with <{around}> in UTF-8")
    if begins[1]:
        return
    text = text[begins.end() :]
    last, end = f"</{each}>", f"</{around}>"
    while True:
        cut = text.rfind(last) + len(last)
        if cut >= len(last):
            yield text[:cut]
            text = text[cut:]
        if empty := passed_over.match(text):
            text = text[empty.end() :]
        if text.startswith(end):
            return
        more = file.read(_PIECE)
        if not more or len(text) > _LONGEST:
            raise Unusual(f"</{each}> or {end} is missing")
        text += decode(more)
