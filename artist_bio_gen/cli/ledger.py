"""`artist-bio-gen ledger`: look at a ledger without other tools. Nothing is ever written to it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artist_bio_gen.cli.streams import quiet
from artist_bio_gen.errors import UsageError

if TYPE_CHECKING:
    from artist_bio_gen.ledger.reading import Tail

FOLLOW_EVERY_S = 0.5
_NAME_WIDTH = 30
_TEXT_WIDTH = 88

LEDGER = click.argument("ledger", type=click.Path(path_type=Path, dir_okay=False))
RAW = click.option("--raw", "raw", is_flag=True, help="The exact line.")
JSON = click.option("--json", "as_json", is_flag=True, help="As JSON with line breaks.")


@click.group("ledger")
def ledger_group() -> None:
    """Look at a ledger, and export it. LEDGER is its first file; its segments belong to it."""


@ledger_group.command()
@LEDGER
@click.argument("seq", required=False, type=click.IntRange(min=1))
@click.option("--artist", "artist_id", help="All bios of the artist with this id.")
@RAW
@JSON
def show(ledger: Path, seq: int | None, artist_id: str | None, raw: bool, as_json: bool) -> None:
    """Show line SEQ, or the lines of an artist, or the last line."""
    from artist_bio_gen.ledger import reading

    if seq is not None and artist_id is not None:
        raise UsageError("give a line's number or --artist, not both")
    if artist_id is not None:
        chosen = _of_artist(ledger, artist_id)
    elif seq is not None:
        chosen = iter([reading.line(ledger, seq)])
    else:
        chosen = _last(reading.Tail(ledger, 1))
    with quiet():
        _show(chosen, _form(raw, as_json, in_full))


@ledger_group.command()
@LEDGER
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=10, show_default=True, help="So many lines."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl+C.")
@RAW
@JSON
def tail(ledger: Path, count: int, follow: bool, raw: bool, as_json: bool) -> None:
    """Show the last lines, one line of the screen each."""
    from artist_bio_gen.ledger.reading import Tail, torn

    end = Tail(ledger, count)
    form = _form(raw, as_json, in_short)
    with quiet():
        _show(_last(end), form)
        if follow:
            _follow(end.more, lambda new: _show(new, form), time.sleep)
        elif end.torn:
            raise torn(end.ledger, end.path, end.seq)


@ledger_group.command()
@LEDGER
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def stats(ledger: Path, as_json: bool) -> None:
    """Count lines, artists, runs, tokens and more. Reads and checks the whole ledger."""
    import orjson

    from artist_bio_gen.ledger.stats import gather
    from artist_bio_gen.telemetry.progress import printable

    found = gather(ledger)
    with quiet():
        if as_json:
            click.echo(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2))
        else:
            click.echo(printable("\n".join(found.report())))


@ledger_group.command("export")
@LEDGER
@click.option(
    "--format",
    "form",
    type=click.Choice(["earlier", "csv", "jsonl"]),
    required=True,
    help="The earlier JSONL format, CSV, or the ledger's own lines in one file.",
)
@click.option("--newest", is_flag=True, help="Of each artist the newest bio alone.")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    help="A new file, instead of the standard output.",
)
def export_command(ledger: Path, form: str, newest: bool, target: Path | None) -> None:
    """Write the ledger in another format, in the order of its lines."""
    from artist_bio_gen.ledger.belonging import belongs_to
    from artist_bio_gen.ledger.export import export
    from artist_bio_gen.ledger.files import REAL
    from artist_bio_gen.ledger.segments import real
    from artist_bio_gen.ledger.whole import whole_file

    pieces = export(ledger, form, newest=newest)
    if target is None:
        with quiet():
            for piece in pieces:
                sys.stdout.buffer.write(piece)
        return
    if os.path.lexists(target):
        raise UsageError(f"{target}: is there already and is not overwritten; name another file")
    if belongs_to(real(ledger), target):
        raise UsageError(f"{target}: belongs to the ledger; name another file")
    with whole_file(REAL, target) as write:
        for piece in pieces:
            write(piece)


# ---- forms ------------------------------------------------------------------------------------


def _form(
    raw: bool, as_json: bool, otherwise: Callable[[Mapping[str, Any]], str]
) -> Callable[[bytes], str | bytes]:
    """How a line is shown: as it is, as JSON with line breaks, or for a person."""
    import orjson

    from artist_bio_gen.ledger.line import fields
    from artist_bio_gen.telemetry.progress import printable

    if raw and as_json:
        raise UsageError("give --raw or --json, not both")
    if raw and not sys.stdout.isatty():
        return lambda data: data
    if raw:
        return lambda data: printable(data.decode())
    if as_json:
        indented = orjson.OPT_INDENT_2
        return lambda data: printable(orjson.dumps(fields(data), option=indented).decode())
    return lambda data: printable(otherwise(fields(data)))


def _show(chosen: Iterable[bytes], form: Callable[[bytes], str | bytes]) -> None:
    for data in chosen:
        click.echo(form(data))


def in_full(line: Mapping[str, Any]) -> str:
    """A line of the ledger as a page: what is known of the bio, then its text."""
    import textwrap

    import orjson

    from artist_bio_gen.ledger.stats import prompt_of

    request, usage = line["request"], line["usage"] or {}
    known = {
        "line": f"{line['seq']}, generation {line['generation']}",
        "artist": f"{line['artist_id']} {line['artist_name']}",
        "data": orjson.dumps(line["artist_data"]).decode() if line["artist_data"] else None,
        "prompt": prompt_of(request),
        "model": request.get("model"),
        "tokens": _tokens(usage),
        "latency": None if line["latency_ms"] is None else f"{line['latency_ms']:,.0f} ms",
        "attempts": line["attempts"],
        "response": line["response_id"],
        "committed": line["committed_at"],
        "cleaned": "yes" if line["cleaned"] else None,
        "run": line["run"],
        "hash": line["hash"],
    }
    rows = [f"{name:<10} {_one_line(str(value))}" for name, value in known.items() if value]
    paragraphs = [textwrap.fill(each, _TEXT_WIDTH) for each in line["response_text"].split("\n")]
    return "\n".join([*rows, textwrap.indent("\n".join(paragraphs), "    "), ""])


def in_short(line: Mapping[str, Any]) -> str:
    """A line of the ledger as one of the screen."""
    name = _one_line(line["artist_name"])[:_NAME_WIDTH]
    text = _one_line(line["response_text"])
    when = line["committed_at"][:19]
    return f"{line['seq']:>8} {when} {_one_line(line['artist_id'])}  {name}: {text[:_TEXT_WIDTH]}"


def _tokens(usage: Mapping[str, int | None]) -> str | None:
    told = [
        f"{usage[key]:,} {word}"
        for key, word in (("input_tokens", "in"), ("output_tokens", "out"))
        if usage.get(key) is not None
    ]
    return ", ".join(told) or None


def _one_line(text: str) -> str:
    return " ".join(text.split())


# ---- choosing ---------------------------------------------------------------------------------


def _last(end: Tail) -> Iterator[bytes]:
    yield from end.lines
    if end.damage is not None:
        raise end.damage


def _of_artist(ledger: Path, artist_id: str) -> Iterator[bytes]:
    """UsageError when there is none: ids are compared as they stand in the ledger."""
    import orjson

    from artist_bio_gen.ledger.reading import lines

    try:
        begins = b'{"artist_id":%b,' % orjson.dumps(artist_id)
    except TypeError as exc:  # orjson's, for what the shell gave as bytes that are no text
        raise UsageError(f"--artist {artist_id}: must be UTF-8, which these bytes are not") from exc
    found = False
    for data in lines(ledger):
        if data.startswith(begins):
            found = True
            yield data
    if not found:
        raise UsageError(
            f"{ledger}: has no line of artist {artist_id}; ids stand there as in the table"
        )


def _follow(
    more: Callable[[], Iterable[bytes]],
    show_all: Callable[[Iterable[bytes]], None],
    sleep: Callable[[float], None],
) -> None:
    while True:
        show_all(more())
        sys.stdout.flush()
        sleep(FOLLOW_EVERY_S)
