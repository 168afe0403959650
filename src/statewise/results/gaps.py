"""What a run lacks: policies without results, missing files, failed arms, jobs that have not ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from statewise.claims.claim import BASE
from statewise.claims.paired import where
from statewise.results.run_reader import RunReader
from statewise.store import artefacts, is_there, layout
from statewise.store.finished import (
    FAILED,
    MARKER,
    POLICY,
    TASKS,
    Task,
    failure,
    leaves_manifests,
    lost,
    seems_finished,
    standing,
)

Failures = Mapping[str, Mapping[int, str]]


def failures_of(run: RunReader) -> dict[str, dict[int, str]]:
    """Why an arm failed, by policy and seed."""
    return {
        name: {seed: why for seed, folder in seeds.items() if (why := failure(folder))}
        for name, seeds in run.folders.items()
    }


def gaps(run: RunReader, *, with_probes: bool) -> tuple[list[str], list[str]]:
    """One sentence for everything that is missing, and notes on what cannot be verified.

    Raises RunError if a file was changed after its job had finished.
    """
    failures = failures_of(run)
    missing = [*_without_results(run, failures), *_blocked(run, failures)]
    missing += _missing_files(run, with_probes=with_probes)
    lost_or_open, unverified = _standings(run, with_probes=with_probes)
    return [*missing, *lost_or_open], unverified


def _without_results(run: RunReader, failures: Failures) -> list[str]:
    """Policies without results that may still get some: failures are reported separately."""
    sentences: list[str] = []
    for name in run.names:
        scored = set(where(run.items, arm=name)["seed"])
        open_seeds = set(run.seeds) - scored - set(failures[name])
        if not scored and not failures[name]:
            state = "started, not evaluated yet" if run.folders[name] else "not run yet"
            sentences.append(f"Unfinished: {name} has no results ({state}).")
        elif name != BASE and open_seeds:
            listed = ", ".join(str(s) for s in sorted(open_seeds))
            sentences.append(f"Unfinished: {name} has no results for seed {listed}.")
    return sentences


def _blocked(run: RunReader, failures: Failures) -> list[str]:
    """Arms and nulls that cannot run because an arm that they are made from has failed."""
    entries = {str(e["name"]): e for e in (*run.study["arms"], *(run.study.get("nulls") or ()))}
    needs = {name: _named(entry, entries) - {name} for name, entry in entries.items()}
    sentences: list[str] = []
    for name in entries:
        waits: set[str] = set()
        while more := {n for one in (name, *waits) for n in needs[one]} - waits:
            waits |= more
        done = set(where(run.items, arm=name)["seed"]) | set(failures[name])
        for seed in sorted(set(run.seeds) - done):
            lost_to = sorted(one for one in waits if seed in failures[one])
            if lost_to:
                sentences.append(
                    f"Failed: {name}, seed {seed}, cannot run: it needs {', '.join(lost_to)}, which failed."
                )
    return sentences


def _named(plain: Any, names: Collection[str]) -> set[str]:
    """The arms that a study file names anywhere in an entry.

    >>> sorted(_named({"name": "c", "start": "a", "streams": [{"source": {"teacher": "b"}}]}, {"a", "b"}))
    ['a', 'b']
    """
    if isinstance(plain, Mapping):
        plain = [part for key, part in plain.items() if key not in ("kind", "name")]
    if isinstance(plain, list | tuple):
        return {name for part in plain for name in _named(part, names)}
    return {plain} if isinstance(plain, str) and plain in names else set()


def _missing_files(run: RunReader, *, with_probes: bool) -> list[str]:
    """Files that a policy with item results should have and does not."""
    wanted = {layout.BUDGET: "budget"}
    wanted |= {layout.DRIFT: "drift"} if run.study.get("drift") else {}
    wanted |= {layout.PROBES: "probes"} if with_probes else {}
    wanted |= {layout.METRICS: "rows of its training"}
    sentences: list[str] = []
    for name in run.names:
        scored = [s for s in run.folders[name] if len(where(run.items, arm=name, seed=s))]
        for file, what in wanted.items():
            if file == layout.METRICS and not run.has_steps(name):
                continue
            missing = [str(seed) for seed in scored if not is_there(run.folders[name][seed] / file)]
            if missing:
                sentences.append(f"Unfinished: {name} has no {what} for seed {', '.join(missing)}.")
    return sentences


def _standings(run: RunReader, *, with_probes: bool) -> tuple[list[str], list[str]]:
    """Gaps that only manifests show, and a note if there are none. Raises RunError if a file was changed."""
    sentences: list[str] = []
    unverified = total = 0
    for name, seed, folder in run.each():
        if why := failure(folder):
            path = (folder / FAILED).relative_to(run.root)
            sentences.append(
                f"Failed: {name}, seed {seed}: {why}. It is not tried again until {path} is deleted."
            )
            continue
        for task in TASKS:
            if (task == "train" and name == BASE) or (task == "probe" and not with_probes):
                continue
            state = standing(run.run, name, seed, task)
            total += state != "no"
            unverified += state == "unverified"
            if missing := lost(run.run, name, seed, task):
                sentences.append(f"Unfinished: {name}, seed {seed}, has lost {missing}.")
            elif state == "no" and _is_open(folder, task, leaves_manifests(run.run)):
                sentences.append(f"Unfinished: {name}, seed {seed}: {OPEN[task]}.")
    note = (
        f"Unverified: {unverified} of {total} jobs were done before jobs kept a list of their files: "
        "whether one was changed since is not known."
    )
    return sentences, [note] if unverified else []


def _is_open(folder: Path, task: Task, leaves_manifest: bool) -> bool:
    """True if only this shows that a job has not ended: what it or a later one writes is there."""
    if task == "train":  # a policy without the rows that led to it
        whole = is_there(folder / layout.ITEMS) if leaves_manifest else False
        return whole or is_there(folder / POLICY / MARKER)
    return leaves_manifest and seems_finished(folder, task)


OPEN = {
    "train": "training has not ended",
    "measure": "measuring has not ended",
    "probe": "probing has not ended",
}


FEW_P = 0.01
"""If no p of drift can fall below this, a note says so: fewer than 8 prompts."""


def few_prompts(run: RunReader) -> list[str]:
    """A note if drift was measured on too few prompts."""
    files = [file for name in run.names for file in run.all(name, layout.DRIFT, artefacts.DRIFT)]
    least = [f.get("least_p") for file in files for f in file["features"].values()]
    floor = max((float(p) for p in least if p is not None), default=0.0)
    if floor <= FEW_P:
        return []
    return [
        f"Drift was measured on too few prompts or permutations: no p can fall below {floor:.2g}, so that an arm "
        "without a small p may have drifted all the same; `drift.prompts` of 8 or more reach 0.01."
    ]
