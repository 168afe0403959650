"""Axis 3. How the student is moved: `(logits of a chunk, states, signal) -> loss per state`, nats.

Pure: no mask, no padding, no reduction in here. The reduction belongs to the term's normaliser.
"""

from statewise.objectives.divergence import (
    JSD,
    EntropyGated,
    KLStudentTeacher,
    KLTeacherStudent,
)
from statewise.objectives.importance import Importance
from statewise.objectives.likelihood import CrossEntropy, DynamicFineTuning, ImportanceWeighted
from statewise.objectives.policy_gradient import Cispo, ClippedSurrogate, Reinforce
from statewise.objectives.python import PythonObjective
from statewise.objectives.sequence_ratio import SequenceRatio

Objective = (
    CrossEntropy
    | DynamicFineTuning
    | ImportanceWeighted
    | KLStudentTeacher
    | KLTeacherStudent
    | JSD
    | EntropyGated
    | Reinforce
    | ClippedSurrogate
    | Cispo
    | SequenceRatio
    | PythonObjective
)

__all__ = [
    "JSD",
    "Cispo",
    "ClippedSurrogate",
    "CrossEntropy",
    "DynamicFineTuning",
    "EntropyGated",
    "Importance",
    "ImportanceWeighted",
    "KLStudentTeacher",
    "KLTeacherStudent",
    "Objective",
    "PythonObjective",
    "Reinforce",
    "SequenceRatio",
]
