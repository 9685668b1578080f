"""Rows written into each format and read back by `open_source` are the same rows, whatever they
hold, but for what a format has no way to tell."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from artist_bio_gen.destinations import open_destination
from artist_bio_gen.sources import open_source
from artist_bio_gen.stream import Chunk
from artist_bio_gen.values import Column, Json

Rows = list[tuple[Json, ...]]
Read = list[dict[str, Json]]

# Half characters have no encoding; NUL is refused by readers of text.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
ODD_TEXTS = st.sampled_from(
    [
        *("", " ", "007", "1e5", "=1+1", "@x", "+1", "-1", "#x", "'x", '"', '""', '",\r\n"', "\\"),
        *(
            "a,b",
            "a;b",
            "a\tb",
            "a|b",
            "\n",
            "\r",
            "\r\n",
            "a\rb",
            "\u2028",
            "\ufeff",
            "\x1b",
            "NaN",
        ),
        *("true", "null", "_x0041_", "_x005F_", "<a>&amp;</a>", "]]>", "𝄞", "e\u0301", "\x85x"),
        *("{}", "[1]", "2001-02-03", "#DIV/0!", "x" * 40_000, "  blanks  ", "\ttab", "ﷺ\ufffd"),
    ]
)
TEXT_CELLS = TEXTS | ODD_TEXTS
NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
)
PLAIN_CELLS = st.none() | st.booleans() | NUMBERS | TEXT_CELLS
NESTED = st.recursive(
    PLAIN_CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyzéß ÄБ_", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda name: len(name) > 1),
    min_size=1,
    max_size=5,
    unique=True,
)


@st.composite
def tables(
    draw: st.DrawFn, cells: st.SearchStrategy[Json], least_columns: int = 1
) -> tuple[tuple[str, ...], Rows]:
    names = draw(NAMES.filter(lambda names: len(names) >= least_columns))
    rows = draw(st.lists(st.tuples(*[cells] * len(names)), max_size=20))
    return tuple(names), rows


def there_and_back(
    suffix: str,
    names: Sequence[str],
    chunks: Sequence[Chunk],
    **options: object,
) -> tuple[tuple[str, ...], Read]:
    """The columns and the rows as they are read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        columns = [Column(name) for name in names]
        with open_destination(path, columns, safe_cells=False) as destination:
            for chunk in chunks:
                destination.write(chunk)
        with open_source(path, **options) as source:
            rows = [row for chunk in source.chunks() for row in chunk.dicts()]
            assert source.result.errors == ()
            return tuple(column.name for column in source.columns), rows


def in_chunks(names: Sequence[str], rows: Rows, size: int = 7) -> list[Chunk]:
    return [
        Chunk(
            tuple(names),
            range(start, start + len(rows[start : start + size])),
            rows[start : start + size],
        )
        for start in range(0, len(rows), size)
    ]


def as_dicts(names: Sequence[str], rows: Rows, cell: Callable[[Json], Json]) -> Read:
    return [dict(zip(names, map(cell, row), strict=True)) for row in rows]


def kinds(cell: Json) -> Json:
    """A cell with the kinds of all in it: to Python, 1, 1.0 and True are the same."""
    if isinstance(cell, list):
        return ["list", *map(kinds, cell)]
    if isinstance(cell, dict):
        return {key: kinds(value) for key, value in cell.items()}
    return (type(cell).__name__, repr(cell))


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
@given(table=tables(TEXT_CELLS | st.none()))
@settings(deadline=None, max_examples=100)
def test_text_comes_back_from_delimited_files(
    suffix: str, delimiter: str, table: tuple[tuple[str, ...], Rows]
) -> None:
    """A missing cell is an empty text there."""
    names, rows = table
    found = there_and_back(suffix, names, in_chunks(names, rows), delimiter=delimiter)
    assert found == (names, as_dicts(names, rows, lambda cell: cell or ""))


@given(rows=st.lists(st.dictionaries(TEXTS, NESTED, max_size=5), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_everything_comes_back_from_json_lines(rows: Read) -> None:
    names = tuple(dict.fromkeys(key for row in rows for key in row))
    chunks = [Chunk(names, range(1, len(rows) + 1), dicts=rows)]
    found_names, found = there_and_back(".jsonl", names, chunks)
    assert kinds(found) == kinds(rows)
    assert set(found_names) == set(names)


@given(table=tables(NESTED), late=tables(NESTED))
@settings(deadline=None, max_examples=100)
def test_everything_comes_back_from_parquet(
    table: tuple[tuple[str, ...], Rows], late: tuple[tuple[str, ...], Rows]
) -> None:
    """Also where columns turn up late, or change the kind of their cells."""
    names, rows = table
    more = tuple(f"late {name}" for name in late[0])
    wide = [(*(None for _ in names), *row) for row in late[1]]
    chunks = [*in_chunks(names, rows), *in_chunks((*names, *more), wide)]
    found_names, found = there_and_back(".parquet", names, chunks)
    all_names = (*names, *more) if wide else names
    padded = [(*row, *(None for _ in all_names[len(names) :])) for row in rows]
    assert found_names == all_names
    assert kinds(found) == kinds(as_dicts(all_names, [*padded, *wide], lambda cell: cell))


@given(table=tables(NESTED.filter(lambda cell: len(str(cell)) < 30_000), least_columns=2))
@settings(deadline=None, max_examples=25, phases=[Phase.reuse, Phase.generate])
def test_what_a_workbook_can_tell_comes_back_from_one(
    table: tuple[tuple[str, ...], Rows],
) -> None:
    """There, a number has no kind and an empty text is a missing cell; what is none of them
    becomes text; and a row without a filled cell is none."""
    names, rows = table
    _, found = there_and_back(".xlsx", names, in_chunks(names, rows), header_row=1)
    wanted = as_dicts(names, rows, as_workbooks_tell)
    assert found == [row for row in wanted if any(cell is not None for cell in row.values())]


def as_workbooks_tell(cell: Json) -> Json:
    match cell:
        case "" | None:
            return None
        case bool() | str():
            return cell
        case int():
            return cell if abs(cell) <= 2**53 else str(cell)
        case float():
            return cell
    return orjson.dumps(cell).decode()


def test_numbers_keep_all_their_digits() -> None:
    numbers = [0.1, 1e300, -5e-324, math.pi, 2**53, -(2**53), 1.7976931348623157e308]
    rows: Rows = [(number, "x") for number in numbers]
    for suffix in (".jsonl", ".parquet", ".xlsx"):
        _, found = there_and_back(suffix, ("a", "b"), in_chunks(("a", "b"), rows))
        assert [row["a"] for row in found] == numbers, suffix
