"""`out.jsonl.failed.jsonl`: one line for each row that became no bio, with the reason.

Kept apart from the ledger, whose lines are bios and nothing else. Written under the ledger's
lock, in groups, each group fsynced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.files import PRIVATE, REAL, FileCalls, sync_folder, write_all
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.values import Failed, Rejected, path_text


class FailedFile:
    """Opened when the first failure comes, so that a run without failures leaves no file."""

    def __init__(self, ledger: Path, run: str, *, files: FileCalls = REAL) -> None:
        self.path = beside(ledger, "failed.jsonl")
        self._run = run
        self._files = files

    def append(self, outcomes: Sequence[Failed | Rejected], run: str | None = None) -> None:
        """Under the ledger's lock. On return the lines are on disk. `run` is the one that met
        them, None for this one."""
        if not outcomes:
            return
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        data = b"".join(
            orjson.dumps(_line(outcome, run or self._run, at)) + b"\n" for outcome in outcomes
        )
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = self._files.open(str(self.path), flags, PRIVATE)
            try:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    data = b"\n" + data  # a crash tore the last line; it ends there
                write_all(self._files, fd, data)
                self._files.fsync(fd)
            finally:
                os.close(fd)
            if not size:
                sync_folder(self._files, self.path.parent)
        except OSError as exc:
            raise LedgerFileError(
                f"{self.path}: could not be written ({exc.strerror}); mend the disk, then --resume"
            ) from exc


def _line(outcome: Failed | Rejected, run: str, at: str) -> dict[str, object]:
    if isinstance(outcome, Rejected):
        return {
            "time": at,
            "run": run,
            "row": outcome.row,
            "file": path_text(outcome.file) or None,
            "artist_id": None,
            "artist_name": None,
            "kind": "rejected",
            "reason": outcome.reason,
            "attempts": 0,
            "transient": False,
            "text": outcome.text,
        }
    return {
        "time": at,
        "run": run,
        "row": outcome.artist.row,
        "artist_id": outcome.artist.id,
        "artist_name": outcome.artist.name,
        "kind": outcome.kind,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        "transient": outcome.transient,
        "text": outcome.text,
        "response_id": outcome.response_id,
        "usage": outcome.usage,
    }
