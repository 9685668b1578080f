"""What `repair` asks of the database, and how `restore` puts its rows right.

A `MendingStore` commits like any other, but goes more gently about the artists' table: a text
that did not come from this ledger stays, unless it was agreed that it is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg import sql

from artist_bio_gen.database.connect import at_the_start, connect_first, table_identifier
from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.database.migrate import has_commits
from artist_bio_gen.database.session import RowsRefusedError
from artist_bio_gen.database.store import BioStore, CommitRow
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.values import Head

_T = TypeVar("_T")

PAGE = 500
"""Commit rows fetched at a time."""

Commit: TypeAlias = Literal["same", "missing", "differs"]
Bio: TypeAlias = Literal["same", "no_row", "empty", "older", "differs", "newer"]


@dataclass(frozen=True, slots=True)
class RowState:
    """What the database has of a line. `commit`: its commit row. `bio`: what stands in the table
    for its artist: this text, no row, no text, the text of an older line of this ledger, another
    text; or `newer`: a newer line of the ledger is the one that counts."""

    commit: Commit
    bio: Bio


class MendingStore(BioStore):
    """A text in the table gives way only if it is one of an older line of this ledger."""

    def __init__(
        self,
        conninfo: str,
        *,
        table: str,
        on_trouble: Callable[[str], None] = lambda reason: None,
        sleep: Callable[[float], None],
    ) -> None:
        super().__init__(conninfo, table=table, on_trouble=on_trouble, sleep=sleep)
        self._gentle_sql = self._commit_sql = _put_statement(table, self.id_kind, replace=False)
        self._replacing_sql = _put_statement(table, self.id_kind, replace=True)
        self._states_sql = _states_statement(table, self.id_kind)

    # ---- for repair -----------------------------------------------------------------------

    def lines_between(
        self, ledger: str, after: int, last: int | None
    ) -> Iterator[tuple[int, str, bytes]]:
        """(number, hash, exact line) of the commit rows above `after`, up to `last` (None: all),
        in order, page by page."""
        while page := self._session.do(partial(_page, ledger=ledger, after=after, last=last)):
            for number, digest, line in page:
                yield number, digest, line.encode()
                after = number

    def faulty_rows(self, empty: Head) -> tuple[int, int]:
        """How many commit rows up to the head are missing, damaged or do not follow the one
        before, and the number of the first; (0, 0) when all are right. `empty` is the ledger's
        head before its first line."""

        def ask(conn: psycopg.Connection) -> tuple[int, int]:
            asked = {"ledger": empty.ledger, "first_prev": empty.hash}
            row = conn.execute(_FAULTY, asked).fetchone()
            assert row is not None
            return int(row[0]), int(row[1])

        return self._session.do(ask)

    # ---- for restore ----------------------------------------------------------------------

    def rows_beyond(self, ledger: str, seq: int) -> int:
        """How many commit rows have a number above `seq`."""

        def ask(conn: psycopg.Connection) -> int:
            row = conn.execute(
                "select count(*) from artist_bio_gen.commits where ledger = %s and seq > %s",
                [ledger, seq],
            ).fetchone()
            return row[0] if row else 0

        return self._session.do(ask)

    def put_aside_beyond(self, ledger: str, seq: int) -> None:
        """Takes commit rows above `seq` out; their lines are kept in replaced_bios."""

        def move(conn: psycopg.Connection) -> None:
            conn.execute(
                "with gone as (delete from artist_bio_gen.commits"
                " where ledger = %s and seq > %s returning *)"
                " insert into artist_bio_gen.replaced_bios (ledger, seq, artist_id, bio)"
                " select ledger, case when exists (select from artist_bio_gen.replaced_bios r"
                " where (r.ledger, r.seq, r.artist_id) = (gone.ledger, gone.seq, gone.artist_id))"
                " then -(extract(epoch from clock_timestamp()) * 1000000)::bigint - seq"
                " else seq end, artist_id, line from gone",
                [ledger, seq],
            )

        self._session.do(move)

    def states(self, ledger: str, rows: Sequence[CommitRow]) -> list[RowState]:
        """What the database has of each of these lines, in one query."""

        def ask(conn: psycopg.Connection) -> list[RowState]:
            found = conn.execute(self._states_sql, {"ledger": ledger} | _columns(rows))
            return [RowState(commit, bio) for commit, bio in found]

        return self._told(rows, ask)

    def put_right(self, rows: Sequence[CommitRow], head: Head, *, replace: bool = False) -> None:
        """Makes commit rows and bios of lines up to the head what the ledger says, in one
        transaction. At most one line per artist. With `replace` each text that is not the ledger's
        gives way, and is kept in artist_bio_gen.replaced_bios. HeadMovedError when the head is
        not `head`."""

        def put(conn: psycopg.Connection) -> None:
            with conn.transaction():
                self._insert(conn, rows, head, head)

        self._commit_sql = self._replacing_sql if replace else self._gentle_sql
        try:
            self._told(rows, put)
        finally:
            self._commit_sql = self._gentle_sql

    def unknown_runs(self, runs: Sequence[str]) -> list[str]:
        def ask(conn: psycopg.Connection) -> list[str]:
            rows = conn.execute(
                "select r.run::text from unnest(%s::uuid[]) as r(run) where not exists"
                " (select from artist_bio_gen.runs k where k.run = r.run)",
                [list(runs)],
            )
            return [row[0] for row in rows]

        return self._session.do(ask)

    def _insert(
        self, conn: psycopg.Connection, rows: Sequence[CommitRow], old: Head, new: Head
    ) -> str:
        # Statements of their own: a row that is deleted and inserted by one statement would meet
        # its own old key. And asked first: rights to delete are needed only where they are used.
        asked = {"ledger": old.ledger} | _columns(rows)
        statement = sql.SQL(_WRONG).format(lines=sql.SQL(_LINES), same=sql.SQL(_SAME))
        wrong = [row[0] for row in conn.execute(statement, asked)]
        if wrong:
            conn.execute(
                "delete from artist_bio_gen.commits where ledger = %s and seq = any(%s)",
                [old.ledger, wrong],
            )
        return super()._insert(conn, rows, old, new)

    def _told(self, rows: Sequence[CommitRow], work: Callable[[psycopg.Connection], _T]) -> _T:
        try:
            return self._session.do(work)
        except RowsRefusedError as exc:
            raise LedgerError(
                f"table {self.table} does not take lines {rows[0].seq} to {rows[-1].seq} of the"
                f" ledger: {exc}; is --table right?"
            ) from exc


class NoTables:
    """A database that has nothing yet, not even tables: what a restore would find there."""

    def head(self, ledger: str) -> Head | None:
        return None

    def states(self, ledger: str, rows: Sequence[CommitRow]) -> list[RowState]:
        return [RowState("missing", "no_row")] * len(rows)

    def unknown_runs(self, runs: Sequence[str]) -> list[str]:
        return list(runs)


def lacks_tables(conninfo: str) -> bool:
    """Has this database none of the program's tables, and so no commit row? ConfigError when it
    cannot be asked."""
    with at_the_start(conninfo), connect_first(conninfo) as conn:
        return not has_commits(conn)


def _columns(rows: Sequence[CommitRow]) -> dict[str, Any]:
    return {
        "seqs": [row.seq for row in rows],
        "hashes": [row.hash for row in rows],
        "lines": [row.line for row in rows],
        "runs": [row.run for row in rows],
        "ids": [row.artist_id for row in rows],
        "bios": [row.bio for row in rows],
        "generations": [row.generation for row in rows],
        "inputs": [row.input_sha256 for row in rows],
        "prompts": [row.prompt_sha256 for row in rows],
    }


def _page(
    conn: psycopg.Connection, ledger: str, after: int, last: int | None
) -> list[tuple[int, str, str]]:
    return conn.execute(
        "select seq, hash, line from artist_bio_gen.commits"
        " where ledger = %(ledger)s and seq > %(after)s"
        " and (%(last)s::bigint is null or seq <= %(last)s) order by seq limit %(page)s",
        {"ledger": ledger, "after": after, "last": last, "page": PAGE},
    ).fetchall()


# The same arithmetic as in ledger/line.py: 75 characters from `,"hash":` to the end, 74 before
# them from `,"prev":` on.
_FAULTY = """
    with head as (
        select seq from artist_bio_gen.heads where ledger = %(ledger)s
    ), rows as (
        select c.seq, c.hash, c.line, lag(c.seq, 1, 0::bigint) over way as before,
            lag(c.hash, 1, %(first_prev)s::text) over way as prev
        from artist_bio_gen.commits c where c.ledger = %(ledger)s
            and c.seq <= (select seq from head)
        window way as (order by c.seq)
    ), faults as (
        select before + 1 as seq, rows.seq - before - 1 as count from rows
        where rows.seq > before + 1
        union all
        select rows.seq, 1 from rows
        where hash <> encode(sha256(convert_to(left(line, -75), 'UTF8')), 'hex')
            or right(line, 75) <> ',"hash":"' || hash || '"}'
            or (rows.seq = before + 1
                and right(left(line, -75), 74) <> ',"prev":"' || prev || '"')
            or strpos(line, ',"seq":' || rows.seq || ',') = 0
        union all
        select (select coalesce(max(rows.seq), 0) from rows) + 1,
            head.seq - (select coalesce(max(rows.seq), 0) from rows)
        from head where head.seq > (select coalesce(max(rows.seq), 0) from rows)
    )
    select coalesce(sum(count), 0), coalesce(min(seq), 0) from faults
"""


# ---- restore's statements --------------------------------------------------------------------

# In binary form (%b): as text, each quotation mark of each line would be escaped by hand.
_LINES = """
    select * from unnest(
        %(seqs)b::bigint[], %(hashes)b::text[], %(lines)b::text[], %(runs)b::uuid[],
        %(ids)b::text[], %(bios)b::text[], %(generations)b::integer[],
        %(inputs)b::text[], %(prompts)b::text[]
    ) with ordinality
    as d(seq, hash, line, run, id, bio, generation, input_sha256, prompt_sha256, place)
"""

_SAME = """
    (c.hash, c.line, c.run, c.artist_id, c.generation, c.input_sha256, c.prompt_sha256)
    = (d.hash, d.line, d.run, d.id, d.generation, d.input_sha256, d.prompt_sha256)
"""

_WRONG = """
    with d as ({lines})
    select c.seq from d join artist_bio_gen.commits c
        on c.ledger = %(ledger)s and c.seq = d.seq
    where not {same}
    union
    select c.seq from d join artist_bio_gen.commits c
        on c.ledger = %(ledger)s and c.artist_id = d.id and c.generation = d.generation
    where c.seq <> d.seq
"""

_NEWER = """
    exists (select from artist_bio_gen.commits c
            where c.artist_id = d.id and c.ledger = %(ledger)s and c.generation > d.generation)
"""

# Postgres and the ledger's JSON escape the same characters in the same way; and unlike a cast
# to JSON, a search bears with a row that is damaged.
_OLDER = """
    exists (select from artist_bio_gen.commits c
            where c.artist_id = d.id and c.ledger = %(ledger)s and c.generation < d.generation
                and strpos(c.line, '"response_text":' || to_json(t.bio)::text || ',') > 0)
"""


def _states_statement(table: str, kind: IdKind) -> sql.Composed:
    text = """
    with d as ({lines})
    select
        case when c.seq is null then 'missing' when {same} then 'same' else 'differs' end,
        case when {newer} then 'newer'
            when t.rows = 0 then 'no_row'
            when t.same then 'same'
            when t.empty then 'empty'
            when t.older then 'older'
            else 'differs' end
    from d
    left join artist_bio_gen.commits c on c.ledger = %(ledger)s and c.seq = d.seq
    left join lateral (
        select count(*) as rows,
            bool_and(t.bio is not distinct from d.bio) as same,
            bool_and(coalesce(t.bio, '') in ('', d.bio)) as empty,
            bool_and(coalesce(t.bio, '') in ('', d.bio) or {older}) as older
        from {table} t where t.id = d.id::{type}
    ) t on true
    order by d.place
    """
    return _composed(text, table, kind)


def _put_statement(table: str, kind: IdKind, *, replace: bool) -> sql.Composed:
    """As `statements.commit_statement`, with the same parameters and the same answer. The text
    goes into the table only if it is the newest of its artist; a text that it replaces is kept,
    where that line's own place is taken by an earlier one, under the moment as a negative
    number."""
    text = """
    with moved as (
        update artist_bio_gen.heads set seq = %(new_seq)s, hash = %(new_hash)s, updated_at = now()
        where ledger = %(ledger)s and seq = %(old_seq)s and hash = %(old_hash)s
        returning seq
    ), d as (
        select d.*, n.name from ({lines}) d
        join unnest(%(names)b::text[]) with ordinality as n(name, place) using (place)
    ), committed as (
        insert into artist_bio_gen.commits (ledger, seq, run, artist_id, generation, input_sha256,
            prompt_sha256, hash, line)
        select %(ledger)s, d.seq, d.run, d.id, d.generation, d.input_sha256, d.prompt_sha256,
            d.hash, d.line
        from d where exists (select from moved) and not exists
            (select from artist_bio_gen.commits c where c.ledger = %(ledger)s and c.seq = d.seq)
    ), newest as (
        select d.* from d where exists (select from moved) and not {newer}
    ), replaced as (
        insert into artist_bio_gen.replaced_bios (ledger, seq, artist_id, bio)
        select %(ledger)s,
            case when exists (select from artist_bio_gen.replaced_bios r
                where r.ledger = %(ledger)s and r.seq = d.seq and r.artist_id = d.id
                    and r.bio <> string_agg(distinct t.bio, E'\\n\\n'))
                then -(extract(epoch from clock_timestamp()) * 1000000)::bigint
                else d.seq end,
            d.id, string_agg(distinct t.bio, E'\\n\\n')
        from newest d join {table} t on t.id = d.id::{type}
        where t.bio <> '' and t.bio <> d.bio and {gives_way}
        group by d.seq, d.id
        on conflict do nothing
    ), updated as (
        update {table} t set bio = d.bio from newest d
        where t.id = d.id::{type} and t.bio is distinct from d.bio
            and (coalesce(t.bio, '') = '' or {gives_way})
        returning t.id
    ), inserted as (
        insert into {table} (id, name, bio)
        select d.id::{type}, d.name, d.bio from newest d
        where not exists (select from {table} t where t.id = d.id::{type})
        returning 1
    )
    select exists (select from moved), (select count(*) from d), pg_current_xact_id()::text
    """
    return _composed(text, table, kind, gives_way="true" if replace else _OLDER)


def _composed(
    text: LiteralString, table: str, kind: IdKind, **parts: LiteralString
) -> sql.Composed:
    return sql.SQL(text).format(
        lines=sql.SQL(_LINES),
        same=sql.SQL(_SAME),
        newer=sql.SQL(_NEWER),
        older=sql.SQL(_OLDER),
        **{name: sql.SQL(part) for name, part in parts.items()},
        # In a statement with parameters a single per cent sign begins a placeholder.
        table=table_identifier(table.replace("%", "%%")),
        type=sql.SQL(kind.sql_type),
    )
