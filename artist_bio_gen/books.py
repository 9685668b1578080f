"""Where a run writes down what was done: the ledger and the database, opened and checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artist_bio_gen.config import Settings
from artist_bio_gen.database.opening import open_database
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.segments import find_id, real
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.space import Space
from artist_bio_gen.resume import reconcile, require_id
from artist_bio_gen.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Books:
    """Two connections: `store` is the committer's, `lookups` the feeder's. `begun`: the ledger
    was made by this run. `space` is that of the ledger's folder."""

    ledger: Ledger
    begun: bool
    space: Space
    failed_file: FailedFile
    database: str
    store: BioStore
    lookups: BioStore
    committer: Committer


def open_books(
    settings: Settings,
    run_id: str,
    stack: ExitStack,
    control: Control,
    telemetry: Telemetry,
    say: Callable[[str], None],
    *,
    attended: bool,
) -> Books:
    """Opens them for as long as `stack` does. Raises ArtistBioGenError."""
    database = open_database(
        settings.database_url,
        table=settings.table,
        allow_fsync_off=settings.allow_fsync_off,
        may_embed=attended or settings.embedded or settings.yes,
        may_migrate=settings.migrate or settings.yes,
        may_create_table=settings.yes,
        data_dir=settings.data_dir,
        say=say,
    )
    store = stack.enter_context(_open_store(settings, database, control, telemetry))
    lookups = stack.enter_context(_open_store(settings, database, control, telemetry))
    path = real(settings.output)
    space = Space(path.parent, settings.min_free_mb)
    if path.parent.is_dir():  # else making the ledger says what is missing
        space.require()
    if settings.resume:
        require_id(path, store, way_out=_to_begin_anew(path))
    ledger, begun = _open_ledger(settings, path, say, control)
    stack.enter_context(ledger)
    failed_file = FailedFile(ledger.path, run_id)
    committer = Committer(
        ledger,
        store,
        failed_file,
        run=run_id,
        reconcile=partial(reconcile, ledger, store),
        telemetry=telemetry,
    )
    return Books(ledger, begun, space, failed_file, database, store, lookups, committer)


def _to_begin_anew(path: Path) -> str:
    first = "remove the empty file and start" if path.exists() else "start"
    return (
        f". If that one was moved away and a new one is to begin here, {first} without --resume, or"
        " name another with --output; bios in the database are not bought again"
    )


def _open_ledger(
    settings: Settings, path: Path, say: Callable[[str], None], control: Control
) -> tuple[Ledger, bool]:
    """The ledger, and whether it is a new one."""

    def cancelled() -> bool:
        return control.stopped_longer_than(settings.grace)

    if settings.resume and path.exists():
        return Ledger.open(path, cancelled=cancelled), False
    if settings.resume and find_id(path) is not None:
        say(f"{path} is gone; its head is there, and its lines are brought back from the database")
        return Ledger.reopen(path, cancelled=cancelled), False
    if settings.resume:
        say(f"{path}: no ledger is there yet; a new one is begun")
    # Refuses one that another process has begun meanwhile.
    return Ledger.create(path, cancelled=cancelled), True


def _open_store(
    settings: Settings, database: str, control: Control, telemetry: Telemetry
) -> BioStore:
    def trouble(reason: str) -> None:
        control.pause()
        telemetry.emit("paused", reason=f"the database is away: {reason}")

    def recovery() -> None:
        try:
            # First, so that the log has no call between `paused` and `flowing`.
            telemetry.emit("flowing", reason="the database is back")
        finally:
            control.resume()

    store = BioStore(
        database,
        table=settings.table,
        insert_missing=settings.on_missing == "insert",
        max_wait=settings.max_wait,
        on_trouble=trouble,
        on_recovery=recovery,
        sleep=control.sleep,
    )
    control.when_stopped(partial(store.break_off_in, settings.grace))
    return store
