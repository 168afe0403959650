"""A second term that keeps the student near another policy."""

from __future__ import annotations

from statewise.arms.arm import Term
from statewise.objectives import Objective
from statewise.policy import PolicyLike
from statewise.supervision import TeacherDistribution


def anchor_term(first: Term, anchor: PolicyLike, objective: Objective, coefficient: float) -> Term:
    """A divergence from `anchor`, with the normaliser and the owners of `first`: sums over the same states.

    >>> from statewise.objectives import CrossEntropy, KLStudentTeacher
    >>> from statewise.policy import PolicyRef
    >>> from statewise.supervision import OwnActions
    >>> first = Term(OwnActions(), CrossEntropy(), normaliser="sequence", on=("student",))
    >>> anchored = anchor_term(first, PolicyRef("base"), KLStudentTeacher(), 0.04)
    >>> anchored.normaliser, anchored.on, anchored.coefficient
    ('sequence', ('student',), 0.04)
    """
    return Term(
        TeacherDistribution(anchor),
        objective,
        coefficient,
        first.normaliser,
        first.constant_tokens,
        first.on,
    )
