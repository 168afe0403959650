"""Gradient geometry: does the gradient of one source of states point where another would lose?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from statewise.errors import ConfigError, DataError, nearest
from statewise.gradient import Rollout, accumulate_gradient
from statewise.policy import Policy
from statewise.stats import Estimate


@dataclass(frozen=True, slots=True)
class Gradients:
    """Norms, cosines and first-order interference of named gradients."""

    norms: Mapping[str, Estimate]
    cosines: Mapping[str, Estimate]
    """`a~b`: cosine of the two gradients."""
    interference: Mapping[str, Estimate]
    """First-order change of the retention loss when one step is taken on a source; above 0 it hurts."""


def gradient_geometry(
    student: Policy,
    sources: Mapping[str, Sequence[Rollout]],
    *,
    retention: str | None = None,
    learning_rate: float = 1.0,
    blocks: int = 4,
    tokens_per_microbatch: int = 16384,
) -> Gradients:
    """Cosines of the gradients of several losses, and `-eta g_retention . g_source`.

    A source is what one update would see: rollouts with their stream, terms and labels. Its prompts
    are dealt to `blocks` blocks; its gradient is the mean of the blocks' gradients (with 1 block, the
    gradient of `accumulate_gradient` itself; with more, each block has its own normaliser). Errors are
    the jackknife's over blocks, unknown with 1. The sample's noise is a part of every gradient, so
    norms come out too large and cosines too near 0, by order 1/prompts; two sources that share
    trajectories share their noise. `interference` is that of plain gradient descent: an optimiser
    that scales coordinates takes another step. Cost: one forward and one backward pass over all
    rollouts; one gradient a source and block is held in memory.

    The student's own gradients are left as they were.

    Source: gradient conflict as in Yu et al., 2020 (arXiv 2001.06782); the first-order change is
    Taylor's.
    Raises ConfigError where `retention` names no source, DataError where a source has fewer prompts
    than blocks or no gradient.
    """
    if retention is not None and retention not in sources:
        raise ConfigError(f"no source {retention!r} of gradients; {nearest(retention, sources)}")
    if blocks < 1:
        raise ConfigError(f"blocks must be 1 or more, found {blocks}")
    kept = {name: p.grad for name, p in student.module.named_parameters()}
    try:
        vectors = [
            _gradient(student, part, tokens_per_microbatch, name)
            for name, rollouts in sources.items()
            for part in _dealt(rollouts, blocks, name)
        ]
    finally:
        for name, p in student.module.named_parameters():
            p.grad = kept[name]
    # Everything that is asked is a function of inner products.
    stacked = torch.stack(vectors).double()
    products = (
        (stacked @ stacked.T).cpu().numpy().reshape(len(sources), blocks, len(sources), blocks)
    )
    names = list(sources)
    places = {name: i for i, name in enumerate(names)}

    def norm(gram: np.ndarray, i: int) -> float:
        return float(gram[i, i] ** 0.5)

    def cosine(gram: np.ndarray, i: int, j: int) -> float:
        return float(gram[i, j] / (gram[i, i] * gram[j, j]) ** 0.5)

    def estimate(read, unit: str) -> Estimate:
        return block_jackknife(products, read, unit)

    interference = {}
    if retention is not None:
        r = places[retention]
        interference = {
            name: estimate(lambda g, i=i: -learning_rate * float(g[r, i]), "loss")
            for name, i in places.items()
            if name != retention
        }
    return Gradients(
        norms={n: estimate(lambda g, i=i: norm(g, i), "norm") for n, i in places.items()},
        cosines={
            f"{a}~{b}": estimate(lambda g, i=places[a], j=places[b]: cosine(g, i, j), "cosine")
            for a, b in combinations(names, 2)
        },
        interference=interference,
    )


def block_jackknife(
    products: Float[np.ndarray, "G B G B"],
    read: Callable[[Float[np.ndarray, "G G"]], float],
    unit: str,
) -> Estimate:
    """A function of the sources' inner products, with the delete-one-block jackknife's error.

    `products` holds the inner product of source g's block b with every other; `read` takes their means over
    blocks, the Gram matrix [G, G]. The error is unknown with one block and where no block differs. The interval
    is Student's on `blocks - 1` degrees. Noise of the blocks lengthens gradients and so makes a cosine too small;
    where it is as large as the signal, a 95 % interval covers about 0.9 (docs/statistics.md).

    Source: Efron & Tibshirani (1993), chapter 11. By hand, one source whose two blocks have squared norms 1 and 3 and
    are orthogonal: mean over pairs 4/4 = 1; without a block 3 and 1, whose deviations are 1: sqrt(1/2 * 2) = 1.

    >>> e = block_jackknife(np.diag([1.0, 3.0]).reshape(1, 2, 1, 2), lambda g: float(g[0, 0]), "loss")
    >>> e.value, round(e.stderr, 6)
    (1.0, 1.0)
    """
    blocks = products.shape[1]
    value = read(products.mean(axis=(1, 3)))
    if blocks < 2:
        return Estimate(value, None, blocks, unit)
    left = []
    for b in range(blocks):
        rest = [i for i in range(blocks) if i != b]
        left.append(read(products[:, rest][:, :, :, rest].mean(axis=(1, 3))))
    spread = (blocks - 1) / blocks * float(np.square(np.array(left) - np.mean(left)).sum())
    if spread == 0:
        return Estimate(value, None, blocks, unit)
    half = float(stats.t.ppf(0.975, blocks - 1)) * spread**0.5
    return Estimate(value, spread**0.5, blocks, unit, value - half, value + half)


def _dealt(rollouts: Sequence[Rollout], blocks: int, name: str) -> list[list[Rollout]]:
    """The rollouts of each block: prompts go round, so that a prompt's samples stay together."""
    prompts = list(dict.fromkeys(t.prompt.id for r in rollouts for t in r.trajectories))
    if len(prompts) < blocks:
        raise DataError(f"source {name!r} has {len(prompts)} prompts, too few for {blocks} blocks")
    block = {prompt: i % blocks for i, prompt in enumerate(prompts)}
    return [
        [
            r.select([i for i, t in enumerate(r.trajectories) if block[t.prompt.id] == b])
            for r in rollouts
        ]
        for b in range(blocks)
    ]


def _gradient(student: Policy, rollouts: Sequence[Rollout], tokens: int, name: str) -> torch.Tensor:
    student.module.zero_grad(set_to_none=True)
    accumulate_gradient(student, rollouts, tokens_per_microbatch=tokens)
    parts = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.detach().flatten()
        for _, p in student.trainable_parameters()
    ]
    found = torch.cat(parts) if parts else torch.zeros(0)
    if not float(found.square().sum()) > 0:
        raise DataError(
            f"source {name!r} has no gradient: nothing is supervised, or no weight may move"
        )
    return found
