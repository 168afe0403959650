"""Evidence for a claim that compares arms item by item: one estimate for each comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims.claim import ItemClaim, Unit
from statewise.claims.paired import DECODINGS, Differences, differences, where


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, and the estimate; it has no interval before the claim's level is known."""

    name: str
    effect: stats.Effect
    n_items: int
    p_mcnemar: float | None
    """Exact, two-sided, of no difference at all: for one checkpoint a side and 0-1 scores."""
    by_task: tuple[tuple[str, float], ...] = ()
    decoding: str = ""
    sampled: stats.Effect | None = None
    """The same comparison at temperature 1, if the claim itself is about greedy decoding."""

    @property
    def value(self) -> float:
        """The effect as reported."""
        return self.effect.value

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """The interval whose bounds are one-sided at `alpha`; None if the error is unknown."""
        return stats.interval(self.effect, alpha)


def missing_arms(arms: Sequence[str], rivals: Sequence[str], scores: pd.DataFrame) -> str | None:
    """A sentence that names the arms without results, if there are any."""
    scored = set(scores["arm"])
    missing = [arm for arm in (*arms, *rivals) if arm not in scored]
    return f"No results of {', '.join(missing)} yet." if missing else None


def compare(
    claim: ItemClaim, scores: pd.DataFrame, roles: Mapping[str, str], fixed: frozenset[str]
) -> list[Comparison] | str:
    """The comparisons of a claim, or a sentence that says why there are none."""
    if missing := missing_arms(claim.arms, claim.rivals, scores):
        return missing
    comparisons = claim.comparisons(roles)
    tasks = list(dict.fromkeys(name for _, group in comparisons for name in group))
    tables = {
        (rival, name): differences(scores, claim.arm, rival, name, fixed)
        for rival in claim.rivals
        for name in tasks
    }
    for rival in claim.rivals:
        if empty := [name for name in tasks if not tables[rival, name].values.size]:
            return f"No seed of {claim.arm} and {rival} has results on {', '.join(empty)} yet."
    if claim.counts_losses:
        tables = {key: replace(table, values=-table.values) for key, table in tables.items()}
    parts = []
    for rival, group in comparisons:
        part = _estimate(
            claim.label(rival, group), [tables[rival, name] for name in group], claim.unit
        )
        means = tuple((name, _mean(tables[rival, name], claim.unit)) for name in group)
        part = replace(part, by_task=means)
        if claim.names_decoding:
            part = _by_decoding(part, claim, rival, scores, group, fixed)
        parts.append(part)
    return parts


def _by_decoding(
    part: Comparison,
    claim: ItemClaim,
    rival: str,
    scores: pd.DataFrame,
    tasks: Sequence[str],
    fixed: frozenset[str],
) -> Comparison:
    """The part with how its answers were decoded; if greedily, with the comparison of sampled ones too."""
    own = where(scores, arm=claim.arm)
    decodings = [{str(d) for d in where(own, task=task)["decoding"]} for task in tasks]
    used = {next((d for d in DECODINGS if d in present), "") for present in decodings}
    if used != {"greedy"}:
        return part
    part = replace(part, decoding="greedily")
    sampled = where(scores, decoding="sampled")
    tables = [differences(sampled, claim.arm, rival, task, fixed) for task in tasks]
    if not all(table.values.size for table in tables):
        return part
    return replace(part, sampled=_estimate(part.name, tables, claim.unit).effect)


def _mean(table: Differences, unit: Unit) -> float:
    """A task's own effect, of all seeds or of the first alone."""
    return float((table.values if unit == "seeds" else table.values[:1]).mean())


def _estimate(label: str, tables: list[Differences], unit: Unit) -> Comparison:
    n_items = sum(table.n_items for table in tables)
    if unit == "seeds":
        return Comparison(label, stats.crossed_effect([t.values for t in tables]), n_items, None)
    first = [table.values[0] for table in tables]
    exact = None
    if len(first) == 1 and np.isin(first[0], (-1.0, 0.0, 1.0)).all():
        exact = stats.mcnemar_exact(first[0] > 0, first[0] < 0)
    return Comparison(label, stats.item_effect(first), n_items, exact)
