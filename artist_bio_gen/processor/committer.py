"""What has arrived, made final: one transaction and one fsync for a group.

Under the ledger's lock the lines get their numbers, bios and commit rows and head go into one
transaction, then the lines are appended and synced. Nobody is told "done" before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from artist_bio_gen.database.store import (
    BioStore,
    CommitRow,
    HeadMovedError,
    RowsRefusedError,
)
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, Line, seal
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Done, Failed, Rejected


class Committer:
    """Serves one thread. `reconcile` is called under the lock when ledger and database are not
    where this process left them (another process died between the two)."""

    def __init__(
        self,
        ledger: Ledger,
        store: BioStore,
        failed_file: FailedFile,
        *,
        run: str,
        reconcile: Callable[[], object],
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is the time of day, for people: nothing is decided by it."""
        self._ledger = ledger
        self._store = store
        self._failed_file = failed_file
        self._run = run
        self._reconcile = reconcile
        self._telemetry = telemetry
        self._clock = clock

    def commit(self, group: Sequence[Draft | Failed | Rejected]) -> list[Done | Failed | Rejected]:
        """Makes the group final and tells what became of each. A row that the database refuses
        is taken out of its group and becomes a failure; the others go through.

        Raises LedgerFileError, LedgerError, LimitError or ConfigError: then nothing of what is
        not told is acknowledged, and the journal still holds it.
        """
        with self._ledger.locked():
            return self.commit_locked(group)

    def commit_locked(
        self, group: Sequence[Draft | Failed | Rejected], dead_run: str | None = None
    ) -> list[Done | Failed | Rejected]:
        """As `commit`, for who holds the ledger's lock. `dead_run` is the one that had met the
        failures, None for this one."""
        run = dead_run or self._run
        drafts = [item for item in group if isinstance(item, Draft)]
        failures = [item for item in group if isinstance(item, Failed)]
        rejected = [item for item in group if isinstance(item, Rejected)]
        if not self._ledger.catch_up():
            self._reconcile()
        done: list[Done] = []
        if drafts:
            failures += self._store_drafts(drafts, done)
        # The file first: it alone holds the text that was paid for, and a line that stands there
        # twice after a crash does no harm.
        self._failed_file.append([*failures, *rejected], run)
        if failures:
            self._store.record(failures, ledger=self._ledger.id, run=run)
        for failed in failures:
            self._telemetry.emit(
                "failed",
                run=run,
                artist_id=failed.artist.id,
                artist_name=failed.artist.name,
                kind=failed.kind,
                reason=failed.reason,
                attempts=failed.attempts,
                transient=failed.transient,
                usage=None if failed.usage is None else asdict(failed.usage),
                recovered=dead_run is not None,
            )
        for row in rejected:
            self._telemetry.emit("rejected", run=run, row=row.row, reason=row.reason)
        return [*done, *failures, *rejected]

    def _store_drafts(self, drafts: Sequence[Draft], done: list[Done]) -> list[Failed]:
        """Commits and appends; returns those that the database refuses, found by halving."""
        try:
            done += self._store_group(drafts)
        except RowsRefusedError as exc:
            if len(drafts) == 1:
                return self._store_lone(drafts[0], exc, done)
            half = len(drafts) // 2
            return self._store_drafts(drafts[:half], done) + self._store_drafts(drafts[half:], done)
        return []

    def _store_lone(self, draft: Draft, exc: RowsRefusedError, done: list[Done]) -> list[Failed]:
        """Once more where it may be that somebody has just inserted the artist's row: then it is
        there to be updated."""
        if not exc.may_pass:
            return [_refused(draft, exc)]
        try:
            done += self._store_group([draft])
        except RowsRefusedError as again:
            return [_refused(draft, again)]
        return []

    def _store_group(self, drafts: Sequence[Draft]) -> list[Done]:
        try:
            lines, transaction_id = self._commit_rows(drafts)
        except HeadMovedError:
            self._reconcile()
            try:
                lines, transaction_id = self._commit_rows(drafts)
            except HeadMovedError as exc:
                raise LedgerError(
                    f"{self._ledger.path}: the database's head moved again right after it was"
                    " reconciled; does something write to it without the ledger's lock?"
                ) from exc
        for draft, line in zip(drafts, lines, strict=True):
            self._telemetry.emit(
                "committed",
                run=draft.run,
                artist_id=draft.artist.id,
                artist_name=draft.artist.name,
                worker=draft.worker,
                duration_ms=round(draft.bio.latency_ms, 3),
                attempts=draft.bio.attempts,
                db_status="updated",
                response_id=draft.bio.response_id,
                transaction_id=transaction_id,
                seq=line.seq,
                hash=line.hash,
                usage=None if draft.bio.usage is None else asdict(draft.bio.usage),
            )
        self._ledger.append(lines)
        for draft, line in zip(drafts, lines, strict=True):
            self._telemetry.emit(
                "appended",
                run=draft.run,
                artist_id=draft.artist.id,
                artist_name=draft.artist.name,
                worker=draft.worker,
                seq=line.seq,
                hash=line.hash,
            )
        return [
            Done(draft.artist, draft.bio, line.seq, line.hash, draft.worker)
            for draft, line in zip(drafts, lines, strict=True)
        ]

    def _commit_rows(self, drafts: Sequence[Draft]) -> tuple[list[Line], str | None]:
        head = self._ledger.head
        committed_at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")
        lines: list[Line] = []
        rows: list[CommitRow] = []
        prev = head.hash
        for seq, draft in enumerate(drafts, head.seq + 1):
            line = seal(draft, seq=seq, prev=prev, committed_at=committed_at)
            lines.append(line)
            rows.append(_commit_row(draft, line))
            prev = line.hash
        return lines, self._store.commit(rows, old=head)


def _commit_row(draft: Draft, line: Line) -> CommitRow:
    return CommitRow(
        seq=line.seq,
        hash=line.hash,
        line=line.data.decode(),
        run=draft.run,
        artist_id=draft.artist.id,
        artist_name=draft.artist.name,
        bio=draft.bio.text,
        generation=draft.artist.generation,
        input_sha256=draft.input_sha256,
        prompt_sha256=draft.bio.prompt_sha256,
    )


def _refused(draft: Draft, exc: RowsRefusedError) -> Failed:
    return Failed(
        draft.artist,
        "duplicate" if exc.duplicate else "database",
        f"the database refuses the bio: {exc}",
        draft.bio.attempts,
        transient=False,
        text=draft.bio.text,
        response_id=draft.bio.response_id,
        usage=draft.bio.usage,
    )
