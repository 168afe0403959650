"""A run folder as it stands now: how far each arm and seed has come, curves so far, verdicts so far.

Reads files that a run in progress is writing: each appears whole, and a torn last line is no row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from statewise.errors import RunError
from statewise.store import read_json, read_rows
from statewise.study.claims import BASE
from statewise.study.rows import Results

POINTS = 60
"""Points of a live curve: enough for its size on the page."""
Stamp = tuple[tuple[str, int, int], ...]
_ROWS: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = {}


def stamp(run_dir: Path) -> Stamp:
    """What the folder's data look like from outside: changes whenever a report would."""
    found = []
    for path in (run_dir / "study.yaml", *run_dir.glob("arms/*/seed-*/*")):
        if path.suffix in (".yaml", ".json", ".jsonl", ".parquet"):
            known = _stat(path)
            if known is not None:
                found.append((str(path.relative_to(run_dir)), *known))
    return tuple(sorted(found))


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except FileNotFoundError:  # moved away between listing and looking
        return None
    return known.st_mtime_ns, known.st_size


def status(run_dir: Path) -> dict[str, Any]:
    """Progress and curves of a run as plain data. Raises RunError where it is no run folder."""
    path = run_dir / "study.yaml"
    if not path.is_file():
        raise RunError(f"{run_dir} is no run folder: it has no study.yaml")
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    seeds = study.get("seeds") or [0]
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    named = [(str(arm["name"]), arm) for arm in study.get("arms") or ()]
    probes = study.get("probes") or {}
    probed = bool(probes.get("after") or probes.get("microscope"))
    arms = [{"name": BASE, "seeds": [_base(run_dir / "arms" / BASE / "seed-0", probed=probed)]}]
    for name, arm in named:
        if name != BASE:
            arms.append(
                {"name": name, "seeds": _seeds(run_dir / "arms" / name, arm, seeds, probed=probed)}
            )
    known = stamp(run_dir)
    newest = max((changed for _, changed, _ in known), default=0)
    return {
        "study": str(study.get("name", run_dir.name)),
        "question": str(study.get("question") or ""),
        "arms": arms,
        "idle_seconds": round(max(0.0, time.time() - newest / 1e9)),
        "measured": sum(1 for name, *_ in known if name.endswith("budget.json")),
    }


def _base(folder: Path, *, probed: bool) -> dict[str, Any]:
    state = _state(folder, trains=False, probed=probed)
    return {"seed": 0, "state": state, "step": None, "steps": None, "curves": {}}


def _seeds(
    folder: Path, arm: Mapping[str, Any], seeds: list[int], *, probed: bool
) -> list[dict[str, Any]]:
    """Every seed of an arm. Steps of an arm that counts epochs are known once one seed has ended."""
    steps = (arm.get("budget") or {}).get("steps")
    for card in folder.glob("seed-*/policy/statewise.json"):
        steps = read_json(card)["steps"]
    found = []
    for seed in seeds:
        mine = folder / f"seed-{seed}"
        rows = _rows(mine / "metrics.jsonl")
        found.append(
            {
                "seed": seed,
                "state": _state(mine, trains=True, probed=probed),
                "step": rows[-1]["step"] if rows else 0,
                "steps": steps,
                "curves": _curves(rows, _rows(mine / "dev.jsonl")),
            }
        )
    return found


def _state(folder: Path, *, trains: bool, probed: bool) -> str:
    """What an arm and seed is at, by the file that each stage leaves; `done` where nothing is left."""
    if (folder / "budget.json").is_file():
        return "done" if not probed or (folder / "probes.parquet").is_file() else "probing"
    if (folder / "items.parquet").is_file():
        return "measuring"
    if (folder / "policy" / "statewise.json").is_file():
        return "evaluating"
    if trains and (folder / "metrics.jsonl").is_file():
        return "training"
    return "waiting" if trains or not folder.is_dir() else "evaluating"


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that may grow; read again only where it has changed."""
    known = _stat(path)
    if known is None:
        return []
    if path not in _ROWS or _ROWS[path][0] != known:
        _ROWS[path] = (known, read_rows(path))
    return _ROWS[path][1]


def _curves(
    metrics: list[dict[str, Any]], dev: list[dict[str, Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Loss, and the score of each dev task."""
    found = {
        "loss": _thinned(
            [(float(r["step"]), float(r["loss"])) for r in metrics if r.get("loss") is not None]
        )
    }
    for task in dict.fromkeys(str(row["task"]) for row in dev):
        found[task] = _thinned(
            [(float(r["step"]), float(r["score"])) for r in dev if r["task"] == task]
        )
    return {name: points for name, points in found.items() if points}


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equal runs of steps.

    >>> _thinned([(1.0, 0.25), (2.0, 0.5)])
    [(1.0, 0.25), (2.0, 0.5)]
    """
    if not points:
        return []
    blocks = np.array_split(np.array(points, dtype=float), min(POINTS, len(points)))
    return [(float(b[-1, 0]), round(float(b[:, 1].mean()), 5)) for b in blocks]


def verdicts(results: Results) -> list[dict[str, str]]:
    """Every claim with what became of it so far."""
    return [
        {"text": v.text, "verdict": v.verdict, "sentence": v.sentence} for v in results.verdicts
    ]
