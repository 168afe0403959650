"""Verdicts: what the results say about each claim of a study.

- supported     the interval lies wholly beyond the margin
- contradicted  the interval excludes what was predicted, at a k-th of the level where a claim has k
                comparisons: "all of them" is refuted by any one
- undecided     neither, with the smallest effect that this design could have seen

All claims are settled at once, because Holm's adjustment runs over the primary ones. Each bound is
one-sided at Holm's level (0.05 for a claim that is not primary), so an interval agrees with its
adjusted p: supported exactly where `p_adjusted <= 0.05`. Seeds and items are both random
(`stats.crossed_effect`). Verdicts are conditional on the base, and on the world where that is
generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims import sentences
from statewise.claims.claim import (
    BASE,
    Claim,
    Comparison,
    Exceeds,
    Forgets,
    Retains,
    Unexplained,
    Unit,
    check,
    own_arms,
    rivals,
    task_groups,
)
from statewise.claims.drift_regression import Explanation, explain
from statewise.claims.paired import DECODINGS, Differences, differences, where
from statewise.formatting import number

ALPHA = 0.05
Outcome = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True, slots=True)
class Part:
    """One comparison inside a claim. The interval's bounds are one-sided at the claim's level."""

    name: str
    effect: float
    low: float | None
    high: float | None
    p: float | None
    n_seeds: int
    n_items: int
    n_clusters: int
    p_mcnemar: float | None = None
    """Exact, two-sided, of no difference at all: for one checkpoint a side and 0-1 scores."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim. Its effect and interval are those of the least favourable part, the
    one whose interval clears the margin by least; its p is the largest of the parts.

    `level` is the two-sided confidence level of the intervals. `smallest_detectable_effect` is the
    smallest true effect, the same in every part, that this design would call supported at least 8
    times in 10; for `Retains` it is the smallest margin at which a true effect of 0 would be called
    so. None where the error of a part is unknown.
    """

    name: str
    kind: str
    text: str
    verdict: Outcome
    sentence: str
    primary: bool
    unit: Unit
    margin: float
    effect: float | None
    low: float | None
    high: float | None
    level: float
    n_seeds: int
    n_items: int
    n_clusters: int
    p: float | None
    p_adjusted: float | None
    smallest_detectable_effect: float | None
    parts: tuple[Part, ...]

    @property
    def asked(self) -> str:
        """What the claim asks for, with its margin: "contradicted" is said of that and of nothing less."""
        return sentences.asked_for(self.kind, self.margin)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A part before its level is known: what is compared, and the estimate."""

    name: str
    effect: stats.Effect
    n_items: int
    p_mcnemar: float | None
    explanation: Explanation | None = None
    by_task: tuple[tuple[str, float], ...] = ()
    decoding: str = ""
    sampled: stats.Effect | None = None
    """The same comparison at temperature 1, where the claim itself speaks of greedy decoding."""

    @property
    def value(self) -> float:
        """What is reported; the effect of an explanation is a logarithm."""
        return self.effect.value if self.explanation is None else self.explanation.of.of_ceiling

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Its interval, on the scale of `value`."""
        if self.explanation is not None:
            return self.explanation.of.interval_of_ceiling(alpha)
        return stats.interval(self.effect, alpha)


def decide(
    claims: Sequence[Claim],
    scores: pd.DataFrame,
    roles: Mapping[str, str],
    fixed: Sequence[str] = (BASE,),
    alpha: float = ALPHA,
    drifts: pd.DataFrame | None = None,
) -> tuple[Verdict, ...]:
    """Settle `claims` on item-level `scores`.

    Args:
        claims: in the order of the study.
        scores: one row an item: columns task, item_id, arm, seed, decoding, score; `cluster` where
            items depend on each other. Several rows of one item (samples) are averaged.
        roles: task name -> `target` or `retention`.
        fixed: arms that do not train, hence have no seeds of their own.
        alpha: chance of any false "supported" among the primary claims.
        drifts: one row an arm, seed and measure of drift: columns arm, seed, measure, value.

    Raises:
        ConfigError: a claim that no data could decide (a margin, a unit, a task).
        DataError: scores that cannot be paired.
    """
    for claim in claims:
        check(claim, roles)
    found = [
        _explanation(claim, scores, roles, frozenset(fixed), drifts)
        if isinstance(claim, Unexplained)
        else _comparisons(claim, scores, roles, frozenset(fixed))
        for claim in claims
    ]
    ps = [
        None if isinstance(f, str) else stats.intersection_union([_p(c, claim) for c in f])
        for claim, f in zip(claims, found, strict=True)
    ]
    primary = [i for i, claim in enumerate(claims) if claim.primary]
    family = dict(zip(primary, stats.holm([ps[i] for i in primary], alpha), strict=True))
    return tuple(
        _verdict(claim, found[i], ps[i], family.get(i), alpha) for i, claim in enumerate(claims)
    )


def _absent(claim: Claim, scores: pd.DataFrame) -> str | None:
    have = set(scores["arm"])
    absent = [arm for arm in (*own_arms(claim), *rivals(claim)) if arm not in have]
    return f"No results of {_listed(absent)} yet." if absent else None


def _explanation(
    claim: Unexplained,
    scores: pd.DataFrame,
    roles: Mapping[str, str],
    fixed: frozenset[str],
    drifts: pd.DataFrame | None,
) -> list[_Comparison] | str:
    """The claim's one part, or a sentence that says why there is none."""
    found = _absent(claim, scores) or explain(claim, scores, roles, fixed, drifts)
    if isinstance(found, str):
        return found
    return [_Comparison("all arms", found.of.log_error, found.n_items, None, found)]


def _comparisons(
    claim: Comparison, scores: pd.DataFrame, roles: Mapping[str, str], fixed: frozenset[str]
) -> list[_Comparison] | str:
    """The claim's parts, or a sentence that says why there are none."""
    if absent := _absent(claim, scores):
        return absent
    groups = task_groups(claim, roles)
    tasks = [name for group in groups for name in group]
    parts: list[_Comparison] = []
    for rival in rivals(claim):
        tables = {name: differences(scores, claim.arm, rival, name, fixed) for name in tasks}
        if not all(table.values.size for table in tables.values()):
            lacking = [name for name, table in tables.items() if not table.values.size]
            return f"No seed of {claim.arm} and {rival} has results on {_listed(lacking)} yet."
        if isinstance(claim, Forgets | Retains):  # forgetting counts the loss
            tables = {name: replace(t, values=-t.values) for name, t in tables.items()}
        for group in groups:
            label = f"{claim.arm} on {group[0]}" if isinstance(claim, Retains) else f"vs {rival}"
            part = _compare(label, [tables[name] for name in group], claim.unit)
            means = tuple((name, _mean(tables[name], claim.unit)) for name in group)
            part = replace(part, by_task=means)
            if isinstance(claim, Exceeds):
                part = _by_decoding(part, claim, rival, scores, tasks, fixed)
            parts.append(part)
    return parts


def _by_decoding(
    part: _Comparison,
    claim: Exceeds,
    rival: str,
    scores: pd.DataFrame,
    tasks: Sequence[str],
    fixed: frozenset[str],
) -> _Comparison:
    """The part with how its answers were decoded, and beside greedy ones the comparison of sampled ones."""
    own = where(scores, arm=claim.arm)
    known = [{str(d) for d in where(own, task=task)["decoding"]} for task in tasks]
    first = {next((d for d in DECODINGS if d in found), "") for found in known}
    if first != {"greedy"}:
        return part
    part = replace(part, decoding="greedily")
    drawn = where(scores, decoding="sampled")
    tables = [differences(drawn, claim.arm, rival, task, fixed) for task in tasks]
    if not all(table.values.size for table in tables):
        return part
    return replace(part, sampled=_compare(part.name, tables, claim.unit).effect)


def _mean(table: Differences, unit: Unit) -> float:
    """A task's own effect, of all seeds or of the first alone."""
    return float((table.values if unit == "seeds" else table.values[:1]).mean())


def _compare(label: str, tables: list[Differences], unit: Unit) -> _Comparison:
    n_items = sum(table.n_items for table in tables)
    if unit == "seeds":
        return _Comparison(label, stats.crossed_effect([t.values for t in tables]), n_items, None)
    first = [table.values[0] for table in tables]
    exact = None
    if len(first) == 1 and np.isin(first[0], (-1.0, 0.0, 1.0)).all():
        exact = stats.mcnemar_exact(first[0] > 0, first[0] < 0)
    return _Comparison(label, stats.item_effect(first), n_items, exact)


def _p(part: _Comparison, claim: Claim) -> float | None:
    if isinstance(claim, Retains):
        return stats.p_equivalent(part.effect, claim.margin)
    if part.explanation is not None:
        return part.explanation.p_unexplained(claim.margin)
    return stats.p_above(part.effect, claim.margin)


def _p_against(part: _Comparison, claim: Claim) -> float:
    """One-sided p of the claim's opposite: small where this part excludes what was predicted.

    Infinite where the error is unknown. Of `Retains` only a loss beyond the margin is the opposite; that of
    `Unexplained` has to hold without the stress arms too, and against drifts of other methods.
    """
    if part.explanation is not None:
        return part.explanation.p_explains(claim.margin)
    test = stats.p_above if isinstance(claim, Retains) else stats.p_below
    found = test(part.effect, claim.margin)
    return inf if found is None else found


def _verdict(
    claim: Claim,
    found: list[_Comparison] | str,
    p: float | None,
    adjusted: stats.Adjusted | None,
    alpha: float,
) -> Verdict:
    at = adjusted.alpha if adjusted else alpha
    parts: tuple[Part, ...] = ()
    outcome: Outcome = "undecided"
    worst: _Comparison | None = None
    if not isinstance(found, str):
        # A skill is no difference of scores: other axes, other units.
        parts = tuple(_part(c, claim, at) for c in found if c.explanation is None)
        worst = min(found, key=lambda c: (bool(c.effect.scales), _room(c, claim, at)))
        least = min(found, key=lambda c: _p_against(c, claim))
        if p is not None and p <= at:
            outcome = "supported"
        # "All of them" is refuted by any: with k parts each is asked at a k-th of the level.
        elif _p_against(least, claim) * len(found) <= at:
            outcome = "contradicted"
            worst = least
    bounds = worst.bounds(at) if worst else None
    level = 1 - 2 * at
    detectable = None if isinstance(found, str) else _detectable(found, claim, at)
    return Verdict(
        name=claim.name,
        kind=claim.kind,
        text=claim.text,
        verdict=outcome,
        sentence=_sentence(claim, found, outcome, worst, bounds, level, detectable),
        primary=claim.primary,
        unit=claim.unit,
        margin=claim.margin,
        effect=worst.value if worst else None,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        level=level,
        n_seeds=worst.effect.n_seeds if worst else 0,
        n_items=worst.n_items if worst else 0,
        n_clusters=worst.effect.n_clusters if worst else 0,
        p=p,
        p_adjusted=adjusted.p_adjusted if adjusted and p is not None else None,
        smallest_detectable_effect=detectable,
        parts=parts,
    )


def _room(part: _Comparison, claim: Claim, alpha: float) -> float:
    """How far the interval's worst end clears the margin; of the effect itself where unknown."""
    low, high = part.bounds(alpha) or (part.value,) * 2
    return claim.margin - max(high, -low) if isinstance(claim, Retains) else low - claim.margin


def _part(part: _Comparison, claim: Claim, alpha: float) -> Part:
    bounds = stats.interval(part.effect, alpha)
    return Part(
        name=part.name,
        effect=part.effect.value,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        p=_p(part, claim),
        n_seeds=part.effect.n_seeds,
        n_items=part.n_items,
        n_clusters=part.effect.n_clusters,
        p_mcnemar=part.p_mcnemar,
    )


def _detectable(found: Sequence[_Comparison], claim: Claim, alpha: float) -> float | None:
    if isinstance(claim, Unexplained) or not all(part.effect.scales for part in found):
        return None
    # Every part must pass, and of an equivalence both sides: they share the misses.
    equivalence = isinstance(claim, Retains)
    power = stats.part_power(len(found), sides=2 if equivalence else 1)
    scales = [scale for part in found for scale in part.effect.scales]
    reach = max(stats.detectable_beyond(s.stderr, s.df, alpha, power) for s in scales)
    return reach if equivalence else claim.margin + reach


def _sentence(
    claim: Claim,
    found: list[_Comparison] | str,
    outcome: Outcome,
    worst: _Comparison | None,
    bounds: tuple[float, float] | None,
    level: float,
    detectable: float | None,
) -> str:
    if isinstance(found, str) or worst is None:
        return f"{found} Undecided."
    if isinstance(claim, Unexplained):
        assert worst.explanation is not None
        return worst.explanation.sentence(claim, bounds, level, outcome)
    said = sentences.subject(claim, worst.name, worst.decoding, worst.by_task)
    sampled = [(part.name, part.sampled) for part in found if part.sampled is not None]
    greedy = [part.effect.value for part in found if part.sampled is not None]
    beside = sentences.at_temperature_1(sampled, greedy)
    if bounds is None:
        value = number(worst.effect.value, sign=True)
        return sentences.unknown(f"{said} {value}", claim, worst.effect.n_seeds) + beside
    items = sentences.items_words(worst.n_items, worst.effect.n_clusters)
    said = sentences.found(said, worst.effect, bounds, level, items, claim.unit)
    if worst.p_mcnemar is not None:
        said += f"; McNemar's exact p of no difference {worst.p_mcnemar:.2g}"
    said += ")"
    if len(found) > 1:
        said += f", the least favourable of {len(found)} comparisons"
    if outcome == "supported":
        return sentences.supported(said, claim) + beside
    if outcome == "contradicted":
        return sentences.contradicted(said, claim, bounds) + beside
    return sentences.undecided(said, claim, bounds, len(found), detectable) + beside


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
