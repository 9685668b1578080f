"""One kind of source as it is measured: how it is made, how it is read by `open_source`, and how
the plain library reads it. As a program, it reads one source and prints the figures."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]

Made: TypeAlias = Callable[[Path, int], AbstractContextManager[str]]
"""Makes a source of so many rows in this folder: what `open_source` is given. It is there as long
as the context lasts."""

Loop: TypeAlias = Callable[[str], Iterator[int]]
"""Reads a source to its end, its rows made dicts as a chunk or one at a time: yields how many there
were in each step, so that the first row can be timed."""


@dataclass(frozen=True, slots=True)
class Case:
    """`plain` and `ours` are functions of a module's top level, as they are called in a process of
    their own; `ours` None is the loop over `open_source` with these `options`. What is to be
    reached: `rate` in rows a second, `ratio` to the plain loop's rate, `mib` of memory (children
    included), `first_s` to the first row. `sizes` are further numbers of rows, with --full."""

    name: str
    rows: int
    made: Made
    plain: Loop | None
    options: Mapping[str, Any] = field(default_factory=dict)
    ours: Loop | None = None
    rate: float | None = None
    ratio: float = 0.7
    mib: float | None = None
    first_s: float | None = None
    sizes: tuple[int, ...] = ()


def in_file(name: str, write: Callable[[Path, int], None]) -> Made:
    """A source that is a file, which `write` makes."""

    @contextlib.contextmanager
    def made(folder: Path, rows: int) -> Iterator[str]:
        path = folder / name
        write(path, rows)
        try:
            yield str(path)
        finally:
            path.unlink()

    return made


def row(number: int) -> tuple[str, str, str, str, str]:
    """Five columns, about 100 bytes: id, name, born, country, note."""
    return (
        f"{number:08x}-6a1b-4c5e-9f00-0b37acc26a1b",
        f"Artist Number {number}",
        str(1900 + number % 100),
        ("Benin", "Chile", "Finland", "Georgia", "Japan")[number % 5],
        ("mostly on small stages, often abroad", "choral music and folk songs, late in life")[
            number % 2
        ],
    )


COLUMNS = ("id", "name", "born", "country", "note")


def read_by_us(source: str, options: Mapping[str, Any]) -> Iterator[int]:
    from artist_bio_gen.sources import open_source

    with open_source(source, **options) as rows:
        for chunk in rows.chunks():
            yield len(chunk.dicts())


def named(loop: Loop) -> str:
    return f"{loop.__module__}:{loop.__qualname__}"


def main(loop: str, source: str, options: str) -> None:
    """Reads; prints rows, seconds in all and to the first row. Imports of the loop's own packages
    count, those of the interpreter do not."""
    sys.path.insert(0, str(ROOT))
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    if loop:
        module, _, function = loop.partition(":")
        steps = getattr(importlib.import_module(module), function)(source)
    else:
        steps = read_by_us(source, json.loads(options))
    began = time.perf_counter()
    rows = 0
    first_s = None
    for step in steps:
        rows += step
        if first_s is None and rows:
            first_s = time.perf_counter() - began
    print(json.dumps({"rows": rows, "s": time.perf_counter() - began, "first_s": first_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
