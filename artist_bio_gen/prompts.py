"""Prompt: one Jinja2 file that becomes the request for each artist.

The file has two blocks. `instructions` says the same to every artist, is rendered once and
sent first, so that a server can cache it; `input` holds the artist. A file without blocks is
all input. A leading comment may carry the version: `{# version: 3 #}`.

A template sees `artist` (id, name, row, data), `artist_name`, `artist_data` (one text, a
`column: value` a line) and `notes` (the same as pairs, the columns' names in words). Two filters
keep data from passing for instructions: `fenced("tag")` puts it between `<tag>` and `</tag>` and
breaks every such tag inside it, `one_line` makes it short and plain. A template is rendered in
Jinja2's sandbox with a budget of steps and of text (`sandbox.py`), so that a slip cannot hang a
run.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import re
import stat
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import orjson

from artist_bio_gen.errors import ConfigError, Unusable
from artist_bio_gen.sandbox import budget, count, make_environment, refused
from artist_bio_gen.values import Artist, Json, path_text

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

DEFAULT_PROMPT = Path(__file__).with_name("default_prompt.j2")

MAX_BYTES = 1_000_000
"""Of a prompt file; a request of that length fits no model."""

BLOCKS = ("instructions", "input")
VARIABLES = ("artist", "artist_name", "artist_data", "notes")

MAX_LINE = 200
"""Characters that `one_line` leaves: longer than any name of an artist has to be."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is sent for one artist, and the texts it was made of. `instructions` is the same
    for all, and may be empty."""

    instructions: str
    input: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A checked and compiled prompt. `sha256` (hex) is that of the file's bytes; `version` is
    None when the file names none."""

    name: str
    version: str | None
    sha256: str
    instructions: str
    _render_input: RenderInput = field(repr=False)

    @classmethod
    def load(cls, path: Path | None) -> Prompt:
        """Reads a prompt file; None means the one shipped with the package. ConfigError when
        it cannot be read or is no valid prompt."""
        file = path or DEFAULT_PROMPT
        try:
            raw = _read(file)
            text = raw.decode("utf-8-sig")
        except OSError as exc:
            raise ConfigError(
                f"prompt {file}: cannot be read ({exc.strerror}); give another one with --prompt"
            ) from exc
        except UnicodeDecodeError as exc:
            raise ConfigError(
                f"prompt {file}: byte {exc.start + 1} is not UTF-8; save the file as UTF-8"
            ) from exc
        return cls._compile(
            "default" if path is None else path_text(Path(file.name)), text, raw, str(file)
        )

    @classmethod
    def from_text(cls, name: str, text: str) -> Prompt:
        """A prompt that stands in no file. ConfigError when it is no valid prompt."""
        return cls._compile(name, text, text.encode(), name)

    @classmethod
    def _compile(cls, name: str, text: str, raw: bytes, where: str) -> Prompt:
        instructions, render_input = _compile(text, where)
        return cls(
            name=name,
            version=_version(text),
            sha256=hashlib.sha256(raw).hexdigest(),
            instructions=instructions,
            _render_input=render_input,
        )

    def render(self, artist: Artist) -> Rendered:
        """Raises Unusable (kind `prompt`) when the template asks for what this artist lacks."""
        variables = self.variables(artist)
        return Rendered(self.instructions, self._render_input(artist, variables), variables)

    @staticmethod
    def variables(artist: Artist) -> dict[str, str]:
        """What is known of an artist as texts: `artist_name`, and `artist_data` with one
        `column: value` a line. A stored prompt gets them, and a ledger's line keeps them."""
        lines = [f"{column}: {_as_text(value)}" for column, value in artist.data.items()]
        return {"artist_name": artist.name, "artist_data": "\n".join(lines)}


def _read(file: Path) -> bytes:
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe could keep us waiting for ever
        raise ConfigError(f"prompt {file}: is no regular file; give another one with --prompt")
    with file.open("rb") as opened:
        raw = opened.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"prompt {file}: is larger than {MAX_BYTES:,} bytes; give another one with --prompt"
        )
    return raw


def _notes(artist: Artist) -> list[tuple[str, str]]:
    return [(column.replace("_", " "), _as_text(value)) for column, value in artist.data.items()]


def _as_text(value: Json) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    # A line break inside a value must not look like the next column, so its lines are indented.
    return "\n  ".join(value.splitlines())


_OPENING = "<\uff1c\ufe64"  # the ASCII sign, and the full-width and small forms of it
_NO_TAGS = dict.fromkeys(map(ord, "<>\uff1c\uff1e\ufe64\ufe65"))
_SLASHES = "/\uff0f\\\\"
_BROKEN = "\u2039"  # a single guillemet: looks alike, and is no tag


def fenced(text: str, tag: str) -> str:
    """The text between `<tag>` and `</tag>`, with every such tag inside it broken, so that
    data cannot end its own delimiter and go on as an instruction."""
    if len(tag) > MAX_LINE:
        raise refused(f"a tag of more than {MAX_LINE} characters")
    inner = text.strip()
    if any(sign in inner for sign in _OPENING):  # in nearly no catalogue's data
        inner = _tag_pattern(tag).sub(_BROKEN, inner)
    return f"<{tag}>\n{inner}\n</{tag}>"


def one_line(text: str) -> str:
    """For a name that has to stand among instructions: without line breaks and tags, cut."""
    plain = " ".join(text.translate(_NO_TAGS).split())
    return plain if len(plain) <= MAX_LINE else plain[: MAX_LINE - 1] + "\u2026"


@functools.lru_cache(maxsize=64)
def _tag_pattern(tag: str) -> re.Pattern[str]:
    return re.compile(rf"[{_OPENING}](?=[\s{_SLASHES}]*{re.escape(tag)}\b)", re.IGNORECASE)


def _version(text: str) -> str | None:
    comment = re.match(r"\s*\{#(.*?)#\}", text, re.DOTALL)
    found = comment and re.search(r"\bversion:\s*([^\s,;#]+)", comment[1])
    return found[1] if found else None


RenderInput: TypeAlias = Callable[[Artist, Mapping[str, str]], str]


def _compile(text: str, where: str) -> tuple[str, RenderInput]:
    """The rendered instructions, and the function that renders the input."""
    from jinja2.exceptions import SecurityError

    templates = _templates(text, where)
    render_input = _input_renderer(templates["input"], where)
    try:
        instructions = ""
        if "instructions" in templates:
            with budget():
                instructions = templates["instructions"].render().strip()
    except Exception as exc:  # as when the input is rendered
        raise ConfigError(f"prompt {where}{_line(exc, where)}: {exc}; mend the template") from exc
    try:
        render_input(_SAMPLE, Prompt.variables(_SAMPLE))
    except Unusable as exc:
        # A real artist may have what the sample lacks; what the sandbox forbids never works,
        # nor what takes too much without any data.
        if isinstance(exc.__cause__, SecurityError | RecursionError):
            raise ConfigError(f"{exc}; mend the template") from exc
    return instructions, render_input


def _templates(text: str, where: str) -> dict[str, Template]:
    """The blocks, checked and compiled."""
    from jinja2 import TemplateSyntaxError

    environment = _environment()
    try:
        with budget():
            parts = _parts(environment.parse(text, filename=where), where)
            for part in parts.values():
                _check_names(part, where)
                count(part, environment)
            return {name: _template(environment, part, where) for name, part in parts.items()}
    except ConfigError:
        raise
    except TemplateSyntaxError as exc:
        raise ConfigError(
            f"prompt {where} line {exc.lineno}: {str(exc.message).rstrip('.')}; "
            "mend the template (a brace that is text is written {{ '{{' }})"
        ) from exc
    except Exception as exc:  # the compilers of Jinja2 and of Python refuse in many ways
        raise ConfigError(
            f"prompt {where}: cannot be compiled ({type(exc).__name__}: {exc}); is it nested too"
            " deeply? mend the template"
        ) from exc


def _input_renderer(template: Template, where: str) -> RenderInput:
    from jinja2 import UndefinedError

    def render_input(artist: Artist, known: Mapping[str, str]) -> str:
        try:
            with budget():
                rendered = template.render(artist=artist, notes=_notes(artist), **known).strip()
        except MemoryError:
            raise  # not this artist's fault; what takes too much is forbidden before
        except Exception as exc:  # a template is a program and may raise anything
            raise Unusable(
                f"prompt {where}{_line(exc, where)}: {str(exc) or type(exc).__name__}"
                f" (artist {artist.id})"
                + ("; try default('')" if isinstance(exc, UndefinedError) else ""),
                kind="prompt",
            ) from exc
        if not rendered:
            raise Unusable(
                f"prompt {where}: renders to nothing for artist {artist.id}", kind="prompt"
            )
        return rendered

    return render_input


_SAMPLE = Artist(row=0, id="sample", name="Sample")


@functools.cache
def _environment() -> SandboxedEnvironment:
    return make_environment({"fenced": fenced, "one_line": one_line})


def _parts(tree: nodes.Template, where: str) -> dict[str, nodes.Template]:
    """A template for each block; the macros and variables that stand before the blocks are
    part of both."""
    from jinja2 import nodes

    for loads in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        raise ConfigError(
            f"prompt {where} line {loads.lineno}: loads another template; a prompt is one file, "
            "so that its fingerprint tells all: put the text here"
        )
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise ConfigError(
                f"prompt {where} line {loop.lineno}: recursive loops are not supported; use a macro"
            )
    every = list(tree.find_all(nodes.Block))
    if not every:
        return {"input": tree}
    shared: list[nodes.Node] = []
    blocks: dict[str, nodes.Block] = {}
    for node in tree.body:
        if isinstance(node, nodes.Block):
            blocks[node.name] = node
        elif isinstance(node, nodes.Macro | nodes.Assign | nodes.AssignBlock):
            shared.append(node)
        elif not _blank(node):
            raise ConfigError(
                f"prompt {where} line {node.lineno}: what stands outside of the blocks would not "
                "be sent; put it into block 'instructions' or 'input'"
            )
    for block in every:
        if block.name not in BLOCKS or blocks.get(block.name) is not block:
            raise ConfigError(
                f"prompt {where} line {block.lineno}: block '{block.name}'; a prompt has the "
                "blocks 'instructions' and 'input', side by side"
            )
    if "input" not in blocks:
        raise ConfigError(f"prompt {where}: has no block 'input'; the artist belongs there")
    if "instructions" in blocks:
        _refuse_artist(blocks["instructions"], where)
    environment = _environment()
    return {
        name: nodes.Template(
            [*copy.deepcopy(shared), *block.body], lineno=1, environment=environment
        )
        for name, block in blocks.items()
    }


def _blank(node: nodes.Node) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _refuse_artist(instructions: nodes.Node, where: str) -> None:
    from jinja2 import nodes

    for name in instructions.find_all(nodes.Name):
        if name.name in VARIABLES:
            raise ConfigError(
                f"prompt {where} line {name.lineno}: block 'instructions' uses '{name.name}'; it "
                "is the same for every artist, so that a server can cache it and no data stands "
                "among instructions: put what differs into block 'input'"
            )


def _check_names(tree: nodes.Template, where: str) -> None:
    """A name that no artist has is found here, not at the first row."""
    from jinja2 import meta, nodes

    unknown = meta.find_undeclared_variables(tree) - {*VARIABLES, *_environment().globals}
    used = [(node.name, node.lineno) for node in tree.find_all(nodes.Name)]
    used += [(node.name, node.lineno) for node in tree.find_all(nodes.Filter)]
    for name, line in used:
        if name.startswith("_"):
            raise ConfigError(
                f"prompt {where} line {line}: '{name}'; names that begin with an underscore are "
                "kept for the program"
            )
        if name in unknown:
            raise ConfigError(
                f"prompt {where} line {line}: '{name}' is not known; "
                f"there are {', '.join(VARIABLES)}"
            )
    known = {one.name for one in fields(Artist)} | {"input_sha256"}
    for node in tree.find_all(nodes.Getattr):
        of = node.node
        if isinstance(of, nodes.Name) and of.name == "artist" and node.attr not in known:
            raise ConfigError(
                f"prompt {where} line {node.lineno}: an artist has no '{node.attr}'; its columns "
                f"are in artist.data, e.g. artist.data['{node.attr}']"
            )


def _template(environment: SandboxedEnvironment, tree: nodes.Template, where: str) -> Template:
    code = environment.compile(tree, name=where, filename=where)
    # Plain globals: those of `make_globals` are a chain of mappings, gone through for each artist.
    return environment.template_class.from_code(environment, code, dict(environment.globals))


def _line(exc: Exception, where: str) -> str:
    """The place in the template, which Jinja2 puts into the traceback."""
    lines = [
        n for frame, n in traceback.walk_tb(exc.__traceback__) if frame.f_code.co_filename == where
    ]
    return f" line {lines[-1]}" if lines else ""
