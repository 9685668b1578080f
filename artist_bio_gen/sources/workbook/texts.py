"""The shared strings of a workbook in little memory.

Texts lie one behind the other in blocks, and of each is known where it ends: 4 bytes besides the
text itself, where a string of its own takes 50 to 70.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from artist_bio_gen.sources.workbook.elements import Unusual, elements_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_BITS = 10
_BLOCK = 1 << _BITS  # texts; one that is no Latin-1 makes its whole block wider, or not quick
_WITHIN = _BLOCK - 1

_NOTHING = re.compile(r"\s*+")
_SPACE = " \t\r\n"  # of XML; Unicode's other kinds of it stay
_TEXT = re.compile(r'<si><t( xml:space="preserve")?+>([^<]*+)</t></si>')
_REFERENCE = re.compile(r"&(\w*;?)")
_NAMED = {"amp;": "&", "lt;": "<", "gt;": ">", "quot;": '"', "apos;": "'"}
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")  # 22.4.2.4 of ECMA-376, part 1
_LAST_ESCAPED = 0xFF  # by that library, which leaves the others as they are

_Block: TypeAlias = tuple[str | bytes, Sequence[int]]
"""Texts, as UTF-8 where that is less, and where each begins; the last number is their end."""


class SharedTexts:
    """All texts of the member `xl/sharedStrings.xml`, as python-calamine-plus would give them."""

    def __init__(self, file: IO[bytes]) -> None:
        """Reads `file` to its end. Raises Unusual."""
        self._blocks: list[_Block] = []
        self._has_encoded = False
        waiting: list[str] = []
        for piece in elements_of(file, "sst", "si", _NOTHING):
            waiting += _texts(piece)
            whole = len(waiting) // _BLOCK * _BLOCK
            for first in range(0, whole, _BLOCK):
                self._add(waiting[first : first + _BLOCK])
            del waiting[:whole]
        self._add(waiting)

    def many(self, indices: Sequence[str]) -> list[str]:
        """The texts with these numbers, as they stand in cells. Raises Unusual."""
        different = {*indices}
        if len(different) <= len(indices) // 2:
            names = [*different]
            found = dict(zip(names, self._many(names), strict=True))
            return [*map(found.__getitem__, indices)]
        return self._many(indices)

    def clear(self) -> None:
        """Lets go of all texts."""
        self._blocks.clear()

    def _many(self, indices: Sequence[str]) -> list[str]:
        digits = "".join(indices)
        if not (digits.isascii() and digits.isdecimal()):
            raise Unusual("a cell has no number of a shared string")
        try:
            found: list[Any] = [
                data[begins[at] : begins[at + 1]]
                for index in map(int, indices)
                for data, begins in (self._blocks[index >> _BITS],)
                for at in (index & _WITHIN,)
            ]
        except (IndexError, ValueError):
            raise Unusual("a cell has the number of no shared string") from None
        return [*map(_decoded, found)] if self._has_encoded else found

    def _add(self, texts: list[str]) -> None:
        text = "".join(texts)
        if text.isascii():
            self._blocks.append((text, _begins(texts)))
            return
        self._has_encoded = True
        encoded = [text.encode() for text in texts]
        self._blocks.append((b"".join(encoded), _begins(encoded)))


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode()


def _begins(texts: Sequence[str | bytes]) -> Sequence[int]:
    return array("I", accumulate(map(len, texts), initial=0))


def _texts(piece: str) -> list[str]:
    """Those of these elements <si>."""
    if piece.startswith("<si><t>") and piece.endswith("</t></si>"):
        texts = piece[7:-9].split("</t></si><si><t>")
        if _are_plain(texts):
            return texts
    if "&#" not in piece:
        parts = _TEXT.split(piece)
        if not any(parts[::3]):
            pairs = zip(parts[1::3], parts[2::3], strict=True)
            return [_resolved(text, keeps is not None) for keeps, text in pairs]
    return [*_parsed(piece)]


def _are_plain(texts: list[str]) -> bool:
    """Whether they are what stands there. (A single letter is found much faster than two.)"""
    all_of_them = "".join(texts)
    return (
        not any(each in all_of_them for each in "<&\r")
        and not ("_" in all_of_them and "_x" in all_of_them)
        and [*map(str.strip, texts)] == texts
    )


def _resolved(text: str, keeps_space: bool) -> str:
    """What stands between two tags, as text."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "&" in text:
        text = _REFERENCE.sub(_referred, text)
    return _unescaped(text if keeps_space else text.strip(_SPACE))


def _referred(found: re.Match[str]) -> str:
    try:
        return _NAMED[found[1]]
    except KeyError:
        raise Unusual(f"the shared strings have the entity {found[0]}") from None


def _parsed(piece: str) -> Iterator[str]:
    """By a parser of XML, for texts with formats, pronunciation and whatever else there may be."""
    from xml.etree import ElementTree

    try:
        table = ElementTree.fromstring(f"<sst>{piece}</sst>")  # noqa: S314 - without DTD
    except ElementTree.ParseError as exc:
        raise Unusual(f"the shared strings cannot be parsed ({exc})") from exc
    for string in _known(table, "si"):
        runs = chain.from_iterable(
            _known(part, "rPr", "t") if part.tag == "r" else (part,)
            for part in _known(string, "t", "r", "rPh", "phoneticPr")
        )
        yield "".join(_run(run) for run in runs if run.tag == "t")


def _known(around: Element, *tags: str) -> Iterator[Element]:
    """What stands in an element. Raises Unusual where that is none of these: it may be text, as it
    is in an element that tells its namespace itself."""
    for part in around:
        if part.tag not in tags:
            raise Unusual(f"there is <{part.tag}> among the shared strings")
        yield part


def _run(run: Element) -> str:
    if len(run):
        raise Unusual("there are elements in the texts of the shared strings")
    keeps_space = run.get("{http://www.w3.org/XML/1998/namespace}space") == "preserve"
    text = run.text or ""
    return _unescaped(text if keeps_space else text.strip(_SPACE))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "_x" in text else text


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code <= _LAST_ESCAPED else found[0]
