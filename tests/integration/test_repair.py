"""A damaged ledger is made whole from its own lines and the commit rows, or left as it is."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.mending import MendingStore
from artist_bio_gen.errors import LedgerError, LedgerFileError, UsageError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import beside, segment_path
from artist_bio_gen.repair import Repair, repair
from artist_bio_gen.resume import reconcile
from artist_bio_gen.values import Head
from tests.builders import LEDGER, a_draft, commit_rows, ends_of_lines, lines_of, sealed
from tests.fakes.faulty_files import NAMES, Fault, FaultyFiles
from tests.test_cli import call

LINES = 12
OTHER_LEDGER = "22222222-2222-4222-8222-222222222222"


def open_store(url: str, **settings: object) -> MendingStore:
    given = {"table": "artists", "sleep": lambda seconds: None} | settings
    return MendingStore(url, **given)  # type: ignore[arg-type]


class Books:
    """A ledger of so many lines in its file (or files) and in the database."""

    def __init__(self, path: Path, store: MendingStore, lines: int) -> None:
        self.path = path
        self.store = store
        with Ledger.create(path) as ledger, ledger.locked():
            self.id = ledger.id
            self.empty = ledger.head
            drafts = [a_draft(number, ledger=self.id) for number in range(1, lines + 1)]
            self.lines = [line.data for line in sealed(drafts, ledger.head)]
            ledger.append(sealed(drafts, ledger.head))
            ledger.save_head()
            self.head = ledger.head
            reconcile(ledger, store, put_back_all=True)
        self.whole = path.read_bytes()

    def in_segments(self, *firsts: int, superseded: int = 0) -> list[Path]:
        """The same lines in several files, which begin with these numbers; the first file goes on
        for so many lines that the second one has as well."""
        begins = [1, *firsts]
        ends = [*(first - 1 for first in firsts), len(self.lines)]
        files = [segment_path(self.path, number) for number in range(len(begins))]
        for file, first, last in zip(files, begins, ends, strict=True):
            more = superseded if file == self.path else 0
            file.write_bytes(b"".join(line + b"\n" for line in self.lines[first - 1 : last + more]))
        return files

    def repair(
        self, *, apply: bool = True, ledger_id: str | None = None, files: FileCalls = REAL
    ) -> Repair:
        return repair(self.path, self.store, ledger_id=ledger_id, apply=apply, files=files)

    def beside(self) -> dict[str, bytes]:
        """All files of the folder but the lock."""
        return {
            each.name: each.read_bytes()
            for each in sorted(self.path.parent.iterdir())
            if each.name != beside(self.path, "lock").name
        }

    def kept(self) -> list[bytes]:
        """What lies in quarantine."""
        return [content for name, content in self.beside().items() if ".quarantine." in name]


Keep = Callable[..., Books]


@pytest.fixture
def keep(tmp_path: Path, url: str) -> Iterator[Keep]:
    stores: list[MendingStore] = []

    def keeping(lines: int = LINES) -> Books:
        stores.append(open_store(url))
        return Books(tmp_path / "out.jsonl", stores[-1], lines)

    yield keeping
    for store in stores:
        store.close()


def offset_of(books: Books, seq: int) -> int:
    return ends_of_lines(books.whole)[seq - 1]


# ---- what is mended ---------------------------------------------------------------------------

Damage = Callable[[list[bytes]], bytes]


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def changed_letter(lines: list[bytes], seq: int) -> bytes:
    changed = lines[seq - 1].replace(b"Bio of artist", b"Bio of Artist")
    assert changed != lines[seq - 1]
    return changed


def made_up_line(line: bytes) -> bytes:
    """Follows `line` and has a right hash, and is no line of a ledger all the same."""
    body = b'{"artist_id":"5","prev":"%b"' % json.loads(line)["hash"].encode()
    return b'%b,"hash":"%b"}' % (body, hashlib.sha256(body).hexdigest().encode())


def foreign_line() -> bytes:
    line = sealed([a_draft(3, ledger=OTHER_LEDGER)], Head(OTHER_LEDGER, 4, "f" * 64))[0]
    return line.data


DAMAGES: dict[str, tuple[Damage, dict[str, int]]] = {
    "a line in the middle is changed": (
        lambda lines: joined([*lines[:4], changed_letter(lines, 5), *lines[5:]]),
        {"damaged_line": 1},
    ),
    "the first line is changed": (
        lambda lines: joined([changed_letter(lines, 1), *lines[1:]]),
        {"damaged_line": 1},
    ),
    "the first line is gone": (lambda lines: joined(lines[1:]), {"missing_line": 1}),
    "lines in the middle are gone": (
        lambda lines: joined([*lines[:3], *lines[6:]]),
        {"missing_line": 3},
    ),
    "a line stands twice": (
        lambda lines: joined([*lines[:5], lines[4], *lines[5:]]),
        {"repeated_line": 1},
    ),
    "two lines changed places": (
        lambda lines: joined([*lines[:4], lines[5], lines[4], *lines[6:]]),
        {"missing_line": 1, "repeated_line": 1},
    ),
    "a line of another ledger stands between": (
        lambda lines: joined([*lines[:4], foreign_line(), *lines[4:]]),
        {"chain_break": 1},
    ),
    "something with a right hash stands between": (
        lambda lines: joined([*lines[:4], made_up_line(lines[3]), *lines[4:]]),
        {"damaged_line": 1},
    ),
    "something stands between": (
        lambda lines: joined([*lines[:4], b"# a remark", b"", *lines[4:]]),
        {"damaged_line": 2},
    ),
    "the last line is torn": (
        lambda lines: joined(lines)[:-30],
        {"torn_tail": 1, "missing_line": 1},
    ),
    "the end is NUL bytes": (
        lambda lines: joined(lines[:-3]) + bytes(5000),
        {"torn_tail": 1, "missing_line": 3},
    ),
    "NUL bytes lie before whole lines": (
        lambda lines: joined(lines[:6]) + bytes(len(lines[6]) + 1) + joined(lines[7:]),
        {"damaged_line": 1, "missing_line": 1},
    ),
    "the last lines are gone": (lambda lines: joined(lines[:-4]), {"missing_line": 4}),
    "the file is empty": (lambda lines: b"", {"missing_line": LINES}),
    "everything is NUL bytes": (
        lambda lines: bytes(len(joined(lines))),
        {"torn_tail": 1, "missing_line": LINES},
    ),
    "each second line is damaged": (
        lambda lines: joined(
            [changed_letter(lines, seq) if seq % 2 else line for seq, line in enumerate(lines, 1)]
        ),
        {"damaged_line": LINES // 2},
    ),
    "a line feed is lost": (
        lambda lines: joined(lines[:4]) + lines[4] + joined(lines[5:]),
        {"damaged_line": 1, "missing_line": 1},
    ),
    "lines are sorted backwards": (
        lambda lines: joined(lines[::-1]),
        {"missing_line": LINES - 1, "repeated_line": LINES - 1},
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_mended_and_kept(keep: Keep, name: str) -> None:
    books = keep()
    damage, counts = DAMAGES[name]
    damaged = damage(books.lines)
    books.path.write_bytes(damaged)
    before = books.beside()
    found = books.repair(apply=False)
    assert (found.counts, found.refused, found.head) == (counts, None, books.head)
    assert not found.all_well
    assert books.beside() == before, "it was to be shown only"
    done = books.repair()
    assert (done.counts, done.applied, done.all_well) == (counts, True, True)
    assert books.path.read_bytes() == books.whole
    assert books.kept() == [damaged]
    assert done.files[0].kept is not None
    assert done.files[0].kept.read_bytes() == damaged
    mended = books.beside()
    again = books.repair()
    assert (again.counts, again.files, again.all_well) == ({}, (), True)
    assert books.beside() == mended


def test_nothing_is_touched_where_nothing_is_wrong(keep: Keep) -> None:
    books = keep()
    before, inode = books.beside(), books.path.stat().st_ino
    assert books.repair().all_well
    assert (books.beside(), books.path.stat().st_ino) == (before, inode)


def test_examples_say_where_it_is(keep: Keep) -> None:
    books = keep()
    books.path.write_bytes(DAMAGES["a line in the middle is changed"][0](books.lines))
    (example,) = books.repair(apply=False).examples
    assert (example.kind, example.seq, example.file) == ("damaged_line", 5, books.path)
    assert example.offset == offset_of(books, 5)


def test_lines_of_the_file_are_not_asked_of_the_database(
    keep: Keep, admin: psycopg.Connection
) -> None:
    """An older copy of the database is enough, as long as it has what the file lacks."""
    books = keep()
    admin.execute("delete from artist_bio_gen.commits where seq <> 5")
    admin.execute("update artist_bio_gen.heads set seq = 5, hash = %s", [hash_of(books, 5)])
    books.path.write_bytes(DAMAGES["a line in the middle is changed"][0](books.lines))
    done = books.repair()
    assert books.path.read_bytes() == books.whole
    assert (done.files[0].own, done.files[0].brought) == (LINES - 1, 1)
    assert done.database_differs
    assert any("restore" in note for note in done.notes)


def hash_of(books: Books, seq: int) -> str:
    return str(json.loads(books.lines[seq - 1])["hash"])


def test_lines_out_of_place_are_found_without_the_database(
    keep: Keep, admin: psycopg.Connection
) -> None:
    books = keep()
    admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads")
    books.path.write_bytes(joined([*books.lines[6:], *books.lines[:6]]))
    done = books.repair()
    assert books.path.read_bytes() == books.whole
    assert done.counts["wrong_database"] == 1, "the database does not know this ledger"


# ---- whose ledger is it -----------------------------------------------------------------------


def test_a_ledger_that_is_gone_comes_back_by_the_id_in_its_head(keep: Keep) -> None:
    books = keep()
    books.path.unlink()
    done = books.repair()
    assert books.path.read_bytes() == books.whole
    assert (done.counts, done.files[0].kept) == ({"missing_line": LINES}, None)
    assert books.path.stat().st_mode & 0o777 == 0o600
    assert books.repair().all_well


@pytest.mark.parametrize("head", [None, b"no head"])
def test_without_file_and_head_the_id_is_asked_for(keep: Keep, head: bytes | None) -> None:
    books = keep()
    books.path.unlink()
    beside(books.path, "head").unlink()
    if head is not None:
        beside(books.path, "head").write_bytes(head)
    with pytest.raises(LedgerError, match=rf"--ledger-id.*{books.id} \(line {LINES}\)"):
        books.repair(apply=False)
    assert books.repair(ledger_id=books.id).all_well
    assert books.path.read_bytes() == books.whole
    assert json.loads(beside(books.path, "head").read_bytes())["ledger"] == books.id


def test_the_id_comes_from_any_whole_line(keep: Keep) -> None:
    books = keep()
    beside(books.path, "head").unlink()
    books.path.write_bytes(joined([changed_letter(books.lines, 1), *books.lines[1:]]))
    assert books.repair().all_well
    assert books.path.read_bytes() == books.whole


def test_the_id_that_is_given_counts_more_than_a_head_and_less_than_a_line(keep: Keep) -> None:
    books = keep()
    with pytest.raises(UsageError, match=books.id):
        books.repair(ledger_id=OTHER_LEDGER)
    books.path.write_bytes(b"")
    head = {"ledger": OTHER_LEDGER, "seq": 0, "hash": "", "size": 0}
    beside(books.path, "head").write_text(json.dumps(head))
    assert books.repair(ledger_id=books.id).all_well
    assert books.path.read_bytes() == books.whole


@pytest.mark.parametrize("form", [str.upper, lambda each: f" {each}", "{{{}}}".format])
def test_an_id_may_be_written_as_ids_are(keep: Keep, form: Callable[[str], str]) -> None:
    books = keep()
    assert books.repair(ledger_id=form(books.id)).all_well
    books.path.write_bytes(b"")
    beside(books.path, "head").unlink()
    assert books.repair(ledger_id=form(books.id)).all_well
    assert books.path.read_bytes() == books.whole
    assert json.loads(beside(books.path, "head").read_bytes())["ledger"] == books.id


@pytest.mark.parametrize("apply", [False, True])
def test_an_id_that_the_database_does_not_know_is_refused(keep: Keep, apply: bool) -> None:
    books = keep()
    books.path.write_bytes(b"")
    beside(books.path, "head").unlink()
    with pytest.raises(
        LedgerError, match=rf"{OTHER_LEDGER}: the database does not know.*{books.id} \(line 12\)"
    ):
        books.repair(ledger_id=OTHER_LEDGER, apply=apply)
    assert books.beside() == {books.path.name: b""}


def test_what_is_no_id_is_wrong_usage(keep: Keep) -> None:
    with pytest.raises(UsageError, match="--ledger-id nope: is no ledger's id"):
        keep().repair(ledger_id="nope")


def test_a_path_that_can_be_no_ledger_is_told(keep: Keep, tmp_path: Path) -> None:
    books = keep()
    with pytest.raises(UsageError, match="does not exist"):
        repair(tmp_path / "no" / "out.jsonl", books.store, apply=False)
    with pytest.raises(UsageError, match="is a folder"):
        repair(tmp_path, books.store, apply=False)
    segment_path(books.path, 1).mkdir()
    with pytest.raises(UsageError, match=r"out\.0001\.jsonl: is no regular file"):
        books.repair()


# ---- several files ----------------------------------------------------------------------------


@pytest.mark.parametrize("superseded", [0, 2])
def test_each_file_is_mended_on_its_own(keep: Keep, superseded: int) -> None:
    books = keep()
    files = books.in_segments(5, 9, superseded=superseded)
    whole = [file.read_bytes() for file in files]
    for index, seq in ((1, 6), (2, 9)):
        damaged = whole[index].replace(books.lines[seq - 1], changed_letter(books.lines, seq))
        files[index].write_bytes(damaged)
    inode = files[0].stat().st_ino
    done = books.repair()
    assert [each.path for each in done.files] == files[1:]
    assert [file.read_bytes() for file in files] == whole
    assert files[0].stat().st_ino == inode
    assert done.counts == {"damaged_line": 2}
    assert books.repair().all_well


def test_a_superseded_tail_is_no_damage_and_stays(keep: Keep) -> None:
    books = keep()
    files = books.in_segments(5, superseded=2)
    files[0].write_bytes(files[0].read_bytes()[:-40])
    assert books.repair(apply=False).files == ()
    assert books.repair().all_well
    assert books.kept() == []
    tail = files[0].read_bytes()[ends_of_lines(books.whole)[4] :]
    files[0].write_bytes(
        joined([*books.lines[:2], changed_letter(books.lines, 3), books.lines[3]]) + tail
    )
    assert books.repair().all_well
    assert files[0].read_bytes() == joined(books.lines[:4]) + tail


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_file_that_is_gone_comes_back(keep: Keep, gone: int) -> None:
    books = keep()
    files = books.in_segments(5, 9)
    files[gone].unlink()
    assert books.repair().all_well
    with Ledger.open(books.path) as ledger, ledger.locked():
        assert ledger.scan().head == books.head
        assert list(ledger.lines()) == books.lines


def test_the_mark_of_a_failed_fsync_goes_with_the_file_it_was_about(keep: Keep) -> None:
    books = keep()
    size = ends_of_lines(books.whole)[8]
    marker = beside(books.path, "fsync-failed")
    marker.write_text(json.dumps({"file": "out.jsonl", "seq": 8, "size": size}))
    books.path.write_bytes(joined([b"{}", *books.lines]))
    assert books.repair().all_well
    assert not marker.exists()
    assert books.path.read_bytes() == books.whole


# ---- what must not be changed -----------------------------------------------------------------


def refused(books: Books, word: str, **settings: object) -> Repair:
    before = books.beside()
    found = books.repair(**settings)  # type: ignore[arg-type]
    assert found.refused is not None
    assert word in found.refused
    assert (found.applied, found.all_well) == (False, False)
    assert books.beside() == before
    return found


def test_a_line_that_neither_side_has_is_named(keep: Keep, admin: psycopg.Connection) -> None:
    books = keep()
    admin.execute("delete from artist_bio_gen.commits where seq in (5, 6, 9)")
    kept = [line for seq, line in enumerate(books.lines, 1) if seq not in (4, 5, 6, 9)]
    books.path.write_bytes(joined(kept))
    found = refused(books, "lines of 5 to 9")
    assert [(each.first, each.last) for each in found.lost] == [(5, 6), (9, 9)]


@pytest.mark.parametrize("teller", ["database", "head", "line"])
def test_lines_beyond_both_sides_are_lost(
    keep: Keep, admin: psycopg.Connection, teller: str
) -> None:
    books = keep()
    admin.execute("delete from artist_bio_gen.commits where seq > 8")
    books.path.write_bytes(joined(books.lines[:8]))
    if teller != "head":
        beside(books.path, "head").unlink()
    if teller != "database":
        admin.execute(  # an older copy
            "update artist_bio_gen.heads set seq = 8, hash = %s", [hash_of(books, 8)]
        )
    if teller == "line":
        books.path.write_bytes(joined([*books.lines[:8], books.lines[-1]]))
    found = refused(books, f"{LINES - (teller == 'line')}" if teller == "line" else "9 to 12")
    assert found.lost[0].first == 9


def test_sides_that_have_parted_are_left_alone(keep: Keep, admin: psycopg.Connection) -> None:
    books = keep()
    others = [a_draft(number, ledger=books.id, text="Another.") for number in range(1, LINES + 1)]
    books.path.write_bytes(joined([line.data for line in sealed(others, books.empty)]))
    assert refused(books, "have parted").counts["wrong_database"] == 1


def test_a_writer_without_the_sidecar_keeps_it_away(keep: Keep) -> None:
    books = keep()
    with books.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="another process"):
            books.repair()
    assert books.repair().all_well


# ---- when the database is the damaged side ----------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("delete from artist_bio_gen.commits where seq = 1", 1),
        ("delete from artist_bio_gen.commits where seq between 4 and 6", 3),
        ("delete from artist_bio_gen.commits where seq > 10", 2),
        ("update artist_bio_gen.commits set line = replace(line, '1933', '1934') where seq = 3", 1),
        ("update artist_bio_gen.commits set hash = repeat('0', 64) where seq = 3", 2),
        ("update artist_bio_gen.commits set seq = seq + 100 where seq = 3", 1),
    ],
)
def test_damage_of_the_database_is_told_and_left_to_restore(
    keep: Keep, admin: psycopg.Connection, statement: str, count: int
) -> None:
    books = keep()
    assert books.store.faulty_rows(books.empty) == (0, 0)
    admin.execute(statement.encode())
    found = books.repair()
    assert books.store.faulty_rows(books.empty)[0] == count
    assert (found.files, found.database_differs, found.all_well) == ((), True, False)
    assert any("artist-bio-gen restore" in note for note in found.notes)
    assert books.path.read_bytes() == books.whole


def test_a_torn_end_is_put_aside_where_the_database_is_lost(
    keep: Keep, admin: psycopg.Connection
) -> None:
    """So that restore has a ledger that verifies."""
    books = keep()
    admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads")
    beside(books.path, "head").unlink()
    torn = books.whole[:-30]
    books.path.write_bytes(torn)
    done = books.repair()
    assert books.path.read_bytes() == joined(books.lines[:-1])
    assert books.kept() == [torn]
    assert (done.applied, done.database_differs) == (True, True)
    assert any("older copy" in note for note in done.notes)


# ---- faults -----------------------------------------------------------------------------------


def without_links(source: str, target: str) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_hard_links_do_not_work_the_old_file_is_copied(keep: Keep) -> None:
    books = keep()
    damaged = DAMAGES["a line in the middle is changed"][0](books.lines)
    books.path.write_bytes(damaged)
    assert books.repair(files=replace(REAL, link=without_links)).all_well
    assert books.path.read_bytes() == books.whole
    assert books.kept() == [damaged]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_each_file_call_may_fail_and_the_next_repair_mends(keep: Keep, error: int) -> None:
    """Each call fails once, the 1st, 2nd, … of its kind: the ledger is then as it was or mended,
    never anything else, and the damaged file is still there."""
    books = keep()
    damaged = DAMAGES["each second line is damaged"][0](books.lines)
    failures = 0
    for name in NAMES:
        for nth in range(1, 30):
            for each in books.path.parent.iterdir():
                each.unlink()
            books.path.write_bytes(damaged)
            files = FaultyFiles(Fault(name, error, nth))
            try:
                books.repair(files=files.calls)
            except (LedgerFileError, LedgerError):
                failures += 1
            if not files.struck:
                break
            assert books.path.read_bytes() in (damaged, books.whole), (name, nth)
            assert books.repair().all_well
            assert books.path.read_bytes() == books.whole
            assert books.kept() == [damaged]
            assert not [name for name in books.beside() if "mending" in name]
    assert failures >= 8


def test_a_line_that_only_seems_to_belong_is_not_brought(
    keep: Keep, admin: psycopg.Connection
) -> None:
    """Each commit row has to follow the line before; what does not is not believed."""
    books = keep()
    forged = commit_rows([a_draft(5, ledger=books.id, text="Forged.")], Head(books.id, 4, "0" * 64))
    admin.execute(
        "update artist_bio_gen.commits set line = %s, hash = %s where seq = 5",
        [forged[0].line, forged[0].hash],
    )
    books.path.write_bytes(DAMAGES["a line in the middle is changed"][0](books.lines))
    assert [(each.first, each.last) for each in refused(books, "line 5").lost] == [(5, 5)]


def test_the_ledger_of_the_builders_is_not_this_one(keep: Keep) -> None:
    assert keep().id not in (LEDGER, OTHER_LEDGER)


def test_lines_of_a_repaired_file_end_with_line_feeds(keep: Keep) -> None:
    books = keep()
    books.path.write_bytes(books.whole[:-1])
    assert books.repair().all_well
    assert lines_of(books.path) == books.lines


# ---- the command ------------------------------------------------------------------------------


def test_the_command_shows_and_with_yes_mends(keep: Keep, url: str, tmp_path: Path) -> None:
    books = keep()
    damaged = DAMAGES["a line in the middle is changed"][0](books.lines)
    books.path.write_bytes(damaged)
    environ = {"DATABASE_URL": url}
    shown = call("repair", str(books.path), environ=environ, cwd=tmp_path)
    assert shown.exit_code == 5, shown.output
    offset = offset_of(books, 5)
    assert f"out.jsonl byte {offset:,}: " in shown.output
    assert "11 lines are its own, 1 from the database" in shown.output
    assert "--yes" in shown.output
    assert books.path.read_bytes() == damaged
    done = call("repair", str(books.path), "--yes", "--json", environ=environ, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["counts"] == {"damaged_line": 1}
    assert (told["applied"], told["head"]["seq"]) == (True, LINES)
    assert Path(told["files"][0]["kept"]).read_bytes() == damaged
    assert books.path.read_bytes() == books.whole
    well = call("repair", str(books.path), environ=environ, cwd=tmp_path)
    assert well.exit_code == 0, well.output
    assert "nothing is to be mended" in well.output


def test_the_command_refuses_with_the_way_out(
    keep: Keep, url: str, tmp_path: Path, admin: psycopg.Connection
) -> None:
    books = keep()
    admin.execute("delete from artist_bio_gen.commits where seq = 5")
    books.path.write_bytes(DAMAGES["a line in the middle is changed"][0](books.lines))
    before = books.beside()
    done = call("repair", str(books.path), "--yes", environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert done.exit_code == 5, done.output
    assert "have line 5, and a chain with a hole cannot be mended" in done.output
    assert books.beside() == before


def test_the_command_mends_what_a_link_leads_to(keep: Keep, url: str, tmp_path: Path) -> None:
    books = keep()
    link = tmp_path / "link.jsonl"
    link.symlink_to(books.path)
    books.path.write_bytes(books.whole[:-1])
    done = call("repair", str(link), "--yes", environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert link.is_symlink()
    assert books.path.read_bytes() == books.whole
