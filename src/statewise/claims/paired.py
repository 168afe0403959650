"""Item-level scores as tables [seeds, items], and the pairing of one arm with another."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa

from statewise.errors import DataError
from statewise.store import damaged, read_table

DECODINGS = ("greedy", "choices", "sampled")
"""Which result of a task claims and forgetting speak of: the first of these that the task has."""


ITEM_COLUMNS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("task", "item_id", "cluster", "arm")]
    + [pa.field("seed", pa.int64(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in ("decoding", "metric")]
    + [pa.field("score", pa.float64(), nullable=False), pa.field("response", pa.string())]
    + [pa.field(name, pa.bool_()) for name in ("extraction_failed", "stopped")]
)
"""What a report reads of `items.parquet`; `evaluate/items.py` writes it."""


def read_scores(path: Path, arm: str, seed: int) -> pd.DataFrame:
    """The item results of one arm and seed. Raises RunError for a file that is damaged or another's."""
    frame = read_table(path, ITEM_COLUMNS, what="item results").to_pandas()
    if not np.isfinite(frame["score"].to_numpy(dtype=np.float64)).all():
        raise damaged(path, "a score is infinite or not a number")
    if set(frame["arm"]) != {arm} or set(frame["seed"]) != {seed}:
        raise damaged(path, f"it holds results of another arm or seed than {arm}/{seed}")
    return frame


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Scores of one arm on one task, `values` [seeds, clusters]. May be empty.

    Items that depend on each other (two questions about one belief) make one cluster; elsewhere
    each item is a cluster of its own, and the table is that of the items.
    """

    seeds: tuple[int, ...]
    item_ids: tuple[str, ...]
    values: np.ndarray

    @property
    def n_items(self) -> int:
        """Items behind the clusters."""
        return len(self.item_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Score of one arm minus that of another, `values` [seeds, clusters]. May be empty."""

    values: np.ndarray
    n_items: int


NOTHING = Differences(np.empty((0, 0)), 0)


def where(frame: pd.DataFrame, **equal: object) -> pd.DataFrame:
    """The rows in which every named column equals its value.

    >>> where(pd.DataFrame({"arm": ["a", "b"], "score": [1, 0]}), arm="b")["score"].tolist()
    [0]
    """
    keep = np.ones(len(frame), dtype=bool)
    for column, value in equal.items():
        keep &= (frame[column] == value).fillna(False).to_numpy(dtype=bool)
    return cast(pd.DataFrame, frame.loc[keep])


def grid(scores: pd.DataFrame, arm: str, task: str, decoding: str | None = None) -> Grid:
    """The table of one arm on one task. Several samples of an item are averaged.

    A cluster's value is the sum of its items' scores times clusters / items, so that the mean over
    clusters is the mean over items and its error is clustered (Miller, 2024, "Adding error bars to
    evals", section 2.2; for clusters of equal size the two agree exactly, for others the error is
    the larger).

    Raises DataError if an item has no score, or not for every seed.
    """
    rows = where(scores, arm=arm, task=task)
    present = set(rows["decoding"])
    wanted = DECODINGS if decoding is None else (decoding,)
    chosen = next((name for name in wanted if name in present), None)
    if chosen is None:
        return Grid((), (), np.empty((0, 0)))
    rows = where(rows, decoding=chosen)
    seeds, row = np.unique(rows["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    item_ids, column = np.unique(rows["item_id"].to_numpy(dtype=str), return_inverse=True)
    shape = (len(seeds), len(item_ids))
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (row, column), rows["score"].to_numpy(dtype=np.float64))
    np.add.at(count, (row, column), 1.0)
    if not count.all() or not np.isfinite(total).all():
        raise DataError(f"{arm} on {task}: some items have no score, or not for every seed")
    values = total / count
    if "cluster" in rows:
        first = np.unique(column, return_index=True)[1]
        names, place = np.unique(rows["cluster"].to_numpy(dtype=str)[first], return_inverse=True)
        sums = np.zeros((len(seeds), len(names)))
        np.add.at(sums.T, place, values.T)
        values = sums * (len(names) / len(item_ids))
    return Grid(tuple(seeds.tolist()), tuple(item_ids.tolist()), values)


def differences(
    scores: pd.DataFrame, arm: str, rival: str, task: str, fixed: AbstractSet[str]
) -> Differences:
    """Score of `arm` minus score of `rival`, [seeds, clusters], for the seeds that both have.

    A fixed arm's one row stands beside every seed. Empty if no seed is common.
    """
    mine, theirs = grid(scores, arm, task), grid(scores, rival, task)
    if not mine.seeds or not theirs.seeds:
        return NOTHING
    if mine.item_ids != theirs.item_ids:
        odd = sorted(set(mine.item_ids) ^ set(theirs.item_ids))
        raise DataError(
            f"{arm} and {rival} were not scored on the same items of {task}: {len(odd)} differ, "
            f"the first is {odd[0]!r}; evaluate both again on one split"
        )
    if arm in fixed and rival in fixed:
        values = mine.values[:1] - theirs.values[:1]
    elif rival in fixed:
        values = mine.values - theirs.values[:1]
    elif arm in fixed:
        values = mine.values[:1] - theirs.values
    else:
        common = [seed for seed in mine.seeds if seed in theirs.seeds]
        first = mine.values[[mine.seeds.index(seed) for seed in common]]
        values = first - theirs.values[[theirs.seeds.index(seed) for seed in common]]
    return Differences(values, mine.n_items) if len(values) else NOTHING


def ratio_table(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Item tables [seeds, clusters] of the ratio `mean(mine) / mean(theirs)`, linearised (delta method).

    Their seeds' means are the ratios exactly, and their spread over items is that of the ratio, the error of
    the divisor included. `theirs` is one row, [1, clusters], whose mean is not 0.

    >>> ratio_table(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 1.0]])).mean(axis=1).tolist()
    [0.5, 1.0]
    """
    mean = float(theirs.mean())
    ratio = float(mine.mean()) / mean
    return (mine - ratio * theirs) / mean + ratio
