"""Every figure of a report, in the order of the page. A new one is a function and its line here."""

from __future__ import annotations

from statewise.report import curves, figures, signals, states, svg, walks
from statewise.report.drawn import Dot, Line, along_depth, dots
from statewise.report.material import Material
from statewise.report.plates import Plate, looks
from statewise.report.probed import arms_of, cells, counted, depth, select
from statewise.report.tables import MATCHED_NOTE
from statewise.report.tables import matched as matched_table
from statewise.study.controls import SPENT
from statewise.study.matched import QUANTITIES, missed_estimate
from statewise.study.rows import Results


def plates(material: Material) -> tuple[Plate, ...]:
    """Every figure that the run can fill."""
    results = material.results
    made = (
        figures.trade_off(results),
        figures.claims(results),
        curves.learning(material),
        curves.loss(material),
        curves.lengths(material),
        curves.while_training(material),
        matched(results),
        behaviour(results),
        states.locality(results),
        states.reachability(results),
        figures.drift(results),
        signals.separable(results),
        walks.splice(results),
        walks.profiles(results),
        states.forgetting(results),
        signals.tail(results),
        signals.mass(results),
        signals.overlap(results),
        states.gradients(results),
    )
    return tuple(plate for plate in made if plate is not None)


def matched(results: Results) -> Plate | None:
    """What was matched, and by how much it missed."""
    if not results.matched:
        return None
    look = looks(results)
    rows = [(m.arm, look[m.arm].colour) for m in results.matched]
    marks = [
        Dot(i, 0, missed, f"{m.arm}, percent off the target")
        for i, m in enumerate(results.matched)
        if (missed := missed_estimate(m)) is not None
    ]
    counted_only = all(m.quantity in SPENT for m in results.matched)
    intervals = (
        "No interval: what was spent is counted, and averaged over seeds."
        if counted_only
        else "Intervals, 95 %, are of what was measured on a few rollouts or dev items of these checkpoints, "
        "beside a target that is taken as exact; what is counted (tokens, updates) or exact (update norm) has none."
    )
    what = " and ".join(dict.fromkeys(QUANTITIES[m.quantity] for m in results.matched))
    title = f"Matched budgets: {what}"
    drawn = dots(
        rows, marks, name="matched", title=title, across="missed, percent of the target", guide=0.0
    )
    head, *table = matched_table(results)
    return Plate(
        "matched",
        title,
        f"By how much each arm missed what it was matched to, spent / target - 1. {MATCHED_NOTE} No test item "
        f"chose anything. {intervals} "
        f"n = {max((len(a.seeds) for a in results.arms), default=0)} seeds.",
        tuple(head),
        tuple(map(tuple, table)),
        group="arms",
        wide=drawn[0],
        narrow=drawn[1],
    )


LENGTH = {
    "length_tokens": "length of own completions, tokens",
    "entropy": "entropy at own states, nats",
}


def behaviour(results: Results) -> Plate | None:
    """pass@k of every policy's own samples; length, entropy and failures in the table."""
    found = [f for f in select(results, "behaviour", "pass_at_k") if depth(f.at) > 0]
    if not found:
        return None
    look = looks(results)
    ks = sorted({f.at for f in found}, key=depth)
    lines = [
        Line(
            name,
            look[name].colour if name in look else svg.INK,
            look[name].marker if name in look else "o",
            [(ks.index(f.at), f.quantity.estimate) for f in found if f.policy == name],
        )
        for name in arms_of(results, found)
    ]
    picture = along_depth(
        lines, ks, name="passk", title="pass@k", across="k, completions of a prompt"
    )
    every = [f for f in select(results, "behaviour") if f.measure != "score"]
    return Plate(
        "behaviour",
        "Own completions: pass@k and lengths",
        "Probability that one of k sampled completions of a prompt is right, unbiased; length, entropy, completions "
        "cut and without an answer stand in the table. "
        f"{counted(found, of='prompts', error='over them')}.",
        ("arm", "measure", "value", "95 %", "n"),
        tuple(
            (
                f.policy,
                f"pass@{f.at}"
                if f.measure == "pass_at_k"
                else LENGTH.get(f.measure, f.measure.replace("_", " ")),
                *cells(f),
            )
            for f in every
        ),
        group="arms",
        panels=(picture,),
        large=True,
        legend=tuple(arms_of(results, found)),
    )
