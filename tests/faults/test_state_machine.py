"""Whatever becomes of a ledger and its database, in any order: a start makes them equal and loses
nothing that either of them holds, or it stops and tells, which it does just when the two cannot be
brought together. And no bio that is there is bought again.

`TEST_EXAMPLES` says how many stories are told (hypothesis draws them, from TEST_SEED).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import psycopg
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerError, LedgerFileError
from tests.builders import make_ledger
from tests.fakes.faulty_files import KILLED, NAMES, Fault, FaultyFiles
from tests.faults.books import (
    Tables,
    checked,
    copy_folder,
    empty,
    keep,
    ledger_files,
    ledger_lines,
    paid_for,
    put_back,
    told_lines,
)
from tests.writer import Writer, artists, ended, forked, noted

STEPS = 15
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "300"))

COPIES = st.integers(0, 3)
MORE = st.integers(0, 4)
CALLS = st.sampled_from([*NAMES, "write", "fsync"])
NTH = st.integers(1, 25)


@dataclass(slots=True)
class Stage:
    """What all stories are told on. `counts` says how often what came to pass."""

    folder: Path
    url: str
    conn: psycopg.Connection
    stores: tuple[BioStore, BioStore]
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class Sides:
    """What ledger and database hold before a start, each as far as its lines verify. `known`:
    the database has heard of the ledger; `torn`, `damaged`: what stands behind the file's last
    good line; `noted`: what the head beside it tells of."""

    file: list[bytes]
    database: list[bytes]
    known: bool
    torn: bool
    damaged: bool
    noted: int

    @property
    def longer(self) -> list[bytes]:
        return max(self.file, self.database, key=len)

    @property
    def belong_together(self) -> bool:
        shorter = min(self.file, self.database, key=len)
        return (
            not self.damaged
            and (self.known or not self.file)
            and self.longer[: len(shorter)] == shorter
            and (not self.torn or len(self.database) > len(self.file))
            and self.noted <= len(self.longer)
        )


class Story(RuleBasedStateMachine):
    """Between two rules nobody is at work."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.conn = stage.conn
        self.counts = stage.counts
        for each in stage.folder.iterdir():
            shutil.rmtree(each)
        empty(self.conn)
        self.now = stage.folder / "now"
        self.kept = stage.folder / "kept"
        self.notes = stage.folder / "notes"
        for each in (self.now, self.kept, self.notes):
            each.mkdir()
        self.path = self.now / "out.jsonl"
        self.rows = 0
        self.time = 1_700_000_000.0
        self.databases: list[Tables] = []
        self.writer = Writer(
            path=self.path,
            database_url=stage.url,
            notes=self.notes,
            workers=2,
            segment_bytes=2_000,
            stores=stage.stores,
            clock=lambda: self.time,
        )

    @initialize(more=st.integers(1, 4))
    def begin(self, more: int) -> None:
        self.run(more)
        self.copy()

    # ---- who is at work ---------------------------------------------------------------------

    @rule(more=MORE)
    def run(self, more: int) -> None:
        self.rows += more
        self._start(lambda: self.writer.live(artists(0, self.rows)))

    @rule()
    def resume(self) -> None:
        self._start(self.writer.start)

    @rule(more=MORE, call=CALLS, nth=NTH, torn=st.booleans())
    def run_and_be_killed(self, more: int, call: str, nth: int, torn: bool) -> None:
        self.rows += more
        fault = Fault(call, nth=nth, kill=True, short=20 if torn and call == "write" else None)
        self._fail(fault)

    @rule(more=MORE, call=CALLS, nth=NTH, forever=st.booleans())
    def run_on_a_bad_disk(self, more: int, call: str, nth: int, forever: bool) -> None:
        self.rows += more
        fault = Fault(call, errno.EIO, nth, forever=forever)
        self._fail(fault)

    # ---- what happens to their files --------------------------------------------------------

    @precondition(lambda self: self.path.exists())
    @rule(size=st.integers(1, 3_000), read_as_nul=st.booleans())
    def lose_the_tail(self, size: int, read_as_nul: bool) -> None:
        """Of the newest file. One that is not the first begins with a line that was synced before
        it had its name."""
        newest = ledger_files(self.path)[-1]
        content = newest.read_bytes()
        least = 0 if newest == self.path else content.index(b"\n") + 1
        left = content[: max(least, len(content) - size)]
        newest.write_bytes(left + bytes(len(content) - len(left) if read_as_nul else 0))

    @rule()
    def copy(self) -> None:
        copy_folder(self.now, self.kept / str(len(self.databases)))
        self.databases.append(keep(self.conn))

    @rule(number=COPIES, head=st.booleans())
    def take_an_old_copy_of_the_ledger(self, number: int, head: bool) -> None:
        """With the head beside it, or without."""
        self._remove_the_ledger(head=head)
        source = self.kept / str(number % len(self.databases))
        for each in source.iterdir():
            if _is_of_the_ledger(each) or (head and each.name == "out.jsonl.head"):
                shutil.copy(each, self.now)

    @rule(number=COPIES)
    def take_an_old_copy_of_the_database(self, number: int) -> None:
        put_back(self.conn, self.databases[number % len(self.databases)])

    @rule(head=st.booleans())
    def delete_the_ledger(self, head: bool) -> None:
        self._remove_the_ledger(head=head)

    @rule(head=st.booleans())
    def replace_it_by_another(self, head: bool) -> None:
        self._remove_the_ledger(head=head)
        other = self.notes / "other.jsonl"
        make_ledger(other, 3).close()
        other.rename(self.path)
        (self.notes / "other.jsonl.head").unlink()

    @rule(hours=st.integers(-10_000, 10_000))
    def the_clock_jumps(self, hours: int) -> None:
        self.time += 3600 * hours

    def _remove_the_ledger(self, *, head: bool) -> None:
        for each in list(self.now.iterdir()):
            if _is_of_the_ledger(each) or (head and each.name == "out.jsonl.head"):
                each.unlink()

    # ---- what must hold ---------------------------------------------------------------------

    def _start(self, work: Callable[[], object]) -> None:
        """A start on a good disk, and the work behind it."""
        sides = self._sides()
        paid = paid_for(self.path)
        files = {each.name: each.read_bytes() for each in ledger_files(self.path)}
        try:
            self._watched(work)
        except LedgerFileError:
            raise
        except LedgerError:
            assert not sides.belong_together, "a false alarm"
            # Nothing was changed, and the newest whole state is brought back.
            assert {each.name: each.read_bytes() for each in ledger_files(self.path)} == files
            self.counts["told"] += 1
            self._bring_back()
            return
        assert sides.belong_together, "silently accepted"
        lines = ledger_lines(self.path)
        ids = {line["artist_id"] for line in checked(lines)}
        assert lines == self._sides().database
        assert lines[: len(sides.longer)] == sides.longer, "silently lost"
        assert paid <= ids
        assert ids <= self._bios(), "a line whose bio is not in the table"
        self.counts["made equal" if sides.file != sides.database else "were equal"] += 1
        self._keep_as_good()

    def _fail(self, fault: Fault) -> None:
        """A life in which a call fails. What it told is in the files, whatever becomes of it."""
        sides = self._sides()
        (self.notes / "told").unlink(missing_ok=True)
        files = FaultyFiles(fault)
        writer = replace(self.writer, files=files.calls)
        if fault.kill:
            alone = replace(writer, stores=None)
            status = self._watched(lambda: ended(forked(lambda: _lives(alone, self.rows))))
            assert status in (0, KILLED)
            self.counts["killed"] += status == KILLED
        else:
            self._watched(lambda: _lives(writer, self.rows))
            self.counts["failed"] += files.struck > 0
        told = set(told_lines(self.notes).values())
        assert told <= {orjson.loads(line)["hash"] for line in self._sides().file}
        if sides.belong_together:
            assert self._sides().longer[: len(sides.longer)] == sides.longer, "silently lost"

    def _watched(self, work: Callable[[], object]) -> object:
        known = self._known()
        before = len(noted(self.notes / "bill"))
        try:
            return work()
        finally:
            assert not known & set(noted(self.notes / "bill")[before:]), "bought again"

    def _known(self) -> set[str]:
        """Whose bio is there, in the database, the ledger or a journal."""
        rows = self.conn.execute("select artist_id from artist_bio_gen.commits").fetchall()
        sides = self._sides()
        if not sides.belong_together:
            return {row[0] for row in rows}
        lines = {orjson.loads(line)["artist_id"] for line in sides.file}
        return {row[0] for row in rows} | lines | paid_for(self.path)

    def _sides(self) -> Sides:
        content = b"".join(each.read_bytes() for each in ledger_files(self.path))
        noted_head = self.now / "out.jsonl.head"
        head = orjson.loads(noted_head.read_bytes()) if noted_head.exists() else None
        ledger = first_of(self.path) or (head["ledger"] if head else None)
        file, rest = ledger_as_far_as_it_verifies(self.path, ledger)
        rows = self.conn.execute(
            "select line from artist_bio_gen.commits where ledger = %s order by seq", [ledger]
        ).fetchall()
        heads = self.conn.execute(
            "select from artist_bio_gen.heads where ledger = %s", [ledger]
        ).fetchall()
        return Sides(
            file,
            [row[0].encode() for row in rows],
            known=bool(heads),
            torn=rest,
            damaged=ledger is None and bool(content),
            noted=0 if head is None else head["seq"],
        )

    def _bios(self) -> set[str]:
        rows = self.conn.execute("select id from artists where bio is not null").fetchall()
        return {row[0] for row in rows}

    def _keep_as_good(self) -> None:
        copy_folder(self.now, self.kept / "good")
        self.good = keep(self.conn)

    def _bring_back(self) -> None:
        copy_folder(self.kept / "good", self.now)
        put_back(self.conn, self.good)


def _is_of_the_ledger(path: Path) -> bool:
    return path.name == "out.jsonl.fsync-failed" or (
        path.name.endswith(".jsonl") and not path.name.endswith(".failed.jsonl")
    )


def _lives(writer: Writer, rows: int) -> None:
    """To its end, or until it stops and tells."""
    with suppress(LedgerError):
        writer.live(artists(0, rows))


def first_of(path: Path) -> str | None:
    """The ledger's id by its first line, if that is whole."""
    line = path.read_bytes().partition(b"\n")[0] if path.exists() else b""
    try:
        ledger = str(orjson.loads(line)["ledger"])
        checked([line])
    except (orjson.JSONDecodeError, AssertionError):
        return None
    return ledger


def ledger_as_far_as_it_verifies(path: Path, ledger: str | None) -> tuple[list[bytes], bool]:
    """The lines up to the first that is none, and whether anything stands there."""
    lines: list[bytes] = []
    rest = False
    hashes = [hashlib.sha256((ledger or "").encode()).hexdigest()]
    for file in ledger_files(path):
        whole = file.read_bytes().split(b"\n")
        if file != path:
            first = orjson.loads(whole[0])["seq"]
            del lines[first - 1 :], hashes[first:]
        for data in whole:
            body, _, _ = data.rpartition(b',"hash":')
            digest = hashlib.sha256(body).hexdigest()
            good = data.endswith(
                b',"prev":"%b","hash":"%b"}' % (hashes[-1].encode(), digest.encode())
            )
            rest = bool(data) and not good
            if not good:
                break
            lines.append(data)
            hashes.append(digest)
    return lines, rest


def test_whatever_happens(quick_folder: Path, url: str, admin: psycopg.Connection) -> None:
    told = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    counts: Counter[str] = Counter()
    with (
        BioStore(url, table="artists", sleep=_never) as store,
        BioStore(url, table="artists", sleep=_never) as lookups,
    ):
        stage = Stage(quick_folder, url, admin, (store, lookups), counts)

        @seed(int(os.environ.get("TEST_SEED", "20261122")))
        class OnThisStage(Story):
            def __init__(self) -> None:
                super().__init__(stage)

        run_state_machine_as_test(OnThisStage, settings=told)
    for what in ("told", "made equal", "were equal", "killed", "failed"):
        assert counts[what] > EXAMPLES // 10, f"too seldom: {what}"
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def _never(seconds: float) -> None:
    raise AssertionError("the database is not away")
