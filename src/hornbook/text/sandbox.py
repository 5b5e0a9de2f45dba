"""Chat templates are programs that somebody else wrote: where they run, and how much they may do.

jinja2's ImmutableSandboxedEnvironment keeps a template away from Python, in the dialect of
transformers (`apply_chat_template`). It doesn't end a template that loops or writes for ever; here
each does so within a budget: whatever is looped over, called, joined or written is charged by its
size, before the work where the work can multiply sizes, and a clock runs beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from time import monotonic
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

UNITS = 20_000_000  # characters, items and calls together: a second's, beyond any chat's
SECONDS = 5.0  # for the machine that is so busy that a unit takes long
PER_STEP = 100  # units for a turn of a loop or a call, beside what it reads and writes

# Methods and filters that can make as much as the sizes of what they are given multiplied.
_MULTIPLYING = {
    "batch",
    "center",
    "format",
    "indent",
    "join",
    "ljust",
    "round",
    "rjust",
    "slice",
    "wordwrap",
    "zfill",
}
# Fields of 10,000 characters, or as wide as an argument says.
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*(\d{5}|\*)")
_WIDE_BRACES = re.compile(r"\{[^}]*(\d{5}|\{)")


class _Budget:
    def __init__(self) -> None:
        self.left, self.until = float(UNITS), monotonic() + SECONDS

    def charge(self, units: float) -> None:
        self.left -= units
        if self.left < 0 or monotonic() > self.until:
            raise SecurityError("it loops or writes without end")


_budget: ContextVar[_Budget | None] = ContextVar("budget of the template that runs", default=None)


def run(function: Callable[[], Any]) -> Any:
    """Compile or render within a budget. What a template raises, a recursion too deep included,
    is for the caller to catch."""
    token = _budget.set(_Budget())
    try:
        return function()
    finally:
        _budget.reset(token)


def _charge(units: float) -> None:
    if budget := _budget.get():
        budget.charge(units)


def _size(value: object) -> int:
    """How much work a value can make: a number's is the number itself, as in "x" * 10**9."""
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return sum(1 if isinstance(part, int) else 1 + _size(part) for part in parts)
    return len(value) if isinstance(value, str) else 1


def _charge_work(name: str, *values: object) -> None:
    """Charge for a method or a filter before it makes more than can be held."""
    texts = [value for value in values if isinstance(value, str)]
    if name == "replace" and len(texts) == 3:
        text, old, new = texts
        _charge(PER_STEP + len(text) + text.count(old) * len(new))
    elif name in _MULTIPLYING:
        _charge(PER_STEP + math.prod(max(1, _size(value)) for value in values))
    else:
        _charge(PER_STEP + sum(map(len, texts)))


def _refuse_wide(pattern: re.Pattern[str], text: object) -> None:
    if isinstance(text, str) and pattern.search(text):
        raise SecurityError("it writes fields of any width")


def _measured(value: Any) -> Any:
    """Charge for what was made, as long as it would be in writing; and give it back.

    A list that holds another twice is twice as long; numbers, too, can grow without end.
    """
    if isinstance(value, int):
        _charge(value.bit_length() ** 2 / 64)
    elif isinstance(value, str):
        _charge(len(value))
    elif isinstance(value, list | tuple | dict):
        _charge(10 + len(value))
        for part in value.values() if isinstance(value, dict) else value:
            _measured(part)
    return value


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # also carries over the marks that tell jinja2 to pass a context
    def measured(*args: Any, **kwargs: Any) -> Any:
        _charge_work(name, *args, *kwargs.values())
        if name == "format":
            _refuse_wide(_WIDE_PERCENT, args[0])
        return _measured(function(*args, **kwargs))

    return measured


@pass_context
def _turns(context: Any, items: Iterable[Any], n_written: int) -> Iterator[Any]:
    """The items of a loop whose body writes `n_written` characters of its own each turn."""
    for item in items:
        _charge(PER_STEP + n_written)
        yield item


@pass_context
def _made(context: Any, value: Any) -> Any:
    return _measured(value)


class _Namespace(Namespace):
    __repr__ = object.__repr__  # not all that is in it, and in what is in it


class _Charging(NodeTransformer):
    """Puts charges into a template where jinja2 has no place of its own for them."""

    def __init__(self, environment: ImmutableSandboxedEnvironment) -> None:
        self.environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = self._through("_turns", node.iter, nodes.Const(written))
        return node

    def visit_made(self, node: Any) -> nodes.Node:
        """Texts joined by "~" and lists written out."""
        self.generic_visit(node)
        stored = getattr(node, "ctx", "load") == "store"  # the names in `set a, b = ...`
        return node if stored else self._through("_made", node)

    visit_Concat = visit_List = visit_Tuple = visit_Dict = visit_made

    def _through(self, name: str, node: Any, *args: nodes.Expr) -> Any:
        made = nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
        return made.set_environment(self.environment)


class _Generation(Extension):
    """The tags {% generation %} and {% endgeneration %}, which mark what an assistant wrote."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """transformers' dialect of jinja2, charged for what it does while `run` holds a budget."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=_measured,
        )
        self.filters = {name: _filter(name, f) for name, f in self.filters.items()}
        self.filters |= {"tojson": _filter("tojson", _to_json), "_turns": _turns, "_made": _made}
        self.globals |= {"raise_exception": _raise, "strftime_now": _now, "namespace": _Namespace}
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Charging(self).visit(super()._parse(source, name, filename))

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(called, "__wrapped__", called)  # jinja2 wraps str.format
        held = getattr(method, "__self__", None)  # of a method: the text itself
        if isinstance(held, str):
            _charge_work(method.__name__, held, *args, *kwargs.values())
            if method.__name__ in ("format", "format_map"):
                _refuse_wide(_WIDE_BRACES, held)
        else:
            _charge(PER_STEP)
        return _measured(super().call(context, called, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and not (_is_number(left) and _is_number(right)):
            _charge(max(1, _size(left)) * max(1, _size(right)))
        if operator == "**":
            _charge(max(1, _size(left)).bit_length() * max(1, _size(right)))
        if operator == "%" and isinstance(left, str):
            _refuse_wide(_WIDE_PERCENT, left)
            _charge(len(left) * max(1, 1 if _is_number(right) else _size(right)))
        return _measured(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        multiplies = isinstance(obj, str) and attr in {"expandtabs", "translate"}
        return not multiplies and super().is_safe_attribute(obj, attr, value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own would write "<" as "\\u003c"."""
    if _size(indent) > 99 or _size(separators) > 99:
        raise SecurityError("it writes JSON with gaps of any width")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
