"""Ledger, journal and database brought to one state, and what is then left to do."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.database.store import BioStore, Known
from artist_bio_gen.errors import LedgerError, LedgerFileError
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.journal import Entry, Intent, Journal, orphans
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.ledger.segments import beside, segment_path
from artist_bio_gen.pending import CHUNK, Rules, pending, writing_anew
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.resume import Reconciled, TakenOver, reconcile, recovered, take_over
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import NO_ROW, Artist, Done, Failed, Head, Rejected, Skipped
from tests.builders import (
    PROMPT_SHA256,
    RUN,
    Heard,
    artist,
    bio,
    commit_rows,
    ends_of_lines,
    failed,
    lines_of_ledger,
    sealed,
)
from tests.fakes.faulty_files import NAMES, Fault, FaultyFiles
from tests.integration.test_committer import check_books

THIS_RUN = "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


class Start:
    """A process at its start: the ledger is open, nothing is reconciled yet."""

    def __init__(self, path: Path, url: str, files: FileCalls = REAL, **settings: object) -> None:
        given = {"table": "artists", "sleep": lambda seconds: None, "max_wait": 20.0} | settings
        self.ledger = (
            Ledger.open(path, files=files) if path.exists() else Ledger.create(path, files=files)
        )
        self.store = BioStore(url, **given)  # type: ignore[arg-type]
        self.heard = Heard()
        self.telemetry = Telemetry(self.heard)
        self.committer = Committer(
            self.ledger,
            self.store,
            FailedFile(path, THIS_RUN, files=files),
            run=THIS_RUN,
            reconcile=lambda: reconcile(self.ledger, self.store),
            telemetry=self.telemetry,
        )

    def close(self) -> None:
        self.ledger.close()
        self.store.close()

    def reconcile(self, *, put_back_all: bool = False) -> Reconciled:
        with self.ledger.locked():
            return reconcile(self.ledger, self.store, put_back_all=put_back_all)

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        return self.store.known(self.ledger.id, ids)

    def drafts(self, numbers: Iterable[int], *, generation: int = 1) -> list[Draft]:
        return [
            draft(
                artist(number, generation=generation),
                bio(f"Bio {generation} of artist {number}."),
                ledger=self.ledger.id,
                run=RUN,
            )
            for number in numbers
        ]

    def commit(self, *numbers: int, generation: int = 1) -> None:
        self.committer.commit(self.drafts(numbers, generation=generation))

    def commit_without_append(self, *numbers: int) -> None:
        """As a process that dies between the two."""
        head = self.store.head(self.ledger.id)
        assert head is not None
        self.store.commit(commit_rows(self.drafts(numbers), head), old=head)

    def append_without_commit(self, *numbers: int) -> None:
        """As after a database that has lost its last commits."""
        with self.ledger.locked():
            self.ledger.append(sealed(self.drafts(numbers), self.ledger.head))

    def take_over(self) -> TakenOver:
        with self.ledger.locked():
            commit = self.committer.commit_locked
            return take_over(self.ledger, self.store, commit, self.telemetry)


Begin = Callable[..., Start]


@pytest.fixture
def begin(url: str, path: Path) -> Iterator[Begin]:
    starts: list[Start] = []

    def starting(files: FileCalls = REAL, **settings: object) -> Start:
        starts.append(Start(path, url, files, **settings))
        return starts[-1]

    yield starting
    for start in starts:
        start.close()


def state(path: Path, admin: psycopg.Connection) -> object:
    """All that reconciling may change, but the head's copy, which it may make anew."""
    return (
        path.read_bytes(),
        sorted(each.name for each in path.parent.iterdir() if "head" not in each.name),
        admin.execute("select * from artists order by id, name").fetchall(),
        admin.execute("select * from artist_bio_gen.commits order by ledger, seq").fetchall(),
        admin.execute("select ledger, seq, hash from artist_bio_gen.heads order by 1").fetchall(),
    )


# ---- ledger and database ----------------------------------------------------------------------


def test_a_new_ledger_becomes_known(begin: Begin, path: Path, admin: psycopg.Connection) -> None:
    start = begin()
    assert start.reconcile() == Reconciled(lines=0)
    assert start.store.head(start.ledger.id) == Head(start.ledger.id, 0, start.ledger.first_prev)
    kept = admin.execute("select path, host <> '' from artist_bio_gen.heads").fetchall()
    assert kept == [(str(path.resolve()), True)]


def test_equal_sides_stay_as_they_are(begin: Begin, path: Path, admin: psycopg.Connection) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2, 3)
    before = state(path, admin)
    assert begin().reconcile() == Reconciled(lines=3)
    assert state(path, admin) == before
    assert list(Reconciled(lines=3).report()) != []


@pytest.mark.parametrize("ahead", [1, 2, CHUNK + 2])
@pytest.mark.parametrize("there", [0, 2])
def test_lines_that_only_the_database_has_are_appended_byte_for_byte(
    begin: Begin, path: Path, admin: psycopg.Connection, there: int, ahead: int
) -> None:
    start = begin()
    start.reconcile()
    if there:
        start.commit(*range(1, there + 1))
    start.commit_without_append(*range(there + 1, there + ahead + 1))
    found = begin().reconcile()
    assert found == Reconciled(lines=there + ahead, appended=ahead)
    assert len(check_books(path, admin)) == there + ahead
    before = state(path, admin)
    assert begin().reconcile() == Reconciled(lines=there + ahead)
    assert state(path, admin) == before


@pytest.mark.parametrize("ahead", [1, 3, CHUNK + 2])
@pytest.mark.parametrize("there", [0, 2])
def test_lines_that_only_the_file_has_are_put_back(
    begin: Begin, path: Path, admin: psycopg.Connection, there: int, ahead: int
) -> None:
    start = begin()
    start.reconcile()
    if there:
        start.commit(*range(1, there + 1))
    start.append_without_commit(*range(there + 1, there + ahead + 1))
    file = path.read_bytes()
    found = begin().reconcile()
    assert found == Reconciled(lines=there + ahead, put_back=ahead)
    assert path.read_bytes() == file
    assert len(check_books(path, admin)) == there + ahead
    before = state(path, admin)
    assert begin().reconcile() == Reconciled(lines=there + ahead)
    assert state(path, admin) == before


def test_an_artists_later_bio_is_put_back_after_the_earlier_one(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    with start.ledger.locked():
        for generation in (1, 2, 3):
            drafts = start.drafts([1, 2], generation=generation)
            start.ledger.append(sealed(drafts, start.ledger.head))
    assert begin().reconcile().put_back == 6
    bios = admin.execute("select id, bio from artists order by id").fetchall()
    assert bios == [("1", "Bio 3 of artist 1."), ("2", "Bio 3 of artist 2.")]
    assert admin.execute("select count(*) from artist_bio_gen.replaced_bios").fetchall() == [(4,)]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("kept", [1, 500, -1])
def test_a_torn_tail_is_put_aside_and_appended_from_the_database(
    begin: Begin, path: Path, admin: psycopg.Connection, kept: int, ahead: int
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2, 3)
    if ahead:
        start.commit_without_append(*range(4, 4 + ahead))
    whole = path.read_bytes()
    start_of_last = ends_of_lines(whole)[2]
    last = whole[start_of_last:]
    torn = last[:kept]
    path.write_bytes(whole[:start_of_last] + torn)
    found = begin().reconcile()
    assert (found.lines, found.appended, found.put_back) == (3 + ahead, 1 + ahead, 0)
    assert found.quarantine is not None
    assert Path(found.quarantine).read_bytes() == torn
    assert path.read_bytes().startswith(whole)
    assert len(check_books(path, admin)) == 3 + ahead
    assert begin().reconcile() == Reconciled(lines=3 + ahead)
    assert sum("quarantine" in sentence for sentence in found.report()) == 1


def test_a_tail_cut_at_any_byte_comes_back(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin(replace(REAL, fsync=lambda fd: None))
    start.reconcile()
    start.commit(1, 2)
    whole = path.read_bytes()
    for end in range(ends_of_lines(whole)[1], len(whole), 7):
        os.truncate(path, end)
        assert start.reconcile().appended == 1
        assert path.read_bytes() == whole


def test_a_lost_page_in_the_last_group_comes_back(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1)
    start.commit(2, 3, 4)
    whole = path.read_bytes()
    ends = ends_of_lines(whole)
    path.write_bytes(whole[: ends[1]] + b"\0" * (ends[2] - ends[1]) + whole[ends[2] :])
    assert begin().reconcile().appended == 3
    assert path.read_bytes() == whole
    check_books(path, admin)


def test_a_first_line_that_is_torn_comes_back(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert begin().reconcile().appended == 1
    assert path.read_bytes() == whole


# ---- neither side follows from the other ------------------------------------------------------


def refused(
    begin: Begin, path: Path, admin: psycopg.Connection, told: str, **settings: bool
) -> None:
    """It is told, and nothing is changed."""
    before = state(path, admin)
    for _ in range(2):
        with pytest.raises(LedgerError, match=told):
            begin().reconcile(**settings)
        assert state(path, admin) == before


def test_a_damaged_ledger_is_left_alone(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2, 3)
    path.write_bytes(path.read_bytes().replace(b"of artist 2.", b"of nobody 2."))
    refused(begin, path, admin, r"out\.jsonl: damaged behind line 1 \(byte \d+\)")


def test_a_torn_tail_with_an_older_database_is_left_alone(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1)
    start.append_without_commit(2, 3, 4)
    path.write_bytes(path.read_bytes()[:-10])
    refused(begin, path, admin, "at line 1, cannot confirm")


def test_a_torn_line_that_the_database_never_had_is_left_alone(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    """A line is in the database before it is in the file: one that is torn here and missing
    there tells of an older copy of the database."""
    start = begin()
    start.reconcile()
    start.commit(1, 2)
    start.append_without_commit(3)
    path.write_bytes(path.read_bytes()[:-10])
    refused(begin, path, admin, "cannot confirm")


@pytest.mark.parametrize(("here", "there"), [(1, 1), (2, 1), (1, 2), (3, 1), (1, 4)])
def test_sides_that_have_parted_are_left_alone(
    begin: Begin, path: Path, admin: psycopg.Connection, here: int, there: int
) -> None:
    """A copy of the ledger was gone on with in another database, say."""
    start = begin()
    start.reconcile()
    start.commit(1, 2)
    start.commit_without_append(*range(10, 10 + there))
    start.append_without_commit(*range(20, 20 + here))
    refused(begin, path, admin, f"line {2 + min(here, there)} is not the one the database has")


def test_the_wrong_database_is_left_alone(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2)
    admin.execute("delete from artist_bio_gen.heads; delete from artist_bio_gen.commits")
    refused(begin, path, admin, r"holds 2 lines, but the database does not know .*--database-url")


def test_a_database_made_anew_gets_everything_back_when_that_is_agreed_to(
    begin: Begin, path: Path, url: str, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(*range(1, 6))
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    migrate(url, table="artists")
    assert begin().reconcile(put_back_all=True) == Reconciled(lines=5, put_back=5)
    assert check_books(path, admin) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "spoil",
    [
        "delete from artist_bio_gen.commits where seq = 5",
        "delete from artist_bio_gen.commits where seq >= 4",
        "update artist_bio_gen.commits set hash = repeat('0', 64) where seq = 5",
    ],
)
def test_a_database_whose_last_commit_rows_are_gone_is_found_before_anything_is_changed(
    begin: Begin, path: Path, admin: psycopg.Connection, spoil: str
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2)
    start.commit_without_append(3, 4, 5)
    admin.execute(spoil.encode())
    refused(begin, path, admin, "rows are missing or were changed")


@pytest.mark.parametrize(
    "spoil",
    [
        "delete from artist_bio_gen.commits where seq = 4",
        "update artist_bio_gen.commits set line = replace(line, 'Bio', 'Lie') where seq = 4",
        "update artist_bio_gen.commits set hash = repeat('0', 64) where seq = 4",
    ],
)
def test_a_commit_row_that_was_changed_is_not_appended(
    begin: Begin, path: Path, admin: psycopg.Connection, spoil: str
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2)
    start.commit_without_append(3, 4, 5)
    admin.execute(spoil.encode())
    with pytest.raises(LedgerError, match="does not follow line"):
        begin().reconcile()
    with Ledger.open(path) as ledger:
        found = ledger.scan()
    assert (found.damage, found.head.seq) == (None, 2)


def test_a_row_that_cannot_be_put_back_is_told(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.append_without_commit(1, 2)
    admin.execute("alter table artists alter bio type varchar(5)")
    refused(begin, path, admin, "lines 1 to 2 cannot be put back into the database")


# ---- recovery that fails itself ---------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_reconciling_goes_on_after_any_call_that_failed(
    begin: Begin, path: Path, admin: psycopg.Connection, error: int
) -> None:
    """Every file call of reconciling fails once, the 1st, 2nd, ... of its kind; the next start
    ends with both sides whole."""
    start = begin()
    start.reconcile()
    start.commit(1, 2, 3)
    start.commit_without_append(4, 5)
    whole: list[bytes] = []
    torn = path.read_bytes()[:-10]
    failures = 0
    for name in NAMES:
        for nth in range(1, 20):
            path.write_bytes(torn)
            for left in (segment_path(path, 1), beside(path, "fsync-failed")):
                left.unlink(missing_ok=True)
            files = FaultyFiles()
            failing = begin(files.calls)
            files.add(Fault(name, error, nth))
            try:
                failing.reconcile()
            except LedgerFileError:
                failures += 1
            else:
                break  # there is no nth call of that name
            finally:
                failing.close()
            again = begin()
            again.reconcile()
            assert len(check_books(path, admin)) == 5, (name, nth)
            whole = whole or lines_of_ledger(path)
            assert lines_of_ledger(path) == whole
            again.close()
    assert failures >= 12


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from artist_bio_gen.ledger.files import REAL
from tests.fakes.faulty_files import NAMES, FaultyFiles
from tests.integration.test_resume import Start

left = int(sys.argv[3])
def counted(name):
    real = getattr(REAL, name)
    def call(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call

start = Start(Path(sys.argv[1]), sys.argv[2], replace(REAL, **{n: counted(n) for n in NAMES}))
start.reconcile()
start.take_over()
start.close()
"""


def test_a_start_killed_at_each_of_its_steps_is_gone_on_from(
    begin: Begin, path: Path, url: str, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1, 2, 3)
    start.commit_without_append(4)
    with Journal(path, RUN) as journal:
        for number in (4, 5, 6):
            journal.write(Entry.intent(artist(number), 1, f"call-{number}"))
            journal.write(Entry.reply(artist(number), bio(f"Bio 1 of artist {number}.")))
        journal.write(Entry.failure(failed(7)))
    os.truncate(path, path.stat().st_size - 10)
    steps = 0
    for steps in range(0, 200, 4):
        done = subprocess.run([sys.executable, "-c", KILLED, path, url, str(steps)], check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert done.returncode == 0
    assert steps >= 8
    assert check_books(path, admin) == ["1", "2", "3", "4", "5", "6"]
    assert list(orphans(path)) == []
    kept = admin.execute("select artist_id, attempts from artist_bio_gen.failures").fetchall()
    assert kept == [("7", 1)]


# ---- journals of dead runs --------------------------------------------------------------------


def test_replies_that_were_not_committed_come_and_others_do_not(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    with Journal(path, RUN) as journal:
        for number in (1, 2, 3):
            journal.write(Entry.intent(artist(number), 1, f"call-{number}"))
            journal.write(Entry.reply(artist(number), bio(f"Bio 1 of artist {number}.")))
        journal.write(Entry.intent(artist(4), 2, "call-4"))
        journal.write(Entry.failure(failed(5)))
        journal.write(Entry.failure(failed(6, transient=True)))
        journal.write(Entry.reply(artist(1, generation=2), bio("Written anew.")))
        start.commit(2)
        start.store.record([failed(5)], ledger=start.ledger.id, run=RUN)
    (orphan,) = orphans(path)
    found = list(recovered(orphan, start.ledger.id, start.known))
    assert [each.artist.id for each in found if isinstance(each, Draft)] == ["1", "3", "1"]
    assert [each for each in found if isinstance(each, Failed)] == [failed(6, transient=True)]
    assert [each for each in found if isinstance(each, Intent)] == [
        Intent("4", "Artist 4", 2, "call-4")
    ]
    drafts = [each for each in found if isinstance(each, Draft)]
    assert all((each.run, each.worker) == (RUN, None) for each in drafts)


def test_an_earlier_runs_failure_does_not_hide_that_this_one_bought_a_bio(
    begin: Begin, path: Path
) -> None:
    """The failure was of another run; what this journal holds is newer and wanted."""
    start = begin()
    start.reconcile()
    start.store.record([failed(1)], ledger=start.ledger.id, run=str(uuid.uuid4()))
    with Journal(path, RUN) as journal:
        journal.write(Entry.reply(artist(1), bio()))
        journal.write(Entry.failure(failed(2)))
    (orphan,) = orphans(path)
    found = list(recovered(orphan, start.ledger.id, start.known))
    assert [type(each) for each in found] == [Draft, Failed]


@pytest.mark.parametrize("end", ["committed", "failed"])
def test_a_call_whose_end_is_known_to_the_database_was_not_in_flight(
    begin: Begin, path: Path, end: str
) -> None:
    """Its reply stood in a file of the journal that was removed, its intent in one that was
    still needed."""
    start = begin()
    start.reconcile()
    with Journal(path, RUN) as journal:
        journal.write(Entry.intent(artist(1), 1, "call-1"))
        if end == "committed":
            start.commit(1)
        else:
            start.store.record([failed(1)], ledger=start.ledger.id, run=RUN)
    (orphan,) = orphans(path)
    assert list(recovered(orphan, start.ledger.id, start.known)) == []


def test_what_dead_runs_left_is_made_final_once(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.commit(1)
    runs = [str(uuid.uuid4()) for _ in range(2)]
    for at, run in enumerate(runs):
        with Journal(path, run) as journal:
            for number in (1, 10 * at + 2, 10 * at + 3):
                journal.write(Entry.reply(artist(number), bio(f"Bio of artist {number}.")))
            journal.write(Entry.intent(artist(10 * at + 4), 1, f"call-{at}"))
            journal.write(Entry.failure(failed(10 * at + 5)))
    taken = start.take_over()
    assert taken == TakenOver(committed=4, failed=2, in_flight=2)
    assert sorted(check_books(path, admin)) == ["1", "12", "13", "2", "3"]
    named = start.heard.fields("in_flight")
    assert sorted(each["artist_id"] for each in named) == ["14", "4"]
    assert {each["run"] for each in named} == set(runs)
    assert not list(path.parent.glob("*.journal.*"))
    assert begin().take_over() == TakenOver()
    kept = admin.execute(
        "select artist_id, run::text from artist_bio_gen.failures order by 1"
    ).fetchall()
    assert sorted(kept) == sorted([("5", runs[0]), ("15", runs[1])])


def test_a_failure_of_a_dead_run_is_not_one_of_this_run(begin: Begin, path: Path) -> None:
    """Else this run would pass the artist over as one that it has tried already."""
    start = begin()
    start.reconcile()
    with Journal(path, RUN) as journal:
        journal.write(Entry.failure(failed(1, transient=True)))
        journal.write(Entry.failure(failed(2, transient=False)))
    start.take_over()
    outcomes = list(left(start, [artist(1), artist(2)]))
    assert outcomes == [artist(1), Skipped(artist(2), "failed")]


def test_a_failure_of_a_dead_run_does_not_outlive_a_bio_that_was_written_since(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    """Noted behind the bio it would have `--retry-failed` buy one more."""
    start = begin()
    start.reconcile()
    dead, later = (f"{at}0000000-0000-4000-8000-000000000000" for at in (1, 2))
    with Journal(path, later) as journal:
        journal.write(Entry.reply(artist(1), bio("Written since.")))
    start.take_over()
    with Journal(path, dead) as journal:
        journal.write(Entry.failure(failed(1)))
        journal.write(Entry.failure(failed(2)))
    assert start.take_over() == TakenOver(failed=1)
    assert check_books(path, admin) == ["1"]
    assert admin.execute("select artist_id from artist_bio_gen.failures").fetchall() == [("2",)]


def test_a_recovered_bio_that_the_database_refuses_is_a_failure_once(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    admin.execute("alter table artists alter bio type varchar(5)")
    start = begin()
    start.reconcile()
    with Journal(path, RUN) as journal:
        journal.write(Entry.reply(artist(1), bio("Too long.")))
        journal.write(Entry.reply(artist(2), bio("Short")))
    taken = start.take_over()
    assert taken == TakenOver(committed=1, failed=1)
    assert check_books(path, admin) == ["2"]
    assert not list(path.parent.glob("*.journal.*"))


def test_a_damaged_journal_is_told_and_kept_and_its_good_replies_are_committed(
    begin: Begin, path: Path, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    with Journal(path, RUN) as journal:
        for number in (1, 2):
            journal.write(Entry.intent(artist(number), 1, f"call-{number}"))
            journal.write(Entry.reply(artist(number), bio(f"Bio 1 of artist {number}.")))
    (file,) = path.parent.glob("*.journal.*")
    data = file.read_bytes().replace(b"Bio 1 of artist 2.", b"Bio 2 of artist 2.")
    file.write_bytes(data)
    taken = start.take_over()
    (kept,) = path.parent.glob("*.journal.*")
    assert taken == TakenOver(committed=1, in_flight=1, damaged=1, kept=(str(kept),))
    assert ".quarantine." in kept.name
    assert kept.read_bytes() == data
    assert any(str(kept) in sentence for sentence in taken.report())
    assert [each["artist_id"] for each in start.heard.fields("in_flight")] == ["2"]
    assert check_books(path, admin) == ["1"]
    assert begin().take_over() == TakenOver()


# ---- what is left to do -----------------------------------------------------------------------


def left(
    start: Start,
    rows: Iterable[Artist | Rejected],
    *,
    under_way: set[str] | None = None,
    known: Callable[[Sequence[str]], dict[str, Known]] | None = None,
    **rules: object,
) -> Iterator[Artist | Failed | Rejected | Skipped]:
    return pending(
        rows,
        known or start.known,
        replace(Rules(THIS_RUN, PROMPT_SHA256), **rules),  # type: ignore[arg-type]
        table="artists",
        under_way=set() if under_way is None else under_way,
    )


@pytest.fixture
def start(begin: Begin) -> Start:
    begun = begin()
    begun.reconcile()
    return begun


def test_artists_of_whom_nothing_is_known_are_left_to_do(start: Start) -> None:
    rejected = Rejected(2, "no id")
    under_way: set[str] = set()
    rows = [artist(1), rejected, artist(3)]
    assert list(left(start, rows, under_way=under_way)) == rows
    assert under_way == {"1", "3"}


def test_artists_who_have_their_bio_are_done(start: Start) -> None:
    start.commit(1, 2)
    under_way: set[str] = set()
    rows = [artist(1), artist(2, data={"born": "1934"}), artist(3)]
    assert list(left(start, rows, under_way=under_way)) == [
        Skipped(rows[0], "done"),
        Skipped(rows[1], "done", changed_input=True),
        artist(3),
    ]
    assert under_way == {"3"}
    (outcome,) = left(start, [artist(1)], prompt_sha256="6" * 64)
    assert outcome == Skipped(artist(1), "done", changed_prompt=True)


def test_artists_of_another_ledger_are_done_elsewhere(start: Start, path: Path) -> None:
    other = Ledger.create(path.with_name("other.jsonl"))
    head = Head(other.id, 0, other.first_prev)
    start.store.create_head(head, "/other.jsonl")
    theirs = [draft(artist(1), bio(), ledger=other.id, run=RUN)]
    start.store.commit(commit_rows(theirs, head), old=head)
    other.close()
    assert list(left(start, [artist(1)])) == [Skipped(artist(1), "elsewhere")]
    # With --again those of other ledgers are written anew; here it is the first.
    assert list(left(start, [artist(1)], anew_after=0)) == [artist(1)]


def test_bios_of_the_users_own_are_kept_on_demand(start: Start, admin: psycopg.Connection) -> None:
    admin.execute("insert into artists values ('1', 'a', 'By hand.'), ('2', 'b', '')")
    assert list(left(start, [artist(1), artist(2)])) == [artist(1), artist(2)]
    assert list(left(start, [artist(1), artist(2)], keep_existing=True)) == [
        Skipped(artist(1), "has_bio"),
        artist(2),
    ]


@pytest.mark.parametrize("retry_failed", [False, True])
def test_transient_failures_are_taken_again_others_on_demand(
    start: Start, retry_failed: bool
) -> None:
    start.store.record([failed(1), failed(2, transient=True)], ledger=start.ledger.id, run=RUN)
    first = artist(1) if retry_failed else Skipped(artist(1), "failed")
    assert list(left(start, [artist(1), artist(2)], retry_failed=retry_failed)) == [
        first,
        artist(2),
    ]


def test_artists_who_are_not_in_the_table(start: Start, admin: psycopg.Connection) -> None:
    admin.execute("insert into artists values ('1', 'a', null)")
    rows = [artist(1), artist(2)]
    assert list(left(start, rows, on_missing="insert")) == rows
    assert list(left(start, rows, on_missing="skip")) == [
        artist(1),
        Skipped(artist(2), "no_row"),
    ]
    under_way: set[str] = set()
    first, missing = left(start, rows, on_missing="fail", under_way=under_way)
    assert first == artist(1)
    assert isinstance(missing, Failed)
    assert (missing.kind, missing.attempts, missing.transient) == (NO_ROW, 0, True)
    assert "table artists has no row" in missing.reason
    assert under_way == {"1", "2"}  # until the failure is noted


def test_bios_are_written_anew_up_to_a_line(start: Start) -> None:
    start.commit(1, 2)
    start.commit(3)
    rows = [artist(1), artist(2), artist(3), artist(4)]
    assert list(left(start, rows, anew_after=2)) == [
        artist(1, generation=2),
        artist(2, generation=2),
        Skipped(artist(3), "done"),
        artist(4),
    ]
    start.commit(1, generation=2)
    assert list(left(start, rows[:2], anew_after=2)) == [
        Skipped(artist(1), "done"),
        artist(2, generation=2),
    ]


def test_an_unfinished_again_is_gone_on_with_by_the_same_input(start: Start) -> None:
    start.commit(1, 2)
    said: list[str] = []

    def ask(source: str, again: bool) -> int | None:
        return writing_anew(start.store, start.ledger, source, again=again, say=said.append)

    assert ask("a.csv", again=False) is None
    assert ask("a.csv", again=True) == 2
    start.commit(1, generation=2)
    assert ask("a.csv", again=False) == 2
    assert ask("a.csv", again=True) == 2
    assert said == ["going on with an unfinished --again over a.csv"] * 2
    assert ask("b.csv", again=False) is None
    assert "left as it is" in said[-1]
    assert ask("b.csv", again=True) == 3


def test_a_repeated_id_is_done_once(start: Start) -> None:
    rows = [artist(1), artist(2), replace(artist(1), row=3), replace(artist(1), row=4)]
    assert list(left(start, rows)) == [
        artist(1),
        artist(2),
        Skipped(rows[2], "repeated"),
        Skipped(rows[3], "repeated"),
    ]


def test_an_id_repeated_in_another_chunk_while_it_is_under_way(start: Start) -> None:
    rows = [artist(number) for number in range(CHUNK)] + [replace(artist(7), row=CHUNK)]
    *_, last = left(start, rows)
    assert last == Skipped(rows[-1], "repeated")


def test_an_id_repeated_after_its_bio_was_committed_by_this_run(start: Start) -> None:
    under_way: set[str] = set()
    rows = [artist(number) for number in range(CHUNK)] + [replace(artist(7), row=CHUNK)]
    outcomes = left(start, rows, under_way=under_way)
    first = [next(outcomes) for _ in range(CHUNK)]
    assert all(isinstance(each, Artist) for each in first)
    drafts = [draft(artist(7), bio(), ledger=start.ledger.id, run=THIS_RUN)]
    assert isinstance(start.committer.commit(drafts)[0], Done)
    under_way.difference_update({"7"})
    assert list(outcomes) == [Skipped(rows[-1], "repeated")]


def test_an_id_repeated_after_it_failed_in_this_run(start: Start) -> None:
    start.committer.commit([failed(1, transient=True)])
    assert list(left(start, [artist(1)])) == [Skipped(artist(1), "repeated")]


@pytest.mark.parametrize("settled", ["before the look-up", "after the look-up"])
def test_an_id_that_is_settled_while_it_is_asked_for(start: Start, settled: str) -> None:
    """It is found among those under way or by the look-up, whichever way the two cross."""
    under_way: set[str] = {"1"}
    drafts = [draft(artist(1), bio(), ledger=start.ledger.id, run=THIS_RUN)]

    def settle() -> None:
        start.committer.commit(drafts)
        under_way.difference_update({"1"})

    def known(ids: Sequence[str]) -> dict[str, Known]:
        if settled == "before the look-up":
            settle()
        found = start.known(ids)
        if settled == "after the look-up":
            settle()
        return found

    outcomes = list(left(start, [artist(1)], under_way=under_way, known=known))
    assert outcomes == [Skipped(artist(1), "repeated")]


def test_an_id_that_was_done_before_and_comes_twice(start: Start) -> None:
    start.commit(1)
    rows = [artist(1), replace(artist(1), row=2)]
    assert [each.reason for each in left(start, rows) if isinstance(each, Skipped)] == [
        "done",
        "repeated",
    ]


def test_rows_are_taken_a_chunk_at_a_time(start: Start) -> None:
    taken = 0

    def rows() -> Iterator[Artist]:
        nonlocal taken
        for number in range(10 * CHUNK):
            taken += 1
            yield artist(number)

    asked: list[int] = []

    def known(ids: Sequence[str]) -> dict[str, Known]:
        asked.append(len(ids))
        return start.known(ids)

    outcomes = left(start, rows(), known=known)
    next(outcomes)
    assert (taken, asked) == (CHUNK, [CHUNK])


# ---- after a failed fsync ---------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("kept", [0, 300, None])
def test_after_a_failed_fsync_a_new_file_has_what_the_database_has(
    begin: Begin, path: Path, admin: psycopg.Connection, kept: int | None, ahead: int
) -> None:
    files = FaultyFiles()
    start = begin(files.calls)
    start.reconcile()
    start.commit(1, 2)
    synced = path.stat().st_size
    files.add(Fault("fsync", errno.EIO))
    with pytest.raises(LedgerFileError, match="could not be synced"):
        start.commit(3, 4)
    if ahead:
        start.commit_without_append(*range(5, 5 + ahead))
    if kept is not None:
        os.truncate(path, synced + kept)  # what the disk had of the group
    before = path.read_bytes()
    found = begin().reconcile()
    assert found.begun == str(segment_path(path, 1))
    assert found.lines == 4 + ahead
    assert found.quarantine is None
    assert path.read_bytes() == before
    rows = admin.execute("select line from artist_bio_gen.commits order by seq").fetchall()
    whole = before[:synced] + segment_path(path, 1).read_bytes()
    assert whole == b"".join(row[0].encode() + b"\n" for row in rows)
    assert begin().reconcile() == Reconciled(lines=4 + ahead)
    assert any("out.0001.jsonl" in sentence for sentence in found.report())


def test_runs_of_lines_that_are_put_back_are_known_again(
    begin: Begin, admin: psycopg.Connection
) -> None:
    start = begin()
    start.reconcile()
    start.append_without_commit(1, 2)
    begin().reconcile()
    runs = admin.execute("select run::text, ledger::text from artist_bio_gen.runs").fetchall()
    assert runs == [(RUN, start.ledger.id)]
