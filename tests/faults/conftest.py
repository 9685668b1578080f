"""As for the integration tests: one database a module, emptied for each test. A folder in memory,
for the thousands of times that a fault is made there. And the figures, which are always shown: no
failure in N trials bounds the rate at about 3/N (95 %)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import _shared_database, admin, url

__all__ = ["_shared_database", "admin", "url"]

_MEMORY = Path("/dev/shm")
_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a sentence with what was counted; all are shown when the tests have ended."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.section("faults")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """On a file system in memory where there is one: syncing costs nothing there."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="abg-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder)
