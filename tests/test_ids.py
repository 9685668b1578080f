"""Ids in the type of the table's column."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.database.ids import IdKind
from artist_bio_gen.errors import ConfigError


def canonical(sql_type: str, text: str) -> str:
    return IdKind.of(sql_type, table="artists", column="id").canonical(text)


@pytest.mark.parametrize("sql_type", ["smallint", "integer", "bigint", "numeric", "numeric(9,0)"])
def test_whole_numbers_have_one_spelling(sql_type: str) -> None:
    for text in ("7", "007", "+7", " 7 ", "+0007"):
        assert canonical(sql_type, text) == "7"
    for text in ("0", "-0", "+00"):
        assert canonical(sql_type, text) == "0"
    assert canonical(sql_type, "-07") == "-7"


@pytest.mark.parametrize("sql_type", ["smallint", "integer", "bigint", "numeric"])
@pytest.mark.parametrize(
    "text",
    ["abc", "", "1.5", "7.0", "1e3", "1_000", "1,000", "0x1f", "--7", "+", "\u0667", "7\n8", "²"],
)
def test_other_text_is_no_whole_number(sql_type: str, text: str) -> None:
    with pytest.raises(ValueError, match="is no whole number"):
        canonical(sql_type, text)


@pytest.mark.parametrize(
    ("sql_type", "low", "high"),
    [
        ("smallint", -32_768, 32_767),
        ("integer", -2_147_483_648, 2_147_483_647),
        ("bigint", -(2**63), 2**63 - 1),
    ],
)
def test_integers_have_a_range(sql_type: str, low: int, high: int) -> None:
    for number in (low, high):
        assert canonical(sql_type, str(number)) == str(number)
    for number in (low - 1, high + 1, 10**6000):
        text = str(number) if number < 10**30 else "1" + "0" * 6000
        with pytest.raises(ValueError, match=f"is out of the range of {sql_type}"):
            canonical(sql_type, text)


def test_a_numeric_takes_as_many_digits_as_it_says() -> None:
    assert canonical("numeric(3,0)", "-0999") == "-999"
    with pytest.raises(ValueError, match=r"'1000' has more digits than numeric\(3,0\) takes"):
        canonical("numeric(3,0)", "1000")
    assert canonical("numeric", "9" * 10_000) == "9" * 10_000


UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        UUID.upper(),
        f" {UUID}\n",
        f"{{{UUID}}}",
        UUID.replace("-", ""),
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ],
)
def test_every_spelling_of_a_uuid_that_postgres_takes_is_one_id(text: str) -> None:
    assert canonical("uuid", text) == UUID


@pytest.mark.parametrize(
    "text",
    ["", "abc", UUID[:-1], UUID + "0", "{" + UUID, UUID + "}", UUID.replace("a", "g"), "a" * 33],
)
def test_other_text_is_no_uuid(text: str) -> None:
    with pytest.raises(ValueError, match="is no UUID"):
        canonical("uuid", text)


@given(st.uuids())
def test_a_uuid_is_written_as_python_writes_it(value: uuid.UUID) -> None:
    assert canonical("uuid", value.hex) == str(value)


@pytest.mark.parametrize("sql_type", ["text", "character varying", "character varying(9)"])
def test_text_is_taken_as_it_is(sql_type: str) -> None:
    for text in ("7", "007", "Q1 ", " x", "坂本", "A", "a"):
        assert canonical(sql_type, text) == text


@pytest.mark.parametrize("sql_type", ["character(5)", "bpchar"])
def test_padding_does_not_tell_ids_apart(sql_type: str) -> None:
    assert canonical(sql_type, "ab  ") == canonical(sql_type, "ab") == "ab"
    assert canonical(sql_type, " ab") == " ab"


def test_text_has_a_length_in_characters() -> None:
    for sql_type in ("character varying(3)", "character(3)"):
        assert canonical(sql_type, "坂本龍") == "坂本龍"
        with pytest.raises(ValueError, match=r"'abcd' is longer than character.*\(3\) takes"):
            canonical(sql_type, "abcd")
    with pytest.raises(ValueError, match="is longer than character takes"):
        canonical("character", "ab")


@pytest.mark.parametrize("sql_type", ["text", "character varying(9)", "character(9)"])
def test_text_that_cannot_be_stored_is_no_id(sql_type: str) -> None:
    for text in ("a\x00", "\ud83d"):
        with pytest.raises(ValueError, match="cannot store"):
            canonical(sql_type, text)
    with pytest.raises(ValueError, match="empty"):
        canonical(sql_type, "")


def test_a_refused_id_is_shown_cut() -> None:
    with pytest.raises(ValueError, match=r"^'x{60}…' is no UUID$"):
        canonical("uuid", "x" * 1000)


@pytest.mark.parametrize(
    "sql_type",
    [
        *("smallint", "integer", "bigint", "numeric", "numeric(9,0)", "uuid"),
        *("text", "character varying", "character varying(20)", "character(3)", "bpchar"),
    ],
)
def test_the_type_can_stand_in_sql(sql_type: str) -> None:
    assert IdKind.of(sql_type, table="artists", column="id").sql_type == sql_type


@pytest.mark.parametrize(
    "sql_type",
    [
        *("jsonb", "double precision", "bytea", "date", "integer[]", "citext", "name", '"char"'),
        *("numeric(9,2)", "numeric(5,-2)", "character varying(x)", "text(3)"),
        *("my_domain", "text; drop table artists", ""),
    ],
)
def test_other_types_are_told_with_what_is_supported(sql_type: str) -> None:
    with pytest.raises(ConfigError) as refused:
        IdKind.of(sql_type, table="music.artists", column="key")
    message = str(refused.value)
    assert message.startswith(f"music.artists.key is of type {sql_type}, ")
    for supported in ("smallint", "integer", "bigint", "numeric", "uuid", "text"):
        assert supported in message


@given(st.text(), st.sampled_from(["bigint", "numeric(5,0)", "uuid", "text", "character(4)"]))
def test_a_canonical_id_is_its_own_canonical_form(text: str, sql_type: str) -> None:
    try:
        once = canonical(sql_type, text)
    except ValueError:
        return
    assert canonical(sql_type, once) == once
