"""What the database holds of a ledger, read in one snapshot: to be compared line by line.

Reads only, with rights to read only. The server computes the hashes over what is stored now; a
text crosses over only where something does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from artist_bio_gen.database.begun import Begun, ledgers_at
from artist_bio_gen.database.connect import connect, connect_first, describe, table_identifier
from artist_bio_gen.database.table import check_table
from artist_bio_gen.errors import ConfigError, LedgerError, LimitError
from artist_bio_gen.values import Head

_LACKS_RIGHTS = "42501"
_WRONG_VALUE = "22"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database has of the line with this number. `line` is None without a commit row.
    `newest`: this is the newest bio of its artist in this ledger. `has_row`: the artist stands in
    the table; `elsewhere`: with the text that another ledger of the same table has for it."""

    seq: int
    hash: str | None
    line: bytes | None
    newest: bool
    has_row: bool
    elsewhere: bool


class Snapshot:
    """The database at one moment. `head` is None when it does not know the ledger, `head_table`
    the table to which it says the ledger belongs, `table` the one that was named, in full."""

    def __init__(
        self,
        rows: psycopg.Connection,
        questions: psycopg.Connection,
        ledger: str,
        table: str,
    ) -> None:
        self._rows = rows
        self._questions = questions
        self._ledger = ledger
        self._named = table
        self._kind, self.table = check_table(questions, table)
        self.head: Head | None = None
        self.head_table: str | None = None
        if self._has_tables():
            row = questions.execute(
                "select seq, hash, table_name from artist_bio_gen.heads where ledger = %s",
                [ledger],
            ).fetchone()
            if row is not None:
                self.head, self.head_table = Head(ledger, row[0], row[1]), str(row[2])

    def rows(self) -> Iterator[bytes]:
        """The commit rows in order, in the text form of COPY: number, hash, artist id, generation,
        SHA-256 of the line, and of the artist's text in the table as it is now (or \\N). One for
        each row of the table, where an id stands there several times."""
        if not self._has_index():
            # Looked up one by one, each would read the whole table.
            self._rows.execute(
                "set local enable_seqscan = on; set local enable_hashjoin = on;"
                " set local enable_mergejoin = on; set local work_mem = '64MB'"
            )
        statement = sql.SQL(_ROWS).format(
            ledger=sql.Literal(self._ledger),
            table=table_identifier(self._named),
            type=sql.SQL(self._kind.sql_type),  # one of the constants of ids.py
        )
        with self._rows.cursor().copy(statement) as copy:
            for row in copy:
                yield bytes(row)

    def look_at(self, lines: Sequence[tuple[int, str, int]]) -> list[Stored]:
        """What there is of these lines: number, artist id and generation as the ledger has them."""
        statement = sql.SQL(_LOOK_AT).format(
            # In a statement with parameters a single per cent sign begins a placeholder.
            table=table_identifier(self._named.replace("%", "%%")),
            type=sql.SQL(self._kind.sql_type),
        )
        asked = {
            "ledger": self._ledger,
            "table": self.table,
            "seqs": [seq for seq, _, _ in lines],
            "ids": [artist_id for _, artist_id, _ in lines],
            "generations": [generation for _, _, generation in lines],
        }
        return [
            Stored(seq, digest, None if line is None else line.encode(), *others)
            for seq, digest, line, *others in self._questions.execute(statement, asked)
        ]

    def runs(self) -> set[str]:
        """The runs it knows, whatever their ledger."""
        return {row[0] for row in self._questions.execute(_RUNS)}

    def begun_at(self, path: str) -> Begun:
        """The ledgers that were begun at this absolute path and have lines."""
        return ledgers_at(self._questions, path) if self._has_tables() else []

    def _has_tables(self) -> bool:
        row = self._questions.execute("select to_regclass('artist_bio_gen.heads')").fetchone()
        return row is not None and row[0] is not None

    def _has_index(self) -> bool:
        name = table_identifier(self._named).as_string(self._questions)
        row = self._questions.execute(_HAS_INDEX, [name]).fetchone()
        return bool(row and row[0])


@contextmanager
def snapshot(conninfo: str, ledger: str, table: str) -> Iterator[Snapshot]:
    """The database as it is now, whatever is written meanwhile. ConfigError when it cannot be
    read, or the table does not fit; LimitError when it goes away in between."""
    where = describe(conninfo)
    with ExitStack() as stack:
        rows = stack.enter_context(connect_first(conninfo))
        try:
            questions = stack.enter_context(connect(conninfo))
            for conn in (rows, questions):
                conn.read_only = True
                conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                conn.autocommit = False
            found = rows.execute("select pg_export_snapshot()").fetchone()
            assert found is not None
            questions.execute(sql.SQL("set transaction snapshot {}").format(found[0]))
            for conn in (rows, questions):
                # One waits while the other is asked, and a large ledger takes minutes.
                conn.execute(
                    "set local statement_timeout = 0;"
                    " set local idle_in_transaction_session_timeout = 0"
                )
            rows.execute("set local bytea_output = 'hex'")
            yield Snapshot(rows, questions, ledger, table)
        except psycopg.Error as exc:
            text = str(exc).strip()
            if exc.sqlstate == _LACKS_RIGHTS:
                raise ConfigError(
                    f"{where}: {text}; the right to read the tables is enough: let their owner"
                    " grant it"
                ) from exc
            if exc.sqlstate is not None and exc.sqlstate.startswith(_WRONG_VALUE):
                raise LedgerError(
                    f"{where}: a commit row holds an artist's id that table {table} cannot hold:"
                    f" {text}; was the type of its id column changed?"
                ) from exc
            raise LimitError(
                f"{where}: could not be read to the end: {text}; verify again when it is back"
            ) from exc


# By the primary key, in its order, and look-ups by index: the first row comes at once, and nothing
# is sorted (see `connect`, which switches off other plans).
_ROWS = """
    copy (
        select c.seq, c.hash, c.artist_id, c.generation,
            sha256(convert_to(c.line, 'UTF8')), sha256(convert_to(t.bio, 'UTF8'))
        from artist_bio_gen.commits c
        left join {table} t on t.id = c.artist_id::{type}
        where c.ledger = {ledger}::uuid
        order by c.seq
    ) to stdout
"""

# A bio of another ledger is told by the line of its commit row: Postgres escapes a text as the
# ledger does, and unlike a cast to JSON, a search bears with a row that is damaged.
_LOOK_AT = """
    select q.seq, c.hash, c.line,
        not exists (
            select from artist_bio_gen.commits n where n.artist_id = q.id
                and n.ledger = %(ledger)s and n.generation > q.generation),
        exists (select from {table} t where t.id = q.id::{type}),
        exists (
            select from artist_bio_gen.commits o join artist_bio_gen.heads h using (ledger)
            join {table} t on t.id = q.id::{type}
            where o.artist_id = q.id and o.ledger <> %(ledger)s and h.table_name = %(table)s
                and strpos(o.line, '"response_text":' || to_json(t.bio)::text || ',') > 0)
    from unnest(%(seqs)s::bigint[], %(ids)s::text[], %(generations)s::integer[])
        with ordinality as q(seq, id, generation, place)
    left join artist_bio_gen.commits c on c.ledger = %(ledger)s and c.seq = q.seq
    order by q.place
"""

_RUNS = "select run::text from artist_bio_gen.runs"

_HAS_INDEX = """
    select exists (
        select from pg_index i join pg_attribute a
            on a.attrelid = i.indrelid and a.attname = 'id' and a.attnum = i.indkey[0]
        where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null)
"""
