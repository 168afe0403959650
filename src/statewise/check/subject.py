"""An arm of the user's, as the checks see it: its models loaded, its prompts read, a few items walked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from statewise.arms import Arm, Stream, parts, policies
from statewise.data import Prompts, WorldDocuments
from statewise.errors import DataError, StatewiseError
from statewise.gradient import Rollout, state_factors
from statewise.policy import Policy, PolicyRef
from statewise.seeding import seed_for
from statewise.sources import Stored
from statewise.study.arm_run import ArmRun
from statewise.study.models import root_of
from statewise.study.prompts import load_prompts
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


def load_subject(arm_run: ArmRun, lost: dict[str, StatewiseError] | None = None) -> Subject:
    """The arm with every policy in place; its prompts are not read yet.

    An arm of the study that is not trained yet is replaced by its initial checkpoint: encodings and
    invariances do not depend on the weights. `lost` keeps what could not be loaded, by location, so that
    a hub that does not answer is waited for once. Raises ModelError, naming the arm.
    """
    arm, notes = arm_run.arm, list[str]()
    assert arm is not None
    lost = {} if lost is None else lost

    def load(ref: PolicyRef, role: str) -> Policy:
        return _load(arm_run, arm, ref, role, notes, lost)

    student = load(arm.start, "student")
    student.version = 0
    student = arm_run.adapted(student)
    bound = arm_run.bound(
        student,
        teacher=lambda ref: load(ref, f"teacher:{ref.name}"),
        prompts=_unread,  # reading them may fail, and is a check of its own
    )
    return Subject(bound, student, tuple(policies(bound.streams)), tuple(notes))


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
    arm_run: ArmRun,
    arm: Arm,
    ref: PolicyRef,
    role: str,
    notes: list[str],
    lost: dict[str, StatewiseError],
) -> Policy:
    """A named policy, or the initial checkpoint of one that is not trained yet."""
    source, is_replaced = arm_run, False
    if ref.name in arm_run.study.names:
        other = arm_run.other(ref.name)
        why = other.failure
        is_replaced = why is not None or not other.is_trained
        if is_replaced:
            source = replace(arm_run, run=None)
            root = root_of(arm_run.study, ref.name)
            state = f"has failed ({why})" if why else "is not trained yet"
            notes.append(
                f"{role}: arm {ref.name} {state}; it is replaced by its initial checkpoint ({root})"
            )
        else:
            notes.append(f"{role}: arm {ref.name} as trained in {other.location()}")
    location = source.location(ref)
    try:
        if location in lost:
            raise lost[location]
        policy = source.policy(
            ref, role, precision=arm.budget.precision, trainable=role == "student"
        )
    except StatewiseError as error:
        lost[location] = error
        raise type(error)(f"arms.{arm.name}: {error}") from error
    if is_replaced:
        policy.version = 0
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
