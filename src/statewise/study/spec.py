"""A study as a value: the question, the arms, what may differ between them, and what is measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from statewise.arms import Arm, references
from statewise.arms.methods import with_streams
from statewise.claims.claim import BASE, Claim, check
from statewise.claims.controls import EarlyStop, Interpolation, Match, Null, check_match, check_null
from statewise.config import differences, from_plain, override, to_plain
from statewise.errors import ConfigError, StatewiseError, at_least_one, nearest
from statewise.evaluate import Task
from statewise.limits import MOST_SEEDS, Number, Seed, Steps
from statewise.names import FOLDER, LABEL, check_distinct, check_name
from statewise.policy import LIVE, PolicyRef
from statewise.probes import Drift
from statewise.reading import plain_study
from statewise.study.probes import Probing, check_probes
from statewise.trajectory import DATASET

Axis = Literal["prompts", "source", "supervision", "objective", "term", "budget", "start"]

StopTokens = Literal["student", "merge"]


@dataclass(frozen=True)
class DevCurve:
    """The target on the first `limit` dev items, every `every_steps` steps of every arm."""

    task: Task
    every_steps: Steps

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ConfigError(f"every_steps must be 1 or more, found {self.every_steps}")


@dataclass(frozen=True)
class Search:
    """How hyperparameters were chosen: before the study, on other seeds, by dev-split target accuracy.

    Every tuned arm gets the same number of trials, each a set of overrides of the arm. Retention and
    claims play no part. Arms that are not listed are not tuned: a stress arm is a dose that is
    fixed beforehand.
    """

    seeds: tuple[Seed, ...]
    task: Task
    trials: dict[str, tuple[dict[str, Number], ...]]

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be given and distinct, found {list(self.seeds)}")
        counts = {name: len(trials) for name, trials in self.trials.items()}
        if len(set(counts.values())) > 1:
            raise ConfigError(f"every tuned arm gets the same number of trials, found {counts}")


@dataclass(frozen=True)
class Dose:
    """An arm's values as fixed multiples of another arm's: how hard a stress arm presses."""

    of: str
    multiples: dict[str, Number]


@dataclass(frozen=True)
class Study:
    """Arms that differ only on the axes in `varies`, measured alike over the same seeds.

    `base` is a Hugging Face directory, a hub name, or `world` for the embedded base.
    """

    name: str
    question: str
    base: str
    varies: tuple[Axis, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[Seed, ...]
    tasks: tuple[Task, ...]
    claims: tuple[Claim, ...] = ()
    drift: Drift | None = None
    dev: DevCurve | None = None
    doses: dict[str, Dose] = field(default_factory=dict)
    search: Search | None = None
    probes: Probing | None = None
    match: Match | None = None
    nulls: tuple[Null, ...] = ()
    checkpoint_every_steps: Steps = 50
    stop_tokens: StopTokens | None = None
    """Where a teacher has stop tokens that do not stop its student: `merge` ends every completion of the arm's
    student and teachers at either's and saves the student so, `student` keeps the student's alone; null = such a
    teacher is refused."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.names
        self._check_names()
        for name in names:
            if name in (BASE, LIVE) or names.count(name) > 1:
                raise ConfigError(
                    f"arm name {name!r} is taken; names are unique, {BASE!r} is the base and {LIVE!r} the "
                    "policy in training"
                )
        check_distinct((BASE, LIVE, *names), "arm names")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be given and distinct, found {list(self.seeds)}")
        if len(self.seeds) > MOST_SEEDS:
            raise ConfigError(f"a study takes at most {MOST_SEEDS} seeds, found {len(self.seeds)}")
        targets = [task for task in self.tasks if task.role == "target"]
        if len(targets) != 1:
            raise ConfigError(f"a study has one task with role 'target', found {len(targets)}")
        keys = [task.key for task in self.tasks]
        if doubled := sorted({key for key in keys if keys.count(key) > 1}):
            raise ConfigError(f"tasks listed twice: {', '.join(doubled)}; give each its own label")
        check_distinct(keys, "tasks")
        at_least_one(self, "checkpoint_every_steps")
        self._check_controls()
        self.order()
        for claim in self.claims:
            roles = {task.key: task.role for task in self.tasks}
            check(claim, roles, [BASE, *names], drift=self.drift is not None)
        self._check_varies()
        arms = [arm.name for arm in self.arms]
        for section, listed in (
            ("search.trials", self.search.trials if self.search else ()),
            ("doses", self.doses),
        ):
            for name in listed:
                if name not in arms:
                    raise ConfigError(f"{section}.{name}: no such arm; {nearest(name, arms)}")
        for name, trials in self.search.trials.items() if self.search else ():
            for index, trial in enumerate(trials):
                with_values(self.arm(name), trial, f"search.trials.{name}[{index}]")
        self._check_doses()
        if self.probes:
            check_probes(self.probes, self.drift, targets[0].max_new_tokens)

    @property
    def names(self) -> list[str]:
        """Every policy that the study makes: its arms, then its nulls."""
        return [arm.name for arm in self.arms] + [null.name for null in self.nulls]

    def arm(self, name: str) -> Arm:
        """The arm of that name; for one that is stopped early, the arm that it is, under its own name."""
        null = self.null(name)
        if isinstance(null, EarlyStop):
            return replace(self.arm(null.of), name=name)
        return next(arm for arm in self.arms if arm.name == name)

    def trained_as(self, name: str) -> Arm | None:
        """The arm that trains under that name; None for what does not train: the base, an interpolation."""
        untrained = name == BASE or isinstance(self.null(name), Interpolation)
        return None if untrained else self.arm(name)

    def null(self, name: str) -> Null | None:
        """The null of that name, None for an arm."""
        return next((null for null in self.nulls if null.name == name), None)

    @property
    def probes_at_end(self) -> bool:
        """True if every arm and seed has a probing job: probes that follow training, or the microscope."""
        return self.probes is not None and bool(self.probes.after or self.probes.microscope)

    def start(self, name: str) -> PolicyRef:
        """What an arm or null moves away from."""
        null = self.null(name)
        return (
            PolicyRef(null.between[0]) if isinstance(null, Interpolation) else self.arm(name).start
        )

    def goal(self, name: str) -> Match | None:
        """The rule by which an arm or null is matched, if it is."""
        null = self.null(name)
        if null is not None:
            return null.match if isinstance(null, EarlyStop) else None
        return self.match if self.match and name in self.matched() else None

    def matched(self) -> list[str]:
        """The arms that `match` matches."""
        if self.match is None or self.match.arms:
            return list(self.match.arms) if self.match else []
        target = self.match.target
        first = {target, *self._ancestors(target)} if isinstance(target, str) else set()
        return [arm.name for arm in self.arms if arm.name not in first]

    def needs(self, name: str) -> list[str]:
        """Arms that must be trained before this arm or null, each once."""
        null, goal = self.null(name), self.goal(name)
        found = list(null.needs) if null else []
        if not isinstance(null, Interpolation):
            found = self.parents(self.arm(name)) + found
        if goal and isinstance(goal.target, str):
            found.append(goal.target)
        return [other for other in dict.fromkeys(found) if other in self.names]

    def _ancestors(self, name: str) -> set[str]:
        """Arms that an arm cannot do without: teachers and starts, and theirs."""
        found: set[str] = set()
        waiting = self.parents(self.arm(name))
        while waiting:
            if (parent := waiting.pop()) not in found:
                found.add(parent)
                waiting += self.parents(self.arm(parent))
        return found

    def parents(self, arm: Arm) -> list[str]:
        """Names of the arms whose results this one needs (teachers, start), each once."""
        names = {other.name for other in self.arms}
        return list(dict.fromkeys(ref.name for ref in references(arm) if ref.name in names))

    def order(self) -> list[str]:
        """Arms and nulls by name, after all that they need. Raises ConfigError for unknown teachers and circles."""
        names = [arm.name for arm in self.arms]
        known = [BASE, LIVE, *names]
        for arm in self.arms:
            if arm.start.name == LIVE:
                raise ConfigError(f"arms.{arm.name}.start: {LIVE!r} is what the start becomes")
            for ref in references(arm):
                if ref.name not in known and not _is_model_location(ref.name):
                    raise ConfigError(
                        f"arms.{arm.name}: no arm or model directory {ref.name!r}; {nearest(ref.name, known)}"
                    )
        try:
            return list(
                TopologicalSorter({name: self.needs(name) for name in self.names}).static_order()
            )
        except CycleError as error:
            raise ConfigError(
                f"circular teachers: {' -> '.join(error.args[1])}; an arm cannot wait for itself"
            ) from None

    def _check_names(self) -> None:
        check_name(self.name, "study name", FOLDER)
        for name in self.names:
            check_name(name, "arm name")
        for claim in self.claims:
            check_name(claim.name, "claim name", LABEL)
        check_distinct((claim.name for claim in self.claims), "claims")

    def _check_controls(self) -> None:
        names = [arm.name for arm in self.arms]
        given = {"drift": self.drift is not None, "dev": self.dev is not None}
        if self.match:
            check_match(
                self.match,
                {name: self._ancestors(name) for name in names},
                **given,
                samples_nothing={
                    arm.name
                    for arm in self.arms
                    if all(set(stream.source.owners) <= {DATASET} for stream in arm.streams)
                },
            )
        for null in self.nulls:
            check_null(null, names, base=BASE, **given, matched=self.matched())

    def _check_doses(self) -> None:
        for name, dose in self.doses.items():
            if self.search and name in self.search.trials:
                raise ConfigError(
                    f"doses.{name}: a dose is fixed beforehand, but search.trials tunes this arm"
                )
            for path, wanted in dosed(self, dose).items():
                found = _value_at(self.arm(name), path)
                if not math.isclose(found, wanted):
                    raise ConfigError(
                        f"doses.{name}: {path} is declared as {dose.multiples[path]:g} times that of "
                        f"{dose.of!r}, {wanted:g}, but the arm has {found:g}; set that too, or "
                        "give up the dose: --set 'doses={}'"
                    )

    def _check_varies(self) -> None:
        for arm in self.arms[1:]:
            for axis, path in axis_differences(self.arms[0], arm):
                if axis not in self.varies:
                    raise ConfigError(
                        f"the study declares that arms vary in {', '.join(self.varies) or 'nothing'} only, but "
                        f"{self.arms[0].name!r} and {arm.name!r} differ in {axis} ({path}); "
                        f"make them equal or add {axis!r} to `varies`"
                    )


def with_values(arm: Arm, values: Mapping[str, float], where: str) -> Arm:
    """The arm with other numbers at some of its paths, such as `budget.learning_rate`.

    Raises ConfigError that begins with `where`: for a path that the arm does not have, and for what
    the arm refuses.
    """
    plain = {"arms": [to_plain(arm)]}
    try:
        for path, value in values.items():
            plain = override(plain, f"arms.{arm.name}.{path}={json.dumps(value)}")
        return from_plain(Arm, plain["arms"][0])
    except StatewiseError as error:
        raise type(error)(f"{where}: {str(error).removeprefix('--set ')}") from error


def dosed(study: Study, dose: Dose) -> dict[str, float]:
    """The values that a dose prescribes, by path inside the arm."""
    if dose.of not in (arm.name for arm in study.arms):
        raise ConfigError(
            f"doses: no arm {dose.of!r}; {nearest(dose.of, [arm.name for arm in study.arms])}"
        )
    source = study.arm(dose.of)
    return {path: factor * _value_at(source, path) for path, factor in dose.multiples.items()}


def _value_at(arm: Arm, path: str) -> float:
    """The number at a path such as `budget.learning_rate`."""
    value: Any = arm
    for key in path.split("."):
        value = getattr(value, key, None)
    if not isinstance(value, int | float):
        raise ConfigError(f"doses: {path} of arm {arm.name!r} is not a number")
    return float(value)


_STREAM_AXES: tuple[Axis, ...] = ("prompts", "source", "supervision", "objective")


def axis_differences(a: Arm, b: Arm) -> list[tuple[Axis, str]]:
    """Where two arms differ, and on which axis each difference lies; names do not count."""
    found: list[tuple[Axis, str]] = []
    for path in differences(to_plain(replace(a, name="")), to_plain(replace(b, name=""))):
        if path.startswith("start"):
            found.append(("start", path))
        elif path.startswith("budget") or "prompts_per_step" in path:
            found.append(("budget", path))
        else:
            named: list[Axis] = [axis for axis in _STREAM_AXES if f".{axis}" in path]
            found.append((named[0] if named else "term", path))
    return found


def read_study(
    location: str,
    assignments: Sequence[str] = (),
    *,
    seeds: int | None = None,
    data: str | None = None,
    trust_code: bool = False,
) -> Study:
    """Read a study file, or one that ships with the package by its name, and apply the overrides.

    `assignments` are those of `--set`; `seeds` N means seeds 0 to N-1; `data` is a folder with local
    files for every benchmark that the study names. Code that the file names (`kind: python`) is
    imported, and its source's hash written into the study, with `trust_code` alone.
    Raises ConfigError, naming the path of whatever is wrong; what `statewise.reading` refuses comes first.
    """
    plain = plain_study(location, assignments, seeds=seeds, data=data, trust_code=trust_code)
    return from_plain(Study, with_streams(plain))


def _is_model_location(name: str) -> bool:
    """True for what can only be a path or a hub name, not a misspelt arm."""
    # `Path.exists` lets out the error of a name that is too long; this says no to whatever cannot be.
    return "/" in name or os.path.exists(name)  # noqa: PTH110
