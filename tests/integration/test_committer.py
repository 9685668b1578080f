"""One transaction and one fsync for a group, in this order, under the lock."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import ConfigError, LedgerError, LedgerFileError, LimitError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.resume import reconcile
from artist_bio_gen.telemetry import Event, Telemetry
from artist_bio_gen.values import Done, Failed, Rejected
from tests.builders import (
    RUN,
    Heard,
    artist,
    bio,
    commit_rows,
    failed,
    lines_of,
    lines_of_ledger,
    next_lines,
)
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.fakes.pg_proxy import Cut, PgProxy
from tests.test_ledger import check_chain


@dataclass(slots=True)
class Desk:
    """One process's committer, with what it stands on."""

    ledger: Ledger
    store: BioStore
    heard: Heard = field(default_factory=Heard)
    reconciled: int = 0
    files: FileCalls = REAL

    def committer(self, *hooks: Callable[[Event], None]) -> Committer:
        return Committer(
            self.ledger,
            self.store,
            FailedFile(self.ledger.path, RUN, files=self.files),
            run=RUN,
            reconcile=self.reconcile,
            telemetry=Telemetry(self.heard, *hooks),
        )

    def reconcile(self) -> None:
        self.reconciled += 1
        reconcile(self.ledger, self.store)

    def draft(self, number: int, text: str | None = None) -> Draft:
        written = bio(text or f"Bio of artist {number}.")
        return draft(artist(number), written, ledger=self.ledger.id, run=RUN, worker=number)

    def drafts(self, *numbers: int) -> list[Draft]:
        return [self.draft(number) for number in numbers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


Sit = Callable[..., Desk]


@pytest.fixture
def sit(url: str, path: Path) -> Iterator[Sit]:
    """Another process at the same ledger and database: opened and reconciled."""
    desks: list[Desk] = []

    def sitting(*, files: FileCalls = REAL, address: str = url, **settings: object) -> Desk:
        opened = (
            Ledger.open(path, files=files) if path.exists() else Ledger.create(path, files=files)
        )
        given = {"table": "artists", "sleep": lambda seconds: None, "max_wait": 20.0} | settings
        desks.append(Desk(opened, BioStore(address, **given), files=files))  # type: ignore[arg-type]
        with opened.locked():
            reconcile(opened, desks[-1].store)
        return desks[-1]

    yield sitting
    for desk in desks:
        desk.ledger.close()
        desk.store.close()


def check_books(path: Path, admin: psycopg.Connection) -> list[str]:
    """Ledger, commit rows and bios are equal, line by line. The artists' ids, in order."""
    read = check_chain(path)
    rows = admin.execute(
        "select seq, line, hash from artist_bio_gen.commits order by seq"
    ).fetchall()
    assert [line for _, line, _ in rows] == [line.decode() for line in lines_of_ledger(path)]
    assert [(seq, digest) for seq, _, digest in rows] == [
        (each["seq"], each["hash"]) for each in read
    ]
    bios = dict(admin.execute("select id, bio from artists where bio is not null").fetchall())
    assert {each["artist_id"]: each["response_text"] for each in read} == bios
    heads = admin.execute("select seq, hash from artist_bio_gen.heads").fetchall()
    if read:
        assert heads == [(read[-1]["seq"], read[-1]["hash"])]
    return [str(each["artist_id"]) for each in read]


# ---- what goes through ------------------------------------------------------------------------


def test_a_group_is_in_the_database_and_in_the_ledger(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    committer = desk.committer()
    first = committer.commit(desk.drafts(1, 2, 3))
    second = committer.commit(desk.drafts(4))
    assert check_books(path, admin) == ["1", "2", "3", "4"]
    assert [(each.seq, each.worker) for each in first if isinstance(each, Done)] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
    (last,) = second
    assert isinstance(last, Done)
    assert (last.seq, last.hash) == (4, desk.ledger.head.hash)
    assert (last.artist, last.bio.text) == (artist(4), "Bio of artist 4.")
    assert desk.reconciled == 0


def test_events_tell_who_is_committed_and_then_who_is_appended(
    sit: Sit, admin: psycopg.Connection
) -> None:
    desk = sit()
    desk.committer().commit(desk.drafts(1, 2))
    assert desk.heard.names() == ["committed", "committed", "appended", "appended"]
    committed = desk.heard.fields("committed")[0]
    (transaction,) = admin.execute(
        "select xmin::text from artist_bio_gen.commits limit 1"
    ).fetchall()
    assert committed == {
        "run": RUN,
        "artist_id": "1",
        "artist_name": "Artist 1",
        "worker": 1,
        "duration_ms": 12.5,
        "attempts": 1,
        "db_status": "updated",
        "response_id": "resp_1",
        "transaction_id": transaction[0],
        "seq": 1,
        "hash": committed["hash"],
        "usage": {
            "input_tokens": 10,
            "cached_tokens": 0,
            "output_tokens": 20,
            "reasoning_tokens": 0,
            "total_tokens": 30,
        },
    }
    assert desk.heard.fields("appended")[1] == {
        "run": RUN,
        "artist_id": "2",
        "artist_name": "Artist 2",
        "worker": 2,
        "seq": 2,
        "hash": desk.ledger.head.hash,
    }


def test_the_database_has_committed_before_the_ledger_is_touched(
    sit: Sit, admin: psycopg.Connection, path: Path
) -> None:
    seen: list[object] = []

    def look(fd: int, data: bytes) -> int:
        if b'"artist_id"' in data:
            seen.append(admin.execute("select count(*) from artists").fetchall())
        return REAL.write(fd, data)

    desk = sit(files=replace(REAL, write=look))
    desk.committer().commit(desk.drafts(1, 2))
    assert seen == [[(2,)]]


def test_failures_and_rejected_rows_are_kept(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    outcomes = desk.committer().commit(
        [failed(7), desk.draft(1), Rejected(9, "no id", ",x", "a.csv"), failed(8, transient=True)]
    )
    assert [type(each) for each in outcomes] == [Done, Failed, Failed, Rejected]
    kept = admin.execute(
        "select artist_id, kind, transient from artist_bio_gen.failures order by 1"
    ).fetchall()
    assert kept == [("7", "refused", False), ("8", "refused", True)]
    written = [json.loads(line) for line in lines_of(beside(path, "failed.jsonl"))]
    assert [(each["artist_id"], each["row"]) for each in written] == [("7", 7), ("8", 8), (None, 9)]
    assert written[2]["file"] == "a.csv"
    assert desk.heard.names() == ["committed", "appended", "failed", "failed", "rejected"]
    assert desk.heard.fields("rejected") == [
        {"run": RUN, "row": 9, "file": "a.csv", "reason": "no id"}
    ]


def test_nothing_to_commit(sit: Sit, path: Path) -> None:
    desk = sit()
    assert desk.committer().commit([]) == []
    assert not beside(path, "failed.jsonl").exists()


# ---- what the database refuses ----------------------------------------------------------------


def test_one_bio_that_is_refused_does_not_keep_the_others_out(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    admin.execute("alter table artists alter bio type varchar(20)")
    desk = sit()
    group = [*desk.drafts(1, 2, 3, 4), desk.draft(5, "x" * 21), *desk.drafts(6, 7, 8, 9, 10)]
    outcomes = desk.committer().commit(group)
    done = [each for each in outcomes if isinstance(each, Done)]
    (refused,) = [each for each in outcomes if isinstance(each, Failed)]
    assert [each.artist.id for each in done] == ["1", "2", "3", "4", "6", "7", "8", "9", "10"]
    assert [each.seq for each in done] == list(range(1, 10))
    assert check_books(path, admin) == [each.artist.id for each in done]
    assert (refused.artist.id, refused.kind, refused.transient) == ("5", "database", False)
    assert "the database refuses the bio: value too long" in refused.reason
    assert (refused.text, refused.response_id) == ("x" * 21, "resp_1")
    (written,) = [json.loads(line) for line in lines_of(beside(path, "failed.jsonl"))]
    assert written["text"] == "x" * 21
    assert admin.execute("select artist_id from artist_bio_gen.failures").fetchall() == [("5",)]


@pytest.mark.parametrize("bad", [{1, 2, 3, 4, 5, 6}, {1}, {6}, {1, 3, 5}, {2, 4, 6}])
def test_all_that_are_refused_are_found(
    sit: Sit, path: Path, admin: psycopg.Connection, bad: set[int]
) -> None:
    admin.execute("alter table artists alter bio type varchar(20)")
    desk = sit()
    group = [desk.draft(n, "x" * 21 if n in bad else "short") for n in range(1, 7)]
    outcomes = desk.committer().commit(group)
    assert {each.artist.row for each in outcomes if isinstance(each, Failed)} == bad
    assert check_books(path, admin) == [str(n) for n in range(1, 7) if n not in bad]


def test_a_bio_that_is_there_already_is_a_duplicate(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    committer = desk.committer()
    committer.commit(desk.drafts(1))
    again = committer.commit([desk.draft(1, "Another."), desk.draft(2)])
    assert [(type(each), each.artist.id) for each in again if not isinstance(each, Rejected)] == [
        (Done, "2"),
        (Failed, "1"),
    ]
    assert [each.kind for each in again if isinstance(each, Failed)] == ["duplicate"]
    assert check_books(path, admin) == ["1", "2"]
    # It has its bio: --retry-failed must not buy another one.
    assert admin.execute("select artist_id from artist_bio_gen.failures").fetchall() == []


def test_a_row_that_went_after_it_was_looked_up(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    admin.execute("insert into artists values ('1', 'one', null), ('3', 'three', null)")
    desk = sit(insert_missing=False)
    outcomes = desk.committer().commit(desk.drafts(1, 2, 3))
    (gone,) = [each for each in outcomes if isinstance(each, Failed)]
    assert (gone.artist.id, gone.kind) == ("2", "database")
    assert "--on-missing" in gone.reason
    assert check_books(path, admin) == ["1", "3"]


def test_an_error_that_no_row_is_guilty_of_is_passed_on(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    admin.execute("drop table artists")
    with pytest.raises(ConfigError, match="42P01"):
        desk.committer().commit(desk.drafts(1, 2))
    assert path.read_bytes() == b""


# ---- several processes ------------------------------------------------------------------------


def test_processes_take_turns(sit: Sit, path: Path, admin: psycopg.Connection) -> None:
    one, other = sit(), sit()
    for number in range(1, 9, 2):
        one.committer().commit(one.drafts(number))
        other.committer().commit(other.drafts(number + 1))
    assert check_books(path, admin) == [str(number) for number in range(1, 9)]
    assert one.reconciled == other.reconciled == 0


def test_threads_of_many_desks_make_one_chain(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desks = [sit() for _ in range(4)]
    outcomes: list[int] = []

    def work(desk: Desk, first: int) -> None:
        committer = desk.committer()
        for number in range(first, first + 20, 2):
            outcomes.append(len(committer.commit(desk.drafts(number, number + 1))))

    threads = [
        threading.Thread(target=work, args=(desk, 100 * at)) for at, desk in enumerate(desks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [2] * 40
    assert len(check_books(path, admin)) == 80


def test_another_process_died_between_commit_and_append(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    files = FaultyFiles()
    dying = sit(files=files.calls)
    files.add(Fault("write", errno.EIO))
    with pytest.raises(LedgerFileError):
        dying.committer().commit(dying.drafts(1, 2))
    desk.committer().commit(desk.drafts(3))
    assert check_books(path, admin) == ["1", "2", "3"]
    assert desk.reconciled == 1


def test_another_process_died_within_its_append(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    files = FaultyFiles()
    dying = sit(files=files.calls)
    files.add(Fault("write", errno.ENOSPC, short=1000))
    with pytest.raises(LedgerFileError):
        dying.committer().commit(dying.drafts(1, 2))
    assert path.stat().st_size == 1000
    desk.committer().commit(desk.drafts(3))
    assert check_books(path, admin) == ["1", "2", "3"]
    (quarantine,) = path.parent.glob("*.quarantine.*")
    assert quarantine.stat().st_size in range(1, 1001)


def test_a_head_that_is_moved_without_the_lock_stops_the_run(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    desk.committer().commit(desk.drafts(1))
    admin.execute("update artist_bio_gen.heads set seq = 5")
    with pytest.raises(LedgerError):
        desk.committer().commit(desk.drafts(2))
    assert len(check_chain(path)) == 1


def test_a_head_that_moves_again_while_it_is_reconciled_stops_the_run(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()

    def meddle() -> None:
        desk.reconcile()
        admin.execute("update artist_bio_gen.heads set seq = seq + 1")

    committer = Committer(
        desk.ledger,
        desk.store,
        FailedFile(path, RUN),
        run=RUN,
        reconcile=meddle,
        telemetry=Telemetry(desk.heard),
    )
    desk.store.commit(commit_rows(desk.drafts(1), desk.ledger.head), old=desk.ledger.head)
    with pytest.raises(LedgerError, match="head moved again"):
        committer.commit(desk.drafts(2))
    assert len(check_chain(path)) == 1
    assert desk.heard.events == []


# ---- failing file calls, lost answers ---------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    "fault", [Fault("write"), Fault("write", short=700), Fault("fsync"), Fault("flock", nth=2)]
)
def test_an_append_that_fails_is_not_acknowledged_and_loses_nothing(
    sit: Sit, path: Path, admin: psycopg.Connection, fault: Fault, error: int
) -> None:
    files = FaultyFiles()
    desk = sit(files=files.calls)
    committer = desk.committer()
    committer.commit(desk.drafts(1))
    files.add(Fault(fault.call, error, fault.nth, short=fault.short))
    with pytest.raises(LedgerFileError):
        committer.commit(desk.drafts(2, 3))
    if fault.call != "flock":
        assert desk.heard.names().count("appended") == 1
        with pytest.raises(LedgerFileError):
            committer.commit(desk.drafts(4))
    desk.ledger.close()
    sit()
    assert check_books(path, admin) == ["1", "2", "3", "4"][: 3 + (fault.call != "flock")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("write", errno.ENOSPC, forever=True),
        Fault("write", errno.ENOSPC, forever=True, short=700),
        Fault("fsync", errno.EIO, forever=True),
    ],
)
def test_groups_behind_one_that_found_no_room_are_committed_to_the_database(
    sit: Sit, path: Path, admin: psycopg.Connection, fault: Fault
) -> None:
    files = FaultyFiles()
    desk = sit(files=files.calls)
    committer = desk.committer()
    committer.commit(desk.drafts(1))
    files.add(fault)
    for numbers in ((2, 3), (4,), (5, 6)):
        with pytest.raises(LedgerFileError):
            committer.commit(desk.drafts(*numbers))
    assert desk.heard.names().count("committed") == 6
    assert desk.heard.names().count("appended") == 1
    (count,) = admin.execute("select count(*) from artists where bio <> ''").fetchall()
    assert count == (6,)
    written = sum(name == "write" for name, _ in files.made)
    assert files.struck <= 3, written  # nothing is written behind what failed
    desk.ledger.close()
    sit()
    assert check_books(path, admin) == [str(number) for number in range(1, 7)]


def test_others_may_write_the_ledger_while_one_process_cannot(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    files = FaultyFiles()
    desk, other = sit(files=files.calls), sit()
    committer = desk.committer()
    files.add(Fault("write", errno.ENOSPC, forever=True))
    for number in (1, 3, 5):
        with pytest.raises(LedgerFileError):
            committer.commit(desk.drafts(number))
        other.committer().commit(other.drafts(number + 1))
    assert check_books(path, admin) == [str(number) for number in range(1, 7)]


def test_a_ledger_that_cannot_be_brought_up_is_left_and_the_database_goes_on(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    """Another process has died between commit and line, and there is no room for its line."""
    files = FaultyFiles()
    desk = sit(files=files.calls)
    desk.store.commit(commit_rows(desk.drafts(1), desk.ledger.head), old=desk.ledger.head)
    files.add(Fault("write", errno.ENOSPC, forever=True))
    with pytest.raises(LedgerFileError):
        desk.committer().commit(desk.drafts(2))
    desk.ledger.close()
    sit()
    assert check_books(path, admin) == ["1", "2"]


def test_without_the_file_nothing_is_committed_to_an_older_copy_of_the_database(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    files = FaultyFiles()
    desk = sit(files=files.calls)
    committer = desk.committer()
    committer.commit(desk.drafts(1))
    old = desk.ledger.head
    files.add(Fault("write", errno.ENOSPC, forever=True))
    with pytest.raises(LedgerFileError):
        committer.commit(desk.drafts(2))
    admin.execute("delete from artist_bio_gen.commits where seq = 2")
    admin.execute("update artist_bio_gen.heads set seq = %s, hash = %s", [old.seq, old.hash])
    with pytest.raises(LedgerError, match="older copy"):
        committer.commit(desk.drafts(3))
    assert desk.store.head(desk.ledger.id) == old


@pytest.mark.parametrize("in_journal", [True, False])
def test_a_failure_without_room_is_left_to_the_journal_or_noted_in_the_database(
    sit: Sit, path: Path, admin: psycopg.Connection, in_journal: bool
) -> None:
    files = FaultyFiles()
    desk = sit(files=files.calls)
    committer = desk.committer()
    files.add(Fault("write", errno.ENOSPC, forever=True, on="*.failed.jsonl"))
    with pytest.raises(LedgerFileError, match=r"failed\.jsonl"):
        committer.commit([failed(1), desk.draft(2), Rejected(9, "no id")], in_journal=in_journal)
    noted = admin.execute("select artist_id from artist_bio_gen.failures").fetchall()
    assert noted == ([] if in_journal else [("1",)])
    assert desk.heard.names().count("failed") == len(noted)
    assert desk.heard.names().count("rejected") == 0
    assert check_books(path, admin) == ["2"]


def test_a_full_disk_of_the_log_stops_the_run_and_not_the_commit(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    def fail(event: Event) -> None:
        raise LimitError("commits.log: cannot be written")

    desk = sit()
    committer = desk.committer(fail)
    for number in (1, 2):
        with pytest.raises(LedgerFileError, match=r"commits\.log"):
            committer.commit([desk.draft(number), failed(10 + number)])
    assert check_books(path, admin) == ["1", "2"]
    noted = admin.execute("select artist_id from artist_bio_gen.failures order by 1").fetchall()
    assert noted == [("11",), ("12",)]


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_failures_that_cannot_be_written_stop_the_run(
    sit: Sit, path: Path, admin: psycopg.Connection, call: str
) -> None:
    files = FaultyFiles()
    desk = sit(files=files.calls)
    files.add(Fault(call, errno.ENOSPC))
    with pytest.raises(LedgerFileError, match=r"failed\.jsonl"):
        desk.committer().commit([failed(1)])


def test_a_ledger_that_was_deleted_gets_no_further_commit(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    desk.committer().commit(desk.drafts(1))
    path.unlink()
    with pytest.raises(LedgerError, match="deleted or replaced"):
        desk.committer().commit(desk.drafts(2))
    assert admin.execute("select count(*) from artists").fetchall() == [(1,)]


def test_a_damaged_ledger_gets_no_further_commit(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    desk = sit()
    desk.committer().commit(desk.drafts(1, 2, 3))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Bio of artist 2.", b"A longer lie of artist 2."))
    with pytest.raises(LedgerError, match="damaged behind line 1"):
        # Its size has changed, so that it is looked at.
        desk.committer().commit(desk.drafts(4))
    assert admin.execute("select count(*) from artists").fetchall() == [(3,)]


def test_a_log_that_cannot_be_written_stops_the_run_and_loses_nothing(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    def fail(event: Event) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    desk = sit()
    with pytest.raises(OSError, match="No space"):
        desk.committer(fail).commit(desk.drafts(1))
    assert path.read_bytes() == b""
    desk.ledger.close()
    sit()
    assert check_books(path, admin) == ["1"]


@pytest.mark.parametrize("cut", ["before", "after", "during", "late"])
def test_a_lost_answer_of_commit_leaves_no_line_out_and_none_twice(
    sit: Sit, path: Path, url: str, admin: psycopg.Connection, cut: Cut
) -> None:
    with PgProxy(url) as proxy:
        desk = sit(address=proxy.url)
        committer = desk.committer()
        for number in range(1, 11):
            proxy.cut_next = cut
            (outcome,) = committer.commit(desk.drafts(number))
            assert isinstance(outcome, Done)
            assert outcome.seq == number
        desk.store.close()
    assert check_books(path, admin) == [str(number) for number in range(1, 11)]
    assert desk.reconciled == 0


def test_lines_that_stand_in_the_file_alone_are_put_back_before_the_next(
    sit: Sit, path: Path, admin: psycopg.Connection
) -> None:
    """As after a database that lost its last commits under a process that stayed alive."""
    desk = sit()
    with desk.ledger.locked():
        desk.ledger.append(next_lines(desk.ledger, 2))
    desk.committer().commit(desk.drafts(9))
    assert check_books(path, admin) == ["1", "2", "9"]
    assert desk.reconciled == 1
