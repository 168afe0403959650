"""Update locality: where a policy moved, beside where it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statewise.errors import ConfigError, nearest
from statewise.policy import Policy
from statewise.probes.clusters import Linear, linear_mean
from statewise.probes.per_state import per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Locality:
    """One row of the update-locality matrix: how far a policy moved on each sample of states."""

    moved: Mapping[str, Estimate]
    """Mean `kl(policy || start)` by sample, nats per state."""
    index: Estimate | None
    """Movement on the trained sample over movement on the retention sample: the larger, the more local. None =
    not asked for, or the policy did not move there at all."""


def update_locality(
    policy: Policy,
    start: Policy,
    samples: Mapping[str, Sequence[Trajectory]],
    *,
    trained: str | None = None,
    retention: str | None = None,
) -> Locality:
    """Mean of `kappa(s) = kl(pi(.|s) || pi_start(.|s))` over named samples of states, and the index.

    `index = mean kappa on trained states / mean kappa on retention states`: what the update did where
    it was aimed, per unit of movement elsewhere. Larger is better kept to its place; at 1 the policy moved as far
    elsewhere, below 1 further. It says nothing of how far that is. Indexes of two policies compare where
    trained and retention samples are the same states; trained states of their own differ between learners, so
    that there the means by sample are what to compare.

    Each divergence is exact over the vocabulary; the mean is over the stored states, so the only
    error is that of the sample. It is a ratio of sums over prompts (bias of order 1/prompts); the
    index is a ratio of two such means, with the delta method's error and an interval on the logarithm, which stays
    above 0. Cost: two forward passes (the
    policy's and the start's) over the tokens of all samples.

    Source: the project's own; kappa as in RL's Razor (Shenfeld et al., 2025, arXiv 2509.04259), which
    takes it on one sample.
    Raises ConfigError where `trained` or `retention` names no sample.
    """
    for name in (trained, retention):
        if name is not None and name not in samples:
            raise ConfigError(f"no sample {name!r} of states; {nearest(name, samples)}")
    means: dict[str, Linear] = {}
    for name, trajectories in samples.items():
        table = per_state(policy, trajectories, start)
        assert table.kl_policy_reference is not None
        means[name] = linear_mean(table.kl_policy_reference, table.prompts)
    index = None
    if trained is not None and retention is not None and means[retention].value != 0:
        index = (means[trained] / means[retention]).estimate("ratio")
    return Locality({n: m.estimate("nats per state") for n, m in means.items()}, index)


def locality_matrix(
    policies: Mapping[str, Policy], start: Policy, samples: Mapping[str, Sequence[Trajectory]]
) -> dict[str, Locality]:
    """`update_locality` of several policies on the same states: rows policies, columns samples."""
    return {name: update_locality(policy, start, samples) for name, policy in policies.items()}
