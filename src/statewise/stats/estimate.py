"""A number with its uncertainty, and the ways this package makes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt

import numpy as np

from statewise.errors import DataError

MINIMUM_BOOTSTRAP_SEEDS = 8
"""Below 8 seeds a bootstrap over seeds undercovers: 3 seeds have only 10 distinct resamples."""


ROUNDING = 1e-12
"""Spread below this is floating-point rounding of values that are equal."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its standard error and an interval. Unknown uncertainty is None, never 0.

    `n` counts what was averaged (items or seeds); `unit` is the unit of `value` ("share", "nats").

    >>> Estimate(0.5, stderr=0.0, n=1, unit="share")
    Traceback (most recent call last):
    ...
    statewise.errors.DataError: a standard error of 0 from n=1: unknown uncertainty is None, never 0
    """

    value: float
    stderr: float | None
    n: int
    unit: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise DataError(f"an estimate must be a finite number, not {self.value}")
        if self.stderr is not None and (self.stderr < 0 or not isfinite(self.stderr)):
            raise DataError(f"a standard error is a finite number >= 0, not {self.stderr}")
        if self.stderr == 0 and self.n < 2:
            raise DataError(
                f"a standard error of 0 from n={self.n}: unknown uncertainty is None, never 0"
            )
        if (self.low is None) != (self.high is None):
            raise DataError("an interval has both ends or neither")


def finite_values(values: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    """`values` as a float64 vector. Refuses an empty one and one with nan or infinity."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise DataError(f"no {what} to average")
    if not np.isfinite(array).all():
        raise DataError(f"{int((~np.isfinite(array)).sum())} of {array.size} {what} are not finite")
    return array


def log_interval(
    value: float, stderr: float, df: float, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of a quantity that is above 0, symmetric on the logarithm, so that it stays above 0.

    `value * exp(+- t_{(1+level)/2, df} * stderr / value)`: the delta method for `log value`, whose standard error is
    `stderr / value`. None if that is so large that the interval says nothing (a factor of 1e6 or more).

    Source: the logarithmic interval of a ratio (Katz et al., 1978). By hand: value 8, stderr 2, df inf: exp(1.96 / 4).

    >>> low, high = log_interval(8.0, 2.0, float("inf"))
    >>> round(low, 3), round(high, 3)
    (4.901, 13.058)
    >>> log_interval(1.0, 1.0, 2.0)[0] > 0, log_interval(1.0, 5.0, 2.0) is None
    (True, True)
    """
    if value <= 0 or stderr < 0:
        raise DataError(f"an interval on the logarithm needs a value above 0, not {value}")
    from scipy import stats  # slow to import

    reach = float(stats.t.ppf((1 + level) / 2, df)) * stderr / value
    return None if reach >= log(1e6) else (value * exp(-reach), value * exp(reach))


def seed_mean(
    values: Sequence[float] | np.ndarray, unit: str = "share", level: float = 0.95
) -> Estimate:
    """Mean over training seeds with Student's t interval.

    `mean +- t_{(1+level)/2, S-1} * s / sqrt(S)`. The mean is unbiased; the interval is exact where
    seeds are normal (simulated coverage with 3 seeds: 0.95, tests/test_stats.py). With one seed the
    standard error and the interval are None, and so they are where all seeds agree: t would make a certainty of it.

    Source: Student (1908). By hand: mean 0.5, s = 0.1, t_{.975,2} = 4.303, so the half width is
    4.303*0.1/sqrt(3) = 0.248.

    >>> e = seed_mean([0.4, 0.5, 0.6])
    >>> round(e.value, 3), round(e.stderr, 4), round(e.low, 3), round(e.high, 3), e.n
    (0.5, 0.0577, 0.252, 0.748, 3)
    >>> seed_mean([0.4]).low is None, seed_mean([0.4, 0.4]).stderr is None
    (True, True)
    """
    array = finite_values(values, "seeds")
    n = len(array)
    mean = float(array.mean())
    if float(np.ptp(array)) <= ROUNDING * float(np.abs(array).max()):
        return Estimate(mean, None, n, unit)
    stderr = float(array.std(ddof=1) / sqrt(n))
    from scipy import stats  # slow to import

    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * stderr
    return Estimate(mean, stderr, n, unit, mean - half, mean + half)


def share(successes: int, n: int, unit: str = "share", level: float = 0.95) -> Estimate:
    """Share of `n` items with Wilson's score interval, for one checkpoint.

    `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`. The standard error is
    `sqrt(p(1-p)/n)`, and None at p = 0 or 1, where that formula would claim certainty.

    Source: Wilson (1927). By hand, 8 of 10, z = 1.96: centre (0.8+0.1921)/1.3842 = 0.7167,
    half 1.96*sqrt(0.016+0.0096)/1.3842 = 0.2266.

    >>> e = share(8, 10)
    >>> round(e.value, 3), round(e.low, 3), round(e.high, 3)
    (0.8, 0.49, 0.943)
    >>> share(0, 100).stderr is None
    True
    """
    if n <= 0 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes of {n} items is not a share")
    p = successes / n
    from statsmodels.stats.proportion import proportion_confint  # slow to import, with pandas

    ends = np.asarray(proportion_confint(successes, n, alpha=1 - level, method="wilson"))
    stderr = sqrt(p * (1 - p) / n) if 0 < successes < n else None
    return Estimate(p, stderr, n, unit, float(ends[0]), float(ends[1]))


def item_mean(
    scores: Sequence[float] | np.ndarray, unit: str = "share", level: float = 0.95
) -> Estimate:
    """Mean score of one checkpoint over items: Wilson where every score is 0 or 1, else t.

    >>> item_mean([1.0, 0.0, 1.0, 1.0]) == share(3, 4)
    True
    >>> e = item_mean([0.2, 0.4, 0.6])
    >>> round(e.value, 3), round(e.stderr, 4)
    (0.4, 0.1155)
    """
    array = finite_values(scores, "item scores")
    if np.isin(array, (0.0, 1.0)).all():
        return share(int(array.sum()), len(array), unit, level)
    return seed_mean(array, unit, level)


def two_level_bootstrap(
    scores: Sequence[Sequence[float]] | np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
    unit: str = "share",
) -> Estimate:
    """Mean of `scores` [seeds, items] with a percentile interval over both levels.

    Each resample draws seeds with replacement and items with replacement (the same items for every
    drawn seed, because the items are crossed with the seeds) and takes the mean. The seeds' part of
    the variance comes out too small by `(S-1)/S`: at 8 seeds a 95 % interval covers 0.90 to 0.94 (docs/statistics.md);
    refused below 8 seeds.

    Source: Efron & Tibshirani (1993), chapter 8; Owen (2007), "The pigeonhole bootstrap".

    >>> two_level_bootstrap(np.zeros((3, 9)), seed=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    statewise.errors.DataError: a bootstrap over seeds needs 8 seeds or more, not 3: use ...
    >>> two_level_bootstrap(np.full((8, 5), 0.5), seed=0).low
    0.5
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise DataError(f"need finite scores of shape [seeds, items], not shape {table.shape}")
    n_seeds, n_items = table.shape
    if n_seeds < MINIMUM_BOOTSTRAP_SEEDS:
        raise DataError(
            f"a bootstrap over seeds needs {MINIMUM_BOOTSTRAP_SEEDS} seeds or more, "
            f"not {n_seeds}: use crossed_effect"
        )
    rng = np.random.default_rng(seed)
    # How often each seed and item was drawn: a resample's mean is seeds^T scores items / (S n).
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=resamples) / n_seeds
    items = rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=resamples) / n_items
    means = np.einsum("rs,si,ri->r", seeds, table, items, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        float(table.mean()), float(means.std(ddof=1)), n_seeds, unit, float(low), float(high)
    )


def paired_bootstrap(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
    unit: str = "difference",
) -> Estimate:
    """Mean difference of two checkpoints on the same items, with a percentile interval over items.

    Each resample draws items with replacement, both checkpoints' scores of an item together. Speaks of
    these weights and of no other training run. Equal scores everywhere leave the error unknown here;
    `item_effect`, which claims use, has a floor for that.

    Source: Efron & Tibshirani (1993), chapters 8 and 13; Koehn (2004) for paired system scores.

    >>> e = paired_bootstrap([1.0, 1.0, 0.0, 1.0] * 25, [1.0, 0.0, 0.0, 1.0] * 25, seed=0)
    >>> e.value, round(e.stderr, 2), e.n  # sqrt(.1875/100) = .0433
    (0.25, 0.04, 100)
    >>> paired_bootstrap([1.0, 0.0], [1.0, 0.0], seed=0).stderr is None
    True
    """
    a, b = finite_values(first, "item scores"), finite_values(second, "item scores")
    if a.shape != b.shape:
        raise DataError(f"a paired bootstrap needs scores of the same items: {len(a)} and {len(b)}")
    d, n = a - b, len(a)
    if n < 2 or not np.ptp(d):
        return Estimate(float(d.mean()), None, n, unit)
    rng = np.random.default_rng(seed)
    # How often each *value* was drawn is all that a mean needs: a handful of values where scores are 0 or 1.
    values, counts = np.unique(d, return_counts=True)
    drawn = rng.multinomial(n, counts / n, size=resamples)
    means = drawn @ values / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(d.mean()), float(means.std(ddof=1)), n, unit, float(low), float(high))
