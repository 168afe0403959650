"""Means over states whose errors know that states of one prompt depend on each other.

Every estimator here is a smooth function of sums, and comes with its *parts*: what each cluster (a
prompt, as a rule) added to its error, to first order. Parts add up over samples that share clusters,
so that a difference between two samples on the same prompts is a paired one without being told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from statewise.errors import DataError
from statewise.stats import Estimate, log_interval

RATIOS = ("ratio",)
"""Units that lie above 0 and know no upper end: their intervals are taken on the logarithm."""
SHARES = ("share", "probability", "percentile", "AUC")
"""Units that lie between 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A value, and the first-order error that each cluster brings to it; the errors sum to 0."""

    value: float
    parts: Mapping[str, float]
    n: int
    """States (or trajectories) that were averaged."""

    def __sub__(self, other: Linear) -> Linear:
        """The difference; clusters that both have count as paired."""
        return Linear(self.value - other.value, _joined(self, other, 1.0, -1.0), self.n + other.n)

    def __truediv__(self, other: Linear) -> Linear:
        """The quotient, by the delta method. Raises DataError where the divisor is 0."""
        if other.value == 0:
            raise DataError("a quotient by 0: the mean that is divided by is exactly 0")
        ratio = self.value / other.value
        parts = _joined(self, other, 1.0 / other.value, -ratio / other.value)
        return Linear(ratio, parts, self.n + other.n)

    def estimate(self, unit: str, level: float = 0.95) -> Estimate:
        """The value with its clustered standard error and Student's t interval on `G - 1` degrees.

        `se^2 = G / (G - 1) * sum over clusters of part^2` (Liang and Zeger, 1986, with the usual
        small-sample factor). Unknown with one cluster, and where no cluster differs from another:
        there the data say nothing of the error, and 0 would be certainty. The ends of a share's
        interval are cut at 0 and 1; that of a ratio is symmetric on the logarithm (`log_interval`).
        """
        clusters = len(self.parts)
        squares = float(np.square(list(self.parts.values())).sum())
        # Equal clusters leave rounding behind, no error.
        if clusters < 2 or squares <= (1e-12 * self.value) ** 2:
            return Estimate(self.value, None, self.n, unit)
        stderr = (clusters / (clusters - 1) * squares) ** 0.5
        if unit in RATIOS and self.value > 0:
            ends = log_interval(self.value, stderr, clusters - 1.0, level) or (None, None)
            return Estimate(self.value, stderr, self.n, unit, *ends)
        from scipy import stats  # slow to import

        half = float(stats.t.ppf((1 + level) / 2, clusters - 1)) * stderr
        low, high = self.value - half, self.value + half
        if unit in SHARES and 0 <= self.value <= 1:
            low, high = max(0.0, low), min(1.0, high)
        return Estimate(self.value, stderr, self.n, unit, low, high)


def linear_mean(
    values: Float[np.ndarray, " N"],
    clusters: Sequence[str],
    where: Bool[np.ndarray, " N"] | None = None,
    weights: Float[np.ndarray, " N"] | None = None,
) -> Linear:
    """`sum w x / sum w` over the states of `where`: a ratio of sums over clusters.

    Linearised, so that its bias is of order 1/clusters and vanishes for clusters of equal weight.
    Raises DataError where nothing is left to average, and for values that are not finite.
    """
    kept = np.ones(len(values), bool) if where is None else where
    weight = kept.astype(np.float64) if weights is None else kept * weights
    if not np.isfinite(values[kept]).all():
        raise DataError(
            f"{int((~np.isfinite(values[kept])).sum())} of {kept.sum()} states not finite"
        )
    total = float(weight.sum())
    if total <= 0:
        raise DataError("no states to average")
    mean = float((weight * np.where(kept, values, 0.0)).sum()) / total
    names, place = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    parts = np.zeros(len(names))
    np.add.at(parts, place, weight * (np.where(kept, values, mean) - mean) / total)
    present = np.zeros(len(names), bool)
    np.logical_or.at(present, place, weight > 0)
    found = {str(n): float(p) for n, p, here in zip(names, parts, present, strict=True) if here}
    return Linear(mean, found, int(kept.sum()))


def clustered_mean(values: Float[np.ndarray, " N"], clusters: Sequence[str], unit: str) -> Estimate:
    """Mean over states with its error clustered.

    By hand: clusters (1, 3) and (5), mean 3; their sums of residuals are -2 and 2, over 3 states
    -2/3 and 2/3, so se = sqrt(2/1 * (4/9 + 4/9)) = 4/3.

    >>> e = clustered_mean(np.array([1.0, 3.0, 5.0]), ["a", "a", "b"], "nats")
    >>> e.value, round(e.stderr, 4), e.n
    (3.0, 1.3333, 3)
    >>> clustered_mean(np.array([1.0, 3.0]), ["a", "a"], "nats").stderr is None
    True
    """
    return linear_mean(values, clusters).estimate(unit)


DEPTHS = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Where bins of depth begin, in tokens of the completion; the last has no end."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Depths `start` to `end - 1` (no end: None): how many tokens of the completion precede the state."""

    start: int
    end: int | None

    @property
    def name(self) -> str:
        """`8-15`, or `1024-` for the last.

        >>> Bin(8, 16).name, Bin(1024, None).name, Bin(0, 1).name
        ('8-15', '1024-', '0')
        """
        if self.end is None:
            return f"{self.start}-"
        last = self.end - 1
        return f"{self.start}-{last}" if last > self.start else str(self.start)


def depth_bins(
    depths: Int[np.ndarray, " N"], starts: Sequence[int] = DEPTHS
) -> list[tuple[Bin, Bool[np.ndarray, " N"]]]:
    """The bins that hold a state, each with the states that it holds.

    >>> [(b.name, held.tolist()) for b, held in depth_bins(np.array([0, 5, 6]), starts=(0, 4, 8))]
    [('0-3', [True, False, False]), ('4-7', [False, True, True])]
    """
    if list(starts) != sorted(set(starts)) or (len(starts) and starts[0] != 0):
        raise DataError(f"depths must begin at 0 and rise, found {list(starts)}")
    bins = [Bin(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    found = [(b, (depths >= b.start) & (True if b.end is None else depths < b.end)) for b in bins]
    return [(b, held) for b, held in found if held.any()]


def _joined(a: Linear, b: Linear, first: float, second: float) -> dict[str, float]:
    """`first * a + second * b`, cluster by cluster."""
    names = dict.fromkeys([*a.parts, *b.parts])
    return {n: first * a.parts.get(n, 0.0) + second * b.parts.get(n, 0.0) for n in names}
