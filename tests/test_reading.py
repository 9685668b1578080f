"""A source while it is read: the tally, when it stops, and memory that runs short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, LimitError
from artist_bio_gen.sources.many import Many, Part
from artist_bio_gen.sources.reading import Progress, Reading
from artist_bio_gen.stream import Chunk, RowStream
from artist_bio_gen.values import BadRow, Row
from tests.row_streams import Listed, bad


def reading(rows: list[Any], *, listed: dict[str, Any] | None = None, **options: Any) -> Reading:
    more = {
        name: options.pop(name)
        for name in ("guard", "progress", "clock", "peak", "facts")
        if name in options
    }
    stream = Listed(["id"], rows, **(listed or {}))
    return Reading(stream, SourceOptions(**options), **more)


def rows_of(number: int) -> list[Any]:
    return [[str(at)] for at in range(number)]


def test_what_was_read_is_told() -> None:
    clock = iter([10.0, 11.0, 14.0])
    stream = reading(
        [["a"], bad("one"), ["b"], bad("two"), ["c"]],
        chunk_size=2,
        clock=lambda: next(clock),
        peak=lambda: 12.5,
        facts={"format": "csv"},
    )
    found = list(stream)
    assert [row.number for row in found] == [2, 3, 4, 5, 6]
    result = stream.result
    assert (result.rows_read, result.error_count, result.chunks) == (3, 2, 2)
    assert result.chunks_with_errors == 2
    assert result.errors == (BadRow(3, "one"), BadRow(5, "two"))
    assert (result.seconds, result.average_chunk_s) == (4.0, 2.0)
    assert (result.peak_memory_mib, result.facts) == (12.5, {"format": "csv"})


def test_before_anything_is_read_there_is_a_result_too() -> None:
    result = reading([]).result
    assert (result.rows_read, result.seconds, result.average_chunk_s) == (0, 0.0, None)
    assert result.peak_memory_mib is not None
    assert result.peak_memory_mib > 1


def test_only_the_first_bad_rows_are_kept_and_all_are_counted() -> None:
    stream = reading([bad() for _ in range(1500)], error_threshold=1.0)
    assert len(list(stream)) == 1500
    result = stream.result
    assert (len(result.errors), result.error_count) == (1000, 1500)


def test_a_bad_row_is_never_gone_silently() -> None:
    rows: list[Any] = [["a"], bad(), ["b"]]
    assert [type(row) for row in reading(rows)] == [Row, BadRow, Row]
    (chunk,) = reading(rows).chunks()
    assert [each.number for each in chunk.bad] == [3]


def test_chunks_have_the_size_that_the_options_say() -> None:
    assert [len(chunk) for chunk in reading(rows_of(7), chunk_size=3).chunks()] == [3, 3, 1]
    assert [len(chunk) for chunk in reading(rows_of(7), chunk_size=3).chunks(5)] == [5, 2]


def test_it_can_be_read_while_a_loop_goes_on() -> None:
    async def read() -> list[int]:
        return [row.number async for row in reading(rows_of(3))]

    assert asyncio.run(read()) == [2, 3, 4]


def test_with_async_with_it_is_closed_while_the_loop_goes_on() -> None:
    async def closed() -> bool:
        released = threading.Event()
        stream = Held(released)
        leaving = asyncio.create_task(through(stream))
        while not (stream.closing.is_set() or leaving.done()):
            await asyncio.sleep(0)  # which it can only while nothing blocks the loop
        released.set()
        await leaving
        return stream.closed

    async def through(stream: RowStream) -> None:
        async with stream as rows:
            assert rows is stream

    assert asyncio.run(closed())


class Held(RowStream):
    """Its end is waited for, as that of a child process."""

    name = "held"
    columns = ()

    def __init__(self, released: threading.Event) -> None:
        self.closing = threading.Event()
        self.closed = False
        self._released = released

    def read(self, size: int) -> Chunk | None:
        return None

    def close(self) -> None:
        self.closing.set()
        self.closed = self._released.wait(10)


# When it stops


def test_the_first_bad_row_stops_it_after_the_rows_before_it() -> None:
    stream = reading([["a"], ["b"], bad("torn"), ["c"], bad()], on_error="stop")
    first = stream.read(10)
    assert first is not None
    assert ([*first.values()], [each.number for each in first.bad]) == ([["a"], ["b"]], [4])
    with pytest.raises(
        InputError, match=r"rows row 4 cannot be read: torn. Mend it, or .*--on-error skip"
    ):
        stream.read(10)
    assert stream.result.error_count == 1


@pytest.mark.parametrize("option", ["skip", "stop"])
def test_sound_rows_stop_nothing(option: str) -> None:
    assert len(list(reading(rows_of(5), on_error=option, error_threshold=0.0))) == 5


def share_of_bad(number: int, every: int) -> list[Any]:
    return [bad() if at % every == 0 else [str(at)] for at in range(number)]


def test_a_share_of_bad_rows_stops_it_after_so_many_rows() -> None:
    stream = reading(share_of_bad(1000, 5), chunk_size=10, error_threshold=0.2, error_minimum=100)
    given = 0
    with pytest.raises(LimitError) as raised:  # noqa: PT012 - counts what came before
        for _ in stream:
            given += 1
    message = str(raised.value)
    assert "of 1" in message
    assert "share of 20%" in message
    assert "--error-threshold" in message
    assert 100 <= given < 125
    assert stream.result.rows_read + stream.result.error_count == given


def test_fewer_bad_rows_than_that_share_do_not() -> None:
    stream = reading(share_of_bad(1000, 5), error_threshold=0.21, error_minimum=100)
    assert len(list(stream)) == 1000


def test_below_the_minimum_it_is_not_judged() -> None:
    assert len(list(reading([bad() for _ in range(99)]))) == 99
    with pytest.raises(LimitError):
        list(reading([bad() for _ in range(100)]))


def test_a_threshold_of_one_never_stops() -> None:
    assert len(list(reading([bad() for _ in range(300)], error_threshold=1.0))) == 300


def test_a_threshold_of_none_stops_at_the_first_bad_row_after_the_minimum() -> None:
    rows = [*rows_of(150), bad("torn"), *rows_of(5)]
    with pytest.raises(LimitError, match=r"1 of 15\d rows .*row 152: torn"):
        list(reading(rows, error_threshold=0.0, chunk_size=1))


def test_the_file_of_the_bad_row_is_named() -> None:
    def part(file: str, rows: list[Any]) -> Part:
        return Part(file, lambda: Listed(["id"], rows))

    parts = [part("a.csv", [["1"]]), part("b.csv", [["2"], bad("torn")])]
    stream = Reading(Many(parts, name="*.csv"), SourceOptions(on_error="stop"))
    with pytest.raises(InputError, match=r"^b\.csv row 3 cannot be read: torn"):
        list(stream)
    assert stream.result.errors[0].file == "b.csv"


# Memory


def test_chunks_are_halved_when_memory_runs_short_and_stay_small() -> None:
    stream = reading(rows_of(100), listed={"needs": 10}, chunk_size=64)
    assert [len(chunk) for chunk in stream.chunks()] == [*[8] * 12, 4]
    assert stream.result.rows_read == 100


def test_no_memory_for_a_single_row_is_a_limit() -> None:
    stream = reading(rows_of(5), listed={"needs": 0}, chunk_size=4)
    with pytest.raises(LimitError, match=r"no memory for a single row more, after 0 rows"):
        stream.read(4)


def test_a_consumer_for_which_memory_runs_short_gets_the_same_rows_in_halves() -> None:
    taken: list[str] = []

    def take(chunk: Chunk) -> None:
        if len(chunk) > 5:
            raise MemoryError
        taken.extend(row[0] for row in chunk.values())

    stream = reading(rows_of(50), chunk_size=32)
    result = stream.each(take)
    assert taken == [str(at) for at in range(50)]
    assert result.rows_read == 50
    assert result.chunks > 3, "those after the first are small at once"


def test_a_consumer_without_memory_for_a_single_row_is_a_limit() -> None:
    def take(chunk: Chunk) -> None:
        raise MemoryError

    with pytest.raises(LimitError, match="single row"):
        reading(rows_of(3)).each(take)


def test_a_guard_says_how_many_rows_may_come() -> None:
    class Guard:
        def __init__(self) -> None:
            self.sizes: Iterator[int] = iter([3, 1, 100])

        def size(self, wanted: int) -> int:
            return next(self.sizes, wanted)

    stream = reading(rows_of(30), guard=Guard(), chunk_size=10)
    assert [len(chunk) for chunk in stream.chunks()] == [3, 1, 10, 10, 6]


# Progress


def test_progress_is_told_with_the_time_that_is_left() -> None:
    told: list[Progress] = []
    seconds = count(0, 1)
    stream = reading(
        rows_of(10),
        listed={"estimate": 40},
        chunk_size=2,
        progress=told.append,
        progress_interval=2.0,
        clock=lambda: float(next(seconds)),
    )
    list(stream)
    assert [(each.rows, each.expected) for each in told] == [(4, 40), (8, 40)]
    assert told[0].seconds == 2.0
    assert told[0].seconds_left == pytest.approx(36 * 2 / 4)


def test_progress_without_an_estimate_tells_rows_alone() -> None:
    told: list[Progress] = []
    seconds = count(0, 10)
    tell: Callable[[Progress], None] = told.append
    list(reading(rows_of(3), chunk_size=1, progress=tell, clock=lambda: float(next(seconds))))
    assert [(each.rows, each.expected, each.seconds_left) for each in told] == [
        (1, None, None),
        (2, None, None),
        (3, None, None),
    ]


def test_closing_closes_the_source() -> None:
    listed = Listed(["id"], [])
    with Reading(listed, SourceOptions()):
        pass
    assert listed.closed
