"""The quick look through an input of which nearly all may be finished: it finds what a look-up of
each artist finds, in whatever order they were committed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import psycopg
import pytest

from artist_bio_gen.database.nearby import Nearby
from artist_bio_gen.database.store import BioStore
from artist_bio_gen.ledger.line import draft
from artist_bio_gen.parser import choose_columns, parse
from artist_bio_gen.pending import Rules, judged
from artist_bio_gen.pending.look import Look
from artist_bio_gen.pending.plan import Front, Plan, plan
from artist_bio_gen.sources.text.delimited import END, DelimitedStream
from artist_bio_gen.values import Artist, Failed, Rejected, Skipped
from tests.builders import RUN, bio, commit_rows
from tests.faults.seed import chance
from tests.integration.test_resume import THIS_RUN, Begin, Start, begin, path

__all__ = ["begin", "path"]  # fixtures

PROMPT, OTHER_PROMPT = "5" * 64, "6" * 64
HEADER = "id,name,born,note"
AT_A_TIME, PAGE, MOST = 10, 15, 40


@dataclass
class Catalogue:
    """Lines of an input, and which of their artists are finished."""

    lines: list[str]
    start: Start
    asked: list[str] = field(default_factory=list)
    one_bio_each: bool = True

    def open(self) -> DelimitedStream:
        data = "\n".join([HEADER, *self.lines, ""]).encode()
        raw = io.BufferedReader(io.BytesIO(data))  # type: ignore[type-var]
        return DelimitedStream(raw, name="artists.csv", size=len(data))

    def artists(self) -> list[Artist | Rejected]:
        with self.open() as stream:
            return list(parse(stream, choose_columns(stream.columns), self.canonical))

    @property
    def canonical(self) -> Callable[[str], str]:
        return self.start.store.id_kind.canonical

    def finish(self, artists: Sequence[Artist], prompt: str = PROMPT) -> None:
        for at in range(0, len(artists), 50):
            head = self.start.store.head(self.start.ledger.id)
            assert head is not None
            drafts = [
                draft(each, bio(prompt_sha256=prompt), ledger=head.ledger, run=RUN)
                for each in artists[at : at + 50]
            ]
            self.start.store.commit(commit_rows(drafts, head), old=head)

    def known(self, ids: Sequence[str]) -> object:
        self.asked += ids
        return self.start.known(ids)

    def look(self, url: str, **rules: object) -> tuple[Plan, list[Skipped]]:
        """By the quick look."""
        told: list[Skipped] = []
        settings = Rules(THIS_RUN, PROMPT, **rules)  # type: ignore[arg-type]
        under_way: set[str] = set()
        with (
            self.open() as stream,
            BioStore(url, table="artists", sleep=lambda seconds: None) as store,
            Nearby(
                store,
                self.start.ledger.id,
                PROMPT,
                one_bio_each=self.one_bio_each,
                page=PAGE,
                most=MOST,
            ) as nearby,
        ):
            look = Look(
                self.known,  # type: ignore[arg-type]
                nearby,
                settings,
                choose_columns(stream.columns),
                self.canonical,
                table="artists",
                under_way=under_way,
                at_a_time=AT_A_TIME,
            )
            found = plan(
                look.through(stream.cells()),
                under_way,
                skipped=lambda what: told.append(what) if isinstance(what, Skipped) else None,
                tell=lambda text: None,
                stopped=lambda: False,
                place_of=look.place_of,
            )
        assert under_way == set()
        return found, told

    def look_up(self, **rules: object) -> Plan:
        """One by one."""
        under_way: set[str] = set()
        settings = Rules(THIS_RUN, PROMPT, **rules)  # type: ignore[arg-type]
        return plan(
            judged(
                self.artists(), self.start.known, settings, table="artists", under_way=under_way
            ),
            under_way,
            skipped=lambda what: None,
            tell=lambda text: None,
            stopped=lambda: False,
        )

    def behind(self, front: Front) -> list[Artist | Rejected]:
        assert front.place is not None
        with self.open() as stream:
            stream.go_on_at(front.place)
            rest = parse(stream, choose_columns(stream.columns), self.canonical)
            return [*front.rejected, *rest]


def rows(count: int) -> list[str]:
    return [f"a{number},Artist {number},{1900 + number % 100}," for number in range(count)]


@pytest.fixture
def catalogue(begin: Begin) -> Callable[[list[str]], Catalogue]:
    def make(lines: list[str]) -> Catalogue:
        start = begin()
        start.reconcile()
        return Catalogue(lines, start)

    return make


Make = Callable[[list[str]], Catalogue]


def only_artists(found: Sequence[Artist | Rejected]) -> list[Artist]:
    return [each for each in found if isinstance(each, Artist)]


def same(quick: Plan, slow: Plan) -> None:
    assert quick.counts() == slow.counts()
    assert quick.front.rows == slow.front.rows
    assert quick.whole
    assert slow.whole


def in_order(artists: list[Artist]) -> list[Artist]:
    return artists


def nearly_in_order(artists: list[Artist]) -> list[Artist]:
    rng = chance("nearly in order")
    return sorted(artists, key=lambda artist: artist.row + rng.random() * 12)


def in_halves(artists: list[Artist]) -> list[Artist]:
    half = len(artists) // 2
    return artists[half:] + artists[:half]


def shuffled(artists: list[Artist]) -> list[Artist]:
    return chance("shuffled").sample(artists, len(artists))


@pytest.mark.parametrize("order", [in_order, nearly_in_order, in_halves, shuffled])
@pytest.mark.parametrize("left", [0, 25])
def test_it_finds_what_look_ups_find_in_any_order(
    catalogue: Make, url: str, order: Callable[[list[Artist]], list[Artist]], left: int
) -> None:
    books = catalogue(rows(300))
    artists = only_artists(books.artists())
    books.finish(order(artists[: 300 - left]))
    found, _ = books.look(url)
    same(found, books.look_up())
    assert found.front.rows == 300 - left
    if order in (in_order, nearly_in_order):
        # No more than those that are left, but for a few that were far from their place.
        assert len(books.asked) <= left + 40
    if left:
        assert books.behind(found.front) == artists[300 - left :]
    else:
        assert found.front.place == END
        assert books.behind(found.front) == []


def test_what_has_changed_is_counted(catalogue: Make, url: str) -> None:
    books = catalogue(rows(90))
    artists = only_artists(books.artists())
    books.finish(artists[:30])
    books.finish(artists[30:60], OTHER_PROMPT)
    books.finish(artists[60:])
    for number in range(20, 50):
        books.lines[number] += "new"
    found, _ = books.look(url)
    same(found, books.look_up())
    assert (found.changed, found.changed_input, found.changed_prompt) == (40, 30, 30)
    assert found.finished == 90
    assert books.asked == []


@pytest.mark.parametrize("one_bio_each", [False, True])
def test_the_newest_bio_counts(catalogue: Make, url: str, one_bio_each: bool) -> None:
    """Of an artist with several; where it is said that none has, further ones are passed over."""
    books = catalogue(rows(120))
    old = only_artists(books.artists())
    books.finish(old)
    for number in range(30, 70):
        books.lines[number] += "new"
    new = only_artists(books.artists())
    books.finish([replace(each, generation=2) for each in new[30:50]])
    books.finish([replace(each, generation=2) for each in old[80:90]], OTHER_PROMPT)
    books.one_bio_each = one_bio_each
    found, _ = books.look(url)
    assert found.finished == 120
    if not one_bio_each:
        same(found, books.look_up())
        assert (found.changed_input, found.changed_prompt) == (20, 10)


def test_rows_that_are_not_plain_are_found_all_the_same(catalogue: Make, url: str) -> None:
    """Or told for what they are."""
    books = catalogue(rows(200))
    books.lines[5] = 'a5,"Fünf, ""the"" five",1905,'
    books.lines[6] = "a6,C:\\six,1906,"
    books.lines[7] = "a7, Seven ,1907,  "
    books.lines[8] = 'a8,"Eight\nlines",1908,\u00a0'
    books.lines[9] = "a9,N\u200bine,,9 \u2028"
    books.lines[30] = ",Nobody,1930,"
    books.lines[31] = "a31,too,many,cells,here"
    books.lines[50] = "a51,Twice,1950,"
    books.lines[70] = "a0,Once more,1970,"
    artists = only_artists(books.artists())
    by_id = {artist.id: artist for artist in reversed(artists)}
    books.finish([*reversed(by_id.values())])
    slow = books.look_up()
    books.lines[120] = "new,New,1920,"
    artists = only_artists(books.artists())
    found, _ = books.look(url)
    slow = books.look_up()
    assert found.rows == slow.rows
    assert found.rejected == slow.rejected == 2
    assert found.left == slow.left == {"new": 1}
    assert found.finished + found.skipped.get("repeated", 0) == 197
    assert found.front.rows == slow.front.rows == 120
    assert [row.row for row in found.front.rejected if isinstance(row, Rejected)] == [
        row.row for row in books.artists() if isinstance(row, Rejected)
    ]
    new = next(artist for artist in artists if artist.id == "new")
    assert next(row for row in books.behind(found.front) if isinstance(row, Artist)) == new


def test_ids_in_another_writing_are_found(
    url: str, admin: psycopg.Connection, catalogue: Make
) -> None:
    admin.execute("alter table artists alter column id type integer using id::integer")
    books = catalogue([f"00{number},Artist {number},1900," for number in range(1, 60)])
    books.finish(only_artists(books.artists()))
    found, _ = books.look(url)
    same(found, books.look_up())
    assert found.finished == 59
    assert books.asked == []


def test_failed_and_missing_artists_are_told_as_ever(catalogue: Make, url: str) -> None:
    books = catalogue(rows(60))
    artists = only_artists(books.artists())
    books.finish(artists[:20] + artists[22:40])
    books.start.store.record(
        [Failed(artists[20], "refused", "no", attempts=1, transient=False)],
        ledger=books.start.ledger.id,
        run=RUN,
    )
    found, told = books.look(url, on_missing="skip")
    same(found, books.look_up(on_missing="skip"))
    assert found.skipped["no_row"] == 21
    assert [(each.artist.id, each.reason) for each in told][:2] == [
        ("a20", "failed"),
        ("a21", "no_row"),
    ]


def test_rules_that_ask_for_more_than_whether_it_is_finished_are_not_for_it() -> None:
    assert Look.takes(Rules(THIS_RUN, PROMPT, keep_existing=True))
    assert not Look.takes(Rules(THIS_RUN, PROMPT, anew_after=3))
    assert not Look.takes(Rules(THIS_RUN, PROMPT, refresh=True))
    assert not Look.takes(Rules(THIS_RUN, PROMPT, retry_failed=True))
