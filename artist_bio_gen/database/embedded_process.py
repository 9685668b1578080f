"""Postgres' processes: as whom they run, how they are run, and who of them is still alive.

Linux only: the questions are asked of /proc and of flock(2).
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from artist_bio_gen.errors import ConfigError

_SHELL = "/bin/sh"
_ROOTS_STAND_IN = "nobody"

# The server outlives us and, under root, belongs to an account that others use too: it gets no
# PG* setting meant for another server, and no key or password out of our environment.
_PASSED_ON = ("PATH", "TZ", "TMPDIR", "LD_", "NSS_WRAPPER_")

# File systems that one machine alone writes to. On any other one, a lock that is free here may
# be held on another machine.
_LOCAL_FILE_SYSTEMS = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs"}
)


@dataclass(frozen=True, slots=True)
class Account:
    """As whom Postgres runs. `switched` tells that we are root and Postgres becomes another."""

    uid: int
    gid: int
    name: str
    switched: bool


def account() -> Account:
    """The user himself; for root, whom Postgres refuses, the account `nobody`."""
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), user_name(uid), switched=False)
    try:
        entry = pwd.getpwnam(_ROOTS_STAND_IN)
    except KeyError:
        raise ConfigError(
            f'Postgres does not run as root, and there is no account "{_ROOTS_STAND_IN}" to run it'
            " as; run as an ordinary user, or give a database with --database-url"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, switched=True)


def user_name(uid: int) -> str:
    """The account's name, or `uid N` when the password file does not know it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def run(
    arguments: Sequence[str | Path],
    owner: Account,
    *,
    cwd: Path,
    output: int | IO[bytes] = subprocess.PIPE,
    keep_open: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as `owner` to its end; stdout and stderr both go to `output`.

    Paths below `cwd` are best given relative to it: Postgres' own tools pass paths through a
    shell. `keep_open` are descriptors that the program inherits.
    """
    try:
        return subprocess.run(
            [os.fspath(argument) for argument in arguments],
            cwd=cwd,
            env={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
            | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=keep_open,
            umask=0o077,
            user=owner.uid if owner.switched else None,
            group=owner.gid if owner.switched else None,
            extra_groups=[] if owner.switched else None,
            check=False,
        )
    except OSError as exc:
        raise ConfigError(
            f"{arguments[0]} cannot be run as {owner.name} in {cwd}: {exc.strerror}; give another"
            " folder with --data-dir, or a database with --database-url"
        ) from exc


def can(test: str, path: Path, owner: Account) -> bool:
    """Whether `owner` passes test(1) (`-x`, `-r`) on a path: asked of the kernel as that user,
    so that modes, groups and access lists all count."""
    return (
        run([_SHELL, "-c", f'test {test} "$1"', "sh", path], owner, cwd=Path("/")).returncode == 0
    )


def at_work(cluster: Path, owner: Account) -> frozenset[int]:
    """Pids of the Postgres processes whose working folder is the cluster; each of them has it.

    A zombie has none, nor has a program that got a dead server's pid. Asked as the server's own
    user, since root in a container may not look into other users' processes. Processes of
    another pid namespace are not seen.
    """
    look = 'for p in /proc/[0-9]*; do [ "$p/cwd" -ef "$1" ] && echo "${p#/proc/}"; done; :'
    found = run([_SHELL, "-c", look, "sh", cluster], owner, cwd=Path("/")).stdout
    return frozenset(pid for pid in map(int, found.split()) if _program(pid) == "postgres")


def _program(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return None


def exists(pid: int) -> bool:
    """Whether some process or zombie has this pid, whoever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def take(lock: Path) -> int | None:
    """Take the life lock without waiting: a descriptor to be closed, or None if it is held.

    The server's processes inherit the descriptor, so the kernel keeps the lock as long as any
    of them lives, and frees it with the last one: in any container of this machine, and
    whatever has become of their pids.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise ConfigError(f"{lock} cannot be opened: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as exc:
        os.close(descriptor)
        raise unlockable(lock, exc) from exc
    return descriptor


def unlockable(lock: Path, exc: OSError) -> ConfigError:
    return ConfigError(
        f"{lock} cannot be locked: {exc.strerror}; give a folder on a local disk with --data-dir"
    )


def boot_id() -> str:
    """This start of this machine's kernel (random(4)); containers share it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pid_namespace() -> str:
    """Where pids mean what they mean here (pid_namespaces(7))."""
    return str(Path("/proc/self/ns/pid").readlink())


def shared_file_system(path: Path) -> str | None:
    """The type of the path's file system if other machines may write to it too, else None."""
    path = path.resolve()
    found, depth = "", -1
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        if not rest:
            continue
        point = Path(os.fsdecode(fields.split(b" ")[4].decode("unicode_escape").encode("latin-1")))
        # The last of equal mount points lies on top of the others.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = rest.split(b" ")[0].decode(), len(point.parts)
    return None if found in _LOCAL_FILE_SYSTEMS else found or "an unknown file system"


def interrupt(pid: int) -> None:
    """Ask a postmaster for a fast shutdown: clients are cut off, what is committed is kept."""
    with suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, signal.SIGINT)


def attempts(
    patience: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Yield at once, then again after growing pauses (5 ms to 0.2 s), for `patience` seconds."""
    end = clock() + patience
    pause = 0.005
    yield
    while clock() < end:
        sleep(pause)
        pause = min(pause * 2, 0.2)
        yield
