"""Coverage: how much of the space of completions a policy still visits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from statewise.errors import ConfigError, DataError
from statewise.probes.clusters import DEPTHS, linear_mean
from statewise.probes.scale import column_scale
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Diversity:
    """Variety of a sample of completions; no model is asked."""

    distinct: tuple[float, ...]
    """Different n-grams over n-grams, for n = 1, 2, 3..."""
    prefix_entropy: tuple[tuple[int, Estimate], ...]
    """Depth t, and the entropy of the first t tokens among one prompt's completions, nats."""
    length_tokens: Estimate
    stopped: Estimate
    """Share of completions that ended by their own stop token."""


def diversity(
    rollouts: Sequence[Trajectory],
    *,
    largest_n: int = 3,
    depths: Sequence[int] = tuple(d for d in DEPTHS if d),
) -> Diversity:
    """distinct-n, entropy of the prefixes by depth, length.

    `distinct-n = |different n-grams| / |n-grams|` over the whole sample (Li et al., 2016, arXiv
    1510.03055): it falls as the sample grows, so only samples of equal size compare; no error is given.
    Prefix entropy is the plug-in `-sum p log p` over one prompt's K completions plus Miller and Madow's
    (1955) `(different - 1) / 2K`, capped at log K: still biased low, by order 1/K^2 where K is large. One
    completion has no entropy and is refused. A completion that ended before depth t is a prefix of its
    own. Means over prompts, with their error. Cost: no forward pass.

    Raises DataError where a prompt has a single completion.
    """
    by_prompt: dict[str, list[tuple[int, ...]]] = {}
    for t in rollouts:
        by_prompt.setdefault(t.prompt.id, []).append(tuple(t.completion_ids.tolist()))
    if alone := [name for name, those in by_prompt.items() if len(those) < 2]:
        raise DataError(
            f"prompt {alone[0]!r} has one completion: prefix entropy needs two or more a prompt; draw the "
            "sample with --samples-per-prompt"
        )
    prompts = list(by_prompt)
    deepest = max(len(t.completion_ids) for t in rollouts)
    entropies = []
    for depth in depths:
        if depth <= deepest:
            values = [_entropy([y[:depth] for y in those]) for those in by_prompt.values()]
            entropies.append((depth, linear_mean(np.array(values), prompts).estimate("nats")))
    lengths = np.array([len(t.completion_ids) for t in rollouts], np.float64)
    clusters = [t.prompt.id for t in rollouts]
    ended = np.array([float(t.stopped) for t in rollouts])
    return Diversity(
        distinct=tuple(_distinct(rollouts, n) for n in range(1, largest_n + 1)),
        prefix_entropy=tuple(entropies),
        length_tokens=linear_mean(lengths, clusters).estimate("tokens"),
        stopped=linear_mean(ended, clusters).estimate("share"),
    )


@dataclass(frozen=True, slots=True)
class Manifold:
    """Precision and recall of one sample of states against another."""

    precision: Estimate
    """Share of the second sample that lies within the first's neighbourhoods: nothing strange."""
    recall: Estimate
    """Share of the first sample that lies within the second's neighbourhoods: nothing lost."""


def precision_recall(
    first: Float[np.ndarray, "M D"],
    second: Float[np.ndarray, "N D"],
    *,
    first_prompts: Sequence[str],
    second_prompts: Sequence[str],
    k: int = 5,
) -> Manifold:
    """k-nearest-neighbour precision and recall of `second` against `first`.

    A state is covered by a sample where it lies within the distance of some state of it to that
    state's k-th neighbour in its own sample; a neighbour is of another prompt, or repeats of one
    prompt would shrink the neighbourhoods. Features are scaled to unit variance over the pooled
    sample. Both are biased (two samples of one law do not reach 1: with equal sizes, compare with
    that null); the error, clustered by prompt, takes the neighbourhoods as given. Cost: no forward
    pass beyond that of the features; `O((M + N)^2 D)`.

    Source: Kynkaanniemi et al., 2019 (arXiv 1904.06991, section 2).
    Raises ConfigError where k leaves no neighbour.
    """
    pooled = np.concatenate([first, second])
    scaled = pooled / column_scale(pooled)
    a, b = scaled[: len(first)], scaled[len(first) :]
    radii = [
        _radii(x, np.asarray(p, dtype=str), k) for x, p in ((a, first_prompts), (b, second_prompts))
    ]
    across = _distances(a, b)
    strange = np.asarray((across <= radii[0][:, None]).any(axis=0), np.float64)
    kept = np.asarray((across <= radii[1][None]).any(axis=1), np.float64)
    return Manifold(
        precision=linear_mean(strange, second_prompts).estimate("share"),
        recall=linear_mean(kept, first_prompts).estimate("share"),
    )


def _radii(x: np.ndarray, prompts: np.ndarray, k: int) -> np.ndarray:
    """Distance of each state to its k-th neighbour of another prompt."""
    if k < 1 or k >= len(x):
        raise ConfigError(f"k must lie between 1 and the states of the smaller sample, found {k}")
    distances = _distances(x, x)
    distances[prompts[:, None] == prompts[None]] = np.inf
    found = np.partition(distances, k - 1, axis=1)[:, k - 1]
    if not np.isfinite(found).all():
        raise ConfigError(f"k is {k}, but some state has fewer neighbours of another prompt")
    return found


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0.0))


def _entropy(prefixes: Sequence[tuple[int, ...]]) -> float:
    counts = np.array([*Counter(prefixes).values()], np.float64)
    p = counts / counts.sum()
    corrected = -(p * np.log(p)).sum() + (len(counts) - 1) / (2 * counts.sum())
    return float(min(corrected, np.log(counts.sum())))


def _distinct(rollouts: Sequence[Trajectory], n: int) -> float:
    grams = [
        tuple(ids[i : i + n])
        for ids in (t.completion_ids.tolist() for t in rollouts)
        for i in range(len(ids) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0
