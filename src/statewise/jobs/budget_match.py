"""An arm at equal budget: stopped where its sum reaches the target, or kept at its nearest checkpoint.

`until` walks an arm's rows, `Goal.consider` asks a checkpoint, `Goal.save` writes the policy that is
measured. Beside it stand `match.json` (the target, and what was spent) and, for a measured quantity,
`match.jsonl` (every checkpoint that was asked). The weights of the nearest checkpoint so far lie in
`nearest/` until training ends. An older one goes only when a checkpoint of training is saved behind
the newer: whatever a kill makes the arm do again, the nearest of what it keeps is still there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from statewise.claims.controls import SPENT, Match
from statewise.errors import RunError
from statewise.evaluate import evaluate
from statewise.policy import Policy
from statewise.probes import mean_kl, update_norm
from statewise.seeding import seed_for
from statewise.stats import item_effect
from statewise.store import (
    append_rows,
    artefacts,
    cut_rows,
    is_there,
    layout,
    read_json,
    read_rows,
    remove,
    whole_directory,
    write_json,
)
from statewise.study.arm_run import ArmRun
from statewise.study.models import marker
from statewise.study.prompts import drift_prompts
from statewise.study.spec import BASE
from statewise.train import Row
from statewise.trajectory import Sampling

Measure = Callable[[Policy], tuple[float, float | None]]
"""A quantity of a checkpoint and its standard error over prompts or items; None where it has none."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What one arm and seed is to reach, and where its candidates lie. `measure` is None for what is spent."""

    match: Match
    target: float
    folder: Path
    measure: Measure | None

    @property
    def nearest(self) -> Path:
        """Weights of candidates, one directory a step."""
        return self.folder / "nearest"

    def begin(self, start: int) -> None:
        """Forget what will be done again after step `start`."""
        cut_rows(self.folder / layout.CANDIDATES, start)
        for step, place in self._kept().items():
            if step > start:
                remove(place)

    def consider(self, student: Policy, step: int, *, last: bool) -> None:
        """Ask the checkpoint of this step, if it is a candidate, and keep it if it is the nearest so far."""
        if self.measure is None or not (last or step % self.match.every_steps == 0):
            return
        value, stderr = self.measure(student)
        path = self.folder / layout.CANDIDATES
        append_rows(path, [{"step": step, "value": value, "stderr": stderr}])
        if nearest_step(read_rows(path, artefacts.CANDIDATE), self.target) == step:
            with whole_directory(self.nearest / f"step-{step}") as beside:
                student.save(beside)

    def prune(self) -> None:
        """Keep the nearest candidate alone: nothing before the checkpoint just saved is done again."""
        rows = read_rows(self.folder / layout.CANDIDATES, artefacts.CANDIDATE)
        for step, place in self._kept().items():
            if step != nearest_step(rows, self.target):
                remove(place)

    def chosen(self, step: int) -> Path | None:
        """The weights that `save` will write; None if they are those of the student after `step`."""
        if self.measure is None:
            return None
        rows = read_rows(self.folder / layout.CANDIDATES, artefacts.CANDIDATE)
        found = nearest_step(rows, self.target)
        place = self.nearest / f"step-{found}"
        return place if found != step and place.is_dir() else None

    def save(self, student: Policy, step: int, beside: Path) -> int:
        """Write the policy that is measured, and what it spent; returns its step. `step` is the last one."""
        if self.measure is None:
            student.save(beside)
            spent, stderr = total(self.folder, self.match.by, step), None
        else:
            rows = read_rows(self.folder / layout.CANDIDATES, artefacts.CANDIDATE)
            step = nearest_step(rows, self.target)
            row = next(row for row in rows if row["step"] == step)
            spent, stderr = row["value"], row["stderr"]
            place = self.nearest / f"step-{step}"
            if not place.is_dir():
                raise RunError(
                    f"{place}, the weights that were chosen, is missing; delete {self.folder} and run again: "
                    "the arm then trains anew, from its first step"
                )
            shutil.copytree(place, beside, dirs_exist_ok=True)
        known = read_json(self.folder / layout.MATCH, artefacts.MATCH)
        found = {"spent": spent, "stderr": stderr, "step": step}
        write_json(self.folder / layout.MATCH, known | found)
        return step

    def _kept(self) -> dict[int, Path]:
        return {int(p.name[5:]): p for p in self.nearest.glob("step-*") if p.name[5:].isdecimal()}


def goal_of(arm_run: ArmRun) -> Goal | None:
    """What an arm or null is to reach under a seed; None if the study does not match it.

    The target is looked up once and stays: a killed arm goes on towards the same number.
    """
    match = arm_run.study.goal(arm_run.name)
    if match is None:
        return None
    folder = arm_run.folder
    path = folder / layout.MATCH
    if is_there(path):
        target = float(read_json(path, artefacts.MATCH)["target"])
    else:
        target = target_of(arm_run, match)
        begin_record(path, match.by, match.target, target, match.tolerance)
    spent = match.by in SPENT
    return Goal(match, target, folder, None if spent else measure_of(arm_run, match))


def begin_record(
    path: Path, quantity: str, named: str | float, target: float, tolerance: float
) -> None:
    """`match.json` before anything is spent."""
    arm = named if isinstance(named, str) else None
    write_json(
        path,
        {"quantity": quantity, "target_arm": arm, "target": target, "tolerance": tolerance},
    )


def target_of(arm_run: ArmRun, match: Match) -> float:
    """The number itself, or the total of the arm that the rule names, under the same seed.

    Raises RunError if that arm spent nothing of the quantity.
    """
    if not isinstance(match.target, str):
        return float(match.target)
    target = arm_run.other(match.target)
    if match.by in SPENT:
        spent = total(target.folder, match.by, marker(target.location())["steps"])
        if spent <= 0:  # every arm would end with its first step
            raise RunError(
                f"match.target: {target.name} spent no {match.by}; match by another quantity"
            )
        return spent
    policy = target.policy()
    return measure_of(target, match)(policy)[0]


def until(
    goal: Goal | None, rows: Iterable[Row], *, start: int, steps: int
) -> Iterator[tuple[Row, bool]]:
    """An arm's rows, each with whether it is the last: the end, or the first that reaches a spent target.

    The caller has whatever a row brings with it done before it asks for the next.
    """
    by = goal.match.by if goal and goal.measure is None else None
    spent = total(goal.folder, by, start) if goal and by else 0.0
    for row in rows:
        spent += row.figures[by] if by else 0.0
        last = row.step == steps or (goal is not None and by is not None and spent >= goal.target)
        yield row, last
        if last:
            return


def total(folder: Path, quantity: str, steps: int) -> float:
    """Sum of a figure over the first `steps` steps of an arm."""
    rows = read_rows(folder / layout.METRICS, artefacts.SPENT)
    return float(sum(row[quantity] for row in rows if row["step"] <= steps))


def nearest_step(rows: Sequence[Mapping[str, Any]], target: float) -> int:
    """The step whose value is nearest to the target, the first of equals.

    >>> rows = [{"step": 5, "value": 1.0}, {"step": 10, "value": 3.0}, {"step": 15, "value": 3.0}]
    >>> nearest_step(rows, 2.0), nearest_step(rows, 2.5)
    (5, 10)
    """
    return int(min(rows, key=lambda row: (abs(row["value"] - target), row["step"]))["step"])


# ---- the measured quantities ------------------------------------------------------------------------


def measure_of(arm_run: ArmRun, match: Match) -> Measure:
    """How the rule's quantity is measured on a checkpoint of this arm."""
    match match.by:
        case "kl_to_base":
            return kl_to_base(arm_run, match.prompts_limit)
        case "update_norm":
            start = arm_run.policy(arm_run.start, "start")
            return lambda policy: (update_norm(policy, start), None)
        case "target_gain":
            return _target_gain(arm_run)
    raise AssertionError(match.by)


def kl_to_base(arm_run: ArmRun, prompts_limit: int) -> Measure:
    """Mean over states of kl(student||base), nats, on the student's own rollouts of a few dev prompts.

    A prompt draws the same uniform numbers for every policy: what differs between two checkpoints is
    then what they do, and less of the luck of sampling.
    """
    drift = arm_run.study.drift
    assert drift is not None
    base = arm_run.base.policy(role=BASE)
    prompts = drift_prompts(drift, base)[:prompts_limit]

    def measure(policy: Policy) -> tuple[float, float | None]:
        states = policy.sample(
            prompts,
            sampling=Sampling(drift.temperature),
            max_new_tokens=drift.max_new_tokens,
            seed=seed_for("match", arm_run.seed),
        )
        kl = mean_kl(policy, base, states)
        return kl.value, kl.stderr or None  # no rollout differs: unknown, not 0

    return measure


def _target_gain(arm_run: ArmRun) -> Measure:
    """Dev accuracy minus the base's, paired by item; if no item differs the error has a floor of 2/n."""
    dev = arm_run.study.dev
    assert dev is not None

    def scores(policy: Policy) -> np.ndarray:
        items = evaluate(policy, [dev.task], arm="dev", seed=arm_run.seed, sampled=False)
        return np.array([item.score for item in items])

    before = scores(arm_run.base.policy(role=BASE))

    def measure(policy: Policy) -> tuple[float, float | None]:
        gain = item_effect([scores(policy) - before])
        return gain.value, gain.scales[0].stderr if gain.scales else None

    return measure
