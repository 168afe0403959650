"""A teacher's next-token distribution at each state: whole, on K tokens, or of several teachers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from statewise.errors import ConfigError
from statewise.lazy import torch
from statewise.limits import PositiveShare, PositiveTemperature, TopTokens
from statewise.policy import Policy, PolicyLike
from statewise.signals import Labels, Mixture, Support, TeacherHidden, TopK
from statewise.supervision.context import Context
from statewise.trajectory import States, Trajectory, pad


@dataclass(frozen=True)
class TeacherDistribution:
    """`pi_T(. | s)` over the full vocabulary, at `temperature` (of the teacher's softmax).

    With `top_k`, on K tokens and the tail, chosen by `support` (see `TopK`). With `context` the
    teacher reads another prompt. `teacher: student` is the live student, which needs a context of
    its own: in the same one it would say what the student says already.

    The teacher's tokenizer must encode as the student's does; that is checked when the arm is bound
    to its policies.
    """

    kind: ClassVar[str] = "teacher_distribution"
    teacher: PolicyLike
    temperature: PositiveTemperature = 1.0
    top_k: TopTokens | None = None
    support: Support = "teacher"
    context: Context | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"the teacher's temperature must be positive and finite, found {self.temperature}"
            )
        check_top_k(self.top_k, self.support)

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """The rows that the teacher reads, where it has a context of its own."""
        if self.context is None:
            return Labels.none(len(trajectories))
        assert isinstance(self.teacher, Policy)
        return self.context.labels(trajectories, self.teacher)

    def signal(self, states: States, labels: Labels) -> TeacherHidden | TopK:
        """One trunk pass of the teacher; the head is applied later, chunk by chunk."""
        whole = read_teacher(self.teacher, states, labels, temperature=self.temperature)
        return whole if self.top_k is None else TopK(whole, self.top_k, self.support)


@dataclass(frozen=True)
class TeacherMixture:
    """Several teachers as one: `sum_i w_i pi_i(. | s)`, weights positive and of sum 1.

    `top_k` and `support` are the mixture's; its parts have neither, and no context.

    >>> from statewise.policy import PolicyRef
    >>> TeacherMixture((TeacherDistribution(PolicyRef("mild")),), (0.5,))
    Traceback (most recent call last):
    statewise.errors.ConfigError: weights must be positive and of sum 1, found [0.5] of sum 0.5
    """

    kind: ClassVar[str] = "teacher_mixture"
    teachers: tuple[TeacherDistribution, ...]
    weights: tuple[PositiveShare, ...]
    top_k: TopTokens | None = None
    support: Support = "teacher"

    def __post_init__(self) -> None:
        total = math.fsum(self.weights)
        if len(self.weights) != len(self.teachers) or not self.teachers:
            raise ConfigError(
                f"a mixture needs one weight a teacher, found {len(self.weights)} for {len(self.teachers)}"
            )
        if min(self.weights) <= 0 or not math.isclose(total, 1, abs_tol=1e-6):
            raise ConfigError(
                f"weights must be positive and of sum 1, found {list(self.weights)} of sum {total:g}"
            )
        if any(t.top_k is not None or t.context is not None for t in self.teachers):
            raise ConfigError("`top_k` belongs to the mixture, and its teachers share one context")
        check_top_k(self.top_k, self.support)

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """Nothing to prepare."""
        return Labels.none(len(trajectories))

    def signal(self, states: States, labels: Labels) -> Mixture | TopK:
        """One trunk pass a teacher."""
        parts = tuple(
            read_teacher(t.teacher, states, labels, temperature=t.temperature)
            for t in self.teachers
        )
        whole = Mixture(parts, self.weights)
        return whole if self.top_k is None else TopK(whole, self.top_k, self.support)


def read_teacher(
    teacher: PolicyLike, states: States, labels: Labels, *, temperature: float = 1.0
) -> TeacherHidden:
    """The teacher's hidden states at the states, on the rows that it reads, and its head."""
    assert isinstance(teacher, Policy)
    token_ids, lengths, column = states.token_ids, states.lengths, states.column
    if labels.rows is not None:
        device = token_ids.device
        token_ids = torch.as_tensor(pad(labels.rows, 0), device=device).long()
        lengths = torch.tensor([len(row) for row in labels.rows], device=device)
        # Both rows end in the same completion, so a state lies as far from either end.
        column = column + (lengths - states.lengths)[states.row]
    with teacher.frozen():
        hidden = teacher.hidden_at(token_ids, lengths, states.row, column - 1)
    weight, bias = teacher.head_weight()
    return TeacherHidden(
        hidden.to(weight.dtype),
        weight.detach(),
        None if bias is None else bias.detach(),
        temperature,
        teacher.logits,
    )


def check_top_k(top_k: int | None, support: Support) -> None:
    """Refuse a support without K, and a K below 1.

    >>> check_top_k(None, "student")
    Traceback (most recent call last):
    statewise.errors.ConfigError: support 'student' says whose top K: give `top_k` too
    """
    if top_k is None and support != "teacher":
        raise ConfigError(f"support {support!r} says whose top K: give `top_k` too")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be 1 or more, found {top_k}")
