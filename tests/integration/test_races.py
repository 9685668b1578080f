"""What another process, the user's own table or the disk does between two of our steps."""

from __future__ import annotations

import errno
import fcntl
import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import LedgerFileError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Entry, Journal, Reply, orphans
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.resume import TakenOver, reconcile, take_over
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.counters import Counters
from artist_bio_gen.values import Artist, Done, Failed, Rejected
from tests.builders import RUN, artist, bio, failed, lines_of
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.fakes.pg_proxy import Cut, PgProxy
from tests.integration.test_committer import check_books

DEAD_RUN = "00000000-0000-4000-8000-00000000dead"
IN_TIME = 30.0
"""Seconds. What is not over by then hangs."""


class Process:
    """What a run has between its journal and the two places where bios go."""

    def __init__(self, path: Path, url: str, files: FileCalls) -> None:
        self.ledger = Ledger.open(path) if path.exists() else Ledger.create(path)
        self.store = BioStore(url, table="artists", sleep=lambda seconds: None)
        self.counters = Counters()
        self.telemetry = Telemetry(self.counters)
        self.committer = Committer(
            self.ledger,
            self.store,
            FailedFile(path, RUN, files=files),
            run=RUN,
            reconcile=lambda: reconcile(self.ledger, self.store),
            telemetry=self.telemetry,
        )
        with self.ledger.locked():
            reconcile(self.ledger, self.store)

    def close(self) -> None:
        self.ledger.close()
        self.store.close()

    def draft(self, number: int, text: str) -> Draft:
        return draft(artist(number), bio(text), ledger=self.ledger.id, run=RUN, worker=1)

    def take_over(self) -> TakenOver:
        with self.ledger.locked():
            commit = self.committer.commit_locked
            return take_over(self.ledger, self.store, commit, self.telemetry)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


Begin = Callable[..., Process]


@pytest.fixture
def begin(url: str, path: Path) -> Iterator[Begin]:
    begun: list[Process] = []

    def beginning(files: FileCalls = REAL) -> Process:
        begun.append(Process(path, url, files))
        return begun[-1]

    yield beginning
    for each in begun:
        each.close()


def in_failed_file(path: Path) -> list[tuple[str, str, str]]:
    """Run, artist and text of each line."""
    file = beside(path, "failed.jsonl")
    found = [json.loads(line) for line in lines_of(file)] if file.is_file() else []
    return [(each["run"], each["artist_id"], each["text"]) for each in found]


# ---- another process and the journal ----------------------------------------------------------


def test_a_journal_that_is_taken_for_a_dead_runs_while_it_is_begun_is_begun_again(
    path: Path,
) -> None:
    """Between its opening and its locking another process locks it, finds nothing and removes
    it: writing on into the removed file would succeed, and lose what was paid for."""
    others = 3

    def flock(fd: int, operation: int) -> None:
        nonlocal others
        if others:
            others -= 1
            for orphan in orphans(path):
                assert list(orphan.entries()) == []
                orphan.remove()
        fcntl.flock(fd, operation)

    journal = Journal(path, RUN, files=replace(REAL, flock=flock), segment_bytes=200)
    assert others == 0
    for number in range(1, 10):
        if number == 5:
            others = 2  # for a later file as well
        journal.write(Entry.intent(artist(number), 1, f"r{number}"))
        journal.write(Entry.reply(artist(number), bio(f"Paid for, {number}.")))
    journal.sync()
    assert others == 0
    journal.close()
    (orphan,) = orphans(path)
    replies = [entry for entry in orphan.entries() if isinstance(entry, Reply)]
    assert [reply.bio.text for reply in replies] == [f"Paid for, {n}." for n in range(1, 10)]


def test_a_journal_that_another_process_holds_while_it_is_begun_is_left_to_it(path: Path) -> None:
    held: list[Any] = []

    def flock(fd: int, operation: int) -> None:
        if not held:
            found = orphans(path)
            held.extend([next(found), found])  # locked until this is closed
        fcntl.flock(fd, operation)

    with Journal(path, RUN, files=replace(REAL, flock=flock)) as journal:
        journal.write(Entry.reply(artist(1), bio("Paid for.")))
        held[0].remove()
        held[1].close()
        journal.sync()
        (file,) = path.parent.glob("out.jsonl.journal.*")
        assert b"Paid for." in file.read_bytes()


# ---- another connection and the artist's row --------------------------------------------------


@contextmanager
def inserted_meanwhile(url: str, admin: psycopg.Connection, insert: str) -> Iterator[None]:
    """Somebody inserts a row, and commits as soon as whoever is in the block waits for it."""
    other = psycopg.connect(url)
    other.execute(insert)  # type: ignore[arg-type]

    def commit() -> None:
        while (
            admin.execute(
                "select from pg_stat_activity where datname = current_database()"
                " and application_name = 'artist-bio-gen' and wait_event_type = 'Lock'"
            ).fetchall()
            == []
        ):
            pass
        other.commit()

    thread = threading.Thread(target=commit, daemon=True)
    thread.start()
    yield
    thread.join(IN_TIME)
    assert not thread.is_alive(), "nobody waited for the row"
    other.close()


@pytest.mark.parametrize("beside_it", [0, 4])
def test_a_row_that_somebody_inserts_at_the_same_moment_gets_the_bio(
    begin: Begin, path: Path, url: str, admin: psycopg.Connection, beside_it: int
) -> None:
    process = begin()
    group = [process.draft(number, f"Bio {number}.") for number in range(1, beside_it + 2)]
    insert = "insert into artists values ('1', 'By the catalogue', null)"
    with inserted_meanwhile(url, admin, insert):
        outcomes = process.committer.commit(group)
    assert [type(each) for each in outcomes] == [Done] * len(group)
    found = admin.execute("select name, bio from artists where id = '1'").fetchall()
    assert found == [("By the catalogue", "Bio 1.")]
    assert len(check_books(path, admin)) == len(group)
    assert in_failed_file(path) == []
    assert admin.execute("select from artist_bio_gen.failures").fetchall() == []


def test_another_key_that_is_taken_stays_taken(
    begin: Begin, path: Path, url: str, admin: psycopg.Connection
) -> None:
    """A conflict that does not pass is met twice and not for ever."""
    admin.execute("alter table artists add unique (name)")
    process = begin()
    with inserted_meanwhile(url, admin, "insert into artists values ('x', 'Artist 1', null)"):
        outcomes = process.committer.commit([process.draft(n, f"Bio {n}.") for n in (1, 2)])
    done, refused = outcomes
    assert isinstance(done, Done)
    assert isinstance(refused, Failed)
    assert (refused.artist.id, refused.kind, refused.text) == ("1", "database", "Bio 1.")
    assert in_failed_file(path) == [(RUN, "1", "Bio 1.")]
    assert check_books(path, admin) == ["2"]


# ---- the disk and the text of a failure -------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_the_text_of_a_refusal_outlives_a_failed_file_that_cannot_be_written(
    begin: Begin, path: Path, admin: psycopg.Connection, call: str
) -> None:
    refusal = replace(failed(1), text="What was paid for.")
    files = FaultyFiles()
    process = begin(files.calls)
    with Journal(path, DEAD_RUN) as journal:
        journal.write(Entry.failure(refusal))
        journal.sync()
        files.add(Fault(call, errno.EACCES))
        with pytest.raises(LedgerFileError, match=r"failed\.jsonl"):
            process.committer.commit([refusal])
    # Were it in the table, the next start would take it for settled.
    assert admin.execute("select from artist_bio_gen.failures").fetchall() == []
    assert begin().take_over() == TakenOver(failed=1)
    assert set(in_failed_file(path)) >= {(DEAD_RUN, "1", "What was paid for.")}
    kept = admin.execute("select artist_id, run::text, attempts from artist_bio_gen.failures")
    assert kept.fetchall() == [("1", DEAD_RUN, 1)]
    assert list(orphans(path)) == []


def test_failures_of_a_dead_run_are_noted_as_its_own_and_counted_in_no_other(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    with Journal(path, DEAD_RUN) as journal:
        journal.write(Entry.failure(failed(1, transient=True, kind="overloaded")))
        journal.write(Entry.failure(replace(failed(2), text="No.")))
    process = begin()
    assert process.take_over() == TakenOver(failed=2)
    assert {run for run, _, _ in in_failed_file(path)} == {DEAD_RUN}
    runs = admin.execute("select distinct run::text from artist_bio_gen.failures").fetchall()
    assert runs == [(DEAD_RUN,)]
    now = process.counters.snapshot()
    assert (now.failed, now.seen) == (0, 0)


# ---- rows that the user's table will never take -----------------------------------------------

POISON = "".join(random.Random(15).choices([chr(code) for code in range(0x4E00, 0x9FFF)], k=4_000))
"""No compression makes it fit into an index entry."""

REFUSALS = {
    "a trigger": """create function no() returns trigger language plpgsql as $$ begin
        if new.id = '3' then raise exception 'locked by the editors'; end if; return new; end $$;
        create trigger no before insert or update on artists for each row execute function no()""",
    "an index": "create index on artists (bio)",
    "an assertion": """create function no() returns trigger language plpgsql as $$ begin
        assert new.id <> '3', 'not this one'; return new; end $$;
        create trigger no before insert or update on artists for each row execute function no()""",
    "a length": "alter table artists alter bio type varchar(1000)",
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_row_that_is_refused_for_good_does_not_stop_every_start(
    begin: Begin, path: Path, admin: psycopg.Connection, why: str
) -> None:
    admin.execute(REFUSALS[why])  # type: ignore[arg-type]
    texts = {number: POISON if number == 3 else f"Bio {number}." for number in range(1, 6)}
    with Journal(path, DEAD_RUN) as journal:
        for number, text in texts.items():
            journal.write(Entry.reply(artist(number), bio(text)))
    process = begin()
    assert process.take_over() == TakenOver(committed=4, failed=1)
    assert check_books(path, admin) == ["1", "2", "4", "5"]
    assert in_failed_file(path) == [(DEAD_RUN, "3", POISON)]
    assert list(orphans(path)) == []
    # And in the middle of a run.
    group = [process.draft(3, POISON), process.draft(6, "Bio 6.")]
    assert [type(each) for each in process.committer.commit(group)] == [Done, Failed]
    assert check_books(path, admin) == ["1", "2", "4", "5", "6"]


# ---- a lost answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["before", "after", "during"])
def test_attempts_are_added_up_over_runs_and_not_by_a_lost_answer(
    begin: Begin, url: str, admin: psycopg.Connection, cut: Cut
) -> None:
    ledger = begin().ledger.id
    runs = [str(uuid.UUID(int=n)) for n in (1, 2)]
    counts = {"7": [5, 2], "8": [1, 4]}

    def failures(at: int) -> Sequence[Failed]:
        return [
            Failed(Artist(1, id_, "A"), "timeout", "slow", attempts[at], transient=False)
            for id_, attempts in counts.items()
        ]

    with PgProxy(url) as proxy:
        store = BioStore(proxy.url, table="artists", sleep=lambda seconds: None)
        for at, run in enumerate(runs):
            proxy.cut_next = cut
            store.record(failures(at), ledger=ledger, run=run)
        store.close()
    found = admin.execute("select artist_id, attempts from artist_bio_gen.failures order by 1")
    assert found.fetchall() == [("7", 7), ("8", 5)]


def test_rejected_rows_are_told_with_the_failures(begin: Begin, path: Path) -> None:
    process = begin()
    process.committer.commit([Rejected(4, "no id", ",x")])
    assert in_failed_file(path) == [(RUN, None, ",x")]
    assert process.counters.snapshot().rejected == 1
