"""docs/options.md says what the program does. Run this file to write its tables anew."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from artist_bio_gen import config, errors
from artist_bio_gen.cli.main import SUBCOMMANDS

DOC = Path(__file__).resolve().parent.parent / "docs" / "options.md"
BEGIN = "<!-- options: made from the table in artist_bio_gen/config/ -->\n"
BAR = "\\|"
END = "<!-- /options -->\n"


def tables() -> str:
    """A table for each group of options, in the order of the help."""
    parts = []
    for group, options in groupby(config.OPTIONS.values(), lambda option: option.group):
        parts += [
            f"\n## {group}\n",
            "| option | variable | default | |",
            "| --- | --- | --- | --- |",
        ]
        parts += [row(option) for option in options]
    return "\n".join(parts) + "\n\n"


def row(option: config.Option) -> str:
    flag = f"`{option.flag} {option.kind.metavar}".strip() + "`" if option.flag else ""
    default = option.otherwise if option.default is None else f"`{option.shown_default()}`"
    cells = (flag, f"`{option.env}`", default, option.help)
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def with_tables(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables()}{END}{after}"


def test_the_guide_holds_every_option_as_the_program_has_it() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert with_tables(text) == text, f"write it anew with: python tests/{Path(__file__).name}"


def test_the_guide_holds_every_exit_code() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    listed = re.findall(r"^\| (\d+) \|", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code) for code in listed} == codes


def test_the_guide_holds_every_subcommand() -> None:
    text = DOC.read_text(encoding="utf-8")
    assert [name for name in SUBCOMMANDS if f"| `{name}` |" not in text] == []


if __name__ == "__main__":
    DOC.write_text(with_tables(DOC.read_text(encoding="utf-8")), encoding="utf-8")
