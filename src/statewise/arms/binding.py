"""An arm as written names policies and data; an arm that runs holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from statewise.arms.arm import Arm, Stream
from statewise.data import Prompts
from statewise.policy import LIVE, Ema, Policy, PolicyRef

Part = TypeVar("Part")


def references(value: object) -> Iterator[PolicyRef]:
    """Every policy that a value names, in order.

    >>> from statewise.supervision import TeacherDistribution
    >>> [ref.name for ref in references((TeacherDistribution(PolicyRef("mild")), PolicyRef("base")))]
    ['mild', 'base']
    """
    if isinstance(value, PolicyRef):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from references(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from references(getattr(value, field.name))


def parts(value: object, kind: type[Part]) -> Iterator[Part]:
    """Every part of a value that is of one type, in the order of its fields; prompts are not looked into.

    >>> from statewise.supervision import TeacherDistribution
    >>> [ref.name for ref in parts((TeacherDistribution(PolicyRef("mild")), 3), PolicyRef)]
    ['mild']
    """
    if isinstance(value, kind):
        yield value
    if isinstance(value, tuple):
        for item in value:
            yield from parts(item, kind)
    elif is_dataclass(value) and not isinstance(value, Prompts):
        for field in fields(value):
            yield from parts(getattr(value, field.name), kind)


def only_in_contexts(value: object, policy: PolicyRef | Policy, *, own: bool = False) -> bool:
    """True where every part of a value that names a policy gives it a context, so that it reads no prompt of others.

    >>> from statewise.supervision import Context, TeacherDistribution
    >>> bare, mild = TeacherDistribution(PolicyRef("mild")), PolicyRef("mild")
    >>> told = TeacherDistribution(mild, context=Context("{answer}"))
    >>> only_in_contexts(told, mild), only_in_contexts((told, bare), mild)
    (True, False)
    """
    if isinstance(value, PolicyRef | Policy):
        return own or not (value is policy or value == policy)
    if isinstance(value, tuple):
        return all(only_in_contexts(item, policy, own=own) for item in value)
    if is_dataclass(value) and not isinstance(value, Prompts):
        own = own or getattr(value, "context", None) is not None
        return all(
            only_in_contexts(getattr(value, field.name), policy, own=own) for field in fields(value)
        )
    return True


def policies(value: object) -> Iterator[Policy]:
    """Every policy that a bound value holds, each once, in order."""
    seen: list[Policy] = []

    def walk(item: object) -> None:
        if isinstance(item, Policy) and not any(item is other for other in seen):
            seen.append(item)
        elif isinstance(item, tuple):
            for part in item:
                walk(part)
        elif is_dataclass(item) and not isinstance(item, Prompts):
            for field in fields(item):
                walk(getattr(item, field.name))

    walk(value)
    yield from seen


def bind(
    value: Any,
    policy: Callable[[PolicyRef | Ema], Policy],
    prompts: Callable[[Stream], Prompts],
) -> Any:
    """The same value with every named policy and every named data set in place, remembering nothing."""
    if isinstance(value, PolicyRef | Ema):
        return policy(value)
    if isinstance(value, Stream) and not isinstance(value.prompts, Prompts):
        value = replace(value, prompts=prompts(value))
    if isinstance(value, tuple):
        return tuple(bind(item, policy, prompts) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, Prompts)):
        changed = {
            field.name: bind(getattr(value, field.name), policy, prompts)
            for field in fields(value)
            if field.init and not (isinstance(value, Arm) and field.name == "start")
        }
        return replace(value, **changed)
    return value


def bind_arm(
    arm: Arm,
    student: Policy,
    teachers: Mapping[PolicyRef, Policy],
    prompts: Callable[[Stream], Prompts],
    *,
    average: Callable[[Policy, Ema], Policy] = Policy.average,
) -> Arm:
    """The arm with its student, its loaded teachers and its prompts in place.

    A teacher that is the live student becomes one view of it, and each average of its past one policy, which
    `average` makes of the student.
    """
    own: dict[PolicyRef | Ema, Policy] = {PolicyRef(LIVE): student.view(f"teacher:{LIVE}")}

    def policy(ref: PolicyRef | Ema) -> Policy:
        if isinstance(ref, PolicyRef) and ref in teachers:
            return teachers[ref]
        if isinstance(ref, Ema) and ref not in own:
            own[ref] = average(student, ref)
        return own[ref]

    return bind(arm, policy, prompts)
