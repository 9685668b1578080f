"""A MariaDB for tests: Debian's, in a folder of its own, stopped afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.debian import debian

_START_S = 60
_PASSWORD = "p@ss/w:rd"
_ADDRESS_PASSWORD = "p%40ss%2Fw%3Ard"


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A server that listens on the loopback. Its user `reader` may do anything in `music`."""

    port: int
    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"mysql://reader:{_ADDRESS_PASSWORD}@127.0.0.1:{self.port}/music"

    def run(self, sql: str) -> None:
        """As its administrator, by its own client."""
        done = subprocess.run(
            [
                "mariadb",
                f"--socket={self.socket}",
                "--user=root",
                "--default-character-set=utf8mb4",
            ],
            input=sql.encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


def _account() -> Sequence[str]:
    """The server refuses to be root."""
    return ["--user=mysql"] if os.geteuid() == 0 else []


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def mariadb(folder: Path) -> Iterator[MariaDb]:
    """Skips the test where there is no such server and none can be installed."""
    server = debian("mariadb-server", program="mariadbd")
    data = folder / "mariadb"
    data.mkdir(mode=0o755)
    if os.geteuid() == 0:
        shutil.chown(data, "mysql")
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", f"--datadir={data / 'data'}"),
            *("--skip-test-db", "--auth-root-authentication-method=normal", *_account()),
        ],
        check=True,
        capture_output=True,
    )
    port = _free_port()
    path = data / "socket"
    with (folder / "mariadb.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(server, "--no-defaults", f"--datadir={data / 'data'}", f"--socket={path}"),
                *(f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={data / 'pid'}"),
                *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"),
                *("--max-allowed-packet=64M", "--character-set-server=utf8mb4", *_account()),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _await(path, process, folder / "mariadb.log")
        started = MariaDb(port, path, process)
        started.run(
            "create database music; create user reader@'%' identified by"
            f" '{_PASSWORD}'; grant all on music.* to reader@'%';"
        )
        yield started
    finally:
        process.terminate()
        process.wait(_START_S)


def _await(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers, or has ended."""
    done = subprocess.run(
        [
            *("mariadb-admin", "--no-defaults", f"--socket={path}", "--user=root"),
            *("--wait=600", f"--connect-timeout={_START_S}", "ping"),
        ],
        capture_output=True,
        timeout=_START_S,
        check=False,
    )
    if done.returncode or process.poll() is not None:
        pytest.fail(f"MariaDB did not start: {log.read_text(errors='replace')[-2000:]}")
