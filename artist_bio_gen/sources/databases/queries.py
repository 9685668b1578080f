"""What databases have in common: a table or a query, its parameters, and reading in pages."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.failing import on_failure
from artist_bio_gen.stream import Chunk, RowStream, names
from artist_bio_gen.values import BadRow, Column, Json

TABLE = "artists"
"""The table that is read where neither a table nor a query is given."""

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before a lost connection is made anew; after the last one it is given up."""

LOOK_S = 0.2
"""Time after which something that waits looks whether it has been called off."""

Facts: TypeAlias = Mapping[str, Json]
T = TypeVar("T")

_FIRST_PAGE = 100
_MOST_ROWS = 10_000
_PAGE_BYTES = 2 << 20
_SAMPLE = 100
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read of a database: a query, or a table if it is None. With `key`, in pages
    that are ordered by it, behind `after`."""

    table: str
    query: str | None
    params: Mapping[str, object]
    key: str | None
    after: str | None

    @classmethod
    def of(cls, options: SourceOptions, *, table: str = TABLE) -> Wanted:
        """UsageError where options contradict each other."""
        query = options.query
        if query is not None and options.source_table is not None:
            raise UsageError("--query and --source-table are both given; give one of them")
        if options.params and query is None:
            raise UsageError("--params are those of a --query; give that too, or neither")
        if options.after is not None and options.page_key is None:
            raise UsageError("--after is a value of --page-key; give that too, or neither")
        if query is not None:
            query = query.strip().rstrip(";").rstrip()
            if not query:
                raise UsageError("--query is empty; write a select")
        return cls(
            options.source_table or table,
            query,
            options.params or {},
            options.page_key,
            options.after,
        )

    @property
    def what(self) -> str:
        """What to call it in messages."""
        return f"table {self.table}" if self.query is None else "query"


# Names and parameters

_PART = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|([^."`]+)')


def table_parts(table: str) -> tuple[str, ...]:
    """`artists`, `schema.artists`, `"with.dot"."x"`; UsageError for anything else."""
    parts: list[str] = []
    at = 0
    while True:
        match = _PART.match(table, at)
        if match is None:
            break
        quoted, ticked, plain = match.groups()
        if quoted:
            parts.append(quoted.replace('""', '"'))
        else:
            parts.append(ticked.replace("``", "`") if ticked else plain)
        at = match.end()
        if at == len(table) and len(parts) <= 2:
            return tuple(parts)
        if table[at : at + 1] != ".":
            break
        at += 1
    raise UsageError(f"--source-table {table}: give a table's name, or schema.table")


# What stands in no need of a parameter: literals, names, comments, casts.
POSTGRES_SYNTAX = re.compile(
    r"""(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<!\w)(?P<dollars>\$(?:[^\W\d]\w*)?\$).*?(?P=dollars)
    | --[^\n]*
    | (?P<nested>/\*)
    | ::
    | (?<![\w\])"]):(?P<name>[^\W\d]\w*)""",
    re.VERBOSE | re.DOTALL,
)
MYSQL_SYNTAX = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'
    | "(?:[^"\\]|\\.|"")*"
    | `(?:[^`]|``)*`
    | --(?=\s)[^\n]*
    | \#[^\n]*
    | /\*.*?\*/
    | (?<![\w\])`]):(?P<name>[^\W\d]\w*)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")


def with_params(
    query: str, syntax: re.Pattern[str], params: Mapping[str, object], put: Callable[[str], str]
) -> str:
    """The query with `put(name)` in place of each `:name`, but not within literals, comments or
    casts. UsageError for names that only one side knows; without params and behind a bracket,
    where `:name` may be a part of an array, that is left to the server."""
    seen: set[str] = set()
    parts: list[str] = []
    at = 0
    while (match := syntax.search(query, at)) is not None:
        parts.append(query[at : match.start()])
        at = match.end()
        name = match["name"]
        if name is not None:
            if not params and "[" in query[: match.start()]:
                return query
            if not params:
                raise UsageError(
                    f"the query has :{name}; give it with --params '{{\"{name}\": …}}'"
                )
            if name not in params:
                raise UsageError(f"the query has :{name}, and --params has no {name!r}; give it")
            seen.add(name)
            parts.append(put(name))
            continue
        if match.groupdict().get("nested"):
            at = _comment_end(query, at)
        parts.append(query[match.start() : at])
    if unused := params.keys() - seen:
        raise UsageError(
            f"the query has no :{min(unused)}, which --params gives; write it where it is meant,"
            " or leave it out"
        )
    return "".join(parts) + query[at:]


def _comment_end(query: str, at: int) -> int:
    """Behind a comment that has just been opened; comments of Postgres may hold others."""
    depth = 1
    while depth:
        match = _COMMENT_MARK.search(query, at)
        if match is None:
            return len(query)
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return at


def distinct(name: str, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns; UsageError when two of them have one name."""
    twice = [each for each, times in Counter(names(columns)).items() if times > 1]
    if twice:
        raise UsageError(
            f"{name}: more than one column is called {', '.join(map(repr, twice))}; give them"
            " names of their own in --query (… as …)"
        )
    return tuple(columns)


def position(name: str, columns: Sequence[Column], key: str) -> int:
    """Where the page key stands among the columns; UsageError if it does not."""
    known = names(columns)
    if key not in known:
        raise UsageError(
            f"{name}: there is no column {key!r} to read in pages by; name one with --page-key:"
            f" {', '.join(known)}"
        )
    return known.index(key)


# Rows


@dataclass(frozen=True, slots=True)
class Flaw:
    """A row that cannot be read. `cells`: what could be seen of them, where a key is needed."""

    reason: str
    text: str = ""
    cells: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in their order. `flawed` tells that there are flaws among them. `keys` has the key of
    each row in the form in which the database takes it back; it is empty where none is asked."""

    values: Sequence[Sequence[Json] | Flaw]
    keys: Sequence[Json] = ()
    flawed: bool = False


def chunk_of(
    columns: tuple[str, ...],
    first: int,
    values: Sequence[Sequence[Json] | Flaw],
    *,
    flawed: bool,
) -> Chunk:
    """The chunk of these rows, of which the first one has the number `first`."""
    if not flawed:
        sound: Sequence[Sequence[Json]] = values  # type: ignore[assignment]
        return Chunk(columns, range(first, first + len(sound)), sound)
    numbers, cells, bad = [], [], []
    for number, each in enumerate(values, first):
        if isinstance(each, Flaw):
            bad.append(BadRow(number, each.reason, each.text[:_SHOWN]))
        else:
            numbers.append(number)
            cells.append(each)
    return Chunk(columns, numbers, cells, bad=bad)


class LostError(Exception):
    """The connection is gone, or the server cannot go on now; another attempt may succeed,
    `retry_after` seconds from now where the server said so."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def cut_off(name: str, rows: int, exc: LostError) -> InputError:
    """For a statement whose connection was lost behind so many rows: it cannot go on."""
    return InputError(
        f"{name}: {exc}, behind row {rows:,}; the rows so far stand. With"
        " --page-key a lost connection is made anew, and --after goes on behind a row"
    )


def empty_key(name: str, key: str) -> UsageError:
    return UsageError(
        f"{name}: {key} is empty in some rows; --page-key needs a column that has a value in each"
    )


class Server(Protocol):
    """A database's server as it is asked here: `name` is its address, without a password."""

    name: str

    def close(self) -> None: ...


@contextmanager
def connecting(server: Server) -> Iterator[None]:
    """For the first questions, before there are rows: the connection is closed when they fail, and
    one that is lost already is not made anew (ConfigError)."""
    try:
        with on_failure(server.close):
            yield
    except LostError as exc:
        raise ConfigError(f"{server.name}: {exc}; start again when that is over") from exc


class Pager(ABC):
    """A database that is read in pages."""

    cuts = False
    """Whether a page may be shorter than asked though it is not the last one."""

    @abstractmethod
    def page(self, after: Json, limit: int) -> Batch:
        """The first `limit` rows whose key is greater than `after` (None: all), by their keys,
        with no transaction left open. On a new connection if there is none. Raises LostError when
        another attempt may succeed."""

    @abstractmethod
    def repeated(self, key: Json) -> bool:
        """Whether more than one row has this key, by the database's own idea of equality, which
        may take "a" for "A"."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the connection; `page` makes a new one."""


class Pages(RowStream):
    """A table or query in pages: a lost connection costs nothing but a wait, and nothing is held
    at the server between two pages. Rows that come up behind the page in hand are read, those
    before it are not."""

    def __init__(
        self,
        pager: Pager,
        *,
        name: str,
        columns: tuple[Column, ...],
        key: str,
        after: Json = None,
        estimated_row_count: int | None = None,
        facts: Mapping[str, Json] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        pauses: Sequence[float] = PAUSES_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.columns = columns
        self.estimated_row_count = estimated_row_count
        self._names = names(columns)
        self._pager = pager
        self._key = key
        self._last_key = after
        self._facts = dict(facts or {})
        self._cancelled = cancelled
        self._pauses = pauses
        self._sleep = sleep
        self._limit = _FIRST_PAGE
        self._page = Batch(())
        self._at = 0
        self._rows = 0
        self._ended = False

    def facts(self) -> dict[str, Json]:
        return {**self._facts, "page_key": self._key, "last_key": self._last_key}

    def close(self) -> None:
        self._ended = True
        self._page = Batch(())
        self._pager.close()

    def read(self, size: int) -> Chunk | None:
        if self._at == len(self._page.values) and not self._turn():
            return None
        page, at = self._page, self._at
        end = min(len(page.values), at + size)
        chunk = chunk_of(self._names, self._rows + 1, page.values[at:end], flawed=page.flawed)
        self._rows += end - at
        self._at = end
        self._last_key = page.keys[end - 1]
        return chunk

    def _turn(self) -> bool:
        """To the next page; False if there is none."""
        if self._ended:
            return False
        limit = self._limit
        self._page, self._at = Batch(()), 0
        try:
            self._page = self._fetch(limit)
        except MemoryError:
            self._limit = max(1, limit // 2)
            raise
        self._limit = self._fitting(limit)
        found = len(self._page.values)
        if not found or (found < limit and not self._pager.cuts):
            self._ended = True
            self._pager.close()
        return bool(found)

    def _fetch(self, limit: int) -> Batch:
        def page() -> Batch:
            found = self._pager.page(self._last_key, limit)
            self._check(found.keys, limit)
            return found

        return self._again(page)

    def _again(self, ask: Callable[[], T]) -> T:
        """Asks until there is an answer, or all pauses are used up."""
        pauses = iter(self._pauses)
        while True:
            if self._cancelled():
                raise StoppedError
            try:
                return ask()
            except LostError as exc:
                self._pager.close()
                pause = next(pauses, None)
                if pause is None:
                    raise InputError(
                        f"{self.name}: {exc}, after {self._rows:,} rows and"
                        f" {len(self._pauses) + 1} attempts; {self._way_on()}"
                    ) from exc
                wait(max(pause, exc.retry_after), self._cancelled, self._sleep)

    def begin(self, look: Callable[[], tuple[tuple[Column, ...], int | None, Facts]]) -> None:
        """For databases of which nothing is known before they have been asked: columns, about how
        many rows, and facts."""
        self.columns, self.estimated_row_count, facts = self._again(look)
        self._names = names(self.columns)
        self._facts.update(facts)

    def _way_on(self) -> str:
        if self._last_key is None:
            return "start again when it is back"
        return f"when it is back, --after {self._last_key} goes on behind the rows so far"

    def _check(self, keys: Sequence[Json], limit: int) -> None:
        """UsageError if a key is not unique: of two rows with one key, the second one would never
        be read where a page ends between them."""
        if len(set(keys)) < len(keys):
            twice = Counter(keys).most_common(1)[0][0]
        elif keys and (self._pager.cuts or len(keys) == limit) and self._pager.repeated(keys[-1]):
            twice = keys[-1]
        else:
            return
        raise UsageError(
            f"{self.name}: more than one row has {self._key} = {twice!r}; --page-key needs a column"
            " whose values are unique"
        )

    def _fitting(self, limit: int) -> int:
        """Rows of the next page: as many as are surely held, going by those of this one."""
        sample = [row for row in self._page.values[:_SAMPLE] if not isinstance(row, Flaw)]
        if not sample:
            return limit
        size = sum(len(cell) for row in sample for cell in row if isinstance(cell, str))
        each = size // len(sample) + 1
        return max(1, min(_MOST_ROWS, limit * 10, _PAGE_BYTES // each))


def wait(
    seconds: float, cancelled: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Sleeps; StoppedError as soon as it is called off."""
    left = seconds
    while left > 0:
        if cancelled():
            raise StoppedError
        sleep(min(LOOK_S, left))
        left -= LOOK_S
    if cancelled():
        raise StoppedError
