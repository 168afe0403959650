"""The action that was taken is the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from statewise.policy import PolicyLike
from statewise.signals import Actions, Labels, Reference
from statewise.supervision.teacher import read_teacher
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class OwnActions:
    """Learn the visited tokens themselves: gold tokens on a dataset, the teacher's on a branch.

    >>> from statewise.testing import states, trajectory
    >>> OwnActions().signal(states(1, 2), OwnActions().label([trajectory(1, 2)]))
    Actions()
    """

    kind: ClassVar[str] = "own_actions"

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Labels) -> Actions:
        """The actions that the states already hold."""
        return Actions()


@dataclass(frozen=True)
class ReferenceActions:
    """The visited tokens, and what `reference` gave them: `log pi_ref(a | s)` at the sampling temperature.

    Learning them weighed by `pi / pi_ref` is iw-SFT (arXiv 2507.12856).
    """

    kind: ClassVar[str] = "reference_actions"
    reference: PolicyLike

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Labels) -> Reference:
        """One trunk pass of the reference; its head by chunk."""
        told = read_teacher(self.reference, states, labels)
        return Reference(told.of_actions(states.action_ids, states.temperature))
