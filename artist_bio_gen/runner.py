"""One run, from the settings to the result. Read this first: it is the story of the program.

Nothing is bought before everything that can be wrong has been looked at: the input and its
columns, the prompt, the ledger, the database, and what an earlier run left behind. The model
is opened last, and only when an artist is left who needs it.
"""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from artist_bio_gen import __version__
from artist_bio_gen.config import Settings, command_line, masked, secrets
from artist_bio_gen.database.connect import describe
from artist_bio_gen.database.opening import open_database
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    ArtistBioGenError,
    LedgerError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.generator.api import StoredPrompt
from artist_bio_gen.generator.model import Call, Model, choose_model
from artist_bio_gen.ledger.failures import FailedFile
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.ledger import Ledger
from artist_bio_gen.ledger.sharing import only_run, require_local
from artist_bio_gen.ledger.segments import noted_seq, real
from artist_bio_gen.masking import redact
from artist_bio_gen.memory import keep_flat
from artist_bio_gen.parser import choose_columns, parse
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.committer import Committer
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.pool import Processor
from artist_bio_gen.prompts import Prompt
from artist_bio_gen.resume import Rules, pending, reconcile, take_over, writing_anew
from artist_bio_gen.sources import STDIN, RowStream, open_source
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.counters import Counters, Snapshot
from artist_bio_gen.values import Artist, Bio, Done, Generate, Rejected, path_text

_Row = TypeVar("_Row")

SHOWN_REQUESTS = 5
"""Requests that a dry run shows in full."""

SHOWN_REJECTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to. Counts are of this run alone; `recovered` are replies of earlier runs,
    taken from their journals; tokens are those of its calls, failed
    ones too where the API told. `head_seq` and `head_hash` are the ledger's last line (0 and
    the first `prev` for an empty ledger); `ledger` is None after a dry run.

    `error` says what ended the run before its input did; an error before the first row is
    raised instead. `resume_command` is None when nothing is left. `messages` are whole
    sentences for a person, one each.
    """

    exit_code: int
    run: str
    done: int = 0
    failed: int = 0
    rejected: int = 0
    recovered: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    ledger: Path | None = None
    head_seq: int = 0
    head_hash: str = ""
    failures: Path | None = None
    resume_command: str | None = None
    error: str | None = None
    messages: tuple[str, ...] = ()


def run(
    settings: Settings,
    *,
    counters: Counters,
    telemetry: Telemetry,
    say: Callable[[str], None],
    control: Control,
    attended: bool,
) -> RunResult:
    """Does the job. `counters` is one of `telemetry`'s hooks. `say` shows a sentence at once.
    `attended`: a person sees what is chosen, so the local parts need no other consent.

    Raises ArtistBioGenError for what is wrong before the first row; later the result tells.
    """
    run_id = str(uuid.uuid4())
    keep_flat()
    _check(settings)
    try:
        return _run(settings, run_id, counters, telemetry, say, control, attended=attended)
    except StoppedError:
        return RunResult(
            exit_code=EXIT_INTERRUPTED,
            run=run_id,
            resume_command=command_line(settings, resume=True),
            error="interrupted before the first row; no call was made",
        )


def _run(
    settings: Settings,
    run_id: str,
    counters: Counters,
    telemetry: Telemetry,
    say: Callable[[str], None],
    control: Control,
    *,
    attended: bool,
) -> RunResult:
    with ExitStack() as stack:
        stream = stack.enter_context(_open_input(settings, control))
        choice = choose_columns(
            stream.columns, settings.id_column, settings.name_column, settings.data_columns
        )
        rows = islice(stream, settings.max_rows)
        model = _choose_model(settings, attended=attended, say=say)
        if settings.dry_run:
            return _dry_run(run_id, parse(rows, choice), model)

        books = _open_books(settings, run_id, stack, control, telemetry, say, attended=attended)
        stack.enter_context(only_run(books.ledger.path, _source(settings)))
        rules = _begin(settings, run_id, books, stream, model, telemetry, say)
        under_way: set[str] = set()
        left = pending(
            parse(rows, choice, books.store.id_kind.canonical),
            partial(books.lookups.known, books.ledger.id),
            rules,
            table=settings.table,
            under_way=under_way,
        )
        opened = _OpenedLate(model, stack, say, control)
        # Closed before the model is: calls that are left in flight are broken off then, and must
        # stay in the journal as they are, for the next start to name them.
        with Journal(books.ledger.path, run_id) as journal:
            processor = Processor(
                Caller(
                    opened.generate,
                    journal,
                    run=run_id,
                    policy=RetryPolicy(settings.max_attempts, settings.max_wait),
                    control=control,
                    telemetry=telemetry,
                    redact=partial(redact, secrets=secrets(settings)),
                ),
                journal,
                books.committer,
                ledger_id=books.ledger.id,
                run=run_id,
                workers=model.workers,
                under_way=under_way,
                control=control,
                telemetry=telemetry,
                max_consecutive_failures=settings.max_consecutive_failures,
                on_done=_first_bios(settings.show_bios, say),
            )
            all_back = processor.run(opened.before_first_artist(left), grace=settings.grace)
        if not all_back:
            say(f"calls in flight were left after {settings.grace:g} s; the next start names them")
        return _finish(settings, run_id, books, rules, counters, telemetry, say, control)


# ---- what a run needs, opened and checked ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Books:
    """Where it is written what was done. Two connections: the committer's and the feeder's."""

    ledger: Ledger
    failed_file: FailedFile
    database: str
    store: BioStore
    lookups: BioStore
    committer: Committer


def _open_books(
    settings: Settings,
    run_id: str,
    stack: ExitStack,
    control: Control,
    telemetry: Telemetry,
    say: Callable[[str], None],
    *,
    attended: bool,
) -> _Books:
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
    ledger = stack.enter_context(_open_ledger(settings, say, control))
    failed_file = FailedFile(ledger.path, run_id)
    committer = Committer(
        ledger,
        store,
        failed_file,
        run=run_id,
        reconcile=partial(reconcile, ledger, store),
        telemetry=telemetry,
    )
    return _Books(ledger, failed_file, database, store, lookups, committer)


def _begin(
    settings: Settings,
    run_id: str,
    books: _Books,
    stream: RowStream,
    model: Model,
    telemetry: Telemetry,
    say: Callable[[str], None],
) -> Rules:
    """Brings ledger and database to one state, takes over what dead runs left, and tells. Raises
    StoppedError when the run is to end while the database is waited for."""
    ledger, store = books.ledger, books.store
    with ledger.locked():
        found = reconcile(ledger, store, put_back_all=settings.restore)
        store.begin_run(run_id, ledger.id, __version__, masked(settings))
        telemetry.emit(
            "started",
            run=run_id,
            ledger=ledger.id,
            input=stream.name,
            rows=_expected_rows(stream, settings),
            workers=model.workers,
            model=model.name,
            prompt_sha256=model.fingerprint,
            database=describe(books.database),
            table=settings.table,
            settings=masked(settings),
        )
        taken = take_over(ledger, store, books.committer.commit_locked, telemetry)
    telemetry.emit("recovered", run=run_id, **asdict(found), **asdict(taken))
    for sentence in (*found.report(), *taken.report()):
        telemetry.emit("notice", run=run_id, text=sentence)
    source = _source(settings)
    return Rules(
        run=run_id,
        prompt_sha256=model.fingerprint,
        on_missing=settings.on_missing,
        keep_existing=settings.keep_existing,
        retry_failed=settings.retry_failed,
        anew_after=writing_anew(store, ledger, source, again=settings.again, say=say),
    )


def _check(settings: Settings) -> None:
    if settings.input is None:
        raise UsageError("no input; give a file with --input")
    if settings.again and settings.keep_existing:
        raise UsageError(
            "--again writes bios anew and --keep-existing keeps them; give one of the two"
        )
    if settings.dry_run:
        return
    if not settings.allow_network_filesystem:
        require_local(real(settings.output))
    there = settings.output.exists()
    if there and not settings.resume:
        raise UsageError(
            f"{settings.output}: a ledger is there already and is never overwritten; go on with it"
            f" by: {command_line(settings, resume=True)}, or name another file with --output"
        )


def _source(settings: Settings) -> str:
    """The input, whatever folder the command was called in."""
    return STDIN if settings.input == STDIN else path_text(Path(settings.input or "").resolve())


def _open_input(settings: Settings, control: Control) -> RowStream:
    assert settings.input is not None
    return open_source(
        settings.input,
        encoding=settings.encoding,
        header=settings.header,
        comment=settings.comment,
        cancelled=lambda: control.stopped,
    )


def _expected_rows(stream: RowStream, settings: Settings) -> int | None:
    counts = (stream.estimated_row_count, settings.max_rows)
    return min((count for count in counts if count is not None), default=None)


def _open_ledger(settings: Settings, say: Callable[[str], None], control: Control) -> Ledger:
    path = real(settings.output)

    def cancelled() -> bool:
        return control.stopped_longer_than(settings.grace)

    if settings.resume and path.exists():
        return Ledger.open(path, cancelled=cancelled)
    if settings.resume and (noted := noted_seq(path)):
        say(
            f"{path} is gone; its head is there and tells of {noted:,} lines, which are"
            " brought back from the database"
        )
        return Ledger.reopen(path, cancelled=cancelled)
    if settings.resume:
        say(f"{path}: no ledger is there yet; a new one is begun")
    # Refuses one that another process has begun meanwhile.
    return Ledger.create(path, cancelled=cancelled)


def _open_store(
    settings: Settings, database: str, control: Control, telemetry: Telemetry
) -> BioStore:
    def trouble(reason: str) -> None:
        control.pause()
        telemetry.emit("paused", reason=f"the database is away: {reason}")

    def recovery() -> None:
        control.resume()
        telemetry.emit("flowing", reason="the database is back")

    return BioStore(
        database,
        table=settings.table,
        insert_missing=settings.on_missing == "insert",
        max_wait=settings.max_wait,
        on_trouble=trouble,
        on_recovery=recovery,
        sleep=control.sleep,
    )


def _choose_model(settings: Settings, *, attended: bool, say: Callable[[str], None]) -> Model:
    model = choose_model(
        Call(
            prompt=_prompt(settings, say),
            api=settings.api,
            transport=settings.transport,
            temperature=settings.temperature,
            max_output_tokens=settings.max_output_tokens,
            timeout=None if settings.origin("timeout") == "default" else settings.timeout,
            connect_timeout=settings.connect_timeout,
        ),
        base_url=settings.base_url,
        api_key=settings.api_key,
        org_id=settings.org_id,
        model=settings.model,
        local_model=settings.local_model,
        models_dir=None if settings.data_dir is None else settings.data_dir / "models",
        workers=settings.workers,
        may_be_local=attended or settings.embedded or settings.yes,
        may_ask=not settings.dry_run,
    )
    say(model.chosen)
    return model


def _prompt(settings: Settings, say: Callable[[str], None]) -> Prompt | StoredPrompt:
    if settings.prompt_id is None:
        return Prompt.load(settings.prompt)
    if settings.prompt is not None:
        raise UsageError("--prompt and --prompt-id exclude each other; give one of the two")
    say(
        "stored prompts are shut down at OpenAI on 30 November 2026; move the text into a file"
        " and give it with --prompt"
    )
    return StoredPrompt(settings.prompt_id, settings.prompt_version)


class _OpenedLate:
    """The model, opened when the first artist needs it: a run with nothing left to do starts no
    local model and needs no server."""

    def __init__(
        self, model: Model, stack: ExitStack, say: Callable[[str], None], control: Control
    ) -> None:
        self._model = model
        self._stack = stack
        self._say = say
        self._control = control
        self._generate: Generate | None = None

    def before_first_artist(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for row in rows:
            if self._generate is None and isinstance(row, Artist):
                self._control.wait_until_flowing()
                self._generate = self._stack.enter_context(self._model.open(self._say))
            yield row

    def generate(self, artist: Artist, request_id: str) -> Bio:
        assert self._generate is not None
        return self._generate(artist, request_id)


def _first_bios(count: int, say: Callable[[str], None]) -> Callable[[Done], None]:
    """Shows so many bios, so that a person sees early what is being paid for."""
    left = count

    def show(done: Done) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            say(f"{done.artist.name}\n{textwrap.indent(textwrap.fill(done.bio.text, 88), '    ')}")

    return show


# ---- the end ----------------------------------------------------------------------------------


def _finish(
    settings: Settings,
    run_id: str,
    books: _Books,
    rules: Rules,
    counters: Counters,
    telemetry: Telemetry,
    say: Callable[[str], None],
    control: Control,
) -> RunResult:
    """Notes the end in the ledger's head, the database and the log, as far as they are there."""
    try:
        with books.ledger.locked():
            if books.ledger.catch_up():
                books.ledger.save_head()
    except LedgerError as exc:
        control.stop("error", exc)  # changes nothing where it is what had ended the run
    result = _result(settings, run_id, books, counters, control)
    counts = {
        "done": result.done,
        "failed": result.failed,
        "rejected": result.rejected,
        "skipped": dict(result.skipped),
    }
    try:
        if (
            rules.anew_after is not None
            and not control.stopped
            and not books.store.has_transient_failures(books.ledger.id, run_id)
        ):
            books.store.set_writing_anew(books.ledger.id, None, None)
        books.store.end_run(run_id, result.exit_code, counts)
        telemetry.emit(
            "stopped",
            run=run_id,
            reason=control.reason or "finished",
            exit_code=result.exit_code,
            counts=counts,
        )
    except (StoppedError, ArtistBioGenError) as exc:
        # The bios are safe; what a person is told must not be lost because the database is away
        # or the log's disk is full.
        say(f"the end of the run could not be noted: {exc or 'the database is away'}")
    return result


def _result(
    settings: Settings, run_id: str, books: _Books, counters: Counters, control: Control
) -> RunResult:
    now = counters.snapshot()
    left_out = now.failed + now.rejected + now.skipped.get("failed", 0)
    if control.error is not None:
        exit_code = control.error.exit_code
    elif control.stopped:
        exit_code = EXIT_INTERRUPTED
    else:
        exit_code = EXIT_SOME_FAILED if left_out else EXIT_DONE
    failures = books.failed_file.path
    return RunResult(
        exit_code=exit_code,
        run=run_id,
        done=now.done,
        failed=now.failed,
        rejected=now.rejected,
        recovered=now.recovered,
        skipped=dict(now.skipped),
        input_tokens=now.input_tokens,
        output_tokens=now.output_tokens,
        seconds=now.seconds,
        ledger=books.ledger.path,
        head_seq=books.ledger.head.seq,
        head_hash=books.ledger.head.hash,
        failures=failures if left_out and failures.exists() else None,
        resume_command=command_line(settings, resume=True) if control.stopped else None,
        error=None if control.error is None else str(control.error),
        messages=tuple(_changes(now)),
    )


def _changes(now: Snapshot) -> Iterator[str]:
    for count, what in ((now.changed_input, "input"), (now.changed_prompt, "prompt or model")):
        if count:
            yield (
                f"{count:,} finished artists have another {what} now; their bios were left as they"
                " are (--again writes all anew)"
            )


def _dry_run(run_id: str, rows: Iterable[Artist | Rejected], model: Model) -> RunResult:
    """Parses everything and shows the first requests; no call, no write, no database."""
    messages = []
    artists = rejected = 0
    for row in rows:
        if isinstance(row, Rejected):
            rejected += 1
            if rejected <= SHOWN_REJECTED:
                messages.append(f"row {row.row} would be rejected: {row.reason}")
            continue
        artists += 1
        if artists <= SHOWN_REQUESTS:
            messages.append(f"request for artist {row.id} ({row.name}):\n{model.show(row)}")
    messages.append(f"{artists:,} artists would be looked up, {rejected:,} rows rejected; no call")
    return RunResult(exit_code=EXIT_DONE, run=run_id, rejected=rejected, messages=tuple(messages))
