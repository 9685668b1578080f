# ruff: noqa: RUF009 - option() gives a dataclass field, made once for the table
"""What can be told about a source: the same for the command line and for `open_source`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from artist_bio_gen.config.options import (
    COUNT,
    DELIMITER,
    FILE,
    MARK,
    NAMES,
    PARAMS,
    SECONDS,
    SEPARATOR,
    SWITCH,
    TEXT,
    choice,
    number,
    option,
    whole,
)

INPUT = "Input"
FORMAT = "Format of the input"
ROWS = "Rows of the input"
QUERY = "Databases and addresses as input"
MEMORY = "Memory and spill"

Schema: TypeAlias = Literal["union", "strict"]
OnError: TypeAlias = Literal["skip", "stop"]
Spill: TypeAlias = Literal["direct", "duckdb", "parquet", "adaptive"]
Metadata: TypeAlias = Literal["skip", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How a source is read. Durations are in seconds. Each kind of source takes what concerns it
    and leaves the rest."""

    # fmt: off
    id_column: str | None = option(None, TEXT, INPUT,
        "Column with the artist's id.", otherwise="guessed: id, artist_id, uuid, …")
    name_column: str | None = option(None, TEXT, INPUT,
        "Column with the artist's name.", otherwise="guessed: name, artist_name, …")

    format: str | None = option(None, TEXT, FORMAT,
        "csv, tsv, jsonl or json, xlsx, xls, ods, parquet, arrow, sqlite or the name of a plug-in.",
        otherwise="seen from name and content")
    header: bool = option(True, SWITCH, FORMAT,
        "The first row names the columns.")
    comment: str = option("#", MARK, FORMAT,
        "Lines that begin with this are left out; none: no such lines.")
    encoding: str | None = option(None, TEXT, FORMAT,
        "Encoding of the input; auto: found by its content, and told.",
        otherwise="UTF-8, or what a byte order mark tells")
    delimiter: str | None = option(None, DELIMITER, FORMAT,
        "What separates the cells of a text file: a character, or tab.",
        otherwise="found: comma, semicolon, tab or |")
    skip_rows: int = option(0, whole(0), FORMAT,
        "Lines (rows of a sheet) before the header that are passed over.")
    sheet: str | None = option(None, TEXT, FORMAT,
        "Sheet of a workbook, by name or number.", otherwise="all, one after the other")
    header_row: int | None = option(None, COUNT, FORMAT,
        "Row of a sheet on which the header stands.", otherwise="found")
    header_rows: int = option(1, whole(1, 20), FORMAT,
        "Rows of a sheet that make up the header.")
    header_separator: str = option(" ", SEPARATOR, FORMAT,
        "What stands between the parts of a header of several rows.")
    fill_merged: bool = option(False, SWITCH, FORMAT,
        "Fill merged cells of a sheet from their first one.")
    metadata: Metadata = option("skip", choice("skip", "keep"), FORMAT,
        "Rows of a sheet above its table: pass over them, or keep them with the facts of the file.")
    member: str | None = option(None, TEXT, FORMAT,
        "File within a zip archive.", otherwise="all that can be read, in the order of their names")

    columns: tuple[str, ...] | None = option(None, NAMES, ROWS,
        "Columns to take, in this order.", otherwise="all")
    max_rows: int | None = option(None, COUNT, ROWS,
        "Read no more rows than this.", otherwise="all")
    skip_empty: bool = option(False, SWITCH, ROWS,
        "Leave out rows whose key columns are all empty.")
    key_columns: tuple[str, ...] | None = option(None, NAMES, ROWS,
        "Key columns for --skip-empty.", otherwise="id and name; without these, all columns")
    strip: bool = option(False, SWITCH, ROWS,
        "Take white space off both ends of each text.")
    split_id: str | None = option(None, SEPARATOR, ROWS,
        "Separator of ids: a row whose id has several parts becomes one row for each.",
        otherwise="ids are whole")
    schema: Schema = option("union", choice("union", "strict"), ROWS,
        "Columns that differ between files, or turn up late: take all, or hold to the first.")
    chunk_size: int = option(1000, whole(1, 1_000_000), ROWS,
        "Rows at a time; halved when memory runs short.")
    on_error: OnError = option("skip", choice("skip", "stop"), ROWS,
        "A row that cannot be read: leave it out and tell, or stop.")
    error_threshold: float = option(0.1, number(0, 1), ROWS,
        "Share of rows that cannot be read at which reading stops; 1: never.")
    error_minimum: int = option(100, whole(1), ROWS,
        "Rows read before that share is judged.")
    parallel: int = option(1, whole(1, 64), ROWS,
        "Files of a pattern, or chunk functions, side by side in processes of their own.")
    progress_interval: float = option(5.0, SECONDS, ROWS,
        "Time between two lines of progress where rows are read without a model.")
    chunk_function: str | None = option(None, TEXT, ROWS,
        "Plug-in (entry point artist_bio_gen.chunk_functions) that is given each chunk.",
        otherwise="none")

    query: str | None = option(None, TEXT, QUERY,
        "Query at a database.", otherwise="the table")
    source_table: str | None = option(None, TEXT, QUERY,
        "Table or view at a database.", otherwise="artists")
    params: Mapping[str, object] | None = option(None, PARAMS, QUERY,
        "Parameters of the query, as a JSON object; in the query :name.", otherwise="none")
    page_key: str | None = option(None, TEXT, QUERY,
        "Unique column by which a table or query is read in pages, with no transaction left open.",
        otherwise="a stream in one transaction")
    after: str | None = option(None, TEXT, QUERY,
        "Value of --page-key behind which reading begins.", otherwise="the beginning")
    query_timeout: float | None = option(None, SECONDS, QUERY,
        "Longest time for one statement of a query, or one wait for an address.",
        otherwise="none for statements, 60s for addresses")
    source_key: str | None = option(None, TEXT, QUERY,
        "Key of Supabase's REST interface; not a flag, for those stand in the list of processes.",
        env="SUPABASE_KEY", flag=False, secret=True, otherwise="none")
    allow_private: bool = option(False, SWITCH, QUERY,
        "Read from web addresses of this machine and of private networks as well.")

    memory_limit: int | None = option(None, whole(50), MEMORY,
        "MB that this process and its children may take: smaller chunks near it, a clean stop "
        "before it.",
        otherwise="500 for rows, none for a run")
    spill: Spill = option("adaptive", choice("direct", "duckdb", "parquet", "adaptive"), MEMORY,
        "parquet, duckdb: rows go by way of the disk; direct: never; adaptive: when a source that "
        "cannot wait is kept waiting, or memory runs short.")
    spill_dir: Path | None = option(None, FILE, MEMORY,
        "Folder for what is put on disk.", otherwise="that for temporary files")
    spill_max: int | None = option(None, COUNT, MEMORY,
        "MB that may be put on disk.", otherwise="what is free, less 5 % of the disk")
    # fmt: on
