"""The input of a run: opened, looked through before the work begins, and handed to it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from artist_bio_gen.config import Settings, source_options
from artist_bio_gen.database.nearby import Nearby
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import InputError, StoppedError
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.masking import mask_address
from artist_bio_gen.parser import ColumnChoice, parse
from artist_bio_gen.pending import Rules, judged
from artist_bio_gen.pending.look import Finished, Look
from artist_bio_gen.pending.plan import NO_PLAN, DoneFront, Front, Plan, behind, plan
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.skips import SkipTally
from artist_bio_gen.repeats import without_repeats
from artist_bio_gen.sources import Reading, open_source
from artist_bio_gen.sources.databases.queries import TABLE, table_parts
from artist_bio_gen.sources.formats import database_of
from artist_bio_gen.sources.places.local import STDIN, files_of, is_address
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.values import Artist, Rejected, Skipped, path_text

State: TypeAlias = tuple[int, ...]
"""Of a file: by what it shows that it was changed."""


def source_of(settings: Settings) -> str:
    """The input, whatever folder the command was called in; passwords in an address masked."""
    source = settings.input or ""
    if source == STDIN:
        return STDIN
    return mask_address(source) if is_address(source) else path_text(Path(source).resolve())


def open_input(settings: Settings, control: Control) -> Reading:
    assert settings.input is not None
    options = source_options(settings)
    if settings.dry_run:
        options = replace(options, error_threshold=1.0)  # all that is wrong is to be seen
    return open_source(settings.input, options, cancelled=lambda: control.stopped)


def worth_telling(stream: Reading) -> Iterator[str]:
    """What was found out about the input, and may be wrong; a sentence each."""
    facts = stream.facts()
    if "named" in facts:
        yield f"input: {facts['named']}"
    if "columns_missing" in facts:
        yield f"input: {stream.name}: {facts['columns_missing']}"
    if "encoding_confidence" in facts:
        yield (
            f"input: {stream.name} is read as {facts['encoding']}, found by its content (confidence"
            f" {facts['encoding_confidence']}); --encoding names another"
        )


def columns_written(settings: Settings) -> tuple[str, ...]:
    """Columns of the input that a run writes, as it is the table of bios itself or one of that
    name: told to the model, each bio would change the input that it was made of."""
    table = _table_read(settings)
    ours = tuple(settings.table.split("."))
    if table is None or table[-1] != ours[-1] or (len(table) == len(ours) and table != ours):
        return ()
    return ("bio",)


def _table_read(settings: Settings) -> tuple[str, ...] | None:
    """The name, in its parts, of the table that is read at a Postgres."""
    source = settings.input or ""
    database = database_of(source)
    if database is None or settings.query is not None:
        return None
    if database.name == "supabase":
        path = urlsplit(source.removeprefix("supabase+")).path
        return (unquote(path.rstrip("/").rpartition("/")[2]),)
    return table_parts(settings.source_table or TABLE) if database.name == "postgres" else None


def state_of(settings: Settings) -> State | None:
    """By what it shows that the input was changed; None for one that can be read only once."""
    state: list[int] = []
    try:
        files = files_of(settings.input or STDIN)
        for file in files or ():
            there = Path(file).stat()
            if not stat.S_ISREG(there.st_mode):
                return None
            state += (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
    except (InputError, OSError, ValueError):
        return None  # opening it tells what is wrong
    return None if files is None else tuple(state)


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

    def artists(self, stream: Reading) -> Iterator[Artist | Rejected | Skipped]:
        """The input's artists, with ids in the form of the table's. In a refresh the first of the
        rows with one id counts, as it did when the bio was written: else each of the others would
        look like a change."""
        artists = self._parsed(stream)
        return without_repeats(artists) if self.rules.refresh else artists

    def _parsed(self, stream: Reading) -> Iterator[Artist | Rejected]:
        return parse(
            stream, self.choice, self.store.id_kind.canonical, columns=lambda: stream.columns
        )

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
                f"{stream.name}: was changed while it was looked through; no call was made."
                " Start again when it is whole"
            )
        if found.whole:
            self.telemetry.emit("planned", run=self.rules.run, **found.counts())
            for sentence in found.report():
                self.telemetry.emit("notice", run=self.rules.run, text=sentence)
        return found

    @contextmanager
    def _looking(self, stream: Reading, before: DoneFront | None) -> Iterator[Callable[..., Plan]]:
        """`plan`, with what it looks through. No commit is under way as long as it lasts."""
        under_way: set[str] = set()
        known = partial(self.lookups.known, self.ledger.id)
        plain = stream.plain
        if plain is None or not Look.takes(self.rules):
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
                plain.go_on_at(before.place)
                finished = before.finished
            rows = islice(plain.cells(), self.settings.max_rows)
            yield partial(plan, look.through(rows, finished), under_way, place_of=look.place_of)

    def behind(self, stream: Reading, front: Front) -> Iterator[Artist | Rejected | Skipped]:
        """What the work has to look at; the front is not read again where that can be helped."""
        unread = sum(each.unread for each in front.rejected)
        stops = unread and self.settings.on_error == "stop"
        if front.place is None or stream.plain is None or stops:
            artists = self.artists(stream)
            return behind(front.rows, artists, stopped=lambda: self.control.stopped)
        stream.go_on_at(front.place, front.rows, unread)
        return chain(front.rejected, self._parsed(stream))
