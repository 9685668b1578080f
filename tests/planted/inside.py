"""A plugin of pytest for the runs inside a copy: makes sure that it is the copy that is tested,
and notes what came of each case.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import artist_bio_gen
from tests.planted.workshop import REPORT, WHERE

NOT_THE_COPY = 70


def pytest_sessionstart() -> None:
    tested = Path(artist_bio_gen.__file__).resolve()
    if Path(os.environ[WHERE]).resolve() not in tested.parents:
        pytest.exit(f"{tested} would be tested, which is not the copy", NOT_THE_COPY)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        state = report.outcome if report.when == "call" else "broken"
        with Path(os.environ[REPORT]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([report.nodeid, state]) + "\n")
