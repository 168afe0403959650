"""Operators and methods of a template's values, each refused before it makes something large."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from statewise.sandbox.meter import (
    MAX_BITS,
    MAX_WIDTH,
    Refused,
    fits,
    made,
    narrow,
    spend,
    steps_of,
)

_PERCENT = re.compile(r"%(?:\([^)]{0,100}\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?(.)", re.DOTALL)
_DIGITS = re.compile(r"\d+")

Operator = Callable[[Any, Any], Any]


def times(left: Any, right: Any) -> Any:
    """`left * right`: numbers, or a text or list some times."""
    for items, count in ((left, right), (right, left)):
        if isinstance(items, str | list | tuple) and isinstance(count, int):
            if isinstance(items, str):
                fits(len(items) * max(count, 0))
            spend(steps_of(items) * max(count, 1))
            break
    return left * right


def power(left: Any, right: Any) -> Any:
    """`left ** right` of numbers, up to the largest integer."""
    whole = isinstance(left, int) and isinstance(right, int)
    if whole and max(right, 0) * left.bit_length() > MAX_BITS:
        raise Refused(f"a power has more than {MAX_BITS} bits")
    return left**right


def remainder(left: Any, right: Any) -> Any:
    """`left % right`: of numbers, or old-style formatting."""
    return percent(left, right) if isinstance(left, str) else left % right


def percent(text: str, values: Any) -> str:
    """Old-style formatting with narrow fields."""
    fields = _PERCENT.findall(text)
    for width, precision, kind in fields:
        if kind == "(" or "*" in (width, precision):
            raise Refused("a % format takes widths as digits, and names up to 100 characters")
        for digits in (width, precision):
            narrow(_number(digits or "0"), "a width")
    fits(len(text) + len(fields) * (MAX_WIDTH + 16 * steps_of(values)))
    return text % values


OPERATORS: Mapping[str, Operator] = {
    "+": operator.add,
    "-": operator.sub,
    "*": times,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": remainder,
    "**": power,
}


class Fields(Formatter):
    """`str.format` without attributes and indices, its fields narrow and paid for."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """The argument that a field names; parts of it are refused."""
        if not (field_name.isdigit() or field_name.isidentifier()):
            raise Refused(f"the field {{{field_name}}} of a format names a part of a value")
        key = int(field_name) if field_name.isdigit() else field_name
        return self.get_value(key, args, kwargs), key

    def format_field(self, value: Any, format_spec: str) -> str:
        """One field."""
        for digits in _DIGITS.findall(format_spec):
            narrow(_number(digits), "a width")
        spend(steps_of(value))
        return made(format(value, format_spec))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """`!s`, `!r`, `!a`."""
        spend(steps_of(value))
        return super().convert_field(value, conversion)


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 9 else 10**9


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`, its length known before it is made."""
    found = text.count(old) if count < 0 else min(count, text.count(old))
    fits(len(text) + found * len(new))
    return text.replace(old, new, count)


def join(separator: str, items: Any) -> str:
    """`str.join`, its length known before it is made."""
    texts = list(items)
    fits(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _padded(method: Callable[..., str]) -> Callable[..., str]:
    def pad(text: str, width: int, *fill: str) -> str:
        return method(text, narrow(width, "a width"), *fill)

    return pad


def _expand_tabs(text: str, tabsize: int = 8) -> str:
    fits(len(text) + text.count("\t") * narrow(tabsize, "a width"))
    return text.expandtabs(tabsize)


_TEXT = (
    "upper lower capitalize title swapcase casefold strip lstrip rstrip split rsplit splitlines partition "
    "rpartition startswith endswith find rfind index rindex count isalnum isalpha isascii isdecimal isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper removeprefix removesuffix"
)

METHODS: Mapping[type, Mapping[str, Callable[..., Any]]] = {
    str: {
        **{name: getattr(str, name) for name in _TEXT.split()},
        **{name: _padded(getattr(str, name)) for name in ("center", "ljust", "rjust", "zfill")},
        "expandtabs": _expand_tabs,
        "replace": replace,
        "join": join,
        "format": lambda text, *args, **kwargs: Fields().vformat(text, args, kwargs),
        "format_map": lambda text, values: Fields().vformat(text, (), values),
    },
    list: {"index": list.index, "count": list.count, "copy": list.copy},
    tuple: {"index": tuple.index, "count": tuple.count},
    dict: {
        "get": dict.get,
        "copy": dict.copy,
        "items": lambda value: list(value.items()),
        "keys": lambda value: list(value.keys()),
        "values": lambda value: list(value.values()),
    },
}
"""What can be called of a value, by its type: the list is whole, and nothing here changes a value."""
