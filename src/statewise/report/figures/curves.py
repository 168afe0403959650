"""Curves over training: small panels, one an arm, or one a probe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from statewise.formatting import interval_words, number
from statewise.report.figures import svg
from statewise.report.figures.figure import Plate, arm_keys, looks, strips
from statewise.report.figures.legends import GUIDE, Key
from statewise.report.inputs import Material
from statewise.results.types import Curve, Results
from statewise.stats import seed_mean

PANEL = (300, 190)
PROBE_PANELS = 12


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a set of panels is drawn.

    `axes` names what is drawn upwards, by arm and quantity. Panels of one such name share a scale and show each
    other in grey where `shared`. `level` is a guide and `level_name` what it is; `remarks` are written into the
    panels of an arm; `limits` are those of every panel.
    """

    name: str
    title: str
    caption: str
    shared: bool
    level: float | None = None
    level_name: str = ""
    digits: int = 3
    axes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[float, float] | None = None


BAND = "The interval over seeds is a t interval at each step: none where there is one seed, or where all agree."
MEASURED = Key("the weights that are measured", svg.INK, "v", filled=False)


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
        "marker; the interval over seeds is a t interval (none where there is one seed, or where all "
        f"agree). n = {seeds_of(results)}.{more}",
        ("arm", "measure", "first", "last", "last, 95 % over seeds", "seeds"),
        tuple(rows),
        group="arms",
        panels=tuple(panels),
        large=True,
        strip=strips(
            [
                *arm_keys(results, list(dict.fromkeys(arm for arm, *_ in rows))),
                Key("95 % interval over seeds", alpha=0.25, band=True),
                *([MEASURED] if marked else []),
            ],
            "during",
            "Probes while training",
        ),
    )


def _words(name: str) -> str:
    """A probe's number in words: `locality kappa learner` is `locality kappa: learner`.

    >>> _words("locality kappa learner"), _words("audit k3")
    ('locality kappa: learner', 'audit k3')
    """
    probe, _, rest = name.partition(" ")
    measure, _, place = rest.partition(" ")
    return f"{probe} {measure}: {place}" if place else name


def panels_of(material: Material, curves: Sequence[Curve], drawing: Drawing) -> Plate | None:
    """A panel for each arm and quantity, in the order of the study; None without curves."""
    results = material.results
    order = [arm.name for arm in results.arms if arm.trained]
    lines: dict[tuple[str, str], list[Curve]] = {}
    for curve in sorted((c for c in curves if c.arm in order), key=lambda c: order.index(c.arm)):
        lines.setdefault((curve.arm, curve.quantity), []).append(curve)
    if not lines:
        return None
    means = {line: _mean_curve(found) for line, found in lines.items()}
    look, panels, rows, marked, keys = looks(results), [], [], False, list[Key]()
    for line, found in lines.items():
        arm, quantity = line
        axis = drawing.axes.get(line, "")
        peers = [other for other in lines if drawing.axes.get(other, "") == axis]
        figure, axes = svg.canvas(*PANEL)
        colour = look[arm].colour
        if drawing.shared:
            for other in peers:
                if other != line:
                    axes.plot(*means[other][:2], color=svg.RULE, lw=1.1, zorder=1)
            axes.set_ylim(*drawing.limits or _limits(lines, peers, drawing.level))
        if drawing.level is not None:
            axes.axhline(drawing.level, color=svg.MUTED, lw=0.9, ls=GUIDE, zorder=2)
        steps, mean, low, high = means[line]
        axes.fill_between(steps, low, high, color=colour, alpha=0.16, lw=0, zorder=3)
        if not drawing.shared:  # a wide interval of few seeds must not flatten the curve itself
            mine = [v for curve in found for v in curve.values]
            edge = 0.1 * (max(mine) - min(mine)) or 0.5
            axes.set_ylim(min(mine) - edge, max(mine) + edge)
        for curve in found:
            axes.plot(curve.steps, curve.values, color=colour, lw=0.7, alpha=0.55, zorder=4)
        drawn = axes.plot(steps, mean, color=colour, lw=2.2, zorder=5)
        seeds = [curve.values[-1] for curve in found]
        last = seed_mean(seeds)
        first, final = number(mean[0], drawing.digits), number(last.value, drawing.digits)
        text = f"{first} → {final} over {steps[-1]:g} steps, {_count(len(seeds), 'seed')}"
        stream = re.match(r"stream(\d+)\.", quantity)
        name = f"{arm} · stream {stream[1]}" if stream else arm
        svg.label(drawn, f"{name}: {text}")
        marked |= _mark_chosen(axes, found, material.chosen.get(arm, {}))
        axes.set_title(name, loc="left", color=colour, fontsize=11, fontweight="bold")
        axes.set_xlabel("step")
        axes.set_ylabel(_short(axis), fontsize=9)
        axes.locator_params(nbins=4)
        if arm in drawing.remarks:
            _remark(axes, drawing.remarks[arm])
        panels.append(
            svg.themed(figure, f"{drawing.name}-{len(panels)}", f"{drawing.title}: {name}")
        )
        what = (axis,) if drawing.axes else ()
        rows.append(
            (name, *what, first, final, interval_words(last, drawing.digits), str(len(seeds)))
        )
        keys += _keys(drawing, several=len(seeds) > 1, others=drawing.shared and len(peers) > 1)
    keys += [MEASURED] if marked else []
    what = ("what",) if drawing.axes else ()
    head = ("arm", *what, "first", "last", "last, 95 % over seeds", "seeds")
    return Plate(
        drawing.name,
        drawing.title,
        drawing.caption,
        head,
        tuple(rows),
        group="arms",
        panels=tuple(panels),
        strip=strips(tuple(dict.fromkeys(keys)), drawing.name, drawing.title),
    )


def _keys(drawing: Drawing, *, several: bool, others: bool) -> list[Key]:
    """What stands in a panel."""
    found = [Key("mean over seeds" if several else "the one seed", line="-", width=2.2)]
    if several:
        found += [Key("a seed", line="-", width=0.8, alpha=0.7)]
        found += [Key("95 % interval over seeds", alpha=0.25, band=True)]
    if others:
        found.append(Key("the other arms", svg.RULE, line="-", width=1.4))
    if drawing.level is not None:
        found.append(Key(drawing.level_name, line=GUIDE, width=0.9))
    return found


def _limits(
    lines: Mapping[tuple[str, str], Sequence[Curve]],
    peers: Sequence[tuple[str, str]],
    level: float | None,
) -> tuple[float, float]:
    """One scale for panels that show the same thing."""
    every = [v for line in peers for curve in lines[line] for v in curve.values]
    every += [level] if level is not None else []
    room = 0.06 * (max(every) - min(every)) or 0.5
    return min(every) - room, max(every) + room


def _short(name: str, most: int = 30) -> str:
    """A name that fits beside a panel: of a function its end, which is what its author called it.

    >>> _short("path/to/a/long/folder/rewards.py:partial_credit")
    '…rewards.py:partial_credit'
    """
    return name if len(name) <= most else f"…{name.rsplit('/', 1)[-1][-most + 1 :]}"


def _remark(axes: Axes, text: str) -> None:
    ground = {"facecolor": svg.SURFACE, "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(
        0.98,
        0.95,
        text,
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=9,
        bbox=ground,
        zorder=8,
    )


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


def seeds_of(results: Results) -> str:
    """How many seeds stand behind the curves."""
    return _count(max((len(arm.seeds) for arm in results.arms), default=0), "seed")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
