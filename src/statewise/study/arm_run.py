"""One arm of a study under one seed: where it lies, and what it is made of.

Training, measuring, probing and checking all take an `ArmRun`. It answers which weights a name means, and
loads them: an arm's policies are those of the same seed. It runs no step and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from statewise.arms import Arm, Stream, bind_arm, only_in_contexts, references
from statewise.data import Prompts
from statewise.policy import LIVE, Policy, PolicyRef, Precision
from statewise.seeding import seed_for
from statewise.store import RunFolder
from statewise.store.finished import Task, failure, standing
from statewise.study.models import (
    BASE_SEED,
    base_location,
    best_device,
    check_same_encoding,
    marker,
    root_of,
    teacher_names,
)
from statewise.study.prompts import load_prompts
from statewise.study.spec import BASE, Study
from statewise.study.stops import check_stops, merge_stops


@dataclass(frozen=True, slots=True)
class ArmRun:
    """An arm, a null or the base of a study, under one seed.

    `run` is the study's folder. Without one nothing is on disk: every arm that this one names is replaced by
    its initial checkpoint, which has the same size and the same tokens.
    """

    study: Study
    run: RunFolder | None
    name: str
    seed: int

    @property
    def folder(self) -> Path:
        """Its folder in the run."""
        assert self.run is not None, f"{self.name} has no run folder"
        return self.run.arm(self.name, self.seed)

    @property
    def root(self) -> Path:
        """The run folder itself."""
        assert self.run is not None, f"{self.name} has no run folder"
        return self.run.root

    @property
    def is_base(self) -> bool:
        """True for the base, which does not train."""
        return self.name == BASE

    @property
    def base(self) -> ArmRun:
        """The base of the same run."""
        return replace(self, name=BASE, seed=BASE_SEED)

    def other(self, name: str) -> ArmRun:
        """An arm or null of the same run and seed, or the base."""
        return self.base if name == BASE else replace(self, name=name)

    @property
    def arm(self) -> Arm | None:
        """The arm that trains under this name; None for what does not train (the base, an interpolation)."""
        return self.study.trained_as(self.name)

    @property
    def start(self) -> PolicyRef:
        """The policy that it moves away from."""
        return self.study.start(self.name)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the policies that teach it, without the student itself and its averages."""
        return teacher_names(self.arm)

    # ---- what is on disk --------------------------------------------------------------------

    @property
    def is_trained(self) -> bool:
        """True if its policy and everything that training writes are there. Raises RunError."""
        return self._is_finished("train")

    @property
    def is_measured(self) -> bool:
        """True if everything that is measured of it is there. Raises RunError."""
        return self._is_finished("measure")

    @property
    def is_probed(self) -> bool:
        """True if every probe has answered. Raises RunError."""
        return self._is_finished("probe")

    @property
    def failure(self) -> str | None:
        """Why its training failed; None if it did not. Raises RunError."""
        return None if self.run is None or self.is_base else failure(self.folder)

    def _is_finished(self, task: Task) -> bool:
        if self.run is None:
            return False
        return standing(self.run, self.name, self.seed, task) != "no"

    # ---- policies ---------------------------------------------------------------------------

    def location(self, ref: PolicyRef | None = None) -> str:
        """Directory or hub name of the weights of a policy that the study names; by default its own."""
        name = self.name if ref is None else ref.name
        if name in self.study.names:
            if self.run is not None:
                return str(self.run.arm(name, self.seed) / "policy")
            name = root_of(self.study, name)
        return base_location(self.study) if name == BASE else name

    def policy(
        self,
        ref: PolicyRef | None = None,
        role: str = "student",
        *,
        trainable: bool = False,
        precision: Precision = "fp32",
    ) -> Policy:
        """Load a policy that the study names (by default its own) for a role: `student`, `teacher:<name>`.

        Its version is the number of steps that it was trained for. Raises ModelError.
        """
        location = self.location(ref)
        policy = Policy.load(
            location, name=role, precision=precision, device=best_device(), trainable=trainable
        )
        policy.version = int(marker(location).get("steps", 0))
        return policy

    def student(self, checkpoint: Path | None = None, step: int = 0) -> Policy:
        """The policy that trains, as a checkpoint has it after `step` steps, or as the arm starts."""
        arm = self._trains()
        ref = arm.start if checkpoint is None else PolicyRef(str(checkpoint))
        student = self.policy(ref, trainable=True, precision=arm.budget.precision)
        student.version = step
        return self.adapted(student) if checkpoint is None else student

    def adapted(self, start: Policy) -> Policy:
        """The start with the adapter that the arm trains, if it trains one."""
        adapter = self._trains().budget.adapter
        return (
            start.with_adapter(adapter, seed=seed_for("adapter", self.seed)) if adapter else start
        )

    # ---- the arm with everything in place ---------------------------------------------------

    def bound(
        self,
        student: Policy,
        *,
        teacher: Callable[[PolicyRef], Policy] | None = None,
        prompts: Callable[[Stream], Prompts] | None = None,
    ) -> Arm:
        """The arm with its teachers loaded and its prompts tokenised.

        `teacher` and `prompts` say how one of either is loaded. By default it is what the study names, and a
        teacher that reads or ends texts otherwise than the student is refused.

        Raises ModelError for such a teacher, DataError for prompts that cannot be read.
        """
        arm = self._trains()
        load_teacher = teacher or (lambda ref: self._teacher(ref, student))
        load = prompts or (lambda stream: load_prompts(stream, student))
        named = dict.fromkeys(ref for ref in references(arm.streams) if ref.name != LIVE)
        teachers = {ref: load_teacher(ref) for ref in named}
        if self.study.stop_tokens == "merge":
            # Before the student is viewed or averaged: a view or an average stops where it stops.
            merge_stops([student, *teachers.values()])
        return bind_arm(arm, student, teachers, load)

    def loaded(self) -> tuple[Policy, Arm]:
        """The arm at its first step: the student, and the arm with its teachers and prompts."""
        student = self.student()
        return student, self.bound(student)

    def _teacher(self, ref: PolicyRef, student: Policy) -> Policy:
        arm = self._trains()
        policy = self.policy(ref, f"teacher:{ref.name}", precision=arm.budget.precision)
        check_same_encoding(student, policy, own_prompts=only_in_contexts(arm.streams, ref))
        check_stops(student, policy, self.study.stop_tokens)
        return policy

    def _trains(self) -> Arm:
        arm = self.arm
        assert arm is not None, f"{self.name} does not train"
        return arm
