"""YAML in and out by ruamel.yaml, by the core schema of YAML 1.2 and within bounds.

ruamel.yaml reads, refuses a key that is there twice, and writes. Ours are the bounds, since a kilobyte of aliases may
stand for a billion values and a list may hold itself, and the schema: a date, `010` and `0x1f` are text here, keys
are text, and a tag asks for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver, implicit_resolvers

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
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor, yaml.Resolver = _Composer, _Constructor, _Resolver
    yaml.max_depth = MOST_DEPTH
    try:
        # What `yaml.load` does, but for its end, at which the reader forgets its line and column.
        return yaml.get_constructor_parser(text)[0].get_single_data()
    except YAMLError as error:
        raise ConfigError(f"{where}: {_problem(error)}") from error
    except (ValueError, OverflowError, LookupError) as error:  # what ruamel.yaml lets out
        reader = yaml.reader
        at = f"line {reader.line + 1}, column {reader.column + 1}"
        what = "no such character; correct the escape"
        if isinstance(error, LookupError):
            what = "no such version of YAML; leave the %YAML line out"
        raise ConfigError(f"{where}: {at}: {what}") from error


def dump_yaml(data: Any) -> str:
    """Plain data as YAML in block style, in the order given; read alike under YAML 1.1 and 1.2.

    >>> print(dump_yaml({"seeds": [0, 1], "on": "5e-4", "lr": 5e-4}), end="")
    seeds:
      - 0
      - 1
    'on': '5e-4'
    lr: 0.0005
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Emitter, yaml.Representer, yaml.Resolver = _Emitter, _Representer, _BothResolver
    yaml.default_flow_style, yaml.width = False, 100
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _problem(error: YAMLError) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        parts = (error.context, error.problem)
        if isinstance(error, DuplicateKeyError | MaxDepthExceededError):
            deep = isinstance(error, MaxDepthExceededError)
            parts = (_TOO_DEEP if deep else error.problem,)
        what = ", ".join(_cut(part) for part in parts if part)
        return f"line {mark.line + 1}, column {mark.column + 1}: {what}"
    return _cut(" ".join(str(error).split()))


def _cut(text: str) -> str:
    """Messages of PyYAML repeat names of any length."""
    return text if len(text) <= 160 else f"{text[:100]}...{text[-50:]}"


def _refuse(problem: str, node: Any) -> NoReturn:
    raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_TOO_DEEP = f"nested more than {MOST_DEPTH} levels deep; make it flatter"
_KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


class _Composer(Composer):
    """Refuses tags, keys that are not text, and aliases that stand for too much or for themselves."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.composed = 0
        self.sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        if isinstance(event, AliasEvent):
            anchored = self.anchors.get(event.anchor)
            if anchored is not None and anchored.end_mark is None:
                _refuse(f"the value of the anchor {event.anchor!r} holds itself", anchored)
        elif getattr(event, "tag", None) is not None:
            _refuse(
                f"tags are not read ({_cut(str(event.tag))}); write the value without one", event
            )
        node = super().compose_node(parent, index)
        if id(node) not in self.sizes:
            self._measure(node)
        return node

    def _measure(self, node: Any) -> None:
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

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                kind = "a list" if isinstance(key, SequenceNode) else "a mapping"
                _refuse(f"{kind} as a key; keys are text", key)
            if str(key.tag) not in _KEYS:
                _refuse(f"the key {short(key.value)} is no text; put it in quotes", key)
        return node


def _weight(node: Any) -> int:
    """Values that a node itself counts for: a long text counts for many."""
    return 1 + (len(node.value) // 64 if isinstance(node, ScalarNode) else 0)


def _parts(node: Any) -> list[Any]:
    """The nodes right below a node."""
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


class _Constructor(SafeConstructor):
    """Has the constructors of scalars below; they are added to a class, so it is one of ours."""


def _text(loader: Any, node: Any) -> str:
    text = loader.construct_scalar(node)
    try:
        check_text(text, "text", error=ConfigError)
    except ConfigError as error:
        _refuse(str(error).removeprefix("text: "), node)
    return text


def _whole(_: Any, node: Any) -> int:
    # Counted first: Python refuses to convert more than 4300 digits, and takes long below.
    if len(node.value) > 40:
        _refuse(f"the integer {short(node.value)} does not fit 64 bits", node)
    return int(node.value.replace("_", ""))


def _number(loader: Any, node: Any) -> float:
    value = loader.construct_yaml_float(node)
    if abs(value) == float("inf") and not node.value.lower().endswith("inf"):
        _refuse(f"the number {short(node.value)} is too large for a float", node)
    return value


for _name, _construct in (("str", _text), ("int", _whole), ("float", _number)):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_name}", _construct)


class _Emitter(Emitter):
    """Folds and quotes as PyYAML does, in which stored studies are written."""

    def write_plain(self, text: Any, split: Any = True) -> None:
        """Fold behind the word that passes the width; ruamel.yaml folds before it, behind a space."""
        width, self.best_width = self.best_width, self.column + len(text) + 1
        for number, words in enumerate(re.split(r"(?<=[^ ]) (?=[^ ])", text)):
            if split and number and self.column > width:
                self.write_indent()
            super().write_plain(words, split)
        self.best_width = width

    def write_double_quoted(self, text: Any, split: Any = True) -> None:
        """On one line: ruamel.yaml folds between the two characters of an escape."""
        super().write_double_quoted(text, False)

    def choose_scalar_style(self) -> Any:
        style = super().choose_scalar_style()
        single = style == '"' and not self.event.style and self.analysis.allow_single_quoted
        return "'" if single and not self.analysis.multiline else style


class _Representer(SafeRepresenter):
    """No aliases, and strings of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(representer: SafeRepresenter, text: str) -> Any:
    lines = text.split("\n")
    style = None
    if not all(line.isprintable() for line in lines):
        style = '"'  # ruamel.yaml takes more characters for line ends than YAML 1.2 does
    elif len(lines) > 1:
        style = "|" if lines[0] and all(line == line.strip() for line in lines) else '"'
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_float(representer: SafeRepresenter, number: float) -> Any:
    node = representer.represent_float(number)
    # YAML 1.1 takes no number with an exponent and no point.
    node.value = re.sub(r"^([^.]+)e", r"\1.0e", node.value)
    return node


_Representer.add_representer(str, _represent_text)
_Representer.add_representer(float, _represent_float)

_CORE = (
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
)
"""The core schema of YAML 1.2 without octal and hexadecimal numbers, with `<<` and `1_000`."""

_Table = Mapping[str, Sequence[tuple[str, re.Pattern[str]]]]


def _table(rows: Sequence[tuple[str, Any, Sequence[str]]]) -> _Table:
    """By the first character of a text: the tags that it may have, and how each is written."""
    table: dict[str, list[tuple[str, Any]]] = {}
    for tag, pattern, firsts in rows:
        for first in firsts:
            table.setdefault(first, []).append((tag, pattern))
    return table


_OURS = [
    (f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), firsts)
    for tag, pattern, firsts in _CORE
]


class _Resolver(VersionedResolver):
    """What a text without quotes is: by our schema, whatever version a file asks for."""

    table = _table(_OURS)

    @property
    def versioned_resolver(self) -> Any:
        return self.table


class _BothResolver(_Resolver):
    """By our schema or by YAML 1.1: what either would misread is written in quotes."""

    table = _table(
        [
            (tag, found, firsts)
            for versions, tag, found, firsts in implicit_resolvers
            if (1, 1) in versions
        ]
        + _OURS
    )
