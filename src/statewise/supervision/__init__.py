"""Axis 2. What is said at each state.

`label` runs once a rollout and may read text and whole groups; `signal` runs once a micro-batch on
the device and may run a teacher. The type of the signal decides which objectives accept it.
"""

from statewise.supervision.actions import OwnActions
from statewise.supervision.advantage import GroupAdvantage
from statewise.supervision.teacher import TeacherDistribution

Supervision = OwnActions | TeacherDistribution | GroupAdvantage

__all__ = ["GroupAdvantage", "OwnActions", "Supervision", "TeacherDistribution"]
