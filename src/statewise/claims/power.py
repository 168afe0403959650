"""Before a run: the smallest effect that each claim can detect, and how many items and seeds would decide it.

The calculation is that of `stats.crossed_effect` with known variances: for the mean over T tasks of
item-paired differences with variances s^2 (seeds), i_t^2 (items) and e_t^2 (residual),

    V = s^2/S + sum_t (i_t^2/n_t + e_t^2/(S n_t)) / T^2

Unknown before any run is how much differs. Without a run to learn from, `discordance` is the share of
items on which two arms disagree (the same items for all seeds, the worst case: more seeds then do not
reduce the items needed), and `seed_sd` the standard deviation of an arm's true score over training seeds. Both
are assumptions and are shown as such.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import TypeVar

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims.claim import (
    BASE,
    Claim,
    ItemClaim,
    Unexplained,
    Unit,
)
from statewise.claims.paired import differences
from statewise.claims.verdicts import ALPHA
from statewise.errors import ConfigError

Number = TypeVar("Number", int, float)

MOST_SEEDS = 200
SEEDS = range(2, MOST_SEEDS + 1)
COARSE = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200)
"""Numbers of seeds that are tried if the tasks have too few items for any."""
MOST_ITEMS = 10_000
"""Multiple of the study's items above which a number of items is not useful advice."""


@dataclass(frozen=True, slots=True)
class Size:
    """Items of a task, clusters of items that depend on each other, and the items that its data hold."""

    items: int
    clusters: int
    available: int | None = None
    """Without the study's `limit`; None = as many as `items`."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Seeds and items, all tasks of a claim together, that decide it; `available` items are there."""

    seeds: int
    items: int
    available: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Variances of item-paired differences; one entry of `items` and `rest` per task."""

    seeds: float
    items: tuple[float, ...]
    rest: tuple[float, ...]
    learned: bool
    """From a run's data, not assumed."""


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What one claim can detect. Each number is that of the most demanding comparison.

    `comparison`, its items, clusters and variances are those of the least sensitive one.

    `smallest_detectable` is the true effect, the same in every comparison, that the study calls supported at
    least 8 times in 10: all comparisons must pass, and share the misses. For `retains` it is the margin at
    which no effect is called so. `aim` is the true effect that `items_needed` (all of its tasks together, in
    the study's proportions, at the study's seeds) and `seeds_needed` (at its items) are for. None if no
    number is enough, and `note` says why. `pair` is a design that is: the fewest seeds for which the
    tasks have enough items, else the pair with the fewest items to score.
    """

    name: str
    kind: str
    primary: bool
    margin: float
    level: float
    comparison: str
    seeds: int
    items: int
    clusters: int
    assumed: str
    smallest_detectable: float | None
    aim: float | None
    items_needed: int | None
    seeds_needed: int | None
    pair: Pair | None
    note: str


@dataclass(frozen=True, slots=True)
class Assumed:
    """Assumptions for what no run has measured."""

    discordance: float = 0.2
    seed_sd: float = 0.01
    beyond: float = 0.03
    """How far beyond its margin the true effect lies that a claim should be decided for."""

    def __post_init__(self) -> None:
        if not 0 < self.discordance <= 1:
            raise ConfigError(
                f"--discordance: a share above 0 and at most 1, found {self.discordance}"
            )
        if self.seed_sd < 0:
            raise ConfigError(f"--seed-sd must be 0 or more, found {self.seed_sd}")
        if self.beyond <= 0:
            raise ConfigError(f"--beyond must be above 0, found {self.beyond}")


def plan_claims(
    claims: Sequence[Claim],
    roles: Mapping[str, str],
    sizes: Mapping[str, Size],
    seeds: int,
    assumed: Assumed,
    scores: pd.DataFrame | None = None,
    unlike: Mapping[str, Sequence[str]] | None = None,
) -> tuple[ClaimPlan, ...]:
    """What each claim can detect with this design.

    Args:
        claims: of the study. Each primary one is tested at the first and strictest of Holm's levels.
        roles: task name -> `target` or `retention`.
        sizes: items and clusters by task name.
        seeds: training seeds.
        assumed: for what is unknown.
        scores: item-level rows of a run like the planned one (see `verdicts.decide`), if there is one.
        unlike: by arm, how that run differs; reported with what was learned from it.

    Raises:
        DataError: scores that cannot be paired.
    """
    primary = max(1, sum(claim.primary for claim in claims))
    plans = []
    for claim in claims:
        alpha = ALPHA / primary if claim.primary else ALPHA
        if isinstance(claim, Unexplained):
            plans.append(_unexplained(claim, seeds, alpha))
            continue
        compared = claim.comparisons(roles)
        # All must pass, and of an equivalence both sides: they share the misses.
        power = stats.part_power(len(compared), sides=2 if claim.equivalence else 1)
        parts = [
            _part(claim, rival, tasks, sizes, seeds, alpha, power, assumed, scores, unlike or {})
            for rival, tasks in compared
        ]
        available = min(
            (sizes[name].available or sizes[name].items) / sizes[name].items
            for _, tasks in compared
            for name in tasks
        )
        plans.append(_joined(claim, parts, seeds, alpha, assumed, available))
    return tuple(plans)


@dataclass(frozen=True, slots=True)
class _Part:
    """One comparison: the smallest effect beyond its margin that it detects, and what it would need.

    `more` is a multiple of the study's items, `enough` a number of seeds; None if no number is enough.
    `reach_at` is the smallest effect for a number of seeds and a multiple of the items.
    """

    comparison: str
    items: int
    clusters: int
    assumed: str
    reach: float | None
    more: float | None
    enough: int | None
    goal: float
    least: float
    reach_at: Callable[[int, float], float | None]
    note: str


def _joined(
    claim: ItemClaim,
    parts: Sequence[_Part],
    seeds: int,
    alpha: float,
    assumed: Assumed,
    available: float,
) -> ClaimPlan:
    """The plan of a claim: each number is that of the most demanding comparison, and None is more than any."""
    shown = max(parts, key=lambda part: inf if part.reach is None else part.reach)
    equivalence, one = claim.equivalence, claim.unit == "items"
    more = _largest([part.more for part in parts])
    return ClaimPlan(
        name=claim.name,
        kind=claim.kind,
        primary=claim.primary,
        margin=claim.margin,
        level=1 - 2 * alpha,
        comparison=shown.comparison,
        seeds=1 if one else seeds,
        items=shown.items,
        clusters=shown.clusters,
        assumed=shown.assumed,
        smallest_detectable=(
            shown.reach if shown.reach is None or equivalence else claim.margin + shown.reach
        ),
        aim=0.0 if equivalence else claim.margin + assumed.beyond,
        items_needed=None if more is None else ceil(more * shown.items),
        seeds_needed=None if one else _largest([part.enough for part in parts]),
        pair=_pair(parts, [1] if one else SEEDS, available),
        note=_note(parts, shown),
    )


def _largest(needs: Sequence[Number | None]) -> Number | None:
    numbers = [need for need in needs if need is not None]
    return max(numbers) if len(numbers) == len(needs) else None


def _note(parts: Sequence[_Part], shown: _Part) -> str:
    """Why numbers are missing, and which comparison other than the one shown is the most demanding."""
    by_note: dict[str, list[str]] = {}
    for part in parts:
        by_note.setdefault(part.note, []).append(part.comparison)
    notes = [
        note if len(names) == len(parts) else f"{', '.join(names)}: {note}"
        for note, names in by_note.items()
        if note
    ]
    at = parts.index(shown)
    needs_of: dict[str, list[float | None]] = {
        "items": [part.more for part in parts],
        "seeds": [part.enough for part in parts],
    }
    for what, needs in needs_of.items():
        most = _largest(needs)
        if most is not None and most != needs[at]:
            notes.append(f"{parts[needs.index(most)].comparison} needs the most {what}")
    return "; ".join(notes)


def _part(
    claim: ItemClaim,
    rival: str,
    tasks: Sequence[str],
    sizes: Mapping[str, Size],
    seeds: int,
    alpha: float,
    power: float,
    assumed: Assumed,
    scores: pd.DataFrame | None,
    unlike: Mapping[str, Sequence[str]],
) -> _Part:
    equivalence, one = claim.equivalence, claim.unit == "items"
    spread = None if scores is None else learned(scores, claim.arm, rival, tasks, claim.unit)
    clusters = [float(sizes[name].clusters) for name in tasks]
    if spread is None:
        arms = len({claim.arm, rival} - {BASE})
        spread = Spread(
            arms * assumed.seed_sd**2,
            (assumed.discordance,) * len(tasks),
            (0.0,) * len(tasks),
            learned=False,
        )

    def reach(n_seeds: int, scale: float = 1.0) -> float | None:
        sized = [scale * n for n in clusters]
        scales = checkpoint_scales(spread, sized) if one else scales_of(spread, n_seeds, sized)
        if not scales:
            return None
        return max(stats.detectable_beyond(s.stderr, s.df, alpha, power) for s in scales)

    goal = claim.margin if equivalence else assumed.beyond
    alone = min(clusters) < 2
    # The error of fewer than two clusters of a task is unknown: advice never goes below that.
    more = _items(lambda k: reach(seeds, k) or inf, goal, least=2 / min(clusters))
    enough = None if one or alone else _seeds(lambda s: reach(s) or inf, goal)
    notes = []
    if seeds < 2 and not one:
        notes.append("one seed cannot speak about a method")
    elif more is None:
        notes.append(f"no number of items decides it at {seeds} seeds")
    if alone:
        notes.append("a task with a single item, or cluster of items, leaves its error unknown")
    elif enough is None and not one:
        notes.append("no number of seeds decides it at the study's items")
    return _Part(
        comparison=f"{claim.arm} on {tasks[0]}" if equivalence else f"{claim.arm} vs {rival}",
        items=sum(sizes[name].items for name in tasks),
        clusters=int(sum(clusters)),
        assumed=_words(spread, claim.unit, [*unlike.get(claim.arm, ()), *unlike.get(rival, ())]),
        reach=None if alone else reach(seeds),
        more=more,
        enough=enough,
        goal=goal,
        least=2 / min(clusters),
        reach_at=reach,
        note=" and ".join(notes),
    )


def _words(spread: Spread, unit: Unit, unlike: Sequence[str]) -> str:
    other = f" (differs in that run: {', '.join(dict.fromkeys(unlike))})" if unlike else ""
    source = f"from the run{other}" if spread.learned else "assumed"
    # The variance of an item's difference: the share that differs, less the square of the mean.
    differ = sum(i + e for i, e in zip(spread.items, spread.rest, strict=True)) / len(spread.items)
    seeds = f", seeds {sqrt(spread.seeds):.3f}" if unit == "seeds" else ""
    return f"{source}: items {differ:.3f}{seeds}"


def _unexplained(claim: Unexplained, seeds: int, alpha: float) -> ClaimPlan:
    return ClaimPlan(
        name=claim.name,
        kind=claim.kind,
        primary=claim.primary,
        margin=claim.margin,
        level=1 - 2 * alpha,
        comparison=f"{len(claim.methods)} methods",
        seeds=seeds,
        items=0,
        clusters=len(claim.methods),
        assumed="",
        smallest_detectable=None,
        aim=None,
        items_needed=None,
        seeds_needed=None,
        pair=None,
        note=claim.shortfall(seeds)
        or "methods are the unit: what decides it is their number and their spread",
    )


# ---- variances ----------------------------------------------------------------------------------------


def scales_of(spread: Spread, seeds: int, clusters: Sequence[float]) -> tuple[stats.Scale, ...]:
    """The standard errors of `stats.crossed_effect` with known variances; none with one seed.

    By hand, one task: s^2 = .0001, i^2 = .2, n = 1000, S = 3: V = .0001/3 + .2/1000 = .00023333;
    df = V^2 / ((.0001/3)^2/2 + .0002^2/999) = 91.4.

    >>> crossed, over_seeds = scales_of(Spread(1e-4, (0.2,), (0.0,), False), 3, [1000.0])
    >>> round(crossed.stderr, 5), round(crossed.df, 1), round(over_seeds.stderr, 5), over_seeds.df
    (0.01528, 91.4, 0.00577, 2.0)
    """
    if seeds < 2:
        return ()
    tasks = len(clusters)
    rest = [e / (seeds * n) / tasks**2 for e, n in zip(spread.rest, clusters, strict=True)]
    # As the estimate does: if few items differ their part has a floor.
    items = [
        max(i / n, (2 / n) ** 2) / tasks**2 + r
        for i, n, r in zip(spread.items, clusters, rest, strict=True)
    ]
    v_seed = spread.seeds / seeds + sum(rest)
    v_items = sum(items)
    variance = max(v_seed + v_items - sum(rest), v_seed, v_items)
    below = v_seed**2 / (seeds - 1)
    below += sum(
        item**2 / (n - 1) + r**2 / ((seeds - 1) * (n - 1))
        for item, r, n in zip(items, rest, clusters, strict=True)
    )
    df = max(variance**2 / below if below > 0 else seeds - 1, seeds - 1)
    crossed = stats.Scale(sqrt(variance), float(df))
    if v_seed <= 0:
        return (crossed,)
    return crossed, stats.Scale(sqrt(v_seed), float(seeds - 1))


def checkpoint_scales(spread: Spread, clusters: Sequence[float]) -> tuple[stats.Scale, ...]:
    """The standard error of `stats.item_effect`: one checkpoint per side, items alone."""
    parts = zip(spread.items, spread.rest, clusters, strict=True)
    variance = sum(max((i + e) / n, (2 / n) ** 2) for i, e, n in parts)
    return (stats.Scale(sqrt(variance) / len(clusters), inf),)


def learned(
    scores: pd.DataFrame, arm: str, rival: str, tasks: Sequence[str], unit: Unit = "seeds"
) -> Spread | None:
    """The variances in a run's own item differences, by the method of moments; None if it lacks them.

    `e^2 = MS_res`, `i^2 = var(columns) - e^2/S`, `s^2 = var(seeds' means) - sum e_t^2/n_t / T^2`, each at
    least 0. From 3 seeds s^2 is rough: a factor 2 either way, and more. With one seed nothing says how
    seeds differ, and the run is not used; of checkpoints (`unit` items) one per side is enough.
    """
    if not {arm, rival} <= set(scores["arm"]):
        return None
    fixed = frozenset({BASE})
    tables = [differences(scores, arm, rival, name, fixed).values for name in tasks]
    if any(not table.size or table.shape[1] < 2 for table in tables):
        return None
    if unit == "items":
        items = tuple(float(table.var(axis=1, ddof=1).mean()) for table in tables)
        return Spread(0.0, items, (0.0,) * len(items), learned=True)
    if any(len(table) < 2 for table in tables):
        return None
    seeds, count = len(tables[0]), len(tables)
    by_seed = np.mean([table.mean(axis=1) for table in tables], axis=0)
    items, rest, noise = [], [], 0.0
    for table in tables:
        n = table.shape[1]
        columns = table.mean(axis=0)
        residual = table - table.mean(axis=1, keepdims=True) - columns + table.mean()
        e = float((residual**2).sum()) / ((seeds - 1) * (n - 1))
        rest.append(e)
        items.append(max(0.0, float(columns.var(ddof=1)) - e / seeds))
        noise += e / n / count**2
    return Spread(
        max(0.0, float(by_seed.var(ddof=1)) - noise), tuple(items), tuple(rest), learned=True
    )


# ---- how much would do --------------------------------------------------------------------------------


def _items(reach: Callable[[float], float], goal: float, least: float) -> float | None:
    """The smallest multiple of the study's items, from `least`, at which `reach` is no more than `goal`."""
    low, high = least, float(MOST_ITEMS)
    if reach(high) > goal:
        return None
    if reach(low) <= goal:
        return low
    while high > low * (1 + 1e-5):
        middle = sqrt(low * high)
        low, high = (low, middle) if reach(middle) <= goal else (middle, high)
    return high


def _pair(parts: Sequence[_Part], seeds: Sequence[int], available: float) -> Pair | None:
    """Seeds and items that decide every comparison; None if none within reason does.

    `available` is the tasks' items as a multiple of the study's. If no number of seeds is enough with
    those, the pair that scores the fewest items says what another task would need.
    """
    items = max(part.items for part in parts)

    def needed(n_seeds: int) -> float | None:
        return _largest(
            [
                _items(lambda k, p=part: p.reach_at(n_seeds, k) or inf, part.goal, part.least)
                for part in parts
            ]
        )

    def pair(n_seeds: int, more: float) -> Pair:
        return Pair(n_seeds, ceil(more * items - 1e-9), int(available * items))

    def enough(n_seeds: int) -> bool:
        return all((part.reach_at(n_seeds, available) or inf) <= part.goal for part in parts)

    if (least := _least(seeds, enough)) is not None and (more := needed(least)) is not None:
        return pair(least, min(more, available))
    beyond = [pair(n, more) for n in COARSE if n in seeds and (more := needed(n)) is not None]
    return min(beyond, key=lambda pair: pair.seeds * pair.items, default=None)


def _seeds(reach: Callable[[int], float], goal: float) -> int | None:
    """The smallest number of seeds at which `reach` is no more than `goal`."""
    return _least(SEEDS, lambda seeds: reach(seeds) <= goal)


def _least(seeds: Sequence[int], enough: Callable[[int], bool]) -> int | None:
    """The first of rising numbers that is enough, by bisection: more seeds never detect less."""
    place = bisect_left(seeds, True, key=enough)
    return seeds[place] if place < len(seeds) else None
