"""The paths that a run was given: none of its files may be another one, nor what is no file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from artist_bio_gen.config import ENV_FILES, Settings
from artist_bio_gen.errors import InputError, UsageError
from artist_bio_gen.ledger.belonging import belongs_to, require_files
from artist_bio_gen.ledger.segments import real
from artist_bio_gen.sources.places.local import STDIN, files_of
from artist_bio_gen.values import path_text


def log_file(settings: Settings) -> Path:
    return settings.log_file or settings.output.with_name(f"{settings.output.name}.log")


def require_own_paths(
    settings: Settings, *, others: Mapping[str, Path] | None = None, folder: Path = Path()
) -> None:
    """UsageError when ledger, log and input are not files of their own, or the log is one of the
    `others` or of those that settings are read from, in `folder` too. Opens nothing."""
    ledger = _ledger(settings.output)
    sources = [*_sources(settings)]
    for source in sources:
        if own := belongs_to(ledger, source):
            raise UsageError(
                f"--input {path_text(source)}: {path_text(own)} belongs to the ledger; give the"
                " artists, or name another ledger with --output"
            )
    if not settings.log or settings.dry_run:
        return
    log = log_file(settings)
    shown = f"--log-file {path_text(log)}"
    if own := belongs_to(ledger, log):
        raise UsageError(f"{shown}: {path_text(own)} belongs to the ledger; name another file")
    apart: list[tuple[str, Path | None]] = [
        *(("the input", source) for source in sources),
        ("the prompt", settings.prompt),
        ("the model's weights", Path(settings.local_model) if settings.local_model else None),
        *(("a file of settings", folder / name) for name in ENV_FILES),
        *(others or {}).items(),
    ]
    there = [(what, path) for what, path in apart if path is not None]
    for what, path in there:
        if _is_same(log, path):
            raise UsageError(f"{shown}: this is {what}; name another file")
    # An old log is kept as <log>.1 and so on, in place of whatever is there.
    for other in (ledger, *(path for _, path in there)):
        if _is_old_log(log, other):
            raise UsageError(
                f"{shown}: an old log would be put in the place of {path_text(other)}; name"
                " another file"
            )


def _sources(settings: Settings) -> Iterator[Path]:
    """The files of the input; none where opening it will tell what is wrong."""
    with suppress(InputError):
        yield from map(Path, files_of(settings.input or STDIN) or ())


def _ledger(output: Path) -> Path:
    """Where it lies; UsageError for what can be none."""
    shown = f"--output {path_text(output)}"
    try:
        ledger = real(output)
        if ledger.is_symlink():  # Path.resolve gives up on a circle from Python 3.13 on
            raise RuntimeError
    except RuntimeError as exc:
        raise UsageError(f"{shown}: is a link to itself; name a file") from exc
    if not ledger.name or ledger.is_dir():
        raise UsageError(f"{shown}: is a folder; name a file in it, as out.jsonl")
    require_files(ledger)
    return ledger


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _is_old_log(log: Path, path: Path) -> bool:
    return os.path.realpath(log.parent) == os.path.realpath(path.parent) and bool(
        re.fullmatch(rf"{re.escape(log.name)}\.\d+", path.name)
    )
