"""The lines of a text file in any encoding: decoded, marked where that fails, bounded."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.sources.text.encodings import MARK, Encoding
from artist_bio_gen.stream import CHUNK
from artist_bio_gen.values import is_sound

LINE_ENDS = "\r\n"

HOPELESS = 64
"""So many times the longest line without an end are no text: a device, or a file of zeros."""

BLOCK = 64 * 1024
"""Bytes that are read at once, unless it is said otherwise."""

# By how many rows are wanted: fewer than the lines that a row of a CSV may have. More than a
# `BLOCK` leave the processor's caches, and cost 15 % of the speed.
_LEAST_AT_ONCE = 16 * 1024
_MOST_AT_ONCE = 512 * 1024
_NEARLY = 0.95  # of what the rows that are wanted may take: a few rows more would be another chunk


def beginning(file: io.BufferedReader[Any], size: int = BLOCK) -> bytes:
    """What has arrived of a file's first bytes; at least a byte order mark where there is one."""
    start = b""
    while len(start) < MARK:
        more = file.read1(size - len(start))
        if not more:
            break
        start += more
    return start


def at_once(rows: int, bytes_per_row: float) -> int:
    """Bytes to be read at once of a file that is at hand, where so many rows are wanted."""
    wanted = int(rows * bytes_per_row * _NEARLY)
    return min(max(wanted, _LEAST_AT_ONCE), BLOCK if rows <= CHUNK else _MOST_AT_ONCE)


def split(text: str) -> list[str]:
    """Its lines, with their ends: LF, CR LF or CR, and nothing else (`splitlines` knows more)."""
    return io.StringIO(text, newline="").readlines()


class Lines:
    """The lines of `file`, in texts of whole lines; `start` was read of it before.

    `ends` are the characters that end a line: `LINE_ENDS` (LF, CR LF or CR) or just LF. A byte
    order mark is taken off. Of a line longer than `longest` characters, the middle is left out
    as it is read, so that memory is bounded; it stays longer than `longest`.

    `sound` tells of the text given last that it holds no NUL, nothing undecodable (`unsound`) and
    no line longer than `longest`; `suspect` turns true, and stays so, with the first one that is
    not. `mark`, known with the first text, is the number of bytes of UTF-8's mark.

    `begun`: `file` stands within the text, where no mark is.
    """

    def __init__(
        self,
        file: io.BufferedReader[Any],
        encoding: Encoding,
        *,
        name: str,
        longest: int,
        start: bytes = b"",
        begun: bool = False,
        ends: str = LINE_ENDS,
        kind: str = "CSV",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.suspect = False
        self.sound = True
        self.mark = 0
        self._file = file
        self._encoding = encoding
        self._decode = encoding.decoder()
        self._name = name
        self._longest = longest
        self._kind = kind
        self._cancelled = cancelled
        self._by_cr = "\r" in ends
        self._started = begun
        # On the way from the file to a text; each step lets go of what it was given only when it
        # is done, so that it can be repeated after a MemoryError.
        self._data = start
        self._text = ""
        self._held = False  # a CR before it: half of a CR LF?
        self._ended = False  # the file is read; `_text` is its last
        self._given = False  # and given out
        self._begun: list[str] = []  # parts of a line whose end is not read yet
        self._length = 0
        self._passed_over = 0  # characters of such a line that are left out

    def block(self, size: int = BLOCK) -> str:
        """The next lines, as many as arrive with `size` bytes, and at least one; "" at the end.
        Raises `InputError` where the file cannot be read on."""
        while not self._given:
            self._arrive(size)
            text, ended = self._text, self._ended
            cut = len(text)
            if not ended:
                cut = 1 + max(text.rfind("\n"), text.rfind("\r") if self._by_cr else -1)
                if not cut:
                    self._keep_or_pass_over(text)
                    continue
            whole = "".join([*self._begun, text[:cut]])
            rest = [text[cut:]] if cut < len(text) else []
            self._begun, self._length, self._passed_over = rest, len(text) - cut, 0
            self._text, self._given = "", ended
            if whole:
                self.sound = self._is_sound(whole)
                self.suspect |= not self.sound
                return whole
        return ""

    def _is_sound(self, text: str) -> bool:
        if len(text) > self._longest and max(map(len, split(text))) > self._longest:
            return False
        return is_sound(text)

    def _keep_or_pass_over(self, text: str) -> None:
        if not text:
            return
        if self._length <= self._longest:
            self._begun.append(text)
            self._length += len(text)
        else:
            self._passed_over += len(text)
        self._text = ""
        if self._passed_over > HOPELESS * self._longest:
            raise InputError(
                f"{self._name} cannot be read on: more than {HOPELESS * self._longest:,} characters"
                f" without the end of a line; give a {self._kind} file"
            )

    def _arrive(self, size: int) -> None:
        """Reads and decodes the next bytes into `_text`, or finds that there are no more."""
        if self._text or self._ended:
            return
        if self._cancelled():
            raise StoppedError
        with self._encoding.told(self._name):
            if not self._data:
                self._data = self._file.read1(size)
            ended = not self._data
            text = self._decode(self._data, ended)
        if self._held:
            text = "\r" + text
        held = self._by_cr and not ended and text.endswith("\r")
        if held:
            text = text[:-1]
        if text and not self._started:
            self._started = True
            if text[0] == "\ufeff":  # the byte order mark, in every encoding
                text = text[1:]
                self.mark = len(codecs.BOM_UTF8)
        self._text, self._held, self._ended, self._data = text, held, ended, b""
