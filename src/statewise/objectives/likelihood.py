"""Likelihood of the visited action, as it is and weighed by how likely it is already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from jaxtyping import Float

from statewise.errors import ConfigError
from statewise.lazy import lazy, torch
from statewise.limits import NotNegative
from statewise.objectives.policy_gradient import sampling_logprobs
from statewise.signals import Actions, Reference
from statewise.trajectory import States

if TYPE_CHECKING:
    from statewise.objectives import fused
else:
    fused = lazy("statewise.objectives.fused")


def action_logprobs(
    logits: Float[torch.Tensor, "N V"], states: States
) -> Float[torch.Tensor, " N"]:
    """`log pi(a_n | s_n)` under the full softmax, nats.

    >>> import torch
    >>> from statewise.testing import states
    >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> round(action_logprobs(logits, states(1)).item(), 4)    # log 1/4
    -1.3863
    """
    return fused.logprobs_of(logits, states.action_ids)


@dataclass(frozen=True)
class CrossEntropy:
    """`-log pi(a_n | s_n)` (eq. 5).

    >>> import torch
    >>> from statewise.testing import states
    >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> round(CrossEntropy()(logits, states(1), Actions()).item(), 4)    # log 4
    1.3863
    """

    kind: ClassVar[str] = "cross_entropy"
    reads: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Actions
    ) -> Float[torch.Tensor, " N"]:
        return -action_logprobs(logits, states)


@dataclass(frozen=True)
class DynamicFineTuning:
    """`-sg(pi(a_n | s_n)) log pi(a_n | s_n)`: cross-entropy weighed by the probability itself.

    DFT (Wu et al., 2025, arXiv 2508.05629, eq. 9). It cancels the `1 / pi` that makes the gradient of
    cross-entropy large at unlikely tokens: the gradient is that of `-pi(a_n | s_n)`. The weight is
    no part of the denominator.

    >>> import torch
    >>> from statewise.testing import states
    >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> round(DynamicFineTuning()(logits, states(1), Actions()).item(), 4)    # log 4 / 4
    0.3466
    """

    kind: ClassVar[str] = "dft"
    reads: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Actions
    ) -> Float[torch.Tensor, " N"]:
        logprobs = action_logprobs(logits, states)
        return -logprobs.detach().exp() * logprobs


@dataclass(frozen=True)
class ImportanceWeighted:
    """`-w log pi(a_n | s_n)`, `w = clip(sg(pi / pi_ref), low, high)`: a tighter bound on the return.

    iw-SFT (Qin & Springenberg, 2025, arXiv 2507.12856), whose auxiliary policy `q` is here the
    student itself. `level: sequence` takes one weight a row, the geometric mean of its tokens'
    ratios, and `token` one a token. The published code clips to [0, 16] and to [0.2, 1.8].

    Raises ConfigError for bounds that no weight can meet.

    >>> import torch
    >>> from statewise.testing import states
    >>> logits, told = torch.tensor([[0.5, 0.5]]).log(), Reference(torch.tensor([0.25]).log())
    >>> loss = ImportanceWeighted("token")(logits, states(1), told)
    >>> round(loss.item(), 4)    # 2 log 2: the student gives the token twice as much
    1.3863
    """

    kind: ClassVar[str] = "importance_weighted"
    reads: ClassVar[tuple[str, ...]] = ()
    over: ClassVar[Literal["mean"]] = "mean"
    level: Literal["sequence", "token"] = "sequence"
    low: NotNegative = 0.0
    high: NotNegative = 16.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ConfigError(f"0 <= low <= high is needed, found {self.low} and {self.high}")

    @property
    def reads_rows(self) -> bool:
        """True where the weight is the whole row's."""
        return self.level == "sequence"

    def log_ratios(self, states: States, signal: Reference) -> Float[torch.Tensor, " N"]:
        """`log pi - log pi_ref` of each action, no gradient."""
        return states.logprobs - signal.logprobs

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Reference
    ) -> Float[torch.Tensor, " N"]:
        if self.reads_rows:
            log_ratio = states.row_log_ratio
        else:
            log_ratio = sampling_logprobs(logits, states).detach() - signal.logprobs
        return -log_ratio.exp().clamp(self.low, self.high) * action_logprobs(logits, states)
