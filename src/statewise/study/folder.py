"""Whose a run folder is: one study's or one search's, on one base and one world."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch

from statewise.data import WorldDocuments, WorldProblems
from statewise.errors import RunError
from statewise.evaluate.tasks import WORLD_PREFIX
from statewise.plain import differences, dump_yaml, load_yaml, to_plain
from statewise.store import RunFolder, environment, exclusive, read_json, write_json, write_text
from statewise.study.models import WORLD_BASE, base_location, fingerprints, marker
from statewise.study.preflight import mark, preflight
from statewise.study.spec import BASE, Study
from statewise.world import WORLD_VERSION

Purpose = Literal["study", "search"]


@contextlib.contextmanager
def claimed(
    study: Study, run: RunFolder, *, workers: int, purpose: Purpose = "study"
) -> Iterator[None]:
    """Hold a folder for this study alone: checked beforehand, locked, and begun by no other."""
    preflight(study, run)
    with exclusive(run.root / ".lock"):
        claim_folder(study, run, workers=workers, purpose=purpose)
        yield


def claim_folder(
    study: Study, run: RunFolder, *, workers: int = 0, purpose: Purpose = "study"
) -> None:
    """Write the resolved study into an empty folder; refuse the folder of another one.

    Only the seeds may differ: more seeds add to a run, and what was done stays. The base, other
    models from outside and the world must be those that the folder was begun with. Versions and
    hardware may differ; each that took part is kept. A search has a folder of its own.

    Raises RunError, naming what differs.
    """
    resolved, claim = to_plain(study), run.root / f"{purpose}.yaml"
    other = run.root / ("search.yaml" if purpose == "study" else "study.yaml")
    if other.exists():
        raise RunError(f"{run.root} holds a {other.stem}, this is a {purpose}; give another --out")
    if claim.exists():
        stored = load_yaml(claim)
        changed = differing(study, run, purpose=purpose)
        if changed:
            raise RunError(
                f"{run.root} holds a run of another {purpose} (it differs in {few_words(changed)}); "
                "give another --out, or delete the folder to start over"
            )
        resolved["seeds"] = sorted({*stored["seeds"], *study.seeds})
    _record_environment(study, run, workers)
    write_text(claim, dump_yaml(resolved))
    write_text(mark(run), "")


def differing(study: Study, run: RunFolder, *, purpose: Purpose = "study") -> list[str]:
    """Where a study differs from the one that the folder was begun with, seeds apart; [] for no folder."""
    claim = run.root / f"{purpose}.yaml"
    if not claim.exists():
        return []
    found = differences(load_yaml(claim), to_plain(study))
    return [path for path in found if not path.startswith("seeds")]


def _record_environment(study: Study, run: RunFolder, workers: int) -> None:
    """Keep what the figures rest on; refuse a base, teacher or world that was exchanged."""
    path, location = run.root / "environment.json", base_location(study)
    begun: dict[str, Any] = read_json(path) if path.exists() else {}
    models = fingerprints(study)
    for name, found in begun.get("models", {}).items():
        if models.get(name) != found:
            place = location if name == BASE else name
            raise RunError(
                f"{run.root} was begun with another model at {place} ({name}): its figures would mix "
                "two; put the first one back, or give another --out"
            )
    world = begun.get("world_version", WORLD_VERSION)
    if world != WORLD_VERSION and _uses_world(study):
        raise RunError(
            f"{run.root} was begun on version {world} of the embedded world, this is version "
            f"{WORLD_VERSION}; install that statewise again, or give another --out"
        )
    environments = begun.get("environments", [])
    mine = environment() | hardware(workers)
    if mine not in environments:
        environments = [*environments, mine]
    figures = {
        "base": {"location": location, **marker(location)},
        "models": models,
        "world_version": world,
        "environments": environments,
    }
    write_json(path, figures)


def threads(workers: int) -> int:
    """Threads of a process that does jobs: the cores are shared among the workers."""
    return max(1, (os.cpu_count() or 1) // workers) if workers else torch.get_num_threads()


def hardware(workers: int = 0) -> dict[str, Any]:
    """Processes that do jobs, threads of each, and accelerators."""
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"workers": workers, "threads": threads(workers), "accelerators": accelerators}


def _uses_world(study: Study) -> bool:
    prompts = [stream.prompts for arm in study.arms for stream in arm.streams]
    prompts += [study.drift.prompts] if study.drift else []
    prompts += [study.probes.prompts] if study.probes and study.probes.prompts else []
    return (
        study.base == WORLD_BASE
        or any(task.name.startswith(WORLD_PREFIX) for task in study.tasks)
        or any(isinstance(data, WorldProblems | WorldDocuments) for data in prompts)
    )


def few_words(places: list[str]) -> str:
    """The first three of a list.

    >>> few_words(["a", "b", "c", "d", "e"])
    'a, b, c, and 2 more places'
    """
    rest = [f"and {len(places) - 3} more places"] if len(places) > 3 else []
    return ", ".join([*places[:3], *rest])
