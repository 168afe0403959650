"""Divergences between student and teacher over the vocabulary, or over K tokens and the tail.

Each is named by its arguments, `kl(p||q) = sum_v p_v (log p_v - log q_v)`; "forward" and "reverse"
mean opposite things in public code. The gradient treats the visited state as given: on learner
states the term by which the student's choices change *future* states is left out, so per-state
`kl(student||teacher)` is not the gradient of the sequence KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float

from statewise.errors import ConfigError
from statewise.lazy import lazy, torch
from statewise.limits import NotNegative, Share
from statewise.signals import Mixture, TeacherHidden, TopK
from statewise.trajectory import States

if TYPE_CHECKING:
    from statewise.objectives import fused
else:
    fused = lazy("statewise.objectives.fused")


def kl(
    log_p: Float[torch.Tensor, "N S"], log_q: Float[torch.Tensor, "N S"]
) -> Float[torch.Tensor, " N"]:
    """`kl(p||q)` from log-probabilities, nats; 0 log 0 = 0. Exact, no truncation.

    >>> import torch
    >>> log_p, log_q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(kl(log_p, log_q).item(), 4)    # 0.5 log 2 + 0.5 log(2/3)
    0.1438
    """
    # A probability of exactly 0 has log -inf: its product is 0. Any other nan is a fault and stays.
    return (log_p.exp() * (log_p - log_q).masked_fill(log_p == -math.inf, 0.0)).sum(-1)


def jsd(
    student: Float[torch.Tensor, "N S"], teacher: Float[torch.Tensor, "N S"], beta: float
) -> Float[torch.Tensor, " N"]:
    """`beta kl(T||M) + (1 - beta) kl(S||M)`, `M = beta T + (1 - beta) S`, from log-probabilities, nats.

    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> [round(jsd(student, teacher, beta).item(), 4) for beta in (0.0, 0.5, 1.0)]
    [0.1308, 0.0338, 0.1438]
    """
    if beta in (0, 1):
        return kl(student, teacher) if beta else kl(teacher, student)
    middle = torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))
    return beta * kl(teacher, middle) + (1 - beta) * kl(student, middle)


def divergence(
    logits: Float[torch.Tensor, "N V"], signal: TeacherHidden | Mixture | TopK, beta: float
) -> Float[torch.Tensor, " N"]:
    """`jsd` between the student's logits and a signal: one kernel over whole vocabularies, else the plain formula.

    >>> logits, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> told = TeacherHidden(teacher, torch.eye(2))
    >>> [round(divergence(logits, told, beta).item(), 4) for beta in (0.0, 1.0)]
    [0.1308, 0.1438]
    """
    width = logits.shape[-1]
    whole = signal.whole if isinstance(signal, TopK) and signal.covers(width) else signal
    # A probability of exactly 0 has log -inf, which the kernel does not know.
    if (
        not isinstance(whole, TopK)
        and whole.width == width
        and not bool((logits.detach().amin(-1) == -math.inf).any())
    ):
        return fused.divergence_of(logits, whole.logprobs(), beta)
    student, teacher = signal.compare(logits.log_softmax(-1))
    return jsd(student, teacher, beta)


def entropy(log_p: Float[torch.Tensor, "N S"]) -> Float[torch.Tensor, " N"]:
    """`-sum_v p_v log p_v`, nats.

    >>> round(entropy(torch.tensor([[0.5, 0.25, 0.25]]).log()).item(), 4)    # 1.5 log 2
    1.0397
    """
    return -kl(log_p, torch.zeros_like(log_p))


@dataclass(frozen=True)
class KLStudentTeacher:
    """`kl(pi_S || pi_T)`: mode-seeking, the divergence of MiniLLM and of most OPD recipes (eq. 7).

    >>> from statewise.testing import states
    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> loss = KLStudentTeacher()(student, states(0), TeacherHidden(teacher, torch.eye(2)))
    >>> round(loss.item(), 4)    # 0.5 log 2 + 0.5 log(2/3)
    0.1438
    """

    kind: ClassVar[str] = "kl_student_teacher"
    reads: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self,
        logits: Float[torch.Tensor, "N V"],
        states: States,
        signal: TeacherHidden | Mixture | TopK,
    ) -> Float[torch.Tensor, " N"]:
        return divergence(logits, signal, 1.0)


@dataclass(frozen=True)
class KLTeacherStudent:
    """`kl(pi_T || pi_S)`: mass-covering, the divergence of classic distillation.

    >>> from statewise.testing import states
    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> loss = KLTeacherStudent()(student, states(0), TeacherHidden(teacher, torch.eye(2)))
    >>> round(loss.item(), 4)    # 0.25 log(1/2) + 0.75 log(3/2)
    0.1308
    """

    kind: ClassVar[str] = "kl_teacher_student"
    reads: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self,
        logits: Float[torch.Tensor, "N V"],
        states: States,
        signal: TeacherHidden | Mixture | TopK,
    ) -> Float[torch.Tensor, " N"]:
        return divergence(logits, signal, 0.0)


@dataclass(frozen=True)
class JSD:
    """`beta kl(T||M) + (1 - beta) kl(S||M)`, `M = beta T + (1 - beta) S`: the generalised JSD.

    GKD (Agarwal et al., 2024, arXiv 2306.13649, section 2). At beta 0 and 1 the formula is 0; there it
    stands for its limits over beta and over 1 - beta, as in TRL: 0 is `kl(T||S)`, 1 is `kl(S||T)`.
    At 0.5 it is symmetric and at most log 2.

    Raises ConfigError where beta lies outside [0, 1].

    >>> from statewise.testing import states
    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> loss = JSD(0.5)(student, states(0), TeacherHidden(teacher, torch.eye(2)))
    >>> round(loss.item(), 4)    # M = 3/8, 5/8: 0.5 kl(T||M) + 0.5 kl(S||M)
    0.0338
    """

    kind: ClassVar[str] = "jsd"
    reads: ClassVar[tuple[str, ...]] = ()
    beta: Share = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta lies in [0, 1], found {self.beta}")

    def __call__(
        self,
        logits: Float[torch.Tensor, "N V"],
        states: States,
        signal: TeacherHidden | Mixture | TopK,
    ) -> Float[torch.Tensor, " N"]:
        return divergence(logits, signal, self.beta)


@dataclass(frozen=True)
class EntropyGated:
    """`kl(S||T) + [H(T) > threshold_nats] kl(T||S)`: covers the teacher where it hesitates.

    Jin et al., 2026 (arXiv 2603.07079). The entropy is of the compared support: with top-k
    teachers, of K tokens and the tail. The threshold is a choice of ours.

    >>> from statewise.testing import states
    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> told = TeacherHidden(teacher, torch.eye(2))    # its entropy is 0.562 nats
    >>> [round(EntropyGated(t)(student, states(0), told).item(), 4) for t in (0.6, 0.5)]
    [0.1438, 0.2747]
    """

    kind: ClassVar[str] = "entropy_gated"
    reads: ClassVar[tuple[str, ...]] = ()
    threshold_nats: NotNegative = 0.8

    def __call__(
        self,
        logits: Float[torch.Tensor, "N V"],
        states: States,
        signal: TeacherHidden | Mixture | TopK,
    ) -> Float[torch.Tensor, " N"]:
        student, teacher = signal.compare(logits.log_softmax(-1))
        hesitates = entropy(teacher) > self.threshold_nats
        return kl(student, teacher) + torch.where(hesitates, kl(teacher, student), 0.0)
