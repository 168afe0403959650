"""Importance weights between who sampled a token and who is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Float64

from statewise.errors import ConfigError, DataError
from statewise.lazy import torch
from statewise.limits import AtLeast1
from statewise.objectives.rows import row_sums
from statewise.trajectory import States


@dataclass(frozen=True)
class Importance:
    """A weight a state for samples that another policy (or another engine) drew; no gradient.

        w = min(r, cap)             rule truncate   (bias towards 0 where r > cap, variance bounded)
        w = r where r <= cap, else 0   rule mask    (the state is dropped)

    `r = pi / behaviour` of the token, or of all the row's states with `level: sequence`. `pi` is the
    policy at the start of the rollout's updates where the objective has a ratio of its own from
    there on, and the current one where it has none, so that no step is corrected twice. The weight
    multiplies the loss; the normaliser counts the state as before.

    Truncated weights (Ionides, 2008), between engines (Yao et al., 2025): "Your efficient RL framework
    secretly brings you off-policy RL training". Untruncated and by sequence it is unbiased; by token it
    corrects the choice at a state and not how often the state is visited. What the cap removes is logged
    (`importance_capped_share`, `importance_removed_share`).

    Raises ConfigError for a cap below 1.

    >>> from statewise.testing import states
    >>> seen, now = states(1, 2, logprobs=[-2.0, -1.0]), torch.tensor([-1.0, -1.5])    # r = e, e^-0.5
    >>> for weigh in (Importance(), Importance(rule="mask"), Importance(level="sequence")):
    ...     [round(w, 3) for w in weigh(seen, now, torch.ones(2)).tolist()]
    [2.0, 0.607]
    [0.0, 0.607]
    [1.649, 1.649]
    """

    cap: AtLeast1 = 2.0
    rule: Literal["truncate", "mask"] = "truncate"
    level: Literal["token", "sequence"] = "token"

    def __post_init__(self) -> None:
        if not self.cap >= 1:
            raise ConfigError(f"importance cap must be 1 or more, found {self.cap}")

    def __call__(
        self, states: States, policy: Float[torch.Tensor, " N"], spoken: Float[torch.Tensor, " N"]
    ) -> Float[torch.Tensor, " N"]:
        """The weight of each state, given the policy's log-probs and where the term speaks (not 0).

        Raises DataError where a token's behaviour log-prob is unknown.
        """
        return self.bounded(self.ratios(states, policy, spoken))

    def ratios(
        self, states: States, policy: Float[torch.Tensor, " N"], spoken: Float[torch.Tensor, " N"]
    ) -> Float[torch.Tensor, " N"]:
        """`pi / behaviour` of each state or of its row, before the cap; 1 where the term does not speak."""
        counts = spoken != 0
        if (unknown := (states.behaviour_logprobs.isnan() & counts).sum()) > 0:
            raise DataError(
                f"importance weights need the log-prob that each token was sampled with; "
                f"{int(unknown)} of {int(counts.sum())} states have none"
            )
        gaps = torch.where(counts, policy - states.behaviour_logprobs, 0.0)
        return (row_sums(gaps, states.row) if self.level == "sequence" else gaps).exp()

    def bounded(self, ratio: Float[torch.Tensor, " N"]) -> Float[torch.Tensor, " N"]:
        """The weights that the rule makes of ratios."""
        if self.rule == "truncate":
            return ratio.clamp(max=self.cap)
        return torch.where(ratio <= self.cap, ratio, 0.0)

    def tally(
        self, ratio: Float[torch.Tensor, " N"], spoken: Float[torch.Tensor, " N"]
    ) -> Float64[torch.Tensor, " 4"]:
        """Sums over the states where the term speaks: states, those beyond the cap, ratios, weights.

        What the cap takes away is its bias: 1 - weights / ratios, by mass.

        >>> ratios = torch.tensor([0.5, 1.0, 6.5, 9.0])
        >>> Importance(cap=2.0).tally(ratios, torch.tensor([1.0, 1.0, 1.0, 0.0])).tolist()
        [3.0, 1.0, 8.0, 3.5]
        """
        kept = ratio[spoken != 0].double()
        beyond = (kept > self.cap).sum()
        parts = (beyond.new_tensor(len(kept)), beyond, kept.sum(), self.bounded(kept).sum())
        return torch.stack([part.double() for part in parts])
