from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.generator.text import clean, identifier

BIO = "Nina Simone was born in Tryon in 1933."


@pytest.mark.parametrize(
    "tail",
    [
        " ([en.wikipedia.org](https://en.wikipedia.org/wiki/Nina_(singer)?utm_source=openai))",
        " ([a.org](https://a.org/x), [b.org](https://b.org/y))",
        "([a.org](https://a.org/x))([b.org](https://b.org))",
        " [1](https://a.org) [2](https://b.org)",
        " [wikipedia.org](https://wikipedia.org)",
        "\u30104:0\u2020source\u3011\u3010turn0search1\u3011",
        "\u30101\u3011 \u30102\u3011",
        "[1][2]",
        " [1], [2]",
        " \ue200cite\ue202turn0search0\ue202turn0search4\ue201",
        "\n\nSources:\n- Wikipedia\n- https://a.org/x",
        "\n\n**Sources:**\n1. [A](https://a.org)\n2. Britannica",
        "\n\n## References\n\n* a. b. c, 1999",
        "\nReferences: Wikipedia, Britannica",
        "\nSource: https://a.org",
        "\n\n---\n\nSources:\n[1] A",
        "\n\n[1]: https://a.org\n[2]: https://b.org",
        "\nhttps://a.org/x",
        "\n\n---",
    ],
)
def test_sources_at_the_end_are_cut_off(tail: str) -> None:
    assert clean(BIO + tail) == (BIO, False)
    assert clean(f"{BIO}{tail} \n") == (BIO, False)


@pytest.mark.parametrize(
    ("text", "bio"),
    [
        ("He was born in 1933 ([a.org](https://a.org)).", "He was born in 1933."),
        ("He was born in 1933\u30101\u3011.", "He was born in 1933."),
        ("He was born in 1933. ([a.org](https://a.org)).", "He was born in 1933."),
        ("He said \u201cno.\u201d[1].", "He said \u201cno.\u201d"),
    ],
)
def test_the_full_stop_after_a_mark_is_kept_once(text: str, bio: str) -> None:
    assert clean(text)[0] == bio


@pytest.mark.parametrize(
    "text",
    [
        BIO,
        "He wrote three albums (1999, 2001 and 2004).",
        "See [her site](https://x.org/a).",
        "His sources: folk and jazz.\nSources of joy were many. He sang.",
        "He sang.\nSources: The songs come from folk music. He collected them all his life.",
        "He sang.\nReferences to the sea are many.",
        "\u5742\u672c\u9f8d\u4e00\u306e\u4ee3\u8868\u4f5c\u306f\u3010\u5343\u306e\u30ca\u30a4\u30d5\u3011",
        '"Heroes" was a song by "Bowie"',
        "\u201cHeroes\u201d is one of \u201cthem\u201d",
        "A `code` word",
        "First paragraph.\n\nSecond paragraph: one - two.",
        "He called it (in the words of a critic) 'music'.",
        "Line\u2028separator\ttab",
        "Sources: a",
        "It is at https://x.org/a.",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean(text) == (text, False)


@pytest.mark.parametrize(
    "text",
    [f"```\n{BIO}\n```", f"```markdown\n{BIO}```", f'"{BIO}"', f"\u201c{BIO}\u201d",
     f"\u00ab{BIO}\u00bb", f'```text\n"{BIO}"\n```', f"  \n{BIO}\t ", f"\ufeff{BIO}",
     f'"{BIO} [1]"'],
)  # fmt: skip
def test_what_wraps_the_whole_text_is_taken_off(text: str) -> None:
    assert clean(text) == (BIO, False)


@pytest.mark.parametrize("text", [f"```\n{BIO}\n```\nand\n```\nmore\n```", f'"{BIO}', "```", '"'])
def test_what_wraps_a_part_stays(text: str) -> None:
    assert clean(text)[0] == text


@pytest.mark.parametrize("character", ["\x00", "\ud800", "\x07", "\x1b", "\x7f", "\x85"])
def test_what_cannot_be_stored_is_taken_out_and_told(character: str) -> None:
    assert clean(f"a{character}b") == ("ab", True)
    assert identifier(f"resp{character}_1") == "resp_1"


def test_line_ends_become_one_kind_without_being_told() -> None:
    assert clean("a\r\nb\rc") == ("a\nb\nc", False)


def test_identifiers_are_short_or_absent() -> None:
    assert identifier("r" * 999) == "r" * 200
    assert identifier("\x00") is identifier("") is identifier(None) is None


SPECIAL = ["[1]", "(", ")", "[a](https://a.b)", "\u30101\u3011", "Sources:", "\n", "- ", "```",
           '"', ".", " ", "https://a.b", "word", "\x00", "\ud800", "\u201c", "---"]  # fmt: skip
ANY = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(SPECIAL)).map(
    "".join
)


@given(ANY)
def test_any_text_becomes_one_that_can_be_stored(text: str) -> None:
    bio, cleaned = clean(text)
    assert "\x00" not in bio
    bio.encode("utf-8")
    assert bio == bio.strip()
    assert clean(bio) == (bio, False)
    assert cleaned == (_storable(text) != text)


def _storable(text: str) -> str:
    return "".join(c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cs"))


@pytest.mark.parametrize(
    "text",
    ["([a](https://x" * 10_000, "\nSources:" * 10_000, "[1]" * 30_000 + "x", "x" + "[1]" * 30_000,
     "x" + "\u30101\u3011" * 30_000, " " * 50_000 + "x" + " \n" * 25_000, "(" * 100_000,
     "```\n" * 25_000, "x" + "\n- https://a.b" * 8_000, "* " * 50_000 + "x",
     "(" + "[a](https://b)," * 7_000 + "x"],
)  # fmt: skip
def test_hostile_texts_take_no_time(text: str) -> None:
    """A regular expression that goes wild would hold this test for minutes."""
    clean(text)


@pytest.mark.parametrize("before", ["a", "a[1]"])
@pytest.mark.parametrize("blank", [" ", "\n"])
def test_blanks_before_many_marks_are_not_gone_through_again_and_again(
    before: str, blank: str
) -> None:
    """Once for each pair of them, and each mark, would take a thousand times as long as letters."""

    def cpu_s(filling: str) -> float:
        begun = time.process_time()
        clean(before + filling * 3_300 + "z" + "[1]\u30101\u3011" * 100)
        return time.process_time() - begun

    assert cpu_s(blank) < 50 * cpu_s("b")
