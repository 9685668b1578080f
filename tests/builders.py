"""Small artists, bios and lines for tests that need some and do not care which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import orjson

from artist_bio_gen.database.store import CommitRow
from artist_bio_gen.errors import LimitError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.line import Draft, Line, draft, seal
from artist_bio_gen.telemetry import Event
from artist_bio_gen.values import Artist, Bio, Failed, Generate, Head, Json, Usage

RUN = "00000000-0000-4000-8000-000000000001"
LEDGER = "11111111-1111-4111-8111-111111111111"
COMMITTED_AT = "2026-01-02T03:04:05.678901+00:00"
PROMPT_SHA256 = "5" * 64
USAGE = Usage(10, 0, 20, 0, 30)


def artist(
    number: int = 1,
    *,
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    data: dict[str, Json] | None = None,
    generation: int = 1,
) -> Artist:
    return Artist(
        number,
        str(number) if id is None else id,
        f"Artist {number}" if name is None else name,
        {"born": "1933"} if data is None else data,
        generation,
    )


def bio(
    text: str = "She was born in 1933.",
    *,
    prompt_sha256: str = PROMPT_SHA256,
    usage: Usage | None = USAGE,
    attempts: int = 1,
    cleaned: bool = False,
) -> Bio:
    request = {
        "prompt": "default",
        "version": "1",
        "variables": {"artist_name": "Nina Simone"},
        "model": "a-model",
        "parameters": {"temperature": 0},
    }
    return Bio(
        text=text,
        request=request,
        prompt_sha256=prompt_sha256,
        response_id="resp_1",
        created=1_700_000_000,
        finish_reason="completed",
        usage=usage,
        request_id="req_1",
        latency_ms=12.5,
        attempts=attempts,
        cleaned=cleaned,
    )


class Simple:
    """A model that is one function of an artist and the id of the attempt. What it raises comes
    from asking, as a lost connection does, or with `fails_late` from reading, as most errors do."""

    def __init__(self, write: Callable[[Artist, str], Bio], *, fails_late: bool = False) -> None:
        self._write = write
        self._fails_late = fails_late

    def prepare(self, artist: Artist) -> Artist:
        return artist

    def ask(self, prepared: Artist, request_id: str) -> Bio | Exception:
        try:
            return self._write(prepared, request_id)
        except Exception as exc:
            if self._fails_late:
                return exc
            raise

    def read(self, answered: Bio | Exception) -> Bio:
        if isinstance(answered, Exception):
            raise answered
        return answered


def one_call(generate: Generate, artist: Artist, request_id: str = "run-1-1") -> Bio:
    return generate.read(generate.ask(generate.prepare(artist), request_id))


def failed(number: int = 1, *, transient: bool = False, kind: str = "refused") -> Failed:
    reason = "the model refused: I cannot write that."
    return Failed(artist(number), kind, reason, attempts=1, transient=transient)


def a_draft(
    number: int = 1,
    *,
    ledger: str = LEDGER,
    run: str = RUN,
    text: str | None = None,
    generation: int = 1,
) -> Draft:
    written = bio(f"Bio of artist {number}." if text is None else text)
    return draft(artist(number, generation=generation), written, ledger=ledger, run=run, worker=1)


def sealed(drafts: Sequence[Draft], head: Head) -> list[Line]:
    """The drafts as the lines that stand behind `head`."""
    lines: list[Line] = []
    prev = head.hash
    for seq, each in enumerate(drafts, head.seq + 1):
        lines.append(seal(each, seq=seq, prev=prev, committed_at=COMMITTED_AT))
        prev = lines[-1].hash
    return lines


def next_lines(ledger: Ledger, count: int, *, generation: int = 1) -> list[Line]:
    first = ledger.head.seq + 1
    numbers = range(first, first + count)
    drafts = [a_draft(number, ledger=ledger.id, generation=generation) for number in numbers]
    return sealed(drafts, ledger.head)


def make_ledger(path: Path, lines: int) -> Ledger:
    """A new ledger with so many lines, open."""
    ledger = Ledger.create(path)
    if lines:
        with ledger.locked():
            ledger.append(next_lines(ledger, lines))
    return ledger


def commit_rows(drafts: Sequence[Draft], head: Head) -> list[CommitRow]:
    """What goes into the database for the drafts as lines behind `head`."""
    return [
        CommitRow(
            seq=line.seq,
            hash=line.hash,
            line=line.data.decode(),
            run=each.run,
            artist_id=each.artist.id,
            artist_name=each.artist.name,
            bio=each.bio.text,
            generation=each.artist.generation,
            input_sha256=each.input_sha256,
            prompt_sha256=each.bio.prompt_sha256,
        )
        for each, line in zip(drafts, sealed(drafts, head), strict=True)
    ]


def ends_of_lines(data: bytes) -> list[int]:
    """Offsets behind each line feed, 0 before the first line."""
    return [0, *(at + 1 for at, byte in enumerate(data) if byte == ord("\n"))]


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file that ends with a line feed, without their line feeds."""
    data = path.read_bytes()
    return [data[start : end - 1] for start, end in pairwise(ends_of_lines(data))]


def lines_of_ledger(path: Path) -> list[bytes]:
    """The lines of all its files: those of one end where the next one's begin."""
    lines: list[bytes] = []
    files = [path, *sorted(path.parent.glob(f"{path.stem}.[0-9][0-9][0-9][0-9]{path.suffix}"))]
    for file in files:
        here = file.read_bytes().split(b"\n")
        assert file != files[-1] or here[-1] == b"", f"{file} ends in a torn line"
        if here[:-1]:
            first = int(orjson.loads(here[0])["seq"])
            lines = [*lines[: first - 1], *here[:-1]]
    return lines


class Heard:
    """A hook that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: str | None = None  # events of this name find no room

    def __call__(self, event: Event) -> None:
        if event.name == self.refused:
            raise LimitError("the log is full")
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def fields(self, name: str) -> list[dict[str, Json]]:
        return [dict(event.fields) for event in self.events if event.name == name]
