"""Reachability: how likely the policy itself would be to arrive at the states it is taught on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.probes.clusters import Linear, linear_mean
from statewise.probes.per_state import PerState, per_state
from statewise.stats import Estimate
from statewise.trajectory import Trajectory

LOW = 0.05
"""Below this percentile a state counts as one that the policy hardly visits."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """Where training states lie among the states that the policy visits at the same depth."""

    percentile: Estimate
    """Mean over training states; 0.5 for states of the policy's own, near 0 for foreign ones."""
    hardly_visited: Estimate
    """Share of training states below the 5th percentile; 0.05 for states of the policy's own."""
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
    whose share is `beyond`); its error counts both samples, clustered by prompt. The error of
    `hardly_visited` counts the training sample alone. Cost: one forward pass of the policy over both
    samples.

    Source: the project's own; the percentile is Mann and Whitney's (1947) statistic at each depth.
    Raises DataError where no training state lies at a depth that `own` reaches.
    """
    taught, visited = per_state(policy, training), per_state(policy, own)
    mine, theirs = _prefix_means(visited), _prefix_means(taught)
    percentiles = np.full(len(taught), np.nan)
    below = np.zeros(len(visited))
    reached = (taught.depth > 0) & np.isin(taught.depth, visited.depth)
    if not reached.any():
        raise DataError("no training state lies at a depth that the policy's own rollouts reach")
    for depth in np.unique(taught.depth[reached]):
        here, there = visited.depth == depth, taught.depth == depth
        # [taught, own]: how often an own state is the less likely of the two.
        wins = (mine[here] < theirs[there][:, None]) + 0.5 * (mine[here] == theirs[there][:, None])
        percentiles[there] = wins.mean(1)
        below[here] = (wins - wins.mean(1, keepdims=True)).sum(0) / here.sum()
    mean = linear_mean(percentiles, taught.prompts, reached)
    parts = dict(mean.parts)
    for prompt, part in zip(visited.prompts, below / reached.sum(), strict=True):
        parts[prompt] = parts.get(prompt, 0.0) + part
    deep = taught.depth > 0
    low = np.where(reached, percentiles < LOW, 0.0).astype(np.float64)
    return Reachability(
        percentile=Linear(mean.value, parts, mean.n).estimate("percentile"),
        hardly_visited=linear_mean(low, taught.prompts, reached).estimate("share"),
        logprob=linear_mean(np.where(deep, theirs, 0.0), taught.prompts, deep).estimate(
            "nats per token"
        ),
        beyond=float((deep & ~reached).sum() / deep.sum()),
    )


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
