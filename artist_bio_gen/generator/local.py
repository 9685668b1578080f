"""The local model: llama.cpp's HTTP server in a process of its own, spoken to like any other API.

A process of its own, because a crash in the native code, or the kernel when memory runs out,
must not end the run; because it takes 2 GB and ends completely, with the threads it keeps
spinning; and because loading holds Python's lock for seconds.

It ends with its parent, however that ends: it holds the reading end of a pipe whose writing end
only the parent has, and has asked the kernel for SIGIO, which ends it, when that end closes.
PR_SET_PDEATHSIG would look at the thread that started it, which may end before the process does.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from artist_bio_gen.errors import CallFailed, ConfigError, LimitError, Unavailable
from artist_bio_gen.failing import on_failure
from artist_bio_gen.generator.catalogue import choose, make_ready, models_dir
from artist_bio_gen.generator.weights import Say, size_text

if TYPE_CHECKING:  # the server's process has no use for them
    from artist_bio_gen.values import Answered, Artist, Bio, Generate, Prepared

SLOT_TOKENS = 2048
"""Context of one slot: prompt and bio together."""
START_TIMEOUT = 300.0

_RUNTIME = "xllamacpp"
_INSTALL = "pip install '.[embedded]'"
_STDERR_LINES = 12
_ERRORS_ONLY = 1
"""llama.cpp's verbosity; at its default it tells each request."""

# Measured with the catalogue's models: the file, which is mapped, once more its larger part,
# which the CPU code rearranges in memory, and per slot its context with what computing takes.
_MEMORY_PER_BYTE = 1.75
_MEMORY_PER_SLOT = 100 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """A local model that was chosen: its weights are there. `open` gives the file, and may have
    to join and check it first."""

    name: str
    open: Callable[[Say], Path]


def choose_weights(name_or_path: str | None, folder: Path | None = None) -> Weights:
    """`folder` None means the user's models folder. Raises ConfigError; see `catalogue.choose`."""
    folder = folder or models_dir()
    chosen = choose(name_or_path, folder)
    if isinstance(chosen, Path):
        return Weights(chosen.stem, lambda say: chosen)
    return Weights(chosen.name, partial(make_ready, chosen, folder))


class LocalModel:
    """The server, while the `with` block lasts.

    `slots` is how many bios are written at a time; more calls wait in its queue. `threads` None
    means all CPUs that this process may use. Raises ConfigError when it cannot start.
    """

    def __init__(
        self,
        weights: Path,
        *,
        slots: int,
        say: Say,
        name: str | None = None,
        threads: int | None = None,
        start_timeout: float = START_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = name or weights.stem
        self.api_key = secrets.token_urlsafe(32)
        self.base_url = ""
        self._weights = weights
        self._slots = slots
        self._threads = threads or usable_cpus()
        self._say = say
        self._start_timeout = start_timeout
        self._clock = clock
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)

    def __enter__(self) -> Self:
        if importlib.util.find_spec(_RUNTIME) is None:
            raise ConfigError(
                f"the local model's runtime is not installed; run: {_INSTALL}"
                " (or set OPENAI_API_KEY to use an API)"
            )
        require_memory(self._weights, self._slots, available_memory())
        begun = self._clock()
        self._say(f"loading {self.model} ({size_text(self._weights.stat().st_size)})")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl+C is the parent's affair
        )
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        with on_failure(self._end):
            self.base_url = f"{self._address()}/v1"
        self._say(
            f"local model ready in {self._clock() - begun:.1f} s: {self.model},"
            f" {self._slots} at a time, {self._threads} threads, at {self.base_url}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def watched(self, generate: Generate) -> Generate:
        """The same, but when a call failed and the server is gone, a LimitError tells why: to wait
        for an answer, as for a server elsewhere, would be in vain."""
        return _Watched(generate, self._require_alive)

    def _require_alive(self, exc: Exception) -> None:
        code = self._process.poll()
        if code is not None:
            raise LimitError(self._told_by(code)) from exc

    def _address(self) -> str:
        """Hands over the task and waits for the address, which the server tells when it is ready
        to answer."""
        process = self._process
        assert process.stdin
        assert process.stdout
        task = {
            "weights": str(self._weights),
            "alias": self.model,
            "slots": self._slots,
            "threads": self._threads,
            "api_key": self.api_key,  # not in the arguments, which everybody can read
        }
        with contextlib.suppress(BrokenPipeError):  # it ended at once; why is told below
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        ready = select.poll()
        ready.register(process.stdout, select.POLLIN | select.POLLHUP)
        if not ready.poll(self._start_timeout * 1000):
            raise ConfigError(
                f"the local model {self.model} was not ready after {self._start_timeout:g} s;"
                " is the disk slow, or the machine busy? Try again, or take a smaller model"
                " (artist-bio-gen model list)"
            )
        address = process.stdout.readline().decode().strip()
        if not address:
            raise ConfigError(self._told_by(process.wait()))
        return address

    def _told_by(self, code: int) -> str:
        self._reader.join()
        reason = {
            -signal.SIGKILL: "killed, probably since memory ran out; take fewer workers"
            " (--workers) or a smaller model (artist-bio-gen model list)",
            -signal.SIGILL: "the processor lacks an instruction that the runtime needs (AVX2);"
            " use an API (OPENAI_API_KEY)",
        }.get(code, f"signal {-code}" if code < 0 else f"exit code {code}")
        return "\n  ".join(
            [f"the local model {self.model} ({self._weights}) ended: {reason}", *self._stderr]
        )

    def _read_stderr(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._stderr.append(line.decode(errors="replace").rstrip())

    def _end(self) -> None:
        self._process.kill()  # it has nothing to save
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe
            with contextlib.suppress(BrokenPipeError):  # the unread task of one that ended at once
                pipe.close()


class _Watched:
    """A model whose server may end; `require_alive` raises what is told then."""

    def __init__(self, generate: Generate, require_alive: Callable[[Exception], None]) -> None:
        self._generate = generate
        self._require_alive = require_alive

    def prepare(self, artist: Artist) -> Prepared:
        return self._generate.prepare(artist)

    def ask(self, prepared: Prepared, request_id: str) -> Answered:
        try:
            return self._generate.ask(prepared, request_id)
        except (Unavailable, CallFailed) as exc:
            self._require_alive(exc)
            raise

    def read(self, answered: Answered) -> Bio:
        try:
            return self._generate.read(answered)
        except (Unavailable, CallFailed) as exc:
            self._require_alive(exc)
            raise


def require_memory(weights: Path, slots: int, available: int | None) -> None:
    """ConfigError when the model does not fit into `available` bytes; None means unknown."""
    needed = int(weights.stat().st_size * _MEMORY_PER_BYTE) + slots * _MEMORY_PER_SLOT
    if available is not None and available < needed:
        raise ConfigError(
            f"{weights.name} needs about {size_text(needed)} of memory with {slots} slots, and"
            f" {size_text(available)} are available; take fewer workers (--workers) or a smaller"
            " model (artist-bio-gen model list), or use an API (OPENAI_API_KEY)"
        )


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that can be had without swapping, as the kernel estimates it; None if it does not."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def usable_cpus(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: its affinity, and the quota of its container. Spinning
    threads beyond a quota would use it up without computing."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
    except OSError:
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def _environment() -> dict[str, str]:
    """The server's: it finds the packages that this process finds, in the same order, and its
    threads do not spin while they wait."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "GOMP_SPINCOUNT": "0"}


def serve() -> None:
    """The server's process. Reads its task from standard input, one line, writes its address to
    standard output, and runs until standard input closes."""
    task = json.loads(sys.stdin.buffer.readline())
    _end_with_parent(sys.stdin.fileno())
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever native code prints is no address
    runtime: Any = importlib.import_module(_RUNTIME)
    told = runtime.CommonParams()
    told.model.path = task["weights"]
    told.model_alias = {task["alias"]}
    told.n_parallel = task["slots"]
    told.n_ctx = SLOT_TOKENS * task["slots"]
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = task["threads"]
    told.hostnames = ["127.0.0.1"]
    told.port = 0
    told.api_keys = [task["api_key"]]
    told.cache_ram_mib = 0  # its default takes up to 8 GiB
    told.fit_params = False
    told.ui = False
    told.offline = True
    told.verbosity = _ERRORS_ONLY
    server = runtime.Server(told)
    os.write(answer, f"{server.listening_address}\n".encode())
    os.close(answer)
    os.read(sys.stdin.fileno(), 1)


def _end_with_parent(pipe: int) -> None:
    """The kernel sends SIGIO, which ends the process, when the pipe's other end closes; also
    while native code holds Python's lock."""
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
