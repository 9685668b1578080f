"""Streams made of rows that stand in a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Json


class Listed(RowStream):
    """The rows of a test: lists of cells, mappings, bad rows, and errors that are raised in their
    place. Numbers count from 2, as those of a file with a header. `needs` is the largest chunk for
    which there is memory."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Json] | dict[str, Json] | BadRow | Exception],
        *,
        name: str = "rows",
        needs: int | None = None,
        estimate: int | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.columns = tuple(map(Column, columns))
        self.estimated_row_count = estimate
        self.sizes: list[int] = []
        self.closed = False
        self._rows = list(enumerate(rows, 2))
        self._needs = needs
        self._on_close = on_close

    def read(self, size: int) -> Chunk | None:
        self.sizes.append(size)
        if self._needs is not None and size > self._needs:
            raise MemoryError
        numbers: list[int] = []
        values: list[Sequence[Json]] = []
        dicts: list[dict[str, Json]] = []
        bad: list[BadRow] = []
        while self._rows and len(numbers) < size:
            number, row = self._rows[0]
            if isinstance(row, Exception):
                if numbers or bad:
                    break
                raise row
            self._rows.pop(0)
            if isinstance(row, BadRow):
                bad.append(BadRow(number, row.reason, row.text))
                continue
            numbers.append(number)
            if isinstance(row, dict):
                dicts.append(row)
                new = [name for name in row if name not in [each.name for each in self.columns]]
                self.columns += tuple(map(Column, new))
            else:
                values.append(row)
        if not numbers and not bad:
            return None
        columns = tuple(column.name for column in self.columns)
        if dicts:
            return Chunk(columns, numbers, dicts=dicts, bad=bad)
        return Chunk(columns, numbers, values, bad=bad)

    def close(self) -> None:
        self.closed = True
        self._on_close()


def bad(reason: str = "broken") -> BadRow:
    return BadRow(0, reason)
