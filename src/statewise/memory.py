"""What a bound arm carries from step to step, and through a checkpoint: a replay's store, an average.

Almost nothing in an arm remembers: every draw is a function of names and numbers. What does is a
part of the bound arm with three methods, and this is all that training and checkpoints know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from statewise.arms import Arm
from statewise.data import Prompts
from statewise.policy import Policy


@runtime_checkable
class Remembers(Protocol):
    """A part of a bound arm with a state.

    `begin` forgets it at the start of a run; `save_state` and `restore_state` carry it through a
    checkpoint, to the bit. Where there is nothing to keep, no directory is made.
    """

    def begin(self, student: Policy) -> None: ...
    def save_state(self, directory: Path) -> None: ...
    def restore_state(self, directory: Path) -> None: ...


def memories(arm: Arm) -> dict[str, Remembers]:
    """Every part of a bound arm that remembers, each once, by the name of its folder in a checkpoint."""
    found: list[Remembers] = []
    for part in _parts(arm.streams):
        if isinstance(part, Remembers) and not any(part is other for other in found):
            found.append(part)
    return {f"state-{place}": part for place, part in enumerate(found)}


def _parts(value: object) -> Iterator[object]:
    """A value and all that it is made of, in the order of its fields."""
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif is_dataclass(value) and not isinstance(value, Prompts):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
