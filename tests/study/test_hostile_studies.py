"""Whatever stands in a study file: a value that means something, or one line that says what is wrong.

Every class that a study may hold is tried with values that nobody means, and a study that ships with
one at each of its places. Nothing but a StatewiseError comes out, in one line, before torch has work.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest

from statewise.arms import Budget
from statewise.config import from_plain, override, to_plain
from statewise.errors import ConfigError, StatewiseError
from statewise.limits import Within
from statewise.reading import read_plain_study, with_local_data
from statewise.study.spec import Study, read_study
from statewise.user_code import seal
from statewise.yaml12 import dump_yaml, parse_yaml


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: dict[str, Any] = {
    "null": None,
    "empty list": [],
    "list": [1, "a", None],
    "empty mapping": {},
    "mapping": {"a": 1},
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "1e300": 1e300,
    "a trillion": 10**12,
    "no machine's integer": 10**30,
    "too many digits": 10**5000,
    "true": True,
    "empty text": "",
    "long text": "x" * 100_000,
    "text with a line end": "a\nb",
    "text with NUL": "a\0b",
    "date": "2024-01-01",
    "number as text": "1e400",
    "deep": deep(60),
    "code": {"kind": "python", "function": "os:system"},
}
NUMBERS = ("nan", "infinity", "minus infinity", "no machine's integer", "too many digits")


def hints(cls: type) -> dict[str, Any]:
    """The annotations of the fields that a study file may give, with their ranges."""
    found = get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in fields(cls) if f.init}


def classes(annotation: Any, seen: list[type] | None = None) -> list[type]:
    """Every dataclass that a study file may ask for, however deep."""
    seen = [] if seen is None else seen
    if getattr(annotation, "plain", "") == "never" or annotation in seen:
        return seen
    if is_dataclass(annotation) and isinstance(annotation, type):
        seen.append(annotation)
        for hint in hints(annotation).values():
            classes(hint, seen)
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            classes(part, seen)
    return seen


def numbers(annotation: Any) -> Iterator[Any]:
    """The annotations of numbers inside an annotation, with their ranges."""
    if get_origin(annotation) is Annotated or annotation in (int, float):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from numbers(part)


def example(annotation: Any) -> Any:
    """Plain data that fit an annotation, as small as will do."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        within = next(part for part in parts if isinstance(part, Within))
        value = (min(within.low, 1) + min(within.high, 1)) / 2 or 1
        return max(1, math.ceil(value)) if parts[0] is int else value
    if origin is Literal:
        return parts[0]
    if origin is tuple:
        return [example(parts[0])]
    if origin is dict:
        return {}
    if is_dataclass(annotation) and isinstance(annotation, type):
        return plain_of(annotation)
    if annotation in (int, float, bool, str, NoneType):
        return {int: 1, float: 0.5, bool: False, str: "x", NoneType: None}[annotation]
    return example(next(part for part in parts if getattr(part, "plain", "") != "never"))


def plain_of(cls: type) -> Any:
    """Plain data with every required field of a class."""
    required = [
        f.name
        for f in fields(cls)
        if f.init and f.default is MISSING and f.default_factory is MISSING
    ]
    if getattr(cls, "plain", "") == "scalar":
        return example(hints(cls)[required[0]])
    kind = getattr(cls, "kind", None)
    head = {"kind": kind} if isinstance(kind, str) else {}
    return head | {name: example(hints(cls)[name]) for name in required}


EVERY = classes(Study)


def refused(call: Any) -> str | None:
    """The one line that a call is refused with, None where it is accepted."""
    try:
        call()
    except StatewiseError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) <= 2000
        return line
    return None


def test_every_number_of_a_study_states_its_range() -> None:
    """`limits.py` has the types; a number without one would take a slip of any size."""
    bare = [
        f"{cls.__name__}.{name}"
        for cls in EVERY
        for name, hint in hints(cls).items()
        if any(get_origin(number) is not Annotated for number in numbers(hint))
    ]
    assert bare == []
    assert len(EVERY) > 60


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_no_number_of_a_study_is_nan_infinite_or_of_no_machine(cls: type) -> None:
    for field, hint in hints(cls).items():
        for number in numbers(hint):
            for name in NUMBERS:
                line = refused(lambda n=number, v=HOSTILE[name]: from_plain(n, v, "arms.a.field"))
                assert line is not None, (field, name)
                assert line.startswith("arms.a.field: ")
                assert len(line) < 200


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_a_class_takes_a_value_or_says_why_not(cls: type) -> None:
    plain = plain_of(cls)
    if not isinstance(plain, dict):
        plain, hostile = {}, [(value, value) for value in HOSTILE.values()]
    else:
        names = [f.name for f in fields(cls) if f.init] + (["kind"] if "kind" in plain else [])
        hostile = [(plain | {n: v}, v) for n in names for v in HOSTILE.values()]
    for data, _ in hostile:
        found: list[Any] = []
        line = refused(lambda d=data, f=found: f.append(from_plain(cls, d, "here")))
        if line is None:
            text = dump_yaml({"again": to_plain(found[0])})
            assert from_plain(cls, parse_yaml(text, "t")["again"]) == found[0]


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


POCKET = read_plain_study("pocket")
PLACES = list({tuple(k for k in p if isinstance(k, str)): p for p in places(POCKET)}.values())
"""One place of each kind: of equal paths through other items of a list the last."""


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(POCKET)
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return data


def read(data: Any) -> Study:
    return from_plain(Study, seal(with_local_data(data, "folder"), trust=False))


@pytest.mark.parametrize("part", range(4))
def test_a_study_takes_a_value_at_any_place_or_says_why_not(part: int) -> None:
    """Each place gets values by turns: all of them at each would take minutes and find no more."""
    turns = len(HOSTILE) // 2
    for number, path in enumerate(PLACES):
        if number % 4 == part:
            for name in list(HOSTILE)[number % turns :: turns]:
                line = refused(lambda p=path, n=name: read(replaced(p, HOSTILE[n])))
                assert line or name not in NUMBERS


@pytest.mark.parametrize("key", ["", "x" * 5000, "a\nb", "\x1b[2J"])
def test_a_key_that_nobody_knows_is_named_in_one_line(key: str) -> None:
    for path in PLACES[::7]:
        data = copy.deepcopy(POCKET)
        parent = data
        for step in path[:-1]:
            parent = parent[step]
        if isinstance(parent, dict):
            parent[key] = parent.pop(path[-1])
            assert refused(lambda d=data: read(d))


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        (
            "arms.grpo.streams.0.prompts_per_step=1000000000",
            "arms.grpo.streams[0].prompts_per_step: must be from 1 to 65,536, found 1000000000",
        ),
        (
            "arms.grpo.streams.0.source.samples_per_prompt=1000000000",
            "arms.grpo.streams[0].source.samples_per_prompt: must be from 1 to 65,536",
        ),
        (
            "arms.grpo.streams.0.source.max_new_tokens=1000000000000",
            "arms.grpo.streams[0].source.max_new_tokens: must be from 1 to 1,048,576",
        ),
        ("arms.grpo.streams.0.source.samples_per_prompt=65537", "must be from 1 to 65,536"),
        ("arms.grpo.budget.adam_beta1=1.0", "arms.grpo.budget.adam_beta1: must be at least 0 and"),
        ("arms.grpo.budget.adam_beta2=-0.1", "adam_beta2: must be at least 0 and below 1"),
        ("arms.grpo.budget.adam_beta2=.nan", "adam_beta2: must be at least 0 and below 1"),
        ("arms.grpo.budget.weight_decay=-1", "weight_decay: must be from 0 to 1e+09"),
        ("arms.grpo.budget.max_grad_norm=.inf", "max_grad_norm: must be above 0 and at most 1e+09"),
        ("arms.grpo.budget.learning_rate=.nan", "learning_rate: must be above 0 and at most 1000"),
        ("arms.grpo.budget.warmup_steps=10000000000", "warmup_steps: must be from 0"),
        ("arms.grpo.streams.0.source.temperature=-1", "source.temperature: must be from 0 to 1000"),
        ("arms.grpo.streams.0.source.top_p=1.5", "source.top_p: must be above 0 and at most 1"),
        ("arms.grpo.streams.0.share=.nan", "streams[0].share: must be from -1e+09 to 1e+09"),
        ("arms.grpo.streams.0.terms.0.coefficient=.inf", "terms[0].coefficient: must be from"),
        ("arms.grpo.streams.0.terms.0.objective.clip_low=1.5", "clip_low: must be from 0 to 1"),
        ("seeds=[-1]", "seeds[0]: must be from 0 to 9.22337e+18, found -1"),
        ("seeds=[9223372036854775808]", "seeds[0]: must be from 0 to 9.22337e+18"),
        (f"seeds={list(range(1001))}", "at most 1000 seeds, found 1001"),
        ("search.seeds=[]", "search: seeds must be given and distinct"),
        (
            "search.trials.grpo.2={budget.learning_rate: 0}",
            "search.trials.grpo[2]: budget.learning_rate: must be above 0",
        ),
        (
            "search.trials.grpo.2={budget.lerning_rate: 1}",
            "search.trials.grpo[2]: budget.lerning_rate: unknown key; did you mean",
        ),
        ("search.trials.grpo.0={streams.7.share: 1}", "search.trials.grpo[0]: arms.grpo.streams.7"),
        ("claims.stress_forgets.margin=2", "margin: must be from 0 to 1, found 2"),
        ("arms.grpo.budget=[1, 2]", "arms.grpo.budget: expected a mapping (Budget), found a list"),
        ("seeds=[1e400]", "--set seeds: line 1, column 2: the number '1e400' is too large"),
        ("seeds=[" + "9" * 5000 + "]", "does not fit 64 bits"),
        ("notes=" + "[" * 3000, "nested more than 64 levels deep"),
        ('notes=["\\ud83d"]', "half of a character"),
        ("notes=[!!python/object:os.system x]", "tags are not read"),
        ("seeds=&a [*a]", "the value of the anchor 'a' holds itself"),
    ],
)
def test_absurd_values_are_refused_with_their_path(assignment: str, says: str) -> None:
    line = refused(lambda: read_study("pocket", [assignment]))
    assert line is not None
    assert says in line


def test_ranges_hold_through_unions_lists_and_overrides() -> None:
    assert read_study("pocket", ["arms.grpo.budget.adam_beta1=0"]).arm("grpo").budget == (
        Budget(3e-5, steps=40, minibatches=2, adam_beta1=0.0)
    )
    with pytest.raises(ConfigError, match=r"^drift\.depths\[1\]: must be above 0 and at most 1"):
        from_plain(Study, override(POCKET, "drift.depths=[0.5, 0]"))


def test_rows_of_a_step_have_a_bound_together() -> None:
    many = ["arms.grpo.streams.0.source.samples_per_prompt=65536"]
    line = refused(lambda: read_study("pocket", [*many, "arms.grpo.streams.0.prompts_per_step=17"]))
    assert line is not None
    assert "are 1,114,112 rows per step; at most 1,048,576 are allowed" in line
