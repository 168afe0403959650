"""The study of a run folder as plain data, for readers that do not need it whole: reports, and the server.

A folder may come from a stranger, or be of before: what a report reads is checked, and no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from statewise.errors import ConfigError, RunError
from statewise.store import RunFolder, is_name, misfit
from statewise.yaml12 import load_yaml

SHAPE = {
    "name": str,
    "question?": (str, None),
    "notes?": (str, [str], None),
    "seeds?": (int, [int], None),
    "tasks": [{"name": str, "role": str, "metric?": (str, None), "label?": (str, None)}],
    "arms": [{"name": str, "budget?": (dict, None)}],
    "nulls?": ([{"kind": str, "name": str, "of?": str, "between?": [str]}], None),
    "claims?": ([dict], None),
    "drift?": (dict, None),
    "probes?": (dict, None),
}
MOST_SEEDS = 10_000


def stored_study(run_dir: Path) -> dict[str, Any]:
    """Read `study.yaml`. Raises RunError where the folder is no run's, or the file is damaged."""
    path = RunFolder(run_dir).must_exist()
    again = f"restore it, or delete {path} and run the same study again"
    try:
        study = load_yaml(path)
    except ConfigError as error:
        raise RunError(f"{error}; {again}") from error
    lacking = [key for key in ("name", "tasks", "arms") if not study.get(key)]
    what = f"no {', '.join(lacking)}" if lacking else misfit(study, SHAPE)
    names = [*(study.get("arms") or ()), *(study.get("nulls") or ())] if what is None else []
    odd = next((one["name"] for one in names if not is_name(one["name"])), None)
    if odd is not None:
        what = f"{odd[:60]!r} is no name of an arm"
    elif isinstance(study.get("seeds"), int) and not 0 <= study["seeds"] <= MOST_SEEDS:
        what = f"{study['seeds']} seeds"
    if what:
        raise RunError(f"{path} is damaged ({what}); {again}")
    return study
