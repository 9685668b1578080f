"""Sources for a child process: well-behaved ones, and ones that break what they can."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from artist_bio_gen import errors
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Json


class Listed(RowStream):
    """Chunks as they are listed; `read` is asked for sizes, and does not care."""

    def __init__(self, chunks: Iterable[Chunk], columns: Sequence[Column]) -> None:
        self.name = "listed"
        self.columns = tuple(columns)
        self.estimated_row_count = 12
        self.can_wait = False
        self.grows = True
        self._chunks = iter(chunks)

    def facts(self) -> dict[str, Json]:
        return {"made_by": "a test", "columns": len(self.columns)}

    def read(self, size: int) -> Chunk | None:
        chunk = next(self._chunks, None)
        if chunk is not None and len(chunk.columns) > len(self.columns):
            self.columns += tuple(map(Column, chunk.columns[len(self.columns) :]))
        return chunk

    def close(self) -> None:
        pass


A, AB = ("a",), ("a", "b")
FEW = (
    Chunk(A, [2, 3, 5], [[1], ["007"], [None]], bad=[BadRow(4, "is bad", "b\tad", "one")]),
    Chunk(A, [6], [[dt.datetime.fromisoformat("2001-02-03T04:05:06")]], file="two"),
    Chunk(AB, [9], dicts=[{"b": {"c": [1.5, True]}}]),
    Chunk(AB, [], [], bad=[BadRow(10, "too")]),
)


def open_few() -> RowStream:
    return Listed(FEW, [Column("a", "int8", nullable=False)])


def open_many(rows: int, width: int) -> RowStream:
    chunks = (Chunk(A, range(at, at + 10), [["x" * width]] * 10) for at in range(0, rows, 10))
    return Listed(chunks, [Column("a")])


def open_noisy() -> RowStream:
    print("a library has something to say")
    os.write(1, b"and so has C")
    return open_few()


def raise_error(kind: str) -> RowStream:
    raise {**vars(errors), "ZeroDivisionError": ZeroDivisionError}[kind]("x.odd is odd; mend it")


def fail_behind_rows() -> RowStream:
    def chunks() -> Iterator[Chunk]:
        yield FEW[0]
        raise errors.InputError("x.odd row 6 is odd")

    return Listed(chunks(), [Column("a")])


def end_with_signal(number: int) -> RowStream:
    signal.raise_signal(number)
    raise AssertionError("it goes on")


def end_with_code(code: int, words: str) -> RowStream:
    sys.stderr.write(words)
    sys.stderr.flush()
    os._exit(code)


def take_memory(mib: int) -> RowStream:
    data = bytearray(mib * 1024 * 1024)
    return Listed([Chunk(A, [1], [[len(data)]])], [Column("a")])


def burn(cpu_s: float, chunks: int) -> RowStream:
    def busy() -> Iterator[Chunk]:
        for number in range(chunks):
            end = time.process_time() + cpu_s
            while time.process_time() < end:
                pass
            yield Chunk(A, [number], [[number]])

    return Listed(busy(), [Column("a")])


def wait_for_ever(path: str) -> RowStream:
    """Its process id is in the file once it waits."""

    def chunks() -> Iterator[Chunk]:
        with open(path, "w") as file:  # noqa: PTH123 - may be a named pipe
            file.write(str(os.getpid()))
        signal.pause()
        yield FEW[0]

    return Listed(chunks(), [Column("a")])
