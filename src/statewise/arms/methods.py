"""Methods by name, as a study file writes them: `method: {kind: grpo, clip: 0.1}` in place of `streams:`.

Each kind is a method function, and its keys are the parameters of that function: their names, types,
ranges and defaults are read from its signature, so they are declared once. `with_streams` replaces
`method:` by the streams that it stands for, on plain data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, Union, get_type_hints

from statewise.arms import distillation, reinforcement, supervised, variants
from statewise.arms.arm import Budget, Method
from statewise.config import from_plain, to_plain
from statewise.data import Data
from statewise.errors import ConfigError, StatewiseError
from statewise.limits import Number, PromptCount
from statewise.policy import PolicyRef

MODULES = (supervised, distillation, reinforcement, variants)


def functions() -> dict[str, Callable[..., Method]]:
    """The method functions by name, in the order of docs/methods.md.

    >>> list(functions())[:3]
    ['sft', 'dft', 'iw_sft']
    """
    return {
        name: value
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def _keys(name: str, function: Callable[..., Method], inner: Any) -> type:
    """A dataclass with the function's parameters as fields; `inner` is the type of the `method` of a variant."""
    types = get_type_hints(function, include_extras=True)
    columns: list[Any] = []
    for key, parameter in inspect.signature(function).parameters.items():
        given = inner if types[key] is Method else types[key]
        if parameter.default is inspect.Parameter.empty:
            columns.append((key, given))
        else:
            columns.append((key, given, field(default=parameter.default)))
    namespace = {"kind": name, "function": staticmethod(function), "__doc__": function.__doc__}
    return make_dataclass(name, columns, frozen=True, kw_only=True, namespace=namespace)


def _union(table: Mapping[str, type]) -> Any:
    """The union of computed members, which `X | Y` cannot write."""
    return Union[tuple(table.values())] if table else None  # noqa: UP007


def _table() -> dict[str, type]:
    """The keys of every method. A variant takes any method above it in the table, so nesting ends."""
    table: dict[str, type] = {}
    for name, function in functions().items():
        table[name] = _keys(name, function, _union(table))
    return table


KEYS = _table()
"""For each method by name, a frozen dataclass whose fields are its keys."""
AnyMethod: Any = _union(KEYS)
"""The closed union on `kind` that the `method` of an arm is read as."""


@dataclass(frozen=True)
class ArmByMethod:
    """An arm of a study file that names its method. Its streams are `method` over `prompts`.

    >>> arm = {"name": "mild", "method": "sft", "prompts": {"kind": "jsonl", "path": "a.jsonl"},
    ...        "prompts_per_step": 4, "budget": {"learning_rate": 1e-3, "steps": 7}}
    >>> from_plain(ArmByMethod, arm, "arm").share
    1.0
    """

    name: str
    method: AnyMethod  # pyright: ignore[reportInvalidTypeForm]  made of the signatures above
    prompts: Data
    prompts_per_step: PromptCount
    budget: Budget
    share: Number = 1.0
    """Factor on the loss of the method's own stream."""
    start: PolicyRef = PolicyRef("base")


def made(keys: Any) -> Method:
    """The method that a value of `AnyMethod` describes. Raises what its function raises.

    >>> made(KEYS["grpo"](max_new_tokens=8, samples_per_prompt=4, clip=0.1)).terms[0].objective.clip_low
    0.1
    """
    values = {key.name: getattr(keys, key.name) for key in fields(keys)}
    if "method" in values:
        values["method"] = made(values["method"])
    return type(keys).function(**values)


def with_streams(plain: Any) -> Any:
    """A plain study in which every arm with a `method` has the streams that it stands for.

    Whatever is not such an arm stays as it is. Raises ConfigError with the path of what is wrong.

    >>> arm = {"name": "mild", "method": "sft", "prompts": {"kind": "jsonl", "path": "a.jsonl"},
    ...        "prompts_per_step": 4, "budget": {"learning_rate": 1e-3, "steps": 7}}
    >>> (mild,) = with_streams({"arms": [arm]})["arms"]
    >>> sorted(mild), mild["streams"][0]["source"]
    (['budget', 'name', 'streams'], {'kind': 'dataset'})
    """
    arms = plain.get("arms") if isinstance(plain, Mapping) else None
    if not isinstance(arms, list):
        return plain
    return {**plain, "arms": [_expanded(arm, index) for index, arm in enumerate(arms)]}


def _expanded(arm: Any, index: int) -> Any:
    if not isinstance(arm, Mapping) or "method" not in arm:
        return arm
    name = arm.get("name")
    path = f"arms.{name}" if isinstance(name, str) and name else f"arms[{index}]"
    if "streams" in arm:
        raise ConfigError(
            f"{path}: give `method` or `streams`, not both: a method stands for streams"
        )
    read = from_plain(ArmByMethod, dict(arm), path)
    try:
        streams = made(read.method).streams(read.prompts, read.prompts_per_step, read.share)
    except StatewiseError as error:
        raise type(error)(f"{path}.method: {error}") from error
    own = {"method", "prompts", "prompts_per_step", "share"}
    expanded: dict[str, Any] = {}
    for key, value in arm.items():
        if key == "method":
            expanded["streams"] = to_plain(streams)
        elif key not in own:
            expanded[key] = value
    return expanded
