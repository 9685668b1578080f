"""`artist-bio-gen rows` as people and pipes use it: on a terminal, stopped, on a full disk, killed,
with little memory."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import COMMAND, takes_signals, wait_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "artists.csv"


def start(*args: str | Path, cwd: Path, **popen: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*COMMAND, "rows", *map(str, args)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        **{**pipes, **popen},
    )


def finish(*args: str | Path, cwd: Path, **popen: Any) -> tuple[int, str, str]:
    process = start(*args, cwd=cwd, **popen)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def write_rows(path: Path, rows: int) -> Path:
    with path.open("w") as file:
        file.write("id,name,country,about\n")
        for number in range(rows):
            file.write(f"id-{number:08},Artist {number},Brasil,{'singer; ' * 6}{number}\n")
    return path


def on_a_terminal(*args: str | Path, cwd: Path, width: int) -> tuple[int, str]:
    """Exit code, and what is on the screen: standard output and standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = start(*args, cwd=cwd, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
    except OSError:  # EIO: how Linux tells that nobody writes there any more
        pass
    os.close(ours)
    return process.wait(), screen.decode().replace("\r\n", "\n")


def test_a_terminal_is_shown_the_first_rows_as_a_table(tmp_path: Path) -> None:
    code, screen = on_a_terminal(EXAMPLE, cwd=tmp_path, width=80)
    assert code == 0
    table, _, rest = screen.partition("rows     10 read")
    assert rest
    lines = table.splitlines()
    assert lines[0].split()[:3] == ["row", "id", "name"]
    assert len(lines) == 2 + 10
    assert max(map(len, lines)) <= 80
    code, screen = on_a_terminal(EXAMPLE, "--head", "3", cwd=tmp_path, width=80)
    assert "rows     3 read" in screen


def test_a_pipe_gets_all_rows_and_what_came_of_them_stands_apart(tmp_path: Path) -> None:
    code, out, err = finish(EXAMPLE, cwd=tmp_path)
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 24
    assert "rows     24 read, 0 bad" in err


def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "artists.csv", 100_000)
    process = start(path, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"id":"id-00000000"')
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 0


def test_rows_come_from_the_standard_input(tmp_path: Path) -> None:
    with EXAMPLE.open("rb") as file:
        code, out, _ = finish("-", "--count", "--json", cwd=tmp_path, stdin=file)
    assert code == 0
    assert json.loads(out)["rows_read"] == 24


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_ctrl_c_is_told_and_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    target = tmp_path / f"out{suffix}"
    process = start("-", "--to", target, cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"id,name\n1,Billie Holiday\n")
    process.stdin.flush()
    wait_for(lambda: takes_signals(process.pid) and any(tmp_path.iterdir()))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130  # and not because its input ends
    out, err = process.communicate()
    assert re.search(r"error: interrupted after \d+ rows; .* was not made", err.decode())
    assert b"rows " in out
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_the_first_row_is_told(tmp_path: Path) -> None:
    process = start("-", "--to", "out.csv", cwd=tmp_path, stdin=subprocess.PIPE)
    wait_for(lambda: takes_signals(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    _, err = process.communicate()
    assert err.decode().startswith("error: interrupted before the first row")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_a_limit_of_the_disk_is_told_and_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "artists.csv", 20_000)
    target = tmp_path / f"out{suffix}"
    code, _, err = finish(path, "--to", target, cwd=tmp_path, preexec_fn=no_files_over(20_000))
    assert code == 6, err
    assert f"{target}: cannot be written: File too large" in err
    assert list(tmp_path.iterdir()) == [path]


def no_files_over(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_memory_does_not_grow_with_the_rows(suffix: str, tmp_path: Path) -> None:
    peaks = []
    for rows in (20_000, 200_000):
        path = write_rows(tmp_path / f"{rows}.csv", rows)
        target = tmp_path / f"out-{rows}{suffix}"
        code, out, err = finish(path, "--to", target, "--json", cwd=tmp_path)
        assert code == 0, err
        assert json.loads(out)["rows_written"] == rows
        peaks.append(json.loads(out)["peak_memory_mib"])
    print(f"{suffix}: {peaks[0]:.0f} MiB at 20,000 rows, {peaks[1]:.0f} at 200,000")
    assert peaks[1] < peaks[0] + 40, peaks


def test_a_memory_limit_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    path = tmp_path / "artists.jsonl"
    path.write_text(json.dumps({"id": "1", "about": ["x" * 100] * 100_000}) + "\n")
    rest = b"".join(path.read_bytes() for _ in range(20))
    path.write_bytes(rest)
    code, _, err = finish(path, "--count", "--memory-limit", "60", cwd=tmp_path)
    assert code == 6, err
    assert "memory" in err


def test_progress_is_told_with_the_time_that_is_left(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "artists.csv", 300_000)
    args: Sequence[str | Path] = (path, "--to", "out.jsonl", "--progress-interval", "0.05")
    code, _, err = finish(*args, cwd=tmp_path)
    assert code == 0
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert lines
    assert re.fullmatch(
        r"\[[\d.]+ s\] [\d,]+ of about [\d,]+ rows; [\d,.]+ a second; [\d.]+ s left", lines[-1]
    )
    _, _, err = finish(path, "--count", "--progress", "none", cwd=tmp_path)
    assert err == ""


def test_a_kill_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    process = start("-", "--to", "out.csv", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"id,name\n1,Billie Holiday\n")
    process.stdin.flush()
    wait_for(lambda: any(tmp_path.iterdir()))
    process.kill()
    process.communicate()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("before", [b"", b"id,name\n1,x\n"], ids=["blank", "rows first"])
def test_ctrl_c_ends_an_input_of_blank_lines_without_end(tmp_path: Path, before: bytes) -> None:
    process = start("-", "--count", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    # More than the pipe holds, so that it reads; the pipe stays open.
    process.stdin.write(before + b"\n" * 4_000_000)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert process.returncode == 130
    process.communicate()


def test_ctrl_c_ends_an_input_that_comes_byte_by_byte(tmp_path: Path) -> None:
    process = start("-", "--count", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    wait_for(lambda: takes_signals(process.pid))
    for byte in b"id,na":
        process.stdin.write(bytes([byte]))
        process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert process.returncode == 130
    process.communicate()


def test_help_begins_with_the_options_of_the_command_itself(tmp_path: Path) -> None:
    code, out, _ = finish("--help", cwd=tmp_path)
    assert code == 0
    assert out.index("--to FILE") < out.index("--head N") < out.index("--delimiter")
