"""The filters and tests that templates may use, each paid for, none larger than it must be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

import markupsafe
from jinja2.filters import FILTERS as THEIRS
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as THEIR_TESTS
from jinja2.utils import pass_context

from statewise.sandbox.meter import Refused, fits, made, narrow, spend, steps_of
from statewise.sandbox.values import join, percent, replace

_PLAIN = (
    "abs attr capitalize count d default dictsort first float groupby int items last length list lower map max min "
    "reject rejectattr reverse select selectattr sort string title trim truncate unique upper urlencode wordcount"
)
_TESTS = (
    "boolean callable defined divisibleby eq equalto even false float ge greaterthan gt in integer iterable le "
    "lessthan lower lt mapping ne none number odd sameas sequence string true undefined upper == != < <= > >="
)


def metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it reads and what it makes are paid for, and generators become lists."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        # The first argument may be the context or the environment: one step.
        spend(1 + sum(map(steps_of, args)) + sum(map(steps_of, kwargs.values())))
        value = function(*args, **kwargs)
        return made(list(value) if isinstance(value, Iterator) else value)

    return call


@pass_context
def _join(context: Any, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = THEIRS["map"](context, value, attribute=attribute)
    return join(str(d), [text if isinstance(text, str) else str(text) for text in value])


def _replace(value: Any, old: str, new: str, count: int | None = None) -> str:
    return replace(str(value), str(old), str(new), -1 if count is None else count)


def _center(value: Any, width: int = 80) -> str:
    return str(value).center(narrow(width, "a width"))


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    step = width if isinstance(width, str) else " " * narrow(width, "an indent")
    lines = str(value).splitlines()
    fits(len(str(value)) + len(lines) * len(step))
    rest = [step + line if blank or line else line for line in lines[1:]]
    return "\n".join([(step if first else "") + (lines[0] if lines else ""), *rest])


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise Refused("format takes values by place or by name, not both")
    return percent(str(value), kwargs or args)


def _total(value: Any, start: Any = 0) -> Any:
    if not all(isinstance(item, int | float) for item in (*value, start)):
        raise Refused("sum adds numbers alone; join joins texts")
    return sum(value, start)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    return THEIRS["round"](value, narrow(precision, "a precision"), method)


def _batches(name: str) -> Callable[..., Any]:
    def cut(value: Any, number: int, fill_with: Any = None) -> list[Any]:
        return list(THEIRS[name](value, narrow(number, "a number of items"), fill_with))

    return cut


def _json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """As chat templates know it: no HTML escapes."""
    if indent is not None:
        narrow(indent, "an indent")
        fits(indent * steps_of(x) * 4)
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def now(form: str) -> str:
    """The time of day in a strftime form without widths: `strftime_now` of chat templates."""
    if len(form) > 200 or re.search(r"%[^a-zA-Z%]", form.replace("%-", "%")):
        raise Refused("strftime_now takes letters alone behind %")
    return datetime.now().strftime(form)  # noqa: DTZ005  the time of the user's clock is what is asked for


FILTERS: Mapping[str, Callable[..., Any]] = {
    name: metered(function)
    for name, function in {
        **{name: THEIRS[name] for name in _PLAIN.split()},
        "join": _join,
        "replace": _replace,
        "center": _center,
        "indent": _indent,
        "format": _format,
        "sum": _total,
        "round": _round,
        "batch": _batches("batch"),
        "slice": _batches("slice"),
        "tojson": _json,
        "escape": lambda value: str(markupsafe.escape(str(value))),
        "e": lambda value: str(markupsafe.escape(str(value))),
        "safe": str,
    }.items()
}
"""The list is whole. Left out: what draws at random, what reads text as HTML or by a user's pattern, and
what takes longer than its text is long."""


def _test(function: Callable[..., Any]) -> Callable[..., bool]:
    @wraps(function)
    def call(*args: Any) -> bool:
        spend(1 + sum(0 if isinstance(arg, Undefined) else steps_of(arg) for arg in args))
        return function(*args)

    return call


TESTS: Mapping[str, Callable[..., bool]] = {
    name: _test(THEIR_TESTS[name]) for name in _TESTS.split()
}
