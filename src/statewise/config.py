"""Frozen dataclasses <-> plain data <-> YAML: the one converter behind every study file.

A study is a value made of frozen dataclasses. Its plain form is what YAML can hold: dicts, lists,
strings, numbers, booleans and None. A class that is one choice among several says which by
`kind: ClassVar[str] = "..."`; the union in the field's annotation is the only list of kinds.

    load_yaml(path) -> plain -> override(plain, "a.b=c") -> from_plain(Study, plain) -> Study
    Study -> to_plain(study) -> dump_yaml(plain)

Two classes of value need a word of their own, `plain: ClassVar[str]`:
    scalar   a dataclass with one field is written as that field (`teacher: stress_sft`)
    never    stands in a value that is bound to a run, never in a file (a loaded policy)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from statewise.errors import ConfigError, StatewiseError, close_to, nearest, one_line
from statewise.files import short, shown
from statewise.limits import Within, check_range, shown_number
from statewise.yaml12 import parse_yaml

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


# Values -> plain data


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
        if _is_scalar(type(value)):
            return to_plain(getattr(value, _inputs(type(value))[0].name))
        kind = _kind(type(value))
        head = {} if kind is None else {"kind": kind}
        return head | {f.name: to_plain(getattr(value, f.name)) for f in _inputs(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if type(value) in (bool, int, float, str, NoneType):
        return value
    raise TypeError(f"a {type(value).__name__} has no plain form: {value!r}")


# Plain data -> values


def from_plain(annotation: Any, data: Any, path: str = "") -> Any:
    """Build the value that `annotation` describes from plain data.

    Understands str, int, float, bool, None, Path, Literal, `tuple[X, ...]`, `tuple[X, Y]`,
    `dict[str, X]`, dataclasses, and unions of these. A union of dataclasses is told apart by
    `kind`; a bare string stands for a kind whose fields all have defaults. An int is accepted for
    a float, as is a string such as "5e-4"; a float is never an int, nor is a bool. A number lies in the
    range that its annotation states (`limits.py`), or is finite and fits 64 bits where it states none.

    Raises ConfigError, always with the full path: unknown or missing keys (all of an object at once),
    unknown kind, wrong type, a number out of range.
    An error that statewise raises in a `__post_init__` keeps its class and gets the path in front.

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
    members = _members(annotation)
    scalars = [member for member in members if _is_scalar(member)]
    classes = [member for member in members if is_dataclass(member) and member not in scalars]
    others = [member for member in members if not is_dataclass(member)]
    named = isinstance(data, str) and any(_kind(cls) for cls in classes)
    fits = sorted(
        (rank, order) for order, member in enumerate(others) if (rank := _rank(member, data)) >= 0
    )
    if scalars and not fits and not isinstance(data, Mapping):
        only = _inputs(scalars[0])[0].name
        value = from_plain(_hints(scalars[0])[only], data, path)
        return _construct(scalars[0], {only: value}, path)
    if classes and (isinstance(data, Mapping) or (named and not fits)):
        return _build(*_choose(classes, data, path), path)
    if not fits:
        raise ConfigError(
            f"{path or 'top level'}: expected {_expected(members)}, found {_found(data)}"
        )
    return _convert(others[fits[0][1]], data, path)


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        every = get_args(annotation)
        return tuple(member for member in every if getattr(member, "plain", "") != "never")
    return (NoneType if annotation is None else annotation,)


def _bare(annotation: Any) -> Any:
    """The annotation without its range."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _within(annotation: Any) -> Within | None:
    """The range of a number's annotation (`limits.py`), None where it has none."""
    ranges = [a for a in getattr(annotation, "__metadata__", ()) if isinstance(a, Within)]
    return ranges[0] if ranges else None


def _rank(annotation: Any, data: Any) -> int:
    """How well data fits a member that is no dataclass: 0 as it is, 1 or 2 converted, -1 not."""
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if annotation in (bool, int, float, str, NoneType) and type(data) is annotation:
        return 0
    if origin is Literal:
        allowed = get_args(annotation)
        return 0 if any(type(data) is type(item) and data == item for item in allowed) else -1
    if origin is tuple:
        return 0 if isinstance(data, list | tuple) else -1
    if origin in (dict, Mapping):
        return 0 if isinstance(data, Mapping) else -1
    if annotation is float and type(data) is int:
        return 1
    if annotation is float and isinstance(data, str):
        return 2 if _NUMBER.fullmatch(data) else -1
    if annotation is Path:
        return 1 if isinstance(data, str) else -1
    if annotation is Any or annotation is object:
        return 2
    if annotation in (bool, int, float, str, NoneType):
        return -1
    raise TypeError(f"a study value cannot be annotated {annotation!r}")


def _convert(annotation: Any, data: Any, path: str) -> Any:
    within, annotation = _within(annotation), _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is int or annotation is float:
        check_range(data if isinstance(data, int) else float(data), within, path or "top level")
        return annotation(data)
    if annotation is Path:
        return Path(data)
    if annotation is Any or annotation is object:
        _check_numbers(data, path)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(data)
        if len(arguments) != len(data):
            raise ConfigError(f"{path}: expected {len(arguments)} items, found {len(data)}")
        return tuple(
            from_plain(argument, item, _item_path(path, index, item))
            for index, (argument, item) in enumerate(zip(arguments, data, strict=True))
        )
    if origin in (dict, Mapping):
        for key in data:
            if not isinstance(key, str):
                raise ConfigError(f"{path}: expected names as keys, found {_found(key)}; quote it")
        return {key: from_plain(arguments[1], item, _join(path, key)) for key, item in data.items()}
    return data


def _check_numbers(data: Any, path: str) -> None:
    """Refuse nan, infinities and integers of no machine in what is passed on as it is."""
    if isinstance(data, Mapping):
        for key, item in data.items():
            _check_numbers(item, _join(path, str(key)))
    elif isinstance(data, list | tuple):
        for index, item in enumerate(data):
            _check_numbers(item, f"{path}[{index}]")
    elif isinstance(data, int | float):
        check_range(data, None, path or "top level")


def _choose(classes: Sequence[Any], data: Any, path: str) -> tuple[Any, dict[Any, Any]]:
    """The class that the data asks for, and the data without `kind`."""
    kinds = {kind: cls for cls in classes if (kind := _kind(cls)) is not None}
    if len(kinds) < len(classes) and len(classes) > 1:
        raise TypeError(f"a union needs one distinct `kind` per dataclass: {list(classes)!r}")
    if not kinds:
        return classes[0], dict(data)
    bare = isinstance(data, str)
    body = {} if bare else dict(data)
    kind = data if bare else body.pop("kind", next(iter(kinds)) if len(kinds) == 1 else None)
    if kind is None:
        known = ", ".join(sorted(kinds))
        raise ConfigError(f"{_join(path, 'kind')}: required key is missing; known kinds: {known}")
    at = (path if bare else _join(path, "kind")) or "top level"
    if not isinstance(kind, str):
        raise ConfigError(
            f"{at}: expected the name of a kind, found {_found(kind)}; {nearest('', kinds)}"
        )
    if kind not in kinds:
        raise ConfigError(f"{at}: unknown kind {short(kind)}; {nearest(kind, kinds)}")
    cls = kinds[kind]
    needed = [field.name for field in _inputs(cls) if _is_required(field)]
    if bare and needed:
        raise ConfigError(
            f"{path or 'top level'}: kind {kind!r} needs {', '.join(needed)}; "
            f"write {{kind: {kind}, {needed[0]}: ...}}"
        )
    return cls, body


def _build(cls: Any, data: dict[Any, Any], path: str) -> Any:
    _check_keys(cls, data, path)
    hints = _hints(cls)
    values = {key: from_plain(hints[key], item, _join(path, key)) for key, item in data.items()}
    return _construct(cls, values, path)


def _check_keys(cls: Any, data: Mapping[Any, Any], path: str) -> None:
    """Refuse unknown and missing keys, all of an object at once.

    A missing key whose misspelling is there is told once, as the misspelling.
    """
    inputs = {field.name: field for field in _inputs(cls)}
    known = [*inputs, *(["kind"] if _kind(cls) else [])]
    unknown = [one_line(str(key), 80) or "''" for key in data if key not in inputs]
    near = {key: close_to(key, [name for name in known if name not in data]) for key in unknown}
    missing = [
        name
        for name, field in inputs.items()
        if _is_required(field) and name not in data and name not in near.values()
    ]
    if len(unknown) == 1 and not missing:
        at = _join(path, unknown[0])
        raise ConfigError(f"{at}: unknown key; {nearest(unknown[0], known)}")
    if not unknown and len(missing) == 1:
        raise ConfigError(f"{_join(path, missing[0])}: required key is missing")
    told = []
    if unknown:
        names = [
            f"{key} (did you mean {word!r}?)" if (word := near[key]) else key for key in unknown
        ]
        told.append(f"unknown {'keys' if len(unknown) > 1 else 'key'} {', '.join(names)}")
    if missing:
        told.append(
            f"required {'keys are' if len(missing) > 1 else 'key is'} missing: {', '.join(missing)}"
        )
    if told:
        at = path or "top level"
        every = f"; known: {', '.join(sorted(known))}" if unknown else ""
        raise ConfigError(f"{at}: {'; '.join(told)}{every}")


def _construct(cls: Any, values: dict[str, Any], path: str) -> Any:
    try:
        return cls(**values)
    except StatewiseError as error:
        raise type(error)(f"{path}: {error}" if path else str(error)) from error


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _inputs(cls: Any) -> list[Field[Any]]:
    return [field for field in fields(cls) if field.init]


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _kind(cls: Any) -> str | None:
    """The `kind` of a class, None where it has none or where `kind` is an ordinary field."""
    kind = getattr(cls, "kind", None)
    return kind if isinstance(kind, str) and all(f.name != "kind" for f in fields(cls)) else None


def _is_scalar(cls: Any) -> bool:
    return getattr(cls, "plain", "") == "scalar"


def _join(path: str, key: str) -> str:
    key = one_line(key, 80) or "''"
    return f"{path}.{key}" if path else key


def _item_path(path: str, index: int, item: Any) -> str:
    """Items of a list go by their name where they have one, as in `override`."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return _join(path, name) if isinstance(name, str) and name else f"{path}[{index}]"


def _expected(members: Iterable[Any]) -> str:
    return " or ".join(dict.fromkeys(_describe(member) for member in members))


def _describe(annotation: Any) -> str:
    annotation = _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if annotation is Path:
        return "a path"
    if origin is Literal:
        words = ", ".join(map(repr, arguments))
        return f"one of {words}" if len(arguments) > 1 else words
    if origin is tuple:
        inner = list(dict.fromkeys(a for a in arguments if a is not Ellipsis))
        return f"a list of {' and '.join(_expected(_members(a)) for a in inner)}"
    if origin in (dict, Mapping):
        return f"a mapping of names to {_expected(_members(arguments[1]))}"
    if _is_scalar(annotation):
        return _expected(_members(_hints(annotation)[_inputs(annotation)[0].name]))
    if is_dataclass(annotation):
        kind = _kind(annotation)
        return f"kind {kind!r}" if kind else f"a mapping ({getattr(annotation, '__name__', '')})"
    return getattr(annotation, "__name__", str(annotation))


def _found(data: Any) -> str:
    if data is None:
        return "null"
    if isinstance(data, Mapping):
        return "a mapping"
    if isinstance(data, list | tuple):
        return "a list"
    if isinstance(data, int | float) and not isinstance(data, bool):
        return f"{shown_number(data)} ({type(data).__name__})"
    text = str(data).lower() if isinstance(data, bool) else repr(data)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(data).__name__})"


# Plain data -> plain data


def override(data: dict[str, Any], assignment: str) -> dict[str, Any]:
    """A copy of plain data with one value replaced; the value is read as YAML.

    Items of a list are addressed by index, or by name where they are mappings with a `name`. Only
    the last key of a path may be new: whether it is known is for `from_plain` to say.

    >>> study = {"seeds": [0, 1], "arms": [{"name": "mild", "budget": {"steps": 40}}]}
    >>> override(override(study, "arms.mild.budget.steps=80"), "seeds=[7]")
    {'seeds': [7], 'arms': [{'name': 'mild', 'budget': {'steps': 80}}]}
    >>> override(study, "arms.mld.budget.steps=80")
    Traceback (most recent call last):
    statewise.errors.ConfigError: --set arms.mld.budget.steps: arms has no item 'mld'; \
did you mean 'mild'? Known: 0, mild
    """
    path, equals, text = assignment.partition("=")
    path = path.strip()
    keys = re.sub(r"\[(\w+)\]", r".\1", path).split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment}: expected path=value, such as arms.mild.share=0.5")
    value = parse_yaml(text, f"--set {shown(path)}")
    result = _unshared(data)
    parent: Any = result
    for depth, key in enumerate(keys[:-1]):
        parent = parent[_locate(parent, key, path, keys[:depth], may_be_new=False)]
    parent[_locate(parent, keys[-1], path, keys[:-1], may_be_new=True)] = value
    return result


def _unshared(data: Any) -> Any:
    """A copy in which nothing stands twice: an anchor's value is one object wherever it is used,
    and an override of one arm would reach every arm that shares it.
    """
    if isinstance(data, dict):
        return {key: _unshared(item) for key, item in data.items()}
    return [_unshared(item) for item in data] if isinstance(data, list) else data


def _locate(
    parent: Any, key: str, path: str, above: Sequence[str], *, may_be_new: bool
) -> str | int:
    where = ".".join(above) or "the study"
    if isinstance(parent, dict):
        if key not in parent and not may_be_new:
            raise ConfigError(f"--set {path}: {where} has no key {key!r}; {nearest(key, parent)}")
        return key
    if isinstance(parent, list):
        places: dict[str, int] = {str(index): index for index in range(len(parent))}
        for index, item in enumerate(parent):
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                places[item["name"]] = index
        if key not in places:
            raise ConfigError(f"--set {path}: {where} has no item {key!r}; {nearest(key, places)}")
        return places[key]
    raise ConfigError(
        f"--set {path}: {where} is {_found(parent)} and has no key {key!r}; "
        f"set {where} as a whole: --set '{where}={{{key}: ...}}'"
    )


def differences(a: Any, b: Any) -> list[str]:
    """Paths at which two plain values differ, in order; what `varies` is held against.

    A whole number equals its float; a bool equals no number; nan equals nan.

    >>> differences({"lr": 1, "terms": [{"coef": 1.0}]}, {"lr": 1.0, "terms": [{"coef": 0.5}, {}]})
    ['terms[0].coef', 'terms[1]']
    """
    return _differences(a, b, "")


def _differences(a: Any, b: Any, path: str) -> list[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for key in dict.fromkeys([*a, *b]):
            at = _join(path, str(key))
            found += _differences(a[key], b[key], at) if key in a and key in b else [at]
        return found
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        found = []
        for index, (left, right) in enumerate(zip(a, b, strict=False)):
            at, other = _item_path(path, index, left), _item_path(path, index, right)
            found += _differences(left, right, at if at == other else f"{path}[{index}]")
        shorter, longer = sorted((a, b), key=len)
        return found + [f"{path}[{index}]" for index in range(len(shorter), len(longer))]
    equal = a == b or (a != a and b != b)
    return [] if equal and isinstance(a, bool) == isinstance(b, bool) else [path or "top level"]
