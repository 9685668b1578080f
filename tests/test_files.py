"""The table of file calls, and what is built on it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artist_bio_gen.errors import ConfigError, LedgerFileError
from artist_bio_gen.ledger.files import (
    NETWORK_FILE_SYSTEMS,
    REAL,
    file_system_type,
    held,
    is_same_file,
    open_locked,
    sync_folder,
    write_all,
    write_file,
)
from artist_bio_gen.ledger.sharing import require_local
from tests.fakes.faulty_files import Fault, FaultyFiles


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl.head"
    path.write_bytes(b"old")
    return path


def test_a_short_write_is_continued(tmp_path: Path) -> None:
    files = FaultyFiles(Fault("write", short=3), Fault("write", nth=2, short=1))
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_all(files.calls, fd, b"all of it")
    os.close(fd)
    assert path.read_bytes() == b"all of it"
    assert files.names() == ["write", "write", "write"]


def test_a_write_that_makes_no_progress_ends_in_an_error(tmp_path: Path) -> None:
    files = FaultyFiles(Fault("write", short=0, forever=True))
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="took no bytes"):
            write_all(files.calls, fd, b"all of it")
    finally:
        os.close(fd)


def test_a_whole_file_is_private_and_leaves_nothing_beside_it(target: Path) -> None:
    write_file(REAL, target, b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(target.parent) == [target.name]  # noqa: PTH208


def test_a_whole_file_is_synced_before_it_is_renamed_and_its_folder_after(target: Path) -> None:
    files = FaultyFiles()
    write_file(files.calls, target, b"new")
    assert files.names() == ["write", "fsync", "rename", "open", "fsync"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR])
@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (Fault("write"), b"old"),
        (Fault("write", short=1), b"old"),
        (Fault("fsync"), b"old"),
        (Fault("rename"), b"old"),
        (Fault("open"), b"new"),
        (Fault("fsync", nth=2), b"new"),
    ],
)
def test_a_whole_file_is_the_old_or_the_new_one(
    target: Path, fault: Fault, left: bytes, error: int
) -> None:
    files = FaultyFiles(Fault(fault.call, error, fault.nth, short=fault.short))
    with pytest.raises(LedgerFileError, match=os.strerror(error)):
        write_file(files.calls, target, b"new")
    assert target.read_bytes() == left
    assert os.listdir(target.parent) == [target.name]  # noqa: PTH208


def test_a_whole_file_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LedgerFileError, match="No such file"):
        write_file(REAL, tmp_path / "gone" / "file", b"new")


def test_a_folder_that_cannot_be_synced_is_named(tmp_path: Path) -> None:
    files = FaultyFiles(Fault("fsync", errno.EIO))
    with pytest.raises(LedgerFileError, match=str(tmp_path)):
        sync_folder(files.calls, tmp_path)


def test_a_locked_file_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = open_locked(REAL, path, os.O_RDWR | os.O_CREAT)
    assert first is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_locked(REAL, path, os.O_RDWR) is None
    os.close(first)
    second = open_locked(REAL, path, os.O_RDWR)
    assert second is not None
    os.close(second)


def test_a_held_file_is_free_when_its_owner_is_dead(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from artist_bio_gen.ledger.files import REAL, open_locked;"
        "assert open_locked(REAL, Path(sys.argv[1]), os.O_RDWR | os.O_CREAT) is not None;"
        "print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "journal"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        assert open_locked(REAL, path, os.O_RDWR) is None
        owner.kill()
        owner.wait()
    fd = open_locked(REAL, path, os.O_RDWR)
    assert fd is not None
    os.close(fd)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EIO, errno.EINTR])
def test_a_lock_that_fails_is_an_error_and_leaves_no_descriptor(tmp_path: Path, error: int) -> None:
    files = FaultyFiles(Fault("flock", error))
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(OSError, match=os.strerror(error)):
        open_locked(files.calls, tmp_path / "journal", os.O_RDWR | os.O_CREAT)
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


def test_a_file_to_be_held_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    lost = tmp_path / "gone" / "run"
    with pytest.raises(LedgerFileError, match=f"{lost}: cannot be made"), held(REAL, lost):
        pytest.fail("nothing is held")


def test_a_file_that_was_deleted_or_replaced_is_not_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert is_same_file(fd, path)
        path.unlink()
        assert not is_same_file(fd, path)
        path.touch()
        assert not is_same_file(fd, path)
    finally:
        os.close(fd)


# ---- which file system ------------------------------------------------------------------------


def mounts(tmp_path: Path, *points: tuple[str, str]) -> Path:
    """A table of mounts as in proc_pid_mountinfo(5); points as the kernel escapes them."""
    table = tmp_path / "mountinfo"
    lines = (
        f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
        for number, (point, kind) in enumerate(points)
    )
    table.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    return table


def test_the_deepest_mount_tells_the_file_system(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/mnt", "nfs4"), ("/mnt/local", "xfs"))
    assert file_system_type(Path("/srv/out.jsonl"), table) == "ext4"
    assert file_system_type(Path("/mnt/out.jsonl"), table) == "nfs4"
    assert file_system_type(Path("/mnt/local/a/out.jsonl"), table) == "xfs"
    assert file_system_type(Path("/mnt-other/out.jsonl"), table) == "ext4"


def test_the_latest_of_two_mounts_on_one_point_counts(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/mnt", "nfs4"), ("/mnt", "btrfs"))
    assert file_system_type(Path("/mnt/out.jsonl"), table) == "btrfs"


@pytest.mark.parametrize(
    ("point", "path"),
    [
        (r"/mnt/a\040b", "/mnt/a b"),
        (r"/mnt/back\134slash", "/mnt/back\\slash"),
        ("/mnt/é", "/mnt/é"),
        ("/mnt/\u2028", "/mnt/\u2028"),
        ("/mnt/not-utf-8-\udcff", "/mnt/not-utf-8-\udcff"),
    ],
)
def test_odd_mount_points(tmp_path: Path, point: str, path: str) -> None:
    table = mounts(tmp_path, ("/", "ext4"), (point, "nfs"))
    assert file_system_type(Path(path) / "out.jsonl", table) == "nfs"
    assert file_system_type(Path("/srv/out.jsonl"), table) == "ext4"


def test_a_kernel_that_does_not_tell(tmp_path: Path) -> None:
    assert file_system_type(tmp_path, tmp_path / "no such file") is None


def test_the_file_system_of_a_real_path_is_known(tmp_path: Path) -> None:
    kind = file_system_type(tmp_path)
    assert kind
    if kind not in NETWORK_FILE_SYSTEMS:
        require_local(tmp_path / "out.jsonl")


def test_a_network_file_system_is_refused_by_name(tmp_path: Path) -> None:
    table = mounts(tmp_path, ("/", "ext4"), ("/mnt", "nfs4"))
    with pytest.raises(ConfigError, match=r"network file system \(nfs4\).*--allow-network"):
        require_local(Path("/mnt/out.jsonl"), table)
