"""A source in a process of its own: the same rows, errors as themselves, and whatever breaks there
ends as an error that names the file."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen import errors
from artist_bio_gen.sources.child import Limits, in_child
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Column, Row
from tests.fakes import child_sources as made

Open = Callable[..., RowStream]
AT_ONCE_S = 30  # what takes longer on a busy machine hangs


def start(opener: Callable[..., RowStream], *arguments: object, **how: Any) -> RowStream:
    opened = f"{made.__name__}:{opener.__name__}"
    return in_child(opened, arguments, name="x.odd", **how)


def gone(pid: int) -> bool:
    """Waits for the process to end."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], AT_ONCE_S)[0])
    finally:
        os.close(descriptor)


def test_it_is_the_same_stream() -> None:
    with start(made.open_few) as stream:
        assert stream.name == "x.odd"
        assert stream.columns == (Column("a", "int8", nullable=False),)
        assert stream.estimated_row_count == 12
        assert (stream.can_wait, stream.grows) == (False, True)
        assert stream.facts() == {"made_by": "a test", "columns": 1}
        chunks = [*stream.chunks()]
        assert stream.facts() == {"made_by": "a test", "columns": 2}
        assert [column.name for column in stream.columns] == ["a", "b"]
    rows = [row for chunk in chunks for row in chunk.rows()]
    assert rows == [
        Row(2, (1,)),
        Row(3, ("007",)),
        BadRow(4, "is bad", "b\tad", "one"),
        Row(5, (None,)),
        Row(6, ("2001-02-03T04:05:06",), "two"),
        Row(9, (None, {"c": [1.5, True]})),
        BadRow(10, "too"),
    ]
    assert chunks[2].dicts() == [{"b": {"c": [1.5, True]}}], "keys of its own"


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_no_row_is_lost_however_few_are_asked_for(size: int) -> None:
    with start(made.open_many, 500, 3) as stream:
        chunks = [*stream.chunks(size)]
    assert max(map(len, chunks)) <= size
    assert [number for chunk in chunks for number in chunk.numbers] == [*range(500)]


def test_bad_rows_stay_in_their_place_when_a_chunk_is_parted() -> None:
    with start(made.open_few) as stream:
        first, second = stream.read(2), stream.read(2)
    assert isinstance(first, Chunk)
    assert isinstance(second, Chunk)
    assert [row.number for row in first.rows()] == [2, 3, 4]
    assert [row.number for row in second.rows()] == [5]


def test_large_chunks_come_whole() -> None:
    with start(made.open_many, 30, 1_000_000) as stream:
        assert sum(len(row["a"]) for chunk in stream.chunks() for row in chunk.dicts()) == 3 * 10**7


def test_what_is_printed_there_is_no_message() -> None:
    with start(made.open_noisy) as stream:
        assert sum(map(len, stream.chunks())) == 5


@pytest.mark.parametrize("kind", ["InputError", "UsageError", "ConfigError", "LimitError"])
def test_errors_come_out_as_themselves(kind: str) -> None:
    with pytest.raises(getattr(errors, kind), match=r"^x\.odd is odd; mend it$"):
        start(made.raise_error, kind)


def test_an_error_nobody_foresaw_names_the_file() -> None:
    with pytest.raises(errors.InputError, match=r"x\.odd .*ZeroDivisionError: .*CSV"):
        start(made.raise_error, "ZeroDivisionError")


def test_rows_before_an_error_stand() -> None:
    with start(made.fail_behind_rows) as stream:
        chunk = stream.read(10)
        assert chunk is not None
        assert len(chunk) == 3
        with pytest.raises(errors.InputError, match="row 6"):
            stream.read(10)
        assert stream.read(10) is None


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_that_names_the_file(number: signal.Signals) -> None:
    with pytest.raises(errors.InputError, match=rf"x\.odd .*{number.name}.*: save it"):
        start(made.end_with_signal, number)


def test_last_words_are_told() -> None:
    with pytest.raises(errors.InputError, match=r"ended with code 3 \(good bye\)"):
        start(made.end_with_code, 3, "hello\ngood bye\n")


def test_memory_is_limited() -> None:
    with start(made.take_memory, 100, limits=Limits(memory_mib=150)) as stream:
        assert sum(map(len, stream.chunks())) == 1
    with pytest.raises(errors.LimitError, match=r"x\.odd needs more memory than 150 MiB"):
        start(made.take_memory, 200, limits=Limits(memory_mib=150))


def test_an_abort_for_want_of_memory_is_that_limit() -> None:
    """What an extension in Rust does."""
    words = "memory allocation of 400000000 bytes failed\n"
    with pytest.raises(errors.LimitError, match="needs more memory"):
        start(made.end_with_code, 134, words, limits=Limits(memory_mib=150))


def test_time_for_a_chunk_is_limited() -> None:
    with (
        start(made.burn, 60, 1, limits=Limits(cpu_s=1)) as stream,
        pytest.raises(errors.LimitError, match="1 s of processor time"),
    ):
        stream.read(1)


def test_time_begins_anew_with_each_chunk() -> None:
    with start(made.burn, 0.7, 4, limits=Limits(cpu_s=1)) as stream:
        assert sum(map(len, stream.chunks())) == 4


def test_it_is_called_off_while_it_waits(tmp_path: Path) -> None:
    called_off = threading.Event()
    with start(made.wait_for_ever, str(tmp_path / "pid"), cancelled=called_off.is_set) as stream:
        called_off.set()
        with pytest.raises(errors.StoppedError):
            stream.read(1)


def test_closing_ends_it_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    stream = start(made.wait_for_ever, str(pipe))
    pid = int(pipe.read_text())
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < AT_ONCE_S
    assert gone(pid)
    assert stream.read(1) is None
    stream.close()


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    script = (
        "import sys; from artist_bio_gen.sources.child import in_child;"
        f"in_child('{made.__name__}:wait_for_ever', [sys.argv[1]], name='x').read(1)"
    )
    root = Path(__file__).resolve().parents[1]
    parent = subprocess.Popen([sys.executable, "-c", script, str(pipe)], cwd=root)
    pid = int(pipe.read_text())
    parent.kill()
    parent.wait()
    assert gone(pid)
