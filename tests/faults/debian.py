"""What a test needs from Debian, installed where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess


def install(package: str) -> None:
    """As root, where there is apt-get; elsewhere nothing happens, and the test says what it
    lacks."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update",), ("install", "--yes", "--no-install-recommends", package)):
        subprocess.run([apt, "-qq", *words], env=quiet, capture_output=True, check=False)
