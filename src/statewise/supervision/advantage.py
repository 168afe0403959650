"""Advantages: how much better a completion was than expected.

The expected policy gradient is the gradient of the expected reward where the baseline of a
completion does not depend on that completion. Each estimator says what it does to that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from statewise.errors import DataError
from statewise.lazy import torch
from statewise.limits import Number
from statewise.rewards import MathVerify, Reward, judge
from statewise.signals import Advantages, Labels
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class GroupAdvantage:
    """`A_i = (r_i - mean(r)) / (std(r) + 1e-4)` over the samples of one occurrence of a prompt.

    `scale: std` is GRPO (Shao et al., 2024, arXiv 2402.03300, section 4.1.2; the standard deviation
    has n - 1 in its denominator, as in TRL); `scale: none` is Dr.GRPO (Liu et al., 2025, arXiv
    2503.20783). A group of equal rewards has advantage 0. Every state of a completion gets the
    completion's advantage.

    Bias: the mean holds the completion itself, which shrinks the expected gradient by `(n - 1) / n`
    and leaves its direction; `std` then weighs each prompt by the inverse of its spread, so that the
    expected gradient is of no expected reward at all.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer
    >>> rows = [trajectory(1, completion=c, reference="#### 1") for c in ("#### 1", "#### 2", "", "")]
    >>> advantages = GroupAdvantage(ExactAnswer()).label(rows).values    # (1 - 1/4) / (1/2 + 1e-4)
    >>> [round(a, 4) for a in advantages.tolist()]
    [1.4997, -0.4999, -0.4999, -0.4999]
    """

    kind: ClassVar[str] = "group_advantage"
    reward: Reward
    scale: Literal["std", "none"] = "std"

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The advantage of each trajectory. Raises DataError for a group of one."""
        scored = score(self.reward, trajectories)
        rewards, advantages = scored.rewards, np.zeros(len(trajectories), np.float32)
        for members in groups(trajectories):
            centred = rewards[members] - mean(rewards[members])
            if self.scale == "std":
                centred /= spread(rewards[members]) + 1e-4
            advantages[members] = centred
        return in_groups(advantages, scored, trajectories)

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The advantage of each state's trajectory."""
        return Advantages(labels.at(states))


@dataclass(frozen=True)
class LeaveOneOut:
    """`A_i = r_i - mean_{j != i}(r_j)` over the samples of one occurrence of a prompt.

    RLOO (Kool et al., 2019; Ahmadian et al., 2024, arXiv 2402.14740). Unbiased: the baseline does
    not hold the completion itself. It is Dr.GRPO's advantage times `n / (n - 1)`.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer
    >>> rows = [trajectory(1, completion=c, reference="#### 1") for c in ("#### 1", "#### 2", "", "")]
    >>> [round(a, 4) for a in LeaveOneOut(ExactAnswer()).label(rows).values.tolist()]
    [1.0, -0.3333, -0.3333, -0.3333]
    """

    kind: ClassVar[str] = "leave_one_out"
    reward: Reward

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The advantage of each trajectory. Raises DataError for a group of one."""
        scored = score(self.reward, trajectories)
        rewards, advantages = scored.rewards, np.zeros(len(trajectories), np.float32)
        for members in groups(trajectories):
            own = rewards[members]
            others = (own.sum() - own) / (len(members) - 1)
            advantages[members] = own - np.clip(others, own.min(), own.max())
        return in_groups(advantages, scored, trajectories)

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The advantage of each state's trajectory."""
        return Advantages(labels.at(states))


@dataclass(frozen=True)
class RewardBaseline:
    """`A_i = r_i - b`: REINFORCE, with the rollout's mean reward as baseline, or a number.

    A number is unbiased. The mean of M completions holds each completion itself, which shrinks the
    expected gradient by `(M - 1) / M`, whatever their prompts.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer
    >>> rows = [trajectory(1, completion=c, reference="#### 1") for c in ("#### 1", "#### 2", "", "")]
    >>> RewardBaseline(ExactAnswer()).label(rows).values.tolist()
    [0.75, -0.25, -0.25, -0.25]
    """

    kind: ClassVar[str] = "reward_baseline"
    reward: Reward
    baseline: Literal["mean"] | Number = "mean"

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The advantage of each trajectory."""
        scored = score(self.reward, trajectories)
        baseline = mean(scored.rewards) if self.baseline == "mean" else self.baseline
        return Labels((scored.rewards - baseline).astype(np.float32), scored.figures)

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The advantage of each state's trajectory."""
        return Advantages(labels.at(states))


@dataclass(frozen=True)
class ConstantAdvantage:
    """The same advantage everywhere, from nobody: what a teacher or a reward must be better than.

    At the policy's own states, while it has not moved since it sampled, the expected gradient is that of
    `value E[1 / normaliser]`: 0 under `constant`, where -1 only spreads the policy by chance and has
    matched teachers (arXiv 2608.31046); under `sequence` that of `value E[1/T]`, a reward for length where
    the value is negative; under `token` the same, smaller by the number of rows.

    >>> from statewise.testing import states
    >>> ConstantAdvantage().signal(states(1, 2), Labels.none(1)).values.tolist()
    [-1.0, -1.0]
    """

    kind: ClassVar[str] = "constant_advantage"
    value: Number = -1.0

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The constant at each state."""
        return Advantages(torch.full_like(states.behaviour_logprobs, self.value))


@dataclass(frozen=True)
class Scores:
    """The reward of each trajectory, and what a step logs of them.

    >>> Scores(np.array([1.0, 0.0]), {"reward_mean": 0.5}).rewards.tolist()
    [1.0, 0.0]
    """

    rewards: Float64[np.ndarray, " M"]
    figures: dict[str, float]


def score(reward: Reward, trajectories: Sequence[Trajectory]) -> Scores:
    """The reward of each trajectory; for a reward that may fail to read one, how often it did.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer
    >>> rows = [trajectory(1, completion=c, reference="#### 1") for c in ("#### 1", "#### 2", "", "")]
    >>> scored = score(ExactAnswer(), rows)
    >>> scored.rewards.tolist(), scored.figures
    ([1.0, 0.0, 0.0, 0.0], {'reward_mean': 0.25})
    """
    judged = [judge(reward, t.prompt, t.completion) for t in trajectories]
    rewards = np.array([one.value for one in judged], np.float64)
    figures = {"reward_mean": mean(rewards)}
    if isinstance(reward, MathVerify):
        figures["reward_fault_share"] = fmean(one.fault is not None for one in judged)
    return Scores(rewards, figures)


def groups(trajectories: Sequence[Trajectory]) -> list[list[int]]:
    """Indices of the trajectories of each group. Raises DataError for a group of one.

    >>> from statewise.testing import trajectory
    >>> groups([trajectory(1, group=name) for name in ("a", "b", "a", "b")])
    [[0, 2], [1, 3]]
    """
    found: dict[str, list[int]] = defaultdict(list)
    for i, trajectory in enumerate(trajectories):
        found[trajectory.group_id].append(i)
    for group_id, members in found.items():
        if len(members) < 2:
            raise DataError(
                f"group {group_id!r} has one sample; a group advantage needs two or more"
            )
    return list(found.values())


def mean(rewards: Float64[np.ndarray, " M"]) -> float:
    """The mean, held between the least and the greatest reward: where all are equal it is their own value.

    A sum is rounded, and its quotient may lie beside numbers that are all equal: a group that says
    nothing would get an advantage.

    >>> mean(np.full(3, 0.1)), float(np.full(3, 0.1).mean())
    (0.1, 0.10000000000000002)
    """
    return float(np.clip(rewards.mean(), rewards.min(), rewards.max()))


def spread(rewards: Float64[np.ndarray, " M"]) -> float:
    """The standard deviation with n - 1, exactly 0 where rewards are equal.

    >>> spread(np.array([1.0, 0.0, 0.0, 0.0])), spread(np.full(3, 0.1))
    (0.5, 0.0)
    """
    return float(np.sqrt(np.square(rewards - mean(rewards)).sum() / (len(rewards) - 1)))


def in_groups(advantages: np.ndarray, scored: Scores, trajectories: Sequence[Trajectory]) -> Labels:
    """Labels with the figures of the rewards and the share of groups that say nothing: theirs are equal.

    >>> from statewise.testing import trajectory
    >>> rows = [trajectory(1, group=name) for name in ("a", "a", "b", "b")]
    >>> scored = Scores(np.array([1.0, 0, 1, 1]), {"reward_mean": 0.75})
    >>> dict(in_groups(np.array([0.5, -0.5, 0, 0], np.float32), scored, rows).figures)
    {'reward_mean': 0.75, 'silent_group_share': 0.5}
    """
    every, rewards = groups(trajectories), scored.rewards
    silent = sum(bool((rewards[members] == rewards[members[0]]).all()) for members in every)
    return Labels(advantages, scored.figures | {"silent_group_share": silent / len(every)})
