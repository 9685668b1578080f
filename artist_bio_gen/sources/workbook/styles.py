"""Which numbers of a workbook are numbers, and no dates or times: their formats tell."""

from __future__ import annotations

import re
from xml.parsers import expat

from artist_bio_gen.sources.workbook.elements import Unusual

_MOMENTS = frozenset((*range(14, 23), 45, 46, 47))  # of the formats that are built in
# Texts, and letters that stand for themselves; conditions, colours and countries; powers of ten.
# All other letters may be those of a date.
_NUMBER = re.compile(
    r'(?:"[^"]*+"|[\\_*].|\[(?![hms]+\])[^\[\]]*+\]|general|e[-+]|[^a-z"\\\[\]])*+',
    re.IGNORECASE | re.DOTALL,
)


class Styles:
    """The formats of cells, by the numbers that cells have."""

    def __init__(self, xml: bytes) -> None:
        """`xml` is the member `xl/styles.xml`. Raises Unusual."""
        self._codes: dict[int, str] = {}
        self._formats: list[int] = []
        self._around: list[str] = []
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._begun
        parser.EndElementHandler = self._ended
        try:
            parser.Parse(xml, True)
        except (expat.ExpatError, ValueError, KeyError) as exc:
            raise Unusual(f"its styles cannot be read ({exc})") from exc

    def is_number(self, style: int) -> bool:
        """Whether numbers in this style are certainly that."""
        if style >= len(self._formats):
            return style == 0
        number = self._formats[style]
        return number not in _MOMENTS and _NUMBER.fullmatch(self._codes.get(number, "")) is not None

    def _begun(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        around = self._around[-1:]
        if around == ["numFmts"] and tag == "numFmt":
            self._codes[int(attributes["numFmtId"])] = attributes["formatCode"]
        elif around == ["cellXfs"] and tag == "xf":
            self._formats.append(int(attributes.get("numFmtId", "0")))
        self._around.append(tag)

    def _ended(self, _: str) -> None:
        self._around.pop()
