"""One line of the ledger, held to the format's description by a check of its own."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.ledger.line import draft, fields, first_prev, follows, is_whole, seal, seq_of
from artist_bio_gen.values import Artist, Bio, Head, Usage
from tests.builders import COMMITTED_AT, LEDGER, RUN, a_draft, artist, bio, sealed

FIELDS = [
    "artist_id",
    "artist_name",
    "artist_data",
    "request",
    "response_text",
    "response_id",
    "created",
    "db_status",
    "error",
    "v",
    "ledger",
    "run",
    "seq",
    "generation",
    "prompt_sha256",
    "input_sha256",
    "finish_reason",
    "usage",
    "cost_usd",
    "latency_ms",
    "attempts",
    "request_id",
    "committed_at",
    "cleaned",
    "prev",
    "hash",
]
"""As the plan of the ledger lists them, in this order."""


def check(data: bytes, prev: str) -> dict[str, Any]:
    """The line as JSON, checked from the description alone."""
    assert b"\n" not in data
    line: dict[str, Any] = json.loads(data.decode("utf-8", "strict"))
    assert list(line) == FIELDS
    assert line["prev"] == prev
    covered = data[: data.rindex(b',"hash":')]
    assert line["hash"] == hashlib.sha256(covered).hexdigest()
    return line


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
optional_texts = st.none() | texts
integers = st.integers(-(2**63), 2**63 - 1)
cells = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
tricky_names = st.sampled_from(
    ["seq", "hash", "prev", "run", "ledger", '","seq":7,"x":"', "committed_at"]
)
catalogues = st.dictionaries(texts | tricky_names, cells | tricky_names, max_size=5)
counts = st.none() | st.integers(0, 2**53)
artists = st.builds(
    Artist,
    row=st.integers(1, 2**40),
    id=texts,
    name=texts,
    data=catalogues,
    generation=st.integers(1, 2**31 - 1),
)
bios = st.builds(
    Bio,
    text=texts,
    request=catalogues,
    prompt_sha256=st.just("5" * 64),
    response_id=optional_texts,
    created=counts,
    finish_reason=optional_texts,
    usage=st.none() | st.builds(Usage, counts, counts, counts, counts, counts),
    request_id=optional_texts | tricky_names,
    latency_ms=st.floats(0, 1e9),
    attempts=st.integers(1, 1000),
    cleaned=st.booleans(),
)


@settings(deadline=None)  # a busy machine is not a fault
@given(artist=artists, bio=bios, seq=st.integers(1, 2**62), before=st.binary(max_size=8))
def test_any_text_makes_a_line_that_reads_back(
    artist: Artist, bio: Bio, seq: int, before: bytes
) -> None:
    prev = hashlib.sha256(before).hexdigest()
    line = seal(
        draft(artist, bio, ledger=LEDGER, run=RUN), seq=seq, prev=prev, committed_at=COMMITTED_AT
    )
    read = check(line.data, prev)
    assert (line.seq, line.hash) == (read["seq"], read["hash"]) == (seq, line.hash)
    assert (read["artist_id"], read["artist_name"]) == (artist.id, artist.name)
    assert read["artist_data"] == artist.data
    assert (read["request"], read["response_text"]) == (bio.request, bio.text)
    assert (read["ledger"], read["run"], read["generation"]) == (LEDGER, RUN, artist.generation)
    assert (read["response_id"], read["created"]) == (bio.response_id, bio.created)
    assert (read["request_id"], read["finish_reason"]) == (bio.request_id, bio.finish_reason)
    assert (read["cleaned"], read["attempts"]) == (bio.cleaned, bio.attempts)
    assert (read["usage"] is None) is (bio.usage is None)
    assert read["latency_ms"] == pytest.approx(bio.latency_ms, abs=0.001)
    assert (read["v"], read["error"], read["cost_usd"]) == (1, None, None)
    assert (read["db_status"], read["committed_at"]) == ("updated", COMMITTED_AT)
    assert read["input_sha256"] == artist.input_sha256
    assert fields(line.data) == read
    assert follows(line.data, prev) == line.hash
    assert is_whole(line.data)
    assert seq_of(line.data) == seq


def test_a_catalogue_may_have_columns_named_as_the_lines_own_fields() -> None:
    data = {"seq": 7, "hash": "0" * 64, "prev": "1" * 64, "run": "x", "ledger": "y"}
    tricky = artist(id=',"seq":8,', name='"seq":9', data=data)
    line = seal(
        draft(tricky, bio('{"seq":10,"hash":"'), ledger=LEDGER, run=RUN),
        seq=12,
        prev=first_prev(LEDGER),
        committed_at=COMMITTED_AT,
    )
    assert seq_of(line.data) == 12
    assert check(line.data, first_prev(LEDGER))["artist_data"] == data


def test_prev_of_the_first_line_is_the_hash_of_the_ledgers_id() -> None:
    assert first_prev(LEDGER) == hashlib.sha256(LEDGER.encode("ascii")).hexdigest()


def test_each_line_names_the_one_before() -> None:
    head = Head(LEDGER, 0, first_prev(LEDGER))
    prev = head.hash
    for line in sealed([a_draft(number) for number in range(1, 5)], head):
        prev = check(line.data, prev)["hash"]


def test_separators_of_unicode_do_not_split_a_line() -> None:
    line = seal(
        a_draft(text="one\u2028two\u2029three\x85four\nfive"),
        seq=1,
        prev="0" * 64,
        committed_at="x",
    )
    assert line.data.count(b"\n") == 0
    assert check(line.data, "0" * 64)["response_text"] == "one\u2028two\u2029three\x85four\nfive"


def test_any_flipped_bit_is_detected() -> None:
    prev = first_prev(LEDGER)
    whole = seal(a_draft(text="Ünïcode ✓"), seq=1, prev=prev, committed_at=COMMITTED_AT).data
    for at in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            assert follows(bytes(data), prev) is None, (at, bit)
            assert not is_whole(bytes(data)), (at, bit)


def test_any_truncation_is_detected() -> None:
    prev = first_prev(LEDGER)
    whole = seal(a_draft(), seq=1, prev=prev, committed_at=COMMITTED_AT).data
    for end in range(len(whole)):
        assert follows(whole[:end], prev) is None, end
        assert follows(whole[end + 1 :], prev) is None, end


def test_a_whole_line_in_another_place_does_not_follow() -> None:
    line = seal(a_draft(), seq=1, prev=first_prev(LEDGER), committed_at=COMMITTED_AT)
    assert is_whole(line.data)
    assert follows(line.data, "0" * 64) is None


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_foreign_bytes_are_no_line(data: bytes) -> None:
    assert follows(data, first_prev(LEDGER)) is None
    assert not is_whole(data)


def test_the_fingerprint_of_what_is_known_does_not_hang_on_the_order_of_columns() -> None:
    one = artist(data={"born": "1933", "place": "Tryon"})
    assert one.input_sha256 == artist(data={"place": "Tryon", "born": "1933"}).input_sha256
    assert one.input_sha256 != artist(data={"born": "1933"}).input_sha256
    assert one.input_sha256 != artist(name="Another", data=dict(one.data)).input_sha256


def test_half_a_character_is_refused_before_a_line_is_made() -> None:
    with pytest.raises(TypeError):
        a_draft(text="half \ud83d")
