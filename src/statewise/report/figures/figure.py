"""What the figures of a report share: the plate, how an arm looks, names of rows, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes

from statewise.report.figures import svg
from statewise.report.figures.legends import Key, strip
from statewise.report.figures.svg import Picture
from statewise.results.types import Results

WIDE, NARROW = 720, 360
MARKERS = ("o", "s", "^", "v", "P", "X", "p", "h")


Group = Literal["front", "arms", "states"]


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """One figure: the same picture `wide` and `narrow`, or small `panels` that wrap.

    `caption` says estimator and n; `head` and `rows` are the table behind the picture; `group` is the
    part of the page where it stands. `large` panels need more room than a curve does; their legend is a
    `strip`, wide and narrow, where one picture has its own inside.
    """

    name: str
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    group: Group = "states"
    wide: Picture | None = None
    narrow: Picture | None = None
    panels: tuple[Picture, ...] = ()
    large: bool = False
    strip: tuple[Picture, ...] = ()

    def pictures(self) -> dict[str, Picture]:
        """What is stored as files, by name."""
        if self.wide:
            return {self.name: self.wide}
        legend = {f"{self.name}-legend": self.strip[0]} if self.strip else {}
        return legend | {f"{self.name}-{i}": panel for i, panel in enumerate(self.panels)}


@dataclass(frozen=True, slots=True)
class Look:
    """How an arm is drawn everywhere: its colour, and a marker for those who see no colour."""

    colour: str
    marker: str
    css: str


def looks(results: Results) -> dict[str, Look]:
    """A look for each arm. Arms that do not train are ink-coloured diamonds."""
    found: dict[str, Look] = {}
    trained = 0
    for arm in results.arms:
        if arm.seeds and not arm.trained:
            found[arm.name] = Look(svg.INK, "D", "fixed")
            continue
        i = trained % len(svg.ARM_COLOURS)
        # A ninth arm has the first's colour but never its marker.
        marker = MARKERS[(i + trained // len(svg.ARM_COLOURS)) % len(MARKERS)]
        found[arm.name] = Look(svg.ARM_COLOURS[i], marker, f"arm{i}")
        trained += 1
    return found


def arm_keys(results: Results, names: Sequence[str], *, lines: bool = True) -> list[Key]:
    """How arms are drawn where several share a panel."""
    look = looks(results)
    return [
        Key(name, look[name].colour, look[name].marker, line="-" if lines else "")
        for name in names
        if name in look
    ]


def strips(keys: Sequence[Key], name: str, title: str) -> tuple[Picture, ...]:
    """The legend of small panels, wide and narrow; none where there is nothing to say."""
    return tuple(
        strip(keys, f"{name}-legend-{suffix}", title, width)
        for width, suffix in ((WIDE, "wide"), (NARROW, "narrow"))
        if keys
    )


def row_names(axes: Axes, names: Sequence[str], colours: Sequence[str], *, beside: bool) -> None:
    """Name each row of a dot plot: left of it on a wide screen, above its mark on a narrow one."""
    if beside:
        axes.set_yticks(range(len(names)), list(names))
        for tick, colour in zip(axes.get_yticklabels(), colours, strict=True):
            tick.set_color(colour)
        return
    axes.set_yticks([])
    ground = {"facecolor": svg.SURFACE, "edgecolor": "none", "pad": 1.0}
    at = axes.get_yaxis_transform()
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        axes.text(
            0.0, i - 0.32, name, transform=at, color=colour, fontsize=9.5, va="center", bbox=ground
        )


def counts(results: Results) -> str:
    """How many seeds and items stand behind the scores; clusters where they are fewer."""
    seeds = max((len(arm.seeds) for arm in results.arms), default=0)
    items = []
    for task in results.tasks:
        scores = [score for arm in results.arms if (score := arm.score(task.name))]
        largest = max(scores, key=lambda score: score.n_items, default=None)
        if largest is None:
            continue
        n, clusters = largest.n_items, largest.n_clusters
        within = f" in {clusters:,} clusters" if clusters != n else ""
        items.append(f"{n:,} items of {task.name}{within}")
    return f"n = {seeds} seed{'s' * (seeds != 1)}, {', '.join(items)}"
