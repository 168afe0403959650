"""What probes found, over seeds, for `results.json`; which of them found nothing; what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from statewise import stats
from statewise.claims.claim import BASE
from statewise.results.types import ProbeFigure, Quantity
from statewise.stats import Estimate
from statewise.store import (
    artefacts,
    damaged,
    is_there,
    layout,
    read_json,
    read_seconds,
    read_table,
)

Folders = Mapping[str, Mapping[int, Path]]
"""Folders by arm and seed."""
Key = tuple[str, str, str, str, str, str]
WITHIN_ONE = ("share", "probability", "percentile", "AUC")
"""Units between 0 and 1: t knows no bounds, so the ends of an interval are cut there."""

ABOVE_0 = ("ratio",)
"""Units above 0 without an upper end."""


def asked_at_the_end(study: Mapping[str, Any]) -> bool:
    """True where a study as `to_plain` writes it has a probing job for every arm.

    >>> asked_at_the_end({"probes": {"after": [], "microscope": 4}}), asked_at_the_end({"probes": None})
    (True, False)
    >>> asked_at_the_end({"probes": {"after": [], "during": ["audit"], "microscope": 0}})
    False
    """
    probes = study.get("probes") or {}
    return bool(probes.get("after") or probes.get("microscope"))


def probe_figures(folders: Folders) -> tuple[ProbeFigure, ...]:
    """Every number of every probe, over the seeds that have it, in the order of the arms and probes.

    Over seeds: their mean with a plain t interval, the states that all share held fixed. Of one seed: the
    probe's own estimate, whose interval ranges over its prompts. What is said of the base alone is said once,
    however many arms were compared with it. A text belongs to one checkpoint: the first seed's.
    """
    numbers: dict[Key, dict[int, dict[str, Any]]] = {}
    texts: dict[Key, list[dict[str, Any]]] = {}
    shown: dict[str, int] = {}
    for arm, seeds in folders.items():
        for seed, row in _rows(seeds):
            key = _key(row)
            if row["text"]:
                if shown.setdefault(arm, seed) == seed:
                    texts.setdefault(key, []).append(row)
            else:
                # Two students of one teacher both say how the teacher goes on after its own prefixes, from
                # the same draws: one number.
                numbers.setdefault(key, {}).setdefault(seed, row)
    figures = []
    for key in dict.fromkeys([*numbers, *texts]):
        rows = list(numbers.get(key, {}).values())
        figures += [_figure(rows[0], _quantity(rows))] if rows else []
        figures += [_figure(row, Quantity(_own(row), "items")) for row in texts.get(key, ())]
    return tuple(figures)


def probe_notes(folders: Folders) -> list[str]:
    """What a reader must know of probes that have no figure.

    A probe that does not apply to some arm says so in the arm's file alone; it is a note where it applies to
    none. One that applied and had no answer, or lacks a part of it, is a note of its own.
    """
    skipped = {
        (arm, seed): {
            row["probe"]: row
            for row in read_json(folder / layout.SKIPPED_PROBES, artefacts.SKIPPED)
        }
        for arm, seeds in folders.items()
        for seed, folder in seeds.items()
        if arm != BASE and is_there(folder / layout.SKIPPED_PROBES)
    }
    notes = []
    for probe in dict.fromkeys(probe for rows in skipped.values() for probe in rows):
        rows = [row.get(probe) for row in skipped.values()]
        if all(row is not None and row["kind"] == "does not apply" for row in rows):
            reason = next(row["reason"] for row in rows if row)
            notes.append(f"Probe {probe} applies to no arm of this study: {reason}.")
        silent: dict[tuple[str, str, str], list[int]] = {}
        for (arm, seed), row in zip(skipped, rows, strict=True):
            if row and row["kind"] != "does not apply":
                silent.setdefault((row["kind"], arm, row["reason"]), []).append(seed)
        for (kind, arm, reason), seeds in silent.items():
            had = "no answer" if kind == "no answer" else "an answer in part"
            where = ", ".join(map(str, seeds))
            notes.append(f"Probe {probe} has {had} for {arm}, seed {where}: {reason}")
    return notes


def seconds_spent(folders: Folders) -> dict[str, Any]:
    """Seconds of work by kind of job, over all processes, and the share of it that probes took.

    `train` includes what was probed while arms trained, which is `probe_in_training` again.
    """
    paths = [folder for seeds in folders.values() for folder in seeds.values()]
    jobs = [row for path in paths for row in read_seconds(path / layout.JOBS_TIMING)]
    asked = [row for path in paths for row in read_seconds(path / layout.PROBES_TIMING)]
    spent = {
        kind: sum(row["seconds"] for row in jobs if row.get("job") == kind)
        for kind in ("train", "measure", "probe")
    }
    if sum(spent.values()) <= 0:
        return {}
    during = sum(row["seconds"] for row in asked if row.get("step") is not None)
    share = (spent["probe"] + during) / sum(spent.values())
    rounded = {kind: round(seconds, 1) for kind, seconds in spent.items()}
    return {
        "seconds": rounded | {"probe_in_training": round(during, 1)},
        "share_of_probes": round(share, 3),
    }


def _rows(seeds: Mapping[int, Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    for seed, folder in seeds.items():
        path = folder / layout.PROBES
        if is_there(path):
            for row in read_answers(path):
                yield seed, row


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The rows of a `probes.parquet`. Raises RunError for a damaged one."""
    rows = read_table(path, ROWS, what="rows of probes").to_pylist()
    for row in rows:
        numbers = [row[name] for name in ("value", "stderr", "low", "high")]
        if any(number is not None and not isfinite(number) for number in numbers):
            raise damaged(path, f"a number of {row['probe']} is infinite or not a number")
        if row["value"] is None and not row["text"]:
            raise damaged(path, f"{row['probe']} says nothing in a row")
    return rows


ROWS = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("probe", "policy", "reference", "sample", "measure", "at")
    ]
    + [(name, pa.float64()) for name in ("value", "stderr", "low", "high")]
    + [("n", pa.int64()), pa.field("unit", pa.string(), nullable=False), ("text", pa.string())]
)
"""Columns of what probes answered."""


def _key(row: Mapping[str, Any]) -> Key:
    probe, policy, reference = row["probe"], row["policy"], row["reference"]
    return probe, policy, reference, row["sample"], row["measure"], row["at"]


def _quantity(rows: Sequence[Mapping[str, Any]]) -> Quantity:
    """Over seeds; the probe's own estimate of one seed, and of the base, which has no seeds."""
    of_base = all(part == BASE for part in rows[0]["policy"].split(">"))
    if (of_base or len(rows) == 1) and rows[0]["n"] is not None:
        return Quantity(_own(rows[0]), "items")
    values = [row["value"] for row in (rows[:1] if of_base else rows)]
    return Quantity(_within(stats.seed_mean(values, rows[0]["unit"])), "seeds only")


def _own(row: Mapping[str, Any]) -> Estimate:
    """What the probe itself said of one checkpoint."""
    names = ("value", "stderr", "unit", "low", "high")
    return Estimate(**{name: row[name] for name in names}, n=1 if row["n"] is None else row["n"])


def _within(estimate: Estimate) -> Estimate:
    """Ends of a share's interval inside [0, 1]; a ratio's interval on the logarithm."""
    if estimate.unit in ABOVE_0 and estimate.stderr is not None and estimate.value > 0:
        ends = stats.log_interval(estimate.value, estimate.stderr, estimate.n - 1.0) or (None, None)
        return replace(estimate, low=ends[0], high=ends[1])
    if estimate.unit not in WITHIN_ONE or estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _figure(row: Mapping[str, Any], quantity: Quantity) -> ProbeFigure:
    names = ("probe", "policy", "reference", "sample", "measure", "at", "unit", "text")
    return ProbeFigure(**{name: row[name] for name in names}, quantity=quantity)
