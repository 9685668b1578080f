"""Secrets in text: finding them, and putting `***` in their place.

Works on any text that may hold a database address: a setting, a message, a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

MASK = "***"

SHORTEST = 4
"""Shorter secrets are not searched for: they would be found inside nearly every word."""

_LONG_KEY = 20
_KEY_TAIL = 4


def _encodable(word: str) -> str:
    """A pattern for a word of which any letter may be percent-encoded, as libpq takes names."""
    return "".join(f"(?:{c}|%{ord(c):02x}|%{ord(c.upper()):02x})" for c in word)


_SECRET_WORDS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")
_NAME = rf"(?<!\w)(?:{'|'.join(map(_encodable, _SECRET_WORDS))})\s*=\s*"

# Within a text, where words follow. Up to the last "@" of the word: a password typed in without
# percent-encoding may itself hold "@", "/" or "?", and rather too much is masked than a part of
# it left over.
_IN_ADDRESS = re.compile(r"(://[^:@/?#\s]*:)(\S*)(?=@)")
_IN_PARAMETER = re.compile(rf"({_NAME})('(?:[^'\\]|\\.)*'|(?:\\.|[^\s&'\\])+)", re.IGNORECASE)

# Where nothing but an address stands, all of it is one: libpq takes white space in a password.
_IS_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WHOLE_ADDRESS = (
    re.compile(r"(://[^:@/]*:)(.*)(?=@)", re.DOTALL),
    re.compile(rf"({_NAME})([^&]+)", re.IGNORECASE),
)
_WHOLE_PARAMETERS = (
    re.compile(rf"({_NAME})('(?:[^'\\]|\\.)*(?:'|\Z)|(?:\\.|[^\s\\])+)", re.IGNORECASE | re.DOTALL),
)


def mask_passwords(text: str) -> str:
    """The text with each password of an address (`://user:…@`) or of a parameter
    (`password=…`, in libpq's own form or in a query) masked."""
    text = _IN_ADDRESS.sub(rf"\g<1>{MASK}", text)
    return _IN_PARAMETER.sub(rf"\g<1>{MASK}", text)


def mask_address(value: str) -> str:
    """As `mask_passwords`, for a setting: no words follow, so white space belongs to it."""
    for pattern in _WHOLE_ADDRESS if _IS_ADDRESS.match(value) else _WHOLE_PARAMETERS:
        value = pattern.sub(rf"\g<1>{MASK}", value)
    return mask_passwords(value)


def mask_key(key: str) -> str:
    """Masked whole; of a long key its last characters show, so that keys can be told apart."""
    return f"{MASK}{key[-_KEY_TAIL:]}" if len(key) >= _LONG_KEY else MASK


def passwords_in(value: str) -> tuple[str, ...]:
    """The passwords that a setting holds, as they are written, as they are meant, and as they
    are written in addresses."""
    found = []
    if _IS_ADDRESS.match(value):
        in_user, in_query = _WHOLE_ADDRESS
        for match in in_user.finditer(value):
            found += [match[2], match[2].partition("@")[0]]
        found += [match[2] for match in in_query.finditer(value)]
    else:
        found += [match[2] for match in _IN_ADDRESS.finditer(value)]
        for match in _WHOLE_PARAMETERS[0].finditer(value):
            found += [match[2], re.sub(r"\\(.)", r"\1", match[2].strip("'"), flags=re.DOTALL)]
    written = [form for word in found for form in (word, word.strip()) if form]
    forms = [form for word in written for form in (word, unquote(word))]
    return tuple(dict.fromkeys([*forms, *(_encoded(form) for form in forms)]))


def _encoded(word: str) -> str:
    return quote(unquote(word), safe="", errors="surrogateescape")


def holds_key(text: str, secrets: Iterable[str]) -> bool:
    """Does the text hold one of these that is long enough to be a key? Shorter ones (the
    password `music`) may well be words."""
    return any(len(secret) >= _LONG_KEY and secret in text for secret in secrets)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, also where `repr` has escaped them, and without any
    password that stands in an address."""
    forms = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= SHORTEST:
            text = text.replace(form, MASK)
    return mask_passwords(text)
