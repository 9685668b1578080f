# ruff: noqa: RUF009 - option() gives a dataclass field, made once for the table
"""Settings: what a run is told, and where each value came from.

`Settings` is the one table of options: the command line, its help, the variables of the
environment and docs/options.md are made from it. A value is taken from the first that has it:
flags, the environment, `.env.local`, `.env`, the default. Nobody else reads the environment.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artist_bio_gen.config.options import (
    ADDRESS,
    COUNT,
    FILE,
    FLUSH,
    NAME_OR_FILE,
    NAMES,
    PREFIX,
    SECONDS,
    SWITCH,
    TEXT,
    Flush,
    Kind,
    Option,
    choice,
    number,
    option,
    options_of,
    whole,
)
from artist_bio_gen.config.source import FORMAT, INPUT, MEMORY, QUERY, ROWS, SourceOptions
from artist_bio_gen.errors import ConfigError
from artist_bio_gen.masking import mask_address, mask_key, passwords_in

COMMAND = "artist-bio-gen"
ENV_FILES = (".env.local", ".env")

Api: TypeAlias = Literal["auto", "responses", "chat"]
Transport: TypeAlias = Literal["lean", "openai"]
OnMissing: TypeAlias = Literal["insert", "skip", "fail"]
Refresh: TypeAlias = Literal["none", "changed"]
CheckLines: TypeAlias = Literal["new", "whole"]
Progress: TypeAlias = Literal["auto", "rich", "plain", "none"]

TABLE = "Artists table"
MODEL = "Prompt and model"
CALLS = "Calls"
LEDGER = "Ledger and resume"
LOCAL = "Local parts"
SCREEN = "On the screen"
LOGS = "Logs"

GROUPS = (
    *(INPUT, FORMAT, ROWS, QUERY, MEMORY),
    *(TABLE, MODEL, CALLS, LEDGER, LOCAL, SCREEN, LOGS),
)
"""In the order in which people see them."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(SourceOptions):
    """All settings of a run, in their types. Durations are in seconds."""

    # fmt: off
    input: str | None = option(None, Kind("FILE", "a path", str, path=True), INPUT,
        "The artists: a file, a pattern, an address or a database; - is the standard input.",
        otherwise="required")
    data_columns: tuple[str, ...] | None = option(None, NAMES, INPUT,
        "Columns that the model is told.", otherwise="all others")
    dry_run: bool = option(False, SWITCH, INPUT,
        "Read everything, show the first five requests and the counts; no call, no write.")

    database_url: str | None = option(None, TEXT, TABLE,
        "Postgres that keeps the bios. A password is better kept in a .env file.",
        env="DATABASE_URL", otherwise="embedded Postgres")
    table: str = option("artists", TEXT, TABLE,
        "Table with the columns id, name and bio.")
    on_missing: OnMissing = option("insert", choice("insert", "skip", "fail"), TABLE,
        "What to do with an artist who is not in the table.")
    keep_existing: bool = option(False, SWITCH, TABLE,
        "An artist whose row has a bio counts as done, wherever it came from.")
    migrate: bool = option(False, SWITCH, TABLE,
        "Create or update the program's own tables where that is needed.")
    allow_fsync_off: bool = option(False, SWITCH, TABLE,
        "Accept a server that may lose what it has committed (fsync=off).")

    prompt: Path | None = option(None, FILE, MODEL,
        "Prompt file (Jinja2).", otherwise="the one shipped")
    prompt_id: str | None = option(None, TEXT, MODEL,
        "Prompt stored at the server, for servers that still have them.",
        env="OPENAI_PROMPT_ID", otherwise="none")
    prompt_version: str | None = option(None, TEXT, MODEL,
        "Version of the stored prompt.", otherwise="the server's current one")
    model: str | None = option(None, TEXT, MODEL,
        "Name of the model at the API.", otherwise="asked of the server")
    api: Api = option("auto", choice("auto", "responses", "chat"), MODEL,
        "Kind of call; auto: Responses at OpenAI's own address, else chat.")
    base_url: str | None = option(None, ADDRESS, MODEL,
        "Address of the API.", env="OPENAI_BASE_URL", otherwise="OpenAI's, if there is a key")
    api_key: str | None = option(None, TEXT, MODEL,
        "Key of the API; not a flag, for those stand in the list of processes.",
        env="OPENAI_API_KEY", flag=False, secret=True, otherwise="none")
    org_id: str | None = option(None, TEXT, MODEL,
        "Organisation at OpenAI.", env="OPENAI_ORG_ID", otherwise="the key's own")
    temperature: float | None = option(None, number(0, 2), MODEL,
        "Sampling temperature.", otherwise="the model's own")
    max_output_tokens: int | None = option(None, COUNT, MODEL,
        "Upper limit of a reply's tokens.", otherwise="the model's own")
    transport: Transport = option("lean", choice("lean", "openai"), MODEL,
        "HTTP client: the program's own, or the openai package's.")

    workers: int | None = option(None, whole(1, 10_000), CALLS,
        "Calls under way at a time.", otherwise="chosen for the model")
    timeout: float = option(120.0, SECONDS, CALLS,
        "Time for one call in all.")
    connect_timeout: float = option(10.0, SECONDS, CALLS,
        "Time for connecting.")
    max_attempts: int = option(5, whole(1, 100), CALLS,
        "Calls for one artist before it counts as failed.")
    max_wait: float = option(600.0, SECONDS, CALLS,
        "Longest wait of one artist for a busy server, summed up.")
    max_consecutive_failures: int = option(50, whole(0), CALLS,
        "Stop after so many failures in a row; 0: never.")
    grace: float = option(30.0, SECONDS, CALLS,
        "After Ctrl+C, time for what is under way.")

    output: Path = option(Path("out.jsonl"), FILE, LEDGER,
        "The ledger.")
    resume: bool = option(False, SWITCH, LEDGER,
        "Go on with a ledger that exists.")
    again: bool = option(False, SWITCH, LEDGER,
        "Write every bio of this input anew, as its next generation.")
    refresh: Refresh = option("none", choice("none", "changed"), LEDGER,
        "Resume writes anew just the finished artists whose input, prompt or model has changed.")
    retry_failed: bool = option(False, SWITCH, LEDGER,
        "Resume takes again just what had failed, for good or not.")
    check: CheckLines = option("new", choice("new", "whole"), LEDGER,
        "Check at the start what was written since the last stop, or the whole ledger and input; "
        "the whole anyway if a file was touched since.")
    min_free_mb: int = option(64, whole(0), LEDGER,
        "Make no call with less room than this on the ledger's file system; 0: do not look.")
    restore: bool = option(False, SWITCH, LEDGER,
        "Put the ledger's bios into a database that does not know this ledger.")
    allow_network_filesystem: bool = option(False, SWITCH, LEDGER,
        "Accept a ledger where locks and fsync may not hold.")

    embedded: bool = option(False, SWITCH, LOCAL,
        "Agree to the embedded Postgres and the local model where no other is given; "
        "needed without a terminal.")
    yes: bool = option(False, SWITCH, LOCAL,
        "Agree to what would be asked: the local parts, making tables.")
    data_dir: Path | None = option(None, FILE, LOCAL,
        "Folder of the embedded Postgres and the model's files.", otherwise="the user's own")
    local_model: str | None = option(None, NAME_OR_FILE, LOCAL,
        "Local model: a name of the catalogue, or a GGUF file.", otherwise="the first installed")

    progress: Progress = option("auto", choice("auto", "rich", "plain", "none"), SCREEN,
        "A bar, plain lines or nothing; auto: a bar on a terminal. rows has plain lines alone.")
    show_bios: int = option(0, whole(0, 1000), SCREEN,
        "Show the first N bios as soon as they are committed.")
    verbose: bool = option(False, SWITCH, SCREEN,
        "Show each failure and retry, and the traceback of a defect.")

    log: bool = option(True, SWITCH, LOGS,
        "Keep a commit log: a JSON object for each event.")
    log_file: Path | None = option(None, FILE, LOGS,
        "The commit log.", otherwise="beside the ledger: out.jsonl.log")
    log_flush: Flush = option("line", FLUSH, LOGS,
        "Hand each line to the system, also sync it to disk, or hand over N lines at a time.")
    log_max_mb: int = option(100, whole(1, 1_000_000), LOGS,
        "Size in MB at which a new log is begun.")
    log_keep: int = option(5, whole(0, 10_000), LOGS,
        "Old logs that are kept.")
    # fmt: on

    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def origin(self, name: str) -> str:
        """Where a value came from: `flag`, `env <variable>`, `.env.local`, `.env`, `default`."""
        return self.origins.get(name, "default")

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in masked(self).items())
        return f"Settings({values})"


OPTIONS: Mapping[str, Option] = {
    each.name: each
    for each in sorted(options_of(Settings), key=lambda option: GROUPS.index(option.group))
}


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """The settings of a run. A flag that is None was not given; an empty variable is none.

    `environ` None is the process's own; `cwd` is where the env files are looked for. Raises
    ConfigError for a value that does not fit, an env file that cannot be read, and a variable
    with our prefix that is no setting.
    """
    if strange := flags.keys() - OPTIONS.keys():
        raise TypeError(f"no such settings: {', '.join(sorted(strange))}")
    layers: list[tuple[str, Mapping[str, str]]] = [
        ("env", os.environ if environ is None else environ)
    ]
    folder = cwd or _current_folder()
    for name in ENV_FILES:
        layers.append((name, _env_file(folder / name)))
    for origin, variables in layers:
        _refuse_unknown(variables, "the environment" if origin == "env" else origin)

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in OPTIONS.values():
        given: object = flags.get(each.name)
        origin = "flag"
        for layer, variables in layers:
            if given is None and variables.get(each.env):
                given = variables[each.env]
                origin = f"env {each.env}" if layer == "env" else layer
        if given is not None:
            values[each.name] = each.read(given, origin)
            origins[each.name] = origin
    return Settings(**values, origins=origins)


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as exc:
        raise ConfigError(
            f"the current folder is gone, or closed to you ({exc.strerror}); change to another one"
        ) from exc


def _env_file(path: Path) -> Mapping[str, str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would be waited for
            raise ConfigError(f"{path}: is no regular file; make it one, or take it away")
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc}); mend it or take it away") from exc
    import io

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    # dotenv itself only logs a line that it cannot read, and goes on without it.
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            line = binding.original.line
            raise ConfigError(f"{path} line {line}: is not NAME=value; mend it or take it out")
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(text)).items()}


def _refuse_unknown(variables: Mapping[str, str], where: str) -> None:
    known = {each.env for each in OPTIONS.values()}
    for name in variables:
        if name.startswith(PREFIX) and name not in known:
            import difflib

            words = [each.name.upper() for each in OPTIONS.values()]
            near = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1)
            hint = (
                f"did you mean {OPTIONS[near[0].lower()].env}?"
                if near
                else f'see "{COMMAND} --help"'
            )
            raise ConfigError(f"{name} (in {where}) is no setting; {hint}")


def source_options(settings: Settings) -> SourceOptions:
    """What is told about the input, and nothing else of the settings."""
    return SourceOptions(
        **{each.name: getattr(settings, each.name) for each in fields(SourceOptions)}
    )


def masked(settings: Settings) -> dict[str, Any]:
    """Each setting as a JSON value, without secrets."""
    from artist_bio_gen.values import path_text  # which --help has no use for

    values: dict[str, Any] = {}
    for each in OPTIONS.values():
        value = getattr(settings, each.name)
        if isinstance(value, Path):
            value = path_text(value)
        if isinstance(value, str):
            value = mask_key(value) if each.secret else mask_address(value)
            value = path_text(value) if each.name == "input" else value
        values[each.name] = list(value) if isinstance(value, tuple) else value
    return values


def secrets(settings: Settings) -> tuple[str, ...]:
    """What must not show up in a log or a message: keys, and passwords within addresses."""
    found: list[str] = []
    for each in OPTIONS.values():
        value = getattr(settings, each.name)
        if isinstance(value, str):
            found.extend([value] if each.secret else passwords_in(value))
    found.extend(_secrets_of_proxies())
    return tuple(dict.fromkeys(found))


def _secrets_of_proxies() -> Iterator[str]:
    """Passwords for the system's proxies, and user and password as they are sent to one (RFC 7617):
    a proxy that refuses may repeat what it was told."""
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit
    from urllib.request import getproxies_environment

    for told in getproxies_environment().values():
        url = told if "://" in told else f"http://{told}"
        yield from passwords_in(url)
        try:
            parts = urlsplit(url)
        except ValueError:  # it will be told as no address, masked
            continue
        if parts.password:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
            yield b64encode(pair.encode("utf-8", "surrogateescape")).decode()


def command_line(settings: Settings, **changes: bool) -> str:
    """The command that gives these flags again, with switches added or taken off
    (`resume=True`); passwords masked. Settings that came from elsewhere are still there."""
    words = [COMMAND]
    values = masked(settings)
    for each in OPTIONS.values():
        value = changes.get(each.name, values[each.name])
        if each.flag is None or (settings.origin(each.name) != "flag" and each.name not in changes):
            continue
        if isinstance(value, bool):
            words.append(each.flag if value else f"--no-{each.flag.removeprefix('--')}")
        else:
            words += [each.flag, each.written(tuple(value) if isinstance(value, list) else value)]
    return shlex.join(words)
