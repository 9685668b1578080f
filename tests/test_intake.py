"""The input of a run: which of its columns the run itself writes."""

from __future__ import annotations

from typing import Any

import pytest

from artist_bio_gen.config import Settings
from artist_bio_gen.intake import columns_written

SERVER = "postgresql://someone@127.0.0.1:5432/museum"
SUPABASE = "supabase+https://project.supabase.co/rest/v1"


def written(source: str, table: str, **more: Any) -> tuple[str, ...]:
    return columns_written(Settings(input=source, table=table, **more))


@pytest.mark.parametrize(
    ("source_table", "table"),
    [
        (None, "artists"),
        ("museum", "museum"),
        ("public.museum", "museum"),
        ("museum", "public.museum"),
        ('"public"."museum"', "public.museum"),
    ],
)
def test_of_a_table_of_the_same_name_bio_is_written(source_table: str | None, table: str) -> None:
    assert written(SERVER, table, source_table=source_table) == ("bio",)


@pytest.mark.parametrize(
    ("source", "table", "more"),
    [
        (SERVER, "museum", {}),
        (SERVER, "a.museum", {"source_table": "b.museum"}),
        (SERVER, "museum", {"query": "select id, name, bio from museum"}),
        ("mysql://someone@127.0.0.1/museum", "artists", {}),
        ("artists.csv", "artists", {}),
        ("-", "artists", {}),
        (f"{SUPABASE}/museum", "artists", {}),
    ],
)
def test_of_any_other_input_nothing_is(source: str, table: str, more: dict[str, Any]) -> None:
    assert written(source, table, **more) == ()


@pytest.mark.parametrize(
    "source",
    [
        f"{SUPABASE}/museum?select=id,name,bio",
        "https://project.supabase.co/rest/v1/museum/",
        f"{SUPABASE}/%6Duseum",
    ],
)
def test_the_table_of_supabase_stands_in_the_address(source: str) -> None:
    assert written(source, "museum") == written(source, "public.museum") == ("bio",)
