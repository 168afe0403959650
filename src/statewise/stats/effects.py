"""Differences between arms: the estimate, its interval, and one-sided tests against a margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np

from statewise.errors import DataError
from statewise.stats.estimate import ROUNDING, finite_values


@dataclass(frozen=True, slots=True)
class Scale:
    """One yardstick for an effect's error: a standard error and its degrees of freedom."""

    stderr: float
    df: float


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference between arms and the yardsticks of its error.

    An effect with several `scales` is judged by the least favourable: its interval is the widest
    and its p value the largest. `scales` is empty if nothing is known of the error.
    `n_clusters` counts what is independent: items, or clusters of items that are not.
    """

    value: float
    scales: tuple[Scale, ...]
    n_seeds: int
    n_clusters: int


def paired_effect(differences: Sequence[float] | np.ndarray, n_clusters: int) -> Effect:
    """Mean of per-seed paired differences, seeds as the only random thing.

    `mean(d)`, standard error `s_d / sqrt(S)`, S-1 degrees of freedom. Unbiased, and blind to the
    error that all seeds share because they are scored on the same items: see `crossed_effect`.
    Seeds that agree to the last digit give no scale: that they agree is no certainty.

    Source: the paired t test, Student (1908). By hand: mean 0.2, s = 0.1, 0.1/sqrt(3) = 0.0577.

    >>> e = paired_effect([0.1, 0.2, 0.3], n_clusters=1000)
    >>> round(e.value, 3), round(e.scales[0].stderr, 4), e.scales[0].df
    (0.2, 0.0577, 2.0)
    """
    d = finite_values(differences, "paired differences")
    n = len(d)
    stderr = float(d.std(ddof=1) / sqrt(n)) if n > 1 else 0.0
    scales = (Scale(stderr, float(n - 1)),) if stderr > ROUNDING else ()
    return Effect(float(d.mean()), scales, n, n_clusters)


def least_item_variance(table: np.ndarray) -> float:
    """A floor for the items' part of the variance of a mean: `(2/n)^2`, or 0 if none is needed.

    Of n right-or-wrong items on which two arms never differ, the share that would differ can still
    be `-ln(alpha)/n` (the rule of three at alpha = 0.05), not 0; with one or two that differ, the
    sample variance is hardly better. A standard error of `2/n` gives the bound
    `2 z_{1-alpha} / n`, which is at least `-ln(alpha)/n` for every alpha from 0.5 down to 0.008,
    Holm's levels for six claims. Without it "nothing differs" would be known for certain from
    four items, and an equivalence "shown" by them. It holds for tables of -1, 0 and 1, and for any
    other table in which seeds and items all agree; scores lie in [0, 1]. One-sided coverage at
    0.95 where 0.5 to 8 of 60 items differ: 0.92-1.0, without the floor 0.39-0.92
    (tests/test_stats.py).

    Source: Hanley & Lippman-Hand (1983), "If nothing goes wrong, is everything all right?".

    >>> least_item_variance(np.zeros((3, 100)))  # (2/100)^2
    0.0004
    >>> least_item_variance(np.array([[0.1, 0.7], [0.2, 0.3]]))
    0.0
    """
    n = table.shape[1]
    agree = max(float(np.ptp(table.mean(axis=axis))) for axis in (0, 1)) <= ROUNDING
    return (2 / n) ** 2 if agree or bool(np.isin(table, (-1.0, 0.0, 1.0)).all()) else 0.0


def crossed_effect(differences: Sequence[np.ndarray]) -> Effect:
    """Mean of item-paired differences with seeds *and* items as random things.

    `differences` holds one table [seeds, items] for each task: score of one arm minus score of the
    other on the same item and the same seed. The effect is the plain mean over tasks of the task
    means. Seeds are scored on the same items, so an item's luck is shared by all of them and a
    t test over seeds never sees it. For one task, with rows' means r, columns' means c and mean
    squares MS,

        V = V_seed + V_item - V_res
        V_seed = var(r)/S,  V_item = var(c)/n,  V_res = MS_res/(S n)
        df = V^2 / (V_seed^2/(S-1) + V_item^2/(n-1) + V_res^2/((S-1)(n-1)))

    V is unbiased for the variance of the grand mean. Over T tasks the seeds' part is taken from
    the seeds' means over tasks, the others are summed with weights 1/T^2. The second scale is the
    plain t over seeds. Judged by the wider of the two, the 95 % interval covers 0.94-0.98 of the
    time at 2 to 5 seeds whatever the mixture of seed and item variance; the t over seeds alone
    covers 0.72 at 3 seeds when items dominate, and the crossed scale alone 0.92 when seeds do
    (tests/test_stats.py).

    V_item has a floor where few items differ (`least_item_variance`). A task with one item, or one
    cluster of items, says nothing of the items' error: then there is no scale.

    Source: Cornfield & Tukey (1956); Satterthwaite (1946) for df. By hand, [[0, 1], [1, 2]]: mean
    1, r = (.5, 1.5), c = (.5, 1.5), no residual: V = .25 + .25, df = .25/(.0625+.0625) = 2.

    >>> e = crossed_effect([np.array([[0.0, 1.0], [1.0, 2.0]])])
    >>> e.value, [(round(s.stderr, 4), s.df) for s in e.scales]
    (1.0, [(0.7071, 2.0), (0.5, 1.0)])
    >>> crossed_effect([np.array([[0.0, 1.0]])]).scales  # one seed: nothing to say about a method
    ()
    """
    tables = [np.asarray(table, dtype=np.float64) for table in differences]
    if not tables or any(t.ndim != 2 or not t.size or not np.isfinite(t).all() for t in tables):
        raise DataError("need at least one finite table of differences [seeds, items]")
    n_seeds = len(tables[0])
    if any(len(table) != n_seeds for table in tables):
        raise DataError(f"every task needs the same seeds, not {[len(t) for t in tables]}")
    n_clusters = sum(table.shape[1] for table in tables)
    by_seed = np.mean([table.mean(axis=1) for table in tables], axis=0)
    over_seeds = paired_effect(by_seed, n_clusters)
    if n_seeds == 1 or any(table.shape[1] < 2 for table in tables):
        return replace(over_seeds, scales=())

    v_seed = float(by_seed.var(ddof=1)) / n_seeds
    v_item, v_res, spread = 0.0, 0.0, v_seed**2 / (n_seeds - 1)
    for table in tables:
        n = table.shape[1]
        columns = table.mean(axis=0)
        residual = table - table.mean(axis=1, keepdims=True) - columns + table.mean()
        freedom = (n_seeds - 1) * (n - 1)
        items = max(float(columns.var(ddof=1)) / n, least_item_variance(table))
        items /= len(tables) ** 2
        rest = float((residual**2).sum()) / freedom / (n_seeds * n) / len(tables) ** 2
        v_item, v_res = v_item + items, v_res + rest
        spread += items**2 / (n - 1) + rest**2 / freedom
    # The unbiased V can fall below either part by chance; a variance cannot.
    variance = max(v_seed + v_item - v_res, v_seed, v_item)
    df = variance**2 / spread if spread > 0 else float(n_seeds - 1)
    crossed = Scale(sqrt(variance), max(df, float(n_seeds - 1)))
    return replace(over_seeds, scales=(crossed, *over_seeds.scales))


def item_effect(differences: Sequence[np.ndarray]) -> Effect:
    """Mean of item-paired differences between two checkpoints: items are the only random thing.

    One vector [items] for each task; the effect is the mean over tasks of the task means, its error
    `sqrt(sum_t var(d_t)/n_t) / T`, normal, with the floor of `least_item_variance`. A task with one
    item leaves the error unknown. Says nothing about another training run.

    Source: Miller (2024), "Adding error bars to evals", section 3.3. By hand: mean 0.5, sample
    variance 5/19, sqrt(5/19/20) = 0.1147.

    >>> e = item_effect([np.array([1.0, 0.0] * 10)])
    >>> e.value, round(e.scales[0].stderr, 4), e.scales[0].df
    (0.5, 0.1147, inf)
    """
    vectors = [finite_values(vector, "item differences") for vector in differences]
    if not vectors:
        raise DataError("need at least one vector of item differences")
    value = float(np.mean([v.mean() for v in vectors]))
    n_clusters = sum(len(v) for v in vectors)
    if min(len(v) for v in vectors) < 2:
        return Effect(value, (), 1, n_clusters)
    variance = sum(
        max(float(v.var(ddof=1)) / len(v), least_item_variance(v[None])) for v in vectors
    )
    return Effect(value, (Scale(sqrt(variance) / len(vectors), inf),), 1, n_clusters)


def interval(effect: Effect, alpha: float = 0.05) -> tuple[float, float] | None:
    """Two one-sided bounds at `alpha` each, that is a `1 - 2 alpha` interval; None if unknown.

    >>> low, high = interval(paired_effect([0.1, 0.2, 0.3], 1000))  # t_{.95,2} = 2.920
    >>> round(low, 3), round(high, 3)
    (0.031, 0.369)
    """
    if not effect.scales:
        return None
    from scipy import stats  # slow to import

    half = max(float(stats.t.ppf(1 - alpha, s.df)) * s.stderr for s in effect.scales)
    return effect.value - half, effect.value + half


def p_above(effect: Effect, margin: float = 0.0) -> float | None:
    """One-sided p of "the effect is at most `margin`": small if it is above. None if unknown.

    `P(t_df >= (value - margin) / stderr)`, the largest over the scales. Below `alpha` exactly if
    the low end of `interval(effect, alpha)` is above `margin`.

    >>> round(p_above(paired_effect([0.1, 0.2, 0.3], 1000)), 4)  # t = 3.464 on 2 df
    0.0371
    """
    if not effect.scales:
        return None
    return max(_tail(effect.value - margin, scale) for scale in effect.scales)


def p_below(effect: Effect, margin: float = 0.0) -> float | None:
    """One-sided p of "the effect is at least `margin`": small if it is below.

    >>> round(p_below(paired_effect([-0.1, -0.2, -0.3], 1000)), 4)
    0.0371
    """
    if not effect.scales:
        return None
    return max(_tail(margin - effect.value, scale) for scale in effect.scales)


def _tail(distance: float, scale: Scale) -> float:
    from scipy import stats  # slow to import

    return float(stats.t.sf(distance / scale.stderr, scale.df))


def p_equivalent(effect: Effect, margin: float) -> float | None:
    """Two one-sided tests (TOST) of `|effect| < margin`: the larger of the two p values.

    Below `alpha` exactly if the `1 - 2 alpha` interval lies inside `(-margin, margin)`.

    Source: Schuirmann (1987). By hand: value 0, stderr 0.01, df inf, margin 0.0196: z = 1.96 twice.

    >>> round(p_equivalent(Effect(0.0, (Scale(0.01, inf),), 1, 100), 0.0196), 3)
    0.025
    """
    if margin <= 0:
        raise DataError(f"an equivalence margin must be above 0, not {margin}")
    above, below = p_above(effect, -margin), p_below(effect, margin)
    return None if above is None or below is None else max(above, below)


def mcnemar_exact(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> float:
    """Two-sided exact p that two checkpoints answer equally many of the same items.

    Of `b + c` items on which they disagree, `b` go to the first: `2 P(Bin(b+c, 1/2) <= min(b, c))`.

    Source: McNemar (1947). By hand, b = 5, c = 0: 2 / 2^5 = 0.0625.

    >>> mcnemar_exact(np.array([1, 1, 1, 1, 1, 0]), np.zeros(6))
    0.0625
    """
    a, b = finite_values(first, "item scores"), finite_values(second, "item scores")
    if a.shape != b.shape or not np.isin([a, b], (0.0, 1.0)).all():
        raise DataError("McNemar's test needs two equally long rows of 0 and 1")
    wins, losses = int((a > b).sum()), int((b > a).sum())
    if wins + losses == 0:
        return 1.0
    from scipy import stats  # slow to import

    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)
