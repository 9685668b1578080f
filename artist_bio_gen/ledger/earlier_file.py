"""Files of the earlier format, written by scripts: `append_jsonl_response`, `write_jsonl_output`.

Locked by the same kind of sidecar as a ledger (`<file>.lock`, which stays), fsynced, mode 0600.
Neither writes to a ledger: its chain would be broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from artist_bio_gen.errors import LedgerFileError, UsageError
from artist_bio_gen.ledger.earlier import DATA_COLUMN, KEYS, earlier_request, encode
from artist_bio_gen.ledger.files import (
    PRIVATE,
    REAL,
    FileCalls,
    is_same_file,
    sync_folder,
    write_all,
)
from artist_bio_gen.ledger.line import is_whole
from artist_bio_gen.ledger.segments import LONGEST_LINE, beside, real
from artist_bio_gen.ledger.sharing import Sidecar
from artist_bio_gen.ledger.whole import whole_file
from artist_bio_gen.values import Json

NO_DATA = "No additional data provided"
"""What the variable `artist_data` held where there was none."""

Response: TypeAlias = Mapping[str, Json] | Any
"""A mapping with the keys of the format, or an object with attributes of these names."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "artist_id": (str,),
    "artist_name": (str,),
    "artist_data": (str, dict, type(None)),
    "request": (dict,),
    "response_text": (str, type(None)),
    "response_id": (str, type(None)),
    "created": (int, type(None)),
    "db_status": (str, type(None)),
    "error": (str, type(None)),
}


def append_jsonl_response(
    response: Response,
    output_path: str | os.PathLike[str],
    prompt_id: str | None = None,
    version: str | None = None,
    *,
    files: FileCalls = REAL,
) -> None:
    """Appends one record of the earlier format. On return it is on disk.

    `response` is a mapping with the keys of the format, or an object with such attributes;
    `artist_id` and `artist_name` are needed, what else is missing is null. Its `request` is made
    from `prompt_id`, `version`, name and data, unless it brings one. The file is made, with mode
    0600, when it is not there; threads and processes take turns at it. Each record costs an fsync:
    for many at once there is `write_jsonl_output`.

    Raises UsageError for a record that does not fit the format, and for a file that is a ledger;
    LedgerFileError when it cannot be written: then the record may be there in part, and the next
    one begins a line of its own.
    """
    data = _encoded(response, prompt_id, version)
    path = _existing_folder(output_path)
    with Sidecar(beside(path, "lock"), lambda: False).held():
        _refuse_ledger(path)
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = files.open(str(path), flags, PRIVATE)
            try:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    data = b"\n" + data  # a crash tore the last line; it ends there
                write_all(files, fd, data)
                files.fsync(fd)
                there = is_same_file(fd, path)
            finally:
                os.close(fd)
        except OSError as exc:
            raise LedgerFileError(f"{path}: cannot be written: {exc.strerror}") from exc
        if not there:
            raise LedgerFileError(
                f"{path}: was deleted or replaced while a record was written; write it again"
            )
        if not size:
            sync_folder(files, path.parent)


def write_jsonl_output(
    responses: Iterable[Response],
    output_path: str | os.PathLike[str],
    prompt_id: str | None = None,
    version: str | None = None,
    *,
    files: FileCalls = REAL,
) -> None:
    """Writes records of the earlier format as a whole file, in place of one that is there.

    On return it is on disk; an error, or a crash, leaves the old file as it was. `responses` may
    be a generator: they are written as they come. See `append_jsonl_response` for the rest.
    """
    path = _existing_folder(output_path)
    with Sidecar(beside(path, "lock"), lambda: False).held():
        _refuse_ledger(path)
        with whole_file(files, path) as write:
            for response in responses:
                write(_encoded(response, prompt_id, version))


def _existing_folder(output_path: str | os.PathLike[str]) -> Path:
    path = real(Path(output_path))
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


def _refuse_ledger(path: Path) -> None:
    try:
        with path.open("rb") as file:
            chained = is_whole(file.readline(LONGEST_LINE).rstrip(b"\n"))
    except FileNotFoundError:
        chained = False
    except OSError as exc:
        raise LedgerFileError(f"{path}: cannot be read: {exc.strerror}") from exc
    # A ledger that is empty or damaged is told by its head.
    if chained or beside(path, "head").exists():
        raise UsageError(
            f"{path}: is a ledger, whose lines form a chain; only artist-bio-gen itself writes to"
            " it. Name another file"
        )


def _encoded(response: Response, prompt_id: str | None, version: str | None) -> bytes:
    record = _record(response, prompt_id, version)
    for key, types in _TYPES.items():
        value = record[key]
        if not isinstance(value, types) or isinstance(value, bool):
            allowed = " or ".join("null" if each is type(None) else each.__name__ for each in types)
            raise UsageError(f"{key} is a {type(value).__name__}; the format has {allowed} there")
    if not record["artist_id"] or not record["artist_name"]:
        raise UsageError("artist_id and artist_name are needed, and may not be empty")
    try:
        return encode(record)
    except (ValueError, TypeError, RecursionError) as exc:
        raise UsageError(
            f"the record of artist {record['artist_id']!r} cannot be written as JSON: {exc}"
        ) from exc


def _record(response: Response, prompt_id: str | None, version: str | None) -> dict[str, Json]:
    if isinstance(response, Mapping):
        if strange := [key for key in response if key not in KEYS]:
            raise UsageError(f"{strange[0]!r} is no key of the format; it has {', '.join(KEYS)}")
        given = {key: response.get(key) for key in KEYS}
    else:
        given = {key: getattr(response, key, None) for key in KEYS}
    if given["request"] is None and prompt_id is not None:
        variables = {
            "artist_name": given["artist_name"],
            DATA_COLUMN: given["artist_data"] or NO_DATA,
        }
        given["request"] = earlier_request(prompt_id, variables, version)
    elif given["request"] is None:
        raise UsageError("there is no request; give prompt_id, or a record with a request")
    elif prompt_id is not None or version is not None:
        raise UsageError("the record brings its own request; give no prompt_id and no version")
    return given
