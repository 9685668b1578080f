"""A database in memory, for states of which there are tens of thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from artist_bio_gen.database.store import BioStore, CommitRow, HeadMovedError, Known
from artist_bio_gen.values import Failed, Head


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that is in the database, for one ledger. `failures` are by artist, with the run
    that noted them."""

    head: Head | None = None
    rows: tuple[CommitRow, ...] = ()
    failures: dict[str, tuple[str, Failed]] = field(default_factory=dict)


class MemoryStore(BioStore):
    """As far as starts and the committer use it. `on_change` hears of each new state."""

    def __init__(
        self, kept: Kept = Kept(), on_change: Callable[[Kept], None] = lambda kept: None
    ) -> None:
        self.kept = kept
        self._on_change = on_change

    def _become(self, kept: Kept) -> None:
        self.kept = kept
        self._on_change(kept)

    def close(self) -> None:
        pass

    def head(self, ledger: str) -> Head | None:
        assert self.kept.head is None or self.kept.head.ledger == ledger
        return self.kept.head

    def create_head(self, head: Head, path: str) -> None:
        if self.kept.head is None:
            self._become(replace(self.kept, head=head))

    def line_hash(self, ledger: str, seq: int) -> str | None:
        return self.kept.rows[seq - 1].hash if 0 < seq <= len(self.kept.rows) else None

    def lines_after(self, ledger: str, seq: int) -> Iterator[tuple[int, str, bytes]]:
        for row in self.kept.rows[seq:]:
            yield row.seq, row.hash, row.line.encode()

    def commit(self, rows: Sequence[CommitRow], *, old: Head) -> str | None:
        if self.kept.head != old:
            raise HeadMovedError("the head is elsewhere")
        head = Head(old.ledger, rows[-1].seq, rows[-1].hash)
        self._become(replace(self.kept, head=head, rows=(*self.kept.rows, *rows)))
        return None

    def record(self, failures: Sequence[Failed], *, ledger: str, run: str) -> None:
        new = {failed.artist.id: (run, failed) for failed in failures}
        self._become(replace(self.kept, failures={**self.kept.failures, **new}))

    def known(self, ledger: str, ids: Sequence[str]) -> dict[str, Known]:
        newest = {row.artist_id: row for row in self.kept.rows}
        return {id_: _known(newest.get(id_), self.kept.failures.get(id_)) for id_ in ids}


def _known(row: CommitRow | None, failure: tuple[str, Failed] | None) -> Known:
    return Known(
        has_row=row is not None,
        has_bio=row is not None,
        generation=row.generation if row else None,
        seq=row.seq if row else None,
        run=row.run if row else None,
        input_sha256=row.input_sha256 if row else None,
        prompt_sha256=row.prompt_sha256 if row else None,
        elsewhere=False,
        failed_run=failure[0] if failure else None,
        failed_transient=failure[1].transient if failure else None,
        failed_before_again=None,
    )
