"""Biographies for a catalogue of artists: bought once, kept for good. Start at runner.py.

For scripts there are `open_source`, with adapters from and to Arrow and pandas (docs/sources.md),
and `append_jsonl_response`, `write_jsonl_output` and `open_ledger_lines` (docs/ledger-command.md);
they are imported when they are asked for.
"""

from typing import Any

__version__ = "0.1.0"

# Types stand in __init__.pyi.
_PUBLIC = {
    "append_jsonl_response": "ledger.earlier_file",
    "from_arrow": "sources.arrow.frames",
    "from_pandas": "sources.arrow.frames",
    "from_rows": "sources.arrow.frames",
    "open_ledger_lines": "ledger.reading",
    "open_source": "sources",
    "to_arrow": "sources.arrow.frames",
    "to_batches": "sources.arrow.frames",
    "to_frames": "sources.arrow.frames",
    "to_pandas": "sources.arrow.frames",
    "to_reader": "sources.arrow.frames",
    "write_jsonl_output": "ledger.earlier_file",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
