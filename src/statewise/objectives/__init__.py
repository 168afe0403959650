"""Axis 3. How the student is moved: `(logits of a chunk, states, signal) -> loss per state`, nats.

Pure: no mask, no padding, no reduction in here. The reduction belongs to the term's normaliser.
"""

from statewise.objectives.divergence import KLStudentTeacher, KLTeacherStudent
from statewise.objectives.likelihood import CrossEntropy
from statewise.objectives.policy_gradient import ClippedSurrogate

Objective = CrossEntropy | KLStudentTeacher | KLTeacherStudent | ClippedSurrogate

__all__ = ["ClippedSurrogate", "CrossEntropy", "KLStudentTeacher", "KLTeacherStudent", "Objective"]
