"""Faults of Postgres that pass by themselves are ridden out: nothing is lost, no line stands there
twice, and no call is made again for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from artist_bio_gen.values import Done
from tests.acceptance.harness import (
    Job,
    Running,
    events,
    no_leftovers,
    query,
    read_books,
    whole_lines,
    write_artists,
)
from tests.acceptance.test_postgres_away import Server
from tests.builders import artist
from tests.fakes.api import FakeApi
from tests.fakes.pg_proxy import Moment, PgProxy, Refusal
from tests.faults.desk import a_start, check_books
from tests.faults.growth import more_lines
from tests.faults.seed import chance

RESTARTS = 8
BETWEEN = range(50, 600)
"""So many lines are written between two restarts."""

EVERY = 40

STATES = (
    *("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    *("40001", "40P01", "53000", "53100", "53200", "53300", "53400"),
    *("57P01", "57P02", "57P03", "57P05"),
)
"""Connections, rollbacks, resources and the operator's doings that may pass (PostgreSQL manual,
appendix A)."""

MOMENTS: tuple[Moment, ...] = ("connect", "begin", "commit", "committed")


@pytest.fixture(scope="module")
def server(short_dir: Path) -> Iterator[Server]:
    one = Server(short_dir / "restarted")
    try:
        yield one
    finally:
        one.end()


def check_done_once(job: Job, api: FakeApi, rows: int) -> None:
    books = read_books(job)
    assert books.agree
    assert len(books.ledger) == rows
    assert api.counts().seen_by_artist == {f"a{number}": 1 for number in range(rows)}


@pytest.mark.embedded
def test_immediate_restarts_while_rows_flow(server: Server, tmp_path: Path) -> None:
    lines = chance("restarts")
    rows = RESTARTS * BETWEEN.stop
    write_artists(tmp_path / "artists.csv", rows)
    with FakeApi(latency="uniform:0.01:0.05", keep=0) as api:
        job = Job(tmp_path, server.url, api.base_url, tmp_path / "artists.csv")
        with no_leftovers(job), Running(job) as run:
            for _ in range(RESTARTS):
                run.wait_until(more_lines(job, lines.choice(BETWEEN)))
                server.crash()
                server.start()
            assert len(whole_lines(job.ledger)) < rows, "all was done; give it more rows"
            assert run.ended(300) == 0, run.said
        check_done_once(job, api, rows)
    assert len(events(job.log, "paused")) == len(events(job.log, "flowing")) >= RESTARTS
    print(f"{RESTARTS} immediate restarts, {rows} rows: 0 lost, 0 twice, 0 calls made again")


def test_each_error_that_passes_is_ridden_out_by_a_run(database_url: str, tmp_path: Path) -> None:
    """Raised by the user's own table, one after every so many bios."""
    rows = EVERY * (len(STATES) + 1)
    write_artists(tmp_path / "artists.csv", rows)
    with FakeApi(latency="0.01", keep=0) as api:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        job.options = ("--workers", "4")
        assert job.tell("migrate")[0] == 0
        # A sequence is not rolled back with what it struck.
        query(job, "create sequence struck")
        query(job, "select setval('struck', 1)")
        query(
            job,
            "create function strike() returns trigger language plpgsql as $$"
            " declare number bigint = (select last_value from struck); begin"
            f" if number <= {len(STATES)} and {EVERY} * number <="
            " (select count(*) from artist_bio_gen.commits) then perform nextval('struck');"
            f" raise exception 'injected' using errcode = ('{{{','.join(STATES)}}}'::text[])"
            "[number]; end if; return new; end $$",
        )
        query(
            job,
            "create trigger strike before insert or update on artists"
            " for each row execute function strike()",
        )
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        check_done_once(job, api, rows)
    struck = [event for event in events(job.log, "paused") if "injected" in event["reason"]]
    assert len(struck) == len(STATES)
    print(f"{len(STATES)} SQLSTATEs raised under a run of {rows} rows: 0 lost, 0 calls again")


@pytest.mark.parametrize("fatal", [False, True])
def test_each_error_that_passes_is_ridden_out_at_each_moment(
    fatal: bool, url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    """Said by the server, or by what stands before it (a pooler), at a new connection, at BEGIN,
    at COMMIT, and after a COMMIT that has been carried out."""
    path = tmp_path / "out.jsonl"
    trials = list(product(STATES, MOMENTS))
    chance("errors").shuffle(trials)
    with PgProxy(url) as proxy, a_start(path, proxy.url, str(uuid.uuid4())) as desk:
        for number, (state, moment) in enumerate(trials, 1):
            if moment == "connect":
                desk.store.close()  # as one that broke before: the next question opens another
            proxy.refuse_next = Refusal(moment, state, fatal)
            group = [desk.draft(artist(2 * number + at), f"Bio {number}.") for at in (0, 1)]
            outcomes = desk.committer.commit(group)
            assert proxy.refused == number, f"{state} at {moment} was not said"
            assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert len(check_books(path, admin)) == 2 * len(trials)
    print(f"{len(trials)} errors at {len(MOMENTS)} moments (fatal: {fatal}): 0 bios lost or twice")


def test_a_server_without_a_free_connection_is_waited_for(
    url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    name = f"limited_{uuid.uuid4().hex}"
    role = sql.Identifier(name)
    rights = (
        "create role {} login connection limit 1",
        "grant usage on schema artist_bio_gen, public to {}",
        "grant all on all tables in schema artist_bio_gen, public to {}",
        "grant all on all sequences in schema artist_bio_gen to {}",
    )
    for each in rights:
        admin.execute(sql.SQL(each).format(role))
    limited = make_conninfo(url, user=name)
    held: list[psycopg.Connection] = []
    refused: list[float] = []

    def let_go(seconds: float) -> None:
        refused.append(seconds)
        if len(refused) == 3:
            held.pop().close()

    try:
        with a_start(tmp_path / "out.jsonl", limited, str(uuid.uuid4()), sleep=let_go) as desk:
            desk.store.close()
            held.append(psycopg.connect(limited))
            (outcome,) = desk.committer.commit([desk.draft(artist(1), "A bio.")])
            assert isinstance(outcome, Done)
            assert len(refused) >= 3
        assert check_books(tmp_path / "out.jsonl", admin) == {"1": "A bio."}
    finally:
        for connection in held:
            connection.close()
        admin.execute(sql.SQL("drop owned by {}").format(role))
        admin.execute(sql.SQL("drop role {}").format(role))
