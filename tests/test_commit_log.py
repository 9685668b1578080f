from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.errors import ConfigError, LimitError
from artist_bio_gen.telemetry import Event, Telemetry
from artist_bio_gen.telemetry.commit_log import EVENTS, CommitLog, rfc3339

ROOT = Path(__file__).resolve().parent.parent
DOC = ROOT / "docs" / "commit-log.md"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def appended(seq: int, at: float = 0.0) -> Event:
    return Event("appended", at, {"seq": seq})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "commits.log"


def test_a_line_holds_the_event_in_the_order_that_the_guide_gives(path: Path) -> None:
    with CommitLog(path) as log:
        telemetry = Telemetry(log, clock=lambda: 1795328000.000001)
        telemetry.emit("appended", extra=1, hash="ab", seq=5, artist_id="7", run="r1", worker=None)
    assert path.read_bytes() == (
        b'{"time":"2026-11-22T06:13:20.000001Z","event":"appended","run":"r1",'
        b'"artist_id":"7","worker":null,"seq":5,"hash":"ab","extra":1}\n'
    )


def test_events_without_a_run_get_that_of_the_start(path: Path) -> None:
    with CommitLog(path) as log:
        telemetry = Telemetry(log)
        telemetry.emit("notice", text="before")
        telemetry.emit("started", run="r1")
        telemetry.emit("paused", reason="x")
        telemetry.emit("in_flight", run="r0")
    assert [line["run"] for line in lines(path)] == [None, "r1", "r1", "r0"]


def test_whole_seconds_have_microseconds_too() -> None:
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000000Z"


def test_a_group_is_one_write_with_a_line_for_each(path: Path) -> None:
    with CommitLog(path) as log:
        Telemetry(log).emit_each("appended", [{"seq": 1, "run": "r1"}, {"seq": 2, "run": "r2"}])
        Telemetry(log).emit_each("appended", [])
        assert [(line["seq"], line["run"]) for line in lines(path)] == [(1, "r1"), (2, "r2")]


def test_a_line_after_the_end_is_refused(path: Path) -> None:
    with CommitLog(path) as log:
        log(appended(1))
    with pytest.raises(LimitError, match="it is closed"):
        log(appended(2))
    assert len(lines(path)) == 1


@pytest.mark.parametrize("flush", ["line", "sync"])
def test_each_line_is_handed_over_at_once(path: Path, flush: Any) -> None:
    with CommitLog(path, flush=flush) as log:
        log(appended(1))
        assert len(lines(path)) == 1


def test_lines_are_handed_over_in_groups_and_the_last_with_the_stop_or_the_end(path: Path) -> None:
    with CommitLog(path, flush=3) as log:
        counts = []
        for seq in range(4):
            log(appended(seq))
            counts.append(len(lines(path)))
        log(Event("stopped", 0.0, {}))
        counts.append(len(lines(path)))
        log(appended(5))
    assert counts == [0, 0, 3, 3, 5]
    assert len(lines(path)) == 6


def test_an_event_after_the_end_is_an_error_of_the_caller(path: Path) -> None:
    log = CommitLog(path)
    log.close()
    log.close()
    with pytest.raises(LimitError):
        log(appended(1))


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    with CommitLog(path, max_mb=0.0001, keep=1) as log:
        for seq in range(10):
            log(appended(seq))
    modes = [stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()]
    assert modes == [0o600, 0o600]


def test_a_log_that_exists_is_gone_on_with(path: Path) -> None:
    for seq in (1, 2):
        with CommitLog(path) as log:
            log(appended(seq))
    assert [line["seq"] for line in lines(path)] == [1, 2]


def test_a_line_that_was_cut_off_does_not_spoil_the_next(path: Path) -> None:
    path.write_bytes(b'{"time":"2026')
    with CommitLog(path) as log:
        log(appended(1))
    cut, whole = path.read_bytes().splitlines()
    assert (cut, json.loads(whole)["seq"]) == (b'{"time":"2026', 1)


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def test_a_full_file_is_renamed_and_so_many_old_ones_are_kept(path: Path) -> None:
    with CommitLog(path, max_mb=0.001, keep=2) as log:
        for seq in range(100):
            log(appended(seq))
    assert files(path) == ["commits.log", "commits.log.1", "commits.log.2"]
    kept = [path.with_name("commits.log.2"), path.with_name("commits.log.1"), path]
    assert all(each.stat().st_size <= 1000 for each in kept)
    seqs = [line["seq"] for each in kept for line in lines(each)]
    assert seqs == list(range(seqs[0], 100)), "oldest first, without a gap"


def test_no_old_file_is_kept_when_none_is_wanted(path: Path) -> None:
    with CommitLog(path, max_mb=0.001, keep=0) as log:
        for seq in range(100):
            log(appended(seq))
    assert files(path) == ["commits.log"]
    assert lines(path)[-1]["seq"] == 99


def test_a_line_longer_than_the_limit_is_written_all_the_same(path: Path) -> None:
    with CommitLog(path, max_mb=0.0001) as log:
        log(Event("notice", 0.0, {"text": "x" * 1000}))
    assert files(path) == ["commits.log"]


def test_a_file_that_was_taken_away_is_made_anew(path: Path) -> None:
    with CommitLog(path) as log:
        log(appended(1, at=0.0))
        path.rename(path.with_name("elsewhere"))
        log(appended(2, at=10.0))
    assert [line["seq"] for line in lines(path)] == [2]


def test_two_writers_share_a_log_and_its_rotation(path: Path) -> None:
    with (
        CommitLog(path, max_mb=0.002, keep=100) as one,
        CommitLog(path, max_mb=0.002, keep=100) as two,
    ):
        threads = [
            threading.Thread(
                target=lambda log=log, base=base: [log(appended(base + n)) for n in range(300)]
            )
            for log, base in ((one, 0), (one, 1000), (two, 2000), (two, 3000))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seqs = [line["seq"] for each in path.parent.iterdir() for line in lines(each)]
    assert sorted(seqs) == sorted(base + n for base in (0, 1000, 2000, 3000) for n in range(300))


SECRET = 'sk-canary"\\ünicode'


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_never_gets_in(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str
) -> None:
    path = tmp_path_factory.mktemp("log") / "commits.log"
    with CommitLog(path, secrets=[SECRET, "pw"]) as log:
        text = f"{before}{SECRET}{after}"
        log(Event("failed", 0.0, {"reason": text, "deep": {"list": [text, 1, None, True, 0.5]}}))
        log(Event("notice", 0.0, {"text": "a short secret is not searched for: pw"}))
    first, second = lines(path)
    assert SECRET not in first["reason"] + first["deep"]["list"][0]
    assert "canary" not in path.read_text("utf-8")
    assert first["deep"]["list"][1:] == [1, None, True, 0.5]
    assert second["text"].endswith("pw")


@pytest.mark.parametrize(
    "value",
    [
        "\ud800 half",
        2**70,
        -(2**70),
        float("nan"),
        {"\ud800": ["\ud800"]},
        Path("x"),
        b"bytes",
        {1: 2},
    ],
)
def test_what_json_cannot_hold_still_makes_a_line(path: Path, value: object) -> None:
    with CommitLog(path) as log:
        log(Event("failed", 0.0, {"reason": value, "attempts": 3}))
    (line,) = lines(path)
    assert line["attempts"] == 3


def test_u2028_and_line_breaks_stay_within_a_line(path: Path) -> None:
    with CommitLog(path) as log:
        log(Event("notice", 0.0, {"text": "a\u2028b\nc"}))
    assert [line["text"] for line in lines(path)] == ["a\u2028b\nc"]


def test_a_log_that_cannot_be_opened_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot open the commit log .*--log-file") as raised:
        CommitLog(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_a_line_that_cannot_be_written_stops_the_run(path: Path) -> None:
    """In a process of its own: the limit on the size of files would hold for pytest's too."""
    script = f"""
import resource, signal
from pathlib import Path
from artist_bio_gen.errors import LimitError
from artist_bio_gen.telemetry import Event
from artist_bio_gen.telemetry.commit_log import CommitLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))
log = CommitLog(Path({str(path)!r}))
written = 0
for seq in range(100):
    try:
        log(Event("appended", 0.0, {{"seq": seq}}))
        written += 1
    except LimitError as exc:
        print(exc.exit_code, exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True
    )
    told = done.stdout.splitlines()
    assert all(re.search(r"^6 .*cannot write the commit log .*--resume", line) for line in told)
    assert path.stat().st_size == 150, "a part of the line was written"
    whole = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert len(whole) + len(told) == 100, "each line is written or told"


def test_after_a_short_write_lines_are_whole_again(path: Path) -> None:
    """The same disk, full for a while: what is written later does not hang on to the torn line."""
    script = f"""
import resource, signal
from pathlib import Path
from artist_bio_gen.errors import LimitError
from artist_bio_gen.telemetry import Event
from artist_bio_gen.telemetry.commit_log import CommitLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = CommitLog(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 10_000))
for seq in range(3):
    try:
        log(Event("appended", 0.0, {{"seq": seq}}))
    except LimitError:
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
log(Event("appended", 0.0, {{"seq": 100}}))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    *_, torn, last = path.read_bytes().splitlines()
    assert not torn.endswith(b"}")
    assert json.loads(last)["seq"] == 100


def test_dev_full_is_a_limit() -> None:
    log = CommitLog(Path("/dev/full"))
    with pytest.raises(LimitError, match=os.strerror(errno.ENOSPC)):
        log(appended(1))
    log.close()


CRASH = """
import os, signal, sys
from pathlib import Path
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.commit_log import CommitLog

emit = Telemetry(CommitLog(Path(sys.argv[1]))).emit
def call(artist): emit("calling", run="r1", artist_id=artist, attempt=1,
    request_id="q" + artist, worker=0)
def commit(artist, seq): emit("committed", run="r1", artist_id=artist, artist_name="A" + artist,
    worker=0, duration_ms=1.0, attempts=1, db_status="updated", response_id=None,
    transaction_id="9", seq=seq, hash=f"h{seq}", usage={"input_tokens": 10, "output_tokens": 2})
def append(artist, seq): emit("appended", run="r1", artist_id=artist, artist_name="A" + artist,
    worker=0, seq=seq, hash=f"h{seq}")

emit("started", run="r0", input="a.csv")
emit("stopped", run="r0", reason="finished", exit_code=0, counts={})
emit("started", run="r1", input="a.csv")
for artist in "1234": call(artist)
commit("1", 1); append("1", 1)
emit("failed", run="r1", artist_id="2", artist_name="A2", kind="refused", reason="no", attempts=1,
    transient=False)
commit("3", 2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def queries() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_a_crash_is_investigated_from_the_log_alone_with_the_queries_of_the_guide(
    path: Path,
) -> None:
    ended = subprocess.run([sys.executable, "-c", CRASH, path], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    answers = []
    for query in queries():
        answer = subprocess.run(
            ["bash", "-o", "pipefail", "-c", query], cwd=path.parent, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        answers.append(answer.stdout)
    unfinished, in_flight, not_appended, kinds, tokens, one_artist = answers
    assert json.loads(unfinished)["run"] == "r1"
    assert json.loads(in_flight)["request_id"] == "q4"
    assert json.loads(not_appended)["seq"] == 2
    assert kinds.split() == ["1", "refused"]
    assert json.loads(tokens) == {"r1": {"input": 20, "output": 4}}
    assert one_artist == ""


def test_the_guide_tells_each_event_with_its_keys() -> None:
    section = DOC.read_text("utf-8").split("## The file")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", section, re.MULTILINE)
    told = {
        event: tuple(re.findall(r"`([a-z_0-9]+)`", re.sub(r"\(.*?\)", "", keys)))
        for event, keys in rows
    }
    assert told == EVENTS


def test_a_disk_that_is_full_at_the_start_is_a_limit(tmp_path: Path) -> None:
    """A line that was cut off is ended first, for which there is no room."""
    with pytest.raises(LimitError, match=r"no room for the commit log .*make room on the disk of"):
        CommitLog(tmp_path / "log", end_line=no_room)


def no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
