"""What can be read: the formats of files, and the databases that are read by their address.

A plug-in adds to them by an entry point of the group `artist_bio_gen.sources`, which names a
`Format` or a `Database`. It is looked for where nothing of our own fits.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath
from typing import Any, TypeAlias, TypeVar

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.sources.content import Content, peeked
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import Json

PLUG_INS = "artist_bio_gen.sources"
CHUNK_FUNCTIONS = "artist_bio_gen.chunk_functions"

READABLE = (
    "CSV, TSV, JSON Lines, Excel (.xlsx, .xls, .ods), Parquet, Arrow and SQLite files, also packed"
    " (.gz, .bz2, .xz, .zst, .zip); patterns of them; - for the standard input; web and"
    " object-store addresses; addresses of Postgres, MySQL, MariaDB and Supabase"
)
"""For messages."""

Opener: TypeAlias = Callable[[Content, SourceOptions, Callable[[], bool]], RowStream]
Cancelled: TypeAlias = Callable[[], bool]


def begins_with(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(beginnings)


def _never(start: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files. `what` names it in messages; `suffixes` are in small letters, with their
    dot; `seen` tells it by the first bytes of a file.

    `opener` is "module:function". It is called with a `Content`, the options, whose `format` is
    this one's name, and a function that turns true when nobody wants the rows any more; it gives
    a `RowStream`, and closes what it has opened if it raises.
    """

    name: str
    what: str
    opener: str
    suffixes: tuple[str, ...] = ()
    seen: Callable[[bytes], bool] = _never


@dataclass(frozen=True, slots=True)
class Database:
    """Whatever is read by an address of one of these schemes (`mysql` of mysql://…). `opener` is
    "module:function", as a format's, but called with the address."""

    name: str
    what: str
    opener: str
    schemes: tuple[str, ...]


def _is_xlsx(start: bytes) -> bool:
    return _first_member(start).startswith(
        (b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/")
    )


def _is_ods(start: bytes) -> bool:
    return _first_member(start) == b"mimetype" and b"opendocument.spreadsheet" in start[:200]


def _first_member(start: bytes) -> bytes:
    """Name of the first file in a zip archive (4.3.7 of PKWARE's APPNOTE); b"" of what is none."""
    if not start.startswith(b"PK\x03\x04"):
        return b""
    return start[30 : 30 + int.from_bytes(start[26:28], "little")]


_HERE = "artist_bio_gen.sources"
_WORKBOOK = f"{_HERE}.workbook.opening:open_workbook"

CSV = Format("csv", "CSV", f"{_HERE}.text.delimited:open_delimited", (".csv", ".txt"))
JSONL = Format(
    "jsonl", "JSON Lines", f"{_HERE}.text.jsonl:open_jsonl", (".jsonl", ".ndjson", ".json")
)

FORMATS = (
    CSV,
    Format("tsv", "tab-separated text", f"{_HERE}.text.delimited:open_delimited", (".tsv", ".tab")),
    JSONL,
    Format(
        "xlsx",
        "an Excel workbook",
        _WORKBOOK,
        (".xlsx", ".xlsm"),
        _is_xlsx,
    ),
    Format(
        "xls",
        "an old Excel workbook (.xls)",
        _WORKBOOK,
        (".xls",),
        begins_with(b"\xd0\xcf\x11\xe0"),
    ),
    Format(
        "ods",
        "an OpenDocument sheet",
        _WORKBOOK,
        (".ods",),
        _is_ods,
    ),
    Format(
        "parquet",
        "a Parquet file",
        f"{_HERE}.arrow.files:open_parquet",
        (".parquet", ".pq"),
        begins_with(b"PAR1"),
    ),
    Format(
        "arrow",
        "an Arrow file",
        f"{_HERE}.arrow.files:open_arrow",
        (".arrow", ".arrows", ".feather", ".ipc"),
        begins_with(b"ARROW1", b"\xff\xff\xff\xff"),
    ),
    Format(
        "sqlite",
        "an SQLite database",
        f"{_HERE}.databases.sqlite:open_sqlite",
        (".sqlite", ".sqlite3", ".db"),
        begins_with(b"SQLite format 3\x00"),
    ),
)

_OTHER_NAMES = {"json": "jsonl"}
"""Of formats, for whoever gives one."""

DATABASES = (
    Database(
        "postgres", "Postgres", f"{_HERE}.databases.postgres:open_query", ("postgresql", "postgres")
    ),
    Database(
        "mysql", "MySQL or MariaDB", f"{_HERE}.databases.mysql:open_query", ("mysql", "mariadb")
    ),
    Database(
        "supabase",
        "Supabase",
        f"{_HERE}.databases.supabase:open_query",
        ("supabase+https", "supabase+http"),
    ),
)

# What is met under another name, or piped in by mistake.
_FOREIGN = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive of something else"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "a web page"),
)
_UNPRINTED = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_FOREIGN_SUFFIXES = (".pdf", ".xml", ".duckdb", ".docx", ".rar", ".7z", ".tar")


def open_content(content: Content, options: SourceOptions, cancelled: Cancelled) -> RowStream:
    """The rows of one file, in the format that is given, or that its first bytes or its name tell,
    else as CSV."""
    start, content = peeked(content)
    with on_failure(content.drop):
        chosen, facts = choose(content, start, options.format)
        opener: Opener = load(chosen.opener)
        stream = opener(content, replace(options, format=chosen.name), cancelled)
    stream.opened_as = facts
    return stream


def choose(content: Content, start: bytes, given: str | None) -> tuple[Format, dict[str, Json]]:
    if given is not None:
        own = _OTHER_NAMES.get(given, given)
        found = next((each for each in FORMATS if each.name == own), None) or _plugged_in(given)
        return found, {"format": found.name}
    suffix = PurePath(content.file_name).suffix.lower()
    named = by_name(content.file_name)
    seen = next((each for each in FORMATS if each.seen(start)), None)
    if named is None and seen is None and (suffix or start):
        named, seen = _of_plug_ins(suffix, start)
    chosen = seen or named
    if chosen is None:
        _refuse_foreign(content.name, suffix, start)
        chosen = JSONL if _looks_like_json(start) else CSV
    elif seen is None:
        if chosen.opener == _WORKBOOK:
            _refuse_text(content.name, start)
        _refuse_foreign(content.name, "", start)
    facts: dict[str, Json] = {"format": chosen.name}
    if named is not None and named is not chosen:
        facts["named"] = f"{content.name} is named as {named.what} and is {chosen.what}"
    return chosen, facts


def by_name(file_name: str) -> Format | None:
    """One of our own formats, by the end of a file's name."""
    suffix = PurePath(file_name).suffix.lower()
    return next((each for each in FORMATS if suffix in each.suffixes), None)


def _refuse_foreign(name: str, suffix: str, start: bytes) -> None:
    for beginning, what in _FOREIGN:
        if start.startswith(beginning):
            raise InputError(f"{name} is {what}; what can be read: {READABLE}")
    if suffix in _FOREIGN_SUFFIXES:
        raise InputError(
            f"{name} is named {suffix}, which cannot be read; what can be read: {READABLE}."
            " If it is one of these, say which with --format"
        )


def _refuse_text(name: str, start: bytes) -> None:
    """What many programs export under the name of a workbook, since Excel opens it."""
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = start.decode(encoding, "replace").lstrip()
    if text.startswith("<"):
        raise InputError(
            f"{name} is HTML or XML, and no workbook; open it in a spreadsheet program, and save it"
            " as .xlsx"
        )
    header, end, _ = text.partition("\n")
    if end and not _UNPRINTED.search(header):
        way = "tsv" if "\t" in header else "csv"
        raise InputError(f"{name} is text, and no workbook; read it with --format {way}")


def _looks_like_json(start: bytes) -> bool:
    """A row of its own kind of JSON, or a list of them; a header of CSV that begins so would be a
    strange one."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    following = {b"{": (b'"', b"}"), b"[": (b"{", b"]")}
    return text[1:].lstrip()[:1] in following.get(text[:1], ())


def database_of(address: str) -> Database | None:
    """Who reads this address; None for addresses of files, and for what is no address."""
    scheme, there, rest = address.partition("://")
    if not there:
        return None
    if scheme == "https" and ".supabase.co/rest/v1/" in rest.lower():
        scheme = "supabase+https"
    return next((each for each in DATABASES if scheme.lower() in each.schemes), None)


def database_plugged_in(address: str) -> Database | None:
    scheme = address.partition("://")[0].lower()
    return next((each for each in _plug_ins(Database) if scheme in each.schemes), None)


def open_database(
    database: Database, address: str, options: SourceOptions, cancelled: Cancelled
) -> RowStream:
    opener: Callable[[str, SourceOptions, Cancelled], RowStream] = load(database.opener)
    return opener(address, options, cancelled)


def load(opener: str) -> Any:
    """The function at "module:function"."""
    module, _, name = opener.partition(":")
    return getattr(importlib.import_module(module), name)


# ---- plug-ins ----------------------------------------------------------------------------------


_Kind = TypeVar("_Kind", Format, Database)


def chunk_function(name: str) -> Callable[[Chunk], Chunk]:
    """The plug-in of this name that is given each chunk. UsageError where there is none."""
    points = {each.name: each for each in entry_points(group=CHUNK_FUNCTIONS)}
    if name not in points:
        there = f"there are {', '.join(points)}" if points else "none is installed"
        raise UsageError(f"--chunk-function {name}: there is no such plug-in; {there}")
    function: Callable[[Chunk], Chunk] = _loaded(points[name])
    return function


def _plugged_in(name: str) -> Format:
    found = {each.name: each for each in _plug_ins(Format)}
    if name not in found:
        known = ", ".join(each.name for each in (*FORMATS, *found.values()))
        raise UsageError(f"--format {name}: there is no such format; there are {known}")
    return found[name]


def _plug_ins(kind: type[_Kind]) -> Iterator[_Kind]:
    for point in entry_points(group=PLUG_INS):
        found = _loaded(point)
        if isinstance(found, kind):
            yield found


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"the plug-in {point.name} ({point.value}) cannot be loaded: {exc}; mend it, or take it"
            " away"
        ) from exc


def _of_plug_ins(suffix: str, start: bytes) -> tuple[Format | None, Format | None]:
    """By name and by first bytes."""
    formats = [*_plug_ins(Format)]
    named = next((each for each in formats if suffix and suffix in each.suffixes), None)
    return named, next((each for each in formats if each.seen(start)), None)
