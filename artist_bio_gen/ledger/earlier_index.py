"""Which line of an artist counts, for a file of any size in flat memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from artist_bio_gen.ledger.earlier import Again, Good, OldLine


class Index:
    """The line that counts for each artist, and the artists without one. In a temporary database
    that nobody else can open and that goes with the process; on disk, in the folder for temporary
    files, past some 2 MB."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("pragma journal_mode = off")
        self._database.execute(
            "create temp table good (id text primary key, created int, line int, offset int,"
            " size int) without rowid"
        )
        self._database.execute(
            "create temp table again (id text primary key, name text, line int, reason text,"
            " error text) without rowid"
        )
        self._database.execute("begin")

    def close(self) -> None:
        self._database.close()

    def good(self, line: OldLine, good: Good) -> None:
        """The newest by `created` counts where both tell one and they differ, else the later."""
        self._database.execute(
            "insert into good values (?, ?, ?, ?, ?) on conflict do update set"
            " created = excluded.created, line = excluded.line, offset = excluded.offset,"
            " size = excluded.size"
            " where coalesce(excluded.created >= good.created, true)",
            (good.id, good.created, line.number, line.offset, len(line.data or b"")),
        )

    def again(self, line: OldLine, again: Again) -> None:
        self._database.execute(
            "insert or replace into again values (?, ?, ?, ?, ?)",
            (again.id, again.name, line.number, again.reason, again.error),
        )

    def artists(self) -> int:
        return int(self._database.execute("select count(*) from good").fetchone()[0])

    def without_bio(self) -> Iterator[tuple[str, str, int, str, str]]:
        """(id, name, line, reason, error) of artists who have no good line."""
        return self._database.execute(
            "select * from again where not exists (select 1 from good where good.id = again.id)"
            " order by line"
        )

    def chosen(self) -> Iterator[tuple[int, int, int]]:
        """(line, offset, size) of the lines that count, in the file's order."""
        return self._database.execute("select line, offset, size from good order by line")
