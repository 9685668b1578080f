"""Excel and OpenDocument workbooks: read in a process of their own, with limits."""

from __future__ import annotations

import os
from collections.abc import Callable

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.sources.child import Limits, in_child
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.spool import spooled
from artist_bio_gen.stream import RowStream

CPU_S = 60
"""Seconds of processor time until the first rows, and then for each chunk."""

_MEMORY_MB = 500
_SHARE = 0.8  # of the memory limit; the rest is for us


def open_workbook(
    content: Content, options: SourceOptions, cancelled: Callable[[], bool]
) -> RowStream:
    """The rows of a workbook's sheets, numbered as in their sheet. `Chunk.file` names the sheet
    where there are several.

    A cell is what the program that wrote it had calculated: None where there is nothing (or empty
    text), whole numbers as integers, dates and times as ISO 8601 (midnight is told as the date
    alone, spans of time as P1DT6H), an error as its text (#DIV/0!). xlsx is read as a stream; of
    xls and ods each sheet is held in memory.
    """
    content = spooled(content, options)
    memory_mb = options.memory_limit or _MEMORY_MB
    return in_child(
        "artist_bio_gen.sources.workbook.sheets:open_sheets",
        (os.fspath(content.path or ""), content.name, options),
        name=content.name,
        limits=Limits(memory_mib=int(memory_mb * _SHARE * 1_000_000 / 1024**2), cpu_s=CPU_S),
        way_out="save its sheets as CSV",
        chunk_size=options.chunk_size,
        holds=content,
        cancelled=cancelled,
    )
