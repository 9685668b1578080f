"""Do the tests catch what they are there for? Each planted bug makes the tests fail that are named
for it, and without a bug the same tests pass.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.planted.bug import Bug, Change
from tests.planted.bugs import BUGS
from tests.planted.workshop import COPIED, DoesNotFitError, Ran, copy_tree, plant, planted, run
from tests.postgres import Postgres

AT_ONCE = 2
FEWEST = 20

EVERY_TEST = tuple(sorted({node for bug in BUGS for node in bug.caught_by}))
UNCHANGED = Bug("none", (), EVERY_TEST)

by_name = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))


class Workshop:
    """Runs what is asked for in the background, a copy each, at most `AT_ONCE` at a time."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder = folder
        self._database_url = database_url
        self._original = copy_tree(folder / "original")  # the same for all, whoever edits meanwhile
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._runs: dict[str, Future[Ran]] = {}

    def begin(self, bug: Bug) -> None:
        number = len(self._runs) + 1
        self._runs[bug.name] = self._pool.submit(self._run, number, bug.changes, bug.caught_by)

    def ran(self, bug: Bug) -> Ran:
        if bug.name not in self._runs:
            self.begin(bug)
        return self._runs[bug.name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, number: int, changes: tuple[Change, ...], nodes: tuple[str, ...]) -> Ran:
        copy = copy_tree(self._folder / str(number), self._original)
        try:
            plant(changes, copy)
            return run(nodes, copy, self._database_url)
        finally:
            shutil.rmtree(copy)


@pytest.fixture(scope="module")
def workshop(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("planted"), postgres.url)
    for item in request.session.items:
        # All that are wanted at once, so that they run side by side.
        if not isinstance(item, pytest.Function):
            continue
        if item.function is test_without_a_bug_the_tests_pass:
            made.begin(UNCHANGED)
        elif item.function is test_a_planted_bug_is_caught:
            bug = item.callspec.params["bug"]
            assert isinstance(bug, Bug)
            made.begin(bug)
    yield made
    made.close()


def test_there_are_enough_of_them_and_each_has_its_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= FEWEST


@by_name
def test_a_bug_still_fits_the_code(bug: Bug) -> None:
    for path, text in planted(bug.changes).items():
        assert text != path.read_text(encoding="utf-8")


def test_without_a_bug_the_tests_pass(workshop: Workshop) -> None:
    ran = workshop.ran(UNCHANGED)
    assert ran.exit_code == 0, ran.printed
    assert set(ran.cases.values()) == {"passed"}
    for node in EVERY_TEST:
        assert ran.states(node) == {"passed"}, f"{node} was not run"


@by_name
def test_a_planted_bug_is_caught(bug: Bug, workshop: Workshop) -> None:
    ran = workshop.ran(bug)
    assert ran.exit_code == pytest.ExitCode.TESTS_FAILED, ran.printed
    for node in bug.caught_by:
        assert "failed" in ran.states(node), f"{node} does not see it:\n{ran.printed}"
        assert "broken" not in ran.states(node), ran.printed


def test_a_bug_that_does_not_fit_is_told() -> None:
    for old in ("this stands nowhere in it", "import"):
        with pytest.raises(DoesNotFitError, match=r"ledger/ledger\.py: stands there \d+ times"):
            planted([Change("ledger/ledger.py", old, "pass")])


def test_nothing_but_a_copy_is_changed(tmp_path: Path) -> None:
    copy = copy_tree(tmp_path / "copy")
    bug = BUGS[0]
    before = planted(bug.changes)
    plant(bug.changes, copy)
    assert planted(bug.changes) == before
    with pytest.raises(DoesNotFitError):
        planted(bug.changes, copy)
    assert {path.name for path in copy.iterdir()} == {*COPIED, "pyproject.toml"}
