"""An arm of the user's, as the checks see it: its models loaded, its prompts read, a few items walked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from statewise.arms import Arm, Stream, bind, parts, policies
from statewise.data import Prompts, WorldDocuments
from statewise.errors import DataError, StatewiseError
from statewise.gradient import Rollout, state_factors
from statewise.jobs.preflight import load_prompts
from statewise.policy import LIVE, Ema, Policy, PolicyRef
from statewise.seeding import seed_for
from statewise.sources import Stored
from statewise.store import RunFolder
from statewise.store.finished import failure, is_trained
from statewise.study.arm_run import base_location, best_device, marker, root_of
from statewise.study.spec import BASE, Study
from statewise.study.stops import merge_stops
from statewise.train import roll_out, with_old_logprobs


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The prompts of one stream that fit the context, and what became of the others.

    `refused` is the message with which training would end, where the data says `too_long: refuse`.
    """

    place: int
    prompts: Prompts
    refused: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """An arm with its models: `notes` say which of them stand in for another."""

    arm: Arm
    student: Policy
    teachers: tuple[Policy, ...]
    notes: tuple[str, ...]


def load_subject(
    study: Study,
    arm: Arm,
    run: RunFolder | None,
    seed: int,
    lost: dict[str, StatewiseError] | None = None,
) -> Subject:
    """The arm with every policy in place; its prompts are not read yet.

    What an arm of the study has not made yet is replaced by what that arm starts from: encodings
    and invariances do not depend on the weights. `lost` keeps what could not be loaded from where, so that
    a hub that does not answer is waited for once. Raises ModelError, naming the arm.
    """
    notes: list[str] = []
    lost = {} if lost is None else lost
    student = _load("student", arm.start.name, study, arm, run, seed, notes, lost)
    student.version = 0
    teachers: dict[PolicyRef | Ema, Policy] = {}

    def teacher(ref: PolicyRef | Ema) -> Policy:
        if ref not in teachers:
            if isinstance(ref, Ema):
                teachers[ref] = student.average(ref)
            elif ref.name == LIVE:
                teachers[ref] = student.view(f"teacher:{LIVE}")
            else:
                role = f"teacher:{ref.name}"
                teachers[ref] = _load(role, ref.name, study, arm, run, seed, notes, lost)
        return teachers[ref]

    if arm.budget.adapter:
        student = student.with_adapter(arm.budget.adapter, seed=seed_for("adapter", seed))
    # Prompts stay as written: reading them may fail, and is a check of its own.
    bound = replace(arm, streams=tuple(bind(stream, teacher, _unread) for stream in arm.streams))
    found = tuple(policies(bound.streams))
    if study.stop_tokens == "merge":
        merge_stops([student, *found])
    return Subject(bound, student, found, tuple(notes))


def read_prompts(subject: Subject) -> tuple[Subject, list[Fit]]:
    """The subject with its prompts in place, and how they fit. Raises DataError for bad records."""
    fits = [_fit(place, s, subject.student) for place, s in enumerate(subject.arm.streams)]
    streams = tuple(
        replace(stream, prompts=fit.prompts)
        for stream, fit in zip(subject.arm.streams, fits, strict=True)
    )
    return replace(subject, arm=replace(subject.arm, streams=streams)), fits


def walk(subject: Subject, items: int, seed: int) -> list[Rollout]:
    """The first `items` prompts of each stream's first step, as training would walk and label them."""
    seed = seed_for("train", seed)
    found = []
    for place, stream in enumerate(subject.arm.streams):
        assert isinstance(stream.prompts, Prompts)
        # No more than there are: a second epoch would only repeat them.
        count = min(items, stream.prompts_per_step, len(stream.prompts))
        few = replace(stream, prompts_per_step=count)
        rollout = roll_out(few, subject.student, seed=seed, step=0, place=place)
        budget = subject.arm.budget
        if budget.passes * budget.minibatches > 1:
            rollout = with_old_logprobs(rollout, subject.student, budget)
        found.append(rollout)
    return found


def has(value: object, kind: type[object]) -> bool:
    """True where any part of a value is of this type."""
    return any(True for _ in parts(value, kind))


def sampled(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts that were sampled here: a stored sample is another run's."""
    return [r for r in rollouts if not has(r.stream.source, Stored)]


def spoken_weights(rollout: Rollout, index: int) -> np.ndarray:
    """The weights of a row as its terms use them: 0 where no term speaks."""
    row = rollout.trajectories[index]
    # A row alone: its divisor is another one then, but 0 stays 0.
    spoken = [state_factors(term, [row])[0] != 0 for term in rollout.stream.terms]
    return row.weights * np.any(spoken, axis=0)


def owner_policies(subject: Subject) -> dict[str, Policy]:
    """Policies by the name that their tokens carry."""
    return {policy.owner: policy for policy in (*subject.teachers, subject.student)}


def _unread(stream: Stream) -> Any:
    return stream.prompts


def _load(
    role: str,
    name: str,
    study: Study,
    arm: Arm,
    run: RunFolder | None,
    seed: int,
    notes: list[str],
    lost: dict[str, StatewiseError],
) -> Policy:
    """A named policy, or what stands in for it until its arm has been trained."""
    location = base_location(study) if name == BASE else name
    other = next((a for a in study.arms if a.name == name), None)
    why = failure(run.arm(name, seed)) if other is not None and run is not None else None
    is_there = other is not None and run is not None and why is None and is_trained(run, name, seed)
    if is_there:
        assert run is not None
        location = str(run.arm(name, seed) / "policy")
        notes.append(f"{role}: arm {name} as trained in {location}")
    elif other is not None:
        root = root_of(study, other)
        location = base_location(study) if root == BASE else root
        state = f"has failed ({why})" if why else "is not trained yet"
        notes.append(f"{role}: arm {name} {state}; what it starts from ({root}) stands in for it")
    try:
        if location in lost:
            raise lost[location]
        policy = Policy.load(
            location,
            name=role,
            precision=arm.budget.precision,
            device=best_device(),
            trainable=role == "student",
        )
    except StatewiseError as error:
        lost[location] = error
        raise type(error)(f"arms.{arm.name}: {error}") from error
    stands_in = other is not None and not is_there
    policy.version = 0 if stands_in else int(marker(location).get("steps", 0))
    return policy


def _fit(place: int, stream: Stream, student: Policy) -> Fit:
    data = stream.prompts
    if isinstance(data, Prompts | WorldDocuments) or data.too_long != "refuse":
        return Fit(place, load_prompts(stream, student))
    try:
        fits = load_prompts(replace(stream, prompts=replace(data, too_long="drop")), student)
    except DataError:
        load_prompts(stream, student)  # where nothing fits it names the first row, and the fix
        raise
    if not fits.dropped:
        return Fit(place, fits)
    try:
        load_prompts(stream, student)
    except DataError as error:
        return Fit(place, fits, refused=str(error))
    raise AssertionError("rows were dropped that nobody refuses")
