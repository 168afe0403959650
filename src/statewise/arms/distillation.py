"""Methods with a teacher."""

from __future__ import annotations

from typing import Literal

from statewise.arms.arm import Arm, Budget, Stream, Term
from statewise.data import Data, Prompts
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
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """One-step on-policy distillation: learner states, teacher distribution, a divergence (2605.22731, eq. 7)."""
    source = Learner(max_new_tokens=max_new_tokens)
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def jsd_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    beta: float = 0.5,
) -> Arm:
    """On-policy GKD: learner states alone, generalised JSD (2306.13649, lambda 1)."""
    return opd(
        name,
        prompts,
        budget,
        teacher=teacher,
        max_new_tokens=max_new_tokens,
        prompts_per_step=prompts_per_step,
        objective=JSD(beta),
    )


def topk_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    top_k: int = 32,
    support: Support = "teacher",
    objective: Objective = KLTeacherStudent(),
) -> Arm:
    """On-policy distillation on K tokens and the tail: the memory of K in place of V."""
    source = Learner(max_new_tokens=max_new_tokens)
    term = Term(TeacherDistribution(teacher, top_k=top_k, support=support), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def sampled_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    clip: float | None = None,
) -> Arm:
    """On-policy distillation of the sampled token: policy gradient on its log-ratio, discount 0."""
    source = Learner(max_new_tokens=max_new_tokens)
    term = Term(TeacherLogRatio(teacher, clip), Reinforce())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def entropy_gated_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    threshold_nats: float = EntropyGated.threshold_nats,
) -> Arm:
    """On-policy distillation that adds `kl(teacher||student)` where the teacher hesitates (2603.07079)."""
    return opd(
        name,
        prompts,
        budget,
        teacher=teacher,
        max_new_tokens=max_new_tokens,
        prompts_per_step=prompts_per_step,
        objective=EntropyGated(threshold_nats),
    )


def self_distillation(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    context: str,
    max_new_tokens: int,
    prompts_per_step: int,
    teacher: PolicyLike = PolicyRef(LIVE),
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """Privileged self-teacher: the student with the answer in its context teaches the one without.

    SDFT (2601.19897) and OPSD (2601.18734). `teacher` may also name a frozen policy, such as `base`.
    """
    source = Learner(max_new_tokens=max_new_tokens)
    term = Term(TeacherDistribution(teacher, context=Context(context)), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def continuation_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    branch_tokens: int,
    prompts_per_step: int,
) -> Arm:
    """Continuation distillation: learner roots, teacher branches, cross-entropy on the branch (2605.22731)."""
    source = Continuation(
        teacher=teacher, branch_tokens=branch_tokens, max_new_tokens=max_new_tokens
    )
    term = Term(OwnActions(), CrossEntropy(), on=("teacher",))
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def sequence_kd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    samples_per_prompt: int = 1,
) -> Arm:
    """Sequence-level distillation: teacher states, the teacher's tokens, cross-entropy (arXiv 1606.07947)."""
    source = Teacher(teacher, max_new_tokens, samples_per_prompt)
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def offline_kd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    objective: Objective = KLTeacherStudent(),
) -> Arm:
    """Offline distillation: teacher states, the teacher's distribution, a divergence (1503.02531)."""
    source = Teacher(teacher, max_new_tokens)
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def gkd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    learner_share: Scheduled = 0.5,
    per: Literal["sequence", "step"] = "sequence",
    objective: Objective = JSD(),
) -> Arm:
    """GKD: learner states with share lambda, else dataset states; JSD to the teacher's distribution (2306.13649).

    `per: step` sends a whole step to one of the two by a coin, as TRL's GKDTrainer does.
    """
    source = Mixture((Learner(max_new_tokens), Dataset()), (learner_share,), per)
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def blended_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    epsilon: Scheduled,
    max_new_tokens: int,
    prompts_per_step: int,
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """Trust-region blending: states of a behaviour near the learner, the teacher's distribution (arXiv 2605.31159)."""
    source = Blended(teacher, epsilon, max_new_tokens)
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)
