"""Likelihood of the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from statewise.signals import Actions
from statewise.trajectory import States


def action_logprobs(logits: Float[Tensor, "N V"], states: States) -> Float[Tensor, " N"]:
    """`log pi(a_n | s_n)` under the full softmax, nats."""
    return logits.log_softmax(-1).gather(-1, states.action_ids[:, None]).squeeze(-1)


@dataclass(frozen=True)
class CrossEntropy:
    """`-log pi(a_n | s_n)` (eq. 5)."""

    kind: ClassVar[str] = "cross_entropy"
    uses_old_logprobs: ClassVar[bool] = False

    def __call__(
        self, logits: Float[Tensor, "N V"], states: States, signal: Actions
    ) -> Float[Tensor, " N"]:
        return -action_logprobs(logits, states)
