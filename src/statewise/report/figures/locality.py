"""Where the policy moved and how far states are from it: locality, reachability, forgetting, gradients."""

from __future__ import annotations

from statewise.formatting import interval_words, number
from statewise.report.figures import legends, svg
from statewise.report.figures.charts import (
    MIDDLE,
    Cell,
    Dot,
    alike,
    dots,
    grid,
    linear,
    logarithmic,
    series_keys,
)
from statewise.report.figures.figure import NARROW, WIDE, Plate, arm_keys, looks, strips
from statewise.report.figures.front import direct_labels
from statewise.report.figures.legends import INTERVAL
from statewise.report.figures.select import (
    IN_TABLE,
    arms_of,
    cells,
    counted,
    places,
    select,
    states,
)
from statewise.results.types import ProbeFigure, Results

TABLE = ("arm", "states", "value", "95 %", "n")


def locality(results: Results) -> Plate | None:
    """The update-locality matrix: policy moved x sample."""
    found = select(results, "locality", "kappa")
    if not found:
        return None
    look, names = looks(results), arms_of(results, found)
    at = places((f.policy, f.sample) for f in found)
    columns = list(dict.fromkeys(at.values()))
    placed = {(names.index(f.policy), columns.index(at[f.sample])): f for f in found}
    scale = logarithmic([f.quantity.estimate.value for f in found])
    ends = [v for f in found if (v := f.quantity.estimate.value) > 0] or [0.0]
    title = "Update locality: who moved where"
    drawn = [
        grid(
            [(name, look[name].colour if name in look else svg.INK) for name in names],
            [states(c) for c in columns],
            {
                place: Cell(
                    f.quantity.estimate.value,
                    _three(f.quantity.estimate.value),
                    f"{f.policy} on {f.sample} states: kl to base {_with_interval(f)} nats a state",
                )
                for place, f in placed.items()
            },
            scale,
            name=f"locality-{suffix}",
            title=title,
            width=width,
            keys=[_heat(min(ends), max(ends))],
        )
        for width, suffix in ((WIDE, "wide"), (NARROW, "narrow"))
    ]
    index = select(results, "locality", "index")
    rows = [(f.policy, states(at[f.sample]), *cells(f, 4)) for f in found]
    rows += [(f.policy, f"index: {f.sample}", *cells(f, 2)) for f in index]
    return Plate(
        "locality",
        title,
        "Rows: the policy that moved. Columns: whose states it is asked at. Each cell is the mean of "
        "kl(policy || base), exact over the vocabulary, in nats a state. "
        "A policy that moved only where it was trained is dark in one column. "
        f"{counted(found, IN_TABLE)}."
        + (
            " The locality index in the table is movement on trained over retention states: the larger, the more of it "
            "lies where training was aimed; 1 is as far at retention states. Arms whose trained states are not the "
            "same sample compare by the cells, not by the index."
            if index
            else ""
        ),
        TABLE,
        tuple(rows),
        wide=drawn[0],
        narrow=drawn[1],
    )


def _heat(low: float, high: float) -> legends.Key:
    """What the colours of the matrix mean; one colour where all its values are one."""
    if alike(low, high):
        return legends.Key(f"{_three(high)} nats a state in every cell", steps=(svg.HEAT[MIDDLE],))
    return legends.scale(svg.HEAT, _three(low), f"{_three(high)} nats a state, equal ratios")


def _three(value: float) -> str:
    """Three significant digits at most: 0.0012, 0.34, 12.3."""
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"


def _with_interval(figure: ProbeFigure) -> str:
    e = figure.quantity.estimate
    return f"{number(e.value)} {interval_words(e)}"


def reachability(results: Results) -> Plate | None:
    """Percentile of foreign states among the policy's own."""
    found = select(results, "reachability", "percentile")
    if not found:
        return None
    look, names = looks(results), arms_of(results, found)
    hardly = select(results, "reachability", "hardly_visited")
    at = places((f.policy, f.sample) for f in [*found, *hardly])
    samples = list(dict.fromkeys(at.values()))
    marks = [
        Dot(
            names.index(f.policy),
            samples.index(at[f.sample]),
            f.quantity.estimate,
            f"{f.policy}, {states(at[f.sample])} states",
        )
        for f in found
    ]
    title = "Reachability: would the policy get there by itself?"
    rows = [(n, look[n].colour if n in look else svg.INK) for n in names]
    drawn = dots(
        rows,
        marks,
        name="reachability",
        title=title,
        across="percentile among own states",
        guide=0.5,
        guide_name="as likely as its own",
        keys=series_keys([states(s) for s in samples]),
    )
    return Plate(
        "reachability",
        title,
        "Percentile of (1/t) log pi(y_<t | x) of the states among the policy's own of the same depth: 0.5 "
        "for states like its own, near 0 for foreign ones. "
        f"{counted(found)}.",
        ("arm", "states", "measure", "value", "95 %", "n"),
        tuple(
            (f.policy, states(at[f.sample]), words, *cells(f))
            for words, group in (("percentile", found), ("share below the 5th", hardly))
            for f in group
        ),
        wide=drawn[0],
        narrow=drawn[1],
    )


def forgetting(results: Results) -> Plate | None:
    """Forgetting against the sequence KL to the base, on the new task and on retention prompts."""
    lost = {arm.name: arm.forgetting for arm in results.arms if arm.forgetting}
    kinds = [("base_policy", "KL(base || policy)"), ("policy_base", "KL(policy || base)")]
    found = [f for f in select(results, "forgetting") if f.policy in lost]
    if not found:
        return None
    look, panels = looks(results), []
    # A logarithmic axis has no 0: an arm that has not moved would vanish, and drag the scale along.
    still = list(dict.fromkeys(f.policy for f in found if f.quantity.estimate.value <= 0))
    drawn = [f for f in found if f.policy not in still]
    for sample in dict.fromkeys(f.sample for f in drawn):
        for measure, words in kinds:
            points = [f for f in drawn if f.sample == sample and f.measure == measure]
            if not points:
                continue
            figure, axes = svg.canvas(330, 250)
            for f in points:
                x, y = f.quantity.estimate, lost[f.policy].estimate
                colour = look[f.policy].colour
                if x.low is not None and x.high is not None:
                    ends = [max(x.low, x.value / 20), x.high]
                    axes.plot(ends, [y.value] * 2, color=colour, lw=1.4, alpha=0.5)
                if y.low is not None and y.high is not None:
                    axes.plot([x.value] * 2, [y.low, y.high], color=colour, lw=1.4, alpha=0.5)
                mark = axes.plot(
                    x.value,
                    y.value,
                    look[f.policy].marker,
                    color=colour,
                    ms=8,
                    mec=svg.SURFACE,
                    mew=1,
                )
                text = f"{f.policy}: {words} {_with_interval(f)} nats, forgetting {number(y.value)}"
                svg.label(mark, f"{text} {interval_words(y)}")
            axes.axhline(0, color=svg.MUTED, lw=0.8, zorder=1)
            axes.set_xscale("log")
            axes.margins(0.14)
            axes.set_xlabel(f"{words}, nats a completion")
            axes.set_ylabel("forgetting")
            axes.set_title(f"{sample} prompts", loc="left", fontsize=10.5, fontweight="bold")
            direct_labels(
                axes,
                [
                    (
                        f.policy,
                        f.quantity.estimate.value,
                        lost[f.policy].estimate.value,
                        look[f.policy].colour,
                    )
                    for f in points
                ],
                [(f.quantity.estimate, lost[f.policy].estimate) for f in points],
                8,
            )
            title = f"Forgetting against {words}, {sample} prompts"
            panels.append(svg.themed(figure, f"law-{len(panels)}", title))
    arms = len({f.policy for f in drawn})
    left_out = f"At 0 and in the table alone: {', '.join(still)}. " if still else ""
    return Plate(
        "law",
        "The forgetting law: which drift goes with forgetting?",
        "Across: divergence of whole completions, the sum over their states of the exact per-state divergence, "
        "on a logarithmic scale. Up: forgetting, the base's score minus the arm's, mean over retention tasks, "
        f"with its own interval. n = {arms} arms, which is a picture and no test: a regression needs many more "
        f"runs. {left_out}{counted(found, of='completions')}.",
        ("arm", "states", "measure", "value", "95 %", "n"),
        tuple(
            (f.policy, f.sample, dict(kinds).get(f.measure, f.measure), *cells(f)) for f in found
        ),
        panels=tuple(panels),
        large=True,
        strip=strips(
            [*arm_keys(results, arms_of(results, drawn), lines=False), INTERVAL], "law", "arms"
        ),
    )


def gradients(results: Results) -> Plate | None:
    """Cosines between the gradients of the state sources, one matrix an arm."""
    found = [f for f in select(results, "gradients", "cosines") if "~" in f.at]
    if not found:
        return None
    panels = []
    for name in arms_of(results, found):
        at = places((name, end) for f in found if f.policy == name for end in f.at.split("~", 1))
        mine = {tuple(at[end] for end in f.at.split("~", 1)): f for f in found if f.policy == name}
        ends = list(dict.fromkeys(end for pair in mine for end in pair))
        placed = {}
        for (a, b), f in mine.items():
            e = f.quantity.estimate
            cell = Cell(e.value, number(e.value, 2), f"{name}: {a} with {b}: {_with_interval(f)}")
            placed[ends.index(a), ends.index(b)] = cell
            placed[ends.index(b), ends.index(a)] = cell
        panels.append(
            grid(
                [(end, svg.INK) for end in ends],
                ends,
                placed,
                linear(-1.0, 1.0, "div"),
                name=f"gradients-{len(panels)}",
                title=f"Gradient cosines: {name}",
                width=330,
                heading=name,
            )
        )
    other = select(results, "gradients", "interference")
    return Plate(
        "gradients",
        "Do the sources pull the same way?",
        "Cosine of gradients at the trained policy: of the arm's own terms at the states its source visits (own "
        "terms), and of cross-entropy on the tokens of samples that others wrote. "
        "An interval of -1 to 1 says that one of the two may be nothing but noise. "
        f"{counted(found, IN_TABLE, of='blocks of prompts', error='by jackknife over them')}. "
        "Interference in the table is the first-order change of the retention "
        "loss when a step of rate 1 is taken on a source: above 0 it hurts.",
        ("arm", "states", "measure", "value", "95 %", "n"),
        tuple(
            (f.policy, f.at, words, *cells(f))
            for words, group in (("cosine", found), ("interference", other))
            for f in group
        ),
        panels=tuple(panels),
        large=True,
        strip=strips(
            [legends.scale(svg.DIVERGING, "−1, against each other,", "1, the same way")],
            "gradients",
            "cosine",
        ),
    )
