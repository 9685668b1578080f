"""What the benchmarks share: the workbench with its own Postgres, input, the measuring of one
command, and what machine this is."""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MODEL = "bench-model"
LOOK_EVERY_S = 0.05
SAMPLE_EVERY = 4  # looks; finding a process's children costs much more than a file's size
MIB = 1024 * 1024
_COUNTRIES = ("Benin", "Chile", "Finland", "Georgia", "Japan", "Mali", "Portugal", "Uruguay")
_GENRES = ("choral music", "folk song", "free jazz", "highlife", "string quartet", "techno")
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so no two numbers get the same id


class Wrong(Exception):
    """A run that did not do its work, so its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """A folder that is removed afterwards, and a server with a database for each run."""

    folder: Path
    server_url: str

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of an empty database, which is dropped afterwards."""
        import psycopg

        name = f"bench_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f'create database "{name}"')
            try:
                yield urlsplit(self.server_url)._replace(path=f"/{name}").geturl()
            finally:
                connection.execute(f'drop database "{name}" with (force)')
                connection.execute("checkpoint")  # so that its writes do not fall into the next run

    def artists(self, rows: int, first: int = 0) -> Path:
        """A CSV file, the same for the same number of rows. No two artists have one id if
        `first` is the number of those before them."""
        path = self.folder / f"artists-{first}-{rows}.csv"
        if not path.exists():
            with path.open("w", newline="", encoding="utf-8") as file:
                lines = csv.writer(file)
                lines.writerow(["id", "name", "born", "country", "genre", "active"])
                lines.writerows(_artist(number) for number in range(first, first + rows))
        return path


def _artist(number: int) -> tuple[Any, ...]:
    return (
        # Spread over all ids as those of a catalogue are: an index is hit everywhere.
        uuid.UUID(int=(number + 1) * _SPREAD % 2**128),
        f"Artist Number {number}",
        1900 + number % 100,
        _COUNTRIES[number % len(_COUNTRIES)],
        _GENRES[number % len(_GENRES)],
        f"{1920 + number % 100} to {1950 + number % 70}, mostly on small stages",
    )


@contextlib.contextmanager
def workbench(parent: Path | None) -> Iterator[Workbench]:
    """Everything is made below `parent` (None: the system's folder for temporary files)."""
    from artist_bio_gen.database import embedded

    with contextlib.ExitStack() as afterwards:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
        afterwards.callback(shutil.rmtree, folder)
        folder.chmod(0o711)  # as root, Postgres runs as another user who must get through
        afterwards.callback(embedded.stop, folder / "postgres")
        yield Workbench(folder, embedded.start(folder / "postgres").url)


@dataclass(frozen=True, slots=True)
class Measured:
    """One command from its start to its end. `cpu_s` is that of the command and of all its
    children; memory is the highest sum over the command and its children: `pss_mib` as it was
    sampled (shared pages divided), `rss_mib` from each process's own high-water mark."""

    exit_code: int
    printed: str
    wall_s: float
    cpu_s: float
    pss_mib: float
    rss_mib: float
    cpu: Course = field(repr=False)
    output_bytes: Course = field(repr=False)


@dataclass(frozen=True, slots=True)
class Timed:
    """One command from its start to its end, with nothing that watches it meanwhile."""

    exit_code: int
    printed: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Course:
    """A value that only grows, sampled: pairs of seconds since the start and value. Between
    two samples it counts as growing evenly."""

    samples: Sequence[tuple[float, float]]

    def value_at(self, moment: float) -> float:
        return _between(self.samples, moment)

    def moment_of(self, value: float) -> float:
        return _between([(reached, moment) for moment, reached in self.samples], value)


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """The first y at `x` on the line through the points, which rise in x."""
    before = (0.0, 0.0)
    for point in points:
        if point[0] >= x:
            share = (x - before[0]) / (point[0] - before[0]) if point[0] > before[0] else 1.0
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


def environment() -> dict[str, str]:
    """This one without settings that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARTIST_BIO_GEN_", "OPENAI_", "DATABASE_URL", "PG"))
    }
    return {**kept, "OPENAI_API_KEY": "sk-bench"}


def timed(command: Sequence[str], *, environment: dict[str, str], folder: Path) -> Timed:
    """Runs a command to its end."""
    log = folder / "printed.txt"
    with log.open("wb") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # interrupted: nothing that was started stays
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    return Timed(
        exit_code=process.returncode,
        printed=log.read_text(encoding="utf-8", errors="replace")[-4000:],
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
    )


def measure(
    command: Sequence[str], *, environment: dict[str, str], folder: Path, output_file: Path
) -> Measured:
    """Runs a command to its end and watches how `output_file` grows. What the command prints
    is kept in `folder`, and its end is in `printed`."""
    log = folder / "printed.txt"
    with log.open("wb") as printed:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        sampler = Sampler(process.pid, started, output_file)
        sampler.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # interrupted: nothing that was started stays
            process.kill()
            process.wait()
            raise
        finally:
            wall_s = time.monotonic() - started
            sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    size = output_file.stat().st_size if output_file.exists() else 0
    return Measured(
        exit_code=process.returncode,
        printed=log.read_text(encoding="utf-8", errors="replace")[-4000:],
        wall_s=wall_s,
        cpu_s=cpu_s,
        pss_mib=sampler.pss / MIB,
        rss_mib=sum(sampler.high_water.values()) / MIB,
        cpu=Course([*sampler.cpu, (wall_s, cpu_s)]),
        output_bytes=Course([*sampler.sizes, (wall_s, size)]),
    )


class Sampler(threading.Thread):
    """Looks at a process, its children and its output. The kernel's own high-water marks do
    not depend on the moment; those of rusage would count this process too, from before exec."""

    def __init__(self, pid: int, zero: float, output_file: Path) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._zero = zero
        self._output_file = output_file
        self._ended = threading.Event()
        self.pss = 0
        self.high_water: dict[int, int] = {}
        self.cpu: list[tuple[float, float]] = []
        self.sizes: list[tuple[float, float]] = []

    def run(self) -> None:
        looks = 0
        while not self._ended.wait(LOOK_EVERY_S):
            with contextlib.suppress(FileNotFoundError):
                size = self._output_file.stat().st_size
                self.sizes.append((time.monotonic() - self._zero, size))
            if looks % SAMPLE_EVERY == 0:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._sample()
            looks += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _sample(self) -> None:
        cpu_s = pss = 0.0
        for process in [self._root, *self._root.children(recursive=True)]:
            proc = Path("/proc", str(process.pid))
            # One that has just ended has no memory and its time is in its parent's.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                pss += _kilobytes(proc / "smaps_rollup", "Pss:") * 1024
                mark = _kilobytes(proc / "status", "VmHWM:") * 1024
                self.high_water[process.pid] = max(mark, self.high_water.get(process.pid, 0))
        self.pss = max(self.pss, int(pss))
        self.cpu.append((time.monotonic() - self._zero, cpu_s))


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0  # a process without memory, such as a zombie


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def busy_cores(during_s: float = 0.5) -> float:
    """How many cores were busy, whoever kept them so."""
    share = float(psutil.cpu_percent(interval=during_s)) / 100
    return share * (os.cpu_count() or 1)


def machine(folder: Path) -> dict[str, Any]:
    import openai
    import psycopg

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openai": openai.__version__,
        "psycopg": psycopg.__version__,
        "filesystem": _filesystem(folder),
        "fdatasync_ms": round(_fdatasync_s(folder) * 1000, 3),
        "load": [round(each, 2) for each in os.getloadavg()],
        "busy_cores_before": round(busy_cores(), 2),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    mounts = [
        part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)
    ]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _fdatasync_s(folder: Path, times: int = 50) -> float:
    """The median of appending 1 KB and syncing it."""
    path = folder / "fdatasync"
    took = []
    with path.open("ab", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 1024)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    path.unlink()
    return sorted(took)[times // 2]
