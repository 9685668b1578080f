"""A database gets back what a ledger holds, byte for byte and without a call to the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from artist_bio_gen.database.mending import MendingStore, NoTables, lacks_tables
from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.errors import LedgerError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import draft
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.repair import repair
from artist_bio_gen.restore import Restored, restore
from artist_bio_gen.resume import CHUNK, commit_row, put_back_lines, reconcile
from artist_bio_gen.values import Head
from tests.builders import RUN, artist, bio, sealed
from tests.integration.test_repair import joined, open_store
from tests.test_cli import call

ARTISTS = CHUNK + 20
"""More than one chunk: some of what follows is about its border."""

ANEW = (3, 4, CHUNK - 1)
"""Artists with a second bio, the first two right behind the others and the last one too."""


class Kept:
    """A ledger in file and database: a bio for each artist, and for some a second one."""

    def __init__(self, path: Path, url: str, artists: int = ARTISTS) -> None:
        self.path = path
        self.url = url
        with Ledger.create(path) as ledger, ledger.locked(), open_store(url) as store:
            self.id = ledger.id
            drafts = [
                draft(
                    artist(number, generation=generation),
                    bio(f"Bio {generation} of “{number}”.\n\\ \u2028 \x1f \x7f 🎷"),
                    ledger=self.id,
                    run=RUN,
                )
                for generation, numbers in ((1, range(1, artists + 1)), (2, ANEW))
                for number in numbers
            ]
            lines = sealed(drafts, ledger.head)
            ledger.append(lines)
            ledger.save_head()
            reconcile(ledger, store, put_back_all=True)
            store.begin_run(RUN, self.id, "1", {})
            self.lines = [line.data for line in lines]
            self.head = ledger.head

    def restore(self, *, apply: bool = True, replace: bool = False) -> Restored:
        with Ledger.open(self.path) as ledger, open_store(self.url) as store:
            return restore(ledger, store, apply=apply, replace=replace)


@pytest.fixture
def kept(tmp_path: Path, url: str) -> Kept:
    return Kept(tmp_path / "out.jsonl", url)


def rows(conn: psycopg.Connection) -> dict[str, list[Any]]:
    """All that a restore brings back."""
    return {
        "commits": conn.execute("select * from artist_bio_gen.commits order by seq").fetchall(),
        "heads": conn.execute(
            "select ledger, seq, hash, table_name, path from artist_bio_gen.heads"
        ).fetchall(),
        "artists": conn.execute("select * from artists order by id").fetchall(),
        "runs": conn.execute("select run, ledger from artist_bio_gen.runs").fetchall(),
    }


def replaced(conn: psycopg.Connection) -> list[tuple[str, str]]:
    return conn.execute(
        "select artist_id, bio from artist_bio_gen.replaced_bios order by replaced_at, artist_id"
    ).fetchall()


# ---- what comes back --------------------------------------------------------------------------


def test_an_empty_database_gets_everything(kept: Kept, admin: psycopg.Connection) -> None:
    whole = rows(admin)
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    migrate(kept.url, table="artists")
    found = kept.restore(apply=False)
    assert (found.commits, found.runs) == ({"missing": len(kept.lines)}, 1)
    assert (found.bios["no_row"], found.database_head) == (ARTISTS, None)
    assert not any(
        admin.execute(f"select from {table}").rowcount  # type: ignore[arg-type]
        for table in ("artists", "artist_bio_gen.commits", "artist_bio_gen.heads")
    )
    done = kept.restore()
    assert done.applied
    assert done.all_well
    assert rows(admin) == whole
    again = kept.restore()
    assert not again.differs
    assert rows(admin) == whole


def test_what_an_empty_database_lacks_is_told_without_its_tables(
    kept: Kept, admin: psycopg.Connection
) -> None:
    assert not lacks_tables(kept.url)
    admin.execute("drop schema artist_bio_gen cascade")
    assert lacks_tables(kept.url)
    with Ledger.open(kept.path) as ledger:
        found = restore(ledger, NoTables(), apply=False)
    assert found.counts == {"missing_row": len(kept.lines) + ARTISTS, "unknown_run": 1}
    assert found.head == kept.head


def test_ten_thousand_rows_come_back_byte_for_byte(
    tmp_path: Path, url: str, admin: psycopg.Connection
) -> None:
    kept = Kept(tmp_path / "out.jsonl", url, artists=10_000)
    whole = rows(admin)
    assert [row[-1].encode() for row in whole["commits"]] == kept.lines
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    migrate(url, table="artists")
    assert kept.restore().all_well
    assert rows(admin) == whole


DAMAGES = {
    "rows in the middle are gone": "delete from artist_bio_gen.commits where seq between 3 and 9",
    "rows at the end are gone": (
        f"delete from artist_bio_gen.commits where seq > {ARTISTS};"
        " update artist_bio_gen.heads h set seq = c.seq, hash = c.hash"
        f" from artist_bio_gen.commits c where c.seq = {ARTISTS};"
        " update artists set bio = replace(bio, 'Bio 2', 'Bio 1')"
    ),
    "all commit rows are gone": "truncate artist_bio_gen.commits",
    "the head is gone": "truncate artist_bio_gen.heads",
    "all of the program's rows are gone": (
        "truncate artist_bio_gen.commits, artist_bio_gen.heads, artist_bio_gen.runs"
    ),
    "the artists are gone": "truncate artists",
    "some artists are gone": "delete from artists where id in ('3', '7', '510')",
    "some bios are gone": "update artists set bio = null where id in ('3', '7', '510')",
    "some bios are empty": "update artists set bio = '' where id in ('3', '7', '510')",
    "a line was changed": (
        "update artist_bio_gen.commits set line = replace(line, '1933', '1934') where seq = 5"
    ),
    "a line is no JSON": "update artist_bio_gen.commits set line = '{' where seq in (3, 5)",
    "an artist's id was changed": (
        "update artist_bio_gen.commits set artist_id = 'x' where seq = 5"
    ),
    "two rows changed places": (
        "update artist_bio_gen.commits set seq = -1 where seq = 3;"
        " update artist_bio_gen.commits set seq = 3 where seq = 510;"
        " update artist_bio_gen.commits set seq = 510 where seq = -1"
    ),
    "a row got another number": (
        "update artist_bio_gen.commits set seq = seq + 10000 where seq = 3"
    ),
    "an older bio stands in the table": (
        "update artists set bio = replace(bio, 'Bio 2', 'Bio 1') where id = '3'"
    ),
    "the run is not known": "truncate artist_bio_gen.runs",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_the_database_lost_comes_back(
    kept: Kept, admin: psycopg.Connection, name: str
) -> None:
    whole = rows(admin)
    admin.execute(DAMAGES[name].encode())
    damaged = rows(admin)
    assert damaged != whole
    found = kept.restore(apply=False)
    assert found.differs
    assert not found.all_well
    assert rows(admin) == damaged, "it was to be shown only"
    assert kept.restore().all_well
    assert rows(admin) == whole
    assert not kept.restore(apply=False).differs


def test_counts_and_examples_are_told(kept: Kept, admin: psycopg.Connection) -> None:
    admin.execute("delete from artist_bio_gen.commits where seq between 3 and 9")
    admin.execute("delete from artists where id = '20'")
    admin.execute("update artist_bio_gen.commits set line = '{' where seq = 15")
    found = kept.restore(apply=False)
    assert found.counts == {"missing_row": 8, "text_differs": 1}
    assert found.commits == {"same": len(kept.lines) - 8, "missing": 7, "differs": 1}
    assert [each.seq for each in found.examples] == [3, 4, 5, 6, 7, 15]


# ---- texts that are not the ledger's ----------------------------------------------------------


def test_a_text_of_another_hand_stays_and_is_counted(kept: Kept, admin: psycopg.Connection) -> None:
    whole = rows(admin)
    admin.execute("update artists set bio = 'By hand.' where id in ('3', '7')")
    admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads")
    edited = rows(admin)["artists"]
    before = replaced(admin)
    done = kept.restore()
    assert (done.left, done.replaced, done.all_well) == (2, 0, False)
    assert rows(admin) == whole | {"artists": edited}
    assert replaced(admin) == before
    found = kept.restore(apply=False, replace=True)
    assert (found.replaced, found.all_well) == (2, False)
    assert rows(admin)["artists"] == edited


def test_with_replace_it_gives_way_and_is_kept(kept: Kept, admin: psycopg.Connection) -> None:
    whole = rows(admin)
    before = replaced(admin)
    for text in ("By hand.", "By hand again."):
        admin.execute("update artists set bio = %s where id in ('3', '7')", [text])
        done = kept.restore(replace=True)
        assert (done.left, done.replaced, done.all_well) == (0, 2, True)
        assert rows(admin) == whole
    assert sorted(replaced(admin)) == sorted(
        [
            *before,
            *[(number, text) for number in "37" for text in ("By hand.", "By hand again.")],
        ]
    )


def test_a_newer_bio_that_is_there_is_not_taken_for_another_hand(
    kept: Kept, admin: psycopg.Connection
) -> None:
    """The program's tables are gone, the artists' is there: its texts are the newest lines'."""
    whole = rows(admin)
    admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads")
    admin.execute("truncate artist_bio_gen.replaced_bios")
    done = kept.restore(replace=True)
    assert (done.replaced, done.all_well) == (0, True)
    assert rows(admin) == whole
    assert replaced(admin) == []


def test_a_row_that_stands_twice_is_put_right_twice(kept: Kept, admin: psycopg.Connection) -> None:
    admin.execute("alter table artists drop constraint artists_pkey")
    admin.execute("insert into artists values ('7', 'Artist 7', null)")
    assert kept.restore().all_well
    bios = admin.execute("select distinct bio from artists where id = '7'").fetchall()
    assert len(bios) == 1


def test_of_rows_with_the_same_id_each_text_that_gives_way_is_kept(
    kept: Kept, admin: psycopg.Connection
) -> None:
    admin.execute("alter table artists drop constraint artists_pkey")
    admin.execute("update artists set bio = 'One.' where id = '7'")
    admin.execute("insert into artists values ('7', 'Artist 7', 'Other.')")
    assert kept.restore(replace=True).all_well
    assert ("7", "One.\n\nOther.") in replaced(admin)


def test_lines_put_aside_are_kept_beside_the_texts_they_had_replaced(
    kept: Kept, admin: psycopg.Connection
) -> None:
    last = len(kept.lines)
    admin.execute(
        "insert into artist_bio_gen.commits (ledger, seq, run, artist_id, generation, input_sha256,"
        " prompt_sha256, hash, line)"
        " select ledger, seq + 2, run, artist_id, 9, input_sha256, prompt_sha256, hash, line"
        " from artist_bio_gen.commits where seq = %s",
        [last],
    )
    admin.execute(
        "insert into artist_bio_gen.replaced_bios (ledger, seq, artist_id, bio)"
        " select ledger, seq, artist_id, 'Of old.' from artist_bio_gen.commits where seq = %s",
        [last + 2],
    )
    assert kept.restore().all_well
    assert {"Of old.", kept.lines[-1].decode()} <= {bio for _, bio in replaced(admin)}


# ---- what does not fit ------------------------------------------------------------------------


def unchanged(kept: Kept, admin: psycopg.Connection, match: str) -> None:
    before = rows(admin)
    with pytest.raises(LedgerError, match=match):
        kept.restore(replace=True)
    assert rows(admin) == before


def test_a_ledger_that_does_not_verify_is_refused(kept: Kept, admin: psycopg.Connection) -> None:
    kept.path.write_bytes(kept.path.read_bytes()[:-10])
    unchanged(kept, admin, "artist-bio-gen repair")


def test_a_ledger_that_is_behind_is_refused(kept: Kept, admin: psycopg.Connection) -> None:
    kept.path.write_bytes(joined(kept.lines[:-2]))
    beside(kept.path, "head").unlink()
    unchanged(kept, admin, "artist-bio-gen repair")


def test_commit_rows_that_go_on_behind_the_ledger_are_lines_it_lacks(
    kept: Kept, admin: psycopg.Connection
) -> None:
    """Also where the head was set back: repair brings them into the file."""
    kept.path.write_bytes(joined(kept.lines[:-2]))
    beside(kept.path, "head").unlink()
    admin.execute(
        "update artist_bio_gen.heads h set seq = c.seq, hash = c.hash"
        " from artist_bio_gen.commits c where c.seq = 5"
    )
    unchanged(kept, admin, "artist-bio-gen repair")
    with open_store(kept.url) as store:
        assert repair(kept.path, store, apply=True).applied
    assert kept.path.read_bytes() == joined(kept.lines)
    assert kept.restore().all_well


def test_a_database_that_went_its_own_way_is_refused(kept: Kept, admin: psycopg.Connection) -> None:
    admin.execute("update artist_bio_gen.heads set hash = repeat('0', 64)")
    unchanged(kept, admin, "have parted")


def test_a_table_that_does_not_take_the_ids_is_told(kept: Kept, admin: psycopg.Connection) -> None:
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    admin.execute("create table artists (id uuid, name text, bio text)")
    migrate(kept.url, table="artists")
    with pytest.raises(LedgerError, match=r"cannot be put back.*uuid"):
        kept.restore()


# ---- stopped on the way -----------------------------------------------------------------------


class Stop(Exception):
    """The end of a process, as far as the database can tell."""


class StoppedStore(MendingStore):
    """Ends with the `left`-th transaction, before or after it."""

    left = 0
    after = False

    def put_right(self, *arguments: Any, **named: Any) -> None:
        self._act(lambda: super(StoppedStore, self).put_right(*arguments, **named))

    def commit(self, *arguments: Any, **named: Any) -> Any:
        return self._act(lambda: super(StoppedStore, self).commit(*arguments, **named))

    def _act(self, work: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Stop
        done = work()
        if self.left == 0:
            raise Stop
        return done


@pytest.fixture
def stopped_stores(url: str) -> Iterator[Callable[..., StoppedStore]]:
    stores: list[StoppedStore] = []

    def opening(left: int, *, after: bool) -> StoppedStore:
        stores.append(StoppedStore(url, table="artists", sleep=lambda seconds: None))
        stores[-1].left, stores[-1].after = left, after
        return stores[-1]

    yield opening
    for store in stores:
        store.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_restore_that_was_stopped_is_gone_on_with(
    kept: Kept,
    admin: psycopg.Connection,
    stopped_stores: Callable[..., StoppedStore],
    after: bool,
) -> None:
    whole = rows(admin)
    stops = 0
    for left in range(1, 20):
        admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads, artists")
        store = stopped_stores(left, after=after)
        try:
            with Ledger.open(kept.path) as ledger:
                restore(ledger, store, apply=True)
        except Stop:
            stops += 1
        else:
            break
        finally:
            store.close()
        # What is committed has its bio: a run that went on from here would leave nobody out.
        lines = admin.execute(
            "select c.artist_id, max(c.seq) from artist_bio_gen.commits c group by 1"
        ).fetchall()
        bios = dict(admin.execute("select id, bio from artists").fetchall())
        assert bios == {name: text_of(kept.lines[seq - 1]) for name, seq in lines}
        assert kept.restore().all_well
        assert rows(admin) == whole
    assert stops >= 2


def text_of(line: bytes) -> str:
    return commit_row(line).bio


def test_lines_behind_the_head_are_put_back_as_by_resume(
    kept: Kept, admin: psycopg.Connection
) -> None:
    """The same code: restore's own store commits what `--resume --restore` would."""
    whole = rows(admin)
    admin.execute("truncate artist_bio_gen.commits, artist_bio_gen.heads, artists")
    with Ledger.open(kept.path) as ledger, open_store(kept.url) as store, ledger.locked():
        empty = Head(ledger.id, 0, ledger.first_prev)
        store.create_head(empty, str(kept.path.resolve()))
        lines: Sequence[bytes] = kept.lines
        there = put_back_lines(ledger, store, [commit_row(line) for line in lines], empty)
    assert there == kept.head
    assert rows(admin) == whole


# ---- the command ------------------------------------------------------------------------------


def test_the_command_shows_and_with_yes_restores(
    kept: Kept, admin: psycopg.Connection, tmp_path: Path
) -> None:
    whole = rows(admin)
    admin.execute("drop schema artist_bio_gen cascade; drop table artists")
    words = ("restore", str(kept.path))
    environ = {"DATABASE_URL": kept.url}
    shown = call(*words, environ=environ, cwd=tmp_path)
    assert shown.exit_code == 5, shown.output
    assert f"commit rows: {len(kept.lines)} would be put right" in shown.output
    assert lacks_tables(kept.url)
    done = call(*words, "--yes", "--json", environ=environ, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["applied"], told["commits"]) == (True, {"missing": len(kept.lines)})
    assert rows(admin) == whole
    well = call(*words, environ=environ, cwd=tmp_path)
    assert well.exit_code == 0, well.output
    assert "has all that the ledger holds" in well.output


def test_the_command_tells_of_texts_that_stay(
    kept: Kept, admin: psycopg.Connection, tmp_path: Path
) -> None:
    whole = rows(admin)
    admin.execute("update artists set bio = 'By hand.' where id = '7'")
    words = ("restore", str(kept.path), "--yes")
    environ = {"DATABASE_URL": kept.url}
    left = call(*words, environ=environ, cwd=tmp_path)
    assert (left.exit_code, "texts: 1 in the table" in left.output) == (5, True), left.output
    done = call(*words, "--replace", environ=environ, cwd=tmp_path)
    assert (done.exit_code, "texts: 1 replaced" in done.output) == (0, True), done.output
    assert rows(admin) == whole


@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_a_ledger_without_line_and_head_is_refused_and_left_as_it_is(
    kept: Kept, admin: psycopg.Connection, tmp_path: Path, yes: tuple[str, ...]
) -> None:
    kept.path.write_bytes(b"")
    beside(kept.path, "head").unlink()
    before = rows(admin)
    said = call("restore", str(kept.path), *yes, environ={"DATABASE_URL": kept.url}, cwd=tmp_path)
    assert said.exit_code == 5, said.output
    assert f"repair {kept.path} --ledger-id {kept.id}" in said.output
    assert rows(admin) == before
    assert not beside(kept.path, "head").exists()
    other = tmp_path / "other.jsonl"
    other.touch()
    said = call("restore", str(other), *yes, environ={"DATABASE_URL": kept.url}, cwd=tmp_path)
    assert said.exit_code == 2, said.output
    assert "holds no line" in said.output
    assert rows(admin) == before
    assert not beside(other, "head").exists()


@pytest.mark.parametrize("lost", ["the table", "a migration"])
def test_a_table_that_is_not_there_hides_no_commit_row(
    kept: Kept, admin: psycopg.Connection, tmp_path: Path, lost: str
) -> None:
    if lost == "the table":
        admin.execute("alter table artists rename to artists_2")
    else:
        admin.execute("delete from artist_bio_gen.migrations where number = 1")
    said = call("restore", str(kept.path), environ={"DATABASE_URL": kept.url}, cwd=tmp_path)
    assert said.exit_code == 3, said.output
    assert "has no commit row" not in said.output
    assert ("has no table 'artists'" if lost == "the table" else "migrate") in said.output
