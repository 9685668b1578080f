"""How a setting is described: its kind, its help, how its text is read and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

from artist_bio_gen.errors import ConfigError
from artist_bio_gen.masking import MASK, mask_address

PREFIX = "ARTIST_BIO_GEN_"

Flush: TypeAlias = Literal["line", "sync"] | int

MOST = 10**12
"""Of whatever is counted: JSON, databases and the system's calls take no number of any size."""

LONGEST_S = 20 * 24 * 3600.0
"""The system's waits take milliseconds in 31 bits, which is not quite 25 days."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """How a value is written. `read` raises ValueError for a text that is not `allowed`. Only a
    `path` may have bytes that are no UTF-8, as the system allows there."""

    metavar: str
    allowed: str
    read: Callable[[str], T_co]
    choices: tuple[str, ...] = ()
    path: bool = False


def choice(*values: T) -> Kind[T]:
    by_name = {str(value): value for value in values}

    def read(text: str) -> T:
        if text not in by_name:
            raise ValueError(text)
        return by_name[text]

    return Kind("|".join(by_name), f"one of {', '.join(by_name)}", read, tuple(by_name))


def whole(least: int, most: int = MOST) -> Kind[int]:
    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return Kind("N", f"a whole number from {least} to {most}", read)


def number(least: float, most: float) -> Kind[float]:
    def read(text: str) -> float:
        if not least <= float(text) <= most:
            raise ValueError(text)
        return float(text)

    return Kind("X", f"a number from {least:g} to {most:g}", read)


def _read_seconds(text: str) -> float:
    digits, unit = (text[:-1], text[-1]) if text[-1] in "smh" else (text, "s")
    seconds = float(digits) * {"s": 1, "m": 60, "h": 3600}[unit]
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(text)
    return seconds


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: how Python carries other bytes
        return False
    return True


def _read_switch(text: str) -> bool:
    word = text.lower()
    if word not in (*_ON, *_OFF):
        raise ValueError(text)
    return word in _ON


def _read_path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:  # a "~user" that the system does not know
        raise ValueError(text) from exc


def _read_names(text: str) -> tuple[str, ...]:
    import csv  # a name may itself hold a comma: "born, year",country

    names = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True)))
    if not all(names):
        raise ValueError(text)
    return names


def _read_address(text: str) -> str:
    if not re.match(r"https?://[^/\s]+", text):
        raise ValueError(text)
    return text.rstrip("/")


_SEPARATORS = {"tab": "\t", "blank": " ", "newline": "\n"}


def _read_separator(text: str) -> str:
    return _SEPARATORS.get(text, text)


def _read_delimiter(text: str) -> str:
    found = "\t" if text == "\\t" else _read_separator(text)
    if len(found) != 1:
        raise ValueError(text)
    return found


def _written_separator(value: str) -> str:
    return next((name for name, text in _SEPARATORS.items() if text == value), value)


def _read_params(text: str) -> Mapping[str, object]:
    import json

    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found


def _read_flush(text: str) -> Flush:
    return text if text in ("line", "sync") else _LINES.read(text)  # type: ignore[return-value]


_ON = ("true", "yes", "on", "1")
_OFF = ("false", "no", "off", "0")
_LINES = whole(1, 1_000_000)

TEXT: Kind[str] = Kind("TEXT", "a text that is not empty", str)
FILE: Kind[Path] = Kind("FILE", "a path", _read_path, path=True)
NAME_OR_FILE: Kind[str] = Kind("NAME|FILE", "a name or a path", str, path=True)
SWITCH: Kind[bool] = Kind("", "true or false", _read_switch)
SECONDS: Kind[float] = Kind(
    "SECONDS", "a time such as 90, 90s, 2m or 1h, up to 480h", _read_seconds
)
NAMES: Kind[tuple[str, ...]] = Kind("NAME,…", "names with commas between them", _read_names)
ADDRESS: Kind[str] = Kind("URL", "an address that begins with http:// or https://", _read_address)
MARK: Kind[str] = Kind("TEXT", "a text, or none", lambda text: "" if text == "none" else text)
DELIMITER: Kind[str] = Kind("CHARACTER", "one character, or tab", _read_delimiter)
SEPARATOR: Kind[str] = Kind("TEXT", "a text, or blank, tab, newline", _read_separator)
PARAMS: Kind[Mapping[str, object]] = Kind("JSON", "a JSON object", _read_params)
FLUSH: Kind[Flush] = Kind("line|sync|N", f"line, sync, or {_LINES.allowed}", _read_flush)
COUNT = whole(1)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as it is described to people. `otherwise` says what holds where the value
    is None. `flag` is None for what must not stand in the list of processes."""

    name: str
    default: object
    kind: Kind[object]
    group: str
    help: str
    env: str
    flag: str | None
    secret: bool
    otherwise: str

    def parse(self, text: str) -> object:
        """The text as a value of its type. Raises ValueError that says what is allowed."""
        if "\0" in text:
            raise ValueError("must be without a NUL character")
        if not (self.kind.path or _is_text(text)):
            raise ValueError("must be UTF-8, which these bytes are not")
        try:
            if not text.strip():
                raise ValueError(text)
            return self.kind.read(text.strip())
        except (ValueError, OverflowError):
            raise ValueError(f"must be {self.kind.allowed}") from None

    def read(self, value: object, origin: str) -> object:
        """Raises ConfigError that names setting, value and origin."""
        text = self.written(value)
        try:
            return self.parse(text)
        except ValueError as exc:
            bad = MASK if self.secret else repr(mask_address(text))
            raise ConfigError(f"{self.name} = {bad} (from {origin}): {exc}") from exc

    def shown_default(self) -> str:
        return self.otherwise if self.default is None else self.written(self.default)

    def written(self, value: object) -> str:
        """The value as a text that `parse` reads; None as an empty one."""
        if self.kind is MARK and value == "":
            return "none"
        if self.kind in (DELIMITER, SEPARATOR) and isinstance(value, str):
            return _written_separator(value)
        if self.kind is PARAMS and isinstance(value, Mapping):
            import json

            return json.dumps(value, ensure_ascii=False, default=str)
        return shown(value)


def option(
    default: T,
    kind: Kind[T],
    group: str,
    help: str,  # noqa: A002 - the field's word
    *,
    env: str | None = None,
    flag: bool = True,
    secret: bool = False,
    otherwise: str = "",
) -> T:
    """A field of `Settings` with all that is told about it."""
    about = {
        "kind": kind,
        "group": group,
        "help": help,
        "env": env,
        "flag": flag,
        "secret": secret,
        "otherwise": otherwise,
    }
    return field(default=default, metadata=about, repr=not secret)


def options_of(table: type) -> Iterator[Option]:
    """The options of a dataclass whose fields are made by `option`, in their order."""
    for each in fields(table):
        if each.metadata:
            about = dict(each.metadata)
            env = about.pop("env") or f"{PREFIX}{each.name.upper()}"
            flag = f"--{each.name.replace('_', '-')}" if about.pop("flag") else None
            yield Option(name=each.name, default=each.default, env=env, flag=flag, **about)


def shown(value: object) -> str:
    """A setting's value as a person would write it; None as an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(_quoted(each) if set(each) & set(',"') else each for each in value)
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"  # 90, not 90.0
    return str(value)


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
