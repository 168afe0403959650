"""A user's own supervision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from statewise.code import load
from statewise.errors import ConfigError
from statewise.signals import SIGNALS, Labels, Signal, Takes
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class PythonSupervision:
    """`function(**arguments)` makes an object with `label(trajectories)` and `signal(states, labels)`.

    `gives` says which signal it gives, so that an objective that wants another is refused before
    anything runs. Raises ConfigError where it gives another after all.
    """

    kind: ClassVar[str] = "python"
    function: str
    gives: Takes
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The user's labels, one a trajectory."""
        labels = self._made.label(trajectories)
        if not isinstance(labels, Labels) or len(labels.values) != len(trajectories):
            raise ConfigError(
                f"{self.function}: label() must return Labels, one value a trajectory"
            )
        return labels

    def signal(self, states: States, labels: Labels) -> Signal:
        """The user's signal."""
        signal = self._made.signal(states, labels)
        if not isinstance(signal, SIGNALS[self.gives]):
            raise ConfigError(
                f"{self.function}: signal() gave {type(signal).__name__}, but `gives` is {self.gives}"
            )
        return signal

    @cached_property
    def _made(self) -> Any:
        return load(self.function, self.sha256)(**self.arguments)
