"""Item-level wins and losses: the score of every item by arm, small enough to stand in a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from statewise.report.digits import DIGITS
from statewise.study.items import DECODINGS
from statewise.study.rows import Results

LEVELS = 60
"""A mean score is stored as a whole number of sixtieths: exact for means of 1 to 6, 10, 12... zeros and ones."""
UNKNOWN = DIGITS[-1]
COLUMNS = ["task", "item_id", "seed", "decoding", "metric", "score"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one task: for each arm one character an item, mean over its seeds and samples."""

    task: str
    decoding: str
    items: tuple[str, ...]
    by_arm: Mapping[str, str]
    seeds: Mapping[str, int]


def item_scores(run_dir: Path, results: Results) -> tuple[Scores, ...]:
    """The items of every task under the decoding that claims speak of, by arm."""
    means: dict[tuple[str, str, str], pd.Series] = {}
    seeds: dict[str, int] = {}
    for arm in results.arms:
        paths = sorted((run_dir / "arms" / arm.name).glob("seed-*/items.parquet"))
        if not paths:
            continue
        seeds[arm.name] = len(paths)
        rows = pd.concat([pd.read_parquet(path, columns=COLUMNS) for path in paths])
        for task in results.tasks:
            mine = rows[rows["task"] == task.name]
            if task.metric:
                mine = mine[mine["metric"] == task.metric]
            for decoding, group in mine.groupby("decoding"):
                means[task.name, str(decoding), arm.name] = group.groupby("item_id")["score"].mean()
    found = []
    for task in results.tasks:
        present = {d for name, d, _ in means if name == task.name}
        decoding = next((d for d in DECODINGS if d in present), None)
        if decoding is not None:
            arms = {a: s for (name, d, a), s in means.items() if (name, d) == (task.name, decoding)}
            found.append(_scores(task.name, decoding, arms, seeds))
    return tuple(found)


def _scores(task: str, decoding: str, arms: Mapping[str, Any], seeds: Mapping[str, int]) -> Scores:
    items = sorted({str(i) for series in arms.values() for i in series.index}, key=_natural)
    by_arm = {
        arm: "".join(_digit(series.get(item)) for item in items) for arm, series in arms.items()
    }
    return Scores(task, decoding, tuple(items), by_arm, {arm: seeds[arm] for arm in arms})


def _natural(item: str) -> tuple[int, str]:
    return len(item), item


def _digit(score: Any) -> str:
    """A score in [0, 1] as one character.

    >>> _digit(0.0), _digit(1.0), DIGITS.index(_digit(1 / 3)), _digit(None) == UNKNOWN
    ('A', '8', 20, True)
    """
    if score is None or not 0 <= float(score) <= 1:
        return UNKNOWN
    return DIGITS[round(LEVELS * float(score))]
