"""Teacher fidelity by depth: how sure a teacher is of what it says along a student's rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statewise.policy import Policy
from statewise.probes.clusters import DEPTHS, depth_bins, linear_mean
from statewise.probes.per_state import per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The teacher at the student's states of one bin of depth."""

    depth: str
    entropy: Estimate
    margin: Estimate
    """Log-prob of the teacher's likeliest token minus that of its second."""
    logprob: Estimate
    """The teacher's log-prob of the student's token."""
    agreement: Estimate
    """Share of states where that token is the teacher's likeliest; a tie counts."""


def teacher_fidelity(
    teacher: Policy, rollouts: Sequence[Trajectory], *, depths: Sequence[int] = DEPTHS
) -> tuple[Fidelity, ...]:
    """Entropy, top-1 margin and log-prob of the student's tokens under the teacher, by depth.

    `H(pi_T(.|s))`, `log p_(1) - log p_(2)`, `log pi_T(a|s)`: exact at each state, averaged over the
    states of a bin with the error clustered by prompt. Deeper bins hold only rollouts that got there,
    so a change along depth is one of the survivors. Cost: one forward pass of the teacher.

    Source: decay of supervision along the rollout, as in Li et al., 2026 (arXiv 2604.13016).
    """
    table = per_state(teacher, rollouts)

    def mean(values, held, unit: str) -> Estimate:
        return linear_mean(values, table.prompts, held).estimate(unit)

    return tuple(
        Fidelity(
            depth=b.name,
            entropy=mean(table.entropy, held, "nats"),
            margin=mean(table.margin, held, "nats"),
            logprob=mean(table.logprob, held, "nats"),
            agreement=mean(table.greedy, held, "share"),
        )
        for b, held in depth_bins(table.depth, depths)
    )
