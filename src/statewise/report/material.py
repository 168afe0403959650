"""All that a page is made of: the results, and what of the run folder they do not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from statewise.report.optimised import REWARD, SILENT
from statewise.report.wins import Scores, item_scores
from statewise.store import read_json, read_rows
from statewise.study.rows import Curve, Results, curve

LENGTH = "completion_tokens_mean"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What stands on the page. Empty parts leave their section out.

    `lengths` are curves of the completions' length while training, `rewards` of their mean reward and `silent` of
    the share of groups without a signal (`quantity` is the key in metrics.jsonl), `during` those of probes that ran
    while training (`quantity` is "probe measure sample at"), `microscopes` the documents of the arms'
    `microscope.json`, `scores` the items' scores by task and arm. `chosen` is the step whose weights are
    measured, by arm and seed, where a matched budget chose it and training may have gone on.
    """

    results: Results
    study: Mapping[str, Any]
    lengths: tuple[Curve, ...] = ()
    rewards: tuple[Curve, ...] = ()
    silent: tuple[Curve, ...] = ()
    during: tuple[Curve, ...] = ()
    microscopes: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[Scores, ...] = ()
    chosen: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def gather(run_dir: Path, results: Results) -> Material:
    """Read what the page shows beside `results`. Raises RunError where a file is damaged."""
    study = yaml.safe_load((run_dir / "study.yaml").read_text(encoding="utf-8"))
    lengths: list[Curve] = []
    during: list[Curve] = []
    paid: dict[str, list[Curve]] = {REWARD: [], SILENT: []}
    microscopes = []
    chosen: dict[str, dict[int, int]] = {}
    for arm in results.arms:
        folders = sorted((run_dir / "arms" / arm.name).glob("seed-*"), key=_seed)
        for folder in folders:
            rows = read_rows(folder / "metrics.jsonl")
            lengths += curve(arm.name, _seed(folder), LENGTH, rows, LENGTH)
            for key in dict.fromkeys(key for row in rows for key in row):
                if (figure := key.rsplit(".", 1)[-1]) in paid:
                    paid[figure] += curve(arm.name, _seed(folder), key, rows, key)
            step = _chosen(folder / "match.json")
            if step is not None:
                chosen.setdefault(arm.name, {})[_seed(folder)] = step
            during += _probes(arm.name, _seed(folder), read_rows(folder / "probes.jsonl"))
        stored = [f / "microscope.json" for f in folders if (f / "microscope.json").is_file()]
        if stored:
            microscopes.append(read_json(stored[0]))
    return Material(
        results,
        study,
        tuple(lengths),
        tuple(paid[REWARD]),
        tuple(paid[SILENT]),
        tuple(during),
        tuple(microscopes),
        item_scores(run_dir, results),
        chosen,
    )


def _chosen(path: Path) -> int | None:
    """The step of a finished `match.json`; None for an interpolation, which has no steps."""
    found = read_json(path) if path.is_file() else {}
    return None if "share" in found else found.get("step")


def _seed(folder: Path) -> int:
    return int(folder.name.removeprefix("seed-"))


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
