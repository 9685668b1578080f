"""The data folder of the embedded Postgres: its parts, its owner, its locks, what a crash left.

cluster/           Postgres' own data folder (PGDATA)
run/               the Unix socket, the only way in
server.log         what the server says
lock               held by whoever starts or stops the server
alive              held by the server's processes as long as one of them lives
last-start.json    the machine and the pid namespace of the last start
programs-VERSION/  a copy of Postgres, where the server's account cannot reach the package
new-*              half-made parts of a start that was killed; the next one removes them
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artist_bio_gen.database import embedded_process as process
from artist_bio_gen.database.embedded_process import Account
from artist_bio_gen.errors import ConfigError

PORT = 5432  # of a Unix socket: no more than a part of its name

_SOCKET_PATH_MAX = 107  # bytes: sun_path of unix(7) without its closing NUL
_NEW = "new-"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where the parts are. `path` is absolute."""

    path: Path

    @property
    def cluster(self) -> Path:
        return self.path / "cluster"

    @property
    def postmaster_pid(self) -> Path:
        return self.cluster / "postmaster.pid"

    @property
    def socket_dir(self) -> Path:
        return self.path / "run"

    @property
    def socket(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{PORT}"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def alive(self) -> Path:
        return self.path / "alive"

    @property
    def last_start(self) -> Path:
        return self.path / "last-start.json"


def data_folder(path: Path) -> DataFolder:
    """The parts of a data folder, which need not exist yet; ConfigError if it cannot be one."""
    if not Path("/proc/self/ns/pid").is_symlink():
        raise ConfigError(
            "the embedded Postgres runs on Linux only; give a database with --database-url"
        )
    # Links are left as they are: one may stand for a path that is too long.
    folder = DataFolder(path.expanduser().absolute())
    size = len(os.fsencode(folder.socket))
    if size > _SOCKET_PATH_MAX:
        raise ConfigError(
            f"data folder {folder.path}: the path of its socket, {folder.socket}, is {size} bytes"
            f" long and may have {_SOCKET_PATH_MAX}; give a shorter folder with --data-dir"
        )
    if "," in str(folder.socket):
        raise ConfigError(
            f"data folder {folder.path}: a comma in it would be read as a list of hosts; give"
            " another with --data-dir"
        )
    return folder


@contextmanager
def must_work(folder: DataFolder) -> Iterator[None]:
    """File calls on the folder, made for a server that cannot do without them."""
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"data folder {folder.path} cannot be used: {exc}; give another with --data-dir"
        ) from exc


def prepare(folder: DataFolder, owner: Account) -> None:
    """Make what is missing of the folder and its parents, and give the sockets to `owner`."""
    places = (folder.path, *folder.path.parents)
    missing = [place for place in places if not os.path.lexists(place)]
    if owner.switched and not process.can("-x", places[len(missing)], owner):
        raise ConfigError(
            f"data folder {folder.path} cannot be reached by {owner.name}, as whom Postgres runs"
            " when root starts it; give one outside closed folders with --data-dir"
        )
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        place.chmod(0o711)  # whatever the umask is: the server's account must get through
        sync(place.parent)
    check_owner(folder, owner)
    folder.socket_dir.mkdir(exist_ok=True)
    if owner.switched:
        os.chown(folder.socket_dir, owner.uid, owner.gid)
    folder.socket_dir.chmod(0o711)


def check_owner(folder: DataFolder, owner: Account) -> None:
    """Refuse a folder of somebody else's, or one whose parts others can swap under our hands."""
    found = folder.path.stat()
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"data folder {folder.path} belongs to {process.user_name(found.st_uid)}, and you are"
            f" {process.user_name(os.geteuid())}; give another with --data-dir"
        )
    if found.st_mode & 0o002:
        raise ConfigError(
            f"data folder {folder.path} can be written by everybody; give another with --data-dir"
        )
    if folder.cluster.is_dir() and (uid := folder.cluster.stat().st_uid) != owner.uid:
        raise ConfigError(
            f"{folder.cluster} belongs to {process.user_name(uid)}, and Postgres would run as"
            f" {owner.name}; give another folder with --data-dir, or hand it over with:"
            f" chown -R {owner.uid}:{owner.gid} {folder.cluster}"
        )


@contextmanager
def alone(folder: DataFolder, patience: float) -> Iterator[None]:
    """Hold `lock`, which guards each start and stop in this folder, among all processes."""
    import filelock

    lock = filelock.FileLock(
        folder.lock, timeout=patience, mode=0o600, poll_interval=0.02, fallback_to_soft=False
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ConfigError(
            f"{folder.lock} has been held for {patience:g} s by another process that starts or"
            " stops the embedded Postgres; wait for it, or end it"
        ) from None
    except OSError as exc:
        raise process.unlockable(folder.lock, exc) from exc
    try:
        yield
    finally:
        lock.release()


@contextmanager
def nobody_alive(folder: DataFolder, owner: Account) -> Iterator[int | None]:
    """Hold `alive` if no process of the cluster lives and give its descriptor, else None."""
    life = process.take(folder.alive)
    try:
        # A server that was started by other means does not hold the lock.
        yield None if life is None or process.at_work(folder.cluster, owner) else life
    finally:
        if life is not None:
            os.close(life)


def is_alive(folder: DataFolder, owner: Account) -> bool:
    """Whether some process of the cluster lives, answering or not."""
    with nobody_alive(folder, owner) as life:
        return life is None


def postmaster(folder: DataFolder, owner: Account) -> int | None:
    """The pid in postmaster.pid if it is at work in the cluster; None if it is not, or is out
    of sight."""
    pid = _noted_pid(folder.postmaster_pid)
    return pid if pid in process.at_work(folder.cluster, owner) else None


def stuck(folder: DataFolder, owner: Account, patience: float) -> ConfigError:
    """Why a cluster that is alive could not be used or ended, and what to do."""
    pids = sorted(process.at_work(folder.cluster, owner))
    if pids:
        named = " ".join(map(str, pids))
        return ConfigError(
            f"Postgres processes {named} work in {folder.cluster} and have neither answered nor"
            f" ended for {patience:g} s; see {folder.log}, wait, or end them: kill -QUIT {named}"
        )
    noted = _last_start(folder).get("pid_namespace")
    place = "in another container" if noted != process.pid_namespace() else "out of sight"
    return ConfigError(
        f"the Postgres of {folder.path} lives {place} (somebody holds {folder.alive}) and does not"
        f" answer on {folder.socket}; stop it there, or give another folder with --data-dir"
    )


def clear_stale(folder: DataFolder) -> None:
    """Remove lock files of a killed server that would keep Postgres from starting.

    To be called while `alive` is held: on this machine nobody is at work. A file whose pid is
    gone is left to Postgres, which then also makes sure that the shared memory is free; one
    whose pid now belongs to a zombie or to another program it would take for a live server's.
    """
    if folder.postmaster_pid.exists() and _last_start(folder).get("boot_id") != process.boot_id():
        shared = process.shared_file_system(folder.path)
        if shared is not None:
            raise ConfigError(
                f"{folder.postmaster_pid} was written by another machine, or before this one was"
                f" restarted, and others may share {folder.path} ({shared}): Postgres may be"
                " running there. Stop it there; if it surely runs nowhere, remove that file"
            )
    for lock_file in (folder.postmaster_pid, folder.socket.with_name(f"{folder.socket.name}.lock")):
        pid = _noted_pid(lock_file)
        if pid is None or process.exists(pid):
            lock_file.unlink(missing_ok=True)


def note_start(folder: DataFolder) -> None:
    """Note in `last-start.json` whose pids postmaster.pid is going to speak of."""
    noted = {"boot_id": process.boot_id(), "pid_namespace": process.pid_namespace()}
    new = folder.path / f"{_NEW}last-start"
    with new.open("w", encoding="utf-8") as file:
        json.dump(noted, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder.last_start)
    sync(folder.path)


def _last_start(folder: DataFolder) -> dict[str, Any]:
    try:
        noted = json.loads(folder.last_start.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _noted_pid(lock_file: Path) -> int | None:
    """The first line of one of Postgres' lock files, None if there is no file or no number in
    it. Single-user mode notes the negative of its pid."""
    try:
        return abs(int(lock_file.read_bytes().partition(b"\n")[0]))
    except (FileNotFoundError, ValueError):
        return None


def new_folder(folder: DataFolder) -> Path:
    """A place for something half-made, to be renamed when it is complete."""
    return Path(tempfile.mkdtemp(prefix=_NEW, dir=folder.path))


def remove_half_made(folder: DataFolder) -> None:
    for leftover in folder.path.glob(f"{_NEW}*"):
        if leftover.is_dir():
            # Its maker, orphaned, may still be writing: what stays is removed the next time.
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink()


def sync(path: Path) -> None:
    """Put a file on disk, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
