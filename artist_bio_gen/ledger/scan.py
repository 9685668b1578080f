"""A range of a ledger's file, read line by line: which lines are whole and follow each other,
and what stands between them.

`scan` knows nothing of what stands before and behind its range, so ranges can be read in any
order and by several processes; `verify` joins what they found. This is the hot loop of every
check: what is not needed for each line stands outside of it.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import orjson

from artist_bio_gen.ledger.line import HASH_TAIL
from artist_bio_gen.ledger.segments import LONGEST_LINE

_BLOCK = 256 * 1024
_ID_AT = len('{"artist_id":"')
_NAME = b'","artist_name":'
_RUN_FIELD = len(',"run":""') + 36

_HEAD = re.compile(rb'\{"artist_id":"(.*?)","artist_name":', re.DOTALL)
_MIDDLE = re.compile(rb',"ledger":"([^"]*)","run":"([^"]*)","seq":([0-9]+),"generation":([0-9]+),')
_TAIL = re.compile(rb'.*,"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}\n', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """What a whole line says of itself."""

    seq: int
    prev: str
    hash: str
    ledger: str
    artist_id: str
    generation: int


@dataclass(slots=True)
class Stretch:
    """Whole lines that follow each other, from byte `offset` to byte `end`. For a comparison with
    the database also its lines as `scan` describes them, and where each begins."""

    offset: int
    begins: Place
    end: int = 0
    last: int = 0
    hash: str = ""
    records: list[bytes] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("Q"))


@dataclass(slots=True)
class Rubble:
    """What is no whole line, from byte `offset` to byte `end`: `lines` of it, counted by line
    feeds. From `torn_at` on (None: nowhere) it is what a crash leaves: NUL bytes, or no line
    feed at the end; `before` lines stand before that. `artist_id` is what can be read of the
    first."""

    offset: int
    end: int
    lines: int
    torn_at: int | None
    before: int
    artist_id: str | None

    def joined(self, other: Rubble) -> Rubble:
        """This one and what stands right behind it."""
        torn_at, before = self.torn_at, self.before
        if torn_at is None:
            torn_at, before = other.torn_at, self.lines + other.before
        return Rubble(
            self.offset, other.end, self.lines + other.lines, torn_at, before, self.artist_id
        )


Piece: TypeAlias = Stretch | Rubble


@dataclass(slots=True)
class Part:
    """What stands in a range. `end` is behind its last line, and `ended` tells that this was the
    segment's last. `keys` are those of the whole lines, eight bytes each, by their first byte;
    `runs` has count, number and place of the first line of each; `anchors` are the lines whose
    hash was looked for."""

    pieces: list[Piece]
    end: int
    lines: int = 0
    ended: bool = False
    keys: Mapping[int, bytearray] = field(default_factory=dict)
    runs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    anchors: list[tuple[str, int]] = field(default_factory=list)


def scan(
    path: Path,
    start: int,
    stop: int,
    *,
    last: int | None,
    wanted: Collection[str] = (),
    with_records: bool = False,
) -> Part:
    """Reads the lines that begin in [start, stop), and none behind line `last`, where a segment
    ends. `wanted` are hashes to look out for.

    A record is what the database must have for the line, in the text form of COPY: number, hash,
    artist id, generation, SHA-256 of the line and of the bio.
    """
    pieces: list[Piece] = []
    stretch: Stretch | None = None
    keys: defaultdict[int, bytearray] = defaultdict(bytearray)
    runs: dict[bytes, list[int]] = {}
    anchors: list[tuple[str, int]] = []
    lines = 0
    ended = False
    seq, prev = -1, ""
    sha256, blake2b = hashlib.sha256, hashlib.blake2b
    with path.open("rb", buffering=_BLOCK) as file:
        offset = _begin(file, start)
        for data in iter(partial(file.readline, LONGEST_LINE), b""):
            if offset >= stop:
                break
            covered = sha256(data[: -HASH_TAIL - 1])
            digest = covered.hexdigest()
            at = data.rfind(b',"seq":')
            seq += 1
            mark = b'%d,"generation":' % seq
            id_end = data.find(_NAME)
            if not (
                data.endswith(f',"prev":"{prev}","hash":"{digest}"}}\n'.encode())
                and data.startswith(mark, at + 7)
                and id_end > 0
            ):
                # The first line of a stretch, or none.
                place = read_place(data)
                if place is None:
                    seq, prev, stretch = -1, "", None
                    _add_rubble(pieces, offset, data)
                    offset += len(data)
                    continue
                if last is not None and place.seq > last:
                    ended = True
                    break
                seq = place.seq
                mark = b'%d,"generation":' % seq
                stretch = Stretch(offset, place)
                pieces.append(stretch)
            assert stretch is not None
            lines += 1
            prev = digest
            after = at + 7 + len(mark)
            comma = data.index(b",", after)
            key = blake2b(data[_ID_AT : id_end + 1] + data[after:comma], digest_size=8).digest()
            keys[key[0]] += key
            run = data[at - _RUN_FIELD : at]
            if (seen := runs.get(run)) is None:
                runs[run] = [1, seq, offset]
            else:
                seen[0] += 1
            if wanted and digest in wanted:
                anchors.append((digest, seq))
            if with_records:
                covered.update(data[-HASH_TAIL - 1 : -1])
                stretch.records.append(
                    b"%d\t%b\t%b\t%b\t\\\\x%b\t\\\\x%b\n"
                    % (
                        seq,
                        digest.encode(),
                        _copied(data[_ID_AT - 1 : id_end + 1]),
                        data[after:comma],
                        covered.hexdigest().encode(),
                        sha256(_text(data, at)).hexdigest().encode(),
                    )
                )
                stretch.offsets.append(offset)
            offset += len(data)
            stretch.end, stretch.last, stretch.hash = offset, seq, digest
            if seq == last:
                ended = True
                break
    return Part(
        pieces,
        offset,
        lines,
        ended,
        dict(keys),
        {_run(field): (count, seq, at) for field, (count, seq, at) in runs.items()},
        anchors,
    )


def read_place(data: bytes) -> Place | None:
    """What a line (with its line feed) says of itself; None when it is not whole, or whole and no
    line of a ledger."""
    tail = _TAIL.fullmatch(data)
    at = data.rfind(b',"seq":')
    head = _HEAD.match(data)
    middle = _MIDDLE.match(data, data.rfind(b',"ledger":', 0, max(at, 0)))
    if tail is None or head is None or middle is None or middle.start(3) != at + len(',"seq":'):
        return None
    if hashlib.sha256(data[: -HASH_TAIL - 1]).hexdigest().encode() != tail[2]:
        return None
    if middle[3] != b"%d" % int(middle[3]):
        return None
    return Place(
        int(middle[3]),
        tail[1].decode(),
        tail[2].decode(),
        middle[1].decode(),
        _shown_id(head[1]),
        int(middle[4]),
    )


def first_place(path: Path) -> tuple[int, Place] | None:
    """The first whole line of a file, and how many lines stand before it; None without one."""
    with path.open("rb", buffering=_BLOCK) as file:
        for before, data in enumerate(iter(partial(file.readline, LONGEST_LINE), b"")):
            if (place := read_place(data)) is not None:
                return before, place
    return None


def occurrences(
    path: Path, stop: int, wanted: Collection[bytes]
) -> Iterator[tuple[tuple[str, int], int, int]]:
    """The whole lines before byte `stop` whose key is one of `wanted`, as `Part.keys` has them:
    (artist id, generation), number, byte."""
    offset = 0
    with path.open("rb", buffering=_BLOCK) as file:
        for data in iter(partial(file.readline, LONGEST_LINE), b""):
            if offset >= stop:
                break
            if _key(data) in wanted and (place := read_place(data)) is not None:
                yield (place.artist_id, place.generation), place.seq, offset
            offset += len(data)


def _key(data: bytes) -> bytes:
    at = data.rfind(b',"seq":')
    after = data.find(b'"generation":', at) + len(b'"generation":')
    key = data[_ID_AT : data.find(_NAME) + 1] + data[after : data.find(b",", after)]
    return hashlib.blake2b(key, digest_size=8).digest()


def _begin(file: IO[bytes], start: int) -> int:
    """Goes to the first line that begins at `start` or behind it."""
    if start == 0:
        return 0
    file.seek(start - 1)
    offset = start - 1
    while data := file.readline(LONGEST_LINE):
        offset += len(data)
        if data.endswith(b"\n"):
            break
    return offset


def _add_rubble(pieces: list[Piece], offset: int, data: bytes) -> None:
    torn = b"\0" in data or not data.endswith(b"\n")
    found = _HEAD.match(data)
    rubble = Rubble(
        offset,
        offset + len(data),
        1,
        offset if torn else None,
        0 if torn else 1,
        None if found is None else _shown_id(found[1]),
    )
    if pieces and isinstance(before := pieces[-1], Rubble):
        pieces[-1] = before.joined(rubble)
    else:
        pieces.append(rubble)


def _text(data: bytes, at: int) -> bytes:
    """The bio as the database holds it. Searched from the right: behind it stand no names that
    the catalogue chose, and within a JSON text no quotation mark stands unescaped."""
    start = data.rfind(b',"response_text":"', 0, at) + len(b',"response_text":')
    end = data.find(b'","response_id":', start)
    if data.find(b"\\", start, end) < 0:
        return data[start + 1 : end]
    text: str = orjson.loads(data[start : end + 1])
    return text.encode()


def _copied(quoted: bytes) -> bytes:
    """A JSON text as COPY writes it. What has no backslash here has none there either."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    text: str = orjson.loads(quoted)
    return text.translate(_COPY_ESCAPES).encode()


# PostgreSQL manual, COPY, text format.
_COPY_ESCAPES = str.maketrans(
    {
        "\\": "\\\\",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
    }
)


def _run(field: bytes) -> str:
    return field[len(b',"run":"') : -1].decode("utf-8", "replace")


def _shown_id(raw: bytes) -> str:
    try:
        return str(orjson.loads(b'"%b"' % raw))
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
