"""Rows as every source gives them: lazily, once, in chunks of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from heapq import merge
from itertools import repeat
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

from artist_bio_gen.values import BadRow, Column, Json, Row

CHUNK = 1_000
"""Rows at a time. More of them cost cache misses and garbage collection, in every format."""

_WIDEST = 200  # columns, for which rows are made mappings the quick way


class Chunk:
    """Rows that follow each other, and the bad ones among them.

    A sound row is a sequence of cells in the order of `columns`, and has its number, as a person
    sees it, in `numbers` (ascending, as are those of `bad`). Where rows are mappings, each keeps
    just the keys that it came with: among the cells of such a row, a missing one is None. `file`
    names the one of several files in which they stand, "" where there is one only.
    """

    __slots__ = ("_dicts", "_values", "bad", "columns", "file", "numbers")

    def __init__(
        self,
        columns: tuple[str, ...],
        numbers: Sequence[int],
        values: Sequence[Sequence[Json]] | None = None,
        *,
        dicts: list[dict[str, Json]] | None = None,
        bad: Sequence[BadRow] = (),
        file: str = "",
    ) -> None:
        """`values` or `dicts`; the other is made when it is asked for."""
        self.columns = columns
        self.numbers = numbers
        self.bad = bad
        self.file = file
        self._values = values
        self._dicts = dicts

    def __len__(self) -> int:
        """Sound rows."""
        return len(self.numbers)

    @property
    def has_dicts(self) -> bool:
        """Whether the rows are mappings, each with keys of its own."""
        return self._dicts is not None

    def values(self) -> Sequence[Sequence[Json]]:
        if self._values is None:
            assert self._dicts is not None
            columns = self.columns
            self._values = [tuple(map(row.get, columns)) for row in self._dicts]
        return self._values

    def dicts(self) -> list[dict[str, Json]]:
        if self._dicts is not None:
            return self._dicts
        columns, values = self.columns, self.values()
        if 0 < len(columns) <= _WIDEST:
            with suppress(ValueError):  # a row of another width
                return _mappings(len(columns))(values, *columns)
        return [dict(zip(columns, row, strict=False)) for row in values]

    def rows(self) -> Iterator[Row | BadRow]:
        """Sound and bad rows in their order."""
        sound = map(_row, self.numbers, self.values(), repeat(self.file))
        if not self.bad:
            return sound
        return merge(sound, self.bad, key=attrgetter("number"))

    def halves(self) -> tuple[Chunk, Chunk]:
        """The same rows in two chunks; of a single row, the second one is empty."""
        return self.parted(max(1, len(self) // 2))

    def parted(self, size: int) -> tuple[Chunk, Chunk]:
        """The first rows, `size` of them, and the others."""
        border = self.numbers[size] if size < len(self) else None
        bad = [each for each in self.bad if border is None or each.number < border]
        return self._part(0, size, bad), self._part(size, len(self), self.bad[len(bad) :])

    def _part(self, start: int, stop: int, bad: Sequence[BadRow]) -> Chunk:
        return Chunk(
            self.columns,
            self.numbers[start:stop],
            None if self._values is None else self._values[start:stop],
            dicts=None if self._dicts is None else self._dicts[start:stop],
            bad=bad,
            file=self.file,
        )


@lru_cache(_WIDEST)
def _mappings(width: int) -> Callable[..., list[dict[str, Json]]]:
    """Makes mappings of rows with so many cells, which it unpacks into variables: of all that is
    done for a row this is the most, and dict(zip(…)) takes three times as long."""
    keys, cells = [f"k{at}" for at in range(width)], [f"c{at}" for at in range(width)]
    pairs = ", ".join(map("{}: {}".format, keys, cells))
    made: Callable[..., list[dict[str, Json]]] = eval(  # noqa: S307 - of names made here alone
        f"lambda rows, {', '.join(keys)}: [{{{pairs}}} for {', '.join(cells)}, in rows]"
    )
    return made


def _row(number: int, values: Sequence[Json], file: str) -> Row:
    return Row(number, tuple(values), file)


class RowStream(ABC):
    """Rows of one source, read lazily and once. Use it with `with`, or `async with`.

    Rows that cannot be read come as `BadRow` in their place; the rest goes on. Reading raises
    `InputError` only when nothing after it could be read either.
    """

    name: str
    """What to call the source in messages; without secrets."""

    columns: tuple[Column, ...]
    """Known as soon as the source is open. Where rows bring keys of their own, further columns
    may be added at the end while it is read."""

    estimated_row_count: int | None = None
    """About how many rows there are in all; None where that cannot be told beforehand."""

    can_wait = True
    """Whether the source bears that nobody reads from it for hours. A connection does not."""

    grows = False
    """Whether columns may be added while it is read."""

    opened_as: Mapping[str, Json] = MappingProxyType({})
    """What was found out before it was opened: its format, and whether its name tells another."""

    def facts(self) -> dict[str, Json]:
        """What is worth knowing of it besides its rows: encoding, sheets, server and so on."""
        return {}

    @abstractmethod
    def read(self, size: int) -> Chunk | None:
        """The next rows, at most `size` and perhaps fewer (even none but bad ones); None at the
        end. After a MemoryError it can be called again, with a smaller size: no row is lost."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files, connections and child processes at once, wherever it stands."""

    def chunks(self, size: int = CHUNK) -> Iterator[Chunk]:
        while (chunk := self.read(size)) is not None:
            yield chunk

    def __iter__(self) -> Iterator[Row | BadRow]:
        for chunk in self.chunks():
            yield from chunk.rows()

    async def __aiter__(self) -> AsyncIterator[Row | BadRow]:
        """Reads in a thread, so that the loop goes on meanwhile."""
        import asyncio

        while (chunk := await asyncio.to_thread(self.read, CHUNK)) is not None:
            for row in chunk.rows():
                yield row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes in a thread: a server is told, a child process is waited for."""
        import asyncio

        await asyncio.to_thread(self.close)


def names(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def is_empty(cell: Any) -> bool:
    """Whether a cell tells nothing: missing, or a text without a letter."""
    return cell is None or (isinstance(cell, str) and (not cell or cell.isspace()))
