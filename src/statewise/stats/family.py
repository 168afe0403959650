"""Several tests, one decision: Holm across claims, intersection-union within one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.errors import DataError


@dataclass(frozen=True, slots=True)
class Adjusted:
    """One test of a family after adjustment. `alpha` is the one-sided level its bounds may use."""

    p: float
    p_adjusted: float
    alpha: float
    rejected: bool


def holm(p_values: Sequence[float | None], alpha: float = 0.05) -> tuple[Adjusted, ...]:
    """Holm's step-down adjustment, with the level at which each test's interval agrees with it.

    In ascending order the k-th of m tests is compared with `alpha/(m-k+1)` until the first failure;
    that one and all after it fail. `p_adj_k = max_{j<=k} (m-j+1) p_j`. A rejected test's bound is
    drawn at its own `alpha/(m-k+1)`, every other one at the level of the first failure, so a bound
    excludes the margin exactly if `p_adjusted <= alpha`. A test without a p value (None) counts
    as 1: what was planned stays in the family. Controls the chance of any false rejection at
    `alpha`.

    Source: Holm (1979). By hand, (.01, .04, .03): .03, then 2*.03 = .06, then max(.06, .04) = .06.

    >>> [(round(a.p_adjusted, 3), round(a.alpha, 4), a.rejected) for a in holm([0.01, 0.04, 0.03])]
    [(0.03, 0.0167, True), (0.06, 0.025, False), (0.06, 0.025, False)]
    """
    ps = [1.0 if p is None else float(p) for p in p_values]
    if not ps:
        return ()
    if any(not 0 <= p <= 1 for p in ps):
        raise DataError(f"p values lie in [0, 1], not {ps}")
    from statsmodels.stats.multitest import multipletests  # slow to import, with pandas

    outcome = multipletests(ps, alpha=alpha, method="holm")
    rejected, adjusted = np.asarray(outcome[0]), np.asarray(outcome[1])
    m = len(ps)
    order = sorted(range(m), key=lambda i: ps[i])
    first_failure = next((k for k, i in enumerate(order) if not rejected[i]), m - 1)
    levels = {i: alpha / (m - min(k, first_failure)) for k, i in enumerate(order)}
    return tuple(
        Adjusted(ps[i], float(adjusted[i]), levels[i], bool(rejected[i])) for i in range(m)
    )


def intersection_union(p_values: Sequence[float | None]) -> float | None:
    """The p value of "all of them": the largest. Needs no correction; None if one is unknown.

    Source: Berger (1982).

    >>> intersection_union([0.01, 0.2, 0.03])
    0.2
    """
    if not p_values:
        raise DataError("an intersection-union test needs at least one part")
    known = [p for p in p_values if p is not None]
    return max(known) if len(known) == len(p_values) else None
