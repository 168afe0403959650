"""The policies that a command names: a whole run, a directory, a name on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from statewise.config import from_plain
from statewise.errors import ConfigError, RunError, nearest
from statewise.policy import MODEL_FILES, Policy
from statewise.store import RunFolder, artefacts, is_there, layout, read_json
from statewise.store.finished import is_trained
from statewise.study.models import (
    WORLD_BASE,
    base_location,
    best_device,
    check_same_encoding,
    marker,
    teacher_names,
    world_base,
)
from statewise.study.spec import BASE, Study
from statewise.user_code import distrust
from statewise.yaml12 import load_yaml


@dataclass(frozen=True, slots=True)
class Places:
    """Where policies lie, by name; and what the run that they belong to says of them."""

    policies: Mapping[str, str]
    base: str | None
    teachers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the teachers that an arm's study gives it."""
    study: Study | None = None
    root: Path | None = None
    brought: frozenset[str] = frozenset()
    """Teachers that came with the arms that were asked for, and are no subject of a probe themselves."""


def find_policies(
    places: Sequence[str],
    *,
    arms: Sequence[str] = (),
    seed: int | None = None,
    trust_code: bool = False,
) -> Places:
    """Resolve what a command line names; nothing is loaded.

    A place is a run folder (every arm and null of `seed` that is there, or those of `arms` and what
    teaches them), a directory or hub name, `world` for the embedded base, or any of the last two as
    `NAME=PLACE`.
    Code that a run's study names is never run without `trust_code`: what needs it is refused then.
    Raises RunError where a run has nothing to show, ConfigError for a name that is taken or unknown.
    """
    if not places:
        raise ConfigError("name a run folder, a model directory, a hub name or 'world'")
    found: dict[str, str] = {}
    run: tuple[Study, RunFolder] | None = None
    teachers: dict[str, tuple[str, ...]] = {}
    brought: frozenset[str] = frozenset()

    def add(name: str, location: str) -> None:
        if name in found:
            raise ConfigError(f"two policies are called {name!r}; name one: NAME={location}")
        found[name] = location

    for place in places:
        if is_there(Path(place) / layout.STUDY):
            RunFolder(Path(place)).must_exist()
            if run is not None:
                raise ConfigError(
                    f"{place} is a second run; give one run, and policies by NAME=PLACE"
                )
            plain = load_yaml(Path(place) / layout.STUDY)
            if not trust_code:
                distrust(plain)
            run = from_plain(Study, plain), RunFolder(Path(place))
            trained = _trained(*run, arms, seed)
            brought = frozenset(trained).difference(arms) if arms else brought
            for name, location in trained.items():
                add(name, location)
            teachers = {n: teacher_names(run[0].trained_as(n)) for n in run[0].names}
        else:
            name, equals, location = place.partition("=")
            location = location if equals else place
            if location == WORLD_BASE:
                location = world_base()
            else:
                _refuse_neither(location)
            add(name if equals else _name_of(location), location)
    if arms and run is None:
        raise ConfigError(
            "--arm chooses among the arms of a run, and no run folder was given: "
            f"no study.yaml in {', '.join(places)}"
        )
    base = base_location(run[0]) if run else found.get(BASE)
    study, root = (run[0], run[1].root) if run else (None, None)
    return Places(found, base, teachers, study, root, brought)


def load_policy(name: str, location: str, beside: Policy | None = None) -> Policy:
    """Load one of the places as a frozen student, its version read from its marker.

    Raises ModelError where it reads other tokens than `beside`.
    """
    policy = Policy.load(location, name="student", device=best_device(), trainable=False)
    policy.version = version_of(location)
    if beside is not None:
        named = policy.view(name)
        check_same_encoding(beside, named)
    return policy


def version_of(location: str) -> int:
    """Updates behind a policy that statewise trained or a checkpoint that it left; else 0."""
    state = Path(location).expanduser() / "state.json"
    if is_there(state):
        return int(read_json(state, artefacts.CHECKPOINT)["step"])
    return int(marker(location).get("steps", 0))


def _trained(study: Study, run: RunFolder, arms: Sequence[str], seed: int | None) -> dict[str, str]:
    """Places of the arms and nulls that are made whole, under the first seed unless one is given.

    With `arms`: of these and of the arms that teach them, without which half the probes have no answer.
    """
    names = study.names
    for name in arms:
        if name not in names:
            raise ConfigError(f"--arm: no arm {name!r}; {nearest(name, names)}")
    chosen = study.seeds[0] if seed is None else seed
    if chosen not in study.seeds:
        raise ConfigError(f"--seed: {chosen} is not among the study's seeds {list(study.seeds)}")
    teaching = (t for name in arms for t in teacher_names(study.trained_as(name)) if t in names)
    wanted = dict.fromkeys([*arms, *teaching] or names)
    done = {
        name: str(run.arm(name, chosen) / "policy")
        for name in wanted
        if is_trained(run, name, chosen)
    }
    if not done or (arms and len(done) < len(wanted)):
        missing = [name for name in wanted if name not in done]
        raise RunError(
            f"{run.root} holds no trained policy of {', '.join(missing)} for seed {chosen}; "
            "run the study first, or give a checkpoint as NAME=DIRECTORY"
        )
    return done


def _refuse_neither(location: str) -> None:
    """Refuse a folder that is neither of a run nor of a model, and a path that leads nowhere.

    What is no path may be a hub name; one that starts like our own run folders is taken for a path.
    """
    path = Path(location).expanduser()
    if (path / layout.STUDY).is_file():
        raise ConfigError(f"{location} is a run folder, which is given without a name in front")
    if path.is_dir() and not any((path / name).is_file() for name in MODEL_FILES):
        raise RunError(
            f"{location} is neither a run folder (it has no study.yaml) nor a model directory "
            f"(no {' or '.join(MODEL_FILES)})"
        )
    if not path.exists() and location.startswith((".", "/", "~", "runs/")):
        raise RunError(
            f"{location}: no such folder; give a run folder, a model directory or a hub name"
        )


def _name_of(location: str) -> str:
    """A name for a place that has none: the arm that wrote it, else the end of its path."""
    path = Path(location).expanduser()
    known = marker(location).get("arm")
    if known:
        return str(known)
    if path.name == layout.CHECKPOINT and layout.seed_of(path.parent) is not None:
        return path.parent.parent.name
    return BASE if location == world_base() else path.name
