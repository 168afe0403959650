"""Writes what the pocket study said into the pages: `python -m docs.generate_results [RUN]`.

With a run folder, its results and the figures named in `FIGURES` are copied to `docs/results/` first. Then what
stands between `<!-- study: NAME -->` and `<!-- end -->` in docs/results.md and README.md is written anew
from `docs/results/pocket.json`; a test finds a page that says something else.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from docs.markdown import table
from statewise.claims.claim import TARGET
from statewise.config import from_plain, to_plain
from statewise.formatting import interval_words, number, percent
from statewise.report.figures import svg
from statewise.report.figures.catalogue import plates
from statewise.report.figures.select import role, select, states, teachers
from statewise.report.inputs import gather
from statewise.report.page.markdown import score_rows
from statewise.results.summary import summarise
from statewise.results.types import ProbeFigure, Results
from statewise.store import read_json

DOCS = Path(__file__).parent
STORED = DOCS / "results" / "pocket.json"
PAGES = (DOCS / "results.md", DOCS.parent / "README.md")
BLOCK = re.compile(r"(<!-- study: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURES = ("trade-off", "claims", "locality", "splice", "law", "reachability", "drift", "c2st")
"""Plates whose pictures the page shows."""
ROLES = ("dataset", "base", "learner", "teacher", "retention")
ENVIRONMENT = ("environments", "models", "world_version", "seconds", "share_of_probes")
WORKING = "<<"
"""What every line of a worked answer holds in this world: the calculator's mark."""
LEFT_OUT = ("retention ratio", "no answer", "cut", "seeds")
"""Columns of a report's table of scores that the pages do without."""
DEPTH = "24"
"""The splice matrices of the page are cut here; the report has every depth."""


def main(arguments: Sequence[str]) -> None:
    """Take a run, if one is named, and write the pages."""
    if arguments:
        take(Path(arguments[0]))
    results = stored()
    for path in PAGES:
        path.write_text(page(path.read_text("utf-8"), results), "utf-8")


def take(run: Path) -> None:
    """Copy what the pages need of a run: its numbers and some of its figures."""
    results = summarise(run)
    STORED.parent.mkdir(exist_ok=True)
    for old in STORED.parent.glob("*.svg"):
        old.unlink()
    for plate in plates(gather(run, results)):
        if plate.name in FIGURES:
            for name, picture in plate.pictures().items():
                (STORED.parent / f"{name}.svg").write_text(svg.standalone(picture), "utf-8")
    probes = tuple(f for f in results.probes if not f.text)
    # Not where the base lies: a path of this machine is nobody else's.
    known = {key: results.environment[key] for key in ENVIRONMENT if key in results.environment}
    known |= {
        "own_states": _own_states(run),
        "answers_without_working": _without_working(run, results),
    }
    kept = replace(results, curves=(), examples=(), probes=probes, environment=known)
    STORED.write_text(json.dumps(to_plain(kept), indent=1, allow_nan=False) + "\n", "utf-8")


def _own_states(run: Path) -> dict[str, float]:
    """By arm that others write for, the share of its trained-on states whose every token it wrote itself."""
    shares = {}
    for path in sorted(run.glob("arms/*/seed-*/microscope.json")):
        document = read_json(path)
        rollouts = [w for p in document["prompts"] for w in p["rollouts"] if w["kind"] == "trained"]
        own, every = 0, 0
        for rollout in rollouts:
            wrote = [rollout["owners"][i].startswith("student@") for i in rollout["owner"]]
            first = wrote.index(False) if False in wrote else len(wrote)
            trained = [place for place, weight in enumerate(rollout["weight"]) if weight]
            own, every = own + sum(place <= first for place in trained), every + len(trained)
        mixed = any(o.startswith("student@") for w in rollouts for o in w["owners"])
        if mixed and every:
            shares[document["arm"]] = round(own / every, 3)
    return shares


def _without_working(run: Path, results: Results) -> dict[str, list[float]]:
    """By arm, of its first seed's greedy target answers: the share without working, and of both kinds that right."""
    target = next(task for task in results.tasks if task.role == TARGET)
    found = {}
    for arm in results.arms:
        rows = pd.read_parquet(run / "arms" / arm.name / f"seed-{arm.seeds[0]}" / "items.parquet")
        rows = rows[(rows["task"] == target.name) & (rows["decoding"] == "greedy")]
        rows = rows[rows["metric"] == target.metric] if target.metric else rows
        bare = ~rows["response"].str.contains(WORKING, regex=False)
        means = [rows["score"][part].mean() if part.any() else 0.0 for part in (bare, ~bare)]
        found[arm.name] = [round(float(x), 3) for x in (bare.mean(), *means)]
    return found


def stored() -> Results:
    """The results that the pages speak of."""
    return from_plain(Results, read_json(STORED))


def page(text: str, results: Results) -> str:
    """A page with every block filled in."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{BLOCKS[m[2]](results).rstrip()}\n\n{m[3]}", text)


def scores(results: Results) -> str:
    """Every arm on every task, with forgetting and the drift of its hidden states."""
    head, *rows = score_rows(results)
    shown = [i for i, name in enumerate(head) if name not in LEFT_OUT]
    return _numbers([head[i] for i in shown], [[row[i] for i in shown] for row in rows])


def verdicts(results: Results) -> str:
    """Every verdict with its sentence."""
    return "\n".join(
        f"- **{v.verdict.capitalize()}**{'' if v.primary else ' (not primary)'}: {v.text} "
        f"Asked for: {v.asked}. {v.sentence}"
        for v in results.verdicts
    )


def claims(results: Results) -> str:
    """Claim and verdict alone."""
    rows = [
        [
            v.text.rstrip("."),
            v.asked,
            v.verdict + (TURNED if "the opposite sign" in v.sentence else ""),
        ]
        for v in results.verdicts
    ]
    return table(["claim", "asked for (fixed beforehand)", "verdict"], rows)


TURNED = " greedily; **sampled at T=1 a comparison has the opposite sign**"
"""Beside a verdict on greedy answers that sampled ones contradict."""


def locality(results: Results) -> str:
    """The update-locality matrix."""
    return _by_role(results, "locality", "kappa", 4)


def reachability(results: Results) -> str:
    """Where training states lie among a policy's own."""
    return _by_role(results, "reachability", "percentile", 3)


def separable(results: Results) -> str:
    """How well a classifier tells an arm's own states from the base's."""
    rows = [
        [f.policy, states(f.sample), _bracket(f, 3)]
        for f in select(results, "c2st", "auc")
        if f.policy == "base" or role(f.sample) == "learner"
    ]
    return _numbers(["arm", "states", "AUC against the base's own"], rows)


def law(results: Results) -> str:
    """Both directions of the divergence, on the new task and on retention prompts."""
    found = select(results, "forgetting")
    kinds = list(dict.fromkeys((f.sample, f.measure) for f in found))
    names = {"base_policy": "kl(base || arm)", "policy_base": "kl(arm || base)"}
    head = ["arm", *(f"{sample}: {names[measure]}" for sample, measure in kinds)]
    rows = []
    for arm in dict.fromkeys(f.policy for f in found):
        by_kind = {(f.sample, f.measure): f for f in found if f.policy == arm}
        rows.append([arm, *(_of(by_kind.get(kind), 3) for kind in kinds)])
    return _numbers(head, rows)


def splices(results: Results) -> str:
    """Mean reward by who writes the first tokens and who writes the rest, for every arm with a teacher."""
    found = {
        tuple(f.policy.split(">")): f for f in select(results, "splice", "score") if f.at == DEPTH
    }
    parts = []
    for arm, known in teachers(results).items():
        for teacher in known:
            who = ["base", teacher, arm]
            rows = [[f"first by {a}", *(_bracket(found[a, b], 2) for b in who)] for a in who]
            parts.append(_numbers([arm, *(f"rest by {b}" for b in who)], rows))
    return "\n".join(parts)


def cost(results: Results) -> str:
    """What the probes cost."""
    seconds, share = (results.environment[key] for key in ("seconds", "share_of_probes"))
    kinds = ", ".join(f"{kind.replace('_', ' ')} {s:,.0f}" for kind, s in seconds.items())
    return (
        f"Seconds of work, over all processes: {kinds} (the last is part of train). "
        f"Probes took {100 * share:.1f} % of the work; at most 35 % was allowed."
    )


def own_states(results: Results) -> str:
    """What share of the states that a student is trained on it visited itself, prefix and all."""
    found = results.environment["own_states"]
    shares = ", ".join(f"{percent(share)} ({arm})" for arm, share in found.items())
    return (
        "Of the states that a student of continuations is trained on, those whose every token it wrote itself, of the "
        f"completions that the microscope shows: {shares}. That is the root of each branch; the other states are of "
        "the teacher's making."
    )


def format_switch(results: Results) -> str:
    """How many answers have no working, before and after, and how often either kind is right."""
    found = results.environment["answers_without_working"]
    without, right, rest = found["base"]
    # What the arm with the most right would have gained by no longer answering without working.
    top = max(found.values(), key=lambda row: row[0] * row[1] + (1 - row[0]) * row[2])
    gain = top[0] * top[1] + (1 - top[0]) * top[2] - without * right - (1 - without) * rest
    most = (without - top[0]) * (top[2] - right) > gain / 2
    others = "; ".join(f"{arm} {percent(row[0])}" for arm, row in found.items() if arm != "base")
    return (
        f"Decoded greedily, the base answers {percent(without)} of the items without any working, and is right on "
        f"{percent(right)} of those and on {percent(rest)} of the others. Answers without working of the first seed of "
        f"each arm: {others}."
        + (
            " **Most of the gain on the target is this switch of format, not arithmetic that was learnt.**"
            if most
            else ""
        )
    )


def sizes(results: Results) -> str:
    """Seeds and items."""
    target = next(t for t in results.tasks if t.role == TARGET)
    arms = sum(arm.trained for arm in results.arms)
    most = {score.task: score.n_items for arm in results.arms for score in arm.scores}
    others = sorted({n for name, n in most.items() if name != target.name})
    return (
        f"{arms} trained arms and the base, {len(results.seeds)} seeds, {most[target.name]:,} items of "
        f"{target.name}, {' or '.join(f'{n:,}' for n in others)} of each retention task. Brackets are 95 % "
        "intervals; a star marks one over items alone (one checkpoint)."
    )


BLOCKS: dict[str, Callable[[Results], str]] = {
    "scores": scores,
    "verdicts": verdicts,
    "claims": claims,
    "locality": locality,
    "reachability": reachability,
    "separable": separable,
    "law": law,
    "splices": splices,
    "cost": cost,
    "sizes": sizes,
    "own states": own_states,
    "format": format_switch,
}


def _numbers(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, rows, numbers=True)


def _by_role(results: Results, probe: str, measure: str, digits: int) -> str:
    found = select(results, probe, measure)
    roles = [r for r in ROLES if any(role(f.sample) == r for f in found)]
    rows = []
    for arm in dict.fromkeys(f.policy for f in found):
        by_role = {role(f.sample): f for f in found if f.policy == arm}
        rows.append([arm, *(_of(by_role.get(r), digits) for r in roles)])
    return _numbers(["arm", *(states(r) for r in roles)], rows)


def _of(figure: ProbeFigure | None, digits: int) -> str:
    return "–" if figure is None else _bracket(figure, digits)


def _bracket(figure: ProbeFigure, digits: int) -> str:
    estimate = figure.quantity.estimate
    star = "*" if estimate.low is not None and figure.quantity.over == "items" else ""
    bounds = "" if estimate.low is None else f" {interval_words(estimate, digits)}{star}"
    return f"{number(estimate.value, digits)}{bounds}"


if __name__ == "__main__":
    main(sys.argv[1:])
