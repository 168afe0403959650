"""Legends that are drawn: in the figure where it is one picture, as a strip above it where it is several panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from statewise.report.figures import svg
from statewise.report.figures.svg import Picture

SIZE = 9.5
ROW = 17
"""Height of a line of a legend, pixels."""
GUIDE = (0, (4.0, 3.0))
"""A line where nothing would lie, or where the base does."""
Dash = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend: how a thing is drawn, and what it is.

    A `line` and a `marker` are drawn as in the figure; a `band` is a filled patch; `steps` are the colours of a
    scale from its low end to its high one.
    """

    label: str
    colour: str = svg.MUTED
    marker: str = ""
    filled: bool = True
    line: Dash = ""
    width: float = 1.6
    alpha: float = 1.0
    band: bool = False
    steps: tuple[str, ...] = ()

    def handle(self) -> Any:
        """What Matplotlib shows beside the label."""
        if self.steps:
            return tuple(Patch(facecolor=step, edgecolor="none") for step in self.steps)
        if self.band:
            return Patch(facecolor=self.colour, edgecolor="none", alpha=self.alpha)
        upright = self.marker == "|"
        dash: Any = self.line or "none"
        return Line2D(
            [],
            [],
            color=self.colour,
            alpha=self.alpha,
            linestyle=dash,
            linewidth=self.width,
            marker=self.marker or "none",
            markersize=11 if upright else 7,
            markerfacecolor=self.colour if self.filled else svg.SURFACE,
            markeredgecolor=self.colour,
            markeredgewidth=1.5 if upright or not self.filled else 0.8,
        )


INTERVAL = Key("95 % interval", line="-", width=2.0, alpha=0.6)


def scale(colours: Sequence[str], low: str, high: str) -> Key:
    """What the colours of a grid mean, from the value of the first to that of the last."""
    return Key(f"{low} to {high}", steps=tuple(colours))


def columns(keys: Sequence[Key], width: int) -> int:
    """How many entries stand beside each other."""
    lead = 110 if any(key.steps for key in keys) else 46
    widest = max((lead + 0.6 * SIZE * len(key.label) for key in keys), default=1.0)
    return max(1, min(len(keys), int(width / widest)))


def rows_high(keys: Sequence[Key], width: int) -> int:
    """Pixels that a legend takes."""
    return ROW * ceil(len(keys) / columns(keys, width)) + 6 if keys else 0


def above(figure: Figure, keys: Sequence[Key], width: int) -> None:
    """Draw a legend above the axes of a figure; the layout makes room for it."""
    if keys:
        _legend(figure, keys, width, "outside upper left")


def strip(keys: Sequence[Key], name: str, title: str, width: int) -> Picture:
    """A legend alone."""
    figure, axes = svg.canvas(width, rows_high(keys, width) + 2)
    axes.set_axis_off()
    _legend(figure, keys, width, "upper left")
    return svg.themed(figure, name, f"Legend: {title}")


def _legend(figure: Figure, keys: Sequence[Key], width: int, place: Any) -> None:
    handlers: Mapping[Any, Any] = {tuple: HandlerTuple(ndivide=None, pad=0.0)}
    figure.legend(
        [key.handle() for key in keys],
        [key.label for key in keys],
        loc=place,
        ncols=columns(keys, width),
        frameon=False,
        fontsize=SIZE,
        labelcolor=svg.INK,
        handlelength=8.0 if any(key.steps for key in keys) else 1.7,
        handler_map=dict(handlers),
        columnspacing=1.4,
        handletextpad=0.5,
        labelspacing=0.35,
        borderaxespad=0.0,
        borderpad=0.2,
    )
