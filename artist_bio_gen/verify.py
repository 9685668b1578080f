"""A ledger checked by itself, and against the database: do both tell the same?

The files come first and the database's snapshot after: each line is in the database before a byte
of it is in a file. So what was in the files then has to be in the snapshot, whatever a run adds
to both meanwhile; and what the snapshot has more has to be in the files once the run has let go
of the ledger.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artist_bio_gen.database.begun import known_of, way_back
from artist_bio_gen.database.compare import Snapshot, Stored, snapshot
from artist_bio_gen.ledger.line import is_whole, seq_of
from artist_bio_gen.ledger.verify import EXAMPLES, Check, Difference, Kind, Lines, Report
from artist_bio_gen.values import Head, path_text

_RANGE_BYTES = 128 * 1024
"""Read at a time, so that the server is not kept waiting: what it computes meanwhile has to find
room in the connection."""

_LOOKED_AT = 500
"""Lines that do not fit, asked about at a time."""


@dataclass(frozen=True, slots=True)
class Compared:
    """With what the ledger was compared. `table` is the whole name, `head` None when the database
    does not know the ledger; `lines` were compared."""

    table: str
    head: Head | None
    lines: int


def verify(
    ledger: Path,
    database: str,
    *,
    table: str,
    processes: int = 1,
    expect: str | None = None,
    examples: int | None = EXAMPLES,
    progress: Callable[[int, int], None] = lambda done, total: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Report, Compared]:
    """`ledger.verify.check`, and the comparison with the database at this address. Nothing is
    changed on either side. Raises what `check` and `database.compare.snapshot` raise."""
    with Check(
        ledger,
        processes=processes,
        expect=expect,
        examples=examples,
        with_records=True,
        progress=progress,
        range_bytes=_RANGE_BYTES,
        sleep=sleep,
    ) as checking:
        with snapshot(database, checking.id or _NOBODY, table) as there:
            if wrong := _wrong_database(checking, there):
                checking.found.add(
                    Difference("wrong_database", None, checking.ledger, None, None, wrong)
                )
            elif lost := _lost(checking, there):
                checking.found.add(lost)
            if wrong or there.head is None:
                lines = 0
                for _ in checking.lines():
                    pass
            else:
                checking.require("the database's head", there.head.seq, there.head.hash)
                comparison = _Comparison(checking, there, there.head)
                comparison.run()
                lines = comparison.compared
            compared = Compared(there.table, there.head, lines)
        return checking.report(), compared


_NOBODY = "00000000-0000-0000-0000-000000000000"
"""No ledger has this id."""


def _wrong_database(checking: Check, there: Snapshot) -> str | None:
    if there.head is None:
        if checking.is_empty:
            return None
        if checking.id is None:
            return "nothing tells the ledger's id, so it cannot be looked for in the database"
        return f"the database does not know this ledger ({checking.id})"
    if there.head_table != there.table:
        return f"the database has it for the table {there.head_table}, not for {there.table}"
    return None


def _lost(checking: Check, there: Snapshot) -> Difference | None:
    """An empty ledger, of which the database has lines all the same, since it knows the path."""
    if there.head is not None:
        return None
    begun = [] if checking.id else there.begun_at(path_text(checking.ledger.resolve()))
    if not begun:
        checking.notes.append("neither ledger nor database has a line of it")
        return None
    what = (
        f"no line and no {checking.ledger.name}.head tell which ledger it is. {known_of(begun)};"
        f" {way_back(checking.ledger, begun)} brings it back"
    )
    return Difference("missing_line", 1, checking.ledger, 0, None, what, begun[0][1])


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A line whose row is not what it has to be."""

    record: list[bytes]
    row: list[bytes]
    file: Path
    offset: int

    @property
    def key(self) -> tuple[int, str, int]:
        return int(self.record[0]), _text(self.record[2]), int(self.record[3])


class _Comparison:
    """Lines and rows side by side, both in the order of their numbers."""

    def __init__(self, checking: Check, there: Snapshot, head: Head) -> None:
        self._checking = checking
        self._there = there
        self._head = head
        self._rows = there.rows()
        self._row = next(self._rows, None)
        self._last: tuple[bytes, Path, int] | None = None  # the line compared last
        self._doubts: list[_Doubt] = []
        self._elsewhere = 0
        self.compared = 0

    def run(self) -> None:
        checking = self._checking
        for lines in checking.lines():
            self._compare(lines)
        self._pass_rows(checking.seq)
        if self._row is not None and checking.judged:
            for lines in checking.read_on():
                self._compare(lines)
            self._pass_rows(checking.seq)
        self._look_at_doubts()
        if checking.judged:
            self._tell_rows_behind()
        self._tell_unknown_runs()
        if self._elsewhere:
            checking.notes.append(
                f"{self._elsewhere:,} artists have the text that another ledger of the table"
                f" {self._there.table} has for them"
            )

    def _compare(self, lines: Lines) -> None:
        records = lines.records
        if lines.late:  # these may be younger than the snapshot
            records = [each for each in records if _number(each) <= self._head.seq]
        row, rows = self._row, self._rows
        for index, record in enumerate(records):
            if record == row:
                row = next(rows, None)
                continue
            self._row = row
            if index:
                self._last = (records[index - 1], lines.file, lines.offsets[index - 1])
            self._compare_slowly(record, lines.file, lines.offsets[index])
            row = self._row
        self._row = row
        if records:
            self._last = (records[-1], lines.file, lines.offsets[len(records) - 1])
        self.compared += len(records)

    def _compare_slowly(self, record: bytes, file: Path, offset: int) -> None:
        seq = _number(record)
        self._pass_rows(seq - 1)
        if self._row is not None and _number(self._row) == seq:
            if self._row != record:
                self._doubt(_Doubt(record.split(b"\t"), self._row.split(b"\t"), file, offset))
            self._row = next(self._rows, None)
        else:
            artist_id = _text(record.split(b"\t")[2])
            self._add("missing_row", seq, file, offset, artist_id, "has no commit row")

    def _pass_rows(self, last: int) -> None:
        """Rows up to this number that no line asked for: the ledger lacks the line, which is told
        with the files; or the artist stands in the table more than once."""
        while self._row is not None and (number := _number(self._row)) <= last:
            if self._last is not None and _number(self._last[0]) == number:
                record, file, offset = self._last
                if self._row != record:
                    self._doubt(_Doubt(record.split(b"\t"), self._row.split(b"\t"), file, offset))
            self._row = next(self._rows, None)

    def _doubt(self, doubt: _Doubt) -> None:
        self._doubts.append(doubt)
        if len(self._doubts) == _LOOKED_AT:
            self._look_at_doubts()

    def _look_at_doubts(self) -> None:
        stored = self._there.look_at([doubt.key for doubt in self._doubts])
        for doubt, there in zip(self._doubts, stored, strict=True):
            self._judge(doubt, there)
        self._doubts.clear()

    def _judge(self, doubt: _Doubt, there: Stored) -> None:
        seq, artist_id, _ = doubt.key
        place = (seq, doubt.file, doubt.offset, artist_id)
        if doubt.record[:5] != doubt.row[:5]:
            line_differs = doubt.record[4] != doubt.row[4]
            if line_differs and _is_line(there, seq):
                self._add("wrong_database", *place, f"the database has another line {seq}")
                return
            changed = "line" if line_differs else "columns"
            self._add("text_differs", *place, f"the {changed} of its commit row changed")
            if doubt.record[2] != doubt.row[2]:
                return  # the text is another artist's
        if doubt.record[5] == doubt.row[5] or not there.newest:
            return
        if not there.has_row:
            self._add("missing_row", *place, f"its artist has no row in {self._there.table}")
        elif there.elsewhere:
            self._elsewhere += 1
        else:
            self._add("text_differs", *place, f"another text stands in {self._there.table}")

    def _tell_rows_behind(self) -> None:
        """Commit rows behind the ledger's last line, and a head behind the last of these."""
        first = last = self._checking.seq
        if self._row is not None:
            first = last = _number(self._row)
            for row in self._rows:
                last = _number(row)
            file, end = self._checking.end
            what = (
                f"the database has lines up to {last}, which the ledger lacks; the next start with"
                " --resume appends them"
            )
            self._add("missing_line", first, file, end, None, what, last - first + 1)
        if last < self._head.seq:
            what = f"the database's head is line {self._head.seq}, its commit rows end with {last}"
            count = self._head.seq - last
            self._add("missing_row", last + 1, None, None, None, what, count)

    def _tell_unknown_runs(self) -> None:
        known = self._there.runs()
        for run, seen in self._checking.runs.items():
            if run not in known and seen.seq <= self._head.seq:
                what = f"the database does not know the run {run}"
                self._add("unknown_run", seen.seq, seen.file, seen.offset, None, what, seen.lines)

    def _add(
        self,
        kind: Kind,
        seq: int,
        file: Path | None,
        offset: int | None,
        artist_id: str | None,
        what: str,
        count: int = 1,
    ) -> None:
        self._checking.found.add(Difference(kind, seq, file, offset, artist_id, what, count))


def _number(record: bytes) -> int:
    return int(record[: record.index(b"\t")])


def _is_line(there: Stored, seq: int) -> bool:
    """Does the commit row hold a whole line of this number?"""
    return there.line is not None and is_whole(there.line) and seq_of(there.line) == seq


def _text(copied: bytes) -> str:
    """A text as COPY writes it."""
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], copied.decode())


# PostgreSQL manual, COPY, text format.
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
