"""Policy gradients, token by token: plain, with a trust region on the ratio, and with a clipped weight.

Every probability is under the sampling transform (its temperature): the full softmax at another
temperature is another policy. Where the policy has not moved since the rollout, the old log-prob
is the current one without its gradient, so the ratio is exactly 1 and all three have one gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float

from statewise.errors import ConfigError
from statewise.lazy import lazy, torch
from statewise.limits import NotNegative, Share
from statewise.objectives.rows import or_now
from statewise.signals import Advantages
from statewise.trajectory import States

if TYPE_CHECKING:
    from statewise.objectives import fused
else:
    fused = lazy("statewise.objectives.fused")


@dataclass(frozen=True)
class Reinforce:
    """`-A log pi(a|s)` (Williams, 1992): the likelihood-ratio gradient, no trust region.

    With the return as advantage its expected gradient is that of `-E[return]`, as long as the
    states are the current policy's own: with several updates a rollout it is biased from the second on.

    >>> from statewise.testing import states
    >>> logits, better = torch.tensor([[0.5, 0.5]]).log(), Advantages(torch.tensor([2.0]))
    >>> round(Reinforce()(logits, states(1), better).item(), 4)    # 2 log 2
    1.3863
    """

    kind: ClassVar[str] = "reinforce"
    reads: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Advantages
    ) -> Float[torch.Tensor, " N"]:
        return -signal.values * sampling_logprobs(logits, states)


@dataclass(frozen=True)
class ClippedSurrogate:
    """`-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`, `r = pi(a|s) / pi_old(a|s)`.

    Schulman et al., 2017 (arXiv 1707.06347, eq. 7); `clip_high > clip_low` is DAPO's clip-higher
    (arXiv 2503.14476, section 3.1).

    >>> from statewise.testing import states
    >>> import math
    >>> logits, seen = torch.tensor([[0.5, 0.5]]).log(), states(1, old=[math.log(0.25)])    # ratio 2
    >>> [round(ClippedSurrogate()(logits, seen, Advantages(torch.tensor([a]))).item(), 4) for a in (1.0, -1.0)]
    [-1.2, 2.0]
    """

    kind: ClassVar[str] = "clipped_surrogate"
    reads: ClassVar[tuple[str, ...]] = ("old_logprobs",)
    clip_low: Share = 0.2
    clip_high: NotNegative = 0.2

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Advantages
    ) -> Float[torch.Tensor, " N"]:
        new = sampling_logprobs(logits, states)
        ratio = (new - or_now(states, new)).exp()
        return clipped(ratio, signal.values, self.clip_low, self.clip_high)


@dataclass(frozen=True)
class Cispo:
    """`-sg(clip(r, 1 - clip_low, 1 + clip_high)) A log pi(a|s)`: the weight is clipped, not the gradient.

    MiniMax, 2025 (arXiv 2506.13585, section 3.1). A token whose ratio has left the clip keeps a gradient,
    which the surrogate would drop. `clip_low` None leaves the ratio unbounded below, as they run it.

    >>> from statewise.testing import states
    >>> import math
    >>> logits, seen = torch.tensor([[0.5, 0.5]]).log(), states(1, old=[math.log(0.25)])    # ratio 2
    >>> better = Advantages(torch.tensor([1.0]))
    >>> round(Cispo(clip_high=0.5)(logits, seen, better).item(), 4)    # 1.5 log 2
    1.0397
    """

    kind: ClassVar[str] = "cispo"
    reads: ClassVar[tuple[str, ...]] = ("old_logprobs",)
    clip_low: Share | None = None
    clip_high: NotNegative = 4.0

    def __post_init__(self) -> None:
        check_clip(self.clip_low or 0.0, self.clip_high)

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Advantages
    ) -> Float[torch.Tensor, " N"]:
        new = sampling_logprobs(logits, states)
        low = 0.0 if self.clip_low is None else 1 - self.clip_low
        weight = (new.detach() - or_now(states, new)).exp().clamp(low, 1 + self.clip_high)
        return -weight * signal.values * new


def sampling_logprobs(
    logits: Float[torch.Tensor, "N V"], states: States
) -> Float[torch.Tensor, " N"]:
    """`log pi(a_n | s_n)` at the temperature the action was sampled at, nats.

    >>> from dataclasses import replace
    >>> from statewise.testing import states
    >>> warm = replace(states(1), temperature=torch.tensor([2.0]))
    >>> round(sampling_logprobs(torch.tensor([[0.8, 0.2]]).log(), warm).exp().item(), 4)    # 2 to 1
    0.3333
    """
    return fused.logprobs_of(logits, states.action_ids, states.temperature)


def clipped(
    ratio: Float[torch.Tensor, " N"], advantages: Float[torch.Tensor, " N"], low: float, high: float
) -> Float[torch.Tensor, " N"]:
    """`-min(r A, clip(r, 1 - low, 1 + high) A)`: no gain beyond the clip, no limit on a way back.

    >>> clipped(torch.tensor([1.5, 1.5]), torch.tensor([1.0, -1.0]), 0.2, 0.2).tolist()
    [-1.2000000476837158, 1.5]
    """
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def check_clip(low: float, high: float) -> None:
    """Refuse bounds that no ratio can meet.

    >>> check_clip(0.2, -0.1)
    Traceback (most recent call last):
    statewise.errors.ConfigError: clip_low lies in [0, 1] and clip_high is 0 or more \
(ratios in [1 - low, 1 + high]), found 0.2 and -0.1
    """
    if not (0 <= low <= 1 and high >= 0):
        raise ConfigError(
            f"clip_low lies in [0, 1] and clip_high is 0 or more (ratios in [1 - low, 1 + high]), "
            f"found {low} and {high}"
        )
