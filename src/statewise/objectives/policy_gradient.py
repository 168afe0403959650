"""Policy gradients with a trust region on the ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from statewise.signals import Advantages
from statewise.trajectory import States


@dataclass(frozen=True)
class ClippedSurrogate:
    """`-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`, `r = pi(a|s) / pi_old(a|s)`.

    Schulman et al., 2017 (arXiv 1707.06347, eq. 7); `clip_high > clip_low` is DAPO's clip-higher.
    Both probabilities are under the sampling transform (temperature), for the full softmax at
    another temperature is another policy. Where the policy has not moved since the rollout, the
    old log-prob is the current one without its gradient: the ratio is exactly 1.
    """

    kind: ClassVar[str] = "clipped_surrogate"
    uses_old_logprobs: ClassVar[bool] = True
    clip_low: float = 0.2
    clip_high: float = 0.2

    def __call__(
        self, logits: Float[Tensor, "N V"], states: States, signal: Advantages
    ) -> Float[Tensor, " N"]:
        new = sampling_logprobs(logits, states)
        old = torch.where(states.old_logprobs.isnan(), new.detach(), states.old_logprobs)
        ratio = (new - old).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        return -torch.minimum(ratio * signal.values, clipped * signal.values)


def sampling_logprobs(logits: Float[Tensor, "N V"], states: States) -> Float[Tensor, " N"]:
    """`log pi(a_n | s_n)` at the temperature the action was sampled at, nats."""
    scaled = logits / states.temperature[:, None]
    return scaled.log_softmax(-1).gather(-1, states.action_ids[:, None]).squeeze(-1)
