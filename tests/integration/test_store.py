"""Bios and commit rows in a real Postgres, and what it takes to lose one."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from artist_bio_gen.database.connect import (
    at_the_start,
    check_server,
    connect,
    connect_first,
    describe,
)
from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.database.session import RowsRefusedError
from artist_bio_gen.database.store import BioStore, CommitRow, HeadMovedError
from artist_bio_gen.errors import ConfigError, LimitError
from artist_bio_gen.ledger.line import Draft, draft, first_prev
from artist_bio_gen.processor.control import StoppedError
from artist_bio_gen.values import Artist, Failed, Head
from tests.builders import LEDGER, RUN, a_draft, artist, bio, commit_rows
from tests.fakes.pg_proxy import Cut, PgProxy
from tests.postgres import Postgres

EMPTY = Head(LEDGER, 0, first_prev(LEDGER))


Open = Callable[..., BioStore]


@pytest.fixture
def open_store(url: str) -> Iterator[Open]:
    opened: list[BioStore] = []

    def opening(conninfo: str = url, **settings: object) -> BioStore:
        given = {"table": "artists", "sleep": lambda seconds: None, "max_wait": 20.0} | settings
        opened.append(BioStore(conninfo, **given))  # type: ignore[arg-type]
        return opened[-1]

    yield opening
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> BioStore:
    opened = open_store()
    opened.create_head(EMPTY, "/out.jsonl")
    return opened


def drafts(*numbers: int) -> list[Draft]:
    return [a_draft(number) for number in numbers]


def of(wanted: Artist, text: str = "A bio.") -> Draft:
    return draft(wanted, bio(text), ledger=LEDGER, run=RUN)


def head_after(rows: Sequence[CommitRow]) -> Head:
    return Head(LEDGER, rows[-1].seq, rows[-1].hash)


def bios(conn: psycopg.Connection, table: LiteralString = "artists") -> dict[str, str | None]:
    return dict(conn.execute("select id::text, bio from " + table + " order by 1").fetchall())


def lines(conn: psycopg.Connection) -> list[tuple[int, str]]:
    return conn.execute("select seq, line from artist_bio_gen.commits order by seq").fetchall()


# ---- committing -------------------------------------------------------------------------------


def test_a_group_is_committed_with_its_exact_lines_and_the_head_moves(
    store: BioStore, admin: psycopg.Connection
) -> None:
    rows = commit_rows(drafts(1, 2, 3), EMPTY)
    transaction = store.commit(rows, old=EMPTY)
    assert transaction is not None
    assert transaction.isdecimal()
    assert bios(admin) == {str(n): f"Bio of artist {n}." for n in (1, 2, 3)}
    assert lines(admin) == [(row.seq, row.line) for row in rows]
    assert store.head(LEDGER) == head_after(rows)
    kept = admin.execute(
        "select run::text, artist_id, generation, input_sha256, prompt_sha256, hash, ledger::text"
        " from artist_bio_gen.commits where seq = 2"
    ).fetchone()
    row = rows[1]
    assert kept == (RUN, "2", 1, row.input_sha256, row.prompt_sha256, row.hash, LEDGER)
    assert [store.line_hash(LEDGER, seq) for seq in (1, 3, 4)] == [rows[0].hash, rows[2].hash, None]


def test_any_text_is_stored_as_it_is(store: BioStore, admin: psycopg.Connection) -> None:
    text = "line\nline\r\n\ttab \u2028 'quoted' \"%s\" \\x00 {} $$ 🎷 ﷽"
    rows = commit_rows([of(artist(1, id="ü %", name=text), text)], EMPTY)
    store.commit(rows, old=EMPTY)
    assert admin.execute("select id, name, bio from artists").fetchall() == [("ü %", text, text)]
    assert list(store.lines_after(LEDGER, 0)) == [(1, rows[0].hash, rows[0].line.encode())]


def test_lines_are_read_back_in_order_page_by_page(store: BioStore) -> None:
    rows = commit_rows(drafts(*range(1, 1_202)), EMPTY)
    store.commit(rows, old=EMPTY)
    assert [seq for seq, _, _ in store.lines_after(LEDGER, 0)] == list(range(1, 1_202))
    assert [line for _, _, line in store.lines_after(LEDGER, 1_199)] == [
        row.line.encode() for row in rows[1_199:]
    ]
    assert list(store.lines_after(LEDGER, 1_201)) == []
    assert list(store.lines_after(str(uuid.uuid4()), 0)) == []


def test_nothing_is_committed_when_the_head_is_elsewhere(
    store: BioStore, admin: psycopg.Connection
) -> None:
    first = commit_rows(drafts(1), EMPTY)
    store.commit(first, old=EMPTY)
    other_hash = Head(LEDGER, 1, "0" * 64)
    unknown = Head(str(uuid.uuid4()), 0, EMPTY.hash)
    for old in (EMPTY, other_hash, Head(LEDGER, 7, first[0].hash), unknown):
        with pytest.raises(HeadMovedError, match=f"not at line {old.seq}"):
            store.commit(commit_rows(drafts(2), old), old=old)
    assert list(bios(admin)) == ["1"]
    assert store.head(LEDGER) == head_after(first)


def test_an_unknown_ledger_has_no_head_and_a_known_one_keeps_its_own(store: BioStore) -> None:
    assert store.head(str(uuid.uuid4())) is None
    store.commit(rows := commit_rows(drafts(1), EMPTY), old=EMPTY)
    store.create_head(EMPTY, "/another/path")
    assert store.head(LEDGER) == head_after(rows)


def test_each_ledger_has_its_own_lines(store: BioStore, admin: psycopg.Connection) -> None:
    other = Head(str(uuid.uuid4()), 0, "0" * 64)
    store.create_head(other, "/other.jsonl")
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    theirs = [draft(artist(1), bio("Theirs."), ledger=other.ledger, run=RUN)]
    store.commit(commit_rows(theirs, other), old=other)
    assert bios(admin) == {"1": "Theirs."}
    assert store.head(LEDGER) != store.head(other.ledger)
    assert len(list(store.lines_after(LEDGER, 0))) == 1


# ---- the user's table -------------------------------------------------------------------------


def test_a_table_without_any_constraint(admin: psycopg.Connection, open_store: Open) -> None:
    admin.execute("create table plain (id text, name text, bio text)")
    admin.execute("insert into plain values ('1', 'one', null), ('1', 'one again', 'old')")
    store = open_store(table="plain")
    store.create_head(EMPTY, "/out.jsonl")
    rows = commit_rows(drafts(1, 2), EMPTY)
    store.commit(rows, old=EMPTY)
    found = admin.execute("select id, name, bio from plain order by name").fetchall()
    new = "Bio of artist 1."
    assert found == [
        ("2", "Artist 2", "Bio of artist 2."),
        ("1", "one", new),
        ("1", "one again", new),
    ]


def test_other_columns_of_the_users_matter_for_new_rows_only(
    admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute(
        "create table full_of (id int primary key, name text not null, bio text,"
        " country text, added timestamptz not null default now())"
    )
    admin.execute("insert into full_of (id, name, country) values (1, 'one', 'US')")
    store = open_store(table="full_of")
    admin.execute("alter table full_of alter country set not null")  # while a run goes on
    store.create_head(EMPTY, "/out.jsonl")
    rows = commit_rows(drafts(1), EMPTY)
    store.commit(rows, old=EMPTY)
    assert bios(admin, "full_of") == {"1": "Bio of artist 1."}
    with pytest.raises(RowsRefusedError, match="country") as caught:
        store.commit(commit_rows(drafts(2), head_after(rows)), old=head_after(rows))
    assert not caught.value.duplicate
    assert "\n" not in str(caught.value)
    assert "not-null constraint; Failing row contains (2, Artist 2, " in str(caught.value)
    assert store.head(LEDGER) == head_after(rows)


def test_a_name_is_not_changed(store: BioStore, admin: psycopg.Connection) -> None:
    admin.execute("insert into artists values ('1', 'As the user writes it', null)")
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert admin.execute("select name from artists").fetchall() == [("As the user writes it",)]


def test_a_row_that_is_gone_is_refused_unless_it_may_be_inserted(
    admin: psycopg.Connection, open_store: Open
) -> None:
    store = open_store(insert_missing=False)
    store.create_head(EMPTY, "/out.jsonl")
    admin.execute("insert into artists values ('1', 'one', null)")
    with pytest.raises(RowsRefusedError, match="artists has no row"):
        store.commit(commit_rows(drafts(1, 2), EMPTY), old=EMPTY)
    assert bios(admin) == {"1": None}
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert bios(admin) == {"1": "Bio of artist 1."}


def test_a_trigger_that_keeps_rows_out_is_told(admin: psycopg.Connection, open_store: Open) -> None:
    admin.execute(
        "create function keep_out() returns trigger language plpgsql as $$ begin"
        " return null; end $$;"
        " create trigger keep_out before insert or update on artists"
        " for each row execute function keep_out()"
    )
    store = open_store()
    store.create_head(EMPTY, "/out.jsonl")
    with pytest.raises(RowsRefusedError, match="artists: a trigger, a rule or a row policy"):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert lines(admin) == []
    store = open_store(insert_missing=False)
    with pytest.raises(RowsRefusedError, match=r"no row with this id .* or a trigger"):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)


def test_a_row_whose_trigger_keeps_the_bio_out_is_not_inserted_once_more(
    admin: psycopg.Connection, open_store: Open
) -> None:
    """Without a unique constraint nothing else would keep the artist from standing there twice."""
    admin.execute("create table plain (id text, name text, bio text)")
    admin.execute("insert into plain values ('1', 'one', 'Not to be changed.')")
    admin.execute(
        "create function keep_out() returns trigger language plpgsql as $$ begin"
        " return null; end $$;"
        " create trigger keep_out before update on plain"
        " for each row execute function keep_out()"
    )
    store = open_store(table="plain")
    store.create_head(EMPTY, "/out.jsonl")
    with pytest.raises(RowsRefusedError, match="plain: a trigger, a rule or a row policy"):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert bios(admin, "plain") == {"1": "Not to be changed."}
    assert lines(admin) == []
    store.commit(commit_rows(drafts(2), EMPTY), old=EMPTY)
    assert bios(admin, "plain")["2"] == "Bio of artist 2."


@pytest.mark.parametrize(
    ("sql_type", "ids"),
    [
        ("integer", ["7", "-12"]),
        ("bigint", ["9007199254740993", "0"]),
        ("numeric(20,0)", ["18446744073709551615", "1"]),
        ("uuid", ["6f9619ff-8b86-d011-b42d-00c04fc964ff", str(uuid.UUID(int=1))]),
        ("text", ["Nina", " nina", "ü"]),
        ("varchar(5)", ["abcde", "Ä"]),
        ("char(5)", ["abc", "abcde"]),
    ],
)
def test_ids_of_any_type(
    admin: psycopg.Connection, open_store: Open, sql_type: LiteralString, ids: list[str]
) -> None:
    admin.execute("create table typed (id " + sql_type + " primary key, name text, bio text)")
    admin.execute(sql.SQL("insert into typed values ({}, 'there', 'old')").format(ids[0]))
    store = open_store(table="typed")
    store.create_head(EMPTY, "/out.jsonl")
    assert [store.id_kind.canonical(each) for each in ids] == ids
    rows = commit_rows([of(artist(id=each), f"Bio {each}") for each in ids], EMPTY)
    store.commit(rows, old=EMPTY)
    stored = admin.execute("select trim(trailing from id::text), bio from typed").fetchall()
    wanted = {(each, f"Bio {each}") for each in ids}
    assert {(each.rstrip(), text) for each, text in stored} == wanted
    known = store.known(LEDGER, ids)
    assert [known[each].generation for each in ids] == [1] * len(ids)
    assert all(known[each].has_row and known[each].has_bio for each in ids)
    replaced = admin.execute("select artist_id, bio from artist_bio_gen.replaced_bios").fetchall()
    assert replaced == [(ids[0], "old")]


def test_a_table_in_another_schema_and_names_that_need_quotes(
    admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute('drop schema if exists "My Data" cascade; create schema "My Data"')
    admin.execute('create table "My Data"."Artists; drop %s {}" (id int, name text, bio text)')
    store = open_store(table="My Data.Artists; drop %s {}")
    store.create_head(EMPTY, "/out.jsonl")
    store.commit(commit_rows(drafts(5), EMPTY), old=EMPTY)
    assert admin.execute('select id from "My Data"."Artists; drop %s {}"').fetchall() == [(5,)]
    assert store.known(LEDGER, ["5"])["5"].has_bio


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("id int, name text", "no column 'bio'"),
        ("name text, bio text", "no column 'id'"),
        ("id float8, name text, bio text", "double precision"),
        ("id json, name text, bio text", "json"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    admin: psycopg.Connection, open_store: Open, columns: LiteralString, told: str
) -> None:
    admin.execute("create table odd (" + columns + ")")
    with pytest.raises(ConfigError, match=told):
        open_store(table="odd")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("id int, name text, bio jsonb", "jsonb"),
        ("id int, name int, bio text", "name"),
        ("id int, name text, bio text generated always as ('x') stored", "generated column"),
        ("id int generated always as identity, name text, bio text", "non-DEFAULT value"),
    ],
)
def test_a_table_that_takes_no_bio_is_refused_before_one_is_bought(
    admin: psycopg.Connection, open_store: Open, columns: LiteralString, told: str
) -> None:
    admin.execute("create table odd (" + columns + ")")
    with pytest.raises(ConfigError, match=f"could not be written into table odd: (?s:.*){told}"):
        open_store(table="odd")


MUSEUM = "create domain filled as text not null; create domain told as text not null default 'x';"
MUSEUM += "create domain inner_filled as filled;"
MUSEUM += "create table museum (id text, name text not null, bio text not null"
MUSEUM_FILLED = " on museum for each row execute function fill()"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("dept text not null", "column dept must not"),
        ("dept text not null, note text, shelf int not null", "columns dept, shelf must not"),
        ("dept filled", "column dept must not"),
        ("dept inner_filled", "column dept must not"),
        ("dept int not null, primary key (id, dept)", "column dept must not"),
    ],
)
def test_a_table_that_takes_no_new_row_is_refused_before_a_bio_is_bought(
    admin: psycopg.Connection, open_store: Open, columns: LiteralString, told: str
) -> None:
    admin.execute(MUSEUM + ", " + columns + ")")
    with pytest.raises(ConfigError, match=f"table museum: {told} .*default.*--on-missing skip"):
        open_store(table="museum")
    with pytest.raises(ConfigError, match=told):
        open_store(table="public.museum")
    open_store(table="museum", insert_missing=False)


@pytest.mark.parametrize(
    "columns",
    [
        "dept text not null default 'x'",
        "dept told",
        "dept int not null generated by default as identity, other serial",
        "dept text not null generated always as (id || 'x') stored",
        "dept text",
    ],
)
def test_a_column_that_fills_itself_is_no_hindrance(
    admin: psycopg.Connection, open_store: Open, columns: LiteralString
) -> None:
    admin.execute(MUSEUM + ", " + columns + ")")
    store = open_store(table="museum")
    store.create_head(EMPTY, "/out.jsonl")
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert bios(admin, "museum") == {"1": "Bio of artist 1."}


def test_a_trigger_may_fill_what_must_not_be_null(
    admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute(MUSEUM + ", dept text not null)")
    admin.execute(
        "create function fill() returns trigger language plpgsql as $$ begin"
        " new.dept := 'x'; return new; end $$;"
        " create trigger fill before insert" + MUSEUM_FILLED
    )
    store = open_store(table="museum")
    store.create_head(EMPTY, "/out.jsonl")
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert bios(admin, "museum") == {"1": "Bio of artist 1."}
    admin.execute("alter table museum disable trigger fill")
    with pytest.raises(ConfigError, match="dept must not"):
        open_store(table="museum")
    for when in ("before update", "after insert"):
        admin.execute("drop trigger fill on museum; create trigger fill " + when + MUSEUM_FILLED)
        with pytest.raises(ConfigError, match="dept must not"):
            open_store(table="museum")


def test_looking_whether_a_table_takes_bios_leaves_no_trace(
    admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute(
        "create table touched (n int);"
        " create function touch() returns trigger language plpgsql as $$ begin"
        " insert into touched values (1); return null; end $$;"
        " create trigger touch after insert or update on artists"
        " for each statement execute function touch()"
    )
    open_store()
    assert admin.execute("select count(*) from touched").fetchall() == [(0,)]
    assert lines(admin) == []


def test_ids_that_are_equal_though_they_differ_are_refused(
    admin: psycopg.Connection, open_store: Open
) -> None:
    try:
        admin.execute(
            "create collation careless (provider = icu, locale = 'und-u-ks-level2',"
            " deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this build of Postgres has no such collations: it is without ICU")
    admin.execute(
        "create table odd (id text collate careless, name text collate careless, bio text);"
        ' create table fine (id text collate "C", name text collate careless, bio text)'
    )
    with pytest.raises(
        ConfigError, match=r'odd\.id has the collation careless.* collate "C".*--table'
    ):
        open_store(table="odd")
    open_store(table="fine")


def test_a_table_that_is_locked_at_the_start_is_waited_for(
    url: str, admin: psycopg.Connection, open_store: Open
) -> None:
    told: list[str] = []
    impatient = psycopg.conninfo.make_conninfo(url, options="-c statement_timeout=500")
    with psycopg.connect(url) as other:
        other.execute("lock table artists in access exclusive mode")

        def give_way(reason: str) -> None:
            told.append(reason)
            other.rollback()

        open_store(impatient, on_trouble=give_way, on_recovery=lambda: told.append("over"))
    assert "statement timeout" in told[0]
    assert told[1:] == ["over"]


def test_a_rollback_that_fails_as_well_is_ridden_out(
    admin: psycopg.Connection, open_store: Open
) -> None:
    store = open_store()
    store.create_head(EMPTY, "/out.jsonl")
    asked = []

    def in_a_failed_transaction(conn: psycopg.Connection) -> int:
        asked.append(conn)
        if len(asked) == 1:
            conn.execute("begin")
            conn.execute("set local statement_timeout = 1")
            conn.execute("select pg_sleep(10)")
        return conn.execute("select 1").rowcount

    assert store.ask(in_a_failed_transaction) == 1
    assert asked[0] is not asked[1]


def test_a_table_that_stays_locked_at_the_start_ends_in_a_limit(url: str, open_store: Open) -> None:
    impatient = psycopg.conninfo.make_conninfo(url, options="-c statement_timeout=200")
    with psycopg.connect(url) as other:
        other.execute("lock table artists in access exclusive mode")
        with pytest.raises(LimitError, match="statement timeout"):
            open_store(impatient, max_wait=0.2)


def test_a_session_that_is_ended_at_the_start_is_made_anew(
    admin: psycopg.Connection, open_store: Open
) -> None:
    told: list[str] = []
    fail_once(admin, "perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(10);")
    admin.execute(
        "create trigger strike_all before insert on artists"
        " for each statement execute function strike()"
    )
    open_store(on_trouble=told.append, on_recovery=lambda: told.append("over"))
    assert "terminat" in told[0]
    assert told[1:] == ["over"]


def test_a_server_that_goes_away_while_it_is_looked_at_is_no_matter_of_settings(url: str) -> None:
    with (
        pytest.raises(LimitError, match="nothing was bought: start again"),
        at_the_start(url),
        connect_first(url) as conn,
    ):
        conn.execute("select pg_terminate_backend(pg_backend_pid()), pg_sleep(10)")


def test_a_table_that_is_missing_is_refused(open_store: Open) -> None:
    with pytest.raises(ConfigError, match="there is no table nowhere; name another"):
        open_store(table="nowhere")


def test_bios_that_stood_there_before_are_kept(store: BioStore, admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into artists values ('1', 'a', 'By hand.'), ('2', 'b', ''), ('3', 'c', null),"
        " ('4', 'd', 'Bio of artist 4.')"
    )
    rows = commit_rows(drafts(1, 2, 3, 4, 5), EMPTY)
    store.commit(rows, old=EMPTY)
    kept = "select ledger::text, seq, artist_id, bio from artist_bio_gen.replaced_bios order by seq"
    assert admin.execute(kept).fetchall() == [(LEDGER, 1, "1", "By hand.")]
    anew = [of(artist(1, generation=2), "Written anew.")]
    store.commit(commit_rows(anew, head_after(rows)), old=head_after(rows))
    assert admin.execute(kept).fetchall()[1:] == [(LEDGER, 6, "1", "Bio of artist 1.")]
    assert bios(admin)["1"] == "Written anew."


def test_of_rows_with_the_same_id_each_bio_is_kept(
    admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute("create table plain (id text, name text, bio text)")
    admin.execute("insert into plain values ('1', 'a', 'One.'), ('1', 'a', 'Other.')")
    store = open_store(table="plain")
    store.create_head(EMPTY, "/out.jsonl")
    store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    kept = admin.execute("select bio from artist_bio_gen.replaced_bios").fetchall()
    assert kept == [("One.\n\nOther.",)]


# ---- rows that are refused --------------------------------------------------------------------


def test_the_same_bio_of_an_artist_twice_is_refused(
    store: BioStore, admin: psycopg.Connection
) -> None:
    rows = commit_rows(drafts(1), EMPTY)
    store.commit(rows, old=EMPTY)
    with pytest.raises(RowsRefusedError, match="one_bio_per_generation") as caught:
        store.commit(commit_rows([of(artist(1), "Twice.")], head_after(rows)), old=head_after(rows))
    assert caught.value.duplicate
    assert bios(admin) == {"1": "Bio of artist 1."}


@pytest.mark.parametrize(
    "prepare",
    [
        "alter table artists alter bio type varchar(10)",
        "alter table artists add check (length(bio) < 10)",
        "alter table artists add column needed int not null",
        """create unique index on artists (bio);
        insert into artists values ('9', 'x', 'Bio of artist 1.')""",
        """create function no() returns trigger language plpgsql as $$ begin
        raise exception 'not this bio'; end $$;
        create trigger no before insert or update on artists for each row execute function no()""",
    ],
)
def test_what_the_table_does_not_take_is_refused_and_nothing_is_committed(
    store: BioStore, admin: psycopg.Connection, prepare: LiteralString
) -> None:
    admin.execute(prepare)
    before = bios(admin)
    for _ in range(2):
        with pytest.raises(RowsRefusedError) as caught:
            store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
        assert not caught.value.duplicate
    assert bios(admin) == before
    assert store.head(LEDGER) == EMPTY


def test_a_character_that_cannot_be_stored_is_refused(store: BioStore) -> None:
    with pytest.raises(RowsRefusedError, match="0x00"):
        store.commit(commit_rows([of(artist(1), "nul \0 nul")], EMPTY), old=EMPTY)
    assert store.head(LEDGER) == EMPTY


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        ("drop table artists", "42P01"),
        ("drop table artist_bio_gen.commits", "42P01"),
        ("alter table artists rename bio to text", "42703"),
    ],
)
def test_what_needs_a_person_is_told_as_such(
    store: BioStore, admin: psycopg.Connection, prepare: LiteralString, told: str
) -> None:
    admin.execute(prepare)
    with pytest.raises(ConfigError, match=told):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)


def test_missing_rights_are_told_as_such(
    admin: psycopg.Connection, open_store: Open, url: str
) -> None:
    role = sql.Identifier(f"role_{uuid.uuid4().hex}")
    try:
        admin.execute(sql.SQL("create role {} login").format(role))
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("the user of TEST_DATABASE_URL may not create roles")
    try:
        for grant in (
            "grant usage on schema artist_bio_gen to {}",
            "grant all on all tables in schema artist_bio_gen to {}",
            "grant select on artists to {}",
        ):
            admin.execute(sql.SQL(grant).format(role))
        theirs = psycopg.conninfo.make_conninfo(url, user=role.as_string().strip('"'))
        with pytest.raises(ConfigError, match="permission denied for table artists"):
            open_store(theirs)
        admin.execute(sql.SQL("grant update on artists to {}").format(role))
        with pytest.raises(ConfigError, match="permission denied for table artists"):
            open_store(theirs)
        open_store(theirs, insert_missing=False).close()
    finally:
        admin.execute(sql.SQL("drop owned by {}").format(role))
        admin.execute(sql.SQL("drop role {}").format(role))


# ---- what is known ----------------------------------------------------------------------------


def test_what_is_known_of_artists(store: BioStore, admin: psycopg.Connection) -> None:
    admin.execute(
        "insert into artists values ('1', 'a', null), ('2', 'b', ''), ('3', 'c', 'By hand.')"
    )
    other = Head(str(uuid.uuid4()), 0, "0" * 64)
    store.create_head(other, "/other.jsonl")
    theirs = [draft(artist(5), bio(), ledger=other.ledger, run=RUN)]
    store.commit(commit_rows(theirs, other), old=other)
    rows = commit_rows(drafts(6), EMPTY)
    store.commit(rows, old=EMPTY)
    anew = commit_rows([of(artist(6, generation=2))], head_after(rows))
    store.commit(anew, old=head_after(rows))
    store.record([Failed(artist(7), "refused", "no", 1, False)], ledger=LEDGER, run=RUN)
    store.record([Failed(artist(8), "refused", "no", 1, False)], ledger=other.ledger, run=RUN)

    known = store.known(LEDGER, [str(number) for number in range(1, 9)])
    assert len(known) == 8
    assert [(known[n].has_row, known[n].has_bio) for n in "123456"] == [
        (True, False),
        (True, False),
        (True, True),
        (False, False),
        (True, True),
        (True, True),
    ]
    assert [n for n in known if known[n].elsewhere] == ["5"]
    six = known["6"]
    assert (six.generation, six.seq, six.run) == (2, 2, RUN)
    assert (six.input_sha256, six.prompt_sha256) == (anew[0].input_sha256, anew[0].prompt_sha256)
    assert (known["7"].failed_run, known["7"].failed_transient) == (RUN, False)
    assert known["8"].failed_run is None
    assert known["4"].generation is known["4"].seq is known["4"].run is None
    assert store.known(LEDGER, []) == {}


def test_failures_add_up_their_attempts_and_keep_the_latest_reason(
    store: BioStore, admin: psycopg.Connection
) -> None:
    store.record([Failed(artist(1), "timeout", "slow", 5, True)], ledger=LEDGER, run=RUN)
    run = str(uuid.uuid4())
    store.record([Failed(artist(1), "refused", "no\0 \ud800", 2, False)], ledger=LEDGER, run=run)
    found = admin.execute(
        "select run::text, kind, reason, attempts, transient from artist_bio_gen.failures"
    ).fetchall()
    assert found == [(run, "refused", "no ?", 7, False)]


def test_runs_are_noted(store: BioStore, admin: psycopg.Connection) -> None:
    store.begin_run(RUN, LEDGER, "1.0", {"workers": 4, "input": "ü.csv"})
    store.begin_run(RUN, LEDGER, "1.0", {})
    store.end_run(RUN, 4, {"done": 3})
    found = admin.execute(
        "select ledger::text, exit_code, settings, counts, ended_at >= started_at, pid > 0"
        " from artist_bio_gen.runs"
    ).fetchall()
    assert found == [(LEDGER, 4, {"workers": 4, "input": "ü.csv"}, {"done": 3}, True, True)]


def test_writing_anew_is_remembered_until_it_is_finished(store: BioStore) -> None:
    """Failures from before it count no more, those from then on do."""
    store.record([Failed(artist(1), "refused", "no", 1, False)], ledger=LEDGER, run=RUN)
    assert store.writing_anew(LEDGER) is None
    assert not store.known(LEDGER, ["1"])["1"].failed_before_again
    store.set_writing_anew(LEDGER, 0, "artists.csv")
    assert store.writing_anew(LEDGER) == (0, "artists.csv")
    store.record([Failed(artist(2), "refused", "no", 1, False)], ledger=LEDGER, run=RUN)
    known = store.known(LEDGER, ["1", "2"])
    assert [known[n].failed_before_again for n in "12"] == [True, False]
    store.set_writing_anew(LEDGER, None, None)
    assert store.writing_anew(LEDGER) is None
    assert not store.known(LEDGER, ["1"])["1"].failed_before_again


def test_a_ledger_belongs_to_one_table(
    store: BioStore, admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute("create table others (id text, name text, bio text)")
    other = open_store(table="others")
    with pytest.raises(ConfigError, match=r"belongs to the table public\.artists"):
        other.head(LEDGER)
    assert open_store(table="public.artists").head(LEDGER) == EMPTY


# ---- riding out -------------------------------------------------------------------------------


def fail_once(conn: psycopg.Connection, action: str, *, times: int = 1) -> None:
    """The next writes to the user's table end in `action`; a sequence counts, as it is not
    rolled back."""
    conn.execute("create sequence if not exists struck; alter sequence struck restart")
    conn.execute(
        sql.SQL(
            "create or replace function strike() returns trigger language plpgsql as $$ begin"
            " if nextval('struck') <= {} then {} end if; return new; end $$"
        ).format(times, sql.SQL(action))  # type: ignore[arg-type]
    )
    conn.execute(
        "create or replace trigger strike before insert or update on artists"
        " for each row execute function strike()"
    )


PASSING = ["08000", "08003", "08006", "08P01", "40001", "40P01", "53000", "53100", "53200", "53300"]
PASSING += ["57P01", "57P02", "57P03", "57014", "55P03", "55006", "25006"]


def test_what_passes_by_itself_is_tried_again(admin: psycopg.Connection, open_store: Open) -> None:
    told: list[str] = []
    slept: list[float] = []
    store = open_store(
        on_trouble=told.append, on_recovery=lambda: told.append("over"), sleep=slept.append
    )
    store.create_head(EMPTY, "/out.jsonl")
    head = EMPTY
    for number, state in enumerate(PASSING, 1):
        fail_once(admin, f"raise exception '{state}' using errcode = '{state}';", times=3)
        rows = commit_rows(drafts(number), head)
        assert store.commit(rows, old=head) is not None
        head = head_after(rows)
        assert [each.splitlines()[0] for each in told] == [state, "over"]
        assert slept
        told.clear()
        slept.clear()
    assert [seq for seq, _ in lines(admin)] == list(range(1, len(PASSING) + 1))


def test_what_does_not_pass_by_itself_is_not_tried_again(
    store: BioStore, admin: psycopg.Connection
) -> None:
    for state in ("42501", "42P01", "0A000", "XX000", "58030"):
        fail_once(admin, f"raise exception 'injected' using errcode = '{state}';")
        with pytest.raises(ConfigError, match=rf"injected(?s:.*){state}"):
            store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert bios(admin) == {}


def terminate_all(conn: psycopg.Connection) -> int:
    found = conn.execute(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where datname = current_database() and application_name = 'artist-bio-gen'"
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_connection_killed_between_two_commits_is_made_anew(
    admin: psycopg.Connection, open_store: Open
) -> None:
    told: list[str] = []
    store = open_store(on_trouble=told.append, on_recovery=lambda: told.append("over"))
    store.create_head(EMPTY, "/out.jsonl")
    head = EMPTY
    for number in range(1, 6):
        assert terminate_all(admin) == 1
        rows = commit_rows(drafts(number), head)
        assert store.commit(rows, old=head) is not None
        head = head_after(rows)
    assert [seq for seq, _ in lines(admin)] == [1, 2, 3, 4, 5]
    assert told.count("over") == 5


def test_every_question_rides_out_a_killed_connection(
    store: BioStore, admin: psycopg.Connection
) -> None:
    failure = Failed(artist(1), "timeout", "slow", 1, True)
    questions: list[Callable[[], object]] = [
        lambda: store.head(LEDGER),
        lambda: store.known(LEDGER, ["1"]),
        lambda: store.line_hash(LEDGER, 1),
        lambda: list(store.lines_after(LEDGER, 0)),
        lambda: store.writing_anew(LEDGER),
        lambda: store.begin_run(RUN, LEDGER, "1", {}),
        lambda: store.end_run(RUN, 0, {}),
        lambda: store.record([failure], ledger=LEDGER, run=RUN),
        lambda: store.set_writing_anew(LEDGER, None, None),
    ]
    for ask in questions:
        before = ask()
        assert terminate_all(admin) == 1
        assert ask() == before


def test_a_connection_killed_during_a_commit(store: BioStore, admin: psycopg.Connection) -> None:
    fail_once(admin, "perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(10);")
    rows = commit_rows(drafts(1), EMPTY)
    assert store.commit(rows, old=EMPTY) is not None
    assert lines(admin) == [(1, rows[0].line)]
    assert bios(admin) == {"1": "Bio of artist 1."}


def test_a_commit_that_fails_at_its_very_end_is_tried_again(
    store: BioStore, admin: psycopg.Connection
) -> None:
    """A deferred constraint trigger fails in COMMIT itself, which is an answer, not a doubt."""
    admin.execute("create sequence struck")
    admin.execute(
        "create function strike() returns trigger language plpgsql as $$ begin"
        " if nextval('struck') <= 1 then raise exception 'late' using errcode = '40001'; end if;"
        " return new; end $$"
    )
    admin.execute(
        "create constraint trigger strike after insert on artists deferrable initially deferred"
        " for each row execute function strike()"
    )
    rows = commit_rows(drafts(1), EMPTY)
    store.commit(rows, old=EMPTY)
    assert lines(admin) == [(1, rows[0].line)]


# ---- a commit whose answer is lost ------------------------------------------------------------


def wait_for_a_lock(conn: psycopg.Connection) -> None:
    """Returns when a backend of the program waits for another's lock."""
    waiting = (
        "select exists (select from pg_stat_activity where datname = current_database()"
        " and application_name = 'artist-bio-gen' and wait_event_type = 'Lock')"
    )
    for _ in range(100_000):
        if conn.execute(waiting).fetchall() == [(True,)]:
            return
    pytest.fail("nobody waits for a lock")


def test_a_row_that_is_deleted_at_the_same_moment_is_inserted_by_the_next_attempt(
    url: str, admin: psycopg.Connection, store: BioStore
) -> None:
    admin.execute("insert into artists values ('1', 'Artist 1', null)")
    rows = commit_rows(drafts(1), EMPTY)
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("delete from artists")
        committing = pool.submit(store.commit, rows, old=EMPTY)
        wait_for_a_lock(admin)
        other.commit()
        with pytest.raises(RowsRefusedError) as refused:
            committing.result()
    assert refused.value.may_pass
    store.commit(rows, old=EMPTY)
    assert bios(admin) == {"1": "Bio of artist 1."}


@pytest.mark.parametrize("cut", ["before", "after", "during", "late"])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice(
    url: str, admin: psycopg.Connection, open_store: Open, cut: Cut
) -> None:
    with PgProxy(url) as proxy:
        store = open_store(proxy.url)
        store.create_head(EMPTY, "/out.jsonl")
        proxy.before_late_commit = lambda: wait_for_a_lock(admin)
        head = EMPTY
        for number in range(1, 11):
            rows = commit_rows(drafts(2 * number, 2 * number + 1), head)
            proxy.cut_next = cut
            transaction = store.commit(rows, old=head)
            if cut != "during":
                # Unknown when the answer got lost; known when the commit was made again.
                assert (transaction is None) is (cut != "before")
            head = head_after(rows)
            assert store.head(LEDGER) == head
        store.close()
    assert [seq for seq, _ in lines(admin)] == list(range(1, 21))
    assert len(bios(admin)) == 20
    assert proxy.commits == (20 if cut == "before" else 10) or cut == "during"


def test_a_row_that_is_refused_after_a_lost_answer_is_still_told(
    url: str, admin: psycopg.Connection, open_store: Open
) -> None:
    admin.execute("alter table artists alter bio type varchar(10)")
    with PgProxy(url) as proxy:
        store = open_store(proxy.url)
        store.create_head(EMPTY, "/out.jsonl")
        short = commit_rows([of(artist(1), "Short.")], EMPTY)
        proxy.cut_next = "before"
        store.commit(short, old=EMPTY)
        terminate_all(admin)
        with pytest.raises(RowsRefusedError):
            store.commit(commit_rows(drafts(2), head_after(short)), old=head_after(short))
        store.close()
    assert bios(admin) == {"1": "Short."}


def test_cuts_of_all_kinds_in_a_row(url: str, admin: psycopg.Connection, open_store: Open) -> None:
    chance = random.Random(20261122)
    with PgProxy(url) as proxy:
        store = open_store(proxy.url)
        store.create_head(EMPTY, "/out.jsonl")
        head = EMPTY
        for number in range(1, 101):
            rows = commit_rows(drafts(number), head)
            proxy.cut_next = chance.choice(["before", "after", "during", "late", None])
            store.commit(rows, old=head)
            head = head_after(rows)
        store.close()
    assert [seq for seq, _ in lines(admin)] == list(range(1, 101))
    assert list(bios(admin)) == sorted(map(str, range(1, 101)))


# ---- away for good ----------------------------------------------------------------------------


def test_a_database_that_stays_away_ends_in_a_limit(url: str, open_store: Open) -> None:
    with PgProxy(url) as proxy:
        store = open_store(proxy.url, max_wait=0.2)
        store.create_head(EMPTY, "/out.jsonl")
        proxy.go_away()
        with pytest.raises(
            LimitError, match=r"away for more than 0\.2 s (?s:.*)--resume"
        ) as caught:
            store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
        assert "127.0.0.1" in str(caught.value)
        with pytest.raises(LimitError):
            store.head(LEDGER)
        store.close()


def test_waiting_for_a_database_ends_with_the_run(url: str, open_store: Open) -> None:
    told: list[str] = []

    def sleep(seconds: float) -> None:
        raise StoppedError

    with PgProxy(url) as proxy:
        store = open_store(
            proxy.url, sleep=sleep, on_trouble=told.append, on_recovery=lambda: told.append("over")
        )
        proxy.go_away()
        with pytest.raises(StoppedError):
            store.head(LEDGER)
        store.close()
    assert "over" not in told, "it never answered"


def test_a_commit_that_takes_long_when_the_run_is_to_end_is_broken_off(
    admin: psycopg.Connection, open_store: Open
) -> None:
    store = open_store()
    store.create_head(EMPTY, "/out.jsonl")
    fail_once(admin, "perform pg_sleep(600);")
    store.break_off_in(0.0)
    with pytest.raises(StoppedError):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    with pytest.raises(StoppedError):
        store.head(LEDGER)
    assert open_store().head(LEDGER) == EMPTY
    assert bios(admin) == {}


def test_a_server_that_heeds_no_cancelling_is_left(
    admin: psycopg.Connection, open_store: Open
) -> None:
    store = open_store()
    store.create_head(EMPTY, "/out.jsonl")
    fail_once(
        admin,
        "for i in 1..3 loop begin perform pg_sleep(600);"
        " exception when query_canceled then perform nextval('struck'); end; end loop;",
    )
    store.break_off_in(0.0)
    with pytest.raises(StoppedError):
        store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY)
    assert terminate_all(admin) == 1, "it is still at it"
    assert open_store().head(LEDGER) == EMPTY


def test_what_is_quick_is_finished_however_late(store: BioStore) -> None:
    late = Event()
    store.break_off_in(0.0)
    late.wait(2.2)
    assert store.commit(rows := commit_rows(drafts(1), EMPTY), old=EMPTY) is not None
    assert store.head(LEDGER) == head_after(rows)


def test_a_database_that_comes_back_is_gone_on_with(
    database_url: str, postgres: Postgres, open_store: Open
) -> None:
    """Its name leads nowhere for a while, as at a restart or a failover."""
    migrate(database_url, table="artists")
    name = str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"])
    away = f"{name}_away"
    other = psycopg.connect(postgres.url, autocommit=True)
    tries = itertools.count(1)

    def come_back(seconds: float) -> None:
        if next(tries) == 3:
            rename(away, name)

    def rename(old: str, new: str) -> None:
        other.execute(
            sql.SQL("alter database {} rename to {}").format(
                sql.Identifier(old), sql.Identifier(new)
            )
        )

    store = open_store(database_url, sleep=come_back)
    store.create_head(EMPTY, "/out.jsonl")
    with psycopg.connect(database_url, autocommit=True) as conn:
        terminate_all(conn)
    rename(name, away)
    try:
        assert store.commit(commit_rows(drafts(1), EMPTY), old=EMPTY) is not None
    finally:
        other.close()
    assert next(tries) >= 4


# ---- connections and servers ------------------------------------------------------------------


def set_for_database(url: str, setting: LiteralString, value: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        change = sql.SQL("alter database {} set " + setting + " = " + value)
        conn.execute(change.format(sql.Identifier(conn.info.dbname)))


def test_a_connection_waits_for_the_disk_whatever_the_server_says(database_url: str) -> None:
    for weak, used in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        set_for_database(database_url, "synchronous_commit", weak)
        with connect(database_url) as conn:
            assert conn.execute("show synchronous_commit").fetchall() == [(used,)]


def test_a_sound_server_passes(url: str) -> None:
    with connect_first(url) as conn:
        check_server(conn, allow_fsync_off=False)


def test_a_read_only_database_is_refused(database_url: str) -> None:
    set_for_database(database_url, "default_transaction_read_only", "on")
    with (
        connect_first(database_url) as conn,
        pytest.raises(ConfigError, match=r"read-only \(a standby\?\)"),
    ):
        check_server(conn, allow_fsync_off=True)


def test_an_encoding_that_cannot_hold_every_bio_is_refused(
    url: str, admin: psycopg.Connection
) -> None:
    name = f"latin_{uuid.uuid4().hex}"
    admin.execute(
        sql.SQL("create database {} template template0 encoding 'LATIN1' locale 'C'").format(
            sql.Identifier(name)
        )
    )
    try:
        with (
            connect_first(psycopg.conninfo.make_conninfo(url, dbname=name)) as conn,
            pytest.raises(ConfigError, match="has the encoding LATIN1"),
        ):
            check_server(conn, allow_fsync_off=True)
    finally:
        admin.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_wait_for_the_disk_is_refused(
    url: str, admin: psycopg.Connection, setting: LiteralString
) -> None:
    def until(value: str) -> psycopg.Connection:
        for _ in range(1_000):
            conn = connect_first(url)
            if conn.execute("select current_setting(%s)", [setting]).fetchall() == [(value,)]:
                return conn
            conn.close()
        pytest.fail(f"{setting} never became {value}")

    try:
        admin.execute("alter system set " + setting + " = off")
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("the user of TEST_DATABASE_URL may not change the server")
    try:
        admin.execute("select pg_reload_conf()")
        with until("off") as conn:
            with pytest.raises(ConfigError, match=f"{setting}=off.*--allow-fsync-off"):
                check_server(conn, allow_fsync_off=False)
            check_server(conn, allow_fsync_off=True)
    finally:
        admin.execute("alter system reset " + setting)
        admin.execute("select pg_reload_conf()")
        until("on").close()


def test_an_address_without_a_server_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no connection: (?s:.*)--database-url") as caught:
        connect_first(f"host={tmp_path} dbname=artists password=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        (
            "postgresql://me:secret@db.example:5433/artists",
            "postgresql://me@db.example:5433/artists",
        ),
        ("host=/run/pg dbname=artists password=secret", "postgresql:///run/pg/artists"),
        ("", "postgresql://localhost/"),
    ],
)
def test_an_address_is_shown_without_its_password(conninfo: str, shown: str) -> None:
    assert describe(conninfo) == shown


def test_an_address_that_cannot_be_read_is_told_without_its_password() -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        describe("postgresql://me:s3cret@[::1/artists")
    assert "s3cret" not in str(caught.value)
