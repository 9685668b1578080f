"""The local model as it is: the real runtime, with the smallest model of the catalogue."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.errors import ConfigError, LimitError, Unavailable
from artist_bio_gen.generator.catalogue import find_weights, named, state
from artist_bio_gen.generator.local import LocalModel
from artist_bio_gen.values import Artist, Bio
from tests.acceptance.harness import wait_for
from tests.builders import Simple, one_call

pytestmark = pytest.mark.model

MODEL = named("smollm2-135m")
PATIENCE_S = 60

HOLD = """
import sys
from pathlib import Path
from artist_bio_gen.generator.local import LocalModel
with LocalModel(Path(sys.argv[1]), slots=1, say=lambda line: None) as local:
    print(local.pid, flush=True)
    sys.stdin.read()
"""
"""A process that holds a local model until its standard input closes."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs: pip install '.[embedded]'")
    if state(MODEL, folder) == "missing":
        pytest.skip(f"needs: {MODEL.install_command}")
    return find_weights(MODEL.name, folder, print)


@pytest.fixture(scope="module")
def local(weights: Path) -> Iterator[LocalModel]:
    with LocalModel(weights, slots=2, say=print, name=MODEL.name) as server:
        yield server


def post(local: LocalModel, path: str, body: dict[str, object], key: str | None = None) -> Any:
    request = urllib.request.Request(
        local.base_url + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key or local.api_key}", "Content-Type": "application/json"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PATIENCE_S) as reply:
        return json.load(reply)


@contextmanager
def process(pid: int) -> Iterator[int]:
    """A descriptor that can be read once the process has ended, whosever child it is."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ended(descriptor: int, patience: float = PATIENCE_S) -> bool:
    return bool(select.select([descriptor], [], [], patience)[0])


def children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def opens_a_pipe(pid: int) -> bool:
    """Whether one of its threads stands in open(2) of a named pipe without another end."""
    places = (each / "wchan" for each in Path(f"/proc/{pid}/task").iterdir())
    return any(place.read_text() == "wait_for_partner" for place in places)


def chat(text: str, limit: int) -> dict[str, object]:
    return {
        "model": MODEL.name,
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": text},
        ],
        "temperature": 0,
        "max_tokens": limit,
    }


def test_chat_is_answered(local: LocalModel) -> None:
    reply = post(local, "/chat/completions", chat("What is the capital of France?", 60))
    (choice,) = reply["choices"]
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    assert reply["model"] == MODEL.name
    assert reply["usage"]["completion_tokens"] < 60


def test_chat_that_is_cut_says_so(local: LocalModel) -> None:
    reply = post(local, "/chat/completions", chat("Count to a thousand.", 5))
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5


def test_responses_are_answered(local: LocalModel) -> None:
    body = {
        "model": MODEL.name,
        "instructions": "Answer in one word.",
        "input": "What is the capital of France?",
        "temperature": 0,
        "max_output_tokens": 60,
    }
    reply = post(local, "/responses", body)
    assert reply["status"] == "completed"
    assert reply["model"] == MODEL.name
    assert "Paris" in reply["output"][0]["content"][0]["text"]


def test_responses_that_are_cut_are_told_by_their_usage_alone(local: LocalModel) -> None:
    body = {"model": MODEL.name, "input": "Count to a thousand.", "max_output_tokens": 5}
    reply = post(local, "/responses", body)
    assert reply["status"] == "completed", "if this has changed, rely on it"
    assert reply["usage"]["output_tokens"] == 5


def test_only_the_key_lets_in_and_it_is_not_on_view(local: LocalModel) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(local, "/chat/completions", chat("Hello", 1), key="another")
    refused.value.close()
    assert refused.value.code == 401
    assert local.api_key.encode() not in Path(f"/proc/{local.pid}/cmdline").read_bytes()
    assert local.api_key.encode() not in Path(f"/proc/{local.pid}/environ").read_bytes()


def test_listens_on_this_machine_only_and_away_from_the_terminal(local: LocalModel) -> None:
    assert local.base_url.startswith("http://127.0.0.1:")
    assert os.getpgid(local.pid) != os.getpgid(0), "Ctrl+C is sent to the whole group"


def test_ends_with_the_block(weights: Path) -> None:
    with LocalModel(weights, slots=1, say=print) as local, process(local.pid) as server:
        assert not ended(server, 0)
        local.__exit__(None, None, None)
        assert ended(server, 0), "and has ended when the block is left"


def test_ends_when_its_parent_is_killed(weights: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLD, weights], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout
        with process(int(parent.stdout.readline())) as server:
            assert not ended(server, 0)
            parent.kill()
            assert ended(server)


def test_ends_when_its_parent_is_killed_while_it_loads(weights: Path, tmp_path: Path) -> None:
    """Loading holds Python's lock: from a pipe that nobody opens at its other end, for ever."""
    never = tmp_path / "never.gguf"
    os.mkfifo(never)
    parent = subprocess.Popen([sys.executable, "-c", HOLD, never], stdin=subprocess.PIPE)
    with parent:
        try:
            wait_for(lambda: any(map(opens_a_pipe, children(parent.pid))), PATIENCE_S)
            (child,) = children(parent.pid)
            with process(child) as server:
                assert not ended(server, 0)
                parent.kill()
                assert ended(server)
        finally:
            parent.kill()


def test_start_that_takes_too_long_is_given_up(weights: Path, tmp_path: Path) -> None:
    never = tmp_path / "never.gguf"
    os.mkfifo(never)
    with pytest.raises(ConfigError, match=r"was not ready after 0\.2 s"):
        LocalModel(never, slots=1, say=print, start_timeout=0.2).__enter__()


def test_weights_that_cannot_be_loaded_are_told_with_the_last_words(
    weights: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF\x03\0\0\0 and nothing that fits")
    with pytest.raises(ConfigError, match=r"(?s)bad\.gguf\) ended: exit code 1\n.*failed to load"):
        LocalModel(bad, slots=1, say=print).__enter__()


@pytest.mark.parametrize("fails_late", [False, True])
def test_call_to_a_server_that_was_killed_tells_why(weights: Path, fails_late: bool) -> None:
    def call(artist: Artist, attempt: str) -> Bio:
        raise Unavailable("connection refused", kind="connection")

    artist = Artist(1, "1", "Nina Simone")
    with LocalModel(weights, slots=1, say=print) as local:
        watched = local.watched(Simple(call, fails_late=fails_late))
        with pytest.raises(Unavailable):
            one_call(watched, artist)  # while it runs, an error is what it is
        os.kill(local.pid, signal.SIGKILL)
        os.waitid(os.P_PID, local.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LimitError, match="ended: killed, probably since memory ran out"):
            one_call(watched, artist)
