"""Curves over training: small panels, one an arm, or one a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from statewise.report import svg
from statewise.report.material import Material
from statewise.report.plates import Plate, looks
from statewise.stats import seed_mean
from statewise.study.rows import Curve, Results
from statewise.words import interval_words, number

PANEL = (300, 190)
PROBE_PANELS = 12


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a set of panels is drawn: one scale for all (`shared`), a guide (`level`), digits in its table."""

    name: str
    title: str
    caption: str
    shared: bool
    level: float | None = None
    digits: int = 3


BAND = (
    "Thin lines are seeds, the thick line their mean, the band its 95 % t interval over seeds at each "
    "step (none where there is one seed, or where all agree)."
)
CHOSEN = " Triangle: the step whose weights are measured, where a matched budget chose it."


def learning(material: Material) -> Plate | None:
    """Target score on the dev split over training, one panel an arm, the other arms behind."""
    results = material.results
    target = next((task for task in results.tasks if task.role == "target"), None)
    if target is None:
        return None
    measured = [curve.quantity for curve in results.curves if curve.quantity != "loss"]
    quantity = target.name if target.name in measured else next(iter(measured), "")
    base = next((arm for arm in results.arms if arm.seeds and not arm.trained), None)
    score = base.score(target.name) if base else None
    level = score.quantity.estimate.value if score else None
    guide = " Dashed: the base's test score." if level is not None else ""
    curves = [c for c in results.curves if c.quantity == quantity]
    drawing = Drawing(
        "learning",
        f"{target.name} on the dev split while training",
        f"One panel an arm; grey behind it, the others. {BAND} Dev items are few, so a single point "
        f"is rough.{guide} n = {_items(curves)}{_seeds(results)}.",
        shared=True,
        level=level,
    )
    return _panels(material, curves, drawing)


def loss(material: Material) -> Plate | None:
    """Training loss, one panel an arm on its own scale."""
    drawing = Drawing(
        "loss",
        "Training loss",
        "Each arm on its own scale: a cross-entropy, a divergence and a policy-gradient surrogate "
        f"are not comparable with each other. {BAND} Long runs are averaged over equal runs of steps. "
        f"n = {_seeds(material.results)}.",
        shared=False,
    )
    curves = [c for c in material.results.curves if c.quantity == "loss"]
    return _panels(material, curves, drawing)


def lengths(material: Material) -> Plate | None:
    """Mean length of the trained completions over training."""
    drawing = Drawing(
        "lengths",
        "Length of the completions trained on",
        "Tokens of a completion, mean over the rows of a step: the dataset's own where an arm trains on "
        f"demonstrations, sampled ones elsewhere. {BAND} n = {_seeds(material.results)}.",
        shared=True,
        digits=1,
    )
    return _panels(material, material.lengths, drawing)


def while_training(material: Material) -> Plate | None:
    """What cheap probes said while training: one panel a number, one line an arm."""
    results, look = material.results, looks(material.results)
    names = list(dict.fromkeys(curve.quantity for curve in material.during))
    panels, rows, marked = [], [], False
    for i, name in enumerate(names):
        figure, axes = svg.canvas(*PANEL)
        for arm in results.arms:
            curves = [c for c in material.during if c.quantity == name and c.arm == arm.name]
            if not curves:
                continue
            steps, mean, low, high = _mean_curve(curves)
            colour = look[arm.name].colour
            axes.fill_between(steps, low, high, color=colour, alpha=0.14, lw=0)
            line = axes.plot(steps, mean, look[arm.name].marker, ls="-", ms=4, color=colour, lw=1.6)
            text = f"{arm.name}: {number(mean[0])} → {number(mean[-1])} over {steps[-1]:g} steps"
            svg.label(line, f"{name}, {text}, {_count(len(curves), 'seed')}")
            marked |= _mark_chosen(axes, curves, material.chosen.get(arm.name, {}))
            last = seed_mean([curve.values[-1] for curve in curves])
            cells = (number(mean[0]), number(last.value), interval_words(last), str(len(curves)))
            rows.append((arm.name, name, *cells))
        axes.set_title(_words(name), loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.locator_params(nbins=4)
        if i < PROBE_PANELS:
            panels.append(svg.themed(figure, f"during-{i}", name))
    if not panels:
        return None
    left = len(names) - len(panels)
    more = f" {left} more stand in the table alone." if left > 0 else ""
    return Plate(
        "during",
        "Probes while training",
        "One panel a number of a probe (probe, measure, states, where), one line an arm in its colour and "
        "marker; the band is the 95 % t interval over seeds (none where there is one seed, or where all "
        f"agree).{CHOSEN if marked else ''} n = {_seeds(results)}.{more}",
        ("arm", "measure", "first", "last", "last, 95 % over seeds", "seeds"),
        tuple(rows),
        group="arms",
        panels=tuple(panels),
        large=True,
        legend=tuple(dict.fromkeys(arm for arm, *_ in rows)),
    )


def _words(name: str) -> str:
    """A probe's number in words: `locality kappa learner` is `locality kappa: learner`.

    >>> _words("locality kappa learner"), _words("audit k3")
    ('locality kappa: learner', 'audit k3')
    """
    probe, _, rest = name.partition(" ")
    measure, _, place = rest.partition(" ")
    return f"{probe} {measure}: {place}" if place else name


def _panels(material: Material, curves: Sequence[Curve], drawing: Drawing) -> Plate | None:
    results = material.results
    by_arm: dict[str, list[Curve]] = {}
    for curve in curves:
        by_arm.setdefault(curve.arm, []).append(curve)
    arms = [arm for arm in results.arms if arm.trained and arm.name in by_arm]
    if not arms:
        return None
    means = {arm.name: _mean_curve(by_arm[arm.name]) for arm in arms}
    every = [v for arm in arms for curve in by_arm[arm.name] for v in curve.values]
    every += [drawing.level] if drawing.level is not None else []
    room = 0.06 * (max(every) - min(every)) or 0.5
    limits = (min(every) - room, max(every) + room)
    look, panels, rows, marked = looks(results), [], [], False
    for arm in arms:
        figure, axes = svg.canvas(*PANEL)
        colour = look[arm.name].colour
        if drawing.shared:
            for other in arms:
                if other is not arm:
                    axes.plot(*means[other.name][:2], color=svg.RULE, lw=1.1, zorder=1)
            axes.set_ylim(*limits)
        if drawing.level is not None:
            axes.axhline(drawing.level, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=2)
        steps, mean, low, high = means[arm.name]
        axes.fill_between(steps, low, high, color=colour, alpha=0.16, lw=0, zorder=3)
        if not drawing.shared:  # a wide interval of few seeds must not flatten the curve itself
            mine = [v for curve in by_arm[arm.name] for v in curve.values]
            edge = 0.1 * (max(mine) - min(mine)) or 0.5
            axes.set_ylim(min(mine) - edge, max(mine) + edge)
        for curve in by_arm[arm.name]:
            axes.plot(curve.steps, curve.values, color=colour, lw=0.7, alpha=0.55, zorder=4)
        line = axes.plot(steps, mean, color=colour, lw=2.2, zorder=5)
        seeds = [curve.values[-1] for curve in by_arm[arm.name]]
        last = seed_mean(seeds)
        first, final = number(mean[0], drawing.digits), number(last.value, drawing.digits)
        text = f"{first} → {final} over {steps[-1]:g} steps, {_count(len(seeds), 'seed')}"
        svg.label(line, f"{arm.name}: {text}")
        marked |= _mark_chosen(axes, by_arm[arm.name], material.chosen.get(arm.name, {}))
        axes.set_title(arm.name, loc="left", color=colour, fontsize=11, fontweight="bold")
        axes.set_xlabel("step")
        axes.locator_params(nbins=4)
        title = f"{drawing.title}: {arm.name}"
        panels.append(svg.themed(figure, f"{drawing.name}-{arm.name}", title))
        rows.append((arm.name, first, final, interval_words(last, drawing.digits), str(len(seeds))))
    head = ("arm", "first", "last", "last, 95 % over seeds", "seeds")
    name, title, caption = drawing.name, drawing.title, drawing.caption + (CHOSEN if marked else "")
    return Plate(name, title, caption, head, tuple(rows), group="arms", panels=tuple(panels))


def _mark_chosen(axes: Axes, curves: Sequence[Curve], chosen: Mapping[int, int]) -> bool:
    """A triangle on each seed's curve at the step whose weights are measured; True where there was one.

    In ink: in the curve's own colour it would vanish in a noisy one.
    """
    there = [curve for curve in curves if curve.seed in chosen]
    for curve in there:
        step = chosen[curve.seed]
        value = float(np.interp(step, curve.steps, curve.values))
        mark = axes.plot(step, value, "v", mfc=svg.SURFACE, mec=svg.INK, ms=8, mew=1.6, zorder=6)
        svg.label(mark, f"{curve.arm}, seed {curve.seed}: measured at step {step}")
    return bool(there)


def _items(curves: Sequence[Curve]) -> str:
    """How many dev items stand behind each point, before the number of seeds."""
    known = sorted({curve.n for curve in curves if curve.n is not None})
    if not known:
        return ""
    least = "" if len(known) == 1 else f"{known[0]:,} to "
    return f"{least}{known[-1]:,} dev item{'s' * (known[-1] != 1)}, "


def _mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps that every seed has; there the mean over seeds and its 95 % t interval (nan: none known)."""
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    if not steps:
        curves, steps = curves[:1], list(curves[0].steps)
    at = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    means = [seed_mean([seed[step] for seed in at]) for step in steps]
    value = np.array([m.value for m in means])
    low = np.array([np.nan if m.low is None else m.low for m in means])
    high = np.array([np.nan if m.high is None else m.high for m in means])
    return np.array(steps), value, low, high


def _seeds(results: Results) -> str:
    return _count(max((len(arm.seeds) for arm in results.arms), default=0), "seed")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
