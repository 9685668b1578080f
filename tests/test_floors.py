"""Who may import whom. `FLOORS` is the plan of the package; these tests hold it.

A module imports only what stands on a lower floor. The members of one floor do not know each
other; the modules of one member (a folder) may import each other, but never in a circle. Imports
inside functions and for type checkers count like all others.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "artist_bio_gen"

FLOORS: Mapping[int, frozenset[str]] = {
    1: frozenset({"values", "errors", "masking", "failing"}),
    2: frozenset({"telemetry", "sandbox"}),
    3: frozenset({"memory", "prompts", "config", "stream", "extras", "key_columns"}),
    4: frozenset(
        {
            *("parser", "repeats", "generator", "database", "ledger"),
            *("sources", "destinations"),
        }
    ),
    5: frozenset({"processor", "resume", "pending", "dry_run", "verify", "jobs"}),
    6: frozenset({"books", "front", "intake", "result", "adoption", "repair", "restore"}),
    7: frozenset({"runner", "adopt", "rows", "engines"}),
    8: frozenset({"cli", "web"}),
}
FLOOR_OF = {member: floor for floor, members in FLOORS.items() for member in members}

SLOW_TO_IMPORT = ("psycopg", "openai", "rich", "jinja2", "tenacity", "filelock", "http.client")
"""What `artist-bio-gen --help` has no use for."""

Imports = Mapping[str, frozenset[str]]
"""For each module of the package, the modules of the package that it imports."""


def read_modules(package: Path) -> dict[str, ast.Module]:
    """Every module of the package by its full name; a folder's `__init__` has the folder's."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return modules


def read_imports(package: Path) -> Imports:
    modules = read_modules(package)
    folders = {name for name in modules if (package.parent / name.replace(".", "/")).is_dir()}
    return {
        name: frozenset(
            imported
            for target in _targets(tree, name if name in folders else name.rpartition(".")[0])
            if (imported := _known(target, modules)) and imported != name
        )
        for name, tree in modules.items()
    }


def _targets(tree: ast.Module, folder: str) -> Iterator[str]:
    """The dotted names that a module asks for; the last part may be a module or a name in one."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                above = folder.split(".")[: len(folder.split(".")) - (level or 1) + 1]
                start = ".".join([*(above if level else []), *([module] if module else [])])
                yield from (f"{start}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield target


def _known(target: str, modules: Iterable[str]) -> str | None:
    """The module of the package in which `target` is found; None for other packages."""
    while target:
        if target in modules:
            return target
        target = target.rpartition(".")[0]
    return None


def member(module: str) -> str:
    """The first name below the package; `python -m artist_bio_gen` is a door of the cli."""
    name = module.split(".")[1]
    return "cli" if name == "__main__" else name


def floor_faults(imports: Imports) -> list[str]:
    faults = []
    for module, targets in imports.items():
        if module == PACKAGE:
            faults += [f"{module} imports {target}; it imports nothing" for target in targets]
            continue
        here = FLOOR_OF.get(member(module))
        if here is None:
            faults.append(
                f"{module} stands on no floor: give {member(module)!r} its place in FLOORS of "
                f"tests/test_floors.py, one floor above the highest module it imports"
            )
            continue
        for target in sorted(targets - {PACKAGE}):
            there = FLOOR_OF.get(member(target))
            if member(target) != member(module) and there is not None and there >= here:
                faults.append(
                    f"{module} (floor {here}) imports {target} (floor {there}): imports go down "
                    f"only; move what both need to a lower floor, or pass it as an argument"
                )
    return faults


def circle(imports: Imports) -> list[str]:
    """The modules of one circle of imports, the first one again at the end; [] if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


DDL = re.compile(
    r"\b(?:create|alter|drop)\s+(?:or\s+replace\s+)?(?:unlogged\s+|unique\s+)*"
    r"(?:table|index|schema|sequence|view|function|trigger|type|extension)\b",
    re.IGNORECASE,
)
"""A temporary table is no part of the schema: `create temp table` does not match."""


def ddl(tree: ast.Module) -> Iterator[str]:
    """The statements in a module's text constants; docstrings may speak of them."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in prose
            and (found := DDL.search(node.value))
        ):
            yield f"line {node.lineno}: {found[0]}"


def package(folder: Path, **modules: str) -> Path:
    """A package of the given modules; `ledger__line` stands for ledger/line.py."""
    root = folder / PACKAGE
    for name, text in {"__init__": "", **modules}.items():
        path = root.joinpath(*name.split("__")) if name != "__init__" else root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text, encoding="utf-8")
        if path.parent != root:
            path.with_name("__init__.py").touch()
    return root


def test_imports_go_down_only() -> None:
    assert floor_faults(read_imports(ROOT / PACKAGE)) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(read_imports(ROOT / PACKAGE)) == []


def test_schema_is_changed_in_sql_files_only() -> None:
    found = {
        name: statements
        for name, tree in read_modules(ROOT / PACKAGE).items()
        if (statements := list(ddl(tree)))
    }
    assert found == {}, "a change of the schema is a numbered file in sql/"


def test_command_line_starts_without_slow_imports() -> None:
    script = f"import sys, {PACKAGE}.cli.main; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    assert [name for name in SLOW_TO_IMPORT if name in loaded] == []


@pytest.mark.parametrize(
    ("modules", "fault"),
    [
        ({"values": f"import {PACKAGE}.runner", "runner": ""}, "values (floor 1) imports"),
        ({"values": "from . import errors", "errors": ""}, "values (floor 1) imports"),
        (
            {"sources__csv": f"from {PACKAGE}.ledger.line import x", "ledger__line": "x = 1"},
            "sources.csv (floor 4) imports artist_bio_gen.ledger.line (floor 4)",
        ),
        (
            {"resume": "def f():\n    from .cli.main import main", "cli__main": "main = 1"},
            "resume (floor 5) imports artist_bio_gen.cli.main (floor 8)",
        ),
        (
            {"sources__csv": "from ..runner import run", "runner": "run = 1"},
            "sources.csv (floor 4) imports artist_bio_gen.runner (floor 7)",
        ),
        (
            {"parser": f"importlib.import_module('{PACKAGE}.web')", "web": ""},
            "parser (floor 4) imports artist_bio_gen.web (floor 8)",
        ),
        ({"__init__": "from . import values", "values": ""}, "it imports nothing"),
        ({"utils": ""}, "'utils' its place in FLOORS"),
    ],
)
def test_an_import_against_the_floors_is_found(
    tmp_path: Path, modules: dict[str, str], fault: str
) -> None:
    (found,) = floor_faults(read_imports(package(tmp_path, **modules)))
    assert fault in found


def test_a_circle_inside_one_folder_is_found(tmp_path: Path) -> None:
    imports = read_imports(
        package(tmp_path, ledger__line="from . import files", ledger__files="from . import line")
    )
    assert floor_faults(imports) == []
    assert set(circle(imports)) == {f"{PACKAGE}.ledger.line", f"{PACKAGE}.ledger.files"}


def test_downhill_imports_and_other_packages_pass(tmp_path: Path) -> None:
    imports = read_imports(
        package(
            tmp_path,
            values="import hashlib",
            ledger__files="import os, filelock",
            ledger__line=f"from .files import sync\nfrom {PACKAGE} import __version__, values",
            runner="from .ledger import line",
        )
    )
    assert floor_faults(imports) == []
    assert circle(imports) == []
    assert imports[f"{PACKAGE}.ledger.line"] == {
        PACKAGE,
        f"{PACKAGE}.ledger.files",
        f"{PACKAGE}.values",
    }


@pytest.mark.parametrize(
    ("statement", "is_ddl"),
    [
        ("CREATE TABLE runs ()", True),
        ("create unique index on runs (id)", True),
        ("alter table runs add x int", True),
        ("drop schema\n x", True),
        ("create temp table ids (id text) on commit drop", False),
        ("insert into runs values (1)", False),
    ],
)
def test_changes_of_the_schema_are_found_in_text_constants(statement: str, is_ddl: bool) -> None:
    assert bool(list(ddl(ast.parse(f"x = {statement!r}")))) is is_ddl
    assert list(ddl(ast.parse(repr(statement)))) == [], "a docstring is prose"
