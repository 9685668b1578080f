"""The lines of a text file in any encoding: decoded, marked where that fails, bounded."""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from artist_bio_gen.errors import InputError, UsageError

LINE_ENDS = "\r\n"

HOPELESS = 64
"""So many times the longest line without an end are no text: a device, or a file of zeros."""

_BLOCK = 64 * 1024  # bytes read at once
_SHOWN = 500  # characters of a bad row that are kept

# Undecodable bytes are carried through decoding and parsing as lone surrogates, which no
# decoder makes of sound text, so that the row and the cell in which they stand can be told.
_MARK = "artist_bio_gen.mark"
_MARK_BASE = 0xDC00
_UNSOUND = re.compile("[\x00\ud800-\udfff]")

_BYTE_ORDER_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    undecodable = error.object[error.start : error.end]
    return "".join(chr(_MARK_BASE + byte) for byte in undecodable), error.end


codecs.register_error(_MARK, _mark)


class Lines:
    """The lines of `file` with their ends (LF, CR LF or CR), then "" for ever.

    `encoding` None means UTF-8; a byte order mark is taken off. `suspect` turns true, and
    stays so, with the first block that holds NUL, undecodable bytes or a line longer than
    `longest` characters; until then no line need be looked at for these (`unsound`). Of such
    a long line, the middle is left out as it is read, so that memory is bounded; it stays
    longer than `longest`. Raises `InputError` where the file cannot be read on.

    `countable`: what is not suspect has in UTF-8 as many bytes as it takes in the file, but for
    a byte order mark, whose `mark` bytes are known with the first line. `begun`: `file` stands
    within the text, where no such mark is.
    """

    def __init__(
        self,
        file: io.BufferedReader[Any],
        *,
        name: str,
        encoding: str | None,
        longest: int,
        begun: bool = False,
    ) -> None:
        self.encoding = encoding or "utf-8"
        self.suspect = False
        self.mark = 0
        self._begun = begun
        self._file = file
        self._name = name
        self._longest = longest
        self._again: deque[str] = deque()
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=self.encoding)  # knows text from other codecs
            self._decode = codecs.getincrementaldecoder(self.encoding)(_MARK).decode
        except (LookupError, ValueError) as exc:
            raise UsageError(
                f"--encoding {self.encoding}: no such text encoding; common ones are utf-8,"
                " utf-16, windows-1252, iso-8859-1, shift_jis, gb18030"
            ) from exc
        self.countable = codecs.lookup(self.encoding).name == "utf-8"
        if not begun:
            self._check_byte_order_mark()

    def again(self, lines: Sequence[str]) -> None:
        """Have these lines come next, once more."""
        self._again.extendleft(reversed(lines))

    def __iter__(self) -> Iterator[str]:
        again = self._again
        for lines in self._blocks():
            for line in lines:
                yield line
                while again:
                    yield again.popleft()
        while True:
            yield again.popleft() if again else ""

    def _check_byte_order_mark(self) -> None:
        if not self.countable:
            return
        start = self._file.peek()
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if start.startswith(mark):
                raise InputError(
                    f"{self._name} begins with the mark of {encoding.upper()};"
                    f" read it with --encoding {encoding}"
                )

    def _blocks(self) -> Iterator[list[str]]:
        begun: list[str] = []  # parts of a line whose end is not read yet
        length = 0
        passed_over = 0  # characters of such a line that are left out
        started, ended = self._begun, False
        while not ended:
            text, ended = self._read()
            if text and not started:
                started = True
                if text[0] == "\ufeff":  # the byte order mark, in every encoding
                    text = text[1:]
                    self.mark = len(codecs.BOM_UTF8)
            if not self.suspect:
                self.suspect = length + len(text) > self._longest or not _is_sound(text)
            if not ended and "\n" not in text and "\r" not in text:
                if length <= self._longest:
                    begun.append(text)
                    length += len(text)
                else:
                    passed_over += len(text)
                    self._require_hope(passed_over)
                continue
            passed_over = 0
            lines = io.StringIO("".join([*begun, text]), newline="").readlines()
            begun.clear()
            # A CR at the end may be half of a CR LF.
            if lines and not ended and lines[-1][-1] != "\n":
                begun.append(lines.pop())
            length = sum(map(len, begun))
            yield lines

    def _require_hope(self, passed_over: int) -> None:
        if passed_over > HOPELESS * self._longest:
            raise InputError(
                f"{self._name} cannot be read on: more than {HOPELESS * self._longest:,} characters"
                " without the end of a line; give a CSV file"
            )

    def _read(self) -> tuple[str, bool]:
        """The next block of text, and whether it is the last one."""
        try:
            data = self._file.read1(_BLOCK)
            return self._decode(data, not data), not data
        except OSError as exc:
            raise InputError(f"{self._name} cannot be read to its end: {exc.strerror}") from exc
        except UnicodeError as exc:  # of decoders that cannot go on after what they cannot decode
            raise InputError(
                f"{self._name} is no {self.encoding} ({exc}); give its encoding with --encoding"
            ) from exc


def _is_sound(text: str) -> bool:
    if "\x00" in text:
        return False
    if not text.isascii():
        try:
            text.encode()  # refuses lone surrogates: the quickest way to look for them
        except UnicodeEncodeError:
            return False
    return True


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
    return _UNSOUND.sub("\ufffd", text[:_SHOWN].rstrip(LINE_ENDS))
