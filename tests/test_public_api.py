"""What scripts may import from the package: lazily, with types, and what it does to files."""

from __future__ import annotations

import ast
import errno
import json
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import artist_bio_gen
from artist_bio_gen import append_jsonl_response, open_ledger_lines, write_jsonl_output
from artist_bio_gen.errors import LedgerError, LedgerFileError, UsageError
from artist_bio_gen.ledger.segments import beside, segment_path
from tests.builders import make_ledger
from tests.fakes.faulty_files import Fault, FaultyFiles
from tests.test_earlier import record

PACKAGE = Path(artist_bio_gen.__file__).parent


@dataclass
class Reply:
    """As scripts have them: an object with the fields as attributes."""

    artist_id: str
    artist_name: str
    artist_data: str | None
    response_text: str
    response_id: str = "resp_1"
    created: int = 1_700_000_000
    db_status: str | None = "updated"
    error: str | None = None


BJÖRK = Reply("a1", "Björk", "born 1965", "She sings.")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for data in path.read_bytes().split(b"\n")[:-1]]


# ---- the package --------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_of_it() -> None:
    script = "import sys, artist_bio_gen; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert [name for name in loaded if name.startswith("artist_bio_gen.")] == []
    assert {"orjson", "filelock", "psycopg", "importlib.metadata"} & set(loaded) == set()


def test_every_public_name_has_its_types_and_no_other() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed | {"__version__"} == set(artist_bio_gen.__all__)
    assert all(callable(getattr(artist_bio_gen, name)) for name in typed)
    assert set(artist_bio_gen.__all__) <= set(dir(artist_bio_gen))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        artist_bio_gen.nothing  # type: ignore[attr-defined]  # noqa: B018


# ---- append -------------------------------------------------------------------------------------


def test_a_record_is_appended_as_json_dumps_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    append_jsonl_response(BJÖRK, path, "pmpt_1", "2")
    append_jsonl_response(record(artist_id="a2"), str(path))
    made = {
        "artist_id": "a1",
        "artist_name": "Björk",
        "artist_data": "born 1965",
        "request": {
            "prompt_id": "pmpt_1",
            "variables": {"artist_name": "Björk", "artist_data": "born 1965"},
            "version": "2",
        },
        "response_text": "She sings.",
        "response_id": "resp_1",
        "created": 1_700_000_000,
        "db_status": "updated",
        "error": None,
    }
    wanted = [made, record(artist_id="a2")]
    assert path.read_text("utf-8") == "".join(
        f"{json.dumps(each, ensure_ascii=False)}\n" for each in wanted
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_data_the_variable_says_so_and_without_a_version_there_is_no_key(
    tmp_path: Path,
) -> None:
    path = tmp_path / "old.jsonl"
    append_jsonl_response({"artist_id": "a", "artist_name": "A"}, path, "p")
    (found,) = read(path)
    assert found["request"] == {
        "prompt_id": "p",
        "variables": {"artist_name": "A", "artist_data": "No additional data provided"},
    }
    assert found["artist_data"] is None


def test_one_write_and_one_fsync_a_record_and_the_folder_for_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    files = FaultyFiles()
    append_jsonl_response(BJÖRK, path, "p", files=files.calls)
    assert files.names() == ["open", "write", "fsync", "open", "fsync"]
    files.made.clear()
    append_jsonl_response(BJÖRK, path, "p", files=files.calls)
    assert files.names() == ["open", "write", "fsync"]


def test_behind_a_torn_line_a_record_has_one_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_bytes(b'{"artist_id": "a')
    append_jsonl_response(BJÖRK, path, "p")
    torn, whole, rest = path.read_bytes().split(b"\n")
    assert (torn, rest) == (b'{"artist_id": "a', b"")
    assert json.loads(whole)["artist_id"] == "a1"


def test_threads_and_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    script = (
        "import sys\nfrom artist_bio_gen import append_jsonl_response\n"
        "for n in range(20):\n"
        "    append_jsonl_response({'artist_id': f'{sys.argv[2]}-{n}', 'artist_name': 'x' * 9000},"
        " sys.argv[1], 'p')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("p", "q")
    ]

    def write(name: str) -> None:
        for number in range(20):
            append_jsonl_response(
                {"artist_id": f"{name}-{number}", "artist_name": "y" * 9000}, path, "p"
            )

    threads = [threading.Thread(target=write, args=(name,)) for name in ("s", "t")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    found = [each["artist_id"] for each in read(path)]
    assert sorted(found) == sorted(f"{name}-{n}" for name in "pqst" for n in range(20))


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_failed_file_call_is_told(tmp_path: Path, call: str) -> None:
    path = tmp_path / "old.jsonl"
    files = FaultyFiles(Fault(call, errno.ENOSPC))
    with pytest.raises(LedgerFileError, match=r"old.jsonl: cannot be written: No space left"):
        append_jsonl_response(BJÖRK, path, "p", files=files.calls)
    append_jsonl_response(BJÖRK, path, "p")
    assert read(path)[-1]["artist_id"] == "a1"


@pytest.mark.parametrize(
    ("response", "given", "message"),
    [
        ({"artist_id": "a"}, {"prompt_id": "p"}, "artist_name is a NoneType"),
        ({"artist_id": "", "artist_name": "A"}, {"prompt_id": "p"}, "may not be empty"),
        ({"artist_id": 7, "artist_name": "A"}, {"prompt_id": "p"}, "artist_id is a int"),
        ({"artist_id": "a", "artist_name": "A"}, {}, "there is no request"),
        (record(), {"prompt_id": "p"}, "brings its own request"),
        (record(cost=1), {}, "'cost' is no key of the format"),
        (record(created=True), {}, "created is a bool"),
        (record(response_text="half \ud83d"), {}, "cannot be written as JSON"),
        (record(artist_data={"x": float("nan")}), {}, "cannot be written as JSON"),
        (record(artist_data={"x": {1, 2}}), {}, "cannot be written as JSON"),
    ],
)
def test_a_record_that_does_not_fit_leaves_no_file(
    tmp_path: Path, response: Any, given: dict[str, str], message: str
) -> None:
    path = tmp_path / "old.jsonl"
    with pytest.raises(UsageError, match=message):
        append_jsonl_response(response, path, **given)
    assert not path.exists()


def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerFileError, match="cannot be read: Is a directory"):
        append_jsonl_response(BJÖRK, tmp_path, "p")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        append_jsonl_response(BJÖRK, tmp_path / "none" / "old.jsonl", "p")


@pytest.mark.parametrize("lines", [0, 3])
@pytest.mark.parametrize("write", [append_jsonl_response, write_jsonl_output])
def test_a_ledger_is_never_written_to(tmp_path: Path, lines: int, write: Any) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, lines).close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is a ledger"):
        write(BJÖRK if write is append_jsonl_response else [BJÖRK], path, "p")
    assert path.read_bytes() == before


def test_a_ledger_behind_a_link_or_without_its_head_is_one_and_a_segment_too(
    tmp_path: Path,
) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    make_ledger(path, 1).close()
    beside(path, "head").unlink()
    link.symlink_to(path)
    segment_path(path, 1).write_bytes(path.read_bytes())
    for each in (link, segment_path(path, 1)):
        with pytest.raises(UsageError, match="is a ledger"):
            append_jsonl_response(BJÖRK, each, "p")


# ---- a whole file -------------------------------------------------------------------------------


def test_a_whole_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text("something else\n")
    path.chmod(0o644)
    write_jsonl_output((record(artist_id=f"a{n}") for n in range(1_000)), path)
    assert [each["artist_id"] for each in read(path)] == [f"a{n}" for n in range(1_000)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["old.jsonl", "old.jsonl.lock"]


def test_both_write_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    write_jsonl_output([BJÖRK, BJÖRK], one, "p", "1")
    append_jsonl_response(BJÖRK, other, "p", "1")
    append_jsonl_response(BJÖRK, other, "p", "1")
    assert one.read_bytes() == other.read_bytes()


def test_no_record_is_an_empty_file(tmp_path: Path) -> None:
    write_jsonl_output([], tmp_path / "old.jsonl", "p")
    assert (tmp_path / "old.jsonl").read_bytes() == b""


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_failure_on_the_way_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text("before\n")
    files = FaultyFiles(Fault(call, errno.EIO))
    with pytest.raises(LedgerFileError, match=r"old.jsonl: cannot be written"):
        write_jsonl_output([BJÖRK], path, "p", files=files.calls)
    assert path.read_text() == "before\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["old.jsonl", "old.jsonl.lock"]


def test_a_bad_record_among_others_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text("before\n")
    with pytest.raises(UsageError):
        write_jsonl_output([BJÖRK, {"artist_id": "a"}], path, "p")
    assert path.read_text() == "before\n"


def test_the_file_is_synced_before_it_is_renamed_and_the_folder_after(tmp_path: Path) -> None:
    files = FaultyFiles()
    write_jsonl_output([BJÖRK], tmp_path / "old.jsonl", "p", files=files.calls)
    assert files.names() == ["write", "fsync", "rename", "open", "fsync"]


# ---- a ledger's lines ---------------------------------------------------------------------------


def test_the_lines_of_a_ledger_come_as_mappings(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 3).close()
    found = list(open_ledger_lines(str(path)))
    assert [each["seq"] for each in found] == [1, 2, 3]
    assert found[0]["response_text"] == "Bio of artist 1."


def test_damage_ends_them_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    make_ledger(path, 3).close()
    path.write_bytes(path.read_bytes().replace(b"Bio of artist 2", b"Bio of artist 9"))
    found = open_ledger_lines(path)
    assert next(found)["seq"] == 1
    with pytest.raises(LedgerError, match=r"line 2 is damaged.*artist-bio-gen verify"):
        next(found)
