"""Bios and commit rows in Postgres.

`BioStore.commit` puts a group of bios, one commit row per line and the new head into one
transaction; when the connection was lost it asks on a new one whether the commit went through. The
caller holds the ledger's lock.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

import psycopg

from artist_bio_gen.database.begun import Begun, ledgers_at
from artist_bio_gen.database.connect import describe, passes
from artist_bio_gen.database.session import RowsRefusedError, Session, be_patient
from artist_bio_gen.database.statements import (
    PAGE_OF_COMMITS,
    RECORD_FAILURE,
    commit_statement,
    failure_values,
    known_statement,
)
from artist_bio_gen.database.table import check_new_rows, check_table
from artist_bio_gen.errors import ConfigError, LedgerError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.values import NO_ROW, Failed, Head

_T = TypeVar("_T")


class HeadMovedError(LedgerError):
    """The database's head is not where the ledger's is: reconcile, then try again."""


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One line of the ledger with what the database keeps of it. `line` is its exact text."""

    seq: int
    hash: str
    line: str
    run: str
    artist_id: str
    artist_name: str
    bio: str
    generation: int
    input_sha256: str
    prompt_sha256: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of one artist. `generation`, `seq`, `run` and the fingerprints
    are those of its newest bio in this ledger, None without one. `elsewhere`: another ledger
    of this database, for the same table, holds a bio. `failed_run` and `failed_transient` tell of
    its last failure, and whether that was before an unfinished --again began."""

    has_row: bool
    has_bio: bool
    generation: int | None
    seq: int | None
    run: str | None
    input_sha256: str | None
    prompt_sha256: str | None
    elsewhere: bool
    failed_run: str | None
    failed_transient: bool | None
    failed_before_again: bool | None


@dataclass(frozen=True, slots=True)
class Page:
    """Commit rows that follow each other: how many, the number of the last, and of those that can
    be told in short the artist's id and the fingerprint of its input, with a mark behind it where
    the prompt's is not the one that was given."""

    rows: int
    last_seq: int
    ids: Sequence[str]
    fingerprints: Sequence[str]


class BioStore:
    """One connection for one thread: the committer has one store, the look-ups another."""

    def __init__(
        self,
        conninfo: str,
        *,
        table: str,
        insert_missing: bool = True,
        max_wait: float = 600.0,
        on_trouble: Callable[[str], None] = lambda reason: None,
        on_recovery: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None],
    ) -> None:
        """`insert_missing`: artists without a row get one. `max_wait` (s): how long a database
        that is away is waited for. `sleep` is called between attempts and may raise to end the
        waiting. `on_trouble` and `on_recovery` frame each such wait. ConfigError when there is no
        server, or bios could not be written into this table."""
        self._conninfo = conninfo
        self.table = table
        self._insert_missing = insert_missing
        self._session = Session(
            conninfo,
            max_wait=max_wait,
            on_trouble=on_trouble,
            on_recovery=on_recovery,
            sleep=sleep,
        )
        with on_failure(self.close):
            self._session.do(self._look_at_table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def break_off_in(self, seconds: float) -> None:
        """From then on what takes the server long ends in StoppedError, as does all work after it.
        Called from any thread. A commit that was broken off is found, or not, by the next start."""
        self._session.break_off_in(seconds)

    def _look_at_table(self, conn: psycopg.Connection) -> None:
        be_patient(conn)
        self.id_kind, self._table_name = check_table(conn, self.table)
        self._commit_sql = commit_statement(self.table, self.id_kind, self._insert_missing)
        self._known_sql = known_statement(self.table, self.id_kind)
        self._rehearse(conn)
        if self._insert_missing:
            check_new_rows(conn, self.table)

    # ---- the head -------------------------------------------------------------------------

    def head(self, ledger: str) -> Head | None:
        """The head as the database has it, once whoever moves it just now has done so; None when it
        does not know this ledger. ConfigError when the ledger belongs to another table."""
        return self._session.do(partial(_head_for, ledger=ledger, table=self._table_name))

    def create_head(self, head: Head, path: str) -> None:
        """Makes a new ledger known. Does nothing when it is."""

        def insert(conn: psycopg.Connection) -> None:
            conn.execute(
                "insert into artist_bio_gen.heads (ledger, seq, hash, path, host, table_name)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (ledger) do nothing",
                [
                    head.ledger,
                    head.seq,
                    head.hash,
                    path,
                    socket.gethostname(),
                    self._table_name,
                ],
            )

        self._session.do(insert)

    def ledgers_at(self, path: str) -> Begun:
        """The ledgers that were begun at this absolute path and have lines."""
        return self._session.do(partial(ledgers_at, path=path))

    def line_hash(self, ledger: str, seq: int) -> str | None:
        """Hash of the commit row with this number, None without one."""

        def ask(conn: psycopg.Connection) -> str | None:
            row = conn.execute(
                "select hash from artist_bio_gen.commits where ledger = %s and seq = %s",
                [ledger, seq],
            ).fetchone()
            return None if row is None else str(row[0])

        return self._session.do(ask)

    def count_lines(self, ledger: str, last: int) -> int:
        """How many of the lines up to this number have a commit row. Takes about a second for ten
        million."""

        def ask(conn: psycopg.Connection) -> int:
            counted = conn.execute(
                "select count(*) from artist_bio_gen.commits"
                " where ledger = %s and seq between 1 and %s",
                [ledger, last],
            ).fetchone()
            return 0 if counted is None else int(counted[0])

        return self._session.do(ask)

    def lines_after(self, ledger: str, seq: int) -> Iterator[tuple[int, str, bytes]]:
        """(number, hash, exact line) of the commit rows above `seq`, in order, page by page."""
        while page := self._session.do(partial(_page_of_lines, ledger=ledger, seq=seq)):
            for number, digest, line in page:
                yield number, digest, line.encode()
                seq = number

    # ---- committing -----------------------------------------------------------------------

    def commit(self, rows: Sequence[CommitRow], *, old: Head) -> str | None:
        """Commits bios and commit rows (at least one, at most one per artist) and moves the head
        from `old` to the last of them. Returns the transaction's id, None when it could not be
        learned (the connection was lost with the commit's answer).

        Raises RowsRefusedError, HeadMovedError, ConfigError (missing rights or tables): nothing
        was committed; LimitError (the database stayed away for `max_wait`): the next start
        finds out.
        """
        new = Head(old.ledger, rows[-1].seq, rows[-1].hash)
        unsure = False

        def attempt(conn: psycopg.Connection) -> str | None:
            nonlocal unsure
            if unsure and _head(conn, old.ledger) == new:
                return None
            unsure = True
            with conn.transaction():
                return self._insert(conn, rows, old, new)

        return self._session.do(attempt)

    def record(self, failures: Sequence[Failed], *, ledger: str, run: str) -> None:
        """Notes failures, the newest for each artist."""

        def insert(conn: psycopg.Connection) -> None:
            with conn.transaction():
                for failed in failures:
                    conn.execute(RECORD_FAILURE, failure_values(failed, ledger, run))

        self._session.do(insert)

    def _insert(
        self, conn: psycopg.Connection, rows: Sequence[CommitRow], old: Head, new: Head
    ) -> str:
        found = conn.execute(
            self._commit_sql,
            {
                "ledger": old.ledger,
                "old_seq": old.seq,
                "old_hash": old.hash,
                "new_seq": new.seq,
                "new_hash": new.hash,
                "seqs": [row.seq for row in rows],
                "hashes": [row.hash for row in rows],
                "lines": [row.line for row in rows],
                "runs": [row.run for row in rows],
                "ids": [row.artist_id for row in rows],
                "names": [row.artist_name for row in rows],
                "bios": [row.bio for row in rows],
                "generations": [row.generation for row in rows],
                "inputs": [row.input_sha256 for row in rows],
                "prompts": [row.prompt_sha256 for row in rows],
            },
        ).fetchone()
        assert found is not None
        moved, stored, transaction_id = found
        if not moved:
            raise HeadMovedError(
                f"ledger {old.ledger}: the database's head is not at line {old.seq}"
            )
        if stored != len(rows):
            raise RowsRefusedError(
                f"{self.table}: a trigger, a rule or a row policy of the table keeps the row out"
                if self._insert_missing
                else f"{self.table} has no row with this id any more, and --on-missing does not let"
                " it be inserted; or a trigger, a rule or a row policy keeps the bio out",
                duplicate=False,
                # Deleted by somebody at the same moment, it can be inserted now.
                may_pass=self._insert_missing,
            )
        return str(transaction_id)

    def _rehearse(self, conn: psycopg.Connection) -> None:
        """A commit without a row, taken back: whether types, rights and generated columns let a
        bio in must be known before the first one is bought."""
        nobody = Head(str(uuid.UUID(int=0)), 0, "")
        try:
            with conn.transaction(force_rollback=True):
                self._insert(conn, [], nobody, nobody)
        except HeadMovedError:
            pass  # as it must be: no ledger has this id
        except psycopg.Error as exc:
            if passes(exc):
                raise
            raise ConfigError(
                f"{describe(self._conninfo)}: a bio could not be written into table {self.table}:"
                f" {str(exc).strip()}; mend that, or name another with --table"
            ) from exc

    # ---- asking ---------------------------------------------------------------------------

    def ask(self, question: Callable[[psycopg.Connection], _T]) -> _T:
        """What `question` finds out by reading, ridden out as everything here."""
        return self._session.do(question)

    def known(self, ledger: str, ids: Sequence[str]) -> dict[str, Known]:
        """What is known of each of these artists (ids in canonical form), in one query."""

        def ask(conn: psycopg.Connection) -> dict[str, Known]:
            asked = {"ledger": ledger, "ids": list(ids), "table": self._table_name}
            rows = conn.execute(self._known_sql, asked)
            return {row[0]: Known(*row[1:]) for row in rows}

        return self._session.do(ask)

    def page_of_commits(
        self, ledger: str, *, after: int, limit: int, prompt_sha256: str, one_bio_each: bool
    ) -> Page:
        """The next commit rows behind this number. `one_bio_each`: no artist has two bios in this
        ledger, so that the newest need not be looked for."""

        def ask(conn: psycopg.Connection) -> Page:
            asked = {
                "ledger": ledger,
                "after": after,
                "limit": limit,
                "prompt": prompt_sha256,
                "one_each": one_bio_each,
            }
            row = conn.execute(PAGE_OF_COMMITS, asked).fetchone()
            assert row is not None
            rows, last, ids, fingerprints = row
            if ids is None:
                return Page(rows, last or after, (), ())
            return Page(rows, last, ids.split("\n"), fingerprints.split("\n"))

        return self._session.do(ask)

    # ---- runs -----------------------------------------------------------------------------

    def begin_run(self, run: str, ledger: str, version: str, settings: Mapping[str, Any]) -> None:
        def insert(conn: psycopg.Connection) -> None:
            conn.execute(
                "insert into artist_bio_gen.runs (run, ledger, host, pid, version, settings)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (run) do nothing",
                [run, ledger, socket.gethostname(), os.getpid(), version, json.dumps(settings)],
            )

        self._session.do(insert)

    def make_known(self, ledger: str, runs: Mapping[str, str]) -> None:
        """Notes runs that only the ledger tells of, with the moment of their first line."""
        if not runs:
            return

        def insert(conn: psycopg.Connection) -> None:
            conn.execute(
                "insert into artist_bio_gen.runs"
                " (run, ledger, started_at, host, pid, version, settings)"
                " select r.run, %(ledger)s, r.at, '', 0, '', '{\"restored\": true}'"
                " from unnest(%(runs)s::uuid[], %(times)s::timestamptz[]) as r(run, at)"
                " on conflict (run) do nothing",
                {"ledger": ledger, "runs": list(runs), "times": list(runs.values())},
            )

        self._session.do(insert)

    def end_run(self, run: str, exit_code: int, counts: Mapping[str, Any]) -> None:
        def update(conn: psycopg.Connection) -> None:
            conn.execute(
                "update artist_bio_gen.runs set ended_at = now(), exit_code = %s, counts = %s"
                " where run = %s",
                [exit_code, json.dumps(counts), run],
            )

        self._session.do(update)

    def writing_anew(self, ledger: str) -> tuple[int, str] | None:
        """(number, input) of a run with --again that is not finished: bios up to that number
        are to be written anew for the artists of that input. None when there is none."""

        def ask(conn: psycopg.Connection) -> tuple[int, str] | None:
            row = conn.execute(
                "select again_after, again_input from artist_bio_gen.heads"
                " where ledger = %s and again_after is not null",
                [ledger],
            ).fetchone()
            return None if row is None else (row[0], row[1])

        return self._session.do(ask)

    def set_writing_anew(self, ledger: str, after: int | None, source: str | None) -> None:
        def update(conn: psycopg.Connection) -> None:
            conn.execute(
                "update artist_bio_gen.heads set again_after = %(after)s, again_input = %(source)s,"
                " again_at = case when %(after)s::bigint is not null then now() end"
                " where ledger = %(ledger)s",
                {"after": after, "source": source, "ledger": ledger},
            )

        self._session.do(update)

    def has_transient_failures(self, ledger: str, run: str) -> bool:
        """Did calls of this run fail in a way that the next resume takes again?"""

        def ask(conn: psycopg.Connection) -> bool:
            return (
                conn.execute(
                    "select from artist_bio_gen.failures"
                    " where ledger = %s and run = %s and transient and kind <> %s limit 1",
                    [ledger, run, NO_ROW],
                ).rowcount
                > 0
            )

        return self._session.do(ask)


# With FOR UPDATE an answer waits for a transaction of a lost connection, or of a dead process,
# that still holds the row: it has committed or rolled back when this returns.
def _head_for(conn: psycopg.Connection, ledger: str, table: str) -> Head | None:
    row = conn.execute(
        "select seq, hash, table_name from artist_bio_gen.heads where ledger = %s for update",
        [ledger],
    ).fetchone()
    if row is not None and row[2] != table:
        raise ConfigError(
            f"ledger {ledger} belongs to the table {row[2]}, not to {table}; give that one with"
            " --table, or another ledger with --output"
        )
    return None if row is None else Head(ledger, row[0], row[1])


def _head(conn: psycopg.Connection, ledger: str) -> Head | None:
    row = conn.execute(
        "select seq, hash from artist_bio_gen.heads where ledger = %s for update", [ledger]
    ).fetchone()
    return None if row is None else Head(ledger, row[0], row[1])


def _page_of_lines(conn: psycopg.Connection, ledger: str, seq: int) -> list[tuple[int, str, str]]:
    return conn.execute(
        "select seq, hash, line from artist_bio_gen.commits"
        " where ledger = %s and seq > %s order by seq limit 1000",
        [ledger, seq],
    ).fetchall()
