"""Rows by way of the disk: the same ones, in the same order, with the same types."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, LimitError, UsageError
from artist_bio_gen.memory import Memory, MemoryGuard
from artist_bio_gen.sources.arrow.batches import ArrowChunk
from artist_bio_gen.sources.arrow.frames import from_arrow, from_rows
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.spool import spooled
from artist_bio_gen.sources.spill.forms import ArrowForm
from artist_bio_gen.sources.spill.scratch import PREFIX, Scratch, remove_left_over
from artist_bio_gen.sources.spill.segments import Segments
from artist_bio_gen.sources.spill.spilled import How, Spilled, spilled
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Row

pa = pytest.importorskip("pyarrow")

HOWS: Sequence[How] = ("adaptive", "parquet", "duckdb")


class Flow(RowStream):
    """A source of these chunks that cannot wait. `before` is called before each one is read."""

    name = "a flow"
    can_wait = False

    def __init__(
        self, chunks: Sequence[Chunk], *, before: Callable[[int], None] = lambda at: None
    ) -> None:
        self.columns = tuple(map(Column, chunks[0].columns))
        self._chunks = chunks
        self._before = before
        self.read_so_far = 0
        self.closed = False
        self.all_read = threading.Event()

    def read(self, size: int) -> Chunk | None:
        if self.read_so_far == len(self._chunks):
            self.all_read.set()
            return None
        self._before(self.read_so_far)
        chunk = self._chunks[self.read_so_far]
        known = names(self.columns)
        self.columns += tuple(Column(name) for name in chunk.columns if name not in known)
        self.read_so_far += 1
        return chunk

    def close(self) -> None:
        self.closed = True


def flow(chunks: int, rows: int = 10) -> Flow:
    return Flow(
        [
            Chunk(
                ("n", "text"),
                range(at * rows + 1, (at + 1) * rows + 1),
                [(n, f"row {n} {os.urandom(40).hex()}") for n in range(at * rows, (at + 1) * rows)],
            )
            for at in range(chunks)
        ]
    )


def told(chunk: Chunk) -> tuple[Any, ...]:
    """All that a chunk says, types included: `repr` tells 1 from True and 1.0."""
    rows = chunk.dicts() if chunk.has_dicts else list(map(tuple, chunk.values()))
    return (chunk.columns, list(chunk.numbers), repr(rows), list(chunk.bad), chunk.file)


def by_disk(stream: RowStream, how: How, folder: Path, **more: Any) -> Spilled:
    return Spilled(stream, how, folder, patience=0, **more)


CELLS: list[Chunk] = [
    Chunk(("a", "b"), range(1, 4), [("007", None), ("", "x"), (None, "\x00\n\u2028")]),
    Chunk(("a", "b"), range(4, 6), [(7, True), (-(2**63), False)]),
    Chunk(("a", "b"), range(6, 8), [(1, 1.0), ("1", True)]),
    Chunk(("a", "b"), range(8, 10), [({"k": [1, None, "é"]}, []), (2**64 - 1, -0.0)]),
    Chunk(("a", "b"), range(10, 12), [("\ud800", 2**70), (None, None)]),
    Chunk(("a", "b"), [12, 15, 16], [(None, None)] * 3, bad=[BadRow(13, "odd", "\udcff", "f")]),
    Chunk(("a", "b"), (), (), bad=[BadRow(17, "bad", "text")], file="b.csv"),
    Chunk(("a", "b", "c"), [18], [(0.1, "x", "late")], file="b.csv"),
    Chunk(("c", "a"), [19, 21], dicts=[{"a": 1, "c": None}, {"a": {"x": [2]}}], file="c.jsonl"),
    Chunk(("c", "a"), [22], dicts=[{"c": "\ud800"}]),
    Chunk((), range(23, 25), [(), ()]),
]


@pytest.mark.parametrize("how", HOWS)
def test_the_same_rows_come_back_in_order_with_their_types(tmp_path: Path, how: How) -> None:
    source = Flow(CELLS)
    with by_disk(source, how, tmp_path) as stream:
        assert source.all_read.wait(60)
        found = [told(chunk) for chunk in stream.chunks(100)]
    assert found == [told(chunk) for chunk in CELLS]
    assert names(stream.columns) == ("a", "b", "c")
    assert source.closed


@pytest.mark.parametrize("how", HOWS)
def test_arrow_batches_come_back_as_they_were(tmp_path: Path, how: How) -> None:
    table = pa.table(
        {
            "id": pa.array(["007", None, "x"]),
            "ID": pa.array([1, None, 3], pa.int16()),
            "u": pa.array([2**64 - 1, 0, None], pa.uint64()),
            "x": pa.array([0.5, float("nan"), None]),
            "born": pa.array([date(2001, 2, 3), None, None]),
            "raw": pa.array([b"\x00", None, b""]),
        }
    )
    with by_disk(from_arrow(table), how, tmp_path) as stream:
        (chunk,) = stream.chunks()
    assert isinstance(chunk, ArrowChunk)
    assert chunk.batch.schema == table.schema
    assert str(chunk.batch.to_pylist()) == str(table.to_pylist())


@pytest.mark.parametrize("how", HOWS)
def test_arrow_types_that_a_form_has_not_give_the_same_cells(tmp_path: Path, how: How) -> None:
    table = pa.table(
        {
            "words": pa.array(["a", "b", "a"]).dictionary_encode(),
            "when": pa.array([1, None, 3], pa.timestamp("ns", "UTC")),
            "list": pa.array([[1], None, [2, 3]]),
            "nothing": pa.nulls(3),
        }
    )
    expected = [row for chunk in from_arrow(table).chunks() for row in chunk.dicts()]
    with by_disk(from_arrow(table), how, tmp_path) as stream:
        assert [row for chunk in stream.chunks() for row in chunk.dicts()] == expected


CELL = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=())),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), how=st.sampled_from(HOWS[:2]))
def test_any_cells_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, how: How
) -> None:
    width = data.draw(st.integers(0, 3))
    rows = data.draw(st.lists(st.tuples(*[CELL] * width), max_size=6))
    cut = data.draw(st.integers(0, len(rows)))
    columns = tuple("abc"[:width])
    chunks = [
        Chunk(columns, range(1, cut + 1), rows[:cut]),
        Chunk(columns, range(cut + 1, len(rows) + 1), rows[cut:]),
    ]
    with by_disk(Flow(chunks), how, tmp_path_factory.mktemp("spill")) as stream:
        assert [told(chunk) for chunk in stream.chunks()] == [told(chunk) for chunk in chunks]


def test_a_consumer_that_keeps_up_needs_no_disk(tmp_path: Path) -> None:
    with Spilled(flow(20), "adaptive", tmp_path, patience=3600) as stream:
        assert [number for chunk in stream.chunks() for number in chunk.numbers] == [*range(1, 201)]
        assert not stream.spilling.is_set()
        assert "spilled_rows" not in stream.facts()


def test_a_source_that_is_kept_waiting_is_read_to_disk(tmp_path: Path) -> None:
    source, now = flow(20), [0.0]
    with Spilled(source, "adaptive", tmp_path, patience=0.05, clock=lambda: now[0]) as stream:
        first = stream.read(10)
        assert source.read_so_far == 1
        now[0] += 1
        assert stream.spilling.wait(60)
        assert source.all_read.wait(60)  # although nobody reads
        rest = [number for chunk in stream.chunks() for number in chunk.numbers]
    assert first is not None
    assert [*first.numbers, *rest] == [*range(1, 201)]


def test_memory_that_is_short_sends_rows_to_disk(tmp_path: Path) -> None:
    used = [10]
    guard = MemoryGuard(100, read=lambda: Memory(used[0] * 1_000_000), trim=lambda: None)
    source = flow(20)
    with Spilled(source, "adaptive", tmp_path, guard=guard, patience=3600) as stream:
        stream.read(10)
        assert not stream.spilling.is_set()
        used[0] = 71
        stream.read(10)
        assert stream.spilling.is_set()
        assert source.all_read.wait(60)
        assert guard.spilled > 1_000, "for the message where memory is short all the same"


def test_what_was_asked_for_is_the_most_that_is_given(tmp_path: Path) -> None:
    with by_disk(flow(3, rows=10), "parquet", tmp_path) as stream:
        lengths = [len(chunk) for chunk in stream.chunks(4)]
    assert sum(lengths) == 30
    assert max(lengths) <= 4


def test_bad_rows_stay_between_their_neighbours_when_chunks_are_cut(tmp_path: Path) -> None:
    bad = [BadRow(3, "odd"), BadRow(9, "odd")]
    chunk = Chunk(("n",), [1, 2, 4, 5, 6, 7, 8], [(n,) for n in range(7)], bad=bad)
    with by_disk(Flow([chunk]), "adaptive", tmp_path) as stream:
        found = [row.number for each in stream.chunks(2) for row in each.rows()]
    assert found == [*range(1, 10)]


def test_an_error_of_the_source_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    def fail(at: int) -> None:
        if at == 7:
            raise InputError("the connection was cut")

    chunks = flow(20)._chunks
    with by_disk(Flow(chunks, before=fail), "adaptive", tmp_path) as stream:
        numbers: list[int] = []
        with pytest.raises(InputError, match="was cut"):
            numbers.extend(number for chunk in stream.chunks() for number in chunk.numbers)
        assert numbers == [*range(1, 71)]


class Short(ArrowForm):
    """Memory runs short before the third batch, once."""

    is_short = True

    def batches(self, path: Path) -> Iterator[Any]:
        for at, batch in enumerate(super().batches(path)):
            if at == 2 and self.is_short:
                self.is_short = False
                raise MemoryError
            yield batch


def test_after_a_memory_error_rows_on_disk_are_gone_on_with(tmp_path: Path) -> None:
    segments = Segments(tmp_path, Short(), 10**9)
    for chunk in flow(5)._chunks:
        segments.put(chunk)
    segments.finish()
    seen: list[int] = []

    def to_the_end() -> None:
        while (chunk := segments.take()) is not None:
            seen.extend(chunk.numbers)

    with pytest.raises(MemoryError):
        to_the_end()
    assert seen == [*range(1, 21)]
    to_the_end()
    assert seen == [*range(1, 51)]


# Room


@pytest.mark.parametrize("how", HOWS[:2])
def test_a_source_that_can_wait_is_kept_waiting_when_there_is_no_room(
    tmp_path: Path, how: How
) -> None:
    source = flow(300)
    source.can_wait = True
    most = 100_000
    with by_disk(source, how, tmp_path, most_bytes=most) as stream:
        seen = [number for chunk in stream.chunks() for number in chunk.numbers]
        assert seen == [*range(1, 3001)]
        assert 0 < stream._segments.peak < 1.5 * most


def test_a_source_that_cannot_wait_ends_where_there_is_no_room(tmp_path: Path) -> None:
    source = flow(300)
    with by_disk(source, "adaptive", tmp_path, most_bytes=100_000) as stream:
        stream._thread.join(60)
        assert source.read_so_far < 300
        numbers: list[int] = []
        with pytest.raises(LimitError, match=r"0 MB that --spill-max allows.*--spill-dir"):
            numbers.extend(number for chunk in stream.chunks() for number in chunk.numbers)
        assert numbers == [*range(1, 10 * source.read_so_far + 1)]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


FULLER = {"most_bytes": 10**9, "segment_bytes": 50_000}
"""More than there is on the tiny disk: so it is the disk itself that says no."""


def test_a_disk_that_is_full_keeps_a_source_waiting_and_loses_no_row(tiny_disk: Path) -> None:
    source = flow(3_000)
    source.can_wait = True
    with by_disk(source, "adaptive", tiny_disk, **FULLER) as stream:
        assert [n for chunk in stream.chunks() for n in chunk.numbers] == [*range(1, 30_001)]


def test_a_disk_that_is_full_ends_a_source_that_cannot_wait_and_loses_no_row(
    tiny_disk: Path,
) -> None:
    source = flow(3_000)
    seen: list[int] = []
    with by_disk(source, "adaptive", tiny_disk, **FULLER) as stream:
        stream._thread.join(60)
        with pytest.raises(LimitError, match="is full"):
            seen.extend(number for chunk in stream.chunks() for number in chunk.numbers)
    assert 0 < source.read_so_far < 3_000
    assert seen == [*range(1, 10 * source.read_so_far + 1)]


def test_by_default_a_twentieth_of_the_disk_stays_free(tiny_disk: Path) -> None:
    source = flow(3_000)
    with by_disk(source, "parquet", tiny_disk, segment_bytes=50_000) as stream:
        stream._thread.join(60)
        if source.read_so_far < 3_000:
            space = os.statvfs(tiny_disk)
            assert space.f_bavail / space.f_blocks > 0.01
        with pytest.raises(LimitError, match="is full"):
            for _ in stream.chunks():
                pass


@pytest.mark.parametrize(
    ("most", "why"),
    [(None, r"takes more than 0 MB there"), (100, r"is full, and big\.xlsx must be")],
)
def test_a_file_for_which_the_disk_has_no_room_is_a_limit(
    tiny_disk: Path, most: int | None, why: str
) -> None:
    content = Content("big.xlsx", "big.xlsx", lambda: BufferedReader(BytesIO(bytes(3_000_000))))
    with pytest.raises(LimitError, match=f"{why}.*--spill-dir"):
        spooled(content, SourceOptions(spill_dir=tiny_disk, spill_max=most))
    assert list(tiny_disk.iterdir()) == []


# Folders


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    stream = by_disk(flow(20), "adaptive", tmp_path)
    stream.read(10)
    assert len(list(tmp_path.iterdir())) == 1
    stream.close()
    stream.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_living_one_s_stays(tmp_path: Path) -> None:
    script = (
        "import sys, os; from pathlib import Path;"
        "from artist_bio_gen.sources.spill.scratch import Scratch;"
        f"scratch = Scratch(Path({str(tmp_path)!r}));"
        "(scratch.path / 'x.rows').write_text('x'); print('made', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        (folder,) = tmp_path.iterdir()
        assert f"-{child.pid}-" in folder.name
        assert remove_left_over(tmp_path) == []
        child.kill()
        child.wait()
    assert (folder / "x.rows").exists()
    mine = Scratch(tmp_path)
    assert list(tmp_path.iterdir()) == [mine.path]
    mine.close()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / f"{PREFIX}7-x").symlink_to(tmp_path / "kept")
    (tmp_path / "kept" / "lock").touch()
    assert remove_left_over(tmp_path) == []
    assert (tmp_path / "kept" / "lock").exists()


def test_a_folder_of_another_user_is_left_alone(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = tmp_path / f"{PREFIX}7-x"
    folder.mkdir()
    (folder / "lock").touch()
    os.chown(folder, 12_345, -1)
    assert remove_left_over(tmp_path) == []
    os.chown(folder, 0, -1)
    assert remove_left_over(tmp_path) == [folder]


def test_the_folder_is_for_its_owner_alone_and_locked(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "new")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    with (scratch.path / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    scratch.close()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"give another folder with --spill-dir"):
        by_disk(flow(1), "adaptive", tmp_path / "file")


def test_closing_while_the_source_is_read_ends_it(tmp_path: Path) -> None:
    reached, goes_on = threading.Event(), threading.Event()

    def wait(at: int) -> None:
        if at == 3:
            reached.set()
            goes_on.wait(60)

    source = Flow(flow(20)._chunks, before=wait)
    stream = by_disk(source, "adaptive", tmp_path)
    assert reached.wait(60)
    stop = threading.Thread(target=stream.close)
    stop.start()
    goes_on.set()
    stop.join(60)
    assert not stream._thread.is_alive()
    assert source.closed
    assert source.read_so_far < 20
    assert list(tmp_path.iterdir()) == []


# As it is opened


def test_options_say_how(tmp_path: Path) -> None:
    rows = from_rows([{"n": 1}])
    assert spilled(rows, SourceOptions(spill="direct")) is rows
    options = SourceOptions(spill="parquet", spill_dir=tmp_path, spill_max=7)
    with spilled(rows, options) as stream:
        assert isinstance(stream, Spilled)
        assert stream._most == 7_000_000
        assert stream.can_wait
        assert len(list(tmp_path.iterdir())) == 1
        assert list(stream) == [Row(1, (1,))]


def told_by(script: str, folder: Path) -> str:
    """What a Python of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(("how", "missing"), [("parquet", "pyarrow"), ("duckdb", "duckdb")])
def test_a_package_that_is_missing_is_told_before_the_first_row(
    tmp_path: Path, how: str, missing: str
) -> None:
    """In a process of its own, which cannot import it."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from artist_bio_gen import open_source\n"
        "from artist_bio_gen.errors import ConfigError\n"
        "try:\n"
        f"    open_source('a.csv', spill={how!r}, spill_dir='.')\n"
        "except ConfigError as exc:\n"
        "    print(exc)\n"
    )
    told = told_by(script, tmp_path)
    assert f"--spill {how} needs the package {missing}" in told
    assert "pip install 'artist-bio-gen[" in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_adaptive_loads_its_package_when_it_is_wanted(tmp_path: Path) -> None:
    """It takes 60 MiB, and mostly no row goes to the disk."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from artist_bio_gen.config.source import SourceOptions\n"
        "from artist_bio_gen.sources.spill.spilled import Spilled, spilled\n"
        "from artist_bio_gen.stream import Chunk, RowStream\n"
        "from artist_bio_gen.values import Column\n"
        "class Flow(RowStream):\n"
        "    name, columns, can_wait = 'flow', (Column('id'),), False\n"
        "    left = [Chunk(('id',), [1], [('1',)])]\n"
        "    def read(self, size):\n"
        "        return self.left.pop() if self.left else None\n"
        "    def close(self):\n"
        "        pass\n"
        "with spilled(Flow(), SourceOptions(spill='adaptive', spill_dir=Path('.'))) as rows:\n"
        "    assert isinstance(rows, Spilled)\n"
        "    print(len(list(rows)), 'pyarrow' in sys.modules)\n"
    )
    told = told_by(script, tmp_path)
    assert told.split() == ["1", "False"]
