"""What policies do along a completion: the splice matrix, repair, and profiles by depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from statewise.claims.claim import BASE
from statewise.formatting import interval_words, number
from statewise.report.figures import legends, svg
from statewise.report.figures.charts import Cell, Line, along_depth, grid, linear
from statewise.report.figures.figure import Plate, arm_keys, looks, strips
from statewise.report.figures.legends import INTERVAL
from statewise.report.figures.select import (
    IN_TABLE,
    arms_of,
    cells,
    counted,
    depth,
    over,
    pair,
    pairs,
    select,
    taught_cells,
    teachers,
)
from statewise.report.figures.svg import Picture
from statewise.report.inputs import Material
from statewise.report.optimised import judged_by
from statewise.results.types import ProbeFigure, Results


def splice(material: Material) -> Plate | None:
    """Who writes the first tokens x who writes the rest, at each depth."""
    results = material.results
    found = [f for f in select(results, "splice", "score") if ">" in f.policy]
    if not found:
        return None
    order = [arm.name for arm in results.arms]
    panels: list[Picture] = []
    scores = [f.quantity.estimate.value for f in found]
    scale = linear(min(scores), max(scores))
    taught = teachers(results)
    for group in _groups(found, order):
        members = [n for n in order if n in group] + sorted(group - set(order))
        student, teacher = _pair(members, taught)
        if student:
            members = [n for n in members if n not in (student, teacher)] + [teacher, student]
        short = [_role(n, student, teacher) for n in members]
        heading = student or ", ".join(n for n in members if n != BASE)
        mine = [f for f in found if set(f.policy.split(">", 1)) <= group]
        for at in sorted({depth(f.at) for f in mine}):
            placed = {}
            for f in (f for f in mine if depth(f.at) == at):
                first, second = f.policy.split(">", 1)
                e = f.quantity.estimate
                said = f"{first} writes {at} tokens, {second} the rest: {number(e.value)} {interval_words(e)}"
                placed[members.index(first), members.index(second)] = Cell(
                    e.value, number(e.value, 2), said
                )
            panels.append(
                grid(
                    [(name, svg.INK) for name in short],
                    short,
                    placed,
                    scale,
                    name=f"splice-{len(panels)}",
                    title=f"Splice matrix at {at} tokens: {', '.join(members)}",
                    width=330,
                    heading=f"{heading} · {at} tokens",
                )
            )
    contrasts = select(results, "splice", "states") + select(results, "splice", "behaviour")
    return Plate(
        "splice",
        "Splice matrix: bad states or bad behaviour?",
        "Row: who writes the first tokens. Column: who writes the rest. Cell: share of the finished completions that "
        f"are right. {judged_by(material.study)} A column that stays dark down every row says that "
        "its policy repairs any states; a row that stays pale says that its policy's states cannot be repaired. "
        f"{counted(found, IN_TABLE, of='completions')}. "
        "What the states and the behaviour alone are worth stands in the table.",
        ("pair", "measure", "depth", "value", "95 %", "n"),
        tuple(
            (f.policy.replace(">", " > "), f.measure, f.at, *cells(f)) for f in [*found, *contrasts]
        ),
        panels=tuple(panels),
        large=True,
        strip=strips(
            [legends.scale(svg.HEAT, number(min(scores), 2), f"{number(max(scores), 2)} right")],
            "splice",
            "share right",
        ),
    )


def _pair(members: Sequence[str], taught: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Student and teacher among policies, where there is one of each; else nobody, and names stay whole.

    Their order in the study says nothing: a student may be listed before its teacher.

    >>> _pair(["base", "s", "t"], {"s": ["t"]}), _pair(["base", "s"], {"s": ["base"]}), _pair(["a", "b"], {})
    (('s', 't'), ('s', 'base'), ('', ''))
    """
    pairs = [(s, t) for s in members for t in taught.get(s, ()) if t in members]
    return pairs[0] if len(pairs) == 1 else ("", "")


def _role(name: str, student: str, teacher: str) -> str:
    """What a row of a splice is called: roles are shorter than names; the base keeps its own."""
    return "student" if name == student else "teacher" if name == teacher != BASE else name


def _groups(found: Sequence[ProbeFigure], order: Sequence[str]) -> list[set[str]]:
    """Policies that were all spliced with each other: largest sets of which every pair is there."""
    pairs = {frozenset(f.policy.split(">", 1)) for f in found}
    names = sorted(
        {n for pair in pairs for n in pair}, key=lambda n: order.index(n) if n in order else 99
    )
    groups: list[set[str]] = []
    for name in reversed(
        names
    ):  # an arm stands behind the teacher and the base that it was spliced with
        group = {name}
        for other in names:
            if other != name and all(frozenset({other, member}) in pairs for member in group):
                group.add(other)
        if len(group) > 1 and not any(group <= known for known in groups):
            groups.append(group)
    return list(reversed(groups))


Panel = tuple[str, str, str, float | None]
PANELS: dict[str, Panel] = {
    "fidelity entropy": ("fidelity", "entropy", "teacher's entropy, nats", None),
    "fidelity logprob": (
        "fidelity",
        "logprob",
        "teacher's log-prob of the student's token, nats",
        None,
    ),
    "fidelity agreement": (
        "fidelity",
        "agreement",
        "share where that token is the teacher's first",
        None,
    ),
    "exposure": ("exposure", "by_depth.excess", "exposure excess, nats", 0.0),
    "overlap": ("overlap", "ratio", "top-k overlap with the teacher", None),
    "repair": ("repair", "gain", "repair: value of the teacher going on", 0.0),
}
"""What is drawn along depth: probe, measure, words, guide."""


def profiles(results: Results) -> Plate | None:
    """Fidelity, exposure, overlap and repair by depth, one line an arm."""
    look, panels = looks(results), []
    rows: list[tuple[str, ...]] = []
    every: list[ProbeFigure] = []
    named = pairs(results, [f for p, m, *_ in PANELS.values() for f in select(results, p, m)])
    head, who = taught_cells(named)
    for probe, measure, words, guide in PANELS.values():
        found = [f for f in select(results, probe, measure) if depth(f.at) >= 0]
        bins = sorted({f.at for f in found}, key=depth)
        if len(bins) < 2 and probe != "repair":
            continue
        lines = [
            Line(
                called,
                look[arm].colour if arm in look else svg.INK,
                look[arm].marker if arm in look else "o",
                sorted(
                    (
                        (bins.index(f.at), f.quantity.estimate)
                        for f in found
                        if pair(f) == (arm, teacher)
                    ),
                    key=lambda point: point[0],
                ),
                svg.DASHES[second % len(svg.DASHES)],
            )
            for (arm, teacher), (called, second) in named.items()
            if any(pair(f) == (arm, teacher) for f in found)
        ]
        if not lines:
            continue
        panels.append(
            along_depth(lines, bins, name=f"depth-{len(panels)}", title=words, guide=guide)
        )
        rows += [(*who(f), words, f.at, *cells(f)) for f in sorted(found, key=_by_arm(results))]
        every += found
    if not panels:
        return None
    return Plate(
        "depth",
        "Along the completion",
        "By depth, the tokens of the completion that precede a state: how sure the teacher is at the student's own "
        "states and what it makes of the student's token; the excess of kl(teacher || student) on the student's "
        "states over the teacher's; and V_T - V_S, what is gained where the teacher goes on from a student's state. "
        f"One line an arm in its colour and marker{_dashes(named)}. "
        f"{counted(every, of='states (of repair: completions)')}.",
        (*head, "measure", "depth", "value", "95 %", "n"),
        tuple(rows),
        panels=tuple(panels),
        large=True,
        strip=strips([*arm_keys(results, arms_of(results, every)), INTERVAL], "depth", "arms"),
    )


def _dashes(named: Mapping[tuple[str, str], tuple[str, int]]) -> str:
    """What tells the lines of an arm with several teachers apart."""
    found = [called for called, second in named.values() if second]
    return f"; dashed, of arms with several teachers: {', '.join(found)}" if found else ""


def _by_arm(results: Results) -> Callable[[ProbeFigure], tuple[int, int]]:
    order = {arm.name: i for i, arm in enumerate(results.arms)}
    return lambda f: (order.get(f.policy, 99), depth(f.at))


def others(results: Results) -> tuple[tuple[str, ...], ...]:
    """Every number of every probe as rows of a table: for the CSV of all."""
    rows: list[tuple[str, ...]] = []
    for f in results.probes:
        e = f.quantity.estimate
        low, high = ("", "") if e.low is None else (f"{e.low:.6g}", f"{e.high:.6g}")
        value = f"{e.value:.6g}"
        rows.append(
            (
                f.probe,
                f.policy,
                f.reference,
                f.sample,
                f.measure,
                f.at,
                value,
                low,
                high,
                over(f),
                f.unit,
                f.text,
            )
        )
    return tuple(rows)


OTHERS = (
    "probe",
    "policy",
    "reference",
    "states",
    "measure",
    "at",
    "value",
    "low",
    "high",
    "n",
    "unit",
    "text",
)
