"""What is said at the states: the tail and the mass of the teacher's signal, overlap, separability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statewise.formatting import interval_words, number
from statewise.report.figures import legends, svg
from statewise.report.figures.charts import Cell, Dot, dots, grid, linear, series_keys
from statewise.report.figures.figure import Plate, looks, strips
from statewise.report.figures.select import (
    IN_TABLE,
    cells,
    counted,
    pair,
    pairs,
    select,
    states,
    taught_cells,
)
from statewise.results.types import ProbeFigure, Results

TAIL = {"p50": "median", "p90": "90 %", "p99": "99 %", "largest": "largest"}
REST = {
    "above": "share above 5 nats",
    "clipped": "share clipped",
    "removed": "share of signal removed by the clip",
}


def tail(results: Results) -> Plate | None:
    """Quantiles of the size of the teacher's log-ratio."""
    found = [f for f in select(results, "signal_tail") if f.measure in TAIL]
    positive = [f for f in found if f.quantity.estimate.value > 0]
    if not positive:
        return None
    return _of_pairs(
        results,
        positive,
        [*found, *(f for f in select(results, "signal_tail") if f.measure in REST)],
        TAIL,
        name="tail",
        title="How loud the teacher's signal is",
        caption="Quantiles over the student's own states of the size of the teacher's log-ratio, on a logarithmic "
        "scale: few loud tokens can steer a whole update, and a long tail is the early sign of collapse.",
        across="|log pi_T - log pi_S| of the sampled token, nats",
        logarithm=True,
    )


def mass(results: Results) -> Plate | None:
    """Share of the signal by the student's entropy and the divergence, one grid an arm."""
    found = [f for f in select(results, "signal_mass", "mass") if " " in f.at]
    if not found:
        return None
    rows = list(dict.fromkeys(f.at.split(" ", 1)[0] for f in found))
    columns = list(dict.fromkeys(f.at.split(" ", 1)[1] for f in found))
    part = select(results, "signal_mass", "states")
    named = pairs(results, [*found, *part])
    head, who = taught_cells(named)
    panels = []
    for whom, (name, _) in named.items():
        placed = {}
        for f in (f for f in found if pair(f) == whom):
            entropy, divergence = f.at.split(" ", 1)
            e = f.quantity.estimate
            said = f"{name}, entropy {entropy}, divergence {divergence}: {number(e.value)} {interval_words(e)}"
            placed[rows.index(entropy), columns.index(divergence)] = Cell(
                e.value, f"{100 * e.value:.0f} %", f"{said} of the signal"
            )
        panels.append(
            grid(
                [(row, svg.INK) for row in rows],
                columns,
                placed,
                linear(0.0, 1.0),
                name=f"mass-{len(panels)}",
                title=f"Signal mass: {name}",
                width=330,
                heading=name,
                across="divergence from the teacher, nats",
            )
        )
    return Plate(
        "mass",
        "Where the signal is",
        "Share of the summed |log pi_T - log pi_S| by the student's entropy (rows, nats) and its divergence from "
        "the teacher (columns, nats), on the student's own states. The table also has the share of states, which "
        f"is what the mass would be were all tokens alike. {counted(found, IN_TABLE)}.",
        (*head, "measure", "entropy and divergence", "value", "95 %", "n"),
        tuple(
            (*who(f), words, f.at, *cells(f))
            for words, group in (("share of the signal", found), ("share of states", part))
            for f in group
        ),
        panels=tuple(panels),
        large=True,
        strip=strips(
            [legends.scale(svg.HEAT, "0 %", "100 % of the signal")], "mass", "share of the signal"
        ),
    )


SHARES = {
    "ratio": "shared tokens over k",
    "student_mass": "student's mass on them",
    "teacher_mass": "teacher's mass on them",
}


def overlap(results: Results) -> Plate | None:
    """Top-k overlap of student and teacher."""
    found = [f for f in select(results, "overlap") if f.measure in SHARES]
    if not found:
        return None
    k = ", ".join(dict.fromkeys(f.at for f in found if f.at))
    return _of_pairs(
        results,
        found,
        [*found, *(f for f in select(results, "overlap") if f.measure not in SHARES)],
        SHARES,
        name="overlap",
        title="Do student and teacher have the same tokens in mind?",
        caption=f"The k = {k or 'top'} likeliest tokens of each policy at the student's own states, probabilities of "
        "the whole softmax.",
        across="share",
    )


def _of_pairs(
    results: Results,
    drawn: Sequence[ProbeFigure],
    listed: Sequence[ProbeFigure],
    kinds: Mapping[str, str],
    *,
    name: str,
    title: str,
    caption: str,
    across: str,
    logarithm: bool = False,
) -> Plate:
    """A row of dots for each student and teacher, a kind of dot for each measure of `kinds`; `listed` in the table."""
    look, named, order = looks(results), pairs(results, listed), list(kinds)
    head, who = taught_cells(named)
    shown = [p for p in named if any(pair(f) == p for f in drawn)]
    marks = [
        Dot(
            shown.index(pair(f)),
            order.index(f.measure),
            f.quantity.estimate,
            f"{named[pair(f)][0]}, {kinds[f.measure]}",
        )
        for f in drawn
    ]
    rows = [(named[p][0], look[p[0]].colour if p[0] in look else svg.INK) for p in shown]
    keys = series_keys(list(kinds.values()))
    wide, narrow = dots(
        rows, marks, name=name, title=title, across=across, logarithm=logarithm, keys=keys
    )
    said = counted([f for f in listed if f.measure in kinds])
    words = {**kinds, **REST}
    return Plate(
        name,
        title,
        f"{caption} {said}.",
        (*head, "measure", "value", "95 %", "n"),
        tuple((*who(f), words.get(f.measure, f.measure), *cells(f)) for f in listed),
        wide=wide,
        narrow=narrow,
    )


def separable(results: Results) -> Plate | None:
    """AUC of a classifier between an arm's states and the base's."""
    found = [f for f in select(results, "c2st", "auc") if _whose(results, f)]
    if not found:
        return None
    look = looks(results)
    names = list(dict.fromkeys(_whose(results, f) for f in found))
    marks = [
        Dot(names.index(_whose(results, f)), 0, f.quantity.estimate, _whose(results, f))
        for f in found
    ]
    title = "Can a classifier tell the states from the base's?"
    rows = [(n, look[n].colour if n in look else svg.INK) for n in names]
    drawn = dots(
        rows,
        marks,
        name="c2st",
        title=title,
        across="AUC",
        guide=0.5,
        guide_name="cannot be told apart",
    )
    return Plate(
        "c2st",
        title,
        "AUC of a linear classifier of hidden states, cross-validated by prompt; 0.5 where states cannot "
        f"be told apart. A lower bound of what the best classifier would reach. {counted(found)}.",
        ("arm", "states", "value", "95 %", "n"),
        tuple((_whose(results, f), states(f.sample), *cells(f)) for f in found),
        wide=drawn[0],
        narrow=drawn[1],
    )


def _whose(results: Results, figure: ProbeFigure) -> str:
    """The arm that a number of a two-sample probe is about."""
    known = {arm.name for arm in results.arms}
    own = figure.sample in ("learner", "again")  # the base's second sample is the null
    return figure.policy if figure.policy in known and own else ""


def typical(results: Results) -> list[tuple[str, list[str]]]:
    """The most typical states of either side of every comparison: its title, texts in order.

    The base is compared with several samples, each a classifier of its own.
    """
    found: dict[tuple[str, str, str, str], list[tuple[float, str]]] = {}
    for f in select(results, "c2st"):
        if f.text and f.measure.startswith("typical of "):
            side = f.measure.removeprefix("typical of ")
            other = f.reference if side == f.sample else f.sample
            key = (f.policy, f.sample, side, other)
            found.setdefault(key, []).append((f.quantity.estimate.value, f.text))
    return [
        (
            f"{arm}: most typical of {states(side)}, against {states(other)}",
            [text for _, text in sorted(texts)],
        )
        for (arm, _, side, other), texts in found.items()
    ]
