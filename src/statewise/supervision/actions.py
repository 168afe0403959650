"""The action that was taken is the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from statewise.signals import Actions, Labels
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class OwnActions:
    """Learn the visited tokens themselves: gold tokens on a dataset, the teacher's on a branch."""

    kind: ClassVar[str] = "own_actions"

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Float[Tensor, " N"]) -> Actions:
        """The actions that the states already hold."""
        return Actions()
