"""Where a user's template is rendered: it reaches nothing of the program, and a slip in it takes
neither all time nor all memory.

Jinja2's sandbox guards attributes and calls. Here each rendering has a budget besides: so many
rounds of loops and calls of macros, so many characters of text made on the way. What could make
much out of little (a repeated text, a width, a replacement) is reckoned up before it is done.
That is for slips: the file is the user's own, and one who seeks a way around will find one.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

MAX_STEPS = 100_000
"""Rounds of loops and calls of macros that one rendering may take; the sandbox's own limit
on one `range()` is the same, but nested loops would multiply it. Widths and the like are held
to it as well."""

MAX_CHARACTERS = 10_000_000
"""Characters that all expressions of one rendering may make: more than any model reads."""

_SHORT = 1_000
"""A text that is there already, and so short, need not be asked for before it is joined."""

_MAX_BITS = 10_000
"""Of an integer: Python writes none that is longer as text."""

_PERCENT_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\d*)(?:\.(\d*))?")
_BRACE_WIDTH = re.compile(r"\{[^{}]*:[^{}]*?(\d*)(?:\.(\d*))?[^{}\d]*\}")
_NESTED = re.compile(r"\{[^{}]*\{")


def refused(what: str) -> Exception:
    """What the sandbox forbids, to be raised."""
    from jinja2.exceptions import SecurityError

    return SecurityError(what)


class _Budget:
    """What one rendering, or the compiling of a template, may still take."""

    __slots__ = ("_steps", "characters")

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self.characters = MAX_CHARACTERS

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise refused(f"takes more than {MAX_STEPS} rounds of loops and macros")

    def afford(self, characters: int) -> None:
        if characters > self.characters:
            raise refused(f"makes a text of more than {MAX_CHARACTERS} characters")

    def spend(self, characters: int) -> None:
        self.afford(characters)
        self.characters -= characters


_budget: ContextVar[_Budget] = ContextVar("_budget")


@contextlib.contextmanager
def budget() -> Iterator[None]:
    """Templates are compiled and rendered inside such a block; a rendering has its own."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def count(tree: nodes.Template, environment: SandboxedEnvironment) -> None:
    """Lets every round of a loop, every call of a macro and every part that `~` joins be taken
    off the budget."""
    from jinja2 import nodes

    # By filters: the sandbox looks at each call, which takes several times as long.
    def through(name: str, node: nodes.Node, lineno: int) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=lineno)

    for loop in tree.find_all(nodes.For):
        loop.iter = through("_steps", loop.iter, loop.lineno)
    for macro in tree.find_all(nodes.Macro):
        one = through("_steps", nodes.Const(None, lineno=macro.lineno), macro.lineno)
        macro.body.insert(0, nodes.Output([one], lineno=macro.lineno))
    for joined in tree.find_all(nodes.Concat):
        joined.nodes = [through("_part", part, joined.lineno) for part in joined.nodes]
    tree.set_environment(environment)


def make_environment(filters: Mapping[str, Callable[..., Any]]) -> SandboxedEnvironment:
    """With these filters beside Jinja2's own."""
    from jinja2 import StrictUndefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})
        concat = staticmethod(_concat)

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise refused("powers are not supported in a prompt")
            if operator == "*":
                _check_product(left, right)
            elif operator == "%" and isinstance(left, str):
                _check_format(left, right, "%", _PERCENT_WIDTH)
            return _made(super().call_binop(context, operator, left, right))

        def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
            of = getattr(obj, "__self__", None)
            if not isinstance(of, str | bytes | int):
                return super().call(context, obj, *args, **kwargs)
            _check(obj.__name__, (of, *args), kwargs)
            if obj.__name__ == "join" and args:
                args = (_joinable(args[0], of),)
            return _made(super().call(context, obj, *args, **kwargs))

        def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
            sandboxed = super().wrap_str_format(value)
            if sandboxed is None:
                return None

            def format_(*args: Any, **kwargs: Any) -> str:
                text = value.__self__
                if _NESTED.search(text.replace("{{", "")):
                    raise refused("a width that is filled in is not supported in a prompt")
                _check_format(text, (args, kwargs), "{", _BRACE_WIDTH)
                return str(_made(sandboxed(*args, **kwargs)))

            return format_

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters |= filters
    environment.filters = {
        name: made if name in _HARMLESS else _guarded(name, made)
        for name, made in environment.filters.items()
    }
    # With the context, so that Jinja2 does not work them out when it compiles.
    environment.filters |= {"_steps": pass_context(_steps), "_part": pass_context(_part)}
    del environment.globals["lipsum"]
    return environment


def _steps(context: object, items: Iterable[Any] | None) -> Iterator[Any] | str:
    """Called with a loop's items, which it hands on while they are counted, or with None for one
    call of a macro."""
    if items is None:
        _budget.get().step()
        return ""
    return _rounds(items)


def _rounds(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _budget.get().step()
        yield item


def _part(context: object, value: Any) -> Any:
    _budget.get().spend(_size(value))
    return value


def _shown(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > _SHORT:
        _budget.get().afford(_size(value))
    return value


def _concat(parts: Iterable[str]) -> str:
    left = _budget.get()
    made = []
    for part in parts:
        left.characters -= len(part)
        if left.characters < 0:
            break
        made.append(part)
    left.afford(0)
    return "".join(made)


def _made(value: Any) -> Any:
    """What an expression has made, taken off the budget."""
    if isinstance(value, str | bytes | list | tuple):
        _budget.get().spend(len(value))
    return value


def _size(value: Any) -> int:
    """Characters of the value as text, or some number above what any budget has."""
    if isinstance(value, str):  # nearly always
        return len(value)
    size, left = 0, [value]
    while left and size <= MAX_CHARACTERS:
        one = left.pop()
        if isinstance(one, str | bytes):
            size += len(one)
        elif isinstance(one, int):
            size += 1 + one.bit_length() // 3
        elif isinstance(one, list | tuple | set | frozenset):
            size += 2 + len(one)
            left.extend(one)
        elif isinstance(one, Mapping):
            size += 2 + 2 * len(one)
            left.extend(one.keys())
            left.extend(one.values())
        else:
            size += 1
    return size


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if hasattr(many, "__len__") and len(many) * times > MAX_STEPS:
            raise refused(f"a text repeated to more than {MAX_STEPS} characters")
    if (
        isinstance(left, int)
        and isinstance(right, int)
        and left.bit_length() + right.bit_length() > _MAX_BITS
    ):
        raise refused(f"a number of more than {_MAX_BITS} bits")


def _check_format(text: str, values: Any, sign: str, width: re.Pattern[str]) -> None:
    digits = [number for found in width.finditer(text) for number in found.groups() if number]
    if "*" in text and sign == "%" and re.search(r"%[^%a-zA-Z]*\*", text):
        raise refused("a width that is filled in is not supported in a prompt")
    if any(len(number) > len(str(MAX_STEPS)) for number in digits):
        raise refused(f"a width of more than {MAX_STEPS}")
    _budget.get().afford(
        len(text) + text.count(sign) * _size(values) + sum(int(number) for number in digits)
    )


_HARMLESS = frozenset({"length", "count"})
_TAKES_ANY_NUMBER = frozenset({"default", "d"})
_MAKES_MORE = frozenset({"expandtabs", "format"})
"""What makes more than there is even without an argument."""
_WIDE = frozenset({"xmlattr", "urlize", "tojson", "wordwrap", "translate"})
"""What may repeat its arguments for each part of the text."""


def _check(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Can it be afforded what a filter makes of these arguments, or a method, whose text is the
    first of them?"""
    if not args:
        return
    left = _budget.get()
    value, *rest = args
    if not rest and not kwargs and isinstance(value, str) and name not in _MAKES_MORE:
        left.afford(len(value))
        return
    told = [*rest, *kwargs.values()]
    if name not in _TAKES_ANY_NUMBER and any(
        isinstance(number, int) and abs(number) > MAX_STEPS for number in told
    ):
        raise refused(f"{name} with a number of more than {MAX_STEPS}")
    size = _size(value)
    left.afford(size)
    if not isinstance(value, str | bytes):
        if name in _WIDE:
            left.afford(size * (1 + sum(_worth(one) for one in told)))
        return
    if name == "replace" and len(told) > 1 and all(isinstance(x, type(value)) for x in told[:2]):
        left.afford(size + value.count(told[0]) * len(told[1]))
    elif name == "indent":
        left.afford(size + len(value.splitlines()) * sum(_worth(one) for one in told))
    elif name == "expandtabs":
        left.afford(size * (1 + sum(_worth(one) for one in told or [8])))
    elif name in _WIDE:
        texts = [one for one in told if not isinstance(one, int)]
        left.afford(size * (1 + sum(_worth(one) for one in texts)))
    elif name == "format" and isinstance(value, str):
        _check_format(value, told, "%", _PERCENT_WIDTH)


def _joinable(parts: Iterable[Any], between: Any) -> list[Any]:
    """The parts, which can be measured only when they are there."""
    parts = list(parts)
    _budget.get().afford(_size(parts) + _size(between) * len(parts))
    return parts


def _worth(value: Any) -> int:
    return abs(value) if isinstance(value, int) else _size(value)


def _guarded(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with its arguments and what it makes looked at."""
    hidden = int(hasattr(made, "jinja_pass_arg"))  # the environment or the context comes first
    makes_no_more = not hidden and name not in _MAKES_MORE

    @functools.wraps(made)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if makes_no_more and len(args) == 1 and not kwargs and isinstance(args[0], str):
            _budget.get().afford(len(args[0]))  # as `_check` says, for what is asked most
            return _made(made(args[0]))
        given = args[hidden:]
        _check(name, given, kwargs)
        if name == "join" and given:
            given = (_joinable(given[0], [*given[1:], *kwargs.values()]), *given[1:])
        return _made(made(*args[:hidden], *given, **kwargs))

    return guarded
