"""The earlier format: what a line of it holds, and a ledger's line written as one."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from artist_bio_gen.ledger.earlier import (
    KEYS,
    Again,
    Bad,
    Good,
    as_earlier,
    encode,
    old_lines,
    parse,
)
from artist_bio_gen.ledger.earlier_index import Index
from artist_bio_gen.ledger.line import draft, fields, first_prev
from artist_bio_gen.values import Artist, Bio, Head
from tests.builders import LEDGER, RUN, a_draft, sealed


def record(**changes: Any) -> dict[str, Any]:
    """A good record, as those programs wrote it; a value of ... takes the key away."""
    whole = {
        "artist_id": "a1",
        "artist_name": "Björk",
        "artist_data": "born 1965; Iceland",
        "request": {
            "prompt_id": "pmpt_1",
            "variables": {"artist_name": "Björk", "artist_data": "born 1965; Iceland"},
            "version": "2",
        },
        "response_text": "She was born in 1965.\nShe sings.",
        "response_id": "resp_1",
        "created": 1_700_000_000,
        "db_status": "updated",
        "error": None,
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def line(**changes: Any) -> bytes:
    return encode(record(**changes))


def good(data: bytes) -> Good:
    found = parse(data)
    assert isinstance(found, Good), found
    return found


# ---- parse --------------------------------------------------------------------------------------


def test_a_line_with_a_bio_is_read_as_it_stands() -> None:
    found = good(line())
    assert (found.id, found.name, found.created) == ("a1", "Björk", 1_700_000_000)
    assert found.text == "She was born in 1965.\nShe sings."
    assert found.request == record()["request"]
    assert found.response_id == "resp_1"
    assert found.further == ()


def test_data_in_one_text_has_the_fingerprint_of_a_catalogue_with_that_column() -> None:
    found = good(line())
    of_csv = Artist(1, "a1", "Björk", {"artist_data": "born 1965; Iceland"})
    assert Artist(7, found.id, found.name, found.data).input_sha256 == of_csv.input_sha256


@pytest.mark.parametrize("nothing", [None, "", "  ", {}, ...])
def test_no_data_is_no_column(nothing: object) -> None:
    assert good(line(artist_data=nothing)).data == {}


def test_data_in_columns_is_kept() -> None:
    assert good(line(artist_data={"born": 1965})).data == {"born": 1965}


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf" + line(), line()[:-1] + b"\r\n", line()[:-1], b" " + line()]
)
def test_a_mark_a_carriage_return_or_no_line_feed_change_nothing(data: bytes) -> None:
    assert parse(data) == parse(line())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": "429 from the server"}, "error"),
        ({"error": "x", "response_text": None, "created": None}, "error"),
        ({"db_status": "error"}, "db_status error"),
        ({"db_status": "skipped"}, "db_status skipped"),
        ({"db_status": None}, "db_status null"),
        ({"db_status": "Updated"}, "db_status other"),
        ({"response_text": ""}, "no text"),
        ({"response_text": " \n"}, "no text"),
        ({"response_text": None}, "no text"),
    ],
)
def test_what_did_not_become_a_bio_in_the_database_is_to_be_done_again(
    changes: dict[str, Any], reason: str
) -> None:
    found = parse(line(**changes))
    assert isinstance(found, Again)
    assert (found.id, found.name, found.reason) == ("a1", "Björk", reason)


def test_an_empty_error_is_none() -> None:
    assert isinstance(parse(line(error="")), Good)


@pytest.mark.parametrize("key", [key for key in KEYS if key != "artist_data"])
def test_a_line_without_a_key_is_none(key: str) -> None:
    assert parse(line(**{key: ...})) == Bad(f"has no {key!r}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"artist_id": ""}, "artist_id is"),
        ({"artist_id": None}, "artist_id is null"),
        ({"artist_id": True}, "artist_id is true"),
        ({"artist_name": ["x"]}, "artist_name is a list"),
        ({"artist_name": "  "}, "artist_name is"),
        ({"artist_data": 7}, "artist_data is 7"),
        ({"request": "p"}, "request is"),
        ({"request": {}}, "request.prompt_id is null"),
        ({"request": {"prompt_id": "p", "variables": [1]}}, "request.variables is a list"),
        ({"request": {"prompt_id": "p", "version": 2}}, "request.version is 2"),
        ({"response_text": {"text": "x"}}, "response_text is an object"),
        ({"response_id": 5}, "response_id is 5"),
        ({"created": "yesterday"}, 'created is "yesterday"'),
        ({"created": 1.5}, "created is 1.5"),
        ({"created": True}, "created is true"),
        ({"created": 2**63}, "created is 9223372036854775808"),
        ({"db_status": 1}, "db_status is 1"),
        ({"error": {"code": 1}}, "error is an object"),
        ({"response_text": "a\0b"}, "holds NUL"),
        ({"artist_data": {"x": ["\0"]}}, "holds NUL"),
        ({"artist_data": {"\0": 1}}, "holds NUL"),
    ],
)
def test_a_value_that_does_not_fit_is_told(changes: dict[str, Any], reason: str) -> None:
    found = parse(line(**changes))
    assert isinstance(found, Bad)
    assert found.reason.startswith(reason)


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert good(line(response_text="\\u0000")).text == "\\u0000"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "is no JSON"),
        (b"\0\0\0\n", "is no JSON"),
        (b"[1]", "is JSON, but no object"),
        (b"null", "is JSON, but no object"),
        (line().replace(b"born in", b"born \xff"), "is no JSON"),
        (line().replace(b"born in", b"born \\ud83d"), "is no JSON"),
        (line(created=7).replace(b'"created": 7', b'"created": NaN'), "is no JSON"),
        (line(artist_data={"x": 1}).replace(b'{"x": 1}', b"[" * 9_999), "is no JSON"),
        (
            line(artist_data={"x": 1}).replace(b"1}", b"[" * 300 + b"]" * 300 + b"}"),
            "cannot be written",
        ),
        (sealed([a_draft()], Head(LEDGER, 0, first_prev(LEDGER)))[0].data, "is a line of a ledger"),
    ],
    ids=range(10),
)
def test_what_is_no_such_line_is_told(data: bytes, reason: str) -> None:
    found = parse(data)
    assert isinstance(found, Bad)
    assert found.reason.startswith(reason)


def test_keys_that_the_format_has_not_are_named() -> None:
    assert good(line(cost=1, note="x")).further == ("cost", "note")


# ---- lines of a file ----------------------------------------------------------------------------


def test_lines_are_numbered_as_an_editor_does_and_empty_ones_passed_over() -> None:
    found = list(old_lines(io.BytesIO(b"one\r\n\n  \ntwo\nthree")))
    assert [(each.number, each.offset, each.data) for each in found] == [
        (1, 0, b"one\r\n"),
        (4, 9, b"two\n"),
        (5, 13, b"three"),
    ]


@pytest.mark.parametrize("length", [10, 11, 25, 5_000_000])
def test_a_huge_line_is_passed_over_and_the_next_one_found(length: int) -> None:
    file = io.BytesIO(b"a\n" + b"x" * length + b"\nb\n")
    found = list(old_lines(file, longest=10))
    assert [(each.number, each.data) for each in found] == [(1, b"a\n"), (2, None), (3, b"b\n")]
    assert found[2].offset == 2 + length + 1


def test_u2028_does_not_end_a_line() -> None:
    data = line(response_text="one\u2028two")
    (found,) = old_lines(io.BytesIO(data))
    assert found.data == data


# ---- which line counts --------------------------------------------------------------------------


def chosen(*lines: Mapping[str, Any]) -> list[int]:
    """The numbers of the lines that count."""
    file = io.BytesIO(b"".join(line(**each) for each in lines))
    index = Index()
    for old in old_lines(file):
        found = good(old.data or b"")
        index.good(old, found)
    numbers = [number for number, _, _ in index.chosen()]
    assert index.artists() == len(numbers)
    index.close()
    return numbers


def test_of_an_artists_lines_the_last_one_counts() -> None:
    a, b = {"artist_id": "a"}, {"artist_id": "b"}
    assert chosen(a, b, a, b, a) == [4, 5]


def test_the_newest_counts_where_they_tell_and_differ() -> None:
    assert chosen({"created": 5}, {"created": 9}, {"created": 7}) == [2]
    assert chosen({"created": 5}, {"created": 5}) == [2]
    assert chosen({"created": 5}, {"created": None}) == [2]
    assert chosen({"created": None}, {"created": 5}) == [2]


# ---- a ledger's line as such a record -----------------------------------------------------------


def ledger_line(given: Good) -> dict[str, Any]:
    """The ledger's line for what was taken over."""
    artist = Artist(1, given.id, given.name, given.data)
    taken = Bio(
        text=given.text,
        request=given.request,
        prompt_sha256="0" * 64,
        response_id=given.response_id,
        created=given.created,
        latency_ms=math.nan,
    )
    made = draft(artist, taken, ledger=LEDGER, run=RUN)
    (sealed_line,) = sealed([made], Head(LEDGER, 0, first_prev(LEDGER)))
    return fields(sealed_line.data)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"artist_data": None},
        {"artist_data": {"born": 1965, "from": ["Iceland"]}},
        {"created": None, "response_id": None},
        {"request": {"prompt_id": "p", "variables": {}}},
        {"request": {"prompt_id": "p", "variables": {"x": 1.0}, "version": None}},
        {"request": {"prompt_id": "p", "variables": {}, "parameters": {"t": 1}}},
        {"request": {"prompt_id": "p", "parameters": {"t": 1}, "version": "2", "variables": {}}},
        {"request": {"prompt_id": "p"}},
        {"request": {"prompt": "q", "prompt_id": "p", "parameters": None, "variables": {}}},
        {"artist_data": " x "},
        {"artist_data": {"born": 2**64 - 1, "died": -(2**63), "x": 1e300}},
        {"response_text": 'a "b" \\ \u2028 \t \x7f 😀 </x>'},
    ],
)
def test_a_line_that_was_taken_over_is_given_back_byte_for_byte(changes: dict[str, Any]) -> None:
    data = line(**changes)
    assert encode(as_earlier(ledger_line(good(data)))) == data


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ({"artist_data": ""}, {"artist_data": None}),
        ({"artist_data": {}}, {"artist_data": None}),
        ({"artist_data": ...}, {"artist_data": None}),
        ({"artist_data": {"artist_data": "x"}}, {"artist_data": "x"}),
        ({"error": ""}, {}),
        ({"artist_data": {"n": 10**22 + 1}}, {"artist_data": {"n": 1e22}}),
    ],
)
def test_what_means_the_same_comes_back_in_one_form(
    there: dict[str, Any], back: dict[str, Any]
) -> None:
    assert encode(as_earlier(ledger_line(good(line(**there))))) == line(**back)


def test_bytes_are_those_of_json_dumps() -> None:
    assert line() == json.dumps(record(), ensure_ascii=False).encode() + b"\n"


def test_a_line_of_a_run_has_the_earlier_keys_in_their_order() -> None:
    (own,) = sealed([a_draft(text="A bio.")], Head(LEDGER, 0, first_prev(LEDGER)))
    found = as_earlier(fields(own.data))
    assert tuple(found) == KEYS
    assert found["request"] == {
        "prompt_id": "default",
        "variables": {"artist_name": "Nina Simone"},
        "version": "1",
    }
    assert list(found["request"]) == ["prompt_id", "variables", "version"]
    assert (found["artist_data"], found["db_status"], found["error"]) == (
        {"born": "1933"},
        "updated",
        None,
    )
