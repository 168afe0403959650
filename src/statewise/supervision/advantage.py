"""Advantages: how much better a completion was than its group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from statewise.errors import DataError
from statewise.rewards import Reward
from statewise.signals import Advantages, Labels
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class GroupAdvantage:
    """`A_i = (r_i - mean(r)) / (std(r) + 1e-4)` over the samples of one occurrence of a prompt.

    `scale: std` is GRPO (Shao et al., 2024, arXiv 2402.03300, section 4.1.2; the standard deviation
    has n - 1 in its denominator, as in TRL); `scale: none` is Dr.GRPO (Liu et al., 2025, arXiv
    2503.20783). A group of equal rewards has advantage 0. Every state of a completion gets the
    completion's advantage.
    """

    kind: ClassVar[str] = "group_advantage"
    reward: Reward
    scale: Literal["std", "none"] = "std"

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The advantage of each trajectory. Raises DataError for a group of one."""
        rewards = np.array([self.reward(t.prompt, t.completion) for t in trajectories])
        groups: dict[str, list[int]] = defaultdict(list)
        for i, trajectory in enumerate(trajectories):
            groups[trajectory.group_id].append(i)
        advantages = np.zeros(len(trajectories), np.float32)
        for group_id, members in groups.items():
            if len(members) < 2:
                raise DataError(
                    f"group {group_id!r} has one sample; a group advantage needs two or more"
                )
            advantages[members] = rewards[members] - rewards[members].mean()
            if self.scale == "std":
                advantages[members] /= rewards[members].std(ddof=1) + 1e-4
        silent = sum(not advantages[members].any() for members in groups.values())
        return Labels(
            advantages,
            {"reward_mean": float(rewards.mean()), "silent_group_share": silent / len(groups)},
        )

    def signal(self, states: States, labels: Float[Tensor, " N"]) -> Advantages:
        """The advantage of each state's trajectory."""
        return Advantages(labels)
