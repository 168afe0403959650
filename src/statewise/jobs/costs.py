"""What a study will take on this machine: a few steps of every arm, a few items of every task, measured."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from math import ceil
from pathlib import Path
from typing import Any

import torch

from statewise.arms import Arm
from statewise.claims.controls import Interpolation
from statewise.claims.power import Size
from statewise.config import differences, to_plain
from statewise.evaluate import Task, evaluate
from statewise.evaluate.tasks import load as load_task
from statewise.jobs.compare_runs import Seen, other_hardware
from statewise.jobs.folder import hardware, threads
from statewise.policy import Policy
from statewise.seeding import seed_for
from statewise.store import environment as machine_here
from statewise.store import layout, read_seconds
from statewise.study.arm_run import ArmRun
from statewise.study.models import base_location, best_device
from statewise.study.spec import BASE, Study
from statewise.train import make_optimizer, train

FEW, MORE = 16, 64
"""Items of a task that are evaluated to learn what an item costs."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A range: what would be if all went as the fastest part that was seen, and as the slowest."""

    low: float
    high: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class ArmCost:
    """One arm and seed: its training with the dev curve, and how that is known."""

    arm: str
    steps: int
    training: Seconds
    source: str


@dataclass(frozen=True, slots=True)
class Costs:
    """The whole study on this machine.

    In `elapsed`: training, dev curves and evaluation, and of jobs that a run has timed all that they did.
    `left_out` names the rest.
    """

    arms: tuple[ArmCost, ...]
    evaluation: Seconds
    workers: int
    elapsed: Seconds
    left_out: tuple[str, ...]
    memory_gib: float | None
    """Peak of this process, of what was measured here; None where an arm was read from a run and not executed."""


Jobs = Mapping[tuple[str, str], Seconds]
"""Seconds of whole jobs that a run has timed, by kind of job (`train`, `measure`, `probe`) and policy."""


def sizes(tasks: Sequence[Task]) -> dict[str, Size]:
    """Items and clusters of every task, by its key, and the items that it has without a limit."""
    found = {}
    for task in tasks:
        items, clusters, available = 0, 0, 0
        for leaf in load_task(task).values():
            count = len(leaf.eval_docs)
            available += count
            count = count if task.limit is None else min(count, task.limit)
            items += count
            if task.cluster is None:
                clusters += count
            else:
                docs = (leaf.eval_docs[i] for i in range(count))
                clusters += len({str(doc[task.cluster]) for doc in docs})
        found[task.key] = Size(items, clusters, available)
    return found


def measure_costs(
    study: Study,
    *,
    steps: int,
    workers: int,
    seen: Seen | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Costs:
    """Measure, with the threads that a worker has.

    An arm takes `steps` steps after one that does not count; a teacher that the study trains is replaced by its
    initial checkpoint, of the same size. Arms that a run (`seen`) holds unchanged are read from its timing
    instead, and so are its measuring and probing. Nothing is written.

    Raises:
        ConfigError: an arm, its data or a task that cannot be loaded as the study says.
        DataError: data that is not there, or not as its kind should be.
        ModelError: a base or teacher that cannot be loaded.
    """
    with _threads(threads(workers) if workers else torch.get_num_threads()):
        tell("measuring evaluation")
        location = base_location(study)
        evaluation = _evaluation(study.tasks, location)
        dev = _evaluation([study.dev.task], location, sampled=False) if study.dev else None
        jobs = {} if seen is None else _job_times(study, seen)
        known = {} if seen is None else _timed(study, seen, jobs, workers, dev)
        arms = []
        for arm in study.arms:
            if arm.name in known:
                arms.append(known[arm.name])
            else:
                tell(f"measuring {arm.name}")
                arms.append(_measured(study, arm, steps, dev))
    return Costs(
        arms=tuple(arms),
        evaluation=evaluation,
        workers=max(1, workers),
        elapsed=_elapsed(study, arms, evaluation, max(1, workers), jobs),
        left_out=tuple(_left_out(study, jobs, max(1, workers))),
        memory_gib=None if known else peak_gib(),
    )


def _curve(study: Study, steps: int, dev: Seconds | None) -> Seconds:
    """The dev curve of one arm and seed: a point before the first step, after so many, and after the last."""
    if study.dev is None or dev is None:
        return Seconds(0.0, 0.0)
    return dev * float(1 + ceil(steps / study.dev.every_steps))


def _left_out(study: Study, jobs: Jobs, workers: int) -> Iterator[str]:
    """What `elapsed` does not hold, by name."""
    untimed = {
        kind: [name for name in names if (kind, name) not in jobs]
        for kind, names in (
            ("train", study.names),
            ("measure", [BASE, *study.names]),
            ("probe", [BASE, *study.names]),
        )
    }
    if study.drift and untimed["measure"]:
        yield "drift"
    if study.probes and study.probes.during and untimed["train"]:
        yield "probes while arms train"
    if study.probes_at_end and untimed["probe"]:
        yield "probes at the end"
    if any(study.goal(name) for name in untimed["train"]):
        yield "checkpoints that matching asks"
    if any(isinstance(study.null(name), Interpolation) for name in untimed["train"]):
        yield "the search for interpolations"
    if untimed["train"] or untimed["measure"]:
        yield "loading and saving"
    if workers > 1:
        yield "what workers take from each other"


def peak_gib() -> float:
    """Most memory that this process has had: of the accelerator where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _measured(study: Study, arm: Arm, steps: int, dev: Seconds | None) -> ArmCost:
    """Steps of an arm on its own, timed; the first one warms up and does not count."""
    seed = study.seeds[0]
    student, bound = ArmRun(study, None, arm.name, seed).loaded()
    optimizer = make_optimizer(student, bound.budget)
    seconds = []
    for row in train(bound, student, optimizer, seed=seed_for("train", seed)):
        seconds.append(row.seconds)
        if len(seconds) > steps:
            break
    counted = seconds[1:] or seconds
    span = Seconds(min(counted), max(counted)) * float(bound.steps)
    span = span + _curve(study, bound.steps, dev)
    return ArmCost(arm.name, bound.steps, span, f"{len(counted)} steps measured here")


SAME_FOR: Mapping[str, tuple[str, ...]] = {
    "train": ("dev", "probes"),
    "measure": ("tasks", "drift"),
    "probe": ("probes", "drift", "tasks"),
}
"""Parts of a study that a kind of job spends its time on."""


def _job_times(study: Study, seen: Seen) -> Jobs:
    """Whole jobs that a run has timed of the same policies and work; each range is over its seeds."""
    mine, found = to_plain(study), {}
    for kind, parts in SAME_FOR.items():
        if any(differences(seen.stored.get(part), mine[part]) for part in parts):
            continue
        for name in [BASE, *study.names]:
            if seen.likeness.differences(name):
                continue
            spent = [
                sum(row["seconds"] for row in rows)
                for folder in seen.folders(name)
                if (rows := _job_rows(folder, kind))
            ]
            if spent:
                found[kind, name] = Seconds(min(spent), max(spent))
    return found


def _job_rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in read_seconds(folder / layout.JOBS_TIMING) if r.get("job") == kind]


def _timed(
    study: Study, seen: Seen, jobs: Jobs, workers: int, dev: Seconds | None
) -> dict[str, ArmCost]:
    """Arms whose training a run has timed, if it is the same arm on the same base; the range is over its seeds.

    Where its whole job is no measure (another dev curve, other probes) its steps are.
    """
    machine = other_hardware(seen.environment, machine_here() | hardware(workers))
    found = {}
    for arm in study.arms:
        if not seen.likeness.same(arm.name):
            continue
        totals = []
        for folder in seen.folders(arm.name):
            rows = read_seconds(folder / layout.TIMING)
            if rows and (folder / "policy").is_dir():
                totals.append((len(rows), sum(row["seconds"] for row in rows)))
        if not totals:
            continue
        seconds = [total for _, total in totals]
        stepped = Seconds(min(seconds), max(seconds)) + _curve(study, arm.steps, dev)
        whole = jobs.get(("train", arm.name))
        source = f"{len(totals)} seeds of {seen.root}" + ("" if whole else ", its steps alone")
        other = seen.likeness.differences(arm.name)
        other += [f"hardware: {', '.join(machine)}"] if machine else []
        source += f"; other there: {', '.join(other)}" if other else ""
        found[arm.name] = ArmCost(arm.name, totals[0][0], whole or stepped, source)
    return found


def _evaluation(tasks: Sequence[Task], location: str, *, sampled: bool = True) -> Seconds:
    """One policy on every task: the cost of a further item (low), and of an item of the first few (high)."""
    policy = Policy.load(location, name="student", device=best_device(), trainable=False)
    sized, total = sizes(tasks), Seconds(0.0, 0.0)
    for task in tasks:
        spent = []
        for limit in (FEW, FEW, MORE):  # the first builds requests, which are kept
            few = replace(task, limit=limit if task.limit is None else min(limit, task.limit))
            items = sizes([few])[task.key].items
            began = time.perf_counter()
            evaluate(policy, [few], arm="plan", seed=0, sampled=sampled)
            spent.append((items, time.perf_counter() - began))
        (_, first), (few_items, warm), (more_items, longer) = spent
        mean = max(first, warm) / few_items
        further = (
            max(0.0, longer - warm) / (more_items - few_items) if more_items > few_items else mean
        )
        low, high = sorted((further, mean))
        total = total + Seconds(low, high) * float(sized[task.key].items)
    return total


def _elapsed(
    study: Study, arms: Sequence[ArmCost], evaluation: Seconds, workers: int, jobs: Jobs
) -> Seconds:
    """Of all jobs on so many workers: at least the work shared out and the longest chain; at most Graham's bound.

    `work / w <= time <= work / w + (1 - 1/w) * longest chain` for any order that respects the needs
    (Graham, 1969). A policy is evaluated, or measured and probed as `jobs` has it of a run.
    """
    nothing = Seconds(0.0, 0.0)
    spent = {cost.arm: cost.training for cost in arms}
    for null in study.nulls:
        stopped = nothing if isinstance(null, Interpolation) else spent[null.of]
        spent[null.name] = jobs.get(("train", null.name), stopped)
    behind = {
        name: jobs.get(("measure", name), evaluation) + jobs.get(("probe", name), nothing)
        for name in (BASE, *study.names)
    }
    work, chain = behind[BASE], {BASE: nothing}  # the base is measured once
    for name in TopologicalSorter({n: study.needs(n) for n in study.names}).static_order():
        before = [chain[need] for need in study.needs(name)]
        longest = Seconds(
            max((b.low for b in before), default=0.0), max((b.high for b in before), default=0.0)
        )
        chain[name] = longest + spent[name]
        work = work + (spent[name] + behind[name]) * float(len(study.seeds))
    whole = [chain[name] + behind[name] for name in chain]
    longest = Seconds(max(c.low for c in whole), max(c.high for c in whole))
    return Seconds(
        max(work.low / workers, longest.low),
        work.high / workers + (1 - 1 / workers) * longest.high,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
