from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.masking import (
    MASK,
    holds_key,
    mask_address,
    mask_key,
    mask_passwords,
    passwords_in,
    redact,
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:pw@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:p%40w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h:5432/db", "postgresql://u@h:5432/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql://:pw@h/db", "postgresql://:***@h/db"),
        ("postgresql://u:pw@h/db?user=a@b", "postgresql://u:***@b"),
        ("postgresql://u@h/db?password=pw&sslmode=require", None),
        ("postgresql://u@h/db?sslpassword=pw&sslmode=require", None),
        ("host=h password=pw user=u", "host=h password=*** user=u"),
        ("host=h password = 'p w' user=u", "host=h password = *** user=u"),
        (r"host=h password='p\'w' user=u", "host=h password=*** user=u"),
        (r"host=h PASSWORD=p\ w user=u", "host=h PASSWORD=*** user=u"),
        ("https://u:pw@proxy/v1", "https://u:***@proxy/v1"),
        ("cannot reach postgresql://u:pw@h/db, see", "cannot reach postgresql://u:***@h/db, see"),
        ("no address at all", "no address at all"),
    ],
)
def test_passwords_are_masked_in_every_form(text: str, masked: str | None) -> None:
    assert "pw" not in mask_passwords(text)
    if masked is not None:
        assert mask_passwords(text) == masked


@pytest.mark.parametrize(
    "password", ["p@ss", "p/ss", "p?ss", "p#ss", "a@b/c?d", "a:b", "@", "a?b@c"]
)
def test_nothing_of_a_password_is_left_that_was_not_percent_encoded(password: str) -> None:
    assert mask_passwords(f"postgresql://u:{password}@h/db") == "postgresql://u:***@h/db"


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("postgresql://u:hun\t22x@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:hun22x\n@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:hun 22x@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u u:hun 22x@h/db", "postgresql://u u:***@h/db"),
        ("postgresql://u?u:hun22x@h/db", "postgresql://u?u:***@h/db"),
        ("postgresql://h/db?user=u&pass%77ord=hun22x", "postgresql://h/db?user=u&pass%77ord=***"),
        (
            "postgresql://h/db?%70ASSword= hun 22x&user=u",
            "postgresql://h/db?%70ASSword= ***&user=u",
        ),
        ("postgresql://h/db?password=hun'22x", "postgresql://h/db?password=***"),
        ("host=h password=hun&22x user=u", "host=h password=*** user=u"),
        ("host=h password=hun'22x user=u", "host=h password=*** user=u"),
        ("host=h password='hun\n22x' user=u", "host=h password=*** user=u"),
        ("host=h password='hun 22x", "host=h password=***"),
        ("host=h oauth_client_secret=hun22x", "host=h oauth_client_secret=***"),
    ],
)
def test_a_setting_is_masked_wherever_libpq_sees_a_password(value: str, masked: str) -> None:
    assert mask_address(value) == masked
    found = passwords_in(value)
    assert [form for form in found if "hun" in form and "22x" in form]
    assert "22x" not in redact(f"no such thing: {value!r}, {found[0]}", found)


def test_a_password_is_found_as_it_would_be_encoded() -> None:
    assert "hun%2022" in passwords_in("postgresql://u:hun 22@h/db")
    assert "hun 22" in passwords_in("postgresql://u:hun%2022@h/db")


def test_passwords_are_found_as_written_and_as_meant() -> None:
    assert passwords_in("postgresql://u:p%40w@h/db") == ("p%40w", "p@w")
    assert "word" in passwords_in("postgresql://u:word@h/db?user=a@b")
    assert "it's" in passwords_in(r"host=h password='it\'s' user=u")
    assert passwords_in("host=h user=u") == ()


@pytest.mark.parametrize(
    ("key", "masked"),
    [("sk-proj-1234567890abcdWXYZ", "***WXYZ"), ("short-key", "***"), ("", "***")],
)
def test_only_a_long_key_shows_its_end(key: str, masked: str) -> None:
    assert mask_key(key) == masked


@given(
    before=st.text(),
    after=st.text(),
    secret=st.text(st.characters(categories=["L", "N"]), min_size=4),
)
def test_a_secret_is_nowhere_in_a_redacted_text(before: str, after: str, secret: str) -> None:
    assert secret not in redact(f"{before}{secret}{after}", [secret]).replace(MASK, "\0")


def test_a_secret_is_found_where_repr_has_escaped_it() -> None:
    secret = "back\\slash'quote"
    assert "slash" not in redact(f"ValueError({secret!r})", [secret])


def test_the_longer_of_two_secrets_goes_first() -> None:
    assert redact("canary-extended", ["canary", "canary-extended"]) == MASK


def test_very_short_secrets_are_left_since_they_are_in_every_word() -> None:
    assert redact("an artist", ["a"]) == "an artist"


def test_a_key_within_a_text_is_found_and_words_are_not() -> None:
    key = "sk-canary-0123456789"
    assert holds_key(f"Her bio, {key}.", ["music", key])
    assert not holds_key("Her music.", ["music", key])
    assert not holds_key(f"Her bio, {key[:-1]}.", [key])
    assert not holds_key("Her bio.", [])
