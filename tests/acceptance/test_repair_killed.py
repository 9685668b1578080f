"""A repair that is killed at any of its file calls, in a process of its own, leaves a ledger that
has its old damage or is mended; the next repair, or the next start, makes an end of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.database.migrate import migrate
from artist_bio_gen.errors import LedgerError, UsageError
from artist_bio_gen.ledger.files import REAL, FileCalls
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import beside
from artist_bio_gen.repair import repair
from artist_bio_gen.resume import reconcile
from tests.builders import lines_of_ledger
from tests.fakes.faulty_files import KILLED, NAMES
from tests.integration.test_repair import (
    Books,
    changed_letter,
    joined,
    open_store,
    without_links,
)

MOST_CALLS = 200
"""More file calls than any repair of these makes."""


class DyingFiles:
    """A table of file calls in which the process ends without a word at the `nth` call of all: a
    write has then written half of its bytes."""

    def __init__(self, nth: int, real: FileCalls) -> None:
        self._left = nth
        self._real = real
        self.calls = FileCalls(**{name: partial(self._call, name) for name in NAMES})

    def _call(self, name: str, *arguments: Any) -> Any:
        real: Callable[..., Any] = getattr(self._real, name)
        self._left -= 1
        if self._left == 0:
            if name == "write":
                fd, data = arguments
                real(fd, data[: len(data) // 2])
            os._exit(KILLED)
        return real(*arguments)


def killed_at(nth: int, books: Books, address: str, real: FileCalls) -> bool:
    """Repairs in a child that dies at its `nth` file call; False when it came to its end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open_store(address) as store:
                done = repair(
                    books.path,
                    store,
                    ledger_id=books.id,
                    apply=True,
                    files=DyingFiles(nth, real).calls,
                )
            status = 0 if done.all_well else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), code
    return code == KILLED


WITHOUT_LINKS = replace(REAL, link=without_links)


# ---- what is mended ---------------------------------------------------------------------------


def one_file(books: Books) -> None:
    lines = books.lines
    damaged = [*lines[:4], changed_letter(lines, 5), *lines[6:]]
    books.path.write_bytes(joined(damaged)[:-20] + bytes(100))


def torn_end(books: Books) -> None:
    books.path.write_bytes(books.whole[:-20])


def no_file(books: Books) -> None:
    books.path.unlink()


def no_file_and_no_head(books: Books) -> None:
    books.path.unlink()
    beside(books.path, "head").unlink()


def several_files(books: Books) -> None:
    """The first one is damaged, of the second the first line, the third is gone, the fourth ends
    torn, and it is the one whose fsync had failed."""
    files = books.in_segments(4, 7, 10, superseded=1)
    lines = books.lines
    files[0].write_bytes(joined([lines[0], changed_letter(lines, 2), *lines[2:4]]))
    files[1].write_bytes(joined([changed_letter(lines, 4), *lines[4:6]]))
    files[2].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-20])
    marker = beside(books.path, "fsync-failed")
    synced = {"file": files[3].name, "seq": 10, "size": len(lines[9]) + 1}
    marker.write_text(json.dumps(synced))


CASES: dict[str, tuple[Callable[[Books], None], FileCalls]] = {
    "one file": (one_file, REAL),
    "one file, where hard links do not work": (one_file, WITHOUT_LINKS),
    "a torn end": (torn_end, REAL),
    "no file": (no_file, REAL),
    "no file and no head": (no_file_and_no_head, REAL),
    "several files": (several_files, REAL),
}


@pytest.fixture
def books(tmp_path: Path, database_url: str) -> Iterator[Books]:
    migrate(database_url, table="artists")
    with open_store(database_url) as store:
        yield Books(tmp_path / "out.jsonl", store, 12)


def put(books: Books, contents: dict[str, bytes]) -> None:
    for each in books.path.parent.iterdir():
        each.unlink()
    for name, content in contents.items():
        (books.path.parent / name).write_bytes(content)


def ledger_files(books: Books) -> dict[str, bytes]:
    return {
        name: content
        for name, content in books.beside().items()
        if name.startswith("out.") and name.endswith(".jsonl")
    }


class Deaths:
    """The same damage each time, and a repair that dies at its 1st, 2nd, … file call."""

    def __init__(self, books: Books, address: str, case: str) -> None:
        damage, self._real = CASES[case]
        self._books, self._address = books, address
        damage(books)
        self._before = books.beside()
        self.damaged = ledger_files(books)
        assert books.repair(ledger_id=books.id).all_well
        assert lines_of_ledger(books.path) == books.lines
        self.mended = ledger_files(books)
        self.kept = sorted(books.kept())

    def each(self) -> Iterator[int]:
        """The number of the call, after each death; ends when a repair comes to its end."""
        for nth in range(1, MOST_CALLS):
            put(self._books, self._before)
            if not killed_at(nth, self._books, self._address, self._real):
                assert nth > 10, "it has died too seldom to show anything"
                return
            yield nth
        raise AssertionError(f"more than {MOST_CALLS} file calls")

    def check_between(self) -> None:
        """Each file is as it was or as it should be; and what it was is there in either case."""
        for name, content in ledger_files(self._books).items():
            assert content in (self.damaged.get(name), self.mended[name]), name
        for name, content in self.damaged.items():
            if content != self.mended[name]:
                assert content in self._books.beside().values(), f"what {name} was is lost"


@pytest.mark.parametrize("case", CASES)
def test_a_repair_killed_at_each_file_call_is_finished_by_the_next(
    books: Books, database_url: str, case: str
) -> None:
    deaths = Deaths(books, database_url, case)
    for nth in deaths.each():
        deaths.check_between()
        assert books.repair(ledger_id=books.id).all_well, nth
        assert ledger_files(books) == deaths.mended, nth
        assert set(books.kept()) == set(deaths.kept), nth
        assert [name for name in books.beside() if "mending" in name or name[0] == "."] == []
        assert books.repair().files == ()


@pytest.mark.parametrize("case", ["a torn end", "no file", "several files"])
def test_a_start_between_two_repairs_refuses_or_ends_well(
    books: Books, database_url: str, case: str
) -> None:
    deaths = Deaths(books, database_url, case)
    ended_well = 0
    for nth in deaths.each():
        try:
            with Ledger.open(books.path) as ledger, ledger.locked():
                reconcile(ledger, books.store)
        except (LedgerError, UsageError):
            deaths.check_between()
        else:
            ended_well += 1
            assert lines_of_ledger(books.path) == books.lines, nth
        assert books.repair(ledger_id=books.id).all_well, nth
        assert lines_of_ledger(books.path) == books.lines, nth
    assert ended_well > 0
