"""As for the integration tests: one database a module, emptied for each test. A folder in memory,
for the thousands of times that a fault is made there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import _shared_database, admin, url

__all__ = ["_shared_database", "admin", "url"]

_MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """On a file system in memory where there is one: syncing costs nothing there."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="abg-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder)
