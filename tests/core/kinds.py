"""An example or more of every supervision and every objective, for what all of them must keep.

The keys are the unions' members: a new kind without an example is a KeyError as tests are collected.
Policies are named; `bound` puts some in their place.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args

import torch

from statewise.arms import bind
from statewise.objectives import (
    JSD,
    Cispo,
    ClippedSurrogate,
    CrossEntropy,
    DynamicFineTuning,
    EntropyGated,
    ImportanceWeighted,
    KLStudentTeacher,
    KLTeacherStudent,
    Objective,
    PythonObjective,
    Reinforce,
    SequenceRatio,
)
from statewise.policy import Policy, PolicyRef
from statewise.rewards import ExactAnswer, Outcome
from statewise.signals import Advantages, Labels
from statewise.supervision import (
    ConstantAdvantage,
    Context,
    GroupAdvantage,
    LeaveOneOut,
    OwnActions,
    ProcessReward,
    PythonSupervision,
    ReferenceActions,
    RewardBaseline,
    Supervision,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
    read_teacher,
)

MILD, OTHER = PolicyRef("mild"), PolicyRef("other")
OPEN = Context("{question}{demonstration}")
TOLD, REWARD = TeacherDistribution(MILD), ExactAnswer()
BOTH = TeacherMixture((TOLD, TeacherDistribution(OTHER)), (0.5, 0.5))

SUPERVISIONS: dict[type, tuple[Supervision, ...]] = {
    OwnActions: (OwnActions(),),
    ReferenceActions: (ReferenceActions(MILD),),
    TeacherDistribution: (
        TOLD,
        TeacherDistribution(MILD, top_k=2, support="union"),
        TeacherDistribution(MILD, context=OPEN),
    ),
    TeacherMixture: (BOTH, replace(BOTH, top_k=1)),
    TeacherLogRatio: (
        TeacherLogRatio(MILD, clip=1.0, discount=0.5),
        TeacherLogRatio(MILD, context=OPEN),
    ),
    GroupAdvantage: (GroupAdvantage(REWARD), GroupAdvantage(REWARD, scale="none")),
    LeaveOneOut: (LeaveOneOut(REWARD),),
    RewardBaseline: (RewardBaseline(REWARD, 0.25), RewardBaseline(REWARD)),
    ProcessReward: (ProcessReward(Outcome(REWARD), discount=0.5, baseline=0.3),),
    ConstantAdvantage: (ConstantAdvantage(),),
    PythonSupervision: (
        PythonSupervision("kinds:Ones", "advantages"),
        PythonSupervision("kinds:Doubt", "advantages", MILD),
        PythonSupervision("kinds:Told", "distribution", MILD, OPEN, {"temperature": 2.0}),
    ),
}
OBJECTIVES: dict[type, tuple[Objective, ...]] = {
    CrossEntropy: (CrossEntropy(),),
    DynamicFineTuning: (DynamicFineTuning(),),
    ImportanceWeighted: (ImportanceWeighted(), ImportanceWeighted("token")),
    KLStudentTeacher: (KLStudentTeacher(),),
    KLTeacherStudent: (KLTeacherStudent(),),
    JSD: (JSD(0.0), JSD(0.25), JSD(1.0)),
    EntropyGated: (EntropyGated(),),
    Reinforce: (Reinforce(),),
    ClippedSurrogate: (ClippedSurrogate(),),
    Cispo: (Cispo(),),
    SequenceRatio: (SequenceRatio(), SequenceRatio(over="sum")),
    PythonObjective: (
        PythonObjective("kinds:first_logit", "actions"),
        PythonObjective("kinds:first_logit", "distribution"),
        PythonObjective("kinds:first_logit", "advantages"),
        PythonObjective("kinds:first_logit", "reference"),
    ),
}
EVERY_SUPERVISION = [s for kind in get_args(Supervision) for s in SUPERVISIONS[kind]]
EVERY_OBJECTIVE = [o for kind in get_args(Objective) for o in OBJECTIVES[kind]]


def bound(value: Any, **policies: Policy) -> Any:
    """The same value with these policies in place of their names."""
    return bind(value, lambda ref: policies[ref.name], lambda stream: stream.prompts)


def exchanged(value: Any, old: Policy, new: Policy) -> Any:
    """The same value with another policy wherever it held `old`."""
    if value is old:
        return new
    if isinstance(value, tuple):
        return tuple(exchanged(item, old, new) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        return replace(value, **{k: exchanged(v, old, new) for k, v in named.items()})
    return value


# ---- as a user would write them -----------------------------------------------------------------


class Ones:
    """A supervision without a teacher."""

    def label(self, trajectories):
        return Labels.none(len(trajectories))

    def signal(self, states, labels):
        return Advantages(torch.ones(len(states)))


class Doubt:
    """Minus the teacher's log-prob of each action: one that asks a teacher by itself."""

    def __init__(self, teacher):
        self.teacher = teacher

    def label(self, trajectories):
        return Labels.none(len(trajectories))

    def signal(self, states, labels):
        token_ids, lengths = states.token_ids, states.lengths
        hidden = self.teacher.hidden(token_ids, lengths)[states.row, states.column - 1]
        logprobs = self.teacher.head(hidden).log_softmax(-1)
        return Advantages(-logprobs.gather(-1, states.action_ids[:, None]).squeeze(-1))


class Told:
    """The teacher's distribution on rows of its own: what `teacher_distribution` does."""

    def __init__(self, teacher, context, temperature):
        self.teacher, self.context, self.temperature = teacher, context, temperature

    def label(self, trajectories):
        return self.context.labels(trajectories, self.teacher)

    def signal(self, states, labels):
        return read_teacher(self.teacher, states, labels, temperature=self.temperature)


def first_logit(logits, states, signal):
    """An objective that no other state touches."""
    return logits[:, 0] ** 2


def named(value: object) -> str:
    """The id of a parameter: what `str` says but for addresses, for processes that share tests compare ids."""
    return re.sub(r" object at 0x[0-9a-f]+", "", str(value))
