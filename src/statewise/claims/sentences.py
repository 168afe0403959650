"""Verdicts in words. Each sentence says what was found, against which margin, and what that excludes.

"Contradicted" is said of a claim with its margin: forgetting of 0.02, known for certain, contradicts "more than 0.03 is
lost" and not "something is lost". So every sentence names the margin, and every verdict says what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from statewise import stats
from statewise.formatting import number

Bounds = tuple[float, float]


def higher(what: str, margin: float) -> str:
    """What a claim of more asks for.

    >>> higher("score", 0.0), higher("score", 0.1)
    ('a higher score', 'a score higher by more than 0.1')
    """
    return f"a higher {what}" if margin == 0 else f"a {what} higher by more than {margin:g}"


def mean_of(by_task: Sequence[tuple[str, float]]) -> str:
    """Says that an effect is a mean over tasks, and names each: a loss on one may hide behind a gain on another.

    >>> mean_of([("a", 0.5)]), mean_of([("a", 0.5), ("b", -0.25)])
    ('', ', mean over 2 tasks (a +0.500, b −0.250),')
    """
    if len(by_task) < 2:
        return ""
    shown = ", ".join(f"{name} {number(value, sign=True)}" for name, value in by_task)
    return f", mean over {len(by_task)} tasks ({shown}),"


def unknown(subject: str, effect: stats.Effect, unit: str) -> str:
    """The sentence of an effect whose error is unknown."""
    lack = "one seed cannot speak about a method"
    if effect.n_seeds > 1 or unit == "items":
        lack = "a task with a single item, or cluster of items, leaves its error unknown"
    return f"{subject} {number(effect.value, sign=True)}, but {lack}. Undecided."


def estimate(
    effect: stats.Effect,
    bounds: Bounds,
    level: float,
    n_items: int,
    unit: str,
    p_mcnemar: float | None,
) -> str:
    """Value, interval, seeds and items."""
    low, high = (number(bound, sign=True) for bound in bounds)
    units = f"{effect.n_seeds} seeds" if unit == "seeds" else "one checkpoint each"
    exact = "" if p_mcnemar is None else f"; McNemar's exact p of no difference {p_mcnemar:.2g}"
    return (
        f"{number(effect.value, sign=True)} ({100 * level:.3g} % interval {low} to {high}; {units}, "
        f"{items_words(n_items, effect.n_clusters)}{exact})"
    )


def one_sided(
    outcome: str,
    bounds: Bounds,
    margin: float,
    what: str,
    n_parts: int,
    detectable: float | None,
) -> str:
    """What the interval of "more than the margin" shows, excludes or leaves open. `what` names the effect."""
    low, high = bounds
    if outcome == "supported":
        return f": wholly above the margin of {margin:g}."
    if outcome == "contradicted":
        if margin == 0:
            return f": wholly below 0, so that {what} is excluded."
        rest = (
            "a smaller one is shown: the interval lies above 0"
            if low > 0
            else "any at all is excluded too: the interval lies below 0"
            if high < 0
            else "a smaller one and none are both possible: the interval holds 0"
        )
        return f": below the margin of {margin:g}, so that {what} of {margin:g} or more is excluded; {rest}."
    if high < margin:
        return _one_of_several("below", f"{margin:g}", n_parts)
    clear = (
        " The interval lies above 0: there is an effect; whether it is as large as asked for is open."
        if low > 0
        else ""
    )
    return (
        f": the interval reaches across the margin of {margin:g}; this design sees a true effect of "
        f"{detectable:.3f} or more at least 8 times in 10.{clear}"
    )


def equivalent(
    outcome: str, bounds: Bounds, margin: float, n_parts: int, detectable: float | None
) -> str:
    """What the interval of "no change beyond the margin" shows, excludes or leaves open."""
    low, high = bounds
    if outcome == "supported":
        return f": inside the margin of ±{margin:g}."
    if outcome == "contradicted":
        return f": a loss wholly beyond the margin of ±{margin:g}, so that retention within it is excluded."
    if low > margin:
        return _one_of_several("a loss beyond", f"±{margin:g}", n_parts)
    if high < -margin:
        return (
            f": a gain beyond the margin of ±{margin:g}. Nothing was lost, but what was predicted is "
            "no change either way. Undecided."
        )
    return (
        f": the interval reaches across the margin of ±{margin:g}; with no change at all, this design would "
        f"have shown retention within ±{detectable:.3f}."
    )


def _one_of_several(side: str, margin: str, n_parts: int) -> str:
    return (
        f": {side} the margin of {margin} on its own, but any of {n_parts} comparisons could have fallen "
        f"there: each is tested at the level divided by {n_parts}, and at that level this one does not "
        "exclude what was predicted. Undecided."
    )


def items_words(n_items: int, n_clusters: int) -> str:
    """Items, and clusters of them if these are fewer.

    >>> items_words(4000, 3000), items_words(10, 10)
    ('4,000 items in 3,000 clusters', '10 items')
    """
    return f"{n_items:,} items" + (f" in {n_clusters:,} clusters" if n_clusters != n_items else "")


def at_temperature_1(parts: Sequence[tuple[str, stats.Effect, stats.Effect]]) -> str:
    """The same comparisons of sampled answers, and whether they point the same way; empty without any.

    Each part is its name, the effect under greedy decoding and the effect at temperature 1.
    """
    words = []
    for name, greedy, sampled in parts:
        bounds = stats.interval(sampled, 0.025)
        shown = ""
        if bounds is not None:
            low, high = (number(bound, sign=True) for bound in bounds)
            shown = f" (95 % interval {low} to {high})"
        turned = ", the opposite sign" if sampled.value * greedy.value < 0 else ""
        words.append(f"{name} {number(sampled.value, sign=True)}{shown}{turned}")
    return (
        f" Sampled at temperature 1 instead, which the verdict does not rest on: {'; '.join(words)}."
        if words
        else ""
    )
