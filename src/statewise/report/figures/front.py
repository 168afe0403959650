"""The front of a report, and drift: each figure is a function from results to a `Plate`, or None without data."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from statewise.formatting import interval_words, number
from statewise.report.figures import svg
from statewise.report.figures.figure import NARROW, WIDE, Plate, counts, looks, row_names
from statewise.report.figures.legends import GUIDE, INTERVAL, Key, above, rows_high
from statewise.report.figures.svg import Picture
from statewise.results.types import ArmResult, Results
from statewise.stats import Estimate

VERDICT_COLOURS = {"supported": svg.GOOD, "contradicted": svg.BAD, "undecided": svg.OPEN}
VERDICT_MARKERS = {"supported": "o", "contradicted": "X", "undecided": "D"}
NULL_NOTE = "base against base"
CLAIM_INTERVAL = Key("interval at the claim's level", line="-", width=3.0, alpha=0.55)


def trade_off(results: Results) -> Plate | None:
    """Target against retention, an interval each way, the base's level as guide lines."""
    target = next((task for task in results.tasks if task.role == "target"), None)
    points = [
        (arm, score.quantity.estimate, arm.retention.estimate)
        for arm in results.arms
        if target and (score := arm.score(target.name)) and arm.retention
    ]
    if target is None or not points:
        return None
    title = "Target against retention"
    drawn = [
        _trade_off(results, points, target.name, width, name, title)
        for width, name in ((WIDE, "trade-wide"), (NARROW, "trade-narrow"))
    ]
    names = ", ".join(task.name for task in results.tasks if task.role == "retention")
    return Plate(
        "trade-off",
        title,
        f"Across: {target.name}, the target. Up: mean of {names}. Above and right of the base's "
        "lines is better than the base. Intervals are over seeds and items where an arm "
        "was trained with several seeds, over items alone for one checkpoint. "
        f"{counts(results)}.",
        ("arm", target.name, "95 %", "retention", "95 %"),
        tuple(
            (a.name, number(x.value), interval_words(x), number(y.value), interval_words(y))
            for a, x, y in points
        ),
        group="front",
        wide=drawn[0],
        narrow=drawn[1],
    )


def _trade_off(
    results: Results,
    points: Sequence[tuple[ArmResult, Estimate, Estimate]],
    label: str,
    width: int,
    name: str,
    title: str,
) -> Picture:
    keys = [INTERVAL]
    if any(not arm.trained for arm, *_ in points):
        keys.append(Key("level of the base", line=GUIDE, width=0.9))
    high = round(width * (0.62 if width == WIDE else 0.95)) + rows_high(keys, width)
    figure, axes = svg.canvas(width, high)
    above(figure, keys, width)
    look = looks(results)
    for arm, x, y in points:
        if not arm.trained:
            axes.axvline(x.value, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
            axes.axhline(y.value, color=svg.MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    for arm, x, y in points:
        colour = look[arm.name].colour
        for estimate, other, flat in ((x, y, True), (y, x, False)):
            if estimate.low is not None and estimate.high is not None:
                ends = [estimate.low, estimate.high]
                line = (ends, [other.value] * 2) if flat else ([other.value] * 2, ends)
                axes.plot(*line, color=colour, lw=1.6, alpha=0.55, zorder=2)
        mark = axes.plot(
            x.value,
            y.value,
            look[arm.name].marker,
            color=colour,
            ms=10,
            mec=svg.SURFACE,
            mew=1.2,
            zorder=3,
        )
        text = f"{arm.name}: {label} {number(x.value)} {interval_words(x)}, retention "
        svg.label(mark, f"{text}{number(y.value)} {interval_words(y)}")
    axes.margins(0.09)
    axes.set_xlabel(f"{label} (target)")
    axes.set_ylabel("retention, mean over tasks")
    direct_labels(
        axes,
        [(arm.name, x.value, y.value, look[arm.name].colour) for arm, x, y in points],
        [(x, y) for _, x, y in points],
        11 if width == WIDE else 10,
    )
    return svg.themed(figure, name, title)


def direct_labels(
    axes: Axes,
    texts: Sequence[tuple[str, float, float, str]],
    bars: Sequence[tuple[Estimate, Estimate]],
    size: int,
) -> None:
    """Write each name beside its point: of 24 places the one that covers least of what is drawn."""
    figure = axes.figure
    figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue]
    to_pixels = axes.transData.transform
    frame = axes.get_window_extent()
    taken: list[tuple[Bbox, float]] = []
    for (_, x, y, _), (ex, ey) in zip(texts, bars, strict=True):
        px, py = to_pixels((x, y))
        taken.append((Bbox.from_extents(px - 7, py - 7, px + 7, py + 7), 4.0))
        for estimate, across in ((ex, True), (ey, False)):
            if estimate.low is None or estimate.high is None:
                continue
            ends = (estimate.low, estimate.high)
            a, b = (to_pixels((e, y) if across else (x, e)) for e in ends)
            taken.append((Bbox.from_extents(a[0] - 1.5, a[1] - 1.5, b[0] + 1.5, b[1] + 1.5), 1.0))
    for text, x, y, colour in texts:
        px, py = to_pixels((x, y))
        wide, high = 0.60 * size * len(text), size * 1.25
        best: tuple[float, Bbox] | None = None
        for far in (9.0, 18.0, 30.0, 44.0):
            for dx, dy in ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1)):
                left = px + far * dx - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
                middle = py + dy * (far * 0.6 + high / 2)
                box = Bbox.from_bounds(left, middle - high / 2, wide, high)
                over = sum(
                    weight * overlap.width * overlap.height
                    for other, weight in taken
                    if (overlap := Bbox.intersection(box, other)) is not None
                )
                outside = max(0.0, frame.x0 - box.x0) + max(0.0, box.x1 - frame.x1)
                outside += max(0.0, frame.y0 - box.y0) + max(0.0, box.y1 - frame.y1)
                cost = over + 60 * outside + 1.2 * far
                if best is None or cost < best[0]:
                    best = (cost, box)
        if best is None:
            continue
        box = best[1]
        taken.append((box, 6.0))
        # Left of its point a name keeps its right end in place: faces differ in width.
        left = (box.x0 + box.x1) / 2 < px - wide / 3
        inside = axes.transData.inverted().transform
        tx, ty = inside((box.x1 if left else box.x0, (box.y0 + box.y1) / 2))
        side = "right" if left else "left"
        axes.text(tx, ty, text, color=colour, fontsize=size, ha=side, va="center")


def claims(results: Results) -> Plate | None:
    """Each claim's comparisons as a forest plot: effect, interval, and the margin to clear."""
    rows = [(verdict, part) for verdict in results.verdicts for part in verdict.parts]
    if not rows:
        return None
    title = "What was predicted, and what came out"
    keys = [
        Key(name, VERDICT_COLOURS[name], VERDICT_MARKERS[name])
        for name in VERDICT_COLOURS
        if any(verdict.verdict == name for verdict, _ in rows)
    ]
    keys += [Key("margin, fixed before any arm ran", svg.INK, "|"), CLAIM_INTERVAL]
    drawn = []
    for width, name in ((WIDE, "claims-wide"), (NARROW, "claims-narrow")):
        figure, axes = svg.canvas(width, 46 + 38 * len(rows) + rows_high(keys, width))
        above(figure, keys, width)
        for i, (verdict, part) in enumerate(rows):
            colour = VERDICT_COLOURS[verdict.verdict]
            margins = (verdict.margin,)
            if verdict.kind == "retains":
                margins = (-verdict.margin, verdict.margin)
            for margin in margins:
                axes.plot([margin] * 2, [i - 0.36, i + 0.36], color=svg.INK, lw=1.4, zorder=2)
            if part.low is not None and part.high is not None:
                axes.plot([part.low, part.high], [i, i], color=colour, lw=3, alpha=0.55, zorder=3)
            shape = VERDICT_MARKERS[verdict.verdict]
            mark = axes.plot(
                part.effect, i, shape, color=colour, ms=8, mec=svg.SURFACE, mew=1, zorder=4
            )
            bounds = _bounds(part.low, part.high)
            svg.label(
                mark, f"{verdict.name}, {part.name}: {number(part.effect, sign=True)}{bounds}"
            )
        axes.axvline(0, color=svg.MUTED, lw=0.8, zorder=1)
        axes.set_ylim(len(rows) - 0.4, -0.75)
        names = [f"{verdict.name} · {part.name}" for verdict, part in rows]
        row_names(axes, names, [svg.MUTED] * len(rows), beside=width == WIDE)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.set_xlabel("effect (share of items)")
        drawn.append(svg.themed(figure, name, title))
    return Plate(
        "claims",
        title,
        "Every comparison inside every claim. A claim is supported where the interval lies wholly beyond the "
        "margin (for “retains”: between the two). Intervals are over seeds and items, each at the level that "
        f"Holm's adjustment over the primary claims leaves it. {counts(results)}.",
        ("claim", "comparison", "effect", "interval", "margin", "p", "verdict"),
        tuple(
            (
                v.name,
                part.name,
                number(part.effect, sign=True),
                _bounds(part.low, part.high).strip() or "unknown",
                f"±{v.margin:g}" if v.kind == "retains" else f"{v.margin:g}",
                "–" if part.p is None else f"{part.p:.2g}",
                v.verdict,
            )
            for v, part in rows
        ),
        group="front",
        wide=drawn[0],
        narrow=drawn[1],
    )


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f" [{number(low, sign=True)}, {number(high, sign=True)}]"


def drift(results: Results) -> Plate | None:
    """MMD^2 of visited states against the base, beside what base against base gives."""
    arms = [arm for arm in results.arms if arm.drift]
    if not arms:
        return None
    title = "How far the visited states drifted"
    look, drawn = looks(results), []
    features = {found.feature for arm in arms for found in arm.drift}
    keys = [Key("mean-pooled hidden states", marker="o")] if "hidden" in features else []
    if features - {"hidden"}:
        keys.append(Key("light lexical features", marker="o", filled=False))
    if any(found.null_mmd2 is not None for arm in arms for found in arm.drift):
        keys.append(Key(f"{NULL_NOTE}, one draw", svg.INK, "|"))
    keys.append(Key("95 % interval over seeds", line="-", width=2.0, alpha=0.6))
    for width, name in ((WIDE, "drift-wide"), (NARROW, "drift-narrow")):
        figure, axes = svg.canvas(width, 60 + 40 * len(arms) + rows_high(keys, width))
        above(figure, keys, width)
        for i, arm in enumerate(arms):
            colour = look[arm.name].colour
            for found in arm.drift:
                hidden = found.feature == "hidden"
                y = i + (0.02 if hidden else 0.26)
                e = found.mmd2.estimate
                if e.low is not None and e.high is not None:
                    axes.plot([e.low, e.high], [y, y], color=colour, lw=1.8, alpha=0.55, zorder=2)
                fill = colour if hidden else svg.SURFACE
                mark = axes.plot(
                    e.value, y, "o", mfc=fill, mec=colour, ms=8 if hidden else 6, mew=1.6, zorder=3
                )
                tail = f", {_p_words(found.p_values)}" if found.p_values else ""
                text = f"{arm.name}, {found.feature}: {number(e.value, 4)} {interval_words(e, 4)}"
                svg.label(mark, text + tail)
                if found.null_mmd2 is not None:
                    axes.plot([found.null_mmd2] * 2, [y - 0.12, y + 0.12], color=svg.INK, lw=1.6)
        axes.axvline(0, color=svg.MUTED, lw=0.8, zorder=1)
        axes.set_ylim(len(arms) - 0.45, -0.7)
        colours = [look[arm.name].colour for arm in arms]
        row_names(axes, [arm.name for arm in arms], colours, beside=width == WIDE)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=8 if width == WIDE else 4)
        axes.set_xlabel("MMD² against the base")
        drawn.append(svg.themed(figure, name, title))
    seeds = max(d.mmd2.estimate.n for arm in arms for d in arm.drift)
    rows = tuple(
        (
            arm.name,
            d.feature,
            number(d.mmd2.estimate.value, 4),
            interval_words(d.mmd2.estimate, 4),
            "–" if d.null_mmd2 is None else number(d.null_mmd2, 4),
            _p_words(d.p_values) or "–",
            "–" if d.mmd_biased is None else number(d.mmd_biased, 4),
        )
        for arm in arms
        for d in arm.drift
    )
    return Plate(
        "drift",
        title,
        f"Lexical features are for parity with the paper. An arm near the draw of {NULL_NOTE} lies where no "
        "drift at all may lie, and only p says how often. 0 in expectation without drift, so it may fall "
        "below 0; the biased value stands in the table. Intervals are t intervals over seeds only: all "
        "seeds are compared with one sample of the base, whose luck they share; p by permutation "
        f"within prompts, the largest over seeds. n = {seeds} seed{'s' * (seeds != 1)}.",
        ("arm", "features", "MMD²", "95 %, seeds only", NULL_NOTE, "p", "biased"),
        rows,
        wide=drawn[0],
        narrow=drawn[1],
    )


def _p_words(p_values: Sequence[float]) -> str:
    return f"p ≤ {max(p_values):.2g}" if p_values else ""
