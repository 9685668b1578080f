"""Where rows go: a destination takes chunks and puts one whole file in place, or none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from artist_bio_gen.destinations.destination import Destination as Destination
from artist_bio_gen.errors import UsageError
from artist_bio_gen.values import Column, path_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")
"""What can be written, told by the end of the name."""


def open_destination(
    path: Path, columns: Sequence[Column], *, safe_cells: bool = True
) -> Destination:
    """A new file at `path`, in the format that its name tells. `columns` are those that are known
    now; further ones may turn up in a chunk. `safe_cells`: in CSV and TSV, a text that a
    spreadsheet would take for a formula gets a quote before it.

    UsageError for a name that tells no format, a file that is there already, and a folder that is
    not. ConfigError when a package is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--to {path_text(path)}: the end of the name tells the format; end it with one of"
            f" {', '.join(SUFFIXES)}"
        )
    if os.path.lexists(path):
        raise UsageError(
            f"--to {path_text(path)}: is there already and is not overwritten; name another file"
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"--to {path_text(path)}: the folder {path_text(path.parent)} does not exist; make it"
            " first"
        )
    match suffix:
        case ".csv" | ".tsv":
            from artist_bio_gen.destinations.delimited import DelimitedDestination

            delimiter = "\t" if suffix == ".tsv" else ","
            return DelimitedDestination(path, columns, delimiter=delimiter, safe_cells=safe_cells)
        case ".parquet":
            from artist_bio_gen.destinations.parquet import ParquetDestination

            return ParquetDestination(path, columns)
        case ".xlsx":
            from artist_bio_gen.destinations.xlsx import XlsxDestination

            return XlsxDestination(path, columns)
        case _:
            from artist_bio_gen.destinations.jsonl import JsonlDestination

            return JsonlDestination(path)
