"""Whether a scalar drift explains forgetting: runs as points, methods as the unit."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf, log

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims.claim import RETENTION, Unexplained
from statewise.claims.paired import differences, where
from statewise.formatting import number

DRIFTS = {
    "mmd2_hidden": "MMD² of hidden states",
    "mmd2_lexical": "MMD² of lexical features",
    "kl_to_base": "kl(student || base)",
    "update_norm": "the norm of the update",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The regression, and the items behind each point's forgetting."""

    of: stats.Explained
    n_items: int
    name: str = "all arms"

    @property
    def effect(self) -> stats.Effect:
        """What is tested: the logarithm of the error's ratio, whose error is known."""
        return self.of.log_error

    @property
    def value(self) -> float:
        """What is reported: the share explained of what could be explained."""
        return self.of.of_ceiling

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """The interval of `value`, one-sided at `alpha` on each side; None if the error is unknown."""
        return self.of.interval_of_ceiling(alpha)

    def p_unexplained(self, margin: float) -> float | None:
        """One-sided p of "drift explains `margin` of what it could, or more": small if it explains less."""
        return stats.p_above(self.of.log_error, self._threshold(margin))

    def p_explains(self, margin: float) -> float:
        """One-sided p of "drift explains less than that": all arms, without stress, and by chance."""
        parts = (self.of.log_error, self.of.without_stress)
        at = self._threshold(margin)
        ps = [None if part is None else stats.p_below(part, at) for part in parts]
        return max(inf if p is None else p for p in (*ps, self.of.p_permutation))

    def _threshold(self, margin: float) -> float:
        return log(1 - margin * self.of.measured.ceiling)

    def sentence(
        self,
        claim: Unexplained,
        bounds: tuple[float, float] | None,
        level: float,
        outcome: str,
    ) -> str:
        """What was found, in words."""
        of = self.of
        shown = "unknown" if bounds is None else " to ".join(number(b, sign=True) for b in bounds)
        said = (
            f"Of the forgetting of a method that it has not seen, {DRIFTS[claim.drift]} explains a share of "
            f"{number(of.of_ceiling, sign=True)} of what a perfect line could have explained ({100 * level:.3g} % "
            f"interval {shown}; {of.methods} methods, {of.doses} doses, {of.seeds} seeds; a share of "
            f"{number(of.skill, sign=True)} where noise allows {number(of.measured.ceiling, 2)}; reliability of "
            f"forgetting {number(of.measured.forgetting, 2)}, of drift {number(of.measured.drift, 2)}, or more; "
            f"error {number(of.rmse_held_out)} where the mean of the other methods has "
            f"{number(of.rmse_of_mean)}); R² of all runs {number(of.r2, 2)}, without the stress arms "
            f"{'unknown' if of.r2_without_stress is None else number(of.r2_without_stress, 2)}, permutation p "
            f"over methods {'unknown' if of.p_permutation is None else f'{of.p_permutation:.2g}'}"
        )
        margin = f"the margin of {claim.margin:g}"
        if outcome == "supported":
            return f"{said}: wholly below {margin}."
        if outcome == "contradicted":
            return f'{said}: wholly above {margin}, with and without stress, so that "it explains less" is excluded.'
        if bounds is not None and bounds[0] > claim.margin:
            return (
                f"{said}: above {margin}, but not without the stress arms, or not against drifts of other "
                "methods. Undecided."
            )
        return f"{said}: the interval reaches across {margin}. Undecided."


def explain(
    claim: Unexplained,
    scores: pd.DataFrame,
    roles: Mapping[str, str],
    fixed: AbstractSet[str],
    drifts: pd.DataFrame | None,
) -> Explanation | str:
    """The regression of a claim, or a sentence that says why there is none.

    A point is an arm and seed: its drift, and its forgetting (mean over retention tasks, eq. 12 of the
    paper) against the baseline. Seeds that some dose lacks are left out of all.
    """
    tasks = [name for name, role in roles.items() if role == RETENTION]
    if drifts is None or not len(drifts):
        return f"No {DRIFTS[claim.drift]} was measured."
    measured = where(drifts.dropna(), measure=claim.drift)
    drift = {
        (str(arm), int(seed)): float(value)
        for arm, seed, value in zip(
            measured["arm"], measured["seed"], measured["value"], strict=True
        )
    }
    loss: dict[tuple[str, int], float] = {}
    n_items = 0
    losses: dict[tuple[str, int], list[np.ndarray]] = {}
    baseline = where(scores, arm=claim.baseline)
    for arm in claim.arms:
        mine = where(scores, arm=arm)
        for seed in sorted(set(mine["seed"])):
            rival = baseline if claim.baseline in fixed else where(baseline, seed=seed)
            both = pd.concat([where(mine, seed=seed), rival], ignore_index=True)
            tables = [differences(both, arm, claim.baseline, task, fixed) for task in tasks]
            if all(table.values.size for table in tables):
                loss[arm, int(seed)] = -float(np.mean([t.values.mean() for t in tables]))
                losses[arm, int(seed)] = [-table.values[0] for table in tables]
                n_items = sum(table.n_items for table in tables)
    points = loss.keys() & drift.keys()
    counts = {
        method: {arm: sum(name == arm for name, _ in points) for arm in doses}
        for method, doses in claim.methods.items()
    }
    if lacking := stats.shortfall(counts):
        return f"{lacking[0].upper()}{lacking[1:]}."
    seeds = sorted(
        seed
        for seed in {seed for _, seed in points}
        if all((arm, seed) in points for arm in claim.arms)
    )
    if len(seeds) < stats.MINIMUM_SEEDS:
        return f"A regression over methods needs {stats.MINIMUM_SEEDS} seeds that every dose has, not {len(seeds)}."

    def table(values: Mapping[tuple[str, int], float], doses: tuple[str, ...]) -> np.ndarray:
        return np.array([[values[arm, seed] for seed in seeds] for arm in doses])

    lost = {method: table(loss, doses) for method, doses in claim.methods.items()}
    stress = {m: [arm in claim.stress for arm in doses] for m, doses in claim.methods.items()}
    if same := stats.nothing_to_explain(lost, stress):
        return f"Claim {claim.name}: {same}, so there is nothing for drift to explain."
    moved = {method: table(drift, doses) for method, doses in claim.methods.items()}
    by_task = [
        np.array([[losses[arm, seed][t] for seed in seeds] for arm in claim.arms])
        for t in range(len(tasks))
    ]
    if any(table.shape[2] < 2 for table in by_task):
        return "A retention task with a single item, or cluster of items, leaves the error of forgetting unknown."
    found = stats.explained(
        moved,
        lost,
        stress,
        item_variance=stats.shared_item_variance(by_task),
        least_range=claim.least_range,
    )
    if found.measured.too_poor is not None:
        return (
            f"Whether {DRIFTS[claim.drift]} explains forgetting cannot be decided here: "
            f"{found.measured.too_poor}."
        )
    return Explanation(found, n_items)
