"""Pages of a run's item results, filtered: what `statewise serve` shows of `items.parquet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from statewise.claims.paired import read_scores
from statewise.errors import ConfigError
from statewise.store import layout

PAGE = 50
FILTERS = ("arm", "seed", "task", "decoding", "outcome", "find", "item", "page")
OUTCOMES = ("right", "wrong", "partly", "no answer", "cut")
_FILES: dict[Path, tuple[int, pd.DataFrame]] = {}


def page_of(run_dir: Path, wanted: Mapping[str, str]) -> dict[str, Any]:
    """One page of rows and what can be filtered by.

    Raises ConfigError for a filter that does not exist or a page that is no number.
    """
    odd = sorted(set(wanted) - set(FILTERS))
    if odd:
        raise ConfigError(f"no filter {odd[0]!r}; known: {', '.join(FILTERS)}")
    page = wanted.get("page") or "0"
    if not re.fullmatch(r"\d{1,9}", page):
        raise ConfigError(f"page must be a number, found {page!r}")
    frames = {}
    for folder in layout.seed_folders(run_dir):
        path, seed = folder / layout.ITEMS, layout.seed_of(folder)
        if seed is not None and path.exists():
            frames[path] = _read(path, folder.parent.name, seed)
    arms = list(dict.fromkeys(path.parent.parent.name for path in frames))
    chosen = [
        frame
        for path, frame in frames.items()
        if wanted.get("arm") in (None, "", path.parent.parent.name)
    ]
    rows = pd.concat(chosen, ignore_index=True) if chosen else pd.DataFrame()
    facets = {
        "arm": arms,
        **{
            name: sorted({str(v) for frame in frames.values() for v in frame[name].unique()})
            for name in ("seed", "task", "decoding")
        },
        "outcome": list(OUTCOMES),
    }
    if len(rows):
        rows = rows[_kept(rows, wanted)]
    first = int(page) * PAGE
    shown = rows.iloc[first : first + PAGE]
    return {
        "total": len(rows),
        "page": int(page),
        "page_size": PAGE,
        "facets": facets,
        "rows": [_plain(row) for row in shown.to_dict("records")],
    }


def _read(path: Path, arm: str, seed: int) -> pd.DataFrame:
    changed = path.stat().st_mtime_ns
    if path not in _FILES or _FILES[path][0] != changed:
        _FILES[path] = (changed, read_scores(path, arm, seed))
    return _FILES[path][1]


def _kept(rows: pd.DataFrame, wanted: Mapping[str, str]) -> np.ndarray:
    keep = np.ones(len(rows), dtype=bool)
    for column, name in (
        ("seed", "seed"),
        ("task", "task"),
        ("decoding", "decoding"),
        ("item_id", "item"),
    ):
        if wanted.get(name):
            keep &= (rows[column].astype(str) == wanted[name]).to_numpy()
    if wanted.get("find"):
        text = rows["response"].astype(str)
        keep &= text.str.contains(wanted["find"], case=False, regex=False).to_numpy()
    outcome = wanted.get("outcome")
    if outcome:
        score = rows["score"].to_numpy(dtype=float)
        keep &= {
            "right": score >= 1,
            "wrong": score <= 0,
            "partly": (score > 0) & (score < 1),
            "no answer": (rows["extraction_failed"] == True).fillna(False).to_numpy(dtype=bool),  # noqa: E712 - pandas
            "cut": (rows["stopped"] == False).fillna(False).to_numpy(dtype=bool),  # noqa: E712 - pandas
        }.get(outcome, np.zeros(len(rows), dtype=bool))
    return keep


COLUMNS = (
    "arm",
    "seed",
    "task",
    "item_id",
    "decoding",
    "metric",
    "score",
    "response",
    "extraction_failed",
    "stopped",
)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as JSON can hold it."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        value = row.get(name)
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            found[name] = None
        else:
            found[name] = value.item() if isinstance(value, np.generic) else value
    return found
