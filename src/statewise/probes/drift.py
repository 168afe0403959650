"""Calibrated drift: do two policies visit different states, and is the difference more than noise?

The paper compares visited prefixes by a *biased* MMD, which between two samples of one law is about
`(1/m + 1/n)(1 - mean k)`: 0.01 at 100 prefixes each, the size of every value it reports. Here the
estimator is 0 in expectation between samples of one law, its p-value comes from permutations, and the same number
is computed between two independent samples of the base, so that a reader sees what nothing looks like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from statewise.data import Data
from statewise.errors import ConfigError, DataError
from statewise.lazy import torch
from statewise.limits import FewTimes, PositiveShare, Temperature, Tokens
from statewise.policy import Policy
from statewise.probes.scale import column_scale
from statewise.seeding import seed_for
from statewise.trajectory import Trajectory, pad


@dataclass(frozen=True)
class Drift:
    """Which states are compared: rollouts on `prompts`, read at fractions of their length."""

    prompts: Data
    max_new_tokens: Tokens
    temperature: Temperature = 1.0
    depths: tuple[PositiveShare, ...] = (0.25, 0.5, 0.75, 1.0)
    permutations: FewTimes = 999

    def __post_init__(self) -> None:
        if not self.depths or not all(0 < depth <= 1 for depth in self.depths):
            raise ConfigError(f"depths are fractions in (0, 1], found {list(self.depths)}")
        if self.permutations < 1:
            raise ConfigError(f"permutations must be 1 or more, found {self.permutations}")


@dataclass(frozen=True, slots=True)
class DriftResult:
    """MMD^2 as a U-statistic and its permutation p-value; `mmd_biased` only for parity with the paper."""

    mmd2: float
    p_value: float
    mmd_biased: float
    n: int
    """States of each sample."""
    least_p: float
    """The smallest p-value that so many prompts and permutations can give."""


def prefixes(trajectory: Trajectory, depths: Sequence[float]) -> list[np.ndarray]:
    """The states of a completion at fractions of its length, prompt included, the stop token not."""
    written = len(trajectory.completion_ids) - int(trajectory.stopped)
    ends = [trajectory.prompt_tokens + max(0, round(depth * written)) for depth in depths]
    return [trajectory.token_ids[:end] for end in ends]


def hidden_features(
    reader: Policy, states: Sequence[np.ndarray], *, rows: int = 128
) -> Float[np.ndarray, "N D"]:
    """Mean over a prefix of the reader's last hidden states; `drift_between` scales coordinates.

    A state that is the beginning of another is read in the other's row: what stands behind a token does
    not change its hidden state.
    """
    texts = [tuple(state.tolist()) for state in states]
    # In ascending order a text stands right before those that it begins; from the back, behind them.
    longest: list[tuple[int, ...]] = []
    row_of: dict[tuple[int, ...], int] = {}
    for text in sorted(set(texts), reverse=True):
        if not longest or longest[-1][: len(text)] != text:
            longest.append(text)
        row_of[text] = len(longest) - 1
    members: list[list[int]] = [[] for _ in longest]
    for place, text in enumerate(texts):
        members[row_of[text]].append(place)
    order = sorted(range(len(longest)), key=lambda row: len(longest[row]))
    out: list[np.ndarray | None] = [None] * len(states)
    with reader.frozen():
        for start in range(0, len(order), rows):
            picked = order[start : start + rows]
            lengths = torch.tensor([len(longest[row]) for row in picked], device=reader.device)
            ids = torch.as_tensor(pad([np.array(longest[row], np.int64) for row in picked], 0))
            hidden = reader.hidden(ids.to(reader.device), lengths).float()
            for row, read in zip(picked, hidden, strict=True):
                for place in members[row]:
                    out[place] = read[: len(texts[place])].mean(0).cpu().numpy()
    return np.stack(out).astype(np.float64)  # pyright: ignore[reportCallIssue, reportArgumentType]


def lexical_features(texts: Sequence[str], *, words: int = 256) -> Float[np.ndarray, "N D"]:
    """Relative frequencies of the `words` most common words, and the log length: the paper's kind of
    light lexical features (its exact list is not published).

    >>> lexical_features(["a b a", "b"], words=2).round(2).tolist()    # b, a, log(1 + words)
    [[0.33, 0.67, 1.39], [1.0, 0.0, 0.69]]
    """
    split = [text.split() for text in texts]
    # Ties broken by the word itself: Counter's own order is that of first sight.
    documents = Counter(word for row in split for word in set(row))
    vocabulary = sorted(documents, key=lambda word: (-documents[word], word))[:words]
    place = {word: i for i, word in enumerate(vocabulary)}
    out = np.zeros((len(texts), len(vocabulary) + 1))
    for i, row in enumerate(split):
        for word, count in Counter(row).items():
            if word in place:
                out[i, place[word]] = count / len(row)
        out[i, -1] = np.log1p(len(row))
    return out


def drift_between(
    first: Float[np.ndarray, "P K D"],
    second: Float[np.ndarray, "P K D"],
    *,
    permutations: int,
    seed: int,
) -> DriftResult:
    """MMD^2 (RBF kernel) between two samples of K states on the same P prompts.

    `MMD^2 = 1/(P(P-1)) sum_{p != q} h(p, q)`, with `h(p, q)` the mean over states of
    `k(x_p, x_q) + k(y_p, y_q) - k(x_p, y_q) - k(y_p, x_q)` (Gretton et al., 2012, JMLR 13, eq. 3,
    with prompts as the unit: states that share a prompt are never compared, so their dependence
    cannot bias it). Coordinates are scaled to unit variance and the bandwidth is the median
    distance, both over the pooled sample, which is the same under every swap. A permutation
    swaps the two samples within a prompt; `p = (1 + #{permuted >= observed}) / (1 + permutations)`. P prompts have
    2^(P-1) swaps that differ: where `permutations` are as many, all are listed and p is the share that is as large
    as the observed one. p is never below `least_p`, 0.03 at 6 prompts.

    What is guaranteed. For a kernel that is fixed beforehand the statistic is unbiased for the MMD^2 of the two laws of
    states, prompts drawn at random. Here scale and bandwidth are fitted to the sample, so that its target moves with
    the sample and it is off by order 1/P. Where the two samples of a prompt are exchangeable (one law) none of that
    matters: the kernel is the same under every swap, so the expectation is exactly 0 and the test is exact,
    `P(p <= a) <= a` for every a and P. A large p at few prompts says nothing.
    Cost: `O((P K)^2 D)` and as many floats as pairs of states for the kernel, `O(permutations * P^2)` for
    the null, on top of the features' forward pass.

    Raises DataError for a single prompt: there is no pair to average, and no p-value.

    >>> rng = np.random.default_rng(0)
    >>> same = drift_between(rng.normal(size=(50, 1, 2)), rng.normal(size=(50, 1, 2)),
    ...                      permutations=199, seed=0)
    >>> moved = drift_between(rng.normal(size=(50, 1, 2)), rng.normal(size=(50, 1, 2)) + 1,
    ...                       permutations=199, seed=0)
    >>> same.p_value > 0.05, moved.p_value
    (True, 0.005)
    """
    prompts, states, _ = first.shape
    if prompts < 2:
        raise DataError(
            "drift compares states of different prompts, and there is one prompt; give two or more"
        )
    x, y = first.reshape(prompts * states, -1), second.reshape(prompts * states, -1)
    pooled = np.concatenate([x, y])
    pooled = pooled / column_scale(pooled)
    squares = (pooled**2).sum(1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * pooled @ pooled.T, 0.0)
    median = float(np.median(distances[np.triu_indices(len(pooled), 1)]))
    kernel = np.exp(-distances / (2 * median if median > 0 else 1.0))
    count = len(x)
    xx, yy, xy = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    by_prompt = (prompts, states, prompts, states)
    h = (xx + yy - xy - xy.T).reshape(by_prompt).mean(axis=(1, 3))
    np.fill_diagonal(h, 0.0)
    pairs = prompts * (prompts - 1)
    observed = h.sum() / pairs
    signs, listed = _swaps(prompts, permutations, seed)
    permuted = np.einsum("ip,pq,iq->i", signs, h, signs, optimize=True) / pairs
    # A permutation that swaps nothing gives the observed value: rounding must not lose the tie.
    as_large = int((permuted >= observed - 1e-12).sum())
    # Among all swaps that of nothing is one already.
    p = as_large / len(signs) if listed else (1 + as_large) / (1 + permutations)
    least = max(2.0 ** (1 - prompts), 1 / len(signs) if listed else 1 / (1 + permutations))
    biased = max(0.0, float(xx.mean() + yy.mean() - 2 * xy.mean()))
    return DriftResult(float(observed), p, biased**0.5, count, least)


def _swaps(prompts: int, permutations: int, seed: int) -> tuple[Float[np.ndarray, "R P"], bool]:
    """Signs of swapped prompts, and whether these are all there are: swapping all is swapping none.

    >>> _swaps(2, 99, seed=0)
    (array([[ 1.,  1.],
           [ 1., -1.]]), True)
    """
    if 2 ** (prompts - 1) <= permutations:
        rest = np.array(list(product((1.0, -1.0), repeat=prompts - 1))).reshape(-1, prompts - 1)
        return np.hstack([np.ones((len(rest), 1)), rest]), True
    rng = np.random.Generator(np.random.Philox(seed_for(seed, "permutation")))
    return rng.choice(np.array([-1.0, 1.0]), size=(permutations, prompts)), False


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance between two samples of states, and the permutation p-value of "one law"."""

    value: float
    p_value: float
    floor: float
    """Mean over the permutations: what the distance is between samples of one law, at this size."""


@dataclass(frozen=True, slots=True)
class PlainDistances:
    """The paper's other measures of drift, each beside its floor."""

    centroid: Distance
    sliced_wasserstein: Distance


def plain_distances(
    first: Float[np.ndarray, "P K D"],
    second: Float[np.ndarray, "P K D"],
    *,
    permutations: int,
    seed: int,
    directions: int = 64,
) -> PlainDistances:
    """Centroid distance and sliced Wasserstein distance of K states on the same P prompts.

    `centroid = ||mean x - mean y||`; `sliced = mean over random unit directions u of W1(u.x, u.y)`
    (Bonneel et al., 2015), W1 the mean gap of sorted projections. Coordinates are scaled to unit
    variance over the pooled sample. Both are biased upwards, by order `1 / sqrt(P K)`: between samples of one
    law they are not 0 but `floor`. A permutation swaps the two samples within a prompt, as in
    `drift_between`; `p = (1 + #{permuted >= observed}) / (1 + permutations)`. Cost: `O(permutations *
    directions * P K log P K)` on top of the features' forward pass.

    >>> x = np.zeros((2, 1, 1)); y = np.array([[[1.0]], [[3.0]]])    # pooled 0, 0, 1, 3: variance 1.5
    >>> found = plain_distances(x, y, permutations=3, seed=0)
    >>> round(found.centroid.value * 1.5 ** 0.5, 6), round(found.sliced_wasserstein.value * 1.5 ** 0.5, 6)
    (2.0, 2.0)
    """
    prompts, states, width = first.shape
    pooled = np.concatenate([first, second]).reshape(2, prompts, states, width)
    x, y = pooled / column_scale(pooled.reshape(-1, width))
    rng = np.random.Generator(np.random.Philox(seed_for(seed, "plain_distances")))
    axes = rng.normal(size=(directions, width))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    along = np.stack([x @ axes.T, y @ axes.T])

    def distances(swap: np.ndarray) -> tuple[float, float]:
        difference = np.where(swap[:, None, None], y - x, x - y)
        flipped = np.where(swap[None, :, None, None], along[::-1], along)
        ordered = np.sort(flipped.reshape(2, prompts * states, directions), axis=1)
        centroid = float(np.linalg.norm(difference.mean((0, 1))))
        return centroid, float(np.abs(ordered[0] - ordered[1]).mean())

    observed = distances(np.zeros(prompts, bool))
    null = np.array([distances(rng.random(prompts) < 0.5) for _ in range(permutations)])
    # A permutation that swaps nothing, or all, gives the observed value: rounding must not lose the tie.
    larger = (null >= np.array(observed) - 1e-12).sum(0)
    centroid, sliced = (
        Distance(observed[i], float((1 + larger[i]) / (1 + permutations)), float(null[:, i].mean()))
        for i in range(2)
    )
    return PlainDistances(centroid, sliced)


def lexical_jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """`|words of both| / |words of either|` of two samples of texts; 1 where both are without words.

    Biased low: a rare word is in one sample only, however alike their laws, the more so the smaller
    the samples. Compare it with the same number between two samples of one policy.

    >>> lexical_jaccard(["a b", "c"], ["b c d"])
    0.5
    """
    mine, theirs = ({word for text in texts for word in text.split()} for texts in (first, second))
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0
