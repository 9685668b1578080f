"""A ledger checked by itself, and against the database: do both tell the same?

The files come first and the database's snapshot after: each line is in the database before a byte
of it is in a file. So what was in the files then has to be in the snapshot, whatever a run adds
to both meanwhile; and what the snapshot has more has to be in the files once the run has let go
of the ledger.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from artist_bio_gen.database.begun import known_of, way_back
from artist_bio_gen.database.compare import LONGEST_GATHERED, Gathered, Snapshot, Stored, snapshot
from artist_bio_gen.ledger.line import is_whole, seq_of
from artist_bio_gen.ledger.scan import NEXT_TEXT, TOGETHER, Batch, Facts, record
from artist_bio_gen.ledger.verify import EXAMPLES, Check, Difference, Kind, Lines, Report
from artist_bio_gen.values import Head, path_text

_RANGE_BYTES = 256 * 1024
"""Read at a time: as much as is still in the processor's cache when it is compared."""

_PENDING_BYTES = TOGETHER * LONGEST_GATHERED
"""Lines that wait for the rest of their batch."""

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
    hashed: bool | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Report, Compared]:
    """`ledger.verify.check`, and the comparison with the database at this address. Nothing is
    changed on either side. `hashed`: the server hashes what it has, instead of sending it; None
    where it is another machine. Raises what `check` and `database.compare.snapshot` raise."""
    with Check(
        ledger,
        processes=processes,
        expect=expect,
        examples=examples,
        with_batches=True,
        progress=progress,
        range_bytes=_RANGE_BYTES,
        sleep=sleep,
    ) as checking:
        with snapshot(database, checking.id or _NOBODY, table, hashed=hashed) as there:
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
                with closing(
                    there.gathered(there.head.seq, TOGETHER, NEXT_TEXT.decode())
                ) as gathered:
                    comparison = _Comparison(checking, there, there.head, gathered)
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


@dataclass(frozen=True, slots=True)
class _Pending:
    """Lines on their way to be compared, and the file in which they stand."""

    file: Path
    batch: Batch


class _Comparison:
    """Lines and rows side by side, both in the order of their numbers: a batch at once, and line
    by line what is no whole batch or differs."""

    def __init__(
        self, checking: Check, there: Snapshot, head: Head, gathered: Iterator[Gathered]
    ) -> None:
        self._checking = checking
        self._there = there
        self._head = head
        self._gathered = gathered
        self._pending: list[_Pending] = []  # these follow each other
        self._rows: Iterator[bytes] = iter(())  # of the lines that are compared one by one
        self._row: bytes | None = None
        self._last: tuple[bytes, Path, int] | None = None  # the line compared last
        self._doubts: list[_Doubt] = []
        self._elsewhere = 0
        self.compared = 0

    def run(self) -> None:
        checking = self._checking
        for lines in checking.lines():
            self._take(lines)
        if checking.judged and self._there.behind(checking.seq):
            for lines in checking.read_on():
                self._take(lines)
        self._settle()
        self._look_at_doubts()
        if checking.judged:
            self._tell_rows_behind()
        self._tell_rows_outside()
        self._tell_unknown_runs()
        if self._elsewhere:
            checking.notes.append(
                f"{self._elsewhere:,} artists have the text that another ledger of the table"
                f" {self._there.table} has for them"
            )

    def _take(self, lines: Lines) -> None:
        for batch in lines.batches:
            if lines.late:  # these may be younger than the snapshot
                if batch.first > self._head.seq:
                    return
                batch = batch.between(batch.first, self._head.seq)
            if self._pending and batch.first != self._pending[-1].batch.last + 1:
                self._settle()
            self._pending.append(_Pending(lines.file, batch))
            waiting = sum(len(each.batch.lines) for each in self._pending)
            if batch.last % TOGETHER == 0 or waiting > _PENDING_BYTES:
                self._settle()

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        if not self._is_same([each.batch for each in pending]):
            self._compare_each(pending)
        self.compared += sum(each.batch.count for each in pending)

    def _is_same(self, batches: list[Batch]) -> bool:
        """Is this a whole batch, and do all its rows tell the same? Then each does: an expected
        value holds nothing of what parts it from the next, and of each row a value was joined."""
        after = batches[0].first - 1
        facts = _joined(batches)
        if after % TOGETHER or facts is None:
            return False
        there = next((each for each in self._gathered if each.after >= after), None)
        count = batches[-1].last - after
        if there is None or (there.after, there.count, there.whole) != (after, count, count):
            return False
        expected: tuple[bytes, ...] = (
            b"".join(batch.lines for batch in batches)[:-1],
            b" ".join(b"%d" % seq for seq in range(after + 1, after + count + 1)),
            facts.hashes,
            facts.generations,
            facts.ids,
            facts.texts,
        )
        if self._there.hashed:
            expected = tuple(hashlib.sha256(column).digest() for column in expected)
        return expected == there.columns

    def _compare_each(self, pending: list[_Pending]) -> None:
        last = pending[-1].batch.last
        self._rows = iter([*self._there.rows(pending[0].batch.first, last)])
        self._row = next(self._rows, None)
        self._last = None
        for each in pending:
            for seq, offset, data in each.batch.each():
                line = record(seq, data)
                if line == self._row:
                    self._row = next(self._rows, None)
                else:
                    self._compare_slowly(line, each.file, offset)
                self._last = (line, each.file, offset)
        self._pass_rows(last)

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
        if (behind := self._there.behind(last)) is not None:
            first, last = behind
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

    def _tell_rows_outside(self) -> None:
        """Commit rows that the database's own head does not reach: a commit moves it with them."""
        for rows, first, last in self._there.outside(self._head.seq):
            if first < 1:
                what = f"the database has commit rows {first} to {last}; the first line is 1"
                self._add("chain_break", None, None, None, None, what, rows)
            else:
                seq = self._head.seq
                what = f"the database's head is line {seq}, its commit rows end with {last}"
                self._add("chain_break", first, None, None, None, what, rows)

    def _tell_unknown_runs(self) -> None:
        known = self._there.runs()
        for run, seen in self._checking.runs.items():
            if run not in known and seen.seq <= self._head.seq:
                what = f"the database does not know the run {run}"
                self._add("unknown_run", seen.seq, seen.file, seen.offset, None, what, seen.lines)

    def _add(
        self,
        kind: Kind,
        seq: int | None,
        file: Path | None,
        offset: int | None,
        artist_id: str | None,
        what: str,
        count: int = 1,
    ) -> None:
        self._checking.found.add(Difference(kind, seq, file, offset, artist_id, what, count))


def _joined(batches: list[Batch]) -> Facts | None:
    """Of lines that follow each other; None where they are not known of all."""
    joined = batches[0].facts
    for batch in batches[1:]:
        if joined is None or batch.facts is None:
            return None
        joined = joined.joined(batch.facts)
    return joined


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
