"""Behaviour: what completions are worth, how they end, and what was gained and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Float

from statewise.errors import ConfigError, DataError
from statewise.policy import Policy
from statewise.probes.clusters import clustered_mean, linear_mean
from statewise.probes.per_state import per_state
from statewise.probes.splice import Score
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Outcome of a sample of a policy's own completions."""

    score: Estimate
    """Mean reward."""
    pass_at_k: tuple[tuple[int, Estimate], ...]
    """k, and the probability that one of k completions of a prompt is worth 1."""
    entropy: Estimate
    """Of the policy's next-token distribution at the states it visited, nats."""
    length_tokens: Estimate
    not_stopped: Estimate
    """Share of completions that were cut at the limit."""
    no_answer: Estimate | None
    """Share of completions from which no answer could be read; None where nothing reads one."""


def behaviour(
    policy: Policy,
    rollouts: Sequence[Trajectory],
    reward: Score,
    *,
    read_answer: Callable[[str], str | None] | None = None,
    ks: Sequence[int] = (1, 4, 16),
) -> Behaviour:
    """Mean reward, pass@k for every k that the sample allows, entropy, and how completions fail.

    Means over completions (entropy: over states), error clustered by prompt. pass@k counts rewards of
    1 or more; see `pass_at_k`. Cost: one forward pass of the policy, for the entropy.

    Source: pass@k as in Chen et al. (2021, arXiv 2107.03374, eq. 1); the rest are plain means.

    Raises DataError where prompts have different numbers of completions.
    """
    scores = np.array([reward(t.prompt, t.completion) for t in rollouts], np.float64)
    prompts = [t.prompt.id for t in rollouts]
    table = per_state(policy, rollouts)
    by_prompt: dict[str, list[float]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        by_prompt.setdefault(prompt, []).append(float(score >= 1))
    counts = {len(those) for those in by_prompt.values()}
    if len(counts) > 1:
        raise DataError(f"prompts have {sorted(counts)} completions; draw the same number of each")
    solved = np.array([*by_prompt.values()], np.float64)
    lengths = np.array([len(t.completion_ids) for t in rollouts], np.float64)
    cut = np.array([float(not t.stopped) for t in rollouts])
    no_answer = None
    if read_answer is not None:
        missing = np.array([float(read_answer(t.completion) is None) for t in rollouts])
        no_answer = clustered_mean(missing, prompts, "share")
    return Behaviour(
        score=clustered_mean(scores, prompts, "reward"),
        pass_at_k=tuple((k, pass_at_k(solved, k)) for k in ks if k <= solved.shape[1]),
        entropy=clustered_mean(table.entropy, table.prompts, "nats"),
        length_tokens=clustered_mean(lengths, prompts, "tokens"),
        not_stopped=clustered_mean(cut, prompts, "share"),
        no_answer=no_answer,
    )


def pass_at_k(solved: Float[np.ndarray, "P K"], k: int) -> Estimate:
    """`E over prompts of 1 - C(n - c, k) / C(n, k)`, c of n completions solved.

    Unbiased for `E[1 - (1 - p)^k]` (Chen et al., 2021, arXiv 2107.03374, eq. 1); `1 - (1 - c/n)^k`
    would be biased low. Error over prompts.

    By hand, n = 4, k = 2: c = 1 gives 1 - 3/6 = 1/2, c = 0 gives 0; their mean is 1/4.

    >>> pass_at_k(np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), 2).value
    0.25

    Raises ConfigError where k exceeds the completions.
    """
    n = solved.shape[1]
    if not 1 <= k <= n:
        raise ConfigError(f"pass@k needs k between 1 and the {n} completions a prompt, found {k}")
    counts = solved.sum(1).astype(int)
    values = np.array([1.0 - comb(n - int(c), k) / comb(n, k) for c in counts])
    return clustered_mean(values, [str(i) for i in range(len(values))], "share")


@dataclass(frozen=True, slots=True)
class Retained:
    """A policy's item scores against the base's on the same items of one task."""

    forgetting: Estimate
    """`score_base - score_post`; negative where the policy gained."""
    ratio: Estimate | None
    """`score_post / score_base`; None where the base scores 0."""


def retained(
    base: Float[np.ndarray, " N"], post: Float[np.ndarray, " N"], clusters: Sequence[str]
) -> Retained:
    """Forgetting and retention ratio of one checkpoint (Nie, 2026, eq. 12), paired by item.

    The difference is unbiased; the ratio is one of means (bias of order 1/clusters). On the target
    task, gain is forgetting with its sign turned.

    By hand: base 1, 1, 0, 0 and post 1, 0, 0, 0 forget 1/4 and keep 1/2.

    >>> base, post = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])
    >>> found = retained(base, post, ["a", "b", "c", "d"])
    >>> found.forgetting.value, found.ratio.value
    (0.25, 0.5)
    """
    before, after = linear_mean(base, clusters), linear_mean(post, clusters)
    ratio = (after / before).estimate("ratio") if before.value else None
    return Retained((before - after).estimate("score"), ratio)
