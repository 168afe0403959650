"""Signal mass: is what a teacher says about content or about format?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np

from statewise.errors import ConfigError, DataError
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.probes.per_state import per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory

ENTROPIES = (0.1, 1.0)
"""Nats: below the first the student does not hesitate, above the second it does."""
DIVERGENCES = (0.01, 0.1)
"""Nats: below the first the two agree, above the second they do not."""


@dataclass(frozen=True, slots=True)
class Cell:
    """States whose student entropy and divergence from the teacher lie in these ranges."""

    entropy: str
    divergence: str
    states: Estimate
    """Share of the states."""
    mass: Estimate
    """Share of the summed `|log pi_T(a|s) - log pi_S(a|s)|`."""


def signal_mass(
    student: Policy,
    teacher: Policy,
    rollouts: Sequence[Trajectory],
    *,
    entropies: Sequence[float] = ENTROPIES,
    divergences: Sequence[float] = DIVERGENCES,
) -> tuple[Cell, ...]:
    """Share of `|l|`, `l = log pi_T(a|s) - log pi_S(a|s)`, by student entropy and by `kl(S||T)`.

    `mass = sum over states of the cell |l| / sum over all |l|`. Edges are fixed numbers, so that
    arms are compared on one scale. Exact at each state; the shares are ratios of sums over prompts
    (bias of order 1/prompts, error clustered). A cell without a state is there with share 0 and an
    unknown error: left out, a mean over seeds would only be over those that have it, and the grid would
    sum to more than 1. Cost: one forward pass of each policy.

    Source: entropy x divergence as in TIP (Xu et al., 2026, arXiv 2604.14084); the edges are ours.
    Raises DataError where student and teacher agree on every token: no signal has no shares.
    """
    for edges in (entropies, divergences):
        if list(edges) != sorted(set(edges)):
            raise ConfigError(f"edges of a bucket must rise, found {list(edges)}")
    table = per_state(student, rollouts, teacher)
    assert table.reference_logprob is not None
    assert table.kl_policy_reference is not None
    size = np.abs(table.reference_logprob - table.logprob)
    if not size.any():
        raise DataError(
            "student and teacher agree on every token of the sample: there is no signal"
        )
    cells = []
    for low, high in pairwise([-inf, *entropies, inf]):
        for near, far in pairwise([-inf, *divergences, inf]):
            held = (table.entropy >= low) & (table.entropy < high)
            held &= (table.kl_policy_reference >= near) & (table.kl_policy_reference < far)
            inside = held.astype(np.float64)
            states = linear_mean(inside, table.prompts)
            mass = linear_mean(inside, table.prompts, weights=size)
            cells.append(
                Cell(
                    _range(low, high),
                    _range(near, far),
                    states.estimate("share"),
                    mass.estimate("share"),
                )
            )
    return tuple(cells)


def _range(low: float, high: float) -> str:
    """A range in words.

    >>> _range(-inf, 0.1), _range(0.1, 1.0), _range(1.0, inf)
    ('<0.1', '0.1-1', '>=1')
    """
    if low == -inf:
        return f"<{high:g}"
    return f">={low:g}" if high == inf else f"{low:g}-{high:g}"
