"""Where artists come from: each source is a `RowStream`, opened with `open_source`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from artist_bio_gen.config.options import Option, options_of
from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.masking import mask_address
from artist_bio_gen.sources import formats
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.formats import Cancelled
from artist_bio_gen.sources.many import Many, Part
from artist_bio_gen.sources.places.compressed import unpacked
from artist_bio_gen.sources.places.local import STDIN, is_address, local_content, paths_of
from artist_bio_gen.sources.reading import Guard, Progress, Reading, ReadResult
from artist_bio_gen.sources.shaping import shaped
from artist_bio_gen.sources.side_by_side import SideBySide
from artist_bio_gen.sources.text.delimited import DelimitedStream
from artist_bio_gen.stream import RowStream
from artist_bio_gen.values import path_text

__all__ = ["STDIN", "Progress", "ReadResult", "Reading", "open_source"]

_OPTIONS: Mapping[str, Option] = {each.name: each for each in options_of(SourceOptions)}


@dataclass(frozen=True, slots=True)
class _Opened:
    """`plain` is the stream itself if it is one CSV file of this machine, read as it is."""

    stream: RowStream
    plain: DelimitedStream | None = None


def open_source(
    source: str | os.PathLike[str],
    options: SourceOptions | None = None,
    *,
    cancelled: Cancelled = lambda: False,
    progress: Callable[[Progress], None] | None = None,
    guard: Guard | None = None,
    **more: Any,
) -> Reading:
    """Opens the rows of `source`: a file, a pattern of files, `-` for the standard input, an
    address of the web or of an object store, or a database's.

    `more` are fields of `SourceOptions` (docs/options.md), as in `open_source("a.csv",
    max_rows=10)`; they go before those of `options`. The environment is not looked at. Nothing is
    read, or waited for, once it is `cancelled`: then StoppedError is raised. `progress` is told now
    and then how far it is. `guard` watches the memory; None is one of its own where there is a
    `memory_limit`.

    Raises InputError when nothing can be read, UsageError when an option cannot be used,
    ConfigError when a package, a server or a key is missing, TypeError for an unknown field, and
    for rows that are in memory.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"open_source takes a path or an address, not {type(source).__name__}; rows that are in"
            " memory: artist_bio_gen.from_rows, from_pandas, from_arrow"
        )
    told = _told(options or SourceOptions(), more)
    plug_in = None if told.chunk_function is None else formats.chunk_function(told.chunk_function)
    if guard is None and told.memory_limit is not None:
        from artist_bio_gen.memory import MemoryGuard

        guard = MemoryGuard(told.memory_limit)
    opened = _open(os.fspath(source), told, cancelled)
    stream = opened.stream
    plain = None if changes_rows(told) else opened.plain
    with on_failure(lambda: stream.close()):  # the one around the others, as far as it has come
        stream = _spilled(stream, told, guard)
        if stream is not opened.stream:
            plain = None
        if told.chunk_function is not None and told.parallel > 1:
            stream = shaped(stream, told)
            stream = SideBySide(stream, told.chunk_function, told.parallel, cancelled)
        else:
            stream = shaped(stream, told, plug_in)
    return Reading(
        stream,
        told,
        facts=opened.stream.opened_as,
        guard=guard,
        progress=progress,
        plain=plain,
    )


def changes_rows(options: SourceOptions) -> bool:
    """Whether rows come out other than they stand in the file, all or the first ones of them."""
    return (
        options.strip
        or options.skip_empty
        or options.split_id is not None
        or options.columns is not None
        or options.chunk_function is not None
    )


def _told(options: SourceOptions, more: Mapping[str, Any]) -> SourceOptions:
    """The options with these changed, each checked as if it came from the command line."""
    values: dict[str, Any] = {}
    for name, value in more.items():
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _OPTIONS, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise TypeError(f"open_source has no option {name!r}{hint}")
        if value is None:
            values[name] = _OPTIONS[name].default
            continue
        try:
            given = tuple(value) if isinstance(value, list) else value
            values[name] = _OPTIONS[name].read(given, "open_source")
        except ConfigError as exc:
            raise UsageError(str(exc)) from exc
    return replace(options, **values)


# ---- one source --------------------------------------------------------------------------------


def _open(source: str, options: SourceOptions, cancelled: Cancelled) -> _Opened:
    database = formats.database_of(source)
    if database is not None:
        return _Opened(formats.open_database(database, source, options, cancelled))
    if source.startswith("sqlite:"):
        if not source.startswith("sqlite:///"):
            raise UsageError(f"{source}: write sqlite:///artists.db, or sqlite:////data/artists.db")
        content = local_content(unquote(source.removeprefix("sqlite:///")), cancelled)
        return _of_content(content, replace(options, format="sqlite"), cancelled)
    if source.startswith("file://"):
        return _of_content(local_content(_path_of(source), cancelled), options, cancelled)
    if is_address(source):
        return _of_address(source, options, cancelled)
    paths = paths_of(source)
    if len(paths) == 1:
        return _of_content(local_content(paths[0], cancelled), options, cancelled)
    return _Opened(_of_paths(source, paths, options, cancelled))


def _path_of(address: str) -> str:
    """RFC 8089: file:///path, or file://localhost/path."""
    return unquote(address.removeprefix("file://").removeprefix("localhost"))


def _of_address(address: str, options: SourceOptions, cancelled: Cancelled) -> _Opened:
    database = formats.database_plugged_in(address)
    if database is not None:
        return _Opened(formats.open_database(database, address, options, cancelled))
    from artist_bio_gen.sources.places.remote import fetch

    contents = fetch(address, options, cancelled)
    if len(contents) == 1:
        return _of_content(contents[0], options, cancelled)
    return _Opened(_of_contents(mask_address(address), contents, options, cancelled))


def _of_content(content: Content, options: SourceOptions, cancelled: Cancelled) -> _Opened:
    contents = unpacked(content, options)
    if len(contents) > 1:
        parts = [
            Part(
                each.name,
                partial(formats.open_content, each, options, cancelled),
                each.packed_size,
            )
            for each in contents
        ]
        return _Opened(
            _many(content.name, parts, options, can_wait=all(each.can_wait for each in contents))
        )
    (inner,) = contents
    stream = formats.open_content(inner, options, cancelled)
    if isinstance(stream, DelimitedStream) and inner.path is not None:
        return _Opened(stream, plain=stream)
    return _Opened(stream)


# ---- several of them ---------------------------------------------------------------------------


def _of_contents(
    name: str, contents: Sequence[Content], options: SourceOptions, cancelled: Cancelled
) -> RowStream:
    parts = [
        Part(
            each.name,
            partial(_unpacked_rows_of, each, options, cancelled),
            each.packed_size or each.size,
        )
        for each in contents
    ]
    return _many(name, parts, options, can_wait=all(each.can_wait for each in contents))


def _unpacked_rows_of(content: Content, options: SourceOptions, cancelled: Cancelled) -> RowStream:
    return _of_content(content, options, cancelled).stream


def _of_paths(
    pattern: str, paths: Sequence[str], options: SourceOptions, cancelled: Cancelled
) -> RowStream:
    """Side by side in processes of their own, if that is wanted."""
    contents = [local_content(path, cancelled) for path in paths]
    name = path_text(pattern)
    if options.parallel == 1:
        return _of_contents(name, contents, options, cancelled)
    from artist_bio_gen.sources.child import in_child

    parts = [
        Part(
            content.name,
            partial(
                in_child,
                f"{__name__}:open_path",
                (path, replace(options, parallel=1)),
                name=content.name,
                way_out="mend it, or read it without --parallel to see more",
                chunk_size=options.chunk_size,
                cancelled=cancelled,
            ),
            content.size,
        )
        for path, content in zip(paths, contents, strict=True)
    ]
    return _many(name, parts, options, ahead=options.parallel - 1)


def open_path(path: str, options: SourceOptions) -> RowStream:
    """The rows of one file as they are, to be read in a process of its own."""
    return _unpacked_rows_of(local_content(path, _never), options, _never)


def _never() -> bool:
    return False


def _many(
    name: str,
    parts: Sequence[Part],
    options: SourceOptions,
    *,
    can_wait: bool = True,
    ahead: int = 0,
) -> RowStream:
    return Many(
        parts,
        name=name,
        schema=options.schema,
        on_error=options.on_error,
        can_wait=can_wait,
        ahead=ahead,
    )


def _spilled(stream: RowStream, options: SourceOptions, guard: Guard | None) -> RowStream:
    """Put on disk, where its rows may be taken more slowly than it bears."""
    if options.spill == "direct" or (options.spill == "adaptive" and stream.can_wait):
        return stream
    from artist_bio_gen.sources.spill.spilled import spilled

    return spilled(stream, options, guard)
