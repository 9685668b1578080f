"""Rubbish of every format: a source that is cut, flipped or filled gives rows, bad rows, or one of
our errors with its name; where the format has a checksum, no row is missing in silence."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import sqlite3
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import ConfigError, InputError, LimitError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.places.packing import require_zstd
from tests.faults.seed import chance

ROWS = [(f"r{number}", f"Artist Nr {number} é", str(1800 + number)) for number in range(300)]
TEXT = "id,name,born\n" + "".join(f"{','.join(row)}\n" for row in ROWS)
CSV = TEXT.encode()
QUOTED = "id,name\n" + "".join(f'{row[0]},"{row[1]}, ""x"",\n{row[2]}"\n' for row in ROWS)
JSONL = "".join(json.dumps({"id": row[0], "more": {"name": row[1:]}}) + "\n" for row in ROWS)


def zipped() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", CSV)
    return file.getvalue()


def zstd() -> bytes:
    module: Any = require_zstd()
    checked = {module.CompressionParameter.checksum_flag: 1}
    return bytes(module.compress(CSV, options=checked))


def arrow_of(form: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [row[at] for row in ROWS] for at, name in enumerate(("id", "name"))})
    out = pa.BufferOutputStream()
    if form == "parquet":
        pq.write_table(table, out, row_group_size=100, write_page_checksum=True)
    else:
        with (pa.ipc.new_file if form == "file" else pa.ipc.new_stream)(out, table.schema) as new:
            new.write_table(table, max_chunksize=100)
    return bytes(out.getvalue())


def sqlite() -> bytes:
    conn = sqlite3.connect(":memory:")
    conn.execute("create table artists (id text primary key, name text, born integer)")
    conn.executemany("insert into artists values (?, ?, ?)", ROWS)
    conn.commit()
    try:
        return conn.serialize()
    finally:
        conn.close()


def workbook() -> bytes:
    import xlsxwriter

    file = BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for at, row in enumerate([("id", "name", "born"), *ROWS]):
            sheet.write_row(at, 0, row)
    return file.getvalue()


MADE: dict[str, tuple[Callable[[], bytes], bool, int]] = {
    "a.csv": (lambda: CSV, False, 60),
    "quoted.csv": (lambda: QUOTED.encode(), False, 60),
    "utf16.csv": (lambda: TEXT.encode("utf-16"), False, 60),
    "a.tsv": (lambda: CSV.replace(b",", b"\t"), False, 30),
    "a.jsonl": (lambda: JSONL.encode(), False, 60),
    "a.json": (lambda: f"[{','.join(JSONL.splitlines())}]".encode(), False, 60),
    "a.csv.gz": (lambda: gzip.compress(CSV), True, 60),
    "a.csv.bz2": (lambda: bz2.compress(CSV), True, 40),
    "a.csv.xz": (lambda: lzma.compress(CSV), True, 40),
    "a.csv.zst": (zstd, True, 60),
    "a.zip": (zipped, True, 60),
    "a.sqlite": (sqlite, False, 60),
    "a.parquet": (lambda: arrow_of("parquet"), True, 20),
    "file.arrow": (lambda: arrow_of("file"), False, 40),
    "stream.arrow": (lambda: arrow_of("stream"), False, 40),
    "a.xlsx": (workbook, True, 8),
}
"""How each is made, whether it has checksums, and how many damages are tried."""


def damaged(draw: random.Random, sound: bytes) -> bytes:
    """Without those that make a sound file of it: doubled, or with text inserted."""
    data = bytearray(sound)
    at = draw.randrange(len(data))
    match draw.randrange(5):
        case 0:
            return bytes(data[:at])
        case 1:
            for _ in range(draw.choice((1, 1, 5, 50))):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case 2:
            del data[at : at + draw.choice((1, 2, 10, 300))]
        case 3:
            length = min(draw.choice((1, 8, 64)), len(data) - at)
            data[at : at + length] = bytes([draw.choice((0, 127, 255))]) * length
        case _:
            data = data[: draw.choice((4, 8, 16, 64))] + draw.randbytes(2_000)
    return bytes(data)


@pytest.mark.parametrize("name", MADE)
def test_damage_costs_rows_or_ends_in_an_error_of_ours(tmp_path: Path, name: str) -> None:
    make, is_checked, times = MADE[name]
    try:
        sound = make()
    except (ImportError, ConfigError) as exc:
        pytest.skip(f"needs {exc}")
    path = tmp_path / name
    refused: list[str] = []
    draw = chance(name)
    for _ in range(times):
        data = damaged(draw, sound)
        path.write_bytes(data)
        rows = None
        try:
            with open_source(path, error_threshold=1.0) as source:
                rows = sum(len(chunk.dicts()) for chunk in source.chunks())
                rows += source.result.error_count
        except (InputError, LimitError, UsageError) as exc:
            refused.append(str(exc))
        if is_checked and rows is not None and data != sound:
            assert rows == len(ROWS), data.hex()
    assert [each for each in refused if name not in each] == []
    assert refused or not is_checked
    path.write_bytes(sound)
    with open_source(path) as source:
        assert sum(1 for _ in source) == len(ROWS)


ODD = "\udcff\n\x1b[31mé"
"""Of a name's first letters: a byte that is no UTF-8, a line end, what colours a terminal."""


@pytest.mark.parametrize("name", MADE)
def test_a_name_may_have_any_bytes(tmp_path: Path, name: str) -> None:
    try:
        data = MADE[name][0]()
    except (ImportError, ConfigError) as exc:
        pytest.skip(f"needs {exc}")
    path = tmp_path / f"{ODD}{name}"
    path.write_bytes(data)
    with open_source(path) as source:
        assert sum(1 for _ in source) == len(ROWS)
        source.name.encode()
        json.dumps(source.facts(), ensure_ascii=False).encode()
    path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        open_source(path)
    str(caught.value).encode()


def test_files_of_any_name_may_be_read_side_by_side(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{ODD}{number}.csv").write_bytes(CSV)
    with open_source(tmp_path / "*.csv", parallel=2) as source:
        files = {row.file for row in source}
    assert len(files) == 2
    "".join(files).encode()
