"""Frozen dataclasses <-> plain data <-> YAML: what reads and writes every study file.

A study is a value made of frozen dataclasses. Its plain form is what YAML can hold: dicts, lists, strings, numbers,
booleans and None. A class that is one choice of several has its name in `kind: ClassVar[str] = "..."`; the union in
the field's annotation is the only list of kinds.

    load_yaml(path) -> plain -> override(plain, "a.b=c") -> from_plain(Study, plain) -> Study
    Study -> to_plain(study) -> dump_yaml(plain)

Two classes of value say how they are written, in `plain: ClassVar[str]`:
    scalar   a dataclass with one field is written as that field (`teacher: stress_sft`)
    never    only in a value that is bound to a run, never in a file (a loaded policy)

pydantic checks the data (`schema.py`), `problems.py` words its errors, and `editing.py` changes plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from pydantic_core import ValidationError

from statewise.config.editing import differences, override
from statewise.config.problems import refusal
from statewise.config.schema import inputs, is_scalar, kind_of, schemas, validator

__all__ = ["differences", "from_plain", "override", "to_plain"]


def to_plain(value: Any) -> Any:
    """The plain form of a value: dataclasses to dicts (`kind` first), tuples to lists, Path to str.

    Fields that equal their default are kept, so that a stored study stays complete when a default
    changes later.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Cut:
    ...     kind = "cut"
    ...     fraction: float
    ...     limit_tokens: int = 64
    >>> to_plain((Cut(0.5), Path("runs") / "pocket"))
    [{'kind': 'cut', 'fraction': 0.5, 'limit_tokens': 64}, 'runs/pocket']
    """
    if is_dataclass(value) and not isinstance(value, type):
        if is_scalar(type(value)):
            return to_plain(getattr(value, inputs(type(value))[0].name))
        kind = kind_of(type(value))
        head = {} if kind is None else {"kind": kind}
        return head | {f.name: to_plain(getattr(value, f.name)) for f in inputs(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if type(value) in (bool, int, float, str, NoneType):
        return value
    raise TypeError(f"a {type(value).__name__} has no plain form: {value!r}")


def from_plain(annotation: Any, data: Any, path: str = "") -> Any:
    """Build the value that `annotation` describes from plain data.

    Takes str, int, float, bool, None, Path, Literal, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, dataclasses,
    and unions of these. A union of dataclasses is told apart by `kind`; a bare string stands for a kind whose fields
    all have defaults. A float may be written as an int or as text such as "5e-4"; a float is never an int, nor is a
    bool. A number lies in the range of its annotation (`limits.py`), or is finite and fits 64 bits if it has none.

    Raises ConfigError with every problem of the data and its full path: unknown and missing keys, unknown kinds,
    wrong types, numbers out of range. An error that statewise raises in a `__post_init__` keeps its class and gets
    the path in front.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Cut:
    ...     fraction: float
    ...     limit_tokens: int = 64
    >>> from_plain(Cut, {"fraction": 1})
    Cut(fraction=1.0, limit_tokens=64)
    >>> from_plain(tuple[Cut, ...], [{"fractoin": 0.5}], "arms.mild.cuts")
    Traceback (most recent call last):
    statewise.errors.ConfigError: arms.mild.cuts[0].fractoin: unknown key; did you mean \
'fraction'? Known: fraction, limit_tokens
    """
    try:
        return validator(annotation).validate_python(data)
    except ValidationError as error:
        raise refusal(error, schemas(annotation), data, path) from error
