"""A fake of the model's API: a real HTTP server on loopback, in a process of its own.

`FakeApi` starts it from a test; `python -m tests.fakes.api --help` shows it as a command.
What it can do wrong stands in `faults`, how it is told to in `behaviour`, what it has seen in
`tally`.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROOT = Path(__file__).parents[3]
_CONTROL_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls are POSTs that reached the model: the sum of those in flight and those that ended
    as answered, error, cut or gone (see `tally.Ending`). What was billed is answered + cut,
    and gone where the client left a call that was being answered."""

    calls: int
    in_flight: int
    answered: int
    error: int
    cut: int
    gone: int
    statuses: dict[str, int]
    faults: dict[str, int]
    connections: int
    open_connections: int
    seen_by_artist: dict[str, int]
    answered_by_artist: dict[str, int]
    answered_by_text: dict[str, int]


class FakeApi:
    """Runs the fake for the length of a `with` block.

    `behaviour` takes the fields of `behaviour.Behaviour`: `FakeApi(latency=0.05,
    schedule="reset, ok*3")`. The process ends with the block, or with this process.
    """

    def __init__(self, *, log: Path | None = None, keep: int = 100, **behaviour: Any) -> None:
        self._command = [sys.executable, "-m", "tests.fakes.api", "--until-stdin-closes"]
        self._command += ["--keep", str(keep)]
        if log is not None:
            self._command += ["--log", str(log.absolute())]
        for name, value in behaviour.items():
            self._command += _flag(name, value)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._stop()
            raise RuntimeError(f"the fake API did not start: {' '.join(self._command)}")
        address = json.loads(line)
        self.host: str = address["host"]
        self.port: int = address["port"]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What `--base-url` and the `openai` package take."""
        return f"{self.address}/v1"

    def counts(self) -> Counts:
        return Counts(**self._ask("GET", "/_/counts"))

    def requests(self) -> list[dict[str, Any]]:
        """The last ones: method, target, headers (names in lower case), body as text. The
        questions asked by this class are among them."""
        listed: list[dict[str, Any]] = self._ask("GET", "/_/requests")
        return listed

    def script(self, **changes: Any) -> None:
        """Changes the named fields of the behaviour. Raises ValueError for wrong ones."""
        self._ask("POST", "/_/script", changes)

    def clear(self) -> None:
        """Sets all counts to zero, to be called while nothing is in flight."""
        self._ask("POST", "/_/clear")

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_CONTROL_TIMEOUT_S)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body)
            reply = connection.getresponse()
            told = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(told["error"]["message"])
        return told

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return [f"--{flag}={text}"]
