"""The statements of the hot path, in one place."""

from __future__ import annotations

from psycopg import sql

from artist_bio_gen.database.connect import table_identifier
from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.values import Failed

RECORD_FAILURE = """
    insert into artist_bio_gen.failures
        (ledger, artist_id, artist_name, run, kind, reason, attempts, transient)
    values (%s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (ledger, artist_id) do update set
        artist_name = excluded.artist_name, run = excluded.run, kind = excluded.kind,
        reason = excluded.reason, attempts = failures.attempts
            + case when failures.run = excluded.run then 0 else excluded.attempts end,
        transient = excluded.transient, failed_at = now()
"""


# Texts are sent as binary (%b): psycopg escapes an array of texts letter by letter otherwise, which
# costs more than all else of a commit.
_COMMIT = """
    with moved as (
        update artist_bio_gen.heads set seq = %(new_seq)s, hash = %(new_hash)s, updated_at = now()
        where ledger = %(ledger)s and seq = %(old_seq)s and hash = %(old_hash)s
        returning seq
    ), d as (
        select * from unnest(
            %(seqs)s::bigint[], %(hashes)b::text[], %(lines)b::text[], %(runs)b::uuid[],
            %(ids)b::text[], %(names)b::text[], %(bios)b::text[], %(generations)s::integer[],
            %(inputs)b::text[], %(prompts)b::text[]
        ) as d(seq, hash, line, run, id, name, bio, generation, input_sha256, prompt_sha256)
    ), committed as (
        insert into artist_bio_gen.commits (ledger, seq, run, artist_id, generation, input_sha256,
            prompt_sha256, hash, line)
        select %(ledger)s, d.seq, d.run, d.id, d.generation, d.input_sha256, d.prompt_sha256,
            d.hash, d.line
        from d where exists (select from moved)
    ), got_one as (
        delete from artist_bio_gen.failures f using d
        where f.ledger = %(ledger)s and f.artist_id = d.id and exists (select from moved)
    ), replaced as (
        insert into artist_bio_gen.replaced_bios (ledger, seq, artist_id, bio)
        select %(ledger)s, d.seq, d.id, string_agg(distinct t.bio, E'\\n\\n')
        from d join {table} t on t.id = d.id::{type}
        where t.bio <> '' and t.bio <> d.bio and exists (select from moved)
        group by d.seq, d.id
    ), updated as (
        update {table} t set bio = d.bio from d
        where t.id = d.id::{type} and exists (select from moved)
        returning t.id
    ), inserted as ({inserted})
    select exists (select from moved),
        (select count(distinct id) from updated) + (select count(*) from inserted),
        pg_current_xact_id()::text
"""

_INSERT_MISSING = """
        insert into {table} (id, name, bio)
        select d.id::{type}, d.name, d.bio from d
        where exists (select from moved)
          and not exists (select from updated u where u.id = d.id::{type})
          and not exists (select from {table} t where t.id = d.id::{type})
        returning 1
"""


def failure_values(failed: Failed, ledger: str, run: str) -> list[object]:
    return [
        ledger,
        failed.artist.id,
        failed.artist.name,
        run,
        failed.kind,
        # A reason quotes what a server said, which may be what text cannot hold.
        failed.reason.replace("\0", "").encode("utf-8", "replace").decode(),
        failed.attempts,
        failed.transient,
    ]


def _in_statement(table: str) -> sql.Identifier:
    # In a statement with parameters a single per cent sign begins a placeholder.
    return table_identifier(table.replace("%", "%%"))


def commit_statement(table: str, kind: IdKind, insert_missing: bool) -> sql.Composed:
    """One statement, one round trip: the head moves, or nothing is written. The bio's row is
    updated first and inserted only where there is none (one that a trigger keeps from being updated
    is there), so that a table needs no unique constraint, and columns of the user's that may not be
    null only matter for new rows. A failure is noted only as long as it is the newest that is known
    of its artist."""
    type_ = sql.SQL(kind.sql_type)  # one of the constants of ids.py
    inserted = _INSERT_MISSING if insert_missing else "select 1 where false"
    return sql.SQL(_COMMIT).format(
        inserted=sql.SQL(inserted).format(table=_in_statement(table), type=type_),
        table=_in_statement(table),
        type=type_,
    )


def known_statement(table: str, kind: IdKind) -> sql.Composed:
    """One query for many artists: made of look-ups by index, whatever the tables' sizes."""
    type_ = sql.SQL(kind.sql_type)
    return sql.SQL(
        """
    select i.id, t.has_bio is not null, coalesce(t.has_bio, false),
        c.generation, c.seq, c.run::text, c.input_sha256, c.prompt_sha256,
        exists (select from artist_bio_gen.commits o join artist_bio_gen.heads h using (ledger)
                where o.artist_id = i.id and o.ledger <> %(ledger)s
                  and h.table_name = %(table)s),
        f.run::text, f.transient, f.failed_at < g.again_at
    from unnest(%(ids)b::text[]) as i(id)
    left join artist_bio_gen.heads g on g.ledger = %(ledger)s
    left join lateral (
        select coalesce(bool_or(t.bio <> ''), false) as has_bio from {table} t
        where t.id = i.id::{type} having count(*) > 0
    ) t on true
    left join lateral (
        select c.* from artist_bio_gen.commits c
        where c.artist_id = i.id and c.ledger = %(ledger)s
        order by c.generation desc limit 1
    ) c on true
    left join lateral (
        select f.run, f.transient, f.failed_at from artist_bio_gen.failures f
        where f.ledger = %(ledger)s and f.artist_id = i.id limit 1
    ) f on true
    """
    ).format(table=_in_statement(table), type=type_)


# Two texts instead of thousands of rows: they are much quicker to receive. Artists with what
# parts the texts in their ids are left out, as are bios that are not the artist's newest: to look
# for a newer one costs as much as all else, so it is not done where each artist has one. By the
# primary key, whose order the inner part gives.
PAGE_OF_COMMITS = """
    select count(*), max(c.seq), string_agg(c.artist_id, E'\\n') filter (where plain),
        string_agg(c.input_sha256 || case when c.prompt_sha256 = %(prompt)s then '' else '!' end,
            E'\\n') filter (where plain)
    from (
        select seq, artist_id, input_sha256, prompt_sha256,
            strpos(artist_id, E'\\n') = 0 and octet_length(input_sha256) = 64
                and case when %(one_each)s then generation = 1 else not exists (
                    select from artist_bio_gen.commits n where n.artist_id = o.artist_id
                        and n.ledger = o.ledger and n.generation > o.generation) end as plain
        from artist_bio_gen.commits o
        where ledger = %(ledger)s and seq > %(after)s order by seq limit %(limit)s
    ) c
"""
