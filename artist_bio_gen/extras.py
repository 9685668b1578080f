"""Packages that only some sources need."""

from __future__ import annotations

import importlib
from types import ModuleType

from artist_bio_gen.errors import ConfigError


def require(module: str, *, extra: str, what: str) -> ModuleType:
    """Imports a package of an extra. ConfigError tells how to get it where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and lacks something itself
        raise ConfigError(
            f"{what} needs the package {module.partition('.')[0]}, which is not installed;"
            f" pip install 'artist-bio-gen[{extra}]'"
        ) from exc
