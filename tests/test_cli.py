from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from artist_bio_gen import __version__, config
from artist_bio_gen.cli.main import SUBCOMMANDS, Program, program
from artist_bio_gen.cli.options import Surroundings, settings, settings_options
from artist_bio_gen.cli.run import summary
from artist_bio_gen.cli.signals import on_signals
from artist_bio_gen.config import OPTIONS, Settings
from artist_bio_gen.errors import (
    EXIT_DEFECT,
    EXIT_USAGE,
    ArtistBioGenError,
    ConfigError,
    InputError,
    LedgerError,
    LimitError,
    UsageError,
)
from artist_bio_gen.processor.control import Control
from artist_bio_gen.result import RunResult
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.counters import Counters

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-canary-0123456789abcdefWXYZ"


class FakeRun:
    """A runner that keeps what it was given, does what a test wants, and gives this result."""

    def __init__(
        self,
        result: RunResult | ArtistBioGenError | Exception | None = None,
        act: Callable[[FakeRun], None] = lambda run: None,
    ) -> None:
        self.result = result or RunResult(exit_code=0, run="r1", ledger=Path("out.jsonl"))
        self.act = act
        self.settings = Settings()

    def __call__(
        self,
        settings: Settings,
        *,
        counters: Counters,
        telemetry: Telemetry,
        say: Callable[[str], None],
        control: Control,
        attended: bool,
    ) -> RunResult:
        self.settings, self.attended = settings, attended
        self.counters, self.telemetry, self.say, self.control = counters, telemetry, say, control
        self.act(self)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def call(
    *args: str, run: FakeRun | None = None, environ: Mapping[str, str] | None = None, cwd: Path
) -> Result:
    around = Surroundings(environ or {}, cwd)
    return CliRunner().invoke(program(run or FakeRun()), args, prog_name=config.COMMAND, obj=around)


def flags(command: click.Command) -> set[str]:
    return {flag for param in command.params for flag in param.opts if flag.startswith("--")}


# ---- help -----------------------------------------------------------------------------------


def test_help_shows_every_option_under_its_heading_with_default_and_variable(
    tmp_path: Path,
) -> None:
    said = call("--help", cwd=tmp_path)
    assert said.exit_code == 0
    text = re.sub(r"\s+", " ", said.output)
    for option in OPTIONS.values():
        assert re.search(rf" {option.flag or option.env}[ /]", text)
        assert f"{option.group}: " in text
        assert re.sub(r"\s+", " ", option.help) in text
        if option.kind is not config.SWITCH:
            assert option.shown_default() in text
        if not option.env.startswith(config.PREFIX):
            assert option.env in text
    assert [name for name in SUBCOMMANDS if f" {name} " not in text] == []


def test_every_flag_of_the_main_form_is_an_option_of_the_table() -> None:
    own = {"--version"}
    assert flags(program()) - own == {option.flag for option in OPTIONS.values() if option.flag}


def test_help_fits_a_terminal(tmp_path: Path) -> None:
    assert max(map(len, call("--help", cwd=tmp_path).output.splitlines())) <= 80


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(args: list[str]) -> None:
    script = (
        "import sys\n"
        "from artist_bio_gen.cli.main import main\n"
        f"sys.argv[1:] = {args}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(ended.stderr.split())
    heavy = {"psycopg", "openai", "rich", "jinja2", "http.client", "filelock", "orjson", "dotenv"}
    assert "click" in loaded
    assert loaded & heavy == set()


def test_the_package_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "artist_bio_gen", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said == f"artist-bio-gen {__version__}\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_and_each_of_its_options_has_help(name: str) -> None:
    command = Program().get_command(click.Context(program()), name)
    assert command is not None
    nested = command.commands.values() if isinstance(command, click.Group) else ()
    for each in (command, *nested):
        assert each.help
        assert [p.name for p in each.params if isinstance(p, click.Option) and not p.help] == []


# ---- usage ----------------------------------------------------------------------------------


def test_without_an_input_usage_is_shown(tmp_path: Path) -> None:
    said = call(cwd=tmp_path)
    assert said.exit_code == 2
    assert "Usage: artist-bio-gen" in said.stderr
    assert "--input artists.csv" in said.stderr


def test_a_bare_file_gets_a_hint(tmp_path: Path) -> None:
    said = call("my.csv", cwd=tmp_path)
    assert said.exit_code == 2
    assert "artist-bio-gen --input my.csv" in said.stderr


def test_a_mistyped_command_is_no_file(tmp_path: Path) -> None:
    said = call("cofnig", cwd=tmp_path)
    assert said.exit_code == 2
    assert "No such command 'cofnig'" in said.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--workers", "0"],
        ["--api", "soap"],
        ["--no-such-option"],
        ["--api-key", "x"],
        ["--table", ""],
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, args: list[str]) -> None:
    said = call("--input", "a.csv", *args, cwd=tmp_path)
    assert said.exit_code == 2
    assert args[0] in said.stderr


def test_a_bad_flag_is_told_with_what_is_allowed(tmp_path: Path) -> None:
    said = call("--workers", "many", cwd=tmp_path)
    assert "'--workers': 'many': must be a whole number from 1 to 10000" in said.stderr


# ---- settings -------------------------------------------------------------------------------


def test_flags_and_variables_reach_the_runner(tmp_path: Path) -> None:
    run = FakeRun()
    said = call(
        "--input", "a.csv", "--data-columns", "a,b", "--no-header", "--no-resume",
        run=run, cwd=tmp_path,
        environ={"ARTIST_BIO_GEN_RESUME": "1", "OPENAI_API_KEY": KEY},
    )  # fmt: skip
    assert said.exit_code == 0
    assert run.settings.data_columns == ("a", "b")
    assert (run.settings.header, run.settings.resume) == (False, False)
    assert run.settings.origin("resume") == "flag"
    assert run.settings.api_key == KEY
    assert run.attended is False


def test_an_input_may_come_from_the_environment(tmp_path: Path) -> None:
    run = FakeRun()
    assert call(run=run, environ={"ARTIST_BIO_GEN_INPUT": "a.csv"}, cwd=tmp_path).exit_code == 0
    assert run.settings.input == "a.csv"


def test_a_bad_variable_is_exit_code_3(tmp_path: Path) -> None:
    said = call("--input", "a.csv", environ={"ARTIST_BIO_GEN_WORKERS": "0"}, cwd=tmp_path)
    assert said.exit_code == 3
    assert said.stderr.startswith("error: workers = '0' (from env ARTIST_BIO_GEN_WORKERS): must be")


def test_flags_before_a_subcommand_count_for_it_too() -> None:
    seen: list[Settings] = []

    @click.command()
    @settings_options("table", "data_dir")
    @click.pass_context
    def sub(ctx: click.Context) -> None:
        seen.append(settings(ctx))

    outer = click.Group("outer", commands={"sub": sub})
    settings_options("table", "workers")(outer)
    around = Surroundings({}, Path("/nowhere"))
    args = ["--table", "first", "--workers", "3", "sub", "--table", "second"]
    assert CliRunner().invoke(outer, args, obj=around).exit_code == 0
    assert (seen[0].table, seen[0].workers, seen[0].data_dir) == ("second", 3, None)


def test_config_shows_value_and_origin_and_no_secret(tmp_path: Path) -> None:
    tmp_path.joinpath(".env").write_text("DATABASE_URL=postgresql://u:canary@h/db\n")
    said = call("config", "--workers", "4", environ={"OPENAI_API_KEY": KEY}, cwd=tmp_path)
    assert said.exit_code == 0
    rows = {line.split()[0]: line.split() for line in said.stdout.splitlines()}
    assert rows["workers"][1:] == ["4", "flag"]
    assert rows["api_key"][1:] == ["***WXYZ", "env", "OPENAI_API_KEY"]
    assert rows["database_url"][1:] == ["postgresql://u:***@h/db", ".env"]
    assert rows["output"][1:] == ["out.jsonl", "default"]
    assert set(rows) == {"setting", *OPTIONS}
    assert "canary" not in said.output


def test_config_can_be_read_by_programs(tmp_path: Path) -> None:
    said = call("--workers", "4", "config", "--json", cwd=tmp_path)
    found = json.loads(said.stdout)
    assert list(found) == list(OPTIONS)
    assert found["workers"] == {
        "value": 4,
        "from": "flag",
        "flag": "--workers",
        "env": "ARTIST_BIO_GEN_WORKERS",
    }


@pytest.mark.parametrize("args", [["config"], ["config", "--json"]])
def test_config_shows_nothing_that_steers_the_terminal(args: list[str], tmp_path: Path) -> None:
    environ = {"ARTIST_BIO_GEN_MODEL": "a\x1b[2J\x07\x9b\u202e\nforged"}
    said = call(*args, environ=environ, cwd=tmp_path).stdout
    assert not set("\x1b\x07\x9b\u202e") & set(said)
    assert "\nforged" not in said
    if "--json" in args:
        assert json.loads(said)["model"]["value"] == environ["ARTIST_BIO_GEN_MODEL"]


def test_no_password_is_shown_whatever_libpq_takes_for_one(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "postgresql://u:hun\t22x@h/db?pass%77ord=hun33x"}
    for args in (["config"], ["config", "--json"]):
        said = call(*args, environ=environ, cwd=tmp_path)
        assert said.exit_code == 0
        assert "22x" not in said.output
        assert "33x" not in said.output


def test_a_bad_flag_does_not_show_a_password(tmp_path: Path) -> None:
    said = call("--base-url", "htp://u:hun22x@h", cwd=tmp_path)
    assert said.exit_code == 2
    assert "hun22x" not in said.output


def test_migrate_says_nothing_that_steers_the_terminal(tmp_path: Path, database_url: str) -> None:
    steering = "t\x1b[2J\x07"
    said = call("migrate", "--database-url", database_url, "--table", steering, cwd=tmp_path)
    assert said.exit_code == 0, said.output
    assert r"made the table t\x1b[2J\x07" in said.stdout
    assert not set("\x1b\x07") & set(said.output)


def test_migrate_wants_a_database_or_consent_to_the_embedded_one(tmp_path: Path) -> None:
    said = call("migrate", cwd=tmp_path)
    assert said.exit_code == 3
    assert "--embedded" in said.stderr


def test_migrate_makes_the_tables_and_then_finds_them_up_to_date(
    tmp_path: Path, database_url: str
) -> None:
    args = ["migrate", "--database-url", database_url, "--table", "musicians"]
    first, second = call(*args, cwd=tmp_path), call(*args, cwd=tmp_path)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "made the table musicians" in first.stdout
    assert second.stdout.endswith("has all tables\n")
    assert len(second.stdout.splitlines()) == 1


# ---- how a run ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InputError("a.csv: no such file"), 1),
        (UsageError("out.jsonl exists; give --resume"), 2),
        (ConfigError("no key"), 3),
        (LedgerError("out.jsonl line 7: damaged"), 5),
        (LimitError("the quota is used up"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(tmp_path: Path, error: Any, exit_code: int) -> None:
    def act(_: FakeRun) -> None:
        raise error

    said = call("--input", "a.csv", run=FakeRun(act=act), cwd=tmp_path)
    assert said.exit_code == exit_code
    assert said.stderr == f"error: {str(error) or 'interrupted'}\n"
    assert "Traceback" not in said.output


@pytest.mark.parametrize("exit_code", [0, 4, 130])
def test_the_result_gives_the_exit_code(tmp_path: Path, exit_code: int) -> None:
    run = FakeRun(RunResult(exit_code=exit_code, run="r1", ledger=Path("out.jsonl")))
    assert call("--input", "a.csv", run=run, cwd=tmp_path).exit_code == exit_code


def test_what_ended_a_run_early_is_told_after_the_summary(tmp_path: Path) -> None:
    run = FakeRun(
        RunResult(exit_code=6, run="r1", ledger=Path("out.jsonl"), error="the quota is used up")
    )
    said = call("--input", "a.csv", run=run, cwd=tmp_path)
    assert said.exit_code == 6
    assert "run      r1" in said.stdout
    assert said.stderr.endswith("error: the quota is used up\n")


def a_defect(_: FakeRun) -> None:
    raise RuntimeError(f"with {KEY} and postgresql://u:canary@h/db \x1b[2J")


def test_a_defect_leaves_its_traceback_in_a_file_without_secrets(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": KEY}
    said = call("--input", "a.csv", run=FakeRun(act=a_defect), environ=environ, cwd=tmp_path)
    assert said.exit_code == EXIT_DEFECT
    assert "error: unexpected RuntimeError" in said.stderr
    match = re.search(r"its traceback is in (\S+)", said.stderr)
    assert match
    kept = Path(match[1])
    try:
        story = kept.read_text("utf-8")
        assert kept.stat().st_mode & 0o077 == 0
    finally:
        kept.unlink()
    assert "in a_defect" in story
    for text in (said.output, story):
        assert "canary" not in text
        assert "\x1b" not in text


def test_a_path_that_the_system_does_not_give_is_no_defect(tmp_path: Path) -> None:
    name = "a" * 300
    for command in (
        ["verify", name],
        ["repair", name],
        ["restore", name],
        ["ledger", "tail", name],
    ):
        said = call(*command, cwd=tmp_path)
        assert said.exit_code == EXIT_USAGE
        assert f"error: {name}: File name too long; name another path" in said.stderr


def a_closed_door(_: FakeRun) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/closed/out.jsonl")


def test_a_folder_that_may_not_be_entered_is_no_defect(tmp_path: Path) -> None:
    said = call("--input", "a.csv", run=FakeRun(act=a_closed_door), cwd=tmp_path)
    assert said.exit_code == EXIT_USAGE
    assert "error: /closed/out.jsonl: Permission denied; name another path" in said.stderr


def test_a_ledger_that_is_a_link_to_itself_is_no_defect(tmp_path: Path) -> None:
    link = tmp_path / "loop"
    link.symlink_to(link)
    for command in ("verify", "repair", "restore"):
        said = call(command, str(link), cwd=tmp_path)
        assert (said.exit_code, "is a link to itself" in said.stderr) == (EXIT_USAGE, True)


def test_a_defect_shows_its_traceback_when_verbose(tmp_path: Path) -> None:
    said = call("--input", "a.csv", "--verbose", run=FakeRun(act=a_defect), cwd=tmp_path)
    assert said.exit_code == EXIT_DEFECT
    assert "in a_defect" in said.stderr
    assert "canary@" not in said.output


def test_the_summary_tells_what_the_run_came_to(tmp_path: Path) -> None:
    def act(run: FakeRun) -> None:
        run.telemetry.emit("calling", artist_id="1")
        run.telemetry.emit("committed", worker=1, duration_ms=812.0, usage=None)

    run = FakeRun(
        RunResult(
            exit_code=130,
            run="r1",
            done=1234,
            failed=1,
            rejected=2,
            skipped={"done": 30, "repeated": 4},
            input_tokens=5000,
            output_tokens=600,
            seconds=83.0,
            ledger=Path("out.jsonl"),
            head_seq=1264,
            head_hash="ab" * 32,
            failures=Path("out.jsonl.failed.jsonl"),
            resume_command="artist-bio-gen --input a.csv --resume",
            messages=("a message",),
        ),
        act,
    )
    said = call("--input", "a.csv", "--progress", "none", run=run, cwd=tmp_path)
    lines = said.stdout.splitlines()
    assert lines[:3] == [
        "a message",
        "rows     1,234 done, 1 failed, 2 rejected, 34 skipped (30 done before, 4 repeated)",
        "tokens   5,000 in, 600 out",
    ]
    assert lines[3].startswith("time     1 min 23 s")
    assert lines[3].endswith("p50 812 ms, p95 812 ms")
    assert lines[4:] == [
        "run      r1",
        "ledger   out.jsonl",
        f"head     line 1,264, {'ab' * 32}",
        "failures out.jsonl.failed.jsonl",
        "go on    artist-bio-gen --input a.csv --resume",
    ]
    assert said.stderr == ""


def test_the_summary_of_a_dry_run_is_its_messages() -> None:
    result = RunResult(exit_code=0, run="r1", rejected=1, messages=("one", "two"))
    assert summary(result, Counters().snapshot()) == "one\ntwo"


def test_what_is_said_has_no_secret_and_nothing_that_steers_the_terminal(tmp_path: Path) -> None:
    run = FakeRun(act=lambda run: run.say(f"key {KEY} \x1b[2J"))
    said = call("--input", "a.csv", run=run, environ={"OPENAI_API_KEY": KEY}, cwd=tmp_path)
    assert "key *** \\x1b[2J\n" in said.stderr


def test_events_go_to_the_log_the_counters_and_the_screen(tmp_path: Path) -> None:
    def act(run: FakeRun) -> None:
        run.telemetry.emit("started", run="r1", settings=config.masked(run.settings))
        run.telemetry.emit("notice", text=f"look at {KEY}")
        run.telemetry.emit("rejected", row=3, reason="no id")
        assert run.counters.snapshot().rejected == 1

    log = tmp_path / "commits.log"
    said = call(
        "--input", "a.csv", "--log-file", str(log), "--log-flush", "100",
        run=FakeRun(act=act), environ={"OPENAI_API_KEY": KEY}, cwd=tmp_path,
    )  # fmt: skip
    assert "look at ***" in said.stderr
    assert "rejected: row 3: no id" in said.stderr
    events = [json.loads(line)["event"] for line in log.read_bytes().splitlines()]
    assert events == ["started", "notice", "rejected"]
    assert "canary" not in log.read_text()


# ---- signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_to_stop_and_the_second_leaves(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    named: list[str] = []
    asked, left = threading.Event(), threading.Event()

    def first(name: str) -> None:
        named.append(name)
        asked.set()

    with on_signals(first, left.set):
        os.kill(os.getpid(), number)
        assert asked.wait(10)
        assert not left.is_set()
        os.kill(os.getpid(), number)
        assert left.wait(10)
    assert named == [number.name]
    assert signal.getsignal(number) == before


def test_a_stop_that_hangs_does_not_keep_the_second_signal_waiting() -> None:
    entered, released, left = threading.Event(), threading.Event(), threading.Event()

    def hang(_: str) -> None:
        entered.set()
        released.wait()

    with on_signals(hang, left.set):
        os.kill(os.getpid(), signal.SIGINT)
        assert entered.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        assert left.wait(10)
    released.set()


def test_signals_are_heeded_when_the_system_gives_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    named: list[str] = []
    asked, left = threading.Event(), threading.Event()

    def limited(thread: threading.Thread) -> None:
        if thread.name == "stop":
            raise RuntimeError("can't start new thread")
        start(thread)

    def first(name: str) -> None:
        named.append(name)
        asked.set()

    monkeypatch.setattr(threading.Thread, "start", limited)
    with on_signals(first, left.set):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)
        assert left.wait(10)
    assert named == ["SIGTERM"]


def test_a_signal_that_the_parent_has_switched_off_stays_off() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_signals(lambda _: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_stops_the_run_through_its_control(tmp_path: Path) -> None:
    def act(run: FakeRun) -> None:
        stopped = threading.Event()
        run.control.when_stopped(stopped.set)
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(10)

    run = FakeRun(act=act)
    assert call("--input", "a.csv", run=run, cwd=tmp_path).exit_code == 0
    assert run.control.reason == "interrupted by SIGINT"


def test_a_second_signal_ends_a_process_that_does_not_stop_and_shows_the_cursor() -> None:
    script = (
        "import threading\n"
        "from artist_bio_gen.cli.signals import on_signals\n"
        "with on_signals(lambda name: print(name, flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    threading.Event().wait()\n"
    )
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=end, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
    assert os.read(terminal, 100).startswith(b"\x1b[?25h")
    os.close(end)
    os.close(terminal)
