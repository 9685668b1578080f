"""The real command against an API that fails in every way it knows: what can be had is had, what
cannot is a typed failure, and nothing that is no bio is ever stored as one."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    database_bios,
    events,
    failures,
    journals,
    no_leftovers,
    query,
    read_books,
    wait_for,
    write_artists,
    write_rows,
)
from tests.fakes.api import FakeApi

APIS = ["chat", "responses"]

WAITED_FOR = {
    "rate_limit=0.2*2": 1,
    "token_limit=20ms*3": 1,
    "slow_down=0.2*1": 1,
    "flex_unavailable*1": 1,
    "overloaded=0.3*2": 1,
    "reset_before*1": 2,
    "server_error*2": 3,
    "bad_gateway*1": 2,
    "gateway_timeout*1": 2,
    "request_timeout*1": 2,
    "conflict*1": 2,
    "html_error*1": 2,
    "html_error=503*1": 1,
    "reset*1": 2,
    "close*1": 2,
    "truncated*1": 2,
    "chunked_cut*1": 2,
    "gzip_broken*1": 2,
    "half_head*1": 2,
    "garbage*1": 2,
    "hang*1": 2,
    "broken_json*1": 2,
    "wrong_type*1": 2,
    "wrong_shape*1": 2,
    "failed*1": 2,
    "deep*1": 2,
    "not_utf8*1": 2,
    "html_ok*1": 2,
    "overloaded=0.1*1]] [[fault:server_error*1]] [[fault:rate_limit=0.1*1": 2,
}
"""Faults that pass, with the attempts that the ledger must tell: calls that may be billed."""

TAKEN = ["chunked", "gzip", "no_length", "drip=0.3", "continue_100", "no_usage"]
"""Good replies that come in an unusual way."""

CARE = {"nul": True, "surrogate": True, "line_separator": True, "nan": False}
"""Bios that need care, and whether characters had to be taken out."""

NO_BIO = {
    "refuse": "refused",
    "incomplete": "incomplete",
    "incomplete_empty": "incomplete",
    "content_filter": "content_filter",
    "empty": "empty",
    "whitespace": "empty",
    "long": "too_long",
    "context_length": "bad_request",
    "too_large": "bad_request",
    "unprocessable": "bad_request",
    "server_error": "server_error",
    "broken_json": "bad_reply",
    "truncated": "reset",
    "garbage": "bad_reply",
    "huge_headers": "bad_reply",
}
"""Faults that stay, with the kind of the failure that they are."""

SPENT = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
]


def marked(path: Path, faults: list[str]) -> dict[str, str]:
    """An input in which each artist's calls meet one fault; the fault of each id."""
    by_id = {f"x{number}": fault for number, fault in enumerate(faults)}
    rows = [(artist, f"Artist {artist}", f"[[fault:{fault}]]") for artist, fault in by_id.items()]
    write_rows(path, rows, header="id,name,note")
    return by_id


def a_job(tmp_path: Path, database_url: str, api: FakeApi, *options: str) -> Job:
    return Job(tmp_path, database_url, api.base_url, tmp_path / "artists.csv", options=options)


@pytest.mark.parametrize("api_shape", APIS)
def test_what_passes_is_waited_for_and_only_calls_that_may_be_billed_are_attempts(
    api_shape: str, database_url: str, tmp_path: Path
) -> None:
    expected = {**WAITED_FOR, **dict.fromkeys([*TAKEN, *CARE], 1)}
    by_id = marked(tmp_path / "artists.csv", list(expected))
    with FakeApi(keep=0) as api:
        options = ("--api", api_shape, "--workers", "48", "--timeout", "2")
        job = a_job(tmp_path, database_url, api, *options)
        with no_leftovers(job):
            code, said = job.finish()
    assert code == 0, said
    books = read_books(job)
    assert books.agree
    lines = {by_id[line["artist_id"]]: line for line in chain(job.ledger)}
    assert {fault: line["attempts"] for fault, line in lines.items()} == expected
    assert {fault: lines[fault]["cleaned"] for fault in CARE} == CARE
    for fault, line in lines.items():
        text = line["response_text"]
        assert text.startswith("Artist x"), fault
        assert not re.search("[\0\ud800-\udfff]", text), fault
    assert "\u2028" in lines["line_separator"]["response_text"]
    assert failures(job) == []
    committed = {event["artist_id"]: event["attempts"] for event in events(job.log, "committed")}
    assert committed == {artist: expected[fault] for artist, fault in by_id.items()}


def test_the_server_is_not_asked_again_before_it_said(database_url: str, tmp_path: Path) -> None:
    marked(tmp_path / "artists.csv", ["rate_limit=1*1", "slow_down=1*1", "overloaded=1*1"])
    log = tmp_path / "calls"
    with FakeApi(log=log, keep=0) as api:
        job = a_job(tmp_path, database_url, api, "--workers", "3")
        code, said = job.finish()
    assert code == 0, said
    by_artist: dict[str, list[float]] = {}
    for data in log.read_bytes().splitlines():
        call = json.loads(data)
        by_artist.setdefault(call["artist"], []).append(call["time"])
    for first, second in by_artist.values():
        assert 1.0 <= second - first < 10
    assert [event["attempt"] for event in events(job.log, "retrying")] == [1, 1, 1]
    assert [event["attempts"] for event in events(job.log, "committed")] == [1, 1, 1]


@pytest.mark.parametrize("api_shape", APIS)
def test_what_is_no_bio_becomes_a_failure_with_its_kind_and_is_not_bought_again(
    api_shape: str, database_url: str, tmp_path: Path
) -> None:
    good = 5
    kinds = {**NO_BIO, "no_output": "bad_reply" if api_shape == "chat" else "empty"}
    by_id = marked(tmp_path / "artists.csv", [*kinds, *["ok"] * good])
    expected = {artist: kinds[fault] for artist, fault in by_id.items() if fault in kinds}
    with FakeApi(keep=0) as api:
        options = ("--api", api_shape, "--workers", "24", "--max-attempts", "2")
        job = a_job(tmp_path, database_url, api, *options)
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 4, said
        calls = api.counts().calls
        books = read_books(job)
        assert books.agree
        assert len(books.ledger) == good
        assert database_bios(job).keys().isdisjoint(expected)
        failed = {line["artist_id"]: line for line in failures(job)}
        assert {artist: line["kind"] for artist, line in failed.items()} == expected
        assert len(failures(job)) == len(expected)
        kept = query(
            job, "select artist_id, kind, attempts, transient from artist_bio_gen.failures"
        )
        assert {row[0]: row[1] for row in kept} == expected
        attempts = {artist: 2 if kind in TRIED_AGAIN else 1 for artist, kind in expected.items()}
        assert {row[0]: row[2] for row in kept} == attempts
        assert {artist: line["attempts"] for artist, line in failed.items()} == attempts
        assert {row[3] for row in kept} == {False}
        refused = next(line for line in failed.values() if line["kind"] == "refused")
        assert "can't help" in refused["text"]
        assert refused["usage"]["output_tokens"] > 0
        assert "out.jsonl.failed.jsonl" in said

        code, said = job.finish()
        assert code == 4, said
        assert f"{len(expected)} failed before" in said
        assert api.counts().calls == calls, "a plain resume asked again for what had failed"


TRIED_AGAIN = {"server_error", "bad_reply", "reset"}


def test_failures_are_bought_again_on_demand(database_url: str, tmp_path: Path) -> None:
    marked(tmp_path / "artists.csv", ["refuse*1", "empty*1", "context_length*1", "ok"])
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        assert job.finish()[0] == 4
        code, said = job.finish("--retry-failed")
        assert code == 0, said
        assert api.counts().calls == 7
        assert read_books(job).agree
        assert len(read_books(job).ledger) == 4
        code, said = job.finish()
        assert code == 0, said
        assert "4 done before" in said
        assert api.counts().calls == 7


def test_used_up_money_stops_the_run_and_is_nobodys_failure(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 60)
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "--workers", "4")
        for number, spent in enumerate(SPENT, 1):
            api.script(schedule=f"ok*6, {spent}*1000")
            api.clear()
            with no_leftovers(job):
                code, said = job.finish()
            assert code == 6, said
            assert "money or limit is used up" in said
            assert spent in said
            assert re.search("^go on +artist-bio-gen .*--resume", said, re.MULTILINE)
            assert api.counts().error <= 4, "calls went on after the money was used up"
            assert len(read_books(job).ledger) == 6 * number
        assert failures(job) == []
        assert query(job, "select * from artist_bio_gen.failures") == []
        api.script(schedule="")
        code, said = job.finish()
        assert code == 0, said
    assert events(job.log, "in_flight") == [], "what was refused unread was called in flight"
    assert len(read_books(job).ledger) == 60


MISFITS = {
    "unauthorized": "check the key in OPENAI_API_KEY",
    "forbidden": "this key may not use model gpt-test",
    "model_not_found": "choose another one than model gpt-test with --model",
    "bad_request": "temperature does not suit model gpt-test",
    "redirect=http://127.0.0.1:1/v1": "no redirect is followed",
}


def test_a_key_or_a_model_that_does_not_fit_stops_the_run_and_is_nobodys_failure(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 40)
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "--workers", "4")
        for misfit, words in MISFITS.items():
            api.script(schedule=f"{misfit}*1000")
            api.clear()
            with no_leftovers(job):
                code, said = job.finish()
            assert code == 3, said
            assert words in said
            assert api.counts().error <= 4
        assert failures(job) == []
        assert query(job, "select * from artist_bio_gen.failures") == []
        api.script(schedule="")
        code, said = job.finish()
        assert code == 0, said
    assert events(job.log, "in_flight") == []
    assert len(read_books(job).ledger) == 40


def test_a_model_that_the_server_does_not_list_is_told_before_the_first_call(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 4)
    with FakeApi(models="another", keep=0) as api:
        job = a_job(tmp_path, database_url, api)
        code, said = job.finish()
    assert code == 3
    assert f"model gpt-test: {job.base_url} does not know it" in said


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_a_server_that_is_down_is_waited_for_so_long_and_no_longer(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 60)
    port = free_port()
    options = ("--workers", "4", "--max-wait", "1", "--max-consecutive-failures", "6")
    job = Job(
        tmp_path,
        database_url,
        f"http://127.0.0.1:{port}/v1",
        tmp_path / "artists.csv",
        options=options,
    )
    began = time.monotonic()
    with no_leftovers(job):
        code, said = job.finish()
    assert code == 6, said
    assert time.monotonic() - began < 30
    assert "artists in a row got no bio" in said
    assert query(job, "select distinct kind, transient, attempts from artist_bio_gen.failures") == [
        ("unreachable", True, 0)
    ]
    assert 6 <= len(failures(job)) <= 6 + 4
    with FakeApi(keep=0, port=port) as api:
        code, said = job.finish()
        assert code == 0, said
        assert api.counts().calls == 60
    assert len(read_books(job).ledger) == 60


def test_a_wait_that_goes_on_is_a_failure_that_the_next_resume_takes_again(
    database_url: str, tmp_path: Path
) -> None:
    marked(tmp_path / "artists.csv", ["rate_limit=0.2*9", "overloaded=600*1", "ok"])
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api, "--max-wait", "1")
        code, said = job.finish()
        assert code == 4, said
        failed = {line["artist_id"]: line for line in failures(job)}
        assert set(failed) == {"x0", "x1"}
        assert {line["attempts"] for line in failed.values()} == {0}
        assert {line["transient"] for line in failed.values()} == {True}
        assert api.counts().seen_by_artist["x1"] == 1
        assert 3 <= api.counts().seen_by_artist["x0"] <= 6
        code, said = job.finish("--max-wait", "30")
        assert code == 0, said
    assert len(read_books(job).ledger) == 3


def test_failures_among_good_replies_do_not_stop_the_run_however_large_the_group(
    database_url: str, tmp_path: Path
) -> None:
    """What waits for the database is committed in large groups; a third of one is more than
    --max-consecutive-failures, and still not so many in a row."""
    faults = ["refuse" if number % 3 == 0 else "ok" for number in range(900)]
    marked(tmp_path / "artists.csv", faults)
    with FakeApi(keep=0) as api:
        job = a_job(
            tmp_path, database_url, api, "--workers", "32", "--max-consecutive-failures", "20"
        )
        with Running(job) as run, psycopg.connect(database_url) as holder:
            run.wait_until(lambda: len(events_so_far(job)) > 0)
            holder.execute("lock table artist_bio_gen.heads in exclusive mode")
            settled = SettledCounts(api)
            run.wait_until(settled)
            holder.rollback()
            assert run.ended() == 4, run.said
    assert len(read_books(job).ledger) == 600
    assert len(failures(job)) == 300
    assert journals(job) == []


def events_so_far(job: Job) -> list[object]:
    return list(events(job.log, "appended")) if job.log.exists() else []


class SettledCounts:
    """True when a second has gone by in which the API saw no call."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self._calls = -1
        self._since = 0.0

    def __call__(self) -> bool:
        calls = self._api.counts().calls
        if calls != self._calls:
            self._calls, self._since = calls, time.monotonic()
        return time.monotonic() - self._since > 1


def test_a_third_of_the_calls_failing_at_random_ends_with_all_bios(
    database_url: str, tmp_path: Path
) -> None:
    write_artists(tmp_path / "artists.csv", 120)
    chances = "server_error@0.08, reset@0.06, truncated@0.06, rate_limit=0.05@0.1, broken_json@0.05"
    with FakeApi(chances=chances, seed=7, keep=0) as api:
        job = a_job(tmp_path, database_url, api, "--workers", "60", "--max-attempts", "12")
        with no_leftovers(job):
            code, said = job.finish()
        assert code == 0, said
        counts = api.counts()
    assert read_books(job).agree
    lines = list(chain(job.ledger))
    assert len(lines) == 120
    turned_away = counts.faults["rate_limit"]
    assert sum(line["attempts"] for line in lines) == counts.calls - turned_away
    wait_for(lambda: journals(job) == [])
