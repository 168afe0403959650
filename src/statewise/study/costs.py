"""What a study will take on this machine: a few steps of every arm, a few items of every task, measured."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch

from statewise.arms import Arm, bind
from statewise.evaluate import Task, evaluate
from statewise.evaluate.tasks import load as load_task
from statewise.plain import differences, to_plain
from statewise.policy import Ema, Policy, PolicyRef
from statewise.seeding import seed_for
from statewise.store import RunFolder, read_rows
from statewise.study.controls import Interpolation
from statewise.study.folder import threads
from statewise.study.jobs import load_arm
from statewise.study.models import base_location, best_device, root_of
from statewise.study.planning import Size
from statewise.study.spec import BASE, Study
from statewise.train import train

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
    """One arm and seed: `training` where it is known; `source` says how."""

    arm: str
    steps: int
    training: Seconds | None
    source: str


@dataclass(frozen=True, slots=True)
class Costs:
    """The whole study on this machine. `elapsed` is None where an arm's training time is unknown.

    In `elapsed`: training and evaluation. Not in it: drift's features, probes, the checkpoints that matching asks,
    loading, and what workers take from each other (each part was measured alone).
    """

    arms: tuple[ArmCost, ...]
    evaluation: Seconds
    workers: int
    elapsed: Seconds | None
    memory_gib: float
    """Peak of this process: all that one worker holds at a time."""


def sizes(tasks: Sequence[Task]) -> dict[str, Size]:
    """Items and clusters of every task, by its key."""
    found = {}
    for task in tasks:
        items, clusters = 0, 0
        for leaf in load_task(task).values():
            count = len(leaf.eval_docs)
            count = count if task.limit is None else min(count, task.limit)
            items += count
            if task.cluster is None:
                clusters += count
            else:
                docs = (leaf.eval_docs[i] for i in range(count))
                clusters += len({str(doc[task.cluster]) for doc in docs})
        found[task.key] = Size(items, clusters)
    return found


def measure_costs(
    study: Study,
    *,
    steps: int,
    workers: int,
    run: RunFolder | None = None,
    stored: Any = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Costs:
    """Measure, with the threads that a worker has.

    An arm takes `steps` steps behind one that does not count; a teacher that is not trained yet is stood in
    for by what its arm starts from, of the same size. Arms that a run holds just so (`stored` is its
    plain study) are read from its timing instead. Nothing is written beside a temporary folder.
    """
    known = {} if run is None else _timed(study, run, stored)
    with _threads(threads(workers) if workers else torch.get_num_threads()):
        arms = []
        for arm in study.arms:
            if arm.name in known:
                arms.append(known[arm.name])
            else:
                tell(f"measuring {arm.name}")
                arms.append(_measured(study, arm, steps))
        tell("measuring evaluation")
        evaluation = _evaluation(study.tasks, base_location(study))
    return Costs(
        arms=tuple(arms),
        evaluation=evaluation,
        workers=max(1, workers),
        elapsed=_elapsed(study, arms, evaluation, max(1, workers)),
        memory_gib=peak_gib(),
    )


def peak_gib() -> float:
    """Most memory that this process has had: of the accelerator where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _measured(study: Study, arm: Arm, steps: int) -> ArmCost:
    """Steps of an arm on its own, timed; the first one warms up and does not count."""
    alone = replace(
        study,
        arms=(_standing(study, arm),),
        seeds=study.seeds[:1],
        claims=(),
        doses={},
        search=None,
        match=None,
        nulls=(),
        dev=None,
    )
    with tempfile.TemporaryDirectory() as place:
        student, optimizer, bound = load_arm(
            alone, RunFolder(Path(place)), arm.name, study.seeds[0]
        )
        seconds = []
        for row in train(bound, student, optimizer, seed=seed_for("train", study.seeds[0])):
            seconds.append(row.seconds)
            if len(seconds) > steps:
                break
    counted = seconds[1:] or seconds
    span = Seconds(min(counted), max(counted)) * float(bound.steps)
    return ArmCost(arm.name, bound.steps, span, f"{len(counted)} steps measured here")


def _standing(study: Study, arm: Arm) -> Arm:
    """The arm with every arm that it needs replaced by the model which that one comes from."""
    roots = {other.name: root_of(study, other) for other in study.arms}

    def root(ref: PolicyRef | Ema) -> Any:
        return ref if isinstance(ref, Ema) else PolicyRef(roots.get(ref.name, ref.name))

    stood: Arm = bind(arm, root, lambda stream: stream.prompts)  # pyright: ignore[reportArgumentType]
    return replace(stood, start=PolicyRef(roots.get(arm.start.name, arm.start.name)))


def _timed(study: Study, run: RunFolder, stored: Any) -> dict[str, ArmCost]:
    """Arms whose training a run has timed, if it is the same training; the range is over its seeds."""
    theirs = {plain["name"]: plain for plain in stored["arms"]} if stored else {}
    found = {}
    for arm in study.arms:
        same = arm.name in theirs and not differences(theirs[arm.name], to_plain(arm))
        totals = []
        for folder in sorted((run.root / "arms" / arm.name).glob("seed-*")) if same else ():
            rows = read_rows(folder / "timing.jsonl")
            if rows and (folder / "policy").is_dir():
                totals.append((len(rows), sum(row["seconds"] for row in rows)))
        if totals:
            seconds = [total for _, total in totals]
            source = f"{len(totals)} seeds of {run.root}"
            found[arm.name] = ArmCost(
                arm.name, totals[0][0], Seconds(min(seconds), max(seconds)), source
            )
    return found


def _evaluation(tasks: Sequence[Task], location: str) -> Seconds:
    """One policy on every task: the cost of a further item (low), and of an item of the first few (high)."""
    policy = Policy.load(location, name="student", device=best_device(), trainable=False)
    sized, total = sizes(tasks), Seconds(0.0, 0.0)
    for task in tasks:
        spent = []
        for limit in (FEW, FEW, MORE):  # the first builds requests, which are kept
            few = replace(task, limit=limit if task.limit is None else min(limit, task.limit))
            items = sizes([few])[task.key].items
            began = time.perf_counter()
            evaluate(policy, [few], arm="plan", seed=0)
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
    study: Study, arms: Sequence[ArmCost], evaluation: Seconds, workers: int
) -> Seconds | None:
    """Of all jobs on so many workers: at least the work shared out and the longest chain; at most Graham's bound.

    `work / w <= time <= work / w + (1 - 1/w) * longest chain` for any order that respects the needs
    (Graham, 1969).
    """
    spent = {cost.arm: cost.training for cost in arms}
    if any(span is None for span in spent.values()):
        return None
    nothing = Seconds(0.0, 0.0)
    work, chain = evaluation, {BASE: evaluation}  # the base is measured once
    for name in TopologicalSorter({n: study.needs(n) for n in study.names}).static_order():
        null = study.null(name)
        source = name if null is None else "" if isinstance(null, Interpolation) else null.of
        training = spent.get(source) or nothing
        before = [chain[need] for need in study.needs(name)]
        longest = Seconds(
            max((b.low for b in before), default=0.0), max((b.high for b in before), default=0.0)
        )
        chain[name] = longest + training
        work = work + (training + evaluation) * float(len(study.seeds))
    longest = Seconds(max(c.low for c in chain.values()), max(c.high for c in chain.values()))
    longest = longest + evaluation
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
