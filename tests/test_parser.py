"""Rows → artists: the choice of columns, and what is rejected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.errors import UsageError
from artist_bio_gen.parser import MAX_ID_BYTES, ColumnChoice, Fingerprints, choose_columns, parse
from artist_bio_gen.sources import open_source
from artist_bio_gen.values import Artist, BadRow, Column, Json, Rejected, Row

ROOT = Path(__file__).parent.parent
NGA = "nga_constituents.csv"


def columns(names: str) -> tuple[Column, ...]:
    return tuple(map(Column, names.split(",")))


def chosen(names: str, **given: object) -> tuple[str, str, list[str]]:
    """Names of the id column, the name column and the data columns."""
    choice = choose_columns(columns(names), **given)  # type: ignore[arg-type]
    name = [column.name for column in choice.columns]
    return name[choice.id], name[choice.name], [name[at] for at in choice.data]


CHOICE = choose_columns(columns("id,name,born,country"))


def parsed(*values: Json, choice: ColumnChoice = CHOICE) -> Artist | Rejected:
    (outcome,) = parse([Row(7, values)], choice)
    return outcome


def reason(*values: Json) -> str:
    outcome = parsed(*values)
    assert isinstance(outcome, Rejected)
    assert outcome.row == 7
    orjson.dumps([outcome.reason, outcome.text])
    assert "\x00" not in outcome.reason + outcome.text
    return outcome.reason


# The choice of columns


@pytest.mark.parametrize(
    ("names", "id_column", "name_column"),
    [
        ("id,name,born", "id", "name"),
        ("born,artist_name,artist_id", "artist_id", "artist_name"),
        ("UUID,Name", "UUID", "Name"),
        ("Artist ID,Artist Name", "Artist ID", "Artist Name"),
        ("ArtistID,display-name", "ArtistID", "display-name"),
        ("ID,Id2,id,name,NAME", "id", "name"),
    ],
)
def test_columns_are_guessed(names: str, id_column: str, name_column: str) -> None:
    assert chosen(names)[:2] == (id_column, name_column)


@pytest.mark.parametrize("names", ["id,artist_id,name", "id,uuid,name", "ID,Id,name"])
def test_of_two_candidates_none_is_guessed(names: str) -> None:
    with pytest.raises(UsageError, match=r"may each hold the artist's id.*--id-column.*'name'"):
        chosen(names)


def test_two_candidates_for_the_name_are_told() -> None:
    with pytest.raises(UsageError, match=r"'name', 'display_name' may each .* --name-column"):
        chosen("id,name,display_name")


def test_columns_that_nothing_is_known_of_are_listed() -> None:
    with pytest.raises(
        UsageError, match=r"no column .* id; .*--id-column; there are 'key', 'name'"
    ):
        chosen("key,name")
    with pytest.raises(
        UsageError, match=r"no column .* name; .*--name-column; there are 'id', 'n'"
    ):
        chosen("id,n")


def test_a_single_column_raises_the_question_of_the_delimiter() -> None:
    with pytest.raises(UsageError, match="separated by commas"):
        choose_columns([Column("id;name;born")])


def test_given_columns_are_taken_as_given() -> None:
    assert chosen("id,artist_id,name", id_column="artist_id") == ("artist_id", "name", ["id"])
    assert chosen("a,b", id_column="b", name_column="b") == ("b", "b", ["a"])


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"id_column": "nr"}, "--id-column nr"),
        ({"name_column": "Name"}, "--name-column Name"),
        ({"data_columns": ["born", "died"]}, "--data-columns died"),
    ],
)
def test_given_columns_must_be_there(given: dict[str, object], flag: str) -> None:
    with pytest.raises(
        UsageError, match=f"{flag}: there is no such column; there are 'id', 'name'"
    ):
        chosen("id,name,born", **given)


def test_all_other_columns_are_data_unless_said_otherwise() -> None:
    assert chosen("x,id,y,name,z")[2] == ["x", "y", "z"]
    assert chosen("x,id,y,name,z", data_columns=["z", "x", "z"])[2] == ["z", "x"]
    assert chosen("x,id,y,name,z", data_columns=[])[2] == []
    assert chosen("x,id,name", data_columns=["id"])[2] == ["id"]


def test_without_a_header_the_first_is_the_id_and_the_second_the_name() -> None:
    assert chosen("1,2,3,4") == ("1", "2", ["3", "4"])
    assert chosen("1,2,3", id_column="3") == ("3", "2", ["1"])
    assert chosen("1,2,3", id_column="2", name_column="1") == ("2", "1", ["3"])


@pytest.mark.parametrize("given", [{"id_column": "2"}, {"name_column": "1"}])
def test_without_a_header_no_column_is_guessed_to_be_both(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no column is known"):
        chosen("1,2,3", **given)


# Artists


def test_a_row_becomes_an_artist() -> None:
    assert parsed("1", "Nina Simone", "1933", "United States") == Artist(
        7, "1", "Nina Simone", {"born": "1933", "country": "United States"}
    )


def test_white_space_around_id_and_name_is_taken_off() -> None:
    artist = parsed(" 1\t", "\u3000坂本 龍一\n", " 1952 ", "")
    assert artist == Artist(7, "1", "坂本 龍一", {"born": " 1952 "})


def test_empty_cells_are_left_out() -> None:
    assert parsed("1", "Nina", "", " \n") == Artist(7, "1", "Nina", {})
    assert parsed("1", "Nina", None, 0) == Artist(7, "1", "Nina", {"country": 0})


def test_values_of_other_types_stay_what_they_are() -> None:
    born = {"year": 1933, "place": ["Tryon", None, True, 1.5]}
    assert parsed(7, "Nina", born, False) == Artist(
        7, "7", "Nina", {"born": born, "country": False}
    )
    assert parsed(7.0, "Nina", None, None) == Artist(7, "7", "Nina", {})


def test_very_long_cells_are_fine() -> None:
    artist = parsed("1", "Nina", "x" * 5_000_000, "")
    assert isinstance(artist, Artist)
    assert len(artist.data["born"]) == 5_000_000


def test_the_id_is_brought_into_the_form_of_the_table() -> None:
    kind = IdKind.of("integer", table="artists", column="id")
    rows: list[Row | BadRow] = [Row(2, ("007", "Nina", "", "")), Row(3, ("x7", "Elis", "1945", ""))]
    good, bad = parse(rows, CHOICE, kind.canonical)
    assert good == Artist(2, "7", "Nina", {})
    assert isinstance(bad, Rejected)
    assert bad.row == 3
    assert bad.reason.startswith("column 'id': 'x7' is no whole number; ")
    assert "--id-column" in bad.reason
    assert bad.text == "x7, Elis, 1945, "


# Rejected rows


def test_bad_rows_are_rejected_in_their_place() -> None:
    rows: list[Row | BadRow] = [
        Row(2, ("1", "a", "", "")),
        BadRow(3, "torn", "x"),
        Row(4, ("2", "b", "", "")),
    ]
    assert list(parse(rows, CHOICE)) == [
        Artist(2, "1", "a", {}),
        Rejected(3, "torn", "x", unread=True),
        Artist(4, "2", "b", {}),
    ]


@pytest.mark.parametrize("empty", ["", " \t", None])
def test_a_row_without_id_or_name_is_rejected_with_a_way_out(empty: str | None) -> None:
    assert reason(empty, "Nina", "", "").startswith("column 'id' is empty; ")
    assert "--id-column" in reason(empty, "Nina", "", "")
    assert reason("1", empty, "", "").startswith("column 'name' is empty; ")
    assert "--name-column" in reason("1", empty, "", "")


def test_an_id_longer_than_an_index_takes_is_rejected() -> None:
    assert isinstance(parsed("x" * MAX_ID_BYTES, "Nina", "", ""), Artist)
    assert "longer than 2,000 bytes" in reason("ä" * (MAX_ID_BYTES // 2) + "x", "Nina", "", "")


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("a\x00b", "NUL"),
        ("a\ud83d", "half a character"),
        (["a", {"b": "\x00"}], "NUL"),
        ({"\udc80": 1}, "half a character"),
        ({1: "a"}, "a mapping whose keys are not all text"),
        (float("nan"), "the number nan"),
        ([float("inf")], "the number inf"),
        (2**64, "a number beyond 64 bits"),
        (-(2**63) - 1, "a number beyond 64 bits"),
        (b"bytes", "a bytes, which JSON has not"),
    ],
)
def test_what_json_or_postgres_refuses_is_rejected(cell: Json, what: str) -> None:
    assert reason("1", "Nina", "", cell).startswith(f"column 'country' holds {what}")


def test_a_number_too_long_to_be_shown_is_rejected() -> None:
    assert "a number beyond 64 bits" in reason("1", "Nina", "", 10**5000)


@pytest.mark.parametrize("cell", ["a\x00b", "a\ud83d"])
def test_ids_and_names_are_not_mended(cell: str) -> None:
    assert reason(cell, "Nina", "", "").startswith("column 'id' holds")
    assert reason("1", cell, "", "").startswith("column 'name' holds")


def test_lists_in_lists_without_end_are_rejected() -> None:
    deep: list[Json] = []
    for _ in range(2000):
        deep = [deep]
    assert "lists in lists" in reason("1", "Nina", deep, "")


@pytest.mark.parametrize("cell", [["1"], {"id": 1}, True])
def test_ids_and_names_are_text_or_numbers(cell: Json) -> None:
    assert "ids and names are text or numbers" in reason(cell, "Nina", "", "")
    assert "ids and names are text or numbers" in reason("1", cell, "", "")


def test_what_is_not_used_may_hold_anything() -> None:
    choice = choose_columns(columns("id,name,born"), data_columns=[])
    assert parsed("1", "Nina", "\x00\ud83d", choice=choice) == Artist(7, "1", "Nina", {})


any_text = st.text(st.characters(exclude_categories=[]), max_size=6)
any_cell = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.binary(max_size=2)
    | st.sampled_from([2**63, 2**64, -(2**63) - 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.lists(any_cell, min_size=4, max_size=4), max_size=5))
def test_whatever_passes_can_be_written_as_json_and_stored(rows: Sequence[Sequence[Json]]) -> None:
    numbered = [Row(number, tuple(values)) for number, values in enumerate(rows)]
    outcomes = list(parse(numbered, CHOICE))
    assert len(outcomes) == len(rows)
    for row, outcome in zip(numbered, outcomes, strict=True):
        if isinstance(outcome, Rejected):
            assert outcome.row == row.number
            written = orjson.dumps([outcome.reason, outcome.text])
        else:
            assert outcome.row == row.number
            assert outcome.id == outcome.id.strip() != ""
            assert outcome.name == outcome.name.strip() != ""
            assert len(outcome.input_sha256) == 64
            written = orjson.dumps([outcome.id, outcome.name, outcome.data])
            assert orjson.loads(written) == [outcome.id, outcome.name, outcome.data]
        assert not has_nul(orjson.loads(written))


def has_nul(value: Json) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(map(has_nul, [*value, *value.values()]))
    return isinstance(value, list) and any(map(has_nul, value))


# Fingerprints without artists

CELLS = st.text(
    st.sampled_from("aB9é\u4e00%{}[]:',\"\\ \t\n\x00\x7f\u00a0\u200b\ud800"), max_size=4
)
KEYS = st.lists(st.text(min_size=1, max_size=6), min_size=5, max_size=5, unique=True)


@given(KEYS, st.lists(st.lists(CELLS, min_size=7, max_size=7), max_size=4), st.booleans())
def test_a_fingerprint_is_the_artists(keys: list[str], rows: list[list[str]], some: bool) -> None:
    """Where one is told at all; and it is told for each plain row."""
    names = ["\n id", "\n name", *keys]
    data = tuple(range(2, 7)) if some else ()
    choice = ColumnChoice(tuple(map(Column, names)), 0, 1, data)
    told = Fingerprints(choice).of(rows)
    assert len(told) == len(rows)
    for row, fingerprint in zip(rows, told, strict=True):
        (parsed,) = parse([Row(1, ("id", *row[1:]))], choice)
        if fingerprint is not None:
            assert isinstance(parsed, Artist)
            assert fingerprint == parsed.input_sha256
        elif isinstance(parsed, Artist):
            assert any(not cell.isalnum() for cell in row if cell)


# Real input


def test_the_example_has_two_dozen_artists() -> None:
    with open_source(str(ROOT / "examples" / "artists.csv")) as rows:
        kind = IdKind.of("uuid", table="artists", column="id")
        artists = list(parse(rows, choose_columns(rows.columns), kind.canonical))
    assert all(isinstance(artist, Artist) for artist in artists)
    known = {artist.name: artist.data for artist in artists if isinstance(artist, Artist)}
    assert len(known) == 24
    assert [name for name, data in known.items() if not data] == ["Yma Sumac"]
    assert min(len(data) for data in known.values() if data) >= 2


def test_every_constituent_of_the_national_gallery_is_an_artist() -> None:
    given = os.environ.get("TEST_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    path = folder / NGA
    if not path.exists():
        pytest.skip(f"no {NGA} in {folder}; TEST_DATA names its folder")
    kind = IdKind.of("integer", table="artists", column="id")
    with open_source(str(path)) as rows:
        choice = choose_columns(rows.columns, "constituentid", "forwarddisplayname")
        assert rows.estimated_row_count == pytest.approx(27_438, rel=0.3)
        artists = list(parse(rows, choice, kind.canonical))
    assert len(artists) == 27_438
    assert {type(artist) for artist in artists} == {Artist}
    assert len({artist.id for artist in artists if isinstance(artist, Artist)}) == 27_438
    assert artists[1] == Artist(
        3,
        "11",
        "Hans Baldung",
        {
            "preferreddisplayname": "Baldung, Hans",
            "lastname": "Baldung",
            "artistofngaobject": "1",
            "visualbrowsernationality": "Other",
            "constituenttype": "individual",
        },
    )


def test_columns_that_are_left_out_are_data_only_where_they_are_named() -> None:
    assert chosen("id,name,bio,born", left_out=("bio",))[2] == ["born"]
    assert chosen("id,name,born", left_out=("bio",))[2] == ["born"]
    assert chosen("id,name,bio,born", left_out=("bio",), data_columns=["bio"])[2] == ["bio"]


# Columns that turn up late


def grown(data_columns: tuple[str, ...] | None) -> list[Artist | Rejected]:
    now = tuple(map(Column, ("id", "name", "born", "genre", "place")))
    rows = [Row(2, ("1", "Nina", "1933")), Row(3, ("2", "Bill", "", "jazz")), Row(4, (*"3Rxyz",))]
    choice = choose_columns(now[:3], data_columns=data_columns)
    return list(parse(rows, choice, columns=lambda: now))


def test_cells_of_columns_that_turn_up_late_become_data() -> None:
    assert [row.data for row in grown(None) if isinstance(row, Artist)] == [
        {"born": "1933"},
        {"genre": "jazz"},
        {"born": "x", "genre": "y", "place": "z"},
    ]


def test_they_do_not_where_the_data_is_named() -> None:
    found = [row.data for row in grown(("born",)) if isinstance(row, Artist)]
    assert found == [{"born": "1933"}, {}, {"born": "x"}]


def test_a_flaw_in_a_late_column_is_told_with_its_name() -> None:
    now = tuple(map(Column, ("id", "name", "born")))
    rows = [Row(2, ("1", "Nina")), Row(3, ("2", "Bill", float("nan")))]
    _, rejected = parse(rows, choose_columns(now[:2]), columns=lambda: now)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith("column 'born' holds the number nan")


def test_the_file_of_a_row_goes_with_what_becomes_of_it() -> None:
    rows = [BadRow(2, "broken", file="a.csv"), Row(3, ("", "Nina"), "b.csv")]
    choice = choose_columns((Column("id"), Column("name")))
    told = [(row.row, row.file) for row in parse(rows, choice) if isinstance(row, Rejected)]
    assert told == [(2, "a.csv"), (3, "b.csv")]
