"""A few rows as a table on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from artist_bio_gen.destinations.destination import json_text
from artist_bio_gen.stream import Chunk
from artist_bio_gen.telemetry.progress import one_line
from artist_bio_gen.values import Json

LEAST_WIDTH = 8
MOST_WIDTH = 40
"""Of a column, in letters of the terminal."""

_BETWEEN = "  "


def table(columns: Sequence[str], chunks: Sequence[Chunk], width: int) -> Iterator[str]:
    """The lines: as many columns as are readable within this width, the others named at the end.
    Before each row stands its number."""
    lines = [["row", *map(one_line, columns)]]
    for chunk in chunks:
        for number, row in zip(chunk.numbers, chunk.values(), strict=True):
            cells = [str(number), *map(_shown, row)]
            lines.append(cells + [""] * (len(lines[0]) - len(cells)))
    widths = _fitted([max(map(cell_len, cells)) for cells in zip(*lines, strict=True)], width)
    yield _line(lines[0], widths)
    yield _BETWEEN.join("-" * each for each in widths)
    for line in lines[1:]:
        yield _line(line, widths)
    if left_out := lines[0][len(widths) :]:
        yield f"{len(left_out)} more columns: {', '.join(left_out)}"


def _fitted(widths: list[int], room: int) -> list[int]:
    """The widest ones cut to the same width, and no further than to the least readable one;
    columns at the end that do not fit even so are left out. The first one stays as it is."""
    number, *others = widths
    while True:
        for most in range(MOST_WIDTH, LEAST_WIDTH - 1, -1):
            fitted = [number, *(min(each, most) for each in others)]
            if sum(fitted) + len(_BETWEEN) * (len(fitted) - 1) <= room:
                return fitted
        if len(others) <= 1:
            return fitted
        others.pop()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = (_cut(cell, width) for cell, width in zip(cells, widths, strict=False))
    return _BETWEEN.join(shown).rstrip()


def _cut(text: str, width: int) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _shown(cell: Json) -> str:
    if cell is None:
        return ""
    return one_line(cell if isinstance(cell, str) else json_text(cell))
