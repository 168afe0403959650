"""Gradient geometry: does the gradient of one source of states point where another would lose?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from statewise.errors import ConfigError, DataError, nearest
from statewise.gradient import Rollout, accumulate_gradient
from statewise.lazy import torch
from statewise.policy import Policy
from statewise.stats import Estimate

ROUNDING = 1e-12
"""Blocks whose values differ by less than this share do not differ."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Norms, cosines and first-order interference of named gradients."""

    norms: Mapping[str, Estimate]
    """Without the noise of the sample; 0 where the square came out below 0."""
    cosines: Mapping[str, Estimate]
    """`a~b`: cosine of the two gradients; its interval is -1 to 1 where one of them may be 0."""
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
    """Norms and cosines of the gradients of several losses, and `-eta g_retention . g_source`.

    A source is what one update would see: rollouts with their stream, terms and labels. Its prompts
    are dealt to `blocks` blocks, each with a normaliser of its own; a gradient is the mean over blocks. Everything
    is a function of inner products between *different* blocks, `<g, h> = mean over b != c of g_b . h_c`: their noise
    is independent and falls out, so that inner products, squared norms and interference are unbiased for gradients of
    blocks of that size, and 0 in expectation where a gradient is nothing but noise. Errors are the jackknife's over
    blocks, with Student's t (4 blocks: the interval of a squared norm that is 0 lies above 0 in 1 of 100).

    A norm is the root of its square, 0 where that came out below 0, and its interval the roots of the square's ends. A
    cosine divides by both norms, and is known only where the intervals of both squares lie above 0: elsewhere its
    interval is -1 to 1, and its value, divided by norms with their noise, lies too near 0.

    `interference` is that of plain gradient descent: an optimiser that scales coordinates takes another step.
    Cost: one forward and one backward pass over all rollouts; one gradient a source and block is held in memory.

    Beware of what a source is. The gradient of the log-likelihood of a policy's own samples is 0 in expectation (the
    score's mean): such a source says nothing of training on these states. Give the terms that are trained there.

    The student's own gradients are left as they were.

    Source: gradient conflict as in Yu et al., 2020 (arXiv 2001.06782); the first-order change is
    Taylor's; products of different blocks are U-statistics (Hoeffding, 1948).
    Raises ConfigError for fewer than 3 blocks and where `retention` names no source, DataError where a source has
    fewer prompts than blocks or no gradient in any block.
    """
    if retention is not None and retention not in sources:
        raise ConfigError(f"no source {retention!r} of gradients; {nearest(retention, sources)}")
    if blocks < 3:
        raise ConfigError(
            f"blocks must be 3 or more, found {blocks}: pairs of blocks are what is averaged"
        )
    kept = {name: p.grad for name, p in student.module.named_parameters()}
    try:
        vectors = [
            part
            for name, rollouts in sources.items()
            for part in _gradients(student, rollouts, blocks, tokens_per_microbatch, name)
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
    squares = {
        name: block_jackknife(products, lambda g, i=i: float(g[i, i]), "squared norm")
        for name, i in places.items()
    }
    interference = {}
    if retention is not None:
        r = places[retention]
        interference = {
            name: block_jackknife(products, lambda g, i=i: -learning_rate * float(g[r, i]), "loss")
            for name, i in places.items()
            if name != retention
        }
    return Gradients(
        norms={name: _root(square) for name, square in squares.items()},
        cosines={
            f"{a}~{b}": _cosine(products, places[a], places[b], (squares[a], squares[b]))
            for a, b in combinations(names, 2)
        },
        interference=interference,
    )


def _root(square: Estimate) -> Estimate:
    """A norm from its square; the error of a root is unknown where the square may be 0."""
    value = max(0.0, square.value) ** 0.5
    if square.low is None or square.high is None or square.high <= 0:
        return Estimate(value, None, square.n, "norm")
    low, high = max(0.0, square.low) ** 0.5, square.high**0.5
    known = square.low > 0 and square.stderr is not None
    stderr = square.stderr / (2 * value) if known and square.stderr is not None else None
    return Estimate(value, stderr, square.n, "norm", low, high)


def _cosine(
    products: Float[np.ndarray, "G B G B"], i: int, j: int, squares: tuple[Estimate, Estimate]
) -> Estimate:
    """The cosine of two gradients, with -1 to 1 as its interval where a norm may be 0."""

    def cosine(gram: np.ndarray) -> float:
        return float(gram[i, j] / (gram[i, i] * gram[j, j]) ** 0.5)

    blocks = products.shape[1]
    left = [gram_of(_without(products, b)) for b in range(blocks)]
    positive = all(gram[k, k] > 0 for gram in (gram_of(products), *left) for k in (i, j))
    unsure = any(square.low is not None and square.low <= 0 for square in squares)
    if unsure or not positive:
        noisy = products.mean(axis=(1, 3))
        scale = float(noisy[i, i] * noisy[j, j]) ** 0.5
        value = float(gram_of(products)[i, j]) / scale if scale > 0 else 0.0
        return Estimate(max(-1.0, min(1.0, value)), None, blocks, "cosine", -1.0, 1.0)
    found = block_jackknife(products, cosine, "cosine")
    value = max(-1.0, min(1.0, found.value))
    if found.low is None or found.high is None:
        return Estimate(value, None, blocks, "cosine")
    low, high = max(-1.0, found.low), min(1.0, found.high)
    return Estimate(value, found.stderr, blocks, "cosine", min(low, value), max(high, value))


def gram_of(products: Float[np.ndarray, "G B G B"]) -> Float[np.ndarray, "G G"]:
    """Mean inner products of different blocks, which share no noise.

    By hand, one source with blocks 1, 2 and 3 on a line: (2 + 3 + 6) / 3, where all pairs would give 4.

    >>> blocks = np.array([1.0, 2.0, 3.0])
    >>> gram_of(np.outer(blocks, blocks).reshape(1, 3, 1, 3)).round(4).tolist()
    [[3.6667]]
    """
    blocks = products.shape[1]
    same = np.einsum("gbhb->gh", products)
    return (products.sum(axis=(1, 3)) - same) / (blocks * (blocks - 1))


def _without(products: np.ndarray, block: int) -> np.ndarray:
    rest = [i for i in range(products.shape[1]) if i != block]
    return products[:, rest][:, :, :, rest]


def block_jackknife(
    products: Float[np.ndarray, "G B G B"],
    read: Callable[[Float[np.ndarray, "G G"]], float],
    unit: str,
) -> Estimate:
    """A function of the sources' inner products, with the delete-one-block jackknife's error.

    `products` holds the inner product of source g's block b with every other; `read` takes their means over pairs of
    different blocks (`gram_of`), the Gram matrix [G, G]. The error is unknown where no block differs. The interval is
    Student's on `blocks - 1` degrees. Where a gradient is 0 the jackknife's error is too large rather than too small.

    Source: Efron & Tibshirani (1993), chapter 11. By hand, blocks 1, 2 and 3: without one of them 6, 3 and 2, whose
    deviations from 11/3 are 7/3, -2/3 and -5/3: sqrt(2/3 * 78/9).

    >>> blocks = np.array([1.0, 2.0, 3.0])
    >>> products = np.outer(blocks, blocks).reshape(1, 3, 1, 3)
    >>> e = block_jackknife(products, lambda g: float(g[0, 0]), "loss")
    >>> round(e.value, 4), round(e.stderr, 4)
    (3.6667, 2.4037)
    """
    blocks = products.shape[1]
    value = read(gram_of(products))
    left = [read(gram_of(_without(products, b))) for b in range(blocks)]
    spread = (blocks - 1) / blocks * float(np.square(np.array(left) - np.mean(left)).sum())
    if spread <= (ROUNDING * value) ** 2:
        return Estimate(value, None, blocks, unit)
    from scipy import stats  # slow to import

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


def _gradients(
    student: Policy, rollouts: Sequence[Rollout], blocks: int, tokens: int, name: str
) -> list[torch.Tensor]:
    """The gradient of each block of a source; one of them may be 0 (a block of silent groups), all may not."""
    found = [_gradient(student, part, tokens) for part in _dealt(rollouts, blocks, name)]
    if not any(float(part.square().sum()) > 0 for part in found):
        raise DataError(
            f"source {name!r} has no gradient: nothing is supervised, or no weight may move"
        )
    return found


def _gradient(student: Policy, rollouts: Sequence[Rollout], tokens: int) -> torch.Tensor:
    student.module.zero_grad(set_to_none=True)
    accumulate_gradient(student, rollouts, tokens_per_microbatch=tokens)
    parts = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.detach().flatten()
        for _, p in student.trainable_parameters()
    ]
    return torch.cat(parts) if parts else torch.zeros(0)
