"""The command where its standard streams, or its folder, are not what a program expects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artist_bio_gen.errors import EXIT_CONFIG, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LIMIT

ROOT = Path(__file__).resolve().parent.parent
COMMAND = f"{sys.executable} -m artist_bio_gen"
ENVIRON = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "OPENAI_API_KEY": "sk-test-key",
    "ARTIST_BIO_GEN_MODEL": "gpt-test",
}
DRY_RUN = "--input a.csv --dry-run"


def shell(words: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and error output of the command with these words, as a shell reads them."""
    folder.joinpath("a.csv").write_text("id,name\n1,Nina Simone\n")
    ended = subprocess.run(
        ["sh", "-c", f"{COMMAND} {words}"], capture_output=True, text=True, env=ENVIRON, cwd=folder
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["--help", DRY_RUN, "config"])
def test_a_closed_stream_is_no_error(words: str, closed: str, tmp_path: Path) -> None:
    code, _, said = shell(f"{words} {closed}", tmp_path)
    assert (code, "Traceback" in said) == (0, False)


def test_a_closed_input_is_an_empty_one(tmp_path: Path) -> None:
    code, _, said = shell("--input - --dry-run <&-", tmp_path)
    assert code == EXIT_INPUT
    assert "standard input is empty" in said


def test_a_closed_stream_keeps_its_number_from_other_files() -> None:
    script = (
        "from artist_bio_gen.cli.streams import open_missing\n"
        "import os, sys\n"
        "open_missing()\n"
        "number = os.open('/dev/zero', os.O_RDONLY)\n"
        "os.write(2, b'%d %r' % (number, sys.stdout.write('lost')))\n"
    )
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} - 0<&0 >&-"],
        input=script,
        text=True,
        stderr=-1,
        env=ENVIRON,
    )
    assert int(ended.stderr.split()[0]) > 2


def test_a_full_output_keeps_the_exit_code_of_the_run_and_the_summary(tmp_path: Path) -> None:
    code, _, said = shell(f"{DRY_RUN} >/dev/full", tmp_path)
    assert code == 0
    assert "error: the standard output takes no more (No space left on device)" in said
    assert "1 artists would be looked up" in said
    assert "Traceback" not in said


def test_where_nothing_can_be_told_the_exit_code_is_kept(tmp_path: Path) -> None:
    assert shell(f"{DRY_RUN} >/dev/full 2>&1", tmp_path)[0] == 0
    assert shell("--input gone.csv --dry-run >/dev/full 2>&1", tmp_path)[0] == EXIT_INPUT
    assert shell("--workers 0 >/dev/full 2>&1", tmp_path)[0] == 2


@pytest.mark.parametrize("words", ["--help", "--version", "config", "config --json"])
def test_what_cannot_be_printed_is_an_error_in_one_line(words: str, tmp_path: Path) -> None:
    code, _, said = shell(f"{words} >/dev/full", tmp_path)
    assert code == EXIT_LIMIT
    assert said == "error: the standard output takes no more: No space left on device\n"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    code, _, said = shell(
        "--version && mkdir d && cd d && rmdir ../d && " + COMMAND + " config", tmp_path
    )
    assert code == EXIT_CONFIG
    assert said.startswith("error: the current folder is gone")
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["artist_bio_gen.config", "artist_bio_gen.runner"])
def test_a_signal_while_the_program_is_loaded_ends_it_in_one_line(
    name: str, module: str, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        f"            os.kill(os.getpid(), signal.{name})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from artist_bio_gen.__main__ import main\n"
        "sys.argv[1:] = ['--input', 'a.csv', '--dry-run']\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRON, cwd=tmp_path
    )
    assert (ended.returncode, ended.stderr) == (EXIT_INTERRUPTED, "error: interrupted\n")
