"""Verdicts in words. Each sentence says what was found, against which margin, and what that excludes.

"Contradicted" is said of a claim with its margin: forgetting of 0.02, known for certain, contradicts "more than 0.03 is
lost" and not "something is lost". So the margin stands in every sentence, and `asked_for` beside every verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from statewise import stats
from statewise.claims.claim import TARGET, Comparison, Forgets, ForgetsLess, Retains
from statewise.formatting import number

Bounds = tuple[float, float]


def asked_for(kind: str, margin: float) -> str:
    """What a claim of this kind asks for, with its margin.

    >>> asked_for("forgets", 0.03), asked_for("retains", 0.03), asked_for("exceeds", 0.0)
    ('a loss above 0.03', 'no change beyond ±0.03', 'a higher score')
    >>> asked_for("forgets_less", 0.03), asked_for("unexplained", 0.5)
    ('a retention higher by more than 0.03', 'less than 0.5 explained')
    """
    match kind:
        case "forgets":
            return f"a loss above {margin:g}"
        case "retains":
            return f"no change beyond ±{margin:g}"
        case "unexplained":
            return f"less than {margin:g} explained"
    what = "retention" if kind == "forgets_less" else "score"
    return f"a higher {what}" if margin == 0 else f"a {what} higher by more than {margin:g}"


def unknown(said: str, claim: Comparison, n_seeds: int) -> str:
    """The sentence of an effect whose error is unknown."""
    lack = "one seed cannot speak about a method"
    if n_seeds > 1 or claim.unit == "items":
        lack = "a task with a single item, or cluster of items, leaves its error unknown"
    return f"{said}, but {lack}. Undecided."


def subject(
    claim: Comparison,
    part: str,
    decoding: str = "",
    by_task: Sequence[tuple[str, float]] = (),
) -> str:
    """What a number is of: the start of its sentence. `decoding` says how a generated answer was drawn.

    A mean over tasks says so and names each, `by_task`: a loss on one may hide behind a gain on another.
    """
    over = ""
    if len(by_task) > 1:
        shown = ", ".join(f"{name} {number(value, sign=True)}" for name, value in by_task)
        over = f", mean over {len(by_task)} tasks ({shown}),"
    if isinstance(claim, Forgets):
        return f"Forgetting of {claim.arm} against {claim.baseline}{over} is"
    if isinstance(claim, Retains):
        return f"The loss of {part} against {claim.baseline} is"
    if isinstance(claim, ForgetsLess):
        return f"Retention of {claim.arm} over {claim.than}{over} is"
    place = "the target" if claim.task == TARGET else claim.task
    return f"{claim.arm} {part} on {place}{f', decoded {decoding},' if decoding else ''} is"


def supported(said: str, claim: Comparison) -> str:
    """The sentence of an interval that lies beyond the margin."""
    if isinstance(claim, Retains):
        return f"{said}: inside the margin of ±{claim.margin:g}."
    return f"{said}: wholly above the margin of {claim.margin:g}."


def contradicted(said: str, claim: Comparison, bounds: Bounds) -> str:
    """The sentence of an interval that excludes what was asked for, and what it does not exclude."""
    low, high = bounds
    if isinstance(claim, Retains):
        return f"{said}: a loss wholly beyond the margin of ±{claim.margin:g}, so that retention within it is excluded."
    what = {"forgets": "forgetting", "forgets_less": "less forgetting", "exceeds": "an advantage"}[
        claim.kind
    ]
    if claim.margin == 0:
        return f"{said}: wholly below 0, so that {what} is excluded."
    rest = (
        "a smaller one is shown: the interval lies above 0"
        if low > 0
        else "any at all is excluded too: the interval lies below 0"
        if high < 0
        else "a smaller one and none are both possible: the interval holds 0"
    )
    return (
        f"{said}: below the margin of {claim.margin:g}, so that {what} of {claim.margin:g} or more is excluded; "
        f"{rest}."
    )


def undecided(
    said: str, claim: Comparison, bounds: Bounds, parts: int, detectable: float | None
) -> str:
    """The sentence of an interval that settles nothing."""
    low, high = bounds
    equivalence = isinstance(claim, Retains)
    band = f"±{claim.margin:g}" if equivalence else f"{claim.margin:g}"
    if low > claim.margin if equivalence else high < claim.margin:
        side = "a loss beyond" if equivalence else "below"
        return (
            f"{said}: {side} the margin of {band} if it stood alone, but any of {parts} "
            f"comparisons could have fallen there: each is asked at the level divided by {parts}, "
            "and there this one does not exclude what was predicted. Undecided."
        )
    if equivalence and high < -claim.margin:
        return (
            f"{said}: a gain beyond the margin of {band}. Nothing was lost, but what was predicted is "
            "no change either way. Undecided."
        )
    need = (
        f"with no change at all, this design would have shown retention within ±{detectable:.3f}"
        if equivalence
        else f"this design sees a true effect of {detectable:.3f} or more at least 8 times in 10"
    )
    clear = ""
    if not equivalence and low > 0:
        clear = " The interval lies above 0: there is an effect; whether it is as large as asked for is open."
    return f"{said}: the interval reaches across the margin of {band}; {need}.{clear}"


def found(
    said: str, effect: stats.Effect, bounds: Bounds, level: float, items: str, unit: str
) -> str:
    """The number behind its subject: value, interval, seeds and items; the bracket is left open."""
    low, high = (number(bound, sign=True) for bound in bounds)
    units = f"{effect.n_seeds} seeds" if unit == "seeds" else "one checkpoint each"
    value = number(effect.value, sign=True)
    return f"{said} {value} ({100 * level:.3g} % interval {low} to {high}; {units}, {items}"


def items_words(n_items: int, n_clusters: int) -> str:
    """Items, and clusters of them where these are fewer.

    >>> items_words(4000, 3000), items_words(10, 10)
    ('4,000 items in 3,000 clusters', '10 items')
    """
    return f"{n_items:,} items" + (f" in {n_clusters:,} clusters" if n_clusters != n_items else "")


def at_temperature_1(parts: Sequence[tuple[str, stats.Effect]], greedy: Sequence[float]) -> str:
    """The same comparisons of sampled answers, and whether they point the same way; empty without any.

    `greedy` are the effects under greedy decoding, in the same order.
    """
    words = []
    for (name, effect), other in zip(parts, greedy, strict=True):
        bounds = stats.interval(effect, 0.025)
        shown = ""
        if bounds is not None:
            low, high = (number(bound, sign=True) for bound in bounds)
            shown = f" (95 % interval {low} to {high})"
        turned = ", the opposite sign" if effect.value * other < 0 else ""
        words.append(f"{name} {number(effect.value, sign=True)}{shown}{turned}")
    return (
        f" Sampled at temperature 1 instead, which the verdict does not rest on: {'; '.join(words)}."
        if words
        else ""
    )
