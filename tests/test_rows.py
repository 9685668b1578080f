"""Rows put elsewhere: from Python, and as the command `rows` in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from artist_bio_gen import config
from artist_bio_gen.cli.main import program
from artist_bio_gen.cli.options import Surroundings
from artist_bio_gen.cli.table import table
from artist_bio_gen.destinations import open_destination
from artist_bio_gen.errors import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
)
from artist_bio_gen.rows import copy, give
from artist_bio_gen.sources import open_source
from artist_bio_gen.stream import Chunk

THREE = "id,name\n1,Billie Holiday\n2,坂本龍一\n3,Elis Regina\n"


@pytest.fixture
def three(tmp_path: Path) -> Path:
    path = tmp_path / "artists.csv"
    path.write_text(THREE, encoding="utf-8")
    return path


def numbered(path: Path, rows: int) -> Path:
    path.write_text("id,name\n" + "".join(f"{number},Artist\n" for number in range(rows)))
    return path


# ---- from Python ---------------------------------------------------------------------------------


def test_sound_rows_are_copied_and_bad_ones_told(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,name\n1,Billie Holiday\n2,too,long\n3,Elis Regina\n")
    target = tmp_path / "out.jsonl"
    with open_source(path) as source:
        result = copy(source, open_destination(target, source.columns))
    assert result.exit_code == EXIT_SOME_FAILED
    assert (result.read.rows_read, result.rows_written, result.destination) == (2, 2, target)
    assert [bad.number for bad in result.read.errors] == [3]
    assert result.error is None
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == ["1", "3"]


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("spill", ["direct", "parquet"])
def test_a_column_that_no_file_has_leaves_no_file(
    tmp_path: Path, parallel: int, spill: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.csv").write_text("Inv.,Name\n1,Nina\n")
    target = tmp_path / "out.csv"
    wanted = ("Inv.", "Nmae")
    with open_source(
        tmp_path / "in" / "*.csv", columns=wanted, parallel=parallel, spill=spill
    ) as source:
        assert "did you mean 'Name'?" in str(source.facts()["columns_missing"])
        result = copy(source, open_destination(target, source.columns))
    assert result.exit_code == EXIT_INPUT
    assert result.error is not None
    assert "--columns Nmae: " in result.error
    assert "(did you mean 'Name'?); there are 'Inv.', 'Name'" in result.error
    assert not target.exists()


def test_a_column_of_a_later_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,Nina\n")
    (tmp_path / "b.csv").write_text("id,late\n2,x\n")
    with open_source(tmp_path / "*.csv", columns=("late", "id")) as source:
        assert "--columns late: " in str(source.facts()["columns_missing"])
        found = [row for chunk in source.chunks() for row in chunk.values()]
        assert "columns_missing" not in source.facts()
    assert [*map(tuple, found)] == [(None, "1"), ("x", "2")]


def test_a_copy_that_is_called_off_leaves_no_file(tmp_path: Path) -> None:
    path = numbered(tmp_path / "artists.csv", 50)
    target = tmp_path / "out.csv"
    asked = iter([False, False, True])
    with open_source(path, chunk_size=10) as source:
        destination = open_destination(target, source.columns)
        result = copy(source, destination, cancelled=lambda: next(asked))
    assert result.exit_code == EXIT_INTERRUPTED
    assert result.error == f"interrupted after 30 rows; {target} was not made"
    assert (result.rows_written, result.destination) == (0, None)
    assert list(tmp_path.iterdir()) == [path]


def test_too_many_bad_rows_stop_a_copy_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,name\n" + "1,x\n" * 90 + "1,x,y\n" * 20)
    with open_source(path, error_minimum=100) as source:
        result = copy(source, open_destination(tmp_path / "out.csv", source.columns))
    assert result.exit_code == EXIT_LIMIT
    assert "cannot be read" in str(result.error)
    assert str(result.error).endswith("out.csv was not made")
    assert list(tmp_path.iterdir()) == [path]


def test_with_on_error_stop_the_first_bad_row_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,name\n1,x\n2,x,y\n3,x\n")
    given: list[Chunk] = []
    with open_source(path, on_error="stop") as source:
        result = give(source, given.append)
    assert result.exit_code == EXIT_INPUT
    assert "row 3" in str(result.error)
    assert [row["id"] for chunk in given for row in chunk.dicts()] == ["1"]


def test_rows_for_which_there_is_no_memory_come_again_in_smaller_chunks(tmp_path: Path) -> None:
    path = numbered(tmp_path / "artists.csv", 100)
    taken: list[str] = []

    def take(chunk: Chunk) -> None:
        if len(chunk) > 7:
            raise MemoryError
        taken.extend(row["id"] for row in chunk.dicts())

    with open_source(path) as source:
        result = give(source, take)
    assert taken == [str(number) for number in range(100)]
    assert result.read.rows_read == 100


def test_a_copy_goes_on_with_columns_that_turn_up_late(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,name\n1,x\n")
    (tmp_path / "2.csv").write_text("id,born\n2,1915\n")
    target = tmp_path / "all" / "out.csv"
    target.parent.mkdir()
    with open_source(tmp_path / "*.csv") as source:
        copy(source, open_destination(target, source.columns))
    assert target.read_text().splitlines() == ["id,name,born", "1,x,", "2,,1915"]


# ---- the command ---------------------------------------------------------------------------------


def call(*args: str | Path, environ: Mapping[str, str] | None = None, cwd: Path) -> Result:
    # The tests' own process may have more than what the command allows itself.
    around = Surroundings({"ARTIST_BIO_GEN_MEMORY_LIMIT": "100000", **(environ or {})}, cwd)
    return CliRunner().invoke(
        program(), ["rows", *map(str, args)], prog_name=config.COMMAND, obj=around
    )


def told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_without_a_source_it_says_what_is_missing(tmp_path: Path) -> None:
    said = call(cwd=tmp_path)
    assert said.exit_code == EXIT_USAGE
    assert "Missing argument 'SOURCE'" in said.stderr
    assert not re.search(r"^ +SOURCE *$", call("--help", cwd=tmp_path).stdout, re.MULTILINE)


def test_a_tab_that_separates_cells_is_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "artists.tsv"
    path.write_text("id\tname\n1\tNina\n")
    assert "delimiter: \\t\n" in call(path, "--count", cwd=tmp_path).stdout
    assert "delimiter: \\t\n" in call(path, "--show-schema", cwd=tmp_path).stdout


def test_a_pipe_gets_all_rows_as_json_lines(three: Path) -> None:
    said = call(three, cwd=three.parent)
    assert said.exit_code == 0
    assert [json.loads(line) for line in said.stdout.splitlines()] == [
        {"id": "1", "name": "Billie Holiday"},
        {"id": "2", "name": "坂本龍一"},
        {"id": "3", "name": "Elis Regina"},
    ]
    assert "rows     3 read, 0 bad" in said.stderr


def test_head_gives_the_first_rows(three: Path) -> None:
    said = call(three, "--head", "2", cwd=three.parent)
    assert len(said.stdout.splitlines()) == 2


def test_count_counts(three: Path) -> None:
    said = call(three, "--count", "--json", cwd=three.parent)
    assert told(said)["rows_read"] == 3


def test_to_writes_a_file_and_tells(three: Path) -> None:
    target = three.parent / "out.jsonl"
    said = call(three, "--to", target, cwd=three.parent)
    assert said.exit_code == 0
    assert "rows     3 read, 3 written, 0 bad" in said.stdout
    assert f"written  {target}" in said.stdout
    assert len(target.read_text().splitlines()) == 3


def test_to_with_head_writes_the_first_rows(three: Path) -> None:
    target = three.parent / "out.csv"
    call(three, "--to", target, "--head", "1", cwd=three.parent)
    assert target.read_text().splitlines() == ["id,name", "1,Billie Holiday"]


def test_the_result_can_be_read_by_programs(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,name\n1,=x\n2,too,long\n")
    said = call(path, "--to", tmp_path / "out.csv", "--json", cwd=tmp_path)
    assert said.exit_code == EXIT_SOME_FAILED
    found = told(said)
    assert (found["rows_read"], found["rows_written"], found["bad"]) == (1, 1, 1)
    (error,) = found["errors"]
    assert (error["row"], error["text"]) == (3, "2,too,long")
    assert found["chunks_with_errors"] == 1
    assert found["facts"]["encoding"] == "utf-8"
    assert found["notes"][0].startswith("1 cells that begin like a formula")
    assert found["peak_memory_mib"] > 10
    assert found["average_chunk_s"] >= 0


def test_an_exact_copy_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,name\n1,=x\n")
    call(path, "--to", tmp_path / "safe.csv", cwd=tmp_path)
    call(path, "--to", tmp_path / "exact.csv", "--no-safe-cells", cwd=tmp_path)
    assert (tmp_path / "safe.csv").read_text().splitlines()[1] == "1,'=x"
    assert (tmp_path / "exact.csv").read_text().splitlines()[1] == "1,=x"


def test_schema_alone_shows_the_columns(three: Path) -> None:
    for args in (("--schema", three), (three, "--schema"), (three, "--show-schema")):
        said = call(*args, cwd=three.parent)
        assert said.exit_code == 0, said.output
        lines = [line.split() for line in said.stdout.splitlines() if line.startswith("column")]
        assert lines == [["column", "id", "text"], ["column", "name", "text"]]


def test_schema_can_be_read_by_programs(three: Path) -> None:
    found = told(call(three, "--schema", "--json", cwd=three.parent))
    assert found["columns"] == [
        {"name": "id", "type": "text", "nullable": True},
        {"name": "name", "type": "text", "nullable": True},
    ]
    assert found["estimated_row_count"] == 3


def test_schema_with_a_value_is_the_option(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,name\n1,x\n")
    (tmp_path / "2.csv").write_text("id,born\n2,1915\n")
    pattern = tmp_path / "*.csv"
    assert call(pattern, "--schema", "union", "--count", cwd=tmp_path).exit_code == 0
    said = call(pattern, "--count", "--schema", "strict", cwd=tmp_path)
    assert said.exit_code == EXIT_INPUT
    assert "has 'born' and lacks 'name'" in said.stderr
    shown = call(pattern, "--schema", "strict", "--schema", cwd=tmp_path)
    assert "column   id" in shown.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("--count", "--schema"),
        ("--count", "--to", "x.csv"),
        ("--head", "1", "--count"),
        ("--schema", "--to", "x.csv"),
        ("--head", "0"),
        ("--to", "x.pdf"),
        ("--schema", "onion"),
        ("--columns", "none"),
    ],
)
def test_what_cannot_be_is_wrong_usage(args: tuple[str, ...], three: Path) -> None:
    said = call(three, *args, cwd=three.parent)
    assert said.exit_code == 2, said.output
    assert "rror: " in said.stderr
    assert [path.name for path in three.parent.iterdir()] == ["artists.csv"]


def test_options_of_sources_are_taken_from_flags_and_from_the_environment(three: Path) -> None:
    said = call(
        *(three, "--columns", "name"),
        environ={"ARTIST_BIO_GEN_MAX_ROWS": "1"},
        cwd=three.parent,
    )
    assert said.stdout == '{"name":"Billie Holiday"}\n'


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = call("none.csv", cwd=tmp_path)
    assert said.exit_code == EXIT_INPUT
    assert "none.csv" in said.stderr


def test_no_password_of_an_address_is_shown(tmp_path: Path) -> None:
    address = "postgresql://me:open-sesame@127.0.0.1:1/db"
    said = call(address, "--count", cwd=tmp_path)
    assert said.exit_code != 0
    assert "open-sesame" not in said.output
    assert "127.0.0.1" in said.output


def test_nothing_that_is_told_steers_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "artists.csv"
    path.write_text("id,na\x1b[31mme\n1,x\n2,\x1b]0;,y\n")
    for args in (("--count",), ("--schema",)):
        assert "\x1b" not in call(path, *args, cwd=tmp_path).output


# ---- on a terminal -------------------------------------------------------------------------------


def test_a_table_has_numbers_and_cells_cut_to_the_terminal() -> None:
    rows = [("1", "坂本龍一", "x" * 100), ("22", None, {"k": [1]}), ("3", "a\x1b\nb", True)]
    chunk = Chunk(("id", "name", "about"), (2, 3, 4), rows)
    assert [*table(["id", "name", "about"], [chunk], 40)] == [
        "row  id  name      about",
        "---  --  --------  " + "-" * 21,
        "2    1   坂本龍一  " + "x" * 20 + "…",
        '3    22            {"k":[1]}',
        "4    3   a\\x1b\\nb  true",
    ]


def test_columns_for_which_there_is_no_room_are_named() -> None:
    columns = [f"column {number}" for number in range(20)]
    chunk = Chunk(tuple(columns), (2,), [tuple("x" * 20 for _ in columns)])
    lines = [*table(columns, [chunk], 60)]
    assert max(map(len, lines[:-1])) <= 60
    assert lines[0].split()[:3] == ["row", "column", "0"]
    assert lines[-1].startswith("15 more columns: column 5, column 6, ")


def test_a_row_with_fewer_cells_than_there_are_columns_by_now_is_shown() -> None:
    chunks = [Chunk(("a",), (2,), [("1",)]), Chunk(("a", "b"), (3,), [("2", "x")])]
    assert [*table(["a", "b"], chunks, 80)][2:] == ["2    1", "3    2  x"]
