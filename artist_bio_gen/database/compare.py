"""What the database holds of a ledger, read in one snapshot: to be compared line by line.

Reads only, with rights to read only. Many rows come over as one, as they are; from a server on
another machine only their hash does, since ten million rows are some 15 GB. Where that does not
fit, each row is asked for, with hashes that the server computes over what is stored now.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from artist_bio_gen.database.begun import Begun, ledgers_at
from artist_bio_gen.database.connect import connect, connect_first, describe, table_identifier
from artist_bio_gen.database.table import check_table
from artist_bio_gen.errors import ConfigError, LedgerError, LimitError
from artist_bio_gen.values import Head

LONGEST_GATHERED = 32 * 1024
"""Bytes of a line or bio. A longer one is hashed by itself, so that a batch has room in memory."""

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


@dataclass(frozen=True, slots=True)
class Gathered:
    """The commit rows behind number `after`, up to the end of their batch, in order, with what the
    table has for them now: `count` of them, `whole` ones without a null and with nothing too long
    to be gathered. Of each column their values, joined, or the SHA-256 of that: lines, numbers,
    hashes, generations, ids, bios."""

    after: int
    count: int
    whole: int
    columns: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class _Index:
    """The table's index by id. `in_order`: rows can be looked for where their neighbours stand as
    well, since no id stands there twice, and where a row stands may be asked."""

    exists: bool
    in_order: bool


class Snapshot:
    """The database at one moment. `head` is None when it does not know the ledger, `head_table`
    the table to which it says the ledger belongs, `table` the one that was named, in full.
    `hashed`: of what is gathered only the hash comes over."""

    def __init__(
        self,
        rows: psycopg.Connection,
        questions: psycopg.Connection,
        ledger: str,
        table: str,
        hashed: bool | None = None,
    ) -> None:
        self._rows = rows
        self._questions = questions
        self._ledger = ledger
        self.hashed = not _is_near(rows.info) if hashed is None else hashed
        self._named = table
        self._kind, self.table = check_table(questions, table)
        self._index = self._find_index()
        self._all_rows = self._one_by_one()
        self._row: bytes | None = None  # the next of them
        self.head: Head | None = None
        self.head_table: str | None = None
        if self._has_tables():
            row = questions.execute(
                "select seq, hash, table_name from artist_bio_gen.heads where ledger = %s",
                [ledger],
            ).fetchone()
            if row is not None:
                self.head, self.head_table = Head(ledger, row[0], row[1]), str(row[2])

    def close(self) -> None:
        self._all_rows.close()

    def gathered(self, last: int, size: int, next_text: str) -> Generator[Gathered]:
        """The commit rows up to number `last`, `size` numbers at a time. Lines and ids are joined
        by line feeds, bios by `next_text`, the others by spaces. Nothing at all where the table has
        no index by id: each batch would read the whole table."""
        if not self._index.exists:
            return
        if self._index.in_order:
            # What stands nearby is joined with the batch by its hash. All else are look-ups, which
            # are nested loops whatever is switched off.
            self._rows.execute("set local enable_hashjoin = on; set local enable_nestloop = off")
        form = sql.SQL("sha256(convert_to({}, 'UTF8'))" if self.hashed else "{}")
        statement = sql.SQL(_GATHERED).format(
            joined=sql.SQL(", ").join(
                form.format(sql.SQL(column).format(next_text=next_text)) for column in _JOINED
            ),
            rows=self._made(_NEARBY if self._index.in_order else _LOOKED_UP, size=size),
            size=size,
            last=last,
        )
        with self._rows.cursor().copy(statement) as copy:
            copy.set_types(["int8"] * 3 + ["bytea"] * len(_JOINED))
            for row in copy.rows():
                after, count, whole, *columns = row
                yield Gathered(after, count, whole, tuple(columns))

    def rows(self, first: int, last: int) -> Iterator[bytes]:
        """The commit rows with these numbers in order, in the text form of COPY: number, hash,
        artist id, generation, SHA-256 of the line, and of the artist's text in the table as it is
        now (or \\N). One for each row of the table, where an id stands there several times. Ask in
        ascending order."""
        if self._index.exists:
            statement = self._made(_ROWS, between=sql.SQL(_BETWEEN).format(first=first, last=last))
            with self._questions.cursor().copy(statement) as copy:
                yield from map(bytes, copy)
            return
        if self._row is None:
            self._row = next(self._all_rows, None)
        while self._row is not None and (number := _number(self._row)) <= last:
            if number >= first:
                yield self._row
            self._row = next(self._all_rows, None)

    def behind(self, seq: int) -> tuple[int, int] | None:
        """The first and the last number of the commit rows behind this one."""
        row = self._questions.execute(_BEHIND, [self._ledger, seq]).fetchone()
        return None if row is None or row[0] is None else (row[0], row[1])

    def outside(self, seq: int) -> list[tuple[int, int, int]]:
        """Of the commit rows that no head at this number can have: how many, the first and the last
        number. Those before the first line, then those behind the head; only where there are any.
        """
        found = self._questions.execute(_OUTSIDE, {"ledger": self._ledger, "seq": seq})
        return [(rows, first, last) for rows, first, last in found if rows]

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

    def _one_by_one(self) -> Generator[bytes]:
        """All rows. Looked up, each would read the whole table."""
        self._rows.execute(
            "set local enable_seqscan = on; set local enable_hashjoin = on;"
            " set local enable_mergejoin = on; set local work_mem = '64MB'"
        )
        with self._rows.cursor().copy(self._made(_ROWS, between=sql.SQL(""))) as copy:
            yield from map(bytes, copy)

    def _find_index(self) -> _Index:
        name = table_identifier(self._named).as_string(self._questions)
        row = self._questions.execute(_INDEX, [name]).fetchone()
        assert row is not None
        reads_ranges = self._questions.info.server_version >= _READS_RANGES
        return _Index(exists=row[0], in_order=row[1] and reads_ranges)

    def _made(self, text: LiteralString, **more: object) -> sql.Composed:
        return sql.SQL(text).format(
            ledger=sql.Literal(self._ledger),
            table=table_identifier(self._named),
            type=sql.SQL(self._kind.sql_type),  # one of the constants of ids.py
            most=LONGEST_GATHERED,
            **more,
        )


def _number(row: bytes) -> int:
    return int(row[: row.index(b"\t")])


def _is_near(server: psycopg.ConnectionInfo) -> bool:
    """Does it run on this machine?"""
    address = server.hostaddr
    return server.host.startswith("/") or bool(
        address and ipaddress.ip_address(address.partition("%")[0]).is_loopback
    )


@contextmanager
def snapshot(
    conninfo: str, ledger: str, table: str, *, hashed: bool | None = None
) -> Iterator[Snapshot]:
    """The database as it is now, whatever is written meanwhile. `hashed`: what is gathered comes
    over as its hash; None where the server is another machine. ConfigError when it cannot be
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
                    " set local idle_in_transaction_session_timeout = 0;"
                    " set local bytea_output = 'hex'"
                )
            with closing(Snapshot(rows, questions, ledger, table, hashed)) as there:
                yield there
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
        where c.ledger = {ledger}::uuid {between}
        order by c.seq
    ) to stdout
"""

_BETWEEN = "and c.seq between {first} and {last}"

_BEHIND = """
    select min(seq), max(seq) from artist_bio_gen.commits where ledger = %s and seq > %s
"""

_OUTSIDE = """
    select count(*), min(seq), max(seq) from artist_bio_gen.commits
        where ledger = %(ledger)s and seq < 1
    union all
    select count(*), min(seq), max(seq) from artist_bio_gen.commits
        where ledger = %(ledger)s and seq > %(seq)s
"""

# One message for a batch: most of what a row costs is to send and to receive it as one. A line is
# taken from the row as it is; what is too long is a null, and so are what is a null.
_GATHERED = """
    copy (
        select n.after, b.* from generate_series(0::bigint, {last} - 1, {size}) as n(after)
        cross join lateral (
            select count(*), count(*) filter (where
                    line is not null and hash is not null and generation is not null
                    and artist_id is not null and bio is not null),
                {joined}
            from ({rows} order by seq) r
        ) b
    ) to stdout (format binary)
"""

_JOINED: tuple[LiteralString, ...] = (
    "string_agg(line, E'\\n')",
    "string_agg(seq::text, ' ')",
    "string_agg(hash, ' ')",
    "string_agg(generation::text, ' ')",
    "string_agg(artist_id, E'\\n')",
    "string_agg(bio, {next_text})",
)

_LOOKED_UP = """
    select c.seq, c.hash, c.generation, c.artist_id,
        case when octet_length(c.line) <= {most} then c.line end as line,
        case when octet_length(t.bio) <= {most} then t.bio::text end as bio
    from artist_bio_gen.commits c
    left join {table} t on t.id = c.artist_id::{type}
    where c.ledger = {ledger}::uuid and c.seq > n.after and c.seq <= n.after + {size}
"""

# Artists that were committed one after the other mostly stand near each other in the table, where
# a look-up by an index whose keys are spread reads a page or two for each. So some of a batch are
# looked up, what stands around the middle one of these is read in one go, and of the others only
# those that were not there are looked up.
_NEARBY = """
    with batch as materialized (
        select seq, hash, generation, artist_id,
            case when octet_length(line) <= {most} then line end as line
        from artist_bio_gen.commits
        where ledger = {ledger}::uuid and seq > n.after and seq <= n.after + {size}
        order by seq
    ), sample as materialized (
        select t.ctid as at, (t.ctid::text::point)[0] as page
        from (
            select artist_id from batch
            where (seq - n.after) % ({size} / 8) = 1 or seq = n.after + {size}
        ) s
        cross join lateral (
            select ctid from {table} where id = s.artist_id::{type} limit 1
        ) t
    ), edges as materialized (
        select min(at) as first, max(at) as last from sample
        where abs(page - (select percentile_disc(0.5) within group (order by page) from sample))
            <= {size} / 4
    ), nearby as (
        select id, bio::text from {table}
        where ctid >= (select first from edges) and ctid <= (select last from edges)
    )
    select b.seq, b.hash, b.generation, b.artist_id, b.line,
        case when octet_length(b.bio) <= {most} then b.bio end as bio
    from (
        select b.*, case when n.id is null then l.bio else n.bio end as bio
        from batch b
        left join nearby n on n.id = b.artist_id::{type}
        left join lateral (
            select bio::text from {table}
            where id = case when n.id is null then b.artist_id::{type} end limit 1
        ) l on true
    ) b
"""

_READS_RANGES = 140000
"""The version that reads a range of a table's pages."""

# In the order of a table's pages stand only its own rows, and those of an heir can have the same
# ids. Where a row stands may be asked by who may read the whole table, and not some columns alone.
_INDEX = """
    select count(*) > 0, coalesce(bool_or(
        i.indisunique and i.indimmediate and i.indnkeyatts = 1
        and r.relkind = 'r' and not r.relhassubclass and m.amname = 'heap'
        and has_table_privilege(r.oid, 'select')), false)
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'id' and a.attnum = i.indkey[0]
    join pg_class r on r.oid = i.indrelid
    left join pg_am m on m.oid = r.relam
    where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null
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
