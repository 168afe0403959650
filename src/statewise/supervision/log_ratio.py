"""What the teacher thinks of the sampled token, as an advantage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float

from statewise.errors import ConfigError, DataError
from statewise.lazy import torch
from statewise.limits import Positive, Share
from statewise.policy import Policy, PolicyLike
from statewise.signals import Advantages, Labels
from statewise.supervision.context import Context
from statewise.supervision.teacher import read_teacher
from statewise.trajectory import States, Trajectory


@dataclass(frozen=True)
class TeacherLogRatio:
    """`A_t = sum_{k >= t} discount^(k - t) clip(log pi_T(a_k|s_k) - log pi(a_k|s_k))`, nats, pi the student now.

    Both log-probs are under the sampling temperature, and the student's is a constant: that of the
    policy whose gradient is taken. It is not the behaviour's, nor the old policy's of a rollout that
    serves several updates. Who sampled belongs in the weight of the state, `pi / behaviour`: the
    objective's own ratio (`clipped_surrogate`) from the start of a rollout's updates, `Term.importance`
    for stale rows. Then, unclipped, the expected policy gradient is exactly

        discount 0  that of per-state `kl(student||teacher)` at the states that were visited, from one
                    token in place of V (so with more variance); weights by token suffice
        discount 1  that of the *sequence* KL, future states included; stale rows need weights by sequence

    at every update, and 0 where student and teacher are equal, whoever sampled and with what weight.
    Between 0 and 1 it is neither. `clip` bounds each log-ratio to [-clip, clip]; it biases, and it keeps
    one token from being the whole update.

    Raises DataError where a token's behaviour log-prob is unknown (nobody sampled it: there is no policy
    gradient) and where `states.logprobs` was not filled in.

    >>> from statewise.policy import PolicyRef
    >>> TeacherLogRatio(PolicyRef("mild"), clip=0.0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: clip must be positive, found 0.0
    """

    kind: ClassVar[str] = "teacher_log_ratio"
    reads: ClassVar[tuple[str, ...]] = ("logprobs",)
    teacher: PolicyLike
    clip: Positive | None = None
    discount: Share = 0.0
    context: Context | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"clip must be positive, found {self.clip}")
        check_discount(self.discount)

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The rows that the teacher reads, where it has a context of its own."""
        if self.context is None:
            return Labels.none(len(trajectories))
        assert isinstance(self.teacher, Policy)
        return self.context.labels(trajectories, self.teacher)

    def signal(self, states: States, labels: Labels) -> Advantages:
        """One trunk pass of the teacher; its head by chunk."""
        spoken = states.weights != 0
        if unknown := int((states.behaviour_logprobs.isnan() & spoken).sum()):
            raise DataError(
                f"teacher_log_ratio is a policy gradient of tokens that were sampled; {unknown} of "
                f"{int(spoken.sum())} states have no behaviour log-prob: use a source that samples, or "
                "teacher_distribution"
            )
        if unknown := int((states.logprobs.isnan() & spoken).sum()):
            raise DataError(
                f"teacher_log_ratio compares with the student's own log-prob; {unknown} of "
                f"{int(spoken.sum())} states have none: fill in `states.logprobs`, as accumulate_gradient does"
            )
        told = read_teacher(self.teacher, states, labels)
        gaps = told.of_actions(states.action_ids, states.temperature) - states.logprobs
        gaps = torch.where(spoken, gaps, 0.0)
        if self.clip is not None:
            gaps = gaps.clamp(-self.clip, self.clip)
        return Advantages(returns_to_go(gaps, states, self.discount))


def returns_to_go(
    rewards: Float[torch.Tensor, " N"], states: States, discount: float
) -> Float[torch.Tensor, " N"]:
    """`sum_{k >= t} discount^(k - t) r_k` along each row; a token between two states counts as 0.

    >>> from statewise.testing import states
    >>> returns_to_go(torch.tensor([1.0, 2.0, 4.0]), states(1, 2, 3), 0.5).tolist()
    [3.0, 4.0, 4.0]
    """
    if discount == 0:
        return rewards
    grid = rewards.new_zeros(states.token_ids.shape)
    grid[states.row, states.column] = rewards
    for column in range(grid.shape[1] - 2, -1, -1):
        grid[:, column] += discount * grid[:, column + 1]
    return grid[states.row, states.column]


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1].

    >>> check_discount(1.5)
    Traceback (most recent call last):
    statewise.errors.ConfigError: discount lies in [0, 1], found 1.5
    """
    if not 0 <= discount <= 1:
        raise ConfigError(f"discount lies in [0, 1], found {discount}")
