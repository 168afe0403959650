"""Every figure of a report, in the order of the page. A new one is a function and its line here."""

from __future__ import annotations

from collections.abc import Mapping

from statewise.claims.controls import SPENT
from statewise.report.figures import (
    along_completion,
    curves,
    front,
    locality,
    svg,
    teacher_signal,
    training,
)
from statewise.report.figures.charts import Dot, Line, along_depth, dots, series_keys
from statewise.report.figures.figure import Plate, arm_keys, looks, strips
from statewise.report.figures.legends import INTERVAL
from statewise.report.figures.select import arms_of, cells, counted, depth, select
from statewise.report.figures.select import states as called
from statewise.report.inputs import Material
from statewise.report.optimised import judged_by
from statewise.report.page.tables import MATCHED_NOTE
from statewise.results.matched import HEAD, QUANTITIES, missed_estimate
from statewise.results.matched import cells as matched_cells
from statewise.results.types import Results


def plates(material: Material) -> tuple[Plate, ...]:
    """Every figure that the run can fill."""
    results = material.results
    made = (
        front.trade_off(results),
        front.claims(results),
        training.learning(material),
        training.reward(material),
        training.silent(material),
        training.faults(material),
        training.loss(material),
        training.lengths(material),
        curves.while_training(material),
        matched(results),
        behaviour(material),
        locality.locality(results),
        locality.reachability(results),
        front.drift(results),
        teacher_signal.separable(results),
        coverage(results),
        along_completion.splice(material),
        along_completion.profiles(results),
        locality.forgetting(results),
        teacher_signal.tail(results),
        teacher_signal.mass(results),
        teacher_signal.overlap(results),
        locality.gradients(results),
        audit(results),
        geometry(results),
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
        rows,
        marks,
        name="matched",
        title=title,
        across="missed, percent of the target",
        guide=0.0,
        guide_name="exactly on target",
    )
    return Plate(
        "matched",
        title,
        f"By how much each arm missed what it was matched to, spent / target - 1. {MATCHED_NOTE} No test item "
        f"chose anything. {intervals} "
        f"n = {max((len(a.seeds) for a in results.arms), default=0)} seeds.",
        HEAD,
        tuple(map(matched_cells, results.matched)),
        group="arms",
        wide=drawn[0],
        narrow=drawn[1],
    )


LENGTH = {
    "length_tokens": "length of own completions, tokens",
    "entropy": "entropy at own states, nats",
}


def behaviour(material: Material) -> Plate | None:
    """pass@k of every policy's own samples; length, entropy and failures in the table."""
    results = material.results
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
        f"cut and without an answer stand in the table. {judged_by(material.study)} "
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
        strip=strips(
            [*arm_keys(results, arms_of(results, found)), INTERVAL], "behaviour", "pass@k"
        ),
    )


def _shares(
    results: Results,
    probe: str,
    kinds: Mapping[tuple[str, str], str],
    *,
    name: str,
    title: str,
    caption: str,
    across: str,
    of: str,
) -> Plate | None:
    """Rows of dots, one kind of dot for each (measure, where); every other number of the probe in the table."""
    every = select(results, probe)
    found = [f for f in every if (f.measure, f.at) in kinds]
    if not found:
        return None
    look, names = looks(results), arms_of(results, every)
    drawn_kinds = [kind for kind in kinds if any((f.measure, f.at) == kind for f in found)]
    marks = [
        Dot(
            names.index(f.policy),
            drawn_kinds.index((f.measure, f.at)),
            f.quantity.estimate,
            f"{f.policy}, {kinds[f.measure, f.at]}",
        )
        for f in found
    ]
    rows = [(arm, look[arm].colour if arm in look else svg.INK) for arm in names]
    keys = series_keys([kinds[kind] for kind in drawn_kinds])
    drawn = dots(rows, marks, name=name, title=title, across=across, keys=keys)
    return Plate(
        name,
        title,
        f"{caption} {counted(found, of=of)}.",
        ("arm", "states", "measure", "value", "95 %", "n"),
        tuple(
            (
                f.policy,
                called(f.sample),
                kinds.get((f.measure, f.at)) or f"{f.measure.replace('_', ' ')} {f.at}".strip(),
                *cells(f),
            )
            for f in every
        ),
        wide=drawn[0],
        narrow=drawn[1],
    )


COVERED = {
    ("precision", ""): "precision",
    ("recall", ""): "recall",
    ("distinct", "1"): "distinct-1",
    ("distinct", "2"): "distinct-2",
    ("distinct", "3"): "distinct-3",
}


def coverage(results: Results) -> Plate | None:
    """How much of the base's states an arm still visits, and how varied its completions are."""
    return _shares(
        results,
        "coverage",
        COVERED,
        name="coverage",
        title="What is still covered, and how varied it is",
        caption="Precision: share of the arm's states that lie among the base's; recall: share of the base's that lie "
        "among the arm's, by nearest neighbours of hidden states; two samples of one policy do not reach 1. "
        "Distinct-n: different n-grams over all n-grams, without an error, for samples of equal size alone. "
        "Entropy of prefixes by depth, length and share that stopped stand in the table.",
        across="share",
        of="states",
    )


AUDITED = {("gap", ""): "|log pi - log mu|", ("k3", ""): "k3, kl(mu || pi)"}


def audit(results: Results) -> Plate | None:
    """Is what was sampled the policy's own?"""
    return _shares(
        results,
        "audit",
        AUDITED,
        name="audit",
        title="Are the states on-policy?",
        caption="What the sampler said of its tokens against what the policy says of them now, mean over tokens: 0 "
        "where sampler and trainer are one. The largest gap, chi-squared and effective sample size of whole "
        "completions and the share of tokens without a log-prob stand in the table.",
        across="nats a token",
        of="tokens",
    )


MOVED = {
    ("changed_share", ""): "weights changed",
    ("top_mass", ""): "update in the top 1 % of weights",
    ("effective_rank_share", ""): "effective rank over the largest",
}


def geometry(results: Results) -> Plate | None:
    """The update as a whole: how many weights it changed, how concentrated it is."""
    return _shares(
        results,
        "geometry",
        MOVED,
        name="geometry",
        title="What kind of update it was",
        caption="Of all weights, the share that changed by more than 1e-5; of the squared norm of the update, the "
        "share in the 1 % of the weights that moved most (0.01 where all move alike); effective rank of the change of "
        "a matrix over the largest that it could have. Exact for one checkpoint: there is no sample. Norms and the "
        "rank itself stand in the table.",
        across="share",
        of="checkpoints",
    )
