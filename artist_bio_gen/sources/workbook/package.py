"""What an .xlsx archive says it holds: its sheets, and where they are."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias
from xml.parsers import expat

from artist_bio_gen.sources.workbook.elements import DAMAGE

TEXTS = "xl/sharedStrings.xml"
STYLES = "xl/styles.xml"

_Attributes: TypeAlias = dict[str, str]


@dataclass(frozen=True, slots=True)
class Listed:
    """A sheet as the workbook lists it. `member` is "" where it is not as usual."""

    name: str
    member: str = ""
    is_table: bool = False
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """`sheets` in the order of the workbook; `texts_size` is that of the shared strings, in bytes
    unpacked, where these are in their usual place."""

    sheets: tuple[Listed, ...] = ()
    texts_size: int = 0

    def members(self) -> Mapping[str, str]:
        return {each.name: each.member for each in self.sheets if each.member}


def package_of(file: BinaryIO) -> Package:
    """Of a file that was checked. What cannot be read is left out."""
    sheets: list[_Attributes] = []
    targets: dict[str, tuple[str, str]] = {}

    def relation(tag: str, attributes: _Attributes) -> None:
        if tag.endswith("Relationship"):
            kind = attributes.get("Type", "").rpartition("/")[2]
            targets[attributes.get("Id", "")] = (kind, _path(attributes.get("Target", "")))

    def part(tag: str, attributes: _Attributes) -> None:
        if tag.rpartition(":")[2] == "sheet":
            sheets.append(attributes)

    with zipfile.ZipFile(file) as archive:
        for member, handler in (
            ("xl/_rels/workbook.xml.rels", relation),
            ("xl/workbook.xml", part),
        ):
            if not _parsed(archive, member, handler):
                return Package()
        texts_size = 0
        if ("sharedStrings", TEXTS) in targets.values() and TEXTS in archive.namelist():
            texts_size = archive.getinfo(TEXTS).file_size
    return Package(tuple(_listed(each, targets) for each in sheets), texts_size)


def _parsed(
    archive: zipfile.ZipFile, member: str, handler: Callable[[str, _Attributes], None]
) -> bool:
    parser = expat.ParserCreate()
    parser.StartElementHandler = handler
    try:
        parser.Parse(archive.read(member), True)
    except (LookupError, ValueError, expat.ExpatError, *DAMAGE):
        return False
    return True


def _path(target: str) -> str:
    if target.startswith("/"):
        return target.removeprefix("/")
    return f"xl/{target}" if target else ""


def _listed(attributes: _Attributes, targets: Mapping[str, tuple[str, str]]) -> Listed:
    relation = next((value for key, value in attributes.items() if key.endswith(":id")), "")
    kind, member = targets.get(relation, ("", ""))
    return Listed(
        attributes.get("name", ""),
        member,
        is_table=kind == "worksheet",
        is_hidden=attributes.get("state", "visible") != "visible",
    )
