"""Divergences between student and teacher over the whole vocabulary.

Each is named by its arguments, `kl(p||q) = sum_v p_v (log p_v - log q_v)`; "forward" and "reverse"
mean opposite things in public code. The gradient treats the visited state as given: on learner
states the term by which the student's choices change *future* states is left out, so per-state
`kl(student||teacher)` is not the gradient of the sequence KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from statewise.signals import TeacherHidden
from statewise.trajectory import States


def kl(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """`kl(p||q)` from log-probabilities, nats; 0 log 0 = 0. Exact, no truncation.

    >>> import torch
    >>> log_p, log_q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(kl(log_p, log_q).item(), 4)    # 0.5 log 2 + 0.5 log(2/3)
    0.1438
    """
    # A probability of exactly 0 has log -inf: its product is 0. Any other nan is a fault and stays.
    return (log_p.exp() * (log_p - log_q).masked_fill(log_p == -math.inf, 0.0)).sum(-1)


@dataclass(frozen=True)
class KLStudentTeacher:
    """`kl(pi_S || pi_T)`: mode-seeking, the divergence of MiniLLM and of most OPD recipes (eq. 7)."""

    kind: ClassVar[str] = "kl_student_teacher"
    uses_old_logprobs: ClassVar[bool] = False

    def __call__(
        self, logits: Float[Tensor, "N V"], states: States, signal: TeacherHidden
    ) -> Float[Tensor, " N"]:
        return kl(logits.log_softmax(-1), signal.logprobs())


@dataclass(frozen=True)
class KLTeacherStudent:
    """`kl(pi_T || pi_S)`: mass-covering, the divergence of classic distillation."""

    kind: ClassVar[str] = "kl_teacher_student"
    uses_old_logprobs: ClassVar[bool] = False

    def __call__(
        self, logits: Float[Tensor, "N V"], states: States, signal: TeacherHidden
    ) -> Float[Tensor, " N"]:
        return kl(signal.logprobs(), logits.log_softmax(-1))
