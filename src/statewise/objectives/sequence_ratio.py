"""Policy gradients with one ratio a completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float

from statewise.lazy import torch
from statewise.limits import NotNegative, Share
from statewise.objectives.policy_gradient import check_clip, clipped, sampling_logprobs
from statewise.objectives.rows import or_now
from statewise.signals import Advantages
from statewise.trajectory import States


@dataclass(frozen=True)
class SequenceRatio:
    """`-min(s A, clip(s) A)`, `s = exp(mean_t log pi(a_t|s_t) - log pi_old(a_t|s_t))` over the row.

    GSPO (Zheng et al., 2025, arXiv 2507.18071). Under the `sequence` normaliser the sum over a row's
    states is the row's loss, and the gradient is the whole row's: each state holds the value of `s`
    and the gradient of its own share, `sg(s) pi / sg(pi)` (their GSPO-token). Such ratios lie close
    to 1, so the clips are a thousand times narrower than a token's.

    `over: sum` takes `s = exp(sum_t ...)`, the likelihood ratio of the completion itself, as RLOO does
    in TRL; there the gradient is the whole row's under `constant` with 1 token, and the loss that is
    reported counts a row once for each of its states. Where a term speaks of a part of a row, mean and
    sum are over that part alone.

    >>> import torch
    >>> from dataclasses import replace
    >>> from statewise.testing import states
    >>> logits = torch.tensor([[0.5, 0.5]]).log()
    >>> seen = replace(states(1), row_log_ratio=torch.tensor([2.0]).log())    # s = 2
    >>> [round(SequenceRatio(0.2, 0.3)(logits, seen, Advantages(torch.tensor([a]))).item(), 4)
    ...  for a in (1.0, -1.0)]
    [-1.3, 2.0]
    """

    kind: ClassVar[str] = "sequence_ratio"
    reads: ClassVar[tuple[str, ...]] = ("old_logprobs",)
    reads_rows: ClassVar[bool] = True
    clip_low: Share = 3e-4
    clip_high: NotNegative = 4e-4
    over: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)

    def log_ratios(self, states: States, signal: Advantages) -> Float[torch.Tensor, " N"]:
        """`log pi - log pi_old` of each action, no gradient."""
        return states.logprobs - or_now(states, states.logprobs)

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Advantages
    ) -> Float[torch.Tensor, " N"]:
        new = sampling_logprobs(logits, states)
        ratio = (states.row_log_ratio + new - new.detach()).exp()
        return clipped(ratio, signal.values, self.clip_low, self.clip_high)
