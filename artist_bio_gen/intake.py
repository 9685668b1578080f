"""The input of a run: opened, looked through before the work begins, and handed to it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from artist_bio_gen.config import Settings
from artist_bio_gen.database.nearby import Nearby
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.parser import ColumnChoice, parse
from artist_bio_gen.pending import (
    NO_PLAN,
    DoneFront,
    Finished,
    Front,
    Look,
    Plan,
    Rules,
    behind,
    judged,
    plan,
)
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.skips import SkipTally
from artist_bio_gen.repeats import without_repeats
from artist_bio_gen.sources import STDIN, RowStream, open_source
from artist_bio_gen.sources.delimited import DelimitedStream
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Rejected, Skipped, path_text

State: TypeAlias = tuple[int, ...]
"""Of a file: by what it shows that it was changed."""


def source_of(settings: Settings) -> str:
    """The input, whatever folder the command was called in."""
    return STDIN if settings.input == STDIN else path_text(Path(settings.input or "").resolve())


def open_input(settings: Settings, control: Control) -> RowStream:
    assert settings.input is not None
    return open_source(
        settings.input,
        encoding=settings.encoding,
        header=settings.header,
        comment=settings.comment,
        cancelled=lambda: control.stopped,
    )


def state_of(settings: Settings) -> State | None:
    """By what it shows that the input was changed; None for one that can be read only once."""
    if settings.input is None or settings.input == STDIN:
        return None
    try:
        there = Path(settings.input).stat()
    except (OSError, ValueError):
        return None  # opening it tells what is wrong
    if not stat.S_ISREG(there.st_mode):
        return None
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns


def expected_rows(stream: RowStream, settings: Settings) -> int | None:
    counts = (stream.estimated_row_count, settings.max_rows)
    return min((count for count in counts if count is not None), default=None)


@dataclass(frozen=True, slots=True)
class Intake:
    """A run's input, with what its rows are compared with. `store` and `lookups` are two
    connections: while rows are looked through, no commit is under way."""

    settings: Settings
    choice: ColumnChoice
    rules: Rules
    ledger: Ledger
    store: BioStore
    lookups: BioStore
    control: Control
    telemetry: Telemetry

    def artists(self, stream: RowStream) -> Iterator[Artist | Rejected | Skipped]:
        """The input's artists, with ids in the form of the table's. In a refresh the first of the
        rows with one id counts, as it did when the bio was written: else each of the others would
        look like a change."""
        artists = parse(
            islice(stream, self.settings.max_rows), self.choice, self.store.id_kind.canonical
        )
        return without_repeats(artists) if self.rules.refresh else artists

    def plan(self, read_as: State | None, before: DoneFront | None) -> Plan:
        """Tells what a run that goes on with a ledger will do, before its first call. `read_as` is
        the input's state when it was opened, None for one that can be read only once; `before` are
        the rows at the front of which it was known at the last stop that nothing is left to do."""
        if read_as is None:
            text = "input: it can be read only once, so what remains cannot be told beforehand"
            self.telemetry.emit("notice", run=self.rules.run, text=text)
            return NO_PLAN
        tally = SkipTally(self.rules.run, self.telemetry)

        def skipped(what: Skipped | Finished) -> None:
            if isinstance(what, Skipped):
                tally.add(what)
            else:
                tally.add_many("done", what.rows, what.changed_input, what.changed_prompt)

        try:
            again = open_input(self.settings, self.control)
        except StoppedError:
            return NO_PLAN  # the work finds that it is to end, and notes it
        with again as stream, self._looking(stream, before) as look:
            found = look(
                skipped=skipped,
                tell=lambda text: self.telemetry.emit("notice", run=self.rules.run, text=text),
                stopped=lambda: self.control.stopped,
            )
        tally.tell()
        if state_of(self.settings) != read_as:
            raise InputError(
                f"{self.settings.input}: was changed while it was looked through; no call was made."
                " Start again when it is whole"
            )
        if found.whole:
            self.telemetry.emit("planned", run=self.rules.run, **found.counts())
            for sentence in found.report():
                self.telemetry.emit("notice", run=self.rules.run, text=sentence)
        return found

    @contextmanager
    def _looking(
        self, stream: RowStream, before: DoneFront | None
    ) -> Iterator[Callable[..., Plan]]:
        """`plan`, with what it looks through. No commit is under way as long as it lasts."""
        under_way: set[str] = set()
        known = partial(self.lookups.known, self.ledger.id)
        if not (Look.takes(self.rules) and isinstance(stream, DelimitedStream)):
            artists = self.artists(stream)
            verdicts = judged(
                artists, known, self.rules, table=self.settings.table, under_way=under_way
            )
            yield partial(plan, verdicts, under_way)
            return
        with Nearby(
            self.store,
            self.ledger.id,
            self.rules.prompt_sha256,
            one_bio_each=self.ledger.one_bio_each,
        ) as nearby:
            look = Look(
                known,
                nearby,
                self.rules,
                self.choice,
                self.store.id_kind.canonical,
                table=self.settings.table,
                under_way=under_way,
            )
            finished = None
            if before is not None and self.settings.max_rows is None:
                stream.go_on_at(before.place)
                finished = before.finished
            rows = islice(stream.cells(), self.settings.max_rows)
            yield partial(plan, look.through(rows, finished), under_way, place_of=look.place_of)

    def behind(self, stream: RowStream, front: Front) -> Iterator[Artist | Rejected | Skipped]:
        """What the work has to look at; the front is not read again where that can be helped."""
        if front.place is None or not isinstance(stream, DelimitedStream):
            artists = self.artists(stream)
            return behind(front.rows, artists, stopped=lambda: self.control.stopped)
        stream.go_on_at(front.place)
        left = None if self.settings.max_rows is None else self.settings.max_rows - front.rows
        artists = parse(islice(stream, left), self.choice, self.store.id_kind.canonical)
        return chain(front.rejected, artists)
