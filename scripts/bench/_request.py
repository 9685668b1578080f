"""The one request that the obvious script and the bare loop make of an artist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INSTRUCTIONS = """\
You write short biographies of artists for a catalogue: plain prose in English, in the third
person, in one paragraph, without a headline, a list or any markup. Restate every fact in plain
full sentences and add nothing: no praise, no opinions, no guesses, no dates, names or places
that are not among the facts. Answer with the biography alone."""


def body(api: str, model: str, artist: Mapping[str, str]) -> dict[str, Any]:
    facts = "\n".join(f"{column}: {value}" for column, value in artist.items() if column != "id")
    if api == "responses":
        return {"model": model, "instructions": INSTRUCTIONS, "input": facts}
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": facts},
        ],
    }
