"""What the local model decides before it starts; that it runs is in integration/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import artist_bio_gen
from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.local import (
    available_memory,
    choose_weights,
    require_memory,
    usable_cpus,
)

MIB = 1 << 20


def weights(folder: Path, size: int) -> Path:
    """A file of this size that takes no room."""
    path = folder / "big.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size)
    return path


def test_model_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    file = weights(tmp_path, 1000 * MIB)
    with pytest.raises(ConfigError, match=r"big.gguf needs about 2\.3 GB of memory with 4 slots"):
        require_memory(file, 4, 2000 * MIB)
    require_memory(file, 4, 2150 * MIB)
    require_memory(file, 4, None)


def test_each_slot_needs_memory(tmp_path: Path) -> None:
    file = weights(tmp_path, 1000 * MIB)
    with pytest.raises(ConfigError, match="--workers"):
        require_memory(file, 64, 2150 * MIB)


def test_available_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:    42 kB\n")
    assert available_memory(meminfo) == 42 * 1024
    meminfo.write_text("MemTotal:  100 kB\n")
    assert available_memory(meminfo) is None
    assert available_memory(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", None)],
)
def test_threads_keep_to_the_quota_of_the_container(
    tmp_path: Path, quota: str, cpus: int | None
) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(f"{quota}\n")
    assert usable_cpus(cpu_max) == (cpus or len(os.sched_getaffinity(0)))


def test_without_a_quota_all_cpus_are_used(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_file_of_ones_own_is_called_by_its_name(tmp_path: Path) -> None:
    file = weights(tmp_path, 100)
    chosen = choose_weights(str(file), tmp_path / "models")
    assert chosen.name == "big"
    assert chosen.open(print) == file


def test_missing_runtime_says_what_to_install(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from artist_bio_gen.errors import ConfigError
from artist_bio_gen.generator.local import LocalModel
try:
    LocalModel(Path(sys.argv[2]), slots=1, say=print).__enter__()
except ConfigError as error:
    print(error)
"""
    root = Path(artist_bio_gen.__file__).parent.parent
    told = subprocess.run(
        # -S: no installed package is found, as in an environment without the runtime
        [sys.executable, "-S", "-c", script, root, weights(tmp_path, 100)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pip install '.[embedded]'" in told
