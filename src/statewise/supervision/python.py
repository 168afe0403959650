"""A user's own supervision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from statewise.errors import ConfigError
from statewise.policy import Policy, PolicyLike
from statewise.signals import SIGNALS, Labels, Signal, Takes
from statewise.supervision.context import Context
from statewise.trajectory import States, Trajectory
from statewise.user_code import faults_of, load


@dataclass(frozen=True)
class PythonSupervision:
    """`function(**arguments)` makes an object with `label(trajectories)` and `signal(states, labels)`.

    `gives` says which signal it gives, so that an objective that wants another is refused before
    anything runs. `teacher`, where it is given, is bound and passed on as `teacher=`, and so is
    `context`, what the teacher reads in place of the prompt, as `context=`. A teacher is asked in
    evaluation mode and without gradients, whatever the function does: what is said at a state is a
    constant. `read_teacher` reads it at the states:

        class Doubt:
            def __init__(self, teacher): self.teacher = teacher
            def label(self, trajectories): return Labels.none(len(trajectories))
            def signal(self, states, labels):
                told = read_teacher(self.teacher, states, labels)
                return Advantages(told.of_actions(states.action_ids, states.temperature))

    Raises ConfigError where it gives another signal than it says, and for a context without a teacher.

    >>> PythonSupervision("mine.py:Doubt", "advantages", context=Context("{answer}"))
    Traceback (most recent call last):
    statewise.errors.ConfigError: mine.py:Doubt: a `context` is what a teacher reads; give `teacher` too
    """

    kind: ClassVar[str] = "python"
    function: str
    gives: Takes
    teacher: PolicyLike | None = None
    context: Context | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.teacher is None:
            raise ConfigError(
                f"{self.function}: a `context` is what a teacher reads; give `teacher` too"
            )
        if taken := self.arguments.keys() & self._extra.keys():
            raise ConfigError(
                f"{self.function}: {' and '.join(sorted(taken))} stands in `arguments` too; rename that one"
            )

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The user's labels, one a trajectory."""
        with self._asked(), faults_of(self.function):
            labels = self._made.label(trajectories)
        if not isinstance(labels, Labels) or len(labels.values) != len(trajectories):
            raise ConfigError(
                f"{self.function}: label() must return Labels, one value a trajectory"
            )
        return labels

    def signal(self, states: States, labels: Labels) -> Signal:
        """The user's signal."""
        with self._asked(), faults_of(self.function):
            signal = self._made.signal(states, labels)
        if not isinstance(signal, SIGNALS[self.gives]):
            raise ConfigError(
                f"{self.function}: signal() gave {type(signal).__name__}, but `gives` is {self.gives}"
            )
        return signal

    def _asked(self) -> AbstractContextManager[None]:
        """How a teacher is asked; its mode comes back afterwards."""
        return self.teacher.frozen() if isinstance(self.teacher, Policy) else nullcontext()

    @property
    def _extra(self) -> dict[str, Any]:
        """What is passed on beside the arguments."""
        extra = {"teacher": self.teacher, "context": self.context}
        return {name: value for name, value in extra.items() if value is not None}

    @cached_property
    def _made(self) -> Any:
        assert self.teacher is None or isinstance(self.teacher, Policy)
        return load(self.function, self.sha256)(**self.arguments, **self._extra)
