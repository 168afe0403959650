"""Plain data -> plain data: an override of the command line, and where two values differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from statewise.config.problems import item_path, join, shown_data
from statewise.errors import ConfigError, nearest
from statewise.files import shown
from statewise.yaml12 import parse_yaml


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
        f"--set {path}: {where} is {shown_data(parent)} and has no key {key!r}; "
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
            at = join(path, str(key))
            found += _differences(a[key], b[key], at) if key in a and key in b else [at]
        return found
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        found = []
        for index, (left, right) in enumerate(zip(a, b, strict=False)):
            at, other = item_path(path, index, left), item_path(path, index, right)
            found += _differences(left, right, at if at == other else f"{path}[{index}]")
        shorter, longer = sorted((a, b), key=len)
        return found + [f"{path}[{index}]" for index in range(len(shorter), len(longer))]
    equal = a == b or (a != a and b != b)
    return [] if equal and isinstance(a, bool) == isinstance(b, bool) else [path or "top level"]
