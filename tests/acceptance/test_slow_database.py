"""The real command beside a Postgres in which somebody's trigger takes its time, or somebody's
lock holds up the start."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from artist_bio_gen.database.migrate import migrate
from tests.acceptance.harness import Job, Running, read_books, write_artists
from tests.fakes.api import FakeApi

GRACE_S = 1.0
AT_ONCE_S = 15.0
"""Generous, for a machine that does other things; the trigger takes far longer."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_stop_does_not_wait_for_a_slow_trigger_and_nothing_is_bought_twice(
    moment: str, database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 3)
    migrate(database_url, table="artists")
    with FakeApi() as api, psycopg.connect(database_url, autocommit=True) as admin:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        admin.execute(
            "create function doze() returns trigger language plpgsql as $$ begin"
            " perform pg_sleep(600); return new; end $$"
        )
        if moment == "before":
            admin.execute(
                "create trigger doze before insert or update on artists"
                " for each row execute function doze()"
            )
        else:  # at the very end, inside COMMIT
            admin.execute(
                "create constraint trigger doze after insert or update on artists"
                " deferrable initially deferred for each row execute function doze()"
            )
        with Running(job, "--grace", f"{GRACE_S:g}") as run:
            run.wait_until(lambda: dozing(admin))
            run.wait_until(lambda: api.counts().answered == 3)
            run.signal(signal.SIGTERM)
            assert run.ended(GRACE_S + AT_ONCE_S) == 130, run.said
            assert "Traceback" not in run.said
        admin.execute("drop trigger doze on artists")
        code, said = job.finish()
        assert code == 0, said
        assert api.counts().answered == 3
    assert read_books(job).agree


def dozing(admin: psycopg.Connection) -> bool:
    return (
        admin.execute(
            "select from pg_stat_activity where datname = current_database()"
            " and wait_event = 'PgSleep'"
        ).rowcount
        > 0
    )


def test_a_table_that_is_locked_at_the_start_is_waited_for_and_told(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 3)
    migrate(database_url, table="artists")
    with FakeApi() as api, psycopg.connect(database_url) as other:
        job = Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv")
        other.execute("lock table artists in access exclusive mode")
        with Running(job) as run:
            run.wait_until(lambda: "paused: the database is away" in run.said)
            other.rollback()
            assert run.ended(60.0) == 0, run.said
    assert read_books(job).agree
