"""A file of the earlier format becomes a ledger, with a real database."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from artist_bio_gen.adopt import adopt
from artist_bio_gen.adoption import Adoption
from artist_bio_gen.config import Settings
from artist_bio_gen.errors import ConfigError, InputError, UsageError
from artist_bio_gen.ledger.earlier import encode
from artist_bio_gen.ledger.export import export
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.processor.control import Control
from artist_bio_gen.telemetry import Event, Telemetry
from tests.acceptance.harness import Drain, Job, events, read_books, size_of, write_rows
from tests.builders import Heard, lines_of
from tests.fakes.api import FakeApi
from tests.integration.test_committer import check_books
from tests.test_cli import call
from tests.test_earlier import record


class Killed(BaseException):
    """The process is gone, at this moment."""


class Office:
    """An old file, a ledger and a database, and the adoption of the one into the others."""

    def __init__(self, folder: Path, url: str) -> None:
        self.old = folder / "old.jsonl"
        self.ledger = folder / "out.jsonl"
        self.settings = Settings(database_url=url, output=self.ledger, yes=True)
        self.heard = Heard()
        self.said: list[str] = []

    def write(self, *records: dict[str, Any]) -> None:
        self.old.write_bytes(b"".join(map(encode, records)))

    def adopt(
        self,
        *hooks: Callable[[Event], None],
        replace_others: bool = False,
        list_path: Path | None = None,
        control: Control | None = None,
        **settings: Any,
    ) -> Adoption:
        return adopt(
            replace(self.settings, **settings),
            self.old,
            replace_others=replace_others,
            list_path=list_path,
            telemetry=Telemetry(self.heard, *hooks),
            say=self.said.append,
            control=control or Control(),
            attended=False,
        )

    def listed(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in lines_of(beside(self.ledger, "left.jsonl"))]


@pytest.fixture
def office(tmp_path: Path, url: str) -> Office:
    return Office(tmp_path, url)


def numbered(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        record(
            artist_id=f"a{n}", artist_name=f"Artist {n}", **{"response_text": f"Bio {n}."} | changes
        )
        for n in numbers
    ]


def put(admin: psycopg.Connection, artist_id: str, bio: str | None) -> None:
    admin.execute("insert into artists values (%s, 'By hand', %s)", [artist_id, bio])


# ---- what is told apart ---------------------------------------------------------------------


def test_what_the_table_has_has_not_and_has_otherwise(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(*numbered(1, 2, 3, 4, 5))
    put(admin, "a1", "Bio 1.")
    put(admin, "a2", None)
    put(admin, "a3", "")
    put(admin, "a4", "By hand.")
    found = office.adopt()
    assert (found.same, found.put, found.replaced, found.in_ledger) == (1, 3, 0, 0)
    assert found.left == {"differs": 1}
    (left,) = found.examples["differs"]
    assert (left.line, left.artist_id, left.artist_name) == (4, "a4", "Artist 4")
    assert "table artists has another text" in left.reason
    assert found.exit_code == 4
    assert dict(admin.execute("select id, bio from artists")) == {
        "a1": "Bio 1.",
        "a2": "Bio 2.",
        "a3": "Bio 3.",
        "a4": "By hand.",
        "a5": "Bio 5.",
    }
    read = [json.loads(data)["artist_id"] for data in lines_of(office.ledger)]
    assert read == ["a1", "a2", "a3", "a5"]


def test_with_replace_the_other_text_is_kept_aside(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(*numbered(1))
    put(admin, "a1", "By hand.")
    found = office.adopt(replace_others=True)
    assert (found.replaced, found.exit_code) == (1, 0)
    check_books(office.ledger, admin)
    kept = admin.execute("select artist_id, bio, seq from artist_bio_gen.replaced_bios").fetchall()
    assert kept == [("a1", "By hand.", 1)]


def test_failures_are_left_to_be_done_again_and_counted_by_reason(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(
        *numbered(1),
        *numbered(2, 3, error="429"),
        *numbered(4, db_status="skipped"),
        *numbered(5, response_text=""),
    )
    found = office.adopt()
    assert found.again == {"error": 2, "db_status skipped": 1, "no text": 1}
    assert found.exit_code == 0
    assert check_books(office.ledger, admin) == ["a1"]
    assert [
        (each["kind"], each["line"], each["artist_id"], each["reason"]) for each in office.listed()
    ] == [
        ("again", 2, "a2", "error: 429"),
        ("again", 3, "a3", "error: 429"),
        ("again", 4, "a4", "db_status skipped"),
        ("again", 5, "a5", "no text"),
    ]
    assert stat.S_IMODE(beside(office.ledger, "left.jsonl").stat().st_mode) == 0o600


def test_an_artist_with_a_good_line_is_not_to_be_done_again(office: Office) -> None:
    office.write(*numbered(1, error="429"), *numbered(1), *numbered(1, db_status="error"))
    found = office.adopt()
    assert (found.taken, dict(found.again), found.repeated) == (1, {}, 0)


def test_of_several_lines_one_counts_and_the_others_are_told(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(
        *numbered(1, response_text="Old.", created=5),
        *numbered(2),
        *numbered(1, response_text="New.", created=9),
        *numbered(1, response_text="Middle.", created=7),
    )
    found = office.adopt()
    assert (found.good, found.repeated, found.taken) == (4, 2, 2)
    assert check_books(office.ledger, admin) == ["a2", "a1"]
    assert admin.execute("select bio from artists where id = 'a1'").fetchone() == ("New.",)


def test_lines_that_are_none_are_rejected_and_the_rest_goes_on(office: Office) -> None:
    good = list(map(encode, numbered(1, 2)))
    office.old.write_bytes(
        b"\xef\xbb\xbf"
        + good[0][:-1]
        + b"\r\n{broken\n\n"
        + encode(numbered(3, created="x")[0])
        + good[1]
    )
    found = office.adopt()
    assert (found.lines, found.taken, found.left["rejected"]) == (4, 2, 2)
    assert [each.line for each in found.examples["rejected"]] == [2, 4]
    assert found.exit_code == 4


def test_an_id_that_the_table_cannot_hold_is_rejected(
    office: Office, admin: psycopg.Connection
) -> None:
    admin.execute("create table numbers (id integer primary key, name text, bio text)")
    office.write(
        *numbered(1), record(artist_id="007"), record(artist_id="7", response_text="Seven.")
    )
    found = office.adopt(table="numbers")
    assert (found.left, found.repeated) == ({"rejected": 1}, 1)
    assert "'a1' is no whole number" in found.examples["rejected"][0].reason
    assert admin.execute("select id, bio from numbers").fetchall() == [(7, "Seven.")]


def test_what_the_database_refuses_is_left_and_the_rest_goes_through(
    office: Office, admin: psycopg.Connection
) -> None:
    admin.execute("alter table artists add check (bio <> 'Bio 2.')")
    office.write(*numbered(1, 2, 3))
    found = office.adopt()
    assert (found.taken, found.left) == (2, {"refused": 1})
    assert "the database refuses the bio" in found.examples["refused"][0].reason
    assert check_books(office.ledger, admin) == ["a1", "a3"]


def test_without_a_row_on_missing_decides(office: Office, admin: psycopg.Connection) -> None:
    office.write(*numbered(1, 2))
    put(admin, "a1", None)
    found = office.adopt(on_missing="skip")
    assert (found.put, found.left) == (1, {"no_row": 1})


def test_what_another_ledger_has_is_left_there(office: Office, tmp_path: Path) -> None:
    office.write(*numbered(1))
    office.adopt()
    found = office.adopt(output=tmp_path / "other.jsonl")
    assert (found.taken, found.left) == (0, {"elsewhere": 1})


# ---- the ledger's lines -----------------------------------------------------------------------


def test_a_line_keeps_what_was_known_and_says_what_is_not(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(record())
    found = office.adopt()
    check_books(office.ledger, admin)
    (data,) = lines_of(office.ledger)
    line = json.loads(data)
    assert (line["request"], line["response_id"], line["created"]) == (
        record()["request"],
        "resp_1",
        1_700_000_000,
    )
    assert (line["artist_data"], line["generation"], line["run"]) == (
        {"artist_data": "born 1965; Iceland"},
        1,
        found.run,
    )
    unknown = ("usage", "latency_ms", "cost_usd", "finish_reason", "request_id")
    assert [line[key] for key in unknown] == [None] * 5
    assert (found.seq, found.hash) == (1, line["hash"])


def test_the_prompt_and_its_version_make_the_fingerprint(office: Office) -> None:
    other = {"prompt_id": "pmpt_1", "variables": {}, "version": "3"}
    office.write(*numbered(1, 2), *numbered(3, request=other))
    office.adopt()
    one, two, three = (json.loads(data)["prompt_sha256"] for data in lines_of(office.ledger))
    assert one == two != three


def test_the_export_gives_the_file_back(office: Office) -> None:
    office.write(*numbered(*range(1, 40)), record(artist_id="ü", response_text="“坂本” \u2028 \\"))
    office.adopt()
    assert b"".join(export(office.ledger, "earlier")) == office.old.read_bytes()


def test_the_run_is_known_with_its_end(office: Office, admin: psycopg.Connection) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    found = office.adopt()
    told = admin.execute(
        "select run::text, exit_code, counts ->> 'put', settings ->> 'adopt', ended_at is not null"
        " from artist_bio_gen.runs"
    ).fetchall()
    assert told == [(found.run, 0, "1", str(office.old), True)]
    names = office.heard.names()
    assert names[0] == "started"
    assert names[-3:] == ["committed", "appended", "stopped"]


# ---- again, and on a ledger that is there -------------------------------------------------------


def test_a_second_time_adds_nothing(office: Office, admin: psycopg.Connection) -> None:
    office.write(*numbered(*range(1, 6)))
    office.adopt()
    before = office.ledger.read_bytes()
    found = office.adopt()
    assert (found.taken, found.in_ledger, found.exit_code) == (0, 5, 0)
    assert office.ledger.read_bytes() == before
    check_books(office.ledger, admin)


def test_a_grown_file_adds_what_is_new_and_leaves_what_has_changed(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(*numbered(1, 2))
    office.adopt()
    office.write(*numbered(1), *numbered(2, response_text="Rewritten."), *numbered(3))
    found = office.adopt()
    assert (found.in_ledger, found.put, found.left) == (1, 1, {"differs": 1})
    assert "this ledger has another text" in found.examples["differs"][0].reason
    found = office.adopt(replace_others=True)
    assert (found.in_ledger, found.replaced) == (2, 1)
    last = json.loads(lines_of(office.ledger)[-1])
    assert (last["artist_id"], last["generation"]) == ("a2", 2)
    check_books(office.ledger, admin)
    assert office.adopt(replace_others=True).taken == 0


def test_a_bio_that_somebody_changed_in_the_table_stays(
    office: Office, admin: psycopg.Connection
) -> None:
    office.write(*numbered(1))
    office.adopt()
    admin.execute("update artists set bio = 'By hand.'")
    found = office.adopt(replace_others=True)
    assert (found.taken, found.in_ledger) == (0, 1), "done is what this ledger has"
    assert admin.execute("select bio from artists").fetchone() == ("By hand.",)


@pytest.mark.parametrize("event", ["started", "committed", "appended"])
def test_killed_on_the_way_the_next_one_goes_on(
    office: Office, admin: psycopg.Connection, event: str
) -> None:
    office.write(*numbered(*range(1, 20)))

    def kill(heard: Event) -> None:
        if heard.name == event:
            raise Killed

    with pytest.raises(Killed):
        office.adopt(kill)
    assert not beside(office.ledger, "left.jsonl").exists()
    found = office.adopt()
    assert found.taken + found.in_ledger == 19
    assert check_books(office.ledger, admin) == [f"a{n}" for n in range(1, 20)]


def test_a_stopped_one_says_so_and_can_go_on(office: Office, admin: psycopg.Connection) -> None:
    office.write(*numbered(*range(1, 1200)))
    control = Control()

    def stop(heard: Event) -> None:
        if heard.name == "appended":
            control.stop("test")

    found = office.adopt(stop, control=control)
    assert (found.interrupted, found.exit_code, found.list_path) == (True, 130, None)
    assert 0 < found.taken < 1199
    assert found.seq == found.taken
    rest = office.adopt()
    assert (rest.in_ledger, rest.taken) == (found.taken, 1199 - found.taken)
    check_books(office.ledger, admin)


def test_the_real_command_killed_again_and_again(tmp_path: Path, url: str) -> None:
    with FakeApi(models="gpt-test") as api:
        job = Job(tmp_path, url, api.base_url, tmp_path / "artists.csv")
        old = tmp_path / "old.jsonl"
        old.write_bytes(b"".join(map(encode, numbered(*range(1, 4001)))))
        kills = 0
        for _ in range(4):
            before = size_of(job.ledger)
            process = job.command("adopt", str(old), "--output", "out.jsonl", "--yes")
            with Drain(process):
                while size_of(job.ledger) <= before and process.poll() is None:
                    time.sleep(0.002)
                kills += process.poll() is None
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert kills >= 2
        code, said = job.tell("adopt", str(old), "--output", "out.jsonl", "--yes")
        assert code == 0, said
        books = read_books(job)
        assert books.ledger == books.database == {f"a{n}": f"Bio {n}." for n in range(1, 4001)}


def test_a_resume_with_the_catalogue_buys_only_the_rest(tmp_path: Path, url: str) -> None:
    with FakeApi(models="gpt-test") as api:
        catalogue = tmp_path / "artists.csv"
        rows = [(f"a{n}", f"Artist {n}", "born 1965; Iceland") for n in range(1, 31)]
        write_rows(catalogue, rows, header="artist_id,artist_name,artist_data")
        job = Job(tmp_path, url, api.base_url, catalogue)
        old = tmp_path / "old.jsonl"
        lines = [*numbered(*range(1, 21)), *numbered(*range(21, 26), error="429")]
        old.write_bytes(b"".join(map(encode, lines)))
        code, said = job.tell("adopt", str(old), "--output", "out.jsonl", "--yes")
        assert code == 0, said
        code, said = job.finish()
        assert code == 0, said
        assert "10 done" in said
        assert "20 done before" in said
        (done,) = events(job.log, "skipped")
        told = (done["reason"], done["count"], done["changed_input"], done["changed_prompt"])
        assert told == ("done", 20, 0, 20), "the fingerprint of the data is the catalogue's"
        books = read_books(job)
        assert len(books.ledger) == 30
        assert books.ledger["a7"] == "Bio 7."
        assert set(api.counts().seen_by_artist) == {f"a{n}" for n in range(21, 31)}


def test_what_another_process_commits_meanwhile_is_not_written_over(
    office: Office, admin: psycopg.Connection, tmp_path: Path, url: str
) -> None:
    office.write(*numbered(1, 2))
    other = Office(tmp_path, url)
    other.old = tmp_path / "other.jsonl"
    other.write(*numbered(1, response_text="Of the other one."))

    def meanwhile(heard: Event) -> None:
        if heard.name == "recovered":
            assert other.adopt(list_path=tmp_path / "other.list").put == 1

    found = office.adopt(meanwhile)
    assert (found.put, found.left) == (1, {"differs": 1})
    assert check_books(office.ledger, admin) == ["a1", "a2"]
    assert admin.execute("select bio from artists order by id").fetchall() == [
        ("Of the other one.",),
        ("Bio 2.",),
    ]


def test_an_empty_ledger_and_one_with_lines_are_gone_on_with(
    office: Office, admin: psycopg.Connection
) -> None:
    Ledger.create(office.ledger).close()
    office.write(*numbered(1))
    assert office.adopt().put == 1
    office.write(*numbered(2))
    assert office.adopt().put == 1
    assert check_books(office.ledger, admin) == ["a1", "a2"]


# ---- without --yes, and what is refused ---------------------------------------------------------


def test_without_yes_it_is_told_and_nothing_done(
    office: Office, admin: psycopg.Connection, tmp_path: Path
) -> None:
    office.write(*numbered(1, 2, 3), *numbered(4, error="x"))
    put(admin, "a1", "By hand.")
    found = office.adopt(yes=False)
    assert not found.done
    assert (found.put, found.left["differs"], found.again.total()) == (2, 1, 1)
    assert [each.name for each in tmp_path.iterdir()] == ["old.jsonl"]
    assert admin.execute("select count(*) from artist_bio_gen.runs").fetchone() == (0,)
    assert admin.execute("select count(*) from artists").fetchone() == (1,)
    told, done = found.counts(), office.adopt().counts()
    assert told == done, "what was told is what happens"


def test_without_yes_a_list_is_written_where_it_is_asked_for(
    office: Office, tmp_path: Path
) -> None:
    office.write(*numbered(1, error="x"))
    office.adopt(yes=False, list_path=tmp_path / "rest.jsonl")
    (line,) = lines_of(tmp_path / "rest.jsonl")
    assert json.loads(line)["artist_id"] == "a1"


def test_a_file_without_a_good_line_begins_no_ledger(office: Office) -> None:
    office.old.write_text("id,name\n1,Björk\n")
    found = office.adopt()
    assert found.left == {"rejected": 2}
    assert not office.ledger.exists()


def test_a_ledger_is_not_adopted(office: Office, tmp_path: Path) -> None:
    office.write(*numbered(1))
    office.adopt()
    with pytest.raises(UsageError, match="is the ledger itself"):
        adopt(
            office.settings,
            office.ledger,
            replace_others=False,
            list_path=None,
            telemetry=Telemetry(),
            say=office.said.append,
            control=Control(),
            attended=False,
        )
    office.old.write_bytes(office.ledger.read_bytes())
    found = office.adopt(output=tmp_path / "other.jsonl")
    assert found.left == {"rejected": 1}
    assert "a line of a ledger with a chain" in found.examples["rejected"][0].reason


def test_the_list_takes_the_place_of_neither_file(office: Office) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    office.adopt()
    before = office.old.read_bytes(), office.ledger.read_bytes()
    for path in (office.old, office.ledger):
        with pytest.raises(UsageError, match="is not overwritten"):
            office.adopt(list_path=path)
    assert (office.old.read_bytes(), office.ledger.read_bytes()) == before


@pytest.mark.parametrize("name", ["{}.head", "{}.journal.x.000001", "out.0001.jsonl"])
def test_the_list_is_no_file_of_the_ledger(office: Office, name: str) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    own = office.ledger.with_name(name.format(office.ledger.name))
    office.adopt()
    before = own.read_bytes() if own.exists() else None
    with pytest.raises(UsageError, match="belongs to the ledger"):
        office.adopt(list_path=own)
    assert (own.read_bytes() if own.exists() else None) == before


def test_a_file_that_cannot_be_read_is_told(office: Office, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"old.jsonl: cannot be read: No such file"):
        office.adopt()
    office.old.write_bytes("x".encode("utf-16"))
    with pytest.raises(InputError, match="is UTF-16"):
        office.adopt()
    assert not office.ledger.exists()


@pytest.mark.parametrize("yes", [False, True])
@pytest.mark.parametrize("given", [True, False])
def test_a_list_takes_the_place_of_an_earlier_list_alone(
    office: Office, tmp_path: Path, yes: bool, given: bool
) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    usual = beside(office.ledger, "left.jsonl")
    path = tmp_path / "rest.jsonl" if given else usual
    list_path = path if given else None
    if not (given or yes):
        path.write_bytes(b"mine")
        office.adopt(yes=False)
        assert path.read_bytes() == b"mine"  # none is written
        return
    elsewhere = tmp_path / "elsewhere"
    for mine in (b"mine", b"{}\n", b'{"kind":"again"}\n', b"\n", b"[]\n", encode(record())):
        path.write_bytes(mine)
        elsewhere.write_bytes(mine)
        with pytest.raises(UsageError, match=r"is no earlier list.*is not overwritten"):
            office.adopt(yes=yes, list_path=list_path)
        assert path.read_bytes() == mine
    path.unlink()
    elsewhere.write_bytes(b"")
    path.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is not overwritten"):
        office.adopt(yes=yes, list_path=list_path)
    assert path.is_symlink()
    path.unlink()
    assert not office.ledger.exists()
    path.touch()  # a list of nothing
    for _ in range(2):
        office.adopt(yes=yes, list_path=list_path)
        (line,) = lines_of(path)
        assert json.loads(line)["artist_id"] == "a2"


@pytest.mark.parametrize(
    "words",
    [
        ("--list", "out.jsonl.log"),
        ("--list", "out.jsonl.log.1"),
        ("--list", "mine.log", "--log-file", "mine.log"),
        ("--log-file", "old.jsonl"),
        ("--log-file", "out.jsonl.left.jsonl"),
    ],
    ids=" ".join,
)
def test_list_log_and_old_file_are_files_of_their_own(
    office: Office, tmp_path: Path, url: str, words: tuple[str, ...]
) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    command = ("adopt", "old.jsonl", "--output", str(office.ledger), "--yes", *words)
    given = [str(tmp_path / word) if "." in word else word for word in command]
    said = call(*given, environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert said.exit_code == 2, said.output
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("what", ["old", "ledger", "list"])
def test_named_pipes_are_not_waited_for(office: Office, tmp_path: Path, what: str) -> None:
    office.write(*numbered(1), *numbered(2, error="x"))
    paths = {"old": office.old, "ledger": office.ledger, "list": tmp_path / "list.jsonl"}
    paths[what].unlink(missing_ok=True)
    os.mkfifo(paths[what])
    told = f"{paths[what].name}: is .*no (regular file|earlier list)"
    with pytest.raises(UsageError, match=told):
        office.adopt(list_path=paths["list"])
    assert stat.S_ISFIFO(paths[what].lstat().st_mode)


def test_tables_are_not_made_without_yes(office: Office, admin: psycopg.Connection) -> None:
    office.write(*numbered(1))
    admin.execute("drop table artists")
    with pytest.raises(ConfigError, match="has no table 'artists'"):
        office.adopt(yes=False)
    assert office.adopt().put == 1


def test_keys_that_are_not_kept_are_named(office: Office) -> None:
    office.write(record(cost=0.1), record(artist_id="a2", cost=0.2))
    assert office.adopt().further == {"cost": 2}


def test_the_command_tells_its_result_as_json(office: Office, url: str, tmp_path: Path) -> None:
    office.write(*numbered(1, 2, 3), *numbered(4, error="x"), *numbered(5, created="x"))
    words = ("adopt", str(office.old), "--output", str(office.ledger), "--json", "--yes")
    said = call(*words, environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert said.exit_code == 4
    told = json.loads(said.stdout)
    assert (told["done"], told["put"], told["again"], told["left"]) == (
        True,
        3,
        {"error": 1},
        {"rejected": 1},
    )
    assert [each["line"] for each in told["examples"]["rejected"]] == [5]
    assert told["list"] == str(beside(office.ledger, "left.jsonl"))
    assert (told["seq"], told["hash"]) == (3, json.loads(lines_of(office.ledger)[-1])["hash"])
    assert [each["event"] for each in events(Path(f"{office.ledger}.log"))][-1] == "stopped"
    said = call(*words, environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert json.loads(said.stdout)["in_ledger"] == 3


def test_a_name_in_an_old_file_does_not_steer_the_terminal(
    office: Office, url: str, tmp_path: Path
) -> None:
    evil = "Evil\x1b[2J\nName"
    office.write(record(artist_id="a9", artist_name=evil))
    with psycopg.connect(url, autocommit=True) as conn:
        put(conn, "a9", "By hand.")
    said = call("adopt", str(office.old), environ={"DATABASE_URL": url}, cwd=tmp_path)
    assert "artist a9 (Evil\\x1b[2J" in said.output
    assert "\x1b" not in said.output


def test_a_missing_folder_is_told(office: Office, tmp_path: Path) -> None:
    office.write(*numbered(1))
    with pytest.raises(UsageError, match="does not exist"):
        office.adopt(output=tmp_path / "none" / "out.jsonl")
