"""Programs of Debian that tests need, installed where they are missing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

_FOLDERS = "/usr/sbin:/sbin"  # where servers are, and ordinary users do not look
_LONGEST_S = 900


@cache
def debian(package: str, *, program: str) -> str:
    """Path of the program, installed with its package by apt-get if it is missing. Skips the test
    where that cannot be done, with what apt-get said."""
    found = _path(program)
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"needs {program}: apt-get install {package}")
    with (Path(tempfile.gettempdir()) / "artist-bio-gen-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of the processes that run tests side by side
        found = _path(program)
        if not found:
            _install(package)
            found = _path(program)
    if not found:
        pytest.skip(f"the package {package} has no program {program}")
    return found


def _path(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_FOLDERS)


def _install(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    for words in (["update"], [*install, package]):
        done = subprocess.run(
            ["apt-get", "-q", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST_S,
            check=False,
        )
        if done.returncode != 0:
            last = done.stdout.decode(errors="replace").strip().splitlines()[-3:]
            pytest.skip(f"{package} cannot be installed: {' '.join(last)[:500]}")
