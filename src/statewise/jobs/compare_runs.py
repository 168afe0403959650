"""Where a run that a plan learns from is another than the study that is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statewise.config import differences, to_plain
from statewise.jobs.folder import few_words
from statewise.results.stored_study import stored_study
from statewise.store import RunFolder, artefacts, is_there, layout, read_json
from statewise.study.models import exchanged, fingerprints
from statewise.study.spec import BASE, Study

HARDWARE = ("processor", "cores", "accelerators", "workers", "threads")
"""What `environment.json` says of a machine that changes how long a step takes."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Differences of a run from a study, in words."""

    models: tuple[str, ...]
    """The base and other models from outside."""
    own: Mapping[str, str]
    """By arm or null: in what it is another itself; those that are the same are not listed."""
    needs: Mapping[str, tuple[str, ...]]
    """By arm or null: every one that must be trained before it."""
    match: bool

    def same(self, name: str) -> bool:
        """True where the run's policy of that name was itself trained as the study says, from the same models."""
        return not self.models and name not in self.own

    def differences(self, name: str) -> list[str]:
        """What makes the run's policy another: itself, what it was taught by, the models, `match`; [] for the same."""
        if name == BASE:
            return list(self.models)
        before = [self.own[other] for other in (name, *self.needs[name]) if other in self.own]
        return [*self.models, *before, *(["match"] if self.match else [])]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A run that is learned from: `stored` is its plain study, `environment` its `environment.json`."""

    root: Path
    stored: Mapping[str, Any]
    environment: Mapping[str, Any]
    likeness: Likeness

    def folders(self, name: str) -> list[Path]:
        """Those of an arm, a null or the base, one a seed."""
        return list(RunFolder(self.root).seeds(name).values())


def look_at(study: Study, root: Path) -> Seen:
    """Read what a run rests on, and compare it with the study. Raises RunError for what is no run folder."""
    stored, path = stored_study(root), root / layout.ENVIRONMENT
    environment = read_json(path, artefacts.ENVIRONMENT) if is_there(path) else {}
    return Seen(root, stored, environment, likeness(study, stored, environment))


def likeness(study: Study, stored: Mapping[str, Any], environment: Mapping[str, Any]) -> Likeness:
    """Compare a study with a run: `stored` is its plain study, `environment` its `environment.json`."""
    plain, begun = to_plain(study), environment.get("models", {})
    models = [] if stored.get("base") == study.base else ["base"]
    models += [name for name in exchanged(study, begun, fingerprints(study)) if name not in models]
    mine, theirs = (
        {row["name"]: row for row in (*part["arms"], *part.get("nulls", ()))}
        for part in (plain, stored)
    )
    own = {}
    for name, row in mine.items():
        if name not in theirs:
            own[name] = f"{name} (none)"
        elif places := differences(theirs[name], row):
            own[name] = f"{name} ({few_words(places)})"
    return Likeness(
        models=tuple(models),
        own=own,
        needs={name: tuple(_all_needs(study, name)) for name in study.names},
        match=bool(differences(stored.get("match"), plain["match"])),
    )


def _all_needs(study: Study, name: str) -> list[str]:
    found = [one for need in study.needs(name) for one in (need, *_all_needs(study, need))]
    return list(dict.fromkeys(found))


def other_hardware(environment: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """In what a machine of a run differs from this one.

    >>> other_hardware({"environments": [{"cores": 2}, {"cores": 64}]}, {"cores": 2, "threads": 1})
    ['cores']
    """
    every = environment.get("environments", [])
    return [
        key
        for key in HARDWARE
        if key in mine and any(key in one and one[key] != mine[key] for one in every)
    ]
