"""A ledger compared with a real database: each kind of difference, told once."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from artist_bio_gen.database.compare import LONGEST_GATHERED, Gathered, snapshot
from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import ConfigError, LimitError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, draft
from artist_bio_gen.ledger.scan import NEXT_TEXT, TOGETHER
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.ledger.verify import Difference, Kind, Report
from artist_bio_gen.values import Head
from artist_bio_gen.verify import Compared, verify
from tests.builders import RUN, artist, bio, commit_rows, ends_of_lines, lines_of, sealed
from tests.test_cli import call

LINES = 12
RUN_2 = "00000000-0000-4000-8000-000000000002"


class Books:
    """A ledger and its database, in which each bio is committed and appended. `hashed`: as `verify`
    takes it."""

    def __init__(
        self, path: Path, url: str, table: str = "artists", hashed: bool | None = None
    ) -> None:
        self.path = path
        self.url = url
        self.table = table
        self.hashed = hashed
        self.ledger = Ledger.create(path)
        self.store = BioStore(url, table=table, sleep=lambda seconds: None)
        self.store.create_head(self.ledger.head, str(path))
        self.store.begin_run(RUN, self.ledger.id, "0", {})

    def close(self) -> None:
        self.store.close()
        self.ledger.close()

    def drafts(
        self, ids: Sequence[str], *, generation: int = 1, run: str = RUN, text: str = "Bio"
    ) -> list[Draft]:
        return [
            draft(
                artist(id=each, generation=generation),
                bio(f'{text} {generation} of "{each}",\nborn\u2028in 1933.'),
                ledger=self.ledger.id,
                run=run,
            )
            for each in ids
        ]

    def commit(self, drafts: Sequence[Draft]) -> None:
        head = self.store.head(self.ledger.id)
        assert head is not None
        self.store.commit(commit_rows(drafts, head), old=head)

    def append(self, drafts: Sequence[Draft]) -> None:
        with self.ledger.locked():
            self.ledger.append(sealed(drafts, self.ledger.head))

    def write(self, ids: Sequence[str], *, generation: int = 1, text: str = "Bio") -> None:
        drafts = self.drafts(ids, generation=generation, text=text)
        self.commit(drafts)
        self.append(drafts)

    def verify(self, **given: object) -> tuple[Report, Compared]:
        return verify(self.path, self.url, table=self.table, hashed=self.hashed, **given)  # type: ignore[arg-type]

    def report(self) -> Report:
        return self.verify()[0]


@pytest.fixture(params=[False, True], ids=["sent", "hashed"])
def books(tmp_path: Path, url: str, request: pytest.FixtureRequest) -> Iterator[Books]:
    books = Books(tmp_path / "out.jsonl", url, hashed=request.param)
    books.write([str(number) for number in range(1, LINES + 1)])
    yield books
    books.close()


def only(report: Report) -> Difference:
    (difference,) = report.examples
    assert report.counts == {difference.kind: difference.count}
    return difference


def told(report: Report) -> list[tuple[Kind, int | None, int]]:
    return [(each.kind, each.seq, each.count) for each in report.examples]


# ---- the same on both sides -------------------------------------------------------------------


def test_ledger_and_database_tell_the_same(books: Books) -> None:
    report, compared = books.verify()
    assert report.ok
    assert report.notes == ()
    head = Head(books.ledger.id, LINES, lines_of(books.path)[-1][-66:-2].decode())
    assert compared == Compared("public.artists", head, LINES)


def test_the_newest_bio_of_an_artist_is_the_one_that_counts(books: Books) -> None:
    everyone = [str(number) for number in range(1, LINES + 1)]
    books.write(everyone, generation=2)
    books.write(everyone[3:5], generation=3)
    assert books.report().ok


def test_ids_of_every_kind_that_a_text_column_takes(tmp_path: Path, url: str) -> None:
    books = Books(tmp_path / "out.jsonl", url)
    books.write(["a\tb", "c\\d", "e\nf\rg", 'h"i', "\x08\x0b\x0c\x7f", "ö\u2028\U0001f3b9", "\\N"])
    assert books.report().ok
    with psycopg.connect(url) as conn:
        conn.execute("update artists set bio = 'other'")
    assert {each.artist_id for each in books.report().examples} >= {
        "a\tb",
        "c\\d",
        "e\nf\rg",
        "\\N",
    }
    books.close()


@pytest.mark.parametrize("id_type", ["integer", "bigint primary key", "numeric", "varchar(20)"])
def test_tables_of_the_users_own(
    tmp_path: Path, url: str, admin: psycopg.Connection, id_type: str
) -> None:
    """Without an index as well, and with two rows of one id."""
    admin.execute(f'create table "Künst%ler" (name text, bio text, id {id_type})'.encode())
    books = Books(tmp_path / "out.jsonl", url, table="Künst%ler")
    books.write([str(number) for number in range(1, 30)])
    assert books.report().ok
    if "primary" not in id_type:
        admin.execute(
            'insert into "Künst%ler" select name, bio, id from "Künst%ler"'
            " where id in ('7', '9')"
        )
        assert books.report().ok
        admin.execute(
            'update "Künst%ler" set bio = $$other$$ where ctid = (select max(ctid) from'
            " \"Künst%ler\" where id = '9')"
        )
        found = only(books.report())
        assert (found.kind, found.artist_id) == ("text_differs", "9")
    books.close()


@pytest.mark.parametrize("columns", ["", "(id, bio)"])
def test_the_right_to_read_is_enough(books: Books, admin: psycopg.Connection, columns: str) -> None:
    """Also that to read the two columns alone, which is what a run needs."""
    admin.execute("create role bio_reader")
    try:
        as_reader = make_conninfo(books.url, options="-c role=bio_reader")
        with pytest.raises(ConfigError, match="right to read"):
            verify(books.path, as_reader, table="artists")
        admin.execute("grant usage on schema artist_bio_gen to bio_reader")
        admin.execute("grant select on all tables in schema artist_bio_gen to bio_reader")
        admin.execute(f"grant select {columns} on artists to bio_reader".encode())
        report, _ = verify(books.path, as_reader, table="artists", hashed=books.hashed)
        assert report.ok
    finally:
        admin.execute("drop owned by bio_reader; drop role bio_reader")


# ---- many at once -----------------------------------------------------------------------------

MANY = 2 * TOGETHER + 100
TAKES_RANGES = ""  # as it is made: with a primary key
LOOKS_UP = "alter table artists drop constraint artists_pkey; create index on artists (id)"
READS_ALL = "alter table artists drop constraint artists_pkey"


@pytest.fixture
def many(tmp_path: Path, url: str) -> Iterator[Books]:
    """Ids that are no numbers, and bios with what JSON escapes."""
    books = Books(tmp_path / "out.jsonl", url)
    for first in range(1, MANY + 1, 100):
        books.write([f"{number:x}" for number in range(first, min(first + 100, MANY + 1))])
    yield books
    books.close()


def gathered(books: Books, *, hashed: bool) -> list[Gathered]:
    with (
        snapshot(books.url, books.ledger.id, books.table, hashed=hashed) as there,
        closing(there.gathered(MANY, TOGETHER, NEXT_TEXT.decode())) as rows,
    ):
        return [*rows]


def columns(books: Books) -> list[tuple[bytes, ...]]:
    """What is to be gathered, made of the ledger line by line."""
    lines = lines_of(books.path)
    batches = [lines[at : at + TOGETHER] for at in range(0, len(lines), TOGETHER)]
    made = []
    for batch in batches:
        parsed = [json.loads(line) for line in batch]
        made.append(
            (
                b"\n".join(batch),
                " ".join(str(each["seq"]) for each in parsed).encode(),
                " ".join(each["hash"] for each in parsed).encode(),
                " ".join(str(each["generation"]) for each in parsed).encode(),
                "\n".join(each["artist_id"] for each in parsed).encode(),
                NEXT_TEXT.join(each["response_text"].encode() for each in parsed),
            )
        )
    return made


@pytest.mark.parametrize("order", ["as written", "shuffled", "half of it moved"])
@pytest.mark.parametrize("index", [TAKES_RANGES, LOOKS_UP])
def test_what_is_gathered_is_what_the_ledger_has_wherever_the_rows_stand(
    many: Books, admin: psycopg.Connection, order: str, index: str
) -> None:
    if order == "shuffled":
        admin.execute("create table kept as select * from artists; truncate artists")
        admin.execute("insert into artists select * from kept order by md5(id)")
    elif order == "half of it moved":
        admin.execute("update artists set name = repeat('long ', 200) where md5(id) < '8'")
    admin.execute(index.encode())
    expected = columns(many)
    there = gathered(many, hashed=False)
    assert [each.after for each in there] == [0, TOGETHER, 2 * TOGETHER]
    assert [(each.count, each.whole) for each in there] == 2 * [(TOGETHER,) * 2] + [(100, 100)]
    assert [each.columns for each in there] == expected
    assert [each.columns for each in gathered(many, hashed=True)] == [
        tuple(hashlib.sha256(column).digest() for column in batch) for batch in expected
    ]


def test_a_table_without_an_index_is_not_read_once_for_each_batch(
    many: Books, admin: psycopg.Connection
) -> None:
    admin.execute(READS_ALL.encode())
    assert gathered(many, hashed=False) == []
    report, compared = many.verify()
    assert (report.ok, compared.lines) == (True, MANY)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_is_told_however_the_rows_are_read(
    many: Books, admin: psycopg.Connection, processes: int
) -> None:
    """In batches with their neighbours, in batches, and one by one."""
    other = Books(many.path.with_name("other.jsonl"), many.url)
    other.write(["64", "1f4"], text="Anew")
    commits = f"artist_bio_gen.commits {{}} where ledger = '{many.ledger.id}' and seq"
    admin.execute(f"update {commits.format('set line = line || chr(10)')} = 3".encode())
    admin.execute(f"update {commits.format('set hash = hash || chr(32)')} = 7".encode())
    admin.execute(f"update {commits.format('set generation = 2')} = {TOGETHER}".encode())
    admin.execute(f"delete from {commits.format('')} in ({TOGETHER + 1}, {MANY})".encode())
    admin.execute("update artists set bio = bio || chr(30) where id in ('9', '1ff', '200')")
    admin.execute("update artists set bio = null where id in ('a', '250')")
    admin.execute("delete from artists where id in ('b', '251')")
    told = []
    for index in (TAKES_RANGES, LOOKS_UP, "drop index artists_id_idx"):
        admin.execute(index.encode())
        for hashed in (False, True):
            many.hashed = hashed
            told.append(many.verify(processes=processes, examples=None))
    report = told[0][0]
    assert report.counts == {"missing_row": 4, "text_differs": 8}
    assert report.notes[0].startswith("2 artists have the text that another ledger")
    assert all(each == told[0] for each in told)
    other.close()


@pytest.mark.parametrize("seq", [9, TOGETHER, MANY])
def test_an_id_that_stands_once_more_far_away(
    many: Books, admin: psycopg.Connection, seq: int
) -> None:
    """Where nothing says that ids stand there once, what is nearby is not all. Also of the last
    line of all that are compared at once."""
    admin.execute(LOOKS_UP.encode())
    again = "insert into artists select id, name, 'other' from artists where id = %s"
    admin.execute(again.encode(), [f"{seq:x}"])
    found = only(many.report())
    assert (found.kind, found.seq) == ("text_differs", seq)


def test_each_of_many_differences_is_told_once(many: Books, admin: psycopg.Connection) -> None:
    admin.execute("update artists set bio = 'by hand'")
    assert many.report().counts == {"text_differs": MANY}


def test_a_line_or_a_bio_too_long_to_be_gathered_is_compared(
    many: Books, admin: psycopg.Connection
) -> None:
    many.write(["long"], text="x" * LONGEST_GATHERED)
    many.write([f"after {number}" for number in range(TOGETHER)])
    last = gathered(many, hashed=False)[-1]
    assert (last.count, last.whole) == (TOGETHER, TOGETHER - 1)
    report, compared = many.verify()
    assert (report.ok, compared.lines) == (True, MANY + 1 + TOGETHER)
    admin.execute("update artists set bio = bio || 'x' where id = 'long'")
    assert only(many.report()).seq == MANY + 1


def test_ids_and_bios_with_what_stands_between_them(
    tmp_path: Path, url: str, admin: psycopg.Connection
) -> None:
    """Joined, some rows look the same after a change as before."""
    books = Books(tmp_path / "out.jsonl", url)
    texts = {"a\nb": "x\x1ey", "c": "z", "d": "w"}
    drafts = [
        draft(artist(id=id_), bio(text), ledger=books.ledger.id, run=RUN)
        for id_, text in texts.items()
    ]
    books.commit(drafts)
    books.append(drafts)
    assert books.report().ok
    for changed in (["x", "y\x1ez", "w"], ["x\x1ey", None, "z\x1ew"]):
        for id_, text in zip(texts, changed, strict=True):
            admin.execute("update artists set bio = %s where id = %s", [text, id_])
        differ = [
            ("text_differs", seq, 1)
            for seq, (old, new) in enumerate(zip(texts.values(), changed, strict=True), 1)
            if old != new
        ]
        assert told(books.report()) == differ
    books.close()


def test_rows_that_only_look_the_same_when_joined(books: Books, admin: psycopg.Connection) -> None:
    admin.execute(
        "update artists t set bio = o.bio || chr(30) || t.bio from artists o"
        " where t.id = '6' and o.id = '5'"
    )
    admin.execute("update artists set bio = null where id = '5'")
    assert told(books.report()) == [("text_differs", 5, 1), ("text_differs", 6, 1)]
    admin.execute(
        "update artist_bio_gen.commits c set line = o.line || chr(10) || c.line"
        " from artist_bio_gen.commits o where c.seq = 3 and o.seq = 2"
    )
    admin.execute("alter table artist_bio_gen.commits alter line drop not null")
    admin.execute("update artist_bio_gen.commits set line = null where seq = 2")
    assert {each.seq for each in books.report().examples} == {2, 3, 5, 6}


# ---- differences ------------------------------------------------------------------------------


def test_a_bio_that_was_changed_by_hand(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("update artists set bio = bio || '!' where id = '4'")
    found = only(books.report())
    ends = ends_of_lines(books.path.read_bytes())
    assert (found.kind, found.seq, found.file, found.offset, found.artist_id) == (
        "text_differs",
        4,
        books.path,
        ends[3],
        "4",
    )


@pytest.mark.parametrize("text", [None, ""])
def test_a_bio_that_was_taken_away(
    books: Books, admin: psycopg.Connection, text: str | None
) -> None:
    admin.execute("update artists set bio = %s where id = '4'", [text])
    assert told(books.report()) == [("text_differs", 4, 1)]


def test_an_artist_that_was_deleted(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("delete from artists where id in ('2', '9')")
    assert told(books.report()) == [("missing_row", 2, 1), ("missing_row", 9, 1)]


@pytest.mark.parametrize(
    "change",
    [
        "line = replace(line, 'born', 'Born')",
        "line = line || ' '",
        "hash = repeat('0', 64)",
        "artist_id = 'someone else'",
        "generation = 7",
        "line = (select line from artist_bio_gen.commits where seq = 3)",
    ],
)
def test_a_commit_row_that_was_changed(
    books: Books, admin: psycopg.Connection, change: str
) -> None:
    admin.execute(f"update artist_bio_gen.commits set {change} where seq = 5".encode())
    assert told(books.report()) == [("text_differs", 5, 1)]


def test_commit_rows_that_are_gone(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("delete from artist_bio_gen.commits where seq in (3, 7)")
    assert told(books.report()) == [("missing_row", 3, 1), ("missing_row", 7, 1)]


def test_a_database_that_is_an_older_copy(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("delete from artist_bio_gen.commits where seq > 9")
    admin.execute(
        "update artist_bio_gen.heads h set seq = 9, hash = c.hash"
        " from artist_bio_gen.commits c where c.seq = 9"
    )
    report = books.report()
    assert report.counts == {"missing_row": 3}


def test_a_head_behind_the_commit_rows(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("update artist_bio_gen.heads set seq = 20, hash = repeat('0', 64)")
    assert books.report().counts == {"missing_row": 8, "head_ahead": 1}


@pytest.mark.parametrize("seq", [1, 9])
def test_a_head_that_was_moved_back(books: Books, admin: psycopg.Connection, seq: int) -> None:
    admin.execute(
        "update artist_bio_gen.heads h set seq = c.seq, hash = c.hash"
        " from artist_bio_gen.commits c where c.seq = %s",
        [seq],
    )
    found = only(books.report())
    assert (found.kind, found.seq, found.count) == ("chain_break", seq + 1, LINES - seq)
    assert found.detail == f"the database's head is line {seq}, its commit rows end with {LINES}"


def test_commit_rows_that_no_line_can_have(books: Books, admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into artist_bio_gen.commits select ledger, n, run, 'x' || n, generation,"
        " input_sha256, prompt_sha256, hash, line"
        " from artist_bio_gen.commits, generate_series(-1, 0) n where seq = 5"
    )
    found = only(books.report())
    assert (found.kind, found.seq, found.count) == ("chain_break", None, 2)
    assert "-1 to 0" in found.detail


def test_a_ledger_that_is_an_older_copy(books: Books) -> None:
    lines = lines_of(books.path)
    books.path.write_bytes(b"".join(line + b"\n" for line in lines[:9]))
    report = books.report()
    assert report.counts == {"missing_line": 3, "head_ahead": 1}
    assert report.examples[0].seq == 10


def test_a_line_that_is_missing_or_damaged_in_the_file_is_told_once(books: Books) -> None:
    lines = lines_of(books.path)
    lines[7] = lines[7].replace(b"Bio", b"bio")
    books.path.write_bytes(b"".join(line + b"\n" for line in [*lines[:3], *lines[4:]]))
    assert told(books.report()) == [("damaged_line", 8, 1), ("missing_line", 4, 1)]


def test_a_ledger_that_the_database_does_not_know(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("delete from artist_bio_gen.heads")
    report, compared = books.verify()
    assert told(report) == [("wrong_database", None, 1)]
    assert compared.head is None
    admin.execute("drop schema artist_bio_gen cascade")
    assert told(books.report()) == [("wrong_database", None, 1)]


def test_an_emptied_ledger_is_not_in_order_where_the_database_has_its_lines(
    books: Books, tmp_path: Path
) -> None:
    books.path.write_bytes(b"")
    beside(books.path, "head").unlink()
    report, compared = books.verify()
    found = only(report)
    assert (found.kind, found.seq, found.count) == ("missing_line", 1, LINES)
    assert f"artist-bio-gen repair {books.path} --ledger-id {books.ledger.id}" in found.detail
    assert compared.head is None


def test_an_empty_file_that_never_was_a_ledger_is_in_order(books: Books, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.touch()
    report, _ = verify(other, books.url, table="artists")
    assert (report.ok, len(report.notes)) == (True, 1)


def test_a_ledger_of_another_table(books: Books, admin: psycopg.Connection) -> None:
    admin.execute("create table singers (id text, name text, bio text)")
    report, _ = verify(books.path, books.url, table="singers")
    found = only(report)
    assert found.kind == "wrong_database"
    assert "public.artists" in found.detail
    assert "public.singers" in found.detail


def test_a_table_that_is_not_there(books: Books) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        verify(books.path, books.url, table="nobody")


def test_sides_that_went_on_separately(books: Books, tmp_path: Path) -> None:
    """A copy of the file was appended to, and the database by way of the other."""
    books.commit(books.drafts(["13", "14", "15"]))
    books.append(books.drafts(["13", "14", "15"], text="Another"))
    report = books.report()
    assert set(report.counts) == {"wrong_database"}
    assert [each.seq for each in report.examples] == [13, 14, 15, 15]


def test_a_run_that_the_database_does_not_know(books: Books) -> None:
    drafts = books.drafts(["13", "14"], run=RUN_2)
    books.commit(drafts)
    books.append(drafts)
    found = only(books.report())
    assert (found.kind, found.seq, found.count) == ("unknown_run", 13, 2)
    assert RUN_2 in found.detail


def test_a_text_that_another_ledger_wrote_is_no_difference(
    books: Books, tmp_path: Path, admin: psycopg.Connection
) -> None:
    other = Books(tmp_path / "other.jsonl", books.url)
    other.write(["4", "5"], text="Anew")
    report = books.report()
    assert report.ok
    assert report.notes[0].startswith("2 artists have the text that another ledger")
    assert other.report().ok
    admin.execute("update artists set bio = 'by hand' where id = '5'")
    assert told(books.report()) == [("text_differs", 5, 1)]
    other.close()


# ---- while a run is at work -------------------------------------------------------------------


def test_what_is_written_meanwhile_is_no_difference(books: Books) -> None:
    written = iter([["13"], ["14", "15"]])

    def progress(done: int, total: int) -> None:
        if (ids := next(written, None)) is not None:
            books.write(ids)

    report, compared = books.verify(progress=progress)
    assert report.ok
    assert compared.lines == LINES


def test_a_line_between_its_commit_and_its_place_in_the_file_is_waited_for(books: Books) -> None:
    drafts = books.drafts(["13", "14"])
    books.commit(drafts)
    waits = []
    with books.path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                with books.path.open("ab") as file:
                    for line in sealed(drafts, books.ledger.head):
                        file.write(line.data + b"\n")
                fcntl.flock(held, fcntl.LOCK_UN)

        report, compared = books.verify(sleep=sleep)
    assert (report.ok, compared.lines, len(waits)) == (True, LINES + 2, 3)


def test_a_line_younger_than_what_is_compared_is_left_out(books: Books) -> None:
    """It came, with a run of its own, while another one was waited for."""
    drafts = books.drafts(["13"])
    books.commit(drafts)
    with books.path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def sleep(seconds: float) -> None:
            later = books.drafts(["14"], run=RUN_2)
            books.commit(later)
            with books.path.open("ab") as file:
                for line in sealed([*drafts, *later], books.ledger.head):
                    file.write(line.data + b"\n")
            fcntl.flock(held, fcntl.LOCK_UN)

        report, compared = books.verify(sleep=sleep)
    assert (report.ok, compared.lines) == (True, LINES + 1)


def test_a_commit_without_its_line_is_told_when_nobody_writes_it(books: Books) -> None:
    books.commit(books.drafts(["13"]))
    assert told(books.report()) == [("missing_line", 13, 1), ("head_ahead", 13, 1)]


def test_a_database_that_goes_away_is_no_difference(
    books: Books, admin: psycopg.Connection
) -> None:
    def progress(done: int, total: int) -> None:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    with pytest.raises(LimitError, match="verify again when it is back"):
        books.verify(progress=progress)


# ---- as a command -----------------------------------------------------------------------------


def test_the_command_compares_with_the_database(books: Books, tmp_path: Path) -> None:
    environ = {"DATABASE_URL": books.url}
    done = call("verify", str(books.path), environ=environ, cwd=tmp_path)
    assert done.exit_code == 0
    assert "table public.artists: 12 lines compared" in done.output
    assert done.output.endswith("result   in order\n")


def test_the_command_tells_what_differs(
    books: Books, tmp_path: Path, admin: psycopg.Connection
) -> None:
    admin.execute("update artists set bio = 'other' where id = '4'")
    environ = {"DATABASE_URL": books.url}
    done = call("verify", str(books.path), environ=environ, cwd=tmp_path)
    assert done.exit_code == 5
    assert "text_differs   1\n" in done.output
    assert "line 4, out.jsonl, byte " in done.output
    assert ", artist 4: another text stands in public.artists" in done.output
    done = call("verify", str(books.path), "--json", environ=environ, cwd=tmp_path)
    assert done.exit_code == 5
    said = json.loads(done.output)
    assert said["counts"] == {"text_differs": 1}
    assert said["database"]["lines"] == LINES
    assert said["examples"][0]["artist_id"] == "4"


def test_the_command_leaves_the_database_out(books: Books, tmp_path: Path, url: str) -> None:
    migrate(url, table="singers")
    environ = {"DATABASE_URL": books.url, "ARTIST_BIO_GEN_TABLE": "singers"}
    done = call("verify", str(books.path), "--offline", environ=environ, cwd=tmp_path)
    assert done.exit_code == 0
    assert "database not looked at: --offline" in done.output


def test_without_an_address_nothing_is_started(books: Books, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    done = call("verify", str(books.path), "--data-dir", str(data_dir), cwd=tmp_path)
    assert done.exit_code == 0
    assert "no DATABASE_URL, and the embedded Postgres is absent" in done.output
    assert not data_dir.exists()
