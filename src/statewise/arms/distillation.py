"""Methods with a teacher."""

from __future__ import annotations

from typing import Literal

from statewise.arms.arm import Method, Term
from statewise.limits import NotNegative, Positive, Samples, Share, Tokens, TopTokens
from statewise.objectives import (
    JSD,
    CrossEntropy,
    EntropyGated,
    KLStudentTeacher,
    KLTeacherStudent,
    Objective,
    Reinforce,
)
from statewise.policy import LIVE, PolicyLike, PolicyRef
from statewise.signals import Support
from statewise.sources import Blended, Continuation, Dataset, Learner, Mixture, Scheduled, Teacher
from statewise.supervision import Context, OwnActions, TeacherDistribution, TeacherLogRatio


def opd(
    *, teacher: PolicyLike, max_new_tokens: Tokens, objective: Objective = KLStudentTeacher()
) -> Method:
    """One-step on-policy distillation: learner states, teacher distribution, a divergence (2605.22731, eq. 7)."""
    return Method(Learner(max_new_tokens), (Term(TeacherDistribution(teacher), objective),))


def jsd_opd(*, teacher: PolicyLike, max_new_tokens: Tokens, beta: Share = 0.5) -> Method:
    """On-policy GKD: learner states alone, generalised JSD (2306.13649, lambda 1)."""
    return opd(teacher=teacher, max_new_tokens=max_new_tokens, objective=JSD(beta))


def topk_opd(
    *,
    teacher: PolicyLike,
    max_new_tokens: Tokens,
    top_k: TopTokens = 32,
    support: Support = "teacher",
    objective: Objective = KLTeacherStudent(),
) -> Method:
    """On-policy distillation on K tokens and the tail: the memory of K in place of V."""
    term = Term(TeacherDistribution(teacher, top_k=top_k, support=support), objective)
    return Method(Learner(max_new_tokens), (term,))


def sampled_opd(
    *, teacher: PolicyLike, max_new_tokens: Tokens, clip: Positive | None = None
) -> Method:
    """On-policy distillation of the sampled token: policy gradient on its log-ratio, discount 0."""
    return Method(Learner(max_new_tokens), (Term(TeacherLogRatio(teacher, clip), Reinforce()),))


def entropy_gated_opd(
    *,
    teacher: PolicyLike,
    max_new_tokens: Tokens,
    threshold_nats: NotNegative = EntropyGated.threshold_nats,
) -> Method:
    """On-policy distillation that adds `kl(teacher||student)` at states where the teacher is uncertain (2603.07079)."""
    objective = EntropyGated(threshold_nats)
    return opd(teacher=teacher, max_new_tokens=max_new_tokens, objective=objective)


def self_distillation(
    *,
    context: str,
    max_new_tokens: Tokens,
    teacher: PolicyLike = PolicyRef(LIVE),
    objective: Objective = KLStudentTeacher(),
) -> Method:
    """Privileged self-teacher: the student with the answer in its context teaches the one without.

    SDFT (2601.19897) and OPSD (2601.18734). `teacher` may also name a frozen policy, such as `base`.
    """
    term = Term(TeacherDistribution(teacher, context=Context(context)), objective)
    return Method(Learner(max_new_tokens), (term,))


def continuation_opd(
    *, teacher: PolicyLike, max_new_tokens: Tokens, branch_tokens: Tokens
) -> Method:
    """Continuation distillation: learner roots, teacher branches, cross-entropy on the branch (2605.22731)."""
    source = Continuation(
        teacher=teacher, branch_tokens=branch_tokens, max_new_tokens=max_new_tokens
    )
    return Method(source, (Term(OwnActions(), CrossEntropy(), on=("teacher",)),))


def sequence_kd(
    *, teacher: PolicyLike, max_new_tokens: Tokens, samples_per_prompt: Samples = 1
) -> Method:
    """Sequence-level distillation: teacher states, the teacher's tokens, cross-entropy (arXiv 1606.07947)."""
    source = Teacher(teacher, max_new_tokens, samples_per_prompt)
    return Method(source, (Term(OwnActions(), CrossEntropy()),))


def offline_kd(
    *, teacher: PolicyLike, max_new_tokens: Tokens, objective: Objective = KLTeacherStudent()
) -> Method:
    """Offline distillation: teacher states, the teacher's distribution, a divergence (1503.02531)."""
    source = Teacher(teacher, max_new_tokens)
    return Method(source, (Term(TeacherDistribution(teacher), objective),))


def gkd(
    *,
    teacher: PolicyLike,
    max_new_tokens: Tokens,
    learner_share: Scheduled = 0.5,
    per: Literal["sequence", "step"] = "sequence",
    objective: Objective = JSD(),
) -> Method:
    """GKD: learner states with share lambda, else dataset states; JSD to the teacher's distribution (2306.13649).

    `per: step` sends a whole step to one of the two by a coin flip, as TRL's GKDTrainer does.
    """
    source = Mixture((Learner(max_new_tokens), Dataset()), (learner_share,), per)
    return Method(source, (Term(TeacherDistribution(teacher), objective),))


def blended_opd(
    *,
    teacher: PolicyLike,
    epsilon: Scheduled,
    max_new_tokens: Tokens,
    objective: Objective = KLStudentTeacher(),
) -> Method:
    """Trust-region blending: states of a behaviour near the learner, the teacher's distribution (arXiv 2605.31159)."""
    source = Blended(teacher, epsilon, max_new_tokens)
    return Method(source, (Term(TeacherDistribution(teacher), objective),))
