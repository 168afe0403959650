"""From a run folder to `results.json`: Table 2 with its intervals, curves, budgets and verdicts.

Nothing is invented for what a run lacks: an arm, a seed or a file that is not there is named in
`notes`, and its values are None. `results/types.py` defines the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims.claim import BASE, RETENTION, Claim
from statewise.claims.paired import DECODINGS, grid, ratio_table, where
from statewise.claims.verdicts import decide
from statewise.config import from_plain
from statewise.results.gaps import few_prompts, gaps
from statewise.results.matched import matched_rows
from statewise.results.notes import stop_notes
from statewise.results.probes import (
    asked_at_the_end,
    probe_figures,
    probe_notes,
    seconds_spent,
)
from statewise.results.run_reader import RunReader
from statewise.results.types import (
    ArmResult,
    BudgetRow,
    Curve,
    DriftRow,
    Example,
    Over,
    Quantity,
    Results,
    Score,
    TaskRow,
    curve,
)
from statewise.stats import Estimate
from statewise.store import artefacts, layout, write_json

RANDOM_BASE = (
    "The base model is randomly initialised and was never pretrained: every score of this run is that "
    "of a model that knows nothing. This run shows that the machinery works, and nothing else."
)
EXAMPLE_CHARACTERS = 400


def summarise(run_dir: Path) -> Results:
    """Read a run folder, finished or not. Raises RunError if it is damaged."""
    run = RunReader.open(run_dir)
    with_probes = asked_at_the_end(run.study)
    missing, unverified = gaps(run, with_probes=with_probes)
    environment = run.json(run.root, layout.ENVIRONMENT, artefacts.ENVIRONMENT)
    environment |= seconds_spent(run.folders) if with_probes else {}
    matched, misses = matched_rows(run.folders)
    notes = [
        *run.notes,
        *stop_notes(run.study, run.folders),
        *missing,
        *misses,
        *probe_notes(run.folders),
        *few_prompts(run),
        *unverified,
    ]
    if environment.get("base", {}).get("randomly_initialised"):
        notes.insert(0, RANDOM_BASE)
    if not missing and len(run.seeds) == 1:
        notes.append("One training seed: nothing here is about a method, only about checkpoints.")
    claims = from_plain(tuple[Claim, ...], run.study.get("claims") or [], "claims")
    fixed = [BASE] if run.folders[BASE] else []
    return Results(
        study=str(run.study["name"]),
        question=str(run.study.get("question", "")),
        seeds=run.seeds,
        complete=not missing,
        notes=tuple(notes),
        tasks=run.tasks,
        arms=tuple(_arm(name, run) for name in run.names),
        verdicts=decide(claims, run.items, run.roles, fixed, drifts=_drifts(run)),
        curves=tuple(
            c for name, seed, folder in run.each() for c in _curves(run, name, seed, folder)
        ),
        examples=_examples(run.items, run.names),
        environment=environment,
        probes=probe_figures(run.folders),
        matched=matched,
    )


def write_results(run_dir: Path) -> Results:
    """`summarise` and store as `results.json`: the same run gives the same bytes."""
    results = summarise(run_dir)
    write_json(run_dir / layout.RESULTS, asdict(results))
    return results


def _arm(name: str, run: RunReader) -> ArmResult:
    items, tasks = run.items, run.tasks
    rows = where(items, arm=name)
    scores = [
        _score(name, task.name, decoding, items)
        for task in tasks
        for decoding in DECODINGS
        if len(where(rows, task=task.name, decoding=decoding))
    ]
    forgetting, ratio = None, None
    if name != BASE:
        forgetting, ratio = _forgetting(name, items, tasks)
    return ArmResult(
        name=name,
        kind=run.kinds[name],
        trained=name != BASE,
        seeds=tuple(int(seed) for seed in sorted(set(rows["seed"]))),
        scores=tuple(scores),
        retention=_retention(name, items, tasks),
        forgetting=forgetting,
        retention_ratio=ratio,
        drift=_drift(*(run.all(arm, layout.DRIFT, artefacts.DRIFT) for arm in (name, BASE))),
        budget=_budget(
            run.all(name, layout.BUDGET, artefacts.BUDGET),
            run.all(name, f"{layout.POLICY}/{layout.MARKER}", artefacts.MARKER),
        ),
    )


def _score(arm: str, task: str, decoding: str, items: pd.DataFrame) -> Score:
    rows = where(items, arm=arm, task=task, decoding=decoding)
    table = grid(items, arm, task, decoding)
    return Score(
        task=task,
        decoding=decoding,
        quantity=_quantity([table.values]),
        n_items=table.n_items,
        n_clusters=table.values.shape[1],
        per_seed=tuple(float(v) for v in table.values.mean(axis=1)),
        extraction_failed=_share(rows["extraction_failed"]),
        stopped=_share(rows["stopped"]),
    )


def _quantity(tables: list[np.ndarray], unit: str = "share") -> Quantity:
    """Mean over tasks of tables [seeds, clusters], with the interval that their seeds allow."""
    if len(tables[0]) == 1 and len(tables) == 1:
        return Quantity(_bounded(stats.item_mean(tables[0][0], unit)), "items")
    one = len(tables[0]) == 1
    effect = stats.item_effect([t[0] for t in tables]) if one else stats.crossed_effect(tables)
    low, high = stats.interval(effect, 0.025) or (None, None)
    stderr = max((scale.stderr for scale in effect.scales), default=None)
    n = effect.n_clusters if one else effect.n_seeds
    estimate = Estimate(effect.value, stderr, n, unit, low, high)
    return Quantity(_bounded(estimate), "items" if one else "seeds")


def _bounded(estimate: Estimate) -> Estimate:
    """The same estimate with its interval inside [0, 1] if it is a share: t knows no bounds."""
    if estimate.unit != "share" or estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _share(column: Any) -> float | None:
    known = [float(value) for value in column if not pd.isna(value)]
    return float(np.mean(known)) if known else None


def _retention(arm: str, items: pd.DataFrame, tasks: Sequence[TaskRow]) -> Quantity | None:
    """Mean score over retention tasks."""
    tables = [grid(items, arm, task.name).values for task in tasks if task.role == RETENTION]
    return _quantity(tables) if tables and all(table.size for table in tables) else None


def _forgetting(
    arm: str, items: pd.DataFrame, tasks: Sequence[TaskRow]
) -> tuple[Quantity | None, Quantity | None]:
    """Forgetting and retention ratio: means over retention tasks of `b - a` and of `a / b`."""
    losses, ratios = [], []
    for task in (t for t in tasks if t.role == RETENTION):
        mine, theirs = grid(items, arm, task.name), grid(items, BASE, task.name)
        if not mine.seeds or not theirs.seeds:
            return None, None
        losses.append(theirs.values[:1] - mine.values)
        if theirs.values[0].mean() > 0:
            ratios.append(ratio_table(mine.values, theirs.values[:1]))
    if not losses:
        return None, None
    ratio_known = len(ratios) == len(losses)
    return _quantity(losses, "difference"), _quantity(ratios, "ratio") if ratio_known else None


def _drift(
    stored: Sequence[Mapping[str, Any]], of_base: Sequence[Mapping[str, Any]]
) -> tuple[DriftRow, ...]:
    """Drift by kind of feature. The base's own file, two of its samples, is the null."""
    files, nulls = ([f["features"] for f in group] for group in (stored, of_base))
    found = []
    for feature in dict.fromkeys(name for f in files for name in f):
        rows = [f[feature] for f in files if feature in f]
        values = np.array([row["mmd2"] for row in rows], dtype=np.float64)
        over: Over = "seeds only"
        found.append(
            DriftRow(
                feature=feature,
                mmd2=Quantity(stats.seed_mean(values, "mmd2"), over),
                null_mmd2=_mean(null[feature]["mmd2"] for null in nulls if feature in null),
                p_values=tuple(float(row["p_value"]) for row in rows),
                mmd_biased=_mean(row.get("mmd_biased") for row in rows),
            )
        )
    return tuple(found)


def _drifts(run: RunReader) -> pd.DataFrame:
    """Every scalar that says how far an arm and seed moved, as rows: arm, seed, measure, value."""
    rows = []
    for arm, seed, folder in run.each():
        features = run.json(folder, layout.DRIFT, artefacts.DRIFT).get("features", {})
        budget = run.json(folder, layout.BUDGET, artefacts.BUDGET)
        values = {f"mmd2_{kind}": figures["mmd2"] for kind, figures in features.items()}
        values["kl_to_base"] = budget.get("kl_to_base_nats")
        values["update_norm"] = budget.get("update_norm")
        rows += [(arm, seed, measure, value) for measure, value in values.items()]
    return pd.DataFrame(rows, columns=pd.Index(("arm", "seed", "measure", "value")))


def _budget(
    stored: Sequence[Mapping[str, Any]], cards: Sequence[Mapping[str, Any]]
) -> BudgetRow | None:
    if not stored:
        return None
    names = [field.name for field in fields(BudgetRow)]
    means = {name: _mean(row.get(name) for row in (*stored, *cards)) for name in names}
    errors = [row.get("kl_to_base_stderr_nats") for row in stored]
    known = [float(error) for error in errors if error is not None]
    joint = float(np.linalg.norm(known)) / len(known) if len(known) == len(errors) else None
    return BudgetRow(**means | {"kl_to_base_stderr_nats": joint})


def _mean(values: Any) -> float | None:
    known = [float(v) for v in values if v is not None and isfinite(v)]
    return float(np.mean(known)) if known else None


def _curves(run: RunReader, arm: str, seed: int, folder: Path) -> list[Curve]:
    loss = run.rows(folder, layout.METRICS, artefacts.METRICS)
    curves = [*curve(arm, seed, "loss", loss, "loss")]
    dev = run.rows(folder, layout.DEV, artefacts.DEV)
    for task in dict.fromkeys(str(row["task"]) for row in dev):
        rows = [row for row in dev if row["task"] == task]
        curves += curve(arm, seed, task, rows, "score")
    return curves


def _examples(items: pd.DataFrame, names: Sequence[str]) -> tuple[Example, ...]:
    """For each arm its first failed extraction by seed, task and item: no choosing by eye."""
    found = []
    for name in names:
        rows = where(where(items, arm=name), extraction_failed=True)
        columns = ("seed", "task", "item_id", "response")
        failed = min(zip(*(rows[c] for c in columns), strict=True), default=None)
        if failed is not None:
            seed, task, item_id, response = failed
            text = str(response)[:EXAMPLE_CHARACTERS]
            found.append(Example(name, int(seed), str(task), str(item_id), text))
    return tuple(found)
