"""What has arrived, made final: one transaction and one fsync for a group.

Under the ledger's lock the lines get their numbers, bios and commit rows and head go into one
transaction, then the lines are appended and synced. Nobody is told "done" before that.

Once a file cannot be written, what had arrived by then may stand nowhere but in memory: it is still
committed to the database, whose head goes on alone, and nobody is told "done". The next start
appends the lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from artist_bio_gen.database.session import RowsRefusedError
from artist_bio_gen.database.store import BioStore, CommitRow, HeadMovedError
from artist_bio_gen.errors import LedgerError, LedgerFileError, LimitError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, Line, seal
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Done, Failed, Head, Rejected, Usage

DUPLICATE = "duplicate"
"""Kind of the failure of an artist who has this bio already, by another run."""


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
        self._file_error: LedgerFileError | None = None  # the ledger is not written any more
        self._alone: Head | None = None  # up to where the database has gone on without it
        self._trouble: LedgerFileError | None = None  # what this `commit` is to raise at its end

    def commit(
        self, group: Sequence[Draft | Failed | Rejected], *, in_journal: bool = True
    ) -> list[Done | Failed | Rejected]:
        """Makes the group final and tells what became of each. A row that the database refuses
        is taken out of its group and becomes a failure; the others go through.

        `in_journal`: it is kept there, so failures that find no room in their file can be left to
        the next start, texts and all. Else the database notes them.

        Raises LedgerFileError when a file could not be written: what the database takes is
        committed by then, and further groups may be given. LedgerError, LimitError or ConfigError
        are final. After each of them nothing of what is not told is acknowledged.
        """
        with self._ledger.locked():
            return self.commit_locked(group, in_journal=in_journal)

    def commit_locked(
        self,
        group: Sequence[Draft | Failed | Rejected],
        dead_run: str | None = None,
        *,
        in_journal: bool = True,
    ) -> list[Done | Failed | Rejected]:
        """As `commit`, for who holds the ledger's lock. `dead_run` is the one that had met the
        failures, None for this one."""
        run = dead_run or self._run
        drafts = [item for item in group if isinstance(item, Draft)]
        failures = [item for item in group if isinstance(item, Failed)]
        rejected = [item for item in group if isinstance(item, Rejected)]
        self._trouble = self._file_error
        if self._trouble is None:
            self._without_file_error(self._catch_up)
        done: list[Done] = []
        if drafts:
            failures += self._store_drafts(drafts, done)
        # The file first: it alone holds the text that was paid for, and a line that stands there
        # twice after a crash does no harm.
        try:
            self._failed_file.append([*failures, *rejected], run)
        except LedgerFileError as exc:
            self._trouble = self._trouble or exc
            failures, rejected = ([] if in_journal else failures), []
        # One who has the bio by another run is no failure to be taken again.
        noted = [failed for failed in failures if failed.kind != DUPLICATE]
        if noted:
            self._store.record(noted, ledger=self._ledger.id, run=run)
        recovered = dead_run is not None
        self._tell("failed", [_failed(failed, run, recovered=recovered) for failed in failures])
        self._tell("rejected", [_rejected(row, run) for row in rejected])
        if self._trouble is not None:
            raise self._trouble
        return [*done, *failures, *rejected]

    def _catch_up(self) -> None:
        if not self._ledger.catch_up():
            self._reconcile()

    def _without_file_error(self, work: Callable[[], object]) -> None:
        """Does the work on the ledger's files; after an error they are not touched any more."""
        try:
            work()
        except LedgerFileError as exc:
            self._file_error = self._trouble = exc

    def _tell(self, event: str, each: Iterable[Mapping[str, object]]) -> None:
        """A log that cannot be written ends the run, but not what is being made final."""
        try:
            self._telemetry.emit_each(event, each)
        except LimitError as exc:
            error = LedgerFileError(str(exc))
            error.__cause__ = exc
            self._trouble = self._trouble or error

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
            if self._file_error is None:
                self._without_file_error(self._reconcile)
            try:
                lines, transaction_id = self._commit_rows(drafts)
            except HeadMovedError as exc:
                raise LedgerError(
                    f"{self._ledger.path}: the database's head moved again right after it was"
                    " reconciled; does something write to it without the ledger's lock?"
                ) from exc
        pairs = list(zip(drafts, lines, strict=True))
        self._tell("committed", [_committed(*pair, transaction_id) for pair in pairs])
        if not self._append(lines):
            return []
        self._tell("appended", [_appended(*pair) for pair in pairs])
        return [
            Done(draft.artist, draft.bio, line.seq, line.hash, draft.worker)
            for draft, line in pairs
        ]

    def _append(self, lines: Sequence[Line]) -> bool:
        """False when the lines stand in the database alone."""
        if self._file_error is None:
            self._without_file_error(lambda: self._ledger.append(lines))
        if self._file_error is None:
            return True
        self._alone = Head(self._ledger.id, lines[-1].seq, lines[-1].hash)
        return False

    def _head(self) -> Head:
        """What the next line follows: the ledger's last one; when the ledger cannot be written, the
        database's, which must hold the last one that is known here."""
        if self._file_error is None:
            return self._ledger.head
        known = self._alone or self._ledger.head
        there = self._store.head(known.ledger)
        holds = there is not None and (
            known in (there, Head(known.ledger, 0, self._ledger.first_prev))
            or self._store.line_hash(known.ledger, known.seq) == known.hash
        )
        if there is None or not holds:
            raise LedgerError(
                f"{self._ledger.path}: cannot be written, and the database does not have its line"
                f" {known.seq}; is it an older copy? Nothing more is committed; mend the disk, then"
                " --resume"
            )
        return there

    def _commit_rows(self, drafts: Sequence[Draft]) -> tuple[list[Line], str | None]:
        head = self._head()
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


def _committed(draft: Draft, line: Line, transaction_id: str | None) -> dict[str, object]:
    return {
        "run": draft.run,
        "artist_id": draft.artist.id,
        "artist_name": draft.artist.name,
        "worker": draft.worker,
        "duration_ms": round(draft.bio.latency_ms, 3),
        "attempts": draft.bio.attempts,
        "db_status": "updated",
        "response_id": draft.bio.response_id,
        "transaction_id": transaction_id,
        "seq": line.seq,
        "hash": line.hash,
        "usage": _usage(draft.bio.usage),
    }


def _appended(draft: Draft, line: Line) -> dict[str, object]:
    return {
        "run": draft.run,
        "artist_id": draft.artist.id,
        "artist_name": draft.artist.name,
        "worker": draft.worker,
        "seq": line.seq,
        "hash": line.hash,
    }


def _failed(failed: Failed, run: str, *, recovered: bool) -> dict[str, object]:
    return {
        "run": run,
        "artist_id": failed.artist.id,
        "artist_name": failed.artist.name,
        "kind": failed.kind,
        "reason": failed.reason,
        "attempts": failed.attempts,
        "transient": failed.transient,
        "usage": _usage(failed.usage),
        "recovered": recovered,
    }


def _rejected(row: Rejected, run: str) -> dict[str, object]:
    return {"run": run, "row": row.row, "file": row.file or None, "reason": row.reason}


def _usage(usage: Usage | None) -> Mapping[str, int | None] | None:
    return None if usage is None else usage.counts()


def _refused(draft: Draft, exc: RowsRefusedError) -> Failed:
    return Failed(
        draft.artist,
        DUPLICATE if exc.duplicate else "database",
        f"the database refuses the bio: {exc}",
        draft.bio.attempts,
        transient=False,
        text=draft.bio.text,
        response_id=draft.bio.response_id,
        usage=draft.bio.usage,
    )
