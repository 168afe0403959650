"""Verdicts: what the results say about each claim of a study.

- supported     the interval lies wholly beyond the margin
- contradicted  the interval excludes what was predicted, at a k-th of the level if a claim has k
                comparisons: "all of them" is refuted by any one
- undecided     neither, with the smallest effect that this design could have seen

All claims are settled at once, because Holm's adjustment runs over the primary ones. Each bound is
one-sided at Holm's level (0.05 for a claim that is not primary), so an interval agrees with its
adjusted p: supported exactly if `p_adjusted <= 0.05`. Seeds and items are both random
(`stats.crossed_effect`). Verdicts are conditional on the base, and on the world if that is
generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from statewise import stats
from statewise.claims.claim import BASE, Claim, ItemClaim, Outcome, Unit, asked_for, check

ALPHA = 0.05
Evidence = Any
"""A `Comparison`, or the `Explanation` of a regression: each claim reads only what it has gathered itself."""


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
    so. None if the error of a part is unknown.
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
        return asked_for(self.kind, self.margin)


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
        scores: one row per item: columns task, item_id, arm, seed, decoding, score; `cluster` if
            items depend on each other. Several rows of one item (samples) are averaged.
        roles: task name -> `target` or `retention`.
        fixed: arms that do not train, hence have no seeds of their own.
        alpha: chance of any false "supported" among the primary claims.
        drifts: one row per arm, seed and measure of drift: columns arm, seed, measure, value.

    Raises:
        ConfigError: a claim that no data could decide (a margin, a unit, a task).
        DataError: scores that cannot be paired.
    """
    for claim in claims:
        check(claim, roles)
    evidence: list[Sequence[Evidence] | str] = [
        claim.evidence(scores, roles, frozenset(fixed), drifts) for claim in claims
    ]
    ps = [
        None if isinstance(parts, str) else stats.intersection_union([claim.p(c) for c in parts])
        for claim, parts in zip(claims, evidence, strict=True)
    ]
    primary = [i for i, claim in enumerate(claims) if claim.primary]
    family = dict(zip(primary, stats.holm([ps[i] for i in primary], alpha), strict=True))
    return tuple(
        _verdict(claim, evidence[i], ps[i], family.get(i), alpha) for i, claim in enumerate(claims)
    )


def _verdict(
    claim: Claim,
    evidence: Sequence[Evidence] | str,
    p: float | None,
    adjusted: stats.Adjusted | None,
    alpha: float,
) -> Verdict:
    at = adjusted.alpha if adjusted else alpha
    level = 1 - 2 * at
    if isinstance(evidence, str):
        return _without_evidence(claim, f"{evidence} Undecided.", level)
    worst = min(evidence, key=lambda c: (bool(c.effect.scales), _clearance(c, claim, at)))
    least = min(evidence, key=claim.p_against)
    outcome: Outcome = "undecided"
    if p is not None and p <= at:
        outcome = "supported"
    # "All of them" is refuted by any: with k parts each is tested at a k-th of the level.
    elif claim.p_against(least) * len(evidence) <= at:
        outcome = "contradicted"
        worst = least
    bounds = worst.bounds(at)
    detectable = claim.detectable(evidence, at)
    # A regression's skill is not a difference of scores: other axes, other units.
    is_compared = isinstance(claim, ItemClaim)
    parts = tuple(_part(c, claim.p(c), at) for c in evidence) if is_compared else ()
    return Verdict(
        name=claim.name,
        kind=claim.kind,
        text=claim.text,
        verdict=outcome,
        sentence=claim.sentence(evidence, worst, bounds, outcome, level, detectable),
        primary=claim.primary,
        unit=claim.unit,
        margin=claim.margin,
        effect=worst.value,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        level=level,
        n_seeds=worst.effect.n_seeds,
        n_items=worst.n_items,
        n_clusters=worst.effect.n_clusters,
        p=p,
        p_adjusted=adjusted.p_adjusted if adjusted and p is not None else None,
        smallest_detectable_effect=detectable,
        # A regression's skill is not a difference of scores: other axes, other units.
        parts=parts,
    )


def _without_evidence(claim: Claim, sentence: str, level: float) -> Verdict:
    return Verdict(
        name=claim.name,
        kind=claim.kind,
        text=claim.text,
        verdict="undecided",
        sentence=sentence,
        primary=claim.primary,
        unit=claim.unit,
        margin=claim.margin,
        effect=None,
        low=None,
        high=None,
        level=level,
        n_seeds=0,
        n_items=0,
        n_clusters=0,
        p=None,
        p_adjusted=None,
        smallest_detectable_effect=None,
        parts=(),
    )


def _clearance(part: Evidence, claim: Claim, alpha: float) -> float:
    """How far the interval clears the margin; the effect itself if its error is unknown."""
    return claim.clearance(part.bounds(alpha) or (part.value, part.value))


def _part(part: Evidence, p: float | None, alpha: float) -> Part:
    bounds = part.bounds(alpha)
    return Part(
        name=part.name,
        effect=part.value,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        p=p,
        n_seeds=part.effect.n_seeds,
        n_items=part.n_items,
        n_clusters=part.effect.n_clusters,
        p_mcnemar=part.p_mcnemar,
    )
