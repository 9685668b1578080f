"""Texts compared with what the database holds, where it holds them: none of them is sent back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from artist_bio_gen.database.connect import table_identifier
from artist_bio_gen.database.ids import IdKind


@dataclass(frozen=True, slots=True)
class Compared:
    """`differs`: the artists table has a bio, and another one. `in_ledger`: is the artist's newest
    line in this ledger of the same text? None when it has none."""

    differs: bool
    in_ledger: bool | None


def compare(
    conn: psycopg.Connection,
    ledger: str,
    table: str,
    kind: IdKind,
    bios: Sequence[tuple[str, str]],
) -> list[Compared]:
    """For each artist's id, in canonical form, and text. By indexes, as `known`."""
    text = sql.SQL(
        """
    select (select coalesce(bool_or(t.bio <> '' and t.bio <> i.bio), false)
            from {table} t where t.id = i.id::{type}),
        (select c.line::json ->> 'response_text' = i.bio from artist_bio_gen.commits c
            where c.artist_id = i.id and c.ledger = %(ledger)s
            order by c.generation desc limit 1)
    from unnest(%(ids)s::text[], %(bios)s::text[]) with ordinality as i(id, bio, at)
    order by i.at
    """
    ).format(
        # In a statement with parameters a single per cent sign begins a placeholder.
        table=table_identifier(table.replace("%", "%%")),
        type=sql.SQL(kind.sql_type),  # one of the constants of ids.py
    )
    given = {"ledger": ledger, "ids": [id_ for id_, _ in bios], "bios": [bio for _, bio in bios]}
    return [Compared(*row) for row in conn.execute(text, given)]
