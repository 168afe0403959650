"""Reachability: how likely the policy itself would be to arrive at the states it is taught on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.probes.clusters import Linear, linear_mean
from statewise.probes.per_state import PerState, per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory

LOW = 0.05
"""States whose rank lies in this lowest share count as hardly visited."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """Where training states lie among the states that the policy visits at the same depth."""

    percentile: Estimate
    """Mean over training states; 0.5 for states of the policy's own, near 0 for foreign ones."""
    hardly_visited: Estimate
    """Share of training states among the least likely 5 % of the policy's own; 0.05 for its own states."""
    logprob: Estimate
    """Mean over training states of `(1/t) log pi(y_<t | x)`, nats per token."""
    beyond: float
    """Share of training states deeper than any of the policy's own, which have no percentile."""


def reachability(
    policy: Policy, training: Sequence[Trajectory], own: Sequence[Trajectory]
) -> Reachability:
    """Percentile of `(1/t) log pi(y_<t | x)` of training states among the policy's own at depth t.

    States of depth 0 are prompts, which nobody chose: they are left out. Ties count half, so that the
    mean percentile of the policy's own states is 0.5 exactly in expectation; comparing at equal depth
    matters because the spread of a mean over t tokens falls with t.

    `own` are rollouts of this policy at temperature 1 on the same kind of prompts. The mean
    percentile is a two-sample U statistic (unbiased, up to the depths that `own` does not reach,
    whose share is `beyond`); its error counts both samples, clustered by prompt.

    `hardly_visited` is the share of states whose rank lies in the lowest 5 %. Of n own states of other prompts at that
    depth, L less likely than the state and T equal to it, the rank is anywhere in L .. L + T of n + 1 places, and the
    state counts as `min(1, max(0, (0.05 (n + 1) - L) / (T + 1)))`: what a rank that is drawn among its ties, and
    smeared over its place, has below 0.05. For states of one law that is 0.05 in expectation whatever n and the ties,
    where counting percentiles below 0.05 gives 0.06 at 64 and 0.17 at 5 own states. States of one's own prompt are
    left out, for they depend on it (all are taken where there is one prompt alone). Its error counts the training
    sample alone. Cost: one forward pass of the policy over both
    samples.

    Source: the project's own; the rank is that of a conformal p-value with ties broken at random (Vovk et al., 2005,
    "Algorithmic learning in a random world", section 2.2); the percentile is Mann and Whitney's (1947) statistic at
    each depth.
    Raises DataError where no training state lies at a depth that `own` reaches.
    """
    taught, visited = per_state(policy, training), per_state(policy, own)
    mine, theirs = _prefix_means(visited), _prefix_means(taught)
    percentiles = np.full(len(taught), np.nan)
    below = np.zeros(len(visited))
    low = np.full(len(taught), np.nan)
    names, own_names = np.array(taught.prompts), np.array(visited.prompts)
    alone = len({*taught.prompts, *visited.prompts}) == 1
    reached = (taught.depth > 0) & np.isin(taught.depth, visited.depth)
    if not reached.any():
        raise DataError("no training state lies at a depth that the policy's own rollouts reach")
    for depth in np.unique(taught.depth[reached]):
        here, there = visited.depth == depth, taught.depth == depth
        # [taught, own]: how often an own state is the less likely of the two.
        wins = (mine[here] < theirs[there][:, None]) + 0.5 * (mine[here] == theirs[there][:, None])
        percentiles[there] = wins.mean(1)
        others = alone | (names[there][:, None] != own_names[here])
        low[there] = _lowest(mine[here], theirs[there], others)
        below[here] = (wins - wins.mean(1, keepdims=True)).sum(0) / here.sum()
    mean = linear_mean(percentiles, taught.prompts, reached)
    parts = dict(mean.parts)
    for prompt, part in zip(visited.prompts, below / reached.sum(), strict=True):
        parts[prompt] = parts.get(prompt, 0.0) + part
    deep = taught.depth > 0
    ranked = np.isfinite(low)
    if not ranked.any():
        raise DataError(
            "no training state lies at a depth that the policy reaches from other prompts"
        )
    return Reachability(
        percentile=Linear(mean.value, parts, mean.n).estimate("percentile"),
        hardly_visited=linear_mean(low, taught.prompts, ranked).estimate("share"),
        logprob=linear_mean(np.where(deep, theirs, 0.0), taught.prompts, deep).estimate(
            "nats per token"
        ),
        beyond=float((deep & ~reached).sum() / deep.sum()),
    )


def _lowest(
    mine: Float[np.ndarray, " O"],
    theirs: Float[np.ndarray, " T"],
    compared: Bool[np.ndarray, "T O"],
) -> Float[np.ndarray, " T"]:
    """How much of each state's rank among the own ones it is compared with lies below `LOW`; nan without any.

    By hand, 39 own states, one less likely and none equal: rank 1 .. 2 of 40 places, all below 0.05 * 40 = 2. One
    equal besides: 1 .. 3, of which half.

    >>> own = np.arange(39.0)
    >>> _lowest(own, np.array([0.5, 1.5, 1.0]), np.ones((3, 39), bool)).tolist()
    [1.0, 0.0, 0.5]
    """
    less = ((mine < theirs[:, None]) & compared).sum(1)
    ties = ((mine == theirs[:, None]) & compared).sum(1)
    count = compared.sum(1)
    return np.where(count > 0, np.clip((LOW * (count + 1) - less) / (ties + 1), 0.0, 1.0), np.nan)


def _prefix_means(table: PerState) -> np.ndarray:
    """`(1/t) log pi(y_<t | x)` at each state; nan at depth 0. States come by row, then by depth.

    To 1e-5 nats: one prefix in two batches differs by rounding, and must be a tie.
    """
    sums = np.cumsum(table.logprob) - table.logprob
    first = np.flatnonzero(np.diff(table.row, prepend=-1))
    lengths = np.diff(np.append(first, len(table)))
    sums -= np.repeat(sums[first], lengths)
    with np.errstate(invalid="ignore"):
        return np.where(table.depth > 0, sums / np.maximum(table.depth, 1), np.nan).round(5)
