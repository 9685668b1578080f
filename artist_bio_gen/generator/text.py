"""From the text of a reply to the text of a bio."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Postgres takes no NUL, UTF-8 no lone surrogate; the other controls (C0 but tab and line feed,
DEL, C1) are noise that breaks readers of the ledger further on."""

TAIL = 4_000
ROUNDS = 100
"""So many characters at the end are looked at for sources, and so many times something is cut
off there: more than any list of them needs, and little time for a text of any length."""

_URL = r"https?://[^\s()<>\[\]]*(?:\([^\s()<>\[\]]*\)[^\s()<>\[\]]*)*"
_LINK = rf"\[[^\[\]\n]{{1,200}}\]\({_URL}(?:\s+\"[^\"\n]*\")?\)"
_SITE_LINK = rf"\[(?:\d{{1,3}}|(?:[\w-]+\.)+[a-z]{{2,}})\]\({_URL}(?:\s+\"[^\"\n]*\")?\)"

_MARK = re.compile(
    rf"""(?:
        \(\s*{_LINK}(?:[\s,;|]*{_LINK})*\s*\)              # ([wikipedia.org](https://...), ...)
      | {_SITE_LINK}                                       # [1](https://...)
      | \ue200[^\ue200\ue201]{{0,300}}\ue201               # a citation in private characters
      | 【(?:\d+(?::\d+)?|[^【】\n]{{0,200}}(?:†|source|turn\d)[^【】\n]{{0,200}})】
      | \[\d{{1,3}}\](?:,?\s*\[\d{{1,3}}\])*               # [1][2]
    )[\s,;]*+(?P<stop>[.!?\u3002]?)\s*+\Z""",
    re.VERBOSE,
)
_LAST_LINE = re.compile(
    rf"\n[ \t]*(?:(?:[-*+\u2022]|\d{{1,3}}[.)]|\[\^?\d{{1,3}}\]:?)[ \t]*)?"
    rf"(?:{_LINK}|<?{_URL}>?|(?:[-*_][ \t]*){{3,}})[ \t]*[.,;]?\s*\Z"
)
"""A last line that is an address, or a rule, and nothing else."""

_HEADING = re.compile(
    r"\n[ \t]*(?:\#{1,6}[ \t]*)?[*_]{0,3}"
    r"(?:sources?(?:[ ]used|[ ]consulted)?|references?|citations?|works[ ]cited)"
    r"[ \t]*(?P<colon>:?)[ \t]*[*_]{0,3}[ \t]*(?P<after>:?)(?P<inline>[^\n]*)",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\s*(?:[-*+\u2022\u2013]|\d{1,3}[.)]|\[\^?\d{1,3}\])\s*\S|.*https?://")
_MAX_INLINE = 200

_SIGNS = ("\n", "]", "】", "\ue201")
"""Without one of these no source is there."""

_FENCE = re.compile(r"\A```[\w-]*[ \t]*\n(?P<text>(?:(?!```).)*?)\n?[ \t]*```\Z", re.DOTALL)
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u300c": "\u300d"}


def identifier(text: str | None) -> str | None:
    """A server's id as it can be stored: without unstorable characters, 200 at most."""
    if not text:
        return None
    return (text if text.isprintable() else _UNSTORABLE.sub("", text))[:200] or None


def clean(text: str) -> tuple[str, bool]:
    """The bio in a reply's text, and whether characters that cannot be stored were taken out.

    Space around it is cut, as are a code fence or quotation marks if they hold the whole text,
    and sources at its end: linked or numbered marks, and a list under a heading such as
    `Sources:`. What stands before the end is left as it is.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    # Nothing that can be printed is unstorable, and this is the quickest way to ask.
    kept = lines if lines.isprintable() else _UNSTORABLE.sub("", lines)
    bio = kept.strip().lstrip("\ufeff")
    for _ in range(ROUNDS):
        shorter = _without_sources(_unwrapped(bio)).strip()
        if shorter == bio:
            break
        bio = shorter
    return bio, kept != lines


def _unwrapped(text: str) -> str:
    if fence := _FENCE.match(text):
        return fence["text"]
    inner, closing = text[1:-1], _QUOTES.get(text[:1])
    if closing and text[1:].endswith(closing) and not {text[0], closing} & set(inner):
        return inner
    return text


def _without_sources(text: str) -> str:
    body, tail = text[:-TAIL], text[-TAIL:]
    if not any(sign in tail for sign in _SIGNS):
        return text  # as nearly every bio
    if heading := _list_of_sources(tail):
        return body + tail[:heading]
    if line := _LAST_LINE.search(tail):
        return body + tail[: line.start()]
    if mark := _MARK.search(tail):
        before = (body + tail[: mark.start()]).rstrip()
        ended = before[-1:] in tuple('.!?\u3002\u2026"\u201d)')
        return before + ("" if ended else mark["stop"])
    return text


def _list_of_sources(tail: str) -> int | None:
    """Where a list of sources begins that goes on to the end."""
    for heading in _HEADING.finditer(tail):
        inline = heading["inline"].strip()
        colon = heading["colon"] or heading["after"]
        marked = heading[0].lstrip()[:1] in "#*_"
        lines = [line for line in tail[heading.end() :].split("\n") if line.strip()]
        if not (colon or (marked and not inline)):
            continue
        if inline and (len(inline) > _MAX_INLINE or ". " in inline):
            continue
        if (inline or lines) and all(_is_source(line) for line in lines):
            return heading.start()
    return None


def _is_source(line: str) -> bool:
    """A list's entry, an address, or a short line that is no sentence."""
    return bool(_LISTED.match(line)) or (len(line) <= 100 and line.rstrip()[-1] not in ".!?\u3002")
