"""The names of the files and folders of a run folder: here, and nowhere else.

`store/__init__.py` says what each file holds, `store/artefacts.py` what it must look like to be read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

STUDY = "study.yaml"
SEARCH = "search.yaml"
ENVIRONMENT = "environment.json"
RESULTS = "results.json"
SAMPLES = "samples.parquet"

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
DEV = "dev.jsonl"
FIRST_STEP = "first-step.parquet"
MATCH = "match.json"
CANDIDATES = "match.jsonl"
FAILED = "failed.json"
ITEMS = "items.parquet"
STATES = "states.parquet"
DRIFT = "drift.json"
BUDGET = "budget.json"
ONLINE_PROBES = "probes.jsonl"
PROBE_STATES = "probe_states.parquet"
MICROSCOPE = "microscope.json"
SKIPPED_PROBES = "probes.skipped.json"
PROBES = "probes.parquet"
JOBS_TIMING = "jobs.timing.jsonl"
PROBES_TIMING = "probes.timing.jsonl"

ARMS = "arms"
CHECKPOINT = "checkpoint"
POLICY = "policy"
MARKER = "statewise.json"
"""Next to a policy's weights: what its config does not hold (arm, steps, random initialisation)."""

_SEED = re.compile(r"seed-(\d{1,18})")


def seed_name(seed: int | Literal["*"]) -> str:
    """The name of a seed's folder; a pattern for `*`.

    >>> seed_name(3)
    'seed-3'
    """
    return f"seed-{seed}"


def seed_of(folder: Path) -> int | None:
    """The seed whose folder this is, by its name; None if it is not one.

    >>> seed_of(Path("arms/grpo/seed-3")), seed_of(Path("arms/grpo")), seed_of(Path("seed-x"))
    (3, None, None)
    """
    match = _SEED.fullmatch(folder.name)
    return int(match[1]) if match else None


def seed_folders(root: Path) -> list[Path]:
    """The folders of every arm and seed below `root`, sorted by path."""
    found = root.glob(f"{ARMS}/*/*")
    return sorted(path for path in found if seed_of(path) is not None and path.is_dir())
