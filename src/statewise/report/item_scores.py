"""Item-level wins and losses: the score of every item by arm, small enough to stand in a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from statewise.claims.paired import DECODINGS, where
from statewise.report.page.digits import DIGITS
from statewise.results.run_reader import RunReader
from statewise.results.types import Results

LEVELS = 60
"""A mean score is stored as a whole number of sixtieths: exact for means of 1 to 6, 10, 12... zeros and ones."""
UNKNOWN = DIGITS[-1]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one task: for each arm one character an item, mean over its seeds and samples."""

    task: str
    decoding: str
    items: tuple[str, ...]
    by_arm: Mapping[str, str]
    seeds: Mapping[str, int]


def item_scores(run: RunReader, results: Results) -> tuple[Scores, ...]:
    """The items of every task under the decoding that claims are about, by arm."""
    frames: dict[str, pd.DataFrame] = {}
    seeds: dict[str, int] = {}
    for arm in results.arms:
        rows = where(run.items, arm=arm.name)
        if len(rows):
            frames[arm.name], seeds[arm.name] = rows, len(set(rows["seed"]))
    found = []
    for task in results.tasks:
        mine = {arm: where(frame, task=task.name) for arm, frame in frames.items()}
        present = {str(d) for rows in mine.values() for d in rows["decoding"]}
        decoding = next((d for d in DECODINGS if d in present), None)
        if decoding is not None:
            means = {arm: _means(where(rows, decoding=decoding)) for arm, rows in mine.items()}
            found.append(_scores(task.name, decoding, means, seeds))
    return tuple(found)


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """Mean score of every item, over seeds and samples."""
    scores: dict[str, list[float]] = {}
    for item, score in zip(rows["item_id"], rows["score"], strict=True):
        scores.setdefault(str(item), []).append(float(score))
    return {item: fmean(values) for item, values in scores.items()}


def _scores(
    task: str, decoding: str, means: Mapping[str, Mapping[str, float]], seeds: Mapping[str, int]
) -> Scores:
    known = {arm: scores for arm, scores in means.items() if scores}
    items = sorted({item for scores in known.values() for item in scores}, key=_natural)
    by_arm = {arm: "".join(_digit(s.get(item)) for item in items) for arm, s in known.items()}
    return Scores(task, decoding, tuple(items), by_arm, {arm: seeds[arm] for arm in known})


def _natural(item: str) -> tuple[int, str]:
    return len(item), item


def _digit(score: float | None) -> str:
    """A score in [0, 1] as one character.

    >>> _digit(0.0), _digit(1.0), DIGITS.index(_digit(1 / 3)), _digit(None) == UNKNOWN
    ('A', '8', 20, True)
    """
    if score is None or not 0 <= score <= 1:
        return UNKNOWN
    return DIGITS[round(LEVELS * score)]
