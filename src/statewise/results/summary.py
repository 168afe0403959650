"""From a run folder to `results.json`: Table 2 with its intervals, curves, budgets and verdicts.

Nothing is invented for what a run lacks: an arm, a seed or a file that is not there is named in
`notes`, and its figures are None. `results/types.py` holds what comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from statewise import stats
from statewise.claims.claim import BASE, RETENTION, Claim
from statewise.claims.controls import Interpolation
from statewise.claims.paired import DECODINGS, ITEM_COLUMNS, grid, ratio_table, read_scores, where
from statewise.claims.verdicts import decide
from statewise.config import from_plain
from statewise.errors import RunError
from statewise.results.matched import matched_rows
from statewise.results.notes import stop_notes
from statewise.results.probes import (
    asked_at_the_end,
    probe_figures,
    probe_notes,
    seconds_spent,
)
from statewise.results.stored_study import stored_study
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
from statewise.store import RunFolder, Shape, artefacts, is_there, read_json, read_rows, write_json
from statewise.store.finished import (
    FAILED,
    MARKER,
    POLICY,
    TASKS,
    Task,
    failure,
    leaves_manifests,
    lost,
    refuse_copies,
    seems_finished,
    standing,
)

RANDOM_BASE = (
    "The base model is randomly initialised and was never pretrained: every score of this run is that "
    "of a model that knows nothing. This run shows that the machinery works, and nothing else."
)
EXAMPLE_CHARACTERS = 400


def summarise(run_dir: Path) -> Results:
    """Read a run folder, finished or not. Raises RunError where it is damaged."""
    study = stored_study(run_dir)
    tasks = tuple(_task(entry) for entry in study["tasks"])
    seeds = _seeds(study.get("seeds", ()))
    kinds = _kinds(study)
    names = list(kinds)
    run = RunFolder(run_dir)
    folders = {name: run.seeds(name) for name in names}
    items = _reported(_items(folders), tasks)
    trained = {name: name != BASE for name in names}
    fixed = [n for n in names if folders[n] and not trained[n]]
    failed = {
        name: {seed: why for seed, place in folders[name].items() if (why := failure(place))}
        for name in names
    }
    gaps = _gaps(names, folders, trained, items, seeds, failed)
    gaps += _behind(study, failed, items, seeds)
    probed = asked_at_the_end(study)
    gaps += _unmeasured(
        names,
        folders,
        items,
        made_by_steps=[name for name, kind in kinds.items() if _has_steps(kind)],
        with_drift=bool(study.get("drift")),
        with_probes=probed,
    )
    lost_or_open, unverified = _standings(run, folders, with_probes=probed)
    gaps += lost_or_open
    environment = _stored(run_dir / "environment.json", artefacts.ENVIRONMENT) or {}
    environment |= seconds_spent(folders) if probed else {}
    matched, misses = matched_rows(folders)
    notes = [
        *_notes(study),
        *stop_notes(study, folders),
        *gaps,
        *misses,
        *probe_notes(folders),
        *_few_prompts(folders),
    ]
    notes += unverified
    if environment.get("base", {}).get("randomly_initialised"):
        notes.insert(0, RANDOM_BASE)
    if not gaps and len(seeds) == 1:
        notes.append(
            "One training seed: nothing here speaks about a method, only about checkpoints."
        )
    claims = from_plain(tuple[Claim, ...], study.get("claims") or [], "claims")
    roles = {task.name: task.role for task in tasks}
    return Results(
        study=str(study["name"]),
        question=str(study.get("question", "")),
        seeds=seeds,
        complete=not gaps,
        notes=tuple(notes),
        tasks=tasks,
        arms=tuple(_arm(n, kinds[n], trained[n], folders, items, tasks) for n in names),
        verdicts=decide(claims, items, roles, fixed, drifts=_drifts(folders)),
        curves=tuple(c for name in names for c in _curves(name, folders[name])),
        examples=_examples(items, names),
        environment=environment,
        probes=probe_figures(folders),
        matched=matched,
    )


def scores_of(run_dir: Path) -> pd.DataFrame:
    """Item-level scores of a run, each task's own metric: what claims are settled on."""
    study = stored_study(run_dir)
    folders = {name: RunFolder(run_dir).seeds(name) for name in _kinds(study)}
    return _reported(_items(folders), tuple(_task(entry) for entry in study["tasks"]))


def write_results(run_dir: Path) -> Results:
    """`summarise` and store as `results.json`: the same run gives the same bytes."""
    results = summarise(run_dir)
    write_json(run_dir / "results.json", asdict(results))
    return results


def _kinds(study: Mapping[str, Any]) -> dict[str, str]:
    """Every policy of a study file in a report's order, base first, and what it is."""
    # The base is no arm of a study file.
    kinds = {BASE: "base"} | {str(arm["name"]): "arm" for arm in study["arms"]}
    return kinds | {str(null["name"]): _kind(null) for null in study.get("nulls") or ()}


def _has_steps(kind: str) -> bool:
    """True for what trains, by its words in `_kinds`: an arm, and a null that is one stopped early."""
    return kind == "arm" or kind.startswith("early stop")


def _kind(null: Mapping[str, Any]) -> str:
    """What a null is made of, in words.

    >>> _kind({"kind": "interpolation", "between": ["base", "stress_sft"]})
    'interpolation of base and stress_sft'
    >>> _kind({"kind": "early_stop", "of": "mild_sft"})
    'early stop of mild_sft'
    """
    if null["kind"] == Interpolation.kind:
        return f"interpolation of {' and '.join(null['between'])}"
    return f"early stop of {null['of']}"


def _task(entry: Mapping[str, Any]) -> TaskRow:
    name = str(entry.get("label") or entry["name"])
    return TaskRow(name, str(entry["role"]), str(entry.get("metric") or ""))


def _seeds(value: Any) -> tuple[int, ...]:
    """Seeds as a study states them: a number of seeds, or their list."""
    return tuple(range(value)) if isinstance(value, int) else tuple(int(s) for s in value)


def _notes(study: Mapping[str, Any]) -> list[str]:
    notes = study.get("notes") or ()
    return [notes] if isinstance(notes, str) else [str(note) for note in notes]


def _items(folders: Mapping[str, Mapping[int, Path]]) -> pd.DataFrame:
    frames = [pd.DataFrame(columns=pd.Index(ITEM_COLUMNS.names))]
    for arm, seeds in folders.items():
        for seed, folder in seeds.items():
            refuse_copies(folder, *TASKS)
            path = folder / "items.parquet"
            if is_there(path):
                frames.append(read_scores(path, arm, seed))
    kept = [frame for frame in frames if len(frame)] or frames
    return pd.concat(kept, ignore_index=True)


def _reported(items: pd.DataFrame, tasks: Sequence[TaskRow]) -> pd.DataFrame:
    """Only each task's own metric, so that no item counts twice."""
    kept = []
    for task in tasks:
        rows = where(items, task=task.name)
        metrics = sorted(set(rows["metric"]))
        if metrics and task.metric and task.metric not in metrics:
            raise RunError(
                f"{task.name}: no metric {task.metric!r} in items.parquet; has {metrics}"
            )
        kept.append(where(rows, metric=task.metric) if task.metric else rows)
    return pd.concat(kept, ignore_index=True)


def _gaps(
    names: Sequence[str],
    folders: Mapping[str, Mapping[int, Path]],
    trained: Mapping[str, bool],
    items: pd.DataFrame,
    seeds: Sequence[int],
    failed: Mapping[str, Mapping[int, str]],
) -> list[str]:
    """What has no results and may still get some: an arm that failed is told of elsewhere."""
    gaps: list[str] = []
    for name in names:
        have = set(where(items, arm=name)["seed"])
        open_seeds = set(seeds) - have - set(failed[name])
        if not have and not failed[name]:
            state = "started, not evaluated yet" if folders[name] else "not run yet"
            gaps.append(f"Unfinished: {name} has no results ({state}).")
        elif trained[name] and open_seeds:
            lacking = ", ".join(str(s) for s in sorted(open_seeds))
            gaps.append(f"Unfinished: {name} has no results for seed {lacking}.")
    return gaps


def _behind(
    study: Mapping[str, Any],
    failed: Mapping[str, Mapping[int, str]],
    items: pd.DataFrame,
    seeds: Sequence[int],
) -> list[str]:
    """Arms and nulls that cannot run because one that they are made from has failed."""
    entries = {str(e["name"]): e for e in (*study["arms"], *(study.get("nulls") or ()))}
    needs = {name: _named(entry, entries) - {name} for name, entry in entries.items()}
    gaps: list[str] = []
    for name in entries:
        waits: set[str] = set()
        while more := {n for one in (name, *waits) for n in needs[one]} - waits:
            waits |= more
        have = set(where(items, arm=name)["seed"]) | set(failed[name])
        for seed in sorted(set(seeds) - have):
            lost_to = sorted(one for one in waits if seed in failed[one])
            if lost_to:
                gaps.append(
                    f"Failed: {name}, seed {seed}, cannot run: it needs {', '.join(lost_to)}, which failed."
                )
    return gaps


def _named(plain: Any, names: Collection[str]) -> set[str]:
    """The arms that a study file names anywhere in an entry.

    >>> sorted(_named({"name": "c", "start": "a", "streams": [{"source": {"teacher": "b"}}]}, {"a", "b"}))
    ['a', 'b']
    """
    if isinstance(plain, Mapping):
        plain = [part for key, part in plain.items() if key not in ("kind", "name")]
    if isinstance(plain, list | tuple):
        return {name for part in plain for name in _named(part, names)}
    return {plain} if isinstance(plain, str) and plain in names else set()


def _unmeasured(
    names: Sequence[str],
    folders: Mapping[str, Mapping[int, Path]],
    items: pd.DataFrame,
    *,
    made_by_steps: Collection[str],
    with_drift: bool,
    with_probes: bool,
) -> list[str]:
    """Files that should stand beside the item results and do not."""
    wanted = {"budget.json": "budget"} | ({"drift.json": "drift"} if with_drift else {})
    wanted |= {"probes.parquet": "probes"} if with_probes else {}
    wanted |= {"metrics.jsonl": "rows of its training"}
    gaps: list[str] = []
    for name in names:
        scored = [seed for seed in folders[name] if len(where(items, arm=name, seed=seed))]
        for file, what in wanted.items():
            if file == "metrics.jsonl" and name not in made_by_steps:
                continue
            lacking = [str(seed) for seed in scored if not is_there(folders[name][seed] / file)]
            if lacking:
                gaps.append(f"Unfinished: {name} has no {what} for seed {', '.join(lacking)}.")
    return gaps


def _standings(
    run: RunFolder, folders: Mapping[str, Mapping[int, Path]], *, with_probes: bool
) -> tuple[list[str], list[str]]:
    """Gaps that only manifests show, and a note where there are none. Raises RunError where a file was changed."""
    gaps: list[str] = []
    unverified = total = 0
    for name, seeds in folders.items():
        for seed, folder in seeds.items():
            why = failure(folder)
            if why:
                place = (folder / FAILED).relative_to(run.root)
                gaps.append(
                    f"Failed: {name}, seed {seed}: {why}. It is not tried again until {place} is deleted."
                )
                continue
            for task in TASKS:
                if (task == "train" and name == BASE) or (task == "probe" and not with_probes):
                    continue
                found, missing = standing(run, name, seed, task), lost(run, name, seed, task)
                total += found != "no"
                unverified += found == "unverified"
                if missing:
                    gaps.append(f"Unfinished: {name}, seed {seed}, has lost {missing}.")
                elif found == "no" and _is_open(folder, task, leaves_manifests(run)):
                    gaps.append(f"Unfinished: {name}, seed {seed}: {OPEN[task]}.")
    note = (
        f"Unverified: {unverified} of {total} jobs were done before jobs kept a list of their files: "
        "whether one was changed since is not known."
    )
    return gaps, [note] if unverified else []


def _is_open(folder: Path, task: Task, leaves_manifest: bool) -> bool:
    """True where only this tells that a job has not ended: what it or a later one writes is there."""
    if task == "train":  # a policy without the rows that led to it
        whole = is_there(folder / "items.parquet") if leaves_manifest else False
        return whole or is_there(folder / POLICY / MARKER)
    return leaves_manifest and seems_finished(folder, task)


OPEN = {
    "train": "training has not ended",
    "measure": "measuring has not ended",
    "probe": "probing has not ended",
}


def _arm(
    name: str,
    kind: str,
    trained: bool,
    folders: Mapping[str, Mapping[int, Path]],
    items: pd.DataFrame,
    tasks: Sequence[TaskRow],
) -> ArmResult:
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
        kind=kind,
        trained=trained,
        seeds=tuple(int(seed) for seed in sorted(set(rows["seed"]))),
        scores=tuple(scores),
        retention=_retention(name, items, tasks),
        forgetting=forgetting,
        retention_ratio=ratio,
        drift=_drift(*(_all(folders[arm], "drift.json", artefacts.DRIFT) for arm in (name, BASE))),
        budget=_budget(
            _all(folders[name], "budget.json", artefacts.BUDGET),
            _all(folders[name], "policy/statewise.json", artefacts.MARKER),
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


FEW_P = 0.01
"""Where no p of drift can fall below this the reader is told: fewer than 8 prompts."""


def _few_prompts(folders: Mapping[str, Mapping[int, Path]]) -> list[str]:
    """What is to be said of drift that too few prompts were asked of."""
    files = [
        found for seeds in folders.values() for found in _all(seeds, "drift.json", artefacts.DRIFT)
    ]
    least = [f.get("least_p") for file in files for f in file["features"].values()]
    floor = max((float(p) for p in least if p is not None), default=0.0)
    if floor <= FEW_P:
        return []
    return [
        f"Drift was measured on too few prompts or permutations: no p can fall below {floor:.2g}, so that an arm "
        "without a small p may have drifted all the same; `drift.prompts` of 8 or more reach 0.01."
    ]


def _drifts(folders: Mapping[str, Mapping[int, Path]]) -> pd.DataFrame:
    """Every scalar that says how far an arm and seed moved, as rows: arm, seed, measure, value."""
    rows = []
    for arm, seeds in folders.items():
        for seed, folder in seeds.items():
            features = (_stored(folder / "drift.json", artefacts.DRIFT) or {}).get("features", {})
            budget = _stored(folder / "budget.json", artefacts.BUDGET) or {}
            found = {f"mmd2_{kind}": figures["mmd2"] for kind, figures in features.items()}
            found["kl_to_base"] = budget.get("kl_to_base_nats")
            found["update_norm"] = budget.get("update_norm")
            rows += [(arm, seed, measure, value) for measure, value in found.items()]
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


def _curves(arm: str, folders: Mapping[int, Path]) -> list[Curve]:
    curves: list[Curve] = []
    for seed, folder in folders.items():
        loss = read_rows(folder / "metrics.jsonl", artefacts.METRICS)
        curves += curve(arm, seed, "loss", loss, "loss")
        dev = read_rows(folder / "dev.jsonl", artefacts.DEV)
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


def _stored(path: Path, shape: Shape) -> dict[str, Any] | None:
    return read_json(path, shape) if is_there(path) else None


def _all(folders: Mapping[int, Path], name: str, shape: Shape) -> list[dict[str, Any]]:
    """That file of every seed which has it."""
    paths = [folder / name for folder in folders.values()]
    return [read_json(path, shape) for path in paths if is_there(path)]
