"""What a design can see: the smallest true effect that it would report at least 8 times in 10."""

from __future__ import annotations

from math import isinf, sqrt

from statewise.errors import DataError

POWER = 0.8


def part_power(parts: int, sides: int = 1, power: float = POWER) -> float:
    """The power that each test needs where a claim is supported only if all of them pass.

    `1 - (1 - power) / (parts * sides)`: the misses are shared out, so that the chance that any test misses is
    at most `1 - power`, however the tests depend on each other (Bonferroni). An equivalence has two `sides`.

    Source: Berger (1982) for the test of "all of them"; Phillips (1990) for the two sides at no effect. By
    hand, two comparisons: each may miss 1 time in 10.

    >>> round(part_power(1), 4), round(part_power(2), 4), round(part_power(2, sides=2), 4)
    (0.8, 0.9, 0.95)
    """
    if parts < 1 or sides not in (1, 2) or not 0.5 <= power < 1:
        raise DataError(
            f"need parts >= 1, sides 1 or 2, 0.5 <= power < 1, not {parts}, {sides}, {power}"
        )
    return 1 - (1 - power) / (parts * sides)


def detectable_beyond(stderr: float, df: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Distance beyond the margin that a one-sided test at `alpha` sees with chance `power`.

    Solves `P(t'_{df, delta} > t_{1-alpha, df}) = power` for the noncentrality delta and returns
    `delta * stderr`; with infinite df that is `(z_{1-alpha} + z_power) * stderr`. The standard
    error is taken as known, so from 3 seeds the answer is itself rough (a factor 2 either way).

    Source: Cohen (1988), chapter 2. By hand, df = inf: 1.6449 + 0.8416 = 2.4865.

    >>> round(detectable_beyond(0.01, float("inf")), 4), round(detectable_beyond(0.01, 2.0), 4)
    (0.0249, 0.0398)
    """
    if not 0 < alpha < 0.5 or not 0.5 <= power < 1:
        raise DataError(f"need 0 < alpha < 0.5 <= power < 1, not alpha={alpha}, power={power}")
    from scipy import optimize, stats  # slow to import

    if isinf(df):
        return float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)) * stderr
    bound = float(stats.t.ppf(1 - alpha, df))

    def shortfall(delta: float) -> float:
        return float(stats.nct.sf(bound, df, delta)) - power

    return float(optimize.root_scalar(shortfall, bracket=(0.0, 4 * bound + 10)).root) * stderr


def smallest_detectable_seeds(
    sd: float, seeds: int, alpha: float = 0.05, power: float = POWER
) -> float:
    """Smallest mean difference that a paired t test over `seeds` sees, one-sided at `alpha`.

    `sd` is the standard deviation of the per-seed differences.

    >>> round(smallest_detectable_seeds(0.02, 3), 3), round(smallest_detectable_seeds(0.02, 10), 3)
    (0.046, 0.017)
    """
    if seeds < 2:
        raise DataError(f"a t test over seeds needs at least 2 seeds, not {seeds}")
    return detectable_beyond(sd / sqrt(seeds), float(seeds - 1), alpha, power)


def smallest_detectable_items(
    n: int, discordance: float, alpha: float = 0.05, power: float = POWER, sides: int = 2
) -> float:
    """Smallest difference in accuracy between two checkpoints that a test paired by item sees.

    `(z_{1-alpha/sides} + z_power) * sqrt(discordance / n)`, where `discordance` is the share of
    items on which they disagree (the variance of a paired difference near no effect).

    Source: Connor (1987). By hand: (1.960 + 0.842) * sqrt(0.2/500) = 0.0560.

    >>> [round(smallest_detectable_items(n, 0.2), 3) for n in (500, 1000, 2000)]
    [0.056, 0.04, 0.028]
    """
    if n <= 0 or not 0 < discordance <= 1 or sides not in (1, 2):
        raise DataError(
            f"need n > 0, 0 < discordance <= 1, sides 1 or 2: {n}, {discordance}, {sides}"
        )
    return detectable_beyond(sqrt(discordance / n), float("inf"), alpha / sides, power)
