"""How much of forgetting a scalar drift explains, asked of methods that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations as orders_of
from math import exp, factorial, log, sqrt

import numpy as np
from jaxtyping import Bool, Float

from statewise.errors import DataError
from statewise.stats.effects import Effect, Scale, interval
from statewise.stats.estimate import ROUNDING
from statewise.stats.reliability import reliability

MINIMUM_METHODS, MINIMUM_DOSES, MINIMUM_SEEDS = 6, 4, 2
"""Below this spread a regression over runs says which runs there were, and nothing of methods."""
PERMUTATIONS = 999
LEAST_RELIABILITY = 0.8
"""Below this share of signal in what is measured, a line that fails may fail for the noise alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How well forgetting and drift were measured, in the least favourable of the parts that an estimate rests on.

    Parts are all methods, and all but one (the jackknife's). `too_poor` says why nothing can be decided, or is None.
    """

    forgetting: float
    drift: float
    range: float
    """Largest minus smallest forgetting of an arm, mean over its seeds."""
    ceiling: float
    """Of all methods: reliability of forgetting times that of drift."""
    too_poor: str | None


@dataclass(frozen=True, slots=True)
class Explained:
    """`skill` is the share of a method's forgetting that a line through the other methods explains.

    `log_error` is `log(1 - skill)` with its error, `without_stress` the same where the stress doses are
    left out (None if too few methods are left), and `p_permutation` the chance of so large an R^2 if
    drifts belonged to other methods than their own. An error is unknown if `measured` says that nothing
    can be decided.
    """

    log_error: Effect
    without_stress: Effect | None
    r2: float
    r2_without_stress: float | None
    rmse_held_out: float
    rmse_of_mean: float
    p_permutation: float | None
    methods: int
    doses: int
    seeds: int
    measured: Measured

    @property
    def skill(self) -> float:
        """1: drift says all; 0: no more than the mean of the other methods; below 0: less."""
        return 1 - exp(self.log_error.value)

    @property
    def of_ceiling(self) -> float:
        """`skill / ceiling`: of what a perfect line could have explained, given how well both were measured.

        Above 1 by chance, and where drift follows forgetting from seed to seed too, which counts as an error here.
        """
        return self.skill / self.measured.ceiling if self.measured.ceiling > 0 else self.skill

    def interval_of_ceiling(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """The bounds of `of_ceiling`, the ceiling itself held fixed; None if unknown."""
        found = self.interval(alpha)
        ceiling = self.measured.ceiling
        return None if found is None else (found[0] / ceiling, found[1] / ceiling)

    def interval(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """Two one-sided bounds of the skill at `alpha` each; None if its error is unknown."""
        found = interval(self.log_error, alpha)
        return None if found is None else (1 - exp(found[1]), 1 - exp(found[0]))


def shortfall(doses: Mapping[str, Mapping[str, int]]) -> str | None:
    """Why a design cannot say how much drift explains, or None: seeds by dose by method.

    >>> shortfall({"sft": {"mild": 3, "stress": 3}, "rl": {"grpo": 3}})
    'a regression of forgetting on drift needs 6 methods x 4 doses x 2 seeds, this design has 2 methods \
with at least 1 dose of at least 3 seeds'
    """
    enough = len(doses) >= MINIMUM_METHODS and all(
        sum(seeds >= MINIMUM_SEEDS for seeds in method.values()) >= MINIMUM_DOSES
        for method in doses.values()
    )
    if enough:
        return None
    fewest = min((len(method) for method in doses.values()), default=0)
    seeds = min((n for method in doses.values() for n in method.values()), default=0)
    return (
        f"a regression of forgetting on drift needs {MINIMUM_METHODS} methods x {MINIMUM_DOSES} doses x "
        f"{MINIMUM_SEEDS} seeds, this design has {len(doses)} methods with at least {fewest} "
        f"dose{'s' * (fewest != 1)} of at least {seeds} seed{'s' * (seeds != 1)}"
    )


def nothing_to_explain(
    forgetting: Mapping[str, Float[np.ndarray, "D S"]],
    stress: Mapping[str, Sequence[bool]] | None = None,
) -> str | None:
    """If forgetting is the same in every run of a part that `explained` looks at, in words; or None.

    `forgetting` [doses, seeds] by method and `stress` as for `explained`. Parts are all methods and, for the
    jackknife, all but one; each with the stress doses, and without them where enough methods are left.

    >>> flat = {name: np.zeros((4, 2)) for name in "abcdef"}
    >>> nothing_to_explain(flat | {"b": np.arange(8.0).reshape(4, 2)})
    "forgetting is the same in every run of all methods but 'b'"
    """
    names = list(forgetting)
    y, kept = (
        np.stack([part[name] for name in names]) for part in (forgetting, _kept(forgetting, stress))
    )
    for runs, where in ((np.ones(y.shape, bool), ""), (kept, ", without the stress arms")):
        present = np.flatnonzero(runs.any(axis=(1, 2)))
        if len(present) < MINIMUM_METHODS:
            continue
        for out in (None, *present):
            part = runs.copy()
            part[[] if out is None else out] = False
            if float(np.ptp(y[part])) <= ROUNDING:
                but = "" if out is None else f" but {names[out]!r}"
                return f"forgetting is the same in every run of all methods{but}{where}"
    return None


def explained(
    drift: Mapping[str, Float[np.ndarray, "_ _"]],
    forgetting: Mapping[str, Float[np.ndarray, "_ _"]],
    stress: Mapping[str, Sequence[bool]] | None = None,
    *,
    seed: int = 0,
    permutations: bool = True,
    item_variance: float = 0.0,
    least_range: float = 0.0,
) -> Explained:
    """Regress forgetting on drift over runs, and predict each method from all the others.

    `drift` and `forgetting` map a method to a table [doses, seeds], all of one shape; `stress` says which of
    its doses are stress arms. With `e_m` the mean squared error of method m's points under the line of least
    squares through the other methods' points, and `b_m` under their mean,

        skill = 1 - sum_m e_m / sum_m b_m

    1: drift says all; 0: no more than the mean of other methods; below 0: less. Methods are the unit: the
    error is the delete-one-method jackknife's of `log(sum e / sum b)`, t on M - 1 degrees of freedom. On the
    skill itself, linearised, a 95 % interval covers 0.79 to 0.92 at 6 methods, on the logarithm 0.94
    to 0.95 (docs/statistics.md). The in-sample R^2 is reported beside it, for comparison with papers, and its
    permutation p: which method's drifts go with which method's forgetting is shuffled, doses and seeds
    staying in their order, all ways up to 6 methods, else 999 drawn; None if they are not asked for.

    Noise cannot be explained, so a low skill alone says nothing against drift. A perfect line through points whose
    forgetting and drift have reliabilities r and q (`reliability`: seeds, and `item_variance`, the error that an
    arm's seeds share) has skill r q, to order 1 / methods: the noise ceiling (Spearman, 1904), which `of_ceiling`
    divides by. Where r or q is below 0.8, or the arms' forgetting differs by no more than `least_range`, in all
    methods or in all but one, nothing can be decided: errors are unknown then, and `measured.too_poor` says why. An
    error of drift that all seeds share (one sample of the base's states) is in none of these.

    Raises DataError for fewer than 6 methods x 4 doses x 2 seeds, for tables of different shapes, and where
    forgetting does not differ, in all methods or all but one (`nothing_to_explain`).

    By hand, with two of three methods on the line y = x and the third off it, see tests/test_explained.py.
    """
    names = list(forgetting)
    if list(drift) != names:
        raise DataError("drift and forgetting need the same methods in the same order")
    shapes = {np.shape(table) for tables in (drift, forgetting) for table in tables.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise DataError(
            f"every method needs as many doses and seeds as the others: [doses, seeds], not {shapes}"
        )
    ((doses, seeds),) = shapes
    lacking = shortfall({name: {str(d): seeds for d in range(doses)} for name in names})
    if lacking:
        raise DataError(lacking)
    x = np.stack([np.asarray(drift[name], np.float64) for name in names])
    y = np.stack([np.asarray(forgetting[name], np.float64) for name in names])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("drift and forgetting must be finite")
    if same := nothing_to_explain(forgetting, stress):
        raise DataError(f"{same}: there is nothing to explain")
    every = np.ones(x.shape, bool)
    kept = np.stack(list(_kept(forgetting, stress).values()))
    errors, means = held_out_errors(x, y, every)
    count = float(every.sum())
    rest = kept.any(axis=(1, 2)).sum() >= MINIMUM_METHODS
    measured = _measured(x, y, every, names, item_variance, least_range)
    calm = _measured(x, y, kept, names, item_variance, least_range) if rest else None
    return Explained(
        log_error=_log_error(x, y, every, measured),
        without_stress=_log_error(x, y, kept, calm) if calm else None,
        r2=r_squared(x, y, every),
        r2_without_stress=r_squared(x, y, kept) if rest else None,
        rmse_held_out=sqrt(errors.sum() / count * doses * seeds),
        rmse_of_mean=sqrt(means.sum() / count * doses * seeds),
        p_permutation=_permutation_p(x, y, seed) if permutations else None,
        methods=len(names),
        doses=doses,
        seeds=seeds,
        measured=measured,
    )


def _measured(
    x: np.ndarray,
    y: np.ndarray,
    kept: np.ndarray,
    names: Sequence[str],
    item_variance: float,
    least_range: float,
) -> Measured:
    """How well the runs of `kept` were measured, and why that is too little."""
    present = np.flatnonzero(kept.any(axis=(1, 2)))
    figures, reason = [], None
    for out in (None, *present.tolist()):
        part = kept.copy()
        part[[] if out is None else out] = False
        lost = reliability(y, part, item_variance=item_variance)
        moved = reliability(x, part)
        spread = float(np.ptp(y[part.all(axis=2)].mean(axis=1)))
        figures.append((lost, moved, spread))
        of = "" if out is None else f" of all methods but {names[out]!r}"
        if reason is None:
            reason = _too_poor(lost, moved, spread, least_range, of)
    lost, moved, spread = (min(column) for column in zip(*figures, strict=True))
    return Measured(lost, moved, spread, figures[0][0] * figures[0][1], reason)


def _too_poor(lost: float, moved: float, spread: float, least: float, of: str) -> str | None:
    if spread <= least and least > 0:
        return f"forgetting{of} differs between arms by {spread:.3f}, no more than {least:g}"
    for what, found in (("forgetting", lost), ("drift", moved)):
        if found < LEAST_RELIABILITY:
            return (
                f"{what}{of} has a reliability of {found:.2f} from run to run, below {LEAST_RELIABILITY:g}: "
                "what differs may be seeds and items alone"
            )
    return None


def held_out_errors(
    x: Float[np.ndarray, "M D S"], y: Float[np.ndarray, "M D S"], kept: Bool[np.ndarray, "M D S"]
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Mean squared errors of each method's points: by the others' line, and by the others' mean.

    Arrays are [methods, doses, seeds]; `kept` says which runs take part. Returns two vectors, one entry for each of
    the P methods of which anything is kept.

    Source: Stone (1974), cross-validation, a method at a time.

    >>> x = np.array([[[0.0, 1.0]], [[1.0, 2.0]], [[2.0, 4.0]]])
    >>> line, mean = held_out_errors(x, x, np.ones(x.shape, bool))
    >>> line.round(6).tolist(), mean.round(4).tolist()  # first: others' mean 2.25; (2.25^2 + 1.25^2)/2
    ([0.0, 0.0, 0.0], [3.3125, 0.3125, 5.0])
    """
    present = [m for m in range(len(x)) if kept[m].any()]
    errors, means = [], []
    for m in present:
        others = kept.copy()
        others[m] = False
        slope, intercept = _line(x[others], y[others])
        mine = kept[m]
        errors.append(float(((y[m][mine] - slope * x[m][mine] - intercept) ** 2).mean()))
        means.append(float(((y[m][mine] - y[others].mean()) ** 2).mean()))
    return np.array(errors), np.array(means)


def r_squared(
    x: Float[np.ndarray, "M D S"], y: Float[np.ndarray, "M D S"], kept: Bool[np.ndarray, "M D S"]
) -> float:
    """In-sample R^2 of one line through all points: the squared correlation; 0 where either is constant.

    Arrays are [methods, doses, seeds]; `kept` says which runs take part.

    Source: Pearson (1896), the square of r. By hand, x 0, 1, 2 and y 0, 1, 0 deviate by (-1, 0, 1) and
    (-1/3, 2/3, -1/3), whose product sums to 0; without the last run two points lie on their line.

    >>> x, y = np.array([[[0.0, 1.0, 2.0]]]), np.array([[[0.0, 1.0, 0.0]]])
    >>> kept = np.ones(x.shape, bool)
    >>> r_squared(x, y, kept)
    0.0
    >>> kept[0, 0, 2] = False
    >>> r_squared(x, y, kept)
    1.0
    """
    a, b = x[kept] - x[kept].mean(), y[kept] - y[kept].mean()
    scale = float((a @ a) * (b @ b))
    return float((a @ b) ** 2 / scale) if scale > 0 else 0.0


def _kept(
    forgetting: Mapping[str, np.ndarray], stress: Mapping[str, Sequence[bool]] | None
) -> dict[str, np.ndarray]:
    """Runs that are no stress, [doses, seeds] by method."""
    kept = {name: np.ones(np.shape(table), bool) for name, table in forgetting.items()}
    for name, runs in kept.items():
        runs[list(stress[name]) if stress else []] = False
    return kept


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    spread = x - x.mean()
    squares = float(spread @ spread)
    slope = float(spread @ y) / squares if squares > 0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())


def _log_error(x: np.ndarray, y: np.ndarray, kept: np.ndarray, measured: Measured) -> Effect:
    """`log(sum e / sum b)` with its jackknife error over methods; unknown if too little was measured."""

    def ratio(methods: np.ndarray) -> float:
        errors, means = held_out_errors(x[methods], y[methods], kept[methods])
        # A line that misses nothing at all would be known for certain on this scale.
        return log(max(float(errors.sum() / means.sum()), ROUNDING))

    present = np.flatnonzero(kept.any(axis=(1, 2)))
    left = np.array([ratio(present[present != m]) for m in present])
    count = len(present)
    stderr = sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    known = stderr > ROUNDING and measured.too_poor is None
    scales = (Scale(stderr, float(count - 1)),) if known else ()
    return Effect(ratio(present), scales, x.shape[2], count)


def _permutation_p(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    every = np.ones(x.shape, bool)
    found, count = r_squared(x, y, every), len(x)
    if factorial(count) <= factorial(MINIMUM_METHODS):
        orders = [np.array(order) for order in orders_of(range(count))]
        larger = sum(r_squared(x[order], y, every) >= found - 1e-12 for order in orders)
        return larger / len(orders)
    rng = np.random.default_rng(seed)
    larger = sum(
        r_squared(x[rng.permutation(count)], y, every) >= found - 1e-12 for _ in range(PERMUTATIONS)
    )
    return (1 + larger) / (1 + PERMUTATIONS)
