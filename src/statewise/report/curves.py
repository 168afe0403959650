"""Curves over training: small panels, one an arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statewise.report import svg
from statewise.report.plates import Plate, counts, looks
from statewise.stats import seed_mean
from statewise.study.rows import Curve, Results
from statewise.words import interval_words, number


def learning(results: Results) -> Plate | None:
    """Target score on the dev split over training, one panel an arm, the other arms behind."""
    target = next((task for task in results.tasks if task.role == "target"), None)
    if target is None:
        return None
    measured = [curve.quantity for curve in results.curves if curve.quantity != "loss"]
    quantity = target.name if target.name in measured else next(iter(measured), "")
    base = next((arm for arm in results.arms if arm.seeds and not arm.trained), None)
    score = base.score(target.name) if base else None
    level = score.quantity.estimate.value if score else None
    guide = " Dashed: the base's test score." if level is not None else ""
    return _panels(
        results,
        quantity,
        "learning",
        f"{target.name} on the dev split while training",
        "One panel an arm; grey behind it, the others. Thin lines are seeds, the thick line their "
        "mean, the band the range of the seeds. Dev items are few, so a single point is rough."
        f"{guide} {counts(results)}.",
        level=level,
        shared=True,
    )


def loss(results: Results) -> Plate | None:
    """Training loss, one panel an arm on its own scale."""
    return _panels(
        results,
        "loss",
        "loss",
        "Training loss",
        "Each arm on its own scale: a cross-entropy, a divergence and a policy-gradient surrogate "
        "are not comparable with each other. Thin lines are seeds, the thick line their mean, the "
        "band the range of the seeds; long runs are averaged over equal runs of steps.",
        level=None,
        shared=False,
    )


def _panels(
    results: Results,
    quantity: str,
    name: str,
    title: str,
    caption: str,
    *,
    level: float | None,
    shared: bool,
) -> Plate | None:
    by_arm: dict[str, list[Curve]] = {}
    for curve in results.curves:
        if curve.quantity == quantity:
            by_arm.setdefault(curve.arm, []).append(curve)
    arms = [arm for arm in results.arms if arm.trained and arm.name in by_arm]
    if not arms:
        return None
    means = {arm.name: _mean_curve(by_arm[arm.name]) for arm in arms}
    every = [v for arm in arms for curve in by_arm[arm.name] for v in curve.values]
    every += [level] if level is not None else []
    room = 0.06 * (max(every) - min(every)) or 0.5
    limits = (min(every) - room, max(every) + room)
    look, panels, rows = looks(results), [], []
    for arm in arms:
        figure, axes = svg.canvas(300, 190)
        colour = look[arm.name].colour
        if shared:
            for other in arms:
                if other is not arm:
                    axes.plot(*means[other.name][:2], color=svg.RULE, lw=1.1, zorder=1)
            axes.set_ylim(*limits)
            if level is not None:
                axes.axhline(level, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=2)
        steps, mean, low, high = means[arm.name]
        axes.fill_between(steps, low, high, color=colour, alpha=0.16, lw=0, zorder=3)
        for curve in by_arm[arm.name]:
            axes.plot(curve.steps, curve.values, color=colour, lw=0.7, alpha=0.55, zorder=4)
        line = axes.plot(steps, mean, color=colour, lw=2.2, zorder=5)
        seeds = [curve.values[-1] for curve in by_arm[arm.name]]
        last = seed_mean(seeds)
        text = f"{number(mean[0])} → {number(last.value)}"
        svg.label(line, f"{arm.name}: {text} over {steps[-1]:g} steps, {len(seeds)} seeds")
        axes.set_title(arm.name, loc="left", color=colour, fontsize=11, fontweight="bold")
        axes.set_xlabel("step")
        axes.locator_params(nbins=4)
        panels.append(svg.themed(figure, f"{name}-{arm.name}", f"{title}: {arm.name}"))
        rows.append(
            (arm.name, number(mean[0]), number(last.value), interval_words(last), str(len(seeds)))
        )
    head = ("arm", "first", "last", "last, 95 % over seeds", "seeds")
    return Plate(name, title, caption, head, tuple(rows), panels=tuple(panels))


def _mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps that every seed has, and mean, lowest and highest of the seeds there."""
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    if not steps:
        curves, steps = curves[:1], list(curves[0].steps)
    at = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    values = np.array([[seed[step] for step in steps] for seed in at])
    return np.array(steps), values.mean(axis=0), values.min(axis=0), values.max(axis=0)
