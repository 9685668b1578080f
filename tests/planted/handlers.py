"""Which `except` branches do the tests run, and which `on_failure`? In a copy, each is made to note
itself.

    python -m tests.planted.handlers DATABASE_URL [--all]

prints the branches that none of the tests runs: those of `WATCHED` by `TESTS`, with `--all` those
of `ALL_WATCHED` by `ALL_TESTS`.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.planted.workshop import PACKAGE, ROOT, Ran, copy_tree, run

WATCHED = (
    *(f"ledger/{name}.py" for name in ("check", "failures", "files", "journal", "ledger", "line")),
    *("ledger/segments.py", "ledger/sharing.py", "processor", "resume.py", "pending"),
    *("database/session.py", "database/store.py"),
)
"""Modules and folders of the package that stand between a reply and its line: where a paid text
could be lost, or bought twice."""

TESTS = (
    *(f"tests/test_{name}.py" for name in ("caller", "clerk", "control", "crew", "files")),
    *(
        f"tests/test_{name}.py"
        for name in ("journal", "ledger", "pending", "pool", "segments", "space")
    ),
    *(f"tests/integration/test_{name}.py" for name in ("committer", "races", "resume", "store")),
)

ALL_WATCHED = (*WATCHED, "ledger", "verify.py", "repair.py", "restore.py", "adopt.py")
ALL_TESTS = ("tests/test_*.py", "tests/integration/test_*.py", "tests/faults/test_*.py")

PATIENCE_S = 1800.0

MODULE = "tests.planted.handlers"  # this one, also when it is run as a command
NOTES = Path(__file__).with_name("handlers.txt")
"""Where the branches of a copy note themselves: it has a copy of this module too."""

_noted: set[str] = set()


def ran(name: str) -> None:
    """Called by each branch of the copy."""
    if name not in _noted:
        _noted.add(name)
        fd = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{name}\n".encode())
        os.close(fd)


def files_of(names: Sequence[str], root: Path) -> list[Path]:
    paths = [root / PACKAGE / name for name in names]
    return sorted(
        {found for path in paths for found in (path.rglob("*.py") if path.is_dir() else [path])}
    )


class _Marker(ast.NodeTransformer):
    """Gives each branch a first statement that notes its name, such as
    `ledger/files.py: held: except OSError`; what is undone on a failure notes itself first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._within: list[str] = []
        self._seen: Counter[str] = Counter()
        self.names: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        call = self._note(f"except {ast.unparse(node.type) if node.type else ''}")
        self.generic_visit(node)
        node.body[:0] = ast.parse(call).body
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(ast.Name("on_failure"), [undo]):
                call = self._note(f"on_failure({ast.unparse(undo)})")
                both = f"lambda: ({call}, ({ast.unparse(undo)})())"
                node.args = [ast.parse(both, mode="eval").body]
        return node

    def _note(self, branch: str) -> str:
        """The call that notes it, under a name of its own."""
        name = f"{self._file}: {'.'.join(self._within)}: {branch}".strip()
        self._seen[name] += 1
        if self._seen[name] > 1:
            name += f" (number {self._seen[name]})"
        self.names.append(name)
        return f"__import__({MODULE!r}, fromlist=['ran']).ran({name!r})"

    def _inside(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()
        return node


def mark(root: Path, watched: Sequence[str] = WATCHED) -> list[str]:
    """Marks the branches of the copy at `root`. Their names."""
    names = []
    for path in files_of(watched, root):
        marker = _Marker(str(path.relative_to(root / PACKAGE)))
        tree = marker.visit(ast.parse(path.read_text(encoding="utf-8")))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n", encoding="utf-8")
        names += marker.names
    return names


def branches_not_run(
    copy: Path,
    database_url: str,
    watched: Sequence[str] = WATCHED,
    tests: Sequence[str] = TESTS,
) -> tuple[list[str], list[str], Ran]:
    """Runs the tests in a marked copy, to be made at `copy`. All branches, those that were not
    run, and what came of the tests."""
    names = mark(copy_tree(copy), watched)
    notes = copy / NOTES.relative_to(ROOT)
    notes.touch()
    nodes = [str(path.relative_to(copy)) for name in tests for path in sorted(copy.glob(name))]
    came = run(nodes, copy, database_url, patience_s=PATIENCE_S)
    return names, sorted(set(names) - set(notes.read_text(encoding="utf-8").split("\n"))), came


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database_url", help="of a server where databases may be made")
    parser.add_argument("--all", action="store_true", help="what takes many minutes")
    options = parser.parse_args()
    what = (ALL_WATCHED, ALL_TESTS) if options.all else (WATCHED, TESTS)
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        names, not_run, came = branches_not_run(Path(folder) / "c", options.database_url, *what)
    print("\n".join(not_run))
    print(f"{len(names) - len(not_run)} of {len(names)} branches are run", file=sys.stderr)
    if came.exit_code != 0:
        print(came.printed, file=sys.stderr)
    return 1 if not_run or came.exit_code else 0


if __name__ == "__main__":
    sys.exit(main())
