"""All that a page is made of: the results, and what of the run folder they do not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from statewise.report.wins import Scores, item_scores
from statewise.store import read_json, read_rows
from statewise.study.rows import Curve, Results

CURVE_POINTS = 200
LENGTH, STOPPED = "completion_tokens_mean", "stopped_share"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What stands on the page. Empty parts leave their section out.

    `lengths` are curves of the completions' length while training, `during` those of probes that ran
    while training (`quantity` is "probe measure sample at"), `microscopes` the documents of the arms'
    `microscope.json`, `scores` the items' scores by task and arm.
    """

    results: Results
    study: Mapping[str, Any]
    lengths: tuple[Curve, ...] = ()
    during: tuple[Curve, ...] = ()
    microscopes: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[Scores, ...] = ()


def gather(run_dir: Path, results: Results) -> Material:
    """Read what the page shows beside `results`. Raises RunError where a file is damaged."""
    study = yaml.safe_load((run_dir / "study.yaml").read_text(encoding="utf-8"))
    lengths: list[Curve] = []
    during: list[Curve] = []
    microscopes = []
    for arm in results.arms:
        folders = sorted((run_dir / "arms" / arm.name).glob("seed-*"), key=_seed)
        for folder in folders:
            rows = read_rows(folder / "metrics.jsonl")
            lengths += _curve(arm.name, _seed(folder), LENGTH, rows, lambda row: row.get(LENGTH))
            during += _probes(arm.name, _seed(folder), read_rows(folder / "probes.jsonl"))
        stored = [f / "microscope.json" for f in folders if (f / "microscope.json").is_file()]
        if stored:
            microscopes.append(read_json(stored[0]))
    return Material(
        results,
        study,
        tuple(lengths),
        tuple(during),
        tuple(microscopes),
        item_scores(run_dir, results),
    )


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
        curve
        for name, group in groups.items()
        for curve in _curve(arm, seed, name, group, lambda row: row.get("value"))
    ]


def _curve(
    arm: str,
    seed: int,
    quantity: str,
    rows: Sequence[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], Any],
) -> list[Curve]:
    """Means of equal runs of steps, as `study/results.py` thins its own curves."""
    known = [(float(r["step"]), float(v)) for r in rows if (v := value(r)) is not None]
    if not known:
        return []
    blocks = np.array_split(np.array(known), min(CURVE_POINTS, len(known)))
    steps = tuple(float(block[-1, 0]) for block in blocks)
    return [Curve(arm, seed, quantity, steps, tuple(float(b[:, 1].mean()) for b in blocks))]
