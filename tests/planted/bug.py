"""What a planted bug is: changes of the package's text, and the tests that must catch them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """In `file` (below the package) `old`, which stands there exactly once, becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """`caught_by` are node ids of pytest: of each, a test function with or without a case, at
    least one case must fail in the copy with the bug, and all must pass in a copy without."""

    name: str
    changes: tuple[Change, ...]
    caught_by: tuple[str, ...]


def tests_of(file: str, *names: str) -> tuple[str, ...]:
    """Node ids of these functions or cases in a file below `tests`."""
    return tuple(f"tests/{file}::{name}" for name in names)
