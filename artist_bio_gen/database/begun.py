"""Which ledgers were begun at a path, for one whose files do not tell any more which it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import psycopg

Begun: TypeAlias = Sequence[tuple[str, int]]
"""(id, number of the last line) of ledgers that have lines, the one used last first."""


def ledgers_at(conn: psycopg.Connection, path: str) -> Begun:
    """Those that were begun at this absolute path, on whatever machine."""
    return conn.execute(
        "select ledger::text, seq from artist_bio_gen.heads where path = %s and seq > 0"
        " order by updated_at desc",
        [path],
    ).fetchall()


def known_of(begun: Begun) -> str:
    """A sentence that names them."""
    told = ", ".join(f"{each} (line {seq:,})" for each, seq in begun)
    return f"The database knows of this path: {told}"


def way_back(ledger: Path, begun: Begun) -> str:
    """The command that brings the one used last back."""
    return f"artist-bio-gen repair {ledger} --ledger-id {begun[0][0]}"
