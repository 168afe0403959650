"""Verdicts: what the results say about each claim of a study.

- supported     the interval lies wholly beyond the margin
- contradicted  the interval excludes what was predicted
- undecided     neither, with the smallest effect that this design could have seen

All claims are settled at once, because Holm's adjustment runs over the primary ones. Each bound is
one-sided at Holm's level (0.05 for a claim that is not primary), so an interval agrees with its
adjusted p: supported exactly where `p_adjusted <= 0.05`. Seeds and items are both random
(`stats.crossed_effect`). Verdicts are conditional on the base, and on the world where that is
generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import pandas as pd

from statewise import stats
from statewise.errors import ConfigError, nearest
from statewise.study.claims import RETENTION, TARGET, Claim, Exceeds, Forgets, ForgetsLess, Retains
from statewise.study.items import differences

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
    p_mcnemar: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim. Its effect and interval are those of the least favourable part, the
    one whose interval clears the margin by least; its p is the largest of the parts.

    `level` is the two-sided confidence level of the intervals. `smallest_detectable_effect` is the
    smallest true effect that this design would call supported 8 times in 10; for `Retains` it is
    the smallest margin at which a true effect of 0 would be called so.
    """

    name: str
    kind: str
    text: str
    verdict: Outcome
    sentence: str
    primary: bool
    unit: str
    margin: float
    effect: float | None
    low: float | None
    high: float | None
    level: float
    n_seeds: int
    n_items: int
    p: float | None
    p_adjusted: float | None
    smallest_detectable_effect: float | None
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A part before its level is known: what is compared, and the estimate."""

    name: str
    effect: stats.Effect
    p_mcnemar: float | None


def decide(
    claims: Sequence[Claim],
    scores: pd.DataFrame,
    roles: Mapping[str, str],
    fixed: Sequence[str] = ("base",),
    alpha: float = ALPHA,
) -> tuple[Verdict, ...]:
    """Settle `claims` on item-level `scores`.

    Args:
        claims: in the order of the study.
        scores: one row an item: columns task, item_id, arm, seed, decoding, score; `cluster` where
            items depend on each other. Several rows of one item (samples) are averaged.
        roles: task name -> `target` or `retention`.
        fixed: arms that do not train, hence have no seeds of their own.
        alpha: chance of any false "supported" among the primary claims.

    Raises:
        ConfigError: a claim that no data could decide (a margin, a unit, a task).
        DataError: scores that cannot be paired.
    """
    for claim in claims:
        _check(claim, roles)
    found = [_comparisons(claim, scores, roles, frozenset(fixed)) for claim in claims]
    ps = [
        None if isinstance(f, str) else stats.intersection_union([_p(c, claim) for c in f])
        for claim, f in zip(claims, found, strict=True)
    ]
    primary = [i for i, claim in enumerate(claims) if claim.primary]
    family = dict(zip(primary, stats.holm([ps[i] for i in primary], alpha), strict=True))
    return tuple(
        _verdict(claim, found[i], ps[i], family.get(i), alpha) for i, claim in enumerate(claims)
    )


def _check(claim: Claim, roles: Mapping[str, str]) -> None:
    where = f"claims.{claim.name}"
    if claim.unit not in ("seeds", "items"):
        raise ConfigError(f"{where}.unit: {claim.unit!r} is neither 'seeds' nor 'items'")
    if not isfinite(claim.margin) or claim.margin < 0:
        raise ConfigError(f"{where}.margin: {claim.margin} is not a number >= 0")
    if isinstance(claim, Retains) and claim.margin == 0:
        raise ConfigError(f"{where}.margin: an equivalence test needs a margin above 0")
    if isinstance(claim, Exceeds):
        if not claim.over:
            raise ConfigError(f"{where}.over: names no arm to exceed")
        if claim.task not in (TARGET, *roles):
            raise ConfigError(f"{where}.task: {claim.task!r}; {nearest(claim.task, roles)}")
    wanted = claim.task if isinstance(claim, Exceeds) else RETENTION
    if wanted in (TARGET, RETENTION) and wanted not in roles.values():
        raise ConfigError(f"{where}: the study has no {wanted} task")


def _rivals(claim: Claim) -> tuple[str, ...]:
    if isinstance(claim, Exceeds):
        return claim.over
    return (claim.than if isinstance(claim, ForgetsLess) else claim.baseline,)


def _comparisons(
    claim: Claim, scores: pd.DataFrame, roles: Mapping[str, str], fixed: frozenset[str]
) -> list[_Comparison] | str:
    """The claim's parts, or a sentence that says why there are none."""
    rivals = _rivals(claim)
    have = set(scores["arm"])
    absent = [arm for arm in (claim.arm, *rivals) if arm not in have]
    if absent:
        return f"No results of {_listed(absent)} yet."
    task = claim.task if isinstance(claim, Exceeds) else RETENTION
    tasks = [task] if task in roles else [name for name, role in roles.items() if role == task]

    parts: list[_Comparison] = []
    for rival in rivals:
        tables = {name: differences(scores, claim.arm, rival, name, fixed) for name in tasks}
        if not all(table.size for table in tables.values()):
            lacking = [name for name, table in tables.items() if not table.size]
            return f"No seed of {claim.arm} and {rival} has results on {_listed(lacking)} yet."
        if isinstance(claim, Forgets | Retains):  # forgetting counts the loss
            tables = {name: -table for name, table in tables.items()}
        groups = [[name] for name in tasks] if isinstance(claim, Retains) else [tasks]
        for group in groups:
            label = f"{claim.arm} on {group[0]}" if isinstance(claim, Retains) else f"vs {rival}"
            parts.append(_compare(label, [tables[name] for name in group], claim.unit))
    return parts


def _compare(label: str, tables: list[np.ndarray], unit: str) -> _Comparison:
    if unit == "seeds":
        return _Comparison(label, stats.crossed_effect(tables), None)
    first = [table[0] for table in tables]
    exact = None
    if len(first) == 1 and np.isin(first[0], (-1.0, 0.0, 1.0)).all():
        exact = stats.mcnemar_exact(first[0] > 0, first[0] < 0)
    return _Comparison(label, stats.item_effect(first), exact)


def _p(part: _Comparison, claim: Claim) -> float | None:
    if isinstance(claim, Retains):
        return stats.p_equivalent(part.effect, claim.margin)
    return stats.p_above(part.effect, claim.margin)


def _p_against(part: _Comparison, claim: Claim) -> float | None:
    """One-sided p of the claim's opposite: small where this part excludes what was predicted."""
    below = stats.p_below(part.effect, claim.margin)
    if not isinstance(claim, Retains):
        return below
    above, low = stats.p_above(part.effect, claim.margin), stats.p_below(part.effect, -claim.margin)
    return None if above is None or low is None else min(above, low)


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
        parts = tuple(_part(c, claim, at) for c in found)
        worst = min(found, key=lambda c: _room(c, claim, at))
        against = [_p_against(c, claim) for c in found]
        if p is not None and p <= at:
            outcome = "supported"
        # "All of them" is refuted by any: with k parts each is asked at a k-th of the level.
        elif any(q is not None and q * len(found) <= at for q in against):
            outcome = "contradicted"
            worst = min(found, key=lambda c: _p_against(c, claim) or 0.0)
    bounds = stats.interval(worst.effect, at) if worst else None
    level = 1 - 2 * at
    detectable = _detectable(worst.effect, claim, at) if worst else None
    return Verdict(
        name=claim.name,
        kind=claim.kind,
        text=claim.text,
        verdict=outcome,
        sentence=_sentence(claim, found, outcome, worst, bounds, level, detectable),
        primary=claim.primary,
        unit=claim.unit,
        margin=claim.margin,
        effect=worst.effect.value if worst else None,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        level=level,
        n_seeds=worst.effect.n_seeds if worst else 0,
        n_items=worst.effect.n_items if worst else 0,
        p=p,
        p_adjusted=adjusted.p_adjusted if adjusted and p is not None else None,
        smallest_detectable_effect=detectable,
        parts=parts,
    )


def _room(part: _Comparison, claim: Claim, alpha: float) -> float:
    """How far the interval's worst end clears the margin; of the effect itself where unknown."""
    low, high = stats.interval(part.effect, alpha) or (part.effect.value,) * 2
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
        n_items=part.effect.n_items,
        p_mcnemar=part.p_mcnemar,
    )


def _detectable(effect: stats.Effect, claim: Claim, alpha: float) -> float | None:
    if not effect.scales:
        return None
    # At a true effect of 0 both one-sided tests must pass: each gets half of the misses.
    power = 1 - (1 - stats.POWER) / 2 if isinstance(claim, Retains) else stats.POWER
    reach = max(stats.detectable_beyond(s.stderr, s.df, alpha, power) for s in effect.scales)
    return reach if isinstance(claim, Retains) else claim.margin + reach


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
    said = f"{_subject(claim, worst)} {_signed(worst.effect.value)}"
    if bounds is None:
        return f"{said}, but one seed cannot speak about a method. Undecided."
    n = worst.effect.n_seeds
    units = f"{n} seeds" if claim.unit == "seeds" else "one checkpoint each"
    said += f" ({100 * level:.3g} % interval {_signed(bounds[0])} to {_signed(bounds[1])}; "
    said += f"{units}, {worst.effect.n_items:,} items)"
    if len(found) > 1:
        said += f", the least favourable of {len(found)} comparisons"
    band = f"±{claim.margin:g}" if isinstance(claim, Retains) else f"{claim.margin:g}"
    if outcome == "supported":
        where = (
            "inside the margin of " if isinstance(claim, Retains) else "wholly above the margin of "
        )
        return f"{said}: {where}{band}."
    if outcome == "contradicted":
        where = "outside" if isinstance(claim, Retains) else "below"
        return f"{said}: wholly {where} the margin of {band}, so what was predicted is excluded."
    need = (
        f"with no change at all, this design would have shown retention within ±{detectable:.3f}"
        if isinstance(claim, Retains)
        else f"this design sees a true effect of {detectable:.3f} or more 8 times in 10"
    )
    return f"{said}: the interval reaches across the margin of {band}; {need}."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _subject(claim: Claim, worst: _Comparison) -> str:
    if isinstance(claim, Forgets):
        return f"Forgetting of {claim.arm} against {claim.baseline} is"
    if isinstance(claim, Retains):
        return f"The loss of {worst.name} against {claim.baseline} is"
    if isinstance(claim, ForgetsLess):
        return f"Retention of {claim.arm} over {claim.than} is"
    place = "the target" if claim.task == TARGET else claim.task
    return f"{claim.arm} {worst.name} on {place} is"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
