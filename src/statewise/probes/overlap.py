"""The overlap family: how far student and teacher share their likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from statewise.errors import ConfigError
from statewise.lazy import torch
from statewise.objectives.divergence import entropy
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.probes.per_state import visit
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Overlap:
    """Means over the student's states; `k` likeliest tokens of each policy, full-softmax probabilities."""

    k: int
    ratio: Estimate
    """Shared tokens over k."""
    student_mass: Estimate
    """The student's probability on the shared tokens."""
    teacher_mass: Estimate
    """The teacher's probability on the shared tokens."""
    advantage: Estimate
    """Mean over the shared tokens of `pi_S(v) (log pi_T(v) - log pi_S(v))`; 0 where none is shared."""
    entropy_gap: Estimate
    """`H(teacher) - H(student)`; the sign is kept."""


def overlap(
    student: Policy, teacher: Policy, rollouts: Sequence[Trajectory], *, k: int = 16
) -> Overlap:
    """Top-k overlap at student states, in the variant "both top-k, student-weighted, not renormalised".

    With `O = topk(pi_S) & topk(pi_T)`: `ratio = |O| / k`; masses `sum over O of pi`; `advantage =
    1/|O| sum over O of pi_S (log pi_T - log pi_S)`; `entropy_gap = H(pi_T) - H(pi_S)`. Public code
    also weighs the advantage by the teacher, renormalises within O, or takes the gap's magnitude:
    numbers of different variants do not compare. Exact at each state; means with errors clustered by
    prompt. Cost: one forward pass of each policy.

    Source: Li et al., 2026 (arXiv 2604.13016).
    Raises ConfigError where k is below 1 or above the vocabulary.
    """
    if not 1 <= k <= len(student.head_weight()[0]):
        raise ConfigError(f"k must lie between 1 and the size of the vocabulary, found {k}")
    table = visit(student, teacher, rollouts, partial(_measure, k=k))

    def mean(name: str, unit: str) -> Estimate:
        return linear_mean(table[name], table.prompts).estimate(unit)

    return Overlap(
        k,
        mean("ratio", "share"),
        mean("student_mass", "probability"),
        mean("teacher_mass", "probability"),
        mean("advantage", "nats"),
        mean("entropy_gap", "nats"),
    )


def _measure(
    own: torch.Tensor, other: torch.Tensor, _action_ids: torch.Tensor, *, k: int
) -> dict[str, torch.Tensor]:
    def top(logprobs: torch.Tensor) -> torch.Tensor:
        ids = logprobs.topk(k, -1).indices
        return torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, ids, value=True)

    both = top(own) & top(other)
    count = both.sum(-1)
    gain = (own.exp() * (other - own)).masked_fill(~both, 0.0).sum(-1)
    return {
        "ratio": count / k,
        "student_mass": own.exp().masked_fill(~both, 0.0).sum(-1),
        "teacher_mass": other.exp().masked_fill(~both, 0.0).sum(-1),
        "advantage": gain / count.clamp(min=1),
        "entropy_gap": entropy(other) - entropy(own),
    }
