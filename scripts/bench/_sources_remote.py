"""Compressed CSV, archives, and CSV at a web address."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import io
import threading
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from _sources import COLUMNS, Case, in_file, row

CHUNK = 1_000
ROWS = 1_000_000
RATE, MIB = 300_000, 110


def _write(file: Any, rows: int) -> None:
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(rows):
            writer.writerow([cell.replace(",", "") for cell in row(number)])


def _open(path: Path, mode: str) -> Any:
    """A packed file, by its name, as its plain library opens it."""
    match path.suffix:
        case ".gz":
            import gzip

            return gzip.open(path, mode)
        case ".bz2":
            import bz2

            return bz2.open(path, mode)
        case ".xz":
            import lzma

            return lzma.open(path, mode, **({"preset": 1} if "w" in mode else {}))
        case ".zst":
            from backports import zstd

            return zstd.open(path, mode)
    return path.open(mode)


def write_packed(path: Path, rows: int) -> None:
    _write(_open(path, "wb"), rows)


def write_archive(path: Path, rows: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive.open("artists.csv", "w", force_zip64=True), rows)


def _dicts(lines: Iterable[str]) -> Iterator[int]:
    reader = csv.reader(lines)
    header = next(reader)
    while rows := [dict(zip(header, cells)) for cells in islice(reader, CHUNK)]:  # noqa: B905
        yield len(rows)


def by_csv(source: str) -> Iterator[int]:
    with io.TextIOWrapper(_open(Path(source), "rb"), encoding="utf-8", newline="") as text:
        yield from _dicts(text)


def by_zipfile(source: str) -> Iterator[int]:
    with (
        zipfile.ZipFile(source) as archive,
        io.TextIOWrapper(archive.open("artists.csv"), encoding="utf-8", newline="") as text,
    ):
        yield from _dicts(text)


def by_urllib(source: str) -> Iterator[int]:
    with (
        urllib.request.urlopen(source) as answer,
        io.TextIOWrapper(answer, encoding="utf-8", newline="") as text,
    ):
        yield from _dicts(text)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's word
        pass


@contextlib.contextmanager
def served(folder: Path, rows: int) -> Iterator[str]:
    """The address of a file on a web server of this machine."""
    with in_file("artists.csv", write_packed)(folder, rows):
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/artists.csv"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _packed(suffix: str, **goal: Any) -> Case:
    made = in_file(f"artists.csv{suffix}", write_packed)
    return Case(f"csv{suffix}", ROWS, made, by_csv, **{"mib": MIB, **goal})


def cases() -> list[Case]:
    return [
        _packed(".gz", rate=RATE, sizes=(10_000_000,)),
        _packed(".zst", rate=RATE, sizes=(10_000_000,)),
        _packed(".bz2"),
        _packed(".xz"),
        Case("csv in .zip", ROWS, in_file("artists.zip", write_archive), by_zipfile, mib=MIB),
        # Not kept on disk meanwhile, to measure the reading alone.
        Case(
            "csv over http",
            ROWS,
            served,
            by_urllib,
            options={"allow_private": True, "spill": "direct"},
            rate=RATE,
            mib=MIB,
        ),
    ]
