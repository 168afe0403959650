"""Whose a run folder is: one study's or one search's, on one base and one world."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from statewise.config import differences, to_plain
from statewise.data import WorldDocuments, WorldProblems
from statewise.errors import ConfigError, LockedError, RunError
from statewise.evaluate.tasks import WORLD_PREFIX
from statewise.jobs.preflight import mark, preflight
from statewise.jobs.probe import reopen
from statewise.jobs.row_files import keep_digests
from statewise.store import (
    RunFolder,
    artefacts,
    environment,
    exclusive,
    is_there,
    layout,
    misfit,
    read_json,
    remove,
    tidy,
    write_json,
    write_text,
)
from statewise.store.finished import (
    MANIFESTS,
    clear_training,
    failure,
    is_copy,
    is_probed,
    is_trained,
)
from statewise.study.model_card import public_name
from statewise.study.models import (
    BASE_SEED,
    WORLD_BASE,
    base_location,
    exchanged,
    fingerprints,
    marker,
    outside_models,
)
from statewise.study.spec import BASE, Study
from statewise.world import WORLD_VERSION
from statewise.yaml12 import dump_yaml, load_yaml

Purpose = Literal["study", "search"]


@contextlib.contextmanager
def claimed(
    study: Study, run: RunFolder, *, workers: int, purpose: Purpose = "study"
) -> Iterator[None]:
    """Hold a folder for this study alone: checked beforehand, locked, and begun by no other."""
    preflight(study, run)
    with exclusive(run.root / ".lock"):
        claim_folder(study, run, workers=workers, purpose=purpose)
        clear(run)
        yield


def clear(run: RunFolder) -> None:
    """Remove what killed jobs left behind: half-written files, and what only training or probing needed.

    A folder in which another process works is left alone. Raises RunError.
    """
    tidy(run.root)
    for folder in layout.seed_folders(run.root):
        name, seed = folder.parent.name, str(layout.seed_of(folder))
        if folder.is_symlink() or not seed.isdecimal():
            continue
        with contextlib.suppress(LockedError), exclusive(folder / ".lock"):
            for place in (folder, folder / "nearest", folder / "probing"):
                tidy(place)
            if is_copy(folder):  # refused where it is asked for; a copy put aside is the user's
                continue
            if failure(folder) is not None or is_trained(run, name, int(seed)):
                clear_training(folder)
            if is_probed(run, name, int(seed)):
                remove(folder / "probing")


def claim_folder(
    study: Study, run: RunFolder, *, workers: int = 0, purpose: Purpose = "study"
) -> None:
    """Write the resolved study into an empty folder; refuse the folder of another one.

    What adds to a run may differ, and what was done stays: more seeds, and more probes (`grown`).
    The base, other models from outside and the world must be those that the folder was begun with.
    Versions and hardware may differ; each that took part is kept. A search has a folder of its own.

    A folder that has lost its study file goes on under the same study alone, which it knows by a digest.

    Raises RunError, naming what differs.
    """
    resolved, claim = to_plain(study), run.root / f"{purpose}.yaml"
    other = run.root / (layout.SEARCH if purpose == "study" else layout.STUDY)
    run.refuse_links()
    if is_there(other):
        raise RunError(f"{run.root} holds a {other.stem}, this is a {purpose}; give another --out")
    stored = stored_claim(claim)
    has_arms = bool(layout.seed_folders(run.root))
    if not stored and has_arms:
        _take_up(study, run, claim)
        resolved["seeds"] = sorted({*_seeds_of(run), *study.seeds})
    elif stored:
        changed = differing(study, run, purpose=purpose)
        if changed and _begun_with(run) == digest(study):
            raise RunError(
                f"{claim} is damaged (it differs from the study that was begun in {few_words(changed)}); "
                f"{_restore(claim)}"
            )
        if changed:
            raise RunError(
                f"{run.root} holds a run of another {purpose} (it differs in {few_words(changed)}); "
                "give another --out, or delete the folder to start over"
            )
        resolved["seeds"] = sorted({*stored["seeds"], *study.seeds})
    _record_environment(study, run, workers, is_new=not has_arms and not stored)
    if purpose == "study" and study.probes:
        known = stored.get("probes") if stored else NO_PROBES
        _ask_again(known, resolved["probes"], study, run)
    write_text(claim, dump_yaml(resolved))
    write_text(mark(run), "")


NO_PROBES = {"after": [], "microscope": 0}


def stored_claim(claim: Path) -> dict[str, Any]:
    """The study that a folder was begun with; {} where its file is not there. Raises RunError for a damaged one."""
    if not is_there(claim):
        return {}
    try:
        stored = load_yaml(claim)
    except ConfigError as error:
        raise RunError(f"{error}; {_restore(claim)}") from error
    what = misfit(stored, {"seeds": [int], "probes?": (dict, None)})
    if what:
        raise RunError(f"{claim} is damaged ({what}); {_restore(claim)}")
    return stored


def _restore(claim: Path) -> str:
    return f"restore it, or delete {claim} and run the same study again"


def digest(study: Study) -> str:
    """What tells a study from others, but for its seeds and probes: those may be added to a run."""
    # A key that came later and says nothing is no difference.
    plain = {k: v for k, v in to_plain(study).items() if v is not None}
    plain = {k: v for k, v in plain.items() if k not in ("seeds", "probes")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _take_up(study: Study, run: RunFolder, claim: Path) -> None:
    """Refuse arms whose study is not known, or another. Raises RunError."""
    known = _begun_with(run)
    if known != digest(study):
        whose = "arms of another study" if known else "arms, and nothing says of which study"
        raise RunError(
            f"{run.root} has lost its {claim.name} and holds {whose}; restore that file, or give another --out"
        )


def _begun_with(run: RunFolder) -> str | None:
    """The digest of the study that a folder was begun with, where it is known."""
    path = run.root / layout.ENVIRONMENT
    return read_json(path, artefacts.ENVIRONMENT).get("study") if is_there(path) else None


def _seeds_of(run: RunFolder) -> set[int]:
    """Seeds that the arms of a folder have; the base has none of its own."""
    names = [place.name for place in (run.root / "arms").iterdir() if place.is_dir()]
    return {seed for name in names if name != BASE for seed in run.seeds(name)}


def differing(study: Study, run: RunFolder, *, purpose: Purpose = "study") -> list[str]:
    """Where a study differs from the one that the folder was begun with; [] for no folder.

    Seeds may differ, and probes may be added.
    """
    stored, mine = stored_claim(run.root / f"{purpose}.yaml"), to_plain(study)
    if not stored:
        return []
    # A key that came later and says nothing is no difference.
    mine = {
        key: value
        for key, value in mine.items()
        if key in stored or key == "probes" or value is not None
    }
    if purpose == "study":
        begun = any((f / layout.METRICS).exists() for f in layout.seed_folders(run.root))
        stored = stored | {"probes": grown(stored.get("probes"), mine["probes"], begun=begun)}
    return [path for path in differences(stored, mine) if not path.startswith("seeds")]


def grown(
    stored: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None, *, begun: bool
) -> dict[str, Any] | None:
    """The folder's probes with what may be added to them taken from `wanted`; `begun`: some arm trains or has.

    A folder without probes takes any, more of `after` may be asked, and the microscope may show more
    prompts, for what is finished rests on none of these. What is asked while arms train (`during`) is
    added before the first of them begins, or never: no arm can be watched afterwards.

    >>> have = {"after": ["locality"], "during": [], "every_steps": 20, "microscope": 0}
    >>> more = {"after": ["audit", "locality"], "during": ["audit"], "every_steps": 10, "microscope": 40}
    >>> grown(have, more, begun=False) == more, grown(None, more, begun=False) == more
    (True, True)
    >>> [key for key, value in grown(have, more, begun=True).items() if value != more[key]]
    ['during', 'every_steps']
    >>> grown(more, have, begun=False) == more  # nothing is taken away
    True
    """
    if wanted is None:
        return None if stored is None else dict(stored)
    none = {"after": [], "during": [], "microscope": 0, "every_steps": wanted["every_steps"]}
    found = dict(stored) if stored is not None else {**wanted, **none}
    if set(found["after"]) <= set(wanted["after"]):
        found["after"] = wanted["after"]
    found["microscope"] = max(found["microscope"], wanted["microscope"])
    if not begun and set(found["during"]) <= set(wanted["during"]):
        if not found["during"]:
            found["every_steps"] = wanted["every_steps"]
        found["during"] = wanted["during"]
    return found


def _ask_again(
    stored: Mapping[str, Any] | None, wanted: Mapping[str, Any], study: Study, run: RunFolder
) -> None:
    """Open the probing jobs again that a study with more probes leaves unfinished."""
    if stored is None:
        return
    longer = stored["after"] != wanted["after"]
    closer = stored["microscope"] != wanted["microscope"]
    for folder in layout.seed_folders(run.root):
        if not (folder / layout.PROBES).exists():
            continue
        first = layout.seed_name(study.seeds[0])  # the microscope looks into one seed, and the base
        shown = folder.name == first or folder == run.arm(BASE, BASE_SEED)
        if longer or (closer and shown):
            reopen(folder)


def _record_environment(study: Study, run: RunFolder, workers: int, *, is_new: bool) -> None:
    """Keep what the figures rest on; refuse a base, teacher or world that was exchanged."""
    path, location = run.root / layout.ENVIRONMENT, base_location(study)
    begun: dict[str, Any] = read_json(path, artefacts.ENVIRONMENT) if is_there(path) else {}
    models = fingerprints(study)
    known = begun.get("models", {})
    others = exchanged(study, known, models)
    # A relative place that is no folder any more has another name.
    strange = set(known) - {*models, *outside_models(study).values()}
    others |= {name: name for name in strange}
    for name, place in others.items():
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
        "base": {"location": public_name(location), **marker(location)},
        "models": models,
        "world_version": world,
        "environments": environments,
        # Manifests hold this digest: of a folder that goes on it stays as it was.
        "study": digest(study) if is_new else begun.get("study", digest(study)),
    }
    # Runs of before have none: of their jobs it is not known whether a file was changed since.
    lost = not begun and any(
        path for f in layout.seed_folders(run.root) for path in f.glob("*.manifest.json")
    )
    if is_new or lost or "manifests" in begun:
        figures["manifests"] = MANIFESTS
    write_json(path, figures)
    keep_digests(study, run)


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
