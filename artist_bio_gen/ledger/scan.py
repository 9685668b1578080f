"""A range of a ledger's file, read line by line: which lines are whole and follow each other,
and what stands between them.

`scan` knows nothing of what stands before and behind its range, so ranges can be read in any
order and by several processes; `verify` joins what they found. This is the hot loop of every
check: what is not needed for each line stands outside of it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TypeAlias

import orjson

from artist_bio_gen.ledger.line import HASH_TAIL
from artist_bio_gen.ledger.segments import LONGEST_LINE

TOGETHER = 256
"""Lines that are compared with the database at once: those up to a number that it divides."""

NEXT_TEXT = b"\x1e"
"""Stands between the bios of a batch; between numbers and hashes a space, between ids a line
feed."""

_MOST_TOGETHER = 16 * 1024 * 1024
"""Bytes of a batch of which facts are held as well, and of a line that is in one with others."""

_BLOCK = 256 * 1024
_ID_AT = len('{"artist_id":"')
_NAME = b'","artist_name":'
_TEXT = b',"response_text":"'
_HASH_AT = HASH_TAIL + 1 - len(',"hash":"')  # from the end
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database must have for some lines besides the lines themselves, joined."""

    hashes: bytes
    generations: bytes
    ids: bytes
    texts: bytes

    def joined(self, other: Facts) -> Facts:
        """Of these lines and of those right behind them."""
        return Facts(
            self.hashes + b" " + other.hashes,
            self.generations + b" " + other.generations,
            self.ids + b"\n" + other.ids,
            self.texts + NEXT_TEXT + other.texts,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines that follow each other, at most up to a number that `TOGETHER` divides: the number of
    the first, the byte at which it begins, and their bytes. Without `facts` they can only be
    compared one by one."""

    first: int
    count: int
    offset: int
    lines: bytes
    facts: Facts | None

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def each(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, byte and bytes of each line."""
        begin = 0
        for seq in range(self.first, self.last + 1):
            end = self.lines.index(b"\n", begin) + 1
            yield seq, self.offset + begin, self.lines[begin:end]
            begin = end

    def between(self, first: int, last: int) -> Batch:
        """The lines with these numbers; there has to be one."""
        if first <= self.first and self.last <= last:
            return self
        kept = [line for line in self.each() if first <= line[0] <= last]
        seq, offset, _ = kept[0]
        return Batch(seq, len(kept), offset, b"".join(data for _, _, data in kept), None)


@dataclass(slots=True)
class Stretch:
    """Whole lines that follow each other, from byte `offset` to byte `end`. For a comparison with
    the database also these lines in batches."""

    offset: int
    begins: Place
    end: int = 0
    last: int = 0
    hash: str = ""
    batches: list[Batch] = field(default_factory=list)


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
    with_batches: bool = False,
) -> Part:
    """Reads the lines that begin in [start, stop), and none behind line `last`, where a segment
    ends. `wanted` are hashes to look out for."""
    pieces: list[Piece] = []
    count = 0
    ended = False
    with path.open("rb", buffering=_BLOCK) as file:
        offset = _begin(file, start)
        lines = iter(partial(file.readline, LONGEST_LINE), b"")
        whole = _WholeLines(lines, stop, last, wanted, with_batches)
        data = next(lines, b"")
        while data and offset < stop and not ended:
            place = read_place(data)
            if place is None:
                _add_rubble(pieces, offset, data)
                offset += len(data)
                data = next(lines, b"")
            elif last is not None and place.seq > last:
                ended = True
            else:
                stretch = Stretch(offset, place)
                pieces.append(stretch)
                data = whole.follow(stretch, data)
                offset = stretch.end
                count += stretch.last - place.seq + 1
                ended = stretch.last == last
    runs = {_run(field): (count, seq, at) for field, (count, seq, at) in whole.runs.items()}
    return Part(pieces, offset, count, ended, dict(whole.keys), runs, whole.anchors)


class _WholeLines:
    """What is noted of the whole lines of a range, as `Part` has it; a run is known by its field
    here. `lines` are those of the file that are not read yet."""

    def __init__(
        self,
        lines: Iterator[bytes],
        stop: int,
        last: int | None,
        wanted: Collection[str],
        with_batches: bool,
    ) -> None:
        self._lines = lines
        self._stop = stop
        self._last = last
        self._wanted = wanted
        self._gathered = _Gathered() if with_batches else None
        self.keys: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.runs: dict[bytes, list[int]] = {}
        self.anchors: list[tuple[str, int]] = []

    def follow(self, stretch: Stretch, first: bytes) -> bytes:
        """Reads a stretch to its end; `first` is its first line. Gives the line that was read and
        is none of it, b"" without one."""
        stop, last, wanted, gathered = self._stop, self._last, self._wanted, self._gathered
        keys, runs = self.keys, self.runs
        sha256, blake2b = hashlib.sha256, hashlib.blake2b
        offset, seq, prev = stretch.offset, stretch.begins.seq - 1, stretch.begins.prev
        left = b""
        for data in chain((first,), self._lines):
            digest = sha256(data[: -HASH_TAIL - 1]).hexdigest()
            at = data.rfind(b',"seq":')
            mark = b'%d,"generation":' % (seq + 1)
            id_end = data.find(_NAME)
            if offset >= stop or not (
                data.endswith(f',"prev":"{prev}","hash":"{digest}"}}\n'.encode())
                and data.startswith(mark, at + 7)
                and id_end > 0
            ):
                left = data
                break
            seq += 1
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
                self.anchors.append((digest, seq))
            if gathered is not None:
                if len(data) > _MOST_TOGETHER:
                    gathered.leave(stretch)  # a copy of it would double the memory
                generation, artist_id = data[after:comma], data[_ID_AT:id_end]
                text = data[_text_at(data, at)]
                gathered.lines.append((data, digest, generation, artist_id, text))
            offset += len(data)
            stretch.end, stretch.last, stretch.hash = offset, seq, digest
            if gathered is not None and (not seq % TOGETHER or len(data) > _MOST_TOGETHER):
                gathered.leave(stretch)
            if seq == last:
                break
        if gathered is not None:
            gathered.leave(stretch)
        return left


class _Gathered:
    """The lines of a stretch that are in no batch yet, each with its hash, generation, artist's id
    and text, as they stand in it: their numbers come in when they leave, and what is escaped is
    read then, all at once."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, str, bytes, bytes, bytes]] = []

    def leave(self, stretch: Stretch) -> None:
        """They are the last ones of the stretch."""
        if not self.lines:
            return
        each, hashes, generations, quoted_ids, quoted = zip(*self.lines, strict=True)
        self.lines.clear()
        lines = b"".join(each)
        ids = texts = facts = None
        if len(lines) <= _MOST_TOGETHER:
            ids, texts = _decoded(quoted_ids, b"\n"), _decoded(quoted, NEXT_TEXT)
        if ids is not None and texts is not None:
            facts = Facts(" ".join(hashes).encode(), b" ".join(generations), ids, texts)
        first, offset = stretch.last - len(each) + 1, stretch.end - len(lines)
        stretch.batches.append(Batch(first, len(each), offset, lines, facts))


def _decoded(quoted: Sequence[bytes], between: bytes) -> bytes | None:
    """JSON texts without their quotation marks, as the database holds them, joined. None where
    that would not tell one from the next."""
    joined = between.join(quoted)
    if b"\\" in joined:
        try:
            texts: list[str] = orjson.loads(b'["%b"]' % b'","'.join(quoted))
        except orjson.JSONDecodeError:
            return None
        joined = between.decode().join(texts).encode()
    return joined if joined.count(between) == len(quoted) - 1 else None


def record(seq: int, data: bytes) -> bytes:
    """What the database must have for a whole line, in the text form of COPY: number, hash,
    artist id, generation, SHA-256 of the line and of the bio."""
    at = data.rfind(b',"seq":')
    after = data.find(b'"generation":', at) + len(b'"generation":')
    return b"%d\t%b\t%b\t%b\t\\\\x%b\t\\\\x%b\n" % (
        seq,
        data[-_HASH_AT : -_HASH_AT + 64],
        _copied(data[_ID_AT : data.find(_NAME)]),
        data[after : data.find(b",", after)],
        hashlib.sha256(memoryview(data)[:-1]).hexdigest().encode(),
        hashlib.sha256(_text(data, at)).hexdigest().encode(),
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
        _unescaped(head[1]),
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
        None if found is None else _unescaped(found[1]),
    )
    if pieces and isinstance(before := pieces[-1], Rubble):
        pieces[-1] = before.joined(rubble)
    else:
        pieces.append(rubble)


def _text_at(data: bytes, at: int) -> slice:
    """Where the bio stands, without its quotation marks. Searched from the right: behind it stand
    no names that the catalogue chose, and within a JSON text no quotation mark stands unescaped."""
    start = data.rfind(_TEXT, 0, at) + len(_TEXT)
    return slice(start, data.find(b'","response_id":', start))


def _text(data: bytes, at: int) -> bytes:
    """The bio as the database holds it."""
    quoted = data[_text_at(data, at)]
    return quoted if b"\\" not in quoted else _unescaped(quoted).encode()


def _copied(quoted: bytes) -> bytes:
    """A JSON text as COPY writes it. What has no backslash here has none there either."""
    if b"\\" not in quoted:
        return quoted
    return _unescaped(quoted).translate(_COPY_ESCAPES).encode()


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


def _unescaped(raw: bytes) -> str:
    """A JSON text without its quotation marks; as it stands there if it is none."""
    try:
        return str(orjson.loads(b'"%b"' % raw))
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
