"""What separates cells is found by the first rows, the same whatever way they arrive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from artist_bio_gen.sources.text.dialect import found_delimiter, told_delimiter


def found(text: str) -> str:
    return found_delimiter(text.splitlines(keepends=True))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_tells(delimiter: str) -> None:
    assert found(f"id{delimiter}name\n1{delimiter}a, b; c | d\n") == delimiter


def test_one_column_stays_one() -> None:
    assert found("name\nSimone; Nina\nA|B\n") == ","
    assert found("") == ","


def test_what_stands_within_quotes_separates_nothing() -> None:
    assert found('"last, first";"a|b"\n') == ";"
    assert found('"last; first"\n') == ","
    assert found('id;"name,\nas known"\n1;x\n') == ";"


def test_of_several_the_one_counts_that_gives_all_rows_the_same_width() -> None:
    assert found("id;name, as known;born\n1;Nina;1933\n2;Simone, Ella;1917\n") == ";"
    assert found("1,5;Nina\n2;Fela\n3,25;Ella\n") == ";"
    assert found("id,a|b,c\n1,x,y\n2,x|y|z,w\n") == ","
    assert found("a,b;c\n" + "1,2;3\n" * 9 + "1,3\n") == ",", "as far as the first 20 rows tell"


def test_of_several_that_fit_alike_the_one_that_gives_more_cells_counts() -> None:
    assert found("id,name;alias,born\n1,Nina;Eunice,1933\n") == ","


def test_decimal_commas_are_no_delimiter() -> None:
    assert found("1,5;Nina\n2,5;Fela\n") == ";"


def test_further_lines_are_waited_for_only_where_the_header_leaves_a_choice() -> None:
    def lines(*texts: str) -> Iterator[str]:
        yield from texts
        raise AssertionError("it reads on")

    assert found_delimiter(lines("id,name\n")) == ","
    assert found_delimiter(lines("name\n")) == ","
    with pytest.raises(AssertionError, match="it reads on"):
        found_delimiter(lines("id,name;x\n"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sep=;\r\n", ";"),
        ("SEP=,\n", ","),
        ('"sep=|"\n', "|"),
        ("sep=\t", "\t"),
        ("sep=\n", None),
        ('sep="\n', None),
        ("sep=;;\n", None),
        ("sep=;name\n", None),
        ("", None),
    ],
)
def test_a_line_of_excels_own_tells_the_delimiter(line: str, told: str | None) -> None:
    assert told_delimiter(line) == told
