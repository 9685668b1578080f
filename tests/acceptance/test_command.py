"""The real command: what it refuses, what it leaves alone, where its settings come from."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.harness import (
    Job,
    Running,
    chain,
    journals,
    query,
    read_books,
    size_of,
    write_artists,
)
from tests.fakes.api import FakeApi

TABLES = """
    select schemaname || '.' || tablename from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema')
"""
NOWHERE = "http://127.0.0.1:1/v1"


def a_job(tmp_path: Path, database_url: str, base_url: str, rows: int = 8) -> Job:
    write_artists(tmp_path / "artists.csv", rows)
    return Job(tmp_path, database_url, base_url, tmp_path / "artists.csv")


def asked(api: FakeApi) -> list[dict[str, Any]]:
    """The calls, with their bodies read."""
    return [
        {**request, "body": json.loads(request["body"])}
        for request in api.requests()
        if request["method"] == "POST"
    ]


# ---- what is refused and what is left alone ----------------------------------------------------


def test_a_ledger_that_exists_is_left_alone_without_resume(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        assert job.finish()[0] == 0
        before, status = job.ledger.read_bytes(), job.ledger.stat()
        calls = api.counts().calls
        code, said = job.tell(*job.words())
        assert code == 2
        assert "a ledger is there already and is never overwritten" in said
        assert f"--output {job.ledger} --resume" in said
        assert api.counts().calls == calls
    assert job.ledger.read_bytes() == before
    assert job.ledger.stat().st_mtime_ns == status.st_mtime_ns


def test_resume_without_a_ledger_begins_one_and_says_so(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        code, said = job.tell(*job.words("--resume"))
    assert code == 0, said
    assert "no ledger is there yet; a new one is begun" in said
    assert len(read_books(job).ledger) == 8


def test_an_input_without_rows_is_told_to_have_had_no_artists(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi() as api:
        job = a_job(tmp_path, database_url, api.base_url, rows=0)
        code, said = job.finish()
        assert (code, said.count("there were no artists")) == (0, 1)
        write_artists(tmp_path / "artists.csv", 1)
        assert "there were no artists" not in job.finish("--resume")[1]
        assert "there were no artists" not in job.finish("--resume")[1]


def test_a_dry_run_shows_five_requests_and_neither_calls_nor_writes(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi() as api:
        job = a_job(tmp_path, database_url, api.base_url)
        with job.input.open("a") as file:
            file.write("a8,,1900,Nowhere\n")
        before = sorted(tmp_path.iterdir())
        code, said = job.finish("--dry-run")
        assert code == 0, said
        assert [
            request for request in api.requests() if not request["target"].startswith("/_/")
        ] == []
    assert said.count(f"POST {job.base_url}/chat/completions") == 5
    assert "request for artist a4 (Artist 4)" in said
    assert "request for artist a5" not in said
    assert "row 10 would be rejected: column 'name' is empty" in said
    assert "8 artists would be looked up, 1 rows rejected; no call" in said
    assert sorted(tmp_path.iterdir()) == before
    assert query(job, TABLES) == []


def test_a_dry_run_needs_neither_database_nor_server(tmp_path: Path) -> None:
    job = a_job(tmp_path, "postgresql://127.0.0.1:1/nowhere", NOWHERE)
    code, said = job.finish("--dry-run", "--api", "responses")
    assert code == 0, said
    assert said.count(f"POST {NOWHERE}/responses") == 5


def test_a_dry_run_needs_neither_a_key_nor_weights(tmp_path: Path) -> None:
    job = a_job(tmp_path, "", "")
    job = replace(job, env={"OPENAI_API_KEY": ""})
    code, said = job.tell("--input", "artists.csv", "--dry-run")
    assert code == 0, said
    assert "no model yet, which a dry run does without; a run needs one: no OPENAI" in said
    assert said.count("POST …/chat/completions") == 5
    code, said = job.finish("--dry-run")
    assert code == 0, said  # with the weights, where there are some
    assert said.count("/chat/completions") == 5
    code, said = job.finish("--dry-run", "--local-model", "gone.gguf")
    assert (code, "gone.gguf" in said) == (3, True)


@pytest.mark.parametrize(
    ("options", "env", "code", "words"),
    [
        (("--input", "gone.csv"), {}, 1, "gone.csv cannot be opened"),
        (("--input", "."), {}, 1, "."),
        (("--encoding", "utf-17"), {}, 2, "no such text encoding"),
        (("--id-column", "key"), {}, 2, "there are 'id', 'name', 'born', 'country'"),
        (("--name-column", "title"), {}, 2, "there are 'id', 'name', 'born', 'country'"),
        (("--data-columns", "born,died"), {}, 2, "--data-columns died"),
        (("--again", "--keep-existing"), {}, 2, "give one of the two"),
        (("--output", "no/such/folder/out.jsonl"), {}, 2, "the folder no/such/folder does not"),
        ((), {"ARTIST_BIO_GEN_WORKERS": "many"}, 3, "workers = 'many'"),
        ((), {"ARTIST_BIO_GEN_WROKERS": "4"}, 3, "did you mean ARTIST_BIO_GEN_WORKERS?"),
        ((), {"OPENAI_BASE_URL": "localhost"}, 3, "base_url = 'localhost'"),
        ((), {"OPENAI_BASE_URL": "http://[::1"}, 3, "'http://[::1': Invalid IPv6 URL"),
        ((), {"OPENAI_BASE_URL": "http://u:p@h/v1"}, 3, "a user name, a query or a fragment"),
        (("--table", "a.b.c"), {}, 3, "--table a.b.c: give a table's name, or schema.table"),
        (("--table", ".b"), {}, 3, "--table .b: give a table's name, or schema.table"),
        (("--table", "nowhere.b"), {}, 3, "--table nowhere.b: schema"),
        (("--prompt", "gone.j2"), {}, 3, "prompt gone.j2: cannot be read"),
        (("--prompt-id", "pmpt_1"), {}, 3, "give --api responses"),
        ((), {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 3, "check --database-url"),
        ((), {"DATABASE_URL": "postgresql://[/x"}, 3, "the database address cannot be read"),
        (
            (),
            {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "ARTIST_BIO_GEN_YES": "false"},
            3,
            "local model",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    options: tuple[str, ...],
    env: dict[str, str],
    code: int,
    words: str,
    database_url: str,
    tmp_path: Path,
) -> None:
    job = replace(a_job(tmp_path, database_url, NOWHERE), env=env)
    job.agreed = () if "ARTIST_BIO_GEN_YES" in env else job.agreed
    before = set(tmp_path.iterdir())
    ended, said = job.finish(*options)
    assert ended == code, said
    assert words in said
    assert "Traceback" not in said
    made = set(tmp_path.iterdir()) - before
    assert {path.name for path in made if path.stat().st_size} == set()
    assert not job.ledger.exists()


def test_a_database_without_the_tables_wants_migrate_first(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        job.agreed = ()
        code, said = job.finish()
        assert code == 3
        assert "make them with: artist-bio-gen migrate" in said
        assert not job.ledger.exists()
        assert query(job, TABLES) == []
        code, said = job.tell("migrate")
        assert code == 0, said
        assert "made the table artists" in said
        code, said = job.tell("migrate")
        assert code == 0, said
        assert "applied" not in said
        code, said = job.finish()
        assert code == 0, said
    assert read_books(job).agree


def test_a_table_that_is_not_there_is_made_only_when_agreed(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        assert job.tell("migrate")[0] == 0
        job.table, job.agreed = "painters", ("--migrate",)
        code, said = job.finish()
        assert code == 3
        assert "no table 'painters'; name yours with --table, or agree with --yes" in said
        code, said = job.finish("--yes")
        assert code == 0, said
    assert read_books(job).agree


# ---- what is asked -----------------------------------------------------------------------------


def test_only_so_many_rows_are_read_and_the_rest_later(database_url: str, tmp_path: Path) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        code, said = job.finish("--max-rows", "3")
        assert code == 0, said
        assert set(read_books(job).ledger) == {"a0", "a1", "a2"}
        code, said = job.finish()
        assert code == 0, said
        assert "5 done" in said
        assert "3 done before" in said
        assert api.counts().calls == 8


def test_the_prompt_of_a_file_is_sent_and_named_in_the_ledger(
    database_url: str, tmp_path: Path
) -> None:
    prompt = tmp_path / "short.j2"
    prompt.write_text(
        "{# version: 7 #}{% block instructions %}Be brief.{% endblock %}"
        "{% block input %}Name: {{ artist_name }}\n{{ artist_data }}{% endblock %}"
    )
    with FakeApi() as api:
        job = a_job(tmp_path, database_url, api.base_url, rows=1)
        code, said = job.finish("--prompt", str(prompt), "--temperature", "0.5")
        assert code == 0, said
        (call,) = asked(api)
    assert call["body"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name: Artist 0\nborn: 1900\ncountry: Nowhere"},
    ]
    assert call["body"]["temperature"] == 0.5
    (line,) = chain(job.ledger)
    assert line["request"]["prompt"] == "short.j2"
    assert line["request"]["version"] == "7"
    assert line["request"]["parameters"] == {"temperature": 0.5}


def test_another_prompt_is_told_at_the_resume_and_nothing_is_bought_for_it(
    database_url: str, tmp_path: Path
) -> None:
    prompt = tmp_path / "other.j2"
    prompt.write_text("{{ artist_name }}")
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        assert job.finish()[0] == 0
        job.input.write_text(job.input.read_text().replace("1903", "1904"))
        code, said = job.finish("--prompt", str(prompt))
        assert code == 0, said
        assert "8 finished artists have another prompt or model now" in said
        assert "1 finished artists have another input now" in said
        assert api.counts().calls == 8


def test_a_stored_prompt_is_sent_with_its_version_and_variables(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi() as api:
        job = a_job(tmp_path, database_url, api.base_url, rows=1)
        job.env = {"OPENAI_PROMPT_ID": "pmpt_68a", "ARTIST_BIO_GEN_MODEL": ""}
        code, said = job.finish("--api", "responses", "--prompt-version", "3")
        assert code == 0, said
        assert "stored prompts are shut down at OpenAI on 30 November 2026" in said
        (call,) = asked(api)
    variables = {"artist_name": "Artist 0", "artist_data": "born: 1900\ncountry: Nowhere"}
    assert call["target"] == "/v1/responses"
    assert call["body"] == {"prompt": {"id": "pmpt_68a", "version": "3", "variables": variables}}
    (line,) = chain(job.ledger)
    assert line["request"]["prompt_id"] == "pmpt_68a"
    assert line["request"]["version"] == "3"
    assert line["request"]["variables"] == variables


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ((), "/v1/chat/completions"),
        (("--api", "responses"), "/v1/responses"),
        (("--transport", "openai"), "/v1/chat/completions"),
        (("--transport", "openai", "--api", "responses"), "/v1/responses"),
    ],
)
def test_each_shape_of_the_api_by_each_transport(
    options: tuple[str, ...], target: str, database_url: str, tmp_path: Path
) -> None:
    with FakeApi(latency="0.01") as api:
        job = a_job(tmp_path, database_url, api.base_url, rows=20)
        code, said = job.finish(*options)
        assert code == 0, said
        calls = asked(api)
        assert api.counts().answered == 20
    assert {call["target"] for call in calls} == {target}
    assert {call["body"]["model"] for call in calls} == {"gpt-test"}
    books = read_books(job)
    assert books.agree
    sent = {call["headers"]["x-client-request-id"] for call in calls}
    runs = {row[0] for row in query(job, "select run::text from artist_bio_gen.runs")}
    assert sent == {f"{run}-{artist}-1" for run in runs for artist in books.ledger}
    for line in chain(job.ledger):
        assert line["usage"]["output_tokens"] > 0
        assert line["finish_reason"] == ("completed" if "responses" in target else "stop")


def test_a_run_whose_output_nobody_reads_goes_on_and_keeps_its_exit_code(
    database_url: str, tmp_path: Path
) -> None:
    with FakeApi(keep=0) as api:
        job = a_job(tmp_path, database_url, api.base_url)
        reader, writer = os.pipe()
        os.close(reader)
        process = job.start(stdout=writer, stderr=writer)
        os.close(writer)
        assert process.wait() == 0
    assert read_books(job).agree
    assert len(read_books(job).ledger) == 8


# ---- settings and secrets ----------------------------------------------------------------------

KEY = "sk-canary-31415926535897932384"
PASSWORD = "c4nary-pässword"
ENCODED = "c4nary-p%C3%A4ssword"


def test_settings_come_from_flags_the_environment_and_the_env_files_in_this_order(
    database_url: str, tmp_path: Path
) -> None:
    names = ("DATABASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "ARTIST_BIO_GEN_MODEL")
    with FakeApi(api_key=KEY) as api:
        job = a_job(tmp_path, database_url, api.base_url, rows=1)
        job.env = {**dict.fromkeys(names, ""), "ARTIST_BIO_GEN_TEMPERATURE": "0.25"}
        (tmp_path / ".env").write_text(
            f"OPENAI_API_KEY=sk-wrong-key\nOPENAI_BASE_URL={api.base_url}\n"
            "OPENAI_ORG_ID=org-7\nARTIST_BIO_GEN_TEMPERATURE=1\nARTIST_BIO_GEN_MODEL=of-the-file\n"
        )
        (tmp_path / ".env.local").write_text(f"OPENAI_API_KEY={KEY}\nDATABASE_URL={database_url}\n")
        code, said = job.finish("--model", "of-the-flag")
        assert code == 0, said
        (call,) = asked(api)
        told = json.loads(job.tell("config", "--json", "--model", "of-the-flag")[1])
    assert call["body"]["model"] == "of-the-flag"
    assert call["body"]["temperature"] == 0.25
    assert call["headers"]["openai-organization"] == "org-7"
    assert call["headers"]["authorization"] == f"Bearer {KEY}"
    origins = {name: told[name]["from"] for name in ("model", "temperature", "api_key", "org_id")}
    assert origins == {
        "model": "flag",
        "temperature": "env ARTIST_BIO_GEN_TEMPERATURE",
        "api_key": ".env.local",
        "org_id": ".env",
    }


def with_password(url: str, password: str) -> str:
    return re.sub(r"//([^:@/]*)(:[^@/]*)?@", rf"//\1:{password}@", url, count=1)


def test_no_secret_gets_into_a_file_the_screen_or_the_database_and_all_files_are_private(
    database_url: str, tmp_path: Path
) -> None:
    chances = "refuse@0.2, server_error@0.2, unprocessable@0.1"
    said = []
    with FakeApi(keep=0, chances=chances, latency="0.02") as api:
        job = a_job(tmp_path, with_password(database_url, ENCODED), api.base_url, rows=60)
        job.env = {"OPENAI_API_KEY": KEY}
        job.options = ("--verbose", "--max-attempts", "2", "--workers", "4")
        with Running(job) as run:
            run.wait_until(lambda: size_of(job.ledger) > 0)
            run.kill()
            said.append(run.said)
        assert journals(job) != []
        looked_at = set(check_files(job))
        job.ledger.write_bytes(job.ledger.read_bytes()[:-40])
        said.append(job.finish()[1])
        looked_at.update(check_files(job))
        said.append(job.finish("--retry-failed", "--max-rows", "5")[1])
        api.script(chances="", schedule="unauthorized*1000")
        said.append(job.finish("--again")[1])
        said.append(job.tell("config")[1])
        said.append(job.tell("config", "--json")[1])
        job.env = {**job.env, "DATABASE_URL": f"postgresql://u:{ENCODED}@127.0.0.1:1/x"}
        said.append(job.finish()[1])
        job.env = {**job.env, "DATABASE_URL": f"postgresql://u:{ENCODED}@[/x"}
        said.append(job.finish()[1])
        looked_at.update(check_files(job))
    kinds = {re.sub(r"(quarantine|journal|run)\..*", r"\1", name) for name in looked_at}
    beside = ("failed.jsonl", "head", "journal", "lock", "log", "quarantine", "run")
    assert kinds == {"out.jsonl", *(f"out.jsonl.{kind}" for kind in beside)}
    for text in said:
        assert not any(secret in text for secret in (KEY, PASSWORD, ENCODED)), text
    with psycopg.connect(database_url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            kept = connection.execute(f"select t::text from {table} t").fetchall()
            assert not any(KEY in row[0] or PASSWORD in row[0] for row in kept), table
            assert not any(ENCODED in row[0] for row in kept), table


def check_files(job: Job) -> list[str]:
    paths = sorted(job.folder.glob("out.jsonl*"))
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        for secret in (KEY, PASSWORD, ENCODED):
            assert secret.encode() not in path.read_bytes(), path
    return [path.name for path in paths]
