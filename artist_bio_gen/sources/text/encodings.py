"""The encoding of a text file: given, told by its mark, or found by its content; and what no
decoder could make text of."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.extras import require
from artist_bio_gen.values import Json

AUTO = "auto"
"""The encoding that is found by content."""

MARK = 4
"""Bytes of the longest byte order mark."""

_UTF_8 = "utf-8"

_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_LOOKED_AT = 4 * 1024 * 1024
_SAMPLE = 32 * 1024  # more makes the look slow, and no surer

_BY_ZEROS = 0.9  # confidence
_MOST_COMMON = "cp1252"  # of the web's pages that are not UTF-8

_SHOWN = 500  # characters of a bad row that are kept

# Undecodable bytes are carried through decoding and parsing as lone surrogates, which no
# decoder makes of sound text, so that the row and the cell in which they stand can be told.
_MARK = "artist_bio_gen.mark"
_MARK_BASE = 0xDC00
_UNSOUND = re.compile("[\x00\ud800-\udfff]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    undecodable = error.object[error.start : error.end]
    return "".join(chr(_MARK_BASE + byte) for byte in undecodable), error.end


codecs.register_error(_MARK, _mark)


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding by its name. `confidence`, from 0 to 1, is there when it was found by content,
    and is shared by encodings that fit alike;
    `marked` tells that it was told by its byte order mark."""

    name: str
    confidence: float | None = None
    marked: bool = False

    @property
    def countable(self) -> bool:
        """Whether its characters have as many bytes as in UTF-8."""
        return codecs.lookup(self.name).name == _UTF_8

    def facts(self) -> dict[str, Json]:
        if self.confidence is None:
            return {"encoding": self.name}
        return {"encoding": self.name, "encoding_confidence": self.confidence}

    def decoder(self) -> Callable[[bytes, bool], str]:
        """Decodes piece by piece; the second argument tells the last one."""
        return codecs.getincrementaldecoder(self.name)(_MARK).decode

    @contextmanager
    def told(self, name: str) -> Iterator[None]:
        """For reading and decoding the file `name`: InputError when it cannot go on."""
        try:
            yield
        except OSError as exc:
            raise InputError(
                f"{name} cannot be read to its end: {exc.strerror or exc}; get it again"
            ) from exc
        except UnicodeError as exc:  # of decoders that cannot pass over what they cannot decode
            raise InputError(
                f"{name} is no {self.name} ({exc}); give its encoding with --encoding"
            ) from exc


def encoding_of(
    start: bytes, given: str | None, *, name: str, sample: Callable[[], bytes]
) -> Encoding:
    """The encoding of the file that begins with `start`, at least `MARK` bytes where it has so
    many. `sample` gives some of its text, and is called when the content has to be looked at.
    Raises `UsageError` for an encoding that does not exist, `InputError` when none fits."""
    if given is not None and given.lower() != AUTO:
        encoding = Encoding(_known(given))
        told = _told(start)
        if told and encoding.countable:
            raise InputError(
                f"{name} begins with the mark of {told.upper()};"
                f" read it with --encoding {told}, or without --encoding"
            )
        return encoding
    if told := _told(start):
        return Encoding(told, marked=True)
    return Encoding(_UTF_8) if given is None else _guessed(sample(), name)


def _known(name: str) -> str:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)  # knows text from other codecs
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError) as exc:
        raise UsageError(
            f"--encoding {name}: no such text encoding; common ones are utf-8,"
            " utf-16, windows-1252, iso-8859-1, shift_jis, gb18030"
        ) from exc
    return name


def _told(start: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "")


def _guessed(sample: bytes, name: str) -> Encoding:
    """UTF-8 if the sample is that: hardly any text of another encoding is."""
    if b"\0" in sample:
        return Encoding(_by_zeros(sample, name), confidence=_BY_ZEROS)
    try:
        codecs.utf_8_decode(sample, "strict", False)  # its last character may be cut off
        return Encoding(_UTF_8, confidence=1.0)
    except UnicodeDecodeError:
        pass
    normalizer = require("charset_normalizer", extra="encodings", what="--encoding auto")
    matches = [*normalizer.from_bytes(sample)]
    if not matches:
        raise _unknown(name)
    # Its own choice among those that read alike goes by the alphabet.
    best = max((-match.chaos, match.coherence) for match in matches)
    alike = [each.encoding for each in matches if (-each.chaos, each.coherence) == best]
    found = _MOST_COMMON if _MOST_COMMON in alike else alike[0]
    return Encoding(_known(found), confidence=round((1 + best[0]) / len(alike), 3))


def _by_zeros(sample: bytes, name: str) -> str:
    """UTF-16 without a mark: line ends and digits have a zero in front or behind, and hardly any
    other letter has one at the other place."""
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if max(first, second) < 4 * min(first, second):
        raise _unknown(name)
    return "utf-16-be" if first > second else "utf-16-le"


def _unknown(name: str) -> InputError:
    return InputError(
        f"{name}: no encoding fits its content; give it with --encoding (windows-1252, …)"
    )


def sample_of(again: Callable[[], io.BufferedReader[Any]] | None, start: bytes) -> bytes:
    """Lines by which an encoding shows: those of a file's first `_LOOKED_AT` bytes that are no
    ASCII. Of a file that cannot be opened once more, `start`."""
    if again is None or b"\0" in start:
        return start
    found: list[bytes] = []
    size = 0
    with again() as file:
        for line in file.read(_LOOKED_AT).splitlines(keepends=True):
            if not line.isascii():
                found.append(line)
                size += len(line)
                if size > _SAMPLE:
                    break
    return b"".join(found)[:_SAMPLE] or start


def unsound(text: str, encoding: str) -> str:
    """What in this text can neither be stored nor sent; "" when nothing is."""
    found = _UNSOUND.search(text)
    if not found:
        return ""
    code = ord(found[0])
    if not code:
        return "NUL"
    if _MARK_BASE <= code < _MARK_BASE + 256:
        return f"byte 0x{code - _MARK_BASE:02x}, which is no {encoding},"
    return f"half a character (U+{code:04X})"


def shown(text: str) -> str:
    """The beginning of a bad row, for a person to see; nothing in it is unsound."""
    return _UNSOUND.sub("\ufffd", text[:_SHOWN].rstrip("\r\n"))
