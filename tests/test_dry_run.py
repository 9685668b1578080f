"""What a dry run says of rows that would not become bios."""

from __future__ import annotations

from contextlib import nullcontext

from artist_bio_gen.dry_run import dry_run
from artist_bio_gen.errors import Unusable
from artist_bio_gen.generator.model import Model
from artist_bio_gen.values import Artist, Bio, Rejected
from tests.builders import artist


def a_model() -> Model:
    def show(row: Artist) -> str:
        if row.row == 2:
            raise Unusable("'genre' is undefined (artist 2)\nmore", kind="prompt")
        return f"about {row.name}"

    def generate(row: Artist, request_id: str) -> Bio:
        raise AssertionError("no call is made")

    return Model(
        name="gpt-test",
        workers=1,
        fingerprint="0" * 64,
        chosen="",
        show=show,
        open=lambda say: nullcontext(generate),
    )


def test_an_artist_that_does_not_go_into_the_prompt_is_told_and_the_rest_is_read() -> None:
    found = dry_run([artist(1), artist(2), Rejected(3, "no name"), artist(4)], a_model())
    assert found.rejected == 1
    assert [each.splitlines()[0] for each in found.messages] == [
        f"request for artist 1 ({artist(1).name}):",
        f"no request for artist 2 ({artist(2).name}): 'genre' is undefined (artist 2)\\nmore",
        "row 3 would be rejected: no name",
        f"request for artist 4 ({artist(4).name}):",
        "3 artists would be looked up, 1 rows rejected; no call",
    ]
