"""Signal tail: the extreme values of a teacher's log-ratio, and what a clip takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.errors import ConfigError
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.probes.per_state import per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory

LARGE = 5.0
"""Nats: beyond it the teacher thinks a token 148 times as likely, or as unlikely, as the student."""


@dataclass(frozen=True, slots=True)
class SignalTail:
    """The distribution of `|log pi_T(a|s) - log pi_S(a|s)|` over states, in nats."""

    mean: Estimate
    """Of the signed log-ratio; on the student's own states its expectation is `-kl(S||T)`."""
    p50: Estimate
    p90: Estimate
    p99: Estimate
    largest: Estimate
    above: Estimate
    """Share of states with a magnitude above 5 nats."""
    clipped: Estimate
    """Share of states that the clip touches."""
    removed: Estimate
    """Share of the summed magnitude that the clip takes away."""


def signal_tail(
    student: Policy, teacher: Policy, rollouts: Sequence[Trajectory], *, clip: float = 1.0
) -> SignalTail:
    """Quantiles of the sampled token's log-ratio, the share above 5 nats, the share a clip removes.

    `l(s, a) = log pi_T(a|s) - log pi_S(a|s)` is the per-token reward of sampled on-policy
    distillation; `removed = sum max(|l| - clip, 0) / sum |l|`. Log-ratios are exact; quantiles are
    those of the sample, whose tail is biased low (the 99th percentile of n states rests on n/100 of
    them) and whose error is not given. Means and shares: error clustered by prompt. Cost: one forward
    pass of each policy.

    Source: the sampled form of on-policy distillation; quantiles and threshold are the project's own.
    Raises ConfigError where `clip` is not above 0.
    """
    if not clip > 0:
        raise ConfigError(f"clip must be above 0, found {clip}")
    table = per_state(student, rollouts, teacher)
    assert table.reference_logprob is not None
    ratio = table.reference_logprob - table.logprob
    size = np.abs(ratio)

    def share(values: np.ndarray, weights: np.ndarray | None = None) -> Estimate:
        found = linear_mean(values.astype(np.float64), table.prompts, weights=weights)
        return found.estimate("share")

    def quantile(level: float) -> Estimate:
        return Estimate(float(np.quantile(size, level)), None, len(size), "nats")

    over = np.maximum(size - clip, 0.0) / np.where(size > 0, size, 1.0)
    return SignalTail(
        mean=linear_mean(ratio, table.prompts).estimate("nats"),
        p50=quantile(0.5),
        p90=quantile(0.9),
        p99=quantile(0.99),
        largest=quantile(1.0),
        above=share(size > LARGE),
        clipped=share(size > clip),
        removed=share(over, weights=size) if size.any() else share(over),
    )
