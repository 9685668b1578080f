"""A catalogue gives identical artists, whether it comes as CSV, JSON Lines, a workbook, Parquet or
from SQLite, Postgres or MariaDB. Files are written by our `copy`, tables filled by other means."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from artist_bio_gen.destinations import open_destination
from artist_bio_gen.parser import choose_columns, parse
from artist_bio_gen.rows import copy
from artist_bio_gen.sources import open_source
from artist_bio_gen.values import Artist
from tests.mariadb import MariaDb, mariadb

ROOT = Path(__file__).parents[2]
NGA = "nga_constituents.csv"


@dataclass(frozen=True, slots=True)
class Catalogue:
    path: Path
    id_column: str | None = None
    name_column: str | None = None


@pytest.fixture(params=["examples/artists.csv", NGA])
def catalogue(request: pytest.FixtureRequest) -> Catalogue:
    if request.param != NGA:
        return Catalogue(ROOT / request.param)
    folder = os.environ.get("TEST_DATA")
    if folder is None or not (Path(folder) / NGA).exists():
        pytest.skip(f"TEST_DATA names no folder with {NGA}")
    return Catalogue(Path(folder) / NGA, "constituentid", "forwarddisplayname")


@pytest.fixture(scope="module")
def maria(short_dir: Path) -> Iterator[MariaDb]:
    folder = short_dir / "same-artists"
    folder.mkdir(mode=0o711)
    with mariadb(folder) as server:
        yield server


def artists(source: str | Path, of: Catalogue) -> list[Artist]:
    """Without the numbers of their rows, which differ; nothing is rejected."""
    with open_source(source) as rows:
        choice = choose_columns(rows.columns, of.id_column, of.name_column)
        found = list(parse(rows, choice))
    assert {type(artist) for artist in found} == {Artist}
    return [replace(artist, row=0) for artist in found if isinstance(artist, Artist)]


def sorted_by_id(found: list[Artist]) -> list[Artist]:
    return sorted(found, key=lambda artist: artist.id)


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    """By another reader than ours: header and rows."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if line.strip() and not line.startswith("#"))
        header, *rows = csv.reader(lines)
    return header, rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_a_file_of_another_format_gives_the_same_artists(
    suffix: str, catalogue: Catalogue, tmp_path: Path
) -> None:
    target = tmp_path / f"copy{suffix}"
    with open_source(catalogue.path) as source:
        result = copy(source, open_destination(target, source.columns, safe_cells=False))
    expected = artists(catalogue.path, catalogue)
    assert result.rows_written == len(expected) > 20
    assert artists(target, catalogue) == expected


def test_sqlite_gives_the_same_artists(catalogue: Catalogue, tmp_path: Path) -> None:
    header, rows = table(catalogue.path)
    path = tmp_path / "catalogue.db"
    columns = ", ".join(f'"{name}" text' for name in header)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"create table artists ({columns})")
        marks = ", ".join("?" * len(header))
        database.executemany(f"insert into artists values ({marks})", rows)
    assert artists(path, catalogue) == artists(catalogue.path, catalogue)


def test_postgres_gives_the_same_artists(catalogue: Catalogue, database_url: str) -> None:
    header, rows = table(catalogue.path)
    with psycopg.connect(database_url) as connection:
        columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(n)) for n in header)
        connection.execute(sql.SQL("create table artists ({})").format(columns))
        with connection.cursor().copy("copy artists from stdin") as loading:
            for row in rows:
                loading.write_row(row)
    found = artists(database_url, catalogue)
    assert sorted_by_id(found) == sorted_by_id(artists(catalogue.path, catalogue))


def test_mariadb_gives_the_same_artists(catalogue: Catalogue, maria: MariaDb) -> None:
    header, rows = table(catalogue.path)
    columns = ", ".join(f"`{name}` text" for name in header)
    maria.run(
        "use music; drop table if exists artists;"
        f" create table artists ({columns}) character set utf8mb4;"
    )
    for start in range(0, len(rows), 1000):
        values = ",\n".join(map(literals, rows[start : start + 1000]))
        maria.run(f"use music; insert into artists values {values};")
    found = artists(maria.url, catalogue)
    assert sorted_by_id(found) == sorted_by_id(artists(catalogue.path, catalogue))


def literals(row: Sequence[str]) -> str:
    quoted = (cell.replace("\\", "\\\\").replace("'", "''") for cell in row)
    return "('" + "', '".join(quoted) + "')"
