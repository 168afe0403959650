"""Rewards token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from statewise.rewards.completion import Reward
from statewise.trajectory import Trajectory


@dataclass(frozen=True)
class Outcome:
    """The reward of the whole completion, at its last token: 0, 0, ..., r.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer
    >>> made = trajectory(1, 2, 3, completion="#### 1", reference="#### 1")
    >>> Outcome(ExactAnswer())(made).tolist()
    [0.0, 0.0, 1.0]
    """

    kind: ClassVar[str] = "outcome"
    reward: Reward

    def __call__(self, trajectory: Trajectory) -> Float32[np.ndarray, " L"]:
        return at_end(trajectory, self.reward(trajectory.prompt, trajectory.completion))


def at_end(trajectory: Trajectory, reward: float) -> Float32[np.ndarray, " L"]:
    """0 at every token but the last, which gets the reward; nothing for an empty completion.

    >>> from statewise.testing import trajectory
    >>> at_end(trajectory(1, 2, 3), 0.5).tolist()
    [0.0, 0.0, 0.5]
    """
    values = np.zeros(len(trajectory.completion_ids), np.float32)
    values[-1:] = reward
    return values
