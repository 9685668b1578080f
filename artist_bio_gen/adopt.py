"""A file of the earlier format, taken over into a ledger: not one bio of it is bought again.

The file is read twice. First each line is judged, and of the good lines of an artist the one that
counts is noted, in a temporary database on disk: so memory is flat whatever the file's size, and
the ledger gets one line for each artist. Then these lines are compared with the database, a chunk
at a time under the ledger's lock, and committed the way every bio is.

What an artist has in the ledger decides whether anything is done, so a file that was taken over
in part, or wholly, can be taken over again: only what is missing is added.
"""

from __future__ import annotations

import codecs
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import orjson

from artist_bio_gen import __version__
from artist_bio_gen.adoption import EXAMPLES, Adoption, Chosen, Decision, Left, bought, decide
from artist_bio_gen.books import Books, open_books
from artist_bio_gen.config import Settings, masked
from artist_bio_gen.database.comparing import compare
from artist_bio_gen.database.connect import describe
from artist_bio_gen.database.opening import open_database
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import (
    InputError,
    LimitError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.ledger.belonging import belongs_to, require_files
from artist_bio_gen.ledger.earlier import Again, Bad, Good, OldLine, old_lines, parse
from artist_bio_gen.ledger.earlier_index import Index
from artist_bio_gen.ledger.files import REAL
from artist_bio_gen.ledger.line import draft
from artist_bio_gen.ledger.segments import LONGEST_LINE, beside, find_id, real
from artist_bio_gen.ledger.sharing import require_local
from artist_bio_gen.ledger.whole import whole_file
from artist_bio_gen.memory import keep_flat
from artist_bio_gen.parser import MAX_ID_BYTES
from artist_bio_gen.processor.control import Control
from artist_bio_gen.resume import reconcile, require_commit_rows, take_over
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Failed, path_text

CHUNK = 500
"""Lines compared and committed at a time, unless they are long: see CHUNK_BYTES."""

CHUNK_BYTES = 16 * 1024 * 1024
TELL_EVERY_S = 5.0

_LIST_KEYS = {each.name for each in fields(Left)}


def adopt(
    settings: Settings,
    old: Path,
    *,
    replace_others: bool,
    list_path: Path | None,
    telemetry: Telemetry,
    say: Callable[[str], None],
    control: Control,
    attended: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Adoption:
    """Takes over `old` into the ledger `settings.output`; without `settings.yes` it only finds out
    what that would come to, and changes nothing. `replace_others` lets texts of the file replace
    others. What is left is listed in `list_path`; None means beside the ledger, or nowhere.
    """
    keep_flat()
    ledger = real(settings.output)
    found = Adoption(old, ledger, str(uuid.uuid4()), done=settings.yes)
    if settings.yes:
        found.list_path = list_path or usual_list(ledger)
    else:
        found.list_path = list_path
    try:
        with ExitStack() as stack:
            _adopt(
                _Desk(found, settings, telemetry, say, control, _Pace(say, clock)),
                stack,
                replace_others=replace_others,
                attended=attended,
            )
    except StoppedError:
        found.interrupted = True
        found.list_path = None
    except sqlite3.Error as exc:
        raise LimitError(
            f"{old}: its ids cannot be kept for comparing ({exc}); make room in the folder for"
            " temporary files, or name another with TMPDIR, then give the command again"
        ) from exc
    return found


def usual_list(ledger: Path) -> Path:
    """Where what is left is listed, unless another place was given."""
    return beside(ledger, "left.jsonl")


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every step of an adoption needs."""

    found: Adoption
    settings: Settings
    telemetry: Telemetry
    say: Callable[[str], None]
    control: Control
    pace: _Pace


def _adopt(desk: _Desk, stack: ExitStack, *, replace_others: bool, attended: bool) -> None:
    found, settings = desk.found, desk.settings
    file = stack.enter_context(_opened(found.old, found.ledger, found.list_path))
    if settings.yes and not settings.allow_network_filesystem:
        require_local(found.ledger)
    address = open_database(
        settings.database_url,
        table=settings.table,
        allow_fsync_off=settings.allow_fsync_off,
        may_embed=attended or settings.embedded or settings.yes,
        may_migrate=settings.migrate or settings.yes,
        may_create_table=settings.yes,
        data_dir=settings.data_dir,
        say=desk.say,
    )
    store = stack.enter_context(
        BioStore(
            address,
            table=settings.table,
            max_wait=settings.max_wait,
            on_trouble=lambda reason: desk.say(f"the database is away: {reason}"),
            sleep=desk.control.sleep,
        )
    )
    write: Callable[[bytes], None] = _nowhere
    if found.list_path is not None:
        write = stack.enter_context(whole_file(REAL, found.list_path))
    leave = partial(_leave, found, write)
    index = stack.enter_context(closing(Index()))
    _read(desk, file, store, index, leave)
    if found.good == 0:
        return  # a mistyped name must not begin a ledger
    chunks = _chosen(desk, index, file, store.id_kind.canonical)
    if settings.yes:
        at_address = replace(settings, resume=True, database_url=address)
        books = open_books(
            at_address,
            found.run,
            stack,
            desk.control,
            desk.telemetry,
            desk.say,
            attended=attended,
        )
        _carry_out(desk, books, chunks, replace_others, leave)
    else:
        ledger_id = (find_id(found.ledger) if found.ledger.exists() else None) or found.run
        for chunk in chunks:
            for decision in _decide_all(chunk, store, ledger_id, settings, replace_others):
                _count(found, decision, leave)


def _carry_out(
    desk: _Desk,
    books: Books,
    chunks: Iterable[list[Chosen]],
    replace_others: bool,
    leave: Callable[[Left], None],
) -> None:
    _begin(desk, books)
    try:
        for chunk in chunks:
            with books.ledger.locked():
                _take(desk, books, chunk, replace_others, leave)
    except StoppedError:
        desk.found.interrupted = True
        _finish(desk, books)
        raise
    _finish(desk, books)


def _nowhere(data: bytes) -> None:
    """Where no list is asked for."""


def _opened(old: Path, ledger: Path, list_path: Path | None) -> BinaryIO:
    require_files(ledger)
    if old.exists() and not old.is_file():  # a named pipe would be waited for, and is read twice
        raise UsageError(f"{old}: is no regular file; give the file itself")
    try:
        if ledger.exists() and old.samefile(ledger):
            raise UsageError(
                f"{old}: is the ledger itself; name a ledger that is another file with --output"
            )
        if list_path is not None and list_path.exists():
            for each in (old, ledger):
                if each.exists() and list_path.samefile(each):
                    raise UsageError(f"{list_path}: is not overwritten; give --list another name")
        if list_path is not None and belongs_to(ledger, list_path):
            raise UsageError(f"{list_path}: belongs to the ledger; give --list another name")
        if list_path is not None:
            _require_list(list_path)
        file = old.open("rb")
        begins = file.peek(2)[:2]
    except OSError as exc:
        raise _unreadable(old, exc) from exc
    if begins in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        file.close()
        raise InputError(f"{old}: is UTF-16; write it anew in UTF-8, as the format has it")
    return file


def _require_list(path: Path) -> None:
    """UsageError for what is there and is no earlier list."""
    if os.path.lexists(path) and not (path.is_file() and not path.is_symlink() and _is_list(path)):
        raise UsageError(
            f"{path}: is there and is no earlier list, so it is not overwritten; give --list"
            " another name"
        )


def _is_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.readline(LONGEST_LINE)
        return not first or orjson.loads(first).keys() == _LIST_KEYS
    except (OSError, ValueError, AttributeError):
        return False


# ---- the first reading: which lines count ------------------------------------------------------


def _read(
    desk: _Desk,
    file: BinaryIO,
    store: BioStore,
    index: Index,
    leave: Callable[[Left], None],
) -> None:
    found = desk.found
    try:
        for line in old_lines(file):
            if desk.control.stopped:
                raise StoppedError
            found.lines += 1
            desk.pace(f"{found.lines:,} lines read")
            parsed = _judged(line, store.id_kind.canonical)
            if isinstance(parsed, Bad):
                leave(Left("rejected", line.number, None, None, parsed.reason))
            elif isinstance(parsed, Again):
                index.again(line, parsed)
            else:
                found.good += 1
                found.further.update(parsed.further[:EXAMPLES])
                index.good(line, parsed)
    except OSError as exc:
        raise _unreadable(found.old, exc) from exc
    found.repeated = found.good - index.artists()
    for artist_id, name, number, reason, error in index.without_bio():
        found.again[reason] += 1
        told = f"{reason}: {error}" if error else reason
        leave(Left("again", number, artist_id, name, told))


def _unreadable(old: Path, exc: OSError) -> InputError:
    return InputError(f"{old}: cannot be read: {exc.strerror}")


def _judged(line: OldLine, canonical: Callable[[str], str]) -> Good | Again | Bad:
    """As `parse`, with the id in the form of the table's column."""
    if line.data is None:
        return Bad("is longer than any line of this format")
    parsed = parse(line.data)
    if isinstance(parsed, Bad):
        return parsed
    if len(parsed.id.encode()) > MAX_ID_BYTES:
        return Bad(f"artist_id is longer than {MAX_ID_BYTES:,} bytes")
    try:
        return replace(parsed, id=canonical(parsed.id))
    except ValueError as exc:
        return Bad(f"artist_id: {exc}")


# ---- the second reading: what becomes of each --------------------------------------------------


def _chosen(
    desk: _Desk, index: Index, file: BinaryIO, canonical: Callable[[str], str]
) -> Iterator[list[Chosen]]:
    """The lines that count, read once more. StoppedError when the adoption is to end."""
    chunk: list[Chosen] = []
    waiting = 0
    for seen, (number, offset, size) in enumerate(index.chosen(), 1):
        try:
            file.seek(offset)
            data = file.read(size)
        except OSError as exc:
            raise _unreadable(desk.found.old, exc) from exc
        parsed = _judged(OldLine(number, offset, data), canonical)
        if not isinstance(parsed, Good):
            raise InputError(f"{desk.found.old} line {number}: has changed since it was read")
        chunk.append(Chosen(number, parsed))
        waiting += size
        if len(chunk) >= CHUNK or waiting >= CHUNK_BYTES:
            if desk.control.stopped:
                raise StoppedError
            yield chunk
            desk.pace(f"{seen:,} of {desk.found.good - desk.found.repeated:,} bios")
            chunk, waiting = [], 0
    if chunk:
        if desk.control.stopped:
            raise StoppedError
        yield chunk


def _decide_all(
    chunk: Sequence[Chosen],
    store: BioStore,
    ledger_id: str,
    settings: Settings,
    replace_others: bool,
) -> Iterator[Decision]:
    known = store.known(ledger_id, [each.good.id for each in chunk])
    bios = [(each.good.id, each.good.text) for each in chunk]
    compared = store.ask(
        partial(compare, ledger=ledger_id, table=settings.table, kind=store.id_kind, bios=bios)
    )
    for each, text in zip(chunk, compared, strict=True):
        yield decide(
            each,
            known[each.good.id],
            text,
            table=settings.table,
            insert_missing=settings.on_missing == "insert",
            replace_others=replace_others,
        )


def _take(
    desk: _Desk,
    books: Books,
    chunk: Sequence[Chosen],
    replace_others: bool,
    leave: Callable[[Left], None],
) -> None:
    """Decides and commits. Under the ledger's lock from the look-up on: what a run commits at the
    same time is seen, and not written over."""
    decisions = list(
        _decide_all(chunk, books.lookups, books.ledger.id, desk.settings, replace_others)
    )
    drafts = [
        draft(*bought(each), ledger=books.ledger.id, run=desk.found.run)
        for each in decisions
        if each.generation
    ]
    outcomes = books.committer.commit_locked(drafts) if drafts else []
    reasons = {each.artist.id: each.reason for each in outcomes if isinstance(each, Failed)}
    for each in decisions:
        if reason := reasons.get(each.chosen.good.id):
            leave(each.left(reason))
        else:
            _count(desk.found, each, leave)


def _count(found: Adoption, decision: Decision, leave: Callable[[Left], None]) -> None:
    match decision.what:
        case "same":
            found.same += 1
        case "put":
            found.put += 1
        case "replaced":
            found.replaced += 1
        case "in_ledger":
            found.in_ledger += 1
        case _:
            leave(decision.left())


def _leave(found: Adoption, write: Callable[[bytes], None], left: Left) -> None:
    found.leave(left)
    write(orjson.dumps(left) + b"\n")


# ---- the run -----------------------------------------------------------------------------------


def _begin(desk: _Desk, books: Books) -> None:
    """As every run begins: one state, and what dead runs have paid for goes first."""
    found, ledger = desk.found, books.ledger
    told = {**masked(desk.settings), "adopt": path_text(found.old)}
    with ledger.locked():
        reconciled = reconcile(ledger, books.store)
        require_commit_rows(ledger, books.store)
        books.store.begin_run(found.run, ledger.id, __version__, told)
        desk.telemetry.emit(
            "started",
            run=found.run,
            ledger=ledger.id,
            input=path_text(found.old),
            rows=found.lines,
            workers=0,
            model=None,
            prompt_sha256=None,
            database=describe(books.database),
            table=desk.settings.table,
            settings=told,
        )
        taken = take_over(ledger, books.store, books.committer.commit_locked, desk.telemetry)
    desk.telemetry.emit("recovered", run=found.run, **asdict(reconciled), **asdict(taken))
    for sentence in (*reconciled.report(), *taken.report()):
        desk.telemetry.emit("notice", run=found.run, text=sentence)


def _finish(desk: _Desk, books: Books) -> None:
    found = desk.found
    with books.ledger.locked():
        if books.ledger.catch_up():
            books.ledger.save_head()
    found.seq, found.hash = books.ledger.head.seq, books.ledger.head.hash
    books.store.end_run(found.run, found.exit_code, found.counts())
    desk.telemetry.emit(
        "stopped",
        run=found.run,
        reason="interrupted" if found.interrupted else "finished",
        exit_code=found.exit_code,
        counts=found.counts(),
    )


class _Pace:
    """Says how far it is, now and then."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say = say
        self._clock = clock
        self._told = clock()

    def __call__(self, text: str) -> None:
        now = self._clock()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            self._say(text)
