"""Writes the tables of docs/study.md out of the code: `python -m docs.generate_study`; `make docs` does.

The page is written by hand but for what stands between `<!-- keys: NAME -->` and `<!-- end -->`: there is
a table of the keys of a section or of every kind of a closed union, with types and defaults read from the
dataclasses. A key's meaning is the docstring below its field, or a line of `keys.yaml`. A key without either, a
line that no key has, and a class that no table shows stop this program.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docs import markdown
from statewise.arms import Arm, Budget, Stream, Term
from statewise.claims.claim import Claim
from statewise.claims.controls import Match, Null
from statewise.config import to_plain
from statewise.data import Data
from statewise.evaluate import Task
from statewise.objectives import Importance, Objective
from statewise.policy import Ema, Lora, PolicyRef
from statewise.probes import Drift
from statewise.rewards import Reward, TokenReward
from statewise.sources import Schedule, Source
from statewise.study.probes import Probing
from statewise.study.spec import DevCurve, Dose, Search, Study
from statewise.supervision import Context, Supervision
from statewise.templates import Template
from statewise.yaml12 import load_yaml

PAGE = Path(__file__).parent / "study.md"
TABLES: dict[str, Any] = {
    "study": Study,
    "task": Task,
    "arm": Arm,
    "stream": Stream,
    "term": Term,
    "normaliser": get_type_hints(Term)["normaliser"],
    "budget": Budget,
    "adapter": Lora,
    "data": Data,
    "template": Template,
    "source": Source,
    "schedule": Schedule,
    "supervision": Supervision,
    "objective": Objective,
    "importance": Importance,
    "reward": Reward,
    "token reward": TokenReward,
    "policy": Ema,
    "claim": Claim,
    "dev": DevCurve,
    "search": Search,
    "dose": Dose,
    "drift": Drift,
    "probes": Probing,
    "match": Match,
    "null": Null,
}
"""What each table shows: a dataclass, a union of kinds, or the words of a key."""
WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "null",
    Any: "anything",
    PolicyRef: "[policy](#policy)",
    Context: "text",
}
KEYS: dict[str, str] = load_yaml(Path(__file__).parent / "keys.yaml")
"""What a key means, by `Class.key` or, where it is one thing everywhere, by `key`."""


# ---- cells --------------------------------------------------------------------------------------


def type_words(annotation: Any) -> str:
    """The type of a key, in words; what has a table of its own links to it."""
    known = [(name, shown) for name, shown in TABLES.items() if shown is annotation]
    members = get_args(annotation)
    if known:
        return f"[{known[0][0]}](#{anchor(known[0][0])})"
    if annotation in WORDS:
        return WORDS[annotation]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{word}`" for word in members)
    if get_origin(annotation) is tuple:
        many = "s" if members[0] in (str, int, float) else ""
        return f"list of {type_words(members[0])}{many}"
    if get_origin(annotation) is dict:
        return f"names to {type_words(members[1])}"
    loose = [m for m in members if getattr(m, "plain", "") != "never" and m is not NoneType]
    for name, shown in TABLES.items():  # a part of a union, or a union and null
        if set(loose or [annotation]) <= set(get_args(shown)):
            return f"[{name}](#{anchor(name)})"
    if set(loose) == {PolicyRef, Ema}:
        return "[policy](#policy)"
    if loose:
        return " or ".join(dict.fromkeys(type_words(member) for member in loose))
    raise SystemExit(f"{annotation}: which table shows it? give it a place in TABLES or WORDS")


def default_words(field: Field[Any]) -> str:
    """The default as a study file would have it."""
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
    if is_dataclass(value) and not isinstance(value, PolicyRef):
        return "its defaults"
    return f"`{_inline(to_plain(value))}`"


def _inline(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):  # quoted where YAML would read another text
        return value if value.strip() == value and "\n" not in value else json.dumps(value)
    return f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value)


def meaning(cls: type, key: str) -> str:
    """What a key means: the docstring below its field, or the line of `keys.yaml`."""
    below = _docstrings(cls).get(key)
    found = below or KEYS.get(f"{cls.__name__}.{key}") or KEYS.get(key)
    if not found:
        raise SystemExit(
            f"{cls.__name__}.{key}: write a docstring below the field, or a line of docs/keys.yaml"
        )
    return " ".join(found.replace("None =", "null =").split())


def _docstrings(cls: type) -> dict[str, str]:
    """The texts that stand below the fields of a class."""
    tree: Any = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def anchor(title: str) -> str:
    """Where a heading is, as Markdown viewers name it."""
    return title.replace(" ", "-")


# ---- tables -------------------------------------------------------------------------------------


def keys_of(cls: type) -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning of each field that a file may hold."""
    hints = get_type_hints(cls)
    return [
        (f"`{f.name}`", type_words(hints[f.name]), default_words(f), meaning(cls, f.name))
        for f in fields(cls)
        if f.init
    ]


def table(shown: Any) -> str:
    """The table of a section, of a union of kinds, or of the words of a key."""
    if get_origin(shown) is Literal:
        rows = [(f"`{word}`", _word(word)) for word in get_args(shown)]
        return markdown.table(("word", "meaning"), rows)
    if is_dataclass(shown) and not hasattr(shown, "kind"):
        return markdown.table(("key", "type", "default", "meaning"), keys_of(shown))  # type: ignore[arg-type]
    rows = []
    for kind in get_args(shown) or (shown,):
        rows.append((f"**`{kind.kind}`**", "", "", "", markdown.first_paragraph(kind)))
        rows += [("", *cells) for cells in keys_of(kind)]
    return markdown.table(("kind", "key", "type", "default", "meaning"), rows)


def _word(word: str) -> str:
    """What a normaliser is, as the docstring of `Term` lists it."""
    found = re.search(rf"^ +{word}  +(.+)$", inspect.getdoc(Term) or "", re.MULTILINE)
    if not found:
        raise SystemExit(f"the docstring of Term does not say what normaliser {word!r} is")
    return found[1]


def classes(annotation: Any) -> Iterator[type]:
    """Every dataclass that a study file may hold, from a type on."""
    if is_dataclass(annotation) and getattr(annotation, "plain", "") != "never":
        yield annotation  # type: ignore[misc]
        hints = get_type_hints(annotation)
        for field in fields(annotation):
            if field.init:
                yield from classes(hints[field.name])
    for member in get_args(annotation):
        yield from classes(member)


def check_complete() -> None:
    """Stop where a class has no table, or a line of `keys.yaml` no key."""
    shown = {kind for value in TABLES.values() for kind in (get_args(value) or (value,))}
    every = set(classes(Study))
    if lost := sorted(c.__name__ for c in every - shown - {PolicyRef, Context}):
        raise SystemExit(f"no table shows {', '.join(lost)}; give each a place in TABLES")
    named = {
        name
        for c in every
        for f in fields(c)
        if f.init
        for name in (f.name, f"{c.__name__}.{f.name}")
    }
    if unused := sorted(KEYS.keys() - named):
        raise SystemExit(f"docs/keys.yaml explains what no class has: {', '.join(unused)}")


def page(text: str) -> str:
    """The page with every table as it would be written now."""
    check_complete()
    begins = re.findall(r"<!-- keys: (.+?) -->", text)
    if sorted(begins) != sorted(TABLES):
        odd = sorted(set(begins) ^ set(TABLES)) or "one of them twice"
        raise SystemExit(f"tables of the page and of TABLES differ: {odd}")
    return re.sub(
        r"<!-- keys: (.+?) -->\n.*?<!-- end -->",
        lambda found: f"<!-- keys: {found[1]} -->\n\n{table(TABLES[found[1]])}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    print(f"wrote the tables of {PAGE}")
