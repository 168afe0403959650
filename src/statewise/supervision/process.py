"""Rewards at every token, as advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from statewise.limits import Number, Share
from statewise.rewards import Outcome, TokenReward, at_end
from statewise.signals import Advantages, Labels
from statewise.supervision.advantage import mean, score
from statewise.supervision.log_ratio import check_discount
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class ProcessReward:
    """`A_t = sum_{k >= t} discount^(k - t) r_k - baseline`: the reward still to come.

    `r_k` is paid for token `k`. At discount 1 the expected policy gradient is that of the expected
    sum of rewards: what came before a token cannot depend on it, so leaving it out removes variance
    and no bias, and neither does a constant baseline. Below 1 it is biased towards the near.

    >>> from statewise.testing import trajectory
    >>> from statewise.rewards import ExactAnswer, Outcome
    >>> made = trajectory(1, 2, completion="#### 1", reference="#### 1")    # the prompt has one token
    >>> ProcessReward(Outcome(ExactAnswer()), discount=0.5).label([made]).per_token[0].tolist()
    [0.0, 0.5, 1.0]
    """

    kind: ClassVar[str] = "process_reward"
    reward: TokenReward
    discount: Share = 1.0
    baseline: Number = 0.0

    def __post_init__(self) -> None:
        check_discount(self.discount)

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """One advantage a token; a trajectory's value is its undiscounted sum of rewards."""
        if isinstance(self.reward, Outcome):
            scored = score(self.reward.reward, trajectories)
            paid = [at_end(t, r) for t, r in zip(trajectories, scored.rewards, strict=True)]
            figures = scored.figures
        else:
            paid, figures = [self.reward(t) for t in trajectories], {}
        sums = np.array([r.sum() for r in paid], np.float32)
        tokens = [
            np.concatenate([np.zeros(t.prompt_tokens, np.float32), to_come(r, self.discount)])
            - np.float32(self.baseline)
            for t, r in zip(trajectories, paid, strict=True)
        ]
        figures = figures | {"reward_mean": mean(sums.astype(np.float64))}
        return Labels(sums, figures, per_token=tokens)

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The advantage of each state's token."""
        return Advantages(labels.at(states))


def to_come(rewards: Float32[np.ndarray, " L"], discount: float) -> Float32[np.ndarray, " L"]:
    """`sum_{k >= t} discount^(k - t) r_k` of each token.

    >>> to_come(np.array([0, 1, 2], np.float32), 0.5).tolist()
    [1.0, 2.0, 2.0]
    """
    out, after = np.zeros(len(rewards), np.float64), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        out[t] = after = float(rewards[t]) + discount * after
    return out.astype(np.float32)
