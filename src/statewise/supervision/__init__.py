"""Axis 2. What is said at each state.

`label` runs once a rollout and may read text and whole groups; `signal` runs once a micro-batch on
the device and may run a teacher; `states.weights` is 0 where its term does not speak. The type of the
signal decides which objectives accept it.
"""

from statewise.supervision.actions import OwnActions, ReferenceActions
from statewise.supervision.advantage import (
    ConstantAdvantage,
    GroupAdvantage,
    LeaveOneOut,
    RewardBaseline,
)
from statewise.supervision.context import Context
from statewise.supervision.log_ratio import TeacherLogRatio
from statewise.supervision.process import ProcessReward
from statewise.supervision.python import PythonSupervision
from statewise.supervision.teacher import TeacherDistribution, TeacherMixture, read_teacher

Supervision = (
    OwnActions
    | ReferenceActions
    | TeacherDistribution
    | TeacherMixture
    | TeacherLogRatio
    | GroupAdvantage
    | LeaveOneOut
    | RewardBaseline
    | ProcessReward
    | ConstantAdvantage
    | PythonSupervision
)

__all__ = [
    "ConstantAdvantage",
    "Context",
    "GroupAdvantage",
    "LeaveOneOut",
    "OwnActions",
    "ProcessReward",
    "PythonSupervision",
    "ReferenceActions",
    "RewardBaseline",
    "Supervision",
    "TeacherDistribution",
    "TeacherLogRatio",
    "TeacherMixture",
    "read_teacher",
]
