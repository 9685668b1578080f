"""Secrets in text: finding them, and putting `***` in their place.

Works on any text that may hold a database address: a setting, a message, a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

MASK = "***"

SHORTEST = 4
"""Shorter secrets are not searched for: they would be found inside nearly every word."""

_LONG_KEY = 20
_KEY_TAIL = 4

# Up to the last "@" of the word: a password typed in without percent-encoding may itself hold
# "@", "/" or "?", and rather too much is masked than a part of it left over.
_IN_ADDRESS = re.compile(r"(://[^:@/?#\s]*:)(\S*)(?=@)")
_IN_PARAMETER = re.compile(
    r"(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|(?:\\.|[^\s&'\\])+)", re.IGNORECASE
)


def mask_passwords(text: str) -> str:
    """The text with each password of an address (`://user:…@`) or of a parameter
    (`password=…`, in libpq's own form or in a query) masked."""
    text = _IN_ADDRESS.sub(rf"\g<1>{MASK}", text)
    return _IN_PARAMETER.sub(rf"\g<1>{MASK}", text)


def mask_key(key: str) -> str:
    """Masked whole; of a long key its last characters show, so that keys can be told apart."""
    return f"{MASK}{key[-_KEY_TAIL:]}" if len(key) >= _LONG_KEY else MASK


def passwords_in(text: str) -> tuple[str, ...]:
    """The passwords that the text holds, as they are written and as they are meant."""
    found = []
    for match in _IN_ADDRESS.finditer(text):
        found += [match[2], match[2].partition("@")[0]]
    for match in _IN_PARAMETER.finditer(text):
        found.append(match[2])
        found.append(re.sub(r"\\(.)", r"\1", match[2].strip("'")))
    return tuple(dict.fromkeys(form for word in found for form in (word, unquote(word)) if form))


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
