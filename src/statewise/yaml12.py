"""YAML in and out, by the core schema of YAML 1.2 and within bounds.

PyYAML follows 1.1, in which the key `on` is `True`, `5e-4` is a string, `010` is 8 and `1:30` is 90: a
study file would silently mean something else. And a kilobyte of aliases may stand for a billion values,
a list may hold itself, a tag may ask for a Python object: here each is one line with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from statewise.errors import ConfigError
from statewise.files import MOST_DEPTH, check_text, read_text, short, shown

MOST_BYTES = 1 << 20
"""The largest study file: 1 MiB. The largest that ships with statewise has 16 KiB."""
MOST_VALUES = 20_000
"""The most values of a file, each counted wherever an alias repeats it; 64 characters more count as one."""


def load_yaml(path: Path | str, hint: str = "") -> dict[str, Any]:
    """Read a mapping from a YAML file; `hint` ends the message when there is no such file.

    Raises ConfigError with line and column for bad syntax, a key that appears twice or is no text, a
    tag, an alias inside its own anchor, and for what is too large, too deep or too much.
    """
    text = read_text(path, "study file", error=ConfigError, hint=hint, most_bytes=MOST_BYTES)
    place = shown(path)
    data = parse_yaml(text, place)
    if data is None:
        raise ConfigError(f"{place}: empty; write a mapping of keys, such as name: mine")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else short(str(data))
        raise ConfigError(
            f"{place}: the top level must be a mapping, found {kind}; write keys, such as name: mine"
        )
    return data


def parse_yaml(text: str, where: str) -> Any:
    """YAML text as plain data. Raises ConfigError, in one line.

    >>> parse_yaml("{on: 5e-4, a: &a [1], b: *a}", "my.yaml")
    {'on': 0.0005, 'a': [1], 'b': [1]}
    >>> parse_yaml("a: &a [*a]", "my.yaml")
    Traceback (most recent call last):
    statewise.errors.ConfigError: my.yaml: line 1, column 4: the value of the anchor 'a' holds itself
    """
    check_text(text, where, error=ConfigError)
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {_problem(error)}") from error
    except (ValueError, OverflowError) as error:  # the one that PyYAML lets out: chr() of an escape
        at = f"line {loader.line + 1}, column {loader.column + 1}: " if loader else ""
        raise ConfigError(f"{where}: {at}no such character; correct the escape") from error


def dump_yaml(data: Any) -> str:
    """Plain data as YAML in block style, in the order given; read alike under YAML 1.1 and 1.2.

    >>> print(dump_yaml({"seeds": [0, 1], "on": "5e-4", "lr": 5e-4}), end="")
    seeds:
      - 0
      - 1
    'on': '5e-4'
    lr: 0.0005
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        what = ", ".join(_cut(part) for part in (error.context, error.problem) if part)
        return f"line {mark.line + 1}, column {mark.column + 1}: {what}"
    return _cut(" ".join(str(error).split()))


def _cut(text: str) -> str:
    """Messages of PyYAML repeat names of any length."""
    return text if len(text) <= 160 else f"{text[:100]}...{text[-50:]}"


def _refuse(problem: str, node: yaml.Node | yaml.Event) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_TOO_DEEP = f"nested more than {MOST_DEPTH} levels deep; make it flatter"
_KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2, plus `<<` merges and `1_000`; a key given twice is an error."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own; empty here means none of 1.1

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0
        self.open: list[str] = []
        self.composed = 0
        self.sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.open:
                problem = f"the value of the anchor {event.anchor!r} holds itself"
                _refuse(problem, self.anchors[event.anchor])
        elif getattr(event, "tag", None) is not None:
            _refuse(f"tags are not read ({_cut(event.tag)}); write the value without one", event)
        with self._inside(event):
            node = super().compose_node(parent, index)
        assert node is not None
        if id(node) not in self.sizes:
            self._measure(node)
        return node

    def _measure(self, node: yaml.Node) -> None:
        """Count the values and levels that a node stands for, wherever its parts were written."""
        self.composed += _weight(node)
        parts = [self.sizes[id(part)] for part in _parts(node)]
        values = _weight(node) + sum(values for values, _ in parts)
        levels = 1 + max((levels for _, levels in parts), default=0)
        if max(values, self.composed) > MOST_VALUES:
            problem = f"more than {MOST_VALUES} values, counting what aliases repeat"
            _refuse(f"{problem}; write fewer", node)
        if levels > MOST_DEPTH:
            _refuse(_TOO_DEEP, node)
        self.sizes[id(node)] = values, levels

    @contextmanager
    def _inside(self, event: yaml.Event) -> Iterator[None]:
        """One level down; the anchor of a value stands open until the value ends."""
        anchor = None if isinstance(event, yaml.AliasEvent) else getattr(event, "anchor", None)
        self.depth += 1
        if self.depth > MOST_DEPTH:
            _refuse(_TOO_DEEP, event)
        self.open += [anchor] if anchor else []
        yield
        self.depth -= 1
        if anchor:
            self.open.pop()

    def compose_mapping_node(self, anchor: Any) -> Any:
        # On the nodes: later, a key that overrides one merged by `<<` would look like a duplicate.
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                kind = "a list" if isinstance(key, yaml.SequenceNode) else "a mapping"
                _refuse(f"{kind} as a key; keys are text", key)
            if key.tag not in _KEYS:
                _refuse(f"the key {short(key.value)} is no text; put it in quotes", key)
            if key.value in seen:
                first = seen[key.value]
                _refuse(f"the key {short(key.value)} appears twice (first on line {first})", key)
            seen[key.value] = key.start_mark.line + 1
        return node


def _weight(node: yaml.Node) -> int:
    """Values that a node itself counts for: a long text counts for many."""
    return 1 + (len(node.value) // 64 if isinstance(node, yaml.ScalarNode) else 0)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """The nodes right below a node."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    try:
        check_text(text, "text", error=ConfigError)
    except ConfigError as error:
        _refuse(str(error).removeprefix("text: "), node)
    return text


def _whole(_: _Loader, node: yaml.ScalarNode) -> int:
    # Counted first: Python refuses to convert more than 4300 digits, and takes long below.
    if len(node.value) > 40:
        _refuse(f"the integer {short(node.value)} does not fit 64 bits", node)
    return int(node.value.replace("_", ""))


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = loader.construct_yaml_float(node)
    if abs(value) == float("inf") and not node.value.lower().endswith("inf"):
        _refuse(f"the number {short(node.value)} is too large for a float", node)
    return value


for _name, _construct in (("str", _text), ("int", _whole), ("float", _number)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _construct)


class _Dumper(yaml.SafeDumper):
    """Block style, lists indented, no aliases, strings of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _represent_text)

# The dumper keeps the rules of 1.1 and adds these, so a string that either would misread is quoted.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?",
        [*"-+.0123456789"],
    ),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
    ("merge", r"<<", ["<"]),
):
    for _schema in (_Loader, _Dumper):
        _schema.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
        )
