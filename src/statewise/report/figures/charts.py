"""The kinds of picture that probes need: a labelled grid, rows of dots, lines along depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose, log

from matplotlib.patches import Rectangle

from statewise.formatting import interval_words, number
from statewise.report.figures import svg, theme
from statewise.report.figures.figure import NARROW, WIDE, row_names
from statewise.report.figures.legends import GUIDE, INTERVAL, Key, above, rows_high
from statewise.report.figures.svg import Picture
from statewise.stats import Estimate


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a grid: what its colour says, what is written in it, what is said of it."""

    value: float
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """`heat` or `div`, and from a value to one of its nine steps."""

    kind: str
    step: Callable[[float], int]


MIDDLE = theme.STEPS // 2


def alike(low: float, high: float) -> bool:
    """True for two ends between which no colours can be told apart honestly: they differ by less than 1 %."""
    return isclose(low, high, rel_tol=0.01, abs_tol=1e-12)


def logarithmic(values: Sequence[float]) -> Scale:
    """Equal ratios are equal steps, from the smallest positive value to the largest.

    Where all positive values are one, to 1 %, there is no scale: each has the middle step, and 0 the first.

    >>> one, two = logarithmic([0.0, 0.02, 0.02]), logarithmic([0.01, 0.1])
    >>> one.step(0.02), one.step(0.0), two.step(0.01), two.step(0.1)
    (4, 0, 0, 8)
    """
    known = [v for v in values if v > 0]
    if not known or alike(min(known), max(known)):
        return Scale("heat", lambda value: MIDDLE if value > 0 else 0)
    low, high = min(known), max(known)
    span = log(high / low)

    def step(value: float) -> int:
        share = log(max(value, low) / low) / span
        return min(theme.STEPS - 1, int(share * theme.STEPS))

    return Scale("heat", step)


def linear(low: float, high: float, kind: str = "heat") -> Scale:
    """Equal differences are equal steps; where both ends are one, to 1 %, everything has the middle step.

    >>> linear(0.6, 0.6).step(0.6)
    4
    >>> scale = linear(-1.0, 1.0, "div")
    >>> scale.step(-1.0), scale.step(0.0), scale.step(1.0)
    (0, 4, 8)
    """
    if alike(low, high):
        return Scale(kind, lambda _: MIDDLE)
    span = high - low
    return Scale(kind, lambda v: max(0, min(theme.STEPS - 1, int((v - low) / span * theme.STEPS))))


def grid(
    rows: Sequence[tuple[str, str]],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], Cell],
    scale: Scale,
    *,
    name: str,
    title: str,
    width: int,
    heading: str = "",
    across: str = "",
    keys: Sequence[Key] = (),
) -> Picture:
    """Cells in colour with their number; `rows` are names with their colours, `keys` say what colours mean."""
    narrow = width <= NARROW
    high = (
        rows_high(keys, width)
        + (34 if narrow else 30) * len(rows)
        + (74 if narrow else 58)
        + (20 if heading else 0)
    )
    figure, axes = svg.canvas(width, high)
    above(figure, keys, width)
    colours = svg.HEAT if scale.kind == "heat" else svg.DIVERGING
    for (i, j), cell in cells.items():
        step = scale.step(cell.value)
        patch = Rectangle((j - 0.5, i - 0.5), 1, 1, fc=colours[step], ec=svg.SURFACE, lw=2)
        svg.label(axes.add_patch(patch), cell.label)
        ink = svg.INK if theme.dark_text(scale.kind, step) else svg.SURFACE
        axes.text(
            j, i, cell.text, color=ink, fontsize=9.5 if narrow else 10.5, ha="center", va="center"
        )
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), list(columns), fontsize=8.5 if narrow else 10)
    if len(columns) * max(map(len, columns), default=0) * 6 > width - 110:
        for tick in axes.get_xticklabels():
            tick.set_rotation(38)
            tick.set_horizontalalignment("left")
    axes.set_yticks(range(len(rows)), [row for row, _ in rows], fontsize=9 if narrow else 10)
    for tick, (_, colour) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(colour)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if heading:
        axes.set_title(heading, loc="left", fontsize=10.5, fontweight="bold", pad=10)
    if across:
        axes.set_xlabel(across)
    return svg.themed(figure, name, title)


@dataclass(frozen=True, slots=True)
class Dot:
    """One estimate in a row of dots; `series` says which of the kinds of dot it is."""

    row: int
    series: int
    estimate: Estimate
    label: str


SERIES = (("o", True), ("s", False), ("^", True), ("D", False), ("v", True))
"""Marker of each series, and whether it is filled."""


def dots(
    rows: Sequence[tuple[str, str]],
    found: Sequence[Dot],
    *,
    name: str,
    title: str,
    across: str,
    guide: float | None = None,
    guide_name: str = "",
    logarithm: bool = False,
    keys: Sequence[Key] = (),
) -> list[Picture]:
    """Rows of estimates with their intervals, wide and narrow. `guide` is where nothing would lie.

    `keys` say what the kinds of dot are.
    """
    keys = [
        *keys,
        INTERVAL,
        *([Key(guide_name, line=GUIDE, width=0.9)] if guide_name else []),
    ]
    kinds = max((dot.series for dot in found), default=0) + 1
    drawn = []
    for width, suffix in ((WIDE, "wide"), (NARROW, "narrow")):
        high = 60 + (22 + 13 * kinds) * len(rows) + rows_high(keys, width)
        figure, axes = svg.canvas(width, high)
        above(figure, keys, width)
        for dot in found:
            colour = rows[dot.row][1]
            shape, filled = SERIES[dot.series % len(SERIES)]
            y = dot.row + (dot.series - (kinds - 1) / 2) * 0.62 / max(kinds, 2) + 0.04
            e = dot.estimate
            if e.low is not None and e.high is not None:
                low, high = _ends(e)
                low = max(low, e.value / 50) if logarithm else low
                axes.plot([low, high], [y, y], color=colour, lw=1.8, alpha=0.55, zorder=2)
            fill = colour if filled else svg.SURFACE
            mark = axes.plot(e.value, y, shape, mfc=fill, mec=colour, ms=7, mew=1.5, zorder=3)
            svg.label(mark, f"{dot.label}: {number(e.value)} {interval_words(e)}")
        if guide is not None:
            axes.axvline(guide, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
        if logarithm:
            axes.set_xscale("log")
        axes.set_ylim(len(rows) - 0.45, -0.62)
        row_names(axes, [r for r, _ in rows], [c for _, c in rows], beside=width == WIDE)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        if not logarithm:
            axes.locator_params(axis="x", nbins=8 if width == WIDE else 4)
        axes.set_xlabel(across)
        drawn.append(svg.themed(figure, f"{name}-{suffix}", title))
    return drawn


def _ends(e: Estimate) -> tuple[float, float]:
    """The interval as it is drawn: t knows no bounds, a share does."""
    low, high = e.value if e.low is None else e.low, e.value if e.high is None else e.high
    return (max(low, 0.0), min(high, 1.0)) if e.unit == "share" else (low, high)


def series_keys(series: Sequence[str]) -> list[Key]:
    """A legend of the kinds of dot."""
    return [
        Key(text, marker=shape, filled=filled)
        for text, (shape, filled) in zip(series, SERIES, strict=False)
    ]


@dataclass(frozen=True, slots=True)
class Line:
    """One arm along depth; `dash` as Matplotlib has it."""

    name: str
    colour: str
    marker: str
    points: Sequence[tuple[int, Estimate]]
    dash: str | tuple[int, tuple[float, ...]] = "-"


DEPTH = "depth, tokens of the completion before the state"


def along_depth(
    lines: Sequence[Line],
    bins: Sequence[str],
    *,
    name: str,
    title: str,
    guide: float | None = None,
    across: str = DEPTH,
) -> Picture:
    """A panel of lines over bins of depth, with their intervals."""
    figure, axes = svg.canvas(330, 220)
    for i, line in enumerate(lines):
        nudge = (i - (len(lines) - 1) / 2) * 0.07  # intervals of several arms stand side by side
        x = [at + nudge for at, _ in line.points]
        axes.plot(
            x, [e.value for _, e in line.points], color=line.colour, lw=1.5, ls=line.dash, zorder=3
        )
        for (at, e), place in zip(line.points, x, strict=True):
            if e.low is not None and e.high is not None:
                axes.plot([place] * 2, _ends(e), color=line.colour, lw=1.4, alpha=0.5)
            mark = axes.plot(
                place,
                e.value,
                line.marker,
                color=line.colour,
                ms=5.5,
                mec=svg.SURFACE,
                mew=0.8,
                zorder=4,
            )
            svg.label(mark, f"{line.name}, at {bins[at]}: {number(e.value)} {interval_words(e)}")
    if guide is not None:
        axes.axhline(guide, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.set_xticks(range(len(bins)), list(bins), fontsize=9)
    axes.set_xlabel(across, fontsize=9)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.locator_params(axis="y", nbins=5)
    return svg.themed(figure, name, title)
