#!/usr/bin/env python3
"""All targets in one table, from what the benchmarks have written with --json.

Of a measure that stands in several files the last one given counts; a target that no file has
measured is shown as such. With --into a page gets this table between `<!-- targets -->` and
`<!-- /targets -->`, and the table of each file, with the machine it was seen on, between the
marks of the file's name: `throughput.json` stands between `<!-- throughput -->` and
`<!-- /throughput -->`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _targets import judged


def placed(page: str, name: str, text: str) -> str:
    """The page with the text between the marks of that name; as it is where it has none.
    Raises ValueError when only one of them is there."""
    before, begin, rest = page.partition(f"<!-- {name} -->")
    if not begin:
        return page
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise ValueError(f"<!-- {name} --> has no <!-- /{name} --> behind it")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def seen_on(machine: Mapping[str, Any]) -> str:
    load, after = (", ".join(map(str, machine[name])) for name in ("load", "load_after"))
    return (
        f"Seen on: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB,"
        f" Linux {machine['kernel'].split('-')[0]}, Python {machine['python']}; an fdatasync of"
        f" 1 KB takes {machine['fdatasync_ms']:g} ms; load before {load}, after {after}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    told = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in options.files}
    measures: dict[str, float] = {}
    for each in told.values():
        measures |= each.get("measures", {})
    targets = "\n".join(judged(measures, all_of_them=True))
    print(targets)
    if options.into:
        texts = {"targets": targets}
        for name, each in told.items():
            if "table" in each:
                texts[name] = "\n".join([*each["table"], "", seen_on(each["machine"])])
        page = options.into.read_text(encoding="utf-8")
        try:
            for name, text in texts.items():
                page = placed(page, name, text)
        except ValueError as exc:
            print(f"judge.py: {options.into}: {exc}", file=sys.stderr)
            return 1
        options.into.write_text(page, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="write the tables there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
