"""All that a page is made of: the results, and what of the run folder they do not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from statewise.report.item_scores import Scores, item_scores
from statewise.report.optimised import FAULTS, REWARD, SILENT
from statewise.results.run_reader import RunReader
from statewise.results.types import Curve, Results, curve
from statewise.store import artefacts, damaged, is_there, layout, read_json

LENGTH = "completion_tokens_mean"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What stands on the page. Empty parts leave their section out.

    `lengths` are curves of the completions' length while training, `rewards` of their mean reward and `silent` of
    the share of groups without a signal, `faults` of the share of completions that the reward could not judge, of
    those where that is ever above 0 (`quantity` is the key in metrics.jsonl), `during` those of probes that ran
    while training (`quantity` is "probe measure sample at"), `microscopes` the documents of the arms'
    `microscope.json`, `scores` the items' scores by task and arm. `chosen` is the step whose weights are
    measured, by arm and seed, where a matched budget chose it and training may have gone on.
    """

    results: Results
    study: Mapping[str, Any]
    lengths: tuple[Curve, ...] = ()
    rewards: tuple[Curve, ...] = ()
    silent: tuple[Curve, ...] = ()
    faults: tuple[Curve, ...] = ()
    during: tuple[Curve, ...] = ()
    microscopes: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[Scores, ...] = ()
    chosen: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def gather(run_dir: Path, results: Results) -> Material:
    """Read what the page shows besides `results`. Raises RunError if a file is damaged."""
    run = RunReader.open(run_dir)
    lengths: list[Curve] = []
    during: list[Curve] = []
    optimised: dict[str, list[Curve]] = {REWARD: [], SILENT: [], FAULTS: []}
    chosen: dict[str, dict[int, int]] = {}
    for arm, seed, folder in run.each():
        rows = run.rows(folder, layout.METRICS, artefacts.METRICS)
        lengths += curve(arm, seed, LENGTH, rows, LENGTH)
        for key in dict.fromkeys(key for row in rows for key in row):
            if (figure := key.rsplit(".", 1)[-1]) in optimised:
                optimised[figure] += curve(arm, seed, key, rows, key)
        step = _chosen(run.json(folder, layout.MATCH, artefacts.MATCH))
        if step is not None:
            chosen.setdefault(arm, {})[seed] = step
        during += _probes(arm, seed, run.rows(folder, layout.ONLINE_PROBES, artefacts.DURING))
    stored = {
        arm: folder / layout.MICROSCOPE
        for arm, _, folder in reversed(list(run.each()))
        if is_there(folder / layout.MICROSCOPE)
    }
    return Material(
        results,
        run.study,
        tuple(lengths),
        tuple(optimised[REWARD]),
        tuple(optimised[SILENT]),
        _faults(optimised[FAULTS]),
        tuple(during),
        tuple(read_microscope(stored[arm]) for arm in run.names if arm in stored),
        item_scores(run, results),
        chosen,
    )


def _faults(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """Curves of every seed of those arms and streams in which a reward failed at all."""
    failed = {(c.arm, c.quantity) for c in curves if any(value > 0 for value in c.values)}
    return tuple(c for c in curves if (c.arm, c.quantity) in failed)


def _chosen(match: Mapping[str, Any]) -> int | None:
    """The step of a finished match; None for an interpolation, which has no steps."""
    return None if "share" in match else match.get("step")


def read_microscope(path: Path) -> dict[str, Any]:
    """A `microscope.json`, each of whose columns has an entry a token. Raises RunError for another."""
    found = read_json(path, artefacts.MICROSCOPE)
    for prompt in found["prompts"]:
        for rollout in prompt["rollouts"]:
            length = len(rollout["token_ids"])
            columns = [*rollout["top"].values(), *(rollout.get(name) for name in artefacts.COLUMNS)]
            if any(column is not None and len(column) != length for column in columns):
                raise damaged(path, f"prompt {prompt['id'][:60]!r} has columns of unequal length")
            if len(rollout["owner"]) != length or any(
                not 0 <= at < len(rollout["owners"]) for at in rollout["owner"]
            ):
                raise damaged(path, f"prompt {prompt['id'][:60]!r} has tokens of nobody")
    return found


def _probes(arm: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for every number that was probed while training."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = " ".join(
            str(row[key]) for key in ("probe", "measure", "sample", "at") if row.get(key)
        )
        groups.setdefault(name, []).append(row)
    return [
        found for name, group in groups.items() for found in curve(arm, seed, name, group, "value")
    ]
