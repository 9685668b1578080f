"""One run, from the settings to the result. Read this first: it is the story of the program.

Nothing is bought before everything that can be wrong has been looked at: the input and its
columns, the prompt, the ledger, the database, and what an earlier run left behind. The model
is opened last, and only when an artist is left who needs it.
"""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from artist_bio_gen import __version__
from artist_bio_gen.books import Books, open_books
from artist_bio_gen.config import Settings, command_line, masked, secrets
from artist_bio_gen.database.connect import describe
from artist_bio_gen.dry_run import dry_run
from artist_bio_gen.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    ArtistBioGenError,
    LedgerError,
    LedgerFileError,
    StoppedError,
    UsageError,
)
from artist_bio_gen.front import FrontNote
from artist_bio_gen.generator.api import StoredPrompt
from artist_bio_gen.generator.model import Call, Model, choose_model
from artist_bio_gen.intake import (
    Intake,
    State,
    columns_written,
    open_input,
    source_of,
    state_of,
    worth_telling,
)
from artist_bio_gen.ledger.journal import Journal
from artist_bio_gen.ledger.segments import find_id, real
from artist_bio_gen.ledger.sharing import only_run, require_local
from artist_bio_gen.masking import holds_key, redact
from artist_bio_gen.memory import keep_flat
from artist_bio_gen.parser import ColumnChoice, choose_columns, parse
from artist_bio_gen.pending import Rules, pending, writing_anew
from artist_bio_gen.pending.plan import NO_PLAN
from artist_bio_gen.processor.caller import Caller, RetryPolicy
from artist_bio_gen.processor.control import Control
from artist_bio_gen.processor.pool import Processor
from artist_bio_gen.prompts import Prompt
from artist_bio_gen.result import RunResult, sum_up
from artist_bio_gen.resume import reconcile, require_commit_rows, take_over
from artist_bio_gen.sources import Reading
from artist_bio_gen.telemetry import Telemetry
from artist_bio_gen.telemetry.counters import Counters
from artist_bio_gen.telemetry.progress import one_line
from artist_bio_gen.values import (
    Answered,
    Artist,
    Bio,
    Done,
    Failed,
    Generate,
    Prepared,
    Rejected,
    Skipped,
)

_Row = TypeVar("_Row")


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
    this = _Run(settings, str(uuid.uuid4()), counters, telemetry, say, control, attended)
    keep_flat()
    _check(settings)
    try:
        return _run(this)
    except StoppedError:
        return RunResult(
            exit_code=EXIT_INTERRUPTED,
            run=this.id,
            resume_command=command_line(settings, resume=True),
            error="interrupted before the first row; no call was made",
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """What each step of a run may need, as `run` got it."""

    settings: Settings
    id: str
    counters: Counters
    telemetry: Telemetry
    say: Callable[[str], None]
    control: Control
    attended: bool


def _run(this: _Run) -> RunResult:
    settings, control = this.settings, this.control
    with ExitStack() as stack:
        read_as = state_of(settings)
        stream = stack.enter_context(open_input(settings, control))
        for sentence in worth_telling(stream):
            this.say(sentence)
        choice = _choose_columns(this, stream)
        model = _choose_model(this)
        if settings.dry_run:
            found = dry_run(parse(stream, choice, columns=lambda: stream.columns), model)
            return RunResult(
                exit_code=EXIT_DONE, run=this.id, rejected=found.rejected, messages=found.messages
            )

        books = open_books(
            settings, this.id, stack, control, this.telemetry, this.say, attended=this.attended
        )
        stack.enter_context(only_run(books.ledger.path, source_of(settings)))
        note = _front_note(
            settings, books, choice, model, read_as if stream.plain is not None else None
        )
        rules, untouched = _begin(this, books, stream, model)
        before = note.done(books.ledger.id) if untouched else None
        intake = Intake(
            settings,
            choice,
            rules,
            books.ledger,
            books.store,
            books.lookups,
            control,
            this.telemetry,
        )
        planned = NO_PLAN if books.begun else intake.plan(read_as, before)
        under_way: set[str] = set()
        left = pending(
            intake.behind(stream, planned.front),
            partial(books.lookups.known, books.ledger.id),
            rules,
            table=settings.table,
            under_way=under_way,
        )
        _write_bios(this, books, _OpenedLate(model, stack, this.say, control), left, under_way)
        # With --max-rows nothing is known of what stands behind.
        done = note.to_note(planned.done if settings.max_rows is None else None)
        return _finish(this, books, rules, done)


def _write_bios(
    this: _Run,
    books: Books,
    opened: _OpenedLate,
    left: Iterable[Artist | Failed | Rejected | Skipped],
    under_way: set[str],
) -> None:
    """Has the bios written that are left to write, and committed."""
    settings, control, ledger = this.settings, this.control, books.ledger
    # Closed before the model is: calls that are left in flight are broken off then, and must
    # stay in the journal as they are, for the next start to name them.
    with _journal(ledger.path, this.id, control) as journal:
        processor = Processor(
            Caller(
                opened,
                journal,
                run=this.id,
                policy=RetryPolicy(settings.max_attempts, settings.max_wait),
                control=control,
                telemetry=this.telemetry,
                redact=partial(redact, secrets=secrets(settings)),
                holds_secret=partial(holds_key, secrets=secrets(settings)),
                require_room=books.space.require,
            ),
            journal,
            books.committer,
            ledger_id=ledger.id,
            run=this.id,
            workers=opened.model.workers,
            under_way=under_way,
            control=control,
            telemetry=this.telemetry,
            max_consecutive_failures=settings.max_consecutive_failures,
            on_done=_first_bios(settings.show_bios, this.say),
        )
        all_back = processor.run(opened.before_first_artist(left), grace=settings.grace)
    if not all_back:
        this.say(f"calls in flight were left after {settings.grace:g} s; the next start names them")


@contextmanager
def _journal(ledger: Path, run_id: str, control: Control) -> Iterator[Journal]:
    """One that cannot be removed at the end ends the run as any failing disk does: the first cause
    is told, and so is what was done."""
    journal = Journal(ledger, run_id)
    try:
        yield journal
    finally:
        try:
            journal.close()
        except LedgerFileError as exc:
            control.stop("error", exc)


# ---- what a run needs, opened and checked ----------------------------------------------------


def _begin(this: _Run, books: Books, stream: Reading, model: Model) -> tuple[Rules, bool]:
    """Brings ledger and database to one state, takes over what dead runs left, and tells. Gives the
    rules, and whether nobody had touched the ledger since the last stop. Raises StoppedError when
    the run is to end while the database is waited for."""
    settings, telemetry, ledger, store = this.settings, this.telemetry, books.ledger, books.store
    with ledger.locked():
        found = reconcile(
            ledger,
            store,
            put_back_all=settings.restore,
            trust_note=settings.check == "new" and not settings.restore,
        )
        require_commit_rows(ledger, store)
        store.begin_run(this.id, ledger.id, __version__, masked(settings))
        telemetry.emit(
            "started",
            run=this.id,
            ledger=ledger.id,
            input=stream.name,
            rows=stream.estimated_row_count,
            workers=model.workers,
            model=model.name,
            prompt_sha256=model.fingerprint,
            database=describe(books.database),
            table=settings.table,
            settings=masked(settings),
        )
        taken = take_over(ledger, store, books.committer.commit_locked, telemetry)
    telemetry.emit("recovered", run=this.id, **asdict(found), **asdict(taken))
    for sentence in (*found.report(), *taken.report()):
        telemetry.emit("notice", run=this.id, text=sentence)
    rules = Rules(
        run=this.id,
        prompt_sha256=model.fingerprint,
        on_missing=settings.on_missing,
        keep_existing=settings.keep_existing,
        refresh=settings.refresh == "changed",
        retry_failed=settings.retry_failed,
        anew_after=writing_anew(
            store,
            ledger,
            source_of(settings),
            again=settings.again,
            just_some=_just_some(settings),
            say=this.say,
        ),
    )
    return rules, found.noted


def _front_note(
    settings: Settings,
    books: Books,
    choice: ColumnChoice,
    model: Model,
    read_as: State | None,
) -> FrontNote:
    source = None if read_as is None else Path(settings.input or "")
    how = (
        __version__,
        *(model.fingerprint, settings.table, books.store.id_kind.sql_type),
        *(settings.format or "", settings.encoding or "", settings.delimiter or ""),
        *(str(settings.header), settings.comment, str(settings.skip_rows)),
        *(column.name for column in choice.columns),
        *map(str, (choice.id, choice.name, *choice.data)),
    )
    return FrontNote(books.ledger.path, source, how)


def _check(settings: Settings) -> None:
    if settings.input is None:
        raise UsageError("no input; give a file with --input")
    if settings.again and settings.keep_existing:
        raise UsageError(
            "--again writes bios anew and --keep-existing keeps them; give one of the two"
        )
    if settings.again and _just_some(settings):
        raise UsageError(
            "--again writes every bio anew, --refresh and --retry-failed just some; give either"
        )
    if settings.refresh == "changed" and settings.keep_existing:
        raise UsageError(
            "--refresh changed writes bios anew and --keep-existing keeps them; give one of the two"
        )
    if settings.dry_run:
        return
    if not settings.allow_network_filesystem:
        require_local(real(settings.output))
    there = settings.output.exists()
    if _just_some(settings) and not there and find_id(real(settings.output)) is None:
        raise UsageError(
            f"{settings.output}: no ledger is there, so nothing can have failed or changed; begin"
            " one without --refresh and --retry-failed"
        )
    if there and not settings.resume:
        raise UsageError(
            f"{settings.output}: a ledger is there already and is never overwritten; go on with it"
            f" by: {command_line(settings, resume=True)}, or name another file with --output"
        )


def _choose_columns(this: _Run, stream: Reading) -> ColumnChoice:
    settings = this.settings
    written = columns_written(settings)
    choice = choose_columns(
        stream.columns, settings.id_column, settings.name_column, settings.data_columns, written
    )
    there = {column.name for column in stream.columns}
    if settings.data_columns is None and there.issuperset(written):
        for name in written:
            this.say(
                f"input: the column {name!r} of table {settings.table} is what the run writes, so"
                " the model is not told it; name it with --data-columns to tell it nevertheless"
            )
    return choice


def _just_some(settings: Settings) -> bool:
    return settings.retry_failed or settings.refresh == "changed"


def _choose_model(this: _Run) -> Model:
    settings = this.settings
    model = choose_model(
        Call(
            prompt=_prompt(settings, this.say),
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
        may_be_local=this.attended or settings.embedded or settings.yes,
        may_ask=not settings.dry_run,
    )
    this.say(model.chosen)
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
        self.model = model
        self._stack = stack
        self._say = say
        self._control = control
        self._generate: Generate | None = None

    def before_first_artist(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for row in rows:
            if self._generate is None and isinstance(row, Artist):
                self._control.wait_until_flowing()
                self._generate = self._stack.enter_context(self.model.open(self._say))
            yield row

    def prepare(self, artist: Artist) -> Prepared:
        assert self._generate is not None
        return self._generate.prepare(artist)

    def ask(self, prepared: Prepared, request_id: str) -> Answered:
        assert self._generate is not None
        return self._generate.ask(prepared, request_id)

    def read(self, answered: Answered) -> Bio:
        assert self._generate is not None
        return self._generate.read(answered)


def _first_bios(count: int, say: Callable[[str], None]) -> Callable[[Done], None]:
    """Shows so many bios, so that a person sees early what is being paid for."""
    left = count

    def show(done: Done) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            text = textwrap.indent(textwrap.fill(done.bio.text, 88), "    ")
            say(f"{one_line(done.artist.name)}\n{text}")

    return show


# ---- the end ----------------------------------------------------------------------------------


def _finish(this: _Run, books: Books, rules: Rules, done: Mapping[str, object] | None) -> RunResult:
    """Notes the end in the ledger's head, the database and the log, as far as they are there."""
    settings, control = this.settings, this.control
    try:
        with books.ledger.locked():
            if books.ledger.catch_up():
                books.ledger.save_head(done=done)
    except StoppedError:
        pass  # another process holds it for longer than the grace; whoever is next notes the head
    except LedgerError as exc:
        control.stop("error", exc)  # changes nothing where it is what had ended the run
    result = sum_up(
        this.id,
        this.counters.snapshot(),
        control,
        ledger=books.ledger.path,
        head=books.ledger.head,
        failures=books.failed_file.path,
        resume_command=command_line(settings, resume=True),
    )
    counts = {
        "done": result.done,
        "failed": result.failed,
        "rejected": result.rejected,
        "skipped": dict(result.skipped),
    }
    try:
        if (
            rules.anew_after is not None
            and not rules.just_some
            and not control.stopped
            # With --max-rows it may have been begun over more rows than were read here.
            and (settings.again or settings.max_rows is None)
            and not books.store.has_transient_failures(books.ledger.id, this.id)
        ):
            books.store.set_writing_anew(books.ledger.id, None, None)
        books.store.end_run(this.id, result.exit_code, counts)
        this.telemetry.emit(
            "stopped",
            run=this.id,
            reason=control.reason or "finished",
            exit_code=result.exit_code,
            counts=counts,
        )
    except (StoppedError, ArtistBioGenError) as exc:
        # The bios are safe; what a person is told must not be lost because the database is away
        # or the log's disk is full.
        this.say(f"the end of the run could not be noted: {str(exc) or 'the database is away'}")
    return result
