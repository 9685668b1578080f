"""CSV, plain and odd, and JSON Lines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from _sources import COLUMNS, Case, in_file, row

CHUNK = 1_000
SAFE_RATE, SAFE_MIB = 350_000, 40


def write_csv(
    path: Path,
    rows: int,
    *,
    encoding: str = "utf-8",
    delimiter: str = ",",
    quoting: int = csv.QUOTE_NONE,
    comment_every: int = 0,
    changed: Callable[[Sequence[str]], Sequence[str]] = tuple,
) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(
            file, delimiter=delimiter, quoting=quoting, quotechar='"', lineterminator="\n"
        )
        writer.writerow(COLUMNS)
        for number in range(rows):
            if comment_every and number % comment_every == 0:
                file.write("# checked by hand\n")
            writer.writerow(changed([cell.replace(",", "") for cell in row(number)]))


def write_jsonl(path: Path, rows: int) -> None:
    import orjson

    with path.open("wb") as file:
        for number in range(rows):
            file.write(orjson.dumps(dict(zip(COLUMNS, row(number), strict=True))) + b"\n")


def _accented(cells: Sequence[str]) -> Sequence[str]:
    return [cells[0], f"Zoë Björk {cells[1]}", *cells[2:]]


def _of_two_lines(cells: Sequence[str]) -> Sequence[str]:
    return [*cells[:4], cells[4].replace(" ", "\n", 1)]


def by_csv(
    source: str, *, encoding: str = "utf-8", delimiter: str = ",", comment: str = ""
) -> Iterator[int]:
    with open(source, encoding=encoding, newline="") as file:  # noqa: PTH123 - the plain loop
        lines = (line for line in file if not line.startswith(comment)) if comment else file
        reader = csv.reader(lines, delimiter=delimiter)
        header = next(reader)
        while rows := [dict(zip(header, cells)) for cells in islice(reader, CHUNK)]:  # noqa: B905
            yield len(rows)


def by_csv_in_latin_1(source: str) -> Iterator[int]:
    return by_csv(source, encoding="latin-1")


def by_csv_in_utf_16(source: str) -> Iterator[int]:
    return by_csv(source, encoding="utf-16")


def by_csv_with_comments(source: str) -> Iterator[int]:
    return by_csv(source, comment="#")


def by_csv_with_semicolons(source: str) -> Iterator[int]:
    return by_csv(source, delimiter=";")


def by_pyarrow(source: str) -> Iterator[int]:
    """As libraries.md has it: text, small blocks, the system's memory, one thread."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    pa.set_memory_pool(pa.system_memory_pool())
    with arrow_csv.open_csv(
        source,
        read_options=arrow_csv.ReadOptions(block_size=256 * 1024, use_threads=False),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False
        ),
    ) as reader:
        for batch in reader:
            for at in range(0, len(batch), CHUNK):
                yield len(batch.slice(at, CHUNK).to_pylist())


def by_orjson(source: str) -> Iterator[int]:
    import orjson

    with open(source, "rb") as file:  # noqa: PTH123 - the plain loop
        while rows := [orjson.loads(line) for line in islice(file, CHUNK)]:
            yield len(rows)


def _safe(name: str, plain: Callable[[str], Iterator[int]], **write: object) -> Case:
    return Case(
        name,
        1_000_000,
        in_file("artists.csv", partial(write_csv, **write)),  # type: ignore[arg-type]
        plain,
        options={"encoding": write["encoding"]} if write.get("encoding") == "latin-1" else {},
        rate=SAFE_RATE,
        mib=SAFE_MIB,
    )


def cases() -> list[Case]:
    made = in_file("artists.csv", write_csv)
    larger = (10_000_000, 100_000_000)
    return [
        Case("csv", 1_000_000, made, by_csv, rate=800_000, mib=110, sizes=larger),
        Case("csv beside pyarrow", 1_000_000, made, by_pyarrow, rate=800_000, mib=110),
        _safe("csv, quoted", by_csv, quoting=csv.QUOTE_ALL),
        _safe("csv, cells of two lines", by_csv, quoting=csv.QUOTE_MINIMAL, changed=_of_two_lines),
        _safe("csv, comments", by_csv_with_comments, comment_every=50),
        _safe("csv, latin-1", by_csv_in_latin_1, encoding="latin-1", changed=_accented),
        _safe("csv, utf-16", by_csv_in_utf_16, encoding="utf-16", changed=_accented),
        _safe("csv, semicolons", by_csv_with_semicolons, delimiter=";"),
        Case(
            "jsonl",
            1_000_000,
            in_file("artists.jsonl", write_jsonl),
            by_orjson,
            rate=800_000,
            mib=40,
            sizes=(10_000_000,),
        ),
    ]
