"""Which row of an artist is the first one, for any number of rows in flat memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from artist_bio_gen.errors import LimitError
from artist_bio_gen.values import Artist, Rejected, Skipped


def without_repeats(rows: Iterable[Artist | Rejected]) -> Iterator[Artist | Rejected | Skipped]:
    """The rows, in which an artist whose id stood there before is passed over.

    The ids are kept in a temporary database, which nobody else can open and which goes with the
    process: on disk, in the folder for temporary files, past some 2 MB. LimitError when that is
    full.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as seen:
            seen.execute("pragma journal_mode = off")
            seen.execute("create temp table seen (id text primary key) without rowid")
            seen.execute("begin")
            for row in rows:
                if isinstance(row, Artist):
                    told = seen.execute("insert or ignore into seen values (?)", (row.id,))
                    yield row if told.rowcount else Skipped(row, "repeated")
                else:
                    yield row
    except sqlite3.Error as exc:
        raise LimitError(
            f"the ids of the input cannot be kept for comparing ({exc}); make room in the folder"
            " for temporary files, or name another with TMPDIR, then --resume"
        ) from exc
