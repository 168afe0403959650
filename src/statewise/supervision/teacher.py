"""The teacher's whole next-token distribution at each state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from statewise.errors import ConfigError
from statewise.policy import Policy, PolicyLike
from statewise.signals import Labels, TeacherHidden
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class TeacherDistribution:
    """`pi_T(. | s)` over the full vocabulary, at `temperature` (of the teacher's softmax).

    The teacher reads the same tokens as the student, so its vocabulary must encode alike; that is
    checked when the arm is bound to its policies.
    """

    kind: ClassVar[str] = "teacher_distribution"
    teacher: PolicyLike
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"the teacher's temperature must be positive and finite, found {self.temperature}"
            )

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Float[Tensor, " N"]) -> TeacherHidden:
        """One trunk pass of the teacher; the head is applied later, chunk by chunk."""
        assert isinstance(self.teacher, Policy)
        with self.teacher.frozen():
            hidden = self.teacher.hidden(states.token_ids, states.lengths)[
                states.row, states.column - 1
            ]
        weight, bias = self.teacher.head_weight()
        return TeacherHidden(
            hidden.to(weight.dtype),
            weight.detach(),
            None if bias is None else bias.detach(),
            self.temperature,
        )
