"""More methods: each says in a line or two which value stands on which axis (see `arms`)."""

from __future__ import annotations

from dataclasses import replace

from statewise.arms import Arm, Budget, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import (
    ClippedSurrogate,
    CrossEntropy,
    KLStudentTeacher,
    KLTeacherStudent,
    Objective,
)
from statewise.policy import PolicyLike, PolicyRef
from statewise.rewards import ExactAnswer, Reward
from statewise.sources import (
    Blended,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    PrefixReset,
    Replay,
    Scheduled,
    Teacher,
)
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution


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
    """Offline distillation: teacher states, the teacher's distribution, a divergence."""
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
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """GKD: learner states with share lambda, else dataset states; the teacher's distribution (arXiv 2306.13649)."""
    source = Mixture((Learner(max_new_tokens), Dataset()), (learner_share,))
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def rejection_sft(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    sampler: PolicyLike = PolicyRef("base"),
    reward: Reward = ExactAnswer(),
    threshold: float = 1.0,
) -> Arm:
    """Rejection fine-tuning: a frozen policy's samples that are correct, cross-entropy (arXiv 2308.01825)."""
    source = Filtered(Teacher(sampler, max_new_tokens, samples_per_prompt), reward, threshold)
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def iterative_sft(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    threshold: float = 1.0,
) -> Arm:
    """Iterative fine-tuning: the learner's own correct samples, cross-entropy (arXiv 2203.14465, without restarts).

    A round is a step: its rollout serves `budget.passes` passes of `budget.minibatches` updates.
    """
    source = Filtered(Learner(max_new_tokens, samples_per_prompt), reward, threshold)
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def prefix_reset_rl(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    teacher: PolicyLike | None = None,
    probability: Scheduled = 0.5,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
) -> Arm:
    """RL with resets: the learner continues gold or teacher prefixes, group advantage (arXiv 2306.11816)."""
    source = PrefixReset(
        max_new_tokens, teacher, probability, samples_per_prompt=samples_per_prompt
    )
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
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


def with_replay(
    arm: Arm,
    *,
    share: Scheduled,
    age_limit: int | None = None,
    capacity: int | None = None,
) -> Arm:
    """The same arm on stale states: every stream of learner states replays `share` of its rollouts."""
    streams = [
        replace(stream, source=Replay(stream.source, share, age_limit, capacity))
        if "student" in stream.source.owners and not isinstance(stream.source, Replay)
        else stream
        for stream in arm.streams
    ]
    return replace(arm, streams=tuple(streams))


def with_rehearsal(
    arm: Arm, prompts: Data | Prompts, *, prompts_per_step: int, share: float = 1.0
) -> Arm:
    """The same arm with a second stream: gold tokens of other data, so that they are not forgotten.

    `sft` with rehearsal is two streams of one shape; the loss of the second is multiplied by `share`.
    """
    term = Term(OwnActions(), CrossEntropy())
    rehearsal = Stream(prompts, Dataset(), (term,), prompts_per_step, share)
    return replace(arm, streams=(*arm.streams, rehearsal))
