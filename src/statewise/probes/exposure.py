"""Exposure gap: do student and teacher disagree more where the student went than where the teacher goes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from statewise.policy import Policy
from statewise.probes.clusters import DEPTHS, depth_bins, linear_mean
from statewise.probes.per_state import PerState, per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory

Direction = Literal["kl_student_teacher", "kl_teacher_student"]


@dataclass(frozen=True, slots=True)
class Excess:
    """The divergence at one bin of depth, on the states of each."""

    depth: str
    on_student: Estimate
    on_teacher: Estimate
    excess: Estimate
    """`on_student - on_teacher`, nats."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """The gap over all states, and along depth."""

    gap: Estimate
    by_depth: tuple[Excess, ...]


def exposure_gap(
    student: Policy,
    teacher: Policy,
    *,
    student_rollouts: Sequence[Trajectory],
    teacher_rollouts: Sequence[Trajectory],
    direction: Direction = "kl_teacher_student",
    depths: Sequence[int] = DEPTHS,
) -> Exposure:
    """`E_{s ~ d^S} D(s) - E_{s ~ d^T} D(s)`, one divergence on the states of student and teacher.

    A student that imitates well where it was taught and badly where its own mistakes lead has a gap
    that grows with depth. Exact at each state; means over states, error clustered by prompt and paired
    where both samples share prompts. The overall gap compares samples of different depths as well: the
    excess by depth does not. Cost: one forward pass of each policy over both samples.

    Source: accumulated error in excess of the oracle's (Arora et al., 2022, arXiv 2204.01171, section
    3), here as a difference and not as a ratio, which has no finite mean where the teacher's part is near 0.
    """
    mine, theirs = (
        per_state(student, rollouts, teacher) for rollouts in (student_rollouts, teacher_rollouts)
    )
    own, other = _values(mine, direction), _values(theirs, direction)
    gap = linear_mean(own, mine.prompts) - linear_mean(other, theirs.prompts)
    bins = []
    there = dict(depth_bins(theirs.depth, depths))
    for b, held in depth_bins(mine.depth, depths):
        if b not in there:
            continue
        a = linear_mean(own, mine.prompts, held)
        c = linear_mean(other, theirs.prompts, there[b])
        bins.append(
            Excess(b.name, a.estimate("nats"), c.estimate("nats"), (a - c).estimate("nats"))
        )
    return Exposure(gap.estimate("nats per state"), tuple(bins))


def _values(table: PerState, direction: Direction) -> np.ndarray:
    found = (
        table.kl_policy_reference
        if direction == "kl_student_teacher"
        else table.kl_reference_policy
    )
    assert found is not None
    return found
